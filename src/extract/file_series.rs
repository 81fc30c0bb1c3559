//! A network that is opened once to write several features files one after another, as the parts of a plan are.

use std::sync::atomic::AtomicBool;

use super::ordered_writer::{OrderedWriter, WrittenRows};
use super::plan::ExtractPlan;
use super::{
    ExtractError, ExtractEvent, ExtractProgress, ExtractRequest, ExtractSettings, fallback_note, pipeline,
    runtime_of,
};
use crate::dataset::InputProblem;
use crate::features::{FeatureWriter, PlanPart, StoredLayer, WriteOptions};
use crate::network::{Backbone, Device, ExecutionPlan};

/// An open network and the threads that decode for it.
pub struct FileSeries {
    pool: rayon::ThreadPool,
    backbone: Backbone,
    arrangement: ExecutionPlan,
    layers: Vec<StoredLayer>,
}

/// What became of the images of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesFile {
    /// Images that have a row.
    pub rows: usize,
    /// Those that could not be read.
    pub problems: Vec<InputProblem>,
}

impl FileSeries {
    /// Opens the network of `request` for `images` images in all. The samples and the output of the request do not matter.
    ///
    /// # Errors
    /// The network fails, or threads cannot be started.
    pub fn open(request: &ExtractRequest<'_>, images: usize) -> Result<Self, ExtractError> {
        let pool = request.pool()?;
        let mut arrangement = request.arrangement(images);
        let mut backbone = request.open(&arrangement, request.session.device.for_images(images))?;
        if backbone.device() != Device::Cpu {
            arrangement = request.rearranged(arrangement, backbone.device());
            if let Device::Cuda(_) = backbone.device() {
                backbone.fix_batch(arrangement.batch);
            }
        }
        let layers = request.stored_layers(&backbone);
        Ok(Self { pool, backbone, arrangement, layers })
    }

    /// How the network is run.
    pub fn arrangement(&self) -> &ExecutionPlan {
        &self.arrangement
    }

    /// The layers as the files describe them.
    pub fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }

    /// Why the network runs on the CPU although there is a CUDA provider.
    pub fn note(&self) -> Option<String> {
        fallback_note(&self.backbone)
    }

    /// Writes the features of the request's samples to its output, anew. All images may be unreadable. `part` is what the file is
    /// of a plan. `stop` ends it after the batches in flight.
    ///
    /// # Errors
    /// The network fails, the file cannot be written, or it was told to stop.
    pub fn write(
        &mut self,
        request: &ExtractRequest<'_>,
        part: Option<&PlanPart>,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(ExtractEvent<'_>),
    ) -> Result<SeriesFile, ExtractError> {
        let settings = ExtractSettings { force: true, ..request.settings.clone() };
        let request = &ExtractRequest { settings: &settings, ..*request };
        let total = request.samples.samples.len();
        let (runtime, device) = (runtime_of(&self.backbone), self.backbone.device().to_string());
        let header = request.header(self.layers.clone(), runtime, device);
        let options = WriteOptions { overwrite: true, expected_rows: total };
        let writer = FeatureWriter::create(request.output, &header, options)?;
        let everything = ExtractPlan::make(request, &self.pool, Vec::new());
        let widths = self.layers.iter().map(|layer| layer.width().unwrap_or(0)).collect();
        let assembly = OrderedWriter::new(writer, everything, request.samples, widths, 0);
        let pending: Vec<usize> = (0..total).collect();
        let job = pipeline::ExtractionJob {
            sample: &|index| request.samples.samples.get(index),
            reader: &request.reader().with_hashes(),
            strict: settings.strict,
            pending: &pending,
            batch: self.arrangement.batch,
            pool: &self.pool,
            stop,
        };
        let mut advance = |step: pipeline::BatchReport| {
            step.problems.iter().for_each(|problem| tell(ExtractEvent::Problem(problem)));
            tell(ExtractEvent::Progress(ExtractProgress { done: step.done, total }));
        };
        let assembly = pipeline::run(&job, &mut self.backbone, assembly, &mut advance)?;
        if assembly.done() < total {
            return Err(ExtractError::Interrupted { done: assembly.done(), total });
        }
        let (mut writer, WrittenRows { computed, problems, .. }) = assembly.into_parts();
        if let Some(part) = part {
            writer.mark_as_part(part);
        }
        writer.finish()?;
        Ok(SeriesFile { rows: computed, problems })
    }
}
