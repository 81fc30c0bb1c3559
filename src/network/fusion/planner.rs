//! Decides which nodes of a graph become layers.

use std::collections::{HashMap, HashSet};

use super::super::constants;
use super::super::graph::proto::NodeProto;
use super::super::graph::{Graph, names_read_by};
use super::super::inference::Inference;
use super::super::topology::{int, ints};
use super::affine::AffineOp;
use super::attributes::{activation, operation, window};
use super::layer::{ConvAlgorithm, Convolution, FusedLayer};
use cnncodes_convolution::{Activation, Direct, Winograd};

/// Multiply-adds that take as long as moving a number from one layout to another: a nanosecond, at 125 multiply-adds in a
/// nanosecond, and as long again in the runtime, which has a blocked layout of its own.
const MULTIPLIES_FOR_A_MOVE: f64 = 250.0;

/// The smallest share of all multiply-adds that fusion must save. Layers other than Winograd's take up to this much longer than
/// the runtime's, so a network with hardly any 3x3 convolutions (Xception) would become slower.
const MARGIN: f64 = 0.05;

/// The share of a convolution's multiply-adds that Winograd's algorithm saves, transforms included.
const SAVED: f64 = 0.6;

/// Rows and columns from which Winograd's algorithm pays. Its transformed filters are four times as large as the plain ones,
/// and in smaller maps too few tiles share the reading of them.
const LEAST_MAP: usize = 7;

/// More weights than any network's convolution has; products of a few sizes below this do not overflow.
const MOST_WEIGHTS: usize = 1 << 40;

/// A node of the new graph.
pub(super) enum PlannedNode {
    /// A node of the graph, unchanged.
    Kept(usize),
    Layer(PlannedLayer),
}

/// A layer, and what it reads and makes.
pub(super) struct PlannedLayer {
    pub(super) layer: FusedLayer,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
    /// Whether its weights are small beside an image's activations, so that it may run image by image.
    pub(super) light: bool,
}

/// A map: channels, height and width.
pub(super) type MapShape = [usize; 3];

/// Numbers in a map.
fn numbers_of(map: &MapShape) -> usize {
    map.iter().fold(1, |numbers: usize, &dim| numbers.saturating_mul(dim))
}

/// A tensor that exists in the blocked layout.
#[derive(Clone, Copy)]
struct Blocked {
    channels: usize,
    /// Whether it also exists in planes.
    planes: bool,
}

pub(super) struct Planner<'a> {
    graph: &'a Graph,
    nodes: &'a [NodeProto],
    outputs: HashSet<&'a str>,
    /// The nodes that read a tensor.
    readers: HashMap<&'a str, Vec<usize>>,
    /// The node that makes a tensor.
    makers: HashMap<&'a str, usize>,
    /// The shapes of all tensors, for one image.
    shapes: Inference,
    /// Tensors that exist in the blocked layout.
    blocked: HashMap<String, Blocked>,
    /// Layers, by the last of the nodes that they replace.
    pending: HashMap<usize, PlannedNode>,
    /// Nodes that are part of a layer.
    absorbed: HashSet<usize>,
    plan: Vec<PlannedNode>,
    /// Multiply-adds of the convolutions that become layers, how many of them are saved, and numbers that are moved for it.
    multiplies: f64,
    saved: f64,
    moved: f64,
}

/// The ending of a tensor's name in the blocked layout.
const BLOCKED: &str = "/cnncodes.blocked";

