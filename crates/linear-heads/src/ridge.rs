//! Ridge regression on targets of ±1, with exact leave-one-out scores, behind linfa's traits.
//!
//! For n centred rows X and centred targets Y (+1 for a row's class, -1 for the others) the weights minimise
//! `|Y - X Wᵀ|² + α |W|²`; the intercept is not penalised. The residual of a row by a fit without it is `(y - ŷ) / (1 - h)`,
//! h being its element of the diagonal of the hat matrix `H = 1/n + X (XᵀX + α)⁻¹ Xᵀ` (R. M. Rifkin, R. A. Lippert: "Notes
//! on regularized least squares", MIT-CSAIL-TR-2007-025). A row of weight w stands in X and Y times √w.
//!
//! With more rows than columns all comes from sums over the rows ([`RidgeSums`]), which are added up block by block: rows
//! are looked through twice, once for XᵀX, once for h, and never copied. One α takes a Cholesky factor of XᵀX + α; to
//! choose among several, `XᵀX = V Λ Vᵀ` makes every α cost next to nothing. With fewer rows than columns the same is read
//! off XXᵀ. All in float64.

mod dual;
mod inverse;
mod solution;
mod sums;

use faer::{Mat, MatMut, MatRef};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1};
use serde::{Deserialize, Serialize};

pub(super) use self::solution::{LeftOutRows, RidgeSolution};
pub(super) use self::sums::{NormalEquations, RidgeSums};
use super::{
    Convergence, LinearModel, SolverError,
    adapter::{ClassScorer, Solve, linfa_fit, linfa_predict},
    weighted_rows::WeightedRows,
};

/// Rows that are brought to float64 at a time.
const BLOCK: usize = 192;

/// Checked settings of ridge regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RidgeValidParams {
    alphas: Vec<f64>,
}

/// Settings of ridge regression, checked when it is fitted.
///
/// ```
/// use cnncodes_linear_heads::RidgeParams;
/// use linfa::{Dataset, traits::{Fit, Predict}};
/// use ndarray::{Array1, array};
///
/// let rows = array![[0.0f32, 1.0], [0.2, 0.9], [1.0, 0.1], [0.9, 0.0]];
/// let model = RidgeParams::new().fit(&Dataset::new(rows.clone(), array![0usize, 0, 1, 1]))?;
/// let classes: Array1<usize> = model.predict(&rows);
/// assert_eq!(classes, array![0, 0, 1, 1]);
/// # Ok::<(), cnncodes_linear_heads::SolverError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RidgeParams(RidgeValidParams);

impl Default for RidgeParams {
    fn default() -> Self {
        Self(RidgeValidParams { alphas: (-1..=6).map(|power| 10f64.powi(power)).collect() })
    }
}

impl RidgeParams {
    /// α from 0.1 to 10⁶ by factors of 10.
    pub fn new() -> Self {
        Self::default()
    }

    /// The penalties to choose from, each above 0: the one with the least mean squared leave-one-out error is taken, as
    /// scikit-learn's `RidgeClassifierCV` does.
    pub fn alphas(mut self, alphas: Vec<f64>) -> Self {
        self.0.alphas = alphas;
        self
    }
}

/// A linear classifier with what leave-one-out says about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RidgeModel {
    /// The classifier, fitted to all rows.
    pub linear: LinearModel,
    /// The penalty that was chosen.
    pub alpha: f64,
    /// Scores of each row by the fit to all other rows (n x classes).
    pub left_out: Array2<f64>,
    /// Mean squared leave-one-out error of each α of the settings, in their order.
    pub errors: Vec<f64>,
}

impl ClassScorer for RidgeModel {
    fn scores_of(&self, features: ArrayView2<'_, f32>) -> Array2<f64> {
        self.linear.scores(features)
    }
}

linfa_fit!(RidgeParams, RidgeValidParams => RidgeModel);
linfa_predict!(RidgeModel);

