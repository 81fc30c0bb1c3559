//! The three commands and what surrounds them, on the embedded network and drawn pictures.

use std::fs;
use std::path::Path;

use cnncodes::demo::{CLASSES, UNSEEN};
use cnncodes::features::FeatureFile;
use cnncodes::network::Pooling;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::common::{cnncodes, fixture, workspace};

fn stdout(folder: &Path, arguments: &[&str]) -> String {
    let output = cnncodes(folder).args(arguments).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(folder, arguments)).unwrap()
}

#[test]
fn the_three_commands_work_as_typed() {
    let folder = workspace(12);
    let said = stdout(folder.path(), &["extract", "--layer", "fc7"]);
    assert!(
        said.starts_with(
            "features/demo-vgg-fc7.h5: 48 images of 4 classes, 160 features of fc7 of demo-vgg, 0 skipped"
        ),
        "{said}"
    );
    let said = stdout(folder.path(), &["fit-head", "--svm"]);
    assert!(said.contains("Confusion matrix") && said.contains("95 % interval"), "{said}");
    assert!(said.contains("models/demo-vgg-fc7-svm.head.h5"), "{said}");
    let said = stdout(folder.path(), &["classify", "image.jpg"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "image.jpg");
    assert!(lines[1].trim_start().starts_with(UNSEEN.name()), "{said}");
    assert_eq!(lines.len(), 1 + CLASSES.len());
}

#[test]
fn features_carry_names_labels_hashes_and_where_they_come_from() {
    let folder = workspace(5);
    stdout(folder.path(), &["extract", "--layer", "fc2", "-o", "deep/er/features.h5"]);
    let features = FeatureFile::open(&folder.path().join("deep/er/features.h5")).unwrap();
    assert_eq!(features.class_names(), CLASSES);
    assert_eq!(features.image_names()[0], "fish/001.jpg");
    assert_eq!(features.image_names()[19], "sailboat/005.jpg");
    assert_eq!(features.labels()[..6], [0, 0, 0, 0, 0, 1]);
    assert_eq!(features.layers()[0].spec.layer, "fc7", "an alias is recorded under the canonical name");
    let bytes = fs::read(folder.path().join("data/fish/001.jpg")).unwrap();
    use sha2::Digest;
    assert_eq!(features.sha256()[0], format!("{:x}", sha2::Sha256::digest(bytes)));
    let manifest = fs::read_to_string(folder.path().join("models/demo-vgg.toml")).unwrap();
    assert!(manifest.contains(&features.header().spec().model_sha256));
    let recipe = serde_json::to_value(&features.header().spec().preprocess).unwrap();
    assert_eq!(recipe["size"], serde_json::json!([64, 64]));
    assert_eq!(recipe["divisor"], 127.5);
}

#[test]
fn runs_in_any_arrangement_write_the_same_bytes_of_features() {
    let folder = workspace(5);
    stdout(folder.path(), &["extract", "--layer", "fc7", "-o", "a.h5"]);
    let read = |name: &str| FeatureFile::open(&folder.path().join(name)).unwrap().read_layer(None).unwrap();
    for (batch, threads) in [("3", "1"), ("auto", "2"), ("5", "3")] {
        let sizes = ["--batch-size", batch, "--threads", threads];
        stdout(
            folder.path(),
            &[&["extract", "--layer", "fc7", "-o", "b.h5", "--force"][..], &sizes].concat(),
        );
        assert_eq!(read("a.h5"), read("b.h5"), "batches of {batch} on {threads} threads");
    }
}

#[test]
fn several_layers_are_written_in_one_pass_and_maps_can_be_pooled() {
    let folder = workspace(5);
    let said = stdout(folder.path(), &["extract", "--layer", "block4_pool,fc6,fc7"]);
    assert!(said.starts_with("features/demo-vgg-pool4+fc6+fc7.h5"), "{said}");
    stdout(folder.path(), &["extract", "--layer", "pool4,fc6", "--pool", "max"]);
    stdout(folder.path(), &["extract", "--layer", "fc7"]);
    let open = |name: &str| FeatureFile::open(&folder.path().join("features").join(name)).unwrap();
    let whole = open("demo-vgg-pool4+fc6+fc7.h5");
    assert_eq!(
        whole.layers().iter().map(|layer| layer.spec.layer.as_str()).collect::<Vec<_>>(),
        ["pool4", "fc6", "fc7"]
    );
    assert_eq!(whole.layers()[0].shape, [48, 4, 4]);
    let alone = open("demo-vgg-fc7.h5").read_layer(None).unwrap();
    let together = whole.read_layer(Some("fc7")).unwrap();
    assert!(alone.iter().zip(&together).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + a.abs())));

    let pooled = open("demo-vgg-pool4+fc6-max.h5");
    assert_eq!(pooled.layers()[0].spec.pooling, Pooling::Max);
    assert_eq!(pooled.layers()[0].shape, [48]);
    assert_eq!(pooled.layers()[1].spec.pooling, Pooling::None, "a vector is not pooled");
    let maps = whole.read_layer(Some("pool4")).unwrap();
    let maxima = pooled.read_layer(Some("pool4")).unwrap();
    for (map, maximum) in maps.iter().collect::<Vec<_>>().chunks(16).zip(&maxima) {
        let expected = map.iter().fold(f32::NEG_INFINITY, |a, &&b| a.max(b));
        assert!((expected - maximum).abs() <= 1e-5 * (1.0 + expected.abs()));
    }

    // A head on pooled maps finds its way back.
    let features = "features/demo-vgg-pool4+fc6-max.h5";
    stdout(folder.path(), &["fit-head", "--svm", features, "-o", "models/pooled.head.h5"]);
    assert!(stdout(folder.path(), &["classify", "image.jpg"]).contains(UNSEEN.name()));
    cnncodes(folder.path())
        .args(["extract", "--layer", "fc7,fc2"])
        .assert()
        .code(2)
        .stderr(contains("fc7 is named twice"));
    cnncodes(folder.path()).args(["extract", "--pool", "median"]).assert().code(2).stderr(contains("gem"));
    let of_no_token =
        cnncodes(folder.path()).args(["extract", "--layer", "pool4", "--pool", "cls"]).assert().code(2);
    of_no_token.stderr(
        contains("pool4: the pooling cls does not suit this layer").and(contains("it has no tokens")),
    );
}

