//! [`CandidateLayers`]: which layers of a network are compared, from an early one to the top.
//!
//! A layer is worth comparing where the whole network passes through it: everything that the layers above know, they
//! know from its activations. Inside a residual block or a fire module there is no such place. Of a convolution, its
//! normalisation and its ReLU only the last counts.

use std::collections::{HashMap, HashSet};

use crate::network::profile::Profile;
use crate::network::{
    Activations, BackboneError, Catalogue, Graph, Layer, NoSuchLayer, Pooling, PoolingMismatch,
    activation_tensors,
};

/// Number of candidate layers unless others are named.
pub const SPREAD_LAYERS: usize = 6;

/// How maps are pooled unless something else is asked for.
pub const POOLINGS: [Pooling; 1] = [Pooling::Average];

/// Why a network has no candidate layers.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum CandidateLayersError {
    #[error(transparent)]
    NoSuchLayer(#[from] NoSuchLayer),
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    #[error("the layer {layer:?} of {model} has no features: it has no row of 32-bit floats for each image")]
    NotFeatures { model: String, layer: String },
    #[error("{layer}: the pooling {pooling} does not suit this layer of {model}: {reason}")]
    Pooling { model: String, layer: String, pooling: Pooling, reason: PoolingMismatch },
    #[error("{model} has no layers to compare; name some with --layers")]
    NoLayers { model: String },
}

/// Which layers are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerChoice {
    /// So many at most, spread over the depth, the top among them.
    Spread(usize),
    /// Every layer that the whole network passes through, up to the top.
    All,
    /// These, by any name that the catalogue knows.
    Named(Vec<String>),
}

/// A layer that is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateLayer {
    /// The layer.
    pub layer: Layer,
    /// One image's activations, channels first.
    pub activations: Activations,
    /// Multiply-adds for one image up to and with the layer.
    pub multiply_adds: u64,
    /// How its maps are pooled, each giving features of their own; [`Pooling::None`] alone where it has no maps.
    pub poolings: Vec<Pooling>,
    /// Whether its features are top features: those of the deepest layer, or of the maps that this is the average of.
    pub top: bool,
}

/// The layers of a network that are compared, the cheapest first; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateLayers {
    /// The layers, from the image upwards.
    pub layers: Vec<CandidateLayer>,
    /// Multiply-adds of the whole network for one image.
    pub total: u64,
}

impl CandidateLayers {
    /// Finds the wanted layers of a network that takes images of `size` (width, height); `model` is its name, for
    /// messages.
    ///
    /// Maps are pooled by each of `poolings`, but the average of a map that the network averages itself is left out:
    /// the layer above holds the same numbers.
    ///
    /// # Errors
    /// There is no layer of a given name, its activations cannot be features, or the network cannot be run.
    pub fn new(
        model: &str,
        graph: &Graph,
        catalogue: &Catalogue,
        size: (u32, u32),
        wanted: &LayerChoice,
        poolings: &[Pooling],
    ) -> Result<CandidateLayers, CandidateLayersError> {
        let layers: Vec<Layer> = match wanted {
            LayerChoice::Named(names) => {
                let mut seen = HashSet::new();
                let mut layers = Vec::new();
                for name in names {
                    let layer = catalogue.find(model, name)?;
                    if seen.insert(&layer.tensor) {
                        layers.push(layer.clone());
                    }
                }
                layers
            }
            LayerChoice::Spread(_) | LayerChoice::All => dominator_layers(graph, catalogue),
        };
        let profile = Profile::measure(graph, &layers, size)?;
        let mut candidates = Vec::with_capacity(layers.len());
        for layer in layers {
            match profile.activations(&layer) {
                Some(activations) => candidates.push(CandidateLayer {
                    activations: activations.clone(),
                    multiply_adds: profile.below(&layer),
                    poolings: Vec::new(),
                    top: false,
                    layer,
                }),
                None if matches!(wanted, LayerChoice::Named(_)) => {
                    return Err(CandidateLayersError::NotFeatures {
                        model: model.to_owned(),
                        layer: layer.name,
                    });
                }
                None => {}
            }
        }
        candidates.sort_by_key(|candidate| candidate.multiply_adds);
        if let LayerChoice::Named(_) = wanted {
            refuse_unsuited(model, &candidates, poolings)?;
        }
        pool(graph, &mut candidates, poolings);
        if let LayerChoice::Spread(count) = wanted {
            candidates = spread(candidates, *count);
        }
        if candidates.is_empty() {
            return Err(CandidateLayersError::NoLayers { model: model.to_owned() });
        }
        Ok(CandidateLayers { layers: candidates, total: profile.total() })
    }

