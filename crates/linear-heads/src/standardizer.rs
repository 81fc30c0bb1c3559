//! Standardisation: every column of the features to mean 0 and standard deviation 1, learned from training rows alone.
//!
//! A column that does not vary carries no information, but dividing its rounding noise by a tiny deviation would make
//! it the loudest of all. Such columns become exactly 0 instead.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, parallel::prelude::*};
use serde::{Deserialize, Serialize};

use super::simd;

/// A column counts as constant when its standard deviation is at most this share of its root mean square.
///
/// float32 values of size `m` are stored to within `6e-8 m`, so a deviation below `1e-6 m` is at most some 16 units in
/// the last place: rounding of whatever computed the features, not signal. The threshold is relative to the column itself,
/// so scaling a column, or all of them, by any factor changes nothing.
pub const CONSTANT_SHARE: f64 = 1e-6;

/// Row ranges that sums are split into. Fixed, so that results do not depend on the number of threads.
const PARTS: usize = 16;

/// Mean and scale of each column: `z = (x - mean) / scale`, and 0 where the column was constant.
///
/// The deviation is that of the population (divisor n), as scikit-learn's `StandardScaler` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standardizer {
    mean: Vec<f64>,
    scale: Vec<f64>,
    constant: Vec<bool>,
}

impl Standardizer {
    /// Learns mean and deviation of each column from `rows` of `features` (n x d), in float64.
    ///
    /// `rows` must not be empty and must lie within `features`; the features must be finite.
    pub fn fit(features: ArrayView2<'_, f32>, rows: &[usize]) -> Self {
        Self::fit_scaled(features, rows, |_| 1.0)
    }

    /// As [`Self::fit`] on all rows, each counted as often as its weight says.
    ///
    /// There must be a finite weight of at least 0 for each row, and one above 0.
    ///
    /// ```
    /// use cnncodes_linear_heads::Standardizer;
    /// use ndarray::array;
    ///
    /// let standardizer = Standardizer::fit_weighted(array![[1.0f32], [4.0], [99.0]].view(), &[2.0, 1.0, 0.0]);
    /// assert_eq!((standardizer.mean(), standardizer.scale()), (&[2.0][..], &[2f64.sqrt()][..]));
    /// ```
    pub fn fit_weighted(features: ArrayView2<'_, f32>, weights: &[f64]) -> Self {
        let rows: Vec<usize> = (0..features.nrows()).collect();
        Self::learn(features, &rows, |_| 1.0, |row| weights[row])
    }

    /// As [`Self::fit`], after each row has been multiplied by its `factor`.
    pub(super) fn fit_scaled(
        features: ArrayView2<'_, f32>,
        rows: &[usize],
        factor: impl Fn(usize) -> f64 + Sync,
    ) -> Self {
        Self::learn(features, rows, factor, |_| 1.0)
    }

    /// From rows that have been multiplied by their `factor`, and count as often as their `weight` says.
    fn learn(
        features: ArrayView2<'_, f32>,
        rows: &[usize],
        factor: impl Fn(usize) -> f64 + Sync,
        weight: impl Fn(usize) -> f64 + Sync,
    ) -> Self {
        let count: f64 = rows.iter().map(|&row| weight(row)).sum();
        let scale = |row| (factor(row), weight(row));
        let mean: Vec<f64> =
            column_sums(features, rows, scale, |_, x| x).iter().map(|sum| sum / count).collect();
        // A second pass over centred values: the textbook difference of squares would cancel for large means.
        let squares = column_sums(features, rows, scale, |j, x| (x - mean[j]).powi(2));
        let variances = squares.iter().map(|square| square / count).collect();
        Self::from_variances(mean, variances)
    }

