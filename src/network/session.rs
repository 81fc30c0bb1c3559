//! A truncated graph, loaded and ready to run: batches of preprocessed images in, features out.

mod run;

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::activations::{Activations, PoolingMismatch};
use super::device::{self, Device, DeviceError, Precision};
use super::execution_plan::threads_or_all;
use super::graph::proto::NodeProto;
use super::graph::proto::tensor_proto::DataType;
use super::graph::{Graph, GraphError, TruncatedGraph};
use super::inference::{Inference, fixed_batch};
use super::layer::Layer;
use super::operator;
use super::pool::Pooling;
use super::runtime::{self, Runtime, RuntimeError};
use super::tap_output::TapOutput;
use super::tiles::TilePooling;
use crate::images::TensorLayout;
use crate::messages::Cause;
use cnncodes_convolution::{LayerOp, SimdIsa};
use run::{SessionInterface, SessionOutput};

/// Why a network could not be run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum BackboneError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("ONNX Runtime {version} cannot load {network} cut at {layers}")]
    Load { network: String, layers: String, version: String, source: Cause },
    #[error(
        "{network} failed while it ran on {images} images at once; if memory was short, give extract a smaller --batch-size"
    )]
    Run { network: String, images: usize, source: Cause },
    #[error("the layer {layer:?} of {network} cannot be features: {reason}")]
    NotFeatures { network: String, layer: String, reason: String },
    #[error(
        "{layer}: the pooling {pooling} does not suit this layer of {network}, whose shape is {shape}: {reason}"
    )]
    Pooling { network: String, layer: String, shape: String, pooling: Pooling, reason: PoolingMismatch },
}

/// How a session is to run.
#[derive(Debug, Clone, Default)]
pub struct SessionSettings {
    /// Threads inside an operation; one for each core if absent.
    pub threads: Option<usize>,
    /// Number of sessions, each with this many threads; one if absent, and always one on devices other than the CPU.
    pub sessions: Option<NonZero<usize>>,
    /// What to run on.
    pub device: Device,
    /// What to compute in.
    pub precision: Precision,
    /// Whether other threads have work for the same cores during a run. If so, threads that wait for one another sleep at once;
    /// otherwise they first keep their core busy for a while.
    pub shared_cores: bool,
    /// Whether to leave every operation to ONNX Runtime. Otherwise [`cnncodes_convolution`] computes those that it is faster at.
    pub runtime_only: bool,
}

/// A tapped layer of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Tap {
    /// The layer.
    pub layer: Layer,
    /// One image's activations, channels first.
    pub activations: Activations,
    /// How they become features; [`Pooling::None`] if they are a vector.
    pub pooling: Pooling,
    /// The shape of one image's features.
    pub shape: Vec<usize>,
}

impl Tap {
    /// The pooling that is done when `pooling` is asked for; see [`Activations::pooling`]. `network` is for the error.
    ///
    /// # Errors
    /// It does not suit the layer.
    pub(crate) fn suited_pooling(&self, pooling: Pooling, network: &str) -> Result<Pooling, BackboneError> {
        self.activations.pooling(pooling).map_err(|reason| BackboneError::Pooling {
            network: network.to_owned(),
            layer: self.layer.name.clone(),
            shape: show_shape(&self.activations.shape),
            pooling,
            reason,
        })
    }

    /// Numbers in one image's features.
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A frozen network, cut at the tapped layers and loaded.
#[derive(Debug)]
pub struct Backbone {
    cut: SessionInterface,
    session: Session,
    /// Further sessions of the same graph.
    more: Vec<Session>,
    runtime_version: String,
    device: Device,
    precision: Precision,
    why_not_cuda: Option<BackboneError>,
    own_layers: usize,
}

/// One of the sessions of a [`Backbone`], to be run by a thread of its own.
#[derive(Debug)]
pub struct Runner<'a> {
    cut: &'a SessionInterface,
    session: &'a mut Session,
}

impl Runner<'_> {
    /// The tapped layers, in the order they were asked for.
    pub fn taps(&self) -> &[Tap] {
        &self.cut.taps
    }

    /// As [`Backbone::run`].
    ///
    /// # Errors
    /// As for [`Backbone::run`].
    ///
    /// # Panics
    /// `images` does not hold a whole number of images.
    pub fn run(&mut self, images: &[f32]) -> Result<Vec<TapOutput>, BackboneError> {
        self.cut.run(self.session, images)
    }
}

