//! The topology of a network without its names: its operations, and which of them reads which.
//!
//! Exporters differ in names, in whether they fold batch normalisation, in how they write a dense layer and where
//! they put reshapes and transposes. [`Topology`] removes those differences, so that [`super::layers`] can
//! recognise an architecture by its form.

use std::collections::{HashMap, HashSet};

use super::graph::proto::{AttributeProto, NodeProto};
use super::graph::{Graph, names_read_by};
use super::inference::Inference;
use crate::images::TensorLayout;

/// What an operation does, as far as recognising an architecture needs it.
#[derive(Debug, Clone, PartialEq)]
pub enum OpKind {
    Input,
    /// A convolution: output channels, kernel, stride, groups, whether batch normalisation follows.
    Conv {
        channels: usize,
        kernel: Vec<usize>,
        stride: usize,
        groups: usize,
        normalised: bool,
    },
    /// A matrix product with a constant.
    Dense,
    Relu,
    MaxPool,
    /// An average over a window.
    AveragePool,
    /// An average over the whole map.
    GlobalPool,
    /// Addition of two activations.
    Sum,
    Softmax,
    /// Attention that is one operation.
    Attention,
    Other,
}

/// One operation of the simplified network.
#[derive(Debug, Clone)]
pub struct TopologyOp {
    pub kind: OpKind,
    /// The ONNX operator that it is, or begins with.
    pub operator: String,
    /// Indices of the operations whose results it reads.
    pub inputs: Vec<usize>,
    /// The ONNX tensor that holds its result.
    pub tensor: String,
    /// Whether that tensor has its channels last.
    pub channels_last: bool,
    /// What the exporter calls the operation: its ONNX node and what that reads. Architectures are never recognised by names,
    /// but names may show what the form has lost.
    pub written: Vec<String>,
}

/// The simplified network: operations in topological order, the image first.
#[derive(Debug)]
pub struct Topology {
    pub ops: Vec<TopologyOp>,
    /// Shapes and types, for images of the graph's own size.
    pub(super) inference: Inference,
    by_tensor: HashMap<String, usize>,
    channels_last: HashSet<String>,
    consumers: Vec<Vec<usize>>,
}

/// Operations that pass their first input on, changed in form at most.
const TRANSPARENT: [&str; 11] = [
    "Identity",
    "Dropout",
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Cast",
    "Pad",
    "QuantizeLinear",
    "DequantizeLinear",
];

impl Topology {
    /// Simplifies `graph`.
    pub fn of(graph: &Graph) -> Topology {
        let mut builder = TopologyBuilder::new(graph);
        let inference = Inference::at_own_size(graph);
        for node in graph.nodes() {
            builder.add(graph, node, &inference);
        }
        let mut consumers = vec![Vec::new(); builder.ops.len()];
        for (index, op) in builder.ops.iter().enumerate() {
            for &input in &op.inputs {
                consumers[input].push(index);
            }
        }
        Topology {
            ops: builder.ops,
            inference,
            by_tensor: builder.by_tensor,
            channels_last: builder.channels_last,
            consumers,
        }
    }

    /// The operation whose result the tensor `name` holds, possibly in another form.
    pub fn op_of(&self, name: &str) -> Option<usize> {
        self.by_tensor.get(name).copied()
    }

    /// The tensors that depend on the image's pixels.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        self.by_tensor.keys().map(String::as_str)
    }

    /// Whether the tensor `name` has its channels last.
    pub fn is_channels_last(&self, name: &str) -> bool {
        self.channels_last.contains(name)
    }

    /// The operations that read the result of `op`.
    pub fn consumers(&self, op: usize) -> &[usize] {
        &self.consumers[op]
    }

    /// Whether `op` is a dense layer, which may be written as a 1x1 convolution of a globally pooled map.
    pub fn is_dense(&self, op: usize) -> bool {
        match &self.ops[op].kind {
            OpKind::Dense => true,
            OpKind::Conv { kernel, .. } if kernel.iter().all(|&k| k == 1) => {
                self.ops[op].inputs.first().is_some_and(|&input| self.ops[input].kind == OpKind::GlobalPool)
            }
            _ => false,
        }
    }

    /// The ReLU that follows `op` directly, when there is one.
    pub fn relu_after(&self, op: usize) -> Option<usize> {
        self.consumers(op).iter().copied().find(|&next| self.ops[next].kind == OpKind::Relu)
    }
}

struct TopologyBuilder {
    ops: Vec<TopologyOp>,
    by_tensor: HashMap<String, usize>,
    /// Tensors whose channels stand last.
    channels_last: HashSet<String>,
    constant: HashSet<String>,
}

impl TopologyBuilder {
    fn new(graph: &Graph) -> TopologyBuilder {
        let input = graph.input();
        let channels_last = input.layout == TensorLayout::Nhwc;
        let mut builder = TopologyBuilder {
            ops: vec![TopologyOp {
                kind: OpKind::Input,
                operator: String::new(),
                inputs: Vec::new(),
                tensor: input.name.clone(),
                channels_last,
                written: Vec::new(),
            }],
            by_tensor: HashMap::from([(input.name.clone(), 0)]),
            channels_last: HashSet::new(),
            constant: HashSet::new(),
        };
        if channels_last {
            builder.channels_last.insert(input.name.clone());
        }
        builder
    }

