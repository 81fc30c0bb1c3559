//! How the head of a fold sees features that were standardised by all rows: as if by its own training rows alone. That takes no
//! other features, only other weights.

use super::{batched::Sums, primal::Linear, standardizer::Standardizer};

/// How a problem sees the features that all rows' standardizer gives: `(z - shift) · factor`.
pub(super) struct FoldScaling {
    pub shift: Vec<f64>,
    /// 0 where the column is constant among the problem's rows.
    pub factor: Vec<f64>,
}

impl FoldScaling {
    pub fn new(everything: &Standardizer, own: &Standardizer) -> Self {
        let columns = own.mean().len();
        let ratio = |j: usize| everything.scale()[j] / own.scale()[j];
        Self {
            shift: (0..columns)
                .map(|j| (own.mean()[j] - everything.mean()[j]) / everything.scale()[j])
                .collect(),
            factor: (0..columns).map(|j| if own.constant()[j] { 0.0 } else { ratio(j) }).collect(),
        }
    }

    /// Weights (classes x d) and biases that give the same scores of the features as all see them.
    pub fn to_shared(&self, weights: &[f32], bias: &[f64]) -> Linear {
        self.translate(weights, bias, |w, shift, factor| (w * factor, -(w * factor * shift)))
    }

    /// Weights and biases of the problem's own that give the scores that these give of the features as all see them.
    pub fn to_own(&self, weights: &[f32], bias: &[f64]) -> Linear {
        let weight = |w: f64, factor: f64| if factor > 0.0 { w / factor } else { 0.0 };
        self.translate(weights, bias, |w, shift, factor| (weight(w, factor), w * shift))
    }

    /// `each` makes of a weight, and of its column's shift and factor, another weight and what it adds to the bias.
    fn translate(&self, weights: &[f32], bias: &[f64], each: impl Fn(f64, f64, f64) -> (f64, f64)) -> Linear {
        let mut translated = Vec::with_capacity(weights.len());
        let mut biases = Vec::with_capacity(bias.len());
        for (weights, bias) in weights.chunks(self.shift.len()).zip(bias) {
            let mut bias = *bias;
            for ((&w, &shift), &factor) in weights.iter().zip(&self.shift).zip(&self.factor) {
                let (w, added) = each(f64::from(w), shift, factor);
                translated.push(w as f32);
                bias += added;
            }
            biases.push(bias);
        }
        (translated, biases)
    }

    /// From the gradient with respect to those weights to that with respect to the problem's own.
    pub fn gradient(&self, sums: &mut Sums) {
        for (gradient, bias) in sums.gradient.chunks_mut(self.shift.len()).zip(&sums.bias) {
            for ((g, shift), factor) in gradient.iter_mut().zip(&self.shift).zip(&self.factor) {
                *g = factor * (*g - bias * shift);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standardizer(mean: [f64; 3], scale: [f64; 3], constant: [bool; 3]) -> Standardizer {
        Standardizer::from_parts(mean.to_vec(), scale.to_vec(), constant.to_vec()).unwrap()
    }

    #[test]
    fn weights_that_leave_give_the_scores_of_the_problems_own_features_and_come_back_as_they_were() {
        let everything = standardizer([1.0, -2.0, 0.5], [2.0, 0.5, 1.0], [false; 3]);
        let own = standardizer([1.1, -1.8, 0.5], [1.9, 0.6, 1.0], [false, false, true]);
        let view = FoldScaling::new(&everything, &own);
        let (weights, bias) = ([0.3f32, -0.7, 0.9, 0.1, 0.2, -0.4], [0.25, -1.0]);
        let (seen, biases) = view.to_shared(&weights, &bias);
        for features in [[0.0, 0.0, 0.0], [1.5, -2.5, 3.0], [-1.0, 4.0, 0.2]] {
            for k in 0..2 {
                let score = |of: &Standardizer, weights: &[f32], bias: f64| -> f64 {
                    let products = (0..3).map(|j| f64::from(weights[3 * k + j]) * of.value(j, features[j]));
                    products.sum::<f64>() + bias
                };
                let difference = score(&own, &weights, bias[k]) - score(&everything, &seen, biases[k]);
                assert!(difference.abs() < 1e-6, "{difference}");
            }
        }
        // Of the column that is constant for the problem nothing can be known.
        let (again, biases) = view.to_own(&seen, &biases);
        for (found, expected) in again.iter().zip([0.3f32, -0.7, 0.0, 0.1, 0.2, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{again:?}");
        }
        assert!(biases.iter().zip(bias).all(|(found, expected)| (found - expected).abs() < 1e-6));
    }
}
