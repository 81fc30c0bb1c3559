//! [`Extractor`]: images in, features out. A network cut at one layer, with the preprocessing that it wants.
//!
//! It serves whoever needs features of some images in memory: a [`Classifier`](crate::classifier::Classifier), `evaluate`,
//! `neighbors`. [`extract`](super::extract) writes the features of many images to a file, with resume.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::Array2;
use rayon::ThreadPool;

use super::batch::{ImageBatch, ImageReader, Readers};
use super::finite::{rows_not_finite, without_rows};
use super::in_memory::FeatureRows;
use super::{ExtractError, pipeline, thread_pool};
use crate::dataset::{InputProblem, Sample};
use crate::feature_spec::FeatureSpec;
use crate::images::{DEFAULT_MAX_PIXELS, PerceptualHash};
use crate::memory::MemoryLimit;
use crate::network::execution_plan::threads_or_all;
use crate::network::{
    Backbone, BackboneError, Device, ExecutionPlan, Graph, Layer, ModelFootprint, ModelsFolder,
    SessionSettings,
};

/// Images that are read and run together.
const BATCH: usize = 8;

/// What an [`Extractor`] runs on, and what it refuses.
#[derive(Debug, Clone)]
pub struct ExtractorSettings {
    /// What the network runs on.
    pub session: SessionSettings,
    /// Images of more pixels are refused.
    pub max_pixels: u64,
    /// Images a run of the network where there are many; chosen from the machine and the network when absent.
    pub batch_size: Option<usize>,
    /// Bytes that sessions and batches may take, by an estimate.
    pub memory: u64,
    /// Whether the SHA-256 of each image is wanted, which tells copies apart. Nobody needs it for features alone.
    pub digests: bool,
}

impl Default for ExtractorSettings {
    fn default() -> Self {
        Self {
            session: SessionSettings::default(),
            max_pixels: DEFAULT_MAX_PIXELS,
            batch_size: None,
            memory: MemoryLimit::default().bytes() as u64,
            digests: true,
        }
    }
}

/// A network that makes features of one [`FeatureSpec`].
///
/// Few images are run in one session by all threads, so that a single one is answered soon. Many may get a session for each
/// thread ([`ExecutionPlan`]), which is loaded when they first come and kept.
pub struct Extractor {
    spec: FeatureSpec,
    graph: Graph,
    layer: Layer,
    settings: ExtractorSettings,
    backbone: Backbone,
    /// Several sessions for many images, and how they are laid out.
    many: Option<(ExecutionPlan, Backbone)>,
    reader: ImageReader,
    pool: ThreadPool,
    /// The images of a batch, kept for the next one.
    images: Vec<f32>,
}

