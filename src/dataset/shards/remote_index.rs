//! Going through shards in object stores and on the web: several at a time, because each of them is mostly waiting.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};

use super::index::{ShardMember, WantedMembers, index as index_tar};
use crate::remote::{self, BlockReader, RemoteError, Wanted, is_url};

/// Shards that are gone through at a time.
const AT_ONCE: usize = 16;

/// What was found in a shard.
pub(super) struct IndexedShard {
    /// Bytes of the shard.
    pub len: u64,
    /// The store's name for its content.
    pub etag: Option<String>,
    /// In their order in the shard.
    pub members: Vec<(String, ShardMember)>,
    /// Why it could not be gone through to its end.
    pub end: Result<(), String>,
}

/// Goes through the shard at `url`.
///
/// # Errors
/// It cannot be read. What is wrong with its bytes is no error, as with a file.
pub(super) fn index_remote(url: &str, wanted: WantedMembers<'_>) -> Result<IndexedShard, RemoteError> {
    let version = remote::head(url)?;
    let len = version.size.ok_or_else(|| RemoteError::Unranged { url: RemoteError::shown(url) })?;
    let failure = RefCell::new(None);
    let fetch = |range: Range<u64>| -> std::io::Result<Bytes> {
        let wanted = Wanted { url: url.to_owned(), range: Some(range), version: version.clone() };
        let fetched = remote::get(&wanted).inspect_err(|error| *failure.borrow_mut() = Some(error.clone()));
        Ok(fetched?.bytes)
    };
    let mut members = Vec::new();
    let end = index_tar(BlockReader::new(len, fetch), len, wanted, |name, member| {
        members.push((name.to_owned(), member));
    });
    // A shard that cannot be read is not a damaged one: nothing of it would be lost the next time.
    match failure.into_inner() {
        Some(error) => Err(error),
        None => Ok(IndexedShard { len, etag: version.etag.clone(), members, end }),
    }
}

/// What is found in the remote ones of some shards, in their order.
pub(super) struct RemoteIndexes {
    /// Each of a thread that goes through every so many of the shards.
    threads: Vec<Receiver<Result<IndexedShard, RemoteError>>>,
    turn: usize,
}

impl RemoteIndexes {
    /// Begins to go through the remote ones of `shards`. It stays a few shards ahead of what is taken.
    pub(super) fn begin(shards: &[PathBuf], wanted: WantedMembers<'_>) -> Self {
        let urls: Vec<&str> =
            shards.iter().filter(|path| is_url(path)).filter_map(|path| path.to_str()).collect();
        let count = urls.len().min(AT_ONCE);
        let field = match wanted {
            WantedMembers::Field(field) => Some(field.to_owned()),
            WantedMembers::Images | WantedMembers::Labels => None,
        };
        let no_labels = matches!(wanted, WantedMembers::Images);
        let begin = |number: usize| {
            let urls: Vec<String> =
                urls.iter().skip(number).step_by(count).map(|&url| url.to_owned()).collect();
            let (field, (found, indexes)) = (field.clone(), bounded(1));
            thread::spawn(move || {
                let wanted = WantedMembers::of(no_labels, field.as_deref());
                // Nobody takes any more once something has gone wrong.
                let _ = urls.iter().try_for_each(|url| found.send(index_remote(url, wanted)));
            });
            indexes
        };
        Self { threads: (0..count).map(begin).collect(), turn: 0 }
    }

    /// What was found in the next of the shards, which is `shard`; nothing if that one is a file.
    pub(super) fn next(&mut self, shard: &Path) -> Result<Option<IndexedShard>, RemoteError> {
        if !is_url(shard) {
            return Ok(None);
        }
        let receiver = &self.threads[self.turn % self.threads.len()];
        self.turn += 1;
        let lost = || RemoteError::Unreachable {
            url: shard.display().to_string(),
            why: "the thread that went through it is gone".to_owned(),
        };
        receiver.recv().map_err(|_| lost())?.map(Some)
    }
}
