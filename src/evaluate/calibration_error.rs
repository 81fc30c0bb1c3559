//! Whether probabilities mean what they say: calibration error and Brier score.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// Bins of the expected calibration error.
const BINS: usize = 15;

/// How far probabilities can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationMetrics {
    /// Expected calibration error: rows are sorted by the probability of their predicted class into 15 bins of equal
    /// width, `(b/15, (b+1)/15]`; the error is the mean over all rows of the difference between a bin's share of right
    /// answers and its mean probability. (C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: "On calibration of modern neural
    /// networks", ICML 2017, equation 3.)
    pub expected_error: f64,
    /// Mean over the rows of `Σ_k (p_k - [k is the true class])²`: 0 is best, 2 worst. (G. W. Brier, Monthly Weather
    /// Review 78, 1950.)
    pub brier: f64,
    /// The bins that hold rows, from low to high probability.
    pub bins: Vec<ReliabilityBin>,
}

/// Rows whose predicted class has about the same probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Probabilities above this,
    pub above: f64,
    /// and up to this.
    pub up_to: f64,
    /// Number of rows.
    pub rows: usize,
    /// Their mean probability.
    pub confidence: f64,
    /// Share of them that is right.
    pub accuracy: f64,
}

impl CalibrationMetrics {
    /// Figures for `probabilities` (n x classes), the classes that the rows were taken for, and labels; all 0 without rows.
    pub fn new(probabilities: ArrayView2<'_, f64>, predicted: &[usize], labels: &[usize]) -> Self {
        let mut sums = [(0usize, 0.0, 0usize); BINS];
        let mut squares = 0.0;
        for ((row, &predicted), &label) in probabilities.rows().into_iter().zip(predicted).zip(labels) {
            for (class, &p) in row.iter().enumerate() {
                squares += (p - f64::from(u8::from(class == label))).powi(2);
            }
            let bin = ((row[predicted] * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            sums[bin].0 += 1;
            sums[bin].1 += row[predicted];
            sums[bin].2 += usize::from(predicted == label);
        }
        let count = labels.len().max(1) as f64;
        let bins: Vec<ReliabilityBin> = sums
            .iter()
            .enumerate()
            .filter(|(_, (rows, ..))| *rows > 0)
            .map(|(bin, &(rows, confidence, right))| ReliabilityBin {
                above: bin as f64 / BINS as f64,
                up_to: (bin + 1) as f64 / BINS as f64,
                rows,
                confidence: confidence / rows as f64,
                accuracy: right as f64 / rows as f64,
            })
            .collect();
        let error = |bin: &ReliabilityBin| bin.rows as f64 / count * (bin.accuracy - bin.confidence).abs();
        Self { expected_error: bins.iter().map(error).sum(), brier: squares / count, bins }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use ndarray::{Array2, array};

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        calibration: Case,
    }

    #[derive(Deserialize)]
    struct Case {
        classes: usize,
        probabilities: Vec<f64>,
        labels: Vec<usize>,
        expected_error: f64,
        brier: f64,
    }

    #[test]
    fn error_and_brier_score_are_those_of_an_independent_implementation() {
        let reference: Reference =
            serde_json::from_str(include_str!("../../tests/reference/trust.json")).unwrap();
        let Case { classes, probabilities, labels, expected_error, brier } = reference.calibration;
        let probabilities = Array2::from_shape_vec((labels.len(), classes), probabilities).unwrap();
        let predicted = crate::head::answers(probabilities.view(), probabilities.view());
        let found = CalibrationMetrics::new(probabilities.view(), &predicted, &labels);
        assert_abs_diff_eq!(found.expected_error, expected_error, epsilon = 1e-12);
        assert_abs_diff_eq!(found.brier, brier, epsilon = 1e-12);
        assert_eq!(found.bins.iter().map(|bin| bin.rows).sum::<usize>(), labels.len());
    }

    #[test]
    fn certain_and_right_is_perfect_and_certain_and_wrong_the_worst() {
        let certain = array![[1.0, 0.0], [0.0, 1.0]];
        let right = CalibrationMetrics::new(certain.view(), &[0, 1], &[0, 1]);
        assert_eq!((right.expected_error, right.brier), (0.0, 0.0));
        let wrong = CalibrationMetrics::new(certain.view(), &[0, 1], &[1, 0]);
        assert_eq!((wrong.expected_error, wrong.brier), (1.0, 2.0));
        assert_eq!(CalibrationMetrics::new(Array2::zeros((0, 2)).view(), &[], &[]).bins, []);
    }
}
