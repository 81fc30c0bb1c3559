//! Downloading a file over HTTP(S), completely or not at all.
//!
//! Bytes gather in a sibling `.part` file. An interrupted download resumes by a range request, in this run or the next, if
//! the server says that it is still the same file. Only a file with the right length and checksum can be put into place, by
//! a rename. Readers of the target see the old file or the whole new one. [`HubPull`] and [`ZooPull`] bring a network into
//! the models folder.

mod error;
mod hub;
mod partial_file;
mod pull;
mod zoo_pull;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

pub use error::FetchError;
pub use hub::{Hub, HubError, HubFile, HubReference, HubRepository};
use partial_file::{PartialFile, RemoteVersion};
pub use pull::{HubPull, PullError, PullEvent};
pub use zoo_pull::{ZooPull, ZooPullEvent};

/// How often a server may send us elsewhere.
const MAX_REDIRECTS: u32 = 5;

/// What to download, and what is known about it.
#[derive(Debug, Clone)]
pub struct Download<'a> {
    /// Where the file is.
    pub url: &'a str,
    /// Where the file is to be; its folder must exist.
    pub target: &'a Path,
    /// Its size in bytes, where known beforehand.
    pub size: Option<u64>,
    /// Its SHA-256 in hexadecimal digits, where known beforehand.
    pub sha256: Option<&'a str>,
    /// When to try again, and when to give up.
    pub retry: RetryPolicy,
    /// What the server wants to be told before it serves the file (`Authorization: Bearer`); no other server is told.
    pub token: Option<&'a str>,
}

/// How long and how often to try.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Requests in all, at least 1.
    pub attempts: u32,
    /// Pause before the second request; it doubles each time.
    pub pause: Duration,
    /// Longest wait for a connection, and for any next bytes.
    pub silence: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { attempts: 4, pause: Duration::from_secs(1), silence: Duration::from_secs(30) }
    }
}

/// A file that is here completely, with the right length and checksum, but not in its place yet.
#[derive(Debug)]
pub struct Fetched {
    part: PartialFile,
    target: PathBuf,
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
}

impl Fetched {
    /// Where the file lies until it is placed.
    pub fn path(&self) -> &Path {
        self.part.path()
    }

    /// Puts the file into its place, instead of what is there.
    ///
    /// # Errors
    /// The file cannot be renamed; what was there before is then untouched.
    pub fn place(self) -> Result<(), FetchError> {
        self.part.place(&self.target)
    }

    /// Removes the file, because it turned out to be of no use.
    pub fn discard(self) {
        self.part.discard();
    }
}

/// Downloads a file to a sibling of its target, for [`Fetched::place`] to put into place.
///
/// `progress` is told the bytes that are here and, where known, the bytes in all.
///
/// # Errors
/// The server cannot be reached, has no such file, breaks off time and again, or serves a file of another length or
/// checksum, which is then removed; or the disk does not take it. The target is untouched in every case.
pub fn download(
    wanted: &Download<'_>,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Fetched, FetchError> {
    let agent = agent(wanted.url, &wanted.retry)?;
    let mut part = PartialFile::open(wanted.target)?;
    let mut attempt = 1;
    loop {
        match request(&agent, wanted, &mut part, attempt, progress) {
            Ok(()) => break,
            Err(error) if error.is_transient() && attempt < wanted.retry.attempts => {
                // The exponent is capped: nobody waits longer than 32 pauses.
                std::thread::sleep(wanted.retry.pause * 2_u32.pow((attempt - 1).min(5)));
                attempt += 1;
            }
            Err(error) => {
                if part.length() == 0 || matches!(error, FetchError::WrongLength { .. }) {
                    part.discard();
                }
                return Err(error);
            }
        }
    }
    verify(wanted, part)
}

/// The client: no proxy to this machine itself, and never from HTTPS to plain HTTP.
fn agent(url: &str, retry: &RetryPolicy) -> Result<Agent, FetchError> {
    let bad_url = || FetchError::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| bad_url())?;
    let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(bad_url());
    };
    let silence = Some(retry.silence);
    let mut config = Agent::config_builder()
        .https_only(scheme == "https")
        .http_status_as_error(false)
        .max_redirects(MAX_REDIRECTS)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .user_agent(concat!("cnncodes/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(silence)
        .timeout_connect(silence)
        .timeout_recv_response(silence)
        .timeout_per_read(silence);
    if matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
        config = config.proxy(None);
    }
    Ok(config.build().new_agent())
}

