//! What heads say about rows that they have not seen, fold by fold.

use ndarray::{Array2, Axis};

use super::{FitSettings, TrainingData, solver::Solver};
use crate::evaluate::Folds;
use crate::head::{
    Calibration, CalibrationMethod, HeadError, Preparation,
    tune::{Choice, Problem},
};

/// Scores of every row by the head of the fold that it was held out of.
pub(super) struct HeldOut {
    pub scores: Array2<f64>,
    /// Whether the row's class was trained on at all: the scores of other rows say nothing about calibration.
    pub comparable: Vec<bool>,
    /// Messages of solvers that did not converge.
    pub unconverged: Vec<String>,
    /// What tuning chose for each fold.
    pub chosen: Vec<Choice>,
}

/// What tuning on `rows` may look at; `prepared` by what was learned from them.
pub(super) fn problem<'a>(
    data: &'a TrainingData<'_>,
    groups: &'a [usize],
    settings: &FitSettings,
    prepared: &'a Array2<f32>,
    rows: &'a [usize],
) -> Problem<'a> {
    Problem {
        codes: prepared,
        labels: data.labels,
        groups,
        class_names: data.class_names,
        rows,
        seed: settings.seed,
    }
}

impl HeldOut {
    pub fn collect(
        data: &TrainingData<'_>,
        settings: &FitSettings,
        solver: &Solver,
        groups: &[usize],
        folds: &Folds,
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
            Preparation::fit(data.codes, &training, settings.steps())?.transform_into(data.codes, prepared);
            let (solver, chosen) =
                settings.tuned(&problem(data, groups, settings, prepared, &training), solver)?;
            held_out.chosen.extend(chosen);
            let model = solver.fit(prepared, data.labels, &training, classes);
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

    /// The calibration that the chosen rows ask for.
    pub fn calibrate(
        &self,
        method: CalibrationMethod,
        labels: &[usize],
        chosen: impl Fn(usize) -> bool,
    ) -> Calibration {
        let rows: Vec<usize> = (0..labels.len()).filter(|&row| self.comparable[row] && chosen(row)).collect();
        let scores = self.scores.select(Axis(0), &rows);
        let labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        Calibration::fit(method, scores.view(), &labels)
    }

    /// Probabilities of every row, calibrated on the folds that it does not belong to.
    pub fn probabilities(&self, method: CalibrationMethod, labels: &[usize], folds: &Folds) -> Array2<f64> {
        let mut probabilities = Array2::zeros(self.scores.raw_dim());
        for fold in 0..folds.count() {
            let calibration = self.calibrate(method, labels, |row| folds.assignment()[row] != fold);
            let testing = folds.testing(fold);
            let held_out = calibration.probabilities(self.scores.select(Axis(0), &testing).view());
            for (&row, values) in testing.iter().zip(held_out.rows()) {
                probabilities.row_mut(row).assign(&values);
            }
        }
        probabilities
    }
}