    /// From mean and variance of each column.
    pub(super) fn from_variances(mean: Vec<f64>, variances: Vec<f64>) -> Self {
        let mut scale = Vec::with_capacity(mean.len());
        let mut constant = Vec::with_capacity(mean.len());
        for (&m, &variance) in mean.iter().zip(&variances) {
            let deviation = variance.max(0.0).sqrt();
            let varies =
                deviation > CONSTANT_SHARE * m.hypot(deviation) && deviation > f64::from(f32::MIN_POSITIVE);
            scale.push(if varies { deviation } else { 1.0 });
            constant.push(!varies);
        }
        Self { mean, scale, constant }
    }

    /// The transformation that changes nothing, for `columns` columns.
    pub fn identity(columns: usize) -> Self {
        Self { mean: vec![0.0; columns], scale: vec![1.0; columns], constant: vec![false; columns] }
    }

    /// Puts a standardizer together from its parts; `None` when their lengths differ, a value is not finite, or a scale
    /// is not positive.
    pub fn from_parts(mean: Vec<f64>, scale: Vec<f64>, constant: Vec<bool>) -> Option<Self> {
        let sound = mean.len() == scale.len()
            && mean.len() == constant.len()
            && mean.iter().all(|m| m.is_finite())
            && scale.iter().all(|s| s.is_finite() && *s > 0.0);
        sound.then_some(Self { mean, scale, constant })
    }

    /// The same without division: columns are brought to mean 0 and keep their deviations.
    pub(super) fn centring(self) -> Self {
        Self { scale: vec![1.0; self.scale.len()], ..self }
    }

    /// Standardises all rows of `features` (n x d).
    pub fn transform(&self, features: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut out = Array2::zeros(features.raw_dim());
        let features = features.as_standard_layout();
        let (from, to) = (features.as_slice(), out.as_slice_mut());
        let (from, to) = from.zip(to).expect("both are in standard layout");
        let width = self.mean.len().max(1);
        to.chunks_exact_mut(width)
            .zip(from.chunks_exact(width))
            .for_each(|(to, row)| self.apply(1.0, row, to));
        out
    }

    /// Standardises a row whose values are first multiplied by `factor`.
    pub(super) fn apply(&self, factor: f64, row: &[f32], out: &mut [f32]) {
        simd::standardize(out, row, factor, &self.mean, &self.scale, &self.constant);
    }

    /// Standardises value `x` of column `j`.
    pub(super) fn value(&self, j: usize, x: f64) -> f64 {
        if self.constant[j] { 0.0 } else { (x - self.mean[j]) / self.scale[j] }
    }

    /// Mean of each column.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Divisor of each column; 1 where the column was constant.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Whether each column was constant, and therefore becomes 0.
    pub fn constant(&self) -> &[bool] {
        &self.constant
    }
}

/// Sums `weight * term(column, factor * value)` down each column, over `rows`; `scale` gives a row's factor and weight.
fn column_sums(
    features: ArrayView2<'_, f32>,
    rows: &[usize],
    scale: impl Fn(usize) -> (f64, f64) + Sync,
    term: impl Fn(usize, f64) -> f64 + Sync,
) -> Vec<f64> {
    let partial: Vec<Vec<f64>> = parts(rows.len(), PARTS)
        .into_par_iter()
        .map(|part| {
            let mut sums = vec![0.0; features.ncols()];
            for &row in &rows[part] {
                let (factor, weight) = scale(row);
                for (j, (sum, &x)) in sums.iter_mut().zip(features.row(row)).enumerate() {
                    *sum += weight * term(j, factor * f64::from(x));
                }
            }
            sums
        })
        .collect();
    partial.into_iter().fold(vec![0.0; features.ncols()], |mut total, sums| {
        total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        total
    })
}

