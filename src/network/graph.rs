//! The ONNX graph: what is in it, and how it is cut ([`truncation`]).
//!
//! The file is memory-mapped and its protobuf decoded without copying the weights, and a cut graph refers to them
//! where they lie ([`super::network_file`]).

mod image_input;
mod inline;
mod input_layout;
mod training;
mod truncation;
mod widen;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use prost::Message;
use sha2::{Digest, Sha256};

use super::inference::TensorFact;
use super::network_file::NetworkFile;
use crate::files::folder_of;
use crate::images::TensorLayout;
use crate::messages::Cause;

#[allow(missing_docs, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
#[path = "onnx.rs"]
pub mod proto;

pub use image_input::GraphInput;
use image_input::{fixed_dim, image_input, tensor_type};
use proto::tensor_proto::DataType;
use proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto};
pub use truncation::TruncatedGraph;

/// Why a file could not be used as a network.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum GraphError {
    #[error("cannot read the network {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not an ONNX graph; export the network to ONNX and add it with `cnncodes models add FILE`", path.display())]
    NotOnnx {
        path: PathBuf,
        #[source]
        source: Option<Cause>,
    },
    #[error("{}: {reason}", path.display())]
    Unsupported { path: PathBuf, reason: String },
    #[error("{} keeps its weights in {}, which cannot be read; put that file beside it", path.display(), weights.display())]
    ExternalWeights { path: PathBuf, weights: PathBuf, source: std::io::Error },
    #[error("{} was changed while it was being loaded; give the command again", path.display())]
    Changed { path: PathBuf },
    #[error("{} has no tensor named {tensor:?}", path.display())]
    NoTensor { path: PathBuf, tensor: String },
    #[error("the layers asked for do not depend on the image input of {}", path.display())]
    Detached { path: PathBuf },
    #[error(
        "{}: the layers asked for depend on the input {input:?} besides the image, and the graph has no value for it; export the \
         network with that value as a constant, or choose a layer below it (`cnncodes layers` lists them)",
        path.display()
    )]
    OtherInput { path: PathBuf, input: String },
    #[error(
        "{}: the node {node:?} ({operator}) is in training mode, so features would depend on {on}; export the network in \
         evaluation mode (PyTorch: `model.eval()` before `torch.onnx.export`, without `training=`; Keras: `training=False`)",
        path.display()
    )]
    Training { path: PathBuf, node: String, operator: String, on: &'static str },
}

/// The ending of the name of the images rounded to float16 in an exported graph, in which a maximum keeps the rounding.
pub(crate) const ROUNDED: &str = "/rounded_to_float16";

/// An ONNX graph, read from a file. It is not loaded into a runtime.
pub struct Graph {
    path: PathBuf,
    file: NetworkFile,
    model: ModelProto,
    sha256: String,
    /// Node that makes a tensor, by the tensor's name.
    producer: HashMap<String, usize>,
    initializers: HashMap<String, usize>,
    input: GraphInput,
    /// What a fourth channel holds.
    alpha: f32,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("path", &self.path).field("nodes", &self.nodes().len()).finish()
    }
}

impl Graph {
    /// The same graph with a value for the fourth channel, where it reads four: that of an opaque pixel, 1 if nothing is said.
    #[must_use]
    pub fn with_alpha(self, alpha: f32) -> Graph {
        Graph { alpha, ..self }
    }

    /// Reads and checks the graph in `path`.
    ///
    /// # Errors
    /// The file cannot be read, is no ONNX model, misses a file of external weights, or has no single float32
    /// image input of three channels.
    pub fn open(path: &Path) -> Result<Graph, GraphError> {
        Self::open_as(path, None)
    }