#[test]
fn a_csv_manifest_gives_the_labels() {
    let folder = workspace(5);
    let csv = "path,label\ndata/fish/001.jpg,swims\ndata/house/001.jpg,stands\ndata/fish/002.jpg,swims\nimage.jpg,\n";
    fs::write(folder.path().join("photos.csv"), csv).unwrap();
    stdout(folder.path(), &["extract", "photos.csv", "-o", "c.h5"]);
    let features = FeatureFile::open(&folder.path().join("c.h5")).unwrap();
    assert_eq!(features.class_names(), ["stands", "swims"]);
    let names = ["data/fish/001.jpg", "data/fish/002.jpg", "data/house/001.jpg", "image.jpg"];
    assert_eq!(features.image_names(), names);
    assert_eq!(features.labels(), [1, 1, 0, -1]);
}

#[test]
fn labels_can_be_left_out() {
    let folder = workspace(5);
    stdout(folder.path(), &["extract", "--no-labels", "-o", "c.h5"]);
    let features = FeatureFile::open(&folder.path().join("c.h5")).unwrap();
    assert!(features.class_names().is_empty());
    assert!(features.labels().iter().all(|&label| label == -1));
    cnncodes(folder.path())
        .args(["fit-head", "--svm", "c.h5"])
        .assert()
        .code(2)
        .stderr(contains("no image in c.h5 has a label").and(contains("path,label")));
}

#[test]
fn classify_speaks_json_and_csv_and_takes_folders() {
    let folder = workspace(8);
    stdout(folder.path(), &["extract", "--layer", "fc7"]);
    stdout(folder.path(), &["fit-head", "--logistic"]);
    let answers = json(folder.path(), &["classify", "image.jpg", "data/house", "--format", "json"]);
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 9);
    for answer in answers {
        let probabilities: Vec<f64> = answer["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["probability"].as_f64().unwrap())
            .collect();
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(probabilities.is_sorted_by(|a, b| a >= b));
    }
    // The head was fitted to these houses.
    for answer in &answers[1..] {
        assert_eq!(answer["classes"][0]["class"], "house", "{answer}");
    }
    let csv = stdout(folder.path(), &["classify", "data/house", "--format", "csv", "--top", "1"]);
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows[0], "image,rank,class,probability,unknown,in_set");
    assert_eq!(rows.len(), 9);
    assert!(rows[1].contains(",1,house,0."), "{csv}");
}

