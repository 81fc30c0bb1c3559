//! The features file on both sides of a conversion.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::ConvertError;
use super::feature_table::{FeatureTable, FoundTable, RowBlocks, TableHeader, TakeBlock, rows_of_block};
use super::hashes::to_hex;
use super::labels::TableLabels;
use crate::features::{FeatureFile, FeatureFileHeader, FeatureRow, FeatureWriter, WriteOptions, schema};
use crate::images::PerceptualHash;

/// A layer of a features file; `None` is the primary one.
pub(super) fn read(path: &Path, layer: Option<&str>) -> Result<FoundTable, ConvertError> {
    let file = FeatureFile::open(path)?;
    let stored = file.layer(layer)?.clone();
    let mut notes = Vec::new();
    if layer.is_none() && file.layers().len() > 1 {
        let others: Vec<&str> = file.layers()[1..].iter().map(|other| other.spec.layer.as_str()).collect();
        notes.push(format!(
            "only the layer {} is converted; --layer names another one ({})",
            stored.spec.layer,
            others.join(", ")
        ));
    }
    let FeatureFileHeader { program_version, source, runtime, device, class_names, .. } =
        file.header().clone();
    let hashes: Vec<Option<PerceptualHash>> = (0..file.rows()).map(|row| file.perceptual_hash(row)).collect();
    let header = TableHeader {
        format_version: schema::FORMAT_VERSION,
        rows: file.rows(),
        program_version,
        source,
        runtime,
        device,
        class_names,
        spec: stored.spec.clone(),
        shape: stored.shape.clone(),
        errors: file.errors().to_vec(),
        passed_over: file.passed_over().to_vec(),
    };
    Ok(FoundTable {
        path: path.to_owned(),
        rows: file.rows(),
        shape: stored.shape,
        names: Some(file.image_names().to_vec()),
        labels: TableLabels::Numbers(file.labels().to_vec()),
        sha256: Some(file.sha256().to_vec()),
        hashes: Some(hashes),
        header: Some(header),
        notes,
        values: Box::new(LayerRows { file, layer: stored.spec.layer }),
    })
}

/// The rows of a layer.
struct LayerRows {
    file: FeatureFile,
    layer: String,
}

impl RowBlocks for LayerRows {
    fn each(&mut self, take: &mut TakeBlock<'_>) -> Result<(), ConvertError> {
        let layer = Some(self.layer.as_str());
        let width = self.file.layer(layer)?.width().unwrap_or(1);
        let (rows, step) = (self.file.rows(), rows_of_block(width));
        // Whole chunks are the fastest to read.
        let step = step.next_multiple_of(self.file.rows_at_once(layer)?.clamp(1, step));
        let mut values = vec![0.0; step.min(rows) * width];
        for start in (0..rows).step_by(step) {
            let end = rows.min(start + step);
            let values = &mut values[..(end - start) * width];
            self.file.read_rows(layer, start..end, values)?;
            take(values)?;
        }
        Ok(())
    }
}

/// Writes a features file.
pub(super) fn write(table: &mut FeatureTable<'_>, path: &Path) -> Result<(), ConvertError> {
    let options = WriteOptions { overwrite: true, expected_rows: table.rows.count() };
    let mut writer = FeatureWriter::create(path, &table.header, options)?;
    let width = table.width();
    table.each_block(&mut |block| {
        let values: Vec<&[f32]> = block.values.chunks_exact(width).collect();
        let rows = &block.table;
        // Where no image is known, rows of the same features are duplicates.
        let made_up: Vec<String> = match &rows.sha256 {
            Some(_) => Vec::new(),
            None => values.iter().map(|values| sha256_of(values)).collect(),
        };
        let appended: Vec<FeatureRow<'_>> = block
            .range
            .clone()
            .zip(&values)
            .enumerate()
            .map(|(at, (row, values))| FeatureRow {
                name: &rows.names[row],
                label: rows.labels[row],
                sha256: rows.sha256.as_ref().map_or_else(|| &made_up[at], |sha256| &sha256[row]),
                perceptual_hash: rows.hashes[row],
                features: std::slice::from_ref(values),
            })
            .collect();
        Ok(writer.append(&appended, &[])?)
    })?;
    writer.append(&[], &table.errors)?;
    writer.pass_over(&table.passed_over)?;
    Ok(writer.finish()?)
}

/// SHA-256 of a row of features, as float32 in little-endian order of bytes.
fn sha256_of(values: &[f32]) -> String {
    let mut hash = Sha256::new();
    values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    to_hex(&hash.finalize())
}
