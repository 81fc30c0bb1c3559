//! Principal components: the directions in which standardised features vary most.
//!
//! For n centred rows Z the components are the eigenvectors V of ZᵀZ, of the largest eigenvalues Λ first, and the variance
//! along one is λ / (n - 1). With fewer rows than columns they are read off `ZZᵀ = Q Λ Qᵀ` as `V = Zᵀ Q Λ^(-1/2)`. All in
//! float64, exact up to rounding: what scikit-learn's `PCA(svd_solver="full")` gives, with its choice of signs.

use std::ops::Range;

use faer::{Accum, Mat, Par, Side, linalg::matmul::matmul};
use ndarray::Array2;

use super::{SolverError, packed_lower_triangle::PackedLowerTriangle};

/// Rows or columns that are brought to float64 at a time.
const BLOCK: usize = 512;
/// Longest side of a matrix whose eigenvectors are computed: 512 MiB, and minutes.
pub const LONGEST_PCA_SIDE: usize = 8192;
/// Share of the largest eigenvalue below which one is rounding.
const NO_VARIANCE: f64 = 1e-12;

/// Principal components with the variances along them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// k x d, each of length 1 and orthogonal to the others.
    components: Array2<f32>,
    variances: Vec<f64>,
    total_variance: f64,
}

impl Pca {
    /// The first `k` components of n x d values, whose columns have mean 0. Beyond the rank of the values components are 0.
    ///
    /// # Errors
    /// [`SolverError::TooManyComponents`] unless `k` is from 1 to the smaller of n - 1 and d, and
    /// [`SolverError::TooLargeForPca`] where both n and d are above 8192.
    pub fn fit(
        (rows, columns): (usize, usize),
        value: impl Fn(usize, usize) -> f64,
        k: usize,
    ) -> Result<Self, SolverError> {
        let most = columns.min(rows.saturating_sub(1));
        if k == 0 || k > most {
            return Err(SolverError::TooManyComponents { asked: k, rows, columns, most });
        }
        let side = rows.min(columns);
        if side > LONGEST_PCA_SIDE {
            return Err(SolverError::TooLargeForPca { rows, columns });
        }
        let part = |r: Range<usize>, c: Range<usize>| {
            Mat::from_fn(r.len(), c.len(), |i, j| value(r.start + i, c.start + j))
        };
        let mut gram = Mat::<f64>::zeros(side, side);
        let dual = rows <= columns;
        for block in blocks(if dual { columns } else { rows }) {
            let (left, right) = if dual {
                let part = part(0..rows, block);
                (part.clone(), part.transpose().to_owned())
            } else {
                let part = part(block, 0..columns);
                (part.transpose().to_owned(), part)
            };
            matmul(gram.as_mut(), Accum::Add, left.as_ref(), right.as_ref(), 1.0, Par::rayon(0));
        }
        let eigen = gram
            .self_adjoint_eigen(Side::Lower)
            .expect("a symmetric matrix of finite values has eigenvectors");
        let values: Vec<f64> = eigen.S().column_vector().iter().map(|value| value.max(0.0)).collect();
        let total: f64 = values.iter().sum();
        // Eigenvalues rise.
        let chosen: Vec<usize> = (side - k..side).rev().collect();
        let negligible = NO_VARIANCE * values[side - 1];
        let kept: Vec<f64> =
            chosen.iter().map(|&at| if values[at] > negligible { values[at] } else { 0.0 }).collect();
        let mut vectors =
            Mat::from_fn(side, k, |i, j| if kept[j] > 0.0 { eigen.U()[(i, chosen[j])] } else { 0.0 });
        if dual {
            let scaled =
                Mat::from_fn(
                    side,
                    k,
                    |i, j| {
                        if kept[j] > 0.0 { vectors[(i, j)] / kept[j].sqrt() } else { 0.0 }
                    },
                );
            vectors = Mat::zeros(columns, k);
            for block in blocks(columns) {
                let part = part(0..rows, block.clone());
                let out = vectors.as_mut().subrows_mut(block.start, block.len());
                matmul(out, Accum::Replace, part.transpose(), scaled.as_ref(), 1.0, Par::rayon(0));
            }
        }
        Ok(Self::of_vectors(&vectors, &kept, total, rows))
    }

    /// The first `k` components of `rows` rows, by the products of their centred columns.
    pub(super) fn of_products(products: PackedLowerTriangle<f64>, rows: usize, k: usize) -> Self {
        let side = products.order();
        let (values, vectors) = products.spectrum();
        let total: f64 = values.iter().sum();
        // Eigenvalues rise.
        let chosen: Vec<usize> = (side - k..side).rev().collect();
        let negligible = NO_VARIANCE * values[side - 1];
        let kept: Vec<f64> =
            chosen.iter().map(|&at| if values[at] > negligible { values[at] } else { 0.0 }).collect();
        let vectors = Mat::from_fn(side, k, |i, j| if kept[j] > 0.0 { vectors[(i, chosen[j])] } else { 0.0 });
        Self::of_vectors(&vectors, &kept, total, rows)
    }

    /// The components that are the columns of `vectors` (d x k), with the sum of the squares of `rows` rows along each, and of all
    /// together.
    pub(super) fn of_vectors(vectors: &Mat<f64>, squares: &[f64], total: f64, rows: usize) -> Self {
        let mut components = Array2::zeros((vectors.ncols(), vectors.nrows()));
        for (j, mut component) in components.rows_mut().into_iter().enumerate() {
            let vector = vectors.col(j);
            let largest =
                vector.iter().fold(0f64, |largest, &v| if v.abs() > largest.abs() { v } else { largest });
            let sign = if largest < 0.0 { -1.0 } else { 1.0 };
            component.iter_mut().zip(vector.iter()).for_each(|(to, &v)| *to = (sign * v) as f32);
        }
        let divisor = (rows - 1) as f64;
        Self {
            components,
            variances: squares.iter().map(|value| value / divisor).collect(),
            total_variance: total / divisor,
        }
    }

    /// Puts components together from their parts; `None` when their numbers differ or a value cannot be.
    pub fn from_parts(components: Array2<f32>, variances: Vec<f64>, total_variance: f64) -> Option<Self> {
        let sound = |value: f64| value.is_finite() && value >= 0.0;
        let fits = !components.is_empty()
            && components.is_standard_layout()
            && components.iter().all(|value| value.is_finite())
            && components.nrows() == variances.len()
            && variances.iter().copied().all(sound)
            && sound(total_variance);
        fits.then_some(Self { components, variances, total_variance })
    }

    /// k x d, the component of the largest variance first; the entry of the largest magnitude of each is positive.
    pub fn components(&self) -> &Array2<f32> {
        &self.components
    }

    /// Variance along each component (divisor n - 1).
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// Variance of all columns together (divisor n - 1).
    pub fn total_variance(&self) -> f64 {
        self.total_variance
    }

    /// Share of the total variance that the components keep.
    pub fn kept(&self) -> f64 {
        if self.total_variance > 0.0 { self.variances.iter().sum::<f64>() / self.total_variance } else { 0.0 }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        let values = self.components.as_slice().expect("components are made in standard layout");
        values.chunks_exact(self.components.ncols())
    }
}

fn blocks(count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(BLOCK).map(move |from| from..(from + BLOCK).min(count))
}
