//! Why a file could not be downloaded, and what helps.

use std::io;
use std::path::PathBuf;

use crate::messages::Cause;

/// Why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum FetchError {
    #[error("{url} is not an address for downloads; give one with http:// or https://")]
    Url { url: String },
    #[error(
        "cannot reach {url} ({}); check the network and the proxy (HTTPS_PROXY), name a mirror with --url, or bring the file yourself: `cnncodes models add FILE`",
        tries(*attempts)
    )]
    Unreachable { url: String, attempts: u32, source: Cause },
    #[error(
        "there is no file at {url} (HTTP status {status}); it may have moved: name another address with \
         --url"
    )]
    NotFound { url: String, status: u16 },
    #[error("{url} answers with HTTP status {status}; try again later, or name another address with --url")]
    Status { url: String, status: u16 },
    #[error("{url} redirects more than {limit} times; name the final address with --url")]
    Redirects { url: String, limit: u32 },
    #[error(
        "the download of {url} stopped after {got} of {} bytes ({}); the same command resumes it, and --url \
         names another address", total.map_or("an unknown number of".to_owned(), |total| total.to_string()), tries(*attempts)
    )]
    BrokeOff { url: String, got: u64, total: Option<u64>, attempts: u32, source: Option<io::Error> },
    #[error(
        "{url} does not give the length of the file, so it cannot be checked whether it is complete; give \
         its --sha256, or name another address with --url"
    )]
    UnknownLength { url: String },
    #[error(
        "{url} has {found} bytes, expected {expected}, so it is another file and was not kept; name another \
         address with --url"
    )]
    WrongLength { url: String, expected: u64, found: u64 },
    #[error(
        "{url} is another file than expected, and was removed: its SHA-256 is {found}, expected {expected}; \
         try again, or name another address with --url"
    )]
    WrongChecksum { url: String, expected: String, found: String },
    #[error("another run is downloading {}; wait for it", path.display())]
    Busy { path: PathBuf },
    #[error("cannot write {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

fn tries(attempts: u32) -> String {
    if attempts == 1 { "tried once".to_owned() } else { format!("tried {attempts} times") }
}

impl FetchError {
    /// Whether the same request may succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            FetchError::BrokeOff { .. } => true,
            FetchError::Unreachable { source, .. } => match source.downcast_ref() {
                Some(ureq::Error::Timeout(_)) => true,
                // Anything else, such as an unknown name or a wrong certificate, is the same a moment later.
                Some(ureq::Error::Io(cause)) => matches!(
                    cause.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::BrokenPipe
                        | io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                ),
                _ => false,
            },
            FetchError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether the trouble lies at the far end, so that another place may help.
    pub fn is_remote(&self) -> bool {
        !matches!(self, FetchError::Busy { .. } | FetchError::File { .. })
    }
}
