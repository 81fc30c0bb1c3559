//! Platt's sigmoid: from a score to a probability by two numbers.
//!
//! linfa's Platt scaling is not used: it stops at a mean gradient of 1e-5 with targets rounded to float32, and treats a
//! failed line search on well separated scores as an error.

use serde::{Deserialize, Serialize};

/// Platt's sigmoid `1 / (1 + exp(slope f + offset))`; a negative slope lets the probability rise with the score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sigmoid {
    /// A in Platt's paper.
    pub slope: f64,
    /// B in Platt's paper.
    pub offset: f64,
}

impl Sigmoid {
    /// Maximum a posteriori fit by Newton's method with backtracking: H.-T. Lin, C.-J. Lin, R. C. Weng: "A note on
    /// Platt's probabilistic outputs for support vector machines", Machine Learning 68, 2007, algorithm 1.
    ///
    /// The targets are `(n₊ + 1) / (n₊ + 2)` and `1 / (n₋ + 2)`. Scores are first divided by their largest magnitude,
    /// so the fit is the same in whatever unit they come.
    pub fn fit(scores: &[f64], positive: &[bool]) -> Self {
        let positives = positive.iter().filter(|&&p| p).count() as f64;
        let negatives = positive.len() as f64 - positives;
        let targets = smoothed(positive);
        let unit = scores.iter().fold(0f64, |unit, f| unit.max(f.abs()));
        let unit = if unit > 0.0 { unit } else { 1.0 };
        let points: Vec<(f64, f64)> =
            scores.iter().zip(positive).map(|(f, &p)| (f / unit, targets[usize::from(p)])).collect();
        let value = |slope: f64, offset: f64| -> f64 {
            points.iter().map(|&(f, t)| (t - 1.0) * (slope * f + offset) + softplus(slope * f + offset)).sum()
        };
        let (mut slope, mut offset) = (0.0, ((negatives + 1.0) / (positives + 1.0)).ln());
        let mut current = value(slope, offset);
        for _ in 0..100 {
            // A tiny multiple of the identity keeps the Hessian invertible when all scores are equal.
            let (mut h11, mut h12, mut h22) = (1e-12, 0.0, 1e-12);
            let (mut g1, mut g2) = (0.0, 0.0);
            for &(f, t) in &points {
                let p = (-softplus(slope * f + offset)).exp();
                let weight = p * (1.0 - p);
                h11 += f * f * weight;
                h12 += f * weight;
                h22 += weight;
                g1 += f * (t - p);
                g2 += t - p;
            }
            if g1.abs().max(g2.abs()) < 1e-9 {
                break;
            }
            let determinant = h11 * h22 - h12 * h12;
            let (d1, d2) = (-(h22 * g1 - h12 * g2) / determinant, -(h11 * g2 - h12 * g1) / determinant);
            let descent = g1 * d1 + g2 * d2;
            let lower =
                |step: f64| value(slope + step * d1, offset + step * d2) < current + 1e-4 * step * descent;
            let Some(step) = (0..40).map(|k| 0.5f64.powi(k)).find(|&step| lower(step)) else {
                // Rounding dominates: this is the minimum as far as float64 can tell.
                break;
            };
            slope += step * d1;
            offset += step * d2;
            current = value(slope, offset);
        }
        Self { slope: slope / unit, offset }
    }

    /// Logarithm of the probability at `score`.
    pub fn log_probability(&self, score: f64) -> f64 {
        -softplus(self.slope * score + self.offset)
    }
}

/// Platt's targets for rows of another class and of the class itself: what their shares would be expected to be, had each been
/// seen once more.
pub(super) fn smoothed(positive: &[bool]) -> [f64; 2] {
    let positives = positive.iter().filter(|&&p| p).count() as f64;
    let negatives = positive.len() as f64 - positives;
    [1.0 / (negatives + 2.0), (positives + 1.0) / (positives + 2.0)]
}

/// `log(1 + exp x)` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use approx::{assert_abs_diff_eq, assert_relative_eq};

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        platt: PlattReference,
    }

    #[derive(Deserialize)]
    struct PlattReference {
        scores: Vec<f64>,
        positive: Vec<bool>,
        slope: f64,
        offset: f64,
    }

    #[test]
    fn platt_scaling_finds_the_optimum_that_scipy_finds_in_any_unit() {
        let json = include_str!("../../crates/linear-heads/tests/reference/head.json");
        let reference: Reference = serde_json::from_str(json).unwrap();
        let PlattReference { scores, positive, slope, offset } = reference.platt;
        for unit in [1e-9, 1.0, 1e9] {
            let scores: Vec<f64> = scores.iter().map(|f| f * unit).collect();
            let sigmoid = Sigmoid::fit(&scores, &positive);
            assert_relative_eq!(sigmoid.slope * unit, slope, max_relative = 1e-5);
            assert_relative_eq!(sigmoid.offset, offset, max_relative = 1e-5);
        }
    }

    #[test]
    fn perfectly_separated_or_equal_scores_give_finite_sigmoids() {
        let separated = Sigmoid::fit(&[-3.0, -2.0, 2.0, 3.0], &[false, false, true, true]);
        assert!(separated.slope < 0.0 && separated.slope.is_finite());
        // Without information all that is left is the smoothed share: (1 + 1) / (1 + 2) and 1 / (3 + 2), averaged.
        let equal = Sigmoid::fit(&[1.0; 4], &[true, false, false, false]);
        assert_abs_diff_eq!(equal.log_probability(1.0).exp(), (2.0 / 3.0 + 3.0 * 0.2) / 4.0, epsilon = 1e-6);
    }
}
