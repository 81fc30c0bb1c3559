//! The network's part of a sealed graph: cut at the head's layer, in a recent operator set, under names that leave those of the
//! sealed graph free, each weight stored once.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use half::f16;

use super::builder::{int, tensor};
use super::error::ExportError;
use super::opset::{TARGET, upgrade};
use super::{INPUT, OUTPUTS, PIXELS, SCOPES};
use crate::network::Graph;
use crate::network::graph::proto::tensor_proto::DataType;
use crate::network::graph::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// The version of ONNX's file format that the operator sets here belong to.
const IR_VERSION: i64 = 8;
/// Smaller weights stay in float32.
const FEWEST_HALVES: usize = 256;
/// Weights beyond this are infinite as float16.
const LARGEST_HALF: f32 = 65504.0;

/// A network that is cut and can become a part of a larger graph.
pub(super) struct NetworkPart {
    /// Its only input is [`INPUT`], which holds 32-bit floats.
    pub model: ModelProto,
    /// The tapped tensor.
    pub tensor: String,
    /// The operator set of ONNX's own that its nodes are in.
    pub opset: i64,
}

impl NetworkPart {
    /// Cuts `graph` at `tensor`.
    pub(super) fn cut(graph: &Graph, tensor: &str, half_weights: bool) -> Result<Self, ExportError> {
        let network = graph.path().display().to_string();
        let mut model = graph.truncated_model(tensor)?;
        let found = graph.opset();
        if found < TARGET && !model.functions.is_empty() {
            return Err(ExportError::Functions { network, opset: found });
        }
        let mut part = model.graph.take().unwrap_or_default();
        let opset = upgrade(&mut part, found, &network)?;
        let input = part.input.first().map(ValueInfoProto::name).unwrap_or_default().to_owned();
        let mut names = taken_names(&part);
        names.insert(input, INPUT.to_owned());
        rename(&mut part, &names);
        share_equal_weights(&mut part);
        if half_weights {
            halve(&mut part);
        }
        let domains: HashSet<String> = part
            .node
            .iter()
            .chain(model.functions.iter().flat_map(|function| &function.node))
            .map(|node| node.domain().to_owned())
            .collect();
        for import in &mut model.opset_import {
            if matches!(import.domain(), "" | "ai.onnx") {
                import.version = Some(opset);
            }
        }
        model
            .opset_import
            .retain(|import| matches!(import.domain(), "" | "ai.onnx") || domains.contains(import.domain()));
        model.ir_version = Some(model.ir_version().max(IR_VERSION));
        model.graph = Some(part);
        let tensor = names.get(tensor).cloned().unwrap_or_else(|| tensor.to_owned());
        Ok(Self { model, tensor, opset })
    }
}

/// New names for what is called as something else of the sealed graph.
fn taken_names(graph: &GraphProto) -> HashMap<String, String> {
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let inputs = graph.input.iter().map(ValueInfoProto::name);
    let weights = graph.initializer.iter().map(TensorProto::name);
    let is_taken = |name: &&str| {
        let scope = name.split_once('/').map(|(scope, _)| scope);
        [INPUT, PIXELS].contains(name)
            || OUTPUTS.contains(name)
            || scope.is_some_and(|scope| SCOPES.contains(&scope))
    };
    let renamed = |name: &str| (name.to_owned(), format!("network/{name}"));
    made.chain(inputs).chain(weights).filter(is_taken).map(renamed).collect()
}

/// Renames tensors in `graph` and in the graphs inside of it.
fn rename(graph: &mut GraphProto, names: &HashMap<String, String>) {
    let change = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).for_each(change);
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|inner| rename(inner, names));
        }
    }
    graph.initializer.iter_mut().filter_map(|tensor| tensor.name.as_mut()).for_each(change);
    let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    values.filter_map(|value| value.name.as_mut()).for_each(change);
    graph
        .quantization_annotation
        .iter_mut()
        .filter_map(|annotation| annotation.tensor_name.as_mut())
        .for_each(change);
}

/// Stores weights that are equal once.
fn share_equal_weights(graph: &mut GraphProto) {
    let mut first: HashMap<(i32, Vec<i64>, Bytes), String> = HashMap::new();
    let mut names = HashMap::new();
    graph.initializer.retain(|tensor| {
        let Some(values) = &tensor.raw_data else { return true };
        match first.entry((tensor.data_type(), tensor.dims.clone(), values.clone())) {
            std::collections::hash_map::Entry::Occupied(known) => {
                names.insert(tensor.name().to_owned(), known.get().clone());
                false
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(tensor.name().to_owned());
                true
            }
        }
    });
    if !names.is_empty() {
        rename(graph, &names);
    }
}

/// Stores weights of float32 as float16, with nodes that widen them when the graph is loaded.
fn halve(graph: &mut GraphProto) {
    let mut widened: Vec<NodeProto> = Vec::new();
    for weights in &mut graph.initializer {
        let Some(halves) = halves_of(weights) else { continue };
        let name = weights.name().to_owned();
        let stored = format!("{name}/float16");
        let dims: Vec<usize> = weights.dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
        *weights = tensor(&stored, DataType::Float16, &dims, halves.into());
        widened.push(NodeProto {
            op_type: Some("Cast".to_owned()),
            name: Some(name.clone()),
            input: vec![stored],
            output: vec![name],
            attribute: vec![int("to", i64::from(i32::from(DataType::Float)))],
            ..Default::default()
        });
    }
    graph.node.splice(0..0, widened);
}

/// The weights as float16; none if they are not many of float32, or if one of them is too large.
fn halves_of(weights: &TensorProto) -> Option<Vec<u8>> {
    let is_float = weights.data_type() == i32::from(DataType::Float);
    let bytes = weights.raw_data.as_ref().filter(|_| is_float)?;
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let fits = values.len() >= FEWEST_HALVES && values.iter().all(|value| value.abs() <= LARGEST_HALF);
    fits.then(|| values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect())
}
