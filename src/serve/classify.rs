//! The interface for programs: classify images, give their features, list the heads and choose one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};

use super::api_error::ApiError;
use super::app::{App, Shared};
use super::batcher::ImageFeatures;
use super::body::{Upload, drain, uploads};
use super::limits::blocking;
use super::query::{Path as UrlPath, query};
use super::served_head::{HeadInfo, ServedHead};
use crate::classifier::{AnswerOptions, ClassifyError};
use crate::dataset::InputProblem;
use crate::explain::{AnswerRecord, ImageExplanation};
use crate::extract::FeatureBatch;
use crate::head::Head;
use crate::messages::with_causes;

/// Nearest training images that go with an explanation unless a number is asked for.
const NEAREST: usize = 3;
/// Nearest training images at most.
const MOST_NEAREST: usize = 20;
/// Classes at most.
const MOST_CLASSES: u16 = 1000;
/// What the head of the last training is called until it is saved.
pub(super) const TRAINED: &str = "trained";
/// What the names of files of heads end in.
pub(super) const HEAD_SUFFIX: &str = ".head.h5";

/// What an answer is to hold.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClassifyQuery {
    top: u16,
    coverage: Option<f64>,
    unknown: bool,
    explain: bool,
    neighbors: usize,
}

impl Default for ClassifyQuery {
    fn default() -> Self {
        Self { top: 5, coverage: None, unknown: true, explain: false, neighbors: 0 }
    }
}

impl ClassifyQuery {
    fn check(self, head: &Head) -> Result<Self, ApiError> {
        if self.top == 0 || self.top > MOST_CLASSES {
            return Err(ApiError::bad_request(format!(
                "top is the number of classes to name, 1 to {MOST_CLASSES}"
            )));
        }
        if self.neighbors > MOST_NEAREST {
            let message = format!("neighbors is the number of training images to name, 0 to {MOST_NEAREST}");
            return Err(ApiError::bad_request(message));
        }
        if self.coverage.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
            return Err(ApiError::bad_request("coverage is a share above 0 and below 1, such as 0.95"));
        }
        if self.coverage.is_some() && head.model.conformal.is_none() {
            return Err(ApiError::conflict("no_sets", ClassifyError::NoPredictionSets.to_string()));
        }
        let neighbors = if self.explain && self.neighbors == 0 { NEAREST } else { self.neighbors };
        Ok(Self { neighbors, ..self })
    }
}

/// The answer for one image, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ImageAnswer<T> {
    Answer(T),
    Problem { image: String, error: String },
}

impl<T> From<InputProblem> for ImageAnswer<T> {
    fn from(problem: InputProblem) -> Self {
        Self::Problem { image: problem.name, error: problem.reason }
    }
}

impl ImageAnswer<(AnswerRecord, usize)> {
    fn without_top(self) -> ImageAnswer<AnswerRecord> {
        match self {
            Self::Answer((record, _)) => ImageAnswer::Answer(record),
            Self::Problem { image, error } => ImageAnswer::Problem { image, error },
        }
    }
}

/// Refuses a request none of whose images can be read.
fn some_answer<T>(answers: &[ImageAnswer<T>]) -> Result<(), ApiError> {
    let problems: Vec<String> = answers
        .iter()
        .filter_map(|answer| match answer {
            ImageAnswer::Answer(_) => None,
            ImageAnswer::Problem { image, error } => Some(format!("{image}: {error}")),
        })
        .collect();
    if problems.len() < answers.len() { Ok(()) } else { Err(ApiError::unreadable(problems.join("; "))) }
}

/// The images of a request, and the head that is to answer for them.
async fn images(app: &App, request: Request) -> Result<(Vec<Upload>, super::body::WholeBody), ApiError> {
    let (parts, body) = request.into_parts();
    let body = app.body(&parts.headers, body).await?;
    let images = uploads(&parts.headers, &body, app.limits.images_per_request, true).await?;
    Ok((images, body))
}

/// `POST /v1/classify`
pub(super) async fn classify(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let asked = query::<ClassifyQuery>(request.uri());
    let (images, _body) = images(&app, request).await?;
    let head = app.head()?;
    let asked = asked?.check(&head.head)?;
    let _room = app.admission.images(images.len())?;
    let answers = app.in_time(async {
        let answers = images.iter().map(|image| answer(&app, &head, image, asked));
        let mut answers = try_join_all(answers).await?;
        if asked.explain {
            // One after the other: a request takes one place in the queue.
            for (image, answer) in images.iter().zip(&mut answers) {
                if let ImageAnswer::Answer((record, top)) = answer {
                    record.explanations = head.explanations.explain(image.bytes.clone(), *top).await?;
                }
            }
        }
        Ok(answers.into_iter().map(ImageAnswer::without_top).collect::<Vec<_>>())
    });
    let answers = answers.await?;
    some_answer(&answers)?;
    Ok(Json(answers).into_response())
}

