//! Two accuracies on the same images, compared.

use serde::{Deserialize, Serialize};

/// The difference of two accuracies on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Images that only the first got right.
    pub only_first: usize,
    /// Images that only the second got right.
    pub only_second: usize,
    /// Accuracy of the first less that of the second.
    pub value: f64,
    /// Lower end of the 95 % confidence interval.
    pub low: f64,
    /// Upper end of the 95 % confidence interval.
    pub high: f64,
}

impl Difference {
    /// The difference between two outcomes for each image: whether it was classified rightly.
    pub fn of_pairs(first: &[bool], second: &[bool]) -> Self {
        let pairs = || first.iter().zip(second);
        let only_first = pairs().filter(|&(&a, &b)| a && !b).count();
        let only_second = pairs().filter(|&(&a, &b)| b && !a).count();
        Self::paired(only_first, only_second, first.len())
    }

    /// The difference over `trials` images, of which `only_first` and `only_second` were classified rightly by one alone,
    /// with its adjusted Wald interval: 0.5 is added to each cell of the table of matched pairs (A. Agresti, Y. Min:
    /// "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005). With
    /// `b` and `c` images that one alone got right, of `n`:
    /// `(b - c) / (n + 2) ± 1.96 sqrt((b + c + 1) - (b - c)² / (n + 2)) / (n + 2)`.
    pub fn paired(only_first: usize, only_second: usize, trials: usize) -> Self {
        /// 97.5 % quantile of the standard normal distribution.
        const Z: f64 = 1.959_963_984_540_054;
        let (b, c, n) = (only_first as f64, only_second as f64, trials as f64);
        let centre = (b - c) / (n + 2.0);
        let half = Z * ((b + c + 1.0) - (b - c).powi(2) / (n + 2.0)).sqrt() / (n + 2.0);
        Self {
            only_first,
            only_second,
            value: (b - c) / n.max(1.0),
            low: (centre - half).max(-1.0),
            high: (centre + half).min(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::Difference;

    #[test]
    fn intervals_are_agrestis() {
        // diffpropci(b, c, n, 0.95) of Agresti's R code for matched pairs.
        let cases = [
            ((12, 2, 50), (0.2, 0.056_007_166_280, 0.328_608_218_336)),
            ((0, 0, 10), (0.0, -0.163_330_332_045, 0.163_330_332_045)),
        ];
        for ((b, c, n), (value, low, high)) in cases {
            let found = Difference::paired(b, c, n);
            assert_abs_diff_eq!(found.value, value, epsilon = 1e-12);
            assert_abs_diff_eq!(found.low, low, epsilon = 1e-9);
            assert_abs_diff_eq!(found.high, high, epsilon = 1e-9);
        }
        assert_eq!((Difference::paired(0, 3, 3).low, Difference::paired(3, 0, 3).high), (-1.0, 1.0));
    }

    #[test]
    fn pairs_are_counted() {
        let found =
            Difference::of_pairs(&[true, true, true, false, false], &[true, false, false, true, false]);
        assert_eq!(found, Difference::paired(2, 1, 5));
    }
}
