//! The shape of each layer's activations, and the multiply-adds up to each layer.
//!
//! Both come from the graph alone ([`Inference`]), in milliseconds. Only for layers behind an operation that is not known here,
//! the runtime finds the shapes.

use std::collections::{HashMap, HashSet};

use super::activations::Activations;
use super::graph::Graph;
use super::graph::proto::tensor_proto::DataType;
use super::inference::{Inference, is_float};
use super::layer::Layer;
use super::session::{Backbone, BackboneError};
use super::topology::int;

/// Shapes and costs of a network's layers.
#[derive(Debug)]
pub struct Profile {
    /// One image's activations, by ONNX tensor.
    activations: HashMap<String, Activations>,
    /// Multiply-adds up to and with each node for one image, by the node's first output.
    below: HashMap<String, u64>,
    total: u64,
}

impl Profile {
    /// Learns the shapes in `graph` and counts; `layers` are those whose shape is wanted, for images of `size`, width and
    /// height. Layers that cannot be features (no row for each image, no floating-point numbers) are left out.
    ///
    /// # Errors
    /// A shape cannot be worked out, and the runtime is missing or cannot run the graph.
    pub fn measure(graph: &Graph, layers: &[Layer], size: (u32, u32)) -> Result<Profile, BackboneError> {
        let inference = Inference::of(graph, size);
        let mut activations = HashMap::new();
        let mut open: Vec<Layer> = Vec::new();
        for layer in layers {
            let element = inference.element(&layer.tensor);
            match inference.shape(&layer.tensor) {
                _ if element.is_some_and(|element| !is_float(element)) => {}
                Some(dims) => {
                    if let Some(shape) = of_one_image(dims, inference.batch(), layer) {
                        activations.insert(layer.tensor.clone(), Activations::of(layer, shape, size));
                    }
                }
                None => open.push(layer.clone()),
            }
        }
        // A layer that needs an input besides the image cannot be run.
        let others: HashSet<String> = graph.other_inputs().map(|(name, _)| name).collect();
        open.retain(|layer| others.is_empty() || !graph.reads(&layer.tensor, &others));
        // The costs of products behind an operation that is not known.
        let mut products = HashMap::new();
        if !open.is_empty() {
            let unknown = weighted_outputs(graph).filter(|tensor| inference.shape(tensor).is_none());
            let unknown = unknown.filter(|tensor| others.is_empty() || !graph.reads(tensor, &others));
            let unknown: Vec<Layer> = unknown.map(|tensor| Layer::of_tensor(tensor, "", false)).collect();
            let all: Vec<Layer> = open.iter().chain(&unknown).cloned().collect();
            let shapes = Backbone::shapes_of_all(graph, &all, size)?;
            for (at, (layer, shape)) in all.iter().zip(shapes).enumerate() {
                let Some(shape) = shape else { continue };
                if at < open.len() {
                    activations.insert(layer.tensor.clone(), Activations::of(layer, shape.clone(), size));
                }
                products.insert(layer.tensor.clone(), shape);
            }
        }
        let costs = costs(graph, &inference, &products);
        let below = NodesBelow::of(graph, &costs);
        let total = below.of_all(graph.outputs());
        Ok(Profile { activations, below: below.by_tensor(graph), total })
    }

    /// One image's activations at `layer`, unless they cannot be features.
    pub fn activations(&self, layer: &Layer) -> Option<&Activations> {
        self.activations.get(&layer.tensor)
    }

    /// The shape of one image's activations at `layer`, unless it cannot be features.
    pub fn shape(&self, layer: &Layer) -> Option<&[usize]> {
        Some(&self.activations(layer)?.shape)
    }

    /// Multiply-adds for one image up to and with `layer`.
    pub fn below(&self, layer: &Layer) -> u64 {
        self.below.get(&layer.tensor).copied().unwrap_or(0)
    }