/// The answer for an image without its explanation, and the most probable class.
async fn answer(
    app: &App,
    served: &Arc<ServedHead>,
    image: &Upload,
    asked: ClassifyQuery,
) -> Result<ImageAnswer<(AnswerRecord, usize)>, ApiError> {
    let options = AnswerOptions { coverage: asked.coverage, unknown: asked.unknown };
    let head = Arc::clone(&served.head);
    let answers = move |found: ImageFeatures| {
        found.map(|batch| {
            let answers = head.answers(batch.features.view(), options);
            answers.map(|answers| (answers, batch)).map_err(|error| with_causes(&error))
        })
    };
    let (answers, batch) = match features(app, served, image, answers).await? {
        Ok(answered) => answered.map_err(failed)?,
        Err(problem) => return Ok(problem.into()),
    };
    let nearest = if asked.neighbors > 0 {
        let served = Arc::clone(served);
        let nearest = app.admission.compute(move || {
            let training = served.training.as_ref()?;
            // The features file may have been replaced or removed meanwhile; the answer is right without it.
            training.features.nearest(batch.features.view(), &batch.sha256, asked.neighbors).ok()
        });
        nearest.await?.unwrap_or_default()
    } else {
        Vec::new()
    };
    let answer = answers.into_iter().next().ok_or_else(|| ApiError::broken("the head"))?;
    let nearest = nearest.into_iter().next().unwrap_or_default();
    let explanation = ImageExplanation { classes: Vec::new(), nearest };
    let (class_names, top) = (&served.head.model.class_names, answer.top());
    let record = AnswerRecord::new(&image.name, answer, explanation, class_names, usize::from(asked.top));
    Ok(ImageAnswer::Answer((record, top)))
}

/// What `then` makes of the features of an image, which goes through the network with those of other requests.
async fn features<T: Send + 'static>(
    app: &App,
    served: &ServedHead,
    image: &Upload,
    then: impl FnOnce(ImageFeatures) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let made = served.batcher.features(&image.name, image.bytes.clone(), then).await.map_err(failed)?;
    app.metrics.images.fetch_add(1, Ordering::Relaxed);
    Ok(made)
}

fn failed(message: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}

#[derive(Debug, Serialize)]
struct FeaturesAnswer {
    network: String,
    layer: String,
    /// Of the features of an image.
    shape: Vec<usize>,
    images: Vec<ImageAnswer<FeatureRow>>,
}

#[derive(Debug, Serialize)]
struct FeatureRow {
    image: String,
    features: Vec<f32>,
}

/// No query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

/// `POST /v1/features`
pub(super) async fn features_of_images(
    State(app): State<Shared>,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = query::<NoQuery>(request.uri());
    let (images, _body) = images(&app, request).await?;
    let head = app.head()?;
    asked?;
    let _room = app.admission.images(images.len())?;
    let found = app.in_time(async {
        Ok(join_all(images.iter().map(|image| features(&app, &head, image, |found| found))).await)
    });
    let row = |(image, found): (&Upload, Result<ImageFeatures, ApiError>)| {
        Ok(match found? {
            Err(problem) => problem.into(),
            Ok(FeatureBatch { features, .. }) => ImageAnswer::Answer(FeatureRow {
                image: image.name.clone(),
                features: features.into_raw_vec_and_offset().0,
            }),
        })
    };
    let rows = images.iter().zip(found.await?).map(row).collect::<Result<Vec<_>, ApiError>>()?;
    some_answer(&rows)?;
    let spec = head.batcher.spec();
    let answer = FeaturesAnswer {
        network: spec.network_name().to_owned(),
        layer: spec.layer.clone(),
        shape: head.batcher.shape().to_vec(),
        images: rows,
    };
    Ok(Json(answer).into_response())
}

#[derive(Debug, Serialize)]
struct HeadList {
    current: Option<String>,
    heads: Vec<HeadInfo>,
}

