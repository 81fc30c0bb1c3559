//! Heads of every kind on the features of one layer, cross-validated so that they can be compared, and chosen from, without
//! a held-out image having had a say.

use std::time::Instant;

use rayon::prelude::*;

use super::{CandidateFeatures, CandidateHead, InnerValidation};
use crate::evaluate::Uncertainty;
use crate::head::{FitSettings, FittedHead, HeadError, HeadKind, Subset, TrainingData, Tuning, fit_head};

/// Values of C that heads are tried with: factors of 100, since accuracy depends little on C, and a sweep fits many heads.
pub const GRID: [f64; 3] = [1e-4, 1e-2, 1.0];

/// What is tried on the features of each layer.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSpace {
    /// Kinds of head.
    pub kinds: Vec<HeadKind>,
    /// Values of C to choose from, and the folds to choose by. Ridge regression chooses its penalty by leave-one-out, and
    /// takes only the folds from here.
    pub tuning: Tuning,
    /// Folds of the outer cross-validation, which measures.
    pub folds: usize,
    /// Seed of all folds.
    pub seed: u64,
}

impl Default for SearchSpace {
    /// Every kind, C from [`GRID`], 5 folds, seed 0.
    fn default() -> Self {
        Self {
            kinds: vec![HeadKind::Svm, HeadKind::Logistic, HeadKind::Ridge],
            tuning: Tuning::new(GRID.to_vec()),
            folds: 5,
            seed: 0,
        }
    }
}

impl SearchSpace {
    /// How a head of `kind` is fitted.
    pub fn settings(&self, kind: HeadKind) -> FitSettings {
        FitSettings {
            tuning: (kind != HeadKind::Ridge).then(|| self.tuning.clone()),
            folds: self.folds,
            seed: self.seed,
            ..FitSettings::new(kind)
        }
    }
}

/// A kind of head on the features of a layer, and how it did on each image.
#[derive(Debug, Clone)]
pub struct HeadTrial {
    /// What was tried.
    pub candidate: CandidateHead,
    /// Whether each image was classified rightly by a head that had seen neither it nor a duplicate of it.
    pub right: Vec<bool>,
    /// The fold that each image was held out in; the same for all trials on the same images, groups and seed.
    pub folds: Vec<usize>,
    /// How far shares of these images may be from the truth.
    pub uncertainty: Uncertainty,
    /// The head's notes.
    pub notes: Vec<crate::evaluate::Note>,
}

/// Tries every kind of head on the features of a layer, which `features` describes.
///
/// For each fold and each kind, C is chosen by cross-validation among the fold's training images; how many mistakes the
/// choice made there is kept in [`CandidateHead::inner`], so that layers and kinds can be chosen by it as well.
///
/// # Errors
/// As [`fit_head`].
pub fn try_heads(
    data: &TrainingData<'_>,
    features: &CandidateFeatures,
    trying: &SearchSpace,
) -> Result<Vec<HeadTrial>, HeadError> {
    trying.kinds.par_iter().map(|&kind| try_head(data, features, kind, trying)).collect()
}

fn try_head(
    data: &TrainingData<'_>,
    features: &CandidateFeatures,
    kind: HeadKind,
    trying: &SearchSpace,
) -> Result<HeadTrial, HeadError> {
    let start = Instant::now();
    let settings = trying.settings(kind);
    let FittedHead { model, evaluation, out_of_fold, choices } = fit_head(data, &settings)?;
    let inner = if kind == HeadKind::Ridge {
        let of_fold = |fold| ridge_within(data, &out_of_fold.folds, fold, &settings, trying);
        (0..evaluation.folds).map(of_fold).collect::<Result<_, _>>()?
    } else {
        choices
            .iter()
            .map(|choice| InnerValidation { mistakes: choice.mistakes, rows: choice.rows })
            .collect()
    };
    let predicted = out_of_fold.answers();
    let right = predicted.iter().zip(data.labels).map(|(predicted, label)| predicted == label).collect();
    Ok(HeadTrial {
        candidate: CandidateHead {
            features: features.clone(),
            kind,
            c: model.settings.c,
            accuracy: evaluation.accuracy,
            fold_accuracies: evaluation.fold_accuracies,
            log_loss: evaluation.log_loss,
            inner,
            seconds: start.elapsed().as_secs_f64(),
        },
        right,
        uncertainty: data.uncertainty(evaluation.folds),
        folds: out_of_fold.folds,
        notes: evaluation.notes,
    })
}

