//! [`Jobs`]: work that takes longer than a request: training, the report, the export. One at a time, on a thread of its own, so that it
//! goes on while pages come and go. Whoever wants to know how far it is watches.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, panic, thread};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::api_error::ApiError;
use crate::files::write_atomically;

/// What a job does before its first step, for people.
const STARTING: &str = "starting";

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Task {
    Train,
    Report,
    Export,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum JobState {
    /// Nothing was done yet.
    None,
    Running,
    /// It was told to stop.
    Cancelling,
    Done,
    Failed,
    Cancelled,
    /// The program ended meanwhile.
    Interrupted,
}

/// A step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Step {
    Listing,
    Network,
    Features,
    Duplicates,
    Fitting,
    LearningCurve,
    Suspects,
    Saving,
    Report,
    Export,
}

impl Step {
    /// The step for people.
    fn text(self) -> &'static str {
        match self {
            Self::Listing => "listing the photos",
            Self::Network => "loading the network",
            Self::Features => "computing features",
            Self::Duplicates => "looking for duplicates",
            Self::Fitting => "fitting and cross-validating",
            Self::LearningCurve => "measuring whether more photos would help",
            Self::Suspects => "ranking photos to look at",
            Self::Saving => "saving",
            Self::Report => "writing the report",
            Self::Export => "writing the ONNX file",
        }
    }
}

/// A job as it stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobStatus {
    pub id: u64,
    pub task: Option<Task>,
    pub state: JobState,
    pub step: Option<Step>,
    /// The step for people.
    pub text: String,
    /// Of `total`, which is 0 where there is no number.
    pub done: usize,
    pub total: usize,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
}

impl JobStatus {
    const NONE: Self = Self {
        id: 0,
        task: None,
        state: JobState::None,
        step: None,
        text: String::new(),
        done: 0,
        total: 0,
        started: None,
        ended: None,
        error: None,
    };

    fn is_running(&self) -> bool {
        matches!(self.state, JobState::Running | JobState::Cancelling)
    }
}

/// Why a job ended early.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JobEnd {
    Cancelled,
    /// Why, for people.
    Failed(String),
}

/// The jobs of a project.
pub(super) struct Jobs {
    status: Arc<watch::Sender<JobStatus>>,
    stop: Arc<AtomicBool>,
    /// The status of a job that runs, for a program that is started after a kill.
    file: PathBuf,
}

/// What a job says while it runs.
pub(super) struct JobProgress {
    status: Arc<watch::Sender<JobStatus>>,
    stop: Arc<AtomicBool>,
}

impl JobProgress {
    /// A step begins.
    ///
    /// # Errors
    /// The job is to stop.
    pub fn step(&self, step: Step) -> Result<(), JobEnd> {
        self.status.send_modify(|status| {
            status.step = Some(step);
            status.text = step.text().to_owned();
            (status.done, status.total) = (0, 0);
        });
        if self.stop.load(Ordering::Relaxed) { Err(JobEnd::Cancelled) } else { Ok(()) }
    }

    /// So much of the step is done.
    pub fn done(&self, done: usize, total: usize) {
        self.status.send_modify(|status| (status.done, status.total) = (done, total));
    }

    /// True when the job is to stop.
    pub fn stop(&self) -> &AtomicBool {
        &self.stop
    }
}

impl Jobs {
    /// The jobs whose status is kept in `file`. A job that ran when the program ended was interrupted.
    pub fn new(file: PathBuf) -> Self {
        let kept = fs::read(&file).ok().and_then(|json| serde_json::from_slice::<JobStatus>(&json).ok());
        let status = match kept {
            None => JobStatus::NONE,
            Some(status) if status.is_running() => JobStatus { state: JobState::Interrupted, ..status },
            Some(status) => status,
        };
        Self { status: Arc::new(watch::Sender::new(status)), stop: Arc::default(), file }
    }

    /// The job that runs, or the last one.
    pub fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// Hears of every change.
    pub fn watch(&self) -> watch::Receiver<JobStatus> {
        self.status.subscribe()
    }

