//! From a set of images to a file of codes: what has to be computed, and the pipeline that computes it.
//!
//! [`Plan`] finds out which images' codes the finished file already holds. The others are decoded and preprocessed
//! straight into their slots of a batch, and run through the network in one of its sessions; codes wait in a bounded queue
//! for the one writer, which puts known rows between them. Memory therefore does not grow with the size of the images or
//! of the codes, only by about 100 bytes an image. Rows keep the order of the samples. An image that cannot
//! be read is recorded and skipped.

mod batch;
mod digest;
mod extractor;
mod file_fingerprint;
mod finite;
mod ordered_writer;
mod pipeline;
mod plan;

pub(crate) use batch::ImageReader;
#[cfg(feature = "cli")]
pub(crate) use batch::Readers;
pub use extractor::{Extractor, ExtractorSettings, FeatureBatch};
pub use plan::{Plan, Tally};

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use rayon::prelude::*;

use crate::dataset::{Dataset, Problem};
use crate::dataset::{PassedOverFiles, PassedOverReason};
use crate::feature_spec::NetworkError;
use crate::features::{
    Done, FeatureFileError, FeatureWriter, Header, LayerSpec, PassedOver, Skipped, Start, WriteOptions,
};
use crate::images::{Layout, Preprocess};
use crate::network::execution_plan::threads_or_all;
use crate::network::{
    Backbone, BackboneError, Device, ExecutionPlan, Layer, ModelFootprint, Pooling, SessionSettings,
};
use digest::Digest;
use file_fingerprint::FileFingerprint;
use ordered_writer::{OrderedWriter, Written};
use plan::RowAction;

/// Why an extraction stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the network does not give {width} features of {layer} for each image; extract them again")]
    Width { layer: String, width: usize },
    #[error(transparent)]
    Codes(#[from] FeatureFileError),
    #[error("none of the {count} images in {source_name} could be read; the first: {name}: {reason}")]
    NothingReadable { count: usize, source_name: String, name: String, reason: String },
    #[error("{name}: {reason} (--strict stops at the first image that cannot be read)")]
    Strict { name: String, reason: String },
    #[error("cannot reuse features that were computed earlier; --force computes all of them again")]
    Reuse {
        #[source]
        source: FeatureFileError,
    },
    #[error("the preprocessing cannot be written as JSON")]
    Preprocess(#[from] serde_json::Error),
    #[error("cannot start the threads that decode images")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error("interrupted; {done} of {total} images are done, and the same command resumes")]
    Interrupted { done: usize, total: usize },
}

/// What makes codes of images. Together with an image's bytes it decides every value.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    pub model_name: &'a str,
    pub model_sha256: &'a str,
    /// The layers to tap, the primary one first.
    pub layers: &'a [Layer],
    /// How the maps of each layer become codes, in the order of the layers.
    pub poolings: &'a [Pooling],
    pub preprocess: &'a Preprocess,
    /// Where the network wants an image's channels.
    pub layout: Layout,
    /// What the network runs on.
    pub session: &'a SessionSettings,
    /// What the network wants of the machine.
    pub demand: ModelFootprint,
}

impl Recipe<'_> {
    /// The preprocessing as the file of codes records it.
    fn preprocess_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self.preprocess)
    }
}

/// An extraction: of what, how, and where to.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub samples: &'a Dataset,
    pub recipe: Recipe<'a>,
    /// The file of codes; it appears, or is replaced, when it is complete.
    pub output: &'a Path,
    pub settings: &'a ExtractSettings,
}

impl Request<'_> {
    /// What reads the images as the network wants them.
    fn reader(&self) -> ImageReader {
        ImageReader::new(self.recipe.preprocess, self.recipe.layout, self.settings.max_pixels)
    }
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

/// How far an extraction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Images dealt with, readable or not.
    pub done: usize,
    pub total: usize,
}

