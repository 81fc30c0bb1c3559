//! Ridge regression on fewer rows than columns, by the products of the rows.
//!
//! With targets Y and `A = (X Xᵀ + α)⁻¹` the weights are `Xᵀ A Y`, what is fitted is `Y - α A Y`, and the hat matrix
//! `1/n + 1 - α A`. One α takes a Cholesky factor; to choose among several, `X Xᵀ = Q Λ Qᵀ` makes every α cost next to
//! nothing.

use faer::Mat;
use ndarray::Array2;
use rayon::prelude::*;

use super::{CentredRows, RidgeModel, inverse::Inverse, least, linear_model};
use crate::{dual::combine, packed_lower_triangle::PackedLowerTriangle};

/// Columns that are brought to float64 at a time.
const BLOCK: usize = 128;

/// Fits with the best of the penalties.
pub(super) fn solve(centred: &CentredRows<'_>, alphas: &[f64], left_out: bool) -> RidgeModel {
    let (set, roots) = (centred.set, &centred.roots);
    let (count, classes) = (set.rows.len(), set.classes);
    let targets =
        Mat::from_fn(count, classes, |i, k| roots[i] * (centred.target(i, k) - centred.target_mean[k]));
    let inverse = Inverse::new(products(centred), alphas, &targets, || products(centred));

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
            *error = centred.error(&left_out_scores(alpha, &inverse.solved(alpha)));
        }
    }
    let best = least(&errors);
    let alpha = alphas[best];
    let coefficients = inverse.solved(alpha);
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

/// The products of the centred rows with one another.
fn products(centred: &CentredRows<'_>) -> PackedLowerTriangle<f64> {
    let (set, columns) = (centred.set, centred.set.columns());
    let mut products = PackedLowerTriangle::zeros(set.rows.len());
    for from in (0..columns).step_by(BLOCK) {
        let part = Mat::from_fn(set.rows.len(), BLOCK.min(columns - from), |i, j| {
            centred.roots[i] * (f64::from(set.rows[i][from + j]) - centred.mean[from + j])
        });
        products.add_products(1.0, part.as_ref());
    }
    products
}
