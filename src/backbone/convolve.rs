//! Which parts of a cut graph [`crate::conv`] computes, and the graph that says so.
//!
//! Convolutions with constant filters become layers, and with them what follows directly: batch normalisation, the sum with
//! another activation, ReLU. Pooling between them does too, so that activations stay blocked from one layer to the next; where
//! another operation or an output wants them, a layer unpacks them. A graph that would gain less by this than the packing and
//! unpacking costs is left as it is.

use std::collections::{HashMap, HashSet};

use super::constants;
use super::graph::proto::{AttributeProto, NodeProto, attribute_proto::AttributeType};
use super::graph::{Graph, names_read_by};
use super::operator;
use super::topology::{int, ints};
use crate::conv::{Activation, Conv, Depthwise, Direct, MaxPool, Step, Vectors, Window, Winograd};

/// Multiply-adds that take as long as to move a number from one layout to another: a nanosecond at 125 to a nanosecond, and as
/// much for the runtime, which has a blocked layout of its own.
const MULTIPLIES_FOR_A_MOVE: u64 = 250;

/// The share of a convolution's multiply-adds that Winograd's way saves, transforms included.
const SAVED: f64 = 0.6;

/// Rows and columns from which on Winograd's way pays: for fewer there are too few tiles to share the reading of the filters,
/// four times as many as the plain ones.
const LEAST_MAP: usize = 8;

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
    if planner.saved <= planner.moved.saturating_mul(MULTIPLIES_FOR_A_MOVE) {
        return None;
    }
    let mut convolved = Convolved { nodes: Vec::new(), steps: Vec::new() };
    for planned in planner.plan {
        match planned {
            Planned::Kept(index) => convolved.nodes.push(nodes[index].clone()),
            Planned::Layer { layer, inputs, output } => {
                convolved.nodes.push(layer_node(inputs, output, convolved.steps.len()));
                convolved.steps.push(layer.build(graph, vectors)?);
            }
        }
    }
    Some(convolved)
}

/// A node of the new graph.
enum Planned {
    /// One of the nodes that were there.
    Kept(usize),
    Layer {
        layer: Layer,
        inputs: Vec<String>,
        output: String,
    },
}

/// A layer whose weights are not read yet.
enum Layer {
    Conv(Box<Convolution>),
    MaxPool(Window),
    GlobalAverage(usize),
    Sum(Activation),
    Pack(usize),
    Unpack(usize),
}

/// A convolution as the graph has it.
#[derive(Clone)]
struct Convolution {
    filters: String,
    bias: Option<String>,
    normalisation: Option<Normalisation>,
    window: Window,
    outputs: usize,
    way: Way,
    activation: Activation,
}

/// How a convolution is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Winograd,
    Direct,
    /// From an image in planes.
    Planes,
    Depthwise,
}

/// Batch normalisation: the names of its constants.
#[derive(Clone)]
struct Normalisation {
    scale: String,
    bias: String,
    mean: String,
    variance: String,
    epsilon: f64,
}

impl Normalisation {
    fn of(graph: &Graph, node: &NodeProto) -> Option<Normalisation> {
        let [_, scale, bias, mean, variance] = &node.input[..] else { return None };
        let all_constant = [scale, bias, mean, variance].iter().all(|name| graph.constant(name).is_some());
        let epsilon = node.attribute.iter().find(|attribute| attribute.name() == "epsilon").and_then(|a| a.f);
        all_constant.then(|| Normalisation {
            scale: scale.clone(),
            bias: bias.clone(),
            mean: mean.clone(),
            variance: variance.clone(),
            epsilon: f64::from(epsilon.unwrap_or(1e-5)),
        })
    }
}

impl Layer {
    /// The layer with its weights; none where they cannot be read.
    fn build(self, graph: &Graph, vectors: Vectors) -> Option<Step> {
        Some(match self {
            Layer::Conv(convolution) => Step::Conv(convolution.build(graph, vectors)?),
            Layer::MaxPool(window) => Step::MaxPool(MaxPool::new(vectors, window)),
            Layer::GlobalAverage(channels) => Step::GlobalAverage { vectors, channels },
            Layer::Sum(activation) => Step::Sum { activation },
            Layer::Pack(channels) => Step::Pack { vectors, channels },
            Layer::Unpack(channels) => Step::Unpack { vectors, channels },
        })
    }
}

