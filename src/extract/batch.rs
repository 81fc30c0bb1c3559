//! A batch of images on its way into the network: read, preprocessed, and packed one after another.
//!
//! Everything that runs images through a network fills its batches here: [`extract`](super::extract), the
//! [`Extractor`](super::Extractor), and the explanations of `classify --explain`.

use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use super::file_fingerprint::FileFingerprint;
use crate::dataset::{InputProblem, ReadAhead, ReadFailure, Sample, SampleContent};
use crate::digest::Sha256Digest;
use crate::files::Stamp;
use crate::images::{
    DecodeOptions, PerceptualHash, Preprocess, TensorLayout, decode_hash, load, load_and_hash,
    perceptual_hash,
};

/// Reads images as one network wants them.
#[derive(Debug, Clone)]
pub(crate) struct ImageReader {
    preprocess: Preprocess,
    decode: DecodeOptions,
    layout: TensorLayout,
    /// Values of an image.
    len: usize,
    /// Whether a perceptual hash of each image is wanted.
    hashes: bool,
    /// Whether the SHA-256 of each image is wanted.
    digests: bool,
}

/// Who reads the images of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// The calling thread.
    One,
    /// The threads of the current pool.
    Pool,
}

/// What was read of a batch; its images lie in the caller's buffer, in the order of `rows`.
#[derive(Debug, Default)]
pub(crate) struct ImageBatch {
    pub(super) rows: Vec<ImageRow>,
    /// Positions in the batch of those that could not be read, and why.
    pub(super) problems: Vec<(usize, InputProblem)>,
    /// Whether images were not read because the run is over.
    pub(super) is_over: bool,
    /// Whether the rows have digests.
    digests: bool,
}

/// An image of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ImageRow {
    /// Position in the batch.
    pub(super) position: usize,
    pub(super) fingerprint: FileFingerprint,
    /// `None` where it was not asked for.
    pub(super) hash: Option<PerceptualHash>,
}

