//! `classify --explain`: activation maps that add up to the score, occlusion that finds what was planted, and what is
//! written and said.

use std::fs;
use std::path::Path;
use std::process::Command;

use cnncodes::demo::{DemoClass, draw};
use cnncodes::explain::{ExplainMethod, ExplainSettings, Explainer, ForwardPass};
use cnncodes::head::Head;
use cnncodes::images::{DecodeOptions, Preprocess, TensorLayout, decode};
use cnncodes::network::{Catalogue, Graph, Layer, ModelsFolder, pooled_map};
use image::{Rgb, RgbImage, imageops};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::common::{assets, cnncodes, fixture, workspace};

/// Extracts and fits in `folder`; gives the head's path.
fn fit(folder: &Path, model: &str, extract: &[&str], kind: &str) -> std::path::PathBuf {
    cnncodes(folder)
        .args(["extract", "--model", model, "-o", "features.h5"])
        .args(extract)
        .assert()
        .success();
    cnncodes(folder)
        .args(["fit-head", kind, "features.h5", "-o", "models/fitted.head.h5"])
        .assert()
        .success();
    folder.join("models/fitted.head.h5")
}

/// The head's network, layer and preprocessing.
fn network(folder: &Path, head: &Head) -> (Graph, Layer, Preprocess) {
    let models = ModelsFolder { path: folder.join("models") };
    let model = models.find(Some(&head.provenance.spec.model_name)).unwrap();
    let graph = model.open().unwrap();
    let layer =
        Catalogue::of(&graph, &Default::default()).find("", &head.provenance.spec.tensor).unwrap().clone();
    (graph, layer, head.provenance.spec.preprocess.clone())
}

fn explain_all(explainer: &mut Explainer<'_>, pass: &ForwardPass) -> Vec<cnncodes::explain::Explanation> {
    let classes: Vec<usize> = (0..pass.scores().len()).collect();
    explainer.explain(pass, &classes, &mut |_, _| {}).unwrap()
}

/// The places of every class's map add up, with the bias, to the score that the head gives to the same features.
fn assert_adds_up(explainer: &mut Explainer<'_>, head: &Head, pass: &ForwardPass) {
    let features = ndarray::ArrayView2::from_shape((1, pass.features().len()), pass.features()).unwrap();
    let scores = head.scores(features).unwrap();
    for explanation in explain_all(explainer, pass) {
        assert_eq!(explanation.method, ExplainMethod::ActivationMap);
        let score = scores[[0, explanation.class]];
        assert_eq!(explanation.score, score);
        let sum = explanation.map.sum() + explanation.bias.unwrap();
        assert!((sum - score).abs() <= 1e-4 * score.abs().max(1e-2), "{sum}, not {score}");
        assert!(explanation.map.iter().any(|&place| place != explanation.map[[0, 0]]), "the map varies");
    }
}

#[test]
fn maps_of_heads_on_pooled_and_whole_maps_add_up_to_the_score() {
    let folder = workspace(6);
    let photo = draw(DemoClass::House, 4711);
    for pooling in ["avg", "max", "gem", "2x2", "none"] {
        let path = fit(folder.path(), "demo-vgg", &["--layer", "pool4", "--pool", pooling], "--svm");
        let head = Head::load(&path).unwrap();
        let (graph, layer, preprocess) = network(folder.path(), &head);
        let mut explainer =
            Explainer::open(&graph, &layer, &head, &preprocess, &ExplainSettings::default()).unwrap();
        let pass = explainer.run_on(&photo).unwrap();
        assert_adds_up(&mut explainer, &head, &pass);
        assert_eq!(explain_all(&mut explainer, &pass)[0].map.dim(), (4, 4), "{pooling}");
    }
}

#[test]
fn with_any_pooling_of_tokens_the_patches_and_the_rest_add_up_to_the_score() {
    let folder = workspace(6);
    for (network_name, poolings) in [
        ("dinov2_reg4", &["mean", "cls+mean", "max", "gem", "2x2", "none", "cls"][..]),
        ("vit_mean", &["mean"]),
        // Its head reads the mean of its last map, which is the default layer.
        ("swin", &[""]),
    ] {
        cnncodes(folder.path())
            .args(["models", "add", "--preprocess", "tf", "--name", "vit", "--force"])
            .arg(fixture(&format!("fixtures/graphs/transformers/{network_name}.onnx")))
            .assert()
            .success();
        for pooling in poolings {
            let named = ["--layer", "block1", "--pool", pooling];
            let path = fit(folder.path(), "vit", if pooling.is_empty() { &[] } else { &named }, "--logistic");
            let head = Head::load(&path).unwrap();
            let (graph, layer, preprocess) = network(folder.path(), &head);
            let mut explainer =
                Explainer::open(&graph, &layer, &head, &preprocess, &ExplainSettings::default()).unwrap();
            let pass = explainer.run_on(&draw(DemoClass::Fish, 4711)).unwrap();
            if *pooling == "cls" {
                assert_eq!(pass.method(), ExplainMethod::Occlusion, "a class token has no place");
                continue;
            }
            assert_eq!(pass.method(), ExplainMethod::ActivationMap, "{network_name} {pooling}");
            assert_adds_up(&mut explainer, &head, &pass);
            assert_eq!(explain_all(&mut explainer, &pass)[0].map.dim(), (4, 4), "{network_name} {pooling}");
        }
    }
}

