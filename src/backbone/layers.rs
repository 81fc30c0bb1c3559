//! The layer catalogue: one canonical name a layer, aliases from three naming worlds, and any ONNX name.
//!
//! VGG and ResNet are recognised by their topology, never by an exporter's names, so the same names work on
//! graphs from torchvision, Keras and the ONNX Model Zoo. The state of an activation is the one after its ReLU,
//! as Caffe's in-place ReLU has it.

use std::collections::{BTreeMap, HashSet};

use super::graph::Graph;
use super::topology::{Kind, Topology};

/// A place in the network whose activations can be taken as codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The one name that files and reports use.
    pub name: String,
    /// Other names that find it.
    pub aliases: Vec<String>,
    /// The ONNX tensor that is tapped.
    pub tensor: String,
    /// What the activation is, in a few words.
    pub what: String,
    /// Whether the tensor has its channels last (codes are always written channels first).
    pub channels_last: bool,
}

/// No layer of that name.
#[derive(Debug, thiserror::Error)]
#[error("{model} has no layer {wanted:?}{}; `cnncodes layers {model}` lists them all", hint(nearest))]
pub struct NoSuchLayer {
    pub model: String,
    pub wanted: String,
    /// The most similar names there are, best first.
    pub nearest: Vec<String>,
}

fn hint(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!(" (nearest: {})", nearest.join(", ")) }
}

/// The layers of one network.
#[derive(Debug)]
pub struct Catalogue {
    /// The architecture, when the topology is one that we know.
    pub architecture: Option<String>,
    /// The layers, from the image upwards.
    pub layers: Vec<Layer>,
    /// Whether [`layers`](Self::layers) was named from a known topology (else it holds every activation).
    pub recognised: bool,
    /// Every activation by its ONNX names, for those that the catalogue does not list.
    others: Vec<Layer>,
    /// Index of the input of the last dense layer, in `layers` or else in `others`.
    penultimate: Option<String>,
}

impl Catalogue {
    /// Reads the catalogue off a graph; `aliases` are the user's own, name to layer or ONNX name.
    pub fn of(graph: &Graph, aliases: &BTreeMap<String, String>) -> Catalogue {
        let topology = Topology::of(graph);
        let known = vgg(&topology).or_else(|| resnet(&topology));
        let others = activations(graph, &topology);
        let penultimate = penultimate(graph, &topology);
        let recognised = known.is_some();
        let (architecture, layers) = match known {
            Some((architecture, layers)) => (Some(architecture), layers),
            None => (None, others.clone()),
        };
        let mut catalogue = Catalogue { architecture, layers, recognised, others, penultimate };
        catalogue.adopt_node_names(graph);
        catalogue.adopt_aliases(aliases);
        catalogue
    }

    /// The layer that `wanted` names: canonical name, alias, ONNX tensor, ONNX node, or `penultimate`.
    ///
    /// # Errors
    /// There is none; the error offers the nearest names. `model` is for that message.
    pub fn find(&self, model: &str, wanted: &str) -> Result<&Layer, NoSuchLayer> {
        if wanted == PENULTIMATE
            && let Some(layer) = self.penultimate()
        {
            return Ok(layer);
        }
        for layers in [&self.layers, &self.others] {
            if let Some(layer) = layers
                .iter()
                .find(|layer| layer.name == wanted)
                .or_else(|| layers.iter().find(|layer| layer.aliases.iter().any(|alias| alias == wanted)))
                .or_else(|| layers.iter().find(|layer| layer.tensor == wanted))
                .or_else(|| layers.iter().find(|layer| layer.name.eq_ignore_ascii_case(wanted)))
            {
                // An ONNX name of a layer that has a canonical one finds that.
                return Ok(self.layers.iter().find(|listed| listed.tensor == layer.tensor).unwrap_or(layer));
            }
        }
        Err(NoSuchLayer { model: model.to_owned(), wanted: wanted.to_owned(), nearest: self.nearest(wanted) })
    }

    /// The input of the last dense layer; the network's last pooling, or its output, where it has no dense layer.
    pub fn penultimate(&self) -> Option<&Layer> {
        let tensor = self.penultimate.as_deref()?;
        self.layers.iter().chain(&self.others).find(|layer| layer.tensor == tensor)
    }

