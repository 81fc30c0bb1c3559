//! The linear model that solvers return, and how they report whether they reached the optimum.

use ndarray::{Array1, Array2, ArrayView2, Axis, parallel::prelude::*};
use serde::{Deserialize, Serialize};

use super::{
    adapter::{ClassScorer, linfa_predict},
    simd,
};

/// How far a solver got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    /// Whether the stopping rule was met (for every class, where classes are fitted one by one).
    pub converged: bool,
    /// Passes over the rows (SVM: of the slowest class) or iterations (logistic).
    pub iterations: usize,
    /// Value of the minimised objective (SVM: summed over the classes' problems).
    pub objective: f64,
    /// What the stopping rule looks at: the duality gap relative to the objective (SVM: the largest of the classes).
    pub criterion: f64,
    /// What to know and do when `converged` is false.
    pub message: Option<String>,
}

/// A linear classifier: scores are `features . weights' + bias`, the predicted class has the highest.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LinearModel {
    /// One row a class (classes x d).
    pub weights: Array2<f32>,
    /// One value a class.
    pub bias: Array1<f64>,
    /// How far the solver got.
    pub convergence: Convergence,
}

impl LinearModel {
    /// Scores of each class for each row of `features` (n x d), n x classes.
    pub fn scores(&self, features: ArrayView2<'_, f32>) -> Array2<f64> {
        linear_scores(features, &self.weights, &self.bias)
    }
}

impl ClassScorer for LinearModel {
    fn scores_of(&self, features: ArrayView2<'_, f32>) -> Array2<f64> {
        self.scores(features)
    }
}

linfa_predict!(LinearModel);

/// `features . weights' + bias` (n x classes), summed in float64.
///
/// # Panics
/// When features and weights have different numbers of columns.
pub fn linear_scores(
    features: ArrayView2<'_, f32>,
    weights: &Array2<f32>,
    bias: &Array1<f64>,
) -> Array2<f64> {
    const BLOCK: usize = 32;
    assert_eq!(features.ncols(), weights.ncols(), "features have the columns that the head was fitted on");
    let features = features.as_standard_layout();
    let mut scores = Array2::zeros((features.nrows(), weights.nrows()));
    let weights: Vec<&[f32]> = weights.rows().into_iter().map(|row| contiguous(row.to_slice())).collect();
    scores
        .axis_chunks_iter_mut(Axis(0), BLOCK)
        .into_par_iter()
        .zip(features.axis_chunks_iter(Axis(0), BLOCK))
        .for_each(|(mut scores, features)| {
            let rows: Vec<&[f32]> =
                features.rows().into_iter().map(|row| contiguous(row.to_slice())).collect();
            let out = scores.as_slice_mut().expect("whole rows of a standard-layout array are contiguous");
            simd::products(&rows, &weights, out);
            scores += bias;
        });
    scores
}

fn contiguous(row: Option<&[f32]>) -> &[f32] {
    row.expect("rows of a standard-layout array are contiguous")
}

/// Index of the highest value, the first of equals; 0 when there are none.
pub fn highest(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use linfa::traits::Predict;
    use ndarray::array;

    use super::*;

    fn model() -> LinearModel {
        LinearModel {
            weights: array![[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]],
            bias: array![0.0, 0.5, 0.25],
            convergence: Convergence {
                converged: true,
                iterations: 1,
                objective: 0.0,
                criterion: 0.0,
                message: None,
            },
        }
    }

    #[test]
    fn scores_are_products_plus_bias_for_any_memory_layout() {
        let features = array![[1.0f32, 2.0], [-3.0, 1.0], [0.0, 0.0]];
        let expected = array![[1.0, 2.5, -2.75], [-3.0, 1.5, 2.25], [0.0, 0.5, 0.25]];
        assert_eq!(model().scores(features.view()), expected);
        let transposed = features.t().as_standard_layout().into_owned();
        assert_eq!(model().scores(transposed.t()), expected);
    }

    #[test]
    fn the_class_with_the_highest_score_is_predicted() {
        let features = array![[1.0f32, 2.0], [-3.0, 1.0], [3.0, 0.0]];
        let classes: Array1<usize> = model().predict(&features);
        assert_eq!(classes, array![1, 2, 0]);
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(highest([1.0, 3.0, 3.0].into_iter()), 1);
    }
}
