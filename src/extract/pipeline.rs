//! The workers, and the queues between them and the writer.
//!
//! Where every thread has a session of its own, a worker decodes a batch and runs it without waiting for anybody. Where
//! all threads share one, two batches are decoded, by all threads, while another is in the network. The main thread puts
//! the batches into their order and hands them to the one writer.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, bounded, unbounded};
use rayon::prelude::*;

use super::assembly::Assembly;
use super::digest::Digest;
use super::seen::Seen;
use super::{ExtractError, Request};
use crate::backbone::{Arrangement, Backbone, Codes, Runner, Tap};
use crate::files::Stamp;
use crate::images::{
    Content, DecodeOptions, Layout, PerceptualHash, Preprocess, Problem, Sample, decode_hash, load,
    load_and_hash, perceptual_hash,
};

/// Batches of codes that may wait for the writer.
const QUEUE: usize = 2;

/// Workers of a single session: one waits for the network, and while the last images of another's batch are decoded, the
/// threads that it leaves idle begin with the third's.
const WORKERS_OF_ONE: usize = 3;

/// Batches that may be ahead of the one that is to be written next, for each worker: many, so that nobody waits while
/// another decodes a photo that is much larger than the rest.
const AHEAD: std::ops::RangeInclusive<usize> = 2..=32;

/// Bytes of codes from which on fewer are ahead.
const AHEAD_BYTES: usize = 16 << 20;

fn workers(sessions: usize) -> usize {
    if sessions > 1 { sessions } else { WORKERS_OF_ONE }
}

/// Batches that may be ahead, each with `codes` numbers.
fn ahead(workers: usize, codes: usize) -> usize {
    let batches = AHEAD_BYTES / (codes * size_of::<f32>()).max(1);
    batches.clamp(workers * AHEAD.start(), workers * AHEAD.end())
}

/// Bytes that batches in flight take at most, of images of `image` values and codes of `codes` values in all.
pub(super) fn memory(arrangement: &Arrangement, image: usize, codes: usize) -> usize {
    let (workers, codes) = (workers(arrangement.sessions), arrangement.batch * codes);
    // Codes are computed or wait for their turn, wait in the queue, and are written.
    let values = workers * arrangement.batch * image + (ahead(workers, codes) + QUEUE + 1) * codes;
    values * size_of::<f32>()
}

/// What is to be extracted, and how.
pub(super) struct Job<'a> {
    pub request: &'a Request<'a>,
    /// Which of the samples, in this order.
    pub pending: &'a [usize],
    /// Images a run.
    pub batch: usize,
    pub pool: &'a rayon::ThreadPool,
    /// Set to end the run after the batches in flight.
    pub stop: &'a AtomicBool,
}

/// What a batch brought.
pub(super) struct Step {
    /// Samples of the job that are done.
    pub done: usize,
    /// What was seen of the files that could be read.
    pub seen: Vec<(usize, Seen)>,
    pub problems: Vec<Problem>,
}

/// What became of a batch.
enum Outcome {
    Done(Batch),
    /// The run was stopped before it began.
    Stopped,
    Failed(ExtractError),
    Panicked(Box<dyn std::any::Any + Send>),
}

/// A batch that has been through the network.
struct Batch {
    /// Index of each sample that could be read.
    rows: Vec<(usize, Seen, PerceptualHash)>,
    /// Indices of the others.
    problems: Vec<(usize, Problem)>,
    /// For each layer, the rows' codes one after another.
    layers: Vec<Codes>,
}

/// A batch of codes on its way to the file.
pub(super) struct Computed {
    /// Index, SHA-256 and perceptual hash of each sample that could be read.
    pub rows: Vec<(usize, String, PerceptualHash)>,
    /// For each layer, the rows' codes one after another.
    pub layers: Vec<Codes>,
    /// Index of each sample that could not be read.
    pub problems: Vec<(usize, Problem)>,
}

