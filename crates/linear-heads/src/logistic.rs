//! Multinomial logistic regression with an L2 penalty, behind linfa's traits.
//!
//! With scores `f_k = w_k·x + b_k` of a row x of class y, the minimised objective is scikit-learn's:
//!
//! ```text
//! C Σ ( log Σ_k exp f_k - f_y ) + ½ Σ_k w_k·w_k
//! ```
//!
//! It is minimised until the duality gap is small enough ([`super::primal`]). Where there are far fewer rows than features, the
//! problem is moved to as many columns as there are rows; the gap that counts is that with the features themselves.
//!
//! The biases are not penalised. Two classes are one problem with a single weight vector w = w_1 - w_0, as in
//! scikit-learn; by symmetry w_1 = -w_0 = w/2, so it is the same sum with the penalty doubled.
//!
//! log Σ exp is taken relative to each row's own maximum. (linfa-logistic 0.8.1 subtracts the maximum of the whole
//! matrix; on badly scaled features every exponential of a row can then vanish, and it returned zero weights without an
//! error.)

use ndarray::{Array1, Array2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Convergence, LinearModel, SolverError,
    adapter::{Solve, linfa_fit},
    batched::{MatrixRows, RowLoss, Sums, pass},
    lbfgs::Termination,
    primal::{Linear, PrimalLoss, PrimalSolution, RowsInMemory, descend},
    row_space::ReducedRows,
    simd,
    weighted_rows::WeightedRows,
};

/// Checked settings of the logistic regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogisticValidParams {
    c: f64,
    tolerance: f64,
    max_iterations: usize,
}

/// Settings of the logistic regression, checked when it is fitted.
///
/// ```
/// use cnncodes_linear_heads::LogisticParams;
/// use linfa::{Dataset, traits::{Fit, Predict}};
/// use ndarray::{Array1, array};
///
/// let rows = array![[0.0f32, 1.0], [0.2, 0.9], [1.0, 0.1], [0.9, 0.0]];
/// let model = LogisticParams::new().c(10.0).fit(&Dataset::new(rows.clone(), array![0usize, 0, 1, 1]))?;
/// let classes: Array1<usize> = model.predict(&rows);
/// assert_eq!(classes, array![0, 0, 1, 1]);
/// # Ok::<(), cnncodes_linear_heads::SolverError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticParams(LogisticValidParams);

impl Default for LogisticParams {
    fn default() -> Self {
        Self(LogisticValidParams { c: 1.0, tolerance: 1e-4, max_iterations: 1000 })
    }
}

impl LogisticParams {
    /// C = 1, relative duality gap 1e-4, at most 1000 iterations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Weight of the losses against the regularisation, above 0.
    pub fn c(mut self, c: f64) -> Self {
        self.0.c = c;
        self
    }

    /// Relative duality gap to stop at, at least 1e-7: float32 features do not carry more.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.0.tolerance = tolerance;
        self
    }

    /// Iterations after which the fit is given up, and reported as not converged.
    pub fn max_iterations(mut self, max_iterations: usize) -> Self {
        self.0.max_iterations = max_iterations;
        self
    }
}

linfa_fit!(LogisticParams, LogisticValidParams => LinearModel);

impl Solve for LogisticValidParams {
    type Model = LinearModel;

    fn check_settings(&self) -> Result<(), SolverError> {
        SolverError::check_positive("C", self.c)?;
        SolverError::check_tolerance(self.tolerance, 1e-7)?;
        SolverError::check_iterations(self.max_iterations)
    }

    fn fit_set(&self, set: &WeightedRows<'_>) -> Result<LinearModel, SolverError> {
        Ok(self.solve_from(set, None))
    }
}

impl LogisticValidParams {
    pub(super) fn c(&self) -> f64 {
        self.c
    }

    pub(super) fn tolerance(&self) -> f64 {
        self.tolerance
    }

    pub(super) fn max_iterations(&self) -> usize {
        self.max_iterations
    }