/// A cut graph, and its layers of [`cnncodes_convolution`].
struct PreparedGraph {
    truncated: TruncatedGraph,
    ops: Arc<[LayerOp]>,
}

/// What a session is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionPurpose {
    /// Running images: everything that makes runs fast.
    Runs,
    /// Learning shapes: nothing that makes loading slow.
    Shapes,
}

impl Backbone {
    /// Cuts `graph` at `layers` and loads what is left; images will be `width` x `height`. Maps stay whole.
    ///
    /// # Errors
    /// The runtime library is missing, does not take the graph, or a layer's activations are no features: not 32-bit
    /// floats, or without one row an image.
    pub fn open(
        graph: &Graph,
        layers: &[Layer],
        size: (u32, u32),
        settings: &SessionSettings,
    ) -> Result<Backbone, BackboneError> {
        Self::open_pooled(graph, layers, &vec![Pooling::None; layers.len()], size, settings)
    }

    /// As [`open`](Self::open), and pools the map of each layer by the pooling at the same place. Layers that are not maps stay
    /// as they are. A layer that is named several times is computed once and pooled in each way.
    ///
    /// On a CPU or a GPU the cut graph itself does most of the pooling, so that whole maps do not leave the session. With
    /// OpenVINO they do, because it may average in another precision.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    ///
    /// # Panics
    /// There is not one pooling for each layer.
    pub fn open_pooled(
        graph: &Graph,
        layers: &[Layer],
        poolings: &[Pooling],
        size: (u32, u32),
        settings: &SessionSettings,
    ) -> Result<Backbone, BackboneError> {
        assert_eq!(poolings.len(), layers.len(), "every layer has a pooling");
        let whole = whole_outputs(graph, layers, size);
        let mut outputs = whole.clone();
        let mut shapes = None;
        if poolings.iter().any(TilePooling::serve) && settings.device != Device::OpenVino {
            let known = Self::shapes(graph, layers, size)?;
            for (index, output) in outputs.iter_mut().enumerate() {
                if let Some(tiles) = TilePooling::of(poolings[index], &known[index], graph.opset()) {
                    *output = output.clone().reduced(&layers[index], tiles, index);
                }
            }
            shapes = Some(known);
        }
        let mut backbone = Self::load(graph, layers, [whole, outputs], size, settings, SessionPurpose::Runs)?;
        let shapes = match shapes {
            Some(shapes) => shapes,
            None => backbone.learn_shapes()?,
        };
        for ((tap, shape), &pooling) in backbone.cut.taps.iter_mut().zip(shapes).zip(poolings) {
            tap.activations = Activations::of(&tap.layer, shape, size);
            tap.pooling = tap.suited_pooling(pooling, &backbone.cut.network)?;
            tap.shape = tap.activations.pooled_shape(tap.pooling);
        }
        Ok(backbone)
    }