/// Runs every pending sample of `job` through `backbone` into `assembly`.
pub(super) fn run<'a>(
    job: &Job<'_>,
    backbone: &mut Backbone,
    assembly: Assembly<'a>,
    advance: &mut dyn FnMut(Step),
) -> Result<Assembly<'a>, ExtractError> {
    let image_len = backbone.image_len();
    let codes: usize = backbone.taps().iter().map(Tap::width).sum();
    let sessions: Vec<Mutex<Runner<'_>>> = backbone.runners().map(Mutex::new).collect();
    let workers = workers(sessions.len());
    let strict = job.request.settings.strict;
    std::thread::scope(|scope| {
        let (computed_in, computed_out) = bounded::<Computed>(QUEUE);
        let (batches_in, batches_out) = unbounded::<(usize, &[usize])>();
        let (outcomes_in, outcomes_out) = unbounded::<(usize, Outcome)>();
        for worker in 0..workers {
            let (batches, outcomes) = (batches_out.clone(), outcomes_in.clone());
            let session = &sessions[worker % sessions.len()];
            let has_own = sessions.len() > 1;
            scope.spawn(move || {
                let mut images = Vec::new();
                for (number, batch) in batches {
                    let work = || through(job, batch, image_len, &mut images, session, has_own);
                    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(Outcome::Panicked);
                    if outcomes.send((number, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop((batches_out, outcomes_in));
        let writing = scope.spawn(move || write_all(assembly, &computed_out));

        let mut rest = job.pending.chunks(job.batch.max(1)).enumerate();
        let mut begin = |count: usize| {
            for batch in rest.by_ref().take(count) {
                // The workers are there as long as there are batches to begin.
                let _ = batches_in.send(batch);
            }
        };
        begin(ahead(workers, job.batch.max(1) * codes));
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
                    Err(_) => break Outcome::Stopped,
                }
            };
            turn += 1;
            let Batch { rows, mut problems, layers } = match outcome {
                Outcome::Done(batch) => batch,
                Outcome::Stopped => break,
                Outcome::Failed(error) => {
                    failure = Some(error);
                    break;
                }
                Outcome::Panicked(payload) => {
                    panic = Some(payload);
                    break;
                }
            };
            if strict && let Some((_, Problem { name, reason })) = problems.pop() {
                // The image is not recorded as skipped: once it is mended or removed, the run goes on from here.
                failure = Some(ExtractError::Strict { name, reason });
            }
            done += rows.len() + problems.len();
            let step = Step {
                done,
                seen: rows.iter().map(|&(index, seen, _)| (index, seen)).collect(),
                problems: problems.iter().map(|(_, p)| p.clone()).collect(),
            };
            let named = |(index, seen, hash): (usize, Seen, _)| (index, seen.digest.to_string(), hash);
            let rows = rows.into_iter().map(named).collect();
            if computed_in.send(Computed { rows, layers, problems }).is_err() || failure.is_some() {
                break;
            }
            advance(step);
            begin(1);
        }
        // Without more batches the workers end, and without more codes the writer does.
        drop((batches_in, outcomes_out, computed_in));
        let written = match writing.join() {
            Ok(written) => written,
            Err(panic) => resume_unwind(panic),
        };
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        match failure {
            Some(failure) => Err(failure),
            None => written,
        }
    })
}

/// Decodes and preprocesses a batch into `images`, and runs it; in a worker that has a session of its own by this thread
/// alone, else by all threads.
fn through(
    job: &Job<'_>,
    batch: &[usize],
    image_len: usize,
    images: &mut Vec<f32>,
    session: &Mutex<Runner<'_>>,
    has_own: bool,
) -> Outcome {
    if job.stop.load(Ordering::Relaxed) {
        return Outcome::Stopped;
    }
    let Request { samples, recipe, settings, .. } = job.request;
    images.resize(batch.len() * image_len, 0.0);
    let read = |(slot, &index): (&mut [f32], &usize)| {
        let sample = samples.samples.get(index);
        read_and_hash(&sample, recipe.preprocess, &settings.decode, recipe.layout, slot)
    };
    let outcomes: Vec<Result<(Seen, PerceptualHash), Problem>> = if has_own {
        images.chunks_mut(image_len).zip(batch).map(read).collect()
    } else {
        job.pool.install(|| images.par_chunks_mut(image_len).zip(batch).map(read).collect())
    };
    let mut rows = Vec::with_capacity(batch.len());
    let mut problems = Vec::new();
    for (slot, (outcome, &index)) in outcomes.into_iter().zip(batch).enumerate() {
        match outcome {
            Ok((seen, hash)) => {
                if rows.len() != slot {
                    images.copy_within(slot * image_len..(slot + 1) * image_len, rows.len() * image_len);
                }
                rows.push((index, seen, hash));
            }
            Err(problem) => {
                problems.push((index, problem));
                if settings.strict {
                    break;
                }
            }
        }
    }
    if rows.is_empty() {
        return Outcome::Done(Batch { rows, problems, layers: Vec::new() });
    }
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    match session.run(&images[..rows.len() * image_len]) {
        Ok(layers) => Outcome::Done(Batch { rows, problems, layers }),
        Err(error) => Outcome::Failed(error.into()),
    }
}

/// Reads one image into its slot, preprocessed; gives the SHA-256 of its bytes as they are stored.
pub(crate) fn read_image(
    sample: &Sample<'_>,
    preprocess: &Preprocess,
    options: &DecodeOptions,
    layout: Layout,
    slot: &mut [f32],
) -> Result<String, Problem> {
    let problem = |error: &dyn std::error::Error| Problem::from_error(sample.name, error);
    let (content, _) = read_unchanged(sample)?;
    match &content {
        Content::Pixels { image, .. } => {
            preprocess.apply(image, layout, slot).map_err(|error| problem(&error))?;
        }
        Content::Encoded(bytes) => {
            load(bytes, options, preprocess, layout, slot).map_err(|error| problem(&error))?;
        }
    }
    Ok(Digest::of(content.bytes()).to_string())
}

/// As [`read_image`], with what the file was, and what the image looks like.
fn read_and_hash(
    sample: &Sample<'_>,
    preprocess: &Preprocess,
    options: &DecodeOptions,
    layout: Layout,
    slot: &mut [f32],
) -> Result<(Seen, PerceptualHash), Problem> {
    let problem = |error: &dyn std::error::Error| Problem::from_error(sample.name, error);
    let (content, stamp) = read_unchanged(sample)?;
    let hash = match &content {
        Content::Pixels { image, .. } => {
            preprocess.apply(image, layout, slot).map_err(|error| problem(&error))?;
            perceptual_hash(image)
        }
        Content::Encoded(bytes) => {
            load_and_hash(bytes, options, preprocess, layout, slot).map_err(|error| problem(&error))?
        }
    };
    Ok((Seen { digest: Digest::of(content.bytes()), stamp }, hash))
}

/// The perceptual hash of an image; `None` where it cannot be read.
pub(super) fn hash_image(sample: &Sample<'_>, options: &DecodeOptions) -> Option<PerceptualHash> {
    match read_unchanged(sample).ok()?.0 {
        Content::Pixels { image, .. } => Some(perceptual_hash(&image)),
        Content::Encoded(bytes) => decode_hash(&bytes, options).ok(),
    }
}

/// Reads a sample, and makes sure that its file is not written to meanwhile.
pub(super) fn read_unchanged(sample: &Sample<'_>) -> Result<(Content, Option<Stamp>), Problem> {
    let problem = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            Problem { name: sample.name.to_owned(), reason: "the file vanished during the run".to_owned() }
        }
        _ => Problem::from_error(sample.name, &error),
    };
    let before = sample.stamp().map_err(problem)?;
    let content = sample.read().map_err(problem)?;
    let after = sample.stamp().map_err(problem)?;
    if before == after && after.is_none_or(|stamp| stamp.len == content.bytes().len() as u64) {
        return Ok((content, after));
    }
    Err(Problem {
        name: sample.name.to_owned(),
        reason: "the file changed while it was being read; run the same command again when it is complete"
            .to_owned(),
    })
}

