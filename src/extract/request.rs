//! What is to be extracted, how, and where to; and what follows from it for a machine: [`ExtractRequest`].

use std::num::NonZero;
use std::path::Path;

use super::plan::ExtractPlan;
use super::{ExtractError, ImageReader, pipeline};
use crate::dataset::Dataset;
use crate::feature_spec::FeatureSpec;
use crate::features::{FeatureFileHeader, StoredLayer};
use crate::files::safe_name;
use crate::images::{DEFAULT_MAX_PIXELS, Preprocess};
use crate::memory::MemoryLimit;
use crate::messages::with_causes;
use crate::network::execution_plan::threads_or_all;
use crate::network::{
    Backbone, BackboneError, Device, ExecutionPlan, Graph, Layer, Model, ModelFootprint, Pooling, Precision,
    SessionSettings, Tap,
};

/// A layer to extract.
#[derive(Debug, Clone)]
pub struct WantedLayer {
    /// Where the network is tapped.
    pub layer: Layer,
    /// What decides the values of its features.
    pub spec: FeatureSpec,
}

impl WantedLayer {
    /// A layer of `model` whose features are made with `preprocess`, `pooling` and `precision`.
    pub fn new(
        model: &Model,
        layer: Layer,
        pooling: Pooling,
        preprocess: &Preprocess,
        precision: Precision,
    ) -> Self {
        let spec = FeatureSpec {
            preprocess: preprocess.clone(),
            precision,
            ..FeatureSpec::of_layer(model, &layer, pooling)
        };
        Self { layer, spec }
    }
}

/// How a file of features is called unless somebody names it: `MODEL-LAYER.h5`, with what file systems dislike in a layer's name
/// replaced; `LAYER+LAYER` for several, and the pooling where it is another than the layers' own.
pub fn features_file_name<'a>(
    model: &str,
    layers: impl IntoIterator<Item = &'a str>,
    pooling: Option<Pooling>,
) -> String {
    let safe = |layer: &str| safe_name(layer.trim_start_matches('/'));
    let layers = layers.into_iter().map(safe).collect::<Vec<_>>().join("+");
    let pooling = pooling.map_or_else(String::new, |pooling| format!("-{pooling}"));
    format!("{model}-{layers}{pooling}.h5")
}

/// An extraction: of what, how, and where to.
#[derive(Debug, Clone, Copy)]
pub struct ExtractRequest<'a> {
    /// The images.
    pub samples: &'a Dataset,
    /// The network.
    pub graph: &'a Graph,
    /// The layers to tap, the primary one first; never empty, and all of one network, preprocessing and precision.
    pub layers: &'a [WantedLayer],
    /// What the network runs on.
    pub session: &'a SessionSettings,
    /// The file of features; it appears, or is replaced, when it is complete.
    pub output: &'a Path,
    /// How to extract.
    pub settings: &'a ExtractSettings,
}

/// How to extract.
#[derive(Debug, Clone)]
pub struct ExtractSettings {
    /// Images a run of the network; chosen from the machine and the network when absent.
    pub batch_size: Option<usize>,
    /// Images of more pixels are refused.
    pub max_pixels: u64,
    /// Threads that decode and compute; every core when absent.
    pub threads: Option<usize>,
    /// Bytes that sessions and batches may take. They are chosen to, by an estimate; nothing is refused.
    pub memory: u64,
    /// Stop at the first image that cannot be read.
    pub strict: bool,
    /// Compute every image, whatever an earlier run has left.
    pub force: bool,
    /// Read every image's file to see whether it changed, instead of going by its size, times and inode.
    pub rehash: bool,
}

impl Default for ExtractSettings {
    /// Everything is chosen from the machine and the network, and what an earlier run left is reused.
    fn default() -> Self {
        Self {
            batch_size: None,
            max_pixels: DEFAULT_MAX_PIXELS,
            threads: None,
            memory: MemoryLimit::default().bytes() as u64,
            strict: false,
            force: false,
            rehash: false,
        }
    }
}

/// Why `auto` did not take the CUDA provider that is there, where it did not.
pub fn fallback_note(backbone: &Backbone) -> Option<String> {
    backbone.why_not_cuda().map(|error| format!("running on the CPU: {}", with_causes(error)))
}

