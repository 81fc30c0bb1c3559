//! From a feature file to a head: which rows have a label, which of them are duplicates, what is set apart for testing, which
//! classes are too small, and the fit with its evaluation.
//!
//! [`train`] does it all; [`TrainingSet`] is the part that `sweep` and `suspects` need as well.

mod class_weighting;
mod duplicates;
mod error;
mod head_options;
mod labelled;
mod row_values;
mod small_classes;
mod streamed_layer;
mod suspects;
mod test_split;
mod training_set;

use std::collections::HashSet;
use std::path::Path;

pub use self::class_weighting::ClassWeighting;
pub use self::duplicates::DuplicateSettings;
pub use self::error::TrainingError;
pub use self::head_options::{Cost, HeadOptions, KernelFamily};
pub use self::labelled::LabelledFeatures;
pub use self::row_values::RowValues;
pub use self::small_classes::{LeftOut, SmallClassPolicy};
pub use self::streamed_layer::StreamedLayer;
pub use self::suspects::{FoundSuspects, SuspectSettings, find_suspects};
pub use self::test_split::SplitSource;
use self::test_split::{TrainTestSplit, divide, warning_of_classes};
pub use self::training_set::TrainingSet;
use crate::dataset::Duplicates;
use crate::evaluate::{Note, TestSet};
use crate::features::FeatureFile;
use crate::head::{
    ClassWeights, Engine, FitSettings, FittedHead, Head, HeadError, HeadKind, HeadModel, HeadProvenance,
    Kernel, Novelty, OutOfFold, StreamedData, fit_head, fit_head_streamed,
};
use crate::memory::MemoryLimit;

/// How a head is made of a feature file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrainingSettings {
    /// The head and its cross-validation. Its class weights are replaced by `class_weighting`.
    pub fit: FitSettings,
    /// How much an image weighs, by its class.
    pub class_weighting: ClassWeighting,
    /// The layer; `None` is the file's first.
    pub layer: Option<String>,
    /// The classes of the images, in place of those in the file.
    pub labels: Option<RowValues>,
    /// Which images count as duplicates of one another.
    pub duplicates: DuplicateSettings,
    /// What happens to small classes.
    pub small_classes: SmallClassPolicy,
    /// Images that are set apart for testing.
    pub split: Option<SplitSource>,
    /// Memory for the features; where they take more they are streamed. `None` is half of the machine's, and features that
    /// cannot be streamed are then read all the same.
    pub max_memory: Option<MemoryLimit>,
    /// Measure as well what the accuracy would be with duplicates on both sides of the folds.
    pub leaky_accuracy: bool,
}

impl TrainingSettings {
    /// The defaults, with this head.
    pub fn new(fit: FitSettings) -> Self {
        Self {
            fit,
            class_weighting: ClassWeighting::default(),
            layer: None,
            labels: None,
            duplicates: DuplicateSettings::default(),
            small_classes: SmallClassPolicy::default(),
            split: None,
            max_memory: None,
            leaky_accuracy: false,
        }
    }

    /// What a file of such a head is named after: `svm`, `svm-rbf`, `svm-poly`, `svm-linfa`, `logistic`,
    /// `logistic-linfa` or `ridge`.
    pub fn kind_name(&self) -> &'static str {
        match (self.fit.kind, &self.fit.kernel) {
            (HeadKind::Svm, _) if self.fit.solver == Engine::Linfa => "svm-linfa",
            (HeadKind::Logistic, _) if self.fit.solver == Engine::Linfa => "logistic-linfa",
            (HeadKind::Svm, Kernel::Linear) => "svm",
            (HeadKind::Svm, Kernel::Rbf { .. }) => "svm-rbf",
            (HeadKind::Svm, Kernel::Poly { .. }) => "svm-poly",
            (HeadKind::Logistic, _) => "logistic",
            (HeadKind::Ridge, _) => "ridge",
        }
    }

    /// Whether such a head can be fitted to features that stay in their file.
    fn is_streamable(&self) -> bool {
        let weighted_ridge =
            self.fit.kind == HeadKind::Ridge && self.class_weighting != ClassWeighting::Uniform;
        let by_passes = self.fit.kernel == Kernel::Linear
            && self.fit.solver == Engine::Own
            && self.fit.tuning.is_none()
            && !weighted_ridge;
        // Any head is fitted to the components, which are in memory.
        by_passes || self.fit.pca.is_some()
    }

    /// Whether [`train`] will leave the features in their file.
    ///
    /// # Errors
    /// The file has no such layer.
    pub fn streams(&self, file: &FeatureFile) -> Result<bool, TrainingError> {
        Ok(self.streamed(file)?.is_some())
    }

    fn streamed<'a>(&'a self, file: &'a FeatureFile) -> Result<Option<StreamedLayer<'a>>, TrainingError> {
        let layer = StreamedLayer::if_too_large(file, self.layer.as_deref(), self.memory())?;
        // What cannot be streamed is refused only where the bound was asked for.
        Ok(layer.filter(|_| self.is_streamable() || self.max_memory.is_some()))
    }

    /// Refuses a report on features that will be left in their file.
    ///
    /// # Errors
    /// [`TrainingError::ReportOfStreamed`], or the file has no such layer.
    pub fn check_report(&self, file: &FeatureFile, report: &Path) -> Result<(), TrainingError> {
        match self.streams(file)? {
            false => Ok(()),
            true => {
                let (report, limit) = (report.to_owned(), self.memory().to_string());
                Err(TrainingError::ReportOfStreamed { report, limit })
            }
        }
    }

    fn memory(&self) -> MemoryLimit {
        self.max_memory.unwrap_or_default()
    }
}

