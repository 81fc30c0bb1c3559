//! Isotonic regression: the best fit among all functions that never fall.

use serde::{Deserialize, Serialize};

/// A function that never falls: straight between its points, constant beyond them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Where the points are, rising.
    pub scores: Vec<f64>,
    /// The values there, never falling.
    pub values: Vec<f64>,
}

impl Isotonic {
    /// Least-squares fit of `targets` at `scores` (as many, finite) by pooling adjacent violators (R. E. Barlow et al.:
    /// "Statistical inference under order restrictions", Wiley 1972; B. Zadrozny, C. Elkan: "Transforming classifier
    /// scores into accurate multiclass probability estimates", KDD 2002). Targets at equal scores are averaged first.
    pub fn fit(scores: &[f64], targets: &[f64]) -> Self {
        let mut points: Vec<(f64, f64)> = scores.iter().copied().zip(targets.iter().copied()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut blocks: Vec<PooledBlock> = Vec::new();
        for equal in points.chunk_by(|a, b| a.0 == b.0) {
            let weight = equal.len() as f64;
            let value = equal.iter().map(|point| point.1).sum::<f64>() / weight;
            blocks.push(PooledBlock { first: equal[0].0, last: equal[0].0, value, weight });
            while let [.., before, last] = &mut blocks[..]
                && before.value >= last.value
            {
                let weight = before.weight + last.weight;
                before.value = (before.value * before.weight + last.value * last.weight) / weight;
                before.weight = weight;
                before.last = last.last;
                blocks.pop();
            }
        }
        let mut fitted = Self { scores: Vec::new(), values: Vec::new() };
        for PooledBlock { first, last, value, .. } in blocks {
            fitted.push(first, value);
            if last > first {
                fitted.push(last, value);
            }
        }
        fitted
    }

    fn push(&mut self, score: f64, value: f64) {
        self.scores.push(score);
        self.values.push(value);
    }

    /// The value at `score`; 0 for a function without points.
    pub fn at(&self, score: f64) -> f64 {
        let next = self.scores.partition_point(|&known| known < score);
        match (next.checked_sub(1), self.scores.get(next)) {
            (None, None) => 0.0,
            (None, Some(_)) => self.values[0],
            (Some(before), None) => self.values[before],
            (Some(before), Some(&right)) => {
                let left = self.scores[before];
                let share = (score - left) / (right - left);
                self.values[before] + share * (self.values[next] - self.values[before])
            }
        }
    }

    /// Whether it has more than one value.
    pub fn rises(&self) -> bool {
        self.values.first() < self.values.last()
    }

    /// Whether the points rise, the values are probabilities and never fall.
    pub fn is_sound(&self) -> bool {
        !self.scores.is_empty()
            && self.scores.len() == self.values.len()
            && self.scores.iter().all(|score| score.is_finite())
            && self.scores.is_sorted_by(|a, b| a < b)
            && self.values.iter().all(|value| (0.0..=1.0).contains(value))
            && self.values.is_sorted()
    }
}

/// Neighbouring scores with one value.
struct PooledBlock {
    first: f64,
    last: f64,
    value: f64,
    weight: f64,
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        isotonic: Case,
    }

    #[derive(Deserialize)]
    struct Case {
        scores: Vec<f64>,
        targets: Vec<f64>,
        at: Vec<f64>,
        values: Vec<f64>,
    }

    #[test]
    fn the_fit_is_that_of_scikit_learn_with_ties_between_points_and_beyond() {
        let reference: Reference =
            serde_json::from_str(include_str!("../../tests/reference/trust.json")).unwrap();
        let Case { scores, targets, at, values } = reference.isotonic;
        let fitted = Isotonic::fit(&scores, &targets);
        assert!(fitted.is_sound());
        for (score, value) in at.into_iter().zip(values) {
            assert_abs_diff_eq!(fitted.at(score), value, epsilon = 1e-12);
        }
    }

    #[test]
    fn falling_targets_are_averaged() {
        let fitted = Isotonic::fit(&[1.0, 2.0, 3.0], &[1.0, 0.5, 0.0]);
        assert_eq!(fitted, Isotonic { scores: vec![1.0, 3.0], values: vec![0.5, 0.5] });
        assert!(!fitted.rises());
        assert!(Isotonic::fit(&[1.0, 2.0], &[0.0, 1.0]).rises());
        let one = Isotonic::fit(&[2.0, 2.0], &[0.0, 1.0]);
        assert_eq!((one.at(-9.0), one.at(2.0), one.at(9.0)), (0.5, 0.5, 0.5));
    }
}
