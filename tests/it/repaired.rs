//! What failed once is tried again: images that were repaired, limits that were raised, labels that were corrected since a
//! run failed or was interrupted.

use std::fs;
use std::path::Path;

use assert_cmd::assert::Assert;
use cnncodes::features::{FeatureFile, FeatureRow, FeatureWriter, SkippedImage, WriteOptions};
use predicates::prelude::*;
use predicates::str::contains;

use crate::common::{cnncodes, workspace};

const OUTPUT: &str = "features.h5";

fn extract(folder: &Path, input: &str, more: &[&str]) -> Assert {
    cnncodes(folder).args(["extract", input, "--layer", "fc7", "-o", OUTPUT]).args(more).assert()
}

fn features(folder: &Path) -> FeatureFile {
    FeatureFile::open(&folder.join(OUTPUT)).unwrap()
}

/// Asserts that the output is, byte for byte, what a run that knows nothing writes.
fn assert_as_new(folder: &Path, input: &str) {
    let found = fs::read(folder.join(OUTPUT)).unwrap();
    extract(folder, input, &["--force"]);
    assert!(found == fs::read(folder.join(OUTPUT)).unwrap());
}

/// Makes of the output what a run leaves that is stopped after `count` images, of which it could not read those in
/// `skipped` for the reason `reason`.
fn interrupt(folder: &Path, count: usize, skipped: &[&str], reason: &str) {
    let whole = features(folder);
    let values = whole.read_layer(None).unwrap();
    fs::remove_file(folder.join(OUTPUT)).unwrap();
    let options = WriteOptions { overwrite: true, expected_rows: whole.rows() };
    let mut writer = FeatureWriter::create(&folder.join(OUTPUT), whole.header(), options).unwrap();
    for row in 0..count {
        let name = &whole.image_names()[row];
        if skipped.contains(&name.as_str()) {
            let image = SkippedImage { name: name.clone(), reason: reason.to_owned() };
            writer.append(&[], &[image]).unwrap();
        } else {
            let features = values.row(row);
            let features = [features.as_slice().unwrap()];
            let label = whole.labels()[row];
            let (sha256, perceptual_hash) = (&whole.sha256()[row], whole.perceptual_hash(row));
            writer
                .append(&[FeatureRow { name, label, sha256, perceptual_hash, features: &features }], &[])
                .unwrap();
        }
    }
    drop(writer);
    assert!(folder.join("features.h5.partial").exists() && !folder.join(OUTPUT).exists());
}

#[test]
fn images_all_of_which_failed_are_read_once_they_are_repaired() {
    let folder = workspace(5);
    let folder = folder.path();
    fs::create_dir_all(folder.join("few/red")).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\n";
    for name in ["0.jpg", "1.jpg"] {
        fs::write(folder.join("few/red").join(name), pointer).unwrap();
    }
    for _ in 0..2 {
        extract(folder, "few", &[]).code(2).stderr(contains("none of the 2 images in few could be read"));
    }
    fs::copy(folder.join("data/fish/001.jpg"), folder.join("few/red/1.jpg")).unwrap();
    extract(folder, "few", &[]).code(1).stdout(contains("1 image of 1 class").and(contains("1 skipped")));
    fs::copy(folder.join("data/fish/002.jpg"), folder.join("few/red/0.jpg")).unwrap();
    extract(folder, "few", &[]).success().stdout(contains("2 images").and(contains("1 kept, 1 computed")));
    assert_as_new(folder, "few");
}

#[test]
fn a_limit_that_is_raised_lets_the_images_in() {
    let folder = workspace(5);
    let folder = folder.path();
    extract(folder, "data", &["--max-pixels", "10"]).code(2).stderr(contains("--max-pixels"));
    extract(folder, "data", &[]).success().stdout(contains("20 images").and(contains("0 skipped")));
    assert_as_new(folder, "data");
}

#[test]
fn what_an_interrupted_run_could_not_read_is_tried_again() {
    let folder = workspace(5);
    let folder = folder.path();
    extract(folder, "data", &[]).success();
    // The first, one between others, and the last before the stop.
    let failed = ["fish/001.jpg", "fish/004.jpg", "flower/005.jpg"];
    interrupt(folder, 10, &failed, "not an image: it looks like text");
    extract(folder, "data", &[])
        .success()
        .stdout(contains("20 images").and(contains("0 skipped, 7 kept from an interrupted run")))
        .stderr(contains("skipped").not());
    assert_as_new(folder, "data");
    extract(folder, "data", &[]).success().stdout(contains("up to date"));
}

#[test]
fn failures_of_an_interrupted_run_that_last_are_reported_as_they_are_now() {
    let folder = workspace(5);
    let folder = folder.path();
    extract(folder, "data", &[]).success();
    interrupt(folder, 6, &["fish/002.jpg", "fish/003.jpg"], "a reason of old");
    fs::write(folder.join("data/fish/002.jpg"), "a letter").unwrap();
    let log = extract(folder, "data", &["--log", "json"]).code(1);
    let log = String::from_utf8(log.get_output().stderr.clone()).unwrap();
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of("started").len(), 1, "{log}");
    let [problem] = of("problem")[..] else { panic!("{log}") };
    assert_eq!(problem["name"], "fish/002.jpg");
    let end = events.last().unwrap();
    for (key, value) in [("rows", 19), ("resumed", 4), ("computed", 15), ("skipped", 1)] {
        assert_eq!(end[key], value, "{key}: {log}");
    }
    let file = features(folder);
    let [error] = file.errors() else { panic!("{log}") };
    assert_eq!(error.name, "fish/002.jpg");
    assert!(error.reason.contains("looks like text"), "{error:?}");
    assert_as_new(folder, "data");
}

#[test]
fn strict_stops_at_what_an_earlier_run_skipped() {
    let folder = workspace(5);
    let folder = folder.path();
    let bad = folder.join("data/fish/003.jpg");
    let good = fs::read(&bad).unwrap();
    fs::write(&bad, "a letter").unwrap();
    extract(folder, "data", &[]).code(1);
    extract(folder, "data", &["--strict"]).code(2).stderr(contains("fish/003.jpg").and(contains("--strict")));
    fs::write(&bad, good).unwrap();
    extract(folder, "data", &["--strict"]).success().stdout(contains("19 kept, 1 computed"));
    interrupt(folder, 6, &["fish/003.jpg"], "not an image");
    fs::write(&bad, "a letter").unwrap();
    extract(folder, "data", &["--strict"]).code(2).stderr(contains("fish/003.jpg").and(contains("--strict")));
}

#[test]
fn labels_that_were_corrected_since_a_run_was_interrupted_count() {
    let folder = workspace(5);
    let folder = folder.path();
    let list = |swapped: bool| {
        let label = |class: &str| if (class == "fish") == swapped { "b" } else { "a" };
        let lines = ["fish", "house"].iter().flat_map(|class| {
            (1..=5).map(move |number| format!("data/{class}/00{number}.jpg,{}\n", label(class)))
        });
        fs::write(folder.join("list.csv"), "path,label\n".to_owned() + &lines.collect::<String>()).unwrap();
    };
    list(false);
    extract(folder, "list.csv", &[]).success();
    assert_eq!(features(folder).labels(), [[0; 5], [1; 5]].concat());
    interrupt(folder, 7, &[], "");
    list(true);
    extract(folder, "list.csv", &[]).success().stdout(contains("7 kept from an interrupted run"));
    assert_eq!(features(folder).labels(), [[1; 5], [0; 5]].concat());
    assert_as_new(folder, "list.csv");
}
