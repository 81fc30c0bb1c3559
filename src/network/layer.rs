//! One layer, and how an architecture's layers get their names.

use super::topology::Topology;

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
        self.layers.push(Layer {
            name,
            aliases: aliases.into_iter().collect(),
            tensor: op.tensor.clone(),
            what: what.to_owned(),
            channels_last: op.channels_last,
        });
    }
}