/// Writes what comes, in the order in which it comes.
fn write_all<'a>(
    mut assembly: Assembly<'a>,
    queue: &Receiver<Computed>,
) -> Result<Assembly<'a>, ExtractError> {
    for batch in queue {
        assembly.append(batch)?;
    }
    Ok(assembly)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::images::SampleSet;

    #[test]
    fn memory_is_that_of_images_and_codes_in_flight() {
        let arrangement = Arrangement { sessions: 2, threads: 1, batch: 2 };
        // Two batches of images; 64 batches of codes ahead, two queued, one being written.
        assert_eq!(memory(&arrangement, 1000, 10), 4 * (2 * 2 * 1000 + (64 + 2 + 1) * 2 * 10));
        // Of codes of 8 MB a batch no more than four.
        assert_eq!(memory(&arrangement, 0, 1_000_000), 4 * (4 + 2 + 1) * 2_000_000);
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_read_is_reported_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        let whole = vec![7; 1 << 20];
        fs::write(&path, &whole).unwrap();
        let set = SampleSet::from_folder(folder.path()).unwrap();
        let sample = set.samples.get(0);
        assert_eq!(read_unchanged(&sample).unwrap().0, Content::Encoded(whole));
        let enough = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let file = fs::File::options().write(true).open(&path).unwrap();
                for len in [1_u64 << 10, 1 << 20].into_iter().cycle() {
                    if enough.load(Ordering::Relaxed) {
                        return;
                    }
                    file.set_len(len).unwrap();
                }
            });
            let problem = (0..100_000).find_map(|_| read_unchanged(&sample).err());
            enough.store(true, Ordering::Relaxed);
            assert!(problem.unwrap().reason.starts_with("the file changed while it was being read"));
        });
    }

    #[test]
    fn a_file_that_vanishes_is_reported_as_such() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), "x").unwrap();
        let set = SampleSet::from_folder(folder.path()).unwrap();
        fs::remove_file(folder.path().join("a.jpg")).unwrap();
        let problem = read_unchanged(&set.samples.get(0)).unwrap_err();
        assert_eq!(problem.reason, "the file vanished during the run");
    }
}
