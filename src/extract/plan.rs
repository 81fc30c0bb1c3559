//! What has to be computed, and what a finished features file already holds.
//!
//! Features belong to the image's bytes (SHA-256), the network's hash, the preprocessing, the tensor, its pooling and the
//! precision. Where all of these are those of a row of the file that is to be replaced, the row is taken over,
//! whatever the image is called now.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use super::batch::read_unchanged_by;
use super::file_fingerprint::{self, FileFingerprint};
use super::{ExtractRequest, WantedLayer};
use crate::dataset::{InputProblem, ReadAhead};
use crate::digest::Sha256Digest;
use crate::feature_spec::FeatureSpec;
use crate::features::{FeatureFile, FeatureFileHeader, StoredLayer};
use crate::images::PerceptualHash;
use crate::messages::with_causes;
use crate::network::{Backbone, Device, Pooling};

/// What becomes of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowAction {
    /// It is decoded and sent through the network.
    Compute,
    /// This row of the earlier file is its.
    Keep(usize),
    /// It could not be read earlier, and still cannot, for the same reason.
    Unreadable,
}

/// How many samples there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct PlanTally {
    /// Rows taken over from the earlier file, those of `moved` among them.
    pub kept: usize,
    /// Of these, images that had another name there.
    pub moved: usize,
    /// Images to be sent through the network.
    pub computed: usize,
    /// Images that could not be read earlier and still cannot.
    pub unreadable: usize,
    /// Rows of the earlier file whose image is there no more.
    pub removed: usize,
}

/// The finished file that an extraction replaces, where its features are of use.
pub(super) struct PreviousOutput {
    pub file: FeatureFile,
    /// For each layer that is wanted, its name in that file.
    pub layers: Vec<String>,
}

/// What an extraction is going to do.
pub struct ExtractPlan {
    pub(super) earlier: Option<PreviousOutput>,
    pub(super) fates: Vec<RowAction>,
    /// What is known of each sample's file.
    pub(super) seen: Vec<Option<FileFingerprint>>,
    /// Perceptual hashes of rows of the earlier file that it does not tell.
    pub(super) hashes: HashMap<usize, PerceptualHash>,
    /// Of the samples that are [`RowAction::Unreadable`].
    pub(super) problems: BTreeMap<usize, InputProblem>,
    tally: PlanTally,
    /// What the user ought to know.
    pub(super) notes: Vec<String>,
}

impl ExtractPlan {
    /// Finds out what is to be done. Reads the images' files only where they may have changed since they were last
    /// read, and those of which nothing is `known` (of any, if it is empty), and writes nothing.
    pub(super) fn make(
        request: &ExtractRequest<'_>,
        pool: &rayon::ThreadPool,
        known: Vec<Option<FileFingerprint>>,
    ) -> Self {
        let count = request.samples.samples.len();
        let mut plan = Self {
            earlier: None,
            fates: vec![RowAction::Compute; count],
            seen: if known.is_empty() { vec![None; count] } else { known },
            hashes: HashMap::new(),
            problems: BTreeMap::new(),
            tally: PlanTally::default(),
            notes: Vec::new(),
        };
        if !request.settings.force && request.output.is_file() {
            match open_earlier(request) {
                Ok(earlier) => {
                    pool.install(|| plan.look_up(request, &earlier));
                    plan.earlier = Some(earlier);
                }
                Err(why) => plan.notes.push(format!("{} is computed again: {why}", request.output.display())),
            }
        }
        plan.count(request);
        plan
    }

    /// How many images are kept, computed and so on.
    pub fn tally(&self) -> PlanTally {
        self.tally
    }

    /// What the user ought to know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the finished file says of the layers, where that is known without the network.
    pub fn layers(&self) -> Option<Vec<StoredLayer>> {
        let earlier = self.earlier.as_ref()?;
        earlier.layers.iter().map(|name| earlier.file.layer(Some(name)).ok().cloned()).collect()
    }

    /// Gives up what the earlier file holds.
    pub(super) fn forget_earlier(&mut self, request: &ExtractRequest<'_>, why: String) {
        self.earlier = None;
        self.problems.clear();
        self.fates.fill(RowAction::Compute);
        self.notes.push(why);
        self.count(request);
    }

