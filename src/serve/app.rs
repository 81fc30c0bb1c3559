//! [`App`]: what all requests share.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::api_error::ApiError;
use super::body::{self, WholeBody};
use super::guard::Guard;
use super::job::Jobs;
use super::limits::{Admission, Limits};
use super::metrics::Metrics;
use super::project::Project;
use super::served_head::{HeadOpener, ServedHead};
use super::thumbnails::Thumbnails;
use super::training::{StoredTraining, TeachNetwork};

/// How handlers get at it.
pub(super) type Shared = Arc<App>;

/// What all requests share.
pub(super) struct App {
    pub limits: Limits,
    pub admission: Admission,
    pub guard: Guard,
    pub metrics: Arc<Metrics>,
    pub opener: HeadOpener,
    /// The head that answers, if there is one.
    head: RwLock<Option<Arc<ServedHead>>>,
    pub teach: Option<Teach>,
    pub thumbnails: Thumbnails,
    /// True when the server is to end.
    pub stopping: watch::Receiver<bool>,
}

/// What teaching needs.
pub(super) struct Teach {
    pub project: Arc<Project>,
    pub network: Arc<TeachNetwork>,
    pub jobs: Jobs,
    training: RwLock<Option<Arc<StoredTraining>>>,
    /// Counts the changes that came through the server.
    pub changes: watch::Sender<u64>,
    /// Counts the trainings.
    pub trainings: watch::Sender<u64>,
}

impl Teach {
    pub fn new(project: Project, network: TeachNetwork) -> Self {
        let training = StoredTraining::load(&project).map(Arc::new);
        Self {
            jobs: Jobs::new(project.state().join("job.json")),
            project: Arc::new(project),
            network: Arc::new(network),
            training: RwLock::new(training),
            changes: watch::Sender::new(0),
            trainings: watch::Sender::new(0),
        }
    }

    /// What the last training found.
    pub fn training(&self) -> Option<Arc<StoredTraining>> {
        self.training.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another head answers, or there is another result: what was written for the one before is none of it.
    pub fn forget_files(&self) {
        for file in [self.report(), self.export()] {
            // Mostly there is none.
            let _ = std::fs::remove_file(file);
        }
    }

    /// There is another result.
    pub fn set_training(&self, training: StoredTraining) {
        *self.training.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(training));
        self.trainings.send_modify(|trainings| *trainings += 1);
    }

    /// A photo or a class has changed.
    pub fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Where the report is written.
    pub fn report(&self) -> PathBuf {
        self.project.state().join("report.html")
    }

    /// Where the exported classifier is written.
    pub fn export(&self) -> PathBuf {
        self.project.state().join("classifier.onnx")
    }
}

impl App {
    pub fn new(
        limits: Limits,
        threads: usize,
        guard: Guard,
        opener: HeadOpener,
        head: Option<ServedHead>,
        teach: Option<Teach>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            admission: Admission::new(&limits, threads),
            metrics: Arc::clone(&opener.metrics),
            thumbnails: Thumbnails::default(),
            head: RwLock::new(head.map(Arc::new)),
            limits,
            guard,
            opener,
            teach,
            stopping,
        }
    }

    /// The head that answers, if there is one.
    pub fn loaded_head(&self) -> Option<Arc<ServedHead>> {
        self.head.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The head that answers.
    ///
    /// # Errors
    /// None is loaded.
    pub fn head(&self) -> Result<Arc<ServedHead>, ApiError> {
        self.loaded_head().ok_or_else(ApiError::no_head)
    }

    /// Another head answers from now on.
    pub fn set_head(&self, head: ServedHead) {
        *self.head.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(head));
    }

    /// What teaching needs.
    ///
    /// # Errors
    /// The server was started for a head alone.
    pub fn teach(&self) -> Result<&Teach, ApiError> {
        self.teach.as_ref().ok_or_else(|| {
            ApiError::not_found(
                "teaching is off, because the program was started with --head; give --project as well",
            )
        })
    }

    /// Reads the body of a request.
    pub async fn body(&self, headers: &HeaderMap, body: Body) -> Result<WholeBody, ApiError> {
        body::read(headers, body, &self.limits, &self.admission).await
    }

    /// Reads the JSON of a request.
    pub async fn json<T: DeserializeOwned>(&self, headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
        body::read_json(headers, body, &self.limits, &self.admission).await
    }

    /// What `work` gives, if it takes no longer than a request may take.
    pub async fn in_time<T>(&self, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        let limit: Duration = self.limits.time;
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(ApiError::too_slow(limit.as_secs())))
    }
}
