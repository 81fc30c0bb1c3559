//! The layer catalogue: one canonical name a layer, aliases from three naming worlds, and any ONNX name.
//!
//! VGG and ResNet are recognised by their topology, never by an exporter's names, so the same names work on
//! graphs from torchvision, Keras and the ONNX Model Zoo. The state of an activation is the one after its ReLU,
//! as Caffe's in-place ReLU has it.

use std::collections::{BTreeMap, HashSet};

use super::graph::Graph;
use super::layer::Layer;
use super::manifest::Model;
use super::topology::{OpKind, Topology};
use super::{resnet, transformer, vgg};

/// No layer of that name.
#[derive(Debug, thiserror::Error)]
#[error("{model} has no layer {wanted:?}{}; `cnncodes layers {model}` lists them all", hint(nearest))]
pub struct NoSuchLayer {
    /// Name of the network.
    pub model: String,
    /// The name that was asked for.
    pub wanted: String,
    /// The most similar names there are, best first.
    pub nearest: Vec<String>,
}

/// Why a list of layers cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WantedLayersError {
    /// One of them is none.
    #[error(transparent)]
    Missing(#[from] NoSuchLayer),
    /// Two names of one layer.
    #[error("the layer {layer} is named twice, the second time as {again}; name it once")]
    Twice {
        /// Its canonical name.
        layer: String,
        /// The second of the names.
        again: String,
    },
}

fn hint(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!(" (nearest: {})", nearest.join(", ")) }
}

/// The layers of one network.
#[derive(Debug)]
pub struct Catalogue {
    /// The architecture, if its topology is known.
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
        let known = vgg::recognise(graph, &topology).or_else(|| resnet::recognise(&topology));
        let transformer = known.is_none().then(|| transformer::recognise(graph, &topology)).flatten();
        let mut others = activations(graph, &topology);
        let mut penultimate = penultimate(graph, &topology);
        if let Some(transformer) = &transformer {
            penultimate = Some(transformer.top.clone());
            others
                .iter_mut()
                .for_each(|layer| layer.tokens = transformer.tokens_in(&topology, &layer.tensor));
        }
        let known = known.or_else(|| transformer.map(|found| (found.architecture, found.layers)));
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
        for layers in [&self.layers, &self.others] {
            if let Some(layer) = layers
                .iter()
                .find(|layer| layer.name == wanted)
                .or_else(|| layers.iter().find(|layer| layer.aliases.iter().any(|alias| alias == wanted)))
                .or_else(|| layers.iter().find(|layer| layer.tensor == wanted))
                .or_else(|| layers.iter().find(|layer| layer.name.eq_ignore_ascii_case(wanted)))
            {
                // The ONNX name of a layer with a canonical name finds that layer.
                return Ok(self.layers.iter().find(|listed| listed.tensor == layer.tensor).unwrap_or(layer));
            }
        }
        // A layer of the network with this very name was found above.
        if wanted == PENULTIMATE
            && let Some(layer) = self.penultimate()
        {
            return Ok(layer);
        }
        Err(NoSuchLayer { model: model.to_owned(), wanted: wanted.to_owned(), nearest: self.nearest(wanted) })
    }

    /// The layers that `names` name, each once; without names the one that the manifest of `model` names, or the penultimate.
    ///
    /// # Errors
    /// There is no such layer, or a layer is named twice.
    pub fn wanted(&self, model: &Model, names: &[String]) -> Result<Vec<Layer>, WantedLayersError> {
        if let ([], None, Some(layer)) = (names, &model.manifest.layer, self.penultimate()) {
            // Whatever the network itself calls by this name.
            return Ok(vec![layer.clone()]);
        }
        let names: Vec<&str> = match (names, &model.manifest.layer) {
            ([], own) => vec![own.as_deref().unwrap_or(PENULTIMATE)],
            (names, _) => names.iter().map(String::as_str).collect(),
        };
        let mut layers: Vec<Layer> = Vec::with_capacity(names.len());
        for name in names {
            let layer = self.find(&model.name, name)?;
            if let Some(twice) = layers.iter().find(|other| other.tensor == layer.tensor) {
                let (layer, again) = (twice.name.clone(), name.to_owned());
                return Err(WantedLayersError::Twice { layer, again });
            }
            layers.push(layer.clone());
        }
        Ok(layers)
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

/// The map that `layer` averages, if `layer` is the network's own average pooling. It is a candidate that the topology shows;
/// the shapes show whether the average is global.
pub fn pooled_map(graph: &Graph, layer: &Layer) -> Option<Layer> {
    let topology = Topology::of(graph);
    let pool = &topology.ops[topology.op_of(&layer.tensor)?];
    let &[source] = &pool.inputs[..] else { return None };
    let map = &topology.ops[source];
    matches!(pool.kind, OpKind::GlobalPool | OpKind::AveragePool).then(|| {
        let transformer = transformer::recognise(graph, &topology);
        let tokens = transformer.and_then(|found| found.tokens_in(&topology, &map.tensor));
        Layer { tokens, ..Layer::of_tensor(&map.tensor, "what is pooled", map.channels_last) }
    })
}

/// The tensors that hold activations: those that depend on the image's pixels, not only on its size.
pub fn activation_tensors(graph: &Graph) -> HashSet<String> {
    Topology::of(graph).tensors().map(str::to_owned).collect()
}

/// Every activation that depends on the image, under its ONNX name.
fn activations(graph: &Graph, topology: &Topology) -> Vec<Layer> {
    let mut layers = Vec::new();
    for node in graph.nodes() {
        let Some(tensor) = node.output.first() else { continue };
        if topology.op_of(tensor).is_none() {
            continue;
        }
        // In a tensor of another form the dimension of the channels is not known: it is taken as it is.
        let channels_last = node.op_type() != "Reshape" && topology.is_channels_last(tensor);
        layers.push(Layer::of_tensor(tensor, node.op_type(), channels_last));
    }
    layers
}

/// The tensor that the last dense layer reads.
fn penultimate(graph: &Graph, topology: &Topology) -> Option<String> {
    let last_dense = (0..topology.ops.len()).rev().find(|&index| topology.is_dense(index));
    if let Some(index) = last_dense {
        let source = *topology.ops[index].inputs.first()?;
        return Some(topology.ops[source].tensor.clone());
    }
    let last_pool = topology.ops.iter().rposition(|op| op.kind == OpKind::GlobalPool);
    // Keras's exports end in a transpose; the operation before it gives the same numbers, channels first.
    let last = last_pool.or_else(|| topology.op_of(graph.outputs().next()?))?;
    Some(topology.ops[last].tensor.clone())
}
