//! Files to take away: the head, the exported classifier, the features, the report. They are read as fast as the client takes them.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;

use super::api_error::ApiError;
use super::app::Shared;
use super::classify::{HEAD_SUFFIX, TRAINED};
use super::limits::blocking;
use super::query::{Path as UrlPath, query};
use super::teach::download_name;

/// Bytes that are read at a time.
const PART: usize = 1 << 18;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

/// `GET /v1/download/{what}`
pub(super) async fn download(
    State(app): State<Shared>,
    UrlPath(what): UrlPath<String>,
    request: Request,
) -> Result<Response, ApiError> {
    query::<NoQuery>(request.uri())?;
    let teach = app.teach()?;
    let project = download_name(&teach.project);
    let (path, name, kind): (PathBuf, String, &'static str) = match what.as_str() {
        "head" => {
            let head = app.head()?;
            let training = teach.training();
            let path = match (&head.info.file, training) {
                (Some(file), _) => PathBuf::from(file),
                (None, Some(training)) => training.head_path(&teach.project),
                (None, None) => return Err(ApiError::no_head()),
            };
            let name = if head.info.name == TRAINED { &project } else { &head.info.name };
            (path, format!("{name}{HEAD_SUFFIX}"), "application/x-hdf5")
        }
        "onnx" => (teach.export(), format!("{project}.onnx"), "application/octet-stream"),
        "features" => {
            let training = teach.training().ok_or_else(|| not_there("features", "train first"))?;
            let name = training.features_file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (training.features_file.clone(), name, "application/x-hdf5")
        }
        "report" => (teach.report(), format!("{project}-report.html"), "text/html; charset=utf-8"),
        other => {
            let message =
                format!("there is no download {other:?}; there are head, onnx, features and report");
            return Err(ApiError::not_found(message));
        }
    };
    let opened = blocking(move || {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok::<_, io::Error>((file, bytes))
    });
    let (file, bytes) = opened.await?.map_err(|_| match what.as_str() {
        "onnx" => not_there("exported classifier", "POST /v1/export first"),
        "report" => not_there("report", "POST /v1/report first"),
        _ => not_there("file", "train first"),
    })?;
    // The file keeps the content that it has now: what replaces it is another file.
    let parts = stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; PART];
            let read = file.read(&mut part)?;
            part.truncate(read);
            Ok::<_, io::Error>((part, file))
        });
        let (part, file) = read.await.map_err(io::Error::other)??;
        Ok::<_, io::Error>((!part.is_empty()).then(|| (Bytes::from(part), file)))
    });
    let mut response = Response::new(Body::from_stream(parts));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    let disposition =
        format!("attachment; filename=\"{}\"; filename*=UTF-8''{}", ascii(&name), encoded(&name));
    headers
        .extend(HeaderValue::from_str(&disposition).ok().map(|value| (header::CONTENT_DISPOSITION, value)));
    Ok(response)
}

fn not_there(what: &str, remedy: &str) -> ApiError {
    ApiError::conflict("no_result", format!("there is no {what} yet; {remedy}"))
}

/// The name for clients that know ASCII alone.
fn ascii(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// The name as RFC 5987 has it.
fn encoded(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