    /// Activations that the catalogue does not list by a canonical name.
    pub fn unlisted(&self) -> impl Iterator<Item = &Layer> {
        let listed: HashSet<&str> = self.layers.iter().map(|layer| layer.tensor.as_str()).collect();
        self.others.iter().filter(move |layer| !listed.contains(layer.tensor.as_str()))
    }

    fn nearest(&self, wanted: &str) -> Vec<String> {
        let wanted_lower = wanted.to_lowercase();
        let mut names: Vec<(f64, &str)> = self
            .layers
            .iter()
            .chain(if self.recognised { &[][..] } else { &self.others[..] })
            .flat_map(|layer| std::iter::once(&layer.name).chain(&layer.aliases))
            .map(|name| (strsim::jaro_winkler(&name.to_lowercase(), &wanted_lower), name.as_str()))
            .collect();
        names.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        names.dedup_by(|a, b| a.1 == b.1);
        names
            .into_iter()
            .filter(|(similarity, _)| *similarity > 0.6)
            .take(5)
            .map(|(_, name)| name.into())
            .collect()
    }

    /// ONNX node names find their first output.
    fn adopt_node_names(&mut self, graph: &Graph) {
        let mut taken: HashSet<String> = self
            .layers
            .iter()
            .flat_map(|layer| layer.aliases.iter().chain([&layer.name, &layer.tensor]))
            .chain(self.others.iter().map(|layer| &layer.tensor))
            .cloned()
            .collect();
        for layer in &mut self.others {
            let Some(node) = graph.producer(&layer.tensor) else { continue };
            if !node.name().is_empty() && taken.insert(node.name().to_owned()) {
                layer.aliases.push(node.name().to_owned());
            }
        }
        if !self.recognised {
            self.layers = self.others.clone();
        }
    }

    fn adopt_aliases(&mut self, aliases: &BTreeMap<String, String>) {
        for (alias, target) in aliases {
            let Some(tensor) = self.find("", target).ok().map(|layer| layer.tensor.clone()) else { continue };
            for layer in self.layers.iter_mut().chain(&mut self.others) {
                if layer.tensor == tensor && !layer.aliases.contains(alias) {
                    layer.aliases.push(alias.clone());
                }
            }
        }
    }
}

/// The name that finds the input of the last dense layer in any graph.
pub const PENULTIMATE: &str = "penultimate";

/// Every activation that hangs on the image, under its ONNX name.
fn activations(graph: &Graph, topology: &Topology) -> Vec<Layer> {
    let mut layers = Vec::new();
    for node in graph.nodes() {
        let Some(tensor) = node.output.first() else { continue };
        let Some(op) = topology.op_of(tensor) else { continue };
        layers.push(Layer {
            name: tensor.clone(),
            aliases: Vec::new(),
            tensor: tensor.clone(),
            what: node.op_type().to_owned(),
            // A tensor that a transpose made is taken as it stands.
            channels_last: topology.ops[op].tensor == *tensor && topology.ops[op].channels_last,
        });
    }
    layers
}

/// The tensor that the last dense layer reads.
fn penultimate(graph: &Graph, topology: &Topology) -> Option<String> {
    let last_dense = (0..topology.ops.len()).rev().find(|&index| is_dense(topology, index));
    if let Some(index) = last_dense {
        let source = *topology.ops[index].inputs.first()?;
        return Some(topology.ops[source].tensor.clone());
    }
    let last_pool = topology.ops.iter().rev().find(|op| op.kind == Kind::GlobalPool);
    last_pool.map(|op| op.tensor.clone()).or_else(|| graph.outputs().next().map(str::to_owned))
}

/// A dense layer may be written as a 1x1 convolution of a globally pooled map.
fn is_dense(topology: &Topology, index: usize) -> bool {
    let op = &topology.ops[index];
    match &op.kind {
        Kind::Dense { .. } => true,
        Kind::Conv { kernel, .. } if kernel.iter().all(|&k| k == 1) => {
            op.inputs.first().is_some_and(|&input| topology.ops[input].kind == Kind::GlobalPool)
        }
        _ => false,
    }
}

/// Collects named layers.
struct Namer<'a> {
    topology: &'a Topology,
    layers: Vec<Layer>,
}

impl Namer<'_> {
    fn add(&mut self, op: usize, name: String, aliases: Vec<String>, what: &str) {
        let op = &self.topology.ops[op];
        self.layers.push(Layer {
            name,
            aliases,
            tensor: op.tensor.clone(),
            what: what.to_owned(),
            channels_last: op.channels_last,
        });
    }
}

