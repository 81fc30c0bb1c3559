//! Class weights: how much a mistake on each class counts.

use serde::{Deserialize, Serialize};

use super::{SolverError, weighted_rows::WeightedRows};

/// How much the losses of each class's rows count; multiplies C.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// Every row counts once, so larger classes count more.
    #[default]
    Uniform,
    /// Every class counts the same: a row of a class with m of n rows, among K classes, counts n / (K m), as scikit-learn's
    /// `class_weight="balanced"` has it.
    Balanced,
    /// The weight of each class, in the order of the class names.
    Given(Vec<f64>),
}

impl ClassWeights {
    /// Refuses weights that do not fit the classes.
    ///
    /// # Errors
    /// [`SolverError::Mismatch`] or [`SolverError::Setting`] when weights are given that are not one positive number a class.
    pub fn check(&self, classes: usize) -> Result<(), SolverError> {
        let Self::Given(weights) = self else { return Ok(()) };
        SolverError::check_equal("class weights", classes, weights.len())?;
        weights.iter().try_for_each(|&weight| SolverError::check_positive("the weight of a class", weight))
    }

    /// Multiplies the weights of the set's rows; `class_of` turns its labels into indices of the class names.
    pub(super) fn apply(&self, set: &mut WeightedRows<'_>, class_of: impl Fn(usize) -> usize) {
        let factors: Vec<f64> = match self {
            Self::Uniform => return,
            Self::Balanced => {
                let mut sizes = vec![0usize; set.classes];
                set.labels.iter().for_each(|&label| sizes[label] += 1);
                let share = set.labels.len() as f64 / set.classes as f64;
                sizes.into_iter().map(|size| share / size.max(1) as f64).collect()
            }
            Self::Given(weights) => (0..set.classes).map(|label| weights[class_of(label)]).collect(),
        };
        set.weights.iter_mut().zip(&set.labels).for_each(|(weight, &label)| *weight *= factors[label]);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn balanced_weights_give_each_class_the_same_sum() {
        let features = Array2::zeros((6, 1));
        let mut set = WeightedRows::select(&features, &[0, 0, 0, 0, 1, 1], &[0, 1, 2, 3, 4, 5], 2);
        ClassWeights::Balanced.apply(&mut set, |label| label);
        assert_eq!(set.weights, [0.75, 0.75, 0.75, 0.75, 1.5, 1.5]);
    }

    #[test]
    fn given_weights_follow_the_class_names_where_a_class_is_missing() {
        let features = Array2::zeros((2, 1));
        let mut set = WeightedRows::select(&features, &[0, 1], &[0, 1], 2);
        ClassWeights::Given(vec![2.0, 3.0, 5.0]).apply(&mut set, |label| [0, 2][label]);
        assert_eq!(set.weights, [2.0, 5.0]);
    }

    #[test]
    fn weights_that_do_not_fit_the_classes_are_refused() {
        assert!(ClassWeights::Given(vec![1.0]).check(2).is_err());
        assert!(ClassWeights::Given(vec![1.0, 0.0]).check(2).is_err());
        assert!(ClassWeights::Given(vec![1.0, 9.0]).check(2).is_ok());
    }
}
