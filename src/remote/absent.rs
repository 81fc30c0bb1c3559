//! In place of the client, in a program that is built without object stores.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

use super::{Fetched, IfThere, Listed, RemoteError, Version, Wanted};

fn not_built(url: &str) -> RemoteError {
    RemoteError::NotBuilt { url: RemoteError::shown(url) }
}

pub(crate) fn get(wanted: &Wanted) -> Result<Fetched, RemoteError> {
    Err(not_built(&wanted.url))
}

pub(crate) fn get_in_background(
    wanted: Wanted,
    done: impl FnOnce(Result<Fetched, RemoteError>) + Send + 'static,
) {
    // As with a client: whoever calls may hold what `done` needs.
    std::thread::spawn(move || done(get(&wanted)));
}

/// Whether the object at the address can be asked for.
pub(crate) fn check(url: &str) -> Result<(), RemoteError> {
    Err(not_built(url))
}

pub(crate) fn put(url: &str, _bytes: Bytes, _if_there: IfThere) -> Result<bool, RemoteError> {
    Err(not_built(url))
}

pub(crate) fn put_file(url: &str, _path: &Path, _if_there: IfThere) -> io::Result<bool> {
    Err(not_built(url).into())
}

pub(crate) fn download(url: &str, _to: &mut File) -> io::Result<()> {
    Err(not_built(url).into())
}

pub(crate) fn remove(url: &str) -> Result<(), RemoteError> {
    Err(not_built(url))
}

pub(crate) fn head(url: &str) -> Result<Version, RemoteError> {
    Err(not_built(url))
}

pub(crate) fn list(prefix: &str, _found: &mut dyn FnMut(Listed)) -> Result<(), RemoteError> {
    Err(not_built(prefix))
}