impl Solve for RidgeValidParams {
    type Model = RidgeModel;

    fn check_settings(&self) -> Result<(), SolverError> {
        SolverError::check(!self.alphas.is_empty(), "the number of values of alpha", 0.0, "at least 1")?;
        self.alphas.iter().try_for_each(|&alpha| SolverError::check_positive("alpha", alpha))
    }

    /// The squares of a row count as often as its weight says, which must be above 0.
    fn fit_set(&self, set: &WeightedRows<'_>) -> Result<RidgeModel, SolverError> {
        for &weight in &set.weights {
            SolverError::check_positive("the weight of a row", weight)?;
        }
        Ok(self.solve(set, true))
    }
}

impl RidgeValidParams {
    /// The penalties to choose from.
    pub(super) fn alphas(&self) -> &[f64] {
        &self.alphas
    }

    /// Fits on rows that have been checked, for the classifier alone.
    pub(super) fn fit_linear(&self, set: &WeightedRows<'_>) -> LinearModel {
        self.solve(set, false).linear
    }

    /// Fits on rows that have been checked; scores of left-out rows only where they are asked for.
    fn solve(&self, set: &WeightedRows<'_>, left_out: bool) -> RidgeModel {
        let centred = CentredRows::new(set);
        if set.rows.len() > set.columns() {
            self.by_columns(&centred, left_out)
        } else {
            dual::solve(&centred, &self.alphas, left_out)
        }
    }

    /// More rows than columns: by the products of the columns.
    fn by_columns(&self, centred: &CentredRows<'_>, left_out: bool) -> RidgeModel {
        let (set, count) = (centred.set, centred.set.rows.len());
        // One for all: memory that is given back and taken again is not always the same.
        let mut block = Mat::zeros(set.columns(), BLOCK.min(count));
        let mut normal = || {
            let mut sums = RidgeSums::zeros(set.columns(), set.classes);
            for (from, to) in centred.blocks() {
                let columns = centred.columns(from, to, &mut block);
                sums.add(columns.as_ref(), &set.labels[from..to], &centred.roots[from..to]);
            }
            sums.normal(|_| 1.0)
        };
        let solution = RidgeSolution::new(normal(), &self.alphas, &mut normal);
        let mut errors = vec![0f64; self.alphas.len()];
        let choosing = self.alphas.len() > 1;
        let mut leverages = Vec::new();
        if left_out || choosing {
            for (from, to) in centred.blocks() {
                let rows = LeftOutRows { labels: &set.labels[from..to], roots: &centred.roots[from..to] };
                let columns = centred.columns(from, to, &mut block);
                leverages.push(solution.leave_out(columns, &rows, &mut errors));
            }
        }
        let best = self.best(&mut errors, centred);
        let weights = solution.weights(best);
        let mut scores_of_left_out = || {
            let mut scores = Array2::zeros((count, set.classes));
            for ((from, to), leverages) in centred.blocks().zip(&leverages) {
                let fitted = weights.transpose() * centred.columns(from, to, &mut block);
                for i in 0..to - from {
                    let fitted = fitted.col(i).iter().map(|fitted| fitted / centred.roots[from + i]);
                    let scores = scores.row_mut(from + i);
                    centred.leave_out(from + i, fitted, leverages[(best, i)], scores);
                }
            }
            scores
        };
        RidgeModel {
            left_out: if left_out { scores_of_left_out() } else { Array2::zeros((0, 0)) },
            linear: linear_model(
                weights.as_ref(),
                centred.target_mean.iter().copied(),
                &centred.mean,
                solution.objective(&weights),
            ),
            alpha: self.alphas[best],
            errors,
        }
    }

    /// Divides the sums of squared errors, and gives the penalty of the least.
    fn best(&self, errors: &mut [f64], centred: &CentredRows<'_>) -> usize {
        let entries = centred.weight * centred.set.classes as f64;
        errors.iter_mut().for_each(|error| *error /= entries);
        least(errors)
    }
}