impl Convolution {
    fn build(self, graph: &Graph, vectors: Vectors) -> Option<Conv> {
        let mut filters = graph.floats(&self.filters)?;
        let mut bias = match &self.bias {
            Some(bias) => graph.floats(bias)?,
            None => vec![0.0; self.outputs],
        };
        if bias.len() != self.outputs {
            return None;
        }
        if let Some(of) = &self.normalisation {
            let constants = [&of.scale, &of.bias, &of.mean, &of.variance].map(|name| graph.floats(name));
            let [Some(scales), Some(shifts), Some(means), Some(variances)] = constants else { return None };
            if [&scales, &shifts, &means, &variances].iter().any(|constant| constant.len() != self.outputs) {
                return None;
            }
            let of_output = filters.len() / self.outputs;
            for (output, filter) in filters.chunks_exact_mut(of_output).enumerate() {
                let scale = f64::from(scales[output]) / (f64::from(variances[output]) + of.epsilon).sqrt();
                for weight in filter {
                    *weight = (f64::from(*weight) * scale) as f32;
                }
                let centred = f64::from(bias[output]) - f64::from(means[output]);
                bias[output] = (centred * scale + f64::from(shifts[output])) as f32;
            }
        }
        let Convolution { window, activation, .. } = self;
        Some(match self.way {
            Way::Winograd => Conv::Winograd(Winograd::new(vectors, &filters, &bias, window, activation)),
            Way::Depthwise => Conv::Depthwise(Depthwise::new(vectors, &filters, &bias, window, activation)),
            Way::Direct | Way::Planes => {
                let planes = self.way == Way::Planes;
                Conv::Direct(Direct::new(vectors, &filters, &bias, window, planes, activation))
            }
        })
    }
}

/// A map: channels, height and width.
type Map = [usize; 3];

/// A tensor that is there blocked.
#[derive(Clone, Copy)]
struct Blocked {
    channels: usize,
    /// Whether it is there in planes as well.
    planes: bool,
}

struct Planner<'a> {
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

/// What a node does; nothing that is known here in another domain than ONNX's own.
fn operation(node: &NodeProto) -> &str {
    if matches!(node.domain(), "" | "ai.onnx") { node.op_type() } else { "" }
}

fn blocked_name(tensor: &str) -> String {
    format!("{tensor}/blocked")
}

