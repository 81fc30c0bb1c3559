//! Goes through the nodes of a graph and plans which become layers.

use std::collections::{HashMap, HashSet};

use super::super::constants;
use super::super::graph::proto::NodeProto;
use super::super::graph::{Graph, names_read_by};
use super::super::topology::{int, ints};
use super::affine::Affine;
use super::attributes::{activation, operation, window};
use super::layer::{ConvAlgorithm, Convolution, Layer};
use crate::images::Layout;
use cnncodes_convolution::{Activation, Direct, Winograd};

/// Multiply-adds that take as long as to move a number from one layout to another: a nanosecond at 125 to a nanosecond, and as
/// much for the runtime, which has a blocked layout of its own.
const MULTIPLIES_FOR_A_MOVE: u64 = 250;

/// The share of a convolution's multiply-adds that Winograd's algorithm saves, transforms included.
const SAVED: f64 = 0.6;

/// Rows and columns from which on Winograd's algorithm pays: for fewer there are too few tiles to share the reading of the filters,
/// four times as many as the plain ones.
const LEAST_MAP: usize = 7;

/// Weights of a convolution, of which no network comes near: products of a few of its sizes do not overflow.
const MOST_WEIGHTS: usize = 1 << 40;

/// A node of the new graph.
pub(super) enum Planned {
    /// One of the nodes that were there.
    Kept(usize),
    Layer(PlannedLayer),
}

/// A layer, and what it reads and makes.
pub(super) struct PlannedLayer {
    pub(super) layer: Layer,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
    /// Whether its weights are few beside an image's activations, so that it may go image by image.
    pub(super) light: bool,
}

/// A map: channels, height and width.
pub(super) type Map = [usize; 3];

/// Numbers in a map.
fn numbers_of(map: &Map) -> usize {
    map.iter().fold(1, |numbers: usize, &dim| numbers.saturating_mul(dim))
}

/// A tensor that is there blocked.
#[derive(Clone, Copy)]
struct Blocked {
    channels: usize,
    /// Whether it is there in planes as well.
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
    /// What one image has in a tensor, where that is a map of known size.
    maps: HashMap<String, Map>,
    /// Tensors that are there blocked.
    blocked: HashMap<String, Blocked>,
    /// Layers that are to be put in the place of the last of their nodes.
    pending: HashMap<usize, Planned>,
    /// Nodes that are part of a layer.
    absorbed: HashSet<usize>,
    plan: Vec<Planned>,
    /// Multiply-adds that are saved, and numbers that are moved for it.
    saved: u64,
    moved: u64,
}

/// What is put after the name of a tensor where it is blocked.
const BLOCKED: &str = "/cnncodes.blocked";

