//! Why a head cannot be exported, or an exported file not be read.

use std::path::PathBuf;

use crate::head::HeadFileError;
use crate::messages::Cause;
use crate::network::{BackboneError, GraphError, PoolingMismatch};

/// Why a head could not be exported.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum ExportError {
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    #[error("{network}: the pooling of the head does not suit the layer {layer}: {reason}")]
    Pooling { network: String, layer: String, reason: PoolingMismatch },
    #[error("the layer {layer:?} of {network} cannot be features; was the head made with another network?")]
    NotFeatures { network: String, layer: String },
    #[error(
        "the head takes {head} features of an image, and the layer {layer:?} of {network} gives {found}; was the head made with \
         another network?"
    )]
    Width { network: String, layer: String, head: usize, found: usize },
    #[error(
        "the head's features are of JPEGs that were reduced while they were decoded, which a graph cannot do to decoded pixels; extract \
         again without --fast-decode and fit again, or export with --input tensor"
    )]
    DctScaling,
    #[error(
        "{network} takes exactly {batch} images at once, and a graph of pixels takes one image; export the network with an open \
         batch or a batch of 1, or use --input tensor"
    )]
    FixedBatch { network: String, batch: usize },
    #[error("static shapes need --input tensor: images of pixels have any size")]
    StaticPixels,
    #[error(
        "the head was fitted by an earlier version and cannot make prediction sets; fit it again, or leave out --coverage"
    )]
    NoPredictionSets,
    #[error(
        "the head compares with {vectors} support vectors of {columns} values, {megabytes} MiB of float32 of at most {most}; fit it \
         with a smaller --gamma or C, with --pca, or without --kernel"
    )]
    Kernel { vectors: usize, columns: usize, megabytes: usize, most: usize },
    #[error(
        "{network} is written in ONNX's operator set {opset}, and sets older than {oldest} cannot be brought up to date; export the \
         network again with operator set 17 (PyTorch: opset_version=17; tf2onnx: --opset 17)"
    )]
    OldOpset { network: String, opset: i64, oldest: i64 },
    #[error(
        "{network}: the operator {operator} of ONNX's operator set {opset} cannot be brought up to date; export the network again \
         with operator set 17 (PyTorch: opset_version=17; tf2onnx: --opset 17)"
    )]
    Operator { network: String, operator: String, opset: i64 },
    #[error(
        "{network} has functions of its own and operator set {opset}; export the network again with operator set 18 or newer"
    )]
    Functions { network: String, opset: i64 },
    #[error("the head's description cannot be written as JSON")]
    Json { source: Cause },
    #[error(
        "{} exists and is no classifier that `cnncodes export` made, so it is not replaced; name another output, or remove it",
        path.display()
    )]
    OtherFile { path: PathBuf },
    #[error("the graph cannot be written to {}: check that its folder exists, is writable and has space left", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// Why an exported classifier could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum SealedError {
    #[error("there is no file {}: make one with `cnncodes export`", .0.display())]
    Missing(PathBuf),
    #[error("{} is no ONNX file, or is cut short: copy it again, or make it again with `cnncodes export`", path.display())]
    NotOnnx { path: PathBuf, source: GraphError },
    #[error("{} is an ONNX graph, but no classifier that `cnncodes export` made; name a head, or export one", .0.display())]
    OtherGraph(PathBuf),
    #[error("{} has version {found:?} of the form of exported classifiers, and this program reads {known}: update cnncodes", path.display())]
    Newer { path: PathBuf, found: String, known: &'static str },
    #[error("{} is damaged: its entry {entry:?} is not what it should be; make it again with `cnncodes export`", path.display())]
    Entry { path: PathBuf, entry: &'static str, source: Option<Cause> },
    #[error("{} is damaged: {fault}; make it again with `cnncodes export`", path.display())]
    Unsound { path: PathBuf, fault: String },
    #[error(transparent)]
    Head(#[from] HeadFileError),
}
