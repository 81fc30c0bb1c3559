//! From a set of images to a file of codes: the pipeline.
//!
//! Images are decoded and preprocessed by rayon workers straight into their slots of a batch; batches wait in a
//! bounded queue for the network; codes wait in another for the one writer. Memory therefore does not grow with
//! the number of images. Rows keep the order of the samples. An image that cannot be read is recorded and skipped.

mod pipeline;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::backbone::{Backbone, BackboneError};
use crate::codes::{CodesError, CodesWriter, Header};
use crate::images::{DecodeOptions, Preprocess, Problem, SampleSet};

/// Why an extraction stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    #[error(transparent)]
    Codes(#[from] CodesError),
    #[error("none of the {count} images in {source_name} could be read; the first: {first}: {reason}")]
    NothingReadable { count: usize, source_name: String, first: String, reason: String },
    #[error("{name}: {reason} (--strict stops at the first image that cannot be read)")]
    Strict { name: String, reason: String },
    #[error("cannot start the threads that decode images")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// How to extract.
#[derive(Debug, Clone)]
pub struct ExtractSettings {
    /// Images a forward run.
    pub batch_size: usize,
    pub decode: DecodeOptions,
    /// Threads that decode; every core when absent.
    pub threads: Option<usize>,
    /// Stop at the first image that cannot be read.
    pub strict: bool,
    /// Start anew even where an interrupted run left something to go on from.
    pub fresh: bool,
}

/// How far an extraction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Images dealt with, readable or not.
    pub done: usize,
    pub total: usize,
}

/// What an extraction did.
#[derive(Debug)]
pub struct Summary {
    /// The file that was written.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: usize,
    /// Of these, rows that an interrupted run had left.
    pub resumed: usize,
    /// Inputs that could not be read.
    pub problems: Vec<Problem>,
    pub elapsed: Duration,
    /// Something the user ought to know, such as why an interrupted run could not be continued.
    pub notes: Vec<String>,
}

/// Extracts the codes of `samples` into `output`, which appears only when complete. A run that was interrupted is
/// continued from what it left beside `output`.
///
/// # Errors
/// The network fails, the file cannot be written, or no image at all could be read. What was computed stays in
/// the partial file, and the same call goes on from there.
pub fn extract(
    samples: &SampleSet,
    backbone: &mut Backbone,
    preprocess: &Preprocess,
    header: &Header,
    output: &Path,
    settings: &ExtractSettings,
    mut progress: impl FnMut(Progress),
) -> Result<Summary, ExtractError> {
    let start = Instant::now();
    let mut notes = Vec::new();
    let (writer, resumed) = if settings.fresh {
        (CodesWriter::create(output, header)?, None)
    } else {
        let (writer, outcome) = CodesWriter::open_or_create(output, header)?;
        (writer, outcome.into_resumed(&mut notes))
    };
    let resumed = resumed.unwrap_or_default();
    let known: HashSet<&str> = resumed
        .rows
        .iter()
        .map(|(name, _)| name.as_str())
        .chain(resumed.errors.iter().map(|(name, _)| name.as_str()))
        .collect();
    let pending: Vec<_> =
        samples.samples.iter().filter(|sample| !known.contains(sample.name.as_str())).collect();
    let total = samples.samples.len();
    progress(Progress { done: total - pending.len(), total });

    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(settings.threads.unwrap_or(0))
        .thread_name(|index| format!("decode-{index}"))
        .build()?;
    let mut problems: Vec<Problem> =
        resumed.errors.iter().map(|(name, reason)| Problem { name: name.clone(), reason: reason.clone() }).collect();
    let done_before = total - pending.len();
    let finished = pipeline::run(
        &pipeline::Job { samples: &pending, preprocess, settings, pool: &pool },
        backbone,
        writer,
        |done| progress(Progress { done: done_before + done, total }),
    )?;
    problems.extend(finished.problems);
    let rows = resumed.rows.len() + finished.rows;
    if rows == 0 {
        let first = problems.first();
        return Err(ExtractError::NothingReadable {
            count: total,
            source_name: samples.source.clone(),
            first: first.map(|problem| problem.name.clone()).unwrap_or_default(),
            reason: first.map(|problem| problem.reason.clone()).unwrap_or_default(),
        });
    }
    let mut writer = finished.writer;
    // What the walk itself could not read comes after what the pipeline could not.
    let unseen: Vec<&Problem> =
        samples.problems.iter().filter(|problem| !known.contains(problem.name.as_str())).collect();
    let recorded: Vec<(&str, &str)> =
        unseen.iter().map(|problem| (problem.name.as_str(), problem.reason.as_str())).collect();
    writer.append(&[], &recorded)?;
    problems.extend(unseen.into_iter().cloned());
    let path = writer.finish()?;
    problems.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Summary { path, rows, resumed: resumed.rows.len(), problems, elapsed: start.elapsed(), notes })
}
