//! Networks of older operator sets in the form of operator set 17, in which the rest of a sealed graph is written: exports of
//! years ago need not be made again.
//!
//! From one operator set to the next an operator may move an attribute to an input, or change what its attributes mean if they are
//! absent. The operators that did so since operator set 7 are listed here; the others mean the same.

use super::builder::GraphBuilder;
use super::error::ExportError;
use crate::network::graph::proto::{AttributeProto, GraphProto, NodeProto};
use crate::network::nodes::int;

/// The operator set that graphs are brought to.
pub(super) const TARGET: i64 = 17;
/// The oldest one that is understood.
const OLDEST: i64 = 7;

/// Rewrites the nodes of `graph`, of operator set `opset`, for [`TARGET`] if they are older. Gives the operator set that they
/// are then in.
pub(super) fn upgrade(graph: &mut GraphProto, opset: i64, network: &str) -> Result<i64, ExportError> {
    if opset >= TARGET {
        return Ok(opset);
    }
    if opset < OLDEST {
        return Err(ExportError::OldOpset { network: network.to_owned(), opset, oldest: OLDEST });
    }
    let mut b = GraphBuilder::new(TARGET);
    b.enter("opset17");
    rewrite(graph, opset, network, &mut b)?;
    graph.initializer.append(&mut b.initializers);
    Ok(TARGET)
}

/// Constants go to `b`, which belongs to the outermost graph.
fn rewrite(
    graph: &mut GraphProto,
    opset: i64,
    network: &str,
    b: &mut GraphBuilder,
) -> Result<(), ExportError> {
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                let outer = std::mem::take(&mut b.nodes);
                rewrite(inner, opset, network, b)?;
                b.nodes = outer;
            }
        }
        if matches!(node.domain(), "" | "ai.onnx") {
            rewrite_node(node, opset, network, b)?;
        } else {
            b.nodes.push(node);
        }
    }
    graph.node = std::mem::take(&mut b.nodes);
    Ok(())
}

fn rewrite_node(
    mut node: NodeProto,
    opset: i64,
    network: &str,
    b: &mut GraphBuilder,
) -> Result<(), ExportError> {
    let operator = node.op_type().to_owned();
    match operator.as_str() {
        "BatchNormalization" if opset < 9 => {
            let spatial = take(&mut node, "spatial");
            if spatial.is_some_and(|spatial| spatial.i() == 0) {
                return Err(unknown(network, &operator, opset));
            }
        }
        "Clip" if opset < 11 => {
            let bounds = ["min", "max"]
                .map(|bound| take(&mut node, bound).map_or_else(String::new, |value| b.float(value.f())));
            node.input.truncate(1);
            node.input.extend(bounds);
        }
        "Dropout" if opset < 12 => {
            take(&mut node, "ratio");
            node.output.truncate(1);
        }
        "Pad" if opset < 11 => {
            let pads = take(&mut node, "pads").map_or_else(Vec::new, |pads| pads.ints);
            let value = take(&mut node, "value").map_or(0.0, |value| value.f());
            node.input.truncate(1);
            node.input.extend([b.longs(&pads), b.float(value)]);
        }
        "Slice" if opset < 10 => {
            let mut list = |name: &str| take(&mut node, name).map(|list| list.ints);
            let (starts, ends, axes) = (list("starts"), list("ends"), list("axes"));
            let starts = starts.unwrap_or_default();
            let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
            node.input.truncate(1);
            node.input.extend([b.longs(&starts), b.longs(&ends.unwrap_or_default()), b.longs(&axes)]);
        }
        "TopK" if opset < 10 => {
            let count = take(&mut node, "k").map_or(1, |k| k.i());
            node.input.truncate(1);
            node.input.push(b.longs(&[count]));
        }
        "Squeeze" | "Unsqueeze" | "ReduceSum" if opset < 13 => {
            if let Some(axes) = take(&mut node, "axes") {
                node.input.truncate(1);
                node.input.push(b.longs(&axes.ints));
            }
        }
        "Split" if opset < 13 => {
            if let Some(parts) = take(&mut node, "split") {
                node.input.truncate(1);
                node.input.push(b.longs(&parts.ints));
            }
        }
        "Softmax" | "LogSoftmax" | "Hardmax" if opset < 13 => {
            flattened(node, b);
            return Ok(());
        }
        "Scatter" => node.op_type = Some("ScatterElements".to_owned()),
        "Resize" if opset < 11 => return Err(unknown(network, &operator, opset)),
        "Upsample" | "Scan" | "Affine" | "Crop" | "ImageScaler" | "ParametricSoftplus" | "ScaledTanh" => {
            return Err(unknown(network, &operator, opset));
        }
        _ => {}
    }
    b.nodes.push(node);
    Ok(())
}

/// Until operator set 12 a softmax took all dimensions from its axis on, 1 unless it said otherwise, as one.
fn flattened(node: NodeProto, b: &mut GraphBuilder) {
    let axis = node.attribute.iter().find(|attribute| attribute.name() == "axis").map_or(1, |axis| axis.i());
    let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else {
        b.nodes.push(node);
        return;
    };
    let shape = b.op("Shape", &[input]);
    let flat = b.op_with("Flatten", &[input], vec![int("axis", axis)]);
    let values = b.op_with(node.op_type(), &[&flat], vec![int("axis", -1)]);
    b.push("Reshape", &[&values, &shape], &[output], Vec::new());
}

fn take(node: &mut NodeProto, name: &str) -> Option<AttributeProto> {
    let at = node.attribute.iter().position(|attribute| attribute.name() == name)?;
    Some(node.attribute.remove(at))
}

fn unknown(network: &str, operator: &str, opset: i64) -> ExportError {
    ExportError::Operator { network: network.to_owned(), operator: operator.to_owned(), opset }
}
