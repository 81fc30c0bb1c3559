//! What is done to features before a head sees them, each step only where it is asked for, learned from training rows alone:
//!
//! 1. each row is divided by its Euclidean length (a row of zeros stays one);
//! 2. each column is brought to mean 0 and deviation 1 ([`Standardizer`]);
//! 3. the result is projected on its first principal components ([`Pca`]).
//!
//! Lengths come first, since a row's length means something only in the features as the network gives them. Components
//! come last: heads that penalise `|W|²` do not notice a rotation, so with all components kept the head is the same as
//! without, C keeps its meaning, and fewer components only leave directions out. The other order, to standardise the
//! scores of the components, would make the least of them as loud as the first.

use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;

use super::{Pca, SolverError, Standardizer, simd};

/// Rows that a thread prepares at a time.
const BLOCK: usize = 32;

/// Which steps a preparation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparationSteps {
    /// Whether each row is divided by its length.
    pub l2_normalize: bool,
    /// Whether each column is brought to mean 0 and deviation 1.
    pub standardize: bool,
    /// Number of principal components that are kept, where the features are projected on them.
    pub pca: Option<usize>,
}

/// The steps with what was learned for them. They turn D features of an image into as many values, or into as many as there
/// are components.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    l2_normalize: bool,
    standardizer: Standardizer,
    pca: Option<Pca>,
}

impl Preparation {
    /// Learns from `rows` of finite `features` (n x d); there must be one at least.
    ///
    /// # Errors
    /// [`SolverError::TooManyComponents`] or [`SolverError::TooLargeForPca`].
    pub fn fit(
        features: ArrayView2<'_, f32>,
        rows: &[usize],
        steps: PreparationSteps,
    ) -> Result<Self, SolverError> {
        let columns = features.ncols();
        if !steps.standardize && steps.pca.is_none() {
            return Ok(Self {
                l2_normalize: steps.l2_normalize,
                standardizer: Standardizer::identity(columns),
                pca: None,
            });
        }
        let mut factors = vec![1.0; features.nrows()];
        if steps.l2_normalize {
            rows.iter().for_each(|&row| factors[row] = inverse_length(features.row(row).iter()));
        }
        let learned = Standardizer::fit_scaled(features, rows, |row| factors[row]);
        let standardizer = if steps.standardize { learned } else { learned.centring() };
        let value =
            |i: usize, j: usize| standardizer.value(j, factors[rows[i]] * f64::from(features[[rows[i], j]]));
        let pca =
            steps.pca.map(|components| Pca::fit((rows.len(), columns), value, components)).transpose()?;
        Ok(Self { l2_normalize: steps.l2_normalize, standardizer, pca })
    }

    /// Puts a preparation together from its parts; `None` when the components are of another number of columns.
    pub fn from_parts(l2_normalize: bool, standardizer: Standardizer, pca: Option<Pca>) -> Option<Self> {
        let fits = pca.as_ref().is_none_or(|pca| pca.components().ncols() == standardizer.mean().len());
        fits.then_some(Self { l2_normalize, standardizer, pca })
    }

    /// Number of features of an image.
    pub fn columns(&self) -> usize {
        self.standardizer.mean().len()
    }

    /// Number of values that an image's features become.
    pub fn prepared_columns(&self) -> usize {
        self.pca.as_ref().map_or(self.columns(), |pca| pca.components().nrows())
    }

    /// Whether each row is divided by its length first.
    pub fn l2_normalize(&self) -> bool {
        self.l2_normalize
    }

    /// What each column is brought to mean 0 and deviation 1 with; without effect where that was not asked for.
    pub fn standardizer(&self) -> &Standardizer {
        &self.standardizer
    }

    /// The components that the standardised features are projected on.
    pub fn pca(&self) -> Option<&Pca> {
        self.pca.as_ref()
    }

    /// What a row's features are multiplied by first: 1 / length, or 1.
    pub fn row_factor(&self, features: &[f32]) -> f64 {
        if self.l2_normalize { inverse_length(features.iter()) } else { 1.0 }
    }

    /// Weights of prepared values, in terms of the standardised features (d).
    pub fn unprojected(&self, weights: ArrayView1<'_, f32>) -> Vec<f64> {
        let Some(pca) = &self.pca else { return weights.iter().map(|&w| f64::from(w)).collect() };
        let mut sums = vec![0.0; self.columns()];
        for (&weight, component) in weights.iter().zip(pca.rows()) {
            sums.iter_mut().zip(component).for_each(|(sum, &v)| *sum += f64::from(weight) * f64::from(v));
        }
        sums
    }

