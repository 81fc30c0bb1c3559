//! The stages and the queues between them.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{ExtractError, ExtractSettings, skipped};
use crate::backbone::Backbone;
use crate::codes::{CodesWriter, Row, Skipped};
use crate::images::{Content, DecodeOptions, Layout, Preprocess, Problem, Sample, Samples, decode};

/// Batches that may wait between two stages.
const QUEUE: usize = 2;

/// What is to be extracted, and how.
pub(super) struct Job<'a> {
    pub samples: &'a Samples,
    /// Which of the samples, in this order.
    pub pending: &'a [usize],
    pub preprocess: &'a Preprocess,
    pub settings: &'a ExtractSettings,
    pub pool: &'a rayon::ThreadPool,
}

/// What came of it.
pub(super) struct Finished {
    pub writer: CodesWriter,
    pub rows: usize,
    pub problems: Vec<Problem>,
}

/// A batch of images, decoded and preprocessed.
struct Prepared<'a> {
    /// The images that could be read, one after another; the rest of the buffer is stale.
    images: Vec<f32>,
    rows: Vec<(Sample<'a>, String)>,
    problems: Vec<Problem>,
}

/// A batch of codes on its way to the file.
struct Computed<'a> {
    rows: Vec<(Sample<'a>, String)>,
    /// For each layer, the rows' codes one after another.
    layers: Vec<Vec<f32>>,
    problems: Vec<Problem>,
}

/// Runs every sample of `job` through `backbone` into `writer`.
pub(super) fn run(
    job: &Job<'_>,
    backbone: &mut Backbone,
    writer: CodesWriter,
    mut progress: impl FnMut(usize),
) -> Result<Finished, ExtractError> {
    let image_len = backbone.image_len();
    let layout = backbone.layout();
    let widths: Vec<usize> = backbone.taps().iter().map(|tap| tap.width()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (prepared_in, prepared_out) = bounded::<Prepared<'_>>(QUEUE);
        let (computed_in, computed_out) = bounded::<Computed<'_>>(QUEUE);
        let (spare_in, spare_out) = bounded::<Vec<f32>>(QUEUE + 2);
        let stop = &stop;
        scope.spawn(move || prepare_all(job, image_len, layout, stop, &prepared_in, &spare_out));
        let writing = scope.spawn(move || write_all(writer, &widths, &computed_out));

        let mut done = 0;
        let mut failure = None;
        for Prepared { images, rows, mut problems } in prepared_out {
            if job.settings.strict
                && let Some(Problem { name, reason }) = problems.pop()
            {
                // The image is not recorded as skipped: once it is mended or removed, the run goes on from here.
                failure = Some(ExtractError::Strict { name, reason });
            }
            done += rows.len() + problems.len();
            let mut layers = vec![Vec::new(); backbone.taps().len()];
            if !rows.is_empty()
                && let Err(error) = backbone
                    .run(&images[..rows.len() * image_len], |layer, codes| layers[layer] = codes.to_vec())
            {
                failure = Some(error.into());
                break;
            }
            // The buffer goes back to be filled again; when the preparing stage has ended nobody wants it.
            let _ = spare_in.try_send(images);
            if computed_in.send(Computed { rows, layers, problems }).is_err() || failure.is_some() {
                break;
            }
            progress(done);
        }
        // Leaving the loop drops the queue's end, which stops the preparing stage at its next batch.
        stop.store(true, Ordering::Relaxed);
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

/// Decodes and preprocesses batch after batch.
fn prepare_all<'a>(
    job: &Job<'a>,
    image_len: usize,
    layout: Layout,
    stop: &AtomicBool,
    out: &Sender<Prepared<'a>>,
    spare: &Receiver<Vec<f32>>,
) {
    for indices in job.pending.chunks(job.settings.batch_size.max(1)) {
        let samples: Vec<Sample<'a>> = indices.iter().map(|&index| job.samples.get(index)).collect();
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut images = spare.try_recv().unwrap_or_default();
        images.resize(samples.len() * image_len, 0.0);
        let outcomes: Vec<Result<String, Problem>> = job.pool.install(|| {
            images
                .par_chunks_mut(image_len)
                .zip(&samples)
                .map(|(slot, sample)| read_image(sample, job.preprocess, &job.settings.decode, layout, slot))
                .collect()
        });
        let mut rows = Vec::with_capacity(samples.len());
        let mut problems = Vec::new();
        for (index, (outcome, sample)) in outcomes.into_iter().zip(&samples).enumerate() {
            match outcome {
                Ok(sha256) => {
                    if rows.len() != index {
                        images
                            .copy_within(index * image_len..(index + 1) * image_len, rows.len() * image_len);
                    }
                    rows.push((*sample, sha256));
                }
                Err(problem) => {
                    problems.push(problem);
                    if job.settings.strict {
                        break;
                    }
                }
            }
        }
        let stopped = job.settings.strict && !problems.is_empty();
        if out.send(Prepared { images, rows, problems }).is_err() || stopped {
            return;
        }
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
    let content = sample.read().map_err(|error| problem(&error))?;
    let decoded;
    let image = match &content {
        Content::Pixels { image, .. } => image,
        Content::Encoded(bytes) => {
            decoded = decode(bytes, options).map_err(|error| problem(&error))?;
            &decoded
        }
    };
    preprocess.apply(image, layout, slot).map_err(|error| problem(&error))?;
    Ok(sha256(content.bytes()))
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Writes what comes, in the order in which it comes.
fn write_all(
    mut writer: CodesWriter,
    widths: &[usize],
    queue: &Receiver<Computed<'_>>,
) -> Result<Finished, ExtractError> {
    let mut written = 0;
    let mut problems = Vec::new();
    for batch in queue {
        let codes: Vec<Vec<&[f32]>> = (0..batch.rows.len())
            .map(|row| {
                batch
                    .layers
                    .iter()
                    .zip(widths)
                    .map(|(layer, &width)| &layer[row * width..][..width])
                    .collect()
            })
            .collect();
        let rows: Vec<Row<'_>> = batch
            .rows
            .iter()
            .zip(&codes)
            .map(|((sample, sha256), codes)| Row {
                name: sample.name,
                label: sample.label.map_or(-1, |label| label as i64),
                sha256,
                codes,
            })
            .collect();
        let failed: Vec<Skipped> = batch.problems.iter().map(skipped).collect();
        writer.append(&rows, &failed)?;
        written += rows.len();
        problems.extend(batch.problems);
    }
    Ok(Finished { writer, rows: written, problems })
}
