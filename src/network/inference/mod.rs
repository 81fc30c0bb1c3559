//! The shape and the element type of every tensor of a graph, worked out from the graph alone, in milliseconds.
//!
//! ONNX Runtime infers shapes only after it has loaded the weights. It leaves those open that follow a reshape whose target the
//! graph computes from the shape of the image, as in exported transformers. Here the size of the images and the batch size are
//! known, so these small computations can be carried out ([`values`]), and the shapes behind them are known ([`shapes`]). The
//! shapes behind an operation that is not known here stay open.

mod shapes;
mod values;

use std::collections::HashMap;

use super::graph::Graph;
use super::graph::proto::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};
use super::layer::Layer;
use super::topology::{attribute, int};
use crate::images::TensorLayout;

/// Larger tensors do not hold sizes, axes or indices, and their numbers are not followed.
const MOST_VALUES: usize = 4096;

/// Numbers of the largest tensor that is plausible.
const LARGEST: usize = 1 << 40;

/// Sides of images that networks are made for: a graph that leaves its input's size open may fit to one of them only, by the
/// number of its position embeddings.
const USUAL_SIDES: [u32; 10] = [224, 256, 384, 336, 518, 288, 448, 512, 240, 299];

/// Batch size if the graph leaves it open: a number that no other dimension is likely to have, so that tensors with a row for
/// each image can be recognised.
const OPEN_BATCH: usize = 13;

/// What is known of a tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TensorFact {
    pub(super) element: Option<DataType>,
    pub(super) dims: Option<Vec<usize>>,
    /// Its numbers, if they are few and do not depend on pixels.
    pub(super) values: Option<Vec<f64>>,
}

impl TensorFact {
    fn new(element: Option<DataType>, dims: Option<Vec<usize>>) -> TensorFact {
        TensorFact { element, dims, values: None }
    }
}

/// What is known of the tensors of a graph, for batches of so many images of one size.
#[derive(Debug)]
pub(super) struct Inference {
    facts: HashMap<String, TensorFact>,
    batch: usize,
}

impl Inference {
    /// Infers for images of `size` (width, height) and the batch size that the graph fixes, or else [`OPEN_BATCH`].
    pub(super) fn of(graph: &Graph, size: (u32, u32)) -> Inference {
        Self::of_batch(graph, size, graph.input().batch.unwrap_or(OPEN_BATCH))
    }

    /// Infers for batches of `batch` images.
    pub(super) fn of_batch(graph: &Graph, (width, height): (u32, u32), batch: usize) -> Inference {
        let input = graph.input();
        let (height, width) = (height as usize, width as usize);
        let dims = match input.layout {
            TensorLayout::Nchw => vec![batch, input.channels, height, width],
            TensorLayout::Nhwc => vec![batch, height, width, input.channels],
        };
        let mut facts: HashMap<String, TensorFact> = graph.other_inputs().collect();
        facts.insert(input.name.clone(), TensorFact::new(Some(input.element), Some(dims)));
        let constants = Constants { graph };
        for node in graph.nodes() {
            add(node, &mut facts, &constants, graph.opset());
        }
        Inference { facts, batch }
    }

    /// Infers for images of the size that the graph fixes, or else of a usual size that fits it.
    pub(super) fn at_own_size(graph: &Graph) -> Inference {
        let input = graph.input();
        let side = |side: Option<usize>| side.and_then(|side| u32::try_from(side).ok());
        let (width, height) = (side(input.width), side(input.height));
        let at = |usual: u32| Self::of(graph, (width.unwrap_or(usual), height.unwrap_or(usual)));
        let fits = |inference: &Inference| graph.outputs().all(|output| inference.shape(output).is_some());
        let first = at(USUAL_SIDES[0]);
        if fits(&first) || (width.is_some() && height.is_some()) {
            return first;
        }
        USUAL_SIDES[1..].iter().map(|&usual| at(usual)).find(fits).unwrap_or(first)
    }

