//! The layers of a network as people choose among them: names, shape, cost.

use super::profile::Profile;
use super::{BackboneError, Catalogue, Graph, Layer};

/// A layer of [`LayerList`].
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct LayerEntry {
    /// Canonical name.
    pub name: String,
    /// Other names that are understood.
    pub aliases: Vec<String>,
    /// The ONNX tensor behind it.
    pub tensor: String,
    /// What it is, in words.
    pub what: String,
    /// Shape of one image's activations, channels first.
    pub shape: Vec<usize>,
    /// Multiply-adds of an image up to here.
    pub multiply_adds: u64,
    /// The same as a share of the whole network's.
    pub share: f64,
    /// Whether it is the input of the last dense layer.
    pub penultimate: bool,
}

/// The layers of a network that features can be taken from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LayerList {
    /// The layers, from the input to the output.
    pub layers: Vec<LayerEntry>,
    /// Multiply-adds of an image in the whole network.
    pub multiply_adds: u64,
}

impl LayerList {
    /// The layers of `catalogue`, which is of `graph`, for images of `size` (width, height); with `all` also the activations that
    /// have no name but ONNX's.
    ///
    /// # Errors
    /// The graph cannot be profiled.
    pub fn of(
        graph: &Graph,
        catalogue: &Catalogue,
        size: (u32, u32),
        all: bool,
    ) -> Result<Self, BackboneError> {
        let mut layers: Vec<Layer> = catalogue.layers.clone();
        if all {
            layers.extend(catalogue.unlisted().cloned());
        }
        let profile = Profile::measure(graph, &layers, size)?;
        let penultimate = catalogue.penultimate().map(|layer| layer.tensor.as_str());
        let entry = |layer: &Layer| {
            let multiply_adds = profile.below(layer);
            Some(LayerEntry {
                name: layer.name.clone(),
                aliases: layer.aliases.clone(),
                tensor: layer.tensor.clone(),
                what: match layer.tokens {
                    Some(tokens) if !tokens.is_map => {
                        format!("{} ({} by default)", layer.what, layer.default_pooling())
                    }
                    _ => layer.what.clone(),
                },
                shape: profile.shape(layer)?.to_vec(),
                multiply_adds,
                share: multiply_adds as f64 / profile.total().max(1) as f64,
                penultimate: penultimate == Some(&*layer.tensor),
            })
        };
        Ok(Self { layers: layers.iter().filter_map(entry).collect(), multiply_adds: profile.total() })
    }
}
