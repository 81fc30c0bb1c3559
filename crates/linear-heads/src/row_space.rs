//! Few rows of many features, in as many columns as there are rows.
//!
//! With `XXᵀ = L Lᵀ`, the n rows of the lower triangular L have the products of those of X with one another, and weights
//! `w = Xᵀ L⁻ᵀ u` the scores and the length that u has there. L is in float32: it stands for rows whose products differ from
//! those of X by float32's rounding, however little independent they are; what differs in the scores is that times `L⁻ᵀ u`,
//! which at the solution are the residuals.

use rayon::prelude::*;

use super::{
    batched::MatrixRows,
    dual::combine,
    packed_lower_triangle::{CholeskyFactor, PackedLowerTriangle},
    simd,
};

/// L, of `n (n + 1) / 2` values.
pub(super) struct ReducedRows {
    lower: CholeskyFactor<f32>,
}

impl ReducedRows {
    /// Of the rows of X.
    pub fn new(rows: &[&[f32]]) -> Self {
        let mut products = PackedLowerTriangle::of_rows(rows);
        let mean = products.diagonal().sum::<f64>() / rows.len() as f64;
        // Centred rows are dependent, and so are equal ones; what rounding makes of that is not positive definite. Products
        // of float32 features are good to about 1e-8.
        let mut jitter = if mean > 0.0 { 1e-7 * mean } else { 1.0 };
        loop {
            match products.factor(jitter) {
                Some(factor) => return Self { lower: factor.narrowed() },
                None => {
                    jitter *= 10.0;
                    products = PackedLowerTriangle::of_rows(rows);
                }
            }
        }
    }