    /// Prepares all rows of `features` (n x d).
    pub fn transform(&self, features: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut out = Array2::zeros((features.nrows(), self.prepared_columns()));
        self.transform_into(features, &mut out);
        out
    }

    /// Prepares all rows of `features` (n x d) into `out` (n x [`Self::prepared_columns`]), in standard layout.
    pub fn transform_into(&self, features: ArrayView2<'_, f32>, out: &mut Array2<f32>) {
        assert_eq!(features.nrows(), out.nrows(), "there is a row for each row");
        let features = features.as_standard_layout();
        let rows = features.as_slice().expect("standard layout is contiguous");
        self.apply(
            rows,
            out.as_slice_mut().expect("an array that was made in standard layout is contiguous"),
        );
    }

    /// Prepares whole rows, one after the other in `rows` (r x d) and `out` (r x [`Self::prepared_columns`]).
    pub fn apply(&self, rows: &[f32], out: &mut [f32]) {
        let (columns, prepared) = (self.columns(), self.prepared_columns());
        assert_eq!(
            rows.len() * prepared,
            out.len() * columns,
            "whole rows of the columns that were learned from"
        );
        if rows.is_empty() {
            return;
        }
        out.par_chunks_mut(BLOCK * prepared).zip(rows.par_chunks(BLOCK * columns)).for_each(|(out, rows)| {
            let Some(pca) = &self.pca else {
                let pairs = rows.chunks_exact(columns).zip(out.chunks_exact_mut(columns));
                return pairs.for_each(|(row, out)| self.standardize(row, out));
            };
            let mut standardized = vec![0f32; rows.len()];
            let pairs = rows.chunks_exact(columns).zip(standardized.chunks_exact_mut(columns));
            pairs.for_each(|(row, out)| self.standardize(row, out));
            let standardized: Vec<&[f32]> = standardized.chunks_exact(columns).collect();
            let components: Vec<&[f32]> = pca.rows().collect();
            let mut scores = vec![0f64; out.len()];
            simd::products(&standardized, &components, &mut scores);
            out.iter_mut().zip(scores).for_each(|(to, score)| *to = score as f32);
        });
    }

    /// The first two steps for one row.
    fn standardize(&self, row: &[f32], out: &mut [f32]) {
        self.standardizer.apply(self.row_factor(row), row, out);
    }
}

