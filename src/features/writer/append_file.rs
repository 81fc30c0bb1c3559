//! Whole features files that become rows of another one.

use std::fs::File;

use crc32fast::Hasher as Crc32;

use super::super::FeatureFileError;
use super::super::raw_rows::RowValues;
use super::super::reader::FeatureFile;
use super::super::schema::{FeatureRow, HASH_BYTES};
use super::super::strings::to_sha256;
use super::super::table::CheckedBatch;
use super::FeatureWriter;

/// Bytes of features that are read at a time where rows cannot be copied as they lie.
const BLOCK_BYTES: usize = 8 << 20;

impl FeatureWriter {
    /// Appends all rows and skipped images of another features file, to the bit.
    ///
    /// Features that lie in the file as they are, are copied as bytes; compressed ones and those of other formats are read. No commit is made: after a crash the rows can be had from their file again.
    ///
    /// # Errors
    /// [`FeatureFileError::Incomparable`] if the file has other layers or classes, or its features are not comparable;
    /// [`FeatureFileError::BadValue`] if it is a part of a plan and its bytes are not those that were written; those of
    /// [`FeatureWriter::append`] and of [`FeatureFile::read_rows`].
    pub fn append_file(&mut self, file: &FeatureFile) -> Result<(), FeatureFileError> {
        if let Some(what) = self.header.row_difference(file.header()) {
            let (path, other) = (self.final_path.clone(), file.path().to_owned());
            return Err(FeatureFileError::Incomparable { path, other, what });
        }
        let places = (0..file.layers().len()).map(|layer| file.places_of_rows(layer));
        match places.collect::<Result<Option<Vec<_>>, _>>()? {
            Some(places) => {
                let path = file.path();
                let plain = File::open(path)
                    .map_err(|source| FeatureFileError::Open { path: path.to_owned(), source })?;
                let values = |places| RowValues::File { file: &plain, path, places };
                let sha256 = file.sha256().iter().zip(0..).map(|(text, row)| {
                    let why = || FeatureFileError::bad_value(path, "/sha256", format!("row {row}"));
                    to_sha256(text).ok_or_else(why)
                });
                let hashes = (0..file.rows()).map(|row| file.perceptual_hash(row).unwrap_or([0; HASH_BYTES]));
                let batch = CheckedBatch {
                    names: file.image_names().iter().map(String::as_str).collect(),
                    labels: file.labels().to_vec(),
                    sha256: sha256.collect::<Result<_, _>>()?,
                    hashes: hashes.flatten().collect(),
                    features: places.into_iter().map(values).collect(),
                    skipped: file.errors(),
                };
                let written = self.append_batch(&batch, false)?;
                self.verify(file, written)
            }
            None => self.append_by_reading(file),
        }
    }

    fn append_by_reading(&mut self, file: &FeatureFile) -> Result<(), FeatureFileError> {
        let widths: Vec<usize> = file.layers().iter().map(|layer| layer.width().unwrap_or(0)).collect();
        let block = (BLOCK_BYTES / (size_of::<f32>() * widths.iter().sum::<usize>().max(1))).max(1);
        let mut buffers: Vec<Vec<f32>> =
            widths.iter().map(|width| vec![0.0; width * block.min(file.rows())]).collect();
        file.verify_features()?;
        for start in (0..file.rows()).step_by(block) {
            let rows = start..file.rows().min(start + block);
            for ((layer, buffer), width) in file.layers().iter().zip(&mut buffers).zip(&widths) {
                let name = Some(layer.spec.layer.as_str());
                file.read_rows(name, rows.clone(), &mut buffer[..rows.len() * width])?;
            }
            let features: Vec<Vec<&[f32]>> = (0..rows.len())
                .map(|row| {
                    let layers = buffers.iter().zip(&widths);
                    layers.map(|(buffer, width)| &buffer[row * width..][..*width]).collect()
                })
                .collect();
            let rows: Vec<FeatureRow<'_>> = rows
                .zip(&features)
                .map(|(row, features)| FeatureRow {
                    name: &file.image_names()[row],
                    label: file.labels()[row],
                    sha256: &file.sha256()[row],
                    perceptual_hash: file.perceptual_hash(row),
                    features,
                })
                .collect();
            self.append(&rows, &[])?;
        }
        self.append(&[], file.errors())
    }

    /// Compares what was written of each layer with what the file states of itself. After a difference the writer is of no more use.
    fn verify(&mut self, file: &FeatureFile, written: Vec<Crc32>) -> Result<(), FeatureFileError> {
        for (layer, written) in written.into_iter().enumerate() {
            if let Err(error) = file.verify_crc32(layer, written) {
                if let Some(table) = self.table.take() {
                    table.abandon();
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
