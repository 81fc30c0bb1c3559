//! Preprocessing that is found and checked: files beside a network, normalisation inside it, and the network's confidence.

use std::fs;
use std::path::Path;

use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};

use crate::common::{assets, cnncodes, fixture, workspace};

/// A folder `net` with this network and these files.
fn network_folder(graph: &str, files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let net = folder.path().join("net");
    fs::create_dir(&net).unwrap();
    fs::copy(fixture("fixtures/graphs").join(graph), net.join("model.onnx")).unwrap();
    for (name, value) in files {
        fs::write(net.join(name), value.to_string()).unwrap();
    }
    folder
}

fn add_auto(folder: &Path, what: &str, options: &[&str]) -> Assert {
    let add = ["models", "add", what, "--preprocess", "auto", "--force"];
    cnncodes(folder).args(add).args(options).assert()
}

fn recipe(folder: &Path, name: &str) -> toml::Table {
    let text = fs::read_to_string(folder.join(format!("models/{name}.toml"))).unwrap();
    text.parse::<toml::Table>().unwrap()["preprocess"].as_table().unwrap().clone()
}

fn vit(mean: [f64; 3], std: [f64; 3]) -> Value {
    json!({ "image_processor_type": "ViTImageProcessor", "size": 32, "image_mean": mean, "image_std": std })
}

#[test]
fn a_folder_of_the_hub_is_added_with_what_its_files_say() {
    let clip = json!({ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 40 }, "crop_size": 32 });
    let folder = network_folder("input_pixel_values.onnx", &[("preprocessor_config.json", clip)]);
    add_auto(folder.path(), "net", &[]).success().stdout(
        contains("network: net/model.onnx\n")
            .and(contains("preprocessing: CLIPImageProcessor of transformers, from net/preprocessor_config.json\n"))
            .and(contains(
                "models/net.toml: unknown architecture, input N x 3 x H x W, custom: shorter side to 40 (bicubic), centre \
                 crop 32 x 32 (offset rounded down), RGB, / 255, - mean 0.48145466 0.4578275 0.40821073",
            )),
    );
    assert_eq!(recipe(folder.path(), "net")["crop_offset"].as_str(), Some("floor"));
    // What the user says goes before what the file says.
    add_auto(folder.path(), "net", &["--interpolation", "bilinear", "--name", "mine"])
        .success()
        .stdout(contains("shorter side to 40 (bilinear)"));
    // The network may lie in the folder onnx, its files above it.
    let net = folder.path().join("net");
    fs::create_dir(net.join("onnx")).unwrap();
    fs::rename(net.join("model.onnx"), net.join("onnx/model.onnx")).unwrap();
    add_auto(folder.path(), "net", &[])
        .success()
        .stdout(contains("network: net/onnx/model.onnx").and(contains("from net/preprocessor_config.json")));

    fs::write(
        net.join("preprocessor_config.json"),
        r#"{"image_processor_type": "ViTImageProcessor", "do_sharpen": 1}"#,
    )
    .unwrap();
    add_auto(folder.path(), "net", &[]).code(2).stderr(
        contains("net/preprocessor_config.json: do_sharpen: 1 is of an unknown meaning")
            .and(contains("--preprocess torchvision")),
    );
}

#[test]
fn timms_config_is_read_and_without_a_file_the_remedies_are_named() {
    let timm = json!({ "architecture": "vit_tiny", "pretrained_cfg": {
        "input_size": [3, 32, 32], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
    } });
    let folder = network_folder("input_pixel_values.onnx", &[("config.json", timm)]);
    add_auto(folder.path(), "net/model.onnx", &[]).success().stdout(
        contains("preprocessing: pretrained_cfg of timm, from net/config.json")
            .and(contains("shorter side to 35 (bicubic)")),
    );
    fs::remove_file(folder.path().join("net/config.json")).unwrap();
    add_auto(folder.path(), "net", &[]).code(2).stderr(
        contains("no preprocessor_config.json of Hugging Face and no config.json of timm lies beside net/model.onnx")
            .and(contains("torchvision, keras-caffe or tf"))
            .and(contains("--images data/")),
    );
}

