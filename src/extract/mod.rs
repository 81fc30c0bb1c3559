//! From a set of images to a features file: what has to be computed, and the pipeline that computes it.
//!
//! [`ExtractPlan`] finds out which images' features the finished file already holds. The others are decoded and preprocessed
//! straight into their slots of a batch, and run through the network in one of its sessions; features wait in a bounded queue
//! for the one writer, which puts known rows between them. Memory therefore does not grow with the size of the images or
//! of the features, only by about 100 bytes an image. Rows keep the order of the samples. An image that cannot
//! be read is recorded and skipped.

mod batch;
mod extractor;
mod file_fingerprint;
mod file_series;
mod finite;
mod in_memory;
mod ordered_writer;
mod pipeline;
mod plan;
mod request;
mod resume;

#[cfg(feature = "serve")]
pub(crate) use batch::ImageBatch;
pub(crate) use batch::{ImageReader, Readers};
pub(crate) use extractor::batches;
pub use extractor::{Extractor, ExtractorSettings, FeatureBatch};
pub use file_series::{FileSeries, SeriesFile};
pub use plan::{ExtractPlan, PlanTally};
pub(crate) use request::thread_pool;
pub use request::{ExtractRequest, ExtractSettings, WantedLayer, fallback_note, features_file_name};

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use crate::dataset::{Dataset, InputProblem, Outage, PassedOverFiles, PassedOverReason};
use crate::feature_spec::NetworkError;
use crate::features::{FeatureFileError, FeatureFileHeader, PassedOverGroup, SkippedImage, WriteOptions};
use crate::messages::Cause;
use crate::network::{Backbone, BackboneError, Device, ExecutionPlan};
use file_fingerprint::FileFingerprint;
use ordered_writer::{OrderedWriter, WrittenRows};
use plan::RowAction;
use resume::open_writer;

/// Why an extraction stopped.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum ExtractError {
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the network does not give {width} features of {layer} for each image; extract them again")]
    Width { layer: String, width: usize },
    #[error(transparent)]
    Features(#[from] FeatureFileError),
    #[error("none of the {count} images in {source_name} could be read; the first: {name}: {reason}")]
    NothingReadable { count: usize, source_name: String, name: String, reason: String },
    #[error("{name}: {reason} (--strict stops at the first image that cannot be read)")]
    Strict { name: String, reason: String },
    #[error("cannot reuse features that were computed earlier; --force computes all of them again")]
    Reuse {
        #[source]
        source: FeatureFileError,
    },
    #[error("cannot start the threads that decode images")]
    Threads(#[source] Cause),
    #[error(
        "the run stops here; what is done is kept, and the same command resumes when the images can be read"
    )]
    Unreachable(#[source] Outage),
    #[error("the extraction was stopped")]
    Stopped,
    #[error("interrupted; {done} of {total} images are done, and the same command resumes")]
    Interrupted { done: usize, total: usize },
}

/// How far an extraction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtractProgress {
    /// Images dealt with, readable or not.
    pub done: usize,
    /// All images.
    pub total: usize,
}