/// Index of the least error, the first of equals.
pub(super) fn least(errors: &[f64]) -> usize {
    (0..errors.len()).min_by(|&a, &b| errors[a].total_cmp(&errors[b])).unwrap_or(0)
}

/// The classifier with the given weights of rows less their mean (d x classes), and mean targets.
pub(super) fn linear_model(
    weights: MatRef<'_, f64>,
    target_mean: impl Iterator<Item = f64>,
    mean: &[f64],
    objective: f64,
) -> LinearModel {
    let bias = target_mean.zip(weights.col_iter()).map(|(target, weights)| {
        target - weights.iter().zip(mean).map(|(weight, mean)| weight * mean).sum::<f64>()
    });
    LinearModel {
        bias: bias.collect(),
        weights: Array2::from_shape_fn((weights.ncols(), weights.nrows()), |(k, j)| weights[(j, k)] as f32),
        convergence: Convergence { converged: true, iterations: 1, objective, criterion: 0.0, message: None },
    }
}

/// The rows less their mean, times the root of their weight, in float64, block by block.
struct CentredRows<'a> {
    set: &'a WeightedRows<'a>,
    mean: Vec<f64>,
    target_mean: Vec<f64>,
    /// Root of each row's weight.
    roots: Vec<f64>,
    /// Sum of the weights.
    weight: f64,
}

impl<'a> CentredRows<'a> {
    fn new(set: &'a WeightedRows<'a>) -> Self {
        let weight: f64 = set.weights.iter().sum();
        let mut mean = vec![0f64; set.columns()];
        let mut target_mean = vec![-1f64; set.classes];
        for ((row, &own), &label) in set.rows.iter().zip(&set.weights).zip(&set.labels) {
            mean.iter_mut().zip(*row).for_each(|(m, &x)| *m += own * f64::from(x));
            target_mean[label] += 2.0 * own / weight;
        }
        mean.iter_mut().for_each(|m| *m /= weight);
        let roots = set.weights.iter().map(|weight| weight.sqrt()).collect();
        Self { set, mean, target_mean, roots, weight }
    }

    /// Rows `from..to`, each a column: d x rows, in `block`.
    fn columns<'b>(&self, from: usize, to: usize, block: &'b mut Mat<f64>) -> MatMut<'b, f64> {
        for (i, row) in (from..to).enumerate() {
            let values = block.col_as_slice_mut(i).iter_mut().zip(self.set.rows[row]).zip(&self.mean);
            values.for_each(|((value, &x), mean)| *value = self.roots[row] * (f64::from(x) - mean));
        }
        block.subcols_mut(0, to - from)
    }

    fn target(&self, row: usize, class: usize) -> f64 {
        if self.set.labels[row] == class { 1.0 } else { -1.0 }
    }

    /// Scores of a row by the fit to all others, from what all say of it, less the mean targets, and its leverage.
    fn leave_out(
        &self,
        row: usize,
        fitted: impl Iterator<Item = f64>,
        leverage: f64,
        mut scores: ArrayViewMut1<'_, f64>,
    ) {
        for (k, (score, fitted)) in scores.iter_mut().zip(fitted).enumerate() {
            let target = self.target(row, k);
            *score = target - (target - self.target_mean[k] - fitted) / (1.0 - leverage);
        }
    }

    /// Mean squared error of scores of left-out rows (n x classes).
    fn error(&self, scores: &Array2<f64>) -> f64 {
        let of_row = |(i, scores): (usize, ArrayView1<'_, f64>)| {
            let squares = scores.iter().enumerate().map(|(k, score)| (self.target(i, k) - score).powi(2));
            self.set.weights[i] * squares.sum::<f64>()
        };
        let sum: f64 = scores.rows().into_iter().enumerate().map(of_row).sum();
        sum / (self.weight * self.set.classes as f64)
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.set.rows.len();
        (0..count).step_by(BLOCK).map(move |from| (from, (from + BLOCK).min(count)))
    }
}