fn blocked_name(tensor: &str) -> String {
    format!("{tensor}{BLOCKED}")
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        nodes: &'a [NodeProto],
        outputs: &[&'a str],
        [height, width]: [usize; 2],
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
        let mut maps = HashMap::new();
        let input = graph.input();
        if input.layout == Layout::Nchw {
            maps.insert(input.name.clone(), [3, height, width]);
        } else {
            // A transposition makes planes of it.
            for node in nodes {
                if operation(node) == "Transpose"
                    && node.input.first() == Some(&input.name)
                    && ints(node, "perm") == Some(&[0, 3, 1, 2])
                {
                    maps.extend(node.output.first().map(|output| (output.clone(), [3, height, width])));
                }
            }
        }
        Planner {
            graph,
            nodes,
            outputs: outputs.iter().copied().collect(),
            readers,
            makers,
            maps,
            blocked: HashMap::new(),
            pending: HashMap::new(),
            absorbed: HashSet::new(),
            plan: Vec::new(),
            saved: 0,
            moved: 0,
        }
    }

    /// What was planned; none where it would not be faster.
    pub(super) fn plan_if_it_pays(self) -> Option<Vec<Planned>> {
        (self.saved > self.moved.saturating_mul(MULTIPLIES_FOR_A_MOVE)).then_some(self.plan)
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
            self.plan.push(Planned::Kept(index));
            if let (Some(map), [output]) = (self.map_of(node), &node.output[..]) {
                self.maps.insert(output.clone(), map);
            }
        }
    }

    /// What one image has in the output of a node that is kept, where it is known.
    fn map_of(&self, node: &NodeProto) -> Option<Map> {
        let map = |index: usize| self.maps.get(node.input.get(index)?).copied();
        match operation(node) {
            "Relu" | "Clip" | "BatchNormalization" | "Identity" | "Dropout" | "LeakyRelu" | "Sigmoid"
            | "HardSigmoid" | "HardSwish" | "PRelu" | "Elu" | "Selu" => map(0),
            "Add" | "Mul" | "Sub" => {
                let [first, second] = &node.input[..] else { return None };
                match (map(0), map(1)) {
                    (Some(a), Some(b)) => (a == b).then_some(a),
                    (Some(a), None) => self.is_within(second, &a).then_some(a),
                    (None, Some(b)) => self.is_within(first, &b).then_some(b),
                    (None, None) => None,
                }
            }
            "Concat" if int(node, "axis") == Some(1) => {
                let maps: Option<Vec<Map>> = (0..node.input.len()).map(map).collect();
                let maps = maps?;
                let [_, height, width] = *maps.first()?;
                let same = maps.iter().all(|map| map[1..] == [height, width]);
                same.then(|| [maps.iter().map(|map| map[0]).sum(), height, width])
            }
            "Conv" => {
                let input = map(0)?;
                let filters = constants::shape(self.graph.constant(node.input.get(1)?)?)?;
                let &[outputs, _, height, width] = &filters[..] else { return None };
                let window = window(node, &[height as i64, width as i64], Some(input))?;
                let [height, width] = window.output(input[1], input[2])?;
                Some([outputs, height, width])
            }
            "Pad" => {
                let pads = match node.input.get(1) {
                    Some(pads) => self.graph.integers(pads)?,
                    None => ints(node, "pads")?.to_vec(),
                };
                let &[0, 0, top, left, 0, 0, bottom, right] = &pads[..] else { return None };
                let [channels, height, width] = map(0)?;
                let along = |length: usize, before: i64, after: i64| {
                    let length = i64::try_from(length).ok()?.checked_add(before)?.checked_add(after)?;
                    usize::try_from(length).ok()
                };
                Some([channels, along(height, top, bottom)?, along(width, left, right)?])
            }
            "Reshape" => {
                // What keeps a map's form, as some exporters do between two operations.
                let shape = self.graph.integers(node.input.get(1)?)?;
                let &[_, channels, height, width] = &shape[..] else { return None };
                let same = |map: &Map| [channels, height, width] == map.map(|dim| dim as i64);
                map(0).filter(same)
            }
            "MaxPool" | "AveragePool" if int(node, "ceil_mode").is_none_or(|mode| mode == 0) => {
                let input = map(0)?;
                let kernel = ints(node, "kernel_shape")?;
                let [height, width] = window(node, kernel, Some(input))?.output(input[1], input[2])?;
                Some([input[0], height, width])
            }
            _ => None,
        }
    }

    /// Whether `constant` is one that is repeated to fill `map`, and does not enlarge it.
    fn is_within(&self, constant: &str, map: &Map) -> bool {
        let Some(shape) = self.graph.constant_shape(constant) else { return false };
        let dims = [1].iter().chain(map).rev();
        shape.len() <= 4 && shape.iter().rev().zip(dims).all(|(&own, &dim)| own == 1 || own == dim)
    }

    /// The only node that reads `tensor`, unless it leaves the graph.
    fn only_reader(&self, tensor: &str) -> Option<usize> {
        match self.readers.get(tensor).map(Vec::as_slice) {
            Some(&[reader]) if !self.outputs.contains(tensor) => Some(reader),
            _ => None,
        }
    }

    /// Notes the layer, which is put in the place of the node `last`.
    fn place(
        &mut self,
        layer: Layer,
        inputs: Vec<String>,
        (output, channels): (&str, usize),
        last: Option<usize>,
    ) {
        let light = self.is_light(&layer, &inputs[0], output);
        let planned = Planned::Layer(PlannedLayer { layer, inputs, output: blocked_name(output), light });
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
    fn is_light(&self, layer: &Layer, input: &str, output: &str) -> bool {
        let numbers = |tensor: &str| Some(numbers_of(self.maps.get(tensor)?));
        let input = input.strip_suffix(BLOCKED).unwrap_or(input);
        let (Some(read), Some(made)) = (numbers(input), numbers(output)) else { return false };
        let weights = match layer {
            Layer::Conv(convolution) => convolution.weights(self.maps[input][0]),
            Layer::MaxPool(_) | Layer::Sum(_) => 0,
            _ => return false,
        };
        weights <= (read / 2).saturating_add(made / 2)
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
        let map = self.maps.get(input).copied();
        if map.is_some_and(|map| map[0] != inputs) {
            return None;
        }
        let window = window(node, &[height as i64, width as i64], map)?;
        let output_map = match map {
            Some([_, h, w]) => {
                let [h, w] = window.output(h, w)?;
                Some([outputs, h, w])
            }
            None => None,
        };
        let is_blocked = self.blocked.contains_key(input);
        let large = output_map.is_some_and(|[_, h, w]| h.min(w) >= LEAST_MAP);
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
        let (last, added, output) = self.follow(index, output, &mut convolution, output_map);
        if algorithm == ConvAlgorithm::Winograd
            && let Some([_, h, w]) = output_map
        {
            let multiplies = [outputs, inputs, 9, h, w].iter().map(|&factor| factor as f64).product::<f64>();
            self.saved = self.saved.saturating_add((multiplies * SAVED) as u64);
        }
        let mut names =
            vec![if algorithm == ConvAlgorithm::Planes { input } else { self.block(&input, inputs) }];
        names.extend(added.map(|added| blocked_name(&added)));
        if let Some(map) = output_map {
            self.maps.insert(output.clone(), map);
        }
        let last = (last != index).then_some(last);
        self.place(Layer::Conv(Box::new(convolution)), names, (&output, outputs), last);
        Some(())
    }

    /// Takes the nodes after the convolution `index` into it: the last of them, a tensor that is added and what comes out.
    fn follow(
        &mut self,
        index: usize,
        output: &str,
        convolution: &mut Convolution,
        map: Option<Map>,
    ) -> (usize, Option<String>, String) {
        let (mut last, mut added, mut output) = (index, None, output.to_owned());
        while let Some(reader) = self.only_reader(&output) {
            let node = &self.nodes[reader];
            let bounded = convolution.activation != Activation::NONE;
            let affine = Affine::of(self.graph, node, &output, convolution.outputs);
            match operation(node) {
                _ if affine.is_some() && added.is_none() && !bounded => convolution.affine.extend(affine),
                "Add" if added.is_none() && !bounded => {
                    let Some(other) = node.input.iter().find(|input| **input != output) else { break };
                    let is_before = self.makers.get(other.as_str()).is_some_and(|&maker| maker < index);
                    if !is_before
                        || !self.blocked.contains_key(other)
                        || map.is_none()
                        || self.maps.get(other) != map.as_ref()
                    {
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
        let map = self.maps.get(input).copied()?;
        if !self.blocked.contains_key(input) || int(node, "ceil_mode").is_some_and(|mode| mode != 0) {
            return None;
        }
        let window = window(node, ints(node, "kernel_shape")?, Some(map))?;
        let [height, width] = window.output(map[1], map[2])?;
        self.maps.insert(output.clone(), [map[0], height, width]);
        self.place(Layer::MaxPool(window), vec![blocked_name(input)], (output, map[0]), None);
        Some(())
    }

    fn global_average(&mut self, node: &NodeProto) -> Option<()> {
        let (input, output) = (node.input.first()?, node.output.first()?);
        let Blocked { channels, .. } = *self.blocked.get(input)?;
        self.maps.insert(output.clone(), [channels, 1, 1]);
        let (inputs, output) = (vec![blocked_name(input)], output.clone());
        self.plan.push(Planned::Layer(PlannedLayer {
            layer: Layer::GlobalAverage(channels),
            inputs,
            output,
            light: false,
        }));
        Some(())
    }

    /// A sum of two blocked tensors that no convolution took.
    fn sum(&mut self, index: usize) -> Option<()> {
        let node = &self.nodes[index];
        let [a, b] = &node.input[..] else { return None };
        let map = *self.maps.get(a)?;
        if self.maps.get(b) != Some(&map) || ![a, b].iter().all(|input| self.blocked.contains_key(*input)) {
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
        self.maps.insert(output.clone(), map);
        self.place(Layer::Sum(of_sum), vec![blocked_name(a), blocked_name(b)], (&output, map[0]), last);
        Some(())
    }

    /// An activation of a blocked tensor that no layer took.
    fn activation_alone(&mut self, node: &NodeProto) -> Option<()> {
        let (input, output) = (node.input.first()?, node.output.first()?);
        let map = *self.maps.get(input)?;
        let activation = activation(self.graph, node)?;
        if !self.blocked.contains_key(input) {
            return None;
        }
        self.maps.insert(output.clone(), map);
        self.place(Layer::Sum(activation), vec![blocked_name(input)], (output, map[0]), None);
        Some(())
    }

    /// The name of `tensor` blocked, which it becomes if it is not.
    fn block(&mut self, tensor: &str, channels: usize) -> String {
        if !self.blocked.contains_key(tensor) {
            self.note_move(tensor);
            let (inputs, output) = (vec![tensor.to_owned()], blocked_name(tensor));
            self.plan.push(Planned::Layer(PlannedLayer {
                layer: Layer::Pack(channels),
                inputs,
                output,
                light: false,
            }));
            self.blocked.insert(tensor.to_owned(), Blocked { channels, planes: true });
        }
        blocked_name(tensor)
    }

    /// Makes planes of `tensor` if it is only there blocked.
    pub(super) fn unpack(&mut self, tensor: &str) {
        if let Some(blocked) = self.blocked.get_mut(tensor).filter(|blocked| !blocked.planes) {
            blocked.planes = true;
            let layer = Layer::Unpack(blocked.channels);
            let (inputs, output) = (vec![blocked_name(tensor)], tensor.to_owned());
            self.plan.push(Planned::Layer(PlannedLayer { layer, inputs, output, light: false }));
            self.note_move(tensor);
        }
    }

    fn note_move(&mut self, tensor: &str) {
        let numbers = self.maps.get(tensor).map_or(0, numbers_of);
        self.moved = self.moved.saturating_add(numbers as u64);
    }
}