    /// Whether the earlier file was computed by another library or on another device than `backbone` is.
    pub(super) fn computed_otherwise(&self, backbone: &Backbone) -> Option<String> {
        let header = self.earlier.as_ref()?.file.header();
        let (runtime, device) = (super::runtime_of(backbone), backbone.device().to_string());
        (header.runtime != runtime || header.device != device).then(|| {
            format!(
                "everything is computed again: the existing features are of {} on {}, this run has \
                 {runtime} on {device}",
                header.runtime, header.device
            )
        })
    }

    /// Whether the earlier file is what this extraction would write.
    pub(super) fn is_up_to_date(&self, request: &ExtractRequest<'_>, header: &FeatureFileHeader) -> bool {
        let Some(PreviousOutput { file, .. }) = &self.earlier else { return false };
        let samples = &request.samples.samples;
        let mut rows = 0..file.rows();
        let mut errors = file.errors().iter();
        let same_rows =
            samples.iter().zip(&self.fates).enumerate().all(|(index, (sample, fate))| match fate {
                RowAction::Compute => false,
                RowAction::Keep(row) => {
                    rows.next() == Some(*row)
                        && file.image_names()[*row] == sample.name
                        && file.labels()[*row] == super::stored_label(sample.label)
                }
                RowAction::Unreadable => {
                    self.problems.get(&index).is_some_and(|problem| is_next(&mut errors, problem))
                }
            });
        let now =
            FeatureFileHeader { program_version: file.header().program_version.clone(), ..header.clone() };
        same_rows
            && self.hashes.is_empty()
            && rows.is_empty()
            && request.samples.problems.iter().all(|problem| is_next(&mut errors, problem))
            && errors.next().is_none()
            && file.passed_over() == super::passed_over(request.samples)
            && *file.header() == now
    }

    /// Finds the samples' rows in `earlier`.
    fn look_up(&mut self, request: &ExtractRequest<'_>, PreviousOutput { file, .. }: &PreviousOutput) {
        let samples = &request.samples.samples;
        let is_remembered = !request.settings.rehash && self.seen.iter().all(Option::is_none);
        let mut remembered =
            if is_remembered { file_fingerprint::read(request.output) } else { HashMap::new() };
        self.seen.par_iter_mut().enumerate().filter(|(_, seen)| seen.is_none()).for_each(|(index, seen)| {
            let sample = samples.get(index);
            *seen = remembered
                .get(sample.name)
                .copied()
                .filter(|then| then.stamp.is_some() && sample.stamp().is_ok_and(|stamp| stamp == then.stamp));
        });
        remembered.clear();
        self.read_unseen(request);

        let mut by_name = HashMap::with_capacity(file.rows());
        let mut by_digest = HashMap::with_capacity(file.rows());
        for (row, (name, digest)) in file.image_names().iter().zip(file.sha256()).enumerate() {
            let Some(digest) = Sha256Digest::parse(digest) else { continue };
            by_name.insert(name.as_str(), (row, digest));
            by_digest.entry(digest).or_insert(row);
        }
        for (index, fate) in self.fates.iter_mut().enumerate() {
            let Some(FileFingerprint { digest, .. }) = self.seen[index] else { continue };
            let same_name = by_name.get(samples.get(index).name).filter(|(_, then)| *then == digest);
            if let Some(row) = same_name.map(|(row, _)| *row).or_else(|| by_digest.get(&digest).copied()) {
                *fate = RowAction::Keep(row);
            }
        }
        self.try_unreadable(request, file);
        if request.settings.rehash {
            self.hash_rows(request, file);
        }
    }

    /// Reads the images that nothing is known of.
    fn read_unseen(&mut self, request: &ExtractRequest<'_>) {
        let samples = &request.samples.samples;
        let unseen: Vec<usize> = (0..self.seen.len()).filter(|&index| self.seen[index].is_none()).collect();
        let (sample, never) = (|position: usize| samples.get(unseen[position]), AtomicBool::new(false));
        let ahead = ReadAhead::new(&sample, unseen.len(), &never);
        let read = ahead.map(|position| {
            // What cannot be read is reported when it is to be decoded.
            let read = || Ok(ahead.read(position)?);
            let (content, stamp) = read_unchanged_by(&ahead.sample(position), read).ok()?;
            Some(FileFingerprint { digest: Sha256Digest::of(content.bytes()), stamp })
        });
        unseen.iter().zip(read).for_each(|(&index, seen)| self.seen[index] = seen);
    }

