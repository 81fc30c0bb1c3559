//! How sure an accuracy is that cross-validation found.

use std::collections::{HashMap, HashSet};

use super::metrics::Proportion;

/// Different images a class at which half of the corrections for few images is left.
const FEW: f64 = 30.0;

/// What decides how far the accuracy of cross-validation may be from that of the head which is fitted to all rows.
///
/// Were the rows independent trials, their interval would promise too much, by two things. Both count in full where images
/// are few, and fade with the number m of different images a class, as `30 / (30 + m)`:
///
/// - The heads of the folds learned from nearly the same rows, and what one row teaches or hides, all of them know or lack. The
///   variance of K-fold cross-validation is `1 + K / (K - 1)` times that of independent trials (C. Nadeau, Y. Bengio:
///   "Inference for the generalization error", Machine Learning 52, 2003: `1/K + n_test / n_training` in place of `1/K`). There
///   is no unbiased estimate of it (Y. Bengio, Y. Grandvalet, JMLR 5, 2004); intervals without it are too narrow, the fewer
///   rows the more so (S. Bates, T. Hastie, R. Tibshirani: "Cross-validation: what does it estimate and how well does it do
///   it?", J. Amer. Stat. Assoc. 119, 2024).
/// - They learned from `(K - 1) / K` of the rows, with two folds from half of them, so the final head may be better. Learning
///   curves fall like a power of the number of rows, and hardly faster than its inverse (T. Viering, M. Loog: "The shape of
///   learning curves: a review", IEEE TPAMI 45, 2023). So its errors are at best fewer in that proportion, which the upper end
///   allows for.
///
/// Measured on MobileNetV2's features of photos, 2 to 10 a class, 2 to 4 classes: of 95 % intervals of independent trials 46
/// to 90 in a hundred held the accuracy on other photos, of these 94 to 100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uncertainty {
    /// How many independent rows the rows are worth, see [`effective_rows`].
    pub effective_rows: f64,
    /// Different images a class, on average.
    pub images_per_class: f64,
    /// Number of folds.
    pub folds: usize,
}

impl Uncertainty {
    /// For rows with these labels and groups of duplicates, both as long.
    pub fn new(labels: &[usize], groups: &[usize], folds: usize) -> Self {
        let classes = labels.iter().collect::<HashSet<_>>().len();
        let images = labels.iter().zip(groups).collect::<HashSet<_>>().len();
        Self {
            effective_rows: effective_rows(groups),
            images_per_class: images as f64 / classes.max(1) as f64,
            folds,
        }
    }

    /// The share of rows that were classified rightly while they were held out, with its interval.
    pub fn share(&self, successes: usize, trials: usize) -> Proportion {
        let folds = self.folds.max(2) as f64;
        let weight = FEW / (FEW + self.images_per_class);
        let inflation = 1.0 + weight * folds / (folds - 1.0);
        let found = Proportion::worth(successes, trials, self.effective_rows / inflation);
        let fewer_errors = ((folds - 1.0) / folds).powf(weight);
        Proportion { high: 1.0 - (1.0 - found.high) * fewer_errors, ..found }
    }
}

/// How many independent rows are worth as much as rows of these `groups`, of which those of one group tell the same:
/// `(Σ m)² / Σ m²` for groups of m rows (L. Kish: "Survey Sampling", Wiley 1965, effective sample size). Without duplicates it is the
/// number of rows.
fn effective_rows(groups: &[usize]) -> f64 {
    let mut sizes: HashMap<usize, f64> = HashMap::new();
    groups.iter().for_each(|&group| *sizes.entry(group).or_default() += 1.0);
    let squares: f64 = sizes.values().map(|size| size * size).sum();
    if squares > 0.0 { (groups.len() as f64).powi(2) / squares } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::*;

    #[test]
    fn copies_are_worth_one_row_where_all_sets_are_of_one_size_and_less_where_one_is_large() {
        assert_eq!(effective_rows(&[0, 1, 2, 3]), 4.0);
        assert_eq!(effective_rows(&[0, 0, 1, 1, 2, 2]), 3.0);
        assert_eq!(effective_rows(&[7, 7, 7, 7]), 1.0);
        // 500 frames of one scene and 100 photos.
        let groups: Vec<usize> = (0..600).map(|row: usize| row.max(499)).collect();
        assert_abs_diff_eq!(effective_rows(&groups), 360_000.0 / 250_100.0, epsilon = 1e-12);
        assert_eq!(effective_rows(&[]), 0.0);
    }

    #[test]
    fn different_images_are_counted_class_by_class() {
        let found = Uncertainty::new(&[0, 0, 0, 1, 1], &[0, 0, 1, 2, 3], 5);
        assert_eq!((found.images_per_class, found.folds), (2.0, 5));
        assert_abs_diff_eq!(found.effective_rows, 25.0 / 7.0, epsilon = 1e-12);
    }

    #[test]
    fn with_few_images_rows_are_worth_less_and_the_final_head_may_be_better() {
        // At 30 images a class half of both corrections: 260 rows in 5 folds are worth 260 / 1.625 = 160.
        let uncertainty = Uncertainty { effective_rows: 260.0, images_per_class: 30.0, folds: 5 };
        let (found, independent) = (uncertainty.share(234, 260), Proportion::new(144, 160));
        assert_eq!((found.successes, found.trials, found.value), (234, 260, 0.9));
        assert_abs_diff_eq!(found.low, independent.low, epsilon = 1e-12);
        assert_abs_diff_eq!(found.high, 1.0 - 0.8f64.sqrt() * (1.0 - independent.high), epsilon = 1e-12);
        // Copies narrow nothing.
        let copied = uncertainty.share(468, 520);
        assert_eq!((copied.low, copied.high), (found.low, found.high));
    }

    #[test]
    fn with_many_images_they_are_independent_trials() {
        let uncertainty = Uncertainty { effective_rows: 1e6, images_per_class: 1e6, folds: 5 };
        let (found, independent) =
            (uncertainty.share(900_000, 1_000_000), Proportion::new(900_000, 1_000_000));
        assert_abs_diff_eq!(found.low, independent.low, epsilon = 1e-7);
        assert_abs_diff_eq!(found.high, independent.high, epsilon = 1e-5);
    }

    #[test]
    fn nothing_is_known_without_rows() {
        let found = Uncertainty::new(&[], &[], 5).share(0, 0);
        assert_eq!((found.value, found.low, found.high), (0.0, 0.0, 1.0));
    }
}