/// One request: the rest of the file where its beginning is here, else all of it.
fn request(
    agent: &Agent,
    wanted: &Download<'_>,
    part: &mut PartialFile,
    attempt: u32,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), FetchError> {
    let url = wanted.url;
    let unreachable = |source| match source {
        ureq::Error::TooManyRedirects => FetchError::Redirects { url: url.to_owned(), limit: MAX_REDIRECTS },
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => FetchError::Url { url: url.to_owned() },
        source => FetchError::Unreachable { url: url.to_owned(), attempts: attempt, source: source.into() },
    };
    // A compressed transfer would have a length of its own.
    let get = || {
        let get = agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        match wanted.token {
            Some(token) => get.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => get,
        }
    };
    let mut response = None;
    if let Some(version) = part.resumable(url) {
        if version.length == Some(part.length()) {
            return Ok(());
        }
        let rest = get()
            .header(header::RANGE, format!("bytes={}-", part.length()))
            .header(header::IF_RANGE, version.validator().unwrap_or_default())
            .call()
            .map_err(unreachable)?;
        let refused = rest.status() == StatusCode::RANGE_NOT_SATISFIABLE;
        if refused
            || rest.status() == StatusCode::PARTIAL_CONTENT && !continues(&rest, version, part.length())
        {
            part.forget();
        } else {
            response = Some(rest);
        }
    }
    let response = match response {
        Some(response) => response,
        None => get().call().map_err(unreachable)?,
    };
    let total = match response.status() {
        StatusCode::PARTIAL_CONTENT => part.resumable(url).and_then(|version| version.length),
        StatusCode::OK => {
            let version = version_of(url, &response);
            if version.length.is_none()
                && wanted.sha256.is_none()
                && wanted.size.is_none()
                && !ends_itself(&response)
            {
                return Err(FetchError::UnknownLength { url: url.to_owned() });
            }
            let length = version.length;
            part.restart(version)?;
            length
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            return Err(FetchError::NotFound { url: url.to_owned(), status: response.status().as_u16() });
        }
        status => return Err(FetchError::Status { url: url.to_owned(), status: status.as_u16() }),
    };
    if let (Some(expected), Some(found)) = (wanted.size, total)
        && expected != found
    {
        return Err(FetchError::WrongLength { url: url.to_owned(), expected, found });
    }
    receive(wanted, response, part, total.or(wanted.size), attempt, progress)
}

/// Moves the body into the partial file.
fn receive(
    wanted: &Download<'_>,
    response: Response<Body>,
    part: &mut PartialFile,
    total: Option<u64>,
    attempt: u32,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), FetchError> {
    let broke_off = |got, source| FetchError::BrokeOff {
        url: wanted.url.to_owned(),
        got,
        total,
        attempts: attempt,
        source,
    };
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    progress(part.length(), total);
    loop {
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => part.append(&buffer[..read])?,
            Err(source) if source.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(broke_off(part.length(), Some(source))),
        }
        progress(part.length(), total);
        if let Some(expected) = wanted.size
            && part.length() > expected
        {
            // Without an announced length only this ends a server's endless answer.
            let found = part.length();
            return Err(FetchError::WrongLength { url: wanted.url.to_owned(), expected, found });
        }
    }
    match total {
        Some(total) if part.length() < total => Err(broke_off(part.length(), None)),
        _ => Ok(()),
    }
}

/// Refuses a file of the wrong length or checksum, and removes it.
fn verify(wanted: &Download<'_>, part: PartialFile) -> Result<Fetched, FetchError> {
    let url = wanted.url.to_owned();
    if let Some(expected) = wanted.size
        && expected != part.length()
    {
        let found = part.length();
        part.discard();
        return Err(FetchError::WrongLength { url, expected, found });
    }
    let sha256 = part.sha256();
    if let Some(expected) = wanted.sha256
        && !expected.eq_ignore_ascii_case(&sha256)
    {
        part.discard();
        return Err(FetchError::WrongChecksum { url, expected: expected.to_lowercase(), found: sha256 });
    }
    Ok(Fetched { part, target: wanted.target.to_path_buf(), sha256 })
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn version_of(url: &str, response: &Response<Body>) -> RemoteVersion {
    RemoteVersion {
        url: url.to_owned(),
        etag: text(response, header::ETAG),
        last_modified: text(response, header::LAST_MODIFIED),
        length: text(response, header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
    }
}

/// Whether the transfer itself marks its end, as chunks do, so that breaking off is noticed without a length.
fn ends_itself(response: &Response<Body>) -> bool {
    text(response, header::TRANSFER_ENCODING).is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
}

/// Whether a partial answer is the rest of `version` from `offset` on, whatever the server made of `If-Range`.
fn continues(response: &Response<Body>, version: &RemoteVersion, offset: u64) -> bool {
    let range = text(response, header::CONTENT_RANGE).unwrap_or_default();
    let Some((first, total)) = content_range(&range) else {
        return false;
    };
    let same_tag = match (&version.etag, text(response, header::ETAG)) {
        (Some(before), Some(now)) => *before == now,
        _ => true,
    };
    first == offset && (version.length.is_none() || version.length == total) && same_tag
}

/// First byte and total of `bytes FIRST-LAST/TOTAL`; no total where it is `*`.
fn content_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _last) = span.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn a_content_range_gives_first_byte_and_total() {
        assert_eq!(content_range("bytes 100-899/900"), Some((100, Some(900))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, None)));
        assert_eq!(content_range("bytes */900"), None);
        assert_eq!(content_range("items 1-2/3"), None);
        assert_eq!(content_range("bytes 1-2/many"), None);
    }
}
