//! `manifest.jsonl.gz`: a line of JSON for each image, sorted by name.
//!
//! Each part is a gzip stream of its own, one after another, which together are an ordinary gzip file: `zcat` shows all of it, and a
//! worker reads no more than its parts.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rayon::prelude::*;

use super::PlanError;
use super::document::{PlanDocument, PlannedPart};
use super::store::PlanStore;
use crate::dataset::{InputProblem, ReadAhead, SampleList, SampleRecord};
use crate::digest::Sha256Digest;

/// The file's name in the folder of the plan.
pub(super) const NAME: &str = "manifest.jsonl.gz";

/// Bytes that the lines of an image may have; a manifest that is larger was not written by this program.
const MAX_LINE: u64 = 64 << 10;

/// Parts that are encoded at a time: enough for every thread, and few enough to be small.
const AT_ONCE: usize = 32;

/// What was written.
pub(super) struct WrittenManifest {
    pub parts: Vec<PlannedPart>,
    /// Where each part lies in the file.
    pub places: Vec<(u64, u64)>,
    pub images: u64,
    /// Images whose files could not be looked at.
    pub problems: Vec<InputProblem>,
}

/// A part on its way into the file.
struct EncodedPart {
    compressed: Vec<u8>,
    part: PlannedPart,
}

/// Writes the samples to `to`, `rows_per_part` in each part; with `hash` every image is read for its SHA-256. `advance` hears how
/// many are done.
pub(super) fn write(
    to: &mut impl Write,
    samples: &SampleList,
    rows_per_part: u64,
    hash: bool,
    advance: &mut dyn FnMut(u64),
) -> io::Result<WrittenManifest> {
    let mut written =
        WrittenManifest { parts: Vec::new(), places: Vec::new(), images: 0, problems: Vec::new() };
    let rows = usize::try_from(rows_per_part).unwrap_or(usize::MAX).max(1);
    let mut position = 0;
    // Records that fell behind those that could not be made; the parts stay full.
    let mut waiting: Vec<SampleRecord> = Vec::new();
    let mut flush = |records: &mut Vec<SampleRecord>, all: bool, written: &mut WrittenManifest| {
        let full = if all { records.len() } else { records.len() / rows * rows };
        let encoded: io::Result<Vec<EncodedPart>> = records[..full].par_chunks(rows).map(encode).collect();
        records.drain(..full);
        for EncodedPart { compressed, part } in encoded? {
            to.write_all(&compressed)?;
            written.places.push((position, compressed.len() as u64));
            position += compressed.len() as u64;
            written.images += part.images;
            written.parts.push(part);
        }
        Ok::<(), io::Error>(())
    };
    let window = rows.saturating_mul(AT_ONCE).min(1 << 18);
    for start in (0..samples.len()).step_by(window.max(1)) {
        let end = samples.len().min(start + window);
        let records: Vec<_> = match hash {
            true => read_records(samples, start..end)?,
            false => (start..end).into_par_iter().map(|index| samples.record(index, false)).collect(),
        };
        for record in records {
            match record {
                Ok(record) => waiting.push(record),
                Err(problem) => written.problems.push(problem),
            }
        }
        flush(&mut waiting, false, &mut written)?;
        advance(end as u64);
    }
    flush(&mut waiting, true, &mut written)?;
    Ok(written)
}

/// The records of some samples with their SHA-256.
fn read_records(
    samples: &SampleList,
    range: Range<usize>,
) -> io::Result<Vec<Result<SampleRecord, InputProblem>>> {
    let (sample, never) = (|position: usize| samples.get(range.start + position), AtomicBool::new(false));
    let ahead = ReadAhead::new(&sample, range.len(), &never);
    let records = ahead.map(|position| {
        let content = ahead.read(position).map_err(io::Error::from);
        samples.record_of(range.start + position, Some(content))
    });
    ahead.outage().map_or(Ok(records), |outage| Err(io::Error::other(outage)))
}

fn encode(records: &[SampleRecord]) -> io::Result<EncodedPart> {
    let mut lines = Vec::with_capacity(records.len() * 100);
    for record in records {
        serde_json::to_writer(&mut lines, record)?;
        lines.push(b'\n');
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::fast());
    encoder.write_all(&lines)?;
    let part = PlannedPart { images: records.len() as u64, sha256: Sha256Digest::of(&lines).to_string() };
    Ok(EncodedPart { compressed: encoder.finish()?, part })
}

/// The images of a part.
pub(super) fn read_part(
    document: &PlanDocument,
    store: &PlanStore,
    number: u64,
) -> Result<Vec<SampleRecord>, PlanError> {
    let parts = &document.content.parts;
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    let (Some(part), Some(&(offset, len))) = (parts.get(index), document.manifest.get(index)) else {
        return Err(PlanError::NoSuchPart { part: number, parts: parts.len() as u64 });
    };
    let path = || store.path(NAME);
    let changed = || PlanError::Changed { path: path(), what: format!("part {number}") };
    let compressed = store.read_range(NAME, offset, len).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => changed(),
        _ => PlanError::Read { path: path(), source },
    })?;
    let mut lines = Vec::new();
    let most = part.images.saturating_mul(MAX_LINE);
    GzDecoder::new(&compressed[..]).take(most).read_to_end(&mut lines).map_err(|_| changed())?;
    if Sha256Digest::of(&lines).to_string() != part.sha256 {
        return Err(changed());
    }
    let records: Vec<SampleRecord> = serde_json::Deserializer::from_slice(&lines)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| PlanError::NotAPlan { path: path(), why: error.to_string() })?;
    if records.len() as u64 != part.images {
        return Err(changed());
    }
    Ok(records)
}
