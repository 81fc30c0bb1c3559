//! Turns bfloat16 into 32-bit floats, because ONNX Runtime has no bfloat16 operations on the CPU. Every bfloat16 is exactly a
//! 32-bit float.
//!
//! The weights stay as they are in the file. A node behind each of them widens it when the graph is loaded. Activations are not
//! rounded to bfloat16 between operations, so they are nearer to float32 than on a GPU.

use super::super::nodes::cast;
use super::proto::tensor_proto::DataType;
use super::proto::{GraphProto, NodeProto, type_proto};

/// Makes 32-bit floats of all bfloat16 in `graph`.
pub(super) fn bfloat16(graph: &mut GraphProto) {
    let narrow = i32::from(DataType::Bfloat16);
    let mut casts: Vec<NodeProto> = Vec::new();
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type() == narrow) {
        let name = tensor.name().to_owned();
        let stored = format!("{name}/bfloat16");
        casts.push(cast(&stored, &name, DataType::Float));
        tensor.name = Some(stored);
    }
    // The default of an input is now a constant.
    graph.input.retain(|input| casts.iter().all(|cast| cast.output[0] != input.name()));
    for input in &mut graph.input {
        let value = input.r#type.as_mut().and_then(|kind| kind.value.as_mut());
        if let Some(type_proto::Value::TensorType(tensor)) = value
            && tensor.elem_type() == narrow
        {
            tensor.elem_type = Some(DataType::Float.into());
        }
    }
    let mut nodes = casts;
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            if attribute.name() == "to" && attribute.i == Some(i64::from(narrow)) {
                attribute.i = Some(i64::from(i32::from(DataType::Float)));
            }
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(bfloat16);
        }
        let holds_narrow = node.op_type() == "Constant"
            && node.attribute.iter().any(|value| value.t.as_ref().is_some_and(|t| t.data_type() == narrow));
        if holds_narrow && let Some(output) = node.output.first_mut() {
            let name = output.clone();
            *output = format!("{name}/bfloat16");
            let widened = cast(output, &name, DataType::Float);
            nodes.extend([node, widened]);
        } else {
            nodes.push(node);
        }
    }
    graph.node = nodes;
}
