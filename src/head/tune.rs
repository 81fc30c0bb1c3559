//! Choosing C among several, by cross-validation within the training rows alone.

use cnncodes_linear_heads::{FittedModel, SolverError, highest};
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::HeadError;
use crate::evaluate::Folds;

/// Values of C to choose from. The choice is nested: for every fold of the cross-validation that measures the accuracy, C
/// is chosen anew from that fold's training rows, so the accuracy that is reported stays honest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The values, in any order.
    pub grid: Vec<f64>,
    /// Folds of the inner cross-validation.
    pub folds: usize,
}

impl Tuning {
    /// The given values, chosen by 4 inner folds.
    pub fn new(grid: Vec<f64>) -> Self {
        Self { grid, folds: 4 }
    }

    /// 1e-4 to 10 by factors of 10.
    pub fn auto() -> Self {
        Self::new(vec![1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0])
    }

    pub(super) fn check(&self) -> Result<(), HeadError> {
        SolverError::check(!self.grid.is_empty(), "the number of values of C", 0.0, "at least 1")?;
        SolverError::check(self.folds >= 2, "the number of inner folds", self.folds as f64, "at least 2")?;
        Ok(self.grid.iter().try_for_each(|&c| SolverError::check_positive("C", c))?)
    }

    /// The smallest C with the fewest mistakes on held-out rows among `problem.rows`. `fit` fits along an increasing path of
    /// C, so that each fit can start from the last.
    pub(super) fn choose(
        &self,
        problem: &TuningData<'_>,
        fit: impl Fn(&[usize], &[f64]) -> Result<Vec<FittedModel>, HeadError>,
    ) -> Result<ChosenC, HeadError> {
        let mut path = self.grid.clone();
        path.sort_by(f64::total_cmp);
        path.dedup();
        let of_rows =
            |values: &[usize]| -> Vec<usize> { problem.rows.iter().map(|&row| values[row]).collect() };
        let labels = of_rows(problem.labels);
        let folds = Folds::stratified(
            &labels,
            &of_rows(problem.groups),
            problem.class_names,
            self.folds,
            problem.seed,
        )?;
        let mut mistakes = vec![0usize; path.len()];
        for fold in 0..folds.count() {
            let training: Vec<usize> = folds.training(fold).iter().map(|&i| problem.rows[i]).collect();
            let testing: Vec<usize> = folds.testing(fold).iter().map(|&i| problem.rows[i]).collect();
            let held_out = problem.features.select(Axis(0), &testing);
            for (mistakes, model) in mistakes.iter_mut().zip(fit(&training, &path)?) {
                let scores = model.scores(held_out.view());
                let wrong = |(scores, &row): (ndarray::ArrayView1<'_, f64>, &usize)| {
                    highest(scores.iter().copied()) != problem.labels[row]
                };
                *mistakes += scores.rows().into_iter().zip(&testing).filter(|&pair| wrong(pair)).count();
            }
        }
        let fewest = mistakes.iter().min().copied().unwrap_or(0);
        let best = mistakes.iter().position(|&count| count == fewest).unwrap_or(0);
        Ok(ChosenC { c: path[best], mistakes: fewest, rows: problem.rows.len(), by_default: false })
    }
}

/// What tuning chose, and how good it looked to the rows that it was chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChosenC {
    /// The value of C.
    pub c: f64,
    /// Mistakes of heads with this C on inner held-out rows: the fewest of the grid, so too few to be an honest figure.
    pub mistakes: usize,
    /// The number of these rows.
    pub rows: usize,
    /// Whether there was nothing to choose by, since the rows have no class of two different images: C is the default then,
    /// and all rows count as mistakes.
    pub by_default: bool,
}

/// The rows that C is chosen by.
pub(super) struct TuningData<'a> {
    /// All features, standardised on `rows`.
    pub features: &'a Array2<f32>,
    pub labels: &'a [usize],
    pub groups: &'a [usize],
    pub class_names: &'a [String],
    /// The rows that may be looked at.
    pub rows: &'a [usize],
    pub seed: u64,
}
