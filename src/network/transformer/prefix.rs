//! The tokens of a sequence that are not patches: their number, and which of them the network's head reads.

use super::super::activations::grid_of;
use super::super::graph::Graph;
use super::super::graph::proto::NodeProto;
use super::super::layer::Tokens;
use super::super::topology::{OpKind, Topology, int, ints};
use super::above;
use super::residuals::TransformerBlock;

/// Tokens that are put before the patches at once: a class token; with it a distillation token; with it four registers.
const WITH_CLASS_TOKEN: [usize; 3] = [1, 2, 5];

/// The tokens before the patches of `tensor`, which holds `count` tokens, by the operation that puts them there: their number,
/// and whether the first of them is a class token. `None` if the others are not a grid.
pub(super) fn tokens_of(
    graph: &Graph,
    topology: &Topology,
    tensor: &str,
    count: usize,
    size: (u32, u32),
) -> Option<(usize, bool)> {
    let mut parts: Vec<usize> = Vec::new();
    let below = graph.ancestors([tensor]);
    for node in graph.nodes().iter().zip(below).filter_map(|(node, below)| below.then_some(node)) {
        let shape = |name: &str| match topology.inference.shape(name) {
            Some(dims) => Some(dims.to_vec()),
            None => graph.constant_shape(name),
        };
        let rank = node.output.first().and_then(|output| shape(output)).map(|dims| dims.len());
        if node.op_type() != "Concat" || rank != Some(3) || !matches!(int(node, "axis"), Some(1 | -2)) {
            continue;
        }
        let (of_image, learned): (Vec<&String>, Vec<&String>) =
            node.input.iter().partition(|name| topology.op_of(name).is_some());
        if !of_image.is_empty() {
            parts.extend(learned.iter().filter_map(|name| shape(name)?.get(1).copied()));
        }
    }
    let prefix: usize = parts.iter().sum();
    grid_of(count.checked_sub(prefix)?, size)?;
    Some((prefix, parts.first().is_some_and(|first| WITH_CLASS_TOKEN.contains(first))))
}

/// How the network itself reads the tokens above the blocks.
pub(super) fn reading(
    graph: &Graph,
    topology: &Topology,
    blocks: &[TransformerBlock],
    (prefix, has_class): (usize, bool),
) -> Tokens {
    let end = blocks.last().map_or(0, |block| block.end);
    let above: Vec<usize> = above(topology, end);
    let takes_first = |node: &NodeProto| {
        let number = |at: usize| topology.inference.values(node.input.get(at)?)?.first().copied();
        match node.op_type() {
            "Gather" => int(node, "axis") == Some(1) && number(1) == Some(0.0),
            "Slice" => {
                let ends = |name: &str| {
                    ints(node, name).and_then(|values| values.first().map(|&value| value as f64))
                };
                let axis = ends("axes").or_else(|| number(3));
                (ends("starts").or_else(|| number(1)), ends("ends").or_else(|| number(2)), axis)
                    == (Some(0.0), Some(1.0), Some(1.0))
            }
            _ => false,
        }
    };
    let first = above.iter().find_map(|&op| {
        if topology.ops[op].kind == OpKind::GlobalPool {
            let source = &topology.ops[*topology.ops[op].inputs.first()?].tensor;
            let result = topology.inference.shape(&topology.ops[op].tensor)?;
            // The mean that a normalisation subtracts keeps a number for each token.
            let of_tokens = topology.inference.shape(source)?.len() == 3
                && result.iter().product::<usize>()
                    == topology.inference.batch() * topology.inference.shape(source)?[2];
            return of_tokens.then_some(false);
        }
        graph.producer(&topology.ops[op].tensor).filter(|node| takes_first(node)).map(|_| true)
    });
    let class_token = prefix > 0 && (has_class || first == Some(true));
    Tokens { prefix, class_token, reads_class_token: class_token && first.unwrap_or(true), is_map: false }
}