/// How ridge regression does within the training images of a fold, by folds of these alone. Classes that have fewer than
/// two images there cannot be told apart by it; their images count as mistakes.
fn ridge_within(
    data: &TrainingData<'_>,
    folds: &[usize],
    fold: usize,
    settings: &FitSettings,
    trying: &SearchSpace,
) -> Result<InnerValidation, HeadError> {
    let training: Vec<usize> = (0..folds.len()).filter(|&row| folds[row] != fold).collect();
    let Some(subset) = Subset::of(data, &training) else {
        return Ok(InnerValidation { mistakes: training.len(), rows: training.len() });
    };
    let settings = FitSettings { folds: trying.tuning.folds, ..settings.clone() };
    let accuracy = fit_head(&subset.data(), &settings)?.evaluation.accuracy;
    Ok(InnerValidation { mistakes: training.len() - accuracy.successes, rows: training.len() })
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::network::Pooling;

    const ROWS: usize = 60;

    fn candidate_features() -> CandidateFeatures {
        CandidateFeatures {
            network: 0,
            layer: "fc7".to_owned(),
            tensor: "fc7".to_owned(),
            pooling: Pooling::None,
            default_pooling: Pooling::None,
            name: "fc7".to_owned(),
            shape: vec![12],
            width: 12,
            multiply_adds: 1,
            share: 1.0,
            milliseconds: None,
            top: true,
        }
    }

    fn trying() -> SearchSpace {
        SearchSpace {
            kinds: vec![HeadKind::Svm, HeadKind::Logistic, HeadKind::Ridge],
            tuning: Tuning::new(vec![1e-3, 0.1, 10.0]),
            folds: 3,
            seed: 4,
        }
    }

    /// Three classes whose features overlap.
    fn drawn(seed: u64) -> Array2<f32> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Array2::from_shape_fn((ROWS, 12), |(row, column)| {
            let own = f32::from(u8::from(column % 3 == row % 3));
            0.8 * own + rng.random_range(-1.0..1.0_f32)
        })
    }

    fn tried(features: &Array2<f32>) -> Vec<HeadTrial> {
        let labels: Vec<usize> = (0..ROWS).map(|row| row % 3).collect();
        let class_names: Vec<String> = (0..3).map(|class| class.to_string()).collect();
        let data = TrainingData {
            features: features.view(),
            labels: &labels,
            class_names: &class_names,
            groups: None,
            row_names: None,
        };
        try_heads(&data, &candidate_features(), &trying()).unwrap()
    }

    #[test]
    fn every_kind_is_tried_on_the_same_folds_and_reported_as_fit_head_would() {
        let first = drawn(1);
        let trials = tried(&first);
        assert_eq!(trials.iter().map(|trial| trial.candidate.kind).collect::<Vec<_>>(), trying().kinds);
        for trial in &trials {
            assert_eq!(trial.folds, trials[0].folds);
            let accuracy = trial.candidate.accuracy;
            assert_eq!(trial.right.iter().filter(|&&right| right).count(), accuracy.successes);
            assert!(accuracy.value > 0.5, "{accuracy:?}");
            for fold in 0..3 {
                let of_fold = |row: &usize| trial.folds[*row] == fold;
                let rows: Vec<usize> = (0..ROWS).filter(of_fold).collect();
                let right = rows.iter().filter(|&&row| trial.right[row]).count() as f64;
                assert_eq!(trial.candidate.fold_accuracies[fold], right / rows.len() as f64);
                assert_eq!(trial.candidate.inner[fold].rows, ROWS - rows.len());
            }
            let tuned = trial.candidate.c.is_some();
            assert_eq!(tuned, trial.candidate.kind != HeadKind::Ridge);
        }
    }

    #[test]
    fn held_out_images_have_no_say_in_what_is_known_inside_their_fold() {
        let before = tried(&drawn(1));
        let mut changed = drawn(1);
        let other = drawn(2);
        for row in (0..ROWS).filter(|&row| before[0].folds[row] == 1) {
            changed.row_mut(row).assign(&(&other.row(row) * 100.0));
        }
        let after = tried(&changed);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.candidate.inner[1], after.candidate.inner[1], "{:?}", before.candidate.kind);
            assert_ne!(before.candidate.inner[0], after.candidate.inner[0], "{:?}", before.candidate.kind);
        }
    }

    #[test]
    fn ridge_regression_passes_over_classes_that_it_cannot_see_within_a_fold() {
        // The third class has two images, one in each of two folds: within them only one is left.
        let labels: Vec<usize> = (0..22).map(|row| if row < 20 { row % 2 } else { 2 }).collect();
        let class_names: Vec<String> = (0..3).map(|class| class.to_string()).collect();
        let features = Array2::from_shape_fn((22, 4), |(row, column)| {
            f32::from(u8::from(labels[row] == column)) + 0.01 * (row * 7 % 5) as f32
        });
        let data = TrainingData {
            features: features.view(),
            labels: &labels,
            class_names: &class_names,
            groups: None,
            row_names: None,
        };
        let trying = SearchSpace { kinds: vec![HeadKind::Ridge], folds: 2, ..trying() };
        let trials = try_heads(&data, &candidate_features(), &trying).unwrap();
        assert_eq!(trials[0].candidate.inner, [InnerValidation { mistakes: 1, rows: 11 }; 2]);
    }
}
