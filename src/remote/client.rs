//! Requests, tried again until they are answered in full, and the few threads that wait for the answers.

use std::error::Error as StdError;
use std::future::Future;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::client::HttpError;
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectStore};
use rand::Rng;
use tokio::runtime::Runtime;

use super::credentials;
use super::stores::{self, Purpose};
use super::url::{RemoteUrl, Scheme};
use super::{Fetched, Listed, RemoteError, Version, Wanted, web};

/// Threads that wait for answers. They copy and decrypt; nothing is computed in them.
const THREADS: usize = 2;
/// How long a request is tried again, unless [`RETRY_VARIABLE`] says otherwise.
const RETRY: Duration = Duration::from_secs(180);
/// Names the seconds that a request is tried again.
const RETRY_VARIABLE: &str = "CNNCODES_RETRY_SECONDS";
/// The first pause between two tries, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long a request is tried again.
pub(super) fn retry_time() -> Duration {
    static TIME: OnceLock<Duration> = OnceLock::new();
    *TIME.get_or_init(|| {
        let seconds = std::env::var(RETRY_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
        seconds.map_or(RETRY, Duration::from_secs)
    })
}

pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        // Fails where the program that this library is a part of has chosen one, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("object-store")
            .enable_all()
            .build()
            .expect("the system gives a process two more threads and a queue of events")
    })
}

/// Reads what is wanted, and waits for it.
///
/// # Errors
/// It is not there, is not what it was, may not be read, or did not come in full in any try.
pub(crate) fn get(wanted: &Wanted) -> Result<Fetched, RemoteError> {
    runtime().block_on(fetch(wanted))
}

/// Reads what is wanted, and calls `done` with it, in another thread; it must not wait for anything.
pub(crate) fn get_in_background(
    wanted: Wanted,
    done: impl FnOnce(Result<Fetched, RemoteError>) + Send + 'static,
) {
    runtime().spawn(async move { done(fetch(&wanted).await) });
}

/// Whether an object at the address can be asked for, as far as that can be known without asking.
///
/// # Errors
/// It is no address, or the environment lacks what lets a user in.
pub(crate) fn check(url: &str) -> Result<(), RemoteError> {
    let place = parsed(url)?;
    if place.scheme != Scheme::Web {
        let _entered = runtime().enter();
        stores::of(&place, Purpose::Read)?;
    }
    Ok(())
}

/// What an object is, without reading it.
///
/// # Errors
/// As [`get`].
pub(crate) fn head(url: &str) -> Result<Version, RemoteError> {
    let wanted = Wanted { url: url.to_owned(), range: None, version: Version::default() };
    let options = || GetOptions { head: true, ..GetOptions::default() };
    runtime().block_on(persist(|| async {
        let place = parsed(url)?;
        if place.scheme == Scheme::Web {
            return web::head(url).await;
        }
        let store = stores::of(&place, Purpose::Read)?;
        let found = store.get_opts(&key(&place)?, options()).await;
        let found = found.map_err(|error| failure(&wanted, error))?;
        Ok(Version { size: Some(found.meta.size), etag: found.meta.e_tag })
    }))
}

/// Gives every object whose key begins with that of `prefix`, which ends at the end of a folder's name, in the order of keys.
///
/// # Errors
/// The bucket cannot be listed.
pub(crate) fn list(prefix: &str, found: &mut dyn FnMut(Listed)) -> Result<(), RemoteError> {
    /// Keys that a store sends at once.
    const PAGE: usize = 1000;
    let place = parsed(prefix)?;
    let wanted = Wanted { url: prefix.to_owned(), range: None, version: Version::default() };
    if place.scheme == Scheme::Web {
        let why =
            "web servers do not list their files; name each of them, as in https://HOST/a-{000..099}.tar";
        return Err(RemoteError::Address { url: RemoteError::shown(prefix), why: why.to_owned() });
    }
    let runtime = runtime();
    // A store may need the runtime when it is made.
    let _entered = runtime.enter();
    let store = stores::of(&place, Purpose::Read)?;
    let below = key(&place)?;
    let mut last: Option<Key> = None;
    let mut pauses = Pauses::begin();
    loop {
        let objects = match &last {
            None => store.list(Some(&below)),
            Some(last) => store.list_with_offset(Some(&below), last),
        };
        let mut pages = objects.ready_chunks(PAGE);
        let failed = loop {
            let Some(page) = runtime.block_on(pages.next()) else { return Ok(()) };
            let mut failed = None;
            for object in page {
                match object {
                    Ok(object) => {
                        let version = Version { size: Some(object.size), etag: object.e_tag };
                        found(Listed { key: object.location.as_ref().to_owned(), version });
                        last = Some(object.location);
                        pauses = Pauses::begin();
                    }
                    Err(error) => failed = Some(failure(&wanted, error)),
                }
            }
            if let Some(failed) = failed {
                break failed;
            }
        };
        match pauses.next().filter(|_| failed.is_of_transport()) {
            Some(pause) => std::thread::sleep(pause),
            None => return Err(failed),
        }
    }
}

