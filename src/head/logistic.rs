//! Multinomial logistic regression with an L2 penalty, behind linfa's traits.
//!
//! With scores `f_k = w_k·x + b_k` of a row x of class y, the minimised objective is scikit-learn's:
//!
//! ```text
//! C Σ ( log Σ_k exp f_k - f_y ) + ½ Σ_k w_k·w_k
//! ```
//!
//! It is minimised until the duality gap is small enough. For the dual point that the probabilities at hand define, the
//! gap is half the squared norm of the weights' gradient (Fenchel's inequality is an equality there), provided that the
//! biases are optimal; what is to be gained by moving them is estimated from their gradient and curvature, and added.
//!
//! The biases are not penalised. Two classes are one problem with a single weight vector w = w_1 - w_0, as in
//! scikit-learn; by symmetry w_1 = -w_0 = w/2, so it is the same sum with the penalty doubled.
//!
//! log Σ exp is taken relative to each row's own maximum. (linfa-logistic 0.8.1 subtracts the maximum of the whole
//! matrix; on badly scaled codes every exponential of a row can then vanish, and it returned zero weights without an
//! error.) The minimiser works in variables scaled by the square root of a bound of the Hessian's diagonal, so columns
//! of very different size, or codes that are all tiny or huge, do not spoil its conditioning.

use linfa::{DatasetBase, ParamGuard, dataset::AsSingleTargets, traits::Fit};
use ndarray::{Array1, Array2, ArrayBase, Data, Ix2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    batched::{RowLoss, Rows, Sums, add_rows},
    error::{HeadError, training_set_of},
    kernel,
    lbfgs::{Minimum, Outcome, Value, minimize},
    linear::{Convergence, LinearModel, TrainingSet},
    scale::parts,
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
/// use cnncodes::head::LogisticParams;
/// use linfa::{Dataset, traits::{Fit, Predict}};
/// use ndarray::{Array1, array};
///
/// let rows = array![[0.0f32, 1.0], [0.2, 0.9], [1.0, 0.1], [0.9, 0.0]];
/// let model = LogisticParams::new().c(10.0).fit(&Dataset::new(rows.clone(), array![0usize, 0, 1, 1]))?;
/// let classes: Array1<usize> = model.predict(&rows);
/// assert_eq!(classes, array![0, 0, 1, 1]);
/// # Ok::<(), cnncodes::head::HeadError>(())
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

    /// Relative duality gap to stop at, at least 1e-7: float32 codes do not carry more.
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

impl ParamGuard for LogisticParams {
    type Checked = LogisticValidParams;
    type Error = HeadError;

    fn check_ref(&self) -> Result<&LogisticValidParams, HeadError> {
        HeadError::check_positive("C", self.0.c)?;
        HeadError::check_tolerance(self.0.tolerance, 1e-7)?;
        HeadError::check_iterations(self.0.max_iterations)?;
        Ok(&self.0)
    }

    fn check(self) -> Result<LogisticValidParams, HeadError> {
        self.check_ref()?;
        Ok(self.0)
    }
}

impl<D, T> Fit<ArrayBase<D, Ix2>, T, HeadError> for LogisticValidParams
where
    D: Data<Elem = f32>,
    T: AsSingleTargets<Elem = usize>,
{
    type Object = LinearModel;

    /// Fits on codes (n x d) with labels 0, 1, …; weights of the data set's rows multiply C.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<LinearModel, HeadError> {
        let codes = dataset.records().as_standard_layout();
        let set = training_set_of(codes.view(), dataset)?;
        Ok(self.solve(&set))
    }
}

impl LogisticValidParams {
    /// Fits on rows that have been checked.
    pub(super) fn solve(&self, set: &TrainingSet<'_>) -> LinearModel {
        self.solve_from(set, None)
    }

    /// As [`Self::solve`], starting from the solution of a similar problem.
    pub(super) fn solve_from(&self, set: &TrainingSet<'_>, start: Option<&LinearModel>) -> LinearModel {
        let objective = Objective::new(set, self.c);
        let start = match start {
            Some(model) => objective.scale(model),
            None => vec![0.0; set.classes * objective.stride()],
        };
        let evaluate = |point: &[f64], gradient: &mut [f64]| objective.evaluate(point, gradient);
        let minimum = minimize(evaluate, start, self.tolerance, self.max_iterations);
        let convergence = self.convergence(&minimum);
        let (weights, bias) = objective.unscale(&minimum.point);
        LinearModel { weights, bias, convergence }
    }

    fn convergence(&self, minimum: &Minimum) -> Convergence {
        let reason = match minimum.outcome {
            Outcome::Converged => None,
            Outcome::IterationLimit => {
                Some(format!("stopped at its limit of {} iterations", self.max_iterations))
            }
            Outcome::NoProgress => Some("could make no further progress in float32".to_owned()),
        };
        Convergence {
            converged: minimum.outcome == Outcome::Converged,
            iterations: minimum.iterations,
            objective: minimum.value,
            criterion: minimum.criterion,
            message: reason.map(|reason| {
                format!(
                    "the logistic regression {reason}, with a duality gap of {:.1e} of the objective where {:.1e} was \
                     asked; standardize the codes, lower C or raise the limit",
                    minimum.criterion, self.tolerance,
                )
            }),
        }
    }
}

/// The objective in scaled variables: for each class d weights and the bias, each times its `root`.
struct Objective<'a> {
    set: &'a TrainingSet<'a>,
    /// C of each row.
    costs: Vec<f64>,
    penalty: f64,
    /// `x·x` of each row.
    squares: Vec<f64>,
    /// Square root of a bound of the Hessian's diagonal, for d weights and the bias; alike for all classes.
    roots: Vec<f64>,
}

