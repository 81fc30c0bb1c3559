//! Strings in and out of HDF5: variable-length UTF-8 and fixed-length hexadecimal, checked on the way in.

use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use hdf5_metno::types::{FixedAscii, VarLenUnicode};

use super::FeatureFileError;
use crate::hdf5::{ElementType, Hdf5Dataset, Hdf5Error};

/// A SHA-256 in hexadecimal, as it is stored.
pub(super) type Sha256Hex = FixedAscii<SHA256_DIGITS>;

const SHA256_DIGITS: usize = 64;

/// A string as HDF5 wants it in memory; `None` if it holds a NUL, which ends a string there.
pub(super) fn to_hdf5(text: &str) -> Option<VarLenUnicode> {
    VarLenUnicode::from_str(text).ok()
}

/// A SHA-256 as HDF5 wants it in memory; `None` unless it is 64 lower-case hexadecimal digits.
pub(super) fn to_sha256(text: &str) -> Option<Sha256Hex> {
    let valid = text.len() == SHA256_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| Sha256Hex::from_ascii(text.as_bytes()).ok()).flatten()
}

/// The strings of a one-dimensional dataset of variable-length UTF-8.
pub(super) fn read_strings(
    dataset: &Hdf5Dataset,
    path: &Path,
    object: &str,
) -> Result<Vec<String>, FeatureFileError> {
    if *dataset.kind() != (ElementType::Text { utf8: true }) {
        return Err(FeatureFileError::wrong_type(path, object, "of variable-length UTF-8 strings"));
    }
    dataset.texts().map_err(|error| text_error(error, path, object))
}

/// Why a text cannot be read.
pub(super) fn text_error(error: Hdf5Error, path: &Path, object: &str) -> FeatureFileError {
    match error {
        Hdf5Error::NotUtf8 { .. } => FeatureFileError::bad_value(path, object, "a string that is not UTF-8"),
        error => FeatureFileError::damaged(path, object)(error),
    }
}

/// The SHA-256 values `range` of a one-dimensional dataset of 64-byte ASCII strings.
pub(super) fn read_sha256(
    dataset: &Hdf5Dataset,
    range: Range<usize>,
    path: &Path,
    object: &str,
) -> Result<Vec<String>, FeatureFileError> {
    if !matches!(dataset.kind(), ElementType::FixedText { size: SHA256_DIGITS, utf8: false, .. }) {
        return Err(FeatureFileError::wrong_type(path, object, "a dataset of 64-byte ASCII strings"));
    }
    if !dataset.fits_file() {
        return Err(FeatureFileError::bad_value(path, object, "it claims to be larger than the file"));
    }
    let mut values = vec![0; range.len() * SHA256_DIGITS];
    dataset
        .read_rows(range.start as u64..range.end as u64, &mut values)
        .map_err(FeatureFileError::damaged(path, object))?;
    let mut strings = Vec::with_capacity(range.len());
    for (row, value) in values.chunks_exact(SHA256_DIGITS).enumerate() {
        let text = std::str::from_utf8(value).ok().filter(|text| to_sha256(text).is_some());
        let text = text.ok_or_else(|| {
            FeatureFileError::bad_value(path, object, format!("row {row} is not a SHA-256 in hexadecimal"))
        })?;
        strings.push(text.to_owned());
    }
    Ok(strings)
}
