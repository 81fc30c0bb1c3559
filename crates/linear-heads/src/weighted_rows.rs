//! The rows that a solver works on.

use linfa::{DatasetBase, dataset::AsSingleTargets};
use ndarray::{Array2, ArrayBase, ArrayView2, Data, Ix2};

use super::SolverError;

/// Rows, labels and weights that a solver works on. Borrowed row by row, so a fold needs no copy of its training rows.
pub(crate) struct WeightedRows<'a> {
    /// n rows of d features each.
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

impl<'a> WeightedRows<'a> {
    /// The given rows of contiguous `features` (n x d), each with weight 1.
    pub fn select(features: &'a Array2<f32>, labels: &[usize], rows: &[usize], classes: usize) -> Self {
        let values = features.as_slice().expect("an owned array made in standard layout is contiguous");
        let columns = features.ncols();
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

    /// The checked rows of a linfa data set whose records are `features` in standard layout.
    pub fn of_dataset<D, T>(
        features: ArrayView2<'a, f32>,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
    ) -> Result<Self, SolverError>
    where
        D: Data<Elem = f32>,
        T: AsSingleTargets<Elem = usize>,
    {
        let labels = dataset.as_single_targets().to_vec();
        SolverError::check_equal("labels", features.nrows(), labels.len())?;
        let columns = features.ncols();
        let values = features.to_slice().expect("the caller passes standard layout");
        let rows: Vec<&[f32]> =
            (0..labels.len()).map(|row| &values[row * columns..(row + 1) * columns]).collect();
        SolverError::check_finite(rows.iter().copied())?;
        let classes = labels.iter().max().ok_or(SolverError::NoRows)? + 1;
        if labels.iter().all(|&label| label == labels[0]) {
            return Err(SolverError::OneClass { label: labels[0] });
        }
        let weights = match dataset.weights() {
            Some(weights) => weights.iter().map(|&weight| f64::from(weight)).collect(),
            None => vec![1.0; labels.len()],
        };
        SolverError::check_equal("weights", labels.len(), weights.len())?;
        for &weight in &weights {
            let sound = weight.is_finite() && weight >= 0.0;
            SolverError::check(sound, "the weight of a row", weight, "a number of at least 0")?;
        }
        Ok(Self { rows, whole: Some(values), labels, weights, classes })
    }

    /// Number of features of a row.
    pub fn columns(&self) -> usize {
        self.rows.first().map_or(0, |row| row.len())
    }
}