/// The features of some images.
#[derive(Debug, Default)]
pub struct FeatureBatch {
    /// Which of the images could be read, as indices in ascending order; one a row.
    pub indices: Vec<usize>,
    /// SHA-256 of each of their files, in lower-case hexadecimal; empty where that was not asked for.
    pub sha256: Vec<String>,
    /// What each of them looks like; empty where that was not asked for.
    pub(crate) perceptual_hashes: Vec<PerceptualHash>,
    /// One row an image: n x d.
    pub features: Array2<f32>,
    /// The images that could not be read, and why.
    pub problems: Vec<InputProblem>,
    /// Which of the images these are, one a problem.
    pub failed: Vec<usize>,
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
            failed: read.failed(),
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
            self.failed.push(self.indices[row]);
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
        Self::of_network(spec, graph, layer, settings.clone())
    }

    /// As [`open`](Self::open), with the network of `spec` and its layer, wherever they come from.
    ///
    /// # Errors
    /// The network cannot be run.
    pub fn of_network(
        spec: FeatureSpec,
        graph: Graph,
        layer: Layer,
        settings: ExtractorSettings,
    ) -> Result<Self, ExtractError> {
        let backbone = open(&spec, &graph, &layer, &settings.session)?;
        let reader = ImageReader::new(&spec.preprocess, backbone.layout(), settings.max_pixels);
        let reader = if settings.digests { reader } else { reader.without_digests() };
        let pool = thread_pool(settings.session.threads)?;
        Ok(Self { spec, graph, layer, settings, backbone, many: None, reader, pool, images: Vec::new() })
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
        let (reader, images) = (&self.reader, &mut self.images);
        let read = self.pool.install(|| reader.read_batch(samples, images, Readers::Pool, false));
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
        progress: impl FnMut(usize),
    ) -> Result<FeatureBatch, ExtractError> {
        self.extract_until(samples, &AtomicBool::new(false), progress)
    }

    /// As [`extract_all`](Self::extract_all), until `stop` is true. `progress` is called by the calling thread.
    ///
    /// # Errors
    /// As [`extract_all`](Self::extract_all), and [`ExtractError::Stopped`].
    pub fn extract_until<'s>(
        &mut self,
        samples: impl IntoIterator<Item = Sample<'s>>,
        stop: &AtomicBool,
        mut progress: impl FnMut(usize),
    ) -> Result<FeatureBatch, ExtractError> {
        let samples: Vec<Sample<'s>> = samples.into_iter().collect();
        if samples.len() <= BATCH {
            let batch = self.extract_batch(&samples)?;
            progress(samples.len());
            return Ok(batch);
        }
        let (plan, width) = (self.prepare_for(samples.len())?, self.width());
        let pending: Vec<usize> = (0..samples.len()).collect();
        let job = pipeline::ExtractionJob {
            sample: &|index| samples[index],
            reader: &self.reader,
            strict: false,
            pending: &pending,
            batch: plan.batch,
            pool: &self.pool,
            stop,
        };
        let backbone = match &mut self.many {
            Some((_, many)) if plan.sessions > 1 => many,
            _ => &mut self.backbone,
        };
        let collector = FeatureRows::with_capacity(samples.len() * width);
        let rows = pipeline::run(&job, backbone, collector, &mut |step| progress(step.done))?;
        if stop.load(Ordering::Relaxed) && rows.rows.len() + rows.problems.len() < samples.len() {
            return Err(ExtractError::Stopped);
        }
        let FeatureRows { rows, failed, problems, values } = rows;
        let mut all = FeatureBatch { failed, problems, ..FeatureBatch::default() };
        for (index, sha256, hash) in rows {
            all.indices.push(index);
            all.sha256.extend(self.reader.digests().then_some(sha256));
            all.perceptual_hashes.extend(self.reader.hashes().then_some(hash));
        }
        all.with_features(values, width, &self.spec.layer)
    }

    /// How so many images are run; loads the sessions for it if they are not there.
    fn prepare_for(&mut self, images: usize) -> Result<ExecutionPlan, ExtractError> {
        let size = self.spec.preprocess.size();
        let footprint = ModelFootprint::of(&self.graph, std::slice::from_ref(&self.layer), size);
        let threads = threads_or_all(self.settings.session.threads);
        let asked = self.settings.batch_size;
        let plan = ExecutionPlan::choose(&footprint, images, threads, self.settings.memory);
        let plan = match self.backbone.device() {
            Device::Cpu => ExecutionPlan { batch: asked.unwrap_or(plan.batch).max(1), ..plan },
            Device::Cuda(_) => plan.on_gpu(asked, &footprint),
            _ => ExecutionPlan { batch: asked.unwrap_or(plan.batch).max(1), ..plan.together() },
        };
        if plan.sessions == 1 || self.many.as_ref().is_some_and(|(there, _)| there.sessions == plan.sessions)
        {
            return Ok(plan);
        }
        let session = SessionSettings {
            threads: Some(plan.threads),
            sessions: NonZero::new(plan.sessions),
            shared_cores: true,
            device: Device::Cpu,
            ..self.settings.session.clone()
        };
        self.many = Some((plan, open(&self.spec, &self.graph, &self.layer, &session)?));
        Ok(plan)
    }
}

