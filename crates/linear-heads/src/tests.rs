//! The solvers against scikit-learn's optimum (scripts/reference/make_head_reference.py, scripts/reference/make_ridge_reference.py), and
//! properties that hold for all of them.

use linfa::{
    Dataset,
    traits::{Fit, Predict},
};
use ndarray::{Array1, Array2};
use proptest::prelude::*;
use serde::Deserialize;

use super::{LinearModel, LogisticParams, RidgeParams, SolverError, Standardizer, SvmParams};

#[derive(Deserialize)]
struct Reference {
    three_classes: Problem,
    two_classes: Problem,
}

#[derive(Deserialize)]
struct Problem {
    classes: usize,
    columns: usize,
    #[serde(rename = "codes")]
    features: Vec<f32>,
    labels: Vec<usize>,
    exponents: Vec<i32>,
    svm: Vec<Optimum>,
    logistic: Vec<Optimum>,
    logistic_ill_scaled: Vec<Optimum>,
}

#[derive(Deserialize)]
struct Optimum {
    c: f64,
    objective: f64,
    weights: Vec<Vec<f64>>,
    predictions: Vec<usize>,
    #[serde(default)]
    probabilities: Vec<Vec<f64>>,
}

fn reference() -> [Problem; 2] {
    let json = include_str!("../tests/reference/head.json");
    let Reference { three_classes, two_classes } = serde_json::from_str(json).unwrap();
    [three_classes, two_classes]
}

impl Problem {
    fn features(&self) -> Array2<f32> {
        Array2::from_shape_vec((self.labels.len(), self.columns), self.features.clone()).unwrap()
    }

    fn ill_scaled(&self) -> Array2<f32> {
        let mut features = self.features();
        for (mut column, &exponent) in features.columns_mut().into_iter().zip(&self.exponents) {
            column *= 2f32.powi(exponent);
        }
        features
    }

    fn dataset(&self, features: Array2<f32>) -> Dataset<f32, usize, ndarray::Ix1> {
        Dataset::new(features, Array1::from(self.labels.clone()))
    }

    /// The reference weights of two classes are those of the second; of more, one row a class.
    fn check_weights(&self, model: &LinearModel, optimum: &Optimum, tolerance: f64) {
        let scale = optimum.weights.iter().flatten().fold(0f64, |m, w| m.max(w.abs()));
        for (k, expected) in optimum.weights.iter().enumerate() {
            let found = if self.classes == 2 { model.weights.row(1) } else { model.weights.row(k) };
            for (w, e) in found.iter().zip(expected) {
                assert!((f64::from(*w) - e).abs() < tolerance * scale, "weight {w} instead of {e}");
            }
        }
    }
}

/// `exp f_k / Σ exp f` of each row.
fn softmax(mut scores: Array2<f64>) -> Array2<f64> {
    for mut row in scores.rows_mut() {
        let highest = row.fold(f64::NEG_INFINITY, |highest, &f| highest.max(f));
        row.mapv_inplace(|f| (f - highest).exp());
        row /= row.sum();
    }
    scores
}

fn predictions(model: &LinearModel, features: &Array2<f32>) -> Vec<usize> {
    let classes: Array1<usize> = model.predict(features);
    classes.to_vec()
}

fn assert_same_objective(model: &LinearModel, expected: f64) {
    let found = model.convergence.objective;
    assert!(((found - expected) / expected).abs() < 1e-6, "objective {found} instead of {expected}");
}

#[test]
fn the_svm_reaches_the_optimum_of_scikit_learn() {
    for problem in reference() {
        let features = problem.features();
        for optimum in &problem.svm {
            let params = SvmParams::new().c(optimum.c).tolerance(1e-7).max_passes(200_000);
            let model = params.fit(&problem.dataset(features.clone())).unwrap();
            assert!(model.convergence.converged, "{:?}", model.convergence);
            assert_same_objective(&model, optimum.objective);
            assert_eq!(predictions(&model, &features), optimum.predictions);
            problem.check_weights(&model, optimum, 2e-3);
        }
    }
}

