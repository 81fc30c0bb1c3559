//! Weights and leave-one-out errors for every penalty, from the normal equations of rows that outnumber their columns.

use faer::{Mat, MatMut, Par};

use super::{inverse::Inverse, sums::NormalEquations};

/// The solution for each of some penalties.
pub(crate) struct RidgeSolution {
    /// Mean of the rows, less the shift of the sums.
    pub(crate) mean: Vec<f64>,
    /// Mean target of each class.
    pub(crate) target_mean: Vec<f64>,
    weight: f64,
    squared_targets: f64,
    /// d x classes.
    right: Mat<f64>,
    alphas: Vec<f64>,
    inverse: Inverse,
}

/// Rows that are left out one by one.
pub(crate) struct LeftOutRows<'a> {
    pub labels: &'a [usize],
    /// Root of each row's weight.
    pub roots: &'a [f64],
}

impl RidgeSolution {
    /// For these penalties; `again` makes the normal equations once more.
    pub(crate) fn new(
        normal: NormalEquations,
        alphas: &[f64],
        again: impl FnOnce() -> NormalEquations,
    ) -> Self {
        let squared_targets = normal.squared_targets();
        let NormalEquations { mean, target_mean, weight, right, products } = normal;
        let inverse = Inverse::new(products, alphas, &right, || again().products);
        Self { mean, target_mean, weight, squared_targets, right, alphas: alphas.to_vec(), inverse }
    }

    /// Weights of the centred rows for a penalty, d x classes.
    pub(crate) fn weights(&self, index: usize) -> Mat<f64> {
        self.inverse.solved(self.alphas[index])
    }

    /// The least value of the objective, `Σ w |y - t - V x|² + α |V|²`, for weights V: the targets' squares less
    /// `V · right`, as the normal equations have it.
    pub(crate) fn objective(&self, weights: &Mat<f64>) -> f64 {
        let mut explained = 0.0;
        for (weights, right) in weights.col_iter().zip(self.right.col_iter()) {
            explained += weights.iter().zip(right.iter()).map(|(v, b)| v * b).sum::<f64>();
        }
        self.squared_targets - explained
    }

    /// Leverage of each row for each penalty (penalties x rows), and adds the squared errors of leaving each out. The rows
    /// are columns of d centred values times the root of their weight; they are used up.
    pub(crate) fn leave_out(
        &self,
        mut columns: MatMut<'_, f64>,
        rows: &LeftOutRows<'_>,
        errors: &mut [f64],
    ) -> Mat<f64> {
        let count = columns.ncols();
        let classes = self.right.ncols();
        let mut add = |index: usize, fitted: &Mat<f64>, leverages: &Mat<f64>| {
            for (i, (&label, &root)) in rows.labels.iter().zip(rows.roots).enumerate() {
                let rest = 1.0 - leverages[(index, i)];
                let squares = fitted.col(i).iter().enumerate().map(|(k, fitted)| {
                    let target = if k == label { 1.0 } else { -1.0 };
                    ((target - self.target_mean[k] - fitted / root) / rest).powi(2)
                });
                errors[index] += root * root * squares.sum::<f64>();
            }
        };
        let own = |i: usize| rows.roots[i] * rows.roots[i] / self.weight;
        match &self.inverse {
            Inverse::Factor { factor, solved: weights } => {
                let fitted = weights.transpose() * columns.as_ref();
                factor.forward(columns.as_mut(), Par::rayon(0));
                let leverages =
                    Mat::from_fn(1, count, |_, i| own(i) + columns.as_ref().col(i).squared_norm_l2());
                add(0, &fitted, &leverages);
                leverages
            }
            Inverse::Spectrum { values, vectors, projected: right } => {
                let mut features = vectors.transpose() * columns.as_ref();
                let alphas = &self.alphas;
                let gains = Mat::from_fn(alphas.len(), values.len(), |a, j| (values[j] + alphas[a]).recip());
                let fits: Vec<Mat<f64>> = (0..alphas.len())
                    .map(|a| {
                        let scaled =
                            Mat::from_fn(classes, values.len(), |k, j| right[(j, k)] * gains[(a, j)]);
                        &scaled * &features
                    })
                    .collect();
                for j in 0..count {
                    features.col_as_slice_mut(j).iter_mut().for_each(|feature| *feature *= *feature);
                }
                let mut leverages = &gains * &features;
                for i in 0..count {
                    leverages.col_as_slice_mut(i).iter_mut().for_each(|leverage| *leverage += own(i));
                }
                fits.iter().enumerate().for_each(|(a, fitted)| add(a, fitted, &leverages));
                leverages
            }
        }
    }
}
