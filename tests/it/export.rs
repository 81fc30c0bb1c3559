//! Exported classifiers: one ONNX file that answers as the program does, in ONNX Runtime for Python and as a head of the program.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::common::{assets, cnncodes, fixture, workspace};

/// What `scripts/reference/check_export.py` finds about a graph; none without Python.
fn checked(test: &str, folder: &Path, graph: &str, answers: &str) -> Option<Value> {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!("SKIPPED: {test}: CNNCODES_PYTHON names no Python with onnxruntime and Pillow");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/reference/check_export.py");
    let run = Command::new(python).arg(script).args([graph, answers]).current_dir(folder).output().unwrap();
    assert!(run.status.success(), "{graph}: {}", String::from_utf8_lossy(&run.stderr));
    // A runtime that finds something odd in the graph says so.
    assert_eq!(String::from_utf8_lossy(&run.stderr), "", "{graph}");
    Some(serde_json::from_slice(&run.stdout).unwrap())
}

fn run(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    cnncodes(folder).args(arguments).assert().success().get_output().stdout.clone()
}

/// The answers of a head for all images of `data` and others that are there, in a file beside it.
fn classify(folder: &Path, head: &str, images: &[&str], options: &[&str]) -> Vec<u8> {
    let mut arguments = vec!["classify", "--head", head, "--format", "json", "--top", "1000"];
    arguments.extend(options);
    arguments.extend(images);
    let answers = run(folder, &arguments);
    fs::write(folder.join(format!("{head}.json")), &answers).unwrap();
    answers
}

/// Makes sure that a graph answers as the program did for all `images`, from the very same tensor.
fn assert_same(found: &Value, images: usize, novelty: bool) {
    let images = images as u64;
    assert_eq!(found["images"], images, "{found}");
    assert_eq!(found["class"], images, "{found}");
    assert_eq!(found["tensor"], images, "{found}");
    assert!(found["probability"].as_f64().unwrap() < 1e-5, "{found}");
    if novelty {
        assert_eq!(found["unknown"], images, "{found}");
        assert!(found["distance"].as_f64().unwrap() < 1e-5, "{found}");
    }
}

/// Pictures of sizes that preprocessing has cases for: wide, high, more than twice as high, smaller than the tensor, odd.
fn draw_sizes(folder: &Path) -> usize {
    const SIZES: [(u32, u32); 9] =
        [(97, 131), (131, 97), (64, 64), (40, 36), (33, 170), (210, 41), (17, 23), (301, 257), (200, 201)];
    fs::create_dir_all(folder.join("sizes")).unwrap();
    for (index, (width, height)) in SIZES.into_iter().enumerate() {
        // Edges, slopes and noise: every weight counts.
        let mut state = 12_345_u32 + index as u32;
        let picture = image::RgbImage::from_fn(width, height, |x, y| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 24) as u8;
            image::Rgb([
                noise,
                ((x * 255) / width) as u8,
                if (x / 7 + y / 5) % 2 == 0 { 255 } else { noise / 2 },
            ])
        });
        picture.save(folder.join(format!("sizes/{index}.png"))).unwrap();
    }
    SIZES.len()
}

#[test]
fn a_graph_answers_as_each_kind_of_head_does() {
    let folder = workspace(12);
    let folder = folder.path();
    draw_sizes(folder);
    run(folder, &["extract", "--layer", "fc7"]);
    for (name, options) in [
        ("svm", &["--svm"][..]),
        ("isotonic", &["--svm", "--calibration", "isotonic"]),
        ("logistic", &["--logistic", "--no-standardize"]),
        ("ridge", &["--ridge", "--l2-normalize", "--pca", "8"]),
        ("rbf", &["--svm", "--kernel", "rbf"]),
        ("poly", &["--svm", "--kernel", "poly", "--degree", "3", "--l2-normalize"]),
    ] {
        let head = format!("{name}.head.h5");
        let graph = format!("{name}.onnx");
        run(folder, &[&["fit-head", "--output", &head][..], options].concat());
        run(folder, &["export", &head, "-o", &graph, "--coverage", "0.9", "--with-features"]);
        let images = ["data", "sizes", "image.jpg"];
        let answers: Value =
            serde_json::from_slice(&classify(folder, &head, &images, &["--coverage", "0.9"])).unwrap();
        let count = answers.as_array().unwrap().len();
        assert_eq!(count, 4 * 12 + 9 + 1);
        let Some(found) = checked(name, folder, &graph, &format!("{head}.json")) else { continue };
        assert_same(&found, count, true);
        assert_eq!(found["set"], count, "{name}: {found}");
        let expected =
            ["probabilities", "label", "scores", "distance", "unknown", "prediction_set", "features"];
        assert_eq!(found["outputs"], serde_json::json!(expected));
        assert_eq!(found["opset"], serde_json::json!({"": 17}));
    }
}

