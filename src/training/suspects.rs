//! Suspects of a features file: heads that have not seen an image judge it, and the most doubtful images are ranked.

use super::{
    DuplicateSettings, LabelledFeatures, SmallClassPolicy, TrainedHead, TrainingError, TrainingSet,
    TrainingStep,
};
use crate::dataset::Duplicates;
use crate::evaluate::{Note, Severity, SuspectEvidence, Suspects};
use crate::features::FeatureFile;
use crate::head::{FitSettings, HeadKind, Novelty, OutOfFold, fit_head};

/// How suspects are searched for.
#[derive(Debug, Clone)]
pub struct SuspectSettings {
    /// The layer; `None` is the file's first.
    pub layer: Option<String>,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Seed of the folds.
    pub seed: u64,
    /// Which images count as duplicates of one another.
    pub duplicates: DuplicateSettings,
    /// What happens to small classes.
    pub small_classes: SmallClassPolicy,
    /// Suspects of each kind that are kept.
    pub most: usize,
}

impl Default for SuspectSettings {
    /// The file's first layer, 5 folds, seed 0, 20 suspects of each kind.
    fn default() -> Self {
        Self {
            layer: None,
            folds: 5,
            seed: 0,
            duplicates: DuplicateSettings::default(),
            small_classes: SmallClassPolicy::default(),
            most: 20,
        }
    }
}

/// The suspects of a features file.
#[derive(Debug)]
#[non_exhaustive]
pub struct FoundSuspects {
    /// The suspects, ranked.
    pub suspects: Suspects,
    /// What the reader should know: what was left out, and the warnings of the head and of the duplicate search.
    pub notes: Vec<String>,
}

/// Ranks the labelled images of a features file by how doubtful they are: a logistic regression is fitted without each fold
/// and judges its images.
///
/// `on_step` hears what begins.
///
/// # Errors
/// [`TrainingError`]: the file, its labels and the settings do not go together.
pub fn find_suspects(
    file: &FeatureFile,
    settings: &SuspectSettings,
    on_step: &mut dyn FnMut(TrainingStep),
) -> Result<FoundSuspects, TrainingError> {
    let SuspectSettings { folds, seed, duplicates, small_classes, .. } = settings;
    duplicates.check(file)?;
    let mut left_out = Vec::new();
    let mut labelled = small_classes.apply(LabelledFeatures::without_features(file)?, &mut left_out)?;
    labelled.read_features(file, settings.layer.as_deref())?;
    on_step(TrainingStep::FindingDuplicates);
    let set = TrainingSet::new(labelled, duplicates, small_classes, *folds)?;
    left_out.extend(set.left_out);
    let fit = FitSettings { folds: *folds, seed: *seed, ..FitSettings::new(HeadKind::Logistic) };
    on_step(TrainingStep::Fitting);
    let fitted = fit_head(&set.labelled.training_data(&set.duplicates.groups), &fit)?;
    let warnings = fitted.evaluation.notes.iter().chain(&set.notes);
    let warnings = warnings.filter(|note| note.severity == Severity::Warning);
    let text = |note: &Note| note.text.clone();
    let mut notes = set.labelled.notes.clone();
    notes.extend(left_out.iter().chain(warnings).map(text));
    let suspects = rank(&set.labelled, &set.duplicates, &fitted.out_of_fold, *seed, settings.most);
    Ok(FoundSuspects { suspects, notes })
}

impl TrainedHead {
    /// The most doubtful of the images that the head was fitted to, at most `most` of each kind.
    pub fn suspects(&self, most: usize) -> Suspects {
        let Self { head, labelled, duplicates, out_of_fold } = self;
        rank(labelled, duplicates, out_of_fold, head.model.settings.seed, most)
    }
}

fn rank(
    labelled: &LabelledFeatures,
    duplicates: &Duplicates,
    out_of_fold: &OutOfFold,
    seed: u64,
    most: usize,
) -> Suspects {
    let evidence = SuspectEvidence {
        class_names: &labelled.class_names,
        names: &labelled.names,
        labels: &labelled.labels,
        probabilities: out_of_fold.probabilities.view(),
        predicted: &out_of_fold.answers(),
        distances: &Novelty::held_out_distances(labelled.features.view(), &duplicates.groups, seed),
        duplicates,
    };
    Suspects::rank(&evidence, most)
}
