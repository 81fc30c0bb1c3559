//! What ridge regression needs to know of rows that outnumber their columns: sums, which can be added up block by block,
//! and from which a fold's can be taken away again.
//!
//! With targets of ±1, `Σ w (x - m)(y_k - t_k) = 2 (S_k - W_k m)`, S_k and W_k being the sums of rows and weights of class
//! k: no product is needed but that of the rows with themselves.

use faer::{Mat, MatRef};

use crate::packed_lower_triangle::PackedLowerTriangle;

/// Sums over some rows, each less a shift.
#[derive(Debug, Clone)]
pub(crate) struct RidgeSums {
    /// Sum of weights of each class.
    weights: Vec<f64>,
    /// Weighted sum of the rows of each class, d x classes.
    rows: Mat<f64>,
    /// Weighted sum of products, d x d.
    products: PackedLowerTriangle<f64>,
}

/// The normal equations `(products + α) V = right` of centred rows and targets.
#[derive(Debug, Clone)]
pub(crate) struct NormalEquations {
    /// Mean of the rows, less the shift.
    pub(super) mean: Vec<f64>,
    /// Mean target of each class.
    pub(super) target_mean: Vec<f64>,
    /// Sum of weights.
    pub(super) weight: f64,
    /// d x classes.
    pub(super) right: Mat<f64>,
    pub(super) products: PackedLowerTriangle<f64>,
}

impl RidgeSums {
    pub(crate) fn zeros(columns: usize, classes: usize) -> Self {
        Self {
            weights: vec![0.0; classes],
            rows: Mat::zeros(columns, classes),
            products: PackedLowerTriangle::zeros(columns),
        }
    }

    /// Bytes that sums of so many columns and classes take.
    pub(crate) fn bytes(columns: usize, classes: usize) -> usize {
        PackedLowerTriangle::<f64>::bytes(columns) + 8 * columns * classes
    }

    /// Adds rows, the columns of `rows` (d x rows): each already less the shift, times the root of its weight.
    pub(crate) fn add(&mut self, rows: MatRef<'_, f64>, labels: &[usize], roots: &[f64]) {
        self.products.add_products(1.0, rows);
        for ((row, &label), &root) in rows.col_iter().zip(labels).zip(roots) {
            self.weights[label] += root * root;
            let sum = self.rows.col_as_slice_mut(label).iter_mut();
            sum.zip(row.iter()).for_each(|(sum, x)| *sum += root * x);
        }
    }

    /// Adds `factor` times what `other` has.
    pub(crate) fn add_sums(&mut self, factor: f64, other: &Self) {
        self.weights.iter_mut().zip(&other.weights).for_each(|(sum, other)| *sum += factor * other);
        for class in 0..self.weights.len() {
            let sum = self.rows.col_as_slice_mut(class).iter_mut();
            sum.zip(other.rows.col_as_slice(class)).for_each(|(sum, other)| *sum += factor * other);
        }
        self.products.add(factor, &other.products);
    }

    /// Whether there is a row of the class.
    pub(crate) fn has(&self, class: usize) -> bool {
        self.weights[class] > 0.5
    }

    /// The normal equations, where column j counts `scale[j]` times: centred, so that the shift is of no account.
    pub(crate) fn normal(self, scale: impl Fn(usize) -> f64) -> NormalEquations {
        let Self { weights, mut rows, mut products } = self;
        let (columns, weight) = (rows.nrows(), weights.iter().sum::<f64>());
        let mut mean = vec![0.0; columns];
        for class in 0..weights.len() {
            mean.iter_mut().zip(rows.col_as_slice(class)).for_each(|(mean, sum)| *mean += sum / weight);
        }
        products.change(|i, j, value| *value = scale(i) * scale(j) * (*value - weight * mean[i] * mean[j]));
        for (class, own) in weights.iter().enumerate() {
            let sums = rows.col_as_slice_mut(class).iter_mut().zip(&mean).enumerate();
            sums.for_each(|(j, (sum, mean))| *sum = scale(j) * 2.0 * (*sum - own * mean));
        }
        let target_mean = weights.iter().map(|own| 2.0 * own / weight - 1.0).collect();
        NormalEquations { mean, target_mean, weight, right: rows, products }
    }
}

impl NormalEquations {
    /// Weighted sum of the squares of the centred targets.
    pub(super) fn squared_targets(&self) -> f64 {
        self.target_mean.iter().map(|mean| self.weight * (1.0 - mean * mean)).sum()
    }
}
