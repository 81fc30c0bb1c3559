//! Ridge regression on fewer rows than columns, by the products of the rows.
//!
//! With `X Xᵀ = Q Λ Qᵀ` the hat matrix is `1/n + Q Λ (Λ + α)⁻¹ Qᵀ` and the weights are `Xᵀ Q (Λ + α)⁻¹ Qᵀ Y`.

use faer::{Accum, Mat, Par, Side, linalg::matmul::matmul};
use ndarray::Array2;

use super::{Centred, RidgeModel, least, linear_model};

/// Columns that are brought to float64 at a time.
const BLOCK: usize = 512;

/// Fits with the best of the penalties.
pub(super) fn solve(centred: &Centred<'_>, alphas: &[f64], left_out: bool) -> RidgeModel {
    let (set, roots) = (centred.set, &centred.roots);
    let (count, columns, classes) = (set.rows.len(), set.columns(), set.classes);
    let mut products = Mat::zeros(count, count);
    for from in (0..columns).step_by(BLOCK) {
        let part = Mat::from_fn(count, BLOCK.min(columns - from), |i, j| {
            roots[i] * (f64::from(set.rows[i][from + j]) - centred.mean[from + j])
        });
        matmul(products.as_mut(), Accum::Add, part.as_ref(), part.transpose(), 1.0, Par::rayon(0));
    }
    let eigen = products
        .self_adjoint_eigen(Side::Lower)
        .expect("a symmetric matrix of finite values has eigenvectors");
    drop(products);
    let values: Vec<f64> = eigen.S().column_vector().iter().map(|value| value.max(0.0)).collect();
    let vectors = eigen.U();
    let targets =
        Mat::from_fn(count, classes, |i, k| roots[i] * (centred.target(i, k) - centred.target_mean[k]));
    let right = vectors.transpose() * &targets;

    let fitted = |alpha: f64| {
        let scaled = Mat::from_fn(count, classes, |j, k| values[j] / (values[j] + alpha) * right[(j, k)]);
        vectors * &scaled
    };
    let leverages = |alpha: f64| -> Vec<f64> {
        let own = |i: usize| roots[i] * roots[i] / centred.weight;
        let gain = |j: usize| values[j] / (values[j] + alpha);
        (0..count)
            .map(|i| own(i) + (0..count).map(|j| gain(j) * vectors[(i, j)].powi(2)).sum::<f64>())
            .collect()
    };
    let left_out_scores = |alpha: f64| {
        let (fitted, leverages) = (fitted(alpha), leverages(alpha));
        let mut scores = Array2::zeros((count, classes));
        for (i, &leverage) in leverages.iter().enumerate() {
            let fitted = fitted.row(i).iter().map(|fitted| fitted / roots[i]);
            centred.leave_out(i, fitted, leverage, scores.row_mut(i));
        }
        scores
    };
    let mut errors = vec![0.0; alphas.len()];
    if left_out || alphas.len() > 1 {
        for (error, &alpha) in errors.iter_mut().zip(alphas) {
            for (i, scores) in left_out_scores(alpha).rows().into_iter().enumerate() {
                let squares =
                    scores.iter().enumerate().map(|(k, score)| (centred.target(i, k) - score).powi(2));
                *error += roots[i] * roots[i] * squares.sum::<f64>();
            }
            *error /= centred.weight * classes as f64;
        }
    }
    let alpha = alphas[least(&errors)];

    let scaled = Mat::from_fn(count, classes, |j, k| right[(j, k)] / (values[j] + alpha));
    let combined = vectors * &scaled;
    let mut weights = Mat::zeros(columns, classes);
    for (from, to) in centred.blocks() {
        let rows = centred.columns(from, to);
        let part = combined.get(from..to, ..);
        matmul(weights.as_mut(), Accum::Add, rows.as_ref(), part, 1.0, Par::rayon(0));
    }
    let squares = (0..classes).flat_map(|k| {
        values.iter().zip(right.col(k).iter()).map(move |(value, p)| alpha / (value + alpha) * p * p)
    });
    let objective = squares.sum();
    RidgeModel {
        left_out: if left_out { left_out_scores(alpha) } else { Array2::zeros((0, 0)) },
        linear: linear_model(weights.as_ref(), centred.target_mean.iter().copied(), &centred.mean, objective),
        alpha,
        errors,
    }
}
