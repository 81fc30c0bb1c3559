//! [`GraphBuilder`]: ONNX nodes and constants, put together with names of their own.
//!
//! A tensor is known by its name. A constant that several nodes read is stored once.

use std::collections::HashMap;

use bytes::Bytes;

use crate::network::graph::proto::attribute_proto::AttributeType;
use crate::network::graph::proto::tensor_proto::DataType;
use crate::network::graph::proto::tensor_shape_proto::{Dimension, dimension};
use crate::network::graph::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};
use crate::network::nodes::{int, ints};

/// From this operator set on, the axes of every reduction are an input; before, only those of a sum are.
const AXES_AS_INPUT: i64 = 18;

/// A dimension of a graph's input or output.
#[derive(Debug, Clone)]
pub(super) enum GraphDim {
    Fixed(usize),
    /// Open, with a name; equal names are equal numbers.
    Open(&'static str),
}

/// Nodes and constants of a graph that is being made.
pub(super) struct GraphBuilder {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) initializers: Vec<TensorProto>,
    opset: i64,
    /// What the names of the next nodes begin with.
    scope: &'static str,
    made: usize,
    /// Names of the constants, by type, shape and bytes.
    constants: HashMap<(i32, Vec<i64>, Bytes), String>,
}

impl GraphBuilder {
    /// For a graph of ONNX's operator set `opset`, 17 or newer.
    pub(super) fn new(opset: i64) -> Self {
        Self {
            nodes: Vec::new(),
            initializers: Vec::new(),
            opset,
            scope: "",
            made: 0,
            constants: HashMap::new(),
        }
    }

    /// From now on the names of tensors begin with `scope` and a slash.
    pub(super) fn enter(&mut self, scope: &'static str) {
        self.scope = scope;
    }

    /// Short: some hundred nodes name their inputs and outputs.
    fn next_name(&mut self) -> String {
        self.made += 1;
        format!("{}/{}", self.scope, self.made)
    }

    /// Adds a node of one output, and gives the output's name.
    pub(super) fn op(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.op_with(operator, inputs, Vec::new())
    }

