//! The file on its way: `TARGET.part`, and beside it `TARGET.part.json` with what the server called the file.
//!
//! The bytes of a partial file are only ever joined to bytes of the same version, which the server's own validator
//! (entity tag, or time of the last change) and the length tell.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FetchError;
use crate::files::{is_still_named, write_atomically};

/// What the server said of the file whose first bytes lie in the partial file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemoteVersion {
    pub url: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// Length of the whole file in bytes.
    pub length: Option<u64>,
}

impl RemoteVersion {
    /// What goes into `If-Range`; a weak entity tag does not promise equal bytes (RFC 9110, 13.1.5).
    pub(super) fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
        strong.or(self.last_modified.as_deref())
    }
}

/// The partial file, locked against other runs for as long as it is held.
#[derive(Debug)]
pub(super) struct PartialFile {
    path: PathBuf,
    journal: PathBuf,
    file: File,
    hasher: Sha256,
    length: u64,
    version: Option<RemoteVersion>,
}

impl PartialFile {
    /// Opens or makes the partial file of `target` and reads what is there already.
    pub(super) fn open(target: &Path) -> Result<Self, FetchError> {
        let path = sibling(target, ".part");
        let journal = sibling(target, ".part.json");
        let error = |source| FetchError::File { path: path.clone(), source };
        let file = loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(error)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(FetchError::Busy { path }),
                // Some network file systems have no locks: then the user alone keeps two runs apart.
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(error(e)),
            }
            // The former holder may have put the file into place between our opening and our locking it.
            if is_still_named(&file, &path).map_err(error)? {
                break file;
            }
        };
        // A journal that cannot be read says nothing about the bytes: they are fetched anew.
        let version = std::fs::read(&journal).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut part = PartialFile { path, journal, file, hasher: Sha256::new(), length: 0, version };
        part.hash_what_is_there().map_err(|source| part.error(source))?;
        Ok(part)
    }

    fn hash_what_is_there(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = self.file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.hasher.update(&buffer[..read]);
            self.length += read as u64;
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The version that can be gone on with from `url`, if there is one.
    pub(super) fn resumable(&self, url: &str) -> Option<&RemoteVersion> {
        let version = self.version.as_ref()?;
        let fits = version.length.is_none_or(|length| self.length <= length);
        (self.length > 0 && version.url == url && version.validator().is_some() && fits).then_some(version)
    }

    /// Empties the file for the bytes of `version`.
    pub(super) fn restart(&mut self, version: RemoteVersion) -> Result<(), FetchError> {
        self.hasher.reset();
        self.length = 0;
        // Emptied before the journal says otherwise, so that it never vouches for another version's bytes.
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|source| self.error(source))?;
        let text = serde_json::to_vec(&version).map_err(|source| self.error(source.into()))?;
        write_atomically(&self.journal, &text)
            .map_err(|source| FetchError::File { path: self.journal.clone(), source })?;
        self.version = Some(version);
        Ok(())
    }

    /// Forgets what is there, so that the next request asks for the whole file.
    pub(super) fn forget(&mut self) {
        self.version = None;
    }

    /// Adds `bytes` at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(|source| self.error(source))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// SHA-256 of what is there, in lower-case hexadecimal digits.
    pub(super) fn sha256(&self) -> String {
        format!("{:x}", self.hasher.clone().finalize())
    }

    /// Removes the partial file and its journal.
    pub(super) fn discard(self) {
        // What cannot be removed is not mistaken for anything: the journal goes first, and without it the bytes
        // are fetched anew.
        let _ = std::fs::remove_file(&self.journal);
        let _ = std::fs::remove_file(&self.path);
    }

    /// Renames the file to `target`, in place of what is there.
    pub(super) fn place(self, target: &Path) -> Result<(), FetchError> {
        self.file.sync_all().map_err(|source| self.error(source))?;
        std::fs::rename(&self.path, target)
            .map_err(|source| FetchError::File { path: target.to_path_buf(), source })?;
        // A journal left behind describes a partial file that is gone, and is not believed without one.
        let _ = std::fs::remove_file(&self.journal);
        Ok(())
    }

    fn error(&self, source: io::Error) -> FetchError {
        FetchError::File { path: self.path.clone(), source }
    }
}

fn sibling(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