/// The network of `spec`, cut at its layer and loaded.
fn open(
    spec: &FeatureSpec,
    graph: &Graph,
    layer: &Layer,
    session: &SessionSettings,
) -> Result<Backbone, BackboneError> {
    Backbone::open_pooled(
        graph,
        std::slice::from_ref(layer),
        &[spec.pooling],
        spec.preprocess.size(),
        session,
    )
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::dataset::{Dataset, MemoryImage};
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
        assert_eq!((&batch.indices[..], &batch.failed[..]), (&[0, 3][..], &[1, 2][..]));
        assert_eq!(batch.features.as_slice().unwrap(), [1.0, 2.0, 5.0, 6.0]);
        assert_eq!(batch.sha256.len(), 2);
        let problems: Vec<(&str, bool)> =
            batch.problems.iter().map(|problem| (&*problem.name, problem.reason.contains("NaN"))).collect();
        assert_eq!(problems, [("aa.png", false), ("b.png", true)]);
    }

    /// The demo's pictures, twelve of a class, and its network.
    fn demo() -> (tempfile::TempDir, Extractor, Dataset) {
        let folder = tempfile::tempdir().unwrap();
        crate::demo::write_folder(folder.path(), 12, 0).unwrap();
        let models = ModelsFolder { path: folder.path().join("models") };
        let network = crate::demo::write_model(&models).unwrap();
        let spec = FeatureSpec::new(&network, "fc7", crate::network::Pooling::None).unwrap();
        let settings = ExtractorSettings { digests: false, ..ExtractorSettings::default() };
        let extractor = Extractor::open(spec, &models, &settings).unwrap();
        let photos = Dataset::from_folder(&folder.path().join("data")).unwrap();
        (folder, extractor, photos)
    }

    #[test]
    fn many_images_have_the_features_of_one_image_after_another_bit_for_bit() {
        let (_folder, mut extractor, photos) = demo();
        let mut told = Vec::new();
        let all = extractor.extract_all(photos.samples.iter(), |done| told.push(done)).unwrap();
        assert_eq!((all.indices, told.last()), ((0..48).collect(), Some(&48)));
        assert_eq!((all.sha256.len(), all.perceptual_hashes.len()), (0, 0));
        for (sample, row) in photos.samples.iter().zip(all.features.rows()) {
            let alone = extractor.extract_batch(&[sample]).unwrap();
            assert_eq!(alone.features.row(0), row, "{}", sample.name);
        }
    }

    #[test]
    fn images_in_memory_have_the_features_of_their_files() {
        let (folder, mut extractor, photos) = demo();
        let expected = extractor.extract_all(photos.samples.iter(), |_| ()).unwrap();
        let decode = |bytes: &[u8]| {
            let options = crate::images::DecodeOptions::default();
            crate::images::decode(bytes, &options).unwrap()
        };
        let inputs = photos.samples.iter().enumerate().map(|(index, sample)| {
            let path = folder.path().join("data").join(sample.name);
            let bytes = std::fs::read(&path).unwrap();
            match index % 3 {
                0 => (path.to_str().unwrap().to_owned(), None),
                1 => (format!("bytes {index}"), Some(MemoryImage::Encoded(bytes))),
                _ => (format!("array {index}"), Some(MemoryImage::Pixels(decode(&bytes)))),
            }
        });
        let broken = [
            ("broken".to_owned(), Some(MemoryImage::Encoded(b"no image".to_vec()))),
            ("gone.jpg".to_owned(), None),
        ];
        let set = Dataset::from_images(inputs.chain(broken));
        let found = extractor.extract_all(set.samples.iter(), |_| ()).unwrap();
        assert_eq!(found.indices, (0..48).collect::<Vec<_>>());
        assert_eq!(found.features, expected.features);
        let names: Vec<&str> = found.problems.iter().map(|problem| &*problem.name).collect();
        assert_eq!((names, found.failed), (vec!["broken", "gone.jpg"], vec![48, 49]));
    }

    #[test]
    fn a_run_that_is_told_to_stop_ends_with_an_error() {
        let (_folder, mut extractor, photos) = demo();
        let stop = AtomicBool::new(false);
        let stopped =
            extractor.extract_until(photos.samples.iter(), &stop, |_| stop.store(true, Ordering::Relaxed));
        // What was in flight may be all there is.
        assert!(matches!(stopped, Err(ExtractError::Stopped)) || stopped.unwrap().indices.len() == 48);
        let before = extractor.extract_until(photos.samples.iter(), &AtomicBool::new(true), |_| ());
        assert!(matches!(before, Err(ExtractError::Stopped)));
    }
}
