//! A head on images: its network found and opened, images read and turned into the codes that it was fitted to.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use ndarray::Array2;
use rayon::prelude::*;

use super::choose::{self, Kind};
use super::compute::{ComputeArgs, warn_of_fallback};
use super::show;
use crate::backbone::{
    Backbone, Catalogue, Graph, Layer, ModelError, ModelsFolder, Precision, SessionSettings,
};
use crate::codes::CodesFile;
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
        images: usize,
    ) -> anyhow::Result<Eye> {
        Eye::of(&Origin::of_head(head, path), models, compute, max_pixels, images)
    }

    /// Opens the network that makes codes like those of `origin`, for so many images.
    pub fn of(
        origin: &Origin<'_>,
        models: &ModelsFolder,
        compute: &ComputeArgs,
        max_pixels: u64,
        images: usize,
    ) -> anyhow::Result<Eye> {
        let preprocess = origin.recipe()?;
        let pooling = origin.pooling.parse().with_context(|| {
            format!("the pooling recorded in {} is not known; make it again", origin.holder)
        })?;
        let (graph, layer) = origin.network(models)?;
        let settings = origin.settings(compute)?;
        let settings = SessionSettings { device: settings.device.for_images(images), ..settings };
        let backbone = Backbone::open_pooled(&graph, &[layer], &[pooling], preprocess.size(), &settings)?;
        warn_of_fallback(&backbone);
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
            self.backbone.run(&images)?.iter().for_each(|rows| codes.extend_from_slice(rows));
        }
        let columns = codes.len() / indices.len().max(1);
        let codes = Array2::from_shape_vec((indices.len(), columns), codes)?;
        Ok(Seen { indices, sha256: hashes, codes, problems })
    }
}

/// How codes were made, as a head or a file of codes records it: what it takes to make more of them.
pub struct Origin<'a> {
    /// The head or the file, for messages.
    holder: String,
    model_name: &'a str,
    model_sha256: &'a str,
    tensor: &'a str,
    layer: &'a str,
    pooling: &'a str,
    preprocess_json: &'a str,
    precision: &'a str,
}

impl<'a> Origin<'a> {
    /// What the codes that `head`, read from `path`, was fitted to were made with.
    pub fn of_head(head: &'a Head, path: &Path) -> Origin<'a> {
        let made = &head.provenance;
        Origin {
            holder: format!("the head {}", path.display()),
            model_name: &made.model_name,
            model_sha256: &made.model_sha256,
            tensor: &made.tensor,
            layer: &made.layer,
            pooling: &made.pooling,
            preprocess_json: &made.preprocess_json,
            precision: &made.precision,
        }
    }

    /// What a layer of a file of codes, the primary one where none is named, was made with.
    pub fn of_codes(file: &'a CodesFile, layer: Option<&str>) -> anyhow::Result<Origin<'a>> {
        let (header, layer) = (file.header(), file.layer(layer)?);
        Ok(Origin {
            holder: file.path().display().to_string(),
            model_name: &header.model_name,
            model_sha256: &header.model_sha256,
            tensor: &layer.tensor,
            layer: &layer.name,
            pooling: &layer.pooling,
            preprocess_json: &header.preprocess_json,
            precision: &header.precision,
        })
    }

    /// Makes sure that `other` holds codes that can be compared with these.
    pub fn check_same(&self, other: &Origin<'_>) -> anyhow::Result<()> {
        let recipe = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
        let same_recipe = recipe(self.preprocess_json) == recipe(other.preprocess_json);
        let same_network = self.model_sha256.eq_ignore_ascii_case(other.model_sha256);
        for (what, same, here, there) in [
            ("the network's SHA-256", same_network, other.model_sha256, self.model_sha256),
            ("the layer", self.layer == other.layer, other.layer, self.layer),
            ("the preprocessing", same_recipe, other.preprocess_json, self.preprocess_json),
            ("the pooling", self.pooling == other.pooling, other.pooling, self.pooling),
            ("the precision", self.precision == other.precision, other.precision, self.precision),
        ] {
            ensure!(
                same,
                "{} and {} do not match: {what} is {here} here and {there} there; extract again with what {} was made with",
                other.holder,
                self.holder,
                self.holder
            );
        }
        Ok(())
    }

    /// The preprocessing.
    pub fn recipe(&self) -> anyhow::Result<Preprocess> {
        serde_json::from_str(self.preprocess_json).with_context(|| {
            format!("the preprocessing recorded in {} is not valid; make it again", self.holder)
        })
    }

    /// What a network is to be opened with for more codes like these.
    pub fn settings(&self, compute: &ComputeArgs) -> anyhow::Result<SessionSettings> {
        let made: Precision = self.precision.parse().with_context(|| {
            format!("the precision recorded in {} is not known; make it again", self.holder)
        })?;
        let settings = compute.settings_in(made);
        if settings.precision != made {
            show::warning(&format!(
                "{} was made with codes in {made}, and these are computed in {}",
                self.holder, settings.precision
            ));
        }
        Ok(settings)
    }

    /// The network in the models folder, and its layer.
    pub fn network(&self, models: &ModelsFolder) -> anyhow::Result<(Graph, Layer)> {
        let mut readable: Vec<_> = models.manifests()?.into_iter().filter_map(Result::ok).collect();
        // Of several manifests for one network, the one of the recorded name first.
        readable.sort_by_key(|model| model.name != self.model_name);
        let Some(model) =
            readable.iter().find(|model| model.manifest.sha256.eq_ignore_ascii_case(self.model_sha256))
        else {
            let same_name = readable.iter().find(|model| model.name == self.model_name);
            match same_name {
                Some(model) => bail!(
                    "{} was made with the network {} of SHA-256 {}, but {} in {} is another one (SHA-256 {}); make it again, or bring the right network back",
                    self.holder,
                    self.model_name,
                    self.model_sha256,
                    model.name,
                    models.path.display(),
                    model.manifest.sha256
                ),
                None => bail!(
                    "{} needs the network {} (SHA-256 {}), which is not in {}; add it with `cnncodes models add FILE`",
                    self.holder,
                    self.model_name,
                    self.model_sha256,
                    models.path.display()
                ),
            }
        };
        let graph = model.open().map_err(|error: ModelError| {
            anyhow::Error::new(error).context(format!("{} needs the network {}", self.holder, model.name))
        })?;
        let layer = Catalogue::of(&graph, &model.manifest.aliases).find(&model.name, self.tensor)?.clone();
        Ok((graph, layer))
    }
}
