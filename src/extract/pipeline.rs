//! The workers, and the queues between them and what collects the features: a file's writer, or rows in memory.
//!
//! Where every thread has a session of its own, a worker decodes a batch and runs it without waiting for anybody. Where
//! all threads share one, two batches are decoded, by all threads, while another is in the network. The main thread puts
//! the batches into their order and hands them to the one collector.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::ExtractError;
use super::batch::{ImageReader, ImageRow, Readers};
use super::file_fingerprint::FileFingerprint;
use super::finite::finite_rows;
use crate::dataset::{InputProblem, ReadAhead, Sample};
use crate::images::PerceptualHash;
use crate::network::{Backbone, ExecutionPlan, Runner, Tap, TapOutput};

/// Batches of features that may wait for the writer.
const QUEUE: usize = 2;

/// Workers of a single session: one waits for the network, and while the last images of another's batch are decoded, the
/// threads that it leaves idle begin with the third's.
const WORKERS_OF_ONE: usize = 3;

/// Batches that may be ahead of the one that is to be written next, for each worker: many, so that nobody waits while
/// another decodes a photo that is much larger than the rest.
const AHEAD: std::ops::RangeInclusive<usize> = 2..=32;

/// Bytes of features from which on fewer are ahead.
const AHEAD_BYTES: usize = 16 << 20;

fn workers(sessions: usize) -> usize {
    if sessions > 1 { sessions } else { WORKERS_OF_ONE }
}

/// Batches that may be ahead, each with `features` numbers.
fn ahead(workers: usize, features: usize) -> usize {
    let batches = AHEAD_BYTES / (features * size_of::<f32>()).max(1);
    batches.clamp(workers * AHEAD.start(), workers * AHEAD.end())
}

/// Bytes that batches in flight take at most, of images of `image` values and features of `features` values in all.
pub(super) fn memory(arrangement: &ExecutionPlan, image: usize, features: usize) -> usize {
    let (workers, features) = (workers(arrangement.sessions), arrangement.batch * features);
    // Features are computed or wait for their turn, wait in the queue, and are written.
    let values = workers * arrangement.batch * image + (ahead(workers, features) + QUEUE + 1) * features;
    values * size_of::<f32>()
}

/// What is to be extracted, and how.
pub(super) struct ExtractionJob<'a> {
    /// The sample at an index.
    pub sample: &'a (dyn Fn(usize) -> Sample<'a> + Sync),
    /// What reads a sample as the network wants it.
    pub reader: &'a ImageReader,
    /// Whether the first image that cannot be read ends the run.
    pub strict: bool,
    /// Which of the samples, in this order.
    pub pending: &'a [usize],
    /// Images a run.
    pub batch: usize,
    pub pool: &'a rayon::ThreadPool,
    /// Set to end the run after the batches in flight.
    pub stop: &'a AtomicBool,
}

/// What a batch brought.
pub(super) struct BatchReport {
    /// Samples of the job that are done.
    pub done: usize,
    /// What was seen of the files that could be read.
    pub seen: Vec<(usize, FileFingerprint)>,
    pub problems: Vec<InputProblem>,
}

/// What became of a batch.
enum BatchOutcome {
    Done(ExtractedBatch),
    /// The run was stopped before it began.
    Stopped,
    Failed(ExtractError),
    Panicked(Box<dyn std::any::Any + Send>),
}

/// A batch that has been through the network.
struct ExtractedBatch {
    /// Index of each sample that could be read.
    rows: Vec<(usize, FileFingerprint, PerceptualHash)>,
    /// Indices of the others.
    problems: Vec<(usize, InputProblem)>,
    /// For each layer, the rows' features one after another.
    layers: Vec<TapOutput>,
}

/// Where the features go, batch after batch in the order of the samples.
pub(super) trait Collector: Send {
    /// Takes a batch.
    fn append(&mut self, batch: Computed) -> Result<(), ExtractError>;
}

/// A batch of features on its way to its [`Collector`].
pub(super) struct Computed {
    /// Index, SHA-256 and perceptual hash of each sample that could be read.
    pub rows: Vec<(usize, String, PerceptualHash)>,
    /// For each layer, the rows' features one after another.
    pub layers: Vec<TapOutput>,
    /// Index of each sample that could not be read.
    pub problems: Vec<(usize, InputProblem)>,
}