    /// The deepest layer.
    pub fn top(&self) -> &CandidateLayer {
        self.layers.last().expect("there is a candidate layer")
    }
}

/// Gives each candidate its poolings, and finds the top.
fn pool(graph: &Graph, candidates: &mut Vec<CandidateLayer>, poolings: &[Pooling]) {
    let averaged = |candidate: &CandidateLayer| match candidate.activations.shape[..] {
        [_] => source_of_average(graph, &candidate.layer.tensor),
        _ => None,
    };
    let sources: HashSet<String> = candidates.iter().filter_map(averaged).collect();
    let below_top = candidates.last().and_then(averaged);
    let last = candidates.len().saturating_sub(1);
    for (at, candidate) in candidates.iter_mut().enumerate() {
        let mut seen = HashSet::new();
        let done = poolings.iter().filter_map(|&pooling| pooling_of(candidate, pooling).ok());
        candidate.poolings = done.filter(|pooling| seen.insert(pooling.to_string())).collect();
        if sources.contains(&candidate.layer.tensor) {
            candidate.poolings.retain(|pooling| !matches!(pooling, Pooling::Average | Pooling::PatchMean));
        }
        candidate.top = at == last || below_top.as_ref() == Some(&candidate.layer.tensor);
    }
    candidates.retain(|candidate| !candidate.poolings.is_empty());
}

/// The pooling that `pooling` comes to at a rung: none at a vector, whatever was asked for, since the same poolings are asked of
/// all layers.
fn pooling_of(rung: &CandidateLayer, pooling: Pooling) -> Result<Pooling, PoolingMismatch> {
    match rung.activations.shape[..] {
        [_] => Ok(Pooling::None),
        _ => rung.activations.pooling(pooling),
    }
}

/// Refuses poolings that a layer that was named cannot have.
fn refuse_unsuited(
    model: &str,
    rungs: &[CandidateLayer],
    poolings: &[Pooling],
) -> Result<(), CandidateLayersError> {
    for rung in rungs {
        for &pooling in poolings {
            pooling_of(rung, pooling).map_err(|reason| CandidateLayersError::Pooling {
                model: model.to_owned(),
                layer: rung.layer.name.clone(),
                pooling,
                reason,
            })?;
        }
    }
    Ok(())
}

/// The tensor whose maps `tensor` holds the averages of, where a global average makes it.
fn source_of_average(graph: &Graph, tensor: &str) -> Option<String> {
    let mut node = graph.producer(tensor)?;
    while is_transparent(node.op_type()) {
        node = graph.producer(node.input.first()?)?;
    }
    // The output is known to be a vector, so an average over a window is one over the whole map as well.
    let averages = matches!(node.op_type(), "GlobalAveragePool" | "ReduceMean" | "AveragePool");
    let mut source = averages.then(|| node.input.first()).flatten()?;
    while let Some(before) = graph.producer(source).filter(|before| is_transparent(before.op_type())) {
        source = before.input.first()?;
    }
    Some(source.clone())
}

/// Operations that pass activations on, changed in form at most.
fn is_transparent(operation: &str) -> bool {
    matches!(
        operation,
        "Identity" | "Dropout" | "Transpose" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Cast"
    )
}

/// Operations that make new activations; others only change what these made.
fn makes_activations(operation: &str) -> bool {
    matches!(
        operation,
        "Conv"
            | "ConvTranspose"
            | "Gemm"
            | "MatMul"
            | "MaxPool"
            | "AveragePool"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "ReduceMean"
    )
}

/// The layers that every path from the image to the top goes through, from the image upwards, the top last.
fn dominator_layers(graph: &Graph, catalogue: &Catalogue) -> Vec<Layer> {
    let Some(top) = catalogue.penultimate() else { return Vec::new() };
    let mut tensors = dominator_tensors(graph, &top.tensor);
    tensors.retain(|tensor| tensor != &top.tensor);
    let mut layers: Vec<Layer> = tensors
        .iter()
        .filter_map(|tensor| catalogue.layers.iter().find(|layer| &layer.tensor == tensor))
        .cloned()
        .collect();
    layers.push(top.clone());
    layers
}

