//! Ridge regression on targets of ±1, with exact leave-one-out scores, behind linfa's traits.
//!
//! For n centred rows X and centred targets Y (+1 for a row's class, -1 for the others) the weights minimise
//! `|Y - X Wᵀ|² + α |W|²`; the intercept is not penalised. With `XᵀX = V Λ Vᵀ` and U = X V the hat matrix is
//! `H = 1/n + U (Λ + α)⁻¹ Uᵀ`, and the residual of a row by a fit without it is `(y - ŷ) / (1 - h)`, h being its diagonal
//! element (R. M. Rifkin, R. A. Lippert: "Notes on regularized least squares", MIT-CSAIL-TR-2007-025). So every α costs
//! next to nothing once Λ is known. With fewer rows than columns, the same is read off `XXᵀ = Q Λ Qᵀ`, where
//! `H = 1/n + Q Λ (Λ + α)⁻¹ Qᵀ`. All in float64.

use faer::{Accum, Mat, Par, Side, linalg::matmul::matmul};
use linfa::{
    DatasetBase, ParamGuard,
    dataset::AsSingleTargets,
    traits::{Fit, PredictInplace},
};
use ndarray::{Array1, Array2, ArrayBase, Data, Ix2};
use serde::{Deserialize, Serialize};

use super::{
    error::{HeadError, training_set_of},
    linear::{Convergence, LinearModel, TrainingSet},
};

/// Rows that are brought to float64 at a time.
const BLOCK: usize = 512;

/// Checked settings of ridge regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RidgeValidParams {
    alphas: Vec<f64>,
}

/// Settings of ridge regression, checked when it is fitted.
///
/// ```
/// use cnncodes::head::RidgeParams;
/// use linfa::{Dataset, traits::{Fit, Predict}};
/// use ndarray::{Array1, array};
///
/// let rows = array![[0.0f32, 1.0], [0.2, 0.9], [1.0, 0.1], [0.9, 0.0]];
/// let model = RidgeParams::new().fit(&Dataset::new(rows.clone(), array![0usize, 0, 1, 1]))?;
/// let classes: Array1<usize> = model.predict(&rows);
/// assert_eq!(classes, array![0, 0, 1, 1]);
/// # Ok::<(), cnncodes::head::HeadError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RidgeParams(RidgeValidParams);

impl Default for RidgeParams {
    fn default() -> Self {
        Self(RidgeValidParams { alphas: (-1..=6).map(|power| 10f64.powi(power)).collect() })
    }
}

impl RidgeParams {
    /// α from 0.1 to 10⁶ by factors of 10.
    pub fn new() -> Self {
        Self::default()
    }

    /// The penalties to choose from, each above 0: the one with the least mean squared leave-one-out error is taken, as
    /// scikit-learn's `RidgeClassifierCV` does.
    pub fn alphas(mut self, alphas: Vec<f64>) -> Self {
        self.0.alphas = alphas;
        self
    }
}

impl ParamGuard for RidgeParams {
    type Checked = RidgeValidParams;
    type Error = HeadError;

    fn check_ref(&self) -> Result<&RidgeValidParams, HeadError> {
        HeadError::check(!self.0.alphas.is_empty(), "the number of values of alpha", 0.0, "at least 1")?;
        self.0.alphas.iter().try_for_each(|&alpha| HeadError::check_positive("alpha", alpha))?;
        Ok(&self.0)
    }

    fn check(self) -> Result<RidgeValidParams, HeadError> {
        self.check_ref()?;
        Ok(self.0)
    }
}

/// A linear classifier with what leave-one-out says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct RidgeModel {
    /// The classifier, fitted to all rows.
    pub linear: LinearModel,
    /// The penalty that was chosen.
    pub alpha: f64,
    /// Scores of each row by the fit to all other rows (n x classes).
    pub left_out: Array2<f64>,
    /// Mean squared leave-one-out error of each α of the settings, in their order.
    pub errors: Vec<f64>,
}