/// What an extraction tells while it runs.
#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// What is going to be done.
    Planned(&'a Plan),
    /// How the network is run, if there is anything to compute.
    Arranged(&'a ExecutionPlan),
    Progress(Progress),
    /// An input could not be read.
    Problem(&'a Problem),
    /// Something the user ought to know, such as why an interrupted run could not be continued.
    Note(&'a str),
}

/// What an extraction did.
#[derive(Debug)]
pub struct Summary {
    /// The file that was written.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: usize,
    /// What was planned before anything was written.
    pub tally: Tally,
    /// Whether the file that was there is what would have been written, and was left alone.
    pub up_to_date: bool,
    /// Rows that an interrupted run had left.
    pub resumed: usize,
    /// Rows that were copied from the file that was there.
    pub kept: usize,
    /// Rows that were computed now.
    pub computed: usize,
    /// Inputs that could not be read.
    pub problems: Vec<Problem>,
    /// What the file says of itself.
    pub header: Header,
    pub elapsed: Duration,
}

impl Request<'_> {
    /// How the network is to be run on `images` images, unless [`Device::Auto`] takes another device than the processor.
    pub fn arrangement(&self, images: usize) -> ExecutionPlan {
        let (recipe, settings) = (&self.recipe, self.settings);
        let threads = threads_or_all(settings.threads);
        let mut arrangement = ExecutionPlan::choose(&recipe.demand, images, threads, settings.memory);
        if let Some(batch) = settings.batch_size {
            arrangement.batch = batch.max(1);
        }
        match recipe.session.device {
            Device::Auto | Device::Cpu => arrangement,
            device => self.rearranged(arrangement, device),
        }
    }

    /// `arrangement`, which is for a processor, on another device.
    fn rearranged(&self, arrangement: ExecutionPlan, device: Device) -> ExecutionPlan {
        match device {
            Device::Cuda(_) => arrangement.on_gpu(self.settings.batch_size, &self.recipe.demand),
            _ => arrangement.together(),
        }
    }

    /// What to run on. [`Device::Auto`] leaves few images to the processor, unless a GPU computed those that there are:
    /// they would all have to be computed anew.
    fn device(&self, plan: &Plan) -> Device {
        let device = self.recipe.session.device;
        let cpu = Device::Cpu.to_string();
        match &plan.earlier {
            Some(earlier) if earlier.file.header().device != cpu => device,
            _ => device.for_images(plan.tally().computed),
        }
    }

    /// Bytes that the batches in flight take at most, beside the network, for codes of `layers`.
    pub fn memory(&self, arrangement: &ExecutionPlan, layers: &[LayerSpec]) -> usize {
        let codes = layers.iter().filter_map(LayerSpec::width).sum();
        pipeline::memory(arrangement, self.recipe.preprocess.tensor_len(), codes)
    }

    /// Finds out what [`extract`] would do. Writes nothing.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn plan(&self) -> Result<Plan, ExtractError> {
        Ok(Plan::make(self, &self.pool()?, Vec::new()))
    }

    fn pool(&self) -> Result<rayon::ThreadPool, ExtractError> {
        Ok(rayon::ThreadPoolBuilder::new()
            .num_threads(self.settings.threads.unwrap_or(0))
            .thread_name(|index| format!("decode-{index}"))
            .build()?)
    }

    /// What the file says of where its codes come from.
    fn header(
        &self,
        layers: Vec<LayerSpec>,
        runtime: String,
        device: String,
    ) -> Result<Header, ExtractError> {
        let recipe = &self.recipe;
        Ok(Header {
            model_name: recipe.model_name.to_owned(),
            model_sha256: recipe.model_sha256.to_owned(),
            preprocess_json: recipe.preprocess_json()?,
            source: self.samples.source.clone(),
            class_names: self.samples.class_names.clone(),
            layers,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime,
            device,
            precision: recipe.session.precision.to_string(),
        })
    }
}

/// Extracts the codes of the images into the output, which appears only when complete. Codes that the output holds
/// already are taken over; a run that was interrupted is continued from what it left beside the output. `open` loads
/// the network, pooling set, in the given arrangement and on the given device, and is called only if there is something to
/// compute. `stop` ends the run after the batches in flight.
///
/// # Errors
/// The network fails, the file cannot be written, no image at all could be read, or the run was told to stop. What
/// was computed stays in the partial file, and the same call goes on from there.
pub fn extract(
    request: &Request<'_>,
    open: &mut dyn FnMut(&ExecutionPlan, Device) -> Result<Backbone, BackboneError>,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, ExtractError> {
    let start = Instant::now();
    let mut told = HashSet::new();
    let mut tell_once = |event: Event<'_>| match event {
        Event::Problem(problem) if !told.insert(problem.name.clone()) => {}
        event => tell(event),
    };
    let (summary, seen) = run(request, open, stop, &mut tell_once, Vec::new())?;
    if summary.resumed == 0 {
        return Ok(summary);
    }
    // What the interrupted run had left was taken as it was. Whether its failures are failures still, and its labels
    // what they were, is found out as for any finished file.
    let mut tell_rest = |event: Event<'_>| match event {
        Event::Planned(_) => {}
        event => tell_once(event),
    };
    let (again, _) = run(request, open, stop, &mut tell_rest, seen)?;
    Ok(Summary {
        tally: summary.tally,
        up_to_date: false,
        resumed: summary.resumed,
        kept: summary.kept,
        computed: summary.computed + again.computed,
        elapsed: start.elapsed(),
        ..again
    })
}

