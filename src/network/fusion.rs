//! Fusion: replaces operations of a cut graph by layers of [`cnncodes_convolution`].
//!
//! A convolution with constant filters becomes a layer, together with the operations that follow it directly: batch
//! normalisation, the sum with another activation, ReLU. Pooling between convolutions becomes a layer as well, so that
//! activations stay blocked from one layer to the next. A layer unpacks activations that another operation or an output needs.
//! If fusion would gain less than packing and unpacking cost, the graph stays as it is.
//!
//! [`planner`] decides which nodes become layers, [`attributes`] reads a node's attributes, [`per_image`] links layers that run
//! image by image, [`layer`] reads the weights, and [`affine`] folds factors and summands into them.

mod affine;
mod attributes;
mod layer;
mod per_image;
mod planner;

use super::graph::Graph;
use super::graph::proto::NodeProto;
use super::nodes::{int, node};
use super::operator;
use cnncodes_convolution::{LayerOp, SimdIsa};
use planner::{PlannedLayer, PlannedNode, Planner};

/// A cut graph in which layers replace some of the nodes.
pub(super) struct FusedGraph {
    pub(super) nodes: Vec<NodeProto>,
    /// The layers, in the order of the number in their nodes' attribute.
    pub(super) ops: Vec<LayerOp>,
}

/// Replaces some of `nodes`, which are in topological order, by layers that are faster. `outputs` are the tensors that leave
/// the graph; images are of `size` (width, height).
///
/// Returns `None` if that gains nothing.
pub(super) fn fuse(
    graph: &Graph,
    nodes: &[NodeProto],
    outputs: &[&str],
    size: (u32, u32),
    isa: SimdIsa,
) -> Option<FusedGraph> {
    let mut planner = Planner::new(graph, nodes, outputs, size);
    for index in 0..nodes.len() {
        planner.add(index);
    }
    for output in outputs {
        planner.unpack(output);
    }
    let plan = per_image::link(planner.plan_if_it_pays()?);
    let mut fused = FusedGraph { nodes: Vec::new(), ops: Vec::new() };
    for planned in plan {
        match planned {
            PlannedNode::Kept(index) => fused.nodes.push(nodes[index].clone()),
            PlannedNode::Layer(PlannedLayer { layer, inputs, output, .. }) => {
                fused.nodes.push(layer_node(inputs, output, fused.ops.len()));
                fused.ops.push(layer.build(graph, isa)?);
            }
        }
    }
    Some(fused)
}

/// The node that runs the layer `index`.
fn layer_node(inputs: Vec<String>, output: String, index: usize) -> NodeProto {
    let node = node(operator::OPERATOR, inputs, output, vec![int(operator::LAYER, index as i64)]);
    NodeProto { domain: Some(operator::DOMAIN.to_owned()), ..node }
}