impl<D: Data<Elem = f32>> PredictInplace<ArrayBase<D, Ix2>, Array1<usize>> for RidgeModel {
    fn predict_inplace<'a>(&'a self, codes: &'a ArrayBase<D, Ix2>, classes: &mut Array1<usize>) {
        self.linear.predict_inplace(codes, classes);
    }

    fn default_target(&self, codes: &ArrayBase<D, Ix2>) -> Array1<usize> {
        Array1::zeros(codes.nrows())
    }
}

impl<D, T> Fit<ArrayBase<D, Ix2>, T, HeadError> for RidgeValidParams
where
    D: Data<Elem = f32>,
    T: AsSingleTargets<Elem = usize>,
{
    type Object = RidgeModel;

    /// Fits on codes (n x d) with labels 0, 1, …; weights of the data set's rows are refused.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<RidgeModel, HeadError> {
        let codes = dataset.records().as_standard_layout();
        let set = training_set_of(codes.view(), dataset)?;
        for &weight in &set.weights {
            HeadError::check(weight == 1.0, "the weight of a row", weight, "1 for ridge regression")?;
        }
        Ok(self.solve(&set))
    }
}

impl RidgeValidParams {
    /// Fits on rows that have been checked.
    pub(super) fn solve(&self, set: &TrainingSet<'_>) -> RidgeModel {
        let centred = Centred::new(set);
        let spectrum = Spectrum::new(&centred);
        let products = spectrum.products(&centred);
        let mut errors = vec![0f64; self.alphas.len()];
        spectrum.visit(&centred, |from, features| {
            for (error, &alpha) in errors.iter_mut().zip(&self.alphas) {
                let left_out = spectrum.left_out(&centred, from, features, &products, alpha);
                for (i, row) in left_out.chunks(set.classes).enumerate() {
                    let squares =
                        row.iter().enumerate().map(|(k, s)| (centred.target(from + i, k) - s).powi(2));
                    *error += squares.sum::<f64>();
                }
            }
        });
        let entries = (set.rows.len() * set.classes) as f64;
        errors.iter_mut().for_each(|error| *error /= entries);
        let best = (0..errors.len()).min_by(|&a, &b| errors[a].total_cmp(&errors[b])).unwrap_or(0);
        let alpha = self.alphas[best];

        let mut left_out = Vec::with_capacity(set.rows.len() * set.classes);
        spectrum.visit(&centred, |from, features| {
            left_out.extend(spectrum.left_out(&centred, from, features, &products, alpha));
        });
        let weights = spectrum.weights(&centred, &products, alpha);
        let bias = (0..set.classes).map(|k| {
            let at_mean: f64 = (0..set.columns()).map(|j| weights[(j, k)] * centred.mean[j]).sum();
            centred.target_mean[k] - at_mean
        });
        let bias: Array1<f64> = bias.collect();
        let squared_norm: f64 = weights.col_iter().map(|w| w.squared_norm_l2()).sum();
        let weights = Array2::from_shape_fn((set.classes, set.columns()), |(k, j)| weights[(j, k)] as f32);
        let mut linear = LinearModel {
            weights,
            bias,
            convergence: Convergence {
                converged: true,
                iterations: 1,
                objective: alpha * squared_norm,
                criterion: 0.0,
                message: None,
            },
        };
        let squares: f64 = (0..set.rows.len())
            .map(|i| {
                let row = ndarray::ArrayView2::from_shape((1, set.columns()), set.rows[i]).expect("one row");
                let scores = linear.scores(row);
                scores.iter().enumerate().map(|(k, s)| (centred.target(i, k) - s).powi(2)).sum::<f64>()
            })
            .sum();
        linear.convergence.objective += squares;
        let left_out = Array2::from_shape_vec((set.rows.len(), set.classes), left_out)
            .expect("one score a row and class");
        RidgeModel { linear, alpha, left_out, errors }
    }
}

/// The rows less their mean, in float64, block by block.
struct Centred<'a> {
    set: &'a TrainingSet<'a>,
    mean: Vec<f64>,
    target_mean: Vec<f64>,
}

