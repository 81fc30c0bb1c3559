//! `fit-head --max-memory` on features that take more: the same head as in memory, from a file that is streamed.

use std::path::Path;

use cnncodes::features::{FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, WriteOptions};
use cnncodes::head::Head;
use cnncodes::network::Pooling;
use predicates::str::contains;

use crate::common::{cnncodes, spec};

const ROWS: usize = 6000;
const COLUMNS: usize = 512;

/// Noisy features of three classes; every 50th image has no label.
fn write_features(output: &Path, count: usize) {
    let header = FeatureFileHeader {
        program_version: "0.1.0".into(),
        source: "data".into(),
        runtime: "none".into(),
        device: "cpu".into(),
        class_names: ["a", "b", "c"].map(String::from).to_vec(),
        layers: vec![StoredLayer { spec: spec("fc7", "fc7", Pooling::None), shape: vec![COLUMNS] }],
    };
    let options = WriteOptions { overwrite: true, expected_rows: count };
    let mut writer = FeatureWriter::create(output, &header, options).unwrap();
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    for row in 0..count {
        let class = row * row % 7 % 3;
        let value = |column: usize, noise: f32| {
            noise + if column % 9 == class { 0.15 } else { 0.0 } + column as f32 * 0.01
        };
        let features: Vec<f32> = (0..COLUMNS).map(|column| value(column, noise())).collect();
        let (name, sha256) = (format!("{row:05}.jpg"), format!("{row:064x}"));
        let label = if row % 50 == 7 { -1 } else { class as i64 };
        writer
            .append(
                &[FeatureRow {
                    name: &name,
                    label,
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

#[test]
fn a_streamed_fit_makes_the_head_of_a_fit_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    // Ridge regression keeps a matrix of products for each fold, which take more than half of the fewer features.
    for (kind, count, bound) in
        [("--svm", ROWS, "25MiB"), ("--logistic", ROWS, "25MiB"), ("--ridge", 2 * ROWS, "45MiB")]
    {
        write_features(&folder.path().join("features.h5"), count);
        let fit = |memory: &str, output: &str| {
            let mut command = cnncodes(folder.path());
            command.args([
                "fit-head",
                kind,
                "features.h5",
                "--max-memory",
                memory,
                "-o",
                output,
                "--folds",
                "3",
            ]);
            command.args(["--duplicate-threshold", "1"]).assert().success()
        };
        fit("1GiB", "memory.head.h5");
        fit(bound, "streamed.head.h5").stdout(contains("the features were streamed from their file"));
        let load = |name: &str| Head::load(&folder.path().join(name)).unwrap();
        let (memory, streamed) = (load("memory.head.h5"), load("streamed.head.h5"));
        let [a, b] = [&memory, &streamed].map(|head| head.model.convergence.objective);
        assert!((a / b - 1.0).abs() < 2e-4, "{kind}: {a} {b}");
        assert_eq!(memory.evaluation.rows, count - count / 50);
        let [a, b] = [&memory, &streamed].map(|head| head.evaluation.accuracy.value);
        assert!(a > 0.75 && (a - b).abs() < 0.005, "{kind}: {a} {b}");
        assert!(streamed.model.novelty.is_some() && streamed.model.conformal.is_some());
    }
}

#[test]
fn what_needs_the_features_in_memory_says_so() {
    let folder = tempfile::tempdir().unwrap();
    write_features(&folder.path().join("features.h5"), ROWS);
    let refused = |arguments: &[&str], message: &str| {
        let mut command = cnncodes(folder.path());
        command.args(["fit-head", "features.h5"]).args(arguments).assert().code(2).stderr(contains(message));
    };
    refused(
        &["--ridge", "--class-weight", "balanced", "--max-memory", "25MiB"],
        "ridge regression with class weights needs all features in memory",
    );
    // Sums of products of 512 columns for each fold do not fit.
    refused(&["--ridge", "--max-memory", "12MiB"], "MiB of memory are needed");
    refused(
        &["--svm", "--c", "auto", "--max-memory", "25MiB"],
        "the choice of C needs all features in memory",
    );
    refused(&["--svm", "--max-memory", "2MiB"], "MiB of memory are needed");
    refused(&["--svm", "--max-memory", "25MiB", "--duplicate-threshold", "0.9"], "raise --max-memory");
    refused(&["--svm", "--max-memory", "2"], "such as 2GiB or 500MB");
}
