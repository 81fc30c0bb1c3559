//! Which parts of a cut graph [`crate::conv`] computes, and the graph that says so.
//!
//! Convolutions with constant filters become layers, and with them what follows directly: batch normalisation, the sum with
//! another activation, ReLU. Pooling between them does too, so that activations stay blocked from one layer to the next; where
//! another operation or an output wants them, a layer unpacks them. A graph that would gain less by this than the packing and
//! unpacking costs is left as it is.
//!
//! [`planner`] goes through the nodes, [`reading`] tells what one says, [`chains`] links layers that go image by image,
//! [`layer`] reads the weights, and [`affine`] changes them as what follows would change the activations.

mod affine;
mod chains;
mod layer;
mod planner;
mod reading;

use super::graph::Graph;
use super::graph::proto::NodeProto;
use super::operator;
use super::tiles::{int, node};
use crate::conv::{Step, Vectors};
use planner::{Planned, PlannedLayer, Planner};

/// A cut graph with layers in the place of some of its nodes.
pub(super) struct Convolved {
    pub(super) nodes: Vec<NodeProto>,
    /// What the layers do, by the number in their attribute.
    pub(super) steps: Vec<Step>,
}

/// Puts layers in the place of `nodes`, which are in topological order, where that makes them faster. `outputs` are the tensors
/// that leave the graph; images are `size`, height and width.
///
/// None where nothing would be gained.
pub(super) fn convolve(
    graph: &Graph,
    nodes: &[NodeProto],
    outputs: &[&str],
    size: [usize; 2],
    vectors: Vectors,
) -> Option<Convolved> {
    let mut planner = Planner::new(graph, nodes, outputs, size);
    for index in 0..nodes.len() {
        planner.add(index);
    }
    for output in outputs {
        planner.unpack(output);
    }
    let plan = chains::link(planner.plan_if_it_pays()?);
    let mut convolved = Convolved { nodes: Vec::new(), steps: Vec::new() };
    for planned in plan {
        match planned {
            Planned::Kept(index) => convolved.nodes.push(nodes[index].clone()),
            Planned::Layer(PlannedLayer { layer, inputs, output, .. }) => {
                convolved.nodes.push(layer_node(inputs, output, convolved.steps.len()));
                convolved.steps.push(layer.build(graph, vectors)?);
            }
        }
    }
    Some(convolved)
}

/// The node of step `step`.
fn layer_node(inputs: Vec<String>, output: String, step: usize) -> NodeProto {
    let node = node(operator::OPERATOR, inputs, output, vec![int(operator::STEP, step as i64)]);
    NodeProto { domain: Some(operator::DOMAIN.to_owned()), ..node }
}