#[test]
fn a_single_head_is_found_and_none_is_guessed_among_several() {
    let folder = workspace(6);
    cnncodes(folder.path())
        .args(["classify", "image.jpg"])
        .assert()
        .code(2)
        .stderr(contains("there is no head in models").and(contains("cnncodes fit-head")));
    stdout(folder.path(), &["extract"]);
    stdout(folder.path(), &["fit-head", "--svm"]);
    stdout(folder.path(), &["fit-head", "--logistic"]);
    cnncodes(folder.path()).args(["classify", "image.jpg"]).assert().code(2).stderr(
        contains("demo-vgg-fc7-svm.head.h5")
            .and(contains("demo-vgg-fc7-logistic.head.h5"))
            .and(contains("--head")),
    );
    let head = "models/demo-vgg-fc7-svm.head.h5";
    assert!(stdout(folder.path(), &["classify", "image.jpg", "--head", head]).contains(UNSEEN.name()));
}

#[test]
fn a_head_refuses_another_network_and_names_it() {
    let folder = workspace(6);
    stdout(folder.path(), &["extract"]);
    stdout(folder.path(), &["fit-head", "--svm"]);
    let network = folder.path().join("models/demo-vgg.onnx");
    let own = fs::read(&network).unwrap();

    // Same name, other weights: the manifest notices.
    let mut changed = own.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 0x40;
    fs::write(&network, changed).unwrap();
    cnncodes(folder.path())
        .args(["classify", "image.jpg"])
        .assert()
        .code(2)
        .stderr(contains("demo-vgg.onnx is not the network that models/demo-vgg.toml describes"));
    stdout(
        folder.path(),
        &["models", "add", "models/demo-vgg.onnx", "--preprocess", "tf", "--stretch", "--force"],
    );
    cnncodes(folder.path()).args(["classify", "image.jpg"]).assert().code(2).stderr(
        contains("was made with the network demo-vgg of SHA-256").and(contains("is another network")),
    );

    // Gone altogether.
    fs::remove_file(&network).unwrap();
    fs::remove_file(folder.path().join("models/demo-vgg.toml")).unwrap();
    cnncodes(folder.path())
        .args(["classify", "image.jpg"])
        .assert()
        .code(2)
        .stderr(contains("needs the network demo-vgg").and(contains("cnncodes models add")));

    // Found by its hash under another name.
    fs::write(folder.path().join("renamed.onnx"), own).unwrap();
    stdout(folder.path(), &["models", "add", "renamed.onnx", "--preprocess", "torchvision"]);
    assert!(stdout(folder.path(), &["classify", "image.jpg"]).contains(UNSEEN.name()));
}

#[test]
fn layers_lists_names_shapes_and_costs() {
    let folder = workspace(5);
    let layers = json(folder.path(), &["layers", "--format", "json"]);
    let layers = layers.as_array().unwrap();
    let find = |name: &str| layers.iter().find(|layer| layer["name"] == name).unwrap();
    assert_eq!(layers[0]["name"], "conv1_1");
    assert_eq!(find("pool5")["shape"], serde_json::json!([48, 2, 2]));
    assert_eq!(find("fc7")["shape"], serde_json::json!([160]));
    assert_eq!(find("fc7")["aliases"], serde_json::json!(["fc2", "classifier.4"]));
    assert_eq!(find("fc7")["penultimate"], true);
    // By hand: conv1_1 makes 16 maps of 64 x 64 from 3 x 3 x 3 weights each, conv1_2 from 16 x 3 x 3.
    assert_eq!(find("conv1_1")["multiply_adds"], 64 * 64 * 16 * 27);
    assert_eq!(find("conv1_2")["multiply_adds"], 64 * 64 * 16 * (27 + 144));
    let dense = |name: &str| find(name)["multiply_adds"].as_u64().unwrap();
    assert_eq!(dense("fc6") - dense("pool5"), 192 * 160);
    assert_eq!(dense("fc8") - dense("fc7"), 160 * 36);
    assert_eq!(find("prob")["share"], 1.0);
    let text = stdout(folder.path(), &["layers"]);
    assert!(text.contains("VGG16") && text.contains("fc2, classifier.4, penultimate"), "{text}");
}

#[test]
fn models_lists_what_is_there_and_whether_it_is_intact() {
    let folder = workspace(5);
    let models = json(folder.path(), &["models", "--format", "json"]);
    assert_eq!(models[0]["name"], "demo-vgg");
    assert_eq!(models[0]["architecture"], "VGG16");
    assert_eq!(models[0]["intact"], true);
    fs::write(folder.path().join("models/demo-vgg.onnx"), b"no longer a network").unwrap();
    cnncodes(folder.path())
        .arg("models")
        .assert()
        .code(1)
        .stdout(contains("NOT INTACT"))
        .stderr(contains("demo-vgg.onnx is not an ONNX graph"));
}