impl<'a> Centred<'a> {
    fn new(set: &'a TrainingSet<'a>) -> Self {
        let count = set.rows.len() as f64;
        let mut mean = vec![0f64; set.columns()];
        for row in &set.rows {
            mean.iter_mut().zip(*row).for_each(|(m, &x)| *m += f64::from(x));
        }
        mean.iter_mut().for_each(|m| *m /= count);
        let mut target_mean = vec![-1f64; set.classes];
        set.labels.iter().for_each(|&label| target_mean[label] += 2.0 / count);
        Self { set, mean, target_mean }
    }

    /// Rows `from..to` of X.
    fn rows(&self, from: usize, to: usize) -> Mat<f64> {
        Mat::from_fn(to - from, self.mean.len(), |i, j| f64::from(self.set.rows[from + i][j]) - self.mean[j])
    }

    /// Rows `from..to` of Y.
    fn targets(&self, from: usize, to: usize) -> Mat<f64> {
        Mat::from_fn(to - from, self.set.classes, |i, k| self.target(from + i, k) - self.target_mean[k])
    }

    fn target(&self, row: usize, class: usize) -> f64 {
        if self.set.labels[row] == class { 1.0 } else { -1.0 }
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.set.rows.len();
        (0..count).step_by(BLOCK).map(move |from| (from, (from + BLOCK).min(count)))
    }
}

/// Eigenvalues and eigenvectors of the smaller of XᵀX and XXᵀ.
struct Spectrum {
    values: Vec<f64>,
    vectors: Mat<f64>,
    /// Whether it is that of XXᵀ.
    dual: bool,
}

impl Spectrum {
    fn new(centred: &Centred<'_>) -> Self {
        let (rows, columns) = (centred.set.rows.len(), centred.set.columns());
        let dual = rows <= columns;
        let gram = if dual {
            let mut gram = Mat::zeros(rows, rows);
            for from in (0..columns).step_by(BLOCK) {
                let width = BLOCK.min(columns - from);
                let part = Mat::from_fn(rows, width, |i, j| {
                    f64::from(centred.set.rows[i][from + j]) - centred.mean[from + j]
                });
                matmul(gram.as_mut(), Accum::Add, part.as_ref(), part.transpose(), 1.0, Par::rayon(0));
            }
            gram
        } else {
            let mut gram = Mat::zeros(columns, columns);
            for (from, to) in centred.blocks() {
                let part = centred.rows(from, to);
                matmul(gram.as_mut(), Accum::Add, part.transpose(), part.as_ref(), 1.0, Par::rayon(0));
            }
            gram
        };
        let eigen = gram
            .self_adjoint_eigen(Side::Lower)
            .expect("a symmetric matrix of finite values has eigenvectors");
        let values = eigen.S().column_vector().iter().map(|value| value.max(0.0)).collect();
        Self { values, vectors: eigen.U().to_owned(), dual }
    }

    /// Rows of U or Q, block by block, with the number of the first.
    fn visit(&self, centred: &Centred<'_>, mut block: impl FnMut(usize, &Mat<f64>)) {
        for (from, to) in centred.blocks() {
            let features = if self.dual {
                self.vectors.get(from..to, ..).to_owned()
            } else {
                let rows = centred.rows(from, to);
                let mut features = Mat::zeros(to - from, self.values.len());
                matmul(
                    features.as_mut(),
                    Accum::Replace,
                    rows.as_ref(),
                    self.vectors.as_ref(),
                    1.0,
                    Par::rayon(0),
                );
                features
            };
            block(from, &features);
        }
    }

    /// UᵀY or QᵀY.
    fn products(&self, centred: &Centred<'_>) -> Mat<f64> {
        let mut products = Mat::zeros(self.values.len(), centred.set.classes);
        self.visit(centred, |from, features| {
            let targets = centred.targets(from, from + features.nrows());
            matmul(products.as_mut(), Accum::Add, features.transpose(), targets.as_ref(), 1.0, Par::rayon(0));
        });
        products
    }

    /// What each eigenvector contributes to H.
    fn gains(&self, alpha: f64) -> Vec<f64> {
        let of = |&value: &f64| if self.dual { value / (value + alpha) } else { 1.0 / (value + alpha) };
        self.values.iter().map(of).collect()
    }

