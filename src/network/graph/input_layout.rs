//! Finds the dimension of an image input that holds the channels, from the first convolution.
//!
//! ONNX convolutions read N x C x H x W. So the operations between the input and the convolution show which dimension of the
//! input holds the channels, even if the exporter left all four open, as in Hugging Face's exports.

use std::collections::{HashMap, HashSet};

use super::super::topology::{attribute, int, ints};
use super::proto::{GraphProto, NodeProto};
use crate::images::TensorLayout;

/// What the first convolution says about the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Convolved {
    pub layout: TensorLayout,
    /// How many channels it reads, where its weights say so.
    pub channels: Option<usize>,
}

/// Operations that leave the dimensions of their image where they are.
const IN_PLACE: [&str; 9] = [
    "Identity",
    "Cast",
    "CastLike",
    "Clip",
    "Pad",
    "Resize",
    "QuantizeLinear",
    "DequantizeLinear",
    "BatchNormalization",
];

/// Follows the tensor `input` to the first convolution; `None` where something else comes first.
pub(super) fn by_first_convolution(graph: &GraphProto, input: &str) -> Option<Convolved> {
    let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    for node in &graph.node {
        for name in &node.input {
            readers.entry(name).or_default().push(node);
        }
    }
    // A tensor, and which dimension of the input each of its own is.
    let mut open: Vec<(&str, [usize; 4])> = vec![(input, [0, 1, 2, 3])];
    let mut seen = HashSet::new();
    while let Some((tensor, dimensions)) = open.pop() {
        if !seen.insert(tensor) {
            continue;
        }
        for node in readers.get(tensor).into_iter().flatten() {
            let is_image = node.input.first().is_some_and(|name| name == tensor);
            let dimensions = match node.op_type() {
                "Conv" | "ConvInteger" | "QLinearConv" if is_image => {
                    let layout = match dimensions {
                        [0, 1, ..] => TensorLayout::Nchw,
                        [0, 3, ..] => TensorLayout::Nhwc,
                        _ => continue,
                    };
                    return Some(Convolved { layout, channels: channels(graph, node) });
                }
                "Transpose" => match permutation(node) {
                    Some(permutation) => permutation.map(|from| dimensions[from]),
                    None => continue,
                },
                "Sub" | "Add" | "Mul" | "Div" => dimensions,
                op if is_image && IN_PLACE.contains(&op) => dimensions,
                _ => continue,
            };
            open.extend(node.output.first().map(|output| (output.as_str(), dimensions)));
        }
    }
    None
}

fn permutation(node: &NodeProto) -> Option<[usize; 4]> {
    let Some(permutation) = ints(node, "perm") else { return Some([3, 2, 1, 0]) };
    let permutation: [i64; 4] = permutation.try_into().ok()?;
    permutation.iter().all(|&from| (0..4).contains(&from)).then(|| permutation.map(|from| from as usize))
}

/// The channels that a convolution reads: those of its weights, times its groups.
fn channels(graph: &GraphProto, convolution: &NodeProto) -> Option<usize> {
    // QLinearConv names the scale and zero point of its image before the weights.
    let place = if convolution.op_type() == "QLinearConv" { 3 } else { 1 };
    let dims = constant_dims(graph, convolution.input.get(place)?)?;
    let each = usize::try_from(*dims.get(1)?).ok()?;
    let groups = usize::try_from(int(convolution, "group").unwrap_or(1)).ok()?;
    each.checked_mul(groups)
}

/// The dimensions of the constant `name`, through what changes its type alone.
fn constant_dims<'a>(graph: &'a GraphProto, mut name: &'a str) -> Option<&'a [i64]> {
    // No chain is longer than there are nodes, unless it is a circle.
    for _ in 0..=graph.node.len() {
        if let Some(tensor) = graph.initializer.iter().find(|tensor| tensor.name() == name) {
            return Some(&tensor.dims);
        }
        let node = graph.node.iter().find(|node| node.output.iter().any(|output| output == name))?;
        match node.op_type() {
            "Constant" => return Some(&attribute(node, "value")?.t.as_ref()?.dims),
            "Identity" | "Cast" | "QuantizeLinear" | "DequantizeLinear" => name = node.input.first()?,
            _ => return None,
        }
    }
    None
}
