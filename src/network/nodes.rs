//! Makes ONNX nodes and attributes for graphs that are cut, pooled, fused or exported.

use super::graph::proto::attribute_proto::AttributeType;
use super::graph::proto::{AttributeProto, NodeProto, TensorProto, tensor_proto::DataType};

/// A node of one output, which it is named after.
pub(crate) fn node(
    operation: &str,
    input: Vec<String>,
    output: String,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        op_type: Some(operation.to_owned()),
        name: Some(output.clone()),
        input,
        output: vec![output],
        attribute,
        ..Default::default()
    }
}

/// A node that converts the numbers of `input`.
pub(crate) fn cast(input: &str, output: &str, to: DataType) -> NodeProto {
    let to = int("to", i64::from(i32::from(to)));
    node("Cast", vec![input.to_owned()], output.to_owned(), vec![to])
}

/// Nodes that take the first of the places along `axis` of `input`, and keep the axis.
pub(crate) fn first_of_axis(input: &str, output: &str, axis: i64) -> [NodeProto; 2] {
    let index = format!("{output}/index");
    let zero =
        TensorProto { data_type: Some(DataType::Int64.into()), int64_data: vec![0], ..Default::default() };
    [
        constant(&index, zero),
        node("Gather", vec![input.to_owned(), index], output.to_owned(), vec![int("axis", axis)]),
    ]
}

/// Nodes that append a place that is `value` everywhere along `axis` of `input`.
pub(crate) fn one_more_on_axis(input: &str, output: &str, axis: i64, value: f32) -> Vec<NodeProto> {
    let name = |part: &str| format!("{output}/{part}");
    let number = |value| TensorProto {
        data_type: Some(DataType::Float.into()),
        float_data: vec![value],
        ..Default::default()
    };
    let mut nodes = first_of_axis(input, &name("first"), axis).to_vec();
    nodes.extend([
        constant(&name("zero"), number(0.0)),
        constant(&name("value"), number(value)),
        node("Mul", vec![name("first"), name("zero")], name("nothing"), Vec::new()),
        node("Add", vec![name("nothing"), name("value")], name("added"), Vec::new()),
        node("Concat", vec![input.to_owned(), name("added")], output.to_owned(), vec![int("axis", axis)]),
    ]);
    nodes
}

/// A node that gives one number, in a tensor of one dimension.
fn constant(output: &str, number: TensorProto) -> NodeProto {
    let value = AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(AttributeType::Tensor.into()),
        t: Some(TensorProto { dims: vec![1], ..number }),
        ..Default::default()
    };
    node("Constant", Vec::new(), output.to_owned(), vec![value])
}

/// An attribute that is a whole number.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(value),
        ..Default::default()
    }
}

/// An attribute of whole numbers.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints.into()),
        ints: values.to_vec(),
        ..Default::default()
    }
}
