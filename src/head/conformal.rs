//! Prediction sets: the classes that cannot be ruled out at a chosen coverage.
//!
//! A class is left out of an image's set when its probability is lower than the true class's was for all but the wanted
//! share of the training images, each judged by a head that had not seen it. Over many images the sets then hold the
//! true class in about that share of cases, whatever the features look like, as long as new images are like the training
//! ones. An empty set says that no class is as probable as the true one usually is.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// Scores that are kept; more training rows are represented by as many order statistics.
const MOST_KEPT: usize = 4096;

/// Cross-conformal prediction with the score `1 - p` of the true class (V. Vovk: "Cross-conformal predictors", Annals of
/// Mathematics and Artificial Intelligence 74, 2015; M. Sadinle, J. Lei, L. Wasserman: "Least ambiguous set-valued
/// classifiers with bounded error levels", J. Amer. Stat. Assoc. 114, 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conformal {
    scores: Vec<f32>,
    rows: usize,
}

impl Conformal {
    /// From out-of-fold `probabilities` (n x classes) and labels.
    pub fn new(probabilities: ArrayView2<'_, f64>, labels: &[usize]) -> Self {
        let mut scores: Vec<f32> = probabilities
            .rows()
            .into_iter()
            .zip(labels)
            .map(|(row, &label)| (1.0 - row[label]) as f32)
            .collect();
        scores.sort_by(f32::total_cmp);
        let rows = scores.len();
        if rows > MOST_KEPT {
            scores = (1..=MOST_KEPT).map(|kept| scores[rank_of(kept, rows) - 1]).collect();
        }
        Self { scores, rows }
    }

    /// The parts of a file; `None` when they cannot be what [`Self::new`] made.
    pub fn from_parts(scores: Vec<f32>, rows: usize) -> Option<Self> {
        let sound = scores.len() == rows.min(MOST_KEPT)
            && scores.is_sorted()
            && scores.iter().all(|score| (0.0..=1.0).contains(score));
        sound.then_some(Self { scores, rows })
    }

    /// `1 - p` of the true classes, rising; at most 4096 evenly spaced order statistics of them.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// Number of rows that the scores stand for.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The highest `1 - p` that a class of the set may have: the `⌈(n + 1) coverage⌉`-th smallest of n scores. Infinite
    /// where n is too small for that coverage; every class is then in the set.
    pub fn threshold(&self, coverage: f64) -> f64 {
        let rank = ((self.rows + 1) as f64 * coverage).ceil() as usize;
        if rank > self.rows {
            return f64::INFINITY;
        }
        // The first kept order statistic that is not below the wanted one.
        let kept = (1..=self.scores.len()).find(|&kept| rank_of(kept, self.rows) >= rank);
        kept.map_or(f64::INFINITY, |kept| f64::from(self.scores[kept - 1]))
    }

    /// The classes of the set for one row of probabilities, most probable first.
    pub fn set(&self, probabilities: &[f64], coverage: f64) -> Vec<usize> {
        let threshold = self.threshold(coverage);
        let mut classes: Vec<usize> = (0..probabilities.len())
            // Rounded as the stored scores are.
            .filter(|&class| f64::from((1.0 - probabilities[class]) as f32) <= threshold)
            .collect();
        classes.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        classes
    }
}

/// Which of `rows` order statistics the `kept`-th kept one is, both from 1.
fn rank_of(kept: usize, rows: usize) -> usize {
    if rows <= MOST_KEPT { kept } else { (kept * rows).div_ceil(MOST_KEPT) }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    /// Probabilities that are wrong in many ways, with labels: exchangeable is all that the method asks for.
    fn rows(count: usize, rng: &mut Xoshiro256PlusPlus) -> (Array2<f64>, Vec<usize>) {
        let labels: Vec<usize> = (0..count).map(|_| rng.random_range(0..4)).collect();
        let mut probabilities = Array2::from_shape_fn((count, 4), |(i, k)| {
            rng.random::<f64>() + if labels[i] == k { 0.8 } else { 0.0 }
        });
        for mut row in probabilities.rows_mut() {
            let total = row.sum();
            row /= total;
        }
        (probabilities, labels)
    }

    #[test]
    fn sets_cover_the_true_class_as_often_as_asked() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        for (coverage, count) in [(0.8, 500), (0.95, 500), (0.95, 20_000)] {
            let mut covered = 0;
            for _ in 0..20 {
                let (probabilities, labels) = rows(count, &mut rng);
                let conformal = Conformal::new(probabilities.view(), &labels);
                let (new, truth) = rows(200, &mut rng);
                for (row, label) in new.rows().into_iter().zip(truth) {
                    covered += usize::from(conformal.set(&row.to_vec(), coverage).contains(&label));
                }
            }
            let share = covered as f64 / 4000.0;
            assert!((share - coverage).abs() < 0.02, "{share} where {coverage} was asked");
        }
    }

    #[test]
    fn the_threshold_is_the_order_statistic_of_the_definition() {
        // 1 - p is 0.00, 0.01, … 0.98: n = 99, so ⌈100 · 0.95⌉ = the 95th.
        let probabilities = Array2::from_shape_fn((99, 2), |(i, k)| {
            let p = 1.0 - i as f64 / 100.0;
            if k == 0 { p } else { 1.0 - p }
        });
        let conformal = Conformal::new(probabilities.view(), &[0; 99]);
        assert_eq!(conformal.threshold(0.95), f64::from(0.94f32));
        assert_eq!(conformal.threshold(0.995), f64::INFINITY);
        assert_eq!(conformal.set(&[0.03, 0.97], 0.95), [1]);
        assert_eq!(conformal.set(&[0.03, 0.97], 0.999), [1, 0]);
    }

    #[test]
    fn many_rows_are_thinned_without_moving_the_threshold_much() {
        let probabilities =
            Array2::from_shape_fn((100_000, 1), |(i, _)| 1.0 - (i * 7919 % 100_000) as f64 / 1e5);
        let conformal = Conformal::new(probabilities.view(), &vec![0; 100_000]);
        assert_eq!((conformal.scores().len(), conformal.rows()), (4096, 100_000));
        let threshold = conformal.threshold(0.9);
        assert!((0.9 - 1e-4..0.9 + 1.0 / 4096.0).contains(&threshold), "{threshold}");
        assert_eq!(Conformal::from_parts(conformal.scores().to_vec(), 100_000), Some(conformal.clone()));
        assert_eq!(Conformal::from_parts(conformal.scores().to_vec(), 3), None);
        assert_eq!(Conformal::from_parts(vec![0.5, 0.1], 2), None);
    }
}