/// A head with what it was made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct TrainedHead {
    /// The head; its evaluation holds what cross-validation found.
    pub head: Head,
    /// The images that it was fitted to.
    pub labelled: LabelledFeatures,
    /// Which of them are duplicates of one another.
    pub duplicates: Duplicates,
    /// Scores and probabilities of each image from heads that have seen neither it nor its duplicates.
    pub out_of_fold: OutOfFold,
}

/// What [`train`] is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainingStep {
    /// It looks for duplicates.
    FindingDuplicates,
    /// It fits heads: one a fold, then one to all images.
    Fitting,
}

/// Makes a head of a feature file: sorts its rows, fits with cross-validation, tests and describes.
///
/// `on_step` hears what begins.
///
/// # Errors
/// [`TrainingError`]: the file, its labels and the settings do not go together.
pub fn train(
    file: &FeatureFile,
    settings: &TrainingSettings,
    on_step: &mut dyn FnMut(TrainingStep),
) -> Result<TrainedHead, TrainingError> {
    let layer = settings.layer.as_deref();
    let streamed = settings.streamed(file)?;
    if streamed.is_some() && settings.split.is_some() {
        return Err(TrainingError::SplitOfStreamed { limit: settings.memory().to_string() });
    }
    settings.duplicates.check(file)?;
    let mut read = LabelledFeatures::labelled_by(settings.labels.as_ref(), file)?;
    let mut notes = Vec::new();
    if settings.split.is_none() {
        read = settings.small_classes.apply(read, &mut notes)?;
    }
    if streamed.is_none() {
        read.read_features(file, layer)?;
    }
    on_step(TrainingStep::FindingDuplicates);
    let FitInputs { labelled, duplicates, test } =
        FitInputs::of(read, settings, streamed.as_ref(), &mut notes)?;
    let class_weights = settings.class_weighting.of_classes(&labelled.class_names)?;
    let fit = RepeatedFit { labelled: &labelled, settings, class_weights, streamed };
    on_step(TrainingStep::Fitting);
    let mut fitted = fit.with_groups(&duplicates.groups)?;
    if !duplicates.sets.is_empty() {
        if settings.leaky_accuracy {
            let apart: Vec<usize> = (0..labelled.labels.len()).collect();
            fitted.evaluation.leaky_accuracy = Some(fit.with_groups(&apart)?.evaluation.accuracy);
        }
        fitted.evaluation.duplicates = duplicates.named(&labelled.names);
    }
    fitted.evaluation.notes.extend(notes);
    fitted.evaluation.test = test.map(|test| test.measure(&fitted.model)).transpose()?;
    if streamed.is_some() {
        fitted.evaluation.notes.push(Note::info(format!(
            "the features were streamed from their file, to stay within {} of memory (--max-memory)",
            settings.memory()
        )));
    } else {
        let features = labelled.features.view();
        fitted.model.novelty =
            Novelty::fit(&features, &duplicates.groups, settings.fit.seed).map_err(HeadError::unreadable)?;
    }
    let out_of_fold = fitted.out_of_fold.clone();
    let head = head_of(file, layer, fitted, &labelled)?;
    Ok(TrainedHead { head, labelled, duplicates, out_of_fold })
}