    /// The shape of one image's activations at each of `layers`, channels first.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(super) fn shapes(
        graph: &Graph,
        layers: &[Layer],
        size: (u32, u32),
    ) -> Result<Vec<Vec<usize>>, BackboneError> {
        let settings = SessionSettings { device: Device::Cpu, ..Default::default() };
        let outputs = whole_outputs(graph, layers, size);
        Self::load(graph, layers, [outputs.clone(), outputs], size, &settings, SessionPurpose::Shapes)?
            .learn_shapes()
    }

    /// As [`shapes`](Self::shapes), with `None` for layers that turn out not to be features.
    pub(super) fn shapes_of_all(
        graph: &Graph,
        layers: &[Layer],
        size: (u32, u32),
    ) -> Result<Vec<Option<Vec<usize>>>, BackboneError> {
        let settings = SessionSettings { device: Device::Cpu, ..Default::default() };
        let outputs = whole_outputs(graph, layers, size);
        let outputs = [outputs.clone(), outputs];
        let mut backbone = Self::load(graph, layers, outputs, size, &settings, SessionPurpose::Shapes)?;
        backbone.cut.shapes_of_run(&mut backbone.session)
    }

    /// Loads `graph` cut at `layers`. `outputs` is what leaves the session on a CPU, of which `whole` has whole maps. The shapes
    /// of the taps are not known yet.
    fn load(
        graph: &Graph,
        layers: &[Layer],
        [whole, outputs]: [Vec<SessionOutput>; 2],
        (width, height): (u32, u32),
        settings: &SessionSettings,
        purpose: SessionPurpose,
    ) -> Result<Backbone, BackboneError> {
        let runtime = runtime::load()?;
        let network = graph.path().display().to_string();
        let threads = threads_or_all(settings.threads);
        let outputs_on = |device: Device| -> Vec<SessionOutput> {
            outputs.iter().zip(&whole).map(|(output, whole)| output.on(device, whole)).collect()
        };
        let cut_for = |device: Device| -> Result<PreparedGraph, BackboneError> {
            let outputs = outputs_on(device);
            let taps: Vec<(&str, &[NodeProto])> =
                layers.iter().zip(&outputs).map(|(layer, output)| (&*layer.tensor, &*output.nodes)).collect();
            let own = device == Device::Cpu && purpose == SessionPurpose::Runs && !settings.runtime_only;
            let isa = SimdIsa::detect().filter(|_| own);
            let mut truncated = graph.truncate_and_append(&taps, isa.map(|isa| ((width, height), isa)))?;
            let ops = std::mem::take(&mut truncated.ops).into();
            Ok(PreparedGraph { truncated, ops })
        };
        let load = |device: Device, prepared: &PreparedGraph| -> Result<Session, BackboneError> {
            let provider = device::provider(device, settings.precision, threads, runtime)?;
            let failed = |source: ort::Error| BackboneError::Load {
                network: network.clone(),
                layers: layers.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>().join(", "),
                version: runtime.version.clone(),
                source: source.into(),
            };
            let spin = !settings.shared_cores;
            let mut builder =
                session_builder(runtime, threads, spin, purpose, &prepared.truncated.weights_folder)
                    .map_err(failed)?;
            // On the CPU, planning a run's memory makes nothing faster, and takes a block of memory besides that of the run in
            // which the plan is made.
            builder =
                builder.with_memory_pattern(provider.is_some()).map_err(|error| failed(error.into()))?;
            if prepared.truncated.pads_maxima {
                // ONNX Runtime 1.24 fuses a node that pads with zeros into the maximum, whose own padding never is the maximum.
                builder =
                    builder.with_disabled_optimizers("Pad_Fusion").map_err(|error| failed(error.into()))?;
            }
            if !prepared.ops.is_empty() {
                let domain = operator::domain(prepared.ops.clone(), threads).map_err(failed)?;
                builder = builder.with_operators(domain).map_err(|error| failed(error.into()))?;
            }
            if let Some(provider) = provider {
                provider.register(&mut builder).map_err(|source| DeviceError::Unusable {
                    device,
                    needs: device::needs(device),
                    source: source.into(),
                })?;
            }
            builder.commit_from_memory(&prepared.truncated.bytes).map_err(failed)
        };
        let first = |device: Device| -> Result<(Session, PreparedGraph), BackboneError> {
            // If the device is not there, the error comes before the graph is cut for it.
            device::provider(device, settings.precision, threads, runtime)?;
            let prepared = cut_for(device)?;
            Ok((load(device, &prepared)?, prepared))
        };
        let wanted = settings.sessions.map_or(1, NonZero::get);
        let ((session, prepared), device, note) = match settings.device {
            Device::Auto => match first(Device::Cuda(0)) {
                Ok(session) => (session, Device::Cuda(0), None),
                // A library for the CPU alone is the usual case, and no reason for a message.
                Err(BackboneError::Device(DeviceError::NotBuilt { .. } | DeviceError::Precision { .. })) => {
                    (first(Device::Cpu)?, Device::Cpu, None)
                }
                Err(error) if settings.precision != Precision::Fp32 => return Err(error),
                Err(error) => (first(Device::Cpu)?, Device::Cpu, Some(error)),
            },
            device => (first(device)?, device, None),
        };
        let others = if device == Device::Cpu { wanted - 1 } else { 0 };
        let more = std::thread::scope(|scope| {
            let loading: Vec<_> = (0..others).map(|_| scope.spawn(|| load(device, &prepared))).collect();
            let loaded = loading.into_iter().map(|thread| match thread.join() {
                Ok(session) => session,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            loaded.collect::<Result<Vec<_>, _>>()
        })?;
        graph.check_unchanged()?;
        let input = graph.input();
        let unknown = |layer: &Layer| Tap {
            layer: layer.clone(),
            activations: Activations::of_shape(Vec::new()),
            pooling: Pooling::None,
            shape: Vec::new(),
        };
        let cut = SessionInterface {
            network,
            layout: input.layout,
            height: height as usize,
            width: width as usize,
            fixed_batch: fixed_batch(graph, layers, (width, height)),
            takes_half: input.element == DataType::Float16,
            taps: layers.iter().map(unknown).collect(),
            outputs: outputs_on(device),
        };
        Ok(Backbone {
            cut,
            session,
            more,
            runtime_version: runtime.version.clone(),
            device,
            precision: settings.precision,
            why_not_cuda: note,
            own_layers: prepared.ops.len(),
        })
    }

    /// The tapped layers, in the order they were asked for.
    pub fn taps(&self) -> &[Tap] {
        &self.cut.taps
    }

    /// Where the channels of an input image stand.
    pub fn layout(&self) -> TensorLayout {
        self.cut.layout
    }

    /// Numbers in one input image.
    pub fn image_len(&self) -> usize {
        self.cut.image_len()
    }

    /// The number of images that every run holds, where it is fixed; fewer are padded.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.cut.fixed_batch
    }

    /// From now on every run holds `images` images, as if the graph fixed the batch size. The last bits of a GPU's results
    /// depend on the batch size, not on the other images.
    pub fn fix_batch(&mut self, images: usize) {
        self.cut.fixed_batch.get_or_insert(images);
    }

    /// The loaded sessions, which may run side by side.
    pub fn runners(&mut self) -> impl ExactSizeIterator<Item = Runner<'_>> {
        let cut = &self.cut;
        let mut sessions: Vec<&mut Session> = vec![&mut self.session];
        sessions.extend(&mut self.more);
        sessions.into_iter().map(move |session| Runner { cut, session })
    }

    /// The loaded sessions, each a network of its own.
    #[cfg(feature = "serve")]
    pub(crate) fn into_sessions(self) -> impl Iterator<Item = Backbone> {
        let Self { cut, session, more, runtime_version, device, precision, why_not_cuda, own_layers } = self;
        let mut why_not_cuda = why_not_cuda;
        std::iter::once(session).chain(more).map(move |session| Backbone {
            cut: cut.clone(),
            session,
            more: Vec::new(),
            runtime_version: runtime_version.clone(),
            device,
            precision,
            why_not_cuda: why_not_cuda.take(),
            own_layers,
        })
    }

    /// What the network really runs on; never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.device
    }

    /// The precision that the network computes in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Why [`Device::Auto`] did not take the CUDA provider that the runtime has.
    pub fn why_not_cuda(&self) -> Option<&BackboneError> {
        self.why_not_cuda.as_ref()
    }

    /// Operations that [`cnncodes_convolution`] computes, and not ONNX Runtime.
    pub fn own_layers(&self) -> usize {
        self.own_layers
    }

    /// The version of ONNX Runtime that runs the network.
    pub fn runtime_version(&self) -> &str {
        &self.runtime_version
    }

    /// Runs `images`, n preprocessed images one after another, and gives for each tap n rows of [`Tap::width`] numbers,
    /// channels first.
    ///
    /// # Errors
    /// The runtime reports a failure, such as too little memory.
    ///
    /// # Panics
    /// `images` does not hold a whole number of images.
    pub fn run(&mut self, images: &[f32]) -> Result<Vec<TapOutput>, BackboneError> {
        self.cut.run(&mut self.session, images)
    }

    fn learn_shapes(&mut self) -> Result<Vec<Vec<usize>>, BackboneError> {
        self.cut.learn_shapes(&mut self.session)
    }
}

