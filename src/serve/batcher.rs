//! [`Batcher`]: one network for all requests. Images of different requests that wait at the same time go through it together.
//!
//! As in an extraction, who runs an image has read it before, so that it stays in the processor's cache and nobody waits for
//! another thread. There are two arrangements:
//! - At first one session has all processors. It suits an image that comes alone, and networks with large weights or on a GPU keep
//!   it. Few workers share it: while it runs a batch, the others read the next ones.
//! - Where more images wait than [`ExecutionPlan`] has sessions for, these are loaded, while the first goes on. From then on each
//!   processor has a worker with a session of its own; an image that comes alone still goes through the first one.
//!
//! Nobody waits for a batch to fill: it grows while its images are read, and while the session that it needs is busy.

mod batch;
mod image_queue;

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use axum::body::Bytes;
use rayon::ThreadPool;
use tokio::sync::oneshot;

use self::batch::Batch;
pub(super) use self::batch::ImageFeatures;
use self::image_queue::{ImageQueue, Next, SessionPermit};
use super::metrics::Metrics;
use crate::extract::{ExtractError, ExtractorSettings, ImageReader, thread_pool};
use crate::feature_spec::FeatureSpec;
use crate::network::execution_plan::threads_or_all;
use crate::network::{
    Backbone, BackboneError, Device, ExecutionPlan, Graph, Layer, ModelFootprint, SessionSettings,
};

/// Workers that share a session: while one runs it, the others read what comes next, and one of them may be held up by a large photo.
const WORKERS_OF_ONE: usize = 3;

/// A network that makes features for all requests.
pub(super) struct Batcher {
    spec: FeatureSpec,
    shape: Vec<usize>,
    work: Arc<Work>,
}

/// What the workers share.
struct Work {
    queue: ImageQueue,
    reader: ImageReader,
    layer: String,
    plan: ExecutionPlan,
    metrics: Arc<Metrics>,
    /// Reads the images of a batch for a session that all processors share.
    pool: ThreadPool,
    /// The session that has all processors; the queue says who may run it.
    solo: Mutex<Backbone>,
    /// Opens the sessions of the plan, if it has several and nobody has begun to.
    open_many: Mutex<Option<OpenMany>>,
}

type OpenMany = Box<dyn FnOnce() -> Result<Backbone, BackboneError> + Send>;

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
        let shape = solo.taps().first().map_or_else(Vec::new, |tap| tap.shape.clone());
        let footprint = ModelFootprint::of(&graph, std::slice::from_ref(&layer), spec.preprocess.size());
        let threads = threads_or_all(settings.session.threads);
        let plan = ExecutionPlan::choose(&footprint, usize::MAX, threads, settings.memory);
        let plan = match solo.device() {
            Device::Cpu => plan,
            Device::Cuda(_) => plan.on_gpu(settings.batch_size, &footprint),
            _ => plan.together(),
        };
        let many = SessionSettings {
            threads: Some(plan.threads),
            sessions: NonZero::new(plan.sessions),
            shared_cores: true,
            ..session
        };
        let open_many: OpenMany = {
            let spec = spec.clone();
            Box::new(move || open(&spec, &graph, &layer, &many))
        };
        let work = Arc::new(Work {
            queue: ImageQueue::default(),
            reader: ImageReader::new(&spec.preprocess, solo.layout(), settings.max_pixels),
            layer: spec.layer.clone(),
            plan,
            metrics,
            pool: thread_pool(settings.session.threads)?,
            solo: Mutex::new(solo),
            open_many: Mutex::new((plan.sessions > 1).then_some(open_many)),
        });
        // Dropped where a thread cannot be started, which ends those that were.
        let batcher = Self { spec, shape, work };
        for _ in 0..WORKERS_OF_ONE {
            let work = Arc::clone(&batcher.work);
            start(move || work.share_session()).map_err(|error| ExtractError::Threads(error.into()))?;
        }
        Ok(batcher)
    }

    /// What decides the features' values.
    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// Shape of an image's features.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What `then` makes of the features of an image, or of the reason why there are none. The thread that has computed them calls it.
    ///
    /// # Errors
    /// The network failed.
    pub async fn features<T: Send + 'static>(
        &self,
        name: &str,
        bytes: Bytes,
        then: impl FnOnce(ImageFeatures) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (answer, made) = oneshot::channel();
        self.work.queue.push(name.to_owned(), bytes, then, answer);
        made.await.unwrap_or_else(|_| Err("the network ended without an answer".to_owned()))
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.work.queue.close();
    }
}

impl Work {
    /// Works with the session that all processors share, until there are others.
    fn share_session(self: Arc<Self>) {
        let most = self.plan.batch * self.plan.sessions;
        let mut batch = Batch::new(&self.reader);
        while let Some((turn, mut images)) = self.queue.next_of_shared(most) {
            if self.queue.in_flight() > self.plan.sessions {
                self.open_many();
            }
            let permit = loop {
                batch.read(images, &self.pool);
                match self.queue.more_or_session(turn, most.saturating_sub(batch.len())) {
                    Next::Images(more) => images = more,
                    Next::Session(permit) => break permit,
                }
            };
            self.run_solo(&mut batch, permit);
        }
    }

    /// Works with a session of its own.
    fn own_session(&self, mut session: Backbone) {
        let mut batch = Batch::new(&self.reader);
        while let Some(first) = self.queue.next() {
            let mut next = Some(first);
            while let Some(image) = next {
                batch.read(vec![image], &self.pool);
                next = if batch.len() < self.plan.batch { self.queue.more() } else { None };
            }
            match self.queue.session_for_one() {
                Some(permit) => self.run_solo(&mut batch, permit),
                None => batch.run(&self.layer, &self.metrics, |images| session.run(images)),
            }
        }
    }

    /// Runs a batch by the session that has all processors.
    fn run_solo(&self, batch: &mut Batch<'_>, permit: SessionPermit<'_>) {
        batch.run(&self.layer, &self.metrics, |images| {
            // Somebody else may run it before the answers are given.
            let _permit = permit;
            self.solo.lock().unwrap_or_else(PoisonError::into_inner).run(images)
        });
    }

    /// Has the sessions for many images opened, and workers for them, once.
    fn open_many(self: &Arc<Self>) {
        let open = self.open_many.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = open else { return };
        let work = Arc::clone(self);
        // Where that fails, such as for want of memory, all goes on with one session.
        let _ = start(move || {
            let Ok(many) = open() else { return };
            let started = many.into_sessions().map(|session| {
                let work = Arc::clone(&work);
                start(move || work.own_session(session))
            });
            if started.filter(Result::is_ok).count() > 0 {
                work.queue.end_sharing();
            }
        });
    }
}

fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("batcher".to_owned()).spawn(work).map(drop)
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
