use super::*;
use crate::PreparationSteps;

/// Rows of 24 columns that are scattered along a few directions, with a constant column and one that is far from 0.
fn features() -> Array2<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
    let mut noise = || rng.random_range(-1f32..1.0);
    let directions = Array2::from_shape_fn((6, 24), |_| noise());
    let hidden = Array2::from_shape_fn((400, 6), |(_, j)| noise() * (6 - j) as f32);
    let mut features = hidden.dot(&directions) + Array2::from_shape_fn((400, 24), |_| 0.1 * noise());
    features.column_mut(5).fill(3.0);
    features.column_mut(6).mapv_inplace(|x| 200.0 + x);
    features
}

fn settings(l2_normalize: bool, standardize: bool, components: usize) -> ProjectionSettings {
    ProjectionSettings {
        l2_normalize,
        standardize,
        components,
        seed: 3,
        max_memory: 64 << 20,
        kept_of_row: 0,
    }
}

/// The rows of three folds, of which the first two are of different sizes.
fn folds() -> Vec<usize> {
    (0..400).map(|row| if row % 7 == 0 { 1 } else { row % 2 * 2 }).collect()
}

#[test]
fn components_of_streamed_rows_are_those_of_the_rows_in_memory_for_every_fold() {
    let (features, folds) = (features(), folds());
    let (view, labels) = (features.view(), vec![0; 400]);
    let rows = StreamedRows { source: &view, labels: &labels, classes: 1, folds: &folds, fold_count: 3 };
    for (l2_normalize, standardize) in [(false, true), (true, true), (false, false)] {
        let settings = settings(l2_normalize, standardize, 4);
        for (block, exact, within) in [(400, true, 1e-6), (37, true, 1e-6), (64, false, 1e-6)] {
            let plan = ProjectionPlan { block, exact };
            let streamed = StreamedProjection::with_plan(rows, &settings, &plan).unwrap();
            // Divided by the rows' lengths, no column is constant.
            let constant = usize::from(!l2_normalize);
            assert_eq!((streamed.constant_columns(), streamed.is_exact()), (constant, true));
            for fold in [Some(0), Some(1), Some(2), None] {
                let training: Vec<usize> = (0..400).filter(|&row| Some(folds[row]) != fold).collect();
                let steps = PreparationSteps { l2_normalize, standardize, pca: Some(4) };
                let expected = Preparation::fit(view, &training, steps).unwrap();
                let found = streamed.preparation(fold);
                let (mine, theirs) = (found.pca().unwrap(), expected.pca().unwrap());
                for (variance, expected) in mine.variances().iter().zip(theirs.variances()) {
                    assert!(
                        (variance / expected - 1.0).abs() < within,
                        "{exact} {fold:?}: {variance} {expected}"
                    );
                }
                assert!((mine.total_variance() / theirs.total_variance() - 1.0).abs() < 1e-9);
                // Signs as well.
                for (value, expected) in mine.components().iter().zip(theirs.components()) {
                    assert!((value - expected).abs() < 2e-6, "{exact} {fold:?}: {value} {expected}");
                }
                let mut prepared = Array2::zeros((400, 4));
                streamed.prepare(fold, &mut prepared).unwrap();
                let expected = expected.transform(view);
                let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                for (value, expected) in prepared.iter().zip(&expected) {
                    assert!(
                        (value - expected).abs() < 4e-6 * largest,
                        "{exact} {fold:?}: {value} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn components_that_cannot_be_and_memory_that_is_not_enough_are_refused() {
    let (features, folds) = (features(), folds());
    let (view, labels) = (features.view(), vec![0; 400]);
    let rows = StreamedRows { source: &view, labels: &labels, classes: 1, folds: &folds, fold_count: 3 };
    let refused = |settings: &ProjectionSettings| StreamedProjection::new(rows, settings).err().unwrap();
    assert!(matches!(refused(&settings(false, true, 25)), SolverError::TooManyComponents { most: 24, .. }));
    assert!(matches!(refused(&settings(false, true, 0)), SolverError::TooManyComponents { .. }));
    let little = ProjectionSettings { max_memory: 1 << 12, ..settings(false, true, 4) };
    assert!(matches!(refused(&little), SolverError::TooLittleMemory { needed: 1, bound: 0 }));
    // 24 columns are few, and 4 components with what is followed beside them nearly as many.
    assert!(ProjectionPlan::new(&rows, &settings(false, true, 4)).unwrap().exact);
}