/// The pauses between tries, as long as there is time for further ones.
struct Pauses {
    start: Instant,
    pause: Duration,
}

impl Pauses {
    fn begin() -> Self {
        Self { start: Instant::now(), pause: PAUSES.0 }
    }

    fn next(&mut self) -> Option<Duration> {
        if self.start.elapsed() + self.pause >= retry_time() {
            return None;
        }
        // Many requests that failed together shall not come together again.
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.0));
        self.pause = (self.pause * 2).min(PAUSES.1);
        Some(pause)
    }
}

/// Reads what is wanted, in as many tries as there is time for.
async fn fetch(wanted: &Wanted) -> Result<Fetched, RemoteError> {
    if wanted.range.as_ref().is_some_and(Range::is_empty) {
        // Nobody can be asked for nothing.
        return Ok(Fetched { bytes: Bytes::new(), version: wanted.version.clone() });
    }
    persist(|| async {
        let fetched = fetch_once(wanted).await?;
        verify(wanted, &fetched)?;
        Ok(fetched)
    })
    .await
}

/// Does something until it succeeds, fails for the object's sake, or time is up.
pub(super) async fn persist<T, F: Future<Output = Result<T, RemoteError>>>(
    attempt: impl Fn() -> F,
) -> Result<T, RemoteError> {
    let mut pauses = Pauses::begin();
    loop {
        let outcome = attempt().await;
        let is_of_transport = outcome.as_ref().is_err_and(RemoteError::is_of_transport);
        match pauses.next().filter(|_| is_of_transport) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return outcome,
        }
    }
}

async fn fetch_once(wanted: &Wanted) -> Result<Fetched, RemoteError> {
    let place = parsed(&wanted.url)?;
    if place.scheme == Scheme::Web {
        return web::get(wanted).await;
    }
    let store = stores::of(&place, Purpose::Read)?;
    let options = GetOptions {
        range: wanted.range.clone().map(Into::into),
        if_match: wanted.version.etag.clone(),
        ..GetOptions::default()
    };
    let failed = |error| failure(wanted, error);
    let found = store.get_opts(&key(&place)?, options).await.map_err(failed)?;
    let version = Version { size: Some(found.meta.size), etag: found.meta.e_tag.clone() };
    let bytes = found.bytes().await.map_err(failed)?;
    Ok(Fetched { bytes, version })
}

/// Makes sure that what came is what was asked for.
fn verify(wanted: &Wanted, fetched: &Fetched) -> Result<(), RemoteError> {
    let Version { size, etag } = &wanted.version;
    let url = || RemoteError::shown(&wanted.url);
    if let (Some(listed), Some(found)) = (etag, &fetched.version.etag)
        && listed != found
    {
        // A store that does not know If-Match.
        return Err(RemoteError::Changed { url: url() });
    }
    let expected = match &wanted.range {
        Some(Range { start, end }) => Some(end - start),
        None => size.or(fetched.version.size),
    };
    let came = fetched.bytes.len() as u64;
    match expected {
        Some(expected)
            if expected != came
                && etag.is_none()
                && wanted.range.is_none()
                && fetched.version.size == Some(came) =>
        {
            Err(RemoteError::Changed { url: url() })
        }
        Some(expected) if expected != came => {
            Err(RemoteError::Unreachable { url: url(), why: format!("{came} of {expected} bytes came") })
        }
        _ => Ok(()),
    }
}

pub(super) fn parsed(url: &str) -> Result<RemoteUrl<'_>, RemoteError> {
    let unknown = || {
        RemoteError::Address {
        url: url.to_owned(),
        why: "it names no bucket; expected s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY or https://HOST/PATH".to_owned(),
    }
    };
    RemoteUrl::parse(url).ok_or_else(unknown)
}

/// The object's key as the store's client wants it.
pub(super) fn key(place: &RemoteUrl<'_>) -> Result<Key, RemoteError> {
    Key::parse(place.key).map_err(|error| RemoteError::Address {
        url: place.text.to_owned(),
        why: format!("its key cannot be used ({})", innermost(&error)),
    })
}