/// The fitted head with where its features come from.
///
/// # Errors
/// The file has no such layer, or does not say how its features were made.
pub fn head_of(
    file: &FeatureFile,
    layer: Option<&str>,
    fitted: FittedHead,
    labelled: &LabelledFeatures,
) -> Result<Head, TrainingError> {
    let provenance = HeadProvenance {
        spec: file.spec(layer)?.clone(),
        row_shape: file.layer(layer)?.shape.clone(),
        features_file: file.path().display().to_string(),
        features_rows: file.rows(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(Head::new(fitted, provenance, &labelled.sha256))
}

/// A fit that is repeated with other groups.
struct RepeatedFit<'a> {
    labelled: &'a LabelledFeatures,
    settings: &'a TrainingSettings,
    class_weights: ClassWeights,
    streamed: Option<StreamedLayer<'a>>,
}

impl RepeatedFit<'_> {
    fn with_groups(&self, groups: &[usize]) -> Result<FittedHead, TrainingError> {
        let Self { labelled, settings, .. } = *self;
        let fit = FitSettings { class_weights: self.class_weights.clone(), ..settings.fit.clone() };
        let Some(layer) = &self.streamed else {
            return Ok(fit_head(&labelled.training_data(groups), &fit)?);
        };
        let data = StreamedData {
            source: &layer.rows(&labelled.rows)?,
            labels: &labelled.labels,
            class_names: &labelled.class_names,
            groups,
            row_names: &labelled.names,
            max_memory: settings.memory().bytes(),
        };
        Ok(fit_head_streamed(&data, &fit)?)
    }
}

/// What a head is fitted to, and what it is tested on.
struct FitInputs {
    labelled: LabelledFeatures,
    duplicates: Duplicates,
    test: Option<TestPart>,
}

/// Images for testing, and which of them are duplicates of training images.
struct TestPart {
    images: LabelledFeatures,
    straddles: Vec<bool>,
}

impl FitInputs {
    /// `notes` is told what the reader of the results should know.
    fn of(
        mut labelled: LabelledFeatures,
        settings: &TrainingSettings,
        streamed: Option<&StreamedLayer<'_>>,
        notes: &mut Vec<Note>,
    ) -> Result<FitInputs, TrainingError> {
        let TrainingSettings { duplicates: wanted, small_classes, .. } = settings;
        let folds = settings.fit.folds;
        let Some(source) = &settings.split else {
            labelled.notes.extend(warning_of_classes(&labelled.class_names));
            let set = TrainingSet::new(labelled, wanted, small_classes, folds, streamed)?;
            notes.extend(set.notes.into_iter().chain(set.left_out));
            return Ok(FitInputs { labelled: set.labelled, duplicates: set.duplicates, test: None });
        };
        let mut divided = divide(labelled, source)?;
        let mut images = vec![0; divided.whole.class_names.len()];
        divided.training.iter().for_each(|&row| images[divided.whole.labels[row]] += 1);
        if let Some(LeftOut { keep, note }) = small_classes.left_out(&divided.whole.class_names, &images)? {
            notes.push(note);
            divided = divided.keep_classes(&keep).0;
        }
        let (mut duplicates, found) = divided.whole.duplicates(wanted, folds, streamed)?;
        notes.extend(found);
        let training = divided.training.iter().copied();
        if let Some(LeftOut { keep, note }) =
            small_classes.left_out_of_duplicates(&divided.whole, &duplicates, training)?
        {
            notes.push(note);
            let (kept, rows) = divided.keep_classes(&keep);
            (divided, duplicates) = (kept, duplicates.select(&rows));
        }
        let TrainTestSplit { whole, training, test } = divided;
        let trained: HashSet<usize> = training.iter().map(|&row| duplicates.groups[row]).collect();
        let straddles = test.iter().map(|&row| trained.contains(&duplicates.groups[row])).collect();
        let test = TestPart { images: whole.select(&test), straddles };
        let labelled = LabelledFeatures { notes: whole.notes.clone(), ..whole.select(&training) };
        Ok(FitInputs { labelled, duplicates: duplicates.select(&training), test: Some(test) })
    }
}

impl TestPart {
    fn measure(&self, model: &HeadModel) -> Result<TestSet, TrainingError> {
        let LabelledFeatures { features, labels, class_names, names, .. } = &self.images;
        Ok(TestSet::new(class_names, names, labels, &model.predict(features.view())?, &self.straddles))
    }
}
