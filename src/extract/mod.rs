//! From a set of images to a file of codes: the pipeline.
//!
//! Images are decoded and preprocessed by rayon workers straight into their slots of a batch; batches wait in a
//! bounded queue for the network; codes wait in another for the one writer. Memory therefore does not grow with
//! the number of images. Rows keep the order of the samples. An image that cannot be read is recorded and skipped.

mod pipeline;

pub(crate) use pipeline::read_image;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::backbone::{Backbone, BackboneError};
use crate::codes::{CodesError, CodesWriter, Done, Header, Skipped, Start, WriteOptions};
use crate::images::{DecodeOptions, Preprocess, Problem, SampleSet};

/// Why an extraction stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    #[error(transparent)]
    Codes(#[from] CodesError),
    #[error("none of the {count} images in {source_name} could be read; the first: {name}: {reason}")]
    NothingReadable { count: usize, source_name: String, name: String, reason: String },
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
    let total = samples.samples.len();
    let options = WriteOptions { overwrite: true, expected_rows: total };
    let (writer, earlier, notes) = open_writer(samples, header, output, options, settings)?;
    let known = earlier.done + earlier.skipped.len();
    let pending: Vec<usize> = (known..total).collect();
    progress(Progress { done: known, total });

    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(settings.threads.unwrap_or(0))
        .thread_name(|index| format!("decode-{index}"))
        .build()?;
    let job =
        pipeline::Job { samples: &samples.samples, pending: &pending, preprocess, settings, pool: &pool };
    let mut finished =
        pipeline::run(&job, backbone, writer, |done| progress(Progress { done: known + done, total }))?;
    let mut problems = earlier.skipped;
    problems.extend(finished.problems);
    let rows = earlier.done + finished.rows;
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
    finished.writer.append(&[], &samples.problems.iter().map(skipped).collect::<Vec<_>>())?;
    problems.extend(samples.problems.iter().cloned());
    finished.writer.finish()?;
    problems.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Summary {
        path: output.to_path_buf(),
        rows,
        resumed: earlier.done,
        problems,
        elapsed: start.elapsed(),
        notes,
    })
}

/// What an interrupted run had done.
#[derive(Default)]
struct Earlier {
    /// Rows in its file.
    done: usize,
    /// Images that it could not read.
    skipped: Vec<Problem>,
}

/// Opens the output, going on from an interrupted run where what it left is what this run would have begun with.
fn open_writer(
    samples: &SampleSet,
    header: &Header,
    output: &Path,
    options: WriteOptions,
    settings: &ExtractSettings,
) -> Result<(CodesWriter, Earlier, Vec<String>), ExtractError> {
    if settings.fresh {
        return Ok((CodesWriter::create(output, header, options)?, Earlier::default(), Vec::new()));
    }
    let (writer, start) = CodesWriter::open_or_create(output, header, options)?;
    match start {
        Start::New => Ok((writer, Earlier::default(), Vec::new())),
        Start::Anew(why) => {
            Ok((writer, Earlier::default(), vec![format!("started anew instead of resuming: {why}")]))
        }
        Start::Resumed { done, skipped } if is_beginning_of(samples, &done, &skipped) => {
            let skipped =
                skipped.into_iter().map(|Skipped { name, reason }| Problem { name, reason }).collect();
            Ok((writer, Earlier { done: done.len(), skipped }, Vec::new()))
        }
        Start::Resumed { .. } => {
            // The lock goes with the writer.
            drop(writer);
            let note =
                "started anew instead of resuming: images were added, removed or changed since".to_owned();
            Ok((CodesWriter::create(output, header, options)?, Earlier::default(), vec![note]))
        }
    }
}

/// Whether `done` and `skipped` together are the first samples, in order, and the files still what they were.
fn is_beginning_of(samples: &SampleSet, done: &[Done], skipped: &[Skipped]) -> bool {
    let count = done.len() + skipped.len();
    if count > samples.samples.len() {
        return false;
    }
    let mut rows = done.iter();
    let mut missing = skipped.iter();
    let mut next_skipped = missing.next();
    let mut pairs = Vec::with_capacity(done.len());
    for sample in samples.samples.iter().take(count) {
        if next_skipped.is_some_and(|skipped| skipped.name == sample.name) {
            next_skipped = missing.next();
        } else {
            match rows.next() {
                Some(row) if row.name == sample.name => pairs.push((sample, row)),
                _ => return false,
            }
        }
    }
    pairs.par_iter().all(|(sample, row)| {
        sample.read().is_ok_and(|content| pipeline::sha256(content.bytes()) == row.sha256)
    })
}

/// A problem as the file of codes records it.
fn skipped(problem: &Problem) -> Skipped {
    Skipped { name: problem.name.clone(), reason: problem.reason.clone() }
}
