//! VGG by its form: five blocks of 3x3 convolutions with ReLU, each closed by a max-pool, then three dense layers
//! (Simonyan & Zisserman 2014, arXiv:1409.1556).

use super::graph::Graph;
use super::layer::{Layer, Namer};
use super::topology::{OpKind, Topology};

/// The architecture and its named layers, where the network is a VGG.
///
/// Networks without the three dense layers (Keras's `include_top=False`), or with others in their place, have the
/// layers of the convolutional part.
pub(super) fn recognise(graph: &Graph, topology: &Topology) -> Option<(String, Vec<Layer>)> {
    let stack = VggStack::of(topology)?;
    let numbers = torchvision_numbers(graph, topology, &stack);
    let mut namer = Namer::new(topology);
    let mut block = 1;
    let mut position = 0;
    for (index, &step) in stack.steps.iter().enumerate() {
        let (name, keras, op, what) = match step {
            StackStep::Convolution { relu, .. } => {
                position += 1;
                let names = (format!("conv{block}_{position}"), format!("block{block}_conv{position}"));
                (names.0, names.1, relu, "convolution, after ReLU")
            }
            StackStep::Pool(pool) => {
                let names = (format!("pool{block}"), format!("block{block}_pool"));
                (block, position) = (block + 1, 0);
                (names.0, names.1, pool, "max-pool")
            }
        };
        let torchvision = numbers.as_ref().map(|numbers| format!("features.{}", numbers[index]));
        namer.add(op, name, std::iter::once(keras).chain(torchvision), what);
    }
    let blocks = stack.blocks();
    let depth: usize = blocks.iter().sum::<usize>() + 3;
    let family = match blocks[..] {
        [1, 1, 2, 2, 2] | [2, 2, 2, 2, 2] | [2, 2, 3, 3, 3] | [2, 2, 4, 4, 4] => format!("VGG{depth}"),
        _ => format!("VGG-style, {depth} weighted layers"),
    };
    match dense_layers(topology, stack.end()) {
        Some(dense) => {
            for (op, name, aliases, what) in dense {
                namer.add(op, name.to_owned(), aliases.iter().map(|&alias| alias.to_owned()), what);
            }
            Some((family, namer.layers))
        }
        None => Some((format!("{family} without its three dense layers"), namer.layers)),
    }
}

/// The convolutional part, in order.
struct VggStack {
    steps: Vec<StackStep>,
}

#[derive(Debug, Clone, Copy)]
enum StackStep {
    /// A convolution, and the ReLU after it.
    Convolution {
        conv: usize,
        relu: usize,
    },
    Pool(usize),
}

impl VggStack {
    fn of(topology: &Topology) -> Option<VggStack> {
        let mut steps = Vec::new();
        let mut here = 0;
        loop {
            let next = topology.consumers(here).iter().copied().find_map(|op| match &topology.ops[op].kind {
                OpKind::Conv { kernel, stride: 1, groups: 1, .. } if kernel == &[3, 3] => {
                    Some(StackStep::Convolution { conv: op, relu: topology.relu_after(op)? })
                }
                OpKind::MaxPool => Some(StackStep::Pool(op)),
                _ => None,
            });
            let Some(step) = next else { break };
            steps.push(step);
            here = match step {
                StackStep::Convolution { relu, .. } => relu,
                StackStep::Pool(pool) => pool,
            };
        }
        let stack = VggStack { steps };
        let blocks = stack.blocks();
        let closed = matches!(stack.steps.last(), Some(StackStep::Pool(_)));
        (closed && blocks.len() == 5 && !blocks.contains(&0)).then_some(stack)
    }

    /// Convolutions a block.
    fn blocks(&self) -> Vec<usize> {
        self.steps
            .split_inclusive(|step| matches!(step, StackStep::Pool(_)))
            .map(|block| block.iter().filter(|step| matches!(step, StackStep::Convolution { .. })).count())
            .collect()
    }

    /// The last max-pool.
    fn end(&self) -> usize {
        match self.steps.last() {
            Some(&(StackStep::Pool(op) | StackStep::Convolution { relu: op, .. })) => op,
            None => 0,
        }
    }

    fn convolutions(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().filter_map(|step| match *step {
            StackStep::Convolution { conv, .. } => Some(conv),
            StackStep::Pool(_) => None,
        })
    }

