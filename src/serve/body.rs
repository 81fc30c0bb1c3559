//! Bodies of requests: read within bounds of size, time and speed, and taken apart: images of a form or of the body itself, JSON.
//!
//! A body that is not wanted is read to its end all the same, by a task of its own that keeps nothing: a client that is still
//! sending would otherwise see a broken connection in place of the answer.

use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::{StreamExt, stream};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::api_error::ApiError;
use super::limits::{Admission, Limits};

/// Bytes of a body of JSON at most.
const MOST_JSON: u64 = 4 << 20;

/// How long an unwanted body is read.
const DRAINING: Duration = Duration::from_secs(10);

/// A whole body, and the permit to hold it.
#[derive(Debug)]
pub(super) struct WholeBody {
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A file of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    /// What the client calls it.
    pub name: String,
    pub bytes: Bytes,
}

/// Reads what comes of a body that is not wanted, for a while.
pub(super) fn drain(body: Body, limits: &Limits) {
    let most = limits.body_bytes;
    tokio::spawn(timeout(DRAINING, async move {
        let (mut stream, mut read) = (body.into_data_stream(), 0);
        while let Some(Ok(chunk)) = stream.next().await {
            read += chunk.len() as u64;
            if read > most {
                return;
            }
        }
    }));
}

/// Reads a whole body.
///
/// # Errors
/// It is larger or slower than the limits allow, breaks off, or there is no room for it.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    admission: &Admission,
) -> Result<WholeBody, ApiError> {
    read_at_most(headers, body, limits.body_bytes, limits, admission).await
}

async fn read_at_most(
    headers: &HeaderMap,
    body: Body,
    most: u64,
    limits: &Limits,
    admission: &Admission,
) -> Result<WholeBody, ApiError> {
    let too_large = || {
        ApiError::too_large(format!(
            "the request's body has more than {most} bytes; send fewer or smaller files at once"
        ))
    };
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > most) {
        drain(body, limits);
        return Err(too_large());
    }
    let room = match admission.body(announced.unwrap_or(most)) {
        Ok(room) => room,
        Err(error) => {
            drain(body, limits);
            return Err(error);
        }
    };
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::with_capacity(announced.map_or(0, |announced| announced.min(most) as usize));
    let begin = Instant::now();
    loop {
        let enough = limits.body_time + Duration::from_secs(bytes.len() as u64 / limits.body_speed.max(1));
        let left = enough.saturating_sub(begin.elapsed()).min(limits.body_time);
        match timeout(left, stream.next()).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => return Ok(WholeBody { bytes: bytes.into(), _room: room }),
            Ok(Some(Err(_))) => {
                return Err(ApiError::bad_request("the request's body breaks off; send it again"));
            }
            Ok(Some(Ok(chunk))) if (bytes.len() + chunk.len()) as u64 > most => {
                drain_rest(stream, limits);
                return Err(too_large());
            }
            Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
        }
    }
}

fn drain_rest(stream: BodyDataStream, limits: &Limits) {
    drain(Body::from_stream(stream), limits);
}

fn too_slow() -> ApiError {
    let message = "the request's body comes too slowly; send fewer files at once, or use a faster connection";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
}

/// Reads a body of JSON.
///
/// # Errors
/// As [`read`], or it is not the JSON that is wanted.
pub(super) async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    admission: &Admission,
) -> Result<T, ApiError> {
    let kind = content_type(headers);
    if kind != "application/json" {
        drain(body, limits);
        return Err(unsupported(format!(
            "the body is {}; send application/json",
            if kind.is_empty() { "of no type" } else { kind }
        )));
    }
    let body = read_at_most(headers, body, MOST_JSON, limits, admission).await?;
    let object = serde_json::from_slice::<Map<String, Value>>(&body.bytes);
    // Through an object, because an array of the fields' values would do as well.
    object
        .and_then(|object| serde_json::from_value(Value::Object(object)))
        .map_err(|error| ApiError::bad_request(format!("the body is not the JSON that is expected: {error}")))
}

/// The media type of the body, without parameters.
fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn unsupported(message: String) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
}

/// The files of a body, at most `most`: those of a form, or the body itself if it is an image and `raw` is allowed.
///
/// # Errors
/// The body is no form of files, or holds too many or none.
pub(super) async fn uploads(
    headers: &HeaderMap,
    body: &WholeBody,
    most: usize,
    raw: bool,
) -> Result<Vec<Upload>, ApiError> {
    let kind = content_type(headers);
    if raw && (kind.starts_with("image/") || kind == "application/octet-stream") {
        if body.bytes.is_empty() {
            return Err(ApiError::bad_request("the body is empty; send the bytes of an image"));
        }
        return Ok(vec![Upload { name: "image".to_owned(), bytes: body.bytes.clone() }]);
    }
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        let or =
            if raw { ", or the bytes of one image as image/jpeg or application/octet-stream" } else { "" };
        return Err(unsupported(format!("send the images as the files of multipart/form-data{or}")));
    }
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(given)
        .map_err(|_| ApiError::bad_request("the content type multipart/form-data lacks its boundary"))?;
    let bytes = body.bytes.clone();
    let whole = stream::once(async move { Ok::<Bytes, std::convert::Infallible>(bytes) });
    let mut form = multer::Multipart::new(whole, boundary);
    let damaged = |_: multer::Error| {
        ApiError::bad_request("the form (multipart/form-data) is damaged or breaks off; send it again")
    };
    let mut files = Vec::new();
    while let Some(field) = form.next_field().await.map_err(damaged)? {
        let Some(name) = field.file_name().map(str::to_owned) else { continue };
        if files.len() == most {
            return Err(ApiError::too_large(format!(
                "the form holds more than {most} files; send fewer at once"
            )));
        }
        files.push(Upload { name, bytes: field.bytes().await.map_err(damaged)? });
    }
    if files.is_empty() {
        return Err(ApiError::bad_request(
            "the form holds no file; send each image as a part with a file name",
        ));
    }
    Ok(files)
}
