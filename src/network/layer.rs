//! One layer, and how an architecture's layers get their names.

use serde::{Deserialize, Serialize};

use super::pool::Pooling;
use super::topology::Topology;

/// A place in the network whose activations can be taken as features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The one name that files and reports use.
    pub name: String,
    /// Other names that find it.
    pub aliases: Vec<String>,
    /// The ONNX tensor that is tapped.
    pub tensor: String,
    /// What the activation is, in a few words.
    pub what: String,
    /// Whether the tensor has its channels last (features are always written channels first).
    pub channels_last: bool,
    /// What its rows are, if they are the tokens of a transformer.
    pub tokens: Option<Tokens>,
}

/// The tokens of a layer: some that are no patches, then the patches of the image row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Tokens before the patches: class, distillation and register tokens.
    pub prefix: usize,
    /// Whether the first of them is a class token.
    pub class_token: bool,
    /// Whether the network's own head reads the class token; otherwise the mean of the patches stands for the image.
    pub reads_class_token: bool,
    /// Whether they are the places of a map, one after another. Transformers in stages have such tokens between maps; exporters
    /// and frameworks differ in where.
    pub is_map: bool,
}

impl Layer {
    /// A layer of one ONNX name and nothing else.
    pub fn of_tensor(tensor: &str, what: &str, channels_last: bool) -> Layer {
        Layer {
            name: tensor.to_owned(),
            aliases: Vec::new(),
            tensor: tensor.to_owned(),
            what: what.to_owned(),
            channels_last,
            tokens: None,
        }
    }

    /// Whether a map of it has its channels last when it leaves the network.
    pub(crate) fn gives_channels_last(&self) -> bool {
        self.channels_last || self.tokens.is_some_and(|tokens| tokens.is_map)
    }

    /// The pooling unless the user says otherwise: none for maps and vectors; for tokens, what the network's own head reads.
    pub fn default_pooling(&self) -> Pooling {
        match self.tokens {
            None | Some(Tokens { is_map: true, .. }) => Pooling::None,
            Some(Tokens { reads_class_token: true, .. }) => Pooling::ClassToken,
            Some(_) => Pooling::PatchMean,
        }
    }
}

/// Collects named layers.
pub(super) struct Namer<'a> {
    topology: &'a Topology,
    pub(super) layers: Vec<Layer>,
}

impl<'a> Namer<'a> {
    pub(super) fn new(topology: &'a Topology) -> Namer<'a> {
        Namer { topology, layers: Vec::new() }
    }

    pub(super) fn add(
        &mut self,
        op: usize,
        name: String,
        aliases: impl IntoIterator<Item = String>,
        what: &str,
    ) {
        let op = &self.topology.ops[op];
        let unnamed = Layer::of_tensor(&op.tensor, what, op.channels_last);
        self.layers.push(Layer { name, aliases: aliases.into_iter().collect(), ..unnamed });
    }
}