#[test]
fn every_form_of_preprocessing_gives_pillows_tensor_bit_for_bit() {
    let folder = workspace(12);
    let folder = folder.path();
    let sizes = draw_sizes(folder);
    let maps = fixture("fixtures/graphs/maps.onnx");
    let last = fixture("fixtures/graphs/maps_nhwc.onnx");
    let (maps, last) = (maps.to_str().unwrap(), last.to_str().unwrap());
    for (index, (network, options)) in [
        (maps, &["--preprocess", "torchvision", "--shorter-side", "44", "--interpolation", "bicubic"][..]),
        (last, &["--preprocess", "torchvision", "--shorter-side", "43", "--interpolation", "bilinear"]),
        (maps, &["--preprocess", "keras-caffe"]),
        (last, &["--preprocess", "keras-caffe", "--interpolation", "lanczos"]),
        (maps, &["--preprocess", "tf", "--shorter-side", "47", "--interpolation", "nearest"]),
        (maps, &["--preprocess", "tf", "--shorter-side", "45", "--interpolation", "lanczos"]),
        (last, &["--preprocess", "tf", "--stretch", "--interpolation", "bicubic", "--channel-order", "bgr"]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("maps{index}");
        run(folder, &[&["models", "add", network, "--size", "36x40", "--name", &name][..], options].concat());
        let features = format!("{name}.h5");
        let head = format!("{name}.head.h5");
        run(
            folder,
            &["extract", "--model", &name, "--layer", "penultimate", "--pool", "avg", "-o", &features],
        );
        run(folder, &["fit-head", &features, "--logistic", "--output", &head]);
        let graph = format!("{name}.onnx");
        run(folder, &["export", &head, "-o", &graph]);
        classify(folder, &head, &["sizes"], &[]);
        let Some(found) = checked(&name, folder, &graph, &format!("{head}.json")) else { continue };
        assert_same(&found, sizes, true);
    }
}

#[test]
fn an_exported_file_is_a_head_that_has_its_network_inside() {
    let folder = workspace(12);
    let folder = folder.path();
    run(folder, &["extract", "--layer", "pool5", "--pool", "avg"]);
    run(folder, &["fit-head", "--svm", "--output", "a.head.h5"]);
    run(folder, &["export", "a.head.h5", "-o", "a.onnx"]);
    run(folder, &["export", "a.head.h5", "-o", "outside.onnx", "--external-data"]);
    run(folder, &["export", "a.head.h5", "-o", "tensor.onnx", "--input", "tensor"]);
    let answers = |head: &str| {
        let classified = classify(folder, head, &["data", "image.jpg"], &["--coverage", "0.9"]);
        (classified, run(folder, &["evaluate", "data", "--head", head, "--format", "json"]))
    };
    let expected = answers("a.head.h5");
    // Nothing else is needed.
    fs::remove_dir_all(folder.join("models")).unwrap();
    for graph in ["a.onnx", "outside.onnx", "tensor.onnx"] {
        assert!(answers(graph) == expected, "{graph}");
        let images = 4 * 12 + 1;
        let Some(found) = checked(graph, folder, graph, "a.head.h5.json") else { continue };
        assert_same(&found, images, true);
    }
    run(folder, &["classify", "image.jpg", "--head", "a.onnx", "--explain", "why"]);
    assert_eq!(fs::read_dir(folder.join("why")).unwrap().count(), 1);
    let size = |file: &str| fs::metadata(folder.join(file)).unwrap().len();
    assert!(size("outside.onnx.data") > size("outside.onnx"));
    // The graph is the network's part, the head and some ten kilobytes.
    assert!(size("a.onnx") < size("outside.onnx.data") + size("outside.onnx") + 5_000);
}

#[test]
fn every_pooling_of_maps_and_tokens_gives_the_programs_features() {
    let folder = workspace(12);
    let folder = folder.path();
    let maps = fixture("fixtures/graphs/maps.onnx");
    let vit = fixture("fixtures/graphs/transformers/vit.onnx");
    let swin = fixture("fixtures/graphs/transformers/swin.onnx");
    let add = |network: &Path, name: &str, size: &str| {
        let network = network.to_str().unwrap();
        run(
            folder,
            &["models", "add", network, "--preprocess", "torchvision", "--size", size, "--name", name],
        );
    };
    add(&maps, "maps", "36x40");
    add(&vit, "vit", "32");
    add(&swin, "swin", "32");
    for (model, layer, poolings) in [
        ("maps", "penultimate", &["none", "max", "gem", "3x3", "4x4"][..]),
        ("vit", "block0", &["none", "cls", "mean", "cls+mean", "max", "gem", "2x2"]),
        ("swin", "block0", &["avg", "2x2"]),
    ] {
        for pooling in poolings {
            let name = format!("{model}-{}", pooling.replace('+', "-"));
            let (features, head, graph) =
                (format!("{name}.h5"), format!("{name}.head.h5"), format!("{name}.onnx"));
            let extract = ["extract", "--model", model, "--layer", layer, "--pool", pooling, "-o", &features];
            run(folder, &extract);
            run(folder, &["fit-head", &features, "--logistic", "--output", &head]);
            run(folder, &["export", &head, "-o", &graph]);
            let answers = classify(folder, &head, &["data"], &[]);
            assert!(classify(folder, &graph, &["data"], &[]) == answers, "{name}");
            let Some(found) = checked(&name, folder, &graph, &format!("{head}.json")) else { continue };
            assert_same(&found, 48, true);
        }
    }
}

#[test]
fn networks_of_every_kind_keep_their_answers() {
    let folder = workspace(12);
    let folder = folder.path();
    for (network, size, layer, options) in [
        ("types/float16", "16", "penultimate", &["tf"][..]),
        ("types/float16_inside", "16", "penultimate", &["tf"]),
        ("types/bfloat16", "16", "penultimate", &["tf"]),
        ("types/bytes_last", "16", "penultimate", &["tf", "--divisor", "1", "--mean", "0,0,0"]),
        ("types/dynamic", "16", "penultimate", &["tf"]),
        ("types/constant_if", "16", "penultimate", &["tf"]),
        ("types/for_one_image", "16", "penultimate", &["tf"]),
        ("types/padded_maximum", "16", "penultimate", &["tf"]),
        ("transformers/clip", "32", "block0", &["torchvision"]),
        ("vgg11_external", "32", "fc7", &["tf"]),
        ("vgg11_batch1", "32", "fc7", &["tf"]),
        ("vgg11_weights_as_inputs", "32", "fc7", &["tf"]),
        ("resnet50_nhwc", "32", "res3a", &["tf"]),
    ] {
        let name = network.rsplit('/').next().unwrap();
        let file = fixture(&format!("fixtures/graphs/{network}.onnx"));
        let add = ["models", "add", file.to_str().unwrap(), "--size", size, "--name", name, "--preprocess"];
        run(folder, &[&add[..], options].concat());
        let (features, head, graph) =
            (format!("{name}.h5"), format!("{name}.head.h5"), format!("{name}.onnx"));
        run(folder, &["extract", "--model", name, "--layer", layer, "-o", &features]);
        run(folder, &["fit-head", &features, "--svm", "--output", &head]);
        run(folder, &["export", &head, "-o", &graph]);
        let answers = classify(folder, &head, &["data"], &[]);
        assert!(classify(folder, &graph, &["data"], &[]) == answers, "{name}");
        let Some(found) = checked(name, folder, &graph, &format!("{head}.json")) else { continue };
        assert_same(&found, 48, true);
    }
}

#[test]
fn static_graphs_and_rounded_weights_answer_nearly_the_same() {
    let folder = workspace(12);
    let folder = folder.path();
    run(folder, &["extract", "--layer", "fc7"]);
    run(folder, &["fit-head", "--svm", "--output", "a.head.h5"]);
    let answers = classify(folder, "a.head.h5", &["data"], &[]);
    run(folder, &["export", "a.head.h5", "-o", "static.onnx", "--input", "tensor", "--static"]);
    let report =
        run(folder, &["export", "a.head.h5", "-o", "half.onnx", "--fp16-weights", "--check", "data"]);
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains("checked with 48 images: the same class for 48, largest difference"), "{report}");
    run(folder, &["export", "a.head.h5", "-o", "whole.onnx"]);
    let size = |file: &str| fs::metadata(folder.join(file)).unwrap().len() as f64;
    assert!((0.45..0.7).contains(&(size("half.onnx") / size("whole.onnx"))));
    if let Some(found) = checked("static", folder, "static.onnx", "a.head.h5.json") {
        assert_same(&found, 48, true);
    }
    if let Some(found) = checked("half", folder, "half.onnx", "a.head.h5.json") {
        assert_eq!((&found["class"], &found["tensor"]), (&48.into(), &48.into()), "{found}");
        let difference = found["probability"].as_f64().unwrap();
        assert!((1e-7..0.01).contains(&difference), "{found}");
    }
    // Read back, float32 alone has lost a little.
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let (expected, found) = (read(&answers), read(&classify(folder, "static.onnx", &["data"], &[])));
    for (expected, found) in expected.as_array().unwrap().iter().zip(found.as_array().unwrap()) {
        let top = |answer: &Value| answer["classes"][0].clone();
        assert_eq!(top(expected)["class"], top(found)["class"]);
        let probability = |answer: &Value| top(answer)["probability"].as_f64().unwrap();
        assert!((probability(expected) - probability(found)).abs() < 1e-5);
    }
}

