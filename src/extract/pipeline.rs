//! The stages and the queues between them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};
use rayon::prelude::*;

use super::assembly::Assembly;
use super::digest::Digest;
use super::seen::Seen;
use super::{ExtractError, Request};
use crate::backbone::Backbone;
use crate::files::Stamp;
use crate::images::{Content, DecodeOptions, Layout, Preprocess, Problem, Sample, load};

/// Batches of codes that may wait for the writer.
const QUEUE: usize = 2;

/// Batches that are prepared at a time. While the last images of one are being decoded, the workers that it leaves
/// idle begin with the other.
const LANES: usize = 2;

/// Bytes that batches in flight take at most, of images of `image` values and codes of `codes` values in all.
pub(super) fn memory(batch_size: usize, image: usize, codes: usize) -> usize {
    // A lane fills one buffer while another waits; one is in the network. Codes wait in the queue, come out of the
    // network, and are written.
    let batch = (2 * LANES + 1) * image + (QUEUE + 2) * codes;
    batch_size * batch * size_of::<f32>()
}

/// What is to be extracted, and how.
pub(super) struct Job<'a> {
    pub request: &'a Request<'a>,
    /// Which of the samples, in this order.
    pub pending: &'a [usize],
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

/// A batch of images, decoded and preprocessed.
struct Prepared {
    /// The images that could be read, one after another; the rest of the buffer is stale.
    images: Vec<f32>,
    /// Index of each such sample.
    rows: Vec<(usize, Seen)>,
    /// Indices of the others.
    problems: Vec<(usize, Problem)>,
}

/// A batch of codes on its way to the file.
pub(super) struct Computed {
    /// Index and SHA-256 of each sample that could be read.
    pub rows: Vec<(usize, String)>,
    /// For each layer, the rows' codes one after another.
    pub layers: Vec<Vec<f32>>,
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
    let size = job.request.settings.batch_size.max(1);
    let strict = job.request.settings.strict;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (computed_in, computed_out) = bounded::<Computed>(QUEUE);
        let mut lanes = Vec::with_capacity(LANES);
        for lane in 0..LANES {
            let (prepared_in, prepared_out) = bounded::<Prepared>(1);
            let (spare_in, spare_out) = bounded::<Vec<f32>>(1);
            let batches = job.pending.chunks(size).skip(lane).step_by(LANES);
            let ended = &ended;
            scope.spawn(move || {
                for batch in batches {
                    if ended.load(Ordering::Relaxed) || job.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let images = spare_out.try_recv().unwrap_or_default();
                    if prepared_in.send(prepare(job, batch, image_len, images)).is_err() {
                        return;
                    }
                }
            });
            lanes.push((prepared_out, spare_in));
        }
        let writing = scope.spawn(move || write_all(assembly, &computed_out));

        let mut done = 0;
        let mut failure = None;
        for (prepared, spare) in lanes.iter().cycle() {
            if job.stop.load(Ordering::Relaxed) {
                break;
            }
            // A lane ends when there is nothing left for it, or it was told to stop.
            let Ok(Prepared { images, rows, mut problems }) = prepared.recv() else { break };
            if strict && let Some((_, Problem { name, reason })) = problems.pop() {
                // The image is not recorded as skipped: once it is mended or removed, the run goes on from here.
                failure = Some(ExtractError::Strict { name, reason });
            }
            let mut layers = vec![Vec::new(); backbone.taps().len()];
            if !rows.is_empty()
                && let Err(error) = backbone
                    .run(&images[..rows.len() * image_len], |layer, codes| layers[layer] = codes.to_vec())
            {
                failure = Some(error.into());
                break;
            }
            // The buffer goes back to be filled again; a lane that has ended does not want it.
            let _ = spare.try_send(images);
            done += rows.len() + problems.len();
            let step = Step {
                done,
                seen: rows.clone(),
                problems: problems.iter().map(|(_, p)| p.clone()).collect(),
            };
            let rows = rows.into_iter().map(|(index, seen)| (index, seen.digest.to_string())).collect();
            if computed_in.send(Computed { rows, layers, problems }).is_err() || failure.is_some() {
                break;
            }
            advance(step);
        }
        // Dropping the lanes' ends stops them at their next batch.
        ended.store(true, Ordering::Relaxed);
        drop(lanes);
        drop(computed_in);
        let written = match writing.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match failure {
            Some(failure) => Err(failure),
            None => written,
        }
    })
}

/// Decodes and preprocesses a batch into `images`.
fn prepare(job: &Job<'_>, batch: &[usize], image_len: usize, mut images: Vec<f32>) -> Prepared {
    let Request { samples, recipe, settings, .. } = job.request;
    images.resize(batch.len() * image_len, 0.0);
    let outcomes: Vec<Result<Seen, Problem>> = job.pool.install(|| {
        images
            .par_chunks_mut(image_len)
            .zip(batch)
            .map(|(slot, &index)| {
                let sample = samples.samples.get(index);
                read_seen(&sample, recipe.preprocess, &settings.decode, recipe.layout, slot)
            })
            .collect()
    });
    let mut rows = Vec::with_capacity(batch.len());
    let mut problems = Vec::new();
    for (slot, (outcome, &index)) in outcomes.into_iter().zip(batch).enumerate() {
        match outcome {
            Ok(seen) => {
                if rows.len() != slot {
                    images.copy_within(slot * image_len..(slot + 1) * image_len, rows.len() * image_len);
                }
                rows.push((index, seen));
            }
            Err(problem) => {
                problems.push((index, problem));
                if settings.strict {
                    break;
                }
            }
        }
    }
    Prepared { images, rows, problems }
}

/// Reads one image into its slot, preprocessed; gives the SHA-256 of its bytes as they are stored.
pub(crate) fn read_image(
    sample: &Sample<'_>,
    preprocess: &Preprocess,
    options: &DecodeOptions,
    layout: Layout,
    slot: &mut [f32],
) -> Result<String, Problem> {
    read_seen(sample, preprocess, options, layout, slot).map(|seen| seen.digest.to_string())
}

/// As [`read_image`], with what the file was.
fn read_seen(
    sample: &Sample<'_>,
    preprocess: &Preprocess,
    options: &DecodeOptions,
    layout: Layout,
    slot: &mut [f32],
) -> Result<Seen, Problem> {
    let problem = |error: &dyn std::error::Error| Problem::from_error(sample.name, error);
    let (content, stamp) = read_unchanged(sample)?;
    match &content {
        Content::Pixels { image, .. } => {
            preprocess.apply(image, layout, slot).map_err(|error| problem(&error))?;
        }
        Content::Encoded(bytes) => {
            load(bytes, options, preprocess, layout, slot).map_err(|error| problem(&error))?;
        }
    }
    Ok(Seen { digest: Digest::of(content.bytes()), stamp })
}

/// Reads a sample, and makes sure that its file is not written to meanwhile.
pub(super) fn read_unchanged(sample: &Sample<'_>) -> Result<(Content, Option<Stamp>), Problem> {
    let problem = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Problem {
            name: sample.name.to_owned(),
            reason: "the file vanished while the run went on".to_owned(),
        },
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
        reason: "the file changed while it was being read; run the same command again once it is whole"
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
        assert_eq!(problem.reason, "the file vanished while the run went on");
    }
}
