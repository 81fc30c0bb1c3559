//! The lock that keeps two runs from writing one features file.
//!
//! It is an advisory lock on a sibling file, not on the partial file itself: HDF5 locks that one in its own
//! way. The operating system drops the lock with the process, however that ends, so that a lock file left
//! behind by a killed run is harmless and is taken over by the next.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::FeatureFileError;
use crate::files::is_still_named;

/// Holds the lock until dropped, which also removes the lock file.
#[derive(Debug)]
pub(super) struct RunLock {
    path: PathBuf,
    _file: File,
}

impl RunLock {
    /// Takes the lock of the output `target`, whose lock file is `path`; never waits.
    pub(super) fn take(path: &Path, target: &Path) -> Result<Self, FeatureFileError> {
        let create =
            |source: io::Error| FeatureFileError::Create { path: path.to_owned(), source: source.into() };
        loop {
            let file =
                OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(create)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(FeatureFileError::Locked { path: target.to_owned() });
                }
                // Some network file systems have no locks: then the user alone keeps two runs apart.
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(create(e)),
            }
            // The former holder may have removed the file between our opening and our locking it; a lock
            // on a file without a name excludes nobody.
            if is_still_named(&file, path).map_err(create)? {
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Removed while still locked, so that it cannot be another run's. Failure leaves a harmless file.
        let _ = std::fs::remove_file(&self.path);
    }
}