impl ExtractRequest<'_> {
    /// The spec of the primary layer; the network, the preprocessing and the precision are those of all layers.
    ///
    /// # Panics
    /// No layer is wanted.
    pub fn spec(&self) -> &FeatureSpec {
        &self.layers[0].spec
    }

    /// What reads the images as the network wants them.
    pub(super) fn reader(&self) -> ImageReader {
        ImageReader::new(&self.spec().preprocess, self.graph.input().layout, self.settings.max_pixels)
    }

    fn tapped(&self) -> Vec<Layer> {
        self.layers.iter().map(|wanted| wanted.layer.clone()).collect()
    }

    fn footprint(&self) -> ModelFootprint {
        ModelFootprint::of(self.graph, &self.tapped(), self.spec().preprocess.size())
    }

    /// Loads the network as `arrangement` says, on `device`, while the same threads decode.
    pub(super) fn open(
        &self,
        arrangement: &ExecutionPlan,
        device: Device,
    ) -> Result<Backbone, BackboneError> {
        let session = SessionSettings {
            device,
            threads: Some(arrangement.threads),
            sessions: NonZero::new(arrangement.sessions),
            shared_cores: true,
            ..self.session.clone()
        };
        let poolings: Vec<Pooling> = self.layers.iter().map(|wanted| wanted.spec.pooling).collect();
        Backbone::open_pooled(self.graph, &self.tapped(), &poolings, self.spec().preprocess.size(), &session)
    }

    /// The tapped layers as the file of features describes them.
    pub(super) fn stored_layers(&self, backbone: &Backbone) -> Vec<StoredLayer> {
        let stored = |(wanted, tap): (&WantedLayer, &Tap)| StoredLayer {
            // What is no map is not pooled, whatever was asked for.
            spec: FeatureSpec { pooling: tap.pooling, ..wanted.spec.clone() },
            shape: tap.shape.clone(),
        };
        self.layers.iter().zip(backbone.taps()).map(stored).collect()
    }

    /// What the finished file would say of the layers. Opens the network where `plan` does not know it.
    ///
    /// # Errors
    /// The network cannot be opened.
    pub fn layers_of(&self, plan: &ExtractPlan) -> Result<Vec<StoredLayer>, ExtractError> {
        if let Some(layers) = plan.layers() {
            return Ok(layers);
        }
        self.new_layers()
    }

    /// What a file that is written anew would say of the layers. Opens the network.
    ///
    /// # Errors
    /// The network cannot be opened.
    pub fn new_layers(&self) -> Result<Vec<StoredLayer>, ExtractError> {
        // One session is enough to learn what it gives.
        let arrangement = self.arrangement(0).together();
        Ok(self.stored_layers(&self.open(&arrangement, self.session.device.for_images(0))?))
    }

    /// How the network is to be run on `images` images, unless [`Device::Auto`] takes another device than the processor.
    pub fn arrangement(&self, images: usize) -> ExecutionPlan {
        let settings = self.settings;
        let threads = threads_or_all(settings.threads);
        let mut arrangement = ExecutionPlan::choose(&self.footprint(), images, threads, settings.memory);
        if let Some(batch) = settings.batch_size {
            arrangement.batch = batch.max(1);
        }
        match self.session.device {
            Device::Auto | Device::Cpu => arrangement,
            device => self.rearranged(arrangement, device),
        }
    }

    /// `arrangement`, which is for a processor, on another device.
    pub(super) fn rearranged(&self, arrangement: ExecutionPlan, device: Device) -> ExecutionPlan {
        match device {
            Device::Cuda(_) => arrangement.on_gpu(self.settings.batch_size, &self.footprint()),
            _ => arrangement.together(),
        }
    }

    /// What to run on. [`Device::Auto`] leaves few images to the processor, unless a GPU computed those that there are:
    /// they would all have to be computed anew.
    pub(super) fn device(&self, plan: &ExtractPlan) -> Device {
        let device = self.session.device;
        let cpu = Device::Cpu.to_string();
        match &plan.earlier {
            Some(earlier) if earlier.file.header().device != cpu => device,
            _ => device.for_images(plan.tally().computed),
        }
    }

    /// Bytes that the batches in flight take at most, beside the network, for features of `layers`.
    pub fn memory(&self, arrangement: &ExecutionPlan, layers: &[StoredLayer]) -> usize {
        let features = layers.iter().filter_map(StoredLayer::width).sum();
        pipeline::memory(arrangement, self.spec().preprocess.tensor_len(), features)
    }

    /// Finds out what [`extract`](super::extract) would do. Writes nothing.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn plan(&self) -> Result<ExtractPlan, ExtractError> {
        Ok(ExtractPlan::make(self, &self.pool()?, Vec::new()))
    }

    pub(super) fn pool(&self) -> Result<rayon::ThreadPool, ExtractError> {
        thread_pool(self.settings.threads)
    }

    /// What the file says of where its features come from.
    pub(super) fn header(
        &self,
        layers: Vec<StoredLayer>,
        runtime: String,
        device: String,
    ) -> FeatureFileHeader {
        FeatureFileHeader {
            source: self.samples.source.clone(),
            class_names: self.samples.class_names.clone(),
            layers,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime,
            device,
        }
    }
}

/// Threads that decode: as many as are said, or one for every core.
pub(crate) fn thread_pool(threads: Option<usize>) -> Result<rayon::ThreadPool, ExtractError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .thread_name(|index| format!("decode-{index}"))
        .build()
        .map_err(|error| ExtractError::Threads(error.into()))
}