/// Extracts once, as [`extract`] does, where `known` is what is known of each sample's file, if anything is; gives that as
/// it is known afterwards.
fn run(
    request: &Request<'_>,
    open: &mut dyn FnMut(&ExecutionPlan, Device) -> Result<Backbone, BackboneError>,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Event<'_>),
    known: Vec<Option<FileFingerprint>>,
) -> Result<(Summary, Vec<Option<FileFingerprint>>), ExtractError> {
    let (start, started_at) = (Instant::now(), SystemTime::now());
    let Request { samples, output, .. } = *request;
    let total = samples.samples.len();
    let pool = request.pool()?;
    let mut plan = Plan::make(request, &pool, known);
    let nothing_known = plan.layers().is_none();
    let mut arrangement = request.arrangement(plan.tally().computed);
    let mut backbone = match nothing_known || plan.tally().computed > 0 {
        true => Some(open(&arrangement, request.device(&plan))?),
        false => None,
    };
    if let Some(backbone) = backbone.as_mut().filter(|backbone| backbone.device() != Device::Cpu) {
        arrangement = request.rearranged(arrangement, backbone.device());
        if let Device::Cuda(_) = backbone.device() {
            // An interrupted run has fewer images left than it began with, and is to go on with the same codes.
            backbone.fix_batch(arrangement.batch);
        }
    }
    if let Some(why) = backbone.as_ref().and_then(|backbone| plan.computed_otherwise(backbone)) {
        plan.forget_earlier(request, why);
    }
    let header = match (&backbone, &plan.earlier, plan.layers()) {
        (_, Some(earlier), Some(layers)) => {
            let then = earlier.file.header();
            request.header(layers, then.runtime.clone(), then.device.clone())?
        }
        (Some(backbone), ..) => {
            request.header(layer_specs(backbone), runtime_of(backbone), backbone.device().to_string())?
        }
        // A plan without an earlier file has opened the network.
        (None, ..) => return Err(FeatureFileError::Failed { path: output.to_owned() }.into()),
    };
    plan.notes.iter().for_each(|note| tell(Event::Note(note)));
    tell(Event::Planned(&plan));
    if let Some(Problem { name, reason }) = plan.problems.values().next().filter(|_| request.settings.strict)
    {
        return Err(ExtractError::Strict { name: name.clone(), reason: reason.clone() });
    }
    plan.problems.values().for_each(|problem| tell(Event::Problem(problem)));
    let tally = plan.tally();
    if plan.is_up_to_date(request, &header) {
        let mut problems: Vec<Problem> = plan.problems.values().chain(&samples.problems).cloned().collect();
        samples.problems.iter().for_each(|problem| tell(Event::Problem(problem)));
        file_fingerprint::write(output, samples, &plan.seen, started_at);
        sort(&mut problems);
        let summary = Summary {
            path: output.to_path_buf(),
            rows: tally.kept,
            tally,
            up_to_date: true,
            resumed: 0,
            kept: tally.kept,
            computed: 0,
            problems,
            header,
            elapsed: start.elapsed(),
        };
        return Ok((summary, plan.seen));
    }

    let options = WriteOptions { overwrite: true, expected_rows: total };
    let (writer, resumed) = open_writer(request, &header, options, &mut plan, &pool, tell)?;
    let known = resumed.rows + resumed.skipped.len();
    let pending: Vec<usize> =
        (known..total).filter(|&index| plan.fates[index] == RowAction::Compute).collect();
    let mut seen = std::mem::take(&mut plan.seen);
    let mut problems = resumed.skipped;
    let widths = header.layers.iter().map(|layer| layer.width().unwrap_or(0)).collect();
    let mut assembly = OrderedWriter::new(writer, plan, samples, widths, known);
    if let Some(backbone) = backbone.as_mut().filter(|_| !pending.is_empty()) {
        tell(Event::Arranged(&arrangement));
        let job = pipeline::Job { request, pending: &pending, batch: arrangement.batch, pool: &pool, stop };
        let before = total - pending.len();
        tell(Event::Progress(Progress { done: before, total }));
        let mut advance = |step: pipeline::Step| {
            step.seen.into_iter().for_each(|(index, was)| seen[index] = Some(was));
            step.problems.iter().for_each(|problem| tell(Event::Problem(problem)));
            tell(Event::Progress(Progress { done: before + step.done, total }));
        };
        assembly = pipeline::run(&job, backbone, assembly, &mut advance)?;
    }
    assembly.advance(total)?;
    if assembly.done() < total {
        return Err(ExtractError::Interrupted { done: assembly.done(), total });
    }
    let (mut writer, Written { kept, computed, problems: unreadable }) = assembly.into_parts();
    problems.extend(unreadable);
    let rows = resumed.rows + kept + computed;
    if rows == 0 {
        let (name, reason) = problems
            .first()
            .map_or_else(Default::default, |first| (first.name.clone(), first.reason.clone()));
        return Err(ExtractError::NothingReadable {
            count: total,
            source_name: samples.source.clone(),
            name,
            reason,
        });
    }
    // What the walk could not read comes after what the pipeline could not.
    writer.append(&[], &samples.problems.iter().map(skipped).collect::<Vec<_>>())?;
    samples.problems.iter().for_each(|problem| tell(Event::Problem(problem)));
    problems.extend(samples.problems.iter().cloned());
    writer.pass_over(&passed_over(samples))?;
    writer.finish()?;
    file_fingerprint::write(output, samples, &seen, started_at);
    sort(&mut problems);
    let summary = Summary {
        path: output.to_path_buf(),
        rows,
        tally,
        up_to_date: false,
        resumed: resumed.rows,
        kept,
        computed,
        problems,
        header,
        elapsed: start.elapsed(),
    };
    Ok((summary, seen))
}

