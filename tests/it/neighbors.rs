//! Nearest images by their features: equal to NumPy's brute force, and as its users ask for them.

use std::fs;
use std::path::Path;
use std::process::Command;

use cnncodes::features::{FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, WriteOptions};
use cnncodes::network::Pooling;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::common::{cnncodes, spec, workspace};

const WIDTH: usize = 96;

/// A file of `rows` features as ReLU leaves them: half of them 0, the others of some size; row 7 is a copy of row 3.
fn write_features(path: &Path, rows: usize, seed: u64) {
    let header = FeatureFileHeader {
        program_version: "0.1.0".into(),
        source: "photos".into(),
        runtime: "onnxruntime".into(),
        device: "cpu".into(),
        class_names: vec!["even".into(), "odd".into()],
        layers: vec![StoredLayer { spec: spec("fc7", "relu7", Pooling::None), shape: vec![WIDTH] }],
    };
    let options = WriteOptions { overwrite: true, expected_rows: rows };
    let mut writer = FeatureWriter::create(path, &header, options).unwrap();
    let mut state = seed;
    for row in 0..rows {
        let mut features: Vec<f32> = (0..WIDTH)
            .map(|_| {
                // Knuth's linear congruential generator; its upper bits are as good as they need to be here.
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 40) as f32 / (1 << 24) as f32 * 4.0 - 2.0).max(0.0)
            })
            .collect();
        if row == 3 || row == 7 {
            features = (0..WIDTH).map(|column| (column % 5) as f32).collect();
        }
        let (name, sha256) = (format!("{row:05}.jpg"), format!("{:064x}", seed + row as u64));
        writer
            .append(
                &[FeatureRow {
                    name: &name,
                    label: (row % 2) as i64,
                    sha256: &sha256,
                    perceptual_hash: None,
                    features: &[&features],
                }],
                &[],
            )
            .unwrap();
    }
    writer.finish().unwrap();
}

fn answers(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = cnncodes(folder)
        .arg("neighbors")
        .args(arguments)
        .args(["--format", "json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn neighbours_equal_numpys_brute_force() {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!("SKIPPED: neighbours_equal_numpys_brute_force: CNNCODES_PYTHON names no Python with h5py");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // More than one block and part would hold, in all.
    write_features(&folder.path().join("rows.h5"), 5000, 1);
    write_features(&folder.path().join("queries.h5"), 40, 2);
    for metric in ["cosine", "euclidean"] {
        let found = answers(folder.path(), &["rows.h5", "queries.h5", "-k", "12", "--metric", metric]);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/reference/check_neighbors.py");
        let run = Command::new(&python)
            .arg(script)
            .args(["rows.h5", "queries.h5", metric, "12"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let expected: Vec<Vec<(u64, f64)>> = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!((found.len(), expected.len()), (40, 40));
        for (query, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found["query"], format!("{query:05}.jpg"));
            let found = found["neighbors"].as_array().unwrap();
            assert_eq!(found.len(), 12);
            for (found, (row, distance)) in found.iter().zip(expected) {
                assert_eq!(found["row"], *row, "{metric}, query {query}");
                assert_eq!(found["image"], format!("{row:05}.jpg"));
                assert_eq!(found["class"], ["even", "odd"][*row as usize % 2]);
                assert!((found["distance"].as_f64().unwrap() - distance).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn an_image_of_the_file_is_left_out_of_its_own_answer_and_copies_are_not() {
    let folder = tempfile::tempdir().unwrap();
    write_features(&folder.path().join("rows.h5"), 50, 1);
    let found = answers(folder.path(), &["rows.h5", "00003.jpg", "00007.jpg", "-k", "1"]);
    assert_eq!(found[0]["neighbors"][0]["image"], "00007.jpg");
    assert_eq!(found[0]["neighbors"][0]["distance"], 0.0);
    assert_eq!(found[1]["neighbors"][0]["image"], "00003.jpg");
    // The file itself as queries: every row, without itself.
    let found = answers(folder.path(), &["rows.h5", "rows.h5", "-k", "49"]);
    assert_eq!(found.len(), 50);
    for (row, answer) in found.iter().enumerate() {
        let neighbors = answer["neighbors"].as_array().unwrap();
        assert_eq!(neighbors.len(), 49);
        assert!(neighbors.iter().all(|near| near["row"] != row));
    }
    // More than there are.
    let found = answers(folder.path(), &["rows.h5", "00003.jpg", "-k", "1000"]);
    assert_eq!(found[0]["neighbors"].as_array().unwrap().len(), 49);
}

#[test]
fn new_photos_are_looked_at_by_the_network_of_the_file() {
    let folder = workspace(5);
    cnncodes(folder.path()).args(["extract", "--layer", "pool4", "--pool", "avg"]).assert().success();
    let features = "features/demo-vgg-pool4-avg.h5";
    let found = answers(folder.path(), &[features, "data/fish", "image.jpg", "house/002.jpg", "-k", "2"]);
    let queries: Vec<&str> = found.iter().map(|answer| answer["query"].as_str().unwrap()).collect();
    let fish: Vec<String> = (1..=5).map(|number| format!("data/fish/{number:03}.jpg")).collect();
    assert_eq!(queries[0], "house/002.jpg", "names of rows are answered first");
    assert_eq!(queries[1..6], fish.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(queries[6], "image.jpg");
    for (number, answer) in found[1..6].iter().enumerate() {
        let nearest = &answer["neighbors"][0];
        assert_eq!(nearest["image"], format!("fish/{:03}.jpg", number + 1), "a photo is nearest to itself");
        assert!(nearest["distance"].as_f64().unwrap() < 1e-9);
    }

    fs::write(folder.path().join("broken.jpg"), b"\xff\xd8\xff no").unwrap();
    cnncodes(folder.path())
        .args(["neighbors", features, "broken.jpg", "fish/001.jpg", "-k", "1"])
        .assert()
        .code(1)
        .stdout(predicates::str::starts_with("fish/001.jpg\n  0."))
        .stderr(contains("skipped: broken.jpg"));
    cnncodes(folder.path())
        .args(["neighbors", features, "cow.jpg"])
        .assert()
        .code(2)
        .stderr(contains("cow.jpg is neither a file nor the name of an image").and(contains("fish/001.jpg")));
    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success();
    cnncodes(folder.path())
        .args(["neighbors", features, "features/demo-vgg-fc7.h5"])
        .assert()
        .code(2)
        .stderr(contains("no layer").or(contains("do not match")));
}

#[test]
fn text_is_aligned_and_csv_has_a_line_a_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    write_features(&folder.path().join("rows.h5"), 20, 1);
    let run = |format: &str| {
        let arguments = ["neighbors", "rows.h5", "00003.jpg", "-k", "3", "--metric", "euclidean", "--format"];
        let output =
            cnncodes(folder.path()).args(arguments).arg(format).assert().success().get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "00003.jpg");
    assert_eq!(lines[1], "   0.0000  odd   00007.jpg");
    assert_eq!(lines.len(), 4);
    assert!(lines[1..].iter().all(|line| line.find(".jpg") == lines[1].find(".jpg")), "{text}");
    let csv = run("csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "query,rank,image,class,row,distance");
    assert_eq!(lines[1], "00003.jpg,1,00007.jpg,odd,7,0");
    assert_eq!(lines.len(), 4);
}