/// 1 / |row|, or 1 for a row of zeros.
pub(super) fn inverse_length<'a>(row: impl Iterator<Item = &'a f32>) -> f64 {
    let squares: f64 = row.map(|&x| f64::from(x).powi(2)).sum();
    if squares > 0.0 { squares.sqrt().recip() } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use ndarray::array;

    use super::*;

    const PLAIN: PreparationSteps = PreparationSteps { l2_normalize: false, standardize: false, pca: None };

    fn features() -> Array2<f32> {
        Array2::from_shape_fn((40, 6), |(i, j)| {
            ((i * 7 + j * 3) as f32).sin() * (j + 1) as f32 + (i % 3 * j) as f32
        })
    }

    #[test]
    fn without_a_step_nothing_changes() {
        let preparation = Preparation::fit(features().view(), &[0, 1], PLAIN).unwrap();
        assert_eq!(preparation.transform(features().view()), features());
    }

    #[test]
    fn rows_get_length_one_and_a_row_of_zeros_stays() {
        let features = array![[3.0f32, 4.0], [0.0, 0.0], [-5e-30, 0.0]];
        let preparation =
            Preparation::fit(features.view(), &[0, 1], PreparationSteps { l2_normalize: true, ..PLAIN })
                .unwrap();
        assert_eq!(preparation.transform(features.view()), array![[0.6f32, 0.8], [0.0, 0.0], [-1.0, 0.0]]);
    }

    #[test]
    fn columns_are_standardised_after_the_rows_and_by_the_named_rows_alone() {
        let steps = PreparationSteps { l2_normalize: true, standardize: true, ..PLAIN };
        let rows: Vec<usize> = (0..20).collect();
        let found = Preparation::fit(features().view(), &rows, steps).unwrap().transform(features().view());
        let mut expected = features();
        expected.rows_mut().into_iter().for_each(|mut row| row /= row.dot(&row).sqrt());
        let expected = Standardizer::fit(expected.view(), &rows).transform(expected.view());
        assert_abs_diff_eq!(found, expected, epsilon = 1e-5);
    }

    #[test]
    fn all_components_only_rotate() {
        let all: Vec<usize> = (0..40).collect();
        let standardized =
            Preparation::fit(features().view(), &all, PreparationSteps { standardize: true, ..PLAIN })
                .unwrap()
                .transform(features().view());
        let rotated = Preparation::fit(
            features().view(),
            &all,
            PreparationSteps { standardize: true, pca: Some(6), ..PLAIN },
        )
        .unwrap()
        .transform(features().view());
        for (i, j) in [(0, 1), (3, 17), (20, 39)] {
            let distance = |z: &Array2<f32>| (&z.row(i) - &z.row(j)).mapv(|d| d * d).sum();
            assert_abs_diff_eq!(distance(&standardized), distance(&rotated), epsilon = 1e-4);
        }
    }

    #[test]
    fn a_block_is_prepared_as_the_whole_is() {
        let all: Vec<usize> = (0..40).collect();
        let steps = PreparationSteps { l2_normalize: true, standardize: true, pca: Some(3) };
        let preparation = Preparation::fit(features().view(), &all, steps).unwrap();
        let whole = preparation.transform(features().view());
        let mut block = vec![0f32; 5 * 3];
        preparation.apply(&features().as_slice().unwrap()[35 * 6..], &mut block);
        assert_eq!(block, whole.as_slice().unwrap()[35 * 3..]);
        preparation.apply(&[], &mut []);
    }

    #[derive(serde::Deserialize)]
    struct Reference {
        columns: usize,
        training_rows: usize,
        components: usize,
        l2_normalize: bool,
        standardize: bool,
        #[serde(rename = "codes")]
        features: Vec<f32>,
        variances: Vec<f64>,
        kept: f64,
        scores: Vec<f64>,
    }

    #[test]
    fn components_and_scores_are_those_of_scikit_learn() {
        let json = include_str!("../tests/reference/prepare.json");
        for case in serde_json::from_str::<Vec<Reference>>(json).unwrap() {
            let Reference { columns, l2_normalize, standardize, components, .. } = case;
            let features =
                Array2::from_shape_vec((case.features.len() / columns, columns), case.features).unwrap();
            let rows: Vec<usize> = (0..case.training_rows).collect();
            let steps = PreparationSteps { l2_normalize, standardize, pca: Some(components) };
            let preparation = Preparation::fit(features.view(), &rows, steps).unwrap();
            let pca = preparation.pca().unwrap();
            let largest = case.variances[0];
            for (found, expected) in pca.variances().iter().zip(&case.variances) {
                assert_abs_diff_eq!(found / largest, expected / largest, epsilon = 1e-7);
            }
            assert_abs_diff_eq!(pca.kept(), case.kept, epsilon = 1e-7);
            let length = case.scores.iter().fold(0f64, |largest, score| largest.max(score.abs()));
            for (&found, expected) in preparation.transform(features.view()).iter().zip(&case.scores) {
                // Where all variance is kept the last components are those of rounding errors.
                assert_abs_diff_eq!(f64::from(found) / length, expected / length, epsilon = 2e-6);
            }
        }
    }

    #[test]
    fn components_beyond_the_rank_are_zero() {
        let value = |(i, j): (usize, usize)| ((i % 3 * 5 + j) as f32).sin();
        let few = Array2::from_shape_fn((9, 20), value);
        let all: Vec<usize> = (0..9).collect();
        let steps = PreparationSteps { standardize: true, pca: Some(5), ..PLAIN };
        let preparation = Preparation::fit(few.view(), &all, steps).unwrap();
        let pca = preparation.pca().unwrap();
        assert!(pca.variances()[1] > 0.0 && pca.variances()[2..] == [0.0; 3], "{:?}", pca.variances());
        assert!(preparation.transform(few.view()).column(4).iter().all(|&score| score == 0.0));
    }

    #[test]
    fn more_components_than_there_are_directions_are_refused() {
        let all: Vec<usize> = (0..5).collect();
        let refuse = |pca| {
            Preparation::fit(features().view(), &all, PreparationSteps { pca: Some(pca), ..PLAIN })
                .unwrap_err()
        };
        assert!(matches!(refuse(0), SolverError::TooManyComponents { .. }));
        let said = refuse(5).to_string();
        assert!(said.contains("5 rows of 6 features have 4 at most"), "{said}");
    }
}
