//! Looking through all features of a file: whether they are those that were written, and whether all are finite.

use crc32fast::Hasher as Crc32;

use super::super::FeatureFileError;
use super::super::checked_read::read_number;
use super::super::schema;
use super::{FeatureFile, LayerRows};

/// Values that are read at a time where a whole layer is only looked through: 4 MiB.
const SCAN_VALUES: usize = 1 << 20;

/// A value that is not a number or infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct NonFinite {
    /// Row in the layer.
    pub row: usize,
    /// Index within the row.
    pub column: usize,
    /// Name of the row's image.
    pub image: String,
    /// The value itself.
    pub value: f32,
}

impl FeatureFile {
    /// Reads all features of a part of a plan, and compares their CRC-32 with that of what was written. Other files state none, and are
    /// not read.
    ///
    /// # Errors
    /// [`FeatureFileError::BadValue`] if it differs; those of [`FeatureFile::read_rows`].
    pub fn verify_features(&self) -> Result<(), FeatureFileError> {
        for (layer, stored) in self.layers().iter().enumerate() {
            if self.stated_crc32(layer)?.is_none() {
                continue;
            }
            let (name, width) = (Some(stored.spec.layer.as_str()), self.width(layer));
            let step = (SCAN_VALUES / width).max(1);
            let mut values = vec![0.0_f32; step.min(self.rows()) * width];
            let mut found = Crc32::new();
            for start in (0..self.rows()).step_by(step) {
                let end = self.rows().min(start + step);
                let values = &mut values[..(end - start) * width];
                self.read_rows(name, start..end, values)?;
                found.update(bytemuck::cast_slice(values));
            }
            self.verify_crc32(layer, found)?;
        }
        Ok(())
    }

    /// Compares the CRC-32 of all rows of a layer with the one that the file states, if it states one.
    pub(in super::super) fn verify_crc32(&self, layer: usize, found: Crc32) -> Result<(), FeatureFileError> {
        match self.stated_crc32(layer)? {
            Some(stated) if stated != found.finalize() => {
                let why = "its bytes are no longer those that were written (CRC-32)";
                Err(FeatureFileError::bad_value(&self.path, self.object(layer), why))
            }
            _ => Ok(()),
        }
    }

    fn stated_crc32(&self, layer: usize) -> Result<Option<u32>, FeatureFileError> {
        match &self.contents.layers[layer] {
            LayerRows::Hdf5(dataset) => {
                let stated = dataset.attributes().iter().any(|attribute| attribute.name() == schema::CRC32);
                stated.then(|| read_number(dataset.attributes(), schema::CRC32, &self.path)).transpose()
            }
            #[cfg(feature = "parquet")]
            LayerRows::Parquet(_) => Ok(None),
        }
    }

    /// The first value of a layer that is not a number or infinite, with the image it belongs to.
    ///
    /// # Errors
    /// As [`FeatureFile::read_rows`].
    pub fn first_non_finite(&self, name: Option<&str>) -> Result<Option<NonFinite>, FeatureFileError> {
        let width = self.width(self.index(name)?);
        let step = (SCAN_VALUES / width).max(1);
        let mut values = vec![0.0; step.min(self.rows()) * width];
        for start in (0..self.rows()).step_by(step) {
            let end = self.rows().min(start + step);
            let values = &mut values[..(end - start) * width];
            self.read_rows(name, start..end, values)?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, column) = (start + at / width, at % width);
                let image = self.image_names()[row].clone();
                return Ok(Some(NonFinite { row, column, image, value: values[at] }));
            }
        }
        Ok(None)
    }
}