#[test]
fn the_default_tolerance_comes_within_a_ten_thousandth() {
    for problem in reference() {
        for optimum in &problem.svm {
            let model = SvmParams::new().c(optimum.c).fit(&problem.dataset(problem.features())).unwrap();
            assert!(model.convergence.criterion <= 1e-4);
            let excess = model.convergence.objective / optimum.objective - 1.0;
            assert!((-1e-6..1e-4).contains(&excess), "{excess}");
        }
        for optimum in &problem.logistic {
            let model = LogisticParams::new().c(optimum.c).fit(&problem.dataset(problem.features())).unwrap();
            let excess = model.convergence.objective / optimum.objective - 1.0;
            assert!((-1e-6..1e-4).contains(&excess), "{excess}");
        }
    }
}

#[test]
fn logistic_regression_reaches_the_optimum_of_scikit_learn() {
    for problem in reference() {
        let features = problem.features();
        for optimum in &problem.logistic {
            // More than float32 can always prove, so that it goes as far as it can.
            let params = LogisticParams::new().c(optimum.c).tolerance(1e-7);
            let model = params.fit(&problem.dataset(features.clone())).unwrap();
            assert_same_objective(&model, optimum.objective);
            assert_eq!(predictions(&model, &features), optimum.predictions);
            if problem.classes > 2 {
                problem.check_weights(&model, optimum, 5e-3);
            }
            let probabilities = softmax(model.scores(features.view()));
            for (row, expected) in probabilities.rows().into_iter().zip(&optimum.probabilities) {
                for (p, e) in row.iter().zip(expected) {
                    assert!((p - e).abs() < 5e-4, "probability {p} instead of {e}");
                }
            }
        }
    }
}

#[test]
fn logistic_regression_copes_with_columns_of_very_different_size() {
    for problem in reference() {
        let features = problem.ill_scaled();
        for optimum in &problem.logistic_ill_scaled {
            let model = LogisticParams::new().c(optimum.c).fit(&problem.dataset(features.clone())).unwrap();
            // float32 cannot prove it with columns of this size, and says so, but the optimum it is.
            assert!(model.convergence.converged || model.convergence.message.is_some());
            let ratio = model.convergence.objective / optimum.objective;
            assert!((ratio - 1.0).abs() < 1e-6, "{ratio}");
            assert_eq!(predictions(&model, &features), optimum.predictions);
        }
    }
}

#[derive(Deserialize)]
struct Ridges {
    three_classes: Ridge,
    two_classes: Ridge,
}

#[derive(Deserialize)]
struct Ridge {
    alphas: Vec<f64>,
    alpha: f64,
    errors: Vec<f64>,
    weights: Vec<Vec<f64>>,
    intercepts: Vec<f64>,
    predictions: Vec<usize>,
    weighted: WeightedRidge,
}

#[derive(Deserialize)]
struct WeightedRidge {
    weights: Vec<Vec<f64>>,
    intercepts: Vec<f64>,
}

#[test]
fn ridge_regression_finds_what_scikit_learn_finds() {
    let json = include_str!("../tests/reference/ridge.json");
    let Ridges { three_classes, two_classes } = serde_json::from_str(json).unwrap();
    for (problem, expected) in reference().iter().zip([three_classes, two_classes]) {
        let params = RidgeParams::new().alphas(expected.alphas);
        let model = params.fit(&problem.dataset(problem.features())).unwrap();
        assert_eq!(model.alpha, expected.alpha);
        for (error, expected) in model.errors.iter().zip(&expected.errors) {
            assert!((error / expected - 1.0).abs() < 1e-6, "{error} instead of {expected}");
        }
        for (k, (weights, intercept)) in expected.weights.iter().zip(&expected.intercepts).enumerate() {
            let class = if problem.classes == 2 { 1 } else { k };
            for (w, e) in model.linear.weights.row(class).iter().zip(weights) {
                assert!((f64::from(*w) - e).abs() < 1e-6, "weight {w} instead of {e}");
            }
            assert!((model.linear.bias[class] - intercept).abs() < 1e-6);
        }
        assert_eq!(predictions(&model.linear, &problem.features()), expected.predictions);
    }
}