    /// As [`open`](Self::open), with the layout of the image input for a graph that does not say it itself: its shape
    /// names no 3 channels, no convolution reads the image first, and its name says nothing. [`input`](Self::input)
    /// has what is used.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_as(path: &Path, layout: Option<TensorLayout>) -> Result<Graph, GraphError> {
        Self::read(path, layout, |_| ())
    }

    /// The part of a larger graph that leads from the tensor of `input`, a batch of images in `layout`, to the tensor `output`:
    /// the network inside of a graph that also preprocesses and classifies.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) fn open_part(
        path: &Path,
        input: ValueInfoProto,
        layout: TensorLayout,
        output: &str,
    ) -> Result<Graph, GraphError> {
        Self::read(path, Some(layout), |graph| {
            keep_between(graph, input.name(), output);
            graph.output = vec![ValueInfoProto { name: Some(output.to_owned()), ..Default::default() }];
            graph.input = vec![input];
        })
    }

    /// Reads the graph in `path`, which `edit` may change before it is looked at.
    fn read(
        path: &Path,
        layout: Option<TensorLayout>,
        edit: impl FnOnce(&mut GraphProto),
    ) -> Result<Graph, GraphError> {
        let (file, mut model) = read_message(path)?;
        let mut hasher = Sha256::new();
        file.reader()
            .and_then(|mut reader| std::io::copy(&mut reader, &mut hasher))
            .map_err(|source| GraphError::Read { path: path.to_path_buf(), source })?;
        if let Some(graph) = &mut model.graph {
            edit(graph);
            widen::bfloat16(graph);
            inline::constant_branches(graph);
        }
        let graph = match &model.graph {
            Some(graph) if !graph.node.is_empty() && !graph.input.is_empty() => graph,
            _ => return Err(GraphError::NotOnnx { path: path.to_path_buf(), source: None }),
        };
        let mut producer = HashMap::with_capacity(graph.node.len());
        for (index, node) in graph.node.iter().enumerate() {
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                producer.insert(output.clone(), index);
            }
        }
        let initializers: HashMap<String, usize> = graph
            .initializer
            .iter()
            .enumerate()
            .map(|(index, tensor)| (tensor.name().to_owned(), index))
            .collect();
        for weights in external_files(graph, path) {
            let external = |source| GraphError::ExternalWeights {
                path: path.to_path_buf(),
                weights: weights.clone(),
                source,
            };
            // ONNX wants the files beside the graph; a graph from elsewhere must not have others read, or devices that
            // never end.
            let below = weights.strip_prefix(folder_of(path)).unwrap_or(&weights);
            if !below.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
                let why = "it is outside of the graph's folder, which ONNX does not allow";
                return Err(external(std::io::Error::other(why)));
            }
            if !std::fs::metadata(&weights).map_err(external)?.is_file() {
                return Err(external(std::io::Error::other("it is not a regular file")));
            }
            let mut file = File::open(&weights).map_err(external)?;
            std::io::copy(&mut file, &mut hasher).map_err(external)?;
        }
        let input = image_input(graph, &initializers, path, layout)?;
        let sha256 = format!("{:x}", hasher.finalize());
        Ok(Graph { path: path.to_path_buf(), file, sha256, producer, initializers, input, model, alpha: 1.0 })
    }

    /// The file that the graph was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256, in hexadecimal, of the graph's file followed by its files of external weights in order of name.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The image input.
    pub fn input(&self) -> &GraphInput {
        &self.input
    }

    /// The inputs besides the image that have no value of their own, with what is declared of them.
    pub(super) fn other_inputs(&self) -> impl Iterator<Item = (String, TensorFact)> {
        let inputs = self.graph().input.iter();
        inputs
            .filter(|input| input.name() != self.input.name && self.initializer(input.name()).is_none())
            .map(|input| {
                let tensor = tensor_type(input);
                let element = tensor.and_then(|tensor| DataType::try_from(tensor.elem_type()).ok());
                let dims =
                    tensor.and_then(|tensor| tensor.shape.as_ref()?.dim.iter().map(fixed_dim).collect());
                (input.name().to_owned(), TensorFact { element, dims, values: None })
            })
    }

    /// The nodes, in the order of the file (which ONNX wants to be topological).
    pub fn nodes(&self) -> &[NodeProto] {
        &self.graph().node
    }

    /// The name of the program that wrote the graph, empty where it left none.
    pub fn producer_name(&self) -> &str {
        self.model.producer_name()
    }

    /// The version of ONNX's own operators that the graph is written in.
    pub fn opset(&self) -> i64 {
        let own = self.model.opset_import.iter().find(|opset| matches!(opset.domain(), "" | "ai.onnx"));
        own.map_or(1, |opset| opset.version())
    }

    /// The declared outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.graph().output.iter().map(|output| output.name())
    }

    /// Files of external weights, each once, in order of name.
    pub fn external_files(&self) -> impl Iterator<Item = PathBuf> {
        external_files(self.graph(), &self.path).into_iter()
    }

    /// The constant tensor `name`, when there is one.
    pub fn initializer(&self, name: &str) -> Option<&TensorProto> {
        self.initializers.get(name).map(|&index| &self.graph().initializer[index])
    }

    /// The node that makes the tensor `name`.
    pub fn producer(&self, name: &str) -> Option<&NodeProto> {
        self.producer.get(name).map(|&index| &self.nodes()[index])
    }

    /// The index in [`nodes`](Self::nodes) of the node that makes the tensor `name`.
    pub fn producer_index(&self, name: &str) -> Option<usize> {
        self.producer.get(name).copied()
    }

    /// Whether `name` is constant: an initializer, or made by a `Constant` node, or passed on from one by `Identity`.
    pub fn is_constant(&self, name: &str) -> bool {
        let name = self.origin(name);
        self.initializers.contains_key(name)
            || self.producer(name).is_some_and(|node| node.op_type() == "Constant")
    }

    /// Marks every node that one of `tensors` depends on; index as in [`nodes`](Self::nodes).
    pub fn ancestors<'a>(&self, tensors: impl IntoIterator<Item = &'a str>) -> Vec<bool> {
        let mut needed = vec![false; self.nodes().len()];
        let mut stack: Vec<usize> =
            tensors.into_iter().filter_map(|tensor| self.producer_index(tensor)).collect();
        while let Some(index) = stack.pop() {
            if std::mem::replace(&mut needed[index], true) {
                continue;
            }
            let mut names = Vec::new();
            names_read_by(&self.nodes()[index], &mut names);
            stack.extend(names.into_iter().filter_map(|name| self.producer_index(name)));
        }
        needed
    }

    /// Whether `tensor` depends on one of the tensors of these names.
    pub(super) fn reads(&self, tensor: &str, names: &HashSet<String>) -> bool {
        self.names_used(&self.ancestors([tensor])).into_iter().any(|name| names.contains(name))
    }

    /// Bytes of the constant tensors that `tensors` depend on, as far as they are initializers.
    pub fn weight_bytes<'a>(&self, tensors: impl IntoIterator<Item = &'a str>) -> u64 {
        let used = self.names_used(&self.ancestors(tensors));
        let bytes = |tensor: &TensorProto| {
            let count = tensor.dims.iter().map(|&dim| u64::try_from(dim).unwrap_or(0));
            count.fold(size_of::<f32>() as u64, u64::saturating_mul)
        };
        let initializers = self.graph().initializer.iter();
        initializers.filter(|tensor| used.contains(tensor.name())).map(bytes).fold(0, u64::saturating_add)
    }

    /// The names that the `needed` nodes read.
    fn names_used(&self, needed: &[bool]) -> HashSet<&str> {
        let mut used = HashSet::new();
        let mut names = Vec::new();
        for node in needed.iter().zip(self.nodes()).filter_map(|(&keep, node)| keep.then_some(node)) {
            names_read_by(node, &mut names);
            used.extend(names.drain(..));
        }
        used
    }

    /// Makes sure that the file still holds the weights that this graph was read with.
    ///
    /// # Errors
    /// The file was replaced or written to since.
    pub fn check_unchanged(&self) -> Result<(), GraphError> {
        if self.weights_by_reference() && !self.file.is_unchanged() {
            return Err(GraphError::Changed { path: self.path.clone() });
        }
        Ok(())
    }

    /// Whether cut graphs refer to the weights in the file. Those of a graph with files of weights beside it refer
    /// to these already, from its own folder.
    fn weights_by_reference(&self) -> bool {
        self.file.folder().is_some() && self.external_files().next().is_none()
    }

    fn graph(&self) -> &GraphProto {
        // `open` refuses a model without a graph.
        self.model.graph.as_ref().expect("a Graph holds a model with a graph")
    }
}

