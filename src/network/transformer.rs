//! Vision transformers by their form: residual blocks of attention and of dense layers, on the tokens of an image (Dosovitskiy et
//! al. 2020, arXiv:2010.11929) or, in stages, on a map (Swin: Liu et al. 2021, arXiv:2103.14030).
//!
//! ViT, DeiT, DINOv2 and DINOv3, BEiT and the image towers of CLIP and SigLIP are one sequence of tokens: the patches of the
//! image row by row, behind class, distillation and register tokens, if there are any. The operation that puts them before the
//! patches shows how many there are. Convolutions may come first, as in hybrids. Networks that alternate convolutions with
//! attention (MaxViT, MobileViT) are not recognised.

mod prefix;
mod residuals;

use super::activations::grid_of;
use super::graph::Graph;
use super::layer::{Layer, Tokens};
use super::topology::{OpKind, Topology};
use prefix::{reading, tokens_of};
use residuals::{Residual, TransformerBlock, blocks, residuals};

/// A transformer's architecture and named layers.
pub(super) struct Transformer {
    pub(super) architecture: String,
    pub(super) layers: Vec<Layer>,
    /// The tensor that stands for the whole image: what the network's head reads, or its own pooling.
    pub(super) top: String,
    /// Tokens of a sequence, with what its rows are.
    pub(super) sequence: Option<(usize, Tokens)>,
}

impl Transformer {
    /// What the rows of `tensor` are, if it holds as many tokens as the blocks give.
    pub(super) fn tokens_in(&self, topology: &Topology, tensor: &str) -> Option<Tokens> {
        let (count, tokens) = self.sequence?;
        let dims = topology.inference.shape(tensor)?;
        (dims.len() == 3 && dims[0] == topology.inference.batch() && dims[1] == count).then_some(tokens)
    }
}

/// The architecture and its named layers, where the network is a transformer.
pub(super) fn recognise(graph: &Graph, topology: &Topology) -> Option<Transformer> {
    let residuals = residuals(topology);
    let blocks = blocks(&residuals)?;
    let form = BlockOutputs::of(graph, topology, &blocks)?;
    let first = &residuals[blocks[0].attention];
    let end = blocks.last()?.end;
    let mut layers = Vec::new();
    if let Some(embedding) = skip_tensor(graph, topology, first)
        && let Some(mut layer) = form.layer(topology, embedding, "embed", "what the first block takes")
    {
        layer.aliases.clear();
        layers.push(layer);
    }
    for (at, block) in blocks.iter().enumerate() {
        let tensor = &topology.ops[block.end].tensor;
        let mut layer = form.layer(topology, tensor, &format!("block{at}"), "transformer block")?;
        layer.aliases = form.aliases(at);
        layers.push(layer);
    }
    let norm = norm_after(topology, end);
    if let Some(norm) = norm
        && let Some(mut layer) =
            form.layer(topology, &topology.ops[norm].tensor, "norm", "last normalisation")
    {
        layer.aliases = ["encoder.ln", "layernorm"].map(str::to_owned).into();
        layers.push(layer);
    }
    let last = layers.last()?.tensor.clone();
    let (top, head) = top(graph, topology, &residuals, end, &last);
    if layers.iter().all(|layer| layer.tensor != top) {
        layers.push(Layer {
            name: "pooled".to_owned(),
            ..Layer::of_tensor(&top, "what the head reads", false)
        });
    }
    if let Some(head) = head {
        let tensor = &topology.ops[head].tensor;
        let what = "dense, class scores or projection";
        layers.push(Layer { name: "head".to_owned(), ..Layer::of_tensor(tensor, what, false) });
    }
    Some(Transformer { architecture: form.architecture(), layers, top, sequence: form.sequence })
}

/// The outputs of the blocks.
struct BlockOutputs {
    /// Images of this width and height.
    size: (u32, u32),
    /// Blocks of each stage.
    stages: Vec<usize>,
    /// Numbers at a place, in each stage.
    widths: Vec<usize>,
    /// Tokens of a sequence, with what its rows are.
    sequence: Option<(usize, Tokens)>,
}

