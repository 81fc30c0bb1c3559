//! The page: the files of src/serve/page, which build.rs lists and which are embedded. They hold no data of anybody.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use sha2::{Digest as _, Sha256};

use super::api_error::ApiError;

/// Names and bytes.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

/// The name of the page itself.
const INDEX: &str = "index.html";

struct PageFile {
    bytes: &'static [u8],
    kind: &'static str,
    tag: HeaderValue,
}

static BY_NAME: LazyLock<BTreeMap<&str, PageFile>> = LazyLock::new(|| {
    let described = FILES.iter().filter_map(|&(name, bytes)| {
        let digest = Sha256::digest(bytes)[..12].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let tag = HeaderValue::from_str(&format!("\"{digest}\"")).ok()?;
        Some((name, PageFile { bytes, kind: media_type(name)?, tag }))
    });
    described.collect()
});

/// The media type of a file of the page; none of a file that is none.
fn media_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    })
}

/// What a developer build reads instead of what is embedded, so that a changed page needs no new build: the same files in the folder
/// that the environment variable CNNCODES_PAGE names.
fn from_folder(name: &str) -> Option<Response> {
    let folder = std::env::var_os("CNNCODES_PAGE").filter(|_| cfg!(debug_assertions))?;
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
    let bytes = std::fs::read(name.split('/').all(is_plain).then(|| Path::new(&folder).join(name))?).ok()?;
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(name)?));
    Some(response)
}

/// The file of this name, or the page without one; nothing new for a client that has it.
pub(super) fn file(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let name = if name.is_empty() { INDEX } else { name };
    if let Some(response) = from_folder(name) {
        return Ok(response);
    }
    let file = BY_NAME.get(name);
    let file = file
        .ok_or_else(|| ApiError::not_found(format!("the page has no file {name:?}; open / for the page")))?;
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known =
        known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == file.tag);
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(file.bytes) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::ETAG, file.tag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_has_a_type_and_the_index_is_the_page() {
        let untyped: Vec<&str> =
            FILES.iter().map(|file| file.0).filter(|name| media_type(name).is_none()).collect();
        assert_eq!(untyped, Vec::<&str>::new());
        let index = file("", &HeaderMap::new()).unwrap();
        assert_eq!(index.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(file("../mod.rs", &HeaderMap::new()).unwrap_err().status, 404);
        let tag = index.headers()[header::ETAG].clone();
        let again = file(INDEX, &[(header::IF_NONE_MATCH, tag)].into_iter().collect()).unwrap();
        assert_eq!(again.status(), 304);
    }
}