/// What a failed request means.
pub(super) fn failure(wanted: &Wanted, error: object_store::Error) -> RemoteError {
    let url = RemoteError::shown(&wanted.url);
    let why = innermost(&error);
    match error {
        // A read tells of a missing object and a listing of a missing page, where it is the bucket that is missing.
        _ if why.contains("<Code>NoSuchBucket</Code>") => {
            let bucket = RemoteUrl::parse(&wanted.url).map_or("", |place| place.origin);
            RemoteError::Settings {
                url,
                why: format!("the bucket {bucket} does not exist; check its name and the endpoint"),
            }
        }
        object_store::Error::NotFound { .. } => RemoteError::NotFound { url },
        object_store::Error::Precondition { .. } => RemoteError::Changed { url },
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            RemoteError::Denied { url, why: denial(wanted, &why) }
        }
        error => match status(&why) {
            Some(401 | 403) => RemoteError::Denied { url, why: denial(wanted, &why) },
            Some(404) => RemoteError::NotFound { url },
            Some(416) => RemoteError::Changed { url },
            Some(408 | 429 | 500..) => RemoteError::Unreachable { url, why: answer(&why) },
            Some(_) if why.contains("Token") || why.contains("Credential") => {
                RemoteError::Denied { url, why: denial(wanted, &why) }
            }
            Some(_) => RemoteError::Refused { url, why: answer(&why) },
            None if why.contains("redirect") => {
                let why = "the bucket is in another region; set AWS_REGION to its region".to_owned();
                RemoteError::Settings { url, why }
            }
            // The object is shorter than it was.
            None if why.starts_with("Requested ") || why.starts_with("Wanted range") => {
                RemoteError::Changed { url }
            }
            None if why.contains("non-partial response") => RemoteError::Unranged { url },
            None => RemoteError::Unreachable { url, why: transport(&error).unwrap_or(why) },
        },
    }
}

/// The status in the text of the client's error for an answer that is none; its type is not public.
fn status(why: &str) -> Option<u16> {
    why.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

/// The status and the store's code for it, without what changes from one answer to the next.
fn answer(why: &str) -> String {
    let status = why.split_once("status code: ").map_or(why, |(_, status)| status);
    let (status, body) = status.split_once(": ").unwrap_or((status, ""));
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    match code {
        Some((code, _)) => format!("{status}, {code}"),
        None => status.to_owned(),
    }
}

/// The answer of a store that does not let this user in, or of a machine that has no role to let it in.
fn denial(wanted: &Wanted, why: &str) -> String {
    let unset = RemoteUrl::parse(&wanted.url).and_then(|place| credentials::unset(&place));
    match unset {
        Some(variable) => format!("{}; {variable} is not set", answer(why)),
        None => answer(why),
    }
}

/// What an error on the way says, without what changes from one try to the next.
fn transport(error: &object_store::Error) -> Option<String> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return Some(innermost(error));
        }
        cause = error.source();
    }
    None
}

/// The text of the first cause.
pub(super) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        etag: Option<&str>,
        range: Option<Range<u64>>,
        came: (&'static [u8], u64, &str),
    ) -> Result<(), RemoteError> {
        let version = Version { size: Some(10), etag: etag.map(str::to_owned) };
        let wanted = Wanted { url: "s3://b/x".to_owned(), range, version };
        let version = Version { size: Some(came.1), etag: Some(came.2.to_owned()) };
        verify(&wanted, &Fetched { bytes: Bytes::from_static(came.0), version })
    }

    #[test]
    fn what_came_is_measured_against_what_was_asked_for() {
        let changed = Err(RemoteError::Changed { url: "s3://b/x".to_owned() });
        let cut =
            |why: &str| Err(RemoteError::Unreachable { url: "s3://b/x".to_owned(), why: why.to_owned() });
        assert_eq!(check(Some("a"), None, (b"0123456789", 10, "a")), Ok(()));
        assert_eq!(check(Some("a"), None, (b"0123456789", 10, "b")), changed);
        assert_eq!(check(Some("a"), None, (b"0123", 4, "a")), cut("4 of 10 bytes came"));
        assert_eq!(check(None, None, (b"0123", 4, "a")), changed);
        assert_eq!(check(None, None, (b"0123", 10, "a")), cut("4 of 10 bytes came"));
        assert_eq!(check(None, Some(2..5), (b"234", 10, "a")), Ok(()));
        assert_eq!(check(None, Some(2..5), (b"23", 10, "a")), cut("2 of 3 bytes came"));
    }

    #[test]
    fn nothing_of_an_object_is_had_without_a_request() {
        let wanted = Wanted { url: "s3://b/x".to_owned(), range: Some(5..5), version: Version::default() };
        let nothing = Fetched { bytes: Bytes::new(), version: Version::default() };
        assert_eq!(get(&wanted), Ok(nothing));
    }

    #[test]
    fn an_answer_is_told_by_its_status_and_its_code() {
        let text = "Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code><RequestId>7</RequestId></Error>";
        assert_eq!((status(text), answer(text).as_str()), (Some(503), "503 Service Unavailable, SlowDown"));
        let text = "Server returned non-2xx status code: 400 Bad Request: ";
        assert_eq!((status(text), answer(text).as_str()), (Some(400), "400 Bad Request"));
        assert_eq!(status("connection refused"), None);
    }
}