    /// Fits on rows that have been checked, starting from the solution of a similar problem where one is given.
    pub(super) fn solve_from(&self, set: &WeightedRows<'_>, start: Option<&LinearModel>) -> LinearModel {
        let (rows, columns) = (set.rows.len(), set.columns());
        let start = start.map(linear);
        let loss = LogisticLoss::new(set, self.c);
        let (start, before) = if prefers_reduced(rows, columns) {
            let (reached, iterations) = self.in_fewer_columns(set, &loss, start);
            (Some(reached), iterations)
        } else {
            (start, 0)
        };
        let matrix = prefers_matrix(rows, columns);
        let known = RowsInMemory { rows: MatrixRows::of(set), loss: &loss, matrix };
        let pass = |weights: &[f32], bias: &[f64]| Some(pass(known.rows, &loss, weights, bias));
        let solution = descend(&known, columns, &pass, start, self.tolerance, self.max_iterations);
        let mut model = self.model(&loss, solution, columns);
        model.convergence.iterations += before;
        model
    }

    /// With `XXᵀ = L Lᵀ`, the weights of the n rows of L are those of X in other coordinates, `w = Xᵀ L⁻ᵀ u`, and of the
    /// same length: a problem of n columns in place of d. Returns weights and biases, and the iterations made.
    fn in_fewer_columns(
        &self,
        set: &WeightedRows<'_>,
        loss: &LogisticLoss<'_>,
        start: Option<Linear>,
    ) -> (Linear, usize) {
        let count = set.rows.len();
        let reduced = ReducedRows::new(&set.rows);
        let rows = reduced.rows();
        // Of the same lengths and scores, so of the same loss.
        let known = RowsInMemory { rows, loss, matrix: true };
        let pass = |weights: &[f32], bias: &[f64]| Some(pass(rows, loss, weights, bias));
        let start = start.map(|(weights, bias)| (reduced.to_reduced(&set.rows, &weights), bias));
        // A little more is asked for, so that rounding on the way back does not undo the convergence.
        let tolerance = 0.7 * self.tolerance;
        let found = descend(&known, count, &pass, start, tolerance, self.max_iterations);
        let weights = reduced.to_full(&set.rows, &found.linear.0);
        ((weights, found.linear.1), found.iterations)
    }

    /// The model of a solution in the primal.
    pub(super) fn model(
        &self,
        loss: &LogisticLoss<'_>,
        solution: PrimalSolution,
        columns: usize,
    ) -> LinearModel {
        let convergence = self.convergence(&solution);
        let (weights, bias) = solution.linear;
        let weights =
            Array2::from_shape_vec((loss.classes, columns), weights).expect("one row of weights a class");
        LinearModel { weights, bias: Array1::from(bias), convergence }
    }

    fn convergence(&self, solution: &PrimalSolution) -> Convergence {
        let reason = match solution.outcome {
            Termination::Converged => None,
            Termination::IterationLimit => {
                Some(format!("stopped at its limit of {} iterations", self.max_iterations))
            }
            Termination::NoProgress => Some("could make no further progress in float32".to_owned()),
        };
        Convergence {
            converged: solution.outcome == Termination::Converged,
            iterations: solution.iterations,
            objective: solution.objective,
            criterion: solution.gap,
            message: reason.map(|reason| {
                format!(
                    "the logistic regression {reason}, with a duality gap of {:.1e} of the objective where {:.1e} was \
                     asked; standardize the features, lower C or raise the limit",
                    solution.gap, self.tolerance,
                )
            }),
        }
    }
}

/// Whether n rows of d features are few enough for a problem of n columns: its n x n matrices then take little beside the
/// features.
fn prefers_reduced(rows: usize, columns: usize) -> bool {
    rows * 4 <= columns
}

/// Whether a d x d preconditioner is worth its memory, which is less than that of the features. At 2600 to 4000 rows of 2048
/// features the fit takes half to nine tenths of the time with it.
fn prefers_matrix(rows: usize, columns: usize) -> bool {
    4 * rows >= 5 * columns && columns <= 8192
}

/// Weights and biases of a model.
fn linear(model: &LinearModel) -> Linear {
    (model.weights.iter().copied().collect(), model.bias.to_vec())
}

/// `C (log Σ exp f - f_y)` of each row.
pub(super) struct LogisticLoss<'a> {
    labels: &'a [usize],
    classes: usize,
    /// C of each row.
    costs: Vec<f64>,
    penalty: f64,
    /// `x·x` of each row.
    squares: Vec<f64>,
}