/// The ONNX message in the file at `path`, as it is. Its weights are not copied.
///
/// # Errors
/// The file cannot be read, or is no ONNX model.
pub(crate) fn read_model(path: &Path) -> Result<ModelProto, GraphError> {
    Ok(read_message(path)?.1)
}

fn read_message(path: &Path) -> Result<(NetworkFile, ModelProto), GraphError> {
    let read_error = |source| GraphError::Read { path: path.to_path_buf(), source };
    let file = NetworkFile::open(path).map_err(read_error)?;
    let bytes = file.bytes();
    if bytes.is_empty() {
        return Err(GraphError::NotOnnx { path: path.to_path_buf(), source: None });
    }
    let model = ModelProto::decode(bytes)
        .map_err(|source| GraphError::NotOnnx { path: path.to_path_buf(), source: Some(source.into()) })?;
    Ok((file, model))
}

/// Leaves the nodes that `output` depends on and that do not make `input`, and the weights that these read. Maxima of a tensor and
/// itself, which [`export`](crate::export) puts behind paddings, go as well.
fn keep_between(graph: &mut GraphProto, input: &str, output: &str) {
    let is_idle = |node: &NodeProto| {
        let is_of_one = matches!(&node.input[..], [a, b] if a == b && !a.ends_with(ROUNDED));
        node.op_type() == "Max" && node.output.len() == 1 && is_of_one
    };
    let idle = graph.node.iter().filter(|node| is_idle(node) && node.output[0] != output);
    let sources: HashMap<String, String> =
        idle.map(|node| (node.output[0].clone(), node.input[0].clone())).collect();
    for name in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(source) = sources.get(name) {
            name.clone_from(source);
        }
    }
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        producer.extend(node.output.iter().map(|name| (name.as_str(), index)));
    }
    let mut needed = vec![false; graph.node.len()];
    let mut used: HashSet<String> = HashSet::new();
    let mut stack = vec![output];
    while let Some(name) = stack.pop() {
        if name == input || !used.insert(name.to_owned()) {
            continue;
        }
        if let Some(&index) = producer.get(name)
            && !std::mem::replace(&mut needed[index], true)
        {
            names_read_by(&graph.node[index], &mut stack);
        }
    }
    let mut keep = needed.into_iter();
    graph.node.retain(|_| keep.next().unwrap_or(false));
    graph.initializer.retain(|tensor| used.contains(tensor.name()));
}

/// The names that `node` reads: its inputs, and what its subgraphs read from outside.
pub(super) fn names_read_by<'a>(node: &'a NodeProto, names: &mut Vec<&'a str>) {
    names.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            // Names that the subgraph makes itself are harmless here: they have no producer outside.
            for inner in &graph.node {
                names_read_by(inner, names);
            }
            names.extend(graph.output.iter().map(|output| output.name()));
        }
    }
}

/// Files of external weights, as full paths in order of name, each once.
fn external_files(graph: &GraphProto, path: &Path) -> Vec<PathBuf> {
    let folder = folder_of(path);
    let mut locations: Vec<&str> =
        graph.initializer.iter().flat_map(|tensor| entry(&tensor.external_data, "location")).collect();
    locations.sort_unstable();
    locations.dedup();
    locations.into_iter().map(|location| folder.join(location)).collect()
}

pub(super) fn entry<'a>(entries: &'a [StringStringEntryProto], key: &str) -> Option<&'a str> {
    entries.iter().find(|entry| entry.key() == key).map(|entry| entry.value())
}
