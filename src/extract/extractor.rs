//! [`Extractor`]: images in, features out. A network cut at one layer, with the preprocessing that it wants.
//!
//! It serves whoever needs features of some images in memory: a [`Classifier`](crate::classifier::Classifier), `evaluate`,
//! `neighbors`. [`extract`](super::extract) writes the features of many images to a file, with resume.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::ExtractError;
use super::batch::{ImageBatch, ImageReader, Readers};
use super::finite::{rows_not_finite, without_rows};
use crate::dataset::{InputProblem, Sample};
use crate::feature_spec::FeatureSpec;
use crate::images::{DEFAULT_MAX_PIXELS, PerceptualHash};
use crate::network::{Backbone, Graph, Layer, ModelsFolder, SessionSettings};

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
    reader: ImageReader,
    /// The images of a batch, kept for the next one.
    images: Vec<f32>,
}

/// The features of some images.
#[derive(Debug, Default)]
pub struct FeatureBatch {
    /// Which of the images could be read, as indices in ascending order; one a row.
    pub indices: Vec<usize>,
    /// SHA-256 of each of their files, in lower-case hexadecimal.
    pub sha256: Vec<String>,
    /// What each of them looks like; empty where that was not asked for.
    pub(crate) perceptual_hashes: Vec<PerceptualHash>,
    /// One row an image: n x d.
    pub features: Array2<f32>,
    /// The images that could not be read, and why.
    pub problems: Vec<InputProblem>,
}

/// The samples in batches, which are read together.
pub(crate) fn batches<'s>(
    samples: impl IntoIterator<Item = Sample<'s>>,
) -> impl Iterator<Item = Vec<Sample<'s>>> {
    let mut samples = samples.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<Sample<'s>> = samples.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

impl FeatureBatch {
    /// What was `read` of `samples`, with the features of a layer: `width` values a row. Images whose features are NaN or infinite
    /// become problems; `keep` is told of each row whether it stays.
    pub(crate) fn new(
        samples: &[Sample<'_>],
        read: ImageBatch,
        mut features: Vec<f32>,
        (layer, width): (&str, usize),
        mut keep: impl FnMut(bool),
    ) -> Result<Self, ExtractError> {
        let mut batch = Self::of(read);
        let bad = rows_not_finite(layer, width, &features);
        (0..batch.indices.len()).for_each(|row| keep(!bad.contains_key(&row)));
        if !bad.is_empty() {
            features = without_rows(&features, width, &bad);
            batch.leave_out(samples, &bad);
        }
        batch.with_features(features, width, layer)
    }

    /// What was `read`, without features yet.
    fn of(read: ImageBatch) -> Self {
        Self {
            indices: read.positions(),
            sha256: read.sha256(),
            perceptual_hashes: read.hashes(),
            problems: read.into_problems(),
            features: Array2::default((0, 0)),
        }
    }

    fn with_features(mut self, features: Vec<f32>, width: usize, layer: &str) -> Result<Self, ExtractError> {
        self.features = Array2::from_shape_vec((self.indices.len(), width), features)
            .map_err(|_| ExtractError::Width { layer: layer.to_owned(), width })?;
        Ok(self)
    }

    /// Makes problems of the rows whose features cannot be used, by their index.
    fn leave_out(&mut self, samples: &[Sample<'_>], bad: &BTreeMap<usize, String>) {
        for (&row, reason) in bad {
            let name = samples[self.indices[row]].name.to_owned();
            self.problems.push(InputProblem { name, reason: reason.clone() });
        }
        let keeps = || {
            let mut row = 0..;
            move || row.next().is_some_and(|row| !bad.contains_key(&row))
        };
        let (mut index, mut sha256, mut hash) = (keeps(), keeps(), keeps());
        self.indices.retain(|_| index());
        self.sha256.retain(|_| sha256());
        self.perceptual_hashes.retain(|_| hash());
    }
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
        Self::of_network(spec, &graph, layer, settings)
    }

    /// As [`open`](Self::open), with the network of `spec` and its layer, wherever they come from.
    ///
    /// # Errors
    /// The network cannot be run.
    pub fn of_network(
        spec: FeatureSpec,
        graph: &Graph,
        layer: Layer,
        settings: &ExtractorSettings,
    ) -> Result<Self, ExtractError> {
        let size = spec.preprocess.size();
        let backbone = Backbone::open_pooled(graph, &[layer], &[spec.pooling], size, &settings.session)?;
        let reader = ImageReader::new(&spec.preprocess, backbone.layout(), settings.max_pixels);
        Ok(Self { spec, backbone, reader, images: Vec::new() })
    }

    /// From now on the perceptual hash of each image is computed as well.
    pub(crate) fn compute_hashes(&mut self) {
        self.reader = self.reader.clone().with_hashes();
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
    /// The network fails. An image that cannot be read is a problem of the batch, and so is one whose features are NaN or
    /// infinite.
    pub fn extract_batch(&mut self, samples: &[Sample<'_>]) -> Result<FeatureBatch, ExtractError> {
        let read = self.reader.read_batch(samples, &mut self.images, Readers::Pool, false);
        let layers = match read.rows.is_empty() {
            true => Vec::new(),
            false => self.backbone.run(&self.images)?,
        };
        let features = layers.first().map_or_else(Vec::new, |rows| rows.to_vec());
        FeatureBatch::new(samples, read, features, (&self.spec.layer, self.width()), |_| {})
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
        for batch in batches(samples) {
            let features = self.extract_batch(&batch)?;
            take(&batch, features)?;
        }
        Ok(())
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
            all.perceptual_hashes.extend(batch.perceptual_hashes);
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

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::dataset::Dataset;
    use crate::images::{Preprocess, Preset, TensorLayout};

    #[test]
    fn images_without_finite_features_become_problems_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            RgbImage::new(4, 4).save(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("aa.png"), "no picture").unwrap();
        let set = Dataset::from_folder(folder.path()).unwrap();
        let samples: Vec<_> = set.samples.iter().collect();
        let recipe = Preprocess::preset(Preset::Tf).unwrap();
        let mut images = Vec::new();
        let read = ImageReader::new(&recipe, TensorLayout::Nchw, DEFAULT_MAX_PIXELS).read_batch(
            &samples,
            &mut images,
            Readers::One,
            false,
        );
        let mut kept = Vec::new();
        let features = vec![1.0, 2.0, 3.0, f32::NAN, 5.0, 6.0];
        let batch = FeatureBatch::new(&samples, read, features, ("fc7", 2), |keep| kept.push(keep)).unwrap();
        assert_eq!(kept, [true, false, true]);
        // a, aa (not read), b (NaN), c.
        assert_eq!(batch.indices, [0, 3]);
        assert_eq!(batch.features.as_slice().unwrap(), [1.0, 2.0, 5.0, 6.0]);
        assert_eq!(batch.sha256.len(), 2);
        let problems: Vec<(&str, bool)> =
            batch.problems.iter().map(|problem| (&*problem.name, problem.reason.contains("NaN"))).collect();
        assert_eq!(problems, [("aa.png", false), ("b.png", true)]);
    }
}