impl<'a> LogisticLoss<'a> {
    pub fn new(set: &'a WeightedRows<'_>, c: f64) -> Self {
        let costs = set.weights.iter().map(|weight| c * weight).collect();
        let squares = set.rows.par_iter().map(|row| simd::dot(row, row)).collect();
        Self::of(&set.labels, set.classes, costs, squares)
    }

    /// Of rows with these labels, C, and squared lengths.
    pub fn of(labels: &'a [usize], classes: usize, costs: Vec<f64>, squares: Vec<f64>) -> Self {
        Self { labels, classes, costs, penalty: if classes == 2 { 2.0 } else { 1.0 }, squares }
    }
}

impl PrimalLoss for LogisticLoss<'_> {
    fn problems(&self) -> usize {
        self.classes
    }

    /// Two classes share one weight vector, and with it the penalty.
    fn penalties(&self) -> (f64, f64) {
        (self.penalty, 0.0)
    }

    fn joint(&self) -> bool {
        true
    }

    /// C p (1 - p).
    fn curvatures(&self, row: usize, scores: &mut [f64]) {
        loss_and_residuals(scores, self.labels[row]);
        let cost = self.costs[row];
        scores.iter_mut().for_each(|score| *score = cost * score.abs() * (1.0 - score.abs()));
    }

    /// The probabilities.
    fn hessian_state(&self, _row: usize, scores: &mut [f32]) {
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores.iter_mut().for_each(|score| *score -= highest);
        simd::exp(scores);
        let scale = 1.0 / scores.iter().sum::<f32>();
        scores.iter_mut().for_each(|score| *score *= scale);
    }

    /// C (diag(p) - p pᵀ) times the changes.
    fn hessian_vector_product(&self, row: usize, states: &[f32], changes: &mut [f32]) {
        let mean: f32 = states.iter().zip(&*changes).map(|(p, change)| p * change).sum();
        let cost = self.costs[row] as f32;
        changes.iter_mut().zip(states).for_each(|(change, p)| *change = cost * p * (*change - mean));
    }
}

impl RowLoss for LogisticLoss<'_> {
    fn differentiate(&self, first: usize, scores: &mut [f32], sums: &mut Sums) {
        let classes = self.classes;
        let mut heights = Vec::with_capacity(scores.len() / classes);
        for (i, scores) in scores.chunks_mut(classes).enumerate() {
            let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|score| *score -= highest);
            heights.push(scores[self.labels[first + i]]);
        }
        simd::exp(scores);
        for (i, scores) in scores.chunks_mut(classes).enumerate() {
            let (label, cost) = (self.labels[first + i], self.costs[first + i]);
            let stiffness = (self.squares[first + i] / self.penalty) as f32;
            let own = f64::from(scores[label]);
            scores[label] = 0.0;
            let others: f64 = scores.iter().map(|&e| f64::from(e)).sum();
            let sum = others + own;
            // log Σ exp f - f_y. Where the label has the highest score, without cancellation.
            let loss = if heights[i] == 0.0 { others.ln_1p() } else { sum.ln() - f64::from(heights[i]) };
            sums.loss[label] += cost * loss;
            // The residual is p or p - 1, in size what is left of 1: so the label's is that of all others.
            let scale = (1.0 / sum) as f32;
            let (of_label, cost) = ((others / sum) as f32, cost as f32);
            scores.iter_mut().for_each(|score| *score *= scale);
            scores[label] = of_label;
            for ((score, curvature), bias) in scores.iter_mut().zip(&mut sums.curvature).zip(&mut sums.bias) {
                let residual = cost * *score;
                let second = residual * (1.0 - *score);
                // The weights take over part of what the bias does (Schur complement, rows taken as orthogonal).
                *curvature += f64::from(second / (1.0 + second * stiffness));
                *bias += f64::from(residual);
                *score = residual;
            }
            sums.bias[label] -= 2.0 * f64::from(scores[label]);
            scores[label] = -scores[label];
        }
    }
}

/// Turns the scores of a row into `probability - [class is label]`, and returns its loss.
fn loss_and_residuals(scores: &mut [f64], label: usize) -> f64 {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let of_label = scores[label] - highest;
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - highest).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
    scores[label] -= 1.0;
    sum.ln() - of_label
}