#[cfg(test)]
mod tests {
    use linfa::ParamGuard;
    use ndarray::Axis;

    use super::*;

    fn example(rows: usize, columns: usize) -> (Array2<f32>, Vec<usize>) {
        let labels: Vec<usize> = (0..rows).map(|i| i * i % 7 % 3).collect();
        let value = |(i, j): (usize, usize)| {
            ((i * 31 + j * 17) as f32 * 0.61).sin() + 2.0 + (labels[i] * (j % 3)) as f32 * 0.2
        };
        (Array2::from_shape_fn((rows, columns), value), labels)
    }

    #[test]
    fn leave_one_out_equals_leaving_one_out() {
        // By Cholesky factor, and by eigenvectors.
        for (rows, columns, penalties) in [
            (23, 9, 1),
            (23, 9, 2),
            (23, 40, 1),
            (23, 40, 2),
            (600, 5, 1),
            (600, 5, 2),
            (320, 290, 1),
            (320, 290, 2),
        ] {
            let (features, labels) = example(rows, columns);
            let params = RidgeParams::new().alphas(vec![0.7; penalties]).check().unwrap();
            let all: Vec<usize> = (0..rows).collect();
            let select = |rows: &[usize]| {
                let mut set = WeightedRows::select(&features, &labels, rows, 3);
                set.weights = rows.iter().map(|&row| [1.0, 0.4, 2.5][row % 3]).collect();
                set
            };
            let model = params.solve(&select(&all), true);
            for out in (0..rows).step_by(1 + rows / 20) {
                let others: Vec<usize> = (0..rows).filter(|&row| row != out).collect();
                let scores =
                    params.fit_linear(&select(&others)).scores(features.row(out).insert_axis(Axis(0)));
                for (found, score) in model.left_out.row(out).iter().zip(&scores) {
                    assert!((found - score).abs() < 1e-6, "{rows} {columns} {penalties}: {found} {score}");
                }
            }
        }
    }

    #[test]
    fn the_objective_is_that_of_the_weights() {
        for (rows, columns, penalties) in [(60, 9, 1), (60, 9, 2), (20, 50, 1), (20, 50, 2)] {
            let (features, labels) = example(rows, columns);
            let all: Vec<usize> = (0..rows).collect();
            let params = RidgeParams::new().alphas(vec![0.7; penalties]).check().unwrap();
            let model = params.fit_linear(&WeightedRows::select(&features, &labels, &all, 3));
            let squares = |(index, score): ((usize, usize), &f64)| {
                (score - if labels[index.0] == index.1 { 1.0 } else { -1.0 }).powi(2)
            };
            let losses: f64 = model.scores(features.view()).indexed_iter().map(squares).sum();
            let norm: f64 = model.weights.iter().map(|&w| f64::from(w).powi(2)).sum();
            let expected = losses + 0.7 * norm;
            assert!((model.convergence.objective / expected - 1.0).abs() < 1e-5, "{expected}");
        }
    }

    #[test]
    fn the_alpha_with_the_least_leave_one_out_error_is_taken() {
        let (features, labels) = example(60, 50);
        let rows: Vec<usize> = (0..60).collect();
        let model = RidgeParams::new()
            .check()
            .unwrap()
            .solve(&WeightedRows::select(&features, &labels, &rows, 3), true);
        let least = model.errors.iter().copied().fold(f64::INFINITY, f64::min);
        let index = RidgeParams::new().0.alphas.iter().position(|&alpha| alpha == model.alpha).unwrap();
        assert_eq!(model.errors[index], least);
    }

    #[test]
    fn unusable_settings_are_refused() {
        assert!(RidgeParams::new().alphas(vec![]).check().is_err());
        assert!(RidgeParams::new().alphas(vec![1.0, 0.0]).check().is_err());
    }
}