/// `GET /v1/heads`
pub(super) async fn heads(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<NoQuery>(request.uri())?;
    let current = app.loaded_head();
    let shared = Arc::clone(&app);
    let saved = blocking(move || saved_heads(&shared)).await?;
    let mut heads: Vec<HeadInfo> = Vec::new();
    // The one that answers may lie elsewhere, or not be saved.
    if let Some(current) = &current {
        heads.push(current.info.clone());
    }
    if let Some(teach) = &app.teach
        && let Some(training) = teach.training().filter(|training| training.result.head.saved_as.is_none())
        && heads.iter().all(|known| known.name != TRAINED)
    {
        let file = training.head_path(&teach.project);
        let head = blocking(move || Head::load(&file)).await?;
        heads.extend(
            head.ok().map(|head| HeadInfo::new(TRAINED, None, &head, training.features_file.exists())),
        );
    }
    for (name, file, head) in saved {
        if heads.iter().all(|known| known.name != name) {
            heads.push(HeadInfo::new(
                &name,
                Some(&file),
                &head,
                Path::new(&head.provenance.features_file).exists(),
            ));
        }
    }
    let current = current.map(|current| current.info.name.clone());
    Ok(Json(HeadList { current, heads }).into_response())
}

/// The heads in the models folder, without those that cannot be read.
fn saved_heads(app: &App) -> Vec<(String, PathBuf, Head)> {
    let mut files: Vec<(String, PathBuf)> = fs::read_dir(&app.opener.models.path)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let stem =
                name.strip_suffix(HEAD_SUFFIX).filter(|stem| !stem.is_empty() && !stem.starts_with('.'))?;
            Some((stem.to_owned(), entry.path()))
        })
        .collect();
    files.sort();
    files.into_iter().filter_map(|(name, path)| Some((name, path.clone(), Head::load(&path).ok()?))).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadChoice {
    name: String,
}

/// `PUT /v1/heads/current`
pub(super) async fn choose_head(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let HeadChoice { name } = app.json(&parts.headers, body).await?;
    let shared = Arc::clone(&app);
    let served = blocking(move || open_named(&shared, &name)).await??;
    let info = served.info.clone();
    if let Some(teach) = &app.teach {
        teach.forget_files();
    }
    app.set_head(served);
    Ok(Json(info).into_response())
}

fn open_named(app: &App, name: &str) -> Result<ServedHead, ApiError> {
    let before = app.loaded_head();
    let open = |file: &Path, saved: Option<&Path>| {
        app.opener.open(name, file, saved, before.as_deref()).map_err(|error| {
            ApiError::conflict("conflict", format!("the head {name} cannot be used: {}", with_causes(&error)))
        })
    };
    if name == TRAINED
        && let Some(teach) = &app.teach
        && let Some(training) = teach.training()
    {
        return open(&training.head_path(&teach.project), None);
    }
    // Only names of files that are there count, so that no name leads elsewhere.
    match saved_heads(app).into_iter().find(|(known, ..)| known == name) {
        Some((_, file, _)) => open(&file, Some(&file)),
        None => Err(ApiError::not_found(format!(
            "there is no head {name:?} in {}; GET /v1/heads lists them",
            app.opener.models.path.display()
        ))),
    }
}

/// How large a picture is to be.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PictureQuery {
    size: u32,
}

impl Default for PictureQuery {
    fn default() -> Self {
        Self { size: 176 }
    }
}

impl PictureQuery {
    pub fn side(&self) -> Result<u32, ApiError> {
        match self.size {
            side @ 16..=1600 => Ok(side),
            _ => Err(ApiError::bad_request("size is the longer side of the picture in pixels, 16 to 1600")),
        }
    }
}

/// `GET /v1/training-images/{name}`
pub(super) async fn training_image(
    State(app): State<Shared>,
    UrlPath(name): UrlPath<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let side = query::<PictureQuery>(request.uri())?.side()?;
    let head = app.head()?;
    let path = head.training.as_ref().and_then(|training| training.path(&name));
    let path = path.ok_or_else(|| {
        ApiError::not_found(format!(
            "the head was not fitted to an image {name:?}, or its features are not there"
        ))
    })?;
    picture(&app, path, side).await
}

/// The photo at `path` as a small JPEG.
pub(super) async fn picture(app: &Shared, path: PathBuf, side: u32) -> Result<Response, ApiError> {
    let shared = Arc::clone(app);
    let made = app.admission.compute(move || shared.thumbnails.of_file(&path, side, shared.limits.pixels));
    let jpeg: Bytes = app.in_time(made).await??;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))], jpeg).into_response())
}

/// Nothing is at this address.
pub(super) async fn nothing_here(State(app): State<Shared>, request: Request) -> ApiError {
    let path = request.uri().path().to_owned();
    drain(request.into_body(), &app.limits);
    ApiError::not_found(format!("there is nothing at {path}; GET /openapi.json lists what there is"))
}

/// The address does not take this method.
pub(super) async fn not_allowed(State(app): State<Shared>, request: Request) -> ApiError {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    drain(request.into_body(), &app.limits);
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{path} does not take {method}; GET /openapi.json lists what it takes"),
    )
}