    /// Starts a job.
    ///
    /// # Errors
    /// Another one runs.
    pub fn start(
        &self,
        task: Task,
        work: impl FnOnce(&JobProgress) -> Result<(), JobEnd> + Send + 'static,
    ) -> Result<JobStatus, ApiError> {
        let mut busy = false;
        self.status.send_if_modified(|status| {
            busy = status.is_running();
            if !busy {
                let (id, started) = (status.id + 1, Some(Timestamp::now()));
                *status = JobStatus {
                    id,
                    task: Some(task),
                    state: JobState::Running,
                    started,
                    text: STARTING.to_owned(),
                    ..JobStatus::NONE
                };
            }
            !busy
        });
        if busy {
            return Err(ApiError::conflict("busy", "another job is running; wait for its end, or cancel it"));
        }
        self.stop.store(false, Ordering::Relaxed);
        let progress = JobProgress { status: Arc::clone(&self.status), stop: Arc::clone(&self.stop) };
        let file = self.file.clone();
        let started = self.status();
        keep(&file, &started);
        let run = move || {
            let ended = panic::catch_unwind(panic::AssertUnwindSafe(|| work(&progress)));
            let (state, error) = match ended {
                Ok(Ok(())) => (JobState::Done, None),
                Ok(Err(JobEnd::Cancelled)) => (JobState::Cancelled, None),
                Ok(Err(JobEnd::Failed(error))) => (JobState::Failed, Some(error)),
                Err(_) => (JobState::Failed, Some("the job ended by a panic; report this".to_owned())),
            };
            let status =
                JobStatus { state, error, ended: Some(Timestamp::now()), ..progress.status.borrow().clone() };
            keep(&file, &status);
            progress.status.send_replace(status);
        };
        if let Err(error) = thread::Builder::new().name("job".to_owned()).spawn(run) {
            self.status.send_modify(|status| status.state = JobState::Failed);
            return Err(ApiError::internal(&error));
        }
        Ok(started)
    }

    /// Tells the job that runs to stop; gives its status, or none if none runs.
    pub fn cancel(&self) -> Option<JobStatus> {
        let mut found = None;
        self.status.send_if_modified(|status| {
            if !status.is_running() {
                return false;
            }
            self.stop.store(true, Ordering::Relaxed);
            status.state = JobState::Cancelling;
            found = Some(status.clone());
            true
        });
        found
    }
}

/// Writes a status down. Without it a killed job is not called interrupted, and nothing else is lost.
fn keep(file: &std::path::Path, status: &JobStatus) {
    if let Ok(json) = serde_json::to_vec(status) {
        let _ = write_atomically(file, &json);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn end_of(jobs: &Jobs) -> JobStatus {
        while jobs.status().is_running() {
            thread::sleep(Duration::from_millis(5));
        }
        jobs.status()
    }

    #[test]
    fn one_job_runs_at_a_time_and_tells_how_far_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(folder.path().join("job.json"));
        assert_eq!(jobs.status().state, JobState::None);
        assert_eq!(jobs.cancel(), None);
        let (go, wait) = mpsc::channel::<()>();
        let started = jobs
            .start(Task::Train, move |progress| {
                progress.step(Step::Features)?;
                progress.done(3, 7);
                wait.recv().unwrap();
                progress.step(Step::Fitting)
            })
            .unwrap();
        assert_eq!((started.id, started.state, started.task), (1, JobState::Running, Some(Task::Train)));
        assert_eq!(jobs.start(Task::Report, |_| Ok(())).unwrap_err().code, "busy");
        while jobs.status().total == 0 {
            thread::sleep(Duration::from_millis(5));
        }
        let status = jobs.status();
        assert_eq!((status.done, status.total, status.text.as_str()), (3, 7, "computing features"));
        // Another program would call it interrupted.
        assert_eq!(Jobs::new(folder.path().join("job.json")).status().state, JobState::Interrupted);
        assert_eq!(jobs.cancel().unwrap().state, JobState::Cancelling);
        go.send(()).unwrap();
        let ended = end_of(&jobs);
        assert_eq!((ended.state, ended.step), (JobState::Cancelled, Some(Step::Fitting)));
        assert!(ended.ended.is_some());
        assert_eq!(jobs.start(Task::Report, |_| Ok(())).unwrap().id, 2);
        assert_eq!(end_of(&jobs).state, JobState::Done);
        assert_eq!(Jobs::new(folder.path().join("job.json")).status().state, JobState::Done);
    }

    #[test]
    fn failures_are_told_and_panics_end_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(folder.path().join("job.json"));
        jobs.start(Task::Export, |_| Err(JobEnd::Failed("the disk is full".to_owned()))).unwrap();
        assert_eq!(end_of(&jobs).error.as_deref(), Some("the disk is full"));
        jobs.start(Task::Export, |_| panic!("on purpose")).unwrap();
        assert_eq!(end_of(&jobs).state, JobState::Failed);
    }
}
