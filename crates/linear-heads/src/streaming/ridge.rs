//! Ridge regression on streamed features: one pass for sums of each fold's rows, from which those of every fold's training
//! rows follow by subtraction, and, where a penalty is to be chosen, one for the errors of leaving each row out.

use faer::Mat;
use ndarray::ArrayView2;

use super::{LinearModel, SolverError, Streaming};
use crate::{
    RidgeValidParams,
    ridge::{LeftOutRows, NormalEquations, RidgeSolution, RidgeSums, least, linear_model},
};

/// Score of a class that was not trained on; e^-30 leaves nothing of its probability.
const ABSENT: f64 = -30.0;

/// Bytes that the sums of the folds and the solutions of all problems take.
pub(super) fn bytes(columns: usize, classes: usize, folds: usize) -> usize {
    // Sums of each fold and of one problem; eigenvectors of each problem, and what it takes to find them.
    (folds + 1) * RidgeSums::bytes(columns, classes) + (folds + 5) * 8 * columns * (columns + 3 * classes)
}

impl Streaming<'_> {
    /// The models of the folds, then that of all rows.
    pub(super) fn ridge(&self, params: &RidgeValidParams) -> Result<Vec<LinearModel>, SolverError> {
        let (columns, classes) = (self.rows.source.columns(), self.rows.classes);
        // Sums of products of centred features do not cancel.
        let shift = &self.mean;
        let mut of_folds = vec![RidgeSums::zeros(columns, classes); self.rows.fold_count];
        self.scan(|first, block| {
            for (fold, sums) in of_folds.iter_mut().enumerate() {
                let own = self.rows_of(first, block.nrows(), |of_row| of_row == fold);
                let rows = centred(&block, &own, |j, z| z - shift[j]);
                sums.add(rows.as_ref(), &self.labels(first, &own), &vec![1.0; own.len()]);
            }
        })?;
        let problems: Vec<FoldSolution> = (0..self.scalings.len())
            .map(|problem| {
                let training = || {
                    let mut sums = RidgeSums::zeros(columns, classes);
                    let others = of_folds.iter().enumerate().filter(|&(fold, _)| fold != problem);
                    others.for_each(|(_, of_fold)| sums.add_sums(1.0, of_fold));
                    sums
                };
                let factor = &self.scalings[problem].factor;
                let normal = || -> NormalEquations { training().normal(|j| factor[j]) };
                let sums = training();
                let trained = (0..classes).map(|class| sums.has(class)).collect();
                let solution = RidgeSolution::new(sums.normal(|j| factor[j]), params.alphas(), normal);
                FoldSolution { solution, trained }
            })
            .collect();
        drop(of_folds);
        let chosen = self.penalties(params.alphas().len(), &problems, shift)?;
        Ok(problems
            .iter()
            .enumerate()
            .map(|(p, problem)| self.ridge_model(p, problem, chosen[p], shift))
            .collect())
    }

    /// Index of each problem's penalty: of the least error of leaving out one of its rows.
    fn penalties(
        &self,
        alphas: usize,
        problems: &[FoldSolution],
        shift: &[f64],
    ) -> Result<Vec<usize>, SolverError> {
        let mut errors = vec![vec![0.0; alphas]; problems.len()];
        if alphas > 1 {
            self.scan(|first, block| {
                for (p, (FoldSolution { solution, .. }, errors)) in
                    problems.iter().zip(&mut errors).enumerate()
                {
                    let own = self.rows_of(first, block.nrows(), |of_row| of_row != p);
                    let factor = &self.scalings[p].factor;
                    let mut rows =
                        centred(&block, &own, |j, z| factor[j] * (z - shift[j] - solution.mean[j]));
                    let (labels, roots) = (self.labels(first, &own), vec![1.0; own.len()]);
                    solution.leave_out(
                        rows.as_mut(),
                        &LeftOutRows { labels: &labels, roots: &roots },
                        errors,
                    );
                }
            })?;
        }
        Ok(errors.iter().map(|errors| least(errors)).collect())
    }

    /// The model of a problem, on features as the problem sees them.
    fn ridge_model(&self, p: usize, problem: &FoldSolution, chosen: usize, shift: &[f64]) -> LinearModel {
        let (scaling, FoldSolution { solution, trained }) = (&self.scalings[p], problem);
        let weights = solution.weights(chosen);
        let mean: Vec<f64> = (0..shift.len())
            .map(|j| scaling.factor[j] * (shift[j] + solution.mean[j] - scaling.shift[j]))
            .collect();
        let targets = solution.target_mean.iter().zip(trained);
        let targets = targets.map(|(&mean, &trained)| if trained { mean } else { ABSENT });
        linear_model(weights.as_ref(), targets, &mean, solution.objective(&weights))
    }

    /// Rows of a block that starts with row `first`, by the fold that they are tested in.
    fn rows_of(&self, first: usize, count: usize, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..count).filter(|&i| wanted(self.rows.folds[first + i])).collect()
    }

    fn labels(&self, first: usize, rows: &[usize]) -> Vec<usize> {
        rows.iter().map(|&i| self.rows.labels[first + i]).collect()
    }
}

/// The solution of a fold's training rows, or of all, and which classes they are of.
struct FoldSolution {
    solution: RidgeSolution,
    trained: Vec<bool>,
}

/// The given rows as columns, each value changed.
fn centred(block: &ArrayView2<'_, f32>, rows: &[usize], change: impl Fn(usize, f64) -> f64) -> Mat<f64> {
    let mut columns = Mat::zeros(block.ncols(), rows.len());
    for (i, &row) in rows.iter().enumerate() {
        let values = columns.col_as_slice_mut(i).iter_mut().zip(block.row(row)).enumerate();
        values.for_each(|(j, (value, &z))| *value = change(j, f64::from(z)));
    }
    columns
}
