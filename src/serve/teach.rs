//! Teaching: classes, photos, the trash, and the jobs that make something of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::api_error::ApiError;
use super::app::{App, Shared, Teach};
use super::body::{Upload, uploads};
use super::classify::{HEAD_SUFFIX, PictureQuery, TRAINED, picture};
use super::job::{JobEnd, JobProgress, JobStatus, Step, Task};
use super::limits::blocking;
use super::project::{Added, ClassSize, Moved, Photo, Project, ProjectError, TrashEntry};
use super::query::{Path as UrlPath, query};
use super::served_head::{HeadInfo, NetworkSource};
use super::training::{StoredTraining, TrainOptions, Trainer, TrainingResult};
use crate::export::{ExportSettings, NetworkOfHead, export};
use crate::files::safe_name;
use crate::head::{Head, HeadKind};
use crate::images::{DecodeOptions, decode};
use crate::images::{ImageFormat, sniff};
use crate::messages::with_causes;

/// Photos of a page at most.
const MOST_LISTED: usize = 1000;
/// Photos of a request that moves or removes some.
const MOST_CHANGED: usize = 10_000;

/// No query, or an empty body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Runs `work`, which may block, on the project.
async fn on_project<T: Send + 'static>(
    app: &Shared,
    work: impl FnOnce(&Teach) -> Result<T, ProjectError> + Send + 'static,
) -> Result<T, ApiError> {
    app.teach()?;
    let app = Arc::clone(app);
    blocking(move || Ok(work(app.teach()?)?)).await?
}

/// As [`on_project`], with work that changes photos or classes.
async fn change<T: Send + 'static>(
    app: &Shared,
    work: impl FnOnce(&Teach) -> Result<T, ProjectError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = on_project(app, move |teach| {
        let done = work(teach);
        // Even where it failed: it may have done a part.
        teach.changed();
        done
    });
    done.await
}

#[derive(Debug, Serialize)]
struct ProjectAnswer {
    name: String,
    folder: String,
    revision: String,
    network: String,
    layer: String,
    kinds: [HeadKind; 3],
    classes: Vec<ClassSize>,
    unlabelled: usize,
    trash: usize,
    trained: bool,
    changed: bool,
}