#[test]
fn ridge_regression_weighs_rows_as_scikit_learn_does() {
    let json = include_str!("../tests/reference/ridge.json");
    let Ridges { three_classes, two_classes } = serde_json::from_str(json).unwrap();
    for (problem, Ridge { weighted, .. }) in reference().iter().zip([three_classes, two_classes]) {
        let weights = (0..problem.labels.len()).map(|row| if row < 30 { 2.5 } else { 1.0 }).collect();
        let dataset = problem.dataset(problem.features()).with_weights(weights);
        let model = RidgeParams::new().alphas(vec![3.0]).fit(&dataset).unwrap().linear;
        for (k, (weights, intercept)) in weighted.weights.iter().zip(&weighted.intercepts).enumerate() {
            let class = if problem.classes == 2 { 1 } else { k };
            for (w, e) in model.weights.row(class).iter().zip(weights) {
                assert!((f64::from(*w) - e).abs() < 1e-6, "weight {w} instead of {e}");
            }
            assert!((model.bias[class] - intercept).abs() < 1e-6);
        }
    }
}

#[test]
fn two_classes_have_mirrored_scores() {
    let [_, problem] = reference();
    let dataset = problem.dataset(problem.features());
    for model in [SvmParams::new().fit(&dataset).unwrap(), LogisticParams::new().fit(&dataset).unwrap()] {
        for row in model.scores(problem.features().view()).rows() {
            assert!((row[0] + row[1]).abs() < 1e-4 * (1.0 + row[0].abs()), "{row}");
        }
    }
}

#[test]
fn an_iteration_limit_that_is_hit_is_reported() {
    let [problem, _] = reference();
    let dataset = problem.dataset(problem.features());
    let svm = SvmParams::new().c(100.0).max_passes(2).fit(&dataset).unwrap().convergence;
    assert!(!svm.converged && svm.iterations == 2 && svm.criterion > 1e-4);
    let message = svm.message.unwrap();
    assert!(message.contains("limit of 2 passes in 3 of 3 problems"), "{message}");
    let logistic = LogisticParams::new().c(100.0).max_iterations(3).fit(&dataset).unwrap().convergence;
    assert!(!logistic.converged && logistic.iterations == 3 && logistic.criterion > 1e-4);
    assert!(logistic.message.unwrap().contains("limit of 3 iterations"));
}

#[test]
fn a_row_of_weight_two_counts_as_two_rows() {
    let [problem, _] = reference();
    let (features, labels) = (problem.features(), &problem.labels);
    let rows: Vec<usize> = (0..labels.len()).chain(0..10).collect();
    let doubled =
        Dataset::new(features.select(ndarray::Axis(0), &rows), rows.iter().map(|&row| labels[row]).collect());
    let weights = (0..labels.len()).map(|row| if row < 10 { 2.0 } else { 1.0 }).collect();
    let weighted = problem.dataset(features).with_weights(weights);
    let svm = SvmParams::new().c(0.1).tolerance(1e-6);
    let logistic = LogisticParams::new().tolerance(1e-6);
    let pairs = [
        (svm.fit(&doubled).unwrap(), svm.fit(&weighted).unwrap()),
        (logistic.fit(&doubled).unwrap(), logistic.fit(&weighted).unwrap()),
    ];
    for (twice, weighted) in pairs {
        let (twice, weighted) = (twice.convergence.objective, weighted.convergence.objective);
        assert!((twice / weighted - 1.0).abs() < 2e-6, "{twice} {weighted}");
    }
}

