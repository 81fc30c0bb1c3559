//! A network that was really trained on ImageNet: EfficientNet-Lite0, of a package on PyPI that `scripts/setup --tests` installs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use cnncodes::demo;
use cnncodes::features::FeatureFile;
use serde_json::Value;

use crate::common::{cnncodes, fixture};

/// Runs a script of the project with the tests' Python; `None`, said loudly, where there is none.
fn python(test: &str, script: &str, arguments: &[&Path]) -> Option<Output> {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!("SKIPPED: {test}: CNNCODES_PYTHON names no Python with onnx and a network's weights");
        return None;
    };
    let script = fixture("../scripts").join(script);
    let run = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(run)
}

fn export(test: &str, folder: &Path) -> Option<()> {
    let script = "export/export_efficientnet_lite0.py";
    python(test, script, &[Path::new("--models"), &folder.join("models")]).map(drop)
}

#[test]
fn its_activations_of_two_photos_are_those_of_the_uncut_network() {
    const TEST: &str = "its_activations_of_two_photos_are_those_of_the_uncut_network";
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = export(TEST, folder.path()) else { return };
    let network = folder.path().join("models/efficientnet-lite0.onnx");
    let check = [network.as_path(), &folder.path().join("data")];
    let Some(run) = python(TEST, "reference/check_pretrained.py", &check) else { return };
    let expected: BTreeMap<String, BTreeMap<String, Vec<f32>>> = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(expected.keys().collect::<Vec<_>>(), ["china.jpg", "flower.jpg"]);
    cnncodes(folder.path())
        .args(["extract", "--layer", "avg_pool,logits", "-o", "photos.h5"])
        .assert()
        .success();
    let features = FeatureFile::open(&folder.path().join("photos.h5")).unwrap();
    for layer in ["avg_pool", "logits"] {
        let found = features.read_layer(Some(layer)).unwrap();
        for (row, name) in features.image_names().iter().enumerate() {
            let expected = &expected[name][layer];
            let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let difference =
                found.row(row).iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference <= 1e-4 * largest, "{layer} of {name}: {difference} of {largest}");
        }
    }
    // The classes of ImageNet that the photos show: 698 is palace, 985 is daisy.
    let logits = features.read_layer(Some("logits")).unwrap();
    let top = |row: usize| (0..1000).max_by(|&a, &b| logits[[row, a]].total_cmp(&logits[[row, b]])).unwrap();
    assert_eq!((top(0), top(1)), (698, 985));
}

#[test]
fn its_features_tell_drawn_pictures_apart() {
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = export("its_features_tell_drawn_pictures_apart", folder.path()) else { return };
    demo::write_folder(folder.path(), 25, 0).unwrap();
    cnncodes(folder.path()).args(["extract", "--layer", "avg_pool"]).assert().success();
    let fitted = cnncodes(folder.path()).args(["fit-head", "--svm", "--format", "json"]).assert().success();
    let evaluation: Value = serde_json::from_slice(&fitted.get_output().stdout).unwrap();
    assert_eq!(evaluation["rows"], 100);
    let accuracy = evaluation["accuracy"]["value"].as_f64().unwrap();
    assert!(accuracy >= 0.97, "99 of 100 are expected, and two more may depend on the machine: {accuracy}");
    let classified =
        cnncodes(folder.path()).args(["classify", "image.jpg", "--format", "json"]).assert().success();
    let answer: Value = serde_json::from_slice(&classified.get_output().stdout).unwrap();
    assert_eq!(answer[0]["classes"][0]["class"], "sailboat", "{answer}");
}
