//! The training of a project: from its photos to a head, and what there is to say about it. The result is kept on the disk with the
//! head; the file of the result names that of the head, so that both change at one moment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::ServeError;
use super::job::{JobEnd, JobProgress, Step};
use super::project::Project;
use crate::classifier::AnswerOptions;
use crate::dataset::Dataset;
use crate::evaluate::{Difference, Evaluation, Suspects};
use crate::extract::{
    ExtractError, ExtractEvent, ExtractRequest, ExtractSettings, ExtractorSettings, WantedLayer, extract,
    features_file_name,
};
use crate::features::FeatureFile;
use crate::files::write_atomically;
use crate::head::{Head, HeadKind};
use crate::messages::{count, with_causes};
use crate::network::{Catalogue, Graph, Layer, Model, ModelsFolder};
use crate::report::{FittingReport, LearningCurve, LearningPoint, ReportStep};
use crate::training::{HeadOptions, SmallClassPolicy, TrainedHead, TrainingSettings, TrainingStep, train};

/// Suspects of each kind.
const SUSPECTS: usize = 24;
/// Photos that are named for a cell of the confusion matrix.
const PHOTOS_OF_CELL: usize = 200;
/// Photos of each kind that are proposed for labelling.
const PROPOSED: usize = 12;
/// Photos that two trainings must share to be compared.
const FEWEST_SHARED: usize = 4;
/// Rows of features that are read at a time.
const ROWS: usize = 256;
/// The file of the last result.
const RESULT: &str = "result.json";

/// The network that a project's features are made with.
pub(super) struct TeachNetwork {
    pub model: Model,
    pub graph: Graph,
    pub layer: Layer,
}

impl TeachNetwork {
    /// The model of that name, or the only one, at the layer of that name, or at its own, or at the penultimate.
    ///
    /// # Errors
    /// There is no such model or layer.
    pub fn open(models: &ModelsFolder, model: Option<&str>, layer: Option<&str>) -> Result<Self, ServeError> {
        let model = models.find(model)?;
        let graph = model.open()?;
        let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
        let names: Vec<String> = layer.map(str::to_owned).into_iter().collect();
        let layer = catalogue.wanted(&model, &names)?.swap_remove(0);
        Ok(Self { model, graph, layer })
    }
}

/// What a user chooses of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TrainOptions {
    pub kind: HeadKind,
    pub folds: usize,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self { kind: HeadKind::Logistic, folds: 5 }
    }
}

impl TrainOptions {
    fn settings(self, layer: &str) -> Result<TrainingSettings, JobEnd> {
        let fit = HeadOptions { folds: self.folds, ..HeadOptions::new(self.kind) }.fit_settings();
        Ok(TrainingSettings {
            layer: Some(layer.to_owned()),
            small_classes: SmallClassPolicy { min_per_class: Some(2) },
            ..TrainingSettings::new(fit.map_err(|error| failed(&error))?)
        })
    }
}

/// What a training found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TrainingResult {
    pub trained_at: Timestamp,
    pub seconds: f64,
    pub head: ResultHead,
    pub evaluation: Evaluation,
    pub cells: Vec<Cell>,
    pub suspects: Suspects,
    pub learning: Option<Learning>,
    pub comparison: Option<Comparison>,
    pub label_next: Vec<Proposal>,
    pub problems: Vec<Problem>,
}

/// The head in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ResultHead {
    pub kind: HeadKind,
    pub network: String,
    pub layer: String,
    pub features: usize,
    /// The name under which it was saved.
    pub saved_as: Option<String>,
}

/// A cell of the confusion matrix with its photos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub truth: String,
    pub predicted: String,
    pub count: usize,
    /// The most confident first, not all of very many.
    pub photos: Vec<CellPhoto>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CellPhoto {
    pub id: String,
    /// Of the predicted class.
    pub probability: f64,
    /// Of the given class.
    pub own_probability: f64,
}

/// The learning curve, and what it means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Learning {
    pub points: Vec<LearningPoint>,
    pub gain: Difference,
    pub verdict: String,
}

/// This training against the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Comparison {
    pub previous_trained_at: Timestamp,
    /// Photos that both trainings held out. Their classes are those of today.
    pub photos: usize,
    pub difference: Difference,
    pub verdict: String,
}

/// Why a photo is proposed for labelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reason {
    Uncertain,
    Unlike,
}

/// A photo without a class that is worth one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Proposal {
    pub id: String,
    pub reason: Reason,
    pub class: String,
    pub probability: f64,
    pub distance: Option<f64>,
}

