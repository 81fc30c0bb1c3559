//! What a worker does: it computes the parts of its share that are not there yet.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::part::PartState;
use super::store::part_name;
use super::{Plan, PlanError, Share};
use crate::dataset::{Dataset, InputProblem};
use crate::extract::{
    ExtractError, ExtractEvent, ExtractProgress, ExtractRequest, ExtractSettings, FileSeries, WantedLayer,
};
use crate::features::{PlanPart, StoredLayer};
use crate::network::{Catalogue, Graph, ModelsFolder, SessionSettings};
use crate::remote::is_url;

/// How a worker computes.
#[derive(Debug, Clone)]
pub struct WorkSettings {
    /// Batch size, threads and memory. What the plan says itself (the largest images) is not taken from here.
    pub extract: ExtractSettings,
    /// What the network runs on; its precision is the plan's.
    pub session: SessionSettings,
    /// Where the images lie on this machine, if not where they lay when the plan was made.
    pub root: Option<PathBuf>,
}

/// What a worker says while it works.
#[derive(Clone, Copy)]
pub enum WorkEvent<'a> {
    /// So many parts are its own, of which so many images are to be computed.
    Planned {
        /// Parts of the share.
        parts: u64,
        /// Of these, those that are done.
        done: u64,
        /// Images of the others.
        images: u64,
    },
    /// Something that the user ought to know.
    Note(&'a str),
    /// An image could not be read.
    Problem(&'a InputProblem),
    /// More images are dealt with, of those that were to be computed.
    Progress(ExtractProgress),
    /// A part is in its place.
    Finished {
        /// Its number.
        part: u64,
        /// Images that have features.
        rows: usize,
        /// Images that could not be read.
        errors: usize,
    },
}

/// A part that could not be computed, although others can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartFailure {
    /// Its number.
    pub part: u64,
    /// Why.
    pub reason: String,
}

/// What a worker did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkSummary {
    /// Parts of the share.
    pub parts: u64,
    /// Parts that were done already.
    pub skipped: u64,
    /// Parts that it computed.
    pub computed: u64,
    /// Parts that another worker finished meanwhile; both hold the same.
    pub lost_races: u64,
    /// Rows that it computed.
    pub rows: u64,
    /// Images that it could not read.
    pub problems: Vec<InputProblem>,
    /// Parts that it could not compute.
    pub failures: Vec<PartFailure>,
}

/// The network of a plan and its layers.
struct PlanNetwork {
    graph: Graph,
    layers: Vec<WantedLayer>,
}

impl Plan {
    /// Computes those of the parts `parts` that are not there, and makes those anew that cannot be used. `stop` ends it after the
    /// batches in flight; parts that are finished stay.
    ///
    /// # Errors
    /// The plan, the network or the images' folder is missing or is not what it was, a part cannot be written, or it was told to
    /// stop. A part none of whose images can be read at all is no error of the whole; see [`WorkSummary::failures`].
    pub fn extract(
        &self,
        parts: impl IntoIterator<Item = u64>,
        models: &ModelsFolder,
        settings: &WorkSettings,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(WorkEvent<'_>),
    ) -> Result<WorkSummary, PlanError> {
        let parts: Vec<u64> = parts.into_iter().collect();
        let states: Vec<PartState> =
            parts.par_iter().map(|&part| self.part_state(part)).collect::<Result<_, _>>()?;
        let mut summary = WorkSummary { parts: parts.len() as u64, ..WorkSummary::default() };
        let mut wanted = Vec::new();
        for (part, state) in parts.into_iter().zip(states) {
            match state {
                PartState::Done { .. } => summary.skipped += 1,
                PartState::Missing => wanted.push(part),
                PartState::Invalid(why) => {
                    let path = self.part_path(part);
                    tell(WorkEvent::Note(&format!("{} is computed again: {why}", path.display())));
                    wanted.push(part);
                }
            }
        }
        let images: u64 = wanted.iter().map(|&part| self.images_of(part)).sum();
        tell(WorkEvent::Planned { parts: summary.parts, done: summary.skipped, images });
        if wanted.is_empty() {
            return Ok(summary);
        }
        let root = settings.root.as_deref().unwrap_or(self.root());
        if !is_url(root) && !root.is_dir() {
            return Err(PlanError::NoRoot { root: root.to_owned() });
        }
        let network = self.network(models)?;
        let session =
            SessionSettings { precision: self.layers()[0].spec.precision, ..settings.session.clone() };
        let extract = ExtractSettings {
            max_pixels: self.document.content.max_pixels,
            strict: false,
            ..settings.extract.clone()
        };
        let total = usize::try_from(images).unwrap_or(usize::MAX);
        let mut series: Option<FileSeries> = None;
        let mut done = 0;
        for part in wanted {
            if stop.load(Ordering::Relaxed) {
                return Err(self.interrupted(&summary));
            }
            // Another worker may have done it since this one began.
            if let PartState::Done { .. } = self.part_state(part)? {
                done += usize::try_from(self.images_of(part)).unwrap_or(usize::MAX);
                summary.lost_races += 1;
                continue;
            }
            let samples = self.dataset(part, settings.root.as_deref())?;
            let workspace = self
                .store
                .workspace(part)
                .map_err(|source| PlanError::Write { path: self.part_path(part), source })?;
            let output = workspace.path().join("part.h5");
            let request = ExtractRequest {
                samples: &samples,
                graph: &network.graph,
                layers: &network.layers,
                session: &session,
                output: &output,
                settings: &extract,
            };
            let series = match &mut series {
                Some(series) => series,
                none => {
                    let opened = FileSeries::open(&request, total)?;
                    self.expect_layers(opened.layers())?;
                    if let Some(note) = opened.note() {
                        tell(WorkEvent::Note(&note));
                    }
                    none.insert(opened)
                }
            };
            let of_plan = PlanPart { plan: self.id().to_owned(), part };
            let mut tell_of_images = |event: ExtractEvent<'_>| match event {
                ExtractEvent::Progress(progress) => {
                    tell(WorkEvent::Progress(ExtractProgress { done: done + progress.done, total }));
                }
                ExtractEvent::Problem(problem) => tell(WorkEvent::Problem(problem)),
                _ => {}
            };
            let written = match series.write(&request, Some(&of_plan), stop, &mut tell_of_images) {
                Err(ExtractError::Interrupted { .. }) => return Err(self.interrupted(&summary)),
                written => written?,
            };
            done += samples.samples.len();
            if written.rows == 0
                && let Some(reason) = nothing_there(&samples)
            {
                summary.failures.push(PartFailure { part, reason });
                continue;
            }
            match self.publish(part, &output)? {
                true => summary.computed += 1,
                false => summary.lost_races += 1,
            }
            tell(WorkEvent::Finished { part, rows: written.rows, errors: written.problems.len() });
            summary.rows += written.rows as u64;
            summary.problems.extend(written.problems);
        }
        Ok(summary)
    }