/// The tensors through which alone the image reaches `top`: after the node that makes one, nothing else that depends on
/// the image is still needed. Of several with no new activations between them, the last.
fn dominator_tensors(graph: &Graph, top: &str) -> Vec<String> {
    let needed = graph.ancestors([top]);
    let activations = activation_tensors(graph);
    let nodes = || graph.nodes().iter().zip(&needed).filter_map(|(node, &needed)| needed.then_some(node));
    // How many nodes still read each tensor that depends on the image.
    let mut readers: HashMap<&str, usize> = HashMap::from([(graph.input().name.as_str(), 0), (top, 1)]);
    let mut dependent: HashSet<&str> = HashSet::from([graph.input().name.as_str()]);
    for node in nodes() {
        let inputs: HashSet<&str> =
            node.input.iter().map(String::as_str).filter(|name| dependent.contains(name)).collect();
        if !inputs.is_empty() {
            // Sizes that are computed from the image's are no activations.
            let outputs = node.output.iter().map(String::as_str);
            dependent.extend(outputs.filter(|output| activations.contains(*output)));
        }
        inputs.into_iter().for_each(|name| *readers.entry(name).or_default() += 1);
    }
    let mut dominator_tensors: Vec<String> = Vec::new();
    let mut alive: HashSet<&str> = HashSet::from([graph.input().name.as_str()]);
    // Nothing is taken before something has been made of the image.
    let (mut made, mut replace) = (false, false);
    for node in nodes() {
        let inputs: HashSet<&str> =
            node.input.iter().map(String::as_str).filter(|name| dependent.contains(name)).collect();
        if inputs.is_empty() {
            continue;
        }
        for name in inputs {
            if let Some(count) = readers.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    alive.remove(name);
                }
            }
        }
        let outputs = node.output.iter().map(String::as_str).filter(|output| dependent.contains(output));
        alive.extend(outputs.filter(|name| readers.get(name).is_some_and(|&count| count > 0)));
        if makes_activations(node.op_type()) {
            made = true;
            replace = false;
        }
        let Some(output) = node.output.first() else { continue };
        if made && alive.len() == 1 && alive.contains(output.as_str()) && !is_transparent(node.op_type()) {
            if replace {
                dominator_tensors.pop();
            }
            dominator_tensors.push(output.clone());
            replace = true;
        }
    }
    dominator_tensors
}

