//! Writing objects: a new one that replaces nothing, or one in place of another; and taking one onto a disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::client::{self, failure, key, parsed, persist, runtime};
use super::stores::{self, Purpose};
use super::{IfThere, RemoteError, Version, Wanted};

/// What every store takes in one request; more would need an upload in pieces, whose end few stores make conditional.
const LARGEST: u64 = 5 << 30;
/// Bytes of a piece of a download.
const PIECE: u64 = 16 << 20;

/// Stores bytes as the object at `url`; `false` if there is one already that is to be kept, be it because the answer to an earlier
/// try was lost. It appears complete or not at all.
///
/// # Errors
/// The store does not take it.
pub(crate) fn put(url: &str, bytes: Bytes, if_there: IfThere) -> Result<bool, RemoteError> {
    let place = parsed(url)?;
    let wanted = Wanted { url: url.to_owned(), range: None, version: Version::default() };
    let mode = match if_there {
        IfThere::Keep => PutMode::Create,
        IfThere::Replace => PutMode::Overwrite,
    };
    let payload = PutPayload::from(bytes);
    runtime().block_on(persist(|| async {
        let (store, key) = (stores::of(&place, Purpose::Write)?, key(&place)?);
        let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
        match store.put_opts(&key, payload.clone(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) if if_there == IfThere::Keep => {
                Ok(false)
            }
            Err(error) => Err(failure(&wanted, error)),
        }
    }))
}

/// As [`put`], the bytes of a file that nobody writes to.
///
/// # Errors
/// The file cannot be read or is too large, or the store does not take it.
pub(crate) fn put_file(url: &str, path: &Path, if_there: IfThere) -> io::Result<bool> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "{len} bytes are more than an object store takes at once (5 GiB); make a plan with fewer rows a part"
            ),
        ));
    }
    let bytes = match len {
        0 => Bytes::new(),
        // SAFETY: the file is in a temporary folder of this process, which is the only one to write to it and has finished.
        _ => Bytes::from_owner(unsafe { Mmap::map(&file)? }),
    };
    Ok(put(url, bytes, if_there)?)
}

/// Writes the object at `url` to a file.
///
/// # Errors
/// It cannot be read, it changes meanwhile, or the file cannot be written.
pub(crate) fn download(url: &str, to: &mut File) -> io::Result<()> {
    let version = client::head(url)?;
    let len = version.size.unwrap_or(0);
    for start in (0..len).step_by(PIECE as usize) {
        let range = start..len.min(start + PIECE);
        let wanted = Wanted { url: url.to_owned(), range: Some(range), version: version.clone() };
        to.write_all(&client::get(&wanted)?.bytes)?;
    }
    Ok(())
}

/// Removes the object at `url`, if it is there.
///
/// # Errors
/// The store does not remove it.
pub(crate) fn remove(url: &str) -> Result<(), RemoteError> {
    let place = parsed(url)?;
    let wanted = Wanted { url: url.to_owned(), range: None, version: Version::default() };
    runtime().block_on(persist(|| async {
        let (store, key) = (stores::of(&place, Purpose::Write)?, key(&place)?);
        match store.delete(&key).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failure(&wanted, error)),
        }
    }))
}
