//! A features file as users of other programs see it: read by h5py with no more knowledge than the docs give,
//! and compared by HDF5's own `h5diff`.

use std::path::Path;
use std::process::Command;

use cnncodes::features::{
    FeatureFileHeader, FeatureRow, FeatureWriter, PassedOverGroup, SkippedImage, StoredLayer, WriteOptions,
};
use cnncodes::network::Pooling;
use serde_json::{Value, json};

use crate::common::spec;

fn write_example(output: &Path) {
    let layer = |name: &str, tensor: &str, shape: &[usize], pooling: Pooling| StoredLayer {
        spec: spec(name, tensor, pooling),
        shape: shape.to_vec(),
    };
    let header = FeatureFileHeader {
        program_version: "0.1.0".into(),
        source: "Fotos/Tiere".into(),
        runtime: "onnxruntime 1.24.4".into(),
        device: "cpu".into(),
        class_names: vec!["Hund".into(), "Käuzchen".into()],
        layers: vec![
            layer("/features/Conv_output_0", "conv", &[2, 1, 2], Pooling::None),
            layer("fc7", "relu7", &[3], Pooling::Average),
        ],
    };
    let options = WriteOptions { overwrite: false, expected_rows: 4 };
    let mut writer = FeatureWriter::create(output, &header, options).unwrap();
    for row in 0..3_u8 {
        let value = f32::from(row);
        let conv = [value, value + 0.25, -value, f32::MIN_POSITIVE];
        let fc7 = [value * 1e30, 0.1, value - 0.5];
        let name = format!("Käuzchen/{row} 梟.jpg");
        let sha256 = format!("{row:064x}");
        let row = FeatureRow {
            name: &name,
            label: i64::from(row) - 1,
            sha256: &sha256,
            perceptual_hash: (row != 1).then_some([row + 7; 32]),
            features: &[&conv, &fc7],
        };
        let skipped = SkippedImage { name: "broken.jpg".into(), reason: "cut short: „Ende“".into() };
        let skipped = if row.label == 1 { vec![skipped] } else { vec![] };
        writer.append(&[row], &skipped).unwrap();
    }
    // h5diff calls empty datasets not comparable.
    let group = PassedOverGroup { reason: "a video".into(), files: 1, example: "Käuzchen.mp4".into() };
    writer.pass_over(&[group]).unwrap();
    writer.finish().unwrap();
}

/// A list of lists of numbers, flattened.
fn floats(value: &Value) -> Vec<f32> {
    let rows = value.as_array().unwrap().iter();
    rows.flat_map(|row| row.as_array().unwrap()).map(|number| number.as_f64().unwrap() as f32).collect()
}

#[test]
fn h5py_reads_names_labels_classes_and_features() {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!(
            "SKIPPED: h5py_reads_names_labels_classes_and_features: CNNCODES_PYTHON names no Python with h5py"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("features.h5");
    write_example(&output);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/reference/check_features_h5py.py");
    let run = Command::new(python).arg(script).arg(&output).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let read: Value = serde_json::from_slice(&run.stdout).unwrap();

    let tiny = f32::MIN_POSITIVE;
    let conv = [0.0, 0.25, 0.0, tiny, 1.0, 1.25, -1.0, tiny, 2.0, 2.25, -2.0, tiny];
    let fc7 = [0.0, 0.1, -0.5, 1e30, 0.1, 0.5, 2e30, 0.1, 1.5];
    assert_eq!(floats(&read["features"]), conv);
    assert_eq!(read["features_as_activations"], json!([3, 2, 1, 2]));
    assert_eq!(read["features_link"], "/layers/%2Ffeatures%2FConv_output_0");
    assert_eq!(read["names"], json!(["Käuzchen/0 梟.jpg", "Käuzchen/1 梟.jpg", "Käuzchen/2 梟.jpg"]));
    assert_eq!(read["labels"], json!([-1, 0, 1]));
    assert_eq!(read["labels_dtype"], "int64");
    assert_eq!(read["classes"], json!(["Hund", "Käuzchen"]));
    let hashes: Vec<_> = (0..3).map(|row| format!("{row:064x}")).collect();
    assert_eq!(read["sha256"], json!(hashes));
    let hashes = [[7; 32], [0; 32], [9; 32]];
    assert_eq!(read["perceptual_hash"], json!(hashes));
    assert_eq!(read["perceptual_hash_dtype"], "uint8");
    assert_eq!(read["errors"], json!([["broken.jpg", "cut short: „Ende“"]]));
    assert_eq!(
        read["attributes"],
        json!({
            "complete": 1, "device": "cpu", "error_rows": 1, "format": "cnncodes", "format_version": 1,
            "model_name": "tiny", "model_sha256": "ab".repeat(32), "precision": "fp32", "preprocess": serde_json::to_string(&spec("", "", Pooling::None).preprocess).unwrap(),
            "program_version": "0.1.0", "rows": 3, "runtime": "onnxruntime 1.24.4", "source": "Fotos/Tiere",
        })
    );
    let mut first = read["layers"]["/features/Conv_output_0"].clone();
    assert_eq!(floats(&first["features"].take()), conv);
    let expected = json!({
        "features": null, "dtype": "float32", "tensor": "conv", "pooling": "none", "shape": [2, 1, 2], "index": 0,
    });
    assert_eq!(first, expected);
    let mut second = read["layers"]["fc7"].clone();
    assert_eq!(floats(&second["features"].take()), fc7);
    let expected = json!({
        "features": null, "dtype": "float32", "tensor": "relu7", "pooling": "avg", "shape": [3], "index": 1,
    });
    assert_eq!(second, expected);
}

#[test]
fn the_documented_snippet_is_the_tested_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(root.join("scripts/reference/check_features_h5py.py")).unwrap();
    let (_, rest) = script.split_once("# The snippet of docs/features-format.md:\n").unwrap();
    let (snippet, _) = rest.split_once("    # End of the snippet.").unwrap();
    let page = std::fs::read_to_string(root.join("docs/features-format.md")).unwrap();
    assert!(page.contains(snippet), "docs/features-format.md lacks:\n{snippet}");
}

#[test]
fn h5diff_finds_no_difference_between_two_runs() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = ["a.h5", "b.h5"].map(|name| folder.path().join(name));
    outputs.iter().for_each(|output| write_example(output));
    let run = match Command::new("h5diff").args(&outputs).output() {
        Ok(run) => run,
        Err(error) => {
            eprintln!("SKIPPED: h5diff_finds_no_difference_between_two_runs: cannot run h5diff: {error}");
            return;
        }
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    assert_eq!(String::from_utf8_lossy(&run.stdout), "");
}