#[test]
fn maps_of_heads_on_a_networks_own_pooling_equal_onnxruntimes_and_numpys() {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!(
            "SKIPPED: maps_of_heads_on_a_networks_own_pooling: CNNCODES_PYTHON names no Python with onnxruntime"
        );
        return;
    };
    for network_name in ["keras_resnet50", "keras_resnet50_opset18", "torchvision_resnet18_dynamo"] {
        let folder = workspace(6);
        let file = fixture(&format!("fixtures/graphs/exporters/{network_name}.onnx"));
        cnncodes(folder.path())
            .args(["models", "add", "--preprocess", "torchvision", "--name", "resnet"])
            .arg(&file)
            .assert()
            .success();
        let path = fit(folder.path(), "resnet", &["--layer", "pool5"], "--logistic");
        let head = Head::load(&path).unwrap();
        let (graph, layer, preprocess) = network(folder.path(), &head);
        let mut explainer =
            Explainer::open(&graph, &layer, &head, &preprocess, &ExplainSettings::default()).unwrap();
        let photo = draw(DemoClass::Fish, 4711);
        let pass = explainer.run_on(&photo).unwrap();
        assert_adds_up(&mut explainer, &head, &pass);

        let layout = explainer.backbone().layout();
        assert_eq!(layout == TensorLayout::Nhwc, network_name.starts_with("keras"));
        let mut tensor = vec![0.0; preprocess.tensor_len()];
        preprocess.apply(&photo, layout, &mut tensor).unwrap();
        let bytes: Vec<u8> = tensor.iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(folder.path().join("input.f32"), bytes).unwrap();
        let map = pooled_map(&graph, &layer).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/reference/check_activation_map.py");
        let run = Command::new(&python)
            .arg(script)
            .arg(&file)
            .arg(&path)
            .arg(&map.tensor)
            .arg(folder.path().join("input.f32"))
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let expected: Value = serde_json::from_slice(&run.stdout).unwrap();
        for explanation in explain_all(&mut explainer, &pass) {
            let class = explanation.class;
            let score = expected["scores"][class].as_f64().unwrap();
            assert!(
                (explanation.score - score).abs() <= 1e-3 * (1.0 + score.abs()),
                "{} {score}",
                explanation.score
            );
            let largest = explanation.map.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            for ((row, column), value) in explanation.map.indexed_iter() {
                let expected = expected["maps"][class][row][column].as_f64().unwrap();
                assert!(
                    (value - expected).abs() <= 1e-3 * largest,
                    "{network_name}: {value}, not {expected}"
                );
            }
        }
    }
}