    /// Multiply-adds for one image of the whole network.
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// The shape of one image's activations, channels first, in a tensor of `dims` for `batch` images; none where the tensor does not
/// have one row for each image.
pub(super) fn of_one_image(dims: &[usize], batch: usize, layer: &Layer) -> Option<Vec<usize>> {
    if dims.len() < 2 || dims[0] != batch || dims.contains(&0) {
        return None;
    }
    let mut shape = dims[1..].to_vec();
    if layer.channels_last && shape.len() == 3 {
        shape.rotate_right(1);
    }
    // Exporters differ in whether a global pool keeps its map of one pixel.
    if shape.len() == 3 && shape[1..] == [1, 1] {
        shape.truncate(1);
    }
    Some(shape)
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

/// Multiply-adds of each node for one image, index as in [`Graph::nodes`]: every output number of a convolution takes one for
/// each weight of its filter, that of a matrix product one for each number of a row. `products` holds the shapes of one image's
/// outputs that cannot be inferred.
fn costs(graph: &Graph, inference: &Inference, products: &HashMap<String, Vec<usize>>) -> Vec<u64> {
    let cost = |node: &super::graph::proto::NodeProto| -> Option<u64> {
        let (weights, at) = match node.op_type() {
            "QLinearConv" | "QLinearMatMul" => (node.input.get(3)?, 3),
            _ => (node.input.get(1)?, 1),
        };
        let weights = match graph.constant_shape(weights) {
            Some(shape) => shape,
            None => inference.shape(&node.input[at])?.to_vec(),
        };
        let each: usize = match node.op_type() {
            "Conv" | "ConvInteger" | "QLinearConv" => weights.iter().skip(1).product(),
            "Gemm" if int(node, "transB") == Some(1) => weights.get(1).copied()?,
            "Gemm" => weights.first().copied()?,
            "MatMul" | "MatMulInteger" | "QLinearMatMul" => match weights.len() {
                0 | 1 => weights.first().copied()?,
                rank => weights[rank - 2],
            },
            _ => return None,
        };
        let output = node.output.first()?;
        let numbers = match inference.shape(output) {
            Some(dims) if inference.element(output) != Some(DataType::Int64) => {
                dims.iter().product::<usize>() / inference.batch().max(1)
            }
            _ => products.get(output)?.iter().product(),
        };
        Some((numbers as u64).saturating_mul(each as u64))
    };
    graph.nodes().iter().map(|node| cost(node).unwrap_or(0)).collect()
}

/// The nodes with costs that each node depends on.
struct NodesBelow<'a> {
    /// A bit for each of them, by the node's outputs.
    sets: HashMap<&'a str, Vec<u64>>,
    /// What each of them costs.
    costs: Vec<u64>,
}

impl<'a> NodesBelow<'a> {
    fn of(graph: &'a Graph, costs: &[u64]) -> NodesBelow<'a> {
        let counted: Vec<u64> = costs.iter().copied().filter(|&cost| cost > 0).collect();
        let words = counted.len().div_ceil(64);
        let mut sets: HashMap<&str, Vec<u64>> = HashMap::new();
        let mut bit = 0;
        for (node, &cost) in graph.nodes().iter().zip(costs) {
            let mut set = vec![0; words];
            let mut names = Vec::new();
            super::graph::names_read_by(node, &mut names);
            for below in names.iter().filter_map(|name| sets.get(name)) {
                set.iter_mut().zip(below).for_each(|(set, below)| *set |= below);
            }
            if cost > 0 {
                set[bit / 64] |= 1 << (bit % 64);
                bit += 1;
            }
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                sets.insert(output, set.clone());
            }
        }
        NodesBelow { sets, costs: counted }
    }

    fn sum(&self, set: &[u64]) -> u64 {
        let lies_in = |bit: usize| set.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1);
        self.costs.iter().enumerate().filter(|(bit, _)| lies_in(*bit)).map(|(_, cost)| cost).sum()
    }

    fn of_all<'t>(&self, tensors: impl Iterator<Item = &'t str>) -> u64 {
        let mut all = vec![0; self.costs.len().div_ceil(64)];
        for set in tensors.filter_map(|tensor| self.sets.get(tensor)) {
            all.iter_mut().zip(set).for_each(|(all, set)| *all |= set);
        }
        self.sum(&all)
    }

    fn by_tensor(&self, graph: &Graph) -> HashMap<String, u64> {
        let outputs = graph.nodes().iter().filter_map(|node| node.output.first());
        outputs.filter_map(|name| Some((name.clone(), self.sum(self.sets.get(name.as_str())?)))).collect()
    }
}