    /// As [`op`](Self::op), with attributes.
    pub(super) fn op_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = self.next_name();
        self.push(operator, inputs, &[&output], attributes);
        output
    }

    /// Adds a node.
    pub(super) fn push(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        // Nodes are known by their outputs: names of their own would be a quarter of what the graph adds to the network.
        self.nodes.push(NodeProto {
            op_type: Some(operator.to_owned()),
            input: names(inputs),
            output: names(outputs),
            attribute,
            ..Default::default()
        });
    }

    /// Makes `output` another name of `tensor`.
    pub(super) fn give(&mut self, tensor: &str, output: &str) {
        self.push("Identity", &[tensor], &[output], Vec::new());
    }

    pub(super) fn cast(&mut self, tensor: &str, to: DataType) -> String {
        self.op_with("Cast", &[tensor], vec![int("to", i64::from(i32::from(to)))])
    }

    pub(super) fn transpose(&mut self, tensor: &str, permutation: &[i64]) -> String {
        self.op_with("Transpose", &[tensor], vec![ints("perm", permutation)])
    }

    pub(super) fn concat(&mut self, tensors: &[&str], axis: i64) -> String {
        self.op_with("Concat", tensors, vec![int("axis", axis)])
    }

    pub(super) fn gather(&mut self, tensor: &str, indices: &str, axis: i64) -> String {
        self.op_with("Gather", &[tensor, indices], vec![int("axis", axis)])
    }

    pub(super) fn unsqueeze(&mut self, tensor: &str, axes: &[i64]) -> String {
        let axes = self.longs(axes);
        self.op("Unsqueeze", &[tensor, &axes])
    }

    /// In a new shape: 0 keeps a dimension, -1 is what is left over.
    pub(super) fn reshape(&mut self, tensor: &str, shape: &[i64]) -> String {
        let shape = self.longs(shape);
        self.op("Reshape", &[tensor, &shape])
    }

    pub(super) fn slice(&mut self, tensor: &str, from: i64, to: i64, axis: i64) -> String {
        let (from, to, axis) = (self.longs(&[from]), self.longs(&[to]), self.longs(&[axis]));
        self.op("Slice", &[tensor, &from, &to, &axis])
    }

    /// The sum along an axis, which stays as a dimension of 1 if `keep`.
    pub(super) fn sum(&mut self, tensor: &str, axes: &[i64], keep: bool) -> String {
        let axes = self.longs(axes);
        self.op_with("ReduceSum", &[tensor, &axes], vec![int("keepdims", i64::from(keep))])
    }

    /// The maximum along an axis, which stays as a dimension of 1.
    pub(super) fn maximum(&mut self, tensor: &str, axis: i64) -> String {
        if self.opset < AXES_AS_INPUT {
            return self.op_with("ReduceMax", &[tensor], vec![ints("axes", &[axis]), int("keepdims", 1)]);
        }
        let axes = self.longs(&[axis]);
        self.op_with("ReduceMax", &[tensor, &axes], vec![int("keepdims", 1)])
    }

    /// Nodes that `fill` adds, as a graph of their own for a branch of an `If`. Constants go to the graph around it. `fill` gives the
    /// name of the output.
    pub(super) fn branch(
        &mut self,
        name: &str,
        (element, dims): (DataType, &[GraphDim]),
        fill: impl FnOnce(&mut Self) -> String,
    ) -> GraphProto {
        let outer = std::mem::take(&mut self.nodes);
        let output = fill(self);
        let node = std::mem::replace(&mut self.nodes, outer);
        GraphProto {
            name: Some(name.to_owned()),
            node,
            output: vec![value_info(&output, element, dims)],
            ..Default::default()
        }
    }

    /// A whole number.
    pub(super) fn long(&mut self, value: i64) -> String {
        self.constant(DataType::Int64, &[], &value.to_le_bytes())
    }

    /// A list of whole numbers.
    pub(super) fn longs(&mut self, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(DataType::Int64, &[values.len()], &bytes)
    }

    pub(super) fn int32(&mut self, value: i32) -> String {
        self.constant(DataType::Int32, &[], &value.to_le_bytes())
    }

    pub(super) fn int32s(&mut self, dims: &[usize], values: &[i32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(DataType::Int32, dims, &bytes)
    }

    pub(super) fn byte(&mut self, value: u8) -> String {
        self.constant(DataType::Uint8, &[], &[value])
    }

    pub(super) fn double(&mut self, value: f64) -> String {
        self.constant(DataType::Double, &[], &value.to_le_bytes())
    }

    pub(super) fn float(&mut self, value: f32) -> String {
        self.constant(DataType::Float, &[], &value.to_le_bytes())
    }

    pub(super) fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        self.constant(DataType::Float, dims, &le_floats(values))
    }

    pub(super) fn doubles(&mut self, dims: &[usize], values: &[f64]) -> String {
        self.constant(DataType::Double, dims, &le_doubles(values))
    }

    pub(super) fn texts(&mut self, values: &[String]) -> String {
        let name = self.next_name();
        self.initializers.push(TensorProto {
            name: Some(name.clone()),
            dims: vec![values.len() as i64],
            data_type: Some(DataType::String.into()),
            string_data: values.iter().map(|value| value.clone().into_bytes()).collect(),
            ..Default::default()
        });
        name
    }

    /// A constant with a name that whoever reads the file can rely on.
    pub(super) fn named(&mut self, name: &str, element: DataType, dims: &[usize], bytes: Vec<u8>) -> String {
        self.initializers.push(tensor(name, element, dims, bytes.into()));
        name.to_owned()
    }

    fn constant(&mut self, element: DataType, dims: &[usize], bytes: &[u8]) -> String {
        let dims_of: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        let key = (i32::from(element), dims_of, Bytes::copy_from_slice(bytes));
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.next_name();
        self.initializers.push(tensor(&name, element, dims, key.2.clone()));
        self.constants.insert(key, name.clone());
        name
    }
}

/// Numbers as ONNX stores them.
pub(super) fn le_floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// As [`le_floats`].
pub(super) fn le_doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn tensor(name: &str, element: DataType, dims: &[usize], bytes: Bytes) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(element.into()),
        raw_data: Some(bytes),
        ..Default::default()
    }
}

pub(super) fn value_info(name: &str, element: DataType, dims: &[GraphDim]) -> ValueInfoProto {
    let dim = |dim: &GraphDim| Dimension {
        value: Some(match dim {
            GraphDim::Fixed(value) => dimension::Value::DimValue(*value as i64),
            GraphDim::Open(name) => dimension::Value::DimParam((*name).to_owned()),
        }),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(element.into()),
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

pub(super) fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph.into()),
        g: Some(graph),
        ..Default::default()
    }
}