/// What an interrupted run had done.
#[derive(Default)]
struct Resumed {
    /// Rows in its file.
    rows: usize,
    /// Images that it could not read.
    skipped: Vec<Problem>,
}

/// Opens the output, going on from an interrupted run where what it left is what this run would have begun with.
fn open_writer(
    request: &Request<'_>,
    header: &Header,
    options: WriteOptions,
    plan: &mut Plan,
    pool: &rayon::ThreadPool,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<(FeatureWriter, Resumed), ExtractError> {
    let output = request.output;
    if request.settings.force {
        return Ok((FeatureWriter::create(output, header, options)?, Resumed::default()));
    }
    let (writer, start) = FeatureWriter::open_or_create(output, header, options)?;
    match start {
        Start::New => Ok((writer, Resumed::default())),
        Start::Anew(why) => {
            tell(Event::Note(&format!("started from the beginning instead of resuming: {why}")));
            Ok((writer, Resumed::default()))
        }
        Start::Resumed { done, skipped } => {
            if done.is_empty() && !skipped.is_empty() {
                // Nothing is lost, and what could not be read may be whole by now. The lock goes with the writer.
                drop(writer);
                return Ok((FeatureWriter::create(output, header, options)?, Resumed::default()));
            }
            if pool.install(|| is_beginning_of(request.samples, &done, &skipped, &mut plan.seen)) {
                let skipped =
                    skipped.into_iter().map(|Skipped { name, reason }| Problem { name, reason }).collect();
                return Ok((writer, Resumed { rows: done.len(), skipped }));
            }
            // The lock goes with the writer.
            drop(writer);
            tell(Event::Note(
                "started from the beginning instead of resuming: images were added, removed or changed \
                 since then",
            ));
            Ok((FeatureWriter::create(output, header, options)?, Resumed::default()))
        }
    }
}

/// Whether `done` and `skipped` together are the first samples, in order, and the files still what they were.
fn is_beginning_of(
    samples: &Dataset,
    done: &[Done],
    skipped: &[Skipped],
    seen: &mut [Option<FileFingerprint>],
) -> bool {
    let count = done.len() + skipped.len();
    if count > samples.samples.len() {
        return false;
    }
    let mut rows = done.iter();
    let mut missing = skipped.iter();
    let mut next_skipped = missing.next();
    let mut expected = vec![None; count];
    for (sample, expected) in samples.samples.iter().zip(&mut expected) {
        if next_skipped.is_some_and(|skipped| skipped.name == sample.name) {
            next_skipped = missing.next();
        } else {
            match rows.next() {
                Some(row) if row.name == sample.name => *expected = Digest::parse(&row.sha256),
                _ => return false,
            }
        }
    }
    seen[..count].par_iter_mut().zip(expected).enumerate().all(|(index, (seen, expected))| {
        let Some(expected) = expected else { return true };
        if seen.is_none() {
            let read = batch::read_unchanged(&samples.samples.get(index)).ok();
            *seen =
                read.map(|(content, stamp)| FileFingerprint { digest: Digest::of(content.bytes()), stamp });
        }
        seen.is_some_and(|seen| seen.digest == expected)
    })
}

/// A problem as the file of codes records it.
fn skipped(problem: &Problem) -> Skipped {
    Skipped { name: problem.name.clone(), reason: problem.reason.clone() }
}

/// What the listing passed over as the file of codes records it.
fn passed_over(samples: &Dataset) -> Vec<PassedOver> {
    let one = |(reason, group): (PassedOverReason, &PassedOverFiles)| PassedOver {
        reason: reason.as_str().to_owned(),
        files: group.files as u64,
        example: group.examples.first().cloned().unwrap_or_default(),
    };
    samples.passed_over.by_reason().map(one).collect()
}

fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| a.name.cmp(&b.name));
}

/// A label as the file of codes has it.
fn stored_label(label: Option<usize>) -> i64 {
    label.map_or(-1, |label| label as i64)
}

/// The inference library as the file of codes names it.
fn runtime_of(backbone: &Backbone) -> String {
    format!("ONNX Runtime {}", backbone.runtime_version())
}

/// The tapped layers as the file of codes describes them.
pub fn layer_specs(backbone: &Backbone) -> Vec<LayerSpec> {
    let spec = |tap: &crate::network::Tap| LayerSpec {
        name: tap.layer.name.clone(),
        tensor: tap.layer.tensor.clone(),
        shape: tap.shape.clone(),
        pooling: tap.pooling.to_string(),
    };
    backbone.taps().iter().map(spec).collect()
}
