use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;
use crate::head::{HeadKind, Kernel, SolverError, TrainingData, Tuning, fit_head};

/// Noisy features of three classes, with a constant column and one that is larger and far from 0.
fn example() -> (Array2<f32>, Vec<usize>, Vec<String>) {
    let labels: Vec<usize> = (0..900).map(|i| i * i % 7 % 3).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
    let mut noise = || rng.random_range(-2f32..2.0);
    let value = |(i, j): (usize, usize)| match j {
        5 => 3.0,
        6 => 20.0 + 3.0 * noise(),
        _ => noise() + if j % 3 == labels[i] { 0.6 } else { 0.0 },
    };
    let features = Array2::from_shape_fn((900, 20), value);
    (features, labels, ["a", "b", "c"].map(String::from).to_vec())
}

/// Groups of a row each, and names of `count` rows.
fn numbered(count: usize) -> (Vec<usize>, Vec<String>) {
    ((0..count).collect(), (0..count).map(|row| format!("{row}.jpg")).collect())
}

/// Rows to be streamed with 256 MiB.
fn streamed_data<'a>(
    source: &'a dyn RowSource,
    labels: &'a [usize],
    class_names: &'a [String],
    groups: &'a [usize],
    row_names: &'a [String],
) -> StreamedData<'a> {
    StreamedData { source, labels, class_names, groups, row_names, max_memory: 256 << 20 }
}

fn both(settings: &FitSettings) -> (FittedHead, FittedHead) {
    let (features, labels, class_names) = example();
    let groups: Vec<usize> = (0..900).map(|row| if row == 899 { 0 } else { row }).collect();
    let names: Vec<String> = (0..900).map(|row| format!("{row}.jpg")).collect();
    let data = TrainingData {
        features: features.view(),
        labels: &labels,
        class_names: &class_names,
        groups: Some(&groups),
        row_names: Some(&names),
    };
    let in_memory = fit_head(&data, settings).unwrap();
    let view = features.view();
    let streamed = streamed_data(&view, &labels, &class_names, &groups, &names);
    (in_memory, fit_head_streamed(&streamed, settings).unwrap())
}

#[test]
fn the_streamed_fit_reaches_the_optimum_of_the_fit_in_memory_and_says_the_same() {
    for kind in [HeadKind::Svm, HeadKind::Logistic] {
        for (standardize, l2_normalize, class_weights) in [
            (true, true, ClassWeights::Uniform),
            (true, false, ClassWeights::Balanced),
            (false, false, ClassWeights::Uniform),
        ] {
            let tolerance = if standardize { 1e-6 } else { 1e-5 };
            let settings =
                FitSettings { tolerance, standardize, l2_normalize, class_weights, ..FitSettings::new(kind) };
            let (in_memory, streamed) = both(&settings);
            let (a, b) = (&in_memory.model, &streamed.model);
            let (ours, theirs) = (b.preparation.standardizer(), a.preparation.standardizer());
            let ratio = b.convergence.objective / a.convergence.objective;
            assert!((ratio - 1.0).abs() < 2.0 * tolerance, "{kind:?} {standardize}: {ratio}");
            assert_eq!(theirs.constant(), ours.constant());
            for (m, expected) in ours.mean().iter().zip(theirs.mean()) {
                assert!((m - expected).abs() <= 1e-12 * expected.abs().max(1.0));
            }
            for (s, expected) in ours.scale().iter().zip(theirs.scale()) {
                assert!((s / expected - 1.0).abs() < 1e-9);
            }
            assert_eq!(streamed.out_of_fold.folds, in_memory.out_of_fold.folds);
            if standardize {
                let scores = streamed.out_of_fold.scores.iter().zip(&in_memory.out_of_fold.scores);
                let largest = scores.map(|(s, m)| (s - m).abs()).fold(0f64, f64::max);
                assert!(largest < 1e-2, "{kind:?}: {largest}");
                let difference = streamed.evaluation.accuracy.value - in_memory.evaluation.accuracy.value;
                assert!(difference.abs() < 0.003, "{difference}");
            }
        }
    }
}

#[test]
fn what_cannot_be_streamed_is_refused_with_the_reason() {
    let (mut features, labels, class_names) = example();
    features[[700, 3]] = f32::NAN;
    let (groups, names) = numbered(900);
    let view = features.view();
    let data = |max_memory: usize| StreamedData {
        source: &view,
        labels: &labels,
        class_names: &class_names,
        groups: &groups,
        row_names: &names,
        max_memory,
    };
    let svm = FitSettings::new(HeadKind::Svm);
    let refused = |settings: &FitSettings, memory| fit_head_streamed(&data(memory), settings).unwrap_err();
    assert!(matches!(
        refused(&svm, 256 << 20),
        HeadError::NotFinite { row: 700, column: 3, name: Some(name), .. } if name == "700.jpg"
    ));
    assert!(matches!(
        refused(&svm, 1 << 16),
        HeadError::Solver(SolverError::TooLittleMemory { bound: 0, .. })
    ));
    let tuned = FitSettings { tuning: Some(Tuning::auto()), ..svm.clone() };
    assert!(matches!(refused(&tuned, 256 << 20), HeadError::NotStreamed { what: "the choice of C", .. }));
    let ridge = FitSettings { class_weights: ClassWeights::Balanced, ..FitSettings::new(HeadKind::Ridge) };
    assert!(matches!(refused(&ridge, 256 << 20), HeadError::NotStreamed { bound: 256, .. }));
    let kernel = FitSettings { kernel: Kernel::Rbf { gamma: None }, ..svm };
    assert!(matches!(refused(&kernel, 256 << 20), HeadError::NotStreamed { what: "a kernel SVM", .. }));
}