/// Runs every pending sample of `job` through `backbone` into `collector`, which comes back. A run that is told to stop ends after
/// the batches in flight, without an error.
pub(super) fn run<C: Collector>(
    job: &ExtractionJob<'_>,
    backbone: &mut Backbone,
    collector: C,
    advance: &mut dyn FnMut(BatchReport),
) -> Result<C, ExtractError> {
    let features: usize = backbone.taps().iter().map(Tap::width).sum();
    let sessions: Vec<Mutex<Runner<'_>>> = backbone.runners().map(Mutex::new).collect();
    let workers = workers(sessions.len());
    let sample = |position: usize| (job.sample)(job.pending[position]);
    let ahead_of_all = ReadAhead::new(&sample, job.pending.len(), job.stop);
    std::thread::scope(|scope| {
        let (computed_in, computed_out) = bounded::<Computed>(QUEUE);
        let (batches_in, batches_out) = unbounded::<(usize, &[usize])>();
        let (outcomes_in, outcomes_out) = unbounded::<(usize, BatchOutcome)>();
        for worker in 0..workers {
            let (batches, outcomes) = (batches_out.clone(), outcomes_in.clone());
            let session = &sessions[worker % sessions.len()];
            let (has_own, images_ahead) = (sessions.len() > 1, &ahead_of_all);
            scope.spawn(move || {
                let mut images = Vec::new();
                for (number, batch) in batches {
                    let first = number * job.batch.max(1);
                    let work = || through(job, (images_ahead, first), batch, &mut images, session, has_own);
                    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(BatchOutcome::Panicked);
                    if outcomes.send((number, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop((batches_out, outcomes_in));
        let collecting = scope.spawn(move || collect(collector, &computed_out));

        let mut rest = job.pending.chunks(job.batch.max(1)).enumerate();
        let mut begin = |count: usize| {
            for batch in rest.by_ref().take(count) {
                // The workers are there as long as there are batches to begin.
                let _ = batches_in.send(batch);
            }
        };
        begin(ahead(workers, job.batch.max(1) * features));
        let mut waiting = BTreeMap::new();
        let (mut turn, mut done) = (0, 0);
        let mut failure = None;
        let mut panic = None;
        let count = job.pending.len().div_ceil(job.batch.max(1));
        while turn < count {
            let outcome = loop {
                if let Some(outcome) = waiting.remove(&turn) {
                    break outcome;
                }
                match outcomes_out.recv() {
                    Ok((number, outcome)) => drop(waiting.insert(number, outcome)),
                    Err(_) => break BatchOutcome::Stopped,
                }
            };
            turn += 1;
            let ExtractedBatch { rows, mut problems, layers } = match outcome {
                BatchOutcome::Done(batch) => batch,
                BatchOutcome::Stopped => break,
                BatchOutcome::Failed(error) => {
                    failure = Some(error);
                    break;
                }
                BatchOutcome::Panicked(payload) => {
                    panic = Some(payload);
                    break;
                }
            };
            if job.strict
                && let Some((_, InputProblem { name, reason })) = problems.pop()
            {
                // The image is not recorded as skipped: once it is mended or removed, the run goes on from here.
                failure = Some(ExtractError::Strict { name, reason });
            }
            done += rows.len() + problems.len();
            let step = BatchReport {
                done,
                seen: rows.iter().map(|&(index, seen, _)| (index, seen)).collect(),
                problems: problems.iter().map(|(_, p)| p.clone()).collect(),
            };
            let named =
                |(index, seen, hash): (usize, FileFingerprint, _)| (index, seen.digest.to_string(), hash);
            let rows = rows.into_iter().map(named).collect();
            if computed_in.send(Computed { rows, layers, problems }).is_err() || failure.is_some() {
                break;
            }
            advance(step);
            begin(1);
        }
        // Without more batches the workers end, and without more features the collector does.
        drop((batches_in, outcomes_out, computed_in));
        let collected = match collecting.join() {
            Ok(collected) => collected,
            Err(panic) => resume_unwind(panic),
        };
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        match failure {
            Some(failure) => Err(failure),
            None => collected,
        }
    })
}

/// Decodes and preprocesses a batch, which begins at a position of what is read ahead, into `images`, and runs it; in a worker that has a session of its own by this thread
/// alone, else by all threads.
fn through(
    job: &ExtractionJob<'_>,
    (ahead, first): (&ReadAhead<'_, '_>, usize),
    batch: &[usize],
    images: &mut Vec<f32>,
    session: &Mutex<Runner<'_>>,
    has_own: bool,
) -> BatchOutcome {
    if job.stop.load(Ordering::Relaxed) {
        return BatchOutcome::Stopped;
    }
    let positions = first..first + batch.len();
    let read = if has_own {
        job.reader.read_ahead(ahead, positions, images, Readers::One, job.strict)
    } else {
        job.pool.install(|| job.reader.read_ahead(ahead, positions, images, Readers::Pool, job.strict))
    };
    if read.is_over {
        return match ahead.outage() {
            Some(outage) => BatchOutcome::Failed(ExtractError::Unreachable(outage)),
            None => BatchOutcome::Stopped,
        };
    }
    let named = |row: ImageRow| (batch[row.position], row.fingerprint, row.hash.unwrap_or_default());
    let mut rows: Vec<_> = read.rows.into_iter().map(named).collect();
    let mut problems: Vec<(usize, InputProblem)> =
        read.problems.into_iter().map(|(position, problem)| (batch[position], problem)).collect();
    if rows.is_empty() {
        return BatchOutcome::Done(ExtractedBatch { rows, problems, layers: Vec::new() });
    }
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    match session.run(images) {
        Ok(layers) => {
            let (layers, bad) = finite_rows(session.taps(), layers, rows.len());
            for (&row, reason) in &bad {
                let index = rows[row].0;
                let name = (job.sample)(index).name.to_owned();
                problems.push((index, InputProblem { name, reason: reason.clone() }));
            }
            let mut row = 0..;
            rows.retain(|_| row.next().is_some_and(|row| !bad.contains_key(&row)));
            problems.sort_by_key(|(index, _)| *index);
            BatchOutcome::Done(ExtractedBatch { rows, problems, layers })
        }
        Err(error) => BatchOutcome::Failed(error.into()),
    }
}

/// Collects what comes, in the order in which it comes.
fn collect<C: Collector>(mut collector: C, queue: &Receiver<Computed>) -> Result<C, ExtractError> {
    for batch in queue {
        collector.append(batch)?;
    }
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_images_and_features_in_flight() {
        let arrangement = ExecutionPlan { sessions: 2, threads: 1, batch: 2 };
        // Two batches of images; 64 batches of features ahead, two queued, one being written.
        assert_eq!(memory(&arrangement, 1000, 10), 4 * (2 * 2 * 1000 + (64 + 2 + 1) * 2 * 10));
        // Of features of 8 MB a batch no more than four.
        assert_eq!(memory(&arrangement, 0, 1_000_000), 4 * (4 + 2 + 1) * 2_000_000);
    }
}