    fn add(&mut self, graph: &Graph, node: &NodeProto, inference: &Inference) {
        let Some(output) = node.output.first() else { return };
        let is_constant = |builder: &TopologyBuilder, name: &str| {
            graph.initializer(name).is_some() || builder.constant.contains(name)
        };
        if node.op_type() == "Constant"
            || (!node.input.is_empty()
                && node.input.iter().all(|name| name.is_empty() || is_constant(self, name)))
        {
            self.constant.extend(node.output.iter().cloned());
            return;
        }
        let mut names = Vec::new();
        names_read_by(node, &mut names);
        let activations: Vec<&str> =
            names.into_iter().filter(|name| self.by_tensor.contains_key(*name)).collect();
        let Some(&first) = activations.first() else { return };
        // Sizes, indices and booleans are not activations, although they may depend on the image's size or even on its pixels.
        let sums = matches!(node.op_type(), "ConvInteger" | "MatMulInteger");
        if !sums && !inference.may_be_activations(output) {
            return;
        }
        let source = self.by_tensor[first];
        let layout_in = self.channels_last.contains(first);
        let op_type = node.op_type();

        if TRANSPARENT.contains(&op_type) {
            let channels_last = match op_type {
                "Transpose" => match ints(node, "perm") {
                    Some([0, 2, 3, 1]) => true,
                    Some([0, 3, 1, 2]) => false,
                    _ => layout_in,
                },
                _ => layout_in,
            };
            self.set(output, source, channels_last);
            return;
        }
        // Batch normalisation, and a bias or scale by a constant, belong to the operation before them.
        let affine = matches!(op_type, "Add" | "Mul" | "Sub" | "Div") && activations.len() == 1;
        // The same before the first operation is preprocessing that the graph does itself.
        let weighted = matches!(self.ops[source].kind, OpKind::Conv { .. } | OpKind::Dense);
        if source == 0 && (op_type == "BatchNormalization" || affine) {
            self.set(output, source, layout_in);
            return;
        }
        if weighted && (op_type == "BatchNormalization" || affine) {
            if let OpKind::Conv { normalised, .. } = &mut self.ops[source].kind {
                *normalised |= op_type == "BatchNormalization" || op_type == "Mul";
            }
            self.ops[source].tensor = output.clone();
            self.ops[source].channels_last = layout_in;
            self.set(output, source, layout_in);
            return;
        }
        let (kind, channels_last) = classify(graph, node, activations.len(), layout_in, inference);
        let inputs = activations.iter().map(|name| self.by_tensor[*name]).collect();
        let written = std::iter::once(node.name()).chain(node.input.iter().map(String::as_str));
        let written = written.map(str::to_owned).collect();
        let operator = op_type.to_owned();
        self.ops.push(TopologyOp { kind, operator, inputs, tensor: output.clone(), channels_last, written });
        self.set(output, self.ops.len() - 1, channels_last);
        for extra in &node.output[1..] {
            self.set(extra, self.ops.len() - 1, channels_last);
        }
    }

    fn set(&mut self, tensor: &str, op: usize, channels_last: bool) {
        self.by_tensor.insert(tensor.to_owned(), op);
        if channels_last {
            self.channels_last.insert(tensor.to_owned());
        }
    }
}

/// The kind of `node`, and whether its result has its channels last.
fn classify(
    graph: &Graph,
    node: &NodeProto,
    activations: usize,
    layout_in: bool,
    inference: &Inference,
) -> (OpKind, bool) {
    match node.op_type() {
        "Conv" => {
            let weights = node.input.get(1);
            let inferred = |weights: &String| inference.shape(weights).map(<[usize]>::to_vec);
            let shape = weights
                .and_then(|weights| graph.constant_shape(weights).or_else(|| inferred(weights)))
                .unwrap_or_default();
            let kernel = match shape.get(2..) {
                Some(kernel) if !kernel.is_empty() => kernel.to_vec(),
                _ => ints(node, "kernel_shape")
                    .map(|kernel| kernel.iter().map(|&k| k.max(0) as usize).collect())
                    .unwrap_or_default(),
            };
            let stride = ints(node, "strides").and_then(|strides| strides.first().copied()).unwrap_or(1);
            let channels = shape.first().copied().unwrap_or(0);
            let stride = stride.max(1) as usize;
            let groups = int(node, "group").unwrap_or(1).max(1) as usize;
            (OpKind::Conv { channels, kernel, stride, groups, normalised: false }, false)
        }
        "Gemm" | "MatMul" if activations == 1 => {
            // On a map it is a 1x1 convolution of channels that stand last.
            let is_map =
                node.output.first().and_then(|output| inference.shape(output)).is_some_and(|d| d.len() == 4);
            (OpKind::Dense, layout_in && is_map)
        }
        "Relu" => (OpKind::Relu, layout_in),
        "MaxPool" => (OpKind::MaxPool, false),
        "AveragePool" => (OpKind::AveragePool, false),
        "GlobalAveragePool" => (OpKind::GlobalPool, false),
        "ReduceMean" => (OpKind::GlobalPool, layout_in),
        "Add" | "Sum" if activations == 2 => (OpKind::Sum, layout_in),
        "Softmax" => (OpKind::Softmax, layout_in),
        "Attention" | "MultiHeadAttention" => (OpKind::Attention, layout_in),
        _ => (OpKind::Other, layout_in),
    }
}

/// The attribute `name` of `node`.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)
}

pub(super) fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    attribute(node, name).map(|attribute| attribute.ints.as_slice())
}

pub(super) fn int(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).and_then(|attribute| attribute.i)
}
