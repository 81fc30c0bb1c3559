//! Which address does what, and what is done with every request: the guard, the headers, the counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use serde::{Deserialize, Serialize};

use super::api_error::ApiError;
use super::app::Shared;
use super::body::drain;
use super::guard::Access;
use super::query::{Path, query};
use super::{classify, downloads, events, openapi, page, teach};

/// What the page may do: load what is ours, show pictures that it has made itself, use the camera. Nobody may show it in a frame.
const CONTENT_POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; script-src 'self'; \
     connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every answer.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(self), microphone=(), geolocation=()"),
];

/// Every address with the method that it takes.
fn routes() -> Vec<(Method, &'static str, MethodRouter<Shared>)> {
    let (read, add) = (Method::GET, Method::POST);
    vec![
        (read.clone(), "/", get(index)),
        (read.clone(), "/page/{*name}", get(page_file)),
        (read.clone(), "/healthz", get(health)),
        (read.clone(), "/metrics", get(metrics)),
        (read.clone(), "/openapi.json", get(openapi::document)),
        (add.clone(), "/v1/session", post(session)),
        (read.clone(), "/v1/status", get(status)),
        (add.clone(), "/v1/classify", post(classify::classify)),
        (add.clone(), "/v1/features", post(classify::features_of_images)),
        (read.clone(), "/v1/heads", get(classify::heads)),
        (add.clone(), "/v1/heads", post(teach::save_head)),
        (Method::PUT, "/v1/heads/current", put(classify::choose_head)),
        (read.clone(), "/v1/training-images/{*name}", get(classify::training_image)),
        (read.clone(), "/v1/project", get(teach::project)),
        (read.clone(), "/v1/photos", get(teach::photos)),
        (add.clone(), "/v1/photos", post(teach::add_photos)),
        (add.clone(), "/v1/photos/move", post(teach::move_photos)),
        (add.clone(), "/v1/photos/remove", post(teach::remove_photos)),
        (read.clone(), "/v1/thumbnails/{*id}", get(teach::thumbnail)),
        (add.clone(), "/v1/classes", post(teach::add_class)),
        (Method::PATCH, "/v1/classes/{name}", patch(teach::rename_class)),
        (Method::DELETE, "/v1/classes/{name}", delete(teach::remove_class)),
        (read.clone(), "/v1/trash", get(teach::trash)),
        (add.clone(), "/v1/trash/restore", post(teach::restore)),
        (add.clone(), "/v1/trash/empty", post(teach::empty_trash)),
        (add.clone(), "/v1/train", post(teach::train)),
        (add.clone(), "/v1/report", post(teach::report)),
        (add, "/v1/export", post(teach::export_head)),
        (read.clone(), "/v1/job", get(teach::job)),
        (Method::DELETE, "/v1/job", delete(teach::cancel_job)),
        (read.clone(), "/v1/events", get(events::events)),
        (read.clone(), "/v1/result", get(teach::result)),
        (read, "/v1/download/{what}", get(downloads::download)),
    ]
}

/// What a request is for. Whatever is not known to be harmless counts as a change.
fn access(method: &Method, path: &str) -> Access {
    match (method, path) {
        (&Method::GET | &Method::HEAD, "/") => Access::Page,
        (&Method::GET | &Method::HEAD, path) if path.starts_with("/page/") => Access::Page,
        (_, "/v1/session") => Access::Session,
        (&Method::GET | &Method::HEAD, _) => Access::Read,
        (&Method::POST, "/v1/classify" | "/v1/features") => Access::Read,
        _ => Access::Change,
    }
}

/// The server's answers.
pub(super) fn router(app: Shared) -> Router {
    let mut router = Router::new();
    for (_, path, method) in routes() {
        router = router.route(path, method);
    }
    router
        .fallback(classify::nothing_here)
        .method_not_allowed_fallback(classify::not_allowed)
        .layer(from_fn_with_state(app.clone(), gate))
        .with_state(app)
}

/// Counts a request while it is answered.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is done with every request.
async fn gate(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let _in_flight = InFlight::new(&app.metrics.in_flight);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let access = access(&method, request.uri().path());
    let mut response = match app.guard.check(&method, request.headers(), access) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            drain(request.into_body(), &app.limits);
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    app.metrics.answered(method.as_str(), &route, response.status().as_u16(), begin.elapsed());
    response
}

/// `GET /`
async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    page::file("", &headers)
}

/// `GET /page/{name}`
async fn page_file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    page::file(&name, &headers)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
}

/// `GET /healthz`
async fn health(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<NoQuery>(request.uri())?;
    if *app.stopping.borrow() {
        let message = "the server is about to end; ask another one";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message));
    }
    Ok(axum::Json(Health { status: "ok" }).into_response())
}

/// `GET /metrics`
async fn metrics(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<NoQuery>(request.uri())?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], app.metrics.text()).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

/// `POST /v1/session`
async fn session(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let Token { token } = app.json(&parts.headers, body).await?;
    let cookie = app.guard.session_cookie(&token)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    teach: bool,
    head: Option<super::served_head::HeadInfo>,
    limits: LimitsInfo,
}

#[derive(Debug, Serialize)]
struct LimitsInfo {
    body_bytes: u64,
    images_per_request: usize,
    pixels: u64,
    seconds: u64,
}

/// `GET /v1/status`
async fn status(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    query::<NoQuery>(request.uri())?;
    let limits = &app.limits;
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        teach: app.teach.is_some(),
        head: app.loaded_head().map(|head| head.info.clone()),
        limits: LimitsInfo {
            body_bytes: limits.body_bytes,
            images_per_request: limits.images_per_request,
            pixels: limits.pixels,
            seconds: limits.time.as_secs(),
        },
    };
    Ok(axum::Json(status).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_harmless_is_a_change() {
        assert_eq!(access(&Method::GET, "/"), Access::Page);
        assert_eq!(access(&Method::GET, "/page/app.js"), Access::Page);
        assert_eq!(access(&Method::POST, "/page/app.js"), Access::Change);
        assert_eq!(access(&Method::GET, "/v1/photos"), Access::Read);
        assert_eq!(access(&Method::POST, "/v1/classify"), Access::Read);
        for (method, path, _) in routes() {
            let harmless = [Method::GET, Method::POST].contains(&method)
                && (method == Method::GET || ["/v1/classify", "/v1/features", "/v1/session"].contains(&path));
            assert_eq!(access(&method, path) == Access::Change, !harmless, "{method} {path}");
        }
    }

    /// The description lists the same addresses and methods as the code.
    #[test]
    fn the_openapi_document_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let mut described = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.push(format!("{} {path}", method.to_uppercase()));
            }
        }
        // A star stands for a part that may hold slashes, which OpenAPI cannot say.
        let of_page = |path: &str| path == "/" || path.starts_with("/page/");
        let mut coded: Vec<String> = routes()
            .iter()
            .filter(|(_, path, _)| !of_page(path))
            .map(|(method, path, _)| format!("{method} {}", path.replace("{*", "{")))
            .collect();
        described.sort();
        coded.sort();
        assert_eq!(described, coded);
    }
}
