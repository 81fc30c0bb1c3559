//! `--max-memory` on features that take more: the same as in memory, from a file that is streamed; and one features file in several
//! forms.

use std::ops::Range;
use std::path::{Path, PathBuf};

use cnncodes::features::{
    FeatureFile, FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, VirtualFile, WriteOptions,
    write_virtual,
};
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
    refused(&["--svm", "--max-memory", "2"], "such as 2GiB or 500MB");
}

#[test]
fn principal_components_duplicates_and_suspects_are_those_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    write_features(&folder.path().join("features.h5"), ROWS);
    let printed = |arguments: &[&str]| {
        let mut command = cnncodes(folder.path());
        let output =
            command.args(arguments).args(["--format", "json"]).assert().success().get_output().clone();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let fit = |memory: &str| {
        let head = format!("{memory}.head.h5");
        let kind = ["fit-head", "--svm", "--pca", "20", "features.h5", "--duplicate-threshold", "0.2"];
        let evaluation = printed(&[&kind[..], &["--max-memory", memory, "-o", &head]].concat());
        (evaluation, Head::load(&folder.path().join(head)).unwrap().model)
    };
    let ((in_memory, a), (streamed, b)) = (fit("1GiB"), fit("25MiB"));
    assert_eq!(in_memory["duplicates"], streamed["duplicates"]);
    assert!(!in_memory["duplicates"].as_array().unwrap().is_empty());
    let accuracy = |evaluation: &serde_json::Value| evaluation["accuracy"]["value"].as_f64().unwrap();
    assert!((accuracy(&in_memory) - accuracy(&streamed)).abs() < 0.001 && accuracy(&in_memory) > 0.5);
    assert_eq!(a.novelty, b.novelty);
    let components =
        |model: &cnncodes::head::HeadModel| model.preparation.pca().unwrap().components().clone();
    for (found, expected) in components(&b).iter().zip(&components(&a)) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    let suspects = |memory| printed(&["suspects", "features.h5", "--max-memory", memory]);
    let (in_memory, streamed) = (suspects("1GiB"), suspects("25MiB"));
    assert_eq!(in_memory["outliers"], streamed["outliers"]);
    assert_eq!(in_memory["outliers"].as_array().unwrap().len(), 20);
    let names = |found: &serde_json::Value| -> Vec<String> {
        let labels = found["labels"].as_array().unwrap();
        let mut names: Vec<String> =
            labels.iter().map(|suspect| suspect["image"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let (a, b) = (names(&in_memory), names(&streamed));
    let both = a.iter().filter(|name| b.contains(name)).count();
    assert!(both >= 18, "of the 20 most doubtful images {both} are the same: {a:?} {b:?}");
}

/// Some rows of a features file as a file of their own.
fn write_part(file: &FeatureFile, rows: Range<usize>, output: &Path) {
    let mut values = vec![0.0; rows.len() * COLUMNS];
    file.read_rows(None, rows.clone(), &mut values).unwrap();
    let options = WriteOptions { overwrite: false, expected_rows: rows.len() };
    let mut writer = FeatureWriter::create(output, file.header(), options).unwrap();
    for (row, features) in rows.zip(values.chunks_exact(COLUMNS)) {
        let (name, sha256) = (&file.image_names()[row], &file.sha256()[row]);
        let (label, perceptual_hash) = (file.labels()[row], file.perceptual_hash(row));
        let row = FeatureRow { name, label, sha256, perceptual_hash, features: &[features] };
        writer.append(&[row], &[]).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn every_command_takes_a_virtual_file_and_a_folder_of_parquet_parts_like_a_features_file() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.h5");
    write_features(&whole, 1000);
    let file = FeatureFile::open(&whole).unwrap();
    std::fs::create_dir(folder.path().join("parts")).unwrap();
    std::fs::create_dir(folder.path().join("parquet")).unwrap();
    let parts: Vec<(PathBuf, usize)> = [0..300, 300..301, 301..1000]
        .into_iter()
        .enumerate()
        .map(|(index, rows): (usize, Range<usize>)| {
            let part = folder.path().join(format!("parts/{index:06}.h5"));
            write_part(&file, rows.clone(), &part);
            #[cfg(feature = "parquet")]
            cnncodes(folder.path())
                .arg("convert")
                .arg(&part)
                .arg(format!("parquet/{index:06}.parquet"))
                .assert()
                .success();
            (part, rows.len())
        })
        .collect();
    let described = VirtualFile { header: file.header(), parts: &parts, skipped: &[], passed_over: &[] };
    write_virtual(&folder.path().join("virtual.h5"), &described, &mut |_| ()).unwrap();
    let forms: &[&str] = if cfg!(feature = "parquet") { &["virtual.h5", "parquet"] } else { &["virtual.h5"] };
    std::fs::copy(&whole, folder.path().join("copy.h5")).unwrap();
    let printed = |arguments: &[&str]| {
        let output = cnncodes(folder.path()).args(arguments).assert().success().get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = |features: &str, memory: &str| {
        let head = format!("{features}.head.h5");
        let common = ["--duplicate-threshold", "1", "--format", "json"];
        let fit = ["fit-head", "--svm", features, "--max-memory", memory, "-o", &head];
        let queries = ["neighbors", "whole.h5", features, "00017.jpg", "--format", "json"];
        [
            printed(&[&fit[..], &common].concat()),
            printed(&[&["suspects", features, "--max-memory", memory][..], &common].concat()),
            printed(&["neighbors", features, "00017.jpg", "00301.jpg", "--format", "json"]),
            printed(&queries),
            printed(&["evaluate", "--head", &head, features, "--format", "json"]),
            printed(&["classify", "--head", &head, "--features", features, "--format", "json"]),
        ]
    };
    for memory in ["1GiB", "4MiB"] {
        let expected = said("copy.h5", memory);
        for form in forms {
            for (found, expected) in said(form, memory).iter().zip(&expected) {
                assert_eq!(found, &expected.replace("copy.h5", form), "{form}");
            }
        }
    }
    std::fs::remove_file(folder.path().join("parts/000001.h5")).unwrap();
    cnncodes(folder.path())
        .args(["fit-head", "--ridge", "virtual.h5"])
        .assert()
        .code(2)
        .stderr(contains("000001.h5 cannot be used (it holds the rows 300 to 300)"));
}
