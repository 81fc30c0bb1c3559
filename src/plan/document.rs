//! `plan.json`: what the plan says, and the id that is a hash of it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PlanError;
use crate::dataset::ContainerRecord;
use crate::digest::Sha256Digest;
use crate::features::{PassedOverGroup, SkippedImage, StoredLayer};

/// The file's name in the folder of the plan.
pub(super) const NAME: &str = "plan.json";

const FORMAT: &str = "cnncodes-plan";
const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PlanDocument {
    format: String,
    version: u32,
    /// SHA-256 of `content` as JSON without white space.
    pub id: String,
    /// The version of the program that made the plan.
    program_version: String,
    pub content: PlanContent,
    /// Where the lines of each part lie in the manifest: the first byte and the number of bytes. What they hold is in the content.
    pub manifest: Vec<(u64, u64)>,
}

/// What the id stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PlanContent {
    /// What the user named as the source of the images.
    pub source: String,
    /// What the paths of images and containers are relative to.
    pub root: PathBuf,
    pub layers: Vec<StoredLayer>,
    /// Images of more pixels are refused.
    pub max_pixels: u64,
    pub class_names: Vec<String>,
    /// Tar shards and arrays that images lie in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerRecord>,
    pub images: u64,
    pub rows_per_part: u64,
    pub parts: Vec<PlannedPart>,
    /// What could not become an image of the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<SkippedImage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOverGroup>,
}

/// A part of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlannedPart {
    pub images: u64,
    /// SHA-256 of its lines.
    pub sha256: String,
}

impl PlanDocument {
    pub(super) fn new(content: PlanContent, manifest: Vec<(u64, u64)>) -> Result<Self, serde_json::Error> {
        Ok(Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            id: content.id()?,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            content,
            manifest,
        })
    }

    /// Reads the file at `path`, whose bytes are `bytes`, and makes sure that it is what its id says.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Format {
            format: String,
            version: u32,
        }
        let not_a_plan = |why: String| PlanError::NotAPlan { path: path.to_owned(), why };
        let Format { format, version } =
            serde_json::from_slice(bytes).map_err(|error| not_a_plan(error.to_string()))?;
        if format != FORMAT {
            return Err(not_a_plan(format!("its format is {format:?}")));
        }
        if version != VERSION {
            return Err(not_a_plan(format!("its version is {version}, and this program knows {VERSION}")));
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|error| not_a_plan(error.to_string()))?;
        let changed = |what: &str| PlanError::Changed { path: path.to_owned(), what: what.to_owned() };
        let id = document.content.id().map_err(|error| not_a_plan(error.to_string()))?;
        if id != document.id {
            return Err(changed("its content"));
        }
        let content = &document.content;
        // With the id right, only the program that wrote it can have been wrong.
        let sum: u64 = content.parts.iter().map(|part| part.images).sum();
        let full = content.parts.iter().rev().skip(1).all(|part| part.images == content.rows_per_part);
        if content.layers.is_empty()
            || sum != content.images
            || !full
            || document.manifest.len() != content.parts.len()
        {
            return Err(changed("the number of its parts"));
        }
        Ok(document)
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl PlanContent {
    fn id(&self) -> Result<String, serde_json::Error> {
        Ok(Sha256Digest::of(&serde_json::to_vec(self)?).to_string())
    }
}