/// A network of operator set 9 whose operators have changed since.
const OLD_NETWORK: &str = r#"
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
rng = np.random.default_rng(5)
weights = lambda name, *shape: numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)
vector = lambda name, low, high: numpy_helper.from_array(rng.uniform(low, high, 8).astype(np.float32), name)
node = helper.make_node
nodes = [
    node("Pad", ["image"], ["padded"], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5),
    node("Conv", ["padded", "w1"], ["c1"]),
    node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"], epsilon=1e-3),
    node("Clip", ["n1"], ["label"], min=0.0, max=1.5),
    node("Slice", ["label"], ["cut"], starts=[0, 1], ends=[9223372036854775807, 15], axes=[2, 3]),
    node("Softmax", ["cut"], ["soft"]),
    node("Split", ["cut"], ["half1", "half2"], axis=1, split=[4, 4]),
    node("Concat", ["half2", "half1"], ["swapped"], axis=1),
    node("Mul", ["soft", "hundred"], ["weighed"]),
    node("Add", ["swapped", "weighed"], ["sum"]),
    node("Dropout", ["sum"], ["kept", "mask"], ratio=0.3),
    node("ReduceSum", ["kept"], ["rows"], axes=[2], keepdims=1),
    node("Unsqueeze", ["rows"], ["deep"], axes=[0]),
    node("Squeeze", ["deep"], ["head/flat"], axes=[0, 3]),
    node("Flatten", ["head/flat"], ["features"]),
    node("Gemm", ["features", "w2", "b2"], ["scores"]),
]
weights = [weights("w1", 8, 3, 3, 3), weights("w2", 8 * 14, 3), weights("b2", 3), vector("scale", 0.5, 2), vector("shift", -1, 1),
    vector("mean", -1, 1), vector("variance", 0.5, 2), numpy_helper.from_array(np.float32(100), "hundred")]