    /// [`extract`](Self::extract) for the parts of a share.
    ///
    /// # Errors
    /// As [`extract`](Self::extract).
    pub fn extract_share(
        &self,
        share: Share,
        models: &ModelsFolder,
        settings: &WorkSettings,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(WorkEvent<'_>),
    ) -> Result<WorkSummary, PlanError> {
        self.extract(share.parts(self.parts()), models, settings, stop, tell)
    }

    fn images_of(&self, part: u64) -> u64 {
        let index = usize::try_from(part).unwrap_or(usize::MAX);
        self.document.content.parts.get(index).map_or(0, |part| part.images)
    }

    fn interrupted(&self, summary: &WorkSummary) -> PlanError {
        PlanError::Interrupted {
            done: summary.skipped + summary.computed + summary.lost_races,
            total: summary.parts,
        }
    }

    fn network(&self, models: &ModelsFolder) -> Result<PlanNetwork, PlanError> {
        let model = self.layers()[0].spec.model(models)?;
        let graph = model.open().map_err(crate::feature_spec::NetworkError::from)?;
        let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
        let find = |stored: &StoredLayer| {
            let layer = catalogue.find(&model.name, &stored.spec.tensor);
            let layer = layer.map_err(crate::feature_spec::NetworkError::from)?.clone();
            Ok(WantedLayer { layer, spec: stored.spec.clone() })
        };
        let layers = self.layers().iter().map(find).collect::<Result<_, PlanError>>()?;
        Ok(PlanNetwork { graph, layers })
    }

    fn expect_layers(&self, found: &[StoredLayer]) -> Result<(), PlanError> {
        if found == self.layers() {
            return Ok(());
        }
        let describe = |layers: &[StoredLayer]| {
            let each = |layer: &StoredLayer| {
                format!("{:?} of {} ({})", layer.shape, layer.spec.layer, layer.spec.pooling)
            };
            layers.iter().map(each).collect::<Vec<_>>().join(", ")
        };
        Err(PlanError::OtherLayers { found: describe(found), expected: describe(self.layers()) })
    }

    /// Gives the finished file its place, unless a file that is as good has it; whether it got it.
    fn publish(&self, part: u64, file: &std::path::Path) -> Result<bool, PlanError> {
        /// More often nobody replaces a part that cannot be used.
        const TRIES: usize = 10;
        let name = part_name(part);
        let writing = |source| PlanError::Write { path: self.store.path(&name), source };
        for _ in 0..TRIES {
            if self.store.publish(file, &name).map_err(writing)? {
                return Ok(true);
            }
            match self.part_state(part)? {
                PartState::Done { .. } => return Ok(false),
                PartState::Missing => {}
                PartState::Invalid(_) => self.store.remove(&name).map_err(writing)?,
            }
        }
        Err(writing(std::io::ErrorKind::AlreadyExists.into()))
    }
}

/// Why not one of several images is there at all; a folder that is not mounted looks like this. Images that are there and cannot be
/// decoded are another thing.
fn nothing_there(samples: &Dataset) -> Option<String> {
    let list = &samples.samples;
    let first = list.get(0).read().err()?;
    let none = list.len() > 1 && list.iter().all(|sample| sample.read().is_err());
    none.then(|| {
        format!(
            "none of its {} images can be read (the first: {}: {first}); check that the folder of the images is mounted here, or \
             make a new plan",
            list.len(),
            list.get(0).name
        )
    })
}
