//! What `fit-head` can be told about the features, the classes and the split, as its users see it.

use std::fs;
use std::path::Path;
use std::process::Command;

use cnncodes::head::Head;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::common::{cnncodes, workspace};

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = cnncodes(folder).args(arguments).args(["--format", "json"]).assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

/// The Python code that docs/head-format.md gives its readers.
fn documented_prediction() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/head-format.md");
    let page = fs::read_to_string(page).unwrap();
    let code = page.split("```python\n").nth(1).unwrap();
    code.split("```").next().unwrap().to_owned()
}

#[test]
fn prepared_heads_say_the_same_in_python_and_in_evaluate() {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!(
            "SKIPPED: prepared_heads_say_the_same_in_python_and_in_evaluate: CNNCODES_PYTHON is not set"
        );
        return;
    };
    let folder = workspace(12);
    cnncodes(folder.path()).args(["extract", "--layer", "fc7", "-o", "c.h5"]).assert().success();
    let of_python = format!(
        "import h5py, numpy as np\nwith h5py.File('c.h5') as f: features = f['features'][:].astype(np.float64)\n{}\n\
         np.savetxt('p.txt', p / p.sum(axis=1, keepdims=True))",
        documented_prediction().replace("models/head.h5", "h.h5")
    );
    let options: [&[&str]; 9] = [
        &["--svm", "--l2-normalize", "--pca", "8"],
        &["--logistic", "--no-standardize", "--pca", "8", "--class-weight", "balanced"],
        &["--logistic", "--l2-normalize", "--no-standardize"],
        &["--ridge", "--pca", "20"],
        &["--ridge", "--class-weight", "balanced"],
        &["--svm", "--kernel", "rbf", "--l2-normalize"],
        &["--svm", "--kernel", "poly", "--degree", "2", "--pca", "12", "--c", "0.5"],
        &["--svm", "--solver", "linfa", "--c", "0.1"],
        &["--logistic", "--solver", "linfa", "--l2-normalize"],
    ];
    for options in options {
        let evaluation = json(folder.path(), &[&["fit-head", "c.h5", "-o", "h.h5"], options].concat());
        let accuracy = evaluation["accuracy"]["value"].as_f64().unwrap();
        assert!(accuracy > 0.7, "{options:?}: {accuracy}");
        let run = Command::new(&python).args(["-c", &of_python]).current_dir(folder.path()).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let of_python: Vec<f64> = fs::read_to_string(folder.path().join("p.txt"))
            .unwrap()
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        let head = Head::load(&folder.path().join("h.h5")).unwrap();
        let features = cnncodes::features::FeatureFile::open(&folder.path().join("c.h5")).unwrap();
        let found = head.probabilities(features.read_layer(None).unwrap().view()).unwrap();
        assert_eq!(found.len(), of_python.len());
        for (found, expected) in found.iter().zip(of_python) {
            assert!((found - expected).abs() < 1e-5, "{options:?}: {found} {expected}");
        }
        cnncodes(folder.path()).args(["classify", "image.jpg", "--head", "h.h5"]).assert().success();
    }
}

#[test]
fn options_that_cannot_be_are_refused_with_the_reason() {
    let folder = workspace(6);
    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success();
    let refuse = |options: &[&str], said: &str| {
        cnncodes(folder.path()).arg("fit-head").args(options).assert().code(2).stderr(contains(said));
    };
    refuse(&["--svm", "--pca", "24"], "24 principal components were asked for, but");
    refuse(&["--svm", "--pca", "0"], "ask for fewer");
    refuse(&["--svm", "--class-weight", "whales=2"], "`whales`, but the classes are fish, flower");
    refuse(&["--svm", "--class-weight", "fish"], "CLASS=WEIGHT");
    refuse(&["--ridge", "--c", "auto"], "ridge regression takes no values of C to choose from");
    refuse(&["--logistic", "--kernel", "rbf"], "--kernel is for the SVM");
    refuse(&["--svm", "--gamma", "0.1"], "--kernel");
    refuse(&["--svm", "--kernel", "rbf", "--degree", "2"], "--kernel rbf takes --gamma alone");
    refuse(&["--svm", "--kernel", "rbf", "--gamma", "0"], "gamma is 0, but must be a number above 0");
    refuse(&["--svm", "--kernel", "poly", "--degree", "11"], "must be from 1 to 10");
    refuse(
        &["--svm", "--kernel", "poly", "--class-weight", "balanced"],
        "class weights cannot have a kernel",
    );
    refuse(&["--svm", "--kernel", "rbf", "--max-memory", "1kB"], "a kernel SVM needs all features in memory");
    refuse(&["--ridge", "--solver", "linfa"], "linfa's solvers cannot be used with ridge regression");
    refuse(&["--svm", "--solver", "linfa", "--kernel", "rbf"], "cannot be used with a kernel");
    refuse(
        &["--svm", "--solver", "linfa", "--class-weight", "balanced"],
        "cannot be used with class weights",
    );
    refuse(&["--logistic", "--solver", "linfa", "--no-standardize"], "features that are not standardised");
    refuse(
        &["--logistic", "--solver", "linfa", "--max-memory", "1kB"],
        "a solver of linfa needs all features in memory",
    );
    refuse(&["--svm", "--split"], "--split needs folders such as train/cats");
}