impl BlockOutputs {
    fn of(graph: &Graph, topology: &Topology, blocks: &[TransformerBlock]) -> Option<BlockOutputs> {
        let size = size(graph, topology)?;
        let mut form = BlockOutputs { size, stages: Vec::new(), widths: Vec::new(), sequence: None };
        let mut last: Option<&[usize]> = None;
        for block in blocks {
            let tensor = &topology.ops[block.end].tensor;
            let dims = topology.inference.shape(tensor)?;
            if dims[0] != topology.inference.batch() {
                return None;
            }
            let width = match dims {
                [_, _, width] => *width,
                [_, channels, _, width] => match form.is_channels_last(topology, tensor)? {
                    true => *width,
                    false => *channels,
                },
                _ => return None,
            };
            if last == Some(dims) {
                *form.stages.last_mut()? += 1;
            } else {
                form.stages.push(1);
                form.widths.push(width);
            }
            last = Some(dims);
        }
        let first = &topology.ops[blocks[0].end].tensor;
        if let (Some(&[_, count, _]), 1) = (topology.inference.shape(first), form.stages.len()) {
            form.sequence = tokens_of(graph, topology, first, count, size)
                .map(|prefix| (count, reading(graph, topology, blocks, prefix)));
        }
        Some(form)
    }

    /// Whether a map has its channels last; none where it is no map of the image.
    fn is_channels_last(&self, topology: &Topology, tensor: &str) -> Option<bool> {
        let &[_, a, b, c] = topology.inference.shape(tensor)? else { return None };
        let is_map =
            |rows: usize, columns: usize| grid_of(rows * columns, self.size) == Some([rows, columns]);
        match (is_map(a, b), is_map(b, c)) {
            (true, true) => Some(topology.is_channels_last(tensor)),
            (last, first) => (last || first).then_some(last),
        }
    }

    /// The layer of a tensor of the image's tokens or of a map; none for another tensor.
    fn layer(&self, topology: &Topology, tensor: &str, name: &str, what: &str) -> Option<Layer> {
        let unnamed = match topology.inference.shape(tensor)? {
            &[_, count, _] => {
                let tokens = match self.sequence {
                    Some((length, tokens)) if length == count => Some(tokens),
                    // Stages have no tokens but patches.
                    None => grid_of(count, self.size).map(|_| Tokens {
                        prefix: 0,
                        class_token: false,
                        reads_class_token: false,
                        is_map: true,
                    }),
                    Some(_) => None,
                };
                Layer { tokens, ..Layer::of_tensor(tensor, what, false) }
            }
            [_, _, _, _] => Layer::of_tensor(tensor, what, self.is_channels_last(topology, tensor)?),
            _ => return None,
        };
        Some(Layer { name: name.to_owned(), ..unnamed })
    }

    /// The names of a block in timm, torchvision and transformers.
    fn aliases(&self, block: usize) -> Vec<String> {
        if self.stages.len() == 1 {
            return vec![
                format!("blocks.{block}"),
                format!("encoder.layers.encoder_layer_{block}"),
                format!("encoder.layer.{block}"),
                format!("encoder.layers.{block}"),
            ];
        }
        let (mut stage, mut position) = (0, block);
        while position >= self.stages[stage] {
            position -= self.stages[stage];
            stage += 1;
        }
        vec![
            format!("layers.{stage}.blocks.{position}"),
            format!("features.{}.{position}", 2 * stage + 1),
            format!("encoder.layers.{stage}.blocks.{position}"),
        ]
    }

    fn architecture(&self) -> String {
        let blocks: usize = self.stages.iter().sum();
        let width = self.widths[0];
        match self.sequence {
            Some((count, Tokens { prefix, class_token, .. })) => {
                let patches = count - prefix;
                let mut tokens = format!("{patches} patches");
                let others = prefix - usize::from(class_token);
                if others > 0 {
                    tokens = format!("{others} distillation or register tokens, {tokens}");
                }
                if class_token {
                    tokens = format!("class token, {tokens}");
                }
                format!("vision transformer, {blocks} blocks of width {width} ({tokens})")
            }
            None if self.stages.len() == 1 => format!("vision transformer, {blocks} blocks of width {width}"),
            None => {
                let stages: Vec<String> = self.stages.iter().map(ToString::to_string).collect();
                let widths: Vec<String> = self.widths.iter().map(ToString::to_string).collect();
                format!(
                    "vision transformer in {} stages, {} blocks of width {}",
                    self.stages.len(),
                    stages.join(" + "),
                    widths.join(", ")
                )
            }
        }
    }
}

