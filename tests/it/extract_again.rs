//! `extract` over images that were extracted before: what is known is not computed again, and the file is the one that
//! a first run would have written.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::assert::Assert;
use cnncodes::features::FeatureFile;
use predicates::prelude::*;
use predicates::str::contains;

use crate::common::{cnncodes, workspace};

const OUTPUT: &str = "features/demo-vgg-fc7.h5";

fn extract(folder: &Path, more: &[&str]) -> Assert {
    cnncodes(folder).args(["extract", "--layer", "fc7"]).args(more).assert()
}

/// As [`extract`], where the network cannot be loaded.
fn without_runtime(folder: &Path, more: &[&str]) -> Assert {
    cnncodes(folder)
        .env("CNNCODES_ONNXRUNTIME", folder.join("nowhere"))
        .args(["extract", "--layer", "fc7"])
        .args(more)
        .assert()
}

/// Asserts that the output is, byte for byte, what a run that knows nothing writes.
fn assert_as_new(folder: &Path) {
    let _ = fs::remove_file(folder.join("new.h5"));
    extract(folder, &["-o", "new.h5"]);
    assert!(fs::read(folder.join(OUTPUT)).unwrap() == fs::read(folder.join("new.h5")).unwrap());
}

fn photo(folder: &Path, name: &str) -> PathBuf {
    folder.join("data").join(name)
}

#[test]
fn an_unchanged_folder_needs_no_network_and_leaves_the_file_alone() {
    let folder = workspace(5);
    extract(folder.path(), &[]).success().stdout(contains("20 images").and(contains("kept").not()));
    let output = folder.path().join(OUTPUT);
    let before = fs::metadata(&output).unwrap().modified().unwrap();
    for more in [&[][..], &["--rehash"]] {
        without_runtime(folder.path(), more).success().stdout(contains(
            "features/demo-vgg-fc7.h5: up to date, 20 images of 4 classes, 160 features of fc7",
        ));
    }
    assert_eq!(fs::metadata(&output).unwrap().modified().unwrap(), before);
    without_runtime(folder.path(), &["--force"]).code(2);
    extract(folder.path(), &["--force"]).success().stdout(contains("up to date").not());
    assert_as_new(folder.path());
}

#[test]
fn moved_and_removed_images_need_no_network() {
    let folder = workspace(5);
    extract(folder.path(), &[]).success();
    fs::rename(photo(folder.path(), "fish/001.jpg"), photo(folder.path(), "house/zz.jpg")).unwrap();
    fs::remove_file(photo(folder.path(), "fish/003.jpg")).unwrap();
    fs::copy(photo(folder.path(), "fish/002.jpg"), photo(folder.path(), "fish/copy.jpg")).unwrap();
    without_runtime(folder.path(), &[])
        .success()
        .stdout(contains("20 images").and(contains("20 kept (2 moved), 0 computed, 1 removed")));
    assert_as_new(folder.path());
    let file = FeatureFile::open(&folder.path().join(OUTPUT)).unwrap();
    let row = file.image_names().iter().position(|name| name == "house/zz.jpg").unwrap();
    assert_eq!(file.class_names()[file.labels()[row] as usize], "house", "it has its new folder's label");
}

#[test]
fn a_class_that_is_renamed_is_only_written_anew() {
    let folder = workspace(5);
    extract(folder.path(), &[]).success();
    fs::rename(photo(folder.path(), "fish"), photo(folder.path(), "trout")).unwrap();
    without_runtime(folder.path(), &[])
        .success()
        .stdout(contains("20 kept (5 moved), 0 computed, 0 removed"));
    assert_as_new(folder.path());
    without_runtime(folder.path(), &["--no-labels"]).success().stdout(contains("20 kept, 0 computed"));
    assert!(
        FeatureFile::open(&folder.path().join(OUTPUT)).unwrap().labels().iter().all(|&label| label == -1)
    );
}

#[test]
fn only_changed_and_added_images_are_computed() {
    let folder = workspace(5);
    extract(folder.path(), &[]).success();
    fs::copy(folder.path().join("image.jpg"), photo(folder.path(), "house/002.jpg")).unwrap();
    let other = workspace(6);
    fs::copy(photo(other.path(), "fish/006.jpg"), photo(folder.path(), "fish/000.jpg")).unwrap();
    extract(folder.path(), &[])
        .success()
        .stdout(contains("21 images").and(contains("19 kept, 2 computed, 0 removed")));
    assert_as_new(folder.path());
}

#[test]
fn a_change_that_keeps_size_and_time_is_seen() {
    let folder = workspace(5);
    extract(folder.path(), &[]).success();
    let path = photo(folder.path(), "fish/001.jpg");
    let before = fs::metadata(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // The JFIF header's density: other bytes, the same picture.
    bytes[15] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before.modified().unwrap());
    extract(folder.path(), &[]).success().stdout(contains("19 kept, 1 computed"));
}

