//! Reports as files: of a head that was just fitted, and of a head on other images.

use std::path::Path;

use ndarray::ArrayView2;

use super::{
    Figures, Layers, LearningCurve, NamedValue, Overlays, Photos, Report, ReportError, SimilarityMap,
};
use crate::evaluate::{Assessment, CalibrationMetrics, LabelledPredictions};
use crate::features::FeatureFile;
use crate::files;
use crate::head::{Head, HeadKind};
use crate::messages::{count, count_of};
use crate::network::ModelsFolder;
use crate::training::TrainedHead;

/// Suspects of each kind that are ranked.
const SUSPECTS: usize = 20;

/// What is being done for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportStep {
    /// Heads are fitted to parts of the images.
    LearningCurve,
    /// The map of the features is drawn.
    Map,
    /// The answers for some photos are explained.
    Explanations,
    /// Photos are made small.
    Thumbnails,
}

/// A head that was just fitted, with its cross-validation.
pub struct FittingReport<'a> {
    /// The features that it was fitted to.
    pub file: &'a FeatureFile,
    /// The head and its images.
    pub trained: &'a TrainedHead,
    /// The head's file, if it was written.
    pub output: Option<&'a Path>,
    /// How other layers and heads do, if they were compared.
    pub layers: Option<Layers>,
}

impl FittingReport<'_> {
    /// Writes the report to `path`; it says that `command` made it. `progress` hears how many of how many parts of a step
    /// are done.
    ///
    /// # Errors
    /// The network cannot be run, the page cannot be filled in, or the file cannot be written.
    pub fn write(
        self,
        path: &Path,
        models: &ModelsFolder,
        command: &str,
        progress: &mut dyn FnMut(ReportStep, usize, usize),
    ) -> Result<(), ReportError> {
        let Self { file, trained, output, layers } = self;
        let TrainedHead { head, labelled, duplicates, out_of_fold, .. } = trained;
        let (probabilities, predicted) = (out_of_fold.probabilities.view(), out_of_fold.answers());
        let data = labelled.training_data(&duplicates.groups);
        progress(ReportStep::LearningCurve, 0, 1);
        let learning = LearningCurve::measure(&data, &head.model.settings, out_of_fold, |done, total| {
            progress(ReportStep::LearningCurve, done, total);
        });
        progress(ReportStep::Map, 0, 1);
        let map = SimilarityMap::draw(labelled.features.view(), &labelled.labels, labelled.class_names.len());
        let calibration = match &head.evaluation.calibration {
            Some(calibration) => calibration.clone(),
            None => CalibrationMetrics::new(probabilities, &predicted, &labelled.labels),
        };
        let spec = &head.provenance.spec;
        let source = &file.header().source;
        let mut report = Report {
            title: format!("{} head on {} of {}", kind(head), spec.layer, spec.network_name()),
            subtitle: subtitle(labelled.names.len(), &labelled.class_names, source),
            class_names: &labelled.class_names,
            names: &labelled.names,
            labels: &labelled.labels,
            probabilities,
            predicted: &predicted,
            photos: Photos::of_features(source, file.path()),
            overlays: None,
            layers,
            figures: Figures::of_evaluation(&head.evaluation, calibration),
            learning,
            suspects: Some(trained.suspects(SUSPECTS)),
            duplicates: &duplicates.sets,
            map,
            provenance: provenance(
                NamedValue::code("features", file.path().display().to_string()),
                head,
                output,
                command,
            ),
        };
        report.overlays = Overlays::draw(&report, head, models, progress)?;
        report.write(path, progress)
    }
}

/// A head on images that it was not fitted to.
pub struct AssessmentReport<'a> {
    /// The head.
    pub head: &'a Head,
    /// Its file.
    pub head_path: &'a Path,
    /// What it said.
    pub judged: &'a LabelledPredictions<'a>,
    /// How good that is.
    pub assessment: &'a Assessment,
    /// What the user named as the source of the images.
    pub source: &'a str,
    /// Their features, one row an image.
    pub features: ArrayView2<'a, f32>,
    /// Where they lie.
    pub photos: &'a Photos,
}

impl AssessmentReport<'_> {
    /// As [`FittingReport::write`].
    ///
    /// # Errors
    /// As [`FittingReport::write`].
    pub fn write(
        &self,
        path: &Path,
        models: &ModelsFolder,
        command: &str,
        progress: &mut dyn FnMut(ReportStep, usize, usize),
    ) -> Result<(), ReportError> {
        let Self { head, judged, source, .. } = *self;
        progress(ReportStep::Map, 0, 1);
        let mut report = Report {
            title: format!("{} head on other photos", kind(head)),
            subtitle: subtitle(judged.names.len(), judged.class_names, source),
            class_names: judged.class_names,
            names: judged.names,
            labels: judged.labels,
            probabilities: judged.probabilities,
            predicted: judged.predicted,
            photos: self.photos.clone(),
            overlays: None,
            layers: None,
            figures: Figures::from(self.assessment),
            learning: None,
            suspects: None,
            duplicates: &[],
            map: SimilarityMap::draw(self.features, judged.labels, judged.class_names.len()),
            provenance: provenance(
                NamedValue::code("assessed on", source),
                head,
                Some(self.head_path),
                command,
            ),
        };
        report.overlays = Overlays::draw(&report, head, models, progress)?;
        report.write(path, progress)
    }
}

impl Report<'_> {
    /// Writes the page to `path`.
    fn write(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(ReportStep, usize, usize),
    ) -> Result<(), ReportError> {
        let html = self.html(files::folder_of(path), &jiff::Timestamp::now(), |done, total| {
            progress(ReportStep::Thumbnails, done, total);
        })?;
        files::write_atomically(path, html.as_bytes())
            .map_err(|source| ReportError::Write { path: path.to_owned(), source })
    }
}

fn kind(head: &Head) -> &'static str {
    match head.model.settings.kind {
        HeadKind::Svm => "SVM",
        HeadKind::Logistic => "Logistic",
        HeadKind::Ridge => "Ridge",
    }
}

/// `808 photos of 4 classes in data`.
fn subtitle(photos: usize, classes: &[String], source: &str) -> String {
    let classes = count_of(classes.len(), "class", "classes");
    format!("{} of {classes} in {source}", count(photos, "photo"))
}

/// What was measured, where the head comes from, and what wrote the report.
fn provenance(measured: NamedValue, head: &Head, head_path: Option<&Path>, command: &str) -> Vec<NamedValue> {
    let spec = &head.provenance.spec;
    let settings = &head.model.settings;
    let mut facts = vec![measured];
    facts.extend(head_path.map(|path| NamedValue::code("head", path.display().to_string())));
    facts.extend((settings.kind != HeadKind::Ridge).then(|| NamedValue::new("C", settings.c().to_string())));
    facts.extend([
        NamedValue::new("network", spec.network_name()),
        NamedValue::code("SHA-256 of the network", &spec.model_sha256),
        NamedValue::new("layer", format!("{} (tensor {})", spec.layer, spec.tensor)),
        NamedValue::new("pooling", spec.pooling.to_string()),
        NamedValue::new("features of a photo", head.model.columns().to_string()),
        NamedValue::code("preprocessing", serde_json::to_string(&spec.preprocess).unwrap_or_default()),
        NamedValue::code("precision", spec.precision.to_string()),
        NamedValue::new("cross-validation", format!("{} folds, seed {}", settings.folds, settings.seed)),
        NamedValue::code("command", command),
        NamedValue::new("program", format!("cnncodes {}", env!("CARGO_PKG_VERSION"))),
    ]);
    facts
}
