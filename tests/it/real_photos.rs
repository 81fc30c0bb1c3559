//! The whole job on 808 real photos of cats, dogs, horses and humans with networks that were trained on ImageNet.

use std::path::Path;

use cnncodes::features::FeatureFile;
use serde_json::Value;

use crate::common::{assets, cnncodes};

/// Adds a network of the assets, extracts the 808 photos, and gives the features file.
fn extract(folder: &Path, assets: &Path, network: &str, layer: &str, add: &[&str]) -> FeatureFile {
    cnncodes(folder)
        .args(["models", "add"])
        .arg(assets.join("models").join(format!("{network}.onnx")))
        .args(add)
        .assert()
        .success();
    cnncodes(folder)
        .arg("extract")
        .arg(assets.join("data/cats-dogs-horses-humans"))
        .args(["--model", network, "--layer", layer])
        .assert()
        .success();
    FeatureFile::open(&folder.join(format!("features/{network}-{layer}.h5"))).unwrap()
}

fn accuracy(folder: &Path, kind: &str, features: &str) -> f64 {
    let output = cnncodes(folder)
        .args(["fit-head", kind, features, "--format", "json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let evaluation: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(evaluation["rows"], 808);
    let groups = evaluation["groups"].as_u64().unwrap();
    assert!(groups <= 770, "38 photos are byte-identical copies, and more are nearly so: {groups}");
    evaluation["accuracy"]["value"].as_f64().unwrap()
}

#[test]
fn mobilenet_features_classify_the_808_photos_and_the_nhwc_export_agrees() {
    let Some(assets) = assets("mobilenet_features_classify_the_808_photos") else { return };
    let folder = tempfile::tempdir().unwrap();
    let layer = "global_average_pooling2d";
    let nchw = extract(folder.path(), &assets, "mobilenetv2_1.0_224", layer, &["--preprocess", "tf"]);
    let nhwc = extract(folder.path(), &assets, "mobilenetv2_1.0_224_nhwc", layer, &["--preprocess", "tf"]);
    assert_eq!(nchw.rows(), 808);
    assert_eq!(nchw.class_names(), ["cats", "dogs", "horses", "humans"]);
    assert_eq!(nchw.image_names(), nhwc.image_names());
    let (a, b) = (nchw.read_layer(None).unwrap(), nhwc.read_layer(None).unwrap());
    let largest = a.iter().copied().fold(0.0, f32::max);
    let difference = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= 1e-4 * largest, "{difference}");

    let features = format!("features/mobilenetv2_1.0_224-{layer}.h5");
    let logistic = accuracy(folder.path(), "--logistic", &features);
    assert!(logistic >= 0.980, "{logistic}");
    let svm = accuracy(folder.path(), "--svm", &features);
    assert!(svm >= 0.975, "{svm}");

    for kind in ["logistic", "svm"] {
        let output = cnncodes(folder.path())
            .arg("classify")
            .args(
                ["cat.jpg", "cat2.jpg", "dog.jpg", "dog2.jpg"]
                    .map(|photo| assets.join("data/predict").join(photo)),
            )
            .args(["--format", "json", "--head"])
            .arg(format!("models/mobilenetv2_1.0_224-{layer}-{kind}.head.h5"))
            .assert()
            .success()
            .get_output()
            .stdout
            .clone();
        let answers: Value = serde_json::from_slice(&output).unwrap();
        for (answer, expected) in answers.as_array().unwrap().iter().zip(["cats", "cats", "dogs", "dogs"]) {
            assert_eq!(answer["classes"][0]["class"], expected, "{kind}: {answer}");
        }
    }
}

#[test]
fn squeezenet_features_classify_the_808_photos() {
    let Some(assets) = assets("squeezenet_features_classify_the_808_photos") else { return };
    let folder = tempfile::tempdir().unwrap();
    let add =
        ["--preprocess", "keras-caffe", "--crop", "--shorter-side", "256", "--interpolation", "bilinear"];
    let features = extract(folder.path(), &assets, "squeezenet1_1_notop", "avgpool10", &add);
    assert_eq!(features.layers()[0].shape, [512]);
    let features = "features/squeezenet1_1_notop-avgpool10.h5";
    let logistic = accuracy(folder.path(), "--logistic", features);
    assert!(logistic >= 0.95, "{logistic}");
    let svm = accuracy(folder.path(), "--svm", features);
    assert!(svm >= 0.95, "{svm}");
}
