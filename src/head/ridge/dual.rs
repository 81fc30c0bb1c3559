//! Ridge regression on fewer rows than columns, by the products of the rows.
//!
//! With targets Y and `A = (X Xᵀ + α)⁻¹` the weights are `Xᵀ A Y`, what is fitted is `Y - α A Y`, and the hat matrix
//! `1/n + 1 - α A`. One α takes a Cholesky factor; to choose among several, `X Xᵀ = Q Λ Qᵀ` makes every α cost next to
//! nothing.

use faer::{Mat, Par};
use ndarray::Array2;
use rayon::prelude::*;

use super::{
    super::{
        dual::combine,
        panels::{Factor, Panels},
    },
    Centred, RidgeModel, least, linear_model,
};

/// Columns that are brought to float64 at a time.
const BLOCK: usize = 128;

/// Fits with the best of the penalties.
pub(super) fn solve(centred: &Centred<'_>, alphas: &[f64], left_out: bool) -> RidgeModel {
    let (set, roots) = (centred.set, &centred.roots);
    let (count, classes) = (set.rows.len(), set.classes);
    let targets =
        Mat::from_fn(count, classes, |i, k| roots[i] * (centred.target(i, k) - centred.target_mean[k]));
    let inverse = Inverse::new(centred, alphas, &targets);

    let left_out_scores = |alpha: f64, coefficients: &Mat<f64>| {
        let diagonal = inverse.diagonal(alpha);
        let mut scores = Array2::zeros((count, classes));
        for (i, root) in roots.iter().enumerate() {
            let fitted = (0..classes).map(|k| (targets[(i, k)] - alpha * coefficients[(i, k)]) / root);
            let leverage = root * root / centred.weight + 1.0 - alpha * diagonal[i];
            centred.leave_out(i, fitted, leverage, scores.row_mut(i));
        }
        scores
    };
    let mut errors = vec![0.0; alphas.len()];
    if alphas.len() > 1 {
        for (error, &alpha) in errors.iter_mut().zip(alphas) {
            *error = centred.error(&left_out_scores(alpha, &inverse.coefficients(alpha)));
        }
    }
    let best = least(&errors);
    let alpha = alphas[best];
    let coefficients = inverse.coefficients(alpha);
    let scores = if left_out { left_out_scores(alpha, &coefficients) } else { Array2::zeros((0, 0)) };
    if left_out {
        errors[best] = centred.error(&scores);
    }
    drop(inverse);

    let weights: Vec<Vec<f64>> = (0..classes)
        .into_par_iter()
        .map(|k| {
            let own: Vec<f64> = coefficients.col(k).iter().zip(roots).map(|(c, root)| c * root).collect();
            let (mut weights, sum) = (combine(&set.rows, &own, set.columns()), own.iter().sum::<f64>());
            weights.iter_mut().zip(&centred.mean).for_each(|(weight, mean)| *weight -= sum * mean);
            weights
        })
        .collect();
    let weights = Mat::from_fn(set.columns(), classes, |j, k| weights[k][j]);
    let pairs = targets.col_iter().zip(coefficients.col_iter());
    let objective = alpha * pairs.map(|(target, own)| target.transpose() * own).sum::<f64>();
    RidgeModel {
        left_out: scores,
        linear: linear_model(weights.as_ref(), centred.target_mean.iter().copied(), &centred.mean, objective),
        alpha,
        errors,
    }
}

/// `(X Xᵀ + α)⁻¹`, of one penalty or of any.
enum Inverse {
    One {
        factor: Factor<f64>,
        /// The inverse times the targets.
        coefficients: Mat<f64>,
    },
    Any {
        values: Vec<f64>,
        vectors: Mat<f64>,
        /// Vectors' products with the targets.
        right: Mat<f64>,
    },
}

impl Inverse {
    fn new(centred: &Centred<'_>, alphas: &[f64], targets: &Mat<f64>) -> Self {
        if let &[alpha] = alphas
            && let Some(factor) = products(centred).factor(alpha)
        {
            let mut coefficients = targets.clone();
            factor.solve(coefficients.as_mut(), Par::rayon(0));
            return Inverse::One { factor, coefficients };
        }
        let (values, vectors) = products(centred).spectrum();
        let right = vectors.transpose() * targets;
        Inverse::Any { values, vectors, right }
    }

    /// The inverse times the targets, n x classes.
    fn coefficients(&self, alpha: f64) -> Mat<f64> {
        match self {
            Inverse::One { coefficients, .. } => coefficients.clone(),
            Inverse::Any { values, vectors, right } => {
                let scaled = |j, k| right[(j, k)] / (values[j] + alpha);
                vectors * Mat::from_fn(right.nrows(), right.ncols(), scaled)
            }
        }
    }

    /// The diagonal of the inverse.
    fn diagonal(&self, alpha: f64) -> Vec<f64> {
        match self {
            Inverse::One { factor, .. } => {
                let count = factor.order();
                let squares =
                    (0..count).step_by(BLOCK).flat_map(|from| {
                        let mut columns = Mat::from_fn(count, BLOCK.min(count - from), |i, j| {
                            if i == from + j { 1.0 } else { 0.0 }
                        });
                        factor.forward(columns.as_mut(), Par::rayon(0));
                        (0..columns.ncols()).map(|j| columns.col(j).squared_norm_l2()).collect::<Vec<_>>()
                    });
                squares.collect()
            }
            Inverse::Any { values, vectors, .. } => {
                let own = |i: usize| {
                    values
                        .iter()
                        .enumerate()
                        .map(|(j, value)| vectors[(i, j)].powi(2) / (value + alpha))
                        .sum()
                };
                (0..values.len()).map(own).collect()
            }
        }
    }
}

/// The products of the centred rows with one another.
fn products(centred: &Centred<'_>) -> Panels<f64> {
    let (set, columns) = (centred.set, centred.set.columns());
    let mut products = Panels::zeros(set.rows.len());
    for from in (0..columns).step_by(BLOCK) {
        let part = Mat::from_fn(set.rows.len(), BLOCK.min(columns - from), |i, j| {
            centred.roots[i] * (f64::from(set.rows[i][from + j]) - centred.mean[from + j])
        });
        products.add_products(1.0, part.as_ref());
    }
    products
}