/// At most `count` of the candidates: the last of each resolution first, since between two resolutions most changes, then
/// what fills the widest gap in cost. The last one is always among them.
fn spread(candidates: Vec<CandidateLayer>, count: usize) -> Vec<CandidateLayer> {
    let count = count.max(1);
    let resolution = |candidate: &CandidateLayer| match candidate.activations.shape[..] {
        [_, height, width] => Some((height, width)),
        // As many tokens as the layer below has.
        [tokens, width] => Some((tokens, width)),
        // Each vector is a stage of its own.
        _ => None,
    };
    let last_of_stage = |&at: &usize| {
        let next = candidates.get(at + 1);
        next.is_none_or(|next| {
            resolution(&candidates[at]).is_none() || resolution(next) != resolution(&candidates[at])
        })
    };
    let cost = |at: usize| candidates[at].multiply_adds;
    let mut chosen: Vec<usize> = (0..candidates.len()).filter(last_of_stage).collect();
    while chosen.len() > count {
        // Of two neighbours in cost the lower adds least; the top is never the lower.
        let gap = |&at: &usize| cost(chosen[at + 1]) - cost(chosen[at]);
        match (0..chosen.len() - 1).min_by_key(gap) {
            Some(closest) => chosen.remove(closest),
            None => break,
        };
    }
    while chosen.len() < count {
        // The candidate that is farthest in cost from its nearest chosen neighbour.
        let distance =
            |&at: &usize| chosen.iter().map(|&other| cost(other).abs_diff(cost(at))).min().unwrap_or(0);
        let free = (0..candidates.len()).filter(|at| !chosen.contains(at)).filter(|at| distance(at) > 0);
        match free.max_by_key(distance) {
            Some(farthest) => {
                chosen.push(farthest);
                chosen.sort_unstable();
            }
            None => break,
        }
    }
    let mut kept = chosen.into_iter().peekable();
    let keep = |(at, candidate): (usize, CandidateLayer)| kept.next_if_eq(&at).map(|_| candidate);
    candidates.into_iter().enumerate().filter_map(keep).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn candidate(name: &str, shape: &[usize], multiply_adds: u64) -> CandidateLayer {
        let layer = Layer::of_tensor(name, "", false);
        let activations = Activations::of_shape(shape.to_vec());
        CandidateLayer { layer, activations, multiply_adds, poolings: Vec::new(), top: false }
    }

    fn names(candidates: &[CandidateLayer]) -> Vec<&str> {
        candidates.iter().map(|candidate| candidate.layer.name.as_str()).collect()
    }

    /// VGG16's layers with their true costs in millions.
    fn vgg16() -> Vec<CandidateLayer> {
        [
            ("conv1_1", [64, 224, 224], 87),
            ("conv1_2", [64, 224, 224], 1_936),
            ("pool1", [64, 112, 112], 1_936),
            ("conv2_1", [128, 112, 112], 2_861),
            ("conv2_2", [128, 112, 112], 4_711),
            ("pool2", [128, 56, 56], 4_711),
            ("conv3_3", [256, 56, 56], 9_336),
            ("pool3", [256, 28, 28], 9_336),
            ("conv4_3", [512, 28, 28], 13_960),
            ("pool4", [512, 14, 14], 13_960),
            ("conv5_3", [512, 14, 14], 15_347),
            ("pool5", [512, 7, 7], 15_347),
        ]
        .iter()
        .map(|(name, shape, cost)| candidate(name, shape, *cost))
        .chain([candidate("fc6", &[4096], 15_450), candidate("fc7", &[4096], 15_467)])
        .collect()
    }

    #[test]
    fn a_spread_takes_the_last_of_each_resolution_and_the_top() {
        assert_eq!(
            names(&spread(vgg16(), SPREAD_LAYERS)),
            ["conv1_2", "conv2_2", "conv3_3", "conv4_3", "pool5", "fc7"]
        );
        assert_eq!(names(&spread(vgg16(), 1)), ["fc7"]);
    }

    #[test]
    fn a_spread_over_the_blocks_of_a_transformer_goes_through_its_whole_depth() {
        let blocks = (0..12).map(|at| candidate(&format!("block{at}"), &[197, 768], at + 1));
        let all: Vec<CandidateLayer> = blocks.chain([candidate("pooled", &[768], 12)]).collect();
        let expected = ["block0", "block3", "block6", "block9", "block11", "pooled"];
        assert_eq!(names(&spread(all, SPREAD_LAYERS)), expected);
    }

    #[test]
    fn a_spread_fills_the_widest_gaps_where_there_are_few_resolutions() {
        let candidates = [("a", 10), ("b", 40), ("c", 60), ("d", 62), ("e", 100)];
        let candidates =
            |shape: &[usize]| candidates.iter().map(|(name, cost)| candidate(name, shape, *cost)).collect();
        assert_eq!(names(&spread(candidates(&[8, 4, 4]), 1)), ["e"]);
        assert_eq!(names(&spread(candidates(&[8, 4, 4]), 2)), ["a", "e"]);
        assert_eq!(names(&spread(candidates(&[8, 4, 4]), 3)), ["a", "c", "e"]);
        assert_eq!(names(&spread(candidates(&[8, 4, 4]), 9)), ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn the_demo_network_has_canonical_layers_up_to_its_penultimate() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo-vgg.onnx");
        let graph = Graph::open(&path).unwrap();
        let catalogue = Catalogue::of(&graph, &Default::default());
        let found: Vec<String> =
            dominator_layers(&graph, &catalogue).into_iter().map(|layer| layer.name).collect();
        let stages = [2, 2, 3, 3, 3].iter().enumerate();
        let mut expected: Vec<String> = stages
            .flat_map(|(stage, &count)| {
                let stage = stage + 1;
                (1..=count).map(move |at| format!("conv{stage}_{at}")).chain([format!("pool{stage}")])
            })
            .collect();
        expected.extend(["fc6", "fc7"].map(String::from));
        assert_eq!(found, expected);
    }
}