#[test]
fn mobilenets_maps_add_up_to_the_score() {
    let Some(assets) = assets("mobilenets_maps_add_up_to_the_score") else { return };
    let folder = tempfile::tempdir().unwrap();
    let photos = assets.join("data/cats-dogs-horses-humans");
    let mut csv = "path,label\n".to_owned();
    for class in ["cats", "horses"] {
        let mut files: Vec<_> =
            fs::read_dir(photos.join(class)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.iter().take(12).for_each(|file| csv += &format!("{},{class}\n", file.display()));
    }
    fs::write(folder.path().join("photos.csv"), csv).unwrap();
    let network_file = assets.join("models/mobilenetv2_1.0_224.onnx");
    cnncodes(folder.path())
        .args(["models", "add", "--preprocess", "tf", "--name", "mobilenet"])
        .arg(network_file)
        .assert()
        .success();
    for kind in ["--svm", "--logistic"] {
        let path = fit(folder.path(), "mobilenet", &["photos.csv"], kind);
        let head = Head::load(&path).unwrap();
        let (graph, layer, preprocess) = network(folder.path(), &head);
        let mut explainer =
            Explainer::open(&graph, &layer, &head, &preprocess, &ExplainSettings::default()).unwrap();
        for photo in ["cat.jpg", "cat2.jpg", "dog.jpg"] {
            let bytes = fs::read(assets.join("data/predict").join(photo)).unwrap();
            let photo = decode(&bytes, &DecodeOptions::default()).unwrap();
            let pass = explainer.run_on(&photo).unwrap();
            assert_adds_up(&mut explainer, &head, &pass);
            assert_eq!(explain_all(&mut explainer, &pass)[0].map.dim(), (7, 7));
        }
    }
}

/// A drawing made small and put into one quarter of an even grey picture.
fn planted(class: DemoClass, seed: u64, right: bool, below: bool) -> RgbImage {
    let drawing = imageops::resize(&draw(class, seed), 80, 60, imageops::FilterType::Triangle);
    let mut picture = RgbImage::from_pixel(160, 120, Rgb([128, 128, 128]));
    imageops::replace(&mut picture, &drawing, if right { 80 } else { 0 }, if below { 60 } else { 0 });
    picture
}

#[test]
fn occlusion_finds_the_planted_object() {
    let folder = workspace(25);
    let path = fit(folder.path(), "demo-vgg", &["--layer", "fc7"], "--logistic");
    let head = Head::load(&path).unwrap();
    let (graph, layer, preprocess) = network(folder.path(), &head);
    let mut explainer =
        Explainer::open(&graph, &layer, &head, &preprocess, &ExplainSettings::default()).unwrap();
    let mut found = 0;
    let cases = [(false, false), (true, false), (false, true), (true, true)];
    for (index, (right, below)) in cases.into_iter().cycle().take(12).enumerate() {
        let pass =
            explainer.run_on(&planted(DemoClass::ALL[index % 3], 900 + index as u64, right, below)).unwrap();
        let mut steps = Vec::new();
        let top = pass.top();
        let explanation =
            explainer.explain(&pass, &[top], &mut |done, total| steps.push((done, total))).unwrap().remove(0);
        assert_eq!((explanation.method, explanation.bias), (ExplainMethod::Occlusion, None));
        assert_eq!(explanation.map.dim(), (64, 64), "a value for each pixel of the input");
        // A patch of 12 pixels that moves by 4: 14 places a side.
        assert_eq!(steps.last(), Some(&(196, 196)));
        let ((row, column), _) = explanation.map.indexed_iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        found += usize::from((column >= 32) == right && (row >= 32) == below);
    }
    assert!(found >= 11, "{found} of 12 were found where they are");
}

#[test]
fn classify_writes_overlays_and_names_the_most_alike_training_images() {
    let folder = workspace(8);
    fit(folder.path(), "demo-vgg", &["--layer", "pool4", "--pool", "avg"], "--logistic");
    let run = |arguments: &[&str]| {
        let output =
            cnncodes(folder.path()).arg("classify").args(arguments).assert().success().get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&["image.jpg", "--explain", "why"]);
    assert!(text.contains("  why sailboat: why/image-sailboat.png (class activation map)\n"), "{text}");
    assert!(text.contains("  most similar training images, by 1 - cosine:\n    0."), "{text}");

    let answers: Value = serde_json::from_str(&run(&[
        "data/fish/001.jpg",
        "image.jpg",
        "--explain",
        "deep/er",
        "--explain-class",
        "fish,house",
        "--format",
        "json",
    ]))
    .unwrap();
    let fish = &answers[0];
    assert_eq!(fish["explanations"][0]["overlay"], "deep/er/data_fish_001-fish.png");
    assert_eq!(fish["explanations"][1]["class"], "house");
    assert_eq!(fish["explanations"][0]["method"], "activation-map");
    assert_eq!(fish["nearest"].as_array().unwrap().len(), 3);
    for alike in fish["nearest"].as_array().unwrap() {
        assert_ne!(alike["image"], "fish/001.jpg", "the photo itself is left out");
        assert_eq!(alike["class"], alike["image"].as_str().unwrap().split('/').next().unwrap());
    }
    let overlay = folder.path().join("deep/er/data_fish_001-fish.png");
    let picture = image::open(&overlay).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (160, 120), "as large as the photo");
    let bytes = fs::read(&overlay).unwrap();
    let says = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(says("data/fish/001.jpg: fish, score "));

    let csv = run(&["image.jpg", "--explain", "why", "--format", "csv", "--top", "2"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "image,rank,class,probability,unknown,in_set,explanation");
    assert!(lines[1].ends_with(",why/image-sailboat.png") && lines[2].ends_with(','), "{csv}");
}

#[test]
fn what_cannot_be_explained_as_asked_is_told() {
    let folder = workspace(6);
    fit(folder.path(), "demo-vgg", &["--layer", "fc7"], "--svm");
    let classify =
        |arguments: &[&str]| cnncodes(folder.path()).args(["classify", "image.jpg"]).args(arguments).assert();
    classify(&["--explain", "why", "--explain-class", "cow"])
        .code(2)
        .stderr(contains("no class \"cow\"; it knows fish, flower, house, sailboat"));
    classify(&["--explain", "image.jpg"]).code(2).stderr(contains("image.jpg is not a folder"));
    classify(&["--occlusion-size", "8"]).code(2).stderr(contains("--explain"));
    fs::rename(folder.path().join("features.h5"), folder.path().join("moved.h5")).unwrap();
    classify(&["--explain", "why", "--occlusion-size", "16", "--occlusion-stride", "8"])
        .success()
        .stdout(contains("(occlusion)").and(contains("most similar").not()))
        .stderr(contains("the most similar training images are not listed").and(contains("features.h5")));
    assert!(fs::read_dir(folder.path().join("why")).unwrap().count() == 1);
}
