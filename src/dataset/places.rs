//! Files of lists and of class names, wherever they lie.

use std::fs;
use std::io;
use std::path::Path;

use super::DatasetError;
use crate::remote::{self, RemoteError, Version, Wanted, is_url};

/// The bytes of a file, or of an object at an address.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str().filter(|_| is_url(path)) {
        None => fs::read(path),
        Some(url) => {
            let wanted = Wanted { url: url.to_owned(), range: None, version: Version::default() };
            Ok(remote::get(&wanted)?.bytes.into())
        }
    }
}

/// The text of a file, or of an object at an address.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Whether there is such a file, or such an object.
pub(super) fn is_there(path: &Path) -> Result<bool, DatasetError> {
    match path.to_str().filter(|_| is_url(path)) {
        None => Ok(path.is_file()),
        Some(url) => match remote::head(url) {
            Ok(_) => Ok(true),
            // Who may not list a bucket is denied what is not there.
            Err(RemoteError::NotFound { .. } | RemoteError::Denied { .. } | RemoteError::Refused { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        },
    }
}
