//! A head on images: its network found and opened, images read and turned into the codes that it was fitted to.

use std::path::Path;

use anyhow::{Context, bail};
use ndarray::Array2;
use rayon::prelude::*;

use super::choose::{self, Kind};
use super::compute::{ComputeArgs, warn_of_fallback};
use crate::backbone::{Backbone, Catalogue, Graph, Layer, ModelError, ModelsFolder};
use crate::extract::read_image;
use crate::head::Head;
use crate::images::{DecodeOptions, Preprocess, Problem, Sample};

/// Images a forward run.
pub const BATCH: usize = 8;

/// The head that was named, or the only one in the models folder.
pub fn open_head(named: Option<&Path>, models: &ModelsFolder) -> anyhow::Result<(Head, std::path::PathBuf)> {
    let path = match named {
        Some(head) => head.to_owned(),
        None => choose::only(
            &models.path,
            &Kind {
                what: "head",
                suffix: ".head.h5",
                remedy: "run `cnncodes fit-head --svm` or `cnncodes fit-head --logistic` first",
                how: " with --head FILE",
            },
        )?,
    };
    Ok((Head::load(&path)?, path))
}

/// A head's network, ready to make codes of images.
pub struct Eye {
    backbone: Backbone,
    preprocess: Preprocess,
    decode: DecodeOptions,
}

/// What was seen in a batch of images.
pub struct Seen {
    /// Which of the batch's samples could be read.
    pub indices: Vec<usize>,
    /// SHA-256 of each of their files.
    pub sha256: Vec<String>,
    /// One row each.
    pub codes: Array2<f32>,
    /// The others.
    pub problems: Vec<Problem>,
}

impl Eye {
    /// Opens the network that `head`, read from `path`, needs.
    pub fn open(
        head: &Head,
        path: &Path,
        models: &ModelsFolder,
        compute: &ComputeArgs,
        max_pixels: u64,
    ) -> anyhow::Result<Eye> {
        let preprocess = recipe(head, path)?;
        let pooling = head.provenance.pooling.parse().with_context(|| {
            format!("the pooling recorded in {} is not known; fit the head again", path.display())
        })?;
        let (graph, layer) = backbone_of(head, models, path)?;
        let mut backbone =
            Backbone::open(&graph, std::slice::from_ref(&layer), preprocess.size(), &compute.settings())?;
        warn_of_fallback(&backbone);
        backbone.set_pooling(pooling);
        let decode = DecodeOptions { apply_orientation: preprocess.exif_orientation(), max_pixels };
        Ok(Eye { backbone, preprocess, decode })
    }

    /// Codes of the samples that can be read.
    pub fn look(&mut self, samples: &[Sample<'_>]) -> anyhow::Result<Seen> {
        let (layout, len) = (self.backbone.layout(), self.backbone.image_len());
        let read: Vec<Result<(Vec<f32>, String), Problem>> = samples
            .par_iter()
            .map(|sample| {
                let mut image = vec![0.0; len];
                read_image(sample, &self.preprocess, &self.decode, layout, &mut image)
                    .map(|sha256| (image, sha256))
            })
            .collect();
        let (mut indices, mut hashes, mut images, mut problems) = (vec![], vec![], vec![], vec![]);
        for (index, image) in read.into_iter().enumerate() {
            match image {
                Ok((image, sha256)) => {
                    indices.push(index);
                    hashes.push(sha256);
                    images.extend(image);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let mut codes = Vec::new();
        if !indices.is_empty() {
            self.backbone.run(&images, |_, rows| codes.extend_from_slice(rows))?;
        }
        let columns = codes.len() / indices.len().max(1);
        let codes = Array2::from_shape_vec((indices.len(), columns), codes)?;
        Ok(Seen { indices, sha256: hashes, codes, problems })
    }
}

/// The preprocessing that the head's codes were made with.
pub fn recipe(head: &Head, path: &Path) -> anyhow::Result<Preprocess> {
    serde_json::from_str(&head.provenance.preprocess_json).with_context(|| {
        format!("the preprocessing recorded in {} is not valid; fit the head again", path.display())
    })
}

/// The network that the head's codes came from, and its layer.
fn backbone_of(head: &Head, models: &ModelsFolder, path: &Path) -> anyhow::Result<(Graph, Layer)> {
    let wanted = &head.provenance;
    let mut readable: Vec<_> = models.manifests()?.into_iter().filter_map(Result::ok).collect();
    // Of several manifests for one network, the one of the head's own name first.
    readable.sort_by_key(|model| model.name != wanted.model_name);
    let Some(model) =
        readable.iter().find(|model| model.manifest.sha256.eq_ignore_ascii_case(&wanted.model_sha256))
    else {
        let same_name = readable.iter().find(|model| model.name == wanted.model_name);
        match same_name {
            Some(model) => bail!(
                "the head {} was fitted on the network {} with SHA-256 {}, but {} in {} is another one (SHA-256 {}); extract and fit again, or bring the right network back",
                path.display(),
                wanted.model_name,
                wanted.model_sha256,
                model.name,
                models.path.display(),
                model.manifest.sha256
            ),
            None => bail!(
                "the head {} needs the network {} (SHA-256 {}), which is not in {}; add it with `cnncodes models add FILE`",
                path.display(),
                wanted.model_name,
                wanted.model_sha256,
                models.path.display()
            ),
        }
    };
    let graph = model.open().map_err(|error: ModelError| {
        anyhow::Error::new(error).context(format!(
            "the head {} needs the network {}",
            path.display(),
            model.name
        ))
    })?;
    let layer = Catalogue::of(&graph, &model.manifest.aliases).find(&model.name, &wanted.tensor)?.clone();
    Ok((graph, layer))
}
