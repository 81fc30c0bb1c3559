//! [`Batcher`]: one network for all requests. Images of different requests that wait at the same time go through it together.
//!
//! An image that comes alone is run at once, by a session that all processors work on. Where several wait, each processor has a
//! session of its own, as [`ExecutionPlan`] arranges it for many images; these sessions are loaded when they are first needed.
//! A session that is free takes what waits, up to the plan's batch. It waits for more at most [`GATHERING`], and only while
//! images that will come are being decoded.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tokio::sync::oneshot;

use super::metrics::Metrics;
use crate::dataset::{Dataset, InputProblem, MemoryImage};
use crate::extract::{ExtractError, ExtractorSettings, FeatureBatch, ImageBatch, ImageReader, Readers};
use crate::feature_spec::FeatureSpec;
use crate::messages::with_causes;
use crate::network::execution_plan::threads_or_all;
use crate::network::{
    Backbone, BackboneError, Device, ExecutionPlan, Graph, Layer, ModelFootprint, Runner, SessionSettings,
    TapOutput,
};

/// How long a session waits for images that are being decoded.
const GATHERING: Duration = Duration::from_millis(3);

/// An image on its way to the network, and who waits for its features.
struct Waiting {
    image: Vec<f32>,
    features: oneshot::Sender<Result<Vec<f32>, String>>,
}

/// A network that makes features for all requests.
pub(super) struct Batcher {
    spec: FeatureSpec,
    shape: Vec<usize>,
    reader: ImageReader,
    /// The thread ends when this is dropped.
    queue: Sender<Waiting>,
    decoding: Arc<AtomicUsize>,
}

/// The features of one image, or why there are none.
pub(super) type ImageFeatures = Result<FeatureBatch, InputProblem>;

/// Counts an image while it is decoded.
struct Decoding(Arc<AtomicUsize>);

impl Decoding {
    fn of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An image that was read, and is on its way through the network.
pub(super) struct InNetwork {
    layer: String,
    set: Dataset,
    read: ImageBatch,
    features: oneshot::Receiver<Result<Vec<f32>, String>>,
}

impl Batcher {
    /// Opens the network of `spec` at its layer.
    ///
    /// # Errors
    /// The network cannot be run.
    pub fn open(
        spec: FeatureSpec,
        graph: Graph,
        layer: Layer,
        settings: &ExtractorSettings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ExtractError> {
        let session =
            SessionSettings { device: settings.session.device.for_images(1), ..settings.session.clone() };
        let solo = open(&spec, &graph, &layer, &session)?;
        let tap = solo.taps().first();
        let (shape, layout) = (tap.map_or_else(Vec::new, |tap| tap.shape.clone()), solo.layout());
        let reader = ImageReader::new(&spec.preprocess, layout, settings.max_pixels);
        let (queue, waiting) = unbounded();
        let decoding = Arc::new(AtomicUsize::new(0));
        let footprint = ModelFootprint::of(&graph, std::slice::from_ref(&layer), spec.preprocess.size());
        let threads = threads_or_all(settings.session.threads);
        let plan = ExecutionPlan::choose(&footprint, usize::MAX, threads, settings.memory);
        let plan = match solo.device() {
            Device::Cpu => plan,
            Device::Cuda(_) => plan.on_gpu(settings.batch_size, &footprint),
            _ => plan.together(),
        };
        let work = Work { waiting, decoding: Arc::clone(&decoding), plan, metrics };
        let many = SessionSettings {
            threads: Some(plan.threads),
            sessions: NonZero::new(plan.sessions),
            shared_cores: true,
            ..session
        };
        let open_many = {
            let spec = spec.clone();
            move || open(&spec, &graph, &layer, &many)
        };
        thread::Builder::new()
            .name("batcher".to_owned())
            .spawn(move || work.run(solo, open_many))
            .map_err(|error| ExtractError::Threads(error.into()))?;
        Ok(Self { spec, shape, reader, queue, decoding })
    }

    /// What decides the features' values.
    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// Shape of an image's features.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Reads an image and sends it to the network. It keeps a processor busy; the features come later.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn send(&self, name: &str, bytes: Vec<u8>) -> Result<InNetwork, InputProblem> {
        let decoding = Decoding::of(&self.decoding);
        let set = Dataset::from_images([(name.to_owned(), Some(MemoryImage::Encoded(bytes)))]);
        let samples: Vec<_> = set.samples.iter().collect();
        let mut image = Vec::new();
        let read = self.reader.read_batch(&samples, &mut image, Readers::One, false);
        drop(samples);
        if image.is_empty() {
            let unread = || InputProblem { name: name.to_owned(), reason: "it cannot be read".to_owned() };
            return Err(read.into_problems().into_iter().next().unwrap_or_else(unread));
        }
        let (features, receiver) = oneshot::channel();
        // A thread that is gone drops what it is sent, and the receiver learns of it.
        let _ = self.queue.send(Waiting { image, features });
        drop(decoding);
        Ok(InNetwork { layer: self.spec.layer.clone(), set, read, features: receiver })
    }
}

impl InNetwork {
    /// The features.
    ///
    /// # Errors
    /// The network failed; or the features are no numbers that a head could use, which is a problem of the image.
    pub async fn features(self) -> Result<ImageFeatures, String> {
        let features =
            self.features.await.map_err(|_| "the network ended without an answer".to_owned())??;
        let samples: Vec<_> = self.set.samples.iter().collect();
        let layer = (&*self.layer, features.len());
        let batch = FeatureBatch::new(&samples, self.read, features, layer, |_| {});
        let mut batch = batch.map_err(|error| with_causes(&error))?;
        Ok(match batch.problems.pop() {
            Some(problem) => Err(problem),
            None => Ok(batch),
        })
    }
}

fn open(
    spec: &FeatureSpec,
    graph: &Graph,
    layer: &Layer,
    settings: &SessionSettings,
) -> Result<Backbone, BackboneError> {
    let layers = std::slice::from_ref(layer);
    Backbone::open_pooled(graph, layers, &[spec.pooling], spec.preprocess.size(), settings)
}

/// What the thread of a [`Batcher`] works on.
struct Work {
    waiting: Receiver<Waiting>,
    decoding: Arc<AtomicUsize>,
    plan: ExecutionPlan,
    metrics: Arc<Metrics>,
}

impl Work {
    fn run(self, mut solo: Backbone, open_many: impl Fn() -> Result<Backbone, BackboneError>) {
        if self.plan.sessions == 1 {
            while let Some(batch) = self.next_batch(self.plan.batch) {
                self.answer(batch, |images| solo.run(images));
            }
            return;
        }
        while let Some(batch) = self.next_batch(self.plan.batch * self.plan.sessions) {
            if batch.len() <= self.plan.sessions {
                self.answer(batch, |images| solo.run(images));
                continue;
            }
            match open_many() {
                Ok(many) => return self.run_many(solo, many, batch),
                // As it was: by one session.
                Err(_) => self.answer(batch, |images| solo.run(images)),
            }
        }
    }