image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 16])
scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])
graph = helper.make_graph(nodes, "old", [image], [scores], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
onnx.checker.check_model(model)
onnx.save(model, "old.onnx")
"#;

#[test]
fn networks_of_old_operator_sets_are_brought_up_to_date() {
    let folder = workspace(12);
    let folder = folder.path();
    if !crate::common::python("networks of old operator sets", folder, OLD_NETWORK) {
        return;
    }
    run(folder, &["models", "add", "old.onnx", "--preprocess", "tf", "--size", "16", "--name", "old"]);
    run(folder, &["extract", "--model", "old", "--layer", "features", "-o", "old.h5"]);
    run(folder, &["fit-head", "old.h5", "--logistic", "--output", "old.head.h5"]);
    run(folder, &["export", "old.head.h5", "-o", "new.onnx", "--with-features"]);
    let answers = classify(folder, "old.head.h5", &["data"], &[]);
    assert!(classify(folder, "new.onnx", &["data"], &[]) == answers);
    let Some(found) = checked("old", folder, "new.onnx", "old.head.h5.json") else { return };
    assert_same(&found, 48, true);
    assert_eq!(found["opset"], serde_json::json!({"": 17}));
}

#[test]
fn what_cannot_be_exported_or_read_is_refused_by_name() {
    let folder = workspace(12);
    let folder = folder.path();
    run(folder, &["extract", "--layer", "fc7"]);
    run(folder, &["fit-head", "--svm", "--output", "a.head.h5"]);
    let refused = |arguments: &[&str], expected: &[&str]| {
        let mut assert = cnncodes(folder).args(arguments).assert().code(2);
        for text in expected {
            assert = assert.stderr(contains(*text));
        }
        assert.stderr(contains("panicked").not());
    };
    refused(&["export", "a.head.h5", "-o", "x.onnx", "--static"], &["static shapes need --input tensor"]);
    refused(
        &["export", "a.head.h5", "-o", "no/where/x.onnx"],
        &["no/where/x.onnx", "check that its folder exists"],
    );
    run(folder, &["extract", "--layer", "fc7", "--fast-decode", "-o", "fast.h5"]);
    run(folder, &["fit-head", "fast.h5", "--svm", "--output", "fast.head.h5"]);
    refused(&["export", "fast.head.h5", "-o", "x.onnx"], &["without --fast-decode", "--input tensor"]);
    run(folder, &["export", "fast.head.h5", "-o", "fast.onnx", "--input", "tensor"]);
    assert!(!folder.join("x.onnx").exists());

    run(folder, &["export", "a.head.h5", "-o", "a.onnx"]);
    // An earlier export is replaced, and nothing else: least of all the network.
    run(folder, &["export", "a.head.h5", "-o", "a.onnx", "--external-data"]);
    run(folder, &["export", "a.head.h5", "-o", "a.onnx"]);
    let network = fs::read(folder.join("models/demo-vgg.onnx")).unwrap();
    fs::write(folder.join("b.onnx.data"), "mine").unwrap();
    refused(
        &["export", "a.head.h5", "-o", "models/demo-vgg.onnx"],
        &[
            "models/demo-vgg.onnx exists and is no classifier that `cnncodes export` made",
            "name another output",
        ],
    );
    refused(&["export", "a.head.h5", "-o", "b.onnx", "--external-data"], &["b.onnx.data exists"]);
    assert!(fs::read(folder.join("models/demo-vgg.onnx")).unwrap() == network);
    assert_eq!(fs::read_to_string(folder.join("b.onnx.data")).unwrap(), "mine");
    refused(
        &["classify", "image.jpg", "--head", "none.onnx"],
        &["there is no file none.onnx", "cnncodes export"],
    );
    refused(
        &["classify", "image.jpg", "--head", "models/demo-vgg.onnx"],
        &["is an ONNX graph, but no classifier that `cnncodes export` made"],
    );
    let bytes = fs::read(folder.join("a.onnx")).unwrap();
    for length in [0, 1, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(folder.join("cut.onnx"), &bytes[..length]).unwrap();
        refused(&["classify", "image.jpg", "--head", "cut.onnx"], &["cut.onnx"]);
    }

    // Another network under the name, and none.
    let manifest = folder.join("models/demo-vgg.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let (before, hash) = text.split_once("sha256 = \"").unwrap();
    fs::write(&manifest, format!("{before}sha256 = \"{}{}", "ab".repeat(4), &hash[8..])).unwrap();
    refused(&["export", "a.head.h5", "-o", "x.onnx"], &["a.head.h5", "is another network"]);
    fs::remove_file(manifest).unwrap();
    refused(&["export", "a.head.h5", "-o", "x.onnx"], &["a.head.h5", "it needs the network demo-vgg"]);
}

#[test]
fn damaged_files_are_refused_and_never_panic() {
    let folder = workspace(12);
    let folder = folder.path();
    run(folder, &["extract", "--layer", "pool5", "--pool", "avg"]);
    run(folder, &["fit-head", "--svm", "--pca", "8", "--output", "a.head.h5"]);
    run(folder, &["export", "a.head.h5", "-o", "a.onnx"]);
    let bytes = fs::read(folder.join("a.onnx")).unwrap();
    let path = folder.join("damaged.onnx");
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for round in 0..200 {
        let mut damaged = bytes.clone();
        // Metadata, names and the head are at the end.
        let from = if round % 2 == 0 { bytes.len() - 40_000.min(bytes.len()) } else { 0 };
        for _ in 0..=next(4) {
            let at = from + next(bytes.len() - from);
            damaged[at] = next(256) as u8;
        }
        fs::write(&path, &damaged).unwrap();
        let read = cnncodes::export::SealedClassifier::open(&path);
        let network = read.as_ref().map(|sealed| sealed.network().is_ok());
        refused += u32::from(!matches!(network, Ok(true)));
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn real_networks_answer_as_the_program_does_on_real_photos() {
    let Some(assets) = assets("exported classifiers of real networks") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["data", "models"] {
        std::os::unix::fs::symlink(assets.join(name), folder.join(format!("shared-{name}"))).unwrap();
    }
    // A tenth of the photos.
    fs::create_dir(folder.join("data")).unwrap();
    for class in fs::read_dir(assets.join("data/cats-dogs-horses-humans")).unwrap() {
        let class = class.unwrap().path();
        let target = folder.join("data").join(class.file_name().unwrap());
        fs::create_dir(&target).unwrap();
        let mut photos: Vec<_> = fs::read_dir(&class).unwrap().map(|photo| photo.unwrap().path()).collect();
        photos.sort();
        for photo in photos.iter().step_by(10) {
            std::os::unix::fs::symlink(photo, target.join(photo.file_name().unwrap())).unwrap();
        }
    }
    for (network, layer, options) in [
        ("mobilenetv2_1.0_224.onnx", "global_average_pooling2d", &["--preprocess", "tf"][..]),
        ("mobilenetv2_1.0_224_nhwc.onnx", "global_average_pooling2d", &["--preprocess", "tf"]),
        (
            "squeezenet1_1_notop.onnx",
            "avgpool10",
            &["--preprocess", "keras-caffe", "--shorter-side", "256", "--interpolation", "bilinear"],
        ),
        (
            "efficientnet-lite0.onnx",
            "avg_pool",
            &[
                "--preprocess",
                "tf",
                "--interpolation",
                "bicubic",
                "--divisor",
                "1",
                "--mean",
                "127,127,127",
                "--std",
                "128,128,128",
            ],
        ),
    ] {
        let name = network.trim_end_matches(".onnx");
        let file = format!("shared-models/{network}");
        run(folder, &[&["models", "add", &file, "--name", name][..], options].concat());
        let (features, head, graph) =
            (format!("{name}.h5"), format!("{name}.head.h5"), format!("{name}.onnx"));
        run(folder, &["extract", "--model", name, "--layer", layer, "-o", &features]);
        run(folder, &["fit-head", &features, "--svm", "--output", &head]);
        run(folder, &["export", &head, "-o", &graph]);
        let images = ["data", "shared-data/predict"];
        let answers: Value = serde_json::from_slice(&classify(folder, &head, &images, &[])).unwrap();
        let count = answers.as_array().unwrap().len();
        assert!(count > 80, "{count}");
        let Some(found) = checked(name, folder, &graph, &format!("{head}.json")) else { continue };
        assert_same(&found, count, true);
    }
}
