//! Datasets and attributes of a features file, read with errors that name the file and the object.

use std::path::Path;

use super::FeatureFileError;
use super::strings::text_error;
use crate::hdf5::{Attribute, ElementType, Hdf5, Hdf5Dataset, Hdf5Error, Number};

/// Opens a dataset; its absence is told from damage.
pub(super) fn open_dataset(file: &Hdf5, name: &str, path: &Path) -> Result<Hdf5Dataset, FeatureFileError> {
    match file.dataset(name) {
        Ok(dataset) => Ok(dataset),
        Err(Hdf5Error::Missing) => Err(FeatureFileError::missing(path, format!("the dataset /{name}"))),
        Err(error) => Err(FeatureFileError::damaged(path, format!("the dataset /{name}"))(error)),
    }
}

/// The length of a one-dimensional dataset.
pub(super) fn column_length(dataset: &Hdf5Dataset, name: &str, path: &Path) -> Result<u64, FeatureFileError> {
    match dataset.shape()[..] {
        [length] => Ok(length),
        _ => Err(FeatureFileError::wrong_type(path, name, "one-dimensional")),
    }
}

/// Reads a numeric scalar attribute of exactly the type `T`.
pub(super) fn read_number<T: Number>(
    attributes: &[Attribute],
    name: &str,
    path: &Path,
) -> Result<T, FeatureFileError> {
    let object = format!("the attribute {name}");
    let attribute = find(attributes, name, path)?;
    if !attribute.kind().is::<T>() || !attribute.shape().is_empty() {
        return Err(FeatureFileError::wrong_type(path, object, "a single integer of the expected size"));
    }
    attribute.number().map_err(FeatureFileError::damaged(path, object))
}

/// Reads a text attribute.
pub(super) fn read_text(
    attributes: &[Attribute],
    name: &str,
    path: &Path,
) -> Result<String, FeatureFileError> {
    let object = format!("the attribute {name}");
    let attribute = find(attributes, name, path)?;
    if *attribute.kind() != (ElementType::Text { utf8: true }) {
        return Err(FeatureFileError::wrong_type(path, object, "of variable-length UTF-8 strings"));
    }
    if !attribute.shape().is_empty() {
        return Err(FeatureFileError::wrong_type(path, object, "a single string"));
    }
    attribute.text().map_err(|error| text_error(error, path, &object))
}

fn find<'a>(attributes: &'a [Attribute], name: &str, path: &Path) -> Result<&'a Attribute, FeatureFileError> {
    let found = attributes.iter().find(|attribute| attribute.name() == name);
    found.ok_or_else(|| FeatureFileError::missing(path, format!("the attribute {name}")))
}
