//! Going on from what an interrupted run left: whether it is the beginning of what this run would write.

use rayon::prelude::*;

use super::file_fingerprint::FileFingerprint;
use super::plan::ExtractPlan;
use super::{ExtractError, ExtractEvent, ExtractRequest, batch};
use crate::dataset::InputProblem;
use crate::digest::Sha256Digest;
use crate::features::{
    CommittedRow, FeatureFileHeader, FeatureWriter, SkippedImage, WriteOptions, WriterStart,
};

/// What an interrupted run had done.
#[derive(Default)]
pub(super) struct Resumed {
    /// Rows in its file.
    pub rows: usize,
    /// Images that it could not read.
    pub skipped: Vec<InputProblem>,
}

/// Opens the output, going on from an interrupted run where what it left is what this run would have begun with.
pub(super) fn open_writer(
    request: &ExtractRequest<'_>,
    header: &FeatureFileHeader,
    options: WriteOptions,
    plan: &mut ExtractPlan,
    pool: &rayon::ThreadPool,
    tell: &mut dyn FnMut(ExtractEvent<'_>),
) -> Result<(FeatureWriter, Resumed), ExtractError> {
    let output = request.output;
    if request.settings.force {
        return Ok((FeatureWriter::create(output, header, options)?, Resumed::default()));
    }
    let (writer, start) = FeatureWriter::open_or_create(output, header, options)?;
    match start {
        WriterStart::New => Ok((writer, Resumed::default())),
        WriterStart::Anew(why) => {
            tell(ExtractEvent::Note(&format!("started from the beginning instead of resuming: {why}")));
            Ok((writer, Resumed::default()))
        }
        WriterStart::Resumed { done, skipped } => {
            if done.is_empty() && !skipped.is_empty() {
                // Nothing is lost, and what could not be read may be whole by now. The lock goes with the writer.
                drop(writer);
                return Ok((FeatureWriter::create(output, header, options)?, Resumed::default()));
            }
            if pool.install(|| is_beginning_of(request, &done, &skipped, &mut plan.seen)) {
                let skipped = skipped
                    .into_iter()
                    .map(|SkippedImage { name, reason }| InputProblem { name, reason })
                    .collect();
                return Ok((writer, Resumed { rows: done.len(), skipped }));
            }
            // The lock goes with the writer.
            drop(writer);
            tell(ExtractEvent::Note(
                "started from the beginning instead of resuming: images were added, removed or changed \
                 since then",
            ));
            Ok((FeatureWriter::create(output, header, options)?, Resumed::default()))
        }
    }
}

/// Whether `done` and `skipped` together are the first samples, in order, and the files still what they were. Of images in object
/// stores and on the web it is assumed, unless they are to be read again: they would have to be transferred a second time.
fn is_beginning_of(
    request: &ExtractRequest<'_>,
    done: &[CommittedRow],
    skipped: &[SkippedImage],
    seen: &mut [Option<FileFingerprint>],
) -> bool {
    let samples = request.samples;
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
                Some(row) if row.name == sample.name => *expected = Sha256Digest::parse(&row.sha256),
                _ => return false,
            }
        }
    }
    seen[..count].par_iter_mut().zip(expected).enumerate().all(|(index, (seen, expected))| {
        let Some(expected) = expected else { return true };
        if seen.is_none() {
            let sample = samples.samples.get(index);
            *seen = if sample.is_remote() && !request.settings.rehash {
                // Without a stamp, a later run looks for itself.
                Some(FileFingerprint { digest: expected, stamp: None })
            } else {
                let read = batch::read_unchanged(&sample).ok();
                read.map(|(content, stamp)| FileFingerprint {
                    digest: Sha256Digest::of(content.bytes()),
                    stamp,
                })
            };
        }
        seen.is_some_and(|seen| seen.digest == expected)
    })
}