impl ImageBatch {
    /// Positions in the batch of the images that could be read, ascending.
    pub(crate) fn positions(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.position).collect()
    }

    /// SHA-256 of each image that could be read, of its bytes as they are stored, where they were asked for.
    pub(crate) fn sha256(&self) -> Vec<String> {
        self.rows.iter().filter(|_| self.digests).map(|row| row.fingerprint.digest.to_string()).collect()
    }

    /// Perceptual hashes, where they were asked for.
    pub(crate) fn hashes(&self) -> Vec<PerceptualHash> {
        self.rows.iter().filter_map(|row| row.hash).collect()
    }

    /// Positions in the batch of the other images.
    pub(super) fn failed(&self) -> Vec<usize> {
        self.problems.iter().map(|&(position, _)| position).collect()
    }

    /// Why the other images could not be read.
    pub(crate) fn into_problems(self) -> Vec<InputProblem> {
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

impl ImageReader {
    /// For a network that wants its input in `layout`; images of more than `max_pixels` are refused.
    pub(crate) fn new(preprocess: &Preprocess, layout: TensorLayout, max_pixels: u64) -> Self {
        Self {
            preprocess: preprocess.clone(),
            decode: DecodeOptions::for_preprocess(preprocess, max_pixels),
            layout,
            len: preprocess.tensor_len(),
            hashes: false,
            digests: true,
        }
    }

    /// Leaves out the SHA-256 of each image.
    pub(crate) fn without_digests(self) -> Self {
        Self { digests: false, ..self }
    }

    /// Also computes what each image looks like.
    pub(crate) fn with_hashes(self) -> Self {
        Self { hashes: true, ..self }
    }

    /// Whether the perceptual hash of each image is computed.
    pub(super) fn hashes(&self) -> bool {
        self.hashes
    }

    /// Whether the SHA-256 of each image is computed.
    pub(super) fn digests(&self) -> bool {
        self.digests
    }

    /// Values of an image.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Reads `samples` into `images`, without gaps where one cannot be read. With `strict` the first of those ends it.
    pub(crate) fn read_batch(
        &self,
        samples: &[Sample<'_>],
        images: &mut Vec<f32>,
        readers: Readers,
        strict: bool,
    ) -> ImageBatch {
        let (sample, never) = (|position: usize| samples[position], AtomicBool::new(false));
        let ahead = ReadAhead::new(&sample, samples.len(), &never);
        let mut batch = self.read_ahead(&ahead, 0..samples.len(), images, readers, strict);
        if let Some(outage) = ahead.outage() {
            let is_known = |position: usize| {
                batch.rows.iter().any(|row| row.position == position)
                    || batch.problems.iter().any(|(known, _)| *known == position)
            };
            let unread: Vec<usize> = (0..samples.len()).filter(|&position| !is_known(position)).collect();
            let problem = |position: usize| InputProblem::from_error(samples[position].name, &outage);
            batch.problems.extend(unread.into_iter().map(|position| (position, problem(position))));
            batch.problems.sort_by_key(|&(position, _)| position);
        }
        batch
    }

    /// As [`read_batch`](Self::read_batch), the samples at `positions` of `ahead`.
    pub(super) fn read_ahead(
        &self,
        ahead: &ReadAhead<'_, '_>,
        positions: Range<usize>,
        images: &mut Vec<f32>,
        readers: Readers,
        strict: bool,
    ) -> ImageBatch {
        images.resize(positions.len() * self.len, 0.0);
        let first = positions.start;
        let read = |(position, slot): (usize, &mut [f32])| {
            let sample = ahead.sample(first + position);
            let mut is_over = false;
            let content = read_unchanged_by(&sample, || {
                let content = ahead.read(first + position);
                is_over = matches!(content, Err(ReadFailure::Over));
                Ok(content?)
            });
            // No image is to blame for the end of a run.
            let outcome = content.and_then(|content| self.prepare(&sample, content, slot));
            outcome.map_err(|problem| (!is_over).then_some(problem))
        };
        let read: Vec<Result<_, Option<InputProblem>>> = match readers {
            Readers::One => images.chunks_mut(self.len).enumerate().map(read).collect(),
            Readers::Pool => images.par_chunks_mut(self.len).enumerate().map(read).collect(),
        };
        let mut batch = ImageBatch { digests: self.digests, ..ImageBatch::default() };
        for (position, outcome) in read.into_iter().enumerate() {
            match outcome {
                Ok((fingerprint, hash)) => {
                    let row = batch.rows.len();
                    if row != position {
                        images.copy_within(position * self.len..(position + 1) * self.len, row * self.len);
                    }
                    batch.rows.push(ImageRow { position, fingerprint, hash });
                }
                Err(None) => batch.is_over = true,
                Err(Some(problem)) => {
                    batch.problems.push((position, problem));
                    if strict {
                        break;
                    }
                }
            }
        }
        images.truncate(batch.rows.len() * self.len);
        batch
    }

    /// Reads one image into its slot: a batch of one, whose image lies there.
    ///
    /// # Errors
    /// It cannot be read.
    #[cfg(feature = "serve")]
    pub(crate) fn read_into(
        &self,
        slot: &mut [f32],
        sample: &Sample<'_>,
    ) -> Result<ImageBatch, InputProblem> {
        let (fingerprint, hash) = self.read(sample, slot)?;
        let rows = vec![ImageRow { position: 0, fingerprint, hash }];
        Ok(ImageBatch { rows, digests: self.digests, ..ImageBatch::default() })
    }

    /// Reads one image into its slot.
    pub(super) fn read(
        &self,
        sample: &Sample<'_>,
        slot: &mut [f32],
    ) -> Result<(FileFingerprint, Option<PerceptualHash>), InputProblem> {
        self.prepare(sample, read_unchanged(sample)?, slot)
    }

    /// Decodes and preprocesses an image into its slot.
    fn prepare(
        &self,
        sample: &Sample<'_>,
        (content, stamp): (SampleContent<'_>, Option<Stamp>),
        slot: &mut [f32],
    ) -> Result<(FileFingerprint, Option<PerceptualHash>), InputProblem> {
        let Self { preprocess, decode, layout, hashes, digests, .. } = self;
        let problem = |error: &dyn std::error::Error| InputProblem::from_error(sample.name, error);
        let hash = match &content {
            SampleContent::Pixels { image, .. } => {
                preprocess.apply(image, *layout, slot).map_err(|error| problem(&error))?;
                hashes.then(|| perceptual_hash(image))
            }
            SampleContent::Encoded(bytes) if *hashes => {
                let hash = load_and_hash(bytes, decode, preprocess, *layout, slot);
                Some(hash.map_err(|error| problem(&error))?)
            }
            SampleContent::Encoded(bytes) => {
                load(bytes, decode, preprocess, *layout, slot).map_err(|error| problem(&error))?;
                None
            }
        };
        let digest = if *digests { Sha256Digest::of(content.bytes()) } else { Sha256Digest::none() };
        Ok((FileFingerprint { digest, stamp }, hash))
    }

    /// What an image looks like, without preprocessing it; `None` where it cannot be read.
    pub(super) fn hash(&self, sample: &Sample<'_>) -> Option<PerceptualHash> {
        match read_unchanged(sample).ok()?.0 {
            SampleContent::Pixels { image, .. } => Some(perceptual_hash(&image)),
            SampleContent::Encoded(bytes) => decode_hash(&bytes, &self.decode).ok(),
        }
    }
}

/// Reads a sample, and makes sure that its file is not written to meanwhile.
pub(super) fn read_unchanged<'a>(
    sample: &Sample<'a>,
) -> Result<(SampleContent<'a>, Option<Stamp>), InputProblem> {
    read_unchanged_by(sample, || sample.read())
}

/// As [`read_unchanged`], where `read` reads the sample.
pub(super) fn read_unchanged_by<'a>(
    sample: &Sample<'a>,
    read: impl FnOnce() -> io::Result<SampleContent<'a>>,
) -> Result<(SampleContent<'a>, Option<Stamp>), InputProblem> {
    let problem = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound if !sample.is_remote() => InputProblem {
            name: sample.name.to_owned(),
            reason: "the file does not exist, or vanished during the run".to_owned(),
        },
        _ => InputProblem::from_error(sample.name, &error),
    };
    let before = sample.stamp().map_err(problem)?;
    let content = read().map_err(problem)?;
    let after = sample.stamp().map_err(problem)?;
    if before == after && after.is_none_or(|stamp| stamp.len == content.bytes().len() as u64) {
        return match sample.change(after, content.bytes()) {
            None => Ok((content, after)),
            Some(reason) => Err(InputProblem { name: sample.name.to_owned(), reason: reason.to_owned() }),
        };
    }
    Err(InputProblem {
        name: sample.name.to_owned(),
        reason: "the file changed while it was being read; run the same command again when it is complete"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::dataset::Dataset;

    #[test]
    fn a_file_that_is_cut_while_it_is_read_is_reported_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        let whole = vec![7; 1 << 20];
        fs::write(&path, &whole).unwrap();
        let set = Dataset::from_folder(folder.path()).unwrap();
        let sample = set.samples.get(0);
        assert_eq!(read_unchanged(&sample).unwrap().0, SampleContent::Encoded(whole.into()));
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
        let set = Dataset::from_folder(folder.path()).unwrap();
        fs::remove_file(folder.path().join("a.jpg")).unwrap();
        let problem = read_unchanged(&set.samples.get(0)).unwrap_err();
        assert_eq!(problem.reason, "the file does not exist, or vanished during the run");
    }
}