#[test]
fn other_settings_compute_everything_and_say_why() {
    let folder = workspace(5);
    extract(folder.path(), &["-o", "features.h5"]).success();
    extract(folder.path(), &["-o", "features.h5", "--ignore-orientation"])
        .success()
        .stderr(contains("features.h5 is computed again: the preprocessing differs"));
    cnncodes(folder.path())
        .args(["extract", "--layer", "fc6", "-o", "features.h5", "--ignore-orientation"])
        .assert()
        .success()
        .stderr(contains("it lacks fc6"));
    let bytes = fs::read(folder.path().join("features.h5")).unwrap();
    fs::write(folder.path().join("features.h5"), &bytes[..bytes.len() / 2]).unwrap();
    extract(folder.path(), &["-o", "features.h5"])
        .success()
        .stderr(contains("is computed again").and(contains("cut short")));
    assert_eq!(FeatureFile::open(&folder.path().join("features.h5")).unwrap().rows(), 20);
}

#[test]
fn layers_that_the_file_holds_are_taken_from_it() {
    let folder = workspace(5);
    cnncodes(folder.path()).args(["extract", "--layer", "pool4,fc6,fc7", "-o", OUTPUT]).assert().success();
    let before = FeatureFile::open(&folder.path().join(OUTPUT)).unwrap().read_layer(Some("fc7")).unwrap();
    without_runtime(folder.path(), &[]).success().stdout(contains("20 kept, 0 computed"));
    let after = FeatureFile::open(&folder.path().join(OUTPUT)).unwrap();
    assert_eq!(after.layers().len(), 1);
    assert_eq!(after.read_layer(None).unwrap(), before);
}

#[test]
fn what_could_not_be_read_is_tried_again() {
    let folder = workspace(5);
    let bad = photo(folder.path(), "house/002.jpg");
    let good = fs::read(&bad).unwrap();
    fs::write(&bad, "a letter").unwrap();
    extract(folder.path(), &[]).code(1).stdout(contains("19 images").and(contains("1 skipped")));
    without_runtime(folder.path(), &[])
        .code(1)
        .stdout(contains("up to date"))
        .stderr(contains("house/002.jpg"));
    fs::write(&bad, good).unwrap();
    extract(folder.path(), &[]).success().stdout(contains("20 images").and(contains("19 kept, 1 computed")));
    fs::write(&bad, "another").unwrap();
    without_runtime(folder.path(), &[]).code(2);
    extract(folder.path(), &[]).code(1).stdout(contains("19 kept, 0 computed"));
    assert_as_new(folder.path());
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let folder = workspace(5);
    extract(folder.path(), &["--dry-run", "--threads", "2", "--batch-size", "5"]).success().stdout(
        contains("20 images of 4 classes, 160 features of fc7")
            .and(contains("to compute 20, to keep 0"))
            .and(contains("2 sessions of 1 thread, batches of 5")),
    );
    assert!(!folder.path().join("features").exists());
    extract(folder.path(), &[]).success();
    fs::remove_file(photo(folder.path(), "fish/001.jpg")).unwrap();
    let before = fs::read(folder.path().join(OUTPUT)).unwrap();
    without_runtime(folder.path(), &["--dry-run"])
        .success()
        .stdout(contains("to compute 0, to keep 19 (0 under another name), to remove 1; 0 cannot be read"));
    assert!(fs::read(folder.path().join(OUTPUT)).unwrap() == before);
}

#[test]
fn the_log_for_machines_is_one_object_a_line() {
    let folder = workspace(5);
    fs::write(photo(folder.path(), "fish/003.jpg"), "a \"letter\"\n").unwrap();
    let lines = |assert: Assert| -> Vec<serde_json::Value> {
        let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let log = lines(extract(folder.path(), &["--log", "json", "--threads", "2"]).code(1).stdout(""));
    let events: Vec<&str> = log.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events.first(), Some(&"started"));
    assert_eq!(events.last(), Some(&"finished"));
    assert_eq!((&log[0]["images"], &log[0]["to_compute"]), (&20.into(), &20.into()));
    let arranged = log.iter().find(|line| line["event"] == "arranged").unwrap();
    let expected = serde_json::json!({ "event": "arranged", "sessions": 2, "threads": 1, "batch": 2 });
    assert_eq!(*arranged, expected);
    let problem = log.iter().find(|line| line["event"] == "problem").unwrap();
    assert_eq!(problem["name"], "fish/003.jpg");
    let progress = log.iter().rfind(|line| line["event"] == "progress").unwrap();
    assert_eq!((&progress["done"], &progress["total"]), (&20.into(), &20.into()));
    let end = log.last().unwrap();
    for (key, value) in [("rows", 19), ("computed", 19), ("kept", 0), ("skipped", 1), ("resumed", 0)] {
        assert_eq!(end[key], value, "{key}");
    }
    assert_eq!(end["layers"][0]["shape"], serde_json::json!([160]));
    let log = lines(extract(folder.path(), &["--log", "json"]).code(1));
    assert_eq!(log.last().unwrap()["up_to_date"], true);
    let log = lines(extract(folder.path(), &["--log", "json", "--model", "absent"]).code(2));
    assert_eq!(log[0]["event"], "failed");
    assert!(log[0]["error"].as_str().unwrap().contains("absent"));
}
