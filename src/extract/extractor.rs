//! [`Extractor`]: images in, features out. A network cut at one layer, with the preprocessing that it wants.
//!
//! It serves whoever needs features of some images in memory: a [`Classifier`](crate::classifier::Classifier), `evaluate`,
//! `neighbors`. [`extract`](super::extract) writes the features of many images to a file, with resume.

use ndarray::Array2;
use rayon::prelude::*;

use super::pipeline::hash_image;
use super::{ExtractError, read_image};
use crate::backbone::{Backbone, ModelsFolder, SessionSettings};
use crate::feature_spec::FeatureSpec;
use crate::images::{DEFAULT_MAX_PIXELS, DecodeOptions, PerceptualHash, Problem, Sample};

/// Images that are read and run together.
const BATCH: usize = 8;

/// What an [`Extractor`] runs on, and what it refuses.
#[derive(Debug, Clone)]
pub struct ExtractorSettings {
    /// What the network runs on.
    pub session: SessionSettings,
    /// Images of more pixels are refused.
    pub max_pixels: u64,
}

impl Default for ExtractorSettings {
    fn default() -> Self {
        Self { session: SessionSettings::default(), max_pixels: DEFAULT_MAX_PIXELS }
    }
}

/// A network that makes features of one [`FeatureSpec`].
pub struct Extractor {
    spec: FeatureSpec,
    backbone: Backbone,
    decode: DecodeOptions,
}

/// The features of some images.
#[derive(Debug, Default)]
pub struct FeatureBatch {
    /// Which of the images could be read, as indices in ascending order; one a row.
    pub indices: Vec<usize>,
    /// SHA-256 of each of their files, in lower-case hexadecimal.
    pub sha256: Vec<String>,
    /// One row an image: n x d.
    pub features: Array2<f32>,
    /// The images that could not be read, and why.
    pub problems: Vec<Problem>,
}

impl Extractor {
    /// Opens the network of `spec`, which is searched in the models folder by its hash.
    ///
    /// # Errors
    /// The models folder lacks the network, or it cannot be run.
    pub fn open(
        spec: FeatureSpec,
        models: &ModelsFolder,
        settings: &ExtractorSettings,
    ) -> Result<Self, ExtractError> {
        let (graph, layer) = spec.network(models)?;
        let size = spec.preprocess.size();
        let backbone = Backbone::open_pooled(&graph, &[layer], &[spec.pooling], size, &settings.session)?;
        let apply_orientation = spec.preprocess.exif_orientation();
        let decode = DecodeOptions { apply_orientation, max_pixels: settings.max_pixels };
        Ok(Self { spec, backbone, decode })
    }

    /// What decides the features' values.
    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// The network, for what it says about itself.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Shape of an image's features, such as `[512, 7, 7]` or `[4096]`.
    pub fn shape(&self) -> &[usize] {
        self.backbone.taps().first().map_or(&[], |tap| &tap.shape)
    }

    /// Number of features of an image.
    pub fn width(&self) -> usize {
        self.shape().iter().product()
    }

    /// Features of `samples`, read by all threads and run together.
    ///
    /// # Errors
    /// The network fails. An image that cannot be read is a problem of the batch.
    pub fn extract_batch(&mut self, samples: &[Sample<'_>]) -> Result<FeatureBatch, ExtractError> {
        let (layout, len) = (self.backbone.layout(), self.backbone.image_len());
        let (preprocess, decode) = (&self.spec.preprocess, &self.decode);
        let read: Vec<Result<(Vec<f32>, String), Problem>> = samples
            .par_iter()
            .map(|sample| {
                let mut image = vec![0.0; len];
                read_image(sample, preprocess, decode, layout, &mut image).map(|sha256| (image, sha256))
            })
            .collect();
        let mut batch = FeatureBatch::default();
        let mut images = Vec::new();
        for (index, image) in read.into_iter().enumerate() {
            match image {
                Ok((image, sha256)) => {
                    batch.indices.push(index);
                    batch.sha256.push(sha256);
                    images.extend(image);
                }
                Err(problem) => batch.problems.push(problem),
            }
        }
        let mut features = Vec::new();
        if !batch.indices.is_empty() {
            self.backbone.run(&images)?.iter().for_each(|rows| features.extend_from_slice(rows));
        }
        batch.features = Array2::from_shape_vec((batch.indices.len(), self.width()), features)
            .map_err(|_| ExtractError::Width { layer: self.spec.layer.clone(), width: self.width() })?;
        Ok(batch)
    }

    /// What `samples` look like, whatever the network and its preprocessing; `None` for an image that cannot be read.
    pub fn perceptual_hashes(&self, samples: &[Sample<'_>]) -> Vec<Option<PerceptualHash>> {
        samples.par_iter().map(|sample| hash_image(sample, &self.decode)).collect()
    }

    /// Features of any number of `samples`, a batch at a time: `take` gets each batch's samples with their features.
    ///
    /// # Errors
    /// As [`extract_batch`](Self::extract_batch), or `take` fails.
    pub fn extract_each<'s, E: From<ExtractError>>(
        &mut self,
        samples: impl IntoIterator<Item = Sample<'s>>,
        mut take: impl FnMut(&[Sample<'s>], FeatureBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut samples = samples.into_iter();
        loop {
            let batch: Vec<Sample<'s>> = samples.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let features = self.extract_batch(&batch)?;
            take(&batch, features)?;
        }
    }

    /// Features of all `samples` in memory; `progress` is told how many images are dealt with.
    ///
    /// # Errors
    /// As [`extract_batch`](Self::extract_batch).
    pub fn extract_all<'s>(
        &mut self,
        samples: impl IntoIterator<Item = Sample<'s>>,
        mut progress: impl FnMut(usize),
    ) -> Result<FeatureBatch, ExtractError> {
        let mut all = FeatureBatch::default();
        let (mut values, mut done) = (Vec::new(), 0);
        self.extract_each(samples, |samples, batch| {
            all.indices.extend(batch.indices.iter().map(|index| done + index));
            all.sha256.extend(batch.sha256);
            all.problems.extend(batch.problems);
            values.extend(batch.features);
            done += samples.len();
            progress(done);
            Ok::<(), ExtractError>(())
        })?;
        let width = self.width();
        all.features = Array2::from_shape_vec((all.indices.len(), width), values)
            .map_err(|_| ExtractError::Width { layer: self.spec.layer.clone(), width })?;
        Ok(all)
    }
}
