//! Kernels, and prepared features as a kernel sees them: by their likeness to some training rows, the support vectors.
//!
//! A kernel SVM's score `Σ α_s K(x, x_s) + b` is linear in the values `K(x, x_s)`. So a kernel head is a linear head on
//! what [`KernelMap`] makes of the prepared features.

use ndarray::{Array2, ArrayView2, Axis, parallel::prelude::*};
use serde::{Deserialize, Serialize};

use super::{SolverError, simd};

/// The highest degree of a polynomial: beyond it, values of float32 overflow for features that are not much like others.
const HIGHEST_DEGREE: u32 = 10;

/// What an SVM measures the likeness of two rows by.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "function")]
pub enum Kernel {
    /// `x · y`: the linear SVM, which needs no kernel.
    #[default]
    Linear,
    /// `exp(-γ |x - y|²)`.
    Rbf {
        /// γ; `None` for 1 / (columns · variance of all prepared training features), scikit-learn's `gamma="scale"`.
        gamma: Option<f64>,
    },
    /// `(γ x · y + constant)^degree`.
    Poly {
        /// γ, as for [`Kernel::Rbf`].
        gamma: Option<f64>,
        /// 1 to 10.
        degree: u32,
        /// Not negative. With 1 the products of fewer than `degree` features count as well.
        constant: f64,
    },
}

impl Kernel {
    /// Refuses parameters that make no kernel.
    pub(super) fn check(&self) -> Result<(), SolverError> {
        let gamma = match *self {
            Self::Linear => None,
            Self::Rbf { gamma } => gamma,
            Self::Poly { gamma, degree, constant } => {
                let sound = (1..=HIGHEST_DEGREE).contains(&degree);
                SolverError::check(sound, "the degree of the kernel", f64::from(degree), "from 1 to 10")?;
                let sound = constant.is_finite() && constant >= 0.0;
                SolverError::check(sound, "the constant of the kernel", constant, "a number of at least 0")?;
                gamma
            }
        };
        gamma.map_or(Ok(()), |gamma| SolverError::check_positive("gamma", gamma))
    }

    /// With γ filled in from the training rows where it was not given.
    pub(super) fn on(self, rows: &[&[f32]]) -> Self {
        match self {
            Self::Linear => Self::Linear,
            Self::Rbf { gamma } => Self::Rbf { gamma: gamma.or_else(|| Some(scale(rows))) },
            Self::Poly { gamma, degree, constant } => {
                Self::Poly { gamma: gamma.or_else(|| Some(scale(rows))), degree, constant }
            }
        }
    }

    /// The kernel of two rows with the given product and squared lengths; γ must be known.
    pub(super) fn value(&self, product: f64, squares: [f64; 2]) -> f64 {
        match *self {
            Self::Linear => product,
            Self::Rbf { gamma } => {
                let distance = (squares[0] + squares[1] - 2.0 * product).max(0.0);
                (-gamma.unwrap_or(1.0) * distance).exp()
            }
            Self::Poly { gamma, degree, constant } => {
                (gamma.unwrap_or(1.0) * product + constant).powi(degree as i32)
            }
        }
    }

    fn is_complete(&self) -> bool {
        let known = match self {
            Self::Linear => false,
            Self::Rbf { gamma } | Self::Poly { gamma, .. } => gamma.is_some(),
        };
        known && self.check().is_ok()
    }
}

/// scikit-learn's `gamma="scale"`: 1 / (columns · variance of all values).
fn scale(rows: &[&[f32]]) -> f64 {
    let columns = rows.first().map_or(1, |row| row.len()) as f64;
    let count = columns * rows.len() as f64;
    let values = || rows.iter().flat_map(|row| row.iter().map(|&x| f64::from(x)));
    let mean = values().sum::<f64>() / count;
    let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    if variance > 0.0 { 1.0 / (columns * variance) } else { 1.0 }
}

/// Prepared features by their likeness to the support vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelMap {
    kernel: Kernel,
    vectors: Array2<f32>,
    /// Squared length of each vector.
    squares: Vec<f64>,
}

impl KernelMap {
    /// `kernel` must have its γ; `vectors` are m rows of prepared features.
    pub(super) fn new(kernel: Kernel, vectors: Array2<f32>) -> Self {
        let squares = vectors.rows().into_iter().map(|row| square(row.iter())).collect();
        Self { kernel, vectors, squares }
    }

    /// From what a file says; `None` where that makes no kernel.
    pub fn from_parts(kernel: Kernel, vectors: Array2<f32>) -> Option<Self> {
        let sound = kernel.is_complete() && !vectors.is_empty() && vectors.iter().all(|x| x.is_finite());
        sound.then(|| Self::new(kernel, vectors.as_standard_layout().into_owned()))
    }