/// Width and height of the images that the shapes are known for.
fn size(graph: &Graph, topology: &Topology) -> Option<(u32, u32)> {
    let &[_, a, b, c] = topology.inference.shape(&graph.input().name)? else { return None };
    let (height, width) = match graph.input().layout {
        crate::images::TensorLayout::Nchw => (b, c),
        crate::images::TensorLayout::Nhwc => (a, b),
    };
    Some((u32::try_from(width).ok()?, u32::try_from(height).ok()?))
}

/// The operations that depend on `op`, in order.
fn above(topology: &Topology, op: usize) -> Vec<usize> {
    let mut depends = vec![false; topology.ops.len()];
    depends[op] = true;
    for at in op + 1..topology.ops.len() {
        depends[at] = topology.ops[at].inputs.iter().any(|&input| depends[input]);
    }
    (op + 1..topology.ops.len()).filter(|&at| depends[at]).collect()
}

/// The normalisation of the output of `op`: one operation, or written out as the difference from the mean over the deviation.
fn norm_after(topology: &Topology, op: usize) -> Option<usize> {
    let shape = topology.inference.shape(&topology.ops[op].tensor)?;
    let same = |&at: &usize| topology.inference.shape(&topology.ops[at].tensor) == Some(shape);
    let consumers = || topology.consumers(op).iter().copied().filter(same);
    let of_type = |at: usize, name: &str| topology.ops[at].operator == name;
    let whole = |at: &usize| topology.ops[*at].operator.ends_with("Normalization");
    if let Some(norm) = consumers().find(whole) {
        return Some(norm);
    }
    let difference = consumers().find(|&at| of_type(at, "Sub"))?;
    let mut here = topology
        .consumers(difference)
        .iter()
        .copied()
        .find(|&at| of_type(at, "Div") || of_type(at, "Mul"))?;
    // The learned scale and bias.
    for name in ["Mul", "Add"] {
        let affine = |&at: &usize| of_type(at, name) && topology.ops[at].inputs.len() == 1;
        match topology.consumers(here) {
            [only] if affine(only) => here = *only,
            _ => {}
        }
    }
    Some(here)
}

/// The tensor that stands for the whole image, and the dense layer that reads it, if there is one.
fn top(
    graph: &Graph,
    topology: &Topology,
    residuals: &[Residual],
    end: usize,
    last: &str,
) -> (String, Option<usize>) {
    let above_end = above(topology, end);
    let is_head = |&op: &usize| {
        let inner = |at: usize| residuals.iter().any(|residual| residual.sum == at);
        topology.ops[op].kind == OpKind::Dense
            && above(topology, op).iter().all(|&at| topology.ops[at].kind != OpKind::Dense && !inner(at))
    };
    let heads: Vec<usize> = above_end.iter().copied().filter(is_head).collect();
    if let &[head] = &heads[..]
        && let Some(&source) = topology.ops[head].inputs.first()
    {
        return (topology.ops[source].tensor.clone(), Some(head));
    }
    // Several heads read several tokens; none of them stands for the image more than the others.
    let is_vector = |output: &&str| {
        topology.inference.shape(output).is_some_and(|dims| dims.len() == 2)
            && topology.op_of(output).is_some_and(|op| above_end.contains(&op))
    };
    let own_pooling = graph.outputs().find(is_vector).filter(|_| heads.is_empty());
    (own_pooling.unwrap_or(last).to_owned(), None)
}

/// The tensor that goes around the branch of `residual`, as the addition reads it.
fn skip_tensor<'g>(graph: &'g Graph, topology: &Topology, residual: &Residual) -> Option<&'g str> {
    let node = graph.producer(&topology.ops[residual.sum].tensor)?;
    node.input.iter().map(String::as_str).find(|name| topology.op_of(name) == Some(residual.skip))
}