    /// Leave-one-out scores of the rows from `from` (rows x classes).
    fn left_out(
        &self,
        centred: &Centred<'_>,
        from: usize,
        features: &Mat<f64>,
        products: &Mat<f64>,
        alpha: f64,
    ) -> Vec<f64> {
        let gains = self.gains(alpha);
        let scaled = Mat::from_fn(products.nrows(), products.ncols(), |j, k| gains[j] * products[(j, k)]);
        let fitted = features * &scaled;
        let classes = centred.set.classes;
        let mut scores = Vec::with_capacity(features.nrows() * classes);
        for i in 0..features.nrows() {
            let own: f64 = gains.iter().enumerate().map(|(j, gain)| gain * features[(i, j)].powi(2)).sum();
            let rest = 1.0 - 1.0 / centred.set.rows.len() as f64 - own;
            scores.extend((0..classes).map(|k| {
                let target = centred.target(from + i, k);
                target - (target - centred.target_mean[k] - fitted[(i, k)]) / rest
            }));
        }
        scores
    }

    /// d x classes.
    fn weights(&self, centred: &Centred<'_>, products: &Mat<f64>, alpha: f64) -> Mat<f64> {
        let scaled = Mat::from_fn(products.nrows(), products.ncols(), |j, k| {
            products[(j, k)] / (self.values[j] + alpha)
        });
        let combined = &self.vectors * &scaled;
        if !self.dual {
            return combined;
        }
        let mut weights = Mat::zeros(centred.set.columns(), products.ncols());
        for (from, to) in centred.blocks() {
            let rows = centred.rows(from, to);
            let part = combined.get(from..to, ..);
            matmul(weights.as_mut(), Accum::Add, rows.transpose(), part, 1.0, Par::rayon(0));
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(rows: usize, columns: usize) -> (Array2<f32>, Vec<usize>) {
        let labels: Vec<usize> = (0..rows).map(|i| i * i % 7 % 3).collect();
        let code = |(i, j): (usize, usize)| {
            ((i * 31 + j * 17) as f32 * 0.61).sin() + 2.0 + (labels[i] * (j % 3)) as f32 * 0.2
        };
        (Array2::from_shape_fn((rows, columns), code), labels)
    }

    #[test]
    fn leave_one_out_equals_leaving_one_out() {
        for (rows, columns) in [(23, 9), (23, 40), (600, 5)] {
            let (codes, labels) = example(rows, columns);
            let params = RidgeParams::new().alphas(vec![0.7]).check().unwrap();
            let all: Vec<usize> = (0..rows).collect();
            let model = params.solve(&TrainingSet::select(&codes, &labels, &all, 3));
            for out in (0..rows).step_by(1 + rows / 30) {
                let others: Vec<usize> = (0..rows).filter(|&row| row != out).collect();
                let set = TrainingSet::select(&codes, &labels, &others, 3);
                let centred = Centred::new(&set);
                let spectrum = Spectrum::new(&centred);
                let weights = spectrum.weights(&centred, &spectrum.products(&centred), 0.7);
                for k in 0..3 {
                    let score = centred.target_mean[k]
                        + (0..columns)
                            .map(|j| weights[(j, k)] * (f64::from(codes[[out, j]]) - centred.mean[j]))
                            .sum::<f64>();
                    assert!(
                        (model.left_out[[out, k]] - score).abs() < 1e-6,
                        "{} {score}",
                        model.left_out[[out, k]]
                    );
                }
            }
        }
    }

    #[test]
    fn the_alpha_with_the_least_leave_one_out_error_is_taken() {
        let (codes, labels) = example(60, 50);
        let rows: Vec<usize> = (0..60).collect();
        let model =
            RidgeParams::new().check().unwrap().solve(&TrainingSet::select(&codes, &labels, &rows, 3));
        let least = model.errors.iter().copied().fold(f64::INFINITY, f64::min);
        let index = RidgeParams::new().0.alphas.iter().position(|&alpha| alpha == model.alpha).unwrap();
        assert_eq!(model.errors[index], least);
    }

    #[test]
    fn unusable_settings_are_refused() {
        assert!(RidgeParams::new().alphas(vec![]).check().is_err());
        assert!(RidgeParams::new().alphas(vec![1.0, 0.0]).check().is_err());
    }
}
