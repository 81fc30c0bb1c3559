//! Extraction on many machines: a frozen list of images, cut into parts that any number of workers compute in any order, and the
//! one features file that the parts become.
//!
//! A plan is a folder, or a prefix in an object store. `plan.json` holds the layers and all that decides their values, `manifest.jsonl.gz` the images, sorted by
//! name, and `parts/` the features files that workers write. The plan's id is a hash of all of it, and every part carries it, so
//! that features of different plans never mix. A part has a fixed number of rows, whatever the number of workers, and appears
//! complete or not at all, under a name of its own, without replacing another. A worker can therefore be killed, repeated, or run
//! twice at once: images are computed at least once, and count exactly once.

mod bucket_store;
mod create;
mod document;
mod error;
mod manifest;
mod merge;
mod part;
mod share;
mod status;
mod store;
mod work;

use std::path::{Path, PathBuf};

pub use create::{Created, PlanRequest};
use document::PlanDocument;
pub use error::PlanError;
pub use merge::{MergeOutput, MergeSettings, Merged};
pub use part::PartState;
pub use share::{Share, ShareError};
pub use status::{PartStatus, PlanStatus};
use store::PlanStore;
pub use work::{PartFailure, WorkEvent, WorkSettings, WorkSummary};

use crate::dataset::{Dataset, SampleRecord};
use crate::features::StoredLayer;

/// Rows of a part, unless the user says otherwise: some seconds to minutes of work, and a file of some 30 MB for 2048 features.
pub const ROWS_PER_PART: u64 = 4096;

/// A plan that was written, open for reading.
#[derive(Debug)]
pub struct Plan {
    document: PlanDocument,
    store: PlanStore,
}

impl Plan {
    /// Opens the plan in the folder `location`, or at that address.
    ///
    /// # Errors
    /// The folder holds no plan, it cannot be read, or it is not what its id says.
    pub fn open(location: &Path) -> Result<Self, PlanError> {
        let store = PlanStore::at(location);
        let bytes = store.read(document::NAME).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => PlanError::Missing { path: location.to_owned() },
            _ => PlanError::Read { path: store.path(document::NAME), source },
        })?;
        let document = PlanDocument::parse(&bytes, &store.path(document::NAME))?;
        Ok(Self { document, store })
    }

    /// SHA-256 of all that the plan says, in lower-case hexadecimal.
    pub fn id(&self) -> &str {
        &self.document.id
    }

    /// Where the plan lies.
    pub fn location(&self) -> &Path {
        self.store.location()
    }

    /// The layers, the primary one first.
    pub fn layers(&self) -> &[StoredLayer] {
        &self.document.content.layers
    }

    /// Names of the classes.
    pub fn class_names(&self) -> &[String] {
        &self.document.content.class_names
    }

    /// What was named as the source of the images.
    pub fn source(&self) -> &str {
        &self.document.content.source
    }

    /// What paths of images are relative to.
    pub fn root(&self) -> &Path {
        &self.document.content.root
    }

    /// Number of images.
    pub fn images(&self) -> u64 {
        self.document.content.images
    }

    /// Rows of each part but the last one.
    pub fn rows_per_part(&self) -> u64 {
        self.document.content.rows_per_part
    }

    /// Number of parts.
    pub fn parts(&self) -> u64 {
        self.document.content.parts.len() as u64
    }

    /// The images of a part, in their order.
    ///
    /// # Errors
    /// There is no such part, the manifest cannot be read, or it is not what the plan says.
    pub fn records(&self, part: u64) -> Result<Vec<SampleRecord>, PlanError> {
        manifest::read_part(&self.document, &self.store, part)
    }

    /// The images of a part, to be read; `root` stands for the plan's own where the images lie elsewhere on this machine.
    fn dataset(&self, part: u64, root: Option<&Path>) -> Result<Dataset, PlanError> {
        let content = &self.document.content;
        let root = root.unwrap_or(&content.root);
        let records = self.records(part)?;
        let (classes, source) = (content.class_names.clone(), content.source.clone());
        Dataset::from_records(root, &content.containers, &records, classes, source)
            .map_err(|source| PlanError::Records { part, source: source.into() })
    }

    /// Where the file of a part lies.
    pub fn part_path(&self, part: u64) -> PathBuf {
        self.store.path(&store::part_name(part))
    }
}
