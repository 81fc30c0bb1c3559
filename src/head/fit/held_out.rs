//! What heads say about rows that they have not seen, fold by fold.

use std::collections::HashSet;

use ndarray::{Array2, Axis};

use cnncodes_linear_heads::Solver;

use super::{FitRows, FitSettings, PreparedFeatures};
use crate::evaluate::{Folds, Note};
use crate::head::{
    Calibration, CalibrationMethod, HeadError, ranking,
    tune::{ChosenC, TuningData},
};

/// Scores of every row by the head of the fold that it was held out of.
pub(super) struct HeldOut {
    pub scores: Array2<f64>,
    /// Whether the row's class was trained on at all: the scores of other rows say nothing about calibration.
    pub comparable: Vec<bool>,
    /// Messages of solvers that did not converge.
    pub unconverged: Vec<String>,
    /// What tuning chose for each fold.
    pub chosen: Vec<ChosenC>,
}

/// What tuning on `rows` may look at; `prepared` by what was learned from them.
pub(super) fn problem<'a>(
    data: &FitRows<'a>,
    settings: &FitSettings,
    prepared: &'a Array2<f32>,
    rows: &'a [usize],
) -> TuningData<'a> {
    TuningData {
        features: prepared,
        labels: data.labels,
        groups: data.groups,
        class_names: data.class_names,
        rows,
        seed: settings.seed,
    }
}

impl HeldOut {
    pub fn collect(
        data: &FitRows<'_>,
        settings: &FitSettings,
        solver: &Solver,
        folds: &Folds,
        features: &dyn PreparedFeatures,
        prepared: &mut Array2<f32>,
    ) -> Result<Self, HeadError> {
        let (rows, classes) = (data.labels.len(), data.class_names.len());
        let mut held_out = Self {
            scores: Array2::zeros((rows, classes)),
            comparable: vec![false; rows],
            unconverged: Vec::new(),
            chosen: Vec::new(),
        };
        for fold in 0..folds.count() {
            let training = folds.training(fold);
            let testing = folds.testing(fold);
            features.prepare(Some(fold), prepared)?;
            let problem = problem(data, settings, prepared, &training);
            let (solver, chosen) = settings.tuned(&problem, solver)?;
            held_out.chosen.extend(chosen);
            let model = solver.fit(&settings.training_rows(&problem, &training), None)?;
            let scores = model.scores(prepared.select(Axis(0), &testing).view());
            let mut trained = vec![false; classes];
            training.iter().for_each(|&row| trained[data.labels[row]] = true);
            for (&row, scores) in testing.iter().zip(scores.rows()) {
                held_out.scores.row_mut(row).assign(&scores);
                held_out.comparable[row] = trained[data.labels[row]];
            }
            held_out.unconverged.extend(model.linear.convergence.message);
        }
        Ok(held_out)
    }

    /// What the scores say about probabilities, with groups of duplicates counted once.
    pub fn calibrate(
        &self,
        asked: CalibrationMethod,
        (labels, class_names): (&[usize], &[String]),
        groups: &[usize],
        folds: &Folds,
    ) -> Calibrated {
        let (scarcest, images) = self.scarcest_class(labels, groups);
        let few = images < asked.fewest_images().max(CalibrationMethod::Platt.fewest_images());
        let fit = |chosen: &dyn Fn(usize) -> bool| {
            let rows: Vec<usize> =
                (0..labels.len()).filter(|&row| self.comparable[row] && chosen(row)).collect();
            let scores = self.scores.select(Axis(0), &rows);
            let labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
            if few {
                let (calibration, rises) = Calibration::fit_shared(asked, scores.view(), &labels);
                (calibration, (!rises).then_some(scarcest))
            } else {
                Calibration::fit(asked, scores.view(), &labels)
            }
        };
        let (calibration, not_rising) = fit(&|_| true);
        let mut probabilities = Array2::zeros(self.scores.raw_dim());
        for fold in 0..folds.count() {
            // Calibrated on the folds that the rows do not belong to.
            let (calibration, _) = fit(&|row| folds.assignment()[row] != fold);
            let testing = folds.testing(fold);
            let held_out = calibration.probabilities(self.scores.select(Axis(0), &testing).view());
            for (&row, values) in testing.iter().zip(held_out.rows()) {
                probabilities.row_mut(row).assign(&values);
            }
        }
        let temperature = "one temperature for all classes stands in, which keeps the order of the scores";
        let note = match (not_rising, few && asked != CalibrationMethod::Temperature) {
            (None, false) => None,
            (Some(class), false) => Some(Note::warning(format!(
                "{} would not rise with the scores of `{}`, as if they said nothing about that class: {temperature}; check the \
                 labels of the class",
                named(asked),
                class_names[class]
            ))),
            (not_rising, true) => {
                let scarcity = format!(
                    "{} needs {} different images of each class, and `{}` has {images}",
                    named(asked),
                    asked.fewest_images(),
                    class_names[scarcest]
                );
                Some(Note::info(match not_rising {
                    None => format!(
                        "{scarcity}: all classes share one function, which keeps the order of the scores"
                    ),
                    Some(_) => format!("{scarcity}, too few to learn any from: {temperature}"),
                }))
            }
        };
        Calibrated {
            answers: ranking::answers(probabilities.view(), self.scores.view()),
            calibration,
            probabilities,
            note,
        }
    }

    /// The class with the fewest different images whose scores can be compared, and how many these are.
    fn scarcest_class(&self, labels: &[usize], groups: &[usize]) -> (usize, usize) {
        let mut images = vec![HashSet::new(); self.scores.ncols()];
        for row in (0..labels.len()).filter(|&row| self.comparable[row]) {
            images[labels[row]].insert(groups[row]);
        }
        let sizes = images.iter().map(HashSet::len).enumerate();
        sizes.min_by_key(|&(_, images)| images).unwrap_or_default()
    }
}

/// Probabilities, and the answers that follow from them.
pub(super) struct Calibrated {
    /// Learned from all rows.
    pub calibration: Calibration,
    /// Of every row, calibrated on the folds that it does not belong to.
    pub probabilities: Array2<f64>,
    /// The class that each row is taken for.
    pub answers: Vec<usize>,
    /// Why the calibration is another one than was asked for.
    pub note: Option<Note>,
}

fn named(method: CalibrationMethod) -> &'static str {
    match method {
        CalibrationMethod::Platt => "calibration by Platt's sigmoids",
        CalibrationMethod::Isotonic => "isotonic calibration",
        CalibrationMethod::Temperature => "calibration by a temperature",
    }
}