impl<'a> Objective<'a> {
    fn new(set: &'a TrainingSet<'a>, c: f64) -> Self {
        let penalty = if set.classes == 2 { 2.0 } else { 1.0 };
        let costs: Vec<f64> = set.weights.iter().map(|weight| c * weight).collect();
        // Each class's probability p has p (1 - p) <= ¼, and about (1 - 1/K) / K at the start.
        let classes = set.classes as f64;
        let curvature = (1.0 - 1.0 / classes) / classes;
        let mut roots = weighted_squares(set, &costs);
        roots.iter_mut().for_each(|root| *root = (penalty + curvature * *root).sqrt());
        roots.push((curvature * costs.iter().sum::<f64>()).sqrt());
        Self {
            set,
            squares: set.rows.par_iter().map(|row| kernel::dot(row, row)).collect(),
            penalty,
            roots,
            costs,
        }
    }

    /// Variables of one class.
    fn stride(&self) -> usize {
        self.roots.len()
    }

    /// float32 weights (classes x d) and float64 biases at `point`.
    fn unscale(&self, point: &[f64]) -> (Array2<f32>, Array1<f64>) {
        let columns = self.stride() - 1;
        let mut weights = Array2::zeros((self.set.classes, columns));
        let mut bias = Array1::zeros(self.set.classes);
        for (k, variables) in point.chunks(self.stride()).enumerate() {
            for (j, weight) in weights.row_mut(k).iter_mut().enumerate() {
                *weight = (variables[j] / self.roots[j]) as f32;
            }
            bias[k] = variables[columns] / self.roots[columns];
        }
        (weights, bias)
    }

    /// The point of a model's weights and biases.
    fn scale(&self, model: &LinearModel) -> Vec<f64> {
        let variables = model.weights.rows().into_iter().zip(&model.bias);
        variables
            .flat_map(|(weights, &bias)| {
                weights.iter().map(|&w| f64::from(w)).chain([bias]).collect::<Vec<_>>()
            })
            .zip(self.roots.iter().cycle())
            .map(|(variable, root)| variable * root)
            .collect()
    }

    /// Value, relative duality gap, and gradient at `point`.
    fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> Value {
        let (weights, bias) = self.unscale(point);
        let columns = self.stride() - 1;
        let mut sums = Sums::zeros(self.set.classes, columns);
        let flat = weights.as_slice().expect("made in standard layout");
        let biases = bias.as_slice().expect("made in standard layout");
        add_rows(Rows::of(self.set), 0, flat, biases, self, &mut sums);
        let mut value: f64 = sums.loss.iter().sum();
        let gaps: Vec<f64> = gradient
            .par_chunks_mut(self.stride())
            .enumerate()
            .map(|(k, gradient)| {
                let weights = &flat[k * columns..(k + 1) * columns];
                let of_losses = &sums.gradient[k * columns..(k + 1) * columns];
                for ((g, &loss), &weight) in gradient.iter_mut().zip(of_losses).zip(weights) {
                    *g = loss + self.penalty * f64::from(weight);
                }
                gradient[columns] = sums.bias[k];
                let of_weights = gradient[..columns].iter().map(|g| g * g).sum::<f64>() / self.penalty;
                let of_bias = gradient[columns].powi(2) / sums.curvature[k].max(f64::MIN_POSITIVE);
                gradient.iter_mut().zip(&self.roots).for_each(|(g, root)| *g /= root);
                0.5 * (of_weights + of_bias)
            })
            .collect();
        value += 0.5 * self.penalty * flat.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
        Value { value, criterion: gaps.iter().sum::<f64>() / value.max(f64::MIN_POSITIVE) }
    }
}

impl RowLoss for Objective<'_> {
    fn differentiate(&self, first: usize, scores: &mut [f32], sums: &mut Sums) {
        let classes = self.set.classes;
        let mut wide = vec![0f64; classes];
        for (i, scores) in scores.chunks_mut(classes).enumerate() {
            let (label, cost) = (self.set.labels[first + i], self.costs[first + i]);
            let square = self.squares[first + i];
            wide.iter_mut().zip(&*scores).for_each(|(w, &score)| *w = f64::from(score));
            sums.loss[label] += cost * loss_and_residuals(&mut wide, label);
            for (k, (&residual, out)) in wide.iter().zip(scores).enumerate() {
                // The residual is p or p - 1: either way its size times one minus its size is p (1 - p).
                let curvature = cost * residual.abs() * (1.0 - residual.abs());
                // The weights take over part of what the bias does (Schur complement, rows taken as orthogonal).
                sums.curvature[k] += curvature / (1.0 + curvature * square / self.penalty);
                sums.bias[k] += cost * residual;
                *out = (cost * residual) as f32;
            }
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

/// Σ cost · x² of each column.
fn weighted_squares(set: &TrainingSet<'_>, costs: &[f64]) -> Vec<f64> {
    let columns = set.columns();
    let partial: Vec<Vec<f64>> = parts(set.rows.len(), 16)
        .into_par_iter()
        .map(|part| {
            let mut sums = vec![0.0; columns];
            for i in part {
                let cost = costs[i];
                sums.iter_mut().zip(set.rows[i]).for_each(|(s, &x)| *s += cost * f64::from(x).powi(2));
            }
            sums
        })
        .collect();
    partial.into_iter().fold(vec![0.0; columns], |mut total, sums| {
        total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        total
    })
}
