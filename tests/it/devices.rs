//! What the network runs on: recorded, and never quietly another device than was asked for.

use cnncodes::features::FeatureFile;
use cnncodes::network::Precision;
use predicates::prelude::*;
use predicates::str::contains;

use crate::common::{cnncodes, workspace};

#[test]
fn the_device_is_recorded_and_auto_says_what_it_chose() {
    let folder = workspace(5);
    cnncodes(folder.path())
        .args(["extract", "--device", "cpu", "--threads", "1", "-o", "cpu.h5"])
        .assert()
        .success()
        .stdout(contains("on cpu"));
    let cpu = FeatureFile::open(&folder.path().join("cpu.h5")).unwrap();
    assert_eq!((cpu.header().device.as_str(), cpu.header().spec().precision), ("cpu", Precision::Fp32));
    assert!(cpu.header().runtime.starts_with("ONNX Runtime 1."), "{}", cpu.header().runtime);
    cnncodes(folder.path()).args(["extract", "-o", "auto.h5"]).assert().success().stdout(contains("on cpu"));
    let auto = FeatureFile::open(&folder.path().join("auto.h5")).unwrap();
    assert_eq!(auto.header().device, "cpu", "a GPU does not pay for 20 images");
}

#[test]
fn a_gpu_gives_the_features_of_the_processor_whatever_the_batch() {
    let folder = workspace(30);
    let extract = |arguments: &[&str], output: &str| {
        let mut command = cnncodes(folder.path());
        command
            .args(["extract", "--layer", "fc7,conv1_1,pool3", "--pool", "avg", "-o", output])
            .args(arguments);
        command.assert()
    };
    let said = extract(&["--device", "cuda"], "cuda.h5");
    if !said.get_output().status.success() {
        eprintln!("SKIPPED: a GPU's features: {}", String::from_utf8_lossy(&said.get_output().stderr));
        return;
    }
    extract(&[], "auto.h5").success().stdout(contains("on cuda:0"));
    extract(&["--device", "cpu"], "cpu.h5").success();
    extract(&["--device", "cuda", "--precision", "tf32"], "tf32.h5").success();
    let layers = |name: &str| {
        let file = FeatureFile::open(&folder.path().join(name)).unwrap();
        ["fc7", "conv1_1", "pool3"].map(|layer| file.read_layer(Some(layer)).unwrap())
    };
    // Largest difference, as a share of the largest feature.
    let apart = |one: &str, other: &str| {
        let pairs = layers(one).into_iter().zip(layers(other));
        let apart = pairs.map(|(one, other)| {
            let largest = |features: &ndarray::Array2<f32>| {
                features.iter().fold(0_f32, |most, feature| most.max(feature.abs()))
            };
            largest(&(&one - &other)) / largest(&one)
        });
        apart.fold(0_f32, f32::max)
    };
    let (fp32, tf32) = (apart("cpu.h5", "cuda.h5"), apart("cpu.h5", "tf32.h5"));
    assert!(fp32 < 1e-5 && (1e-5..1e-2).contains(&tf32), "{fp32} in fp32, {tf32} in tf32");
    assert_eq!(layers("auto.h5"), layers("cuda.h5"));

    // All but one in two batches, then the last by itself: the same features as all at once.
    let image = std::fs::read_dir(folder.path().join("data/fish")).unwrap().next().unwrap().unwrap().path();
    let aside = folder.path().join("aside.jpg");
    std::fs::rename(&image, &aside).unwrap();
    extract(&["--device", "cuda"], "grown.h5").success();
    std::fs::rename(&aside, &image).unwrap();
    extract(&["--device", "cuda"], "grown.h5").success().stdout(contains("119 kept"));
    assert_eq!(layers("grown.h5"), layers("cuda.h5"));
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_is_missing() {
    let folder = workspace(5);
    for (device, recorded, remedy) in [
        ("cuda", "cuda:0", "scripts/setup --cuda"),
        ("cuda:7", "cuda:7", "scripts/setup --cuda"),
        ("openvino", "openvino", "scripts/setup --openvino"),
    ] {
        let output = format!("{}.h5", device.replace(':', "-"));
        let assert = cnncodes(folder.path()).args(["extract", "--device", device, "-o", &output]).assert();
        if assert.get_output().status.success() {
            let features = FeatureFile::open(&folder.path().join(output)).unwrap();
            assert_eq!(features.header().device, recorded, "it was there, so it must have been used");
        } else {
            // Either the library was built without the provider, or the provider lacks its own libraries.
            assert
                .code(2)
                .stderr(contains(format!("{recorded} cannot be used")))
                .stderr(contains(remedy).or(contains("it needs")));
            assert!(!folder.path().join(output).exists());
        }
    }
}

#[test]
fn reduced_precision_is_refused_where_it_is_not_to_be_had() {
    let folder = workspace(5);
    for (precision, remedy) in
        [("bf16", "bf16 needs --device openvino"), ("tf32", "tf32 needs --device cuda")]
    {
        cnncodes(folder.path())
            .args(["extract", "--device", "cpu", "--precision", precision])
            .assert()
            .code(2)
            .stderr(contains("cpu does not compute in").and(contains(remedy)));
    }
    for arguments in [["--device", "tpu"], ["--precision", "fp16"]] {
        cnncodes(folder.path()).arg("extract").args(arguments).assert().code(2).stderr(contains("choose"));
    }
}

#[test]
fn a_head_is_given_features_of_its_own_precision_unless_another_is_asked_for() {
    let folder = workspace(12);
    cnncodes(folder.path()).args(["extract", "--layer", "fc7", "-o", "features.h5"]).assert().success();
    let file = hdf5_metno::File::open_rw(folder.path().join("features.h5")).unwrap();
    let bf16: hdf5_metno::types::VarLenUnicode = "bf16".parse().unwrap();
    file.attr("precision").unwrap().write_scalar(&bf16).unwrap();
    file.close().unwrap();
    cnncodes(folder.path()).args(["fit-head", "--logistic", "features.h5"]).assert().success();
    let classify =
        |arguments: &[&str]| cnncodes(folder.path()).args(["classify", "image.jpg"]).args(arguments).assert();
    let said = classify(&[]);
    if !said.get_output().status.success() {
        said.code(2).stderr(contains("openvino cannot be used"));
    }
    classify(&["--device", "cpu"]).code(2).stderr(contains("cpu does not compute in bf16"));
    classify(&["--precision", "fp32"])
        .success()
        .stderr(contains("was made with features in bf16, and these are computed in fp32"));
}