fn blocked_name(tensor: &str) -> String {
    format!("{tensor}{BLOCKED}")
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        nodes: &'a [NodeProto],
        outputs: &[&'a str],
        size: (u32, u32),
    ) -> Planner<'a> {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut makers = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let mut names = Vec::new();
            names_read_by(node, &mut names);
            for name in names {
                readers.entry(name).or_default().push(index);
            }
            makers.extend(node.output.iter().map(|output| (output.as_str(), index)));
        }
        Planner {
            graph,
            nodes,
            outputs: outputs.iter().copied().collect(),
            readers,
            makers,
            shapes: Inference::of_batch(graph, size, 1),
            blocked: HashMap::new(),
            pending: HashMap::new(),
            absorbed: HashSet::new(),
            plan: Vec::new(),
            multiplies: 0.0,
            saved: 0.0,
            moved: 0.0,
        }
    }

    /// The plan; `None` if it would not be faster.
    pub(super) fn plan_if_it_pays(self) -> Option<Vec<PlannedNode>> {
        let cost = self.moved * MULTIPLIES_FOR_A_MOVE + self.multiplies * MARGIN;
        (self.saved > cost).then_some(self.plan)
    }

    /// Plans the node `index`.
    pub(super) fn add(&mut self, index: usize) {
        if let Some(layer) = self.pending.remove(&index) {
            self.plan.push(layer);
            return;
        }
        if self.absorbed.contains(&index) {
            return;
        }
        let node = &self.nodes[index];
        let planned = match operation(node) {
            "Conv" => self.convolution(index),
            "MaxPool" => self.max_pool(node),
            "GlobalAveragePool" => self.global_average(node),
            "Add" => self.sum(index),
            "Relu" | "Clip" => self.activation_alone(node),
            _ => None,
        };
        if planned.is_none() {
            let mut names = Vec::new();
            names_read_by(node, &mut names);
            for name in names {
                self.unpack(name);
            }
            self.plan.push(PlannedNode::Kept(index));
        }
    }

    /// The shape of one image's map in `tensor`, if it is a map of known size.
    fn map(&self, tensor: &str) -> Option<MapShape> {
        match *self.shapes.shape(tensor)? {
            [1, channels, height, width] => Some([channels, height, width]),
            _ => None,
        }
    }

    /// The only node that reads `tensor`, unless it leaves the graph.
    fn only_reader(&self, tensor: &str) -> Option<usize> {
        match self.readers.get(tensor).map(Vec::as_slice) {
            Some(&[reader]) if !self.outputs.contains(tensor) => Some(reader),
            _ => None,
        }
    }

    /// Notes a layer that replaces the node `last`.
    fn place(
        &mut self,
        layer: FusedLayer,
        inputs: Vec<String>,
        (output, channels): (&str, usize),
        last: Option<usize>,
    ) {
        let light = self.is_light(&layer, &inputs[0], output);
        let planned = PlannedNode::Layer(PlannedLayer { layer, inputs, output: blocked_name(output), light });
        self.blocked.insert(output.to_owned(), Blocked { channels, planes: false });
        match last {
            Some(last) => {
                self.pending.insert(last, planned);
            }
            None => self.plan.push(planned),
        }
    }

    /// Whether the weights of a layer from the blocked tensor or planes `input` to `output` take at most half of the memory of
    /// an image's activations.
    fn is_light(&self, layer: &FusedLayer, input: &str, output: &str) -> bool {
        let numbers = |tensor: &str| Some(numbers_of(&self.map(tensor)?));
        let input = input.strip_suffix(BLOCKED).unwrap_or(input);
        let (Some(map), Some(made)) = (self.map(input), numbers(output)) else { return false };
        let weights = match layer {
            FusedLayer::Conv(convolution) => convolution.weights(map[0]),
            FusedLayer::MaxPool(_) | FusedLayer::Sum(_) => 0,
            _ => return false,
        };
        weights <= (numbers_of(&map) / 2).saturating_add(made / 2)
    }

    fn convolution(&mut self, index: usize) -> Option<()> {
        let node = &self.nodes[index];
        let input = node.input.first()?;
        let filters = node.input.get(1)?;
        let shape = constants::shape(self.graph.constant(filters)?)?;
        let count = shape.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim))?;
        if count == 0 || count > MOST_WEIGHTS {
            return None;
        }
        let [outputs, of_group, height, width] = shape[..] else { return None };
        let groups = usize::try_from(int(node, "group").unwrap_or(1)).ok()?;
        let inputs = of_group.checked_mul(groups).filter(|&inputs| inputs > 0)?;
        let map = self.map(input).filter(|map| map[0] == inputs)?;
        let window = window(node, &[height as i64, width as i64], Some(map))?;
        let [h, w] = window.output(map[1], map[2])?;
        let is_blocked = self.blocked.contains_key(input);
        let large = h.min(w) >= LEAST_MAP;
        let algorithm = match groups {
            1 if !is_blocked && Direct::takes_planes(inputs) => ConvAlgorithm::Planes,
            1 if Winograd::serves(&window) && large => ConvAlgorithm::Winograd,
            1 => ConvAlgorithm::Direct,
            _ if groups == inputs && groups == outputs => ConvAlgorithm::Depthwise,
            _ => return None,
        };
        let bias = node.input.get(2).filter(|bias| !bias.is_empty());
        if bias.is_some_and(|bias| self.graph.constant(bias).is_none()) {
            return None;
        }
        let mut convolution = Convolution {
            filters: filters.clone(),
            bias: bias.cloned(),
            affine: Vec::new(),
            window,
            outputs,
            algorithm,
            activation: Activation::NONE,
        };
        let (input, output) = (input.clone(), node.output.first()?);
        let (last, added, output) = self.follow(index, output, &mut convolution, [outputs, h, w]);
        let multiplies =
            [outputs, of_group, height, width, h, w].iter().map(|&factor| factor as f64).product::<f64>();
        self.multiplies += multiplies;
        if algorithm == ConvAlgorithm::Winograd {
            self.saved += multiplies * SAVED;
        }
        let mut names =
            vec![if algorithm == ConvAlgorithm::Planes { input } else { self.block(&input, inputs) }];
        names.extend(added.map(|added| blocked_name(&added)));
        let last = (last != index).then_some(last);
        self.place(FusedLayer::Conv(Box::new(convolution)), names, (&output, outputs), last);
        Some(())
    }

    /// Fuses the nodes after the convolution `index` into it. Gives the last of them, a tensor that is added, and the output.
    fn follow(
        &mut self,
        index: usize,
        output: &str,
        convolution: &mut Convolution,
        map: MapShape,
    ) -> (usize, Option<String>, String) {
        let (mut last, mut added, mut output) = (index, None, output.to_owned());
        while let Some(reader) = self.only_reader(&output) {
            let node = &self.nodes[reader];
            let bounded = convolution.activation != Activation::NONE;
            let affine = AffineOp::of(self.graph, node, &output, convolution.outputs);
            match operation(node) {
                _ if affine.is_some() && added.is_none() && !bounded => convolution.affine.extend(affine),
                "Add" if added.is_none() && !bounded => {
                    let Some(other) = node.input.iter().find(|input| **input != output) else { break };
                    let is_before = self.makers.get(other.as_str()).is_some_and(|&maker| maker < index);
                    if !is_before || !self.blocked.contains_key(other) || self.map(other) != Some(map) {
                        break;
                    }
                    added = Some(other.clone());
                }
                "Relu" | "Clip" if node.input.first() == Some(&output) => {
                    let Some(activation) = activation(self.graph, node) else { break };
                    convolution.activation = convolution.activation.then(activation);
                }
                _ => break,
            }
            let Some(next) = node.output.first() else { break };
            self.absorbed.insert(reader);
            (last, output) = (reader, next.clone());
        }
        (last, added, output)
    }

    fn max_pool(&mut self, node: &NodeProto) -> Option<()> {
        let (input, [output]) = (node.input.first()?, &node.output[..]) else { return None };
        let map = self.map(input)?;
        if !self.blocked.contains_key(input) || int(node, "ceil_mode").is_some_and(|mode| mode != 0) {
            return None;
        }
        let window = window(node, ints(node, "kernel_shape")?, Some(map))?;
        window.output(map[1], map[2])?;
        self.place(FusedLayer::MaxPool(window), vec![blocked_name(input)], (output, map[0]), None);
        Some(())
    }

    fn global_average(&mut self, node: &NodeProto) -> Option<()> {
        let (input, output) = (node.input.first()?, node.output.first()?);
        let Blocked { channels, .. } = *self.blocked.get(input)?;
        let (inputs, output) = (vec![blocked_name(input)], output.clone());
        self.plan.push(PlannedNode::Layer(PlannedLayer {
            layer: FusedLayer::GlobalAverage(channels),
            inputs,
            output,
            light: false,
        }));
        Some(())
    }

    /// A sum of two blocked tensors that is not part of a convolution.
    fn sum(&mut self, index: usize) -> Option<()> {
        let node = &self.nodes[index];
        let [a, b] = &node.input[..] else { return None };
        let map = self.map(a)?;
        if self.map(b) != Some(map) || ![a, b].iter().all(|input| self.blocked.contains_key(*input)) {
            return None;
        }
        let mut output = node.output.first()?.clone();
        let (mut of_sum, mut last) = (Activation::NONE, None);
        if let Some(reader) = self.only_reader(&output)
            && let Some(activation) = activation(self.graph, &self.nodes[reader])
            && let Some(next) = self.nodes[reader].output.first()
        {
            (of_sum, output, last) = (activation, next.clone(), Some(reader));
            self.absorbed.insert(reader);
        }
        self.place(FusedLayer::Sum(of_sum), vec![blocked_name(a), blocked_name(b)], (&output, map[0]), last);
        Some(())
    }

    /// An activation of a blocked tensor that is not part of another layer.
    fn activation_alone(&mut self, node: &NodeProto) -> Option<()> {
        let (input, output) = (node.input.first()?, node.output.first()?);
        let map = self.map(input)?;
        let activation = activation(self.graph, node)?;
        if !self.blocked.contains_key(input) {
            return None;
        }
        self.place(FusedLayer::Sum(activation), vec![blocked_name(input)], (output, map[0]), None);
        Some(())
    }

    /// The name of `tensor` in the blocked layout; packs it if it exists in planes only.
    fn block(&mut self, tensor: &str, channels: usize) -> String {
        if !self.blocked.contains_key(tensor) {
            self.note_move(tensor);
            let (inputs, output) = (vec![tensor.to_owned()], blocked_name(tensor));
            self.plan.push(PlannedNode::Layer(PlannedLayer {
                layer: FusedLayer::Pack(channels),
                inputs,
                output,
                light: false,
            }));
            self.blocked.insert(tensor.to_owned(), Blocked { channels, planes: true });
        }
        blocked_name(tensor)
    }

    /// Unpacks `tensor` if it exists in the blocked layout only.
    pub(super) fn unpack(&mut self, tensor: &str) {
        if let Some(blocked) = self.blocked.get_mut(tensor).filter(|blocked| !blocked.planes) {
            blocked.planes = true;
            let layer = FusedLayer::Unpack(blocked.channels);
            let (inputs, output) = (vec![blocked_name(tensor)], tensor.to_owned());
            self.plan.push(PlannedNode::Layer(PlannedLayer { layer, inputs, output, light: false }));
            self.note_move(tensor);
        }
    }

    fn note_move(&mut self, tensor: &str) {
        let numbers = self.map(tensor).map_or(0, |map| numbers_of(&map));
        self.moved += numbers as f64;
    }
}