    /// Images in a batch.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// The shape of `tensor`, with the batch.
    pub(super) fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.facts.get(tensor)?.dims.as_deref()
    }

    /// What `tensor` holds.
    pub(super) fn element(&self, tensor: &str) -> Option<DataType> {
        self.facts.get(tensor)?.element
    }

    /// The numbers of `tensor`, if they are few and do not depend on pixels.
    pub(super) fn values(&self, tensor: &str) -> Option<&[f64]> {
        self.facts.get(tensor)?.values.as_deref()
    }

    /// Whether `tensor` may hold activations: floating-point or quantised numbers, as far as its type is known.
    pub(super) fn may_be_activations(&self, tensor: &str) -> bool {
        self.element(tensor).is_none_or(|element| is_float(element) || is_quantised(element))
    }
}

/// The batch size that every run up to `layers` must have, if it is fixed. The input may fix it. It is one if a reshape inside
/// the graph is written for one image whatever the input says. It is also one if activations are quantised by their range in
/// the whole batch, because features would depend on the other images.
pub(crate) fn fixed_batch(graph: &Graph, layers: &[Layer], size: (u32, u32)) -> Option<usize> {
    graph.input().batch.or_else(|| {
        let needed = graph.ancestors(layers.iter().map(|layer| layer.tensor.as_str()));
        let mut nodes = graph.nodes().iter().zip(needed).filter_map(|(node, needed)| needed.then_some(node));
        if nodes.any(|node| node.op_type() == "DynamicQuantizeLinear") {
            return Some(1);
        }
        let rows = |batch: usize| {
            let inference = Inference::of_batch(graph, size, batch);
            let has = |layer: &Layer| {
                inference.shape(&layer.tensor).is_some_and(|dims| dims.first() == Some(&batch))
            };
            layers.iter().all(has)
        };
        (!rows(OPEN_BATCH) && rows(1)).then_some(1)
    })
}

/// The element type of the activations of `layer`, for images of `size` (width, height).
pub(crate) fn element_of(graph: &Graph, layer: &Layer, size: (u32, u32)) -> Option<DataType> {
    Inference::of(graph, size).element(&layer.tensor)
}

/// Whether numbers of this type are activations as they stand.
pub(super) fn is_float(element: DataType) -> bool {
    matches!(element, DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double)
}

/// Whether numbers of this type may stand for activations, with a scale.
pub(super) fn is_quantised(element: DataType) -> bool {
    matches!(element, DataType::Int8 | DataType::Uint8 | DataType::Int16 | DataType::Uint16)
}

/// The constant tensors of a graph as facts.
struct Constants<'a> {
    graph: &'a Graph,
}

impl Constants<'_> {
    fn fact(&self, name: &str) -> Option<TensorFact> {
        Some(fact_of(self.graph.initializer(name)?, Some(self.graph)))
    }
}

/// What a constant tensor is; `graph` reads numbers that lie in a file beside it.
fn fact_of(tensor: &TensorProto, graph: Option<&Graph>) -> TensorFact {
    let element = DataType::try_from(tensor.data_type()).ok();
    let dims = super::constants::shape(tensor);
    let count = dims.as_ref().and_then(|dims| dims.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim)));
    let values = count.filter(|&count| count <= MOST_VALUES).and_then(|count| {
        values::of_tensor(tensor, element?, count, graph).filter(|values| values.len() == count)
    });
    TensorFact { element, dims, values }
}

/// Adds what is known of the outputs of `node`.
fn add(node: &NodeProto, facts: &mut HashMap<String, TensorFact>, constants: &Constants, opset: i64) {
    let inputs: Vec<Option<TensorFact>> =
        node.input.iter().map(|name| facts.get(name).cloned().or_else(|| constants.fact(name))).collect();
    let outputs = match node.op_type() {
        "Constant" => vec![constant(node, constants.graph)],
        "If" => branch(node, &inputs, facts, constants, opset),
        _ => {
            let inputs = NodeInputs(&inputs);
            let mut outputs = shapes::infer(node, &inputs, opset);
            if let Some(first) = outputs.first_mut() {
                first.values = values::compute(node, &inputs, first);
            }
            outputs
        }
    };
    for (name, mut fact) in node.output.iter().zip(outputs) {
        fact.dims = fact.dims.filter(|dims| is_possible(dims));
        facts.insert(name.clone(), fact);
    }
}

/// Whether a tensor of this shape could exist, so that the numbers of its parts can be counted without an overflow.
fn is_possible(dims: &[usize]) -> bool {
    let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim.max(1)));
    count.is_some_and(|count| count <= LARGEST)
}

