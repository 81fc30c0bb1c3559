//! How sure a network is, whether that is more than chance, and how far two recipes are apart.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Resamplings of a bootstrap.
const RESAMPLINGS: usize = 2000;

/// Of the resamplings, how many lie outside of an interval on either side: 99 % are inside, so that a dozen comparisons
/// seldom mislead.
const OUTSIDE: usize = RESAMPLINGS / 200;

/// How sure a network is of an image, in two measures of the image's standardised scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sureness {
    /// How few classes hold the large scores: the logarithm of the mean of their exponentials. Normal numbers have 0.5.
    pub confidence: f64,
    /// The largest score: by how many standard deviations the winning class stands out.
    pub standing_out: f64,
}

/// How sure a network is of each image. `scores` holds rows of `classes` numbers, before a softmax.
///
/// Of every class's scores its mean over the images is taken off, so that a class that wins whatever is shown does not count.
/// Then the scores of each image get mean 0 and deviation 1, so that their scale does not count: it grows with the contrast of
/// the pixels, and probabilities grow with it. Scores that are not finite make a network sure of nothing.
pub(super) fn sureness(scores: &[f32], classes: usize) -> Vec<Sureness> {
    let rows: Vec<&[f32]> = scores.chunks_exact(classes.max(1)).collect();
    let mut means = vec![0.0_f64; classes];
    for row in &rows {
        means.iter_mut().zip(*row).for_each(|(mean, &score)| *mean += f64::from(score) / rows.len() as f64);
    }
    let one = |row: &&[f32]| {
        let centred: Vec<f64> =
            row.iter().zip(&means).map(|(&score, mean)| f64::from(score) - mean).collect();
        let n = centred.len() as f64;
        let mean = centred.iter().sum::<f64>() / n;
        let deviation = (centred.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let standardised = || centred.iter().map(|score| (score - mean) / deviation);
        let largest = standardised().fold(f64::NEG_INFINITY, f64::max);
        // The largest is taken out of the exponentials, which could overflow.
        let sum: f64 = standardised().map(|score| (score - largest).exp()).sum();
        let confidence = largest + (sum / n).ln();
        match confidence.is_finite() && largest.is_finite() {
            true => Sureness { confidence, standing_out: largest },
            false => Sureness { confidence: 0.0, standing_out: 0.0 },
        }
    };
    rows.iter().map(one).collect()
}

/// What the largest of `n` normal numbers exceeds once in a thousand times, in standard deviations of all of them from their
/// mean: the critical value of Grubbs' one-sided test (F. E. Grubbs: "Sample criteria for testing outlying observations",
/// Annals of Mathematical Statistics 21, 1950). `None` for fewer than four numbers, of which the largest always stands out
/// alike.
pub(super) fn chance_limit(n: usize) -> Option<f64> {
    (n >= 4).then(|| critical_value(n, 1e-3))
}

/// A deviation of `g` standard deviations is a correlation `r = g sqrt(n) / (n - 1)` with the direction of one number, whose
/// density for normal numbers is proportional to `(1 - r²)^((n - 4) / 2)`. The sum of its tail for all `n` numbers is `level`.
fn critical_value(n: usize, level: f64) -> f64 {
    const STEPS: usize = 200_000;
    let count = n as f64;
    let density = |step: usize| {
        let r = (step as f64 + 0.5) / STEPS as f64;
        (1.0 - r * r).powf((count - 4.0) / 2.0)
    };
    let half: f64 = (0..STEPS).map(density).sum();
    // Of both sides together, one tail is wanted.
    let wanted = 2.0 * half * level / count;
    let mut tail = 0.0;
    let mut step = STEPS;
    while step > 0 && tail < wanted {
        step -= 1;
        tail += density(step);
    }
    step as f64 / STEPS as f64 * (count - 1.0) / count.sqrt()
}

/// The 99 % interval of the mean of `first - second`, which are values for the same images: percentiles of a bootstrap over
/// the images (B. Efron, R. Tibshirani: "An Introduction to the Bootstrap", 1993, chapter 13).
pub(super) fn paired_interval(first: &[f64], second: &[f64]) -> [f64; 2] {
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let count = differences.len();
    if count == 0 {
        return [f64::NEG_INFINITY, f64::INFINITY];
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
    let mut means: Vec<f64> = (0..RESAMPLINGS)
        .map(|_| (0..count).map(|_| differences[random.random_range(0..count)]).sum::<f64>() / count as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    [means[OUTSIDE], means[RESAMPLINGS - 1 - OUTSIDE]]
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::*;

    #[test]
    fn critical_values_are_grubbs() {
        // With scipy's quantiles t of Student's distribution: (n - 1) / sqrt(n) * sqrt(t² / (n - 2 + t²)).
        for (n, level, expected) in [
            (5, 0.05, 1.671_386),
            (10, 0.01, 2.409_725),
            (20, 0.05, 2.556_581),
            (36, 0.001, 3.615_289),
            (100, 0.05, 3.209_520),
            (1000, 0.001, 4.727_817),
        ] {
            assert_abs_diff_eq!(critical_value(n, level), expected, epsilon = 3e-4);
        }
        assert_eq!(chance_limit(3), None);
    }

    #[test]
    fn sureness_ignores_scale_shift_and_the_class_that_always_wins() {
        // Class 0 always has 100 more; then class 1 of the first image and class 2 of the second stand out.
        let scores = [100.0, 4.0, 0.0, 0.0, 0.0, 100.0, 0.0, 4.0, 0.0, 0.0];
        let found = sureness(&scores, 5);
        // Centred, the first row is 0 2 -2 0 0, of a deviation of sqrt(8 / 4).
        let largest = 2.0_f64.sqrt();
        assert_abs_diff_eq!(found[0].standing_out, largest, epsilon = 1e-12);
        let confidence = ((largest.exp() + (-largest).exp() + 3.0) / 5.0).ln();
        assert_abs_diff_eq!(found[0].confidence, confidence, epsilon = 1e-12);
        assert_abs_diff_eq!(found[1].confidence, confidence, epsilon = 1e-12);
        let other: Vec<f32> = scores.iter().map(|score| 7.0 * score - 3.0).collect();
        assert_abs_diff_eq!(sureness(&other, 5)[0].confidence, confidence, epsilon = 1e-6);
        let unsure = Sureness { confidence: 0.0, standing_out: 0.0 };
        assert_eq!(sureness(&[f32::NAN, 1.0, 2.0, 3.0], 4), [unsure]);
        assert_eq!(sureness(&[1.0; 8], 4), [unsure; 2]);
    }

    #[test]
    fn intervals_of_differences_hold_the_mean_and_narrow_with_the_images() {
        let first: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let second: Vec<f64> = first.iter().enumerate().map(|(i, x)| x - 1.0 - (i % 2) as f64).collect();
        let [low, high] = paired_interval(&first, &second);
        // The differences are 1 and 2, with a standard error of 0.05.
        assert!(low > 1.35 && low < 1.40 && high > 1.60 && high < 1.65, "{low} {high}");
        assert_eq!(paired_interval(&first, &first), [0.0, 0.0]);
    }
}
