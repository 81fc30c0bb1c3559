//! Finds the class scores (logits) of a network that still has its classifier.

use super::graph::Graph;
use super::layer::Layer;
use super::topology::{OpKind, Topology};

/// Operations that keep the scores, or turn them into probabilities in the same order.
const AFTER_SCORES: [&str; 9] =
    ["Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Dropout", "Softmax", "LogSoftmax", "Sigmoid"];

/// Outputs that exporters give to networks without a classifier.
const EMBEDDINGS: [&str; 5] =
    ["image_embeds", "pooler_output", "last_hidden_state", "embeddings", "features"];

/// Numbers of classes of ImageNet-1k (with and without a background class) and ImageNet-21k.
const IMAGENET_CLASSES: [usize; 4] = [1000, 1001, 21841, 21843];

/// The scores, one for each class; `None` if no output of the graph comes from a classifier.
///
/// A classifier is a dense layer, or the mean of a map with as many channels as ImageNet has classes, with or without a softmax.
pub fn class_scores(graph: &Graph) -> Option<Layer> {
    let topology = Topology::of(graph);
    graph.outputs().filter(|output| !EMBEDDINGS.contains(output)).find_map(|output| {
        let mut tensor = output;
        // No chain is longer than there are nodes, unless it is a circle.
        for _ in graph.nodes() {
            let node = graph.producer(tensor).filter(|node| AFTER_SCORES.contains(&node.op_type()));
            match node.and_then(|node| node.input.first()) {
                Some(input) => tensor = input,
                None => break,
            }
        }
        let op = topology.op_of(tensor)?;
        let is_classifier = topology.is_dense(op) || is_mean_of_classes(&topology, op);
        is_classifier.then(|| Layer::of_tensor(tensor, "scores of the classes", false))
    })
}

/// Whether `op` averages a map of a convolution that has one channel for each class, as at the end of SqueezeNet.
fn is_mean_of_classes(topology: &Topology, op: usize) -> bool {
    let source = |op: usize| topology.ops[op].inputs.first().copied();
    let is_mean = matches!(topology.ops[op].kind, OpKind::GlobalPool | OpKind::AveragePool);
    let below = source(op).and_then(|map| match topology.ops[map].kind {
        OpKind::Relu => source(map),
        _ => Some(map),
    });
    is_mean
        && below.is_some_and(|map| match topology.ops[map].kind {
            OpKind::Conv { channels, .. } => IMAGENET_CLASSES.contains(&channels),
            _ => false,
        })
}