#[test]
fn unusable_settings_and_data_are_refused_before_fitting() {
    let [problem, _] = reference();
    let dataset = problem.dataset(problem.features());
    for c in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(SvmParams::new().c(c).fit(&dataset), Err(SolverError::Setting { name: "C", .. })));
        assert!(matches!(
            LogisticParams::new().c(c).fit(&dataset),
            Err(SolverError::Setting { name: "C", .. })
        ));
    }
    assert!(matches!(SvmParams::new().tolerance(1e-12).fit(&dataset), Err(SolverError::Setting { .. })));
    assert!(matches!(
        LogisticParams::new().max_iterations(0).fit(&dataset),
        Err(SolverError::Setting { .. })
    ));

    let mut broken = problem.features();
    broken[[7, 2]] = f32::NAN;
    let refused = SvmParams::new().fit(&problem.dataset(broken));
    assert!(matches!(refused, Err(SolverError::NotFinite { row: 7, column: 2, .. })));
    let one_class = Dataset::new(problem.features(), Array1::from_elem(problem.labels.len(), 1));
    assert!(matches!(LogisticParams::new().fit(&one_class), Err(SolverError::OneClass { .. })));
    let negative =
        problem.dataset(problem.features()).with_weights(Array1::from_elem(problem.labels.len(), -1.0));
    assert!(matches!(SvmParams::new().fit(&negative), Err(SolverError::Setting { .. })));
}

/// Predictions of every kind of linear head, fitted on standardised features of weighted rows, for `asked` features.
fn weighted_predictions(
    features: &Array2<f32>,
    labels: &[usize],
    weights: &[f32],
    asked: &Array2<f32>,
) -> [Vec<usize>; 3] {
    // Each row of half weight stands twice, so the mean and deviation of all rows are what they were.
    let rows: Vec<usize> =
        (0..labels.len()).flat_map(|row| vec![row; (2.0 * weights[row]) as usize]).collect();
    let scaler = Standardizer::fit(features.view(), &rows);
    let dataset = Dataset::new(scaler.transform(features.view()), Array1::from(labels.to_vec()))
        .with_weights(Array1::from(weights.to_vec()));
    let svm = SvmParams::new().tolerance(1e-6).max_passes(100_000).fit(&dataset).unwrap();
    let logistic = LogisticParams::new().c(0.01).tolerance(1e-6).fit(&dataset).unwrap();
    let ridge = RidgeParams::new().alphas(vec![10.0]).fit(&dataset).unwrap().linear;
    let asked = scaler.transform(asked.view());
    [&svm, &logistic, &ridge].map(|model| predictions(model, &asked))
}

fn standardized_predictions(features: &Array2<f32>, labels: &[usize]) -> [Vec<usize>; 3] {
    weighted_predictions(features, labels, &vec![1.0; labels.len()], features)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn scale_and_constant_columns_change_no_prediction(
        factor in prop::sample::select(vec![1e-6f32, 0.3, 1.0, 1e6]),
        constants in prop::collection::vec(-1e6f32..1e6, 0..4),
    ) {
        let [problem, _] = reference();
        let features = problem.features();
        let mut wide = Array2::zeros((features.nrows(), features.ncols() + constants.len()));
        wide.slice_mut(ndarray::s![.., constants.len()..]).assign(&(&features * factor));
        for (j, &constant) in constants.iter().enumerate() {
            wide.column_mut(j).fill(constant);
        }
        prop_assert_eq!(
            standardized_predictions(&wide, &problem.labels),
            standardized_predictions(&features, &problem.labels)
        );
    }

    #[test]
    fn the_order_of_rows_and_classes_changes_no_prediction(seed in any::<u64>(), shift in 0usize..3) {
        use rand::{SeedableRng, seq::SliceRandom};
        let [problem, _] = reference();
        let mut order: Vec<usize> = (0..problem.labels.len()).collect();
        order.shuffle(&mut rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed));
        let features = problem.features().select(ndarray::Axis(0), &order);
        let labels: Vec<usize> = order.iter().map(|&row| (problem.labels[row] + shift) % 3).collect();
        let found = standardized_predictions(&features, &labels);
        let expected = standardized_predictions(&problem.features(), &problem.labels)
            .map(|classes| order.iter().map(|&row| (classes[row] + shift) % 3).collect::<Vec<_>>());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn rows_that_stand_twice_with_half_the_weight_change_no_prediction(
        twice in prop::collection::vec(any::<bool>(), 120),
        seed in any::<u64>(),
    ) {
        use rand::{SeedableRng, seq::SliceRandom};
        let [problem, _] = reference();
        let mut rows: Vec<usize> = (0..120).chain((0..120).filter(|&row| twice[row])).collect();
        rows.shuffle(&mut rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed));
        let labels: Vec<usize> = rows.iter().map(|&row| problem.labels[row]).collect();
        let weights: Vec<f32> = rows.iter().map(|&row| if twice[row] { 0.5 } else { 1.0 }).collect();
        let features = problem.features().select(ndarray::Axis(0), &rows);
        prop_assert_eq!(
            weighted_predictions(&features, &labels, &weights, &problem.features()),
            standardized_predictions(&problem.features(), &problem.labels)
        );
    }
}

