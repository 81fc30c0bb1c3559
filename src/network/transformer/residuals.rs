//! The residual sums of a network, and the blocks of attention and dense layers that they make.

use super::super::topology::{OpKind, Topology};

/// A residual sum: an activation plus what a branch makes of it.
pub(super) struct Residual {
    /// The addition.
    pub(super) sum: usize,
    /// The operation whose result skips the branch.
    pub(super) skip: usize,
    branch: ResidualBranch,
}

/// What a residual branch is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResidualBranch {
    Attention,
    /// Dense layers, or convolutions of 1x1.
    Dense,
    /// Other convolutions.
    Convolutions,
    /// Depthwise convolutions and nothing else: position encodings.
    Depthwise,
}

/// Every residual sum of a weighted branch, in order, without those around others.
pub(super) fn residuals(topology: &Topology) -> Vec<Residual> {
    let mut residuals: Vec<Residual> = Vec::new();
    for (sum, op) in topology.ops.iter().enumerate().filter(|(_, op)| op.kind == OpKind::Sum) {
        let &[a, b] = &op.inputs[..] else { continue };
        let (skip, made) = (a.min(b), a.max(b));
        let Some(between) = between(topology, skip, made).or_else(|| beside(topology, &residuals, [a, b]))
        else {
            continue;
        };
        let around = residuals.iter().any(|inner| between.contains(&inner.sum));
        if let Some(branch) = branch(topology, &between).filter(|_| !around) {
            residuals.push(Residual { sum, skip, branch });
        }
    }
    residuals
}

/// The operations that lead from `skip` to `made`, which among them; none where `made` does not depend on `skip`.
fn between(topology: &Topology, skip: usize, made: usize) -> Option<Vec<usize>> {
    let (mut found, mut stack, mut reached) = (Vec::new(), vec![made], false);
    let mut seen = vec![false; (made + 1).saturating_sub(skip)];
    while let Some(op) = stack.pop() {
        reached |= op == skip;
        if op > skip && !std::mem::replace(&mut seen[op - skip], true) {
            found.push(op);
            stack.extend(&topology.ops[op].inputs);
        }
    }
    (reached && skip != made).then_some(found)
}

/// The operations of a branch of attention whose other branch is no plain skip, as where a stage makes a map smaller: all since
/// the last residual sum.
fn beside(topology: &Topology, residuals: &[Residual], inputs: [usize; 2]) -> Option<Vec<usize>> {
    let last = residuals.last()?.sum;
    let branches = inputs.map(|input| between(topology, last, input));
    let is_attention = |ops: &Vec<usize>| branch(topology, ops) == Some(ResidualBranch::Attention);
    match branches {
        [Some(a), Some(b)] if is_attention(&a) != is_attention(&b) => {
            Some(if is_attention(&a) { a } else { b })
        }
        _ => None,
    }
}

fn branch(topology: &Topology, ops: &[usize]) -> Option<ResidualBranch> {
    let kinds = || ops.iter().map(|&op| &topology.ops[op].kind);
    let has = |wanted: &dyn Fn(&OpKind) -> bool| kinds().any(wanted);
    let spatial = |kind: &OpKind| matches!(kind, OpKind::Conv { kernel, groups: 1, .. } if kernel.iter().any(|&k| k > 1));
    let pointwise =
        |kind: &OpKind| matches!(kind, OpKind::Conv { kernel, .. } if kernel.iter().all(|&k| k == 1));
    if has(&|kind| matches!(kind, OpKind::Softmax | OpKind::Attention)) {
        return Some(ResidualBranch::Attention);
    }
    if has(&spatial) {
        return Some(ResidualBranch::Convolutions);
    }
    if has(&|kind| *kind == OpKind::Dense) || has(&pointwise) {
        return Some(ResidualBranch::Dense);
    }
    has(&|kind| matches!(kind, OpKind::Conv { .. })).then_some(ResidualBranch::Depthwise)
}

/// A block: the residual sum of its attention, as an index of the residuals, and the operation that it ends with.
pub(super) struct TransformerBlock {
    pub(super) attention: usize,
    pub(super) end: usize,
}

/// The blocks of a transformer; none where there are fewer than two, or convolutional blocks between them.
pub(super) fn blocks(residuals: &[Residual]) -> Option<Vec<TransformerBlock>> {
    let mut blocks: Vec<TransformerBlock> = Vec::new();
    let mut complete = false;
    for (at, residual) in residuals.iter().enumerate() {
        match (residual.branch, blocks.last_mut()) {
            (ResidualBranch::Attention, _) => {
                blocks.push(TransformerBlock { attention: at, end: residual.sum });
                complete = false;
            }
            (ResidualBranch::Dense, Some(block))
                if !complete && residual.skip >= residuals[block.attention].sum =>
            {
                block.end = residual.sum;
                complete = true;
            }
            (ResidualBranch::Depthwise, _) | (_, None) => {}
            // A pooling with attention of its own ends in such a branch, but nothing follows it.
            (ResidualBranch::Dense | ResidualBranch::Convolutions, Some(_)) => {
                let goes_on = residuals[at..].iter().any(|later| later.branch == ResidualBranch::Attention);
                if goes_on || residual.branch == ResidualBranch::Convolutions {
                    return None;
                }
            }
        }
    }
    // Attention alone is put into the blocks of ResNets as well.
    let dense = blocks.iter().filter(|block| block.end != residuals[block.attention].sum).count();
    (blocks.len() >= 2 && 2 * dense > blocks.len()).then_some(blocks)
}
