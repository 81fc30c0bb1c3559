//! The inverse of a symmetric matrix with a penalty on its diagonal, and what it makes of right sides.

use faer::{Mat, Par};

use crate::packed_lower_triangle::{CholeskyFactor, PackedLowerTriangle};

/// Columns that are solved for at a time.
const BLOCK: usize = 128;

/// `(M + α)⁻¹` and `(M + α)⁻¹ B` of a symmetric, positive semidefinite M and right sides B: for one α by a Cholesky factor,
/// for any by eigenvalues and eigenvectors.
pub(super) enum Inverse {
    Factor {
        factor: CholeskyFactor<f64>,
        /// `(M + α)⁻¹ B`.
        solved: Mat<f64>,
    },
    Spectrum {
        values: Vec<f64>,
        vectors: Mat<f64>,
        /// Vectors' products with the right sides.
        projected: Mat<f64>,
    },
}

impl Inverse {
    /// By the factor where there is one penalty and rounding leaves it one; `again` makes the matrix once more.
    pub fn new(
        matrix: PackedLowerTriangle<f64>,
        alphas: &[f64],
        right: &Mat<f64>,
        again: impl FnOnce() -> PackedLowerTriangle<f64>,
    ) -> Self {
        let &[alpha] = alphas else { return Self::of_spectrum(matrix, right) };
        match matrix.factor(alpha) {
            Some(factor) => {
                let mut solved = right.clone();
                factor.solve(solved.as_mut(), Par::rayon(0));
                Self::Factor { factor, solved }
            }
            None => Self::of_spectrum(again(), right),
        }
    }

    fn of_spectrum(matrix: PackedLowerTriangle<f64>, right: &Mat<f64>) -> Self {
        let (values, vectors) = matrix.spectrum();
        let projected = vectors.transpose() * right;
        Self::Spectrum { values, vectors, projected }
    }

    /// `(M + α)⁻¹ B`. A factor has an α of its own.
    pub fn solved(&self, alpha: f64) -> Mat<f64> {
        match self {
            Self::Factor { solved, .. } => solved.clone(),
            Self::Spectrum { values, vectors, projected } => {
                let scaled = |j, k| projected[(j, k)] / (values[j] + alpha);
                vectors * Mat::from_fn(projected.nrows(), projected.ncols(), scaled)
            }
        }
    }

    /// The diagonal of the inverse. A factor has an α of its own.
    pub fn diagonal(&self, alpha: f64) -> Vec<f64> {
        match self {
            Self::Factor { factor, .. } => {
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
            Self::Spectrum { values, vectors, .. } => {
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