#[test]
fn streamed_ridge_regression_is_that_in_memory() {
    for (standardize, c) in [(true, None), (true, Some(0.01)), (false, None)] {
        let settings = FitSettings { standardize, c, ..FitSettings::new(HeadKind::Ridge) };
        let (in_memory, streamed) = both(&settings);
        let (a, b) = (&in_memory.model, &streamed.model);
        assert!((b.convergence.objective / a.convergence.objective - 1.0).abs() < 1e-6);
        for (found, expected) in b.weights.iter().zip(&a.weights) {
            assert!((found - expected).abs() < 1e-5, "{standardize} {c:?}: {found} {expected}");
        }
        let scores = streamed.out_of_fold.scores.iter().zip(&in_memory.out_of_fold.scores);
        let largest = scores.map(|(s, m)| (s - m).abs()).fold(0f64, f64::max);
        assert!(largest < 1e-4, "{standardize} {c:?}: {largest}");
        assert_eq!(streamed.evaluation.confusion, in_memory.evaluation.confusion);
    }
}

#[test]
fn a_fold_that_holds_all_of_a_class_says_nothing_of_it() {
    let (features, labels, class_names) = example();
    let groups: Vec<usize> = (0..900).map(|row| if labels[row] == 1 { 5000 } else { row }).collect();
    let names: Vec<String> = (0..900).map(|row| format!("{row}.jpg")).collect();
    let view = features.view();
    let data = streamed_data(&view, &labels, &class_names, &groups, &names);
    let fitted = fit_head_streamed(&data, &FitSettings::new(HeadKind::Ridge)).unwrap();
    assert_eq!(fitted.evaluation.per_class[1].recall, 0.0);
    let all = labels.iter().enumerate().filter(|&(_, &label)| label == 1);
    for (row, _) in all {
        assert_eq!(fitted.out_of_fold.scores[[row, 1]], -30.0);
    }
}

#[test]
fn heads_of_folds_forget_the_final_head_that_they_start_from() {
    // Labels without a pattern, and as many features as let the final head know nearly all of them by heart.
    let labels: Vec<usize> = (0..300).map(|i| i % 2).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
    let features = Array2::from_shape_fn((300, 150), |_| rng.random_range(-1f32..1.0));
    let class_names = ["a", "b"].map(String::from);
    let (groups, names) = numbered(300);
    let view = features.view();
    let data = streamed_data(&view, &labels, &class_names, &groups, &names);
    for kind in [HeadKind::Svm, HeadKind::Logistic] {
        // So coarse that the final head itself would do for the folds.
        let streamed = |tolerance| {
            let settings = FitSettings { tolerance, c: Some(10.0), ..FitSettings::new(kind) };
            fit_head_streamed(&data, &settings).unwrap()
        };
        let (coarse, fine) = (streamed(0.99), streamed(1e-5));
        let pairs = || coarse.out_of_fold.scores.iter().zip(&fine.out_of_fold.scores);
        let largest = pairs().map(|(_, fine)| fine.abs()).fold(0f64, f64::max);
        let difference = pairs().map(|(coarse, fine)| (coarse - fine).abs()).fold(0f64, f64::max);
        assert!(difference < 0.05 * largest, "{kind:?}: {difference} of {largest}");
        assert!(fine.evaluation.accuracy.value < 0.65, "{:?}", fine.evaluation.accuracy);
    }
}

#[test]
fn heads_on_the_components_of_streamed_features_are_those_in_memory() {
    let (features, labels, class_names) = example();
    let (groups, names) = numbered(900);
    let data = TrainingData {
        features: features.view(),
        labels: &labels,
        class_names: &class_names,
        groups: Some(&groups),
        row_names: Some(&names),
    };
    let view = features.view();
    let rbf = Kernel::Rbf { gamma: None };
    for settings in [
        FitSettings::new(HeadKind::Svm),
        FitSettings { l2_normalize: true, ..FitSettings::new(HeadKind::Logistic) },
        FitSettings { standardize: false, ..FitSettings::new(HeadKind::Ridge) },
        FitSettings { tuning: Some(Tuning::new(vec![0.01, 1.0])), ..FitSettings::new(HeadKind::Logistic) },
        FitSettings { class_weights: ClassWeights::Balanced, ..FitSettings::new(HeadKind::Ridge) },
        FitSettings { kernel: rbf, loss: crate::head::Loss::Hinge, ..FitSettings::new(HeadKind::Svm) },
    ] {
        let settings = FitSettings { pca: Some(7), ..settings };
        let in_memory = fit_head(&data, &settings).unwrap();
        let streamed = streamed_data(&view, &labels, &class_names, &groups, &names);
        let streamed = fit_head_streamed(&streamed, &settings).unwrap();
        let pairs = in_memory.out_of_fold.scores.iter().zip(&streamed.out_of_fold.scores);
        let largest =
            in_memory.out_of_fold.scores.iter().fold(0f64, |largest, score| largest.max(score.abs()));
        for (expected, found) in pairs {
            assert!((expected - found).abs() < 1e-4 * largest, "{settings:?}: {expected} {found}");
        }
        for (expected, found) in in_memory.model.weights.iter().zip(&streamed.model.weights) {
            assert!((expected - found).abs() < 1e-4, "{settings:?}: {expected} {found}");
        }
        assert_eq!(in_memory.evaluation.confusion, streamed.evaluation.confusion);
        // A column that is the same for all images is no longer after the rows were divided by their lengths.
        if !settings.l2_normalize {
            assert_eq!(in_memory.evaluation.notes, streamed.evaluation.notes);
        }
        assert_eq!(in_memory.choices, streamed.choices);
        // What tells unknown images is learned from all rows, as in memory.
        let novelty = Novelty::fit(&view, &groups, settings.seed).unwrap();
        assert_eq!(streamed.model.novelty, novelty);
    }
}
