//! Files of features with known values, for this room's tests.

use super::{
    FeatureFile, FeatureFileHeader, FeatureRow, FeatureWriter, SkippedImage, StoredLayer, WriteOptions,
};
use crate::feature_spec::FeatureSpec;
use crate::images::{Preprocess, Preset};
use crate::network::{Pooling, Precision};

pub(super) const WIDTHS: [usize; 2] = [2 * 3 * 3, 5];

/// A layer of a network called `tiny`.
pub(super) fn spec(layer: &str, tensor: &str, pooling: Pooling) -> FeatureSpec {
    FeatureSpec {
        model_name: "tiny".into(),
        model_sha256: "ab".repeat(32),
        layer: layer.into(),
        tensor: tensor.into(),
        pooling,
        preprocess: Preprocess::preset(Preset::Torchvision).unwrap(),
        precision: Precision::Fp32,
    }
}

/// Two layers, one of them with a slash in its name, and two classes.
pub(super) fn header() -> FeatureFileHeader {
    let layer = |name: &str, tensor: &str, shape: &[usize], pooling: Pooling| StoredLayer {
        spec: spec(name, tensor, pooling),
        shape: shape.to_vec(),
    };
    FeatureFileHeader {
        program_version: "0.1.0".into(),
        source: "data".into(),
        runtime: "onnxruntime 1.24.4".into(),
        device: "cpu".into(),
        class_names: vec!["Katze".into(), "Köter".into()],
        layers: vec![
            layer("fire9/concat", "/features/fire9/Concat_output_0", &[2, 3, 3], Pooling::None),
            layer("fc7", "relu7", &[5], Pooling::Average),
        ],
    }
}

pub(super) fn options(expected_rows: usize) -> WriteOptions {
    WriteOptions { overwrite: false, expected_rows }
}

pub(super) fn name(row: usize) -> String {
    format!("Katze/bild-ü{row:07}.jpg")
}

pub(super) fn sha256(row: usize) -> String {
    format!("{row:064x}")
}

/// Some rows have none.
pub(super) fn hash(row: usize) -> Option<[u8; 32]> {
    (row % 5 != 3).then(|| std::array::from_fn(|byte| (row + 7 * byte + 1) as u8))
}

pub(super) fn label(row: usize) -> i64 {
    (row % 3) as i64 - 1
}

/// A value that tells its row, layer and column, and is exact in float32.
pub(super) fn value(row: usize, layer: usize, column: usize) -> f32 {
    (row % 100_000 * 64 + layer * 32 + column) as f32 * 0.125
}

pub(super) fn skipped(index: usize) -> SkippedImage {
    SkippedImage { name: format!("kaputt-{index}.jpg"), reason: format!("cut short after {index} bytes") }
}

/// Appends the rows `range` as one batch.
pub(super) fn append(
    writer: &mut FeatureWriter,
    range: std::ops::Range<usize>,
    skipped: &[SkippedImage],
) -> Result<(), super::FeatureFileError> {
    append_wide(writer, &WIDTHS, range, skipped)
}

/// As [`append`], for layers of other widths.
pub(super) fn append_wide(
    writer: &mut FeatureWriter,
    widths: &[usize],
    range: std::ops::Range<usize>,
    skipped: &[SkippedImage],
) -> Result<(), super::FeatureFileError> {
    let names: Vec<_> = range.clone().map(name).collect();
    let hashes: Vec<_> = range.clone().map(sha256).collect();
    let row_features = |row: usize| -> Vec<Vec<f32>> {
        let layers = widths.iter().enumerate();
        layers.map(|(layer, &width)| (0..width).map(|column| value(row, layer, column)).collect()).collect()
    };
    let features: Vec<Vec<Vec<f32>>> = range.clone().map(row_features).collect();
    let slices: Vec<Vec<&[f32]>> =
        features.iter().map(|layers| layers.iter().map(Vec::as_slice).collect()).collect();
    let rows: Vec<FeatureRow<'_>> = range
        .enumerate()
        .map(|(i, row)| FeatureRow {
            name: &names[i],
            label: label(row),
            sha256: &hashes[i],
            perceptual_hash: hash(row),
            features: &slices[i],
        })
        .collect();
    writer.append(&rows, skipped)
}

/// Asserts that the file holds exactly the rows `0..rows`, each right in every dataset.
pub(super) fn assert_rows(file: &FeatureFile, rows: usize) {
    assert_eq!(file.rows(), rows);
    for layer in 0..file.layers().len() {
        let layer_name = file.layers()[layer].spec.layer.clone();
        let features = file.read_layer(Some(&layer_name)).unwrap();
        assert_eq!(features.nrows(), rows);
        for ((row, column), &found) in features.indexed_iter() {
            assert_eq!(found, value(row, layer, column), "row {row}, layer {layer_name}, column {column}");
        }
    }
    for row in 0..rows {
        assert_eq!(file.image_names()[row], name(row));
        assert_eq!(file.sha256()[row], sha256(row));
        assert_eq!(file.labels()[row], label(row));
        assert_eq!(file.perceptual_hash(row), hash(row));
    }
}
