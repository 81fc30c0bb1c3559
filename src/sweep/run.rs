//! The sweep itself: features of every candidate layer, heads on each of them, and the advice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::network_features::NetworkFeatures;
use super::{
    CandidateFeatures, CandidateHead, HeadTrial, LayerChoice, POOLINGS, SPREAD_LAYERS, SearchSpace,
    SweepError, SweepResult, advise, kind_name, try_heads,
};
use crate::dataset::{Dataset, InputProblem};
use crate::evaluate::{Note, Severity};
use crate::extract::{ExtractProgress, ExtractSettings};
use crate::features::{FeatureFile, FeatureFileError};
use crate::head::{NOT_ABOVE_CHANCE, fit_head};
use crate::network::{Model, Pooling, SessionSettings};
use crate::training::{
    DuplicateSettings, LabelledFeatures, SmallClassPolicy, TrainedHead, TrainingError, TrainingSet,
    TrainingSettings, head_of,
};

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct SweepSettings {
    /// The layers of each network.
    pub layers: LayerChoice,
    /// How maps are pooled; each pooling gives features of their own.
    pub poolings: Vec<Pooling>,
    /// The heads that are tried on each layer.
    pub heads: SearchSpace,
    /// Which images count as duplicates of one another.
    pub duplicates: DuplicateSettings,
    /// What happens to small classes.
    pub small_classes: SmallClassPolicy,
    /// Whether the EXIF orientation of photos is ignored.
    pub ignore_orientation: bool,
    /// What the networks run on.
    pub session: SessionSettings,
    /// How the features are extracted.
    pub extract: ExtractSettings,
    /// Whether to measure how long the network takes up to each layer.
    pub timing: bool,
    /// The folder for the features of each network, `MODEL-sweep.h5`; it is created if it does not exist.
    pub folder: PathBuf,
    /// Set to end the sweep after what is in flight. Finished features are kept.
    pub stop: Arc<AtomicBool>,
}

impl Default for SweepSettings {
    /// Six layers, maps averaged, every kind of head, and features in `features/`.
    fn default() -> Self {
        Self {
            layers: LayerChoice::Spread(SPREAD_LAYERS),
            poolings: POOLINGS.to_vec(),
            heads: SearchSpace::default(),
            duplicates: DuplicateSettings::default(),
            small_classes: SmallClassPolicy::default(),
            ignore_orientation: false,
            session: SessionSettings::default(),
            extract: ExtractSettings::default(),
            timing: true,
            folder: PathBuf::from("features"),
            stop: Arc::default(),
        }
    }
}

/// What a sweep reports while it runs.
#[derive(Debug, Clone, Copy)]
pub enum SweepEvent<'a> {
    /// How many images have gone through the network.
    Extracted(ExtractProgress),
    /// How many layers of the network have been timed.
    Timed(ExtractProgress),
    /// To how many features, of all networks, heads have been fitted.
    Fitted(ExtractProgress),
    /// Something that the user ought to know.
    Note(&'a str),
}

/// A finished sweep, with the features that it compared.
pub struct Sweep {
    /// What it found.
    pub result: SweepResult,
    settings: SweepSettings,
    networks: Vec<NetworkFeatures>,
    images: TrainingSet,
}

