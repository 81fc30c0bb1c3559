//! The layer catalogue and the truncated graphs, against ONNX Runtime's own activations on the uncut graphs
//! (`scripts/reference/make_graph_fixtures.py`).

use std::collections::{BTreeMap, HashSet};

use cnncodes::images::TensorLayout;
use cnncodes::network::{Backbone, Catalogue, Graph, Layer, Pooling, SessionSettings};
use serde_json::Value;

use crate::common::fixture;

const SIDE: usize = 32;

fn graph(name: &str) -> Graph {
    Graph::open(&fixture("fixtures/graphs").join(format!("{name}.onnx"))).unwrap()
}

fn catalogue(graph: &Graph) -> Catalogue {
    Catalogue::of(graph, &BTreeMap::new())
}

fn references() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(fixture("reference/graphs.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The two seeded images in the layout of `graph`.
fn images(graph: &Graph) -> Vec<f32> {
    let bytes = std::fs::read(fixture("fixtures/graphs/images.f32")).unwrap();
    let nchw: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if graph.input().layout == TensorLayout::Nchw {
        return nchw;
    }
    let pixels = SIDE * SIDE;
    (0..nchw.len())
        .map(|index| {
            let (image, pixel, channel) = (index / (3 * pixels), index / 3 % pixels, index % 3);
            nchw[image * 3 * pixels + channel * pixels + pixel]
        })
        .collect()
}

fn open(graph: &Graph, layers: &[Layer]) -> Backbone {
    Backbone::open(
        graph,
        layers,
        (SIDE as u32, SIDE as u32),
        &SessionSettings { threads: Some(1), ..Default::default() },
    )
    .unwrap()
}

/// Activations of `layers` for the two images: one vector a layer.
fn activations(graph: &Graph, layers: &[Layer]) -> Vec<Vec<f32>> {
    let features = open(graph, layers).run(&images(graph)).unwrap();
    features.iter().map(|rows| rows.to_vec()).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn every_layer_of_every_exporters_style_has_the_activations_of_the_uncut_graph() {
    for (name, expected) in &references() {
        let graph = graph(name);
        let catalogue = catalogue(&graph);
        let expected = expected.as_object().unwrap();
        let names: Vec<&str> = catalogue.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, expected.keys().map(String::as_str).collect::<Vec<_>>(), "{name}");
        for (layer, features) in catalogue.layers.iter().zip(activations(&graph, &catalogue.layers)) {
            let reference = &expected[&layer.name];
            assert_eq!(layer.tensor, reference["tensor"].as_str().unwrap(), "{name} {}", layer.name);
            let width = features.len() / 2;
            assert_eq!(width as u64, reference["width"].as_u64().unwrap(), "{name} {}", layer.name);
            for (image, row) in features.chunks(width).enumerate() {
                let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
                let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
                let close = |found: f64, wanted: f64| (found - wanted).abs() <= 1e-4 * (1.0 + wanted.abs());
                assert!(close(sum, numbers(&reference["sums"])[image]), "{name} {} {sum}", layer.name);
                assert!(close(squares, numbers(&reference["squares"])[image]), "{name} {}", layer.name);
                assert!(
                    close(row[width - 1].into(), numbers(&reference["last"])[image]),
                    "{name} {}",
                    layer.name
                );
            }
        }
    }
}

#[test]
fn names_of_three_worlds_find_one_layer() {
    for name in ["vgg16", "vgg16_bn", "vgg16_nhwc"] {
        let graph = graph(name);
        let catalogue = catalogue(&graph);
        let fc7 = catalogue.find(name, "fc7").unwrap();
        for alias in ["fc2", "classifier.4", "penultimate", "FC7", fc7.tensor.as_str()] {
            assert_eq!(catalogue.find(name, alias).unwrap(), fc7, "{name} {alias}");
        }
        assert_eq!(catalogue.find(name, "block3_conv2").unwrap().name, "conv3_2");
        assert_eq!(catalogue.find(name, "block5_pool").unwrap().name, "pool5");
        assert_eq!(catalogue.architecture.as_deref(), Some("VGG16"));
    }
    // torchvision's module numbers, which batch normalisation shifts.
    assert_eq!(catalogue(&graph("vgg16")).find("", "features.29").unwrap().name, "conv5_3");
    assert_eq!(catalogue(&graph("vgg16")).find("", "features.30").unwrap().name, "pool5");
    assert_eq!(catalogue(&graph("vgg16_bn")).find("", "features.42").unwrap().name, "conv5_3");
    assert_eq!(catalogue(&graph("vgg16_bn")).find("", "features.43").unwrap().name, "pool5");
    for name in ["resnet50_v1", "resnet50_v15", "resnet50_nhwc"] {
        let catalogue = catalogue(&graph(name));
        for (alias, canonical) in [
            ("conv2_block1_out", "res2a"),
            ("layer3.5", "res4f"),
            ("conv5_block3_out", "res5c"),
            ("avg_pool", "pool5"),
            ("penultimate", "pool5"),
            ("fc", "fc1000"),
        ] {
            assert_eq!(catalogue.find(name, alias).unwrap().name, canonical, "{name} {alias}");
        }
    }
}

#[test]
fn where_a_resnet_strides_is_told_by_its_form() {
    let architecture = |name: &str| catalogue(&graph(name)).architecture.unwrap();
    assert_eq!(architecture("resnet50_v1"), "ResNet50, stride in the 1x1 convolutions");
    assert_eq!(architecture("resnet50_nhwc"), "ResNet50, stride in the 1x1 convolutions");
    assert_eq!(architecture("resnet50_v15"), "ResNet50, stride in the 3x3 convolutions (v1.5)");
}

#[test]
fn no_alias_names_two_layers() {
    for name in references().keys() {
        let catalogue = catalogue(&graph(name));
        let mut seen = HashSet::new();
        for layer in &catalogue.layers {
            for name in std::iter::once(&layer.name).chain(&layer.aliases) {
                assert!(seen.insert(name.clone()), "{name} names two layers");
            }
        }
    }
}

#[test]
fn a_cut_graph_holds_nothing_above_the_cut() {
    let graph = graph("vgg16");
    let catalogue = catalogue(&graph);
    let tensor = |name: &str| catalogue.find("vgg16", name).unwrap().tensor.clone();
    let whole = graph.truncate(&[&tensor("prob")]).unwrap();
    let cut = graph.truncate(&[&tensor("pool1")]).unwrap();
    // Two convolutions with a ReLU each, and the pool.
    assert_eq!(cut.nodes, 5);
    // conv1_1: 4 x 3 x 3 x 3 weights and 4 biases; conv1_2: 4 x 4 x 3 x 3 and 4. The rest is the graph itself.
    let weights = 4 * (108 + 4 + 144 + 4);
    assert!((weights..weights + 1200).contains(&cut.bytes.len()), "{}", cut.bytes.len());
    assert!(whole.bytes.len() > 4 * cut.bytes.len());
    assert_eq!(whole.nodes, graph.nodes().len());
}

#[test]
fn layers_tapped_together_equal_layers_tapped_alone() {
    let graph = graph("vgg16_nhwc");
    let catalogue = catalogue(&graph);
    let layers: Vec<Layer> =
        ["fc7", "pool2", "conv4_1"].map(|name| catalogue.find("", name).unwrap().clone()).into();
    let together = activations(&graph, &layers);
    for (layer, expected) in layers.iter().zip(&together) {
        let alone = &activations(&graph, std::slice::from_ref(layer))[0];
        let difference =
            alone.iter().zip(expected).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f32::max);
        assert!(difference < 1e-5, "{} differs by {difference}", layer.name);
    }
}

#[test]
fn the_weights_below_a_layer_are_counted() {
    let graph = graph("vgg11_batch1");
    // 4 filters of 3 x 3 x 3 with a bias each; then 4 of 4 x 3 x 3 as well.
    let (first, second) = (4 * (4 * 27 + 4), 4 * (4 * 36 + 4));
    assert_eq!(graph.weight_bytes(["t_relu_2"]), first);
    assert_eq!(graph.weight_bytes(["t_conv_4", "t_relu_2"]), first + second);
    // What onnx's own reader adds up over all initializers.
    assert_eq!(graph.weight_bytes(graph.outputs()), 5220);
}

#[test]
fn sessions_side_by_side_give_the_same_features() {
    let graph = graph("vgg11_batch1");
    let layer = catalogue(&graph).find("", "fc6").unwrap().clone();
    let settings =
        SessionSettings { threads: Some(1), sessions: std::num::NonZero::new(3), ..Default::default() };
    let mut backbone =
        Backbone::open(&graph, std::slice::from_ref(&layer), (SIDE as u32, SIDE as u32), &settings).unwrap();
    let images = images(&graph);
    let expected = backbone.run(&images).unwrap();
    let runners: Vec<_> = backbone.runners().collect();
    assert_eq!(runners.len(), 3);
    std::thread::scope(|scope| {
        for mut runner in runners {
            let (images, expected) = (&images, &expected);
            scope.spawn(move || assert_eq!(runner.run(images).unwrap()[0][..], expected[0][..]));
        }
    });
}

#[test]
fn a_graph_with_a_fixed_batch_takes_any_number_of_images() {
    let graph = graph("vgg11_batch1");
    assert_eq!(graph.input().batch, Some(1));
    let layer = catalogue(&graph).find("", "fc6").unwrap().clone();
    let mut backbone = open(&graph, std::slice::from_ref(&layer));
    let images = images(&graph);
    let mut three = images.clone();
    three.extend_from_slice(&images[..backbone.image_len()]);
    let features = backbone.run(&three).unwrap();
    let rows = &features[0];
    let width = backbone.taps()[0].width();
    assert_eq!(rows.len(), 3 * width);
    assert_eq!(rows[..width], rows[2 * width..], "the first and the third image are the same");
    assert_ne!(rows[..width], rows[width..2 * width]);
}

/// Features of `layers` of `images` under `poolings`, one vector a layer.
fn pooled(
    graph: &Graph,
    layers: &[Layer],
    poolings: &[Pooling],
    size: (u32, u32),
    images: &[f32],
) -> Vec<Vec<f32>> {
    let settings = SessionSettings { threads: Some(1), ..Default::default() };
    let mut backbone = Backbone::open_pooled(graph, layers, poolings, size, &settings).unwrap();
    backbone.run(images).unwrap().iter().map(|rows| rows.to_vec()).collect()
}

/// Reference values from NumPy (`scripts/reference/make_tiles_reference.py`).
#[test]
fn maps_that_are_pooled_in_the_cut_graph_are_pooled_as_numpy_pools_them() {
    let text = std::fs::read_to_string(fixture("reference/tiles.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let (width, height) = (36, 40);
    assert_eq!(reference["size"], serde_json::json!([width, height]));
    let value = |index: usize| ((index * 7919 % 1009) as f64 / 1009.0 * 2.0 - 1.0) as f32;
    let nchw: Vec<f32> = (0..2 * 3 * height * width).map(value).collect();
    for name in ["maps", "maps_nhwc"] {
        let graph = graph(name);
        let images = match graph.input().layout {
            TensorLayout::Nchw => nchw.clone(),
            TensorLayout::Nhwc => {
                let pixels = height * width;
                let place = |at: usize| (at / (3 * pixels) * 3 + at % 3) * pixels + at / 3 % pixels;
                (0..nchw.len()).map(|at| nchw[place(at)]).collect()
            }
        };
        let layer = catalogue(&graph).find("", "map").unwrap().clone();
        let expected = reference["pooled"].as_object().unwrap();
        let poolings: Vec<Pooling> = expected.keys().map(|name| name.parse().unwrap()).collect();
        let layers = vec![layer; poolings.len()];
        let size = (width as u32, height as u32);
        for (found, (pooling, expected)) in
            pooled(&graph, &layers, &poolings, size, &images).iter().zip(expected)
        {
            let expected = numbers(expected);
            assert_eq!(found.len(), expected.len(), "{name} {pooling}");
            for (found, expected) in found.iter().zip(expected) {
                let difference = (f64::from(*found) - expected).abs();
                assert!(difference <= 1e-6 * (1.0 + expected), "{name} {pooling}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn poolings_of_every_layer_are_those_of_its_whole_maps() {
    let poolings: Vec<Pooling> = ["avg", "max", "2x2", "flatten"].map(|name| name.parse().unwrap()).into();
    for name in ["vgg11_batch1", "vgg16_bn", "vgg16_nhwc", "resnet50_nhwc"] {
        let graph = graph(name);
        let size = (SIDE as u32, SIDE as u32);
        let images = images(&graph);
        let layers = catalogue(&graph).layers;
        let whole = activations(&graph, &layers);
        let backbone = open(&graph, &layers);
        let shapes: Vec<Vec<usize>> = backbone.taps().iter().map(|tap| tap.shape.clone()).collect();
        for &pooling in &poolings {
            let found = pooled(&graph, &layers, &vec![pooling; layers.len()], size, &images);
            for (at, layer) in layers.iter().enumerate() {
                let mut expected = Vec::new();
                pooling.apply(&whole[at], &shapes[at], &mut expected);
                assert_eq!(found[at].len(), expected.len(), "{name} {} {pooling}", layer.name);
                let largest = whole[at].iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
                for (found, expected) in found[at].iter().zip(&expected) {
                    let difference = (found - expected).abs();
                    assert!(
                        difference <= 1e-5 * largest,
                        "{name} {} {pooling}: {found}, not {expected}",
                        layer.name
                    );
                }
            }
        }
    }
}

#[test]
fn external_weights_count_towards_the_hash() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["vgg11_external.onnx", "vgg11_external.weights"] {
        std::fs::copy(fixture("fixtures/graphs").join(file), folder.path().join(file)).unwrap();
    }
    let path = folder.path().join("vgg11_external.onnx");
    let before = Graph::open(&path).unwrap().sha256().to_owned();
    assert_eq!(before, graph("vgg11_external").sha256());
    let weights = folder.path().join("vgg11_external.weights");
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_ne!(Graph::open(&path).unwrap().sha256(), before);
    std::fs::remove_file(&weights).unwrap();
    let message = Graph::open(&path).unwrap_err().to_string();
    assert!(message.contains("vgg11_external.weights"), "{message}");
}

#[test]
fn external_weights_outside_of_the_graphs_folder_are_refused() {
    let bytes = std::fs::read(fixture("fixtures/graphs/vgg11_external.onnx")).unwrap();
    let beside = b"vgg11_external.weights";
    // As long as the name that it replaces.
    let outside = b"../../.././../dev/zero";
    let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(beside)).collect();
    assert!(!places.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vgg11.onnx");
    let reason = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = Graph::open(&path).unwrap_err();
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    };
    let mut escaping = bytes.clone();
    places.iter().for_each(|&at| escaping[at..at + outside.len()].copy_from_slice(outside));
    assert_eq!(reason(&escaping), "it is outside of the graph's folder, which ONNX does not allow");
    std::fs::create_dir(folder.path().join("vgg11_external.weights")).unwrap();
    assert_eq!(reason(&bytes), "it is not a regular file");
}
