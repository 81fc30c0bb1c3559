//! ResNet v1 and v1.5 by their form: a stem, four stages of residual blocks that end in a sum and a ReLU, a global pool and a
//! dense layer (He et al. 2015, arXiv:1512.03385); ResNeXt (arXiv:1611.05431) and Wide ResNet (arXiv:1605.07146) have the same
//! layers, and other convolutions between them.

use super::layer::{Layer, Namer};
use super::topology::{OpKind, Topology, TopologyOp};

/// The architecture and its named layers, where the network is a ResNet.
///
/// Networks that end after the last sum (Keras's `include_top=False`) have the layers up to there.
pub(super) fn recognise(topology: &Topology) -> Option<(String, Vec<Layer>)> {
    let mut namer = Namer::new(topology);
    let next = |from: usize, wanted: &dyn Fn(&OpKind) -> bool| {
        topology.consumers(from).iter().copied().find(|&op| wanted(&topology.ops[op].kind))
    };
    let stem = next(0, &|kind| matches!(kind, OpKind::Conv { .. }))?;
    let relu = topology.relu_after(stem)?;
    let pool = next(relu, &|kind| *kind == OpKind::MaxPool)?;
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    namer.add(relu, "conv1".into(), names(&["conv1_relu", "relu"]), "stem convolution, after ReLU");
    namer.add(pool, "pool1".into(), names(&["pool1_pool", "maxpool"]), "max-pool");

    let blocks = blocks(topology, pool)?;
    let stages: Vec<&[ResidualBlock]> = blocks.chunk_by(|a, b| a.channels == b.channels).collect();
    if stages.len() != 4 {
        return None;
    }
    for (stage, blocks) in stages.iter().enumerate() {
        for (position, block) in blocks.iter().enumerate() {
            namer.add(
                block.relu,
                format!("res{}{}", stage + 2, caffe_letter(position, blocks.len())),
                [
                    format!("conv{}_block{}_out", stage + 2, position + 1),
                    format!("layer{}.{position}", stage + 1),
                ],
                "residual sum, after ReLU",
            );
        }
    }
    let mut architecture = architecture(&stages);
    let end = blocks.last()?.relu;
    match next(end, &|kind| matches!(kind, OpKind::GlobalPool | OpKind::AveragePool)) {
        Some(pool) => {
            namer.add(pool, "pool5".into(), names(&["avg_pool", "avgpool", "flatten"]), "average-pool");
            match topology.consumers(pool).iter().copied().find(|&op| topology.is_dense(op)) {
                Some(dense) => {
                    namer.add(dense, "fc1000".into(), names(&["fc"]), "dense, class scores");
                    if let Some(softmax) = next(dense, &|kind| *kind == OpKind::Softmax) {
                        namer.add(softmax, "prob".into(), names(&["predictions"]), "softmax");
                    }
                }
                None => architecture += ", without its dense layer",
            }
        }
        None => architecture += ", without its last pool and dense layer",
    }
    Some((architecture, namer.layers))
}

/// A residual block: its output, and the convolutions of its main branch.
struct ResidualBlock<'a> {
    relu: usize,
    channels: usize,
    way: Vec<&'a TopologyOp>,
}

/// Every residual block above `start`, or none where a sum is not the end of one.
fn blocks(topology: &Topology, start: usize) -> Option<Vec<ResidualBlock<'_>>> {
    let sums = (0..topology.ops.len()).filter(|&op| topology.ops[op].kind == OpKind::Sum);
    let mut last = start;
    let mut blocks = Vec::new();
    for sum in sums {
        let relu = topology.relu_after(sum)?;
        let way = main_way(topology, sum, last);
        let OpKind::Conv { channels, .. } = way.last()?.kind else { return None };
        blocks.push(ResidualBlock { relu, channels, way });
        last = relu;
    }
    Some(blocks)
}

/// The convolutions on the longest way from `start` to the residual sum `sum`, in order.
fn main_way(topology: &Topology, sum: usize, start: usize) -> Vec<&TopologyOp> {
    let ways = topology.ops[sum].inputs.iter().map(|&input| {
        let mut way = Vec::new();
        let mut here = input;
        while here > start {
            let op = &topology.ops[here];
            match op.kind {
                OpKind::Conv { .. } => way.push(op),
                OpKind::Relu => {}
                // No ResNet has another operation.
                _ => return Vec::new(),
            }
            let Some(&previous) = op.inputs.first() else { break };
            here = previous;
        }
        way.reverse();
        way
    });
    ways.max_by_key(Vec::len).unwrap_or_default()
}

fn architecture(stages: &[&[ResidualBlock]]) -> String {
    let lengths: Vec<usize> = stages.iter().map(|blocks| blocks.len()).collect();
    let ways = || stages.iter().flat_map(|blocks| blocks.iter().map(|block| &block.way[..]));
    let bottleneck = ways().all(|way| way.len() == 3);
    let depth = match (bottleneck, &lengths[..]) {
        (false, [2, 2, 2, 2]) => "18",
        (false, [3, 4, 6, 3]) => "34",
        (true, [3, 4, 6, 3]) => "50",
        (true, [3, 4, 23, 3]) => "101",
        (true, [3, 8, 36, 3]) => "152",
        _ => "-style",
    };
    let grouped = ways().flatten().any(|op| matches!(op.kind, OpKind::Conv { groups: 2.., .. }));
    let channels = |op: &TopologyOp| match op.kind {
        OpKind::Conv { channels, .. } => channels,
        _ => 0,
    };
    let wide = bottleneck && ways().any(|way| 4 * channels(way[0]) != channels(way[2]));
    let family = match (grouped, wide) {
        (true, _) => "ResNeXt",
        (_, true) => "Wide ResNet",
        _ => "ResNet",
    };
    // Keras and Caffe stride the first 1x1, torchvision the 3x3.
    let strided_first = ways()
        .any(|way| matches!(&way[0].kind, OpKind::Conv { kernel, stride: 2.., .. } if kernel == &[1, 1]));
    let stride = match (bottleneck, strided_first) {
        (true, true) => ", stride in the 1x1 convolutions",
        (true, false) => ", stride in the 3x3 convolutions (v1.5)",
        (false, _) => "",
    };
    format!("{family}{depth}{stride}")
}

/// Caffe's letter for the block `index` of a stage of `blocks`: a, b, c … or, in long stages, a, b1, b2 …
fn caffe_letter(index: usize, blocks: usize) -> String {
    match (index, blocks) {
        (0, _) => "a".to_owned(),
        (_, 0..=6) => char::from(b'a' + index as u8).to_string(),
        _ => format!("b{index}"),
    }
}
