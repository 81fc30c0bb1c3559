//! Transformers of timm and transformers, written by PyTorch's two exporters, against PyTorch's own activations
//! (`scripts/reference/make_transformer_fixtures.py`).

use std::collections::BTreeMap;

use cnncodes::network::{
    Backbone, BackboneError, Catalogue, Graph, Layer, Pooling, PoolingMismatch, SessionSettings,
    profile::Profile,
};
use serde_json::Value;

use crate::common::fixture;

const SIDE: usize = 32;
const SIZE: (u32, u32) = (SIDE as u32, SIDE as u32);

fn references() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(fixture("reference/transformers.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn graph(name: &str) -> Graph {
    Graph::open(&fixture("fixtures/graphs/transformers").join(format!("{name}.onnx"))).unwrap()
}

fn catalogue(graph: &Graph) -> Catalogue {
    Catalogue::of(graph, &BTreeMap::new())
}

/// The image of the script, by the same formula.
fn image() -> Vec<f32> {
    let value = |index: usize| {
        let (channel, row, column) = (index / (SIDE * SIDE), index / SIDE % SIDE, index % SIDE);
        ((channel * 89 + row * 31 + column * 17) % 256) as f32 / 64.0 - 2.0
    };
    (0..3 * SIDE * SIDE).map(value).collect()
}

fn open(graph: &Graph, layer: &Layer, pooling: Pooling) -> Result<Backbone, BackboneError> {
    let settings = SessionSettings { threads: Some(1), ..SessionSettings::default() };
    Backbone::open_pooled(graph, std::slice::from_ref(layer), &[pooling], SIZE, &settings)
}

fn features(graph: &Graph, layer: &Layer, pooling: Pooling) -> Vec<f32> {
    open(graph, layer, pooling).unwrap().run(&image()).unwrap()[0].to_vec()
}

/// Whether `row` has the sums that PyTorch's activations have. The ordered one tells a row of another order.
fn is(row: &[f32], reference: &Value) -> bool {
    let size: f64 = row.iter().map(|&x| f64::from(x).abs()).sum();
    let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
    let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
    let ordered: f64 = row.iter().zip((0..97).cycle()).map(|(&x, at)| f64::from(x) * f64::from(at)).sum();
    let close = |what: &str, found: f64, scale: f64| {
        (found - reference[what].as_f64().unwrap()).abs() <= 1e-4 * scale
    };
    row.len() as u64 == reference["width"].as_u64().unwrap()
        && close("sum", sum, size)
        && close("squares", squares, squares)
        && close("ordered", ordered / 97.0, size)
}

#[test]
fn every_block_has_pytorchs_activations_class_token_and_mean_of_patches() {
    for (name, expected) in &references() {
        let graph = graph(name);
        let catalogue = catalogue(&graph);
        for (block, poolings) in expected["layers"].as_object().unwrap() {
            let layer = catalogue.find(name, block).unwrap();
            for (pooling, reference) in poolings.as_object().unwrap() {
                let row = features(&graph, layer, pooling.parse().unwrap());
                assert!(is(&row, reference), "{name} {block} {pooling}");
            }
        }
        let blocks = catalogue.layers.iter().filter(|layer| layer.name.starts_with("block")).count();
        assert_eq!(blocks, expected["layers"].as_object().unwrap().len(), "{name}");
    }
}

#[test]
fn tokens_that_are_no_patches_are_known_and_the_head_decides_the_default() {
    for (name, expected) in &references() {
        let catalogue = catalogue(&graph(name));
        let layer = catalogue.find(name, "block1").unwrap();
        let tokens = layer.tokens.filter(|tokens| !tokens.is_map);
        assert_eq!(tokens.map(|tokens| tokens.prefix as u64), expected["prefix"].as_u64(), "{name}");
        let class_token = tokens.is_some_and(|tokens| tokens.class_token);
        assert_eq!(class_token, expected["class_token"].as_bool().unwrap(), "{name}");
        assert_eq!(layer.default_pooling().to_string(), expected["default"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn the_default_layer_stands_for_the_whole_image() {
    for (name, layer, width) in [
        ("vit", "pooled", 8),
        ("vit_opset14", "pooled", 8),
        ("vit_mean", "pooled", 8),
        // Its two heads read two tokens.
        ("deit_distilled", "norm", 8),
        ("dinov2", "pooled", 8),
        ("clip", "pooled", 8),
        ("swin", "pooled", 8),
    ] {
        let graph = graph(name);
        let catalogue = catalogue(&graph);
        let penultimate = catalogue.penultimate().unwrap();
        assert_eq!(penultimate.name, layer, "{name}");
        assert_eq!(features(&graph, penultimate, penultimate.default_pooling()).len(), width, "{name}");
    }
    // Networks without a head give their own pooling of the tokens.
    let references = references();
    for (name, output) in [("dinov2_reg4", 0), ("dinov2", 0), ("siglip_map", 0), ("siglip", 1)] {
        let graph = graph(name);
        let catalogue = catalogue(&graph);
        let row = features(&graph, catalogue.penultimate().unwrap(), Pooling::None);
        assert!(is(&row, &references[name]["outputs"][output]), "{name}");
    }
}

#[test]
fn both_tokens_together_are_the_class_token_and_then_the_mean() {
    let graph = graph("dinov2_reg4");
    let layer = catalogue(&graph).find("", "block1").unwrap().clone();
    let of = |pooling: &str| features(&graph, &layer, pooling.parse().unwrap());
    assert_eq!(of("cls+mean"), [of("cls"), of("mean")].concat());
    assert_eq!(of("avg"), of("mean"));
    let (grid, mean) = (of("2x2"), of("mean"));
    for (channel, cells) in grid.chunks(4).enumerate() {
        let of_cells = cells.iter().sum::<f32>() / 4.0;
        assert!((of_cells - mean[channel]).abs() < 1e-5, "{of_cells} {}", mean[channel]);
    }
}

#[test]
fn a_pooling_that_does_not_suit_names_the_layer_its_shape_and_the_remedy() {
    let graph = graph("siglip_map");
    let catalogue = catalogue(&graph);
    let refused =
        |layer: &str, pooling: Pooling| match open(&graph, catalogue.find("", layer).unwrap(), pooling) {
            Err(error @ BackboneError::Pooling { .. }) => error,
            other => panic!("{layer} {pooling}: {other:?}"),
        };
    let error = refused("block0", Pooling::ClassToken).to_string();
    assert!(error.starts_with("block0: the pooling cls does not suit this layer of "), "{error}");
    assert!(error.contains("whose shape is 16 x 8: it has no class token; choose mean"), "{error}");
    let BackboneError::Pooling { reason, .. } = refused("pooled", Pooling::ClassTokenAndMean) else {
        panic!()
    };
    assert_eq!(reason, PoolingMismatch::NoTokens);
}

#[test]
fn the_names_of_timm_torchvision_and_transformers_find_a_block() {
    let catalogue_of = |name: &str| catalogue(&graph(name));
    let vit = catalogue_of("vit");
    for alias in ["blocks.1", "encoder.layers.encoder_layer_1", "encoder.layer.1", "encoder.layers.1"] {
        assert_eq!(vit.find("", alias).unwrap().name, "block1");
    }
    let swin = catalogue_of("swin");
    for alias in ["layers.1.blocks.0", "features.3.0"] {
        assert_eq!(swin.find("", alias).unwrap().name, "block2");
    }
    assert_eq!(
        vit.architecture.as_deref(),
        Some("vision transformer, 2 blocks of width 8 (class token, 16 patches)")
    );
    assert_eq!(
        swin.architecture.as_deref(),
        Some("vision transformer in 2 stages, 2 + 1 blocks of width 4, 8")
    );
}

#[test]
fn shapes_that_are_worked_out_are_those_that_onnx_runtime_returns() {
    for name in references().keys() {
        let graph = graph(name);
        let catalogue = catalogue(&graph);
        let layers: Vec<Layer> = catalogue.layers.iter().chain(catalogue.unlisted()).cloned().collect();
        let profile = Profile::measure(&graph, &layers, SIZE).unwrap();
        let known: Vec<Layer> =
            layers.iter().filter(|layer| profile.shape(layer).is_some()).cloned().collect();
        assert!(known.len() > 20, "{name}: {}", known.len());
        let settings = SessionSettings { threads: Some(1), ..SessionSettings::default() };
        let mut backbone = Backbone::open(&graph, &known, SIZE, &settings).unwrap();
        let two = [image(), image()].concat();
        for ((layer, tap), rows) in
            known.iter().zip(backbone.taps().to_vec()).zip(backbone.run(&two).unwrap())
        {
            assert_eq!(profile.activations(layer), Some(&tap.activations), "{name} {}", layer.name);
            assert_eq!(rows.len(), 2 * tap.width(), "{name} {}", layer.name);
        }
    }
}