/// `GET /v1/project`
pub(super) async fn project(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<Nothing>(request.uri())?;
    let answer = on_project(&app, |teach| {
        let listing = teach.project.list()?;
        let training = teach.training();
        let root = teach.project.root();
        Ok(ProjectAnswer {
            name: teach.project.name(),
            folder: fs::canonicalize(root).unwrap_or_else(|_| root.to_owned()).display().to_string(),
            network: teach.network.model.name.clone(),
            layer: teach.network.layer.name.clone(),
            kinds: [HeadKind::Logistic, HeadKind::Svm, HeadKind::Ridge],
            unlabelled: listing.unlabelled,
            trash: teach.project.trash_entries()?.len(),
            trained: training.is_some(),
            changed: training.is_some_and(|training| training.revision != listing.revision),
            classes: listing.classes,
            revision: listing.revision,
        })
    });
    Ok(Json(answer.await?).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PhotosQuery {
    class: Option<String>,
    offset: usize,
    limit: usize,
}

impl Default for PhotosQuery {
    fn default() -> Self {
        Self { class: None, offset: 0, limit: 200 }
    }
}

#[derive(Debug, Serialize)]
struct PhotosAnswer {
    total: usize,
    photos: Vec<Photo>,
}

/// `GET /v1/photos`
pub(super) async fn photos(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let PhotosQuery { class, offset, limit } = query(request.uri())?;
    if limit == 0 || limit > MOST_LISTED {
        return Err(ApiError::bad_request(format!(
            "limit is the number of photos to list, 1 to {MOST_LISTED}"
        )));
    }
    let answer = on_project(&app, move |teach| {
        let listing = teach.project.list()?;
        if let Some(name) = class.as_ref().filter(|name| !name.is_empty())
            && listing.classes.iter().all(|class| class.name != *name)
        {
            return Err(ProjectError::NoClass { name: name.clone() });
        }
        let is_wanted = |photo: &Photo| match class.as_deref() {
            None => true,
            Some("") => photo.class.is_none(),
            Some(class) => photo.class.as_deref() == Some(class),
        };
        let mut photos: Vec<Photo> = listing.photos.into_iter().filter(is_wanted).collect();
        let total = photos.len();
        photos.drain(..offset.min(total));
        photos.truncate(limit);
        Ok(PhotosAnswer { total, photos })
    });
    Ok(Json(answer.await?).into_response())
}

/// `GET /v1/thumbnails/{id}`
pub(super) async fn thumbnail(
    State(app): State<Shared>,
    UrlPath(id): UrlPath<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let side = query::<PictureQuery>(request.uri())?.side()?;
    let path = on_project(&app, move |teach| teach.project.photo(&id)).await?;
    picture(&app, path, side).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassName {
    name: String,
}

/// `POST /v1/classes`
pub(super) async fn add_class(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let ClassName { name } = app.json(&parts.headers, body).await?;
    let class = change(&app, move |teach| teach.project.add_class(&name)).await?;
    Ok((StatusCode::CREATED, Json(class)).into_response())
}

/// `PATCH /v1/classes/{name}`
pub(super) async fn rename_class(
    State(app): State<Shared>,
    UrlPath(from): UrlPath<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let ClassName { name } = app.json(&parts.headers, body).await?;
    let class = change(&app, move |teach| {
        let class = teach.project.rename_class(&from, &name)?;
        teach.rename_in_training(&from, &name);
        Ok(class)
    });
    Ok(Json(class.await?).into_response())
}

#[derive(Debug, Serialize)]
struct Removed {
    removed: Vec<TrashEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<Problem>>,
}

/// A photo with which something could not be done.
#[derive(Debug, Serialize)]
struct Problem {
    name: String,
    reason: String,
}

impl Problem {
    fn of(name: &str, error: &ProjectError) -> Self {
        Self { name: name.to_owned(), reason: with_causes(error) }
    }
}

/// `DELETE /v1/classes/{name}`
pub(super) async fn remove_class(
    State(app): State<Shared>,
    UrlPath(name): UrlPath<String>,
    request: Request,
) -> Result<Response, ApiError> {
    query::<Nothing>(request.uri())?;
    let removed = change(&app, move |teach| teach.project.remove_class(&name)).await?;
    Ok(Json(Removed { removed, problems: None }).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AddQuery {
    class: Option<String>,
}

#[derive(Debug, Serialize)]
struct Duplicate {
    name: String,
    of: String,
}

#[derive(Debug, Serialize)]
struct AddedPhotos {
    added: Vec<Photo>,
    duplicates: Vec<Duplicate>,
    problems: Vec<Problem>,
}

/// `POST /v1/photos`
pub(super) async fn add_photos(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let asked = query::<AddQuery>(&parts.uri);
    let body = app.body(&parts.headers, body).await?;
    let files = uploads(&parts.headers, &body, app.limits.images_per_request, false).await?;
    let class = asked?.class.filter(|class| !class.is_empty());
    app.teach()?;
    let checks = files.iter().map(|file| {
        let (bytes, pixels) = (file.bytes.clone(), app.limits.pixels);
        app.admission.compute(move || readable(&bytes, pixels))
    });
    let checked = app.in_time(async { Ok(join_all(checks).await) }).await?;
    let (mut sound, mut problems): (Vec<(Upload, &'static str)>, _) = (Vec::new(), Vec::new());
    for (file, checked) in files.into_iter().zip(checked) {
        match checked? {
            Ok(extension) => sound.push((file, extension)),
            Err(reason) => problems.push(Problem { name: file.name, reason }),
        }
    }
    let answer = change(&app, move |teach| {
        let photos: Vec<(&str, &str, &[u8])> =
            sound.iter().map(|(file, extension)| (file.name.as_str(), *extension, &file.bytes[..])).collect();
        let (mut added, mut duplicates) = (Vec::new(), Vec::new());
        for (stored, (file, _)) in
            teach.project.add_photos(class.as_deref(), &photos)?.into_iter().zip(&sound)
        {
            match stored {
                Added::Stored(photo) => added.push(photo),
                Added::Duplicate(of) => duplicates.push(Duplicate { name: file.name.clone(), of }),
            }
        }
        Ok(AddedPhotos { added, duplicates, problems })
    });
    Ok(Json(answer.await?).into_response())
}

/// The extension of an image's format, if the whole image can be decoded; else why not.
fn readable(bytes: &[u8], max_pixels: u64) -> Result<&'static str, String> {
    let options = DecodeOptions { max_pixels, ..DecodeOptions::default() };
    decode(bytes, &options).map_err(|error| with_causes(&error))?;
    Ok(match sniff(bytes) {
        Some(ImageFormat::Png) => "png",
        Some(ImageFormat::Gif) => "gif",
        Some(ImageFormat::WebP) => "webp",
        Some(ImageFormat::Bmp) => "bmp",
        Some(ImageFormat::Tiff | ImageFormat::BigTiff) => "tif",
        Some(ImageFormat::Heif) => "heic",
        Some(ImageFormat::Avif) => "avif",
        Some(ImageFormat::JpegXl) => "jxl",
        _ => "jpg",
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveRequest {
    photos: Vec<String>,
    class: Option<String>,
}

#[derive(Debug, Serialize)]
struct MovedPhotos {
    moved: Vec<Moved>,
    problems: Vec<Problem>,
}

fn not_too_many(photos: &[String]) -> Result<(), ApiError> {
    match photos.len() {
        0 => Err(ApiError::bad_request("no photo is named; name at least one")),
        more if more > MOST_CHANGED => {
            Err(ApiError::too_large(format!("more than {MOST_CHANGED} photos are named; name fewer at once")))
        }
        _ => Ok(()),
    }
}

/// Does something with each photo; what fails becomes a problem.
fn each<T>(
    names: &[String],
    mut work: impl FnMut(&str) -> Result<T, ProjectError>,
) -> Result<(Vec<T>, Vec<Problem>), ProjectError> {
    let (mut done, mut problems) = (Vec::new(), Vec::new());
    for name in names {
        match work(name) {
            Ok(one) => done.push(one),
            Err(error @ (ProjectError::NoPhoto { .. } | ProjectError::NoEntry { .. })) => {
                problems.push(Problem::of(name, &error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((done, problems))
}

/// `POST /v1/photos/move`
pub(super) async fn move_photos(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let MoveRequest { photos, class } = app.json(&parts.headers, body).await?;
    not_too_many(&photos)?;
    let answer = change(&app, move |teach| {
        let moved = each(&photos, |id| teach.project.move_photo(id, class.as_deref()));
        moved.map(|(moved, problems)| MovedPhotos { moved, problems })
    });
    Ok(Json(answer.await?).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PhotoList {
    photos: Vec<String>,
}

/// `POST /v1/photos/remove`
pub(super) async fn remove_photos(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let PhotoList { photos } = app.json(&parts.headers, body).await?;
    not_too_many(&photos)?;
    let answer = change(&app, move |teach| {
        let removed = each(&photos, |id| teach.project.remove_photo(id));
        removed.map(|(removed, problems)| Removed { removed, problems: Some(problems) })
    });
    Ok(Json(answer.await?).into_response())
}

#[derive(Debug, Serialize)]
struct Trash {
    entries: Vec<TrashEntry>,
}

/// `GET /v1/trash`
pub(super) async fn trash(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<Nothing>(request.uri())?;
    let entries = on_project(&app, |teach| teach.project.trash_entries()).await?;
    Ok(Json(Trash { entries }).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryList {
    entries: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Restored {
    restored: Vec<TrashEntry>,
    problems: Vec<Problem>,
}

/// `POST /v1/trash/restore`
pub(super) async fn restore(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let EntryList { entries } = app.json(&parts.headers, body).await?;
    not_too_many(&entries)?;
    let answer = change(&app, move |teach| {
        let restored = each(&entries, |entry| teach.project.restore(entry));
        restored.map(|(restored, problems)| Restored { restored, problems })
    });
    Ok(Json(answer.await?).into_response())
}

#[derive(Debug, Serialize)]
struct Emptied {
    removed: usize,
}

/// `POST /v1/trash/empty`
pub(super) async fn empty_trash(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let Nothing {} = app.json(&parts.headers, body).await?;
    let removed = change(&app, |teach| teach.project.empty_trash()).await?;
    Ok(Json(Emptied { removed }).into_response())
}

/// `GET /v1/job`
pub(super) async fn job(State(app): State<Shared>, request: Request) -> Result<Json<JobStatus>, ApiError> {
    query::<Nothing>(request.uri())?;
    Ok(Json(app.teach()?.jobs.status()))
}

/// `DELETE /v1/job`
pub(super) async fn cancel_job(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<Nothing>(request.uri())?;
    let none = || ApiError::conflict("conflict", "no job runs that could be cancelled");
    let status = app.teach()?.jobs.cancel().ok_or_else(none)?;
    Ok((StatusCode::ACCEPTED, Json(status)).into_response())
}

/// Starts a job of the project that works on `app`.
fn start(
    app: &Shared,
    task: Task,
    work: impl FnOnce(&App, &Teach, &JobProgress) -> Result<(), JobEnd> + Send + 'static,
) -> Result<Response, ApiError> {
    let shared = Arc::clone(app);
    let status = app.teach()?.jobs.start(task, move |progress| {
        let failed = |error: ApiError| JobEnd::Failed(error.message);
        work(&shared, shared.teach().map_err(failed)?, progress)
    })?;
    Ok((StatusCode::ACCEPTED, Json(status)).into_response())
}

fn trainer<'a>(app: &'a App, teach: &'a Teach) -> Trainer<'a> {
    let opener = &app.opener;
    Trainer {
        project: &teach.project,
        network: &teach.network,
        extractor: &opener.extractor,
        models: &opener.models,
    }
}

/// `POST /v1/train`
pub(super) async fn train(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let options: TrainOptions = app.json(&parts.headers, body).await?;
    if !(2..=20).contains(&options.folds) {
        return Err(ApiError::bad_request("folds is the number of parts of the cross-validation, 2 to 20"));
    }
    let listing = on_project(&app, |teach| teach.project.list()).await?;
    if listing.classes.iter().filter(|class| class.photos >= 2).count() < 2 {
        return Err(ApiError::conflict(
            "too_few",
            "there is too little to learn from: a training needs two classes with two photos each; add photos",
        ));
    }
    start(&app, Task::Train, move |app, teach, progress| {
        let previous = teach.training();
        let stored = trainer(app, teach).train(options, previous.as_deref(), progress)?;
        let path = stored.head_path(&teach.project);
        teach.forget_files();
        teach.set_training(stored);
        let before = app.loaded_head();
        let served = app.opener.open(TRAINED, &path, None, before.as_deref());
        app.set_head(served.map_err(|error| JobEnd::Failed(with_causes(&error)))?);
        Ok(())
    })
}

fn no_result() -> ApiError {
    ApiError::conflict("no_result", "nothing was trained yet; train first")
}

/// `POST /v1/report`
pub(super) async fn report(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let Nothing {} = app.json(&parts.headers, body).await?;
    let training = app.teach()?.training().ok_or_else(no_result)?;
    start(&app, Task::Report, move |app, teach, progress| {
        trainer(app, teach).report(&training, &teach.report(), progress)
    })
}

/// `POST /v1/export`
pub(super) async fn export_head(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let Nothing {} = app.json(&parts.headers, body).await?;
    app.teach()?;
    let head = app.head()?;
    let NetworkSource::Models(models) = head.network.clone() else {
        return Err(ApiError::conflict(
            "conflict",
            "the head is an exported classifier already; use its file",
        ));
    };
    start(&app, Task::Export, move |_, teach, progress| {
        progress.step(Step::Network)?;
        let failed = |error: &dyn std::error::Error| JobEnd::Failed(with_causes(error));
        let spec = &head.head.provenance.spec;
        let model = spec.model(&models).map_err(|error| failed(&error))?;
        let (graph, layer) = spec.network_of(&model).map_err(|error| failed(&error))?;
        progress.step(Step::Export)?;
        let network = NetworkOfHead { graph: &graph, layer: &layer, licence: model.manifest.note.as_deref() };
        let exported =
            export(&head.head, network, &ExportSettings::default()).map_err(|error| failed(&error))?;
        exported.save(&teach.export(), false).map_err(|error| failed(&error))?;
        Ok(())
    })
}

#[derive(Debug, Serialize)]
struct ResultAnswer<'a> {
    /// Whether the photos have changed since.
    changed: bool,
    #[serde(flatten)]
    result: &'a TrainingResult,
}

/// `GET /v1/result`
pub(super) async fn result(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<Nothing>(request.uri())?;
    let training = app.teach()?.training();
    let training = training.ok_or_else(|| ApiError { status: StatusCode::NOT_FOUND, ..no_result() })?;
    let listing = on_project(&app, |teach| teach.project.list()).await?;
    let changed = listing.revision != training.revision;
    Ok(Json(ResultAnswer { changed, result: &training.result }).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SaveRequest {
    name: String,
    #[serde(default)]
    replace: bool,
}

/// `POST /v1/heads`
pub(super) async fn save_head(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let SaveRequest { name, replace } = app.json(&parts.headers, body).await?;
    let training = app.teach()?.training().ok_or_else(no_result)?;
    if name.is_empty()
        || name.len() > 100
        || name == TRAINED
        || name.starts_with('.')
        || safe_name(&name) != name
    {
        return Err(ApiError::bad_request(format!(
            "{name:?} cannot be the name of a head; use letters, digits, hyphens and underscores, and not {TRAINED:?}"
        )));
    }
    let shared = Arc::clone(&app);
    let info = blocking(move || save(&shared, shared.teach()?, &training, &name, replace)).await??;
    Ok((StatusCode::CREATED, Json(info)).into_response())
}

fn save(
    app: &App,
    teach: &Teach,
    training: &StoredTraining,
    name: &str,
    replace: bool,
) -> Result<HeadInfo, ApiError> {
    let models = &app.opener.models.path;
    let target = models.join(format!("{name}{HEAD_SUFFIX}"));
    if target.exists() && !replace {
        let message = format!("{} exists already; choose another name, or replace it", target.display());
        return Err(ApiError::conflict("conflict", message));
    }
    fs::create_dir_all(models).map_err(|error| ApiError::internal(&error))?;
    let head = Head::load(&training.head_path(&teach.project)).map_err(|error| ApiError::internal(&error))?;
    head.save(&target).map_err(|error| ApiError::internal(&error))?;
    teach.saved_training(training, name);
    // The head that answers is now the saved one, if it was the trained one.
    let mut info =
        HeadInfo::new(name, Some(&target), &head, Path::new(&head.provenance.features_file).exists());
    if let Some(before) = app.loaded_head().filter(|before| *before.head == head) {
        let served = app.opener.open(name, &target, Some(&target), Some(&before));
        let served = served.map_err(|error| ApiError::internal(&error))?;
        info = served.info.clone();
        app.set_head(served);
    }
    Ok(info)
}

impl Teach {
    /// The class has another name: what heads of before took for the old one counts as the new one.
    fn rename_in_training(&self, from: &str, to: &str) {
        if let Some(training) = self.training() {
            let mut training = StoredTraining::clone(&training);
            training.rename_class(from, to);
            self.keep_training(training);
        }
    }

    /// The head of the training has been saved under a name.
    fn saved_training(&self, training: &StoredTraining, name: &str) {
        let mut training = training.clone();
        training.result.head.saved_as = Some(name.to_owned());
        self.keep_training(training);
    }

    fn keep_training(&self, training: StoredTraining) {
        // What cannot be written is known as long as the program runs.
        let _ = training.keep(&self.project);
        self.set_training(training);
    }
}

/// The names of what a project is, for the file names of downloads.
pub(super) fn download_name(project: &Project) -> String {
    safe_name(&project.name())
}