/// Splits `0..count` into at most `parts` ranges of nearly equal length.
pub(super) fn parts(count: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.clamp(1, count.max(1));
    (0..parts).map(|p| p * count / parts..(p + 1) * count / parts).collect()
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use ndarray::array;

    use super::*;

    fn all(features: &Array2<f32>) -> Vec<usize> {
        (0..features.nrows()).collect()
    }

    #[test]
    fn columns_get_mean_zero_and_population_deviation_one() {
        let features = array![[1.0f32, 10.0], [2.0, 30.0], [3.0, 50.0], [6.0, 70.0]];
        let scaler = Standardizer::fit(features.view(), &all(&features));
        assert_eq!(scaler.mean(), [3.0, 40.0]);
        // Deviations: sqrt((4 + 1 + 0 + 9) / 4) and sqrt((900 + 100 + 100 + 900) / 4).
        assert_abs_diff_eq!(scaler.scale()[0], 3.5f64.sqrt(), epsilon = 1e-12);
        assert_abs_diff_eq!(scaler.scale()[1], 500f64.sqrt(), epsilon = 1e-12);
        let z = scaler.transform(features.view());
        assert_abs_diff_eq!(z[[3, 0]], 3.0 / 3.5f32.sqrt(), epsilon = 1e-6);
    }

    #[test]
    fn only_the_named_rows_are_learned_from() {
        let features = array![[1.0f32], [3.0], [1000.0]];
        let scaler = Standardizer::fit(features.view(), &[0, 1]);
        assert_eq!((scaler.mean()[0], scaler.scale()[0]), (2.0, 1.0));
        assert_eq!(scaler.transform(features.view())[[2, 0]], 998.0);
    }

    #[test]
    fn constant_and_nearly_constant_columns_become_zero_at_any_scale() {
        for factor in [1e-6f32, 1.0, 1e6] {
            // One unit in the last place of 7.3 is 4.8e-7: the second column varies by rounding only.
            let features = array![[5.0f32, 7.3], [5.0, 7.300_000_7], [5.0, 7.3]] * factor;
            let scaler = Standardizer::fit(features.view(), &all(&features));
            assert_eq!(scaler.constant(), [true, true]);
            assert_eq!(scaler.scale(), [1.0, 1.0]);
            // New values in such a column are ignored as well, however large.
            let fresh = array![[9e9f32, -3.0]];
            assert_eq!(scaler.transform(fresh.view()), array![[0.0f32, 0.0]]);
        }
    }

    #[test]
    fn a_small_signal_on_a_large_offset_is_kept() {
        let features = array![[1000.0f32], [1000.01], [1000.0], [1000.01]];
        let scaler = Standardizer::fit(features.view(), &all(&features));
        assert_eq!(scaler.constant(), [false]);
        let z = scaler.transform(features.view());
        assert_abs_diff_eq!(z, array![[-1.0f32], [1.0], [-1.0], [1.0]], epsilon = 1e-5);
    }

    #[test]
    fn scaling_all_features_leaves_the_result_unchanged() {
        let features =
            Array2::from_shape_fn((50, 7), |(i, j)| ((i * 7 + j) as f32 * 0.71).sin() * (j + 1) as f32);
        let reference = Standardizer::fit(features.view(), &all(&features)).transform(features.view());
        for factor in [1e-6f32, 1e6] {
            let scaled = &features * factor;
            let z = Standardizer::fit(scaled.view(), &all(&scaled)).transform(scaled.view());
            assert_abs_diff_eq!(z, reference, epsilon = 1e-5);
        }
    }

    #[test]
    fn unsound_parts_are_refused() {
        assert!(Standardizer::from_parts(vec![0.0], vec![0.0], vec![false]).is_none());
        assert!(Standardizer::from_parts(vec![f64::NAN], vec![1.0], vec![false]).is_none());
        assert!(Standardizer::from_parts(vec![0.0], vec![1.0, 1.0], vec![false]).is_none());
        assert!(Standardizer::from_parts(vec![0.0], vec![1.0], vec![false]).is_some());
    }

    #[test]
    fn parts_cover_everything_once() {
        assert_eq!(parts(5, 2), [0..2, 2..5]);
        assert_eq!(parts(2, 16), [0..1, 1..2]);
        assert_eq!(parts(0, 16).len(), 1);
    }
}