#[test]
fn what_the_graph_normalises_itself_is_not_done_before_it() {
    let files = |mean, std| [("preprocessor_config.json", vit(mean, std))];
    let tf = files([0.5; 3], [0.5; 3]);
    let imagenet = files([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

    let folder = network_folder("input_channels_last.onnx", &tf);
    add_auto(folder.path(), "net", &[])
        .success()
        .stdout(contains("the graph itself computes (x - 127.5) / 127.5, so that is not done before it"));
    let recipe = |folder: &Path| {
        let recipe = recipe(folder, "net");
        let number = |value: &toml::Value| value.as_float().unwrap();
        let numbers = |key: &str| recipe[key].as_array().unwrap().iter().map(number).collect::<Vec<f64>>();
        (number(&recipe["divisor"]), numbers("mean"), numbers("std"))
    };
    assert_eq!(recipe(folder.path()), (1.0, vec![0.0; 3], vec![1.0; 3]));

    let folder = network_folder("input_mean_and_deviation.onnx", &imagenet);
    add_auto(folder.path(), "net", &[]).success();
    assert_eq!(recipe(folder.path()), (1.0, vec![0.0; 3], vec![1.0; 3]));

    // Another normalisation than the file says: somebody has to say what is meant.
    let folder = network_folder("input_channels_last.onnx", &imagenet);
    add_auto(folder.path(), "net", &[]).code(2).stderr(
        contains("the graph itself computes (x - 127.5) / 127.5")
            .and(contains("--divisor 1 --mean 0,0,0 --std 1,1,1")),
    );
    let own = ["--divisor", "1", "--mean", "0,0,0", "--std", "1,1,1"];
    add_auto(folder.path(), "net", &own).success();

    // A preset is taken as it is asked for, with a warning.
    let preset = |options: &[&str]| {
        let add = ["models", "add", "net", "--preprocess", "tf", "--force"];
        cnncodes(folder.path()).args(add).args(options).assert().success()
    };
    preset(&[]).stderr(contains("this preprocessing would normalise twice; add --divisor 1"));
    preset(&own).stderr("");
}

#[test]
fn a_network_that_does_not_know_such_images_cannot_tell() {
    let folder = workspace(6);
    let check = |options: &[&str]| {
        let check = ["models", "check", "demo-vgg", "--images", "data", "--count", "16"];
        cnncodes(folder.path()).args(check).args(options).assert()
    };
    // The demo's network has never seen what is drawn here.
    check(&[]).success().stdout(
        contains("demo-vgg: the network cannot tell which preprocessing is right: its surest class stands out by no more than")
            .and(contains("* custom: stretch to 64 x 64 (bilinear), RGB, / 127.5, - mean 1 1 1")),
    );
    let found: Value =
        serde_json::from_slice(&check(&["--format", "json"]).success().get_output().stdout).unwrap();
    assert_eq!(found["verdict"], "cannot_tell");
    assert_eq!((&found["images"], &found["classes"]), (&json!(16), &json!(36)));
    let chosen: Vec<&Value> =
        found["ranking"].as_array().unwrap().iter().filter(|ranked| ranked["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1);
    assert_eq!(chosen[0]["preprocess"]["divisor"], 127.5);

    fs::copy(folder.path().join("models/demo-vgg.onnx"), folder.path().join("other.onnx")).unwrap();
    add_auto(folder.path(), "other.onnx", &["--images", "data"]).code(2).stderr(
        contains("cannot tell which preprocessing is right")
            .and(contains("--preprocess torchvision, keras-caffe or tf")),
    );
    cnncodes(folder.path())
        .args(["models", "check", "demo-vgg", "--images", "data", "--count", "3"])
        .assert()
        .code(2)
        .stderr(contains("only 3 of the 3 images of data"));
}

#[test]
fn the_right_recipe_of_real_networks_ranks_first() {
    let Some(assets) = assets("the_right_recipe_of_real_networks_ranks_first") else { return };
    let folder = tempfile::tempdir().unwrap();
    let photos = assets.join("data/cats-dogs-horses-humans");
    let add = |name: &str, file: &str, options: &[&str]| {
        cnncodes(folder.path())
            .args(["models", "add", "--name", name])
            .arg(assets.join("models").join(file))
            .args(options)
            .assert()
            .success();
    };
    let check = |name: &str, count: &str| -> Value {
        let mut command = cnncodes(folder.path());
        command
            .args(["models", "check", name, "--count", count, "--format", "json", "--images"])
            .arg(&photos);
        serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap()
    };
    let lite = [
        "--interpolation",
        "bicubic",
        "--divisor",
        "128",
        "--mean",
        "0.9921875,0.9921875,0.9921875",
        "--std",
        "1,1,1",
    ];
    add("lite", "efficientnet-lite0.onnx", &[&["--preprocess", "torchvision"][..], &lite].concat());
    add("lite-wrong", "efficientnet-lite0.onnx", &["--preprocess", "torchvision"]);
    add("mobilenet", "mobilenetv2_1.0_224.onnx", &["--preprocess", "tf"]);
    add("mobilenet-wrong", "mobilenetv2_1.0_224_nhwc.onnx", &["--preprocess", "keras-caffe"]);
    add("squeezenet", "squeezenet1_1_notop.onnx", &["--preprocess", "keras-caffe"]);
    add("vgg", "vgg16_conv_240_keras.onnx", &["--preprocess", "keras-caffe"]);
    for name in ["lite", "mobilenet"] {
        let found = check(name, "48");
        assert_eq!(
            (&found["verdict"], &found["ranking"][0]["chosen"]),
            (&json!("fits"), &json!(true)),
            "{name}"
        );
    }
    for name in ["lite-wrong", "mobilenet-wrong"] {
        let found = check(name, "48");
        assert_eq!(found["verdict"], "better", "{name}: {found}");
        assert_eq!(found["ranking"][0]["preprocess"]["channel_order"], "rgb", "{name}");
        assert_ne!(found["ranking"][0]["preprocess"]["mean"][0], 0.485, "{name}");
    }
    // Without a file beside it, the network's confidence chooses.
    let network = assets.join("models/efficientnet-lite0.onnx");
    add_auto(folder.path(), network.to_str().unwrap(), &["--images", photos.to_str().unwrap()]).success().stdout(
        contains("preprocessing: the network is clearly surest with\n  tf: shorter side to 256 (bilinear), centre crop 224 x 224")
            .and(contains("ahead by 0.08"))
            .and(contains("input N x 3 x H x W, tf: ")),
    );
    // The dense layers of this VGG16 are another task's.
    for (name, why) in [("squeezenet", "no classifier"), ("vgg", "may by chance")] {
        let found = check(name, "8");
        assert_eq!(found["verdict"], "cannot_tell", "{name}");
        assert!(found["why"].as_str().unwrap().contains(why), "{name} {found}");
    }
}
