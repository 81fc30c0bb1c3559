//! What each layer is and costs: the shape of its activations and the multiply-adds that lie below it.

use std::collections::HashMap;

use super::graph::Graph;
use super::layer::Layer;
use super::session::{Backbone, BackboneError};
use super::topology::int;

/// Shapes and costs of a network's layers.
#[derive(Debug)]
pub struct Profile {
    /// Shape of one image's activations, channels first, by ONNX tensor.
    shapes: HashMap<String, Vec<usize>>,
    /// Multiply-adds of each node for one image, index as in [`Graph::nodes`].
    costs: Vec<u64>,
    total: u64,
}

impl Profile {
    /// Learns the shapes in `graph` and counts; `layers` are those whose shape is wanted. Layers that
    /// cannot be codes (no row an image, not 32-bit floats) are left out.
    ///
    /// # Errors
    /// The runtime is missing or cannot run the graph.
    pub fn measure(graph: &Graph, layers: &[Layer], size: (u32, u32)) -> Result<Profile, BackboneError> {
        let convolutions =
            weighted_outputs(graph).filter(|tensor| layers.iter().all(|layer| layer.tensor != *tensor));
        let mut wanted: Vec<Layer> = layers.to_vec();
        wanted.extend(convolutions.map(|tensor| Layer {
            name: tensor.to_owned(),
            aliases: Vec::new(),
            tensor: tensor.to_owned(),
            what: String::new(),
            channels_last: false,
        }));
        let mut shapes = HashMap::new();
        while !wanted.is_empty() {
            match Backbone::shapes(graph, &wanted, size) {
                Ok(known) => {
                    shapes.extend(wanted.iter().map(|layer| layer.tensor.clone()).zip(known));
                    break;
                }
                Err(BackboneError::NotCodes { layer, .. }) => {
                    wanted.retain(|candidate| candidate.name != layer)
                }
                Err(error) => return Err(error),
            }
        }
        let costs = costs(graph, &shapes);
        let total = sum(&costs, &graph.ancestors(graph.outputs()));
        Ok(Profile { shapes, costs, total })
    }

    /// The shape of one image's activations at `layer`, unless it cannot be codes.
    pub fn shape(&self, layer: &Layer) -> Option<&[usize]> {
        self.shapes.get(&layer.tensor).map(Vec::as_slice)
    }

    /// Multiply-adds for one image up to and with `layer`.
    pub fn below(&self, graph: &Graph, layer: &Layer) -> u64 {
        sum(&self.costs, &graph.ancestors([layer.tensor.as_str()]))
    }

    /// Multiply-adds for one image of the whole network.
    pub fn total(&self) -> u64 {
        self.total
    }
}

fn sum(costs: &[u64], keep: &[bool]) -> u64 {
    costs.iter().zip(keep).filter_map(|(&cost, &keep)| keep.then_some(cost)).sum()
}

/// The tensors that convolutions and matrix products make.
fn weighted_outputs(graph: &Graph) -> impl Iterator<Item = &str> {
    graph
        .nodes()
        .iter()
        .filter(|node| matches!(node.op_type(), "Conv" | "Gemm" | "MatMul"))
        .filter(|node| !node.input.iter().all(|name| graph.is_constant(name)))
        .filter_map(|node| node.output.first().map(String::as_str))
}

/// Multiply-adds a node: every output number of a convolution takes one for each weight of its filter, a matrix
/// product one for each row of the constant matrix.
fn costs(graph: &Graph, shapes: &HashMap<String, Vec<usize>>) -> Vec<u64> {
    graph
        .nodes()
        .iter()
        .map(|node| {
            let weights = node.input.get(1).and_then(|name| graph.constant_shape(name));
            let numbers =
                node.output.first().and_then(|name| shapes.get(name)).map(|shape| shape.iter().product());
            let (Some(weights), Some(numbers)) = (weights, numbers) else { return 0 };
            let numbers: usize = numbers;
            let each: usize = match node.op_type() {
                "Conv" => weights.iter().skip(1).product(),
                "Gemm" if int(node, "transB") == Some(1) => weights.get(1).copied().unwrap_or(0),
                "Gemm" | "MatMul" => weights.first().copied().unwrap_or(0),
                _ => 0,
            };
            (numbers as u64) * (each as u64)
        })
        .collect()
}
