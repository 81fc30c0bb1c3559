//! Server-sent events: how far the job is, and that photos or results have changed. A page that comes back hears how things stand.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use futures_util::future::select_all;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::api_error::ApiError;
use super::app::Shared;
use super::job::JobStatus;
use super::limits::blocking;
use super::query::query;

/// Time between two events of one kind at least.
const PAUSE: Duration = Duration::from_millis(100);
/// Time between two signs of life.
const ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

#[derive(Serialize)]
struct Revision {
    revision: String,
}

#[derive(Serialize)]
struct Trained {
    trained_at: jiff::Timestamp,
}

/// What has changed.
enum Source {
    Jobs,
    Changes,
    Trainings,
    Stopping,
}

/// What a listener listens to.
struct Listener {
    app: Shared,
    jobs: watch::Receiver<JobStatus>,
    changes: watch::Receiver<u64>,
    trainings: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
}

/// `GET /v1/events`
pub(super) async fn events(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<NoQuery>(request.uri())?;
    let teach = app.teach()?;
    let (mut jobs, mut changes) = (teach.jobs.watch(), teach.changes.subscribe());
    // How things stand is told at once.
    jobs.mark_changed();
    changes.mark_changed();
    let (trainings, stopping) = (teach.trainings.subscribe(), app.stopping.clone());
    let listener = Listener { app: Arc::clone(&app), jobs, changes, trainings, stopping };
    let events = stream::unfold(listener, |mut listener| async {
        let event = listener.next().await?;
        Some((Ok::<Event, Infallible>(event), listener))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

impl Listener {
    /// The next event; none when the server ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if *self.stopping.borrow() {
                return None;
            }
            if self.jobs.has_changed().ok()? {
                let status = self.jobs.borrow_and_update().clone();
                sleep(PAUSE).await;
                return Event::default().event("job").json_data(status).ok();
            }
            if self.trainings.has_changed().ok()? {
                self.trainings.mark_unchanged();
                let training = self.app.teach().ok()?.training();
                if let Some(training) = training {
                    let trained_at = training.result.trained_at;
                    return Event::default().event("result").json_data(Trained { trained_at }).ok();
                }
            }
            if self.changes.has_changed().ok()? {
                self.changes.mark_unchanged();
                sleep(PAUSE).await;
                let app = Arc::clone(&self.app);
                let listing = blocking(move || app.teach().ok().and_then(|teach| teach.project.list().ok()));
                if let Some(listing) = listing.await.ok()? {
                    let revision = Revision { revision: listing.revision };
                    return Event::default().event("project").json_data(revision).ok();
                }
            }
            let (jobs, changes) = (&mut self.jobs, &mut self.changes);
            let (trainings, stopping) = (&mut self.trainings, &mut self.stopping);
            let sources = [
                async { jobs.changed().await.map(|()| Source::Jobs) }.boxed(),
                async { changes.changed().await.map(|()| Source::Changes) }.boxed(),
                async { trainings.changed().await.map(|()| Source::Trainings) }.boxed(),
                async { stopping.changed().await.map(|()| Source::Stopping) }.boxed(),
            ];
            // `changed` marks what it saw as seen.
            let source = select_all(sources).await.0.ok()?;
            match source {
                Source::Jobs => self.jobs.mark_changed(),
                Source::Changes => self.changes.mark_changed(),
                Source::Trainings => self.trainings.mark_changed(),
                Source::Stopping => {}
            }
        }
    }
}
