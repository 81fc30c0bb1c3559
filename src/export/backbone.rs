//! The network's part of a sealed graph: cut at the head's layer, in a recent operator set, under names that leave those of the
//! sealed graph free, each weight stored once.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use half::f16;

use super::builder::tensor;
use super::error::ExportError;
use super::opset::{TARGET, upgrade};
use super::{INPUT, OUTPUTS, PIXELS, SCOPES};
use crate::network::Graph;
use crate::network::graph::ROUNDED;
use crate::network::graph::proto::tensor_proto::DataType;
use crate::network::graph::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::network::nodes::{cast, node};

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
        keep_padding(&mut part);
        if graph.input().element == DataType::Float16 {
            keep_rounding(&mut part);
        }
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

/// Puts a node that changes nothing between every padding and the maximum that is taken of it: ONNX Runtime 1.24 takes padding with
/// zeros for the padding of the maximum itself, which is never the maximum. [`Graph::open_part`] takes it out again.
fn keep_padding(graph: &mut GraphProto) {
    let is = |node: &NodeProto, operator: &str| node.op_type() == operator;
    let padded: HashSet<String> =
        graph.node.iter().filter(|node| is(node, "Pad")).flat_map(|node| node.output.clone()).collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut reader in std::mem::take(&mut graph.node) {
        let read = reader.input.first_mut().filter(|input| padded.contains(*input));
        if let Some(input) = read.filter(|_| reader.op_type.as_deref() == Some("MaxPool")) {
            let kept = format!("{input}/kept_from_fusion/{}", nodes.len());
            nodes.push(node("Max", vec![input.clone(), input.clone()], kept.clone(), Vec::new()));
            *input = kept;
        }
        nodes.push(reader);
    }
    graph.node = nodes;
}

/// Puts a node that changes nothing behind the conversion of the images to float16: ONNX Runtime widens them again at once, and leaves
/// out both conversions, with the rounding that this program does.
fn keep_rounding(graph: &mut GraphProto) {
    let to = |node: &NodeProto| {
        node.attribute.iter().find(|attribute| attribute.name() == "to").and_then(|to| to.i)
    };
    let half = i64::from(i32::from(DataType::Float16));
    let is_rounding =
        |node: &NodeProto| node.op_type() == "Cast" && to(node) == Some(half) && !node.input.is_empty();
    // The cut graph begins with it, or with what makes one channel or four.
    let Some(index) = graph.node.iter().take(10).position(is_rounding) else { return };
    let Some(rounded) = graph.node[index].output.first_mut() else { return };
    let kept = rounded.clone();
    *rounded = format!("{kept}{ROUNDED}");
    let keeping = node("Max", vec![rounded.clone(), rounded.clone()], kept, Vec::new());
    graph.node.insert(index + 1, keeping);
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
        widened.push(cast(&stored, &name, DataType::Float));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::builder::{le_floats, value_info};

    fn weights(name: &str, values: &[f32]) -> TensorProto {
        tensor(name, DataType::Float, &[values.len()], le_floats(values).into())
    }

    fn add(inputs: [&str; 2], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some("Add".to_owned()),
            input: inputs.map(str::to_owned).to_vec(),
            output: vec![output.to_owned()],
            ..Default::default()
        }
    }

    fn names(graph: &GraphProto) -> Vec<String> {
        graph.initializer.iter().map(|tensor| tensor.name().to_owned()).collect()
    }

    #[test]
    fn names_of_the_sealed_graph_are_free_and_others_stay() {
        let mut graph = GraphProto {
            node: vec![add(["image", "head/weights"], "label"), add(["label", "headed/by"], "features.0")],
            initializer: vec![weights("head/weights", &[1.0]), weights("headed/by", &[2.0])],
            input: vec![value_info("image", DataType::Float, &[])],
            ..Default::default()
        };
        let taken = taken_names(&graph);
        rename(&mut graph, &taken);
        assert_eq!(graph.node[0].input, ["network/image", "network/head/weights"]);
        assert_eq!(graph.node[1].input, ["network/label", "headed/by"]);
        assert_eq!(graph.node[1].output, ["features.0"]);
        assert_eq!(names(&graph), ["network/head/weights", "headed/by"]);
        assert_eq!(graph.input[0].name(), "network/image");
    }

    #[test]
    fn equal_weights_are_stored_once_and_equal_numbers_of_another_shape_are_not() {
        let mut other = weights("c", &[1.0, 2.0]);
        other.dims = vec![2, 1];
        let mut graph = GraphProto {
            node: vec![add(["a", "b"], "x"), add(["c", "b"], "y")],
            initializer: vec![weights("a", &[1.0, 2.0]), weights("b", &[1.0, 2.0]), other],
            ..Default::default()
        };
        share_equal_weights(&mut graph);
        assert_eq!(names(&graph), ["a", "c"]);
        assert_eq!(
            (&graph.node[0].input, &graph.node[1].input),
            (&vec!["a".into(); 2], &vec!["c".into(), "a".into()])
        );
    }

    #[test]
    fn many_weights_that_fit_are_halved_and_widened_first() {
        let many: Vec<f32> = (0..FEWEST_HALVES).map(|at| at as f32 / 3.0).collect();
        let mut too_large = many.clone();
        too_large[7] = 7e4;
        let mut graph = GraphProto {
            node: vec![add(["many", "few"], "x")],
            initializer: vec![weights("many", &many), weights("few", &[0.1]), weights("large", &too_large)],
            ..Default::default()
        };
        halve(&mut graph);
        assert_eq!(names(&graph), ["many/float16", "few", "large"]);
        assert_eq!((graph.node[0].op_type(), graph.node[0].output[0].as_str()), ("Cast", "many"));
        let stored = graph.initializer[0].raw_data.as_ref().unwrap();
        assert_eq!(stored.len(), 2 * FEWEST_HALVES);
        assert_eq!(f16::from_le_bytes([stored[2], stored[3]]), f16::from_f32(1.0 / 3.0));
    }
}