    /// The kernel with its γ.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The support vectors: m rows of prepared features.
    pub fn vectors(&self) -> &Array2<f32> {
        &self.vectors
    }

    /// The kernel of each row of `features` (n x prepared columns) with each support vector: n x m.
    pub fn apply(&self, features: ArrayView2<'_, f32>) -> Array2<f32> {
        const BLOCK: usize = 32;
        assert_eq!(
            features.ncols(),
            self.vectors.ncols(),
            "features are prepared as the support vectors are"
        );
        let features = features.as_standard_layout();
        let vectors: Vec<&[f32]> =
            self.vectors.rows().into_iter().map(|row| row.to_slice().expect(STANDARD)).collect();
        let mut values = Array2::zeros((features.nrows(), vectors.len()));
        values
            .axis_chunks_iter_mut(Axis(0), BLOCK)
            .into_par_iter()
            .zip(features.axis_chunks_iter(Axis(0), BLOCK))
            .for_each(|(mut values, features)| {
                let rows: Vec<&[f32]> =
                    features.rows().into_iter().map(|row| row.to_slice().expect(STANDARD)).collect();
                let mut products = vec![0f64; rows.len() * vectors.len()];
                simd::products(&rows, &vectors, &mut products);
                let of_rows = values.rows_mut().into_iter().zip(&rows).zip(products.chunks(vectors.len()));
                for ((mut values, row), products) in of_rows {
                    let own = square(row.iter());
                    for ((value, &product), &other) in values.iter_mut().zip(products).zip(&self.squares) {
                        *value = self.kernel.value(product, [own, other]) as f32;
                    }
                }
            });
        values
    }
}

const STANDARD: &str = "rows of a standard-layout array are contiguous";

fn square<'a>(row: impl Iterator<Item = &'a f32>) -> f64 {
    row.map(|&x| f64::from(x).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use ndarray::array;

    use super::*;

    #[test]
    fn kernels_are_what_their_formulas_say() {
        let vectors = array![[1.0f32, 2.0, -1.0], [0.5, 0.0, 3.0]];
        let features = array![[0.0f32, 1.0, 1.0], [1.0, 2.0, -1.0]];
        let rbf = KernelMap::new(Kernel::Rbf { gamma: Some(0.25) }, vectors.clone()).apply(features.view());
        // Squared distances: 1 + 1 + 4 = 6 and 0.25 + 1 + 4 = 5.25; 0 and 0.25 + 4 + 16 = 20.25.
        for (found, distance) in rbf.iter().zip([6.0f64, 5.25, 0.0, 20.25]) {
            assert_relative_eq!(f64::from(*found), (-0.25 * distance).exp(), max_relative = 1e-6);
        }
        let poly = Kernel::Poly { gamma: Some(0.5), degree: 3, constant: 1.0 };
        let poly = KernelMap::new(poly, vectors).apply(features.view());
        // Products: 1, 3; 6, -2.5.
        for (found, product) in poly.iter().zip([1.0f64, 3.0, 6.0, -2.5]) {
            assert_relative_eq!(f64::from(*found), (0.5 * product + 1.0).powi(3), max_relative = 1e-6);
        }
    }

    #[test]
    fn the_default_gamma_is_one_over_columns_times_variance() {
        // Mean 1, variance (1 + 1 + 9 + 9) / 4 = 5; 2 columns.
        let rows: [&[f32]; 2] = [&[0.0, 2.0], &[-2.0, 4.0]];
        assert_eq!(Kernel::Rbf { gamma: None }.on(&rows), Kernel::Rbf { gamma: Some(0.1) });
        assert_eq!(Kernel::Rbf { gamma: Some(3.0) }.on(&rows), Kernel::Rbf { gamma: Some(3.0) });
    }

    #[test]
    fn what_makes_no_kernel_is_refused() {
        for gamma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Kernel::Rbf { gamma: Some(gamma) }.check().is_err());
            assert!(KernelMap::from_parts(Kernel::Rbf { gamma: Some(gamma) }, array![[1.0]]).is_none());
        }
        let poly = |degree, constant| Kernel::Poly { gamma: None, degree, constant };
        for wrong in [poly(0, 1.0), poly(11, 1.0), poly(3, -1.0), poly(3, f64::NAN)] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        assert!(poly(10, 0.0).check().is_ok());
        assert!(KernelMap::from_parts(Kernel::Rbf { gamma: None }, array![[1.0]]).is_none());
        assert!(KernelMap::from_parts(Kernel::Linear, array![[1.0]]).is_none());
        assert!(KernelMap::from_parts(Kernel::Rbf { gamma: Some(1.0) }, array![[f32::NAN]]).is_none());
    }
}