/// What a `Constant` node holds.
fn constant(node: &NodeProto, graph: &Graph) -> TensorFact {
    let Some(value) = node.attribute.first() else { return TensorFact::default() };
    let numbers = |element, dims: Vec<usize>, values: Vec<f64>| TensorFact {
        element: Some(element),
        dims: Some(dims),
        values: Some(values).filter(|values| values.len() <= MOST_VALUES),
    };
    match value.name() {
        "value" => value.t.as_ref().map_or_else(TensorFact::default, |tensor| fact_of(tensor, Some(graph))),
        "value_int" => numbers(DataType::Int64, Vec::new(), vec![value.i() as f64]),
        "value_float" => numbers(DataType::Float, Vec::new(), vec![f64::from(value.f())]),
        "value_ints" => {
            let values: Vec<f64> = value.ints.iter().map(|&int| int as f64).collect();
            numbers(DataType::Int64, vec![values.len()], values)
        }
        "value_floats" => {
            let values: Vec<f64> = value.floats.iter().map(|&float| f64::from(float)).collect();
            numbers(DataType::Float, vec![values.len()], values)
        }
        _ => TensorFact::default(),
    }
}

/// The outputs of a branch whose condition is known; without it, what both branches agree on.
fn branch(
    node: &NodeProto,
    inputs: &[Option<TensorFact>],
    facts: &HashMap<String, TensorFact>,
    constants: &Constants,
    opset: i64,
) -> Vec<TensorFact> {
    let outputs = |name: &str| -> Vec<TensorFact> {
        let Some(graph) = attribute(node, name).and_then(|attribute| attribute.g.as_ref()) else {
            return Vec::new();
        };
        inside(graph, facts, constants, opset)
    };
    let condition = NodeInputs(inputs).values(0).and_then(|values| values.first().copied());
    match condition {
        Some(0.0) => outputs("else_branch"),
        Some(_) => outputs("then_branch"),
        None => outputs("then_branch")
            .into_iter()
            .zip(outputs("else_branch"))
            .map(|(a, b)| TensorFact {
                element: a.element.filter(|_| a.element == b.element),
                dims: a.dims.filter(|dims| b.dims.as_ref() == Some(dims)),
                values: None,
            })
            .collect(),
    }
}

/// The outputs of a graph inside of the graph.
fn inside(
    graph: &GraphProto,
    facts: &HashMap<String, TensorFact>,
    constants: &Constants,
    opset: i64,
) -> Vec<TensorFact> {
    let mut facts = facts.clone();
    for tensor in &graph.initializer {
        facts.insert(tensor.name().to_owned(), fact_of(tensor, Some(constants.graph)));
    }
    for node in &graph.node {
        add(node, &mut facts, constants, opset);
    }
    let known = |name: &str| facts.get(name).cloned().or_else(|| constants.fact(name));
    graph.output.iter().map(|output| known(output.name()).unwrap_or_default()).collect()
}

/// What is known of the inputs of a node.
struct NodeInputs<'a>(&'a [Option<TensorFact>]);

impl<'a> NodeInputs<'a> {
    fn fact(&self, at: usize) -> Option<&'a TensorFact> {
        self.0.get(at)?.as_ref()
    }

    fn dims(&self, at: usize) -> Option<&'a [usize]> {
        self.fact(at)?.dims.as_deref()
    }

    fn element(&self, at: usize) -> Option<DataType> {
        self.fact(at)?.element
    }

    fn values(&self, at: usize) -> Option<&'a [f64]> {
        self.fact(at)?.values.as_deref()
    }

    fn whole(&self, at: usize) -> Option<Vec<i64>> {
        Some(self.values(at)?.iter().map(|&value| value as i64).collect())
    }
}

/// The attribute `name` as an axis of `rank` dimensions.
fn axis_of(node: &NodeProto, name: &str, default: i64, rank: usize) -> Option<usize> {
    axis(int(node, name).unwrap_or(default), rank)
}

/// An axis, which may count from the end.
fn axis(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + i64::try_from(rank).ok()? } else { axis };
    usize::try_from(axis).ok()
}

#[cfg(test)]
mod tests;
