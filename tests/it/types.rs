//! Graphs of other types than 32-bit floats, and graphs that lie, against ONNX Runtime for Python on the whole graph
//! (`scripts/reference/make_type_fixtures.py`).

use std::collections::BTreeMap;

use cnncodes::images::TensorLayout;
use cnncodes::network::{Backbone, BackboneError, Catalogue, Graph, GraphError, Layer, SessionSettings};
use image::{Rgb, RgbImage};
use predicates::prelude::*;
use serde_json::Value;

use crate::common::{cnncodes, fixture};

const SIDE: usize = 16;
const IMAGES: usize = 2;

fn graph(name: &str) -> Graph {
    Graph::open(&fixture("fixtures/graphs/types").join(format!("{name}.onnx"))).unwrap()
}

fn references() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(fixture("reference/types.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The images of the script, by the same formula.
fn images(layout: TensorLayout) -> Vec<f32> {
    let pixels = SIDE * SIDE;
    let place = |at: usize| match layout {
        TensorLayout::Nchw => at,
        TensorLayout::Nhwc => (at / (3 * pixels) * 3 + at % 3) * pixels + at / 3 % pixels,
    };
    (0..IMAGES * 3 * pixels).map(|at| (place(at) * 7919 % 256) as f32).collect()
}

fn open(graph: &Graph, layers: &[Layer]) -> Result<Backbone, BackboneError> {
    let settings = SessionSettings { threads: Some(1), ..SessionSettings::default() };
    Backbone::open(graph, layers, (SIDE as u32, SIDE as u32), &settings)
}

fn layer(graph: &Graph, tensor: &str) -> Layer {
    Catalogue::of(graph, &BTreeMap::new()).find("", tensor).unwrap().clone()
}

#[test]
fn features_of_every_type_are_those_of_the_whole_graph_image_by_image() {
    for (name, expected) in &references() {
        let graph = graph(name);
        let images = images(graph.input().layout);
        for (tensor, reference) in expected.as_object().unwrap() {
            let layer = layer(&graph, tensor);
            let mut backbone = open(&graph, &[layer]).unwrap();
            let rows = backbone.run(&images).unwrap().remove(0);
            let width = reference["width"].as_u64().unwrap() as usize;
            assert_eq!(rows.len(), IMAGES * width, "{name} {tensor}");
            let scale = reference["largest"].as_f64().unwrap() * width as f64;
            for (image, row) in rows.chunks(width).enumerate() {
                let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
                let ordered: f64 =
                    row.iter().zip((0..97).cycle()).map(|(&x, at)| f64::from(x) * f64::from(at)).sum();
                for (what, found) in [("sums", sum), ("ordered", ordered / 97.0)] {
                    let difference = (found - reference[what][image].as_f64().unwrap()).abs();
                    assert!(
                        difference <= 1e-5 * scale,
                        "{name} {tensor} {what}: off by {difference} of {scale}"
                    );
                }
            }
        }
    }
}

#[test]
fn images_are_rounded_to_the_16_bits_that_a_graph_reads() {
    let graph = graph("float16");
    let images: Vec<f32> = images(TensorLayout::Nchw).iter().map(|level| level / 127.5 - 1.0).collect();
    let rounded: Vec<f32> = images.iter().map(|&value| half::f16::from_f32(value).to_f32()).collect();
    assert_ne!(images, rounded);
    for tensor in ["r1", "f"] {
        let mut backbone = open(&graph, &[layer(&graph, tensor)]).unwrap();
        let [found, expected] =
            [&images, &rounded].map(|images| backbone.run(images).unwrap().remove(0).to_vec());
        assert_eq!(found, expected, "{tensor}");
    }
}

#[test]
fn every_graph_has_layers_and_none_of_them_holds_integers() {
    for name in references().keys() {
        let graph = graph(name);
        let catalogue = Catalogue::of(&graph, &BTreeMap::new());
        let size = (SIDE as u32, SIDE as u32);
        let profile = cnncodes::network::profile::Profile::measure(&graph, &catalogue.layers, size).unwrap();
        let offered: Vec<&str> = catalogue
            .layers
            .iter()
            .filter(|layer| profile.shape(layer).is_some())
            .map(|layer| layer.tensor.as_str())
            .collect();
        assert!(!offered.is_empty(), "{name}");
        assert!(!offered.iter().any(|tensor| tensor.ends_with("_quantized")), "{name}: {offered:?}");
    }
}

#[test]
fn a_graph_whose_features_would_depend_on_the_batch_runs_images_one_by_one() {
    for (name, fixed) in [("dynamic", Some(1)), ("for_one_image", Some(1)), ("qdq", None), ("float16", None)]
    {
        let graph = graph(name);
        let layer = layer(&graph, "f");
        assert_eq!(open(&graph, &[layer]).unwrap().fixed_batch(), fixed, "{name}");
    }
}

#[test]
fn a_layer_in_training_mode_is_refused_and_layers_below_it_are_not() {
    for (name, layer_above, node, on) in [
        ("training_norm", "f", "norm2", "the other images of the batch"),
        ("training_dropout", "scores", "dropout", "chance"),
    ] {
        let graph = graph(name);
        let error = open(&graph, &[layer(&graph, layer_above)]).unwrap_err();
        let BackboneError::Graph(GraphError::Training { node: found, on: depends, .. }) = &error else {
            panic!("{name}: {error}")
        };
        assert_eq!((found.as_str(), *depends), (node, on));
        assert!(error.to_string().contains("model.eval()"), "{error}");
        assert!(open(&graph, &[layer(&graph, "r1")]).is_ok(), "{name}");
        let models = tempfile::tempdir().unwrap();
        let network = fixture("fixtures/graphs/types").join(format!("{name}.onnx"));
        let mut add = cnncodes(models.path());
        add.args(["models", "add", "--preprocess", "tf"]).arg(network).assert().success().stderr(
            predicates::str::contains("warning: layers above it are refused")
                .and(predicates::str::contains(node)),
        );
    }
    assert!(graph("float16").training_mode().is_none());
}

#[test]
fn an_input_besides_the_image_matters_only_to_layers_that_need_it() {
    let graph = graph("other_input");
    assert_eq!(graph.input().name, "image");
    let error = open(&graph, &[layer(&graph, "f")]).unwrap_err();
    let BackboneError::Graph(GraphError::OtherInput { input, .. }) = &error else { panic!("{error}") };
    assert_eq!(input, "strength");
}

#[test]
fn a_layer_that_the_network_calls_penultimate_is_found_by_that_name() {
    let graph = graph("own_penultimate");
    let catalogue = Catalogue::of(&graph, &BTreeMap::new());
    assert_eq!(catalogue.find("", "penultimate").unwrap().tensor, "penultimate");
    assert_eq!(catalogue.penultimate().unwrap().tensor, "g");
}

/// A folder with a photo for each colour, and the network `name` in its models.
fn folder(name: &str, colours: &[(&str, [u8; 3])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    for (file, colour) in colours {
        let picture = RgbImage::from_pixel(SIDE as u32, SIDE as u32, Rgb(*colour));
        picture.save(folder.path().join("data").join(file)).unwrap();
    }
    let network = fixture("fixtures/graphs/types").join(format!("{name}.onnx"));
    cnncodes(folder.path())
        .args(["models", "add"])
        .arg(network)
        .args(["--preprocess", "tf", "--divisor", "1", "--mean", "0,0,0", "--std", "1,1,1"])
        .args(["--size", "16", "--shorter-side", "16", "--name", "net"])
        .assert()
        .success();
    folder
}

#[test]
fn an_image_with_infinite_features_is_skipped_with_the_reason() {
    let folder = folder("overflowing", &[("black.png", [0, 0, 0]), ("white.png", [255, 255, 255])]);
    let output = cnncodes(folder.path()).args(["extract", "--layer", "large", "-o", "f.h5"]).assert().code(1);
    let log = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    assert!(log.contains("white.png: ") && log.contains("features of large are infinite"), "{log}");
    let file = cnncodes::features::FeatureFile::open(&folder.path().join("f.h5")).unwrap();
    assert_eq!(file.image_names(), ["black.png"]);
}

#[test]
fn a_layer_whose_name_begins_with_a_dash_is_extracted() {
    let folder = folder("own_penultimate", &[("grey.png", [90, 90, 90])]);
    cnncodes(folder.path()).args(["extract", "--layer=-r1", "-o", "f.h5"]).assert().success();
    let file = cnncodes::features::FeatureFile::open(&folder.path().join("f.h5")).unwrap();
    assert_eq!(file.layers()[0].spec.tensor, "-r1");
    // Without --layer, the input of the last dense layer, whatever the network calls penultimate.
    cnncodes(folder.path()).args(["extract", "-o", "top.h5"]).assert().success();
    let file = cnncodes::features::FeatureFile::open(&folder.path().join("top.h5")).unwrap();
    assert_eq!(file.layers()[0].spec.tensor, "g");
}
