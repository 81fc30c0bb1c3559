//! Features of real photos by real networks, against those of Python (`scripts/reference/compare_with_python.py`).

use std::path::Path;

use cnncodes::features::FeatureFile;
use serde_json::Value;

use crate::common::{assets, cnncodes, fixture};

#[test]
fn features_equal_those_of_onnxruntime_and_pillow() {
    let Some(assets) = assets("features_equal_those_of_onnxruntime_and_pillow") else { return };
    let text = std::fs::read_to_string(fixture("reference/parity.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let photos: Vec<&str> =
        reference["photos"].as_array().unwrap().iter().map(|photo| photo.as_str().unwrap()).collect();
    assert!(photos.len() >= 20);
    let folder = tempfile::tempdir().unwrap();
    let list: String = photos.iter().map(|photo| format!("{}\n", assets.join(photo).display())).collect();
    std::fs::write(folder.path().join("photos.csv"), format!("path\n{list}")).unwrap();
    for (name, network) in reference["networks"].as_object().unwrap() {
        let features = features_of(folder.path(), &assets, name, network);
        let largest = network["largest"].as_f64().unwrap();
        for (position, photo) in photos.iter().enumerate() {
            let row = features.image_names().iter().position(|name| name.ends_with(photo)).unwrap();
            let mut found = vec![0.0; features.layers()[0].width().unwrap()];
            features.read_rows(None, row..row + 1, &mut found).unwrap();
            let expected = network["codes"][position].as_array().unwrap();
            for (expected, found) in expected.iter().zip(found.iter().step_by(97)) {
                let difference = (f64::from(*found) - expected.as_f64().unwrap()).abs() / largest;
                assert!(difference < 1e-3, "{name} {photo}: off by {difference} of the largest feature");
            }
            let sum: f64 = found.iter().map(|&feature| f64::from(feature)).sum();
            let expected = network["sums"][position].as_f64().unwrap();
            assert!((sum - expected).abs() < 1e-3 * expected.abs(), "{name} {photo}: {sum}, not {expected}");
        }
    }
}

fn features_of(folder: &Path, assets: &Path, name: &str, network: &Value) -> FeatureFile {
    let add: Vec<&str> =
        network["add"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
    cnncodes(folder)
        .args(["models", "add"])
        .arg(assets.join("models").join(network["file"].as_str().unwrap()))
        .args(["--name", name])
        .args(add)
        .assert()
        .success();
    cnncodes(folder)
        .args(["extract", "photos.csv", "--model", name, "--layer", network["layer"].as_str().unwrap()])
        .args(["-o", "features.h5"])
        .assert()
        .success();
    FeatureFile::open(&folder.join("features.h5")).unwrap()
}