    /// Hashes the images of the rows that an older program wrote, which knew no perceptual hash.
    fn hash_rows(&mut self, request: &ExtractRequest<'_>, file: &FeatureFile) {
        let samples = &request.samples.samples;
        let lacking = self.fates.par_iter().enumerate().filter_map(|(index, fate)| match *fate {
            RowAction::Keep(row) if file.perceptual_hash(row).is_none() => Some((index, row)),
            _ => None,
        });
        let reader = request.reader();
        // What cannot be read any more stays without.
        let hash = |(index, row)| Some((row, reader.hash(&samples.get(index))?));
        self.hashes = lacking.filter_map(hash).collect();
    }

    /// Tries the images again that could not be read earlier, so that the network is not loaded for their sake.
    fn try_unreadable(&mut self, request: &ExtractRequest<'_>, file: &FeatureFile) {
        let samples = &request.samples.samples;
        let failed: HashMap<&str, &str> =
            file.errors().iter().map(|image| (image.name.as_str(), image.reason.as_str())).collect();
        let (fates, reader) = (&self.fates, request.reader());
        self.problems = (0..samples.len())
            .into_par_iter()
            .filter(|&index| fates[index] == RowAction::Compute)
            .filter_map(|index| {
                let sample = samples.get(index);
                let reason = failed.get(sample.name)?;
                let problem = reader.read(&sample, &mut vec![0.0; reader.len()]).err()?;
                (problem.reason == *reason).then_some((index, problem))
            })
            .collect();
        for &index in self.problems.keys() {
            self.fates[index] = RowAction::Unreadable;
        }
    }

    fn count(&mut self, request: &ExtractRequest<'_>) {
        let mut tally = PlanTally::default();
        let samples = &request.samples.samples;
        let mut present = vec![false; self.earlier.as_ref().map_or(0, |earlier| earlier.file.rows())];
        for (sample, fate) in samples.iter().zip(&self.fates) {
            match (fate, &self.earlier) {
                (RowAction::Keep(row), Some(PreviousOutput { file, .. })) => {
                    tally.kept += 1;
                    tally.moved += usize::from(file.image_names()[*row] != sample.name);
                    present[*row] = true;
                }
                (RowAction::Unreadable, _) => tally.unreadable += 1,
                _ => tally.computed += 1,
            }
        }
        if let Some(PreviousOutput { file, .. }) = &self.earlier {
            // A row whose image has other bytes now is not removed but replaced.
            let names: std::collections::HashSet<&str> = samples.iter().map(|sample| sample.name).collect();
            let rows = file.image_names().iter().zip(&present);
            tally.removed =
                rows.filter(|(name, present)| !**present && !names.contains(name.as_str())).count();
        }
        self.tally = tally;
    }
}

/// Whether `problem` is the next of `errors`.
fn is_next<'a>(
    errors: &mut impl Iterator<Item = &'a crate::features::SkippedImage>,
    problem: &InputProblem,
) -> bool {
    errors.next().is_some_and(|error| error.name == problem.name && error.reason == problem.reason)
}

/// Opens the file that is to be replaced, if its features are what is wanted; else why they are not.
fn open_earlier(request: &ExtractRequest<'_>) -> Result<PreviousOutput, String> {
    let file = FeatureFile::open(request.output).map_err(|error| with_causes(&error))?;
    let header = file.header();
    if let Some(difference) = header.spec().network_difference(request.spec()) {
        return Err(format!("{} differs", difference.what));
    }
    let device = request.session.device;
    if device != Device::Auto && header.device != device.to_string() {
        return Err("the device differs".to_owned());
    }
    let wanted = request.layers.iter().map(|WantedLayer { spec, .. }| {
        let found = file.layers().iter().find(|stored| is_stored(stored, spec));
        found.map(|stored| stored.spec.layer.clone()).ok_or_else(|| format!("it lacks {}", spec.layer))
    });
    let layers = wanted.collect::<Result<_, _>>()?;
    Ok(PreviousOutput { layers, file })
}

/// Whether `stored` is what `spec` asks for. Vectors are not pooled, whatever was asked for, and the mean over places has two
/// names.
fn is_stored(stored: &StoredLayer, spec: &FeatureSpec) -> bool {
    let found = &stored.spec;
    let is_mean = |pooling: Pooling| matches!(pooling, Pooling::Average | Pooling::PatchMean);
    let same = match found.pooling {
        Pooling::None if stored.shape.len() == 1 => true,
        pooling => pooling == spec.pooling || is_mean(pooling) && is_mean(spec.pooling),
    };
    found.tensor == spec.tensor && found.layer == spec.layer && same
}