#[test]
fn a_split_is_kept_to_and_copies_that_straddle_it_are_told() {
    let folder = workspace(20);
    let data = folder.path().join("data");
    let mut manifest = String::from("path,split\n");
    let classes: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap()).collect();
    let classes: Vec<_> = classes.iter().filter(|entry| entry.path().is_dir()).collect();
    for class in &classes {
        let name = class.file_name().into_string().unwrap();
        let mut photos: Vec<_> =
            fs::read_dir(class.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        photos.sort();
        for (index, photo) in photos.iter().enumerate() {
            let part = ["train", "train", "train", "val", "test"][index % 5];
            let file = photo.file_name().unwrap();
            let to = folder.path().join("parts").join(part).join(&name);
            fs::create_dir_all(&to).unwrap();
            fs::copy(photo, to.join(file)).unwrap();
            manifest += &format!("{name}/{},{part}\n", file.to_str().unwrap());
        }
    }
    let parts = folder.path().join("parts");
    fs::copy(parts.join("train/fish/001.jpg"), parts.join("test/fish/copy.jpg")).unwrap();
    cnncodes(folder.path()).args(["extract", "parts", "--layer", "fc7", "-o", "parts.h5"]).assert().success();
    let fit = ["fit-head", "--logistic", "--duplicate-threshold", "1"];
    let evaluation =
        json(folder.path(), &[&fit[..], &["parts.h5", "--split", "-o", "models/a.head.h5"]].concat());
    assert_eq!(evaluation["rows"], 64, "training and validation images: {evaluation}");
    assert_eq!(evaluation["class_names"].as_array().unwrap().len(), 4);
    let test = &evaluation["test"];
    assert_eq!(test["accuracy"]["trials"], 17);
    assert_eq!(test["straddling"], serde_json::json!(["test/fish/copy.jpg"]));
    assert_eq!(test["clean_accuracy"]["trials"], 16);
    assert!(test["clean_accuracy"]["value"].as_f64().unwrap() >= 0.75, "{test}");
    cnncodes(folder.path())
        .args(fit)
        .args(["parts.h5", "--split", "-o", "models/a.head.h5"])
        .assert()
        .success()
        .stdout(contains(
            "1 of the test images are duplicates of training images, such as test/fish/copy.jpg",
        ))
        .stderr(contains("16 validation images were fitted to as well"));
    // The same figures as from `evaluate`, of which the head says that it has not seen these images.
    let head = Head::load(&folder.path().join("models/a.head.h5")).unwrap();
    assert_eq!(head.trained_on.len(), 64);
    let assessed = json(folder.path(), &["evaluate", "parts/test", "--head", "models/a.head.h5"]);
    assert_eq!(assessed["accuracy"], test["accuracy"]);
    assert_eq!(assessed["trained_on"], 1, "the copy");
    // Without --split the parts look like classes.
    cnncodes(folder.path())
        .args(fit)
        .arg("parts.h5")
        .assert()
        .success()
        .stderr(contains("the classes are named test, train, val").and(contains("--split")));

    // The same split by a file, on features of plain folders.
    cnncodes(folder.path()).args(["extract", "--layer", "fc7", "-o", "plain.h5"]).assert().success();
    fs::write(folder.path().join("split.csv"), &manifest).unwrap();
    let by_file = json(folder.path(), &[&fit[..], &["plain.h5", "--split=split.csv"]].concat());
    assert_eq!(by_file["rows"], 64);
    assert_eq!(by_file["test"]["accuracy"], test["clean_accuracy"]);
    assert_eq!(by_file["test"]["clean_accuracy"], Value::Null);
    fs::write(folder.path().join("bad.csv"), manifest.replace("val", "holdout")).unwrap();
    let refuse = |file: &str, said: &str| {
        cnncodes(folder.path())
            .args(fit)
            .args(["plain.h5", file])
            .assert()
            .code(2)
            .stderr(contains(said.to_owned()));
    };
    refuse("--split=bad.csv", "the split `holdout`");
    fs::write(folder.path().join("none.csv"), manifest.replace("test", "train")).unwrap();
    refuse("--split=none.csv", "finds no test image");
    refuse("--split=absent.csv", "absent.csv");
}

#[test]
fn a_head_with_a_kernel_classifies_evaluates_and_is_explained_by_occlusion() {
    let folder = workspace(12);
    let path = folder.path();
    // A layer of maps: of a linear head the explanation would be a class activation map.
    cnncodes(path).args(["extract", "--layer", "pool4", "--pool", "avg", "-o", "c.h5"]).assert().success();
    let evaluation = json(path, &["fit-head", "--svm", "--kernel", "rbf", "c.h5"]);
    assert!(evaluation["accuracy"]["value"].as_f64().unwrap() > 0.6, "{evaluation}");
    let head = path.join("models/c-svm-rbf.head.h5");
    let head = head.to_str().unwrap();
    let assessed = json(path, &["evaluate", "c.h5", "--head", head]);
    assert_eq!(assessed["rows"], 48);
    assert!(assessed["accuracy"]["value"].as_f64().unwrap() > 0.9, "{assessed}");
    let classify = ["classify", "image.jpg", "--head", head, "--coverage", "0.9", "--explain", "why"];
    let answers = json(path, &[&classify[..], &["--occlusion-size", "32"]].concat());
    assert_eq!(answers[0]["explanations"][0]["method"], "occlusion", "{answers}");
    assert!(!answers[0]["set"].as_array().unwrap().is_empty());
    let sum: f64 =
        answers[0]["classes"].as_array().unwrap().iter().map(|c| c["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    cnncodes(path)
        .args(["fit-head", "--svm", "--kernel", "rbf", "c.h5", "-o", "r.head.h5", "--report", "r.html"])
        .assert()
        .success();
}
