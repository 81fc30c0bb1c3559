//! Sealed classifiers: one ONNX graph from the pixels of an image to its class, with preprocessing, network, head and calibration
//! inside, for whatever runs ONNX. It needs nothing of this program.
//!
//! [`export`] makes the graph and [`SealedClassifier`] reads it back. The parts of the graph, in the order in which an image
//! passes them: `pixels`, `backbone`, `pooling`, `head`, `answer`.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use cnncodes::export::{ExportSettings, NetworkOfHead, export};
//! use cnncodes::head::Head;
//! use cnncodes::network::ModelsFolder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let head = Head::load(Path::new("models/pets.head.h5"))?;
//! let (graph, layer) = head.provenance.spec.network(&ModelsFolder { path: "models".into() })?;
//! let network = NetworkOfHead { graph: &graph, layer: &layer, licence: None };
//! export(&head, network, &ExportSettings::default())?.save(Path::new("pets.onnx"), false)?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod backbone;
mod builder;
mod error;
mod file;
mod head;
mod metadata;
mod opset;
mod pixels;
mod pooling;
mod sealed;

use self::backbone::NetworkPart;
use self::builder::{GraphBuilder, GraphDim, value_info};
use self::metadata::NetworkEntry;
use crate::head::{Conformal, Head};
use crate::images::TensorLayout;
use crate::network::graph::proto::tensor_proto::DataType;
use crate::network::graph::proto::{ModelProto, ValueInfoProto};
use crate::network::profile::Profile;
use crate::network::{Activations, Graph, Layer, Pooling, Precision, element_of, fixed_batch};

pub use error::{ExportError, SealedError};
pub use sealed::SealedClassifier;

/// The graph's input if it takes pixels.
const PIXELS: &str = "image";
/// The network's input tensor: the graph's own input, or what it makes of the pixels.
const INPUT: &str = "tensor";
/// Names of the outputs.
const OUTPUTS: [&str; 7] =
    ["probabilities", "label", "scores", "distance", "unknown", "prediction_set", "features"];
/// What the names of the parts begin with, up to a slash.
const SCOPES: [&str; 6] = ["opset17", "pixels", "pooling", "head", "novelty", "answer"];

/// Bytes of support vectors that a graph carries at most. They are converted to float64 when it is loaded.
const MOST_VECTOR_BYTES: usize = 256 << 20;

/// What a sealed graph takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExportInput {
    /// `image`: the pixels of one image of any size, uint8, H x W x 3, RGB.
    #[default]
    Pixels,
    /// `tensor`: preprocessed images as the network wants them, float32.
    Tensor,
}

/// What a sealed graph answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExportLabel {
    /// The name of the class.
    #[default]
    Name,
    /// The index of the class, for runtimes without text.
    Index,
}

/// How a head is exported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExportSettings {
    /// What the graph takes.
    pub input: ExportInput,
    /// One image of a fixed shape, everything in float32 and no text, for converters to TFLite and Core ML. It needs
    /// [`ExportInput::Tensor`], and the label is an index.
    pub is_static: bool,
    /// What the graph answers with.
    pub label: ExportLabel,
    /// Also give the set of classes that holds the right one in this share of cases, between 0 and 1.
    pub coverage: Option<f64>,
    /// Also give the features.
    pub with_features: bool,
    /// Store the network's weights as float16: half the size, and features that differ a little.
    pub half_weights: bool,
}

/// What the head's part of the graph computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    /// float64, as this program does.
    Double,
    /// float32.
    Single,
}

/// A head's network, to be exported with it.
#[derive(Debug, Clone, Copy)]
pub struct NetworkOfHead<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// The layer that the head's features are of.
    pub layer: &'a Layer,
    /// Where the network comes from and what its licence is.
    pub licence: Option<&'a str>,
}

/// A sealed graph, to be [saved](Self::save).
#[derive(Debug)]
pub struct ExportedModel {
    model: ModelProto,
    /// What its user should know.
    pub remarks: Vec<String>,
}