#[test]
fn models_add_refers_copies_and_records_overrides() {
    let folder = tempfile::tempdir().unwrap();
    let network = fixture("fixtures/graphs/vgg11_external.onnx");
    let add = |arguments: &[&str]| {
        let mut command = cnncodes(folder.path());
        command.args(["models", "add"]).arg(&network).args(arguments).assert()
    };
    add(&["--preprocess", "torchvision", "--name", "there", "--mean", "0.5,0.4,0.3", "--alias", "top=fc7"])
        .success();
    let text = fs::read_to_string(folder.path().join("models/there.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    assert_eq!(manifest["file"].as_str(), network.to_str());
    assert_eq!(manifest["architecture"].as_str(), Some("VGG11"));
    let recipe = &manifest["preprocess"];
    assert_eq!(recipe["mean"].as_array().unwrap()[1].as_float(), Some(0.4));
    assert_eq!(recipe["preset"].as_str(), Some("custom"));
    // The graph fixes 32 x 32; the ratio of shorter side to crop stays 256 to 224.
    assert_eq!(recipe["size"].as_array().unwrap()[0].as_integer(), Some(32));
    assert_eq!(recipe["shorter_side"].as_integer(), Some(37));
    assert_eq!(manifest["aliases"]["top"].as_str(), Some("fc7"));
    let layers = json(folder.path(), &["layers", "there", "--format", "json"]);
    let fc7 = layers.as_array().unwrap().iter().find(|layer| layer["name"] == "fc7").unwrap().clone();
    assert!(fc7["aliases"].as_array().unwrap().contains(&"top".into()));

    add(&["--preprocess", "keras-caffe", "--name", "here", "--copy"]).success();
    for file in ["here.onnx", "vgg11_external.weights"] {
        assert!(folder.path().join("models").join(file).exists(), "{file}");
    }
    assert_eq!(json(folder.path(), &["models", "--format", "json"])[0]["intact"], true);

    add(&["--preprocess", "tf", "--name", "here"]).code(2).stderr(contains("--force"));
    add(&["--preprocess", "tf", "--name", "big", "--size", "64"])
        .code(2)
        .stderr(contains("the graph wants 32"));
    add(&["--preprocess", "caffe"]).code(2).stderr(contains("torchvision"));
}

#[test]
fn the_models_folder_decides_what_may_be_left_out() {
    let folder = workspace(5);
    let network = folder.path().join("models/demo-vgg.onnx");
    cnncodes(folder.path())
        .args(["models", "add"])
        .arg(&network)
        .args(["--preprocess", "tf", "--stretch", "--name", "second", "--layer", "pool5"])
        .assert()
        .success();
    cnncodes(folder.path())
        .arg("extract")
        .assert()
        .code(2)
        .stderr(contains("several models (demo-vgg, second)").and(contains("--model")));
    let said = stdout(folder.path(), &["extract", "--model", "second"]);
    assert!(said.starts_with("features/second-pool5.h5"), "{said}");
    cnncodes(folder.path())
        .args(["extract", "--model", "third"])
        .assert()
        .code(2)
        .stderr(contains("no model \"third\"").and(contains("demo-vgg, second")));
}

#[test]
fn the_demo_ends_in_an_accuracy_and_a_classified_image() {
    let folder = tempfile::tempdir().unwrap();
    let said = stdout(folder.path(), &["demo", "--per-class", "12"]);
    for command in
        ["$ cnncodes extract --layer fc7", "$ cnncodes fit-head --svm", "$ cnncodes classify image.jpg"]
    {
        assert!(said.contains(command), "{said}");
    }
    assert!(said.contains("accuracy") && said.contains("  sailboat"), "{said}");
    // It can be run again, but not into a folder of the user's own.
    stdout(folder.path(), &["demo", "--per-class", "5"]);
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/letter.txt"), "dear").unwrap();
    cnncodes(folder.path())
        .args(["demo", "--dir", "mine"])
        .assert()
        .code(2)
        .stderr(contains("mine is not a demo folder"));
}

#[test]
fn completions_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let script = stdout(folder.path(), &["completions", "bash"]);
    for command in ["extract", "fit-head", "classify", "layers", "models", "demo"] {
        assert!(script.contains(command), "{command}");
    }
}
