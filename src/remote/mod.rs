//! Files in object stores (`s3://`, `gs://`, `az://`) and on the web (`https://`): reading them whole or in part, listing them,
//! and writing an object that nobody has written before.
//!
//! Requests are asynchronous inside of this room and nowhere else: callers wait for an answer, or hand over what is to be
//! called with it. A failure that a further try may mend is tried again for a while, with growing pauses; what comes is
//! measured against what was asked for. Without the cargo feature `object-store`, addresses are recognised and refused.

mod block_reader;
mod error;
mod outage;
mod url;

#[cfg(not(feature = "object-store"))]
mod absent;
#[cfg(feature = "object-store")]
mod client;
#[cfg(feature = "object-store")]
mod credentials;
#[cfg(feature = "object-store")]
mod stores;
#[cfg(feature = "object-store")]
mod upload;
#[cfg(feature = "object-store")]
mod web;

use std::ops::Range;

use bytes::Bytes;

#[cfg(not(feature = "object-store"))]
pub(crate) use absent::{check, download, get, get_in_background, head, list, put, put_file, remove};
pub(crate) use block_reader::BlockReader;
#[cfg(feature = "object-store")]
pub(crate) use client::{check, get, get_in_background, head, list};
pub use error::RemoteError;
pub use outage::Outage;
pub(crate) use outage::OutageWatch;
pub(crate) use url::{RemoteUrl, Scheme, is_url};

#[cfg(feature = "object-store")]
pub(crate) use upload::{download, put, put_file, remove};

/// What is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Where it lies.
    pub url: String,
    /// Which of its bytes; all of them if absent.
    pub range: Option<Range<u64>>,
    /// What the whole object was when it was listed.
    pub version: Version,
}

/// What tells one state of an object from another, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// Bytes of the whole object.
    pub size: Option<u64>,
    /// The store's name for the content.
    pub etag: Option<String>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// As many as were asked for.
    pub bytes: Bytes,
    /// The whole object's.
    pub version: Version,
}

/// What becomes of an object that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfThere {
    Keep,
    Replace,
}

/// An object below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its key in the bucket.
    pub key: String,
    pub version: Version,
}