/// What an extraction tells while it runs.
#[derive(Clone, Copy)]
pub enum ExtractEvent<'a> {
    /// What is going to be done.
    Planned(&'a ExtractPlan),
    /// How the network is run, if there is anything to compute.
    Arranged(&'a ExecutionPlan),
    /// More images are dealt with.
    Progress(ExtractProgress),
    /// An input could not be read.
    Problem(&'a InputProblem),
    /// Something the user ought to know, such as why an interrupted run could not be continued.
    Note(&'a str),
}

/// What an extraction did.
#[derive(Debug)]
pub struct ExtractSummary {
    /// The file that was written.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: usize,
    /// What was planned before anything was written.
    pub tally: PlanTally,
    /// Whether the file that was there is what would have been written, and was left alone.
    pub up_to_date: bool,
    /// Rows that an interrupted run had left.
    pub resumed: usize,
    /// Rows that were copied from the file that was there.
    pub kept: usize,
    /// Rows that were computed now.
    pub computed: usize,
    /// Inputs that could not be read.
    pub problems: Vec<InputProblem>,
    /// What the file says of itself.
    pub header: FeatureFileHeader,
    /// How long it took.
    pub elapsed: Duration,
}

/// Extracts the features of the images into the output, which appears only when complete. Features that the output holds
/// already are taken over; a run that was interrupted is continued from what it left beside the output. The network is
/// loaded only if there is something to compute. `stop` ends the run after the batches in flight.
///
/// # Errors
/// The network fails, the file cannot be written, no image at all could be read, or the run was told to stop. What
/// was computed stays in the partial file, and the same call goes on from there.
pub fn extract(
    request: &ExtractRequest<'_>,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(ExtractEvent<'_>),
) -> Result<ExtractSummary, ExtractError> {
    let start = Instant::now();
    let mut told = HashSet::new();
    let mut tell_once = |event: ExtractEvent<'_>| match event {
        ExtractEvent::Problem(problem) if !told.insert(problem.name.clone()) => {}
        event => tell(event),
    };
    let (summary, seen) = run(request, stop, &mut tell_once, Vec::new())?;
    if summary.resumed == 0 {
        return Ok(summary);
    }
    // What the interrupted run had left was taken as it was. Whether its failures are failures still, and its labels
    // what they were, is found out as for any finished file.
    let mut tell_rest = |event: ExtractEvent<'_>| match event {
        ExtractEvent::Planned(_) => {}
        event => tell_once(event),
    };
    let (again, _) = run(request, stop, &mut tell_rest, seen)?;
    Ok(ExtractSummary {
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
    request: &ExtractRequest<'_>,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(ExtractEvent<'_>),
    known: Vec<Option<FileFingerprint>>,
) -> Result<(ExtractSummary, Vec<Option<FileFingerprint>>), ExtractError> {
    let (start, started_at) = (Instant::now(), SystemTime::now());
    let ExtractRequest { samples, output, .. } = *request;
    let total = samples.samples.len();
    let pool = request.pool()?;
    let mut plan = ExtractPlan::make(request, &pool, known);
    let nothing_known = plan.layers().is_none();
    let mut arrangement = request.arrangement(plan.tally().computed);
    let mut backbone = match nothing_known || plan.tally().computed > 0 {
        true => Some(request.open(&arrangement, request.device(&plan))?),
        false => None,
    };
    if let Some(note) = backbone.as_ref().and_then(fallback_note) {
        tell(ExtractEvent::Note(&note));
    }
    if let Some(backbone) = backbone.as_mut().filter(|backbone| backbone.device() != Device::Cpu) {
        arrangement = request.rearranged(arrangement, backbone.device());
        if let Device::Cuda(_) = backbone.device() {
            // An interrupted run has fewer images left than it began with, and is to go on with the same features.
            backbone.fix_batch(arrangement.batch);
        }
    }
    if let Some(why) = backbone.as_ref().and_then(|backbone| plan.computed_otherwise(backbone)) {
        plan.forget_earlier(request, why);
    }
    let header = match (&backbone, &plan.earlier, plan.layers()) {
        (_, Some(earlier), Some(layers)) => {
            let then = earlier.file.header();
            request.header(layers, then.runtime.clone(), then.device.clone())
        }
        (Some(backbone), ..) => {
            if let Some(note) = fallback_note(backbone) {
                tell(ExtractEvent::Note(&note));
            }
            let layers = request.stored_layers(backbone);
            request.header(layers, runtime_of(backbone), backbone.device().to_string())
        }
        // A plan without an earlier file has opened the network.
        (None, ..) => return Err(FeatureFileError::Failed { path: output.to_owned() }.into()),
    };
    plan.notes.iter().for_each(|note| tell(ExtractEvent::Note(note)));
    tell(ExtractEvent::Planned(&plan));
    if let Some(InputProblem { name, reason }) =
        plan.problems.values().next().filter(|_| request.settings.strict)
    {
        return Err(ExtractError::Strict { name: name.clone(), reason: reason.clone() });
    }
    plan.problems.values().for_each(|problem| tell(ExtractEvent::Problem(problem)));
    let tally = plan.tally();
    if plan.is_up_to_date(request, &header) {
        let mut problems: Vec<InputProblem> =
            plan.problems.values().chain(&samples.problems).cloned().collect();
        samples.problems.iter().for_each(|problem| tell(ExtractEvent::Problem(problem)));
        file_fingerprint::write(output, samples, &plan.seen, started_at);
        sort(&mut problems);
        let summary = ExtractSummary {
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
        tell(ExtractEvent::Arranged(&arrangement));
        let job = pipeline::ExtractionJob {
            sample: &|index| samples.samples.get(index),
            reader: &request.reader().with_hashes(),
            strict: request.settings.strict,
            pending: &pending,
            batch: arrangement.batch,
            pool: &pool,
            stop,
        };
        let before = total - pending.len();
        tell(ExtractEvent::Progress(ExtractProgress { done: before, total }));
        let mut advance = |step: pipeline::BatchReport| {
            step.seen.into_iter().for_each(|(index, was)| seen[index] = Some(was));
            step.problems.iter().for_each(|problem| tell(ExtractEvent::Problem(problem)));
            tell(ExtractEvent::Progress(ExtractProgress { done: before + step.done, total }));
        };
        assembly = pipeline::run(&job, backbone, assembly, &mut advance)?;
    }
    assembly.advance(total)?;
    if assembly.done() < total {
        return Err(ExtractError::Interrupted { done: assembly.done(), total });
    }
    let (mut writer, WrittenRows { kept, computed, problems: unreadable }) = assembly.into_parts();
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
    samples.problems.iter().for_each(|problem| tell(ExtractEvent::Problem(problem)));
    problems.extend(samples.problems.iter().cloned());
    writer.pass_over(&passed_over(samples))?;
    writer.finish()?;
    file_fingerprint::write(output, samples, &seen, started_at);
    sort(&mut problems);
    let summary = ExtractSummary {
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

/// A problem as the features file records it.
fn skipped(problem: &InputProblem) -> SkippedImage {
    SkippedImage { name: problem.name.clone(), reason: problem.reason.clone() }
}

/// What the listing passed over as the features file records it.
pub(crate) fn passed_over(samples: &Dataset) -> Vec<PassedOverGroup> {
    let one = |(reason, group): (PassedOverReason, &PassedOverFiles)| PassedOverGroup {
        reason: reason.as_str().to_owned(),
        files: group.files as u64,
        example: group.examples.first().cloned().unwrap_or_default(),
    };
    samples.passed_over.by_reason().map(one).collect()
}

fn sort(problems: &mut [InputProblem]) {
    problems.sort_by(|a, b| a.name.cmp(&b.name));
}

/// A label as the features file has it.
fn stored_label(label: Option<usize>) -> i64 {
    label.map_or(-1, |label| label as i64)
}

/// The inference library as the features file names it.
fn runtime_of(backbone: &Backbone) -> String {
    format!("ONNX Runtime {}", backbone.runtime_version())
}