/// Makes one graph of a head and its network, with ONNX's own operators alone unless the network itself has others.
///
/// # Errors
/// The network is not that of the head, or one of them cannot be expressed so.
pub fn export(
    head: &Head,
    network: NetworkOfHead<'_>,
    settings: &ExportSettings,
) -> Result<ExportedModel, ExportError> {
    let (conformal, source) = (settings.check(head)?, LayerOutput::of(head, network, settings)?);
    let mut part = NetworkPart::cut(network.graph, &network.layer.tensor, settings.half_weights)?;
    let layer = Layer { tensor: part.tensor.clone(), ..network.layer.clone() };
    let mut b = GraphBuilder::new(part.opset);
    let (spec, layout) = (&head.provenance.spec, network.graph.input().layout);
    let input = match settings.input {
        ExportInput::Tensor => {
            value_info(INPUT, DataType::Float, &source.dims(layout, spec.preprocess.size()))
        }
        ExportInput::Pixels => {
            b.enter("pixels");
            let tensor = pixels::tensor_of_image(&mut b, PIXELS, &spec.preprocess, layout);
            b.give(&tensor, INPUT);
            value_info(
                PIXELS,
                DataType::Uint8,
                &[GraphDim::Open("height"), GraphDim::Open("width"), GraphDim::Fixed(3)],
            )
        }
    };
    let mut graph = part.model.graph.take().unwrap_or_default();
    graph.node.splice(0..0, std::mem::take(&mut b.nodes));
    b.enter("pooling");
    let LayerOutput { element, activations, pooling, .. } = &source;
    let arithmetic = settings.arithmetic();
    let features = pooling::features(&mut b, &layer, *element, activations, *pooling, arithmetic);
    graph.output = answers(&mut b, head, &features, source.batch(), conformal, settings);
    graph.node.append(&mut b.nodes);
    graph.initializer.append(&mut b.initializers);
    graph.input = vec![input];
    graph.name = Some("cnncodes classifier".to_owned());
    graph.value_info.clear();
    let entry =
        NetworkEntry { batch: source.network_batch, channels_last: layout == TensorLayout::Nhwc, layer };
    Ok(ExportedModel {
        model: ModelProto {
            producer_name: Some("cnncodes".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            doc_string: Some(format!("An image classifier: {}", head.model.class_names.join(", "))),
            graph: Some(graph),
            metadata_props: metadata::entries(head, &entry, network.licence)?,
            ..part.model
        },
        remarks: source.remarks,
    })
}

impl ExportSettings {
    fn arithmetic(&self) -> Arithmetic {
        if self.is_static { Arithmetic::Single } else { Arithmetic::Double }
    }

    /// What they ask for must be there. Gives the threshold of the prediction sets, if these are asked for.
    fn check(&self, head: &Head) -> Result<Option<f64>, ExportError> {
        if self.is_static && self.input == ExportInput::Pixels {
            return Err(ExportError::StaticPixels);
        }
        if self.input == ExportInput::Pixels && head.provenance.spec.preprocess.dct_scaling() {
            return Err(ExportError::DctScaling);
        }
        if let Some(map) = &head.model.kernel {
            let (vectors, columns) = map.vectors().dim();
            let bytes = vectors.saturating_mul(columns).saturating_mul(size_of::<f32>());
            if bytes > MOST_VECTOR_BYTES {
                let (megabytes, most) = (bytes >> 20, MOST_VECTOR_BYTES >> 20);
                return Err(ExportError::Kernel { vectors, columns, megabytes, most });
            }
        }
        let threshold = |coverage| {
            let conformal: Option<&Conformal> = head.model.conformal.as_ref();
            conformal.map(|conformal| conformal.threshold(coverage)).ok_or(ExportError::NoPredictionSets)
        };
        self.coverage.map(threshold).transpose()
    }
}

/// What the network gives at the head's layer.
struct LayerOutput {
    element: Option<DataType>,
    activations: Activations,
    pooling: Pooling,
    /// Images that a run of the graph holds; none where there may be any number.
    batch: Option<usize>,
    /// Images that a run of the network by itself must hold.
    network_batch: Option<usize>,
    remarks: Vec<String>,
}

impl LayerOutput {
    fn of(
        head: &Head,
        NetworkOfHead { graph, layer, .. }: NetworkOfHead<'_>,
        settings: &ExportSettings,
    ) -> Result<Self, ExportError> {
        let spec = &head.provenance.spec;
        let size = spec.preprocess.size();
        let (network, name) = (graph.path().display().to_string(), layer.name.clone());
        let profile = Profile::measure(graph, std::slice::from_ref(layer), size)?;
        let Some(activations) = profile.activations(layer).cloned() else {
            return Err(ExportError::NotFeatures { network, layer: name });
        };
        let pooling = match activations.pooling(spec.pooling) {
            Ok(pooling) => pooling,
            Err(reason) => return Err(ExportError::Pooling { network, layer: name, reason }),
        };
        let (expected, found) = (head.model.columns(), activations.pooled_shape(pooling).iter().product());
        if expected != found {
            return Err(ExportError::Width { network, layer: name, head: expected, found });
        }
        let network_batch = fixed_batch(graph, std::slice::from_ref(layer), size);
        let batch = match (settings.input, network_batch) {
            (ExportInput::Pixels, Some(batch)) if batch > 1 => {
                return Err(ExportError::FixedBatch { network, batch });
            }
            (ExportInput::Pixels, _) => Some(1),
            (ExportInput::Tensor, None) if settings.is_static => Some(1),
            (ExportInput::Tensor, batch) => batch,
        };
        let mut remarks = Vec::new();
        if spec.precision != Precision::Fp32 {
            remarks.push(format!(
                "the head was fitted to features in {}, and the graph computes in fp32",
                spec.precision
            ));
        }
        Ok(Self {
            element: element_of(graph, layer, size),
            activations,
            pooling,
            batch,
            network_batch,
            remarks,
        })
    }

    /// The number of images, as a dimension.
    fn batch(&self) -> GraphDim {
        self.batch.map_or(GraphDim::Open("images"), GraphDim::Fixed)
    }

    /// The dimensions of the network's input.
    fn dims(&self, layout: TensorLayout, (width, height): (u32, u32)) -> [GraphDim; 4] {
        let [width, height, channels] = [width as usize, height as usize, 3].map(GraphDim::Fixed);
        match layout {
            TensorLayout::Nchw => [self.batch(), channels, height, width],
            TensorLayout::Nhwc => [self.batch(), height, width, channels],
        }
    }
}

/// Adds the head's part, and gives the outputs.
fn answers(
    b: &mut GraphBuilder,
    head: &Head,
    features: &str,
    images: GraphDim,
    threshold: Option<f64>,
    settings: &ExportSettings,
) -> Vec<ValueInfoProto> {
    let (model, arithmetic) = (&head.model, settings.arithmetic());
    let classes = GraphDim::Fixed(model.class_names.len());
    let mut outputs = Vec::new();
    let mut give =
        |b: &mut GraphBuilder, tensor: &str, name: &str, element: DataType, columns: Option<GraphDim>| {
            b.give(tensor, name);
            let dims: Vec<GraphDim> = [images.clone()].into_iter().chain(columns).collect();
            outputs.push(value_info(name, element, &dims));
        };
    b.enter("head");
    let scores = head::scores(b, model, features, arithmetic);
    b.enter("answer");
    let probabilities = answer::probabilities(b, &model.calibration, &scores, arithmetic);
    let class = answer::class(b, &probabilities, &scores, arithmetic);
    let shown = arithmetic.to_float(b, &probabilities);
    give(b, &shown, "probabilities", DataType::Float, Some(classes.clone()));
    if settings.label == ExportLabel::Index || settings.is_static {
        give(b, &class, "label", DataType::Int64, None);
    } else {
        let names = b.texts(&model.class_names);
        let label = b.gather(&names, &class, 0);
        give(b, &label, "label", DataType::String, None);
    }
    let shown = arithmetic.to_float(b, &scores);
    give(b, &shown, "scores", DataType::Float, Some(classes.clone()));
    if let Some(novelty) = &model.novelty {
        b.enter("novelty");
        let distance = answer::distance(b, novelty, features, arithmetic);
        let threshold = arithmetic.number(b, novelty.limits().threshold);
        let unknown = b.op("Greater", &[&distance, &threshold]);
        let shown = arithmetic.to_float(b, &distance);
        give(b, &shown, "distance", DataType::Float, None);
        give(b, &unknown, "unknown", DataType::Bool, None);
    }
    if let Some(threshold) = threshold {
        b.enter("answer");
        let set = answer::prediction_set(b, &probabilities, threshold, arithmetic);
        give(b, &set, "prediction_set", DataType::Bool, Some(classes));
    }
    if settings.with_features {
        give(b, features, "features", DataType::Float, Some(GraphDim::Fixed(model.columns())));
    }
    outputs
}