/// VGG: five blocks of 3x3 convolutions with ReLU, each closed by a max-pool, then three dense layers
/// (Simonyan & Zisserman 2014, arXiv:1409.1556).
fn vgg(topology: &Topology) -> Option<(String, Vec<Layer>)> {
    let mut namer = Namer { topology, layers: Vec::new() };
    let mut here = 0;
    let mut blocks: Vec<usize> = vec![0];
    let mut module = 0;
    let next = |from: usize, wanted: &dyn Fn(&Kind) -> bool| -> Option<usize> {
        topology.consumers(from).iter().copied().find(|&op| wanted(&topology.ops[op].kind))
    };
    loop {
        if let Some(conv) = next(here, &|kind| matches!(kind, Kind::Conv { .. })) {
            let Kind::Conv { kernel, normalised, .. } = &topology.ops[conv].kind else { return None };
            if kernel != &[3, 3] {
                return None;
            }
            let relu = topology.relu_after(conv)?;
            let block = blocks.len();
            let position = blocks.last_mut()?;
            *position += 1;
            // torchvision numbers its modules: convolution, batch normalisation where there is one, ReLU.
            module += if *normalised { 3 } else { 2 };
            namer.add(
                relu,
                format!("conv{block}_{position}"),
                vec![format!("block{block}_conv{position}"), format!("features.{}", module - 1)],
                "convolution, after ReLU",
            );
            here = relu;
        } else if let Some(pool) = next(here, &|kind| *kind == Kind::MaxPool) {
            let block = blocks.len();
            module += 1;
            namer.add(
                pool,
                format!("pool{block}"),
                vec![format!("block{block}_pool"), format!("features.{}", module - 1)],
                "max-pool",
            );
            blocks.push(0);
            here = pool;
        } else {
            break;
        }
    }
    if blocks.pop() != Some(0) || blocks.len() != 5 || blocks.contains(&0) {
        return None;
    }
    if let Some(pool) = next(here, &|kind| *kind == Kind::AveragePool || *kind == Kind::GlobalPool) {
        // torchvision's adaptive pooling, which changes nothing at the native size.
        here = pool;
    }
    for (name, keras, torchvision) in [("fc6", "fc1", "classifier.1"), ("fc7", "fc2", "classifier.4")] {
        let dense = next(here, &|kind| matches!(kind, Kind::Dense { .. }))?;
        here = topology.relu_after(dense)?;
        namer.add(here, name.into(), vec![keras.into(), torchvision.into()], "dense, after ReLU");
    }
    let dense = next(here, &|kind| matches!(kind, Kind::Dense { .. }))?;
    namer.add(dense, "fc8".into(), vec!["classifier.6".into()], "dense, class scores");
    if let Some(softmax) = next(dense, &|kind| *kind == Kind::Softmax) {
        namer.add(softmax, "prob".into(), vec!["predictions".into()], "softmax");
    }
    let depth: usize = blocks.iter().sum::<usize>() + 3;
    let architecture = match blocks[..] {
        [1, 1, 2, 2, 2] | [2, 2, 2, 2, 2] | [2, 2, 3, 3, 3] | [2, 2, 4, 4, 4] => format!("VGG{depth}"),
        _ => format!("VGG-style, {depth} weighted layers"),
    };
    Some((architecture, namer.layers))
}

