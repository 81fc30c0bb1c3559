//! Graphs that torchvision's two exporters and tf2onnx wrote, against the frameworks' own names and activations
//! (`scripts/reference/make_exporter_fixtures.py`).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use cnncodes::images::TensorLayout;
use cnncodes::network::{Backbone, BackboneError, Catalogue, Graph, GraphError, SessionSettings};
use serde_json::Value;

use crate::common::fixture;

const SIDE: usize = 224;

fn references() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(fixture("reference/exporters.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn graph(name: &str) -> Graph {
    Graph::open(&fixture("fixtures/graphs/exporters").join(format!("{name}.onnx"))).unwrap()
}

fn catalogue(graph: &Graph) -> Catalogue {
    Catalogue::of(graph, &BTreeMap::new())
}

/// The image of the script, by the same formula.
fn image(layout: TensorLayout) -> Vec<f32> {
    let value = |channel: usize, row: usize, column: usize| {
        ((channel * 89 + row * 31 + column * 17) % 256) as f32 / 64.0 - 2.0
    };
    let places = (0..3 * SIDE * SIDE).map(|index| match layout {
        TensorLayout::Nchw => (index / (SIDE * SIDE), index / SIDE % SIDE, index % SIDE),
        TensorLayout::Nhwc => (index % 3, index / (3 * SIDE), index / 3 % SIDE),
    });
    places.map(|(channel, row, column)| value(channel, row, column)).collect()
}

#[test]
fn every_framework_finds_its_own_layers_under_its_own_names() {
    for (name, expected) in &references() {
        let catalogue = catalogue(&graph(name));
        assert_eq!(catalogue.architecture.as_deref(), expected["architecture"].as_str(), "{name}");
        let layers = expected["layers"].as_object().unwrap();
        let found: Vec<&str> = catalogue.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(found, layers.keys().map(String::as_str).collect::<Vec<_>>(), "{name}");
        for (canonical, layer) in layers {
            if let Some(own) = layer["framework"].as_str() {
                assert_eq!(&catalogue.find(name, own).unwrap().name, canonical, "{name} {own}");
            }
        }
    }
}

#[test]
fn every_layer_has_the_frameworks_own_activations_channels_first() {
    for (name, expected) in &references() {
        let graph = graph(name);
        let layers = catalogue(&graph).layers;
        let settings = SessionSettings { threads: Some(1), ..SessionSettings::default() };
        let mut backbone = Backbone::open(&graph, &layers, (SIDE as u32, SIDE as u32), &settings).unwrap();
        let features = backbone.run(&image(graph.input().layout)).unwrap();
        for (layer, row) in layers.iter().zip(&features) {
            let reference = &expected["layers"][&layer.name];
            assert_eq!(row.len() as u64, reference["width"].as_u64().unwrap(), "{name} {}", layer.name);
            let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            let close = |what: &str, found: f64, scale: f64| {
                let wanted = reference[what].as_f64().unwrap();
                assert!((found - wanted).abs() <= 1e-4 * scale, "{name} {}: {what} {found}", layer.name);
            };
            close("squares", squares, squares);
            // Sums of both signs cancel: they are held against the size of what they add up.
            let size: f64 = row.iter().map(|&x| f64::from(x).abs()).sum();
            close("sum", row.iter().map(|&x| f64::from(x)).sum(), size);
            // This one tells rows that are channels first from those that are not.
            let ordered: f64 =
                row.iter().zip((0..97).cycle()).map(|(&x, at)| f64::from(x) * f64::from(at)).sum();
            close("ordered", ordered / 97.0, size);
        }
    }
}

#[test]
fn torchvisions_numbers_are_left_out_where_nothing_tells_them() {
    // Batch normalisation was folded in and PyTorch's names are gone: "features.1" would be a guess.
    let graph = graph("torchvision_vgg11_bn_nameless");
    let catalogue = catalogue(&graph);
    for layer in &catalogue.layers {
        assert!(!layer.aliases.iter().any(|alias| alias.starts_with("features.")), "{layer:?}");
    }
    assert_eq!(catalogue.find("", "classifier.4").unwrap().name, "fc7");
    assert!(catalogue.find("", "features.1").is_err());
}

#[test]
fn a_global_pool_is_a_plain_row_whatever_the_exporter_leaves_of_its_map() {
    for name in ["keras_resnet50", "keras_resnet50_opset18", "torchvision_resnet18_dynamo"] {
        let graph = graph(name);
        let layer = catalogue(&graph).find(name, "pool5").unwrap().clone();
        let settings = SessionSettings { threads: Some(1), ..SessionSettings::default() };
        let backbone =
            Backbone::open(&graph, std::slice::from_ref(&layer), (SIDE as u32, SIDE as u32), &settings)
                .unwrap();
        assert_eq!(backbone.taps()[0].shape.len(), 1, "{name}");
    }
}

#[test]
fn the_penultimate_of_a_headless_network_is_its_last_map_channels_first() {
    for (name, last) in [("keras_vgg16_notop", "pool5"), ("keras_resnet50_notop", "res5c")] {
        let catalogue = catalogue(&graph(name));
        let layer = catalogue.penultimate().unwrap();
        assert_eq!((layer.name.as_str(), layer.channels_last), (last, false), "{name}");
    }
}

#[test]
fn no_alias_of_a_real_export_names_two_layers() {
    for name in references().keys() {
        let mut seen = HashSet::new();
        for layer in &catalogue(&graph(name)).layers {
            for name in std::iter::once(&layer.name).chain(&layer.aliases) {
                assert!(seen.insert(name.clone()), "{name} names two layers");
            }
        }
    }
}

fn copy_of(name: &str, target: &Path) {
    std::fs::copy(fixture("fixtures/graphs/exporters").join(format!("{name}.onnx")), target).unwrap();
}

fn backbone(path: &Path, layer: &str) -> Result<Backbone, BackboneError> {
    let graph = Graph::open(path).unwrap();
    let layer = catalogue(&graph).find("", layer).unwrap().clone();
    Backbone::open(&graph, &[layer], (SIDE as u32, SIDE as u32), &SessionSettings::default())
}

#[test]
fn a_cut_graph_leaves_large_weights_in_the_file() {
    let graph = graph("torchvision_vgg11_bn_legacy");
    let catalogue = catalogue(&graph);
    let cut = graph.truncate(&[&catalogue.find("", "fc8").unwrap().tensor]).unwrap();
    let file = std::fs::metadata(graph.path()).unwrap().len();
    // The first dense layer alone has 8 x 784 weights of 4 bytes.
    assert!(cut.bytes.len() as u64 + 8 * 784 * 4 < file, "{} of {file}", cut.bytes.len());
}

#[cfg(unix)]
#[test]
fn weights_are_found_through_a_symbolic_link() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let (real, link) = (folder.path().join("real.onnx"), folder.path().join("models/link.onnx"));
    copy_of("torchvision_vgg11_bn_legacy", &real);
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let fc7 = |path| backbone(path, "fc7").unwrap().run(&image(TensorLayout::Nchw)).unwrap().remove(0);
    assert_eq!(fc7(&real)[..], fc7(&link)[..]);
}

#[test]
fn a_network_that_is_replaced_while_it_is_loaded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    copy_of("torchvision_vgg11_bn_legacy", &path);
    let graph = Graph::open(&path).unwrap();
    let layer = catalogue(&graph).find("", "fc7").unwrap().clone();
    // The same bytes but for one weight, and the same length.
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path().join("other"), bytes).unwrap();
    std::fs::rename(folder.path().join("other"), &path).unwrap();
    let size = (SIDE as u32, SIDE as u32);
    let error = Backbone::open(&graph, &[layer], size, &SessionSettings::default()).unwrap_err();
    assert!(matches!(&error, BackboneError::Graph(GraphError::Changed { .. })), "{error}");
    assert!(error.to_string().contains("network.onnx"), "{error}");
}