    /// The rows of L.
    pub fn rows(&self) -> MatrixRows<'_> {
        MatrixRows::Triangle(&self.lower)
    }

    /// `w = Xᵀ L⁻ᵀ u` of each problem (problems x d), from u (problems x n).
    pub fn to_full(&self, rows: &[&[f32]], variables: &[f32]) -> Vec<f32> {
        let of_problem = |variables: &[f32]| -> Vec<f32> {
            let mut solved: Vec<f64> = variables.iter().copied().map(f64::from).collect();
            for (j, column) in self.lower.columns().rev() {
                let known: f64 =
                    column[1..].iter().zip(&solved[j + 1..]).map(|(&l, s)| f64::from(l) * s).sum();
                solved[j] = (solved[j] - known) / f64::from(column[0]);
            }
            combine(rows, &solved, rows[0].len()).into_iter().map(|w| w as f32).collect()
        };
        variables.par_chunks(rows.len()).map(of_problem).collect::<Vec<_>>().concat()
    }

    /// `u = L⁻¹ X w` of each problem (problems x n), the part of w within the rows' span, from w (problems x d).
    pub fn to_reduced(&self, rows: &[&[f32]], weights: &[f32]) -> Vec<f32> {
        let of_problem = |weights: &[f32]| -> Vec<f32> {
            let mut solved: Vec<f64> = rows.iter().map(|features| simd::dot(features, weights)).collect();
            for (j, column) in self.lower.columns() {
                solved[j] /= f64::from(column[0]);
                let here = solved[j];
                let below = solved[j + 1..].iter_mut().zip(&column[1..]);
                below.for_each(|(left, &l)| *left -= here * f64::from(l));
            }
            solved.into_iter().map(|u| u as f32).collect()
        };
        weights.par_chunks(rows[0].len()).map(of_problem).collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::batched::RowBlock;

    /// Independent rows.
    fn example(count: usize, columns: usize) -> Vec<Vec<f32>> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        (0..count).map(|_| (0..columns).map(|_| rng.random::<f32>() - 0.5).collect()).collect()
    }

    /// Scores of two problems with the rows of L, and weights of the rows themselves; with what both are made of.
    fn solved(rows: &[&[f32]]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let count = rows.len();
        let reduced = ReducedRows::new(rows);
        let variables: Vec<f32> = (0..2 * count).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut scores = vec![f32::NAN; 2 * count];
        // In two blocks, of which the second begins within a panel.
        let half = count / 2;
        for range in [0..half, half..count] {
            let mut buffer = Vec::new();
            let block = reduced.rows().block(range.clone(), count, &mut buffer);
            assert!(matches!(block, RowBlock::Triangle(..)));
            block.scores(&variables, count, &mut scores[2 * range.start..2 * range.end]);
        }
        (variables.clone(), scores, reduced.to_full(rows, &variables))
    }

    fn largest_difference(rows: &[&[f32]], scores: &[f32], weights: &[f32]) -> f64 {
        let columns = rows[0].len();
        let difference = |i: usize, k: usize| {
            let expected = simd::dot(rows[i], &weights[k * columns..][..columns]);
            (f64::from(scores[2 * i + k]) - expected).abs() / simd::dot(rows[i], rows[i]).sqrt()
        };
        (0..2 * rows.len()).map(|at| difference(at / 2, at % 2)).fold(0.0, f64::max)
    }

    #[test]
    fn scores_and_lengths_are_those_of_the_rows_themselves() {
        for (count, columns) in [(2, 9), (37, 150), (300, 1300)] {
            let rows: Vec<Vec<f32>> = example(count, columns);
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let (variables, scores, weights) = solved(&rows);
            for (variables, weights) in variables.chunks(count).zip(weights.chunks(columns)) {
                let (expected, found) = (simd::dot(variables, variables), simd::dot(weights, weights));
                assert!((found - expected).abs() < 1e-4 * expected, "{count}: {found}, not {expected}");
            }
            let difference = largest_difference(&rows, &scores, &weights);
            assert!(difference < 1e-5, "{count}: {difference}");
        }
    }

    #[test]
    fn dependent_rows_have_their_scores_too() {
        let mut rows = example(60, 400);
        rows[59] = rows[0].iter().zip(&rows[1]).map(|(a, b)| a + b).collect();
        rows[58] = rows[2].clone();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let (_, scores, weights) = solved(&rows);
        // The root of what is added to the diagonal, 1e-7 of it.
        let difference = largest_difference(&rows, &scores, &weights);
        assert!(difference < 1e-3, "{difference}");
    }

    #[test]
    fn weights_come_back_from_the_fewer_columns() {
        let rows = example(37, 150);
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let reduced = ReducedRows::new(&rows);
        let variables: Vec<f32> = (0..74).map(|i| (i as f32 * 0.3).cos()).collect();
        let found = reduced.to_reduced(&rows, &reduced.to_full(&rows, &variables));
        for (found, expected) in found.iter().zip(&variables) {
            assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
        }
    }

    #[test]
    fn rows_and_sums_are_those_of_the_triangle() {
        let rows = example(100, 420);
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let reduced = ReducedRows::new(&rows);
        let whole: Vec<Vec<f32>> = (0..100)
            .map(|i| {
                let mut row = Vec::new();
                reduced.rows().copy(i, 100, &mut row);
                row
            })
            .collect();
        for (i, row) in whole.iter().enumerate() {
            assert!(row[i] > 0.0 && row[i + 1..].iter().all(|&x| x == 0.0), "{i}: {row:?}");
            for (j, other) in whole.iter().enumerate() {
                let expected = simd::dot(rows[i], rows[j]);
                let scale = (simd::dot(rows[i], rows[i]) * simd::dot(rows[j], rows[j])).sqrt();
                assert!((simd::dot(row, other) - expected).abs() < 1e-5 * scale, "{i} {j}");
            }
        }
        // Few problems and many take different ways.
        for problems in [1, 4, 17] {
            let residuals: Vec<f32> = (0..40 * problems).map(|i| (i as f32 * 0.9).sin()).collect();
            let (mut scratch, mut gradient) = (vec![0.0; problems * 100], vec![1.0; problems * 100]);
            let mut buffer = Vec::new();
            let block = reduced.rows().block(37..77, 100, &mut buffer);
            block.add_gradient(&residuals, 100, &mut scratch, &mut gradient);
            for k in 0..problems {
                for j in 0..100 {
                    let products = (0..40).map(|i| f64::from(residuals[i * problems + k] * whole[37 + i][j]));
                    let (found, expected) = (gradient[k * 100 + j], 1.0 + products.sum::<f64>());
                    assert!((found - expected).abs() < 1e-3, "{problems} {k} {j}: {found}, not {expected}");
                }
            }
        }
    }
}
