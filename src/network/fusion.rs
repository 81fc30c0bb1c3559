//! Which parts of a cut graph [`cnncodes_convolution`] computes, and the graph that says so.
//!
//! Convolutions with constant filters become layers, and with them what follows directly: batch normalisation, the sum with
//! another activation, ReLU. Pooling between them does too, so that activations stay blocked from one layer to the next; where
//! another operation or an output wants them, a layer unpacks them. A graph that would gain less by this than the packing and
//! unpacking costs is left as it is.
//!
//! [`planner`] goes through the nodes, [`attributes`] tells what one says, [`per_image`] links layers that go image by image,
//! [`layer`] reads the weights, and [`affine`] changes them as what follows would change the activations.

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

/// A cut graph with layers in the place of some of its nodes.
pub(super) struct FusedGraph {
    pub(super) nodes: Vec<NodeProto>,
    /// What the layers do, by the number in their attribute.
    pub(super) ops: Vec<LayerOp>,
}

/// Puts layers in the place of `nodes`, which are in topological order, where that makes them faster. `outputs` are the tensors
/// that leave the graph; images are `size`, width and height.
///
/// None where nothing would be gained.
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