/// A photo that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    pub name: String,
    pub reason: String,
}

/// A result with what the program must know of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredTraining {
    pub result: TrainingResult,
    pub options: TrainOptions,
    /// The file of the head, in the state folder.
    pub head_file: String,
    /// The file of the features.
    pub features_file: PathBuf,
    /// What the project's listing was.
    pub revision: String,
    /// What heads that had not seen a photo took it for: the SHA-256 of the photo and the class's name.
    judged: Vec<(String, String)>,
}

impl StoredTraining {
    /// The last training of the project, if there was one.
    pub fn load(project: &Project) -> Option<Self> {
        let json = fs::read(project.state().join(RESULT)).ok()?;
        let stored: Self = serde_json::from_slice(&json).ok()?;
        stored.head_path(project).is_file().then_some(stored)
    }

    pub fn head_path(&self, project: &Project) -> PathBuf {
        project.state().join(&self.head_file)
    }

    /// Writes the result, and removes the heads of earlier ones.
    pub fn keep(&self, project: &Project) -> Result<(), JobEnd> {
        let path = project.state().join(RESULT);
        let json = serde_json::to_vec(self).map_err(|error| failed(&error))?;
        write_atomically(&path, &json).map_err(|error| cannot_write(&path, &error))?;
        for entry in fs::read_dir(project.state()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".head.h5") && name != self.head_file {
                // One that stays takes room, and nothing else.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// The class has another name from now on.
    pub fn rename_class(&mut self, from: &str, to: &str) {
        let judged = self.judged.iter_mut().filter(|(_, class)| class == from);
        judged.for_each(|(_, class)| to.clone_into(class));
    }
}

fn failed(error: &dyn std::error::Error) -> JobEnd {
    JobEnd::Failed(with_causes(error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> JobEnd {
    JobEnd::Failed(format!("cannot write {}: {error}; make room on the disk", path.display()))
}

/// A project with what trains it.
pub(super) struct Trainer<'a> {
    pub project: &'a Project,
    pub network: &'a TeachNetwork,
    pub extractor: &'a ExtractorSettings,
    pub models: &'a ModelsFolder,
}

impl Trainer<'_> {
    /// Extracts what is new, fits and cross-validates a head, and keeps it with all that there is to say about it.
    pub fn train(
        &self,
        options: TrainOptions,
        previous: Option<&StoredTraining>,
        progress: &JobProgress,
    ) -> Result<StoredTraining, JobEnd> {
        let begin = Instant::now();
        progress.step(Step::Listing)?;
        let revision = self.project.list().map_err(|error| failed(&error))?.revision;
        let set = self.project.dataset().map_err(|error| failed(&error))?;
        let set = set
            .ok_or_else(|| JobEnd::Failed("the project has no photos; add some to two classes".to_owned()))?;
        let (features_file, problems) = self.extract(&set, progress)?;
        let file = FeatureFile::open(&features_file).map_err(|error| failed(&error))?;
        let layer = &self.network.layer.name;
        let trained = self.fit(&file, options, progress)?;
        progress.step(Step::LearningCurve)?;
        let learning = learning(&trained, progress);
        progress.step(Step::Suspects)?;
        let head = &trained.head;
        let result = TrainingResult {
            trained_at: Timestamp::now(),
            seconds: begin.elapsed().as_secs_f64(),
            head: ResultHead {
                kind: options.kind,
                network: self.network.model.name.clone(),
                layer: layer.clone(),
                features: head.model.columns(),
                saved_as: None,
            },
            evaluation: head.evaluation.clone(),
            cells: cells(&trained),
            suspects: trained.suspects(SUSPECTS),
            learning,
            comparison: previous.and_then(|previous| compare(&trained, previous)),
            label_next: proposals(head, &file, layer)?,
            problems,
        };
        progress.step(Step::Saving)?;
        let head_file = format!("{}.head.h5", result.trained_at.as_microsecond());
        head.save(&self.project.state().join(&head_file)).map_err(|error| failed(&error))?;
        let judged = judged(&trained);
        let stored = StoredTraining { result, options, head_file, features_file, revision, judged };
        stored.keep(self.project)?;
        Ok(stored)
    }

    /// The features of the photos, of which only those are computed that are new.
    fn extract(&self, set: &Dataset, progress: &JobProgress) -> Result<(PathBuf, Vec<Problem>), JobEnd> {
        progress.step(Step::Network)?;
        let TeachNetwork { model, graph, layer } = self.network;
        let session = &self.extractor.session;
        let preprocess = &model.manifest.preprocess;
        let pooling = layer.default_pooling();
        let layers = [WantedLayer::new(model, layer.clone(), pooling, preprocess, session.precision)];
        let name = features_file_name(&model.name, [layer.name.as_str()], None);
        let output = self.project.features().join(name);
        let settings = ExtractSettings {
            max_pixels: self.extractor.max_pixels,
            threads: session.threads,
            memory: self.extractor.memory,
            ..ExtractSettings::default()
        };
        let request = ExtractRequest {
            samples: set,
            graph,
            layers: &layers,
            session,
            output: &output,
            settings: &settings,
        };
        let mut stopped = Ok(());
        let extracted = extract(&request, progress.stop(), &mut |event| match event {
            ExtractEvent::Arranged(_) => stopped = progress.step(Step::Features),
            ExtractEvent::Progress(at) => progress.done(at.done, at.total),
            _ => {}
        });
        let summary = extracted.map_err(|error| match error {
            ExtractError::Interrupted { .. } | ExtractError::Stopped => JobEnd::Cancelled,
            error => failed(&error),
        })?;
        stopped?;
        let problems = summary
            .problems
            .into_iter()
            .map(|problem| Problem { name: problem.name, reason: problem.reason });
        Ok((output, problems.collect()))
    }

    fn fit(
        &self,
        file: &FeatureFile,
        options: TrainOptions,
        progress: &JobProgress,
    ) -> Result<TrainedHead, JobEnd> {
        let settings = options.settings(&self.network.layer.name)?;
        let mut stopped = Ok(());
        let trained = train(file, &settings, &mut |step| {
            let step = match step {
                TrainingStep::FindingDuplicates => Step::Duplicates,
                TrainingStep::Fitting => Step::Fitting,
            };
            if stopped.is_ok() {
                stopped = progress.step(step);
            }
        });
        stopped?;
        trained.map_err(|error| failed(&error))
    }

    /// Writes the report of a training to `path`.
    pub fn report(&self, stored: &StoredTraining, path: &Path, progress: &JobProgress) -> Result<(), JobEnd> {
        let file = FeatureFile::open(&stored.features_file).map_err(|error| failed(&error))?;
        let trained = self.fit(&file, stored.options, progress)?;
        progress.step(Step::Report)?;
        let report = FittingReport { file: &file, trained: &trained, output: None, layers: None };
        let told = &mut |step: ReportStep, done, total| match step {
            // The map has no parts.
            ReportStep::Map => progress.done(0, 0),
            _ => progress.done(done, total),
        };
        report.write(path, self.models, "cnncodes serve", told).map_err(|error| failed(&error))
    }
}

fn learning(trained: &TrainedHead, progress: &JobProgress) -> Option<Learning> {
    let TrainedHead { head, labelled, duplicates, out_of_fold, .. } = trained;
    if labelled.features.nrows() == 0 {
        return None;
    }
    let data = labelled.training_data(&duplicates.groups);
    let curve = LearningCurve::measure(&data, &head.model.settings, out_of_fold, |done, total| {
        progress.done(done, total);
    })?;
    Some(Learning { verdict: curve.verdict(), gain: curve.gain, points: curve.points })
}

fn cells(trained: &TrainedHead) -> Vec<Cell> {
    let TrainedHead { labelled, out_of_fold, .. } = trained;
    let (names, probabilities) = (&labelled.class_names, &out_of_fold.probabilities);
    let mut rows_of: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (row, (&truth, predicted)) in labelled.labels.iter().zip(out_of_fold.answers()).enumerate() {
        rows_of.entry((truth, predicted)).or_default().push(row);
    }
    let cell = |((truth, predicted), mut rows): ((usize, usize), Vec<usize>)| {
        rows.sort_by(|&a, &b| probabilities[[b, predicted]].total_cmp(&probabilities[[a, predicted]]));
        let photo = |&row: &usize| CellPhoto {
            id: labelled.names[row].clone(),
            probability: probabilities[[row, predicted]],
            own_probability: probabilities[[row, truth]],
        };
        Cell {
            truth: names[truth].clone(),
            predicted: names[predicted].clone(),
            count: rows.len(),
            photos: rows.iter().take(PHOTOS_OF_CELL).map(photo).collect(),
        }
    };
    rows_of.into_iter().map(cell).collect()
}

/// What heads that had not seen a photo took it for.
fn judged(trained: &TrainedHead) -> Vec<(String, String)> {
    let TrainedHead { labelled, out_of_fold, .. } = trained;
    let answers = out_of_fold.answers();
    let named = answers.iter().map(|&class| labelled.class_names[class].clone());
    labelled.sha256.iter().cloned().zip(named).collect()
}

/// Both trainings on the photos that both have held out, judged by the classes that the photos have now.
fn compare(trained: &TrainedHead, previous: &StoredTraining) -> Option<Comparison> {
    let before: HashMap<&str, &str> =
        previous.judged.iter().map(|(sha256, class)| (sha256.as_str(), class.as_str())).collect();
    let TrainedHead { labelled, out_of_fold, .. } = trained;
    let (mut seen, mut now_right, mut then_right) = (HashSet::new(), Vec::new(), Vec::new());
    for ((sha256, &label), answer) in labelled.sha256.iter().zip(&labelled.labels).zip(out_of_fold.answers())
    {
        // Of photos with the same bytes one counts.
        let Some(then) = before.get(sha256.as_str()).filter(|_| seen.insert(sha256.as_str())) else {
            continue;
        };
        now_right.push(answer == label);
        then_right.push(*then == labelled.class_names[label]);
    }
    if now_right.len() < FEWEST_SHARED {
        return None;
    }
    let difference = Difference::of_pairs(&now_right, &then_right);
    let photos = now_right.len();
    let verdict = verdict(&difference, photos);
    Some(Comparison { previous_trained_at: previous.result.trained_at, photos, difference, verdict })
}

fn verdict(difference: &Difference, photos: usize) -> String {
    let points = |share: f64| format!("{:+.1}", 100.0 * share).replace('-', "−");
    let Difference { value, low, high, .. } = *difference;
    let said = if low > 0.0 {
        "Better than before"
    } else if high < 0.0 {
        "Worse than before"
    } else {
        "No difference that these photos can show"
    };
    format!(
        "{said}: {} points on the {} of both trainings, judged by their classes of today (95 % interval {} to {}).",
        points(value),
        count(photos, "photo"),
        points(low),
        points(high)
    )
}

/// The photos without a class that are most worth one: those about whose class the head is least certain, and those that are least
/// like the training images.
fn proposals(head: &Head, file: &FeatureFile, layer: &str) -> Result<Vec<Proposal>, JobEnd> {
    let rows: Vec<usize> = (0..file.rows()).filter(|&row| file.labels()[row] < 0).collect();
    let mut answers = Vec::with_capacity(rows.len());
    let width = head.model.columns();
    for rows in rows.chunks(ROWS) {
        let mut values = vec![0.0; rows.len() * width];
        for (&row, values) in rows.iter().zip(values.chunks_mut(width.max(1))) {
            file.read_rows(Some(layer), row..row + 1, values).map_err(|error| failed(&error))?;
        }
        let features = Array2::from_shape_vec((rows.len(), width), values).map_err(|error| failed(&error))?;
        let found =
            head.answers(features.view(), AnswerOptions::default()).map_err(|error| failed(&error))?;
        answers.extend(rows.iter().copied().zip(found));
    }
    let propose = |reason: Reason, (row, answer): &(usize, crate::classifier::Answer)| Proposal {
        id: file.image_names()[*row].clone(),
        reason,
        class: head.model.class_names[answer.top()].clone(),
        probability: answer.ranked.first().map_or(0.0, |&(_, probability)| probability),
        distance: answer.distance,
    };
    let margin = |answer: &crate::classifier::Answer| match answer.ranked[..] {
        [(_, first), (_, second), ..] => first - second,
        _ => 1.0,
    };
    answers.sort_by(|(_, a), (_, b)| margin(a).total_cmp(&margin(b)));
    let mut proposed: Vec<Proposal> =
        answers.iter().take(PROPOSED).map(|answer| propose(Reason::Uncertain, answer)).collect();
    let mut rest = answers.split_off(answers.len().min(PROPOSED));
    rest.retain(|(_, answer)| answer.distance.is_some());
    rest.sort_by(|(_, a), (_, b)| b.distance.unwrap_or(0.0).total_cmp(&a.distance.unwrap_or(0.0)));
    proposed.extend(rest.iter().take(PROPOSED).map(|answer| propose(Reason::Unlike, answer)));
    Ok(proposed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_name_the_difference_and_its_interval() {
        let said = verdict(&Difference::paired(20, 0, 100), 100);
        assert!(said.starts_with("Better than before: +20.0 points on the 100 photos of both"), "{said}");
        assert!(verdict(&Difference::paired(0, 20, 100), 100).starts_with("Worse than before: −20.0 points"));
        assert!(
            verdict(&Difference::paired(1, 0, 40), 40)
                .starts_with("No difference that these photos can show")
        );
    }
}