    /// With a session for each processor.
    fn run_many(&self, mut solo: Backbone, mut many: Backbone, first: Vec<Waiting>) {
        let sessions: Vec<Mutex<Runner<'_>>> = many.runners().map(Mutex::new).collect();
        let (free_in, free) = bounded(sessions.len());
        for session in 0..sessions.len() {
            // There is room for all of them.
            let _ = free_in.send(session);
        }
        thread::scope(|scope| {
            let mut inputs = Vec::with_capacity(sessions.len());
            for (number, session) in sessions.iter().enumerate() {
                let (input, batches) = bounded::<Vec<Waiting>>(1);
                inputs.push(input);
                let free_in = free_in.clone();
                scope.spawn(move || {
                    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
                    for batch in batches {
                        self.answer(batch, |images| session.run(images));
                        if free_in.send(number).is_err() {
                            return;
                        }
                    }
                });
            }
            let mut left = first;
            loop {
                // Nobody else works, and nothing else waits or is coming: all processors are for this image.
                let alone = left.is_empty() && free.len() == inputs.len();
                let Ok(session) = free.recv() else { return };
                let batch = if left.is_empty() {
                    match self.next_batch(self.plan.batch) {
                        Some(batch) => batch,
                        None => return,
                    }
                } else {
                    let rest = left.split_off(left.len().min(self.plan.batch));
                    std::mem::replace(&mut left, rest)
                };
                let all_free = free.len() + 1 == inputs.len();
                if (alone || all_free) && batch.len() == 1 && left.is_empty() && self.is_quiet() {
                    self.answer(batch, |images| solo.run(images));
                    let _ = free_in.send(session);
                } else if inputs[session].send(batch).is_err() {
                    return;
                }
            }
        });
    }

    /// Whether nothing waits, and nothing that will come is being decoded.
    fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.decoding.load(Ordering::SeqCst) == 0
    }

    /// The images that wait, at most `most`; none when there will be none any more.
    fn next_batch(&self, most: usize) -> Option<Vec<Waiting>> {
        let mut batch = vec![self.waiting.recv().ok()?];
        let begin = Instant::now();
        while batch.len() < most {
            if let Ok(next) = self.waiting.try_recv() {
                batch.push(next);
                continue;
            }
            let left = GATHERING.saturating_sub(begin.elapsed());
            if left.is_zero() || self.decoding.load(Ordering::SeqCst) == 0 {
                break;
            }
            match self.waiting.recv_timeout(left) {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Runs a batch, without the images that nobody waits for any more, and gives each its features.
    fn answer(
        &self,
        mut batch: Vec<Waiting>,
        run: impl FnOnce(&[f32]) -> Result<Vec<TapOutput>, BackboneError>,
    ) {
        batch.retain(|waiting| !waiting.features.is_closed());
        if batch.is_empty() {
            return;
        }
        self.metrics.batches.record(batch.len());
        let images: Vec<f32> = match &mut batch[..] {
            [only] => std::mem::take(&mut only.image),
            all => all.iter().flat_map(|waiting| &waiting.image).copied().collect(),
        };
        let ran = catch_unwind(AssertUnwindSafe(|| run(&images)));
        let features = match ran {
            Ok(Ok(layers)) => {
                layers.into_iter().next().ok_or_else(|| "the network gives no features".to_owned())
            }
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(_) => Err("the network ended by a panic; report this".to_owned()),
        };
        match features {
            Ok(rows) => {
                let width = rows.len() / batch.len();
                for (waiting, row) in batch.into_iter().zip(rows.chunks(width.max(1))) {
                    // Somebody who has gone needs none.
                    let _ = waiting.features.send(Ok(row.to_vec()));
                }
            }
            Err(error) => {
                for waiting in batch {
                    let _ = waiting.features.send(Err(error.clone()));
                }
            }
        }
    }
}