impl<'a> Planner<'a> {
    fn new(
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
        if input.layout == crate::images::Layout::Nchw {
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

    /// Plans the node `index`.
    fn add(&mut self, index: usize) {
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
            "Add" | "Mul" | "Sub" => match (map(0), map(1)) {
                (Some(a), Some(b)) => (a == b).then_some(a),
                (Some(a), None) if self.graph.is_constant(&node.input[1]) => Some(a),
                (None, Some(b)) if self.graph.is_constant(&node.input[0]) => Some(b),
                _ => None,
            },
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
            "MaxPool" | "AveragePool" if int(node, "ceil_mode").is_none_or(|mode| mode == 0) => {
                let input = map(0)?;
                let kernel = ints(node, "kernel_shape")?;
                let [height, width] = window(node, kernel, Some(input))?.output(input[1], input[2])?;
                Some([input[0], height, width])
            }
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

    /// Notes the layer, which is put in the place of the node `last`.
    fn place(
        &mut self,
        layer: Layer,
        inputs: Vec<String>,
        (output, channels): (&str, usize),
        last: Option<usize>,
    ) {
        let planned = Planned::Layer { layer, inputs, output: blocked_name(output) };
        self.blocked.insert(output.to_owned(), Blocked { channels, planes: false });
        match last {
            Some(last) => {
                self.pending.insert(last, planned);
            }
            None => self.plan.push(planned),
        }
    }

    fn convolution(&mut self, index: usize) -> Option<()> {
        let node = &self.nodes[index];
        let input = node.input.first()?;
        let filters = node.input.get(1)?;
        let shape = constants::shape(self.graph.constant(filters)?)?;
        let [outputs, of_group, height, width] = shape[..] else { return None };
        let groups = usize::try_from(int(node, "group").unwrap_or(1)).ok()?;
        let inputs = of_group.checked_mul(groups)?;
        if outputs == 0 || inputs == 0 || height * width == 0 {
            return None;
        }
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
        let way = match groups {
            1 if !is_blocked && Direct::takes_planes(inputs) => Way::Planes,
            1 if Winograd::serves(&window) && large => Way::Winograd,
            1 => Way::Direct,
            _ if groups == inputs && groups == outputs => Way::Depthwise,
            _ => return None,
        };
        let bias = node.input.get(2).filter(|bias| !bias.is_empty());
        if bias.is_some_and(|bias| self.graph.constant(bias).is_none()) {
            return None;
        }
        let mut convolution = Convolution {
            filters: filters.clone(),
            bias: bias.cloned(),
            normalisation: None,
            window,
            outputs,
            way,
            activation: Activation::NONE,
        };
        let (input, output) = (input.clone(), node.output.first()?);
        let (last, added, output) = self.follow(index, output, &mut convolution, output_map);
        if way == Way::Winograd
            && let Some([_, h, w]) = output_map
        {
            let multiplies = (outputs * inputs * 9 * h * w) as f64;
            self.saved += (multiplies * SAVED) as u64;
        }
        let mut names = vec![if way == Way::Planes { input } else { self.block(&input, inputs) }];
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
            match operation(node) {
                "BatchNormalization"
                    if last == index && node.input.first() == Some(&output) && node.output.len() == 1 =>
                {
                    let Some(normalisation) = Normalisation::of(self.graph, node) else { break };
                    convolution.normalisation = Some(normalisation);
                }
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
        // Every window has a pixel that is no padding.
        let [top, left, bottom, right] = window.pads;
        if top.max(bottom) >= window.kernel[0] || left.max(right) >= window.kernel[1] {
            return None;
        }
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
        self.plan.push(Planned::Layer { layer: Layer::GlobalAverage(channels), inputs, output });
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
            self.plan.push(Planned::Layer { layer: Layer::Pack(channels), inputs, output });
            self.blocked.insert(tensor.to_owned(), Blocked { channels, planes: true });
        }
        blocked_name(tensor)
    }

    /// Makes planes of `tensor` if it is only there blocked.
    fn unpack(&mut self, tensor: &str) {
        if let Some(blocked) = self.blocked.get_mut(tensor).filter(|blocked| !blocked.planes) {
            blocked.planes = true;
            let layer = Layer::Unpack(blocked.channels);
            let (inputs, output) = (vec![blocked_name(tensor)], tensor.to_owned());
            self.plan.push(Planned::Layer { layer, inputs, output });
            self.note_move(tensor);
        }
    }

    fn note_move(&mut self, tensor: &str) {
        let numbers = self.maps.get(tensor).map_or(0, |map| map.iter().product::<usize>());
        self.moved += numbers as u64;
    }
}

/// The window of a convolution or pooling over `map`; none where it is dilated, or strides are not the same both ways.
fn window(node: &NodeProto, kernel: &[i64], map: Option<Map>) -> Option<Window> {
    let whole = |value: i64| usize::try_from(value).ok();
    let [height, width] = *kernel else { return None };
    let kernel = [whole(height)?, whole(width)?];
    let stride = match ints(node, "strides") {
        None => 1,
        Some(&[down, along]) if down == along && down > 0 => whole(down)?,
        Some(_) => return None,
    };
    if ints(node, "dilations").is_some_and(|dilations| dilations.iter().any(|&dilation| dilation != 1)) {
        return None;
    }
    let auto = node.attribute.iter().find(|attribute| attribute.name() == "auto_pad");
    let auto = auto.and_then(|attribute| attribute.s.as_deref()).unwrap_or(b"NOTSET");
    let pads = match auto {
        b"NOTSET" | b"" => match ints(node, "pads") {
            None => [0; 4],
            Some(&[top, left, bottom, right]) => [whole(top)?, whole(left)?, whole(bottom)?, whole(right)?],
            Some(_) => return None,
        },
        b"VALID" => [0; 4],
        b"SAME_UPPER" | b"SAME_LOWER" => {
            let [_, height, width] = map?;
            let missing = |length: usize, kernel: usize| {
                ((length.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(length)
            };
            let [down, along] = [missing(height, kernel[0]), missing(width, kernel[1])];
            let smaller = [down / 2, along / 2];
            let larger = [down - down / 2, along - along / 2];
            let (first, second) = if auto == b"SAME_UPPER" { (smaller, larger) } else { (larger, smaller) };
            [first[0], first[1], second[0], second[1]]
        }
        _ => return None,
    };
    Some(Window { kernel, stride, pads })
}

/// What an activation's node does; none for one that is not known or has bounds that are not constant.
fn activation(graph: &Graph, node: &NodeProto) -> Option<Activation> {
    match operation(node) {
        "Relu" => Some(Activation::RELU),
        "Clip" => {
            let bound = |index: usize, name: &str, default: f32| match node.input.get(index) {
                Some(input) if !input.is_empty() => graph.floats(input)?.first().copied(),
                _ => {
                    let attribute = node.attribute.iter().find(|attribute| attribute.name() == name);
                    Some(attribute.and_then(|attribute| attribute.f).unwrap_or(default))
                }
            };
            let Activation { least, most } = Activation::NONE;
            let clip = Activation { least: bound(1, "min", least)?, most: bound(2, "max", most)? };
            (clip.least <= clip.most).then_some(clip)
        }
        _ => None,
    }
}

/// The node of step `step`.
fn layer_node(inputs: Vec<String>, output: String, step: usize) -> NodeProto {
    NodeProto {
        op_type: Some(operator::OPERATOR.to_owned()),
        domain: Some(operator::DOMAIN.to_owned()),
        name: Some(output.clone()),
        input: inputs,
        output: vec![output],
        attribute: vec![AttributeProto {
            name: Some(operator::STEP.to_owned()),
            r#type: Some(AttributeType::Int.into()),
            i: Some(step as i64),
            ..Default::default()
        }],
        ..Default::default()
    }
}
