//! Files of web servers: GET, whole or in part. Their addresses keep their queries, and one client serves all hosts.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, RANGE};
use reqwest::{Client, Response, StatusCode};

use super::client::innermost;
use super::{Fetched, RemoteError, Version, Wanted};

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        Client::builder()
            .user_agent(concat!("cnncodes/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(30))
            .build()
            .expect("the cryptography was chosen when the runtime was made")
    })
}

/// One try.
pub(super) async fn get(wanted: &Wanted) -> Result<Fetched, RemoteError> {
    let mut request = client().get(&wanted.url);
    if let Some(Range { start, end }) = &wanted.range {
        request = request.header(RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
    }
    // A weak tag never matches in a condition.
    if let Some(etag) = wanted.version.etag.as_deref().filter(|etag| !etag.starts_with("W/")) {
        request = request.header(IF_MATCH, etag);
    }
    let response = answered(&wanted.url, request.send().await)?;
    if wanted.range.is_some() && response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(RemoteError::Unranged { url: RemoteError::shown(&wanted.url) });
    }
    let version = version_of(response.headers());
    let bytes = response.bytes().await.map_err(|error| unreachable(&wanted.url, &error))?;
    Ok(Fetched { bytes, version })
}

/// One try. The first byte is read, because an address that was signed for GET is good for nothing else.
pub(super) async fn head(url: &str) -> Result<Version, RemoteError> {
    let wanted = Wanted { url: url.to_owned(), range: Some(0..1), version: Version::default() };
    Ok(get(&wanted).await?.version)
}

/// The answer, if it is one that is of use.
fn answered(url: &str, response: Result<Response, reqwest::Error>) -> Result<Response, RemoteError> {
    let response = match response {
        Err(error) if error.is_builder() || error.is_redirect() => {
            return Err(RemoteError::Address { url: RemoteError::shown(url), why: innermost(&error) });
        }
        response => response.map_err(|error| unreachable(url, &error))?,
    };
    let (status, url) = (response.status(), RemoteError::shown(url));
    let why = status.to_string();
    Err(match status.as_u16() {
        200..300 => return Ok(response),
        404 | 410 => RemoteError::NotFound { url },
        401 | 403 => RemoteError::Denied { url, why },
        412 | 416 => RemoteError::Changed { url },
        408 | 425 | 429 | 500.. => RemoteError::Unreachable { url, why },
        _ => RemoteError::Refused { url, why },
    })
}

fn unreachable(url: &str, error: &reqwest::Error) -> RemoteError {
    RemoteError::Unreachable { url: RemoteError::shown(url), why: innermost(error) }
}

/// What the headers say of the whole file.
fn version_of(headers: &HeaderMap) -> Version {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let size = match text(CONTENT_RANGE) {
        Some(range) => range.rsplit_once('/').map(|(_, size)| size),
        None => text(CONTENT_LENGTH),
    };
    Version { size: size.and_then(|size| size.parse().ok()), etag: text(ETAG).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn the_size_of_a_file_is_that_of_the_whole() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
        headers.insert(ETAG, HeaderValue::from_static("\"x\""));
        assert_eq!(version_of(&headers), Version { size: Some(3), etag: Some("\"x\"".to_owned()) });
        headers.insert(CONTENT_RANGE, HeaderValue::from_static("bytes 2-4/1000"));
        assert_eq!(version_of(&headers).size, Some(1000));
        headers.insert(CONTENT_RANGE, HeaderValue::from_static("bytes 2-4/*"));
        assert_eq!(version_of(&headers).size, None);
    }
}
