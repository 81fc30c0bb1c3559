//! Figures of merit: accuracy with its interval, the confusion matrix, per-class figures, log-loss.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// A share of successes with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Number of successes.
    pub successes: usize,
    /// Number of trials.
    pub trials: usize,
    /// successes / trials, 0 without trials.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Proportion {
    /// The share with its Wilson score interval (E. B. Wilson, J. Amer. Stat. Assoc. 22, 1927), which unlike the normal
    /// approximation stays within 0 and 1 and is sound near them.
    pub fn new(successes: usize, trials: usize) -> Self {
        Self::worth(successes, trials, trials as f64)
    }

    /// The share with the interval that `n` trials would have.
    pub(super) fn worth(successes: usize, trials: usize, n: f64) -> Self {
        /// 97.5 % quantile of the standard normal distribution.
        const Z: f64 = 1.959_963_984_540_054;
        if trials == 0 {
            return Self { successes, trials, value: 0.0, low: 0.0, high: 1.0 };
        }
        let value = successes as f64 / trials as f64;
        let divisor = 1.0 + Z * Z / n;
        let centre = (value + Z * Z / (2.0 * n)) / divisor;
        let half = Z / divisor * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt();
        // At 0 and n successes the formula gives 0 and 1 exactly, but for rounding.
        let low = if successes == 0 { 0.0 } else { centre - half };
        let high = if successes == trials { 1.0 } else { centre + half };
        Self { successes, trials, value, low, high }
    }
}

/// How often each class was taken for which: `counts[truth][predicted]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// classes x classes.
    pub counts: Vec<Vec<usize>>,
}

/// Figures of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Name of the class.
    pub name: String,
    /// Share of the rows predicted as this class that belong to it; 0 when none was.
    pub precision: f64,
    /// Share of the rows of this class that were predicted as such; 0 when there is none.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Number of rows of this class.
    pub support: usize,
}

impl Confusion {
    /// Counts pairs of true and predicted classes, both `0..classes`.
    pub fn new(truth: &[usize], predicted: &[usize], classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (&t, &p) in truth.iter().zip(predicted) {
            counts[t][p] += 1;
        }
        Self { counts }
    }

    /// Share of the rows on the diagonal. The interval takes the rows as independent.
    pub fn accuracy(&self) -> Proportion {
        let right = (0..self.counts.len()).map(|k| self.counts[k][k]).sum();
        Proportion::new(right, self.counts.iter().flatten().sum())
    }

    /// Precision, recall, F1 and support of each class.
    pub fn per_class(&self, class_names: &[String]) -> Vec<ClassMetrics> {
        let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        class_names
            .iter()
            .enumerate()
            .map(|(k, name)| {
                let right = self.counts[k][k];
                let support: usize = self.counts[k].iter().sum();
                let claimed: usize = self.counts.iter().map(|row| row[k]).sum();
                ClassMetrics {
                    name: name.clone(),
                    precision: share(right, claimed),
                    recall: share(right, support),
                    f1: share(2 * right, support + claimed),
                    support,
                }
            })
            .collect()
    }

    /// Pairs of different classes with their counts, most frequent first: (truth, predicted, count).
    pub fn mistakes(&self) -> Vec<(usize, usize, usize)> {
        let classes = self.counts.len();
        let mut mistakes: Vec<_> = (0..classes)
            .flat_map(|t| (0..classes).map(move |p| (t, p)))
            .filter(|&(t, p)| t != p && self.counts[t][p] > 0)
            .map(|(t, p)| (t, p, self.counts[t][p]))
            .collect();
        mistakes.sort_by_key(|&(_, _, count)| std::cmp::Reverse(count));
        mistakes
    }
}

/// Mean of `-ln p` of the true class, for `probabilities` (n x classes). A probability of 0 counts as the smallest
/// float64 step above it (2.2e-16), so that one certain mistake does not make the figure infinite.
pub fn log_loss(probabilities: ArrayView2<'_, f64>, labels: &[usize]) -> f64 {
    let total: f64 = probabilities
        .rows()
        .into_iter()
        .zip(labels)
        .map(|(row, &label)| -row[label].max(f64::EPSILON).ln())
        .sum();
    total / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use ndarray::array;

    use super::*;

    #[test]
    fn wilson_intervals_are_those_of_statsmodels() {
        // statsmodels.stats.proportion.proportion_confint(k, n, method="wilson")
        let cases = [
            (795, 808, 0.972_668_568_6, 0.990_573_689_5),
            (0, 10, 0.0, 0.277_532_799_9),
            (10, 10, 0.722_467_200_1, 1.0),
            (1, 3, 0.061_491_944_7, 0.792_340_399_2),
        ];
        for (successes, trials, low, high) in cases {
            let share = Proportion::new(successes, trials);
            assert_abs_diff_eq!(share.low, low, epsilon = 1e-9);
            assert_abs_diff_eq!(share.high, high, epsilon = 1e-9);
        }
    }

    #[test]
    fn without_trials_nothing_is_known() {
        let share = Proportion::new(0, 0);
        assert_eq!((share.value, share.low, share.high), (0.0, 0.0, 1.0));
    }

    #[test]
    fn per_class_figures_follow_from_the_confusion_matrix() {
        let names = ["a", "b", "c"].map(String::from);
        let confusion = Confusion::new(&[0, 0, 0, 1, 1, 1, 1], &[0, 0, 1, 1, 1, 1, 0], 3);
        assert_eq!(confusion.counts, [[2, 1, 0], [1, 3, 0], [0, 0, 0]]);
        assert_eq!((confusion.accuracy().successes, confusion.accuracy().trials), (5, 7));
        let figures = confusion.per_class(&names);
        assert_abs_diff_eq!(figures[0].precision, 2.0 / 3.0);
        assert_abs_diff_eq!(figures[0].recall, 2.0 / 3.0);
        assert_abs_diff_eq!(figures[1].f1, 0.75);
        assert_eq!((figures[2].precision, figures[2].recall, figures[2].f1), (0.0, 0.0, 0.0));
        assert_eq!((figures[1].support, figures[2].support), (4, 0));
    }

    #[test]
    fn mistakes_come_most_frequent_first() {
        let confusion = Confusion { counts: vec![vec![5, 1, 0], vec![0, 5, 3], vec![2, 0, 5]] };
        assert_eq!(confusion.mistakes(), [(1, 2, 3), (2, 0, 2), (0, 1, 1)]);
    }

    #[test]
    fn log_loss_is_the_mean_surprise_and_stays_finite() {
        let probabilities = array![[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]];
        let expected = (0.5f64.ln() + 0.75f64.ln() + f64::EPSILON.ln()) / -3.0;
        assert_abs_diff_eq!(log_loss(probabilities.view(), &[0, 1, 1]), expected, epsilon = 1e-12);
    }
}
