//! Strings in and out of HDF5: variable-length UTF-8 and fixed-length hexadecimal, checked on the way in.

use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use hdf5_metno::types::{FixedAscii, TypeDescriptor, VarLenUnicode};
use hdf5_metno::{Container, Dataset};

use super::CodesError;

/// A SHA-256 in hexadecimal, as it is stored.
pub(super) type Sha256Hex = FixedAscii<64>;

/// How many strings are converted at a time, to bound what a million names need beside themselves.
const BATCH: usize = 1 << 16;

/// A string as HDF5 wants it in memory; `None` if it holds a NUL, which ends a string there.
pub(super) fn to_hdf5(text: &str) -> Option<VarLenUnicode> {
    VarLenUnicode::from_str(text).ok()
}

/// A SHA-256 as HDF5 wants it in memory; `None` unless it is 64 lower-case hexadecimal digits.
pub(super) fn to_sha256(text: &str) -> Option<Sha256Hex> {
    let valid = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| Sha256Hex::from_ascii(text.as_bytes()).ok()).flatten()
}

/// The strings `range` of a one-dimensional dataset of variable-length UTF-8.
pub(super) fn read_strings(
    dataset: &Dataset,
    range: Range<usize>,
    path: &Path,
    object: &str,
) -> Result<Vec<String>, CodesError> {
    expect_utf8(dataset, path, object)?;
    let mut strings = Vec::with_capacity(range.len());
    for start in range.clone().step_by(BATCH) {
        let end = range.end.min(start + BATCH);
        let batch = dataset
            .read_slice_1d::<VarLenUnicode, _>(start..end)
            .map_err(CodesError::damaged(path, object))?;
        for text in &batch {
            strings.push(checked(text, path, object)?);
        }
    }
    Ok(strings)
}

/// The one string of a scalar attribute.
pub(super) fn read_string(attribute: &Container, path: &Path, object: &str) -> Result<String, CodesError> {
    expect_utf8(attribute, path, object)?;
    if !attribute.is_scalar() {
        return Err(CodesError::wrong_type(path, object, "a single string"));
    }
    let text = attribute.read_scalar::<VarLenUnicode>().map_err(CodesError::damaged(path, object))?;
    checked(&text, path, object)
}

/// The SHA-256 values `range` of a one-dimensional dataset of 64-byte ASCII strings.
pub(super) fn read_sha256(
    dataset: &Dataset,
    range: Range<usize>,
    path: &Path,
    object: &str,
) -> Result<Vec<String>, CodesError> {
    if !is_type(dataset, path, object, |t| matches!(t, TypeDescriptor::FixedAscii(64)))? {
        return Err(CodesError::wrong_type(path, object, "a dataset of 64-byte ASCII strings"));
    }
    let values = dataset.read_slice_1d::<Sha256Hex, _>(range).map_err(CodesError::damaged(path, object))?;
    let mut strings = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        let text = std::str::from_utf8(value.as_bytes()).ok().filter(|text| to_sha256(text).is_some());
        let text = text.ok_or_else(|| {
            CodesError::bad_value(path, object, format!("row {row} is not a SHA-256 in hexadecimal"))
        })?;
        strings.push(text.to_owned());
    }
    Ok(strings)
}

/// Whether the type of a dataset or attribute passes `test`.
pub(super) fn is_type(
    container: &Container,
    path: &Path,
    object: &str,
    test: impl FnOnce(&TypeDescriptor) -> bool,
) -> Result<bool, CodesError> {
    let dtype = container.dtype().map_err(CodesError::damaged(path, object))?;
    // A type that the crate cannot describe is not one that the format uses.
    Ok(dtype.to_descriptor().is_ok_and(|descriptor| test(&descriptor)))
}

fn expect_utf8(container: &Container, path: &Path, object: &str) -> Result<(), CodesError> {
    if is_type(container, path, object, |t| matches!(t, TypeDescriptor::VarLenUnicode))? {
        Ok(())
    } else {
        Err(CodesError::wrong_type(path, object, "of variable-length UTF-8 strings"))
    }
}

/// `VarLenUnicode::as_str` trusts the file to hold UTF-8; this does not.
fn checked(text: &VarLenUnicode, path: &Path, object: &str) -> Result<String, CodesError> {
    std::str::from_utf8(text.as_bytes())
        .map(str::to_owned)
        .map_err(|_| CodesError::bad_value(path, object, "a string that is not UTF-8"))
}