/// The outputs of a session whose maps stay whole.
fn whole_outputs(graph: &Graph, layers: &[Layer], size: (u32, u32)) -> Vec<SessionOutput> {
    let inference = Inference::of(graph, size);
    let output = |(index, layer): (usize, &Layer)| {
        SessionOutput::whole(layer, inference.element(&layer.tensor), index)
    };
    layers.iter().enumerate().map(output).collect()
}

/// A shape in the usual notation.
fn show_shape(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ")
}

/// A builder with everything but the device; relative paths of external weights start from `weights_folder`.
fn session_builder(
    runtime: &Runtime,
    threads: usize,
    spin: bool,
    purpose: SessionPurpose,
    weights_folder: &Path,
) -> ort::Result<SessionBuilder> {
    let level = match purpose {
        SessionPurpose::Runs => GraphOptimizationLevel::Level3,
        SessionPurpose::Shapes => GraphOptimizationLevel::Disable,
    };
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(level)?
        .with_prepacking(purpose == SessionPurpose::Runs)?
        .with_intra_threads(threads)?
        .with_intra_op_spinning(spin)?
        // Within a run alone: between two runs the cores are for what reads the next image and answers for the last.
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_config_entry(
            "session.model_external_initializers_file_folder_path",
            weights_folder.to_string_lossy(),
        )?;
    Ok(builder)
}
