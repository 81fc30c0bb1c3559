//! Classes of too few images: refused by name before the network runs or a head is fitted, or left out.

use std::fs;
use std::path::Path;

use predicates::str::contains;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{cnncodes, workspace};

/// Four drawn classes of 6 pictures, and beside them `lone` and `only` of one, `pair` of two, and `same` of three copies of one.
fn folder() -> TempDir {
    let folder = workspace(6);
    let data = folder.path().join("data");
    let mut drawn: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    drawn.sort();
    let pictures = |class: &Path| {
        let mut files: Vec<_> = fs::read_dir(class).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let (first, second) = (pictures(&drawn[0]), pictures(&drawn[1]));
    let put = |class: &str, name: &str, picture: &Path| {
        fs::create_dir_all(data.join(class)).unwrap();
        fs::copy(picture, data.join(class).join(name)).unwrap();
    };
    put("lone", "1.jpg", &first[0]);
    fs::remove_file(&first[0]).unwrap();
    put("only", "1.jpg", &first[1]);
    fs::remove_file(&first[1]).unwrap();
    put("pair", "1.jpg", &second[0]);
    put("pair", "2.jpg", &second[1]);
    second[..2].iter().for_each(|picture| fs::remove_file(picture).unwrap());
    for name in ["1.jpg", "2.jpg", "3.jpg"] {
        put("same", name, &pictures(&drawn[2])[0]);
    }
    fs::remove_file(&pictures(&drawn[2])[0]).unwrap();
    folder
}

const REFUSED: &str = "2 classes have too few images: `lone` (1), `only` (1), and at least 2 are needed, one to train on and \
                       one to test: add images, or leave such classes out (--min-per-class 2)";

fn classes(evaluation: &Value) -> Vec<&str> {
    evaluation["class_names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = cnncodes(folder).args(arguments).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn sweep_refuses_classes_of_one_image_before_the_network_runs_and_leaves_them_out_when_asked() {
    let folder = folder();
    let sweep = ["sweep", "--layers", "fc7", "--no-timing", "--heads", "ridge", "--folds", "2"];
    let refused = cnncodes(folder.path()).args(sweep).assert().code(2);
    refused.stderr(contains(REFUSED));
    assert!(!folder.path().join("features").exists(), "the network has not run");

    let asked = [&sweep[..], &["--min-per-class", "2", "--fit", "--format", "json"]].concat();
    let swept = cnncodes(folder.path()).args(&asked).assert().success().stderr(contains(
        "--min-per-class 2 left out 2 images of 2 classes with fewer: `lone` (1), `only` (1)",
    ));
    let result: Value = serde_json::from_slice(&swept.get_output().stdout).unwrap();
    // The three copies were extracted, and found to be one image.
    assert_eq!(classes(&result), ["fish", "flower", "house", "pair", "sailboat"]);
    assert_eq!(result["rows"], 21);
    let told = "--min-per-class 2 left out 1 image of 1 class with fewer: `same` (1); duplicates count once";
    let notes = result["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note["text"] == told), "{notes:?}");
    let file = fs::read_dir(folder.path().join("features")).unwrap().map(|entry| entry.unwrap().path());
    let sweeps = file.filter(|path| path.to_string_lossy().ends_with("-sweep.h5"));
    for path in sweeps {
        let rows = cnncodes::features::FeatureFile::open(&path).unwrap().rows();
        assert_eq!(rows, 24, "the two lone images were not looked at");
    }
}

#[test]
fn fit_head_refuses_classes_of_one_image_and_leaves_out_small_ones_when_asked() {
    let folder = folder();
    let path = folder.path();
    cnncodes(path).args(["extract", "--layer", "fc7", "-o", "features.h5"]).assert().success();
    let fit = ["fit-head", "--ridge", "features.h5", "-o", "head.h5"];
    cnncodes(path).args(fit).assert().code(2).stderr(contains(REFUSED));
    assert!(!path.join("head.h5").exists());
    let evaluation = json(path, &[&fit[..], &["--min-per-class", "2", "--format", "json"]].concat());
    assert_eq!(classes(&evaluation), ["fish", "flower", "house", "pair", "sailboat"]);
    assert_eq!(evaluation["rows"], 21);
    let notes = evaluation["notes"].as_array().unwrap();
    for told in [
        "--min-per-class 2 left out 2 images of 2 classes with fewer: `lone` (1), `only` (1)",
        "--min-per-class 2 left out 1 image of 1 class with fewer: `same` (1); duplicates count once",
    ] {
        assert!(notes.iter().any(|note| note["text"] == told), "{told:?} is not among {notes:?}");
    }
    // The head holds what was left out, and classifies among the others.
    let head = cnncodes::head::Head::load(&path.join("head.h5")).unwrap();
    assert_eq!(serde_json::to_value(&head.evaluation.notes).unwrap(), evaluation["notes"]);
    let assessed = json(path, &["evaluate", "features.h5", "--head", "head.h5", "--format", "json"]);
    assert_eq!((assessed["rows"].as_u64(), assessed["trained_on"].as_u64()), (Some(21), Some(21)));
    let least =
        cnncodes(path).args(["fit-head", "--ridge", "features.h5", "--min-per-class", "7"]).assert().code(2);
    least.stderr(contains("--min-per-class 7 leaves 0 of 8 classes, and a classifier needs two"));
    cnncodes(path)
        .args(["suspects", "features.h5", "--min-per-class", "3"])
        .assert()
        .success()
        .stderr(contains("--min-per-class 3 left out 4 images of 3 classes with fewer"))
        .stderr(contains("left out 1 image of 1 class with fewer: `same` (1); duplicates count once"));
}

#[test]
fn a_split_counts_the_training_images() {
    let folder = folder();
    let path = folder.path();
    cnncodes(path).args(["extract", "--layer", "fc7", "-o", "features.h5"]).assert().success();
    // Of each class the first image is for testing, where there is another one.
    let features = cnncodes::features::FeatureFile::open(&path.join("features.h5")).unwrap();
    let mut csv = "path,split\n".to_owned();
    let mut before = String::new();
    for name in features.image_names() {
        let class = name.split('/').next().unwrap();
        let alone = ["lone", "only"].contains(&class);
        csv.push_str(&format!("{name},{}\n", if before != class && !alone { "test" } else { "train" }));
        before = class.to_owned();
    }
    fs::write(path.join("split.csv"), csv).unwrap();
    let fit = ["fit-head", "--ridge", "features.h5", "--split=split.csv", "-o", "head.h5"];
    cnncodes(path).args(fit).assert().code(2).stderr(contains(
        "3 classes have too few images: `lone` (1), `only` (1), `pair` (1), and at least 2 are needed",
    ));
    let evaluation = json(path, &[&fit[..], &["--min-per-class", "2", "--format", "json"]].concat());
    assert_eq!(classes(&evaluation), ["fish", "flower", "house", "sailboat"]);
    assert_eq!(evaluation["test"]["accuracy"]["trials"], 4);
}
