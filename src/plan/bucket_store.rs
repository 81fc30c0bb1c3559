//! A plan in an object store. Objects appear complete or not at all, and a part is put only where there is none, so that a bucket
//! keeps the promises that a folder keeps by renaming.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::store::{LocalFile, PARTS};
use crate::remote::{self, IfThere, Listed, RemoteError, RemoteUrl, Version, Wanted};

/// The address below which a plan lies.
#[derive(Debug)]
pub(super) struct BucketStore {
    location: PathBuf,
    /// Without a slash at its end.
    url: String,
}

impl BucketStore {
    pub(super) fn at(url: &str) -> Self {
        Self { location: PathBuf::from(url), url: url.trim_end_matches('/').to_owned() }
    }

    pub(super) fn location(&self) -> &Path {
        &self.location
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.url(name))
    }

    fn get(&self, name: &str, range: Option<std::ops::Range<u64>>) -> Result<Vec<u8>, RemoteError> {
        let wanted = Wanted { url: self.url(name), range, version: Version::default() };
        Ok(remote::get(&wanted)?.bytes.into())
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.get(name, None)?)
    }

    pub(super) fn read_range(&self, name: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        match self.get(name, Some(offset..end)) {
            // It ends before.
            Err(RemoteError::Changed { .. }) => Err(io::ErrorKind::UnexpectedEof.into()),
            result => Ok(result?),
        }
    }

    pub(super) fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new()
    }

    pub(super) fn replace(&self, name: &str, file: tempfile::NamedTempFile) -> io::Result<()> {
        remote::put_file(&self.url(name), file.path(), IfThere::Replace).map(drop)
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // Whoever plans at the same time must not be overwritten.
        match remote::put(&self.url(name), Bytes::copy_from_slice(bytes), IfThere::Keep)? {
            true => Ok(()),
            // The answer to an earlier try may have been lost.
            false if self.read(name)? == bytes => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "another plan was written there at the same time",
            )),
        }
    }

    pub(super) fn part_files(&self) -> io::Result<Vec<String>> {
        let parts = self.url(PARTS);
        let below = RemoteUrl::parse(&parts).map_or("", |place| place.key);
        let mut names = Vec::new();
        remote::list(&parts, &mut |Listed { key, .. }| {
            let name = key.strip_prefix(below).and_then(|name| name.strip_prefix('/')).unwrap_or_default();
            if name.ends_with(".h5") && !name.starts_with('.') && !name.contains('/') {
                names.push(format!("{PARTS}/{name}"));
            }
        })?;
        names.sort();
        Ok(names)
    }

    pub(super) fn local(&self, name: &str) -> io::Result<LocalFile> {
        let mut file = tempfile::Builder::new().suffix(".h5").tempfile()?;
        remote::download(&self.url(name), file.as_file_mut())?;
        let transferred = file.into_temp_path();
        Ok(LocalFile { path: transferred.to_path_buf(), transferred: Some(transferred) })
    }

    pub(super) fn workspace(&self, part: u64) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix(&format!("cnncodes-{part:06}-")).tempdir()
    }

    pub(super) fn publish(&self, file: &Path, name: &str) -> io::Result<bool> {
        remote::put_file(&self.url(name), file, IfThere::Keep)
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(remote::remove(&self.url(name))?)
    }
}