    /// torchvision's number of the last module of each step, with and without batch normalisation between
    /// convolution and ReLU.
    fn numbers(&self, normalised: bool) -> Vec<usize> {
        let modules = |step: &StackStep| match step {
            StackStep::Convolution { .. } if normalised => 3,
            StackStep::Convolution { .. } => 2,
            StackStep::Pool(_) => 1,
        };
        self.steps
            .iter()
            .scan(0, |count, step| {
                *count += modules(step);
                Some(*count - 1)
            })
            .collect()
    }

    /// The same for the convolutions alone: the number of the convolution itself.
    fn convolution_numbers(&self, normalised: bool) -> Vec<usize> {
        let modules = if normalised { 2 } else { 1 };
        self.steps
            .iter()
            .zip(self.numbers(normalised))
            .filter(|(step, _)| matches!(step, StackStep::Convolution { .. }))
            .map(|(_, number)| number - modules)
            .collect()
    }
}

/// torchvision's module numbers (`features.N`), one a step, as far as they can be known.
///
/// Batch normalisation is a module of its own and shifts them. If it was folded into the convolutions, only names that PyTorch
/// left in the graph show it. A graph that PyTorch made without such names may be either network, so it gets no numbers rather
/// than wrong ones. A graph from elsewhere without batch normalisation has the numbers of the plain network.
fn torchvision_numbers(graph: &Graph, topology: &Topology, stack: &VggStack) -> Option<Vec<usize>> {
    let normalised = |op: usize| matches!(topology.ops[op].kind, OpKind::Conv { normalised: true, .. });
    match stack.convolutions().filter(|&op| normalised(op)).count() {
        0 => {}
        some if some == stack.convolutions().count() => return Some(stack.numbers(true)),
        _ => return None,
    }
    let left: Vec<Option<usize>> = stack
        .convolutions()
        .map(|op| topology.ops[op].written.iter().find_map(|name| module_number(name)))
        .collect();
    if left.iter().all(Option::is_none) {
        return (graph.producer_name() != "pytorch").then(|| stack.numbers(false));
    }
    [false, true].into_iter().find_map(|normalised| {
        let expected = stack.convolution_numbers(normalised);
        let agrees =
            left.iter().zip(&expected).all(|(left, expected)| left.is_none_or(|left| left == *expected));
        // A few numbers may fit both, such as the first convolution's.
        let decides = left
            .iter()
            .zip(stack.convolution_numbers(!normalised))
            .any(|(left, other)| left.is_some_and(|left| left != other));
        (agrees && decides).then(|| stack.numbers(normalised))
    })
}

/// N in a name such as `features.N.weight` or `/features/features.N/Conv`.
fn module_number(name: &str) -> Option<usize> {
    name.split("features.").skip(1).find_map(|rest| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest[..digits].parse().ok()
    })
}

type Named = (usize, &'static str, &'static [&'static str], &'static str);

/// The three dense layers above the operation `end`, and the softmax where there is one.
fn dense_layers(topology: &Topology, end: usize) -> Option<Vec<Named>> {
    let next = |from: usize, wanted: &dyn Fn(&OpKind) -> bool| {
        topology.consumers(from).iter().copied().find(|&op| wanted(&topology.ops[op].kind))
    };
    let dense = |from| next(from, &|kind| *kind == OpKind::Dense);
    // torchvision's adaptive pooling, which changes nothing at the native size.
    let mut here = next(end, &|kind| *kind == OpKind::AveragePool).unwrap_or(end);
    let mut layers: Vec<Named> = Vec::new();
    let hidden: [(_, &[&str]); 2] = [("fc6", &["fc1", "classifier.1"]), ("fc7", &["fc2", "classifier.4"])];
    for (name, aliases) in hidden {
        here = topology.relu_after(dense(here)?)?;
        layers.push((here, name, aliases, "dense, after ReLU"));
    }
    let scores = dense(here)?;
    layers.push((scores, "fc8", &["classifier.6"], "dense, class scores"));
    if let Some(softmax) = next(scores, &|kind| *kind == OpKind::Softmax) {
        layers.push((softmax, "prob", &["predictions"], "softmax"));
    }
    Some(layers)
}

#[cfg(test)]
mod tests {
    use super::module_number;

    #[test]
    fn pytorchs_module_number_is_read_out_of_its_names() {
        assert_eq!(module_number("features.17.weight"), Some(17));
        assert_eq!(module_number("/features/features.40/Conv"), Some(40));
        assert_eq!(module_number("backbone.features.3.bias"), Some(3));
        assert_eq!(module_number("onnx::Conv_150"), None);
        assert_eq!(module_number("features.conv0.weight"), None);
    }
}