impl Sweep {
    /// Extracts the features of `images` at the candidate layers of each of `models`, cross-validates heads on all of them,
    /// on the same folds, and draws the conclusions. Features that an earlier sweep left are reused.
    ///
    /// # Errors
    /// There are fewer than two classes, no model, a model twice or one that lacks a layer, a network fails, a file cannot be written,
    /// or no head can be fitted.
    pub fn run(
        mut images: Dataset,
        models: Vec<Model>,
        settings: &SweepSettings,
        tell: &mut dyn FnMut(SweepEvent<'_>),
    ) -> Result<Self, SweepError> {
        if images.class_names.len() < 2 {
            return Err(SweepError::TooFewClasses { source_name: images.source });
        }
        if models.is_empty() {
            return Err(SweepError::NoModel);
        }
        let twice = |(at, model): (usize, &Model)| models[..at].iter().any(|other| other.name == model.name);
        if let Some(at) = models.iter().enumerate().position(twice) {
            return Err(SweepError::NamedTwice { model: models[at].name.clone() });
        }
        if let Some(note) = settings.small_classes.apply_to_samples(&mut images)? {
            tell(SweepEvent::Note(&note.text));
        }
        let mut networks = Vec::with_capacity(models.len());
        for (network, model) in models.into_iter().enumerate() {
            networks.push(NetworkFeatures::extract(network, model, &images, settings, tell)?);
        }
        let (images, mut notes) = training_set(settings, &networks)?;
        let trials = try_all(settings, &networks, &images, tell)?;
        notes.extend(warnings(&trials));
        let result = conclude(settings, &networks, &images, trials, notes);
        Ok(Self { result, settings: settings.clone(), networks, images })
    }

    /// The images that could not be read.
    pub fn problems(&self) -> &[InputProblem] {
        &self.networks[0].problems
    }

    /// The file that holds the features of a candidate, beside those of the network's other candidates.
    pub fn file(&self, candidate: &CandidateHead) -> &FeatureFile {
        &self.networks[candidate.features.network].file
    }

    /// Writes the features of a candidate to a file of their own, as `extract` would.
    ///
    /// # Errors
    /// The sweep's file cannot be read, or the new one cannot be written.
    pub fn write_features(&self, candidate: &CandidateHead, output: &Path) -> Result<(), FeatureFileError> {
        self.networks[candidate.features.network].write_alone(&candidate.features, output)
    }

    /// How a head of a candidate's kind is fitted to its features as the sweep fitted it.
    pub fn training_settings(&self, candidate: &CandidateHead) -> TrainingSettings {
        TrainingSettings {
            duplicates: self.settings.duplicates.clone(),
            small_classes: self.settings.small_classes,
            ..TrainingSettings::new(self.settings.heads.settings(candidate.kind))
        }
    }

    /// Fits a candidate's head once more, with the answers of its cross-validation.
    ///
    /// # Errors
    /// The features cannot be read, or the head cannot be fitted.
    pub fn fit(&self, candidate: &CandidateHead) -> Result<TrainedHead, SweepError> {
        let CandidateHead { features, kind, .. } = candidate;
        let file = self.file(candidate);
        let labelled = read(&self.images, file, features)?;
        let duplicates = self.images.duplicates.clone();
        let settings = self.settings.heads.settings(*kind);
        let fitted = fit_head(&labelled.training_data(&duplicates.groups), &settings);
        let mut fitted = fitted.map_err(TrainingError::from)?;
        fitted.evaluation.duplicates.clone_from(&self.result.duplicates);
        let out_of_fold = fitted.out_of_fold.clone();
        let mut head = head_of(file, Some(&features.name), fitted, &labelled)?;
        head.provenance.spec.layer.clone_from(&features.layer);
        Ok(TrainedHead { head, labelled, duplicates, out_of_fold })
    }
}

/// The images with the first network's top features, and what the reader of the result should know about them.
fn training_set(
    settings: &SweepSettings,
    networks: &[NetworkFeatures],
) -> Result<(TrainingSet, Vec<Note>), SweepError> {
    let SweepSettings { duplicates, small_classes, heads, .. } = settings;
    let first = &networks[0];
    let mut labelled = LabelledFeatures::without_features(&first.file)?;
    // Hashes are of the images, so any network's file will do for those that an earlier version left out.
    for NetworkFeatures { file, .. } in &networks[1..] {
        if labelled.without_hash() == 0 {
            break;
        }
        let other = LabelledFeatures::without_features(file)?;
        if (&other.names, &other.sha256) == (&labelled.names, &labelled.sha256) && other.without_hash() == 0 {
            labelled.hashes = other.hashes;
        }
    }
    let mut left_out = Vec::new();
    labelled = small_classes.apply(labelled, &mut left_out)?;
    labelled.read_features(&first.file, Some(&first.candidates[0].name))?;
    let set = TrainingSet::new(labelled, duplicates, small_classes, heads.folds, None)?;
    let mut notes = set.notes.clone();
    notes.extend(set.labelled.notes.iter().map(Note::info));
    notes.extend(left_out.into_iter().chain(set.left_out.clone()));
    Ok((set, notes))
}

/// A candidate's features for the images of `set`.
fn read(
    set: &TrainingSet,
    file: &FeatureFile,
    features: &CandidateFeatures,
) -> Result<LabelledFeatures, SweepError> {
    let mut labelled = LabelledFeatures::without_features(file)?;
    let keep: Vec<bool> =
        labelled.class_names.iter().map(|name| set.labelled.class_names.contains(name)).collect();
    if keep.contains(&false) {
        labelled = labelled.keep_classes(&keep).0;
    }
    if labelled.names != set.labelled.names {
        return Err(SweepError::OtherImages { path: file.path().to_owned() });
    }
    labelled.read_features(file, Some(&features.name))?;
    Ok(labelled)
}

/// Cross-validates heads on all features of all networks, on the same folds.
fn try_all(
    settings: &SweepSettings,
    networks: &[NetworkFeatures],
    images: &TrainingSet,
    tell: &mut dyn FnMut(SweepEvent<'_>),
) -> Result<Vec<HeadTrial>, SweepError> {
    let total = networks.iter().map(|network| network.candidates.len()).sum();
    let mut done = 0;
    let mut trials: Vec<HeadTrial> = Vec::new();
    tell(SweepEvent::Fitted(ExtractProgress { done, total }));
    for network in networks {
        // The earliest layer first, as the table has it.
        for features in network.candidates.iter().rev() {
            if settings.stop.load(Ordering::Relaxed) {
                return Err(SweepError::Stopped);
            }
            let labelled = read(images, &network.file, features)?;
            let data = labelled.training_data(&images.duplicates.groups);
            let tried = try_heads(&data, features, &settings.heads).map_err(|source| SweepError::Head {
                features: features.name.clone(),
                model: network.model.name.clone(),
                source: Box::new(source),
            })?;
            trials.extend(tried);
            done += 1;
            tell(SweepEvent::Fitted(ExtractProgress { done, total }));
        }
    }
    Ok(trials)
}

fn conclude(
    settings: &SweepSettings,
    networks: &[NetworkFeatures],
    images: &TrainingSet,
    trials: Vec<HeadTrial>,
    notes: Vec<Note>,
) -> SweepResult {
    let TrainingSet { labelled, duplicates, .. } = images;
    let mut class_sizes = vec![0; labelled.class_names.len()];
    labelled.labels.iter().for_each(|&label| class_sizes[label] += 1);
    let rows = labelled.labels.len();
    let groups = duplicates.groups.iter().max().map_or(0, |&last| last + 1);
    let chance = class_sizes.iter().max().map_or(0.0, |&largest| largest as f64 / rows as f64);
    SweepResult {
        source: networks[0].file.header().source.clone(),
        advice: advise(&trials, groups, class_sizes.len(), chance),
        rows,
        groups,
        folds: trials[0].candidate.fold_accuracies.len(),
        seed: settings.heads.seed,
        chance,
        networks: networks.iter().map(NetworkFeatures::summary).collect(),
        candidates: trials.into_iter().map(|trial| trial.candidate).collect(),
        next: Vec::new(),
        duplicates: duplicates.named(&labelled.names),
        class_names: labelled.class_names.clone(),
        class_sizes,
        notes,
    }
}

/// The heads' warnings, each once, with whom it concerns. That a head is not shown to be above chance, the table shows.
fn warnings(trials: &[HeadTrial]) -> Vec<Note> {
    let mut told: Vec<(&str, Vec<&CandidateHead>)> = Vec::new();
    for trial in trials {
        for note in trial.notes.iter().filter(|note| note.severity == Severity::Warning) {
            match told.iter_mut().find(|(text, _)| *text == note.text) {
                Some((_, concerned)) => concerned.push(&trial.candidate),
                None => told.push((&note.text, vec![&trial.candidate])),
            }
        }
    }
    told.retain(|(text, _)| !text.starts_with(NOT_ABOVE_CHANCE));
    let note = |(text, concerned): (&str, Vec<&CandidateHead>)| {
        if concerned.len() == trials.len() {
            return Note::warning(text);
        }
        let (name, kind) = (&concerned[0].features.name, kind_name(concerned[0].kind));
        let others = match concerned.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        Note::warning(format!("{name} with {kind}{others}: {text}"))
    };
    told.into_iter().map(note).collect()
}
