//! What the two solvers have in common: the rows they are given, the linear model they return, and how they report
//! whether they reached the optimum.

use linfa::traits::PredictInplace;
use ndarray::{Array1, Array2, ArrayBase, ArrayView2, Axis, Data, Ix2, parallel::prelude::*};
use serde::{Deserialize, Serialize};

use super::kernel;

/// Rows, labels and costs that a solver works on. Borrowed row by row, so a fold needs no copy of its training rows.
pub(super) struct TrainingSet<'a> {
    /// n rows of d codes each.
    pub rows: Vec<&'a [f32]>,
    /// The same rows as one slice, where they lie next to each other.
    pub whole: Option<&'a [f32]>,
    /// Class of each row, `0..classes`.
    pub labels: Vec<usize>,
    /// Weight of each row: its loss counts this many times.
    pub weights: Vec<f64>,
    /// Number of classes, including those without a row.
    pub classes: usize,
}

impl<'a> TrainingSet<'a> {
    /// The given rows of contiguous `codes` (n x d), each with weight 1.
    pub fn select(codes: &'a Array2<f32>, labels: &[usize], rows: &[usize], classes: usize) -> Self {
        let values = codes.as_slice().expect("an owned array made in standard layout is contiguous");
        let columns = codes.ncols();
        let consecutive = rows.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let whole = match rows {
            [first, .., last] if consecutive => Some(&values[first * columns..(last + 1) * columns]),
            _ => None,
        };
        Self {
            whole,
            rows: rows.iter().map(|&row| &values[row * columns..(row + 1) * columns]).collect(),
            labels: rows.iter().map(|&row| labels[row]).collect(),
            weights: vec![1.0; rows.len()],
            classes,
        }
    }

    /// Number of codes of a row.
    pub fn columns(&self) -> usize {
        self.rows.first().map_or(0, |row| row.len())
    }
}

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

/// A linear classifier: scores are `codes . weights' + bias`, the predicted class has the highest.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearModel {
    /// One row a class (classes x d).
    pub weights: Array2<f32>,
    /// One value a class.
    pub bias: Array1<f64>,
    /// How far the solver got.
    pub convergence: Convergence,
}

impl LinearModel {
    /// Scores of each class for each row of `codes` (n x d), n x classes.
    pub fn scores(&self, codes: ArrayView2<'_, f32>) -> Array2<f64> {
        linear_scores(codes, &self.weights, &self.bias)
    }
}

impl<D: Data<Elem = f32>> PredictInplace<ArrayBase<D, Ix2>, Array1<usize>> for LinearModel {
    fn predict_inplace<'a>(&'a self, codes: &'a ArrayBase<D, Ix2>, classes: &mut Array1<usize>) {
        let scores = self.scores(codes.view());
        for (class, row) in classes.iter_mut().zip(scores.rows()) {
            *class = highest(row.iter().copied());
        }
    }

    fn default_target(&self, codes: &ArrayBase<D, Ix2>) -> Array1<usize> {
        Array1::zeros(codes.nrows())
    }
}

/// `codes . weights' + bias` (n x classes), summed in float64.
pub(super) fn linear_scores(
    codes: ArrayView2<'_, f32>,
    weights: &Array2<f32>,
    bias: &Array1<f64>,
) -> Array2<f64> {
    const BLOCK: usize = 32;
    assert_eq!(codes.ncols(), weights.ncols(), "codes have the columns that the head was fitted on");
    let codes = codes.as_standard_layout();
    let mut scores = Array2::zeros((codes.nrows(), weights.nrows()));
    let weights: Vec<&[f32]> = weights.rows().into_iter().map(|row| contiguous(row.to_slice())).collect();
    scores
        .axis_chunks_iter_mut(Axis(0), BLOCK)
        .into_par_iter()
        .zip(codes.axis_chunks_iter(Axis(0), BLOCK))
        .for_each(|(mut scores, codes)| {
            let rows: Vec<&[f32]> = codes.rows().into_iter().map(|row| contiguous(row.to_slice())).collect();
            let out = scores.as_slice_mut().expect("whole rows of a standard-layout array are contiguous");
            kernel::products(&rows, &weights, out);
            scores += bias;
        });
    scores
}

fn contiguous(row: Option<&[f32]>) -> &[f32] {
    row.expect("rows of a standard-layout array are contiguous")
}

/// Index of the highest value, the first of equals; 0 when there are none.
pub(crate) fn highest(values: impl Iterator<Item = f64>) -> usize {
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
        let codes = array![[1.0f32, 2.0], [-3.0, 1.0], [0.0, 0.0]];
        let expected = array![[1.0, 2.5, -2.75], [-3.0, 1.5, 2.25], [0.0, 0.5, 0.25]];
        assert_eq!(model().scores(codes.view()), expected);
        let transposed = codes.t().as_standard_layout().into_owned();
        assert_eq!(model().scores(transposed.t()), expected);
    }

    #[test]
    fn the_class_with_the_highest_score_is_predicted() {
        let codes = array![[1.0f32, 2.0], [-3.0, 1.0], [3.0, 0.0]];
        let classes: Array1<usize> = model().predict(&codes);
        assert_eq!(classes, array![1, 2, 0]);
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(highest([1.0, 3.0, 3.0].into_iter()), 1);
    }
}