/// The objective of logistic regression in float64: `C Σ (log Σ exp f - f_y) + ½ |W|²`.
fn logistic_objective(
    features: &Array2<f64>,
    labels: &[usize],
    c: f64,
    weights: &Array2<f64>,
    bias: &Array1<f64>,
) -> f64 {
    let scores = features.dot(&weights.t()) + bias;
    let loss = |(row, &label): (ndarray::ArrayView1<'_, f64>, &usize)| {
        let highest = row.fold(f64::NEG_INFINITY, |highest, &f| highest.max(f));
        row.iter().map(|f| (f - highest).exp()).sum::<f64>().ln() + highest - row[label]
    };
    c * scores.rows().into_iter().zip(labels).map(loss).sum::<f64>() + 0.5 * weights.mapv(|w| w * w).sum()
}

/// What linfa-logistic makes of the features with penalty 1 / C: weights (classes x d) and biases.
fn by_linfa(features: &Array2<f64>, labels: &[usize], c: f64) -> Option<(Array2<f64>, Array1<f64>)> {
    let model = linfa_logistic::MultiLogisticRegression::default()
        .alpha(1.0 / c)
        .gradient_tolerance(1e-8)
        .max_iterations(10_000)
        .fit(&Dataset::new(features.clone(), Array1::from(labels.to_vec())))
        .ok()?;
    Some((model.params().t().to_owned(), model.intercept().clone()))
}

#[test]
fn linfa_logistic_finds_the_same_optimum_on_standardised_features() {
    let [problem, _] = reference();
    let rows: Vec<usize> = (0..problem.labels.len()).collect();
    let features = Standardizer::fit(problem.features().view(), &rows).transform(problem.features().view());
    let wide = features.mapv(f64::from);
    for c in [0.01, 1.0] {
        let params = LogisticParams::new().c(c).tolerance(1e-7);
        let ours = params.fit(&problem.dataset(features.clone())).unwrap();
        let (weights, bias) = by_linfa(&wide, &problem.labels, c).unwrap();
        let theirs = logistic_objective(&wide, &problem.labels, c, &weights, &bias);
        let own = logistic_objective(&wide, &problem.labels, c, &ours.weights.mapv(f64::from), &ours.bias);
        assert!((own / ours.convergence.objective - 1.0).abs() < 1e-6, "{own} {:?}", ours.convergence);
        assert!((own / theirs - 1.0).abs() < 1e-6, "C = {c}: {own} {theirs}");
        let largest = weights.fold(0f64, |largest, w| largest.max(w.abs()));
        for (w, expected) in ours.weights.iter().zip(&weights) {
            assert!((f64::from(*w) - expected).abs() < 2e-3 * largest, "C = {c}: {w} {expected}");
        }
    }
}

#[test]
fn where_columns_are_of_very_different_size_linfa_logistic_stops_short_and_ours_does_not() {
    let [problem, _] = reference();
    let features = problem.ill_scaled();
    let wide = features.mapv(f64::from);
    let optimum = &problem.logistic_ill_scaled[0];
    let ours = LogisticParams::new().c(optimum.c).fit(&problem.dataset(features)).unwrap();
    assert!((ours.convergence.objective / optimum.objective - 1.0).abs() < 1e-6);
    let theirs = by_linfa(&wide, &problem.labels, optimum.c)
        .map(|(weights, bias)| logistic_objective(&wide, &problem.labels, optimum.c, &weights, &bias));
    println!("{:?} {theirs:?}", optimum.objective);
    assert!(theirs.is_none_or(|theirs| theirs > 1.05 * optimum.objective || theirs.is_nan()), "{theirs:?}");
}