/// ResNet v1 and v1.5: a stem, four stages of residual blocks that end in a sum and a ReLU, a global pool and a
/// dense layer (He et al. 2015, arXiv:1512.03385).
fn resnet(topology: &Topology) -> Option<(String, Vec<Layer>)> {
    let mut namer = Namer { topology, layers: Vec::new() };
    let stem = *topology.consumers(0).first()?;
    let Kind::Conv { .. } = topology.ops[stem].kind else { return None };
    let relu = topology.relu_after(stem)?;
    let pool = topology.consumers(relu).iter().copied().find(|&op| topology.ops[op].kind == Kind::MaxPool)?;
    namer.add(relu, "conv1".into(), vec!["conv1_relu".into(), "relu".into()], "stem convolution, after ReLU");
    namer.add(pool, "pool1".into(), vec!["pool1_pool".into(), "maxpool".into()], "max-pool");

    let sums: Vec<usize> = (0..topology.ops.len()).filter(|&op| topology.ops[op].kind == Kind::Sum).collect();
    let mut stages: Vec<(usize, usize)> = Vec::new();
    let mut bottleneck = true;
    let mut strided_first = false;
    let mut last = pool;
    for &sum in &sums {
        let relu = topology.relu_after(sum)?;
        let channels = topology.ops[sum].inputs.iter().find_map(|&input| match topology.ops[input].kind {
            Kind::Conv { channels, .. } if input > last => Some(channels),
            _ => None,
        })?;
        bottleneck &= block_convolutions(topology, sum, last) >= 3;
        strided_first |= kernel_strides_first(topology, last, channels);
        match stages.last_mut() {
            Some((width, blocks)) if *width == channels => *blocks += 1,
            _ => stages.push((channels, 1)),
        }
        last = relu;
    }
    let lengths: Vec<usize> = stages.iter().map(|&(_, blocks)| blocks).collect();
    if lengths.len() != 4 {
        return None;
    }
    let architecture = match (bottleneck, &lengths[..]) {
        (false, [2, 2, 2, 2]) => "ResNet18",
        (false, [3, 4, 6, 3]) => "ResNet34",
        (true, [3, 4, 6, 3]) => "ResNet50",
        (true, [3, 4, 23, 3]) => "ResNet101",
        (true, [3, 8, 36, 3]) => "ResNet152",
        _ => "ResNet-style",
    };
    let mut sum = sums.iter();
    for (stage, &blocks) in lengths.iter().enumerate() {
        for block in 0..blocks {
            let relu = topology.relu_after(*sum.next()?)?;
            namer.add(
                relu,
                format!("res{}{}", stage + 2, caffe_block(block, blocks)),
                vec![
                    format!("conv{}_block{}_out", stage + 2, block + 1),
                    format!("layer{}.{block}", stage + 1),
                ],
                "residual sum, after ReLU",
            );
        }
    }
    let pool = topology
        .consumers(last)
        .iter()
        .copied()
        .find(|&op| matches!(topology.ops[op].kind, Kind::GlobalPool | Kind::AveragePool))?;
    namer.add(
        pool,
        "pool5".into(),
        vec!["avg_pool".into(), "avgpool".into(), "flatten".into()],
        "average-pool",
    );
    let dense = topology.consumers(pool).iter().copied().find(|&op| is_dense(topology, op));
    if let Some(dense) = dense {
        namer.add(dense, "fc1000".into(), vec!["fc".into()], "dense, class scores");
        let softmax =
            topology.consumers(dense).iter().copied().find(|&op| topology.ops[op].kind == Kind::Softmax);
        if let Some(softmax) = softmax {
            namer.add(softmax, "prob".into(), vec!["predictions".into()], "softmax");
        }
    }
    let stride = match (bottleneck, strided_first) {
        (true, true) => ", stride in the 1x1 convolutions",
        (true, false) => ", stride in the 3x3 convolutions (v1.5)",
        (false, _) => "",
    };
    Some((format!("{architecture}{stride}"), namer.layers))
}

/// Caffe's letter for the block `index` of a stage of `blocks`: a, b, c … or, in long stages, a, b1, b2 …
fn caffe_block(index: usize, blocks: usize) -> String {
    match (index, blocks) {
        (0, _) => "a".to_owned(),
        (_, 0..=6) => char::from(b'a' + index as u8).to_string(),
        _ => format!("b{index}"),
    }
}

/// The number of convolutions on the longest way from `start` to the residual sum `sum`.
fn block_convolutions(topology: &Topology, sum: usize, start: usize) -> usize {
    topology.ops[sum]
        .inputs
        .iter()
        .map(|&input| {
            let mut op = input;
            let mut count = 0;
            while op > start {
                count += usize::from(matches!(topology.ops[op].kind, Kind::Conv { .. }));
                let Some(&previous) = topology.ops[op].inputs.first() else { break };
                op = previous;
            }
            count
        })
        .max()
        .unwrap_or(0)
}

/// Whether the first convolution of the block that starts at `start` is a 1x1 with a stride on the main way
/// (Keras and Caffe), as against the 3x3 (torchvision). The projection has the block's `channels`, the main way
/// fewer.
fn kernel_strides_first(topology: &Topology, start: usize, channels: usize) -> bool {
    topology.consumers(start).iter().any(|&op| match &topology.ops[op].kind {
        Kind::Conv { channels: own, kernel, stride, .. } => {
            *own < channels && kernel == &[1, 1] && *stride > 1
        }
        _ => false,
    })
}
