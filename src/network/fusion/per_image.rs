//! Links layers that follow one another into chains that go image by image.
//!
//! The activations between two linked layers take the room of one image, not of a batch, and stay in faster caches. That pays
//! if the weights are small beside the activations, because the weights are read again for each image.

use std::collections::HashMap;

use super::layer::FusedLayer;
use super::planner::{PlannedLayer, PlannedNode};

/// Links each layer of `plan` to the one before it if both are light and nothing else reads the tensor between them.
pub(super) fn link(plan: Vec<PlannedNode>) -> Vec<PlannedNode> {
    let mut readers: HashMap<String, usize> = HashMap::new();
    for planned in &plan {
        if let PlannedNode::Layer(layer) = planned {
            for input in &layer.inputs {
                *readers.entry(input.clone()).or_default() += 1;
            }
        }
    }
    let mut linked: Vec<Option<PlannedNode>> = Vec::new();
    // The index of the layer that makes a tensor.
    let mut makers: HashMap<String, usize> = HashMap::new();
    for planned in plan {
        let PlannedNode::Layer(mut layer) = planned else {
            linked.push(Some(planned));
            continue;
        };
        let maker = layer.inputs.first().and_then(|input| makers.get(input)).copied();
        if let Some(place) = maker
            && layer.light
            && readers.get(&layer.inputs[0]) == Some(&1)
            && let Some(PlannedNode::Layer(before)) = linked[place].take_if(|before| can_begin(before))
        {
            layer = join(before, layer);
        }
        makers.insert(layer.output.clone(), linked.len());
        linked.push(Some(PlannedNode::Layer(layer)));
    }
    linked.into_iter().flatten().collect()
}

/// Whether another layer can be linked to it: it is light and has one input.
fn can_begin(planned: &PlannedNode) -> bool {
    matches!(planned, PlannedNode::Layer(layer) if layer.light && layer.inputs.len() == 1)
}

/// Two layers as one; the second may have a second input.
fn join(first: PlannedLayer, second: PlannedLayer) -> PlannedLayer {
    let mut layers = match first.layer {
        FusedLayer::Chain(layers) => layers,
        layer => vec![layer],
    };
    layers.push(second.layer);
    let inputs = first.inputs.into_iter().chain(second.inputs.into_iter().skip(1)).collect();
    PlannedLayer { layer: FusedLayer::Chain(layers), inputs, output: second.output, light: true }
}
