mod solvers;

use cnncodes_linear_heads::{SolverError, TrainingRows};
use ndarray::{Array2, Axis, s};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;
use crate::evaluate::Severity;
use crate::head::Standardizer;
use crate::head::{ClassWeights, Kernel, Tuning};

/// `rows` noisy features of each class around centres that a linear head can tell apart.
struct Example {
    features: Array2<f32>,
    labels: Vec<usize>,
    class_names: Vec<String>,
}

impl Example {
    fn new(rows: usize, classes: usize) -> Self {
        let labels: Vec<usize> = (0..rows * classes).map(|i| i % classes).collect();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut noise = || rng.random_range(-1.5f32..1.5);
        let value = |(i, j)| noise() + if j % classes == labels[i] { 1.0 } else { 0.0 };
        let features = Array2::from_shape_fn((rows * classes, 24), value);
        Self { features, labels, class_names: (0..classes).map(|k| format!("class{k}")).collect() }
    }

    fn data(&self) -> TrainingData<'_> {
        TrainingData {
            features: self.features.view(),
            labels: &self.labels,
            class_names: &self.class_names,
            groups: None,
            row_names: None,
        }
    }

    fn fit(&self, kind: HeadKind) -> FittedHead {
        fit_head(&self.data(), &FitSettings::new(kind)).unwrap()
    }
}

const KINDS: [HeadKind; 3] = [HeadKind::Svm, HeadKind::Logistic, HeadKind::Ridge];

const RBF: Kernel = Kernel::Rbf { gamma: None };

fn with_kernel() -> FitSettings {
    FitSettings { kernel: RBF, ..FitSettings::new(HeadKind::Svm) }
}

#[test]
fn a_head_learns_what_can_be_learned_and_says_how_well() {
    let example = Example::new(40, 3);
    for kind in KINDS {
        let fitted = example.fit(kind);
        let evaluation = &fitted.evaluation;
        assert!(evaluation.accuracy.value > 0.8, "{}", evaluation.to_text());
        assert!(evaluation.training_accuracy >= evaluation.accuracy.value);
        assert_eq!((evaluation.accuracy.trials, evaluation.folds, evaluation.groups), (120, 5, 120));
        assert!((evaluation.chance - 1.0 / 3.0).abs() < 1e-12);
        assert!(evaluation.log_loss < 3f64.ln());
        assert_eq!(evaluation.notes, []);
        let probabilities = fitted.model.probabilities(example.features.view()).unwrap();
        for row in probabilities.rows() {
            assert!((row.sum() - 1.0).abs() < 1e-12);
        }
        let ranked = fitted.model.ranked(example.features.slice(s![..1, ..])).unwrap();
        assert!(ranked[0].windows(2).all(|pair| pair[0].1 >= pair[1].1));
        assert_eq!(ranked[0][0].0, fitted.model.predict(example.features.view()).unwrap()[0]);
    }
}

#[test]
fn the_same_seed_gives_the_same_head() {
    let example = Example::new(20, 3);
    for kind in KINDS {
        let (first, second) = (example.fit(kind), example.fit(kind));
        assert_eq!(first.model, second.model);
        assert_eq!(first.evaluation, second.evaluation);
        assert_eq!(first.out_of_fold, second.out_of_fold);
    }
}

#[test]
fn held_out_scores_come_from_a_head_that_saw_neither_the_row_nor_its_scale() {
    let example = Example::new(12, 2);
    let settings = FitSettings::new(HeadKind::Svm);
    let fitted = fit_head(&example.data(), &settings).unwrap();
    // The same by hand, for one fold, from a copy that holds nothing but its training rows.
    let folds = &fitted.out_of_fold.folds;
    let training: Vec<usize> = (0..24).filter(|&row| folds[row] != 2).collect();
    let features = example.features.select(Axis(0), &training);
    let labels: Vec<usize> = training.iter().map(|&row| example.labels[row]).collect();
    let everything: Vec<usize> = (0..labels.len()).collect();
    let scaler = Standardizer::fit(features.view(), &everything);
    let scaled = scaler.transform(features.view());
    let training = TrainingRows {
        features: &scaled,
        labels: &labels,
        rows: &everything,
        classes: 2,
        class_weights: &ClassWeights::Uniform,
    };
    let model = settings.solver().unwrap().fit(&training, None).unwrap();
    let expected = model.scores(scaler.transform(example.features.view()).view());
    for row in (0..24).filter(|&row| folds[row] == 2) {
        for class in 0..2 {
            assert!((fitted.out_of_fold.scores[[row, class]] - expected[[row, class]]).abs() < 1e-6);
        }
    }
}

#[test]
fn features_of_any_size_give_the_same_head() {
    let example = Example::new(30, 3);
    for kind in KINDS {
        let reference = example.fit(kind).evaluation;
        for factor in [1e-6f32, 1e6] {
            let scaled = Example {
                features: &example.features * factor,
                labels: example.labels.clone(),
                ..Example::new(1, 3)
            };
            assert_eq!(scaled.fit(kind).evaluation.confusion, reference.confusion);
        }
    }
}

#[test]
fn unscaled_tiny_features_are_not_learned_from_in_silence() {
    let mut example = Example::new(30, 3);
    example.features *= 1e-6;
    for kind in KINDS {
        let settings = FitSettings { standardize: false, ..FitSettings::new(kind) };
        let evaluation = fit_head(&example.data(), &settings).unwrap().evaluation;
        let warned = |note: &Note| {
            note.severity == Severity::Warning
                && note.text.starts_with(NOT_ABOVE_CHANCE)
                && note.text.contains("standardised")
        };
        let learned = evaluation.accuracy.low > evaluation.chance;
        assert!(learned || evaluation.notes.iter().any(warned), "{}", evaluation.to_text());
    }
}

#[test]
fn labels_without_meaning_are_called_chance() {
    let mut example = Example::new(40, 2);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    example.labels.iter_mut().for_each(|label| *label = rng.random_range(0..2));
    let evaluation = example.fit(HeadKind::Logistic).evaluation;
    assert!(evaluation.notes[0].text.starts_with(NOT_ABOVE_CHANCE), "{}", evaluation.to_text());
}

#[test]
fn copies_never_help_each_other() {
    // Pure noise without meaning, every image five times: a leaky split looks nearly perfect.
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut example = Example::new(100, 2);
    let groups: Vec<usize> = (0..200).map(|i| i / 5).collect();
    for row in 0..200 {
        if row % 5 == 0 {
            example.features.row_mut(row).mapv_inplace(|_| rng.random_range(-1.0..1.0));
            example.labels[row] = rng.random_range(0..2);
        } else {
            let original = example.features.row(row - 1).to_owned();
            example.features.row_mut(row).assign(&original);
            example.labels[row] = example.labels[row - 1];
        }
    }
    let leaky = example.fit(HeadKind::Svm).evaluation.accuracy.value;
    let clean = TrainingData { groups: Some(&groups), ..example.data() };
    let clean = fit_head(&clean, &FitSettings::new(HeadKind::Svm)).unwrap().evaluation;
    assert_eq!(clean.groups, 40);
    assert!(leaky > 0.8 && clean.accuracy.value < 0.65, "{leaky} {}", clean.accuracy.value);
}

#[test]
fn a_class_that_is_missing_from_a_training_fold_is_handled_and_named() {
    let example = Example::new(10, 3);
    // All of class 2 are copies of one image.
    let groups: Vec<usize> = (0..30).map(|i| if i % 3 == 2 { 1000 } else { i }).collect();
    for kind in KINDS {
        let data = TrainingData { groups: Some(&groups), ..example.data() };
        let evaluation = fit_head(&data, &FitSettings::new(kind)).unwrap().evaluation;
        assert_eq!(evaluation.per_class[2].recall, 0.0);
        assert!(
            evaluation.notes.iter().any(|note| note.text.contains("`class2`")),
            "{}",
            evaluation.to_text()
        );
        assert!(evaluation.log_loss.is_finite());
    }
}

#[test]
fn two_images_a_class_are_enough() {
    let example = Example::new(2, 2);
    for kind in KINDS {
        let evaluation = example.fit(kind).evaluation;
        assert_eq!((evaluation.folds, evaluation.rows), (2, 4));
    }
}

#[test]
fn constant_columns_are_mentioned() {
    let mut example = Example::new(30, 2);
    example.features.column_mut(5).fill(7.0);
    let notes = example.fit(HeadKind::Svm).evaluation.notes;
    assert!(notes.contains(&Note::info("1 of 24 columns are the same for all images")), "{notes:?}");
}

#[test]
fn a_solver_that_was_cut_short_is_a_warning() {
    let example = Example::new(20, 3);
    for kind in [HeadKind::Svm, HeadKind::Logistic] {
        let settings = FitSettings { max_iterations: 1, c: Some(10.0), ..FitSettings::new(kind) };
        let fitted = fit_head(&example.data(), &settings).unwrap();
        assert!(!fitted.model.convergence.converged);
        let texts: Vec<&str> = fitted.evaluation.notes.iter().map(|note| note.text.as_str()).collect();
        assert!(texts.iter().any(|text| text.starts_with("final fit:")), "{texts:?}");
        assert!(texts.iter().any(|text| text.starts_with("in 5 of 5 folds:")), "{texts:?}");
    }
}

#[test]
fn unusable_data_is_refused_with_the_reason() {
    let example = Example::new(5, 2);
    let settings = FitSettings::new(HeadKind::Svm);
    let refusal = |data: &TrainingData<'_>| fit_head(data, &settings).unwrap_err().to_string();

    let one_class = TrainingData { labels: &[1; 10], ..example.data() };
    assert!(refusal(&one_class).contains("one class (class1)"));
    let lonely = TrainingData { labels: &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1], ..example.data() };
    assert_eq!(
        refusal(&lonely),
        "class `class1` has 1 image, and at least 2 are needed, one to train on and one to test: add images, or leave such \
         classes out (--min-per-class 2)"
    );
    let three = ["a", "b", "c"].map(String::from);
    let lonely =
        TrainingData { labels: &[0, 2, 1, 1, 1, 1, 1, 1, 1, 1], class_names: &three, ..example.data() };
    assert!(refusal(&lonely).starts_with("2 classes have too few images: `a` (1), `c` (1), and at least 2"));
    let wild = TrainingData { labels: &[0, 1, 2, 0, 1, 0, 1, 0, 1, 0], ..example.data() };
    assert!(refusal(&wild).contains("image 2 has label 2"));
    let short = TrainingData { labels: &[0, 1], ..example.data() };
    assert!(refusal(&short).contains("labels: 2 where 10 were expected"));
    let flat = Array2::from_elem((10, 4), 3.5f32);
    assert!(refusal(&TrainingData { features: flat.view(), ..example.data() }).contains("are the same"));
    let none = Array2::zeros((0, 4));
    let empty = TrainingData { features: none.view(), labels: &[], ..example.data() };
    assert!(refusal(&empty).contains("no features"));

    let mut broken = example.features.clone();
    broken[[3, 5]] = f32::INFINITY;
    let names: Vec<String> = (0..10).map(|i| format!("img{i}.jpg")).collect();
    let broken = TrainingData { features: broken.view(), row_names: Some(&names), ..example.data() };
    assert_eq!(
        refusal(&broken),
        "the features of image 3 (img3.jpg) hold inf in column 5: extract this image again or leave it out"
    );
    let settings = FitSettings { folds: 1, ..settings.clone() };
    assert!(matches!(
        fit_head(&example.data(), &settings),
        Err(HeadError::Solver(SolverError::Setting { .. }))
    ));
}

#[test]
fn features_of_another_layer_or_with_nan_are_not_classified() {
    let model = Example::new(5, 2).fit(HeadKind::Svm).model;
    let narrow = Array2::<f32>::zeros((1, 7));
    assert!(matches!(
        model.scores(narrow.view()),
        Err(HeadError::Solver(SolverError::Mismatch { expected: 24, found: 7, .. }))
    ));
    let broken = Array2::from_elem((1, 24), f32::NAN);
    assert!(matches!(
        model.probabilities(broken.view()),
        Err(HeadError::NotFinite { row: 0, column: 0, .. })
    ));
}

#[test]
fn tuning_chooses_c_anew_in_every_fold_and_records_it() {
    let example = Example::new(20, 3);
    for kind in [HeadKind::Svm, HeadKind::Logistic] {
        let settings =
            FitSettings { tuning: Some(Tuning::new(vec![1.0, 1e-6, 0.01])), ..FitSettings::new(kind) };
        let fitted = fit_head(&example.data(), &settings).unwrap();
        let chosen = fitted.model.settings.c.unwrap();
        assert!([1.0, 1e-6, 0.01].contains(&chosen));
        let note = format!("C = {chosen} was chosen by cross-validation");
        let told = fitted.evaluation.notes.iter().find(|found| found.text.starts_with(&note)).unwrap();
        assert_eq!(told.text.rsplit(": ").next().unwrap().split(", ").count(), 5, "{told}");
        // With that C and no tuning the final head is the same.
        let plain = FitSettings { c: Some(chosen), ..FitSettings::new(kind) };
        assert_eq!(fit_head(&example.data(), &plain).unwrap().model.weights, fitted.model.weights);
    }
    let settings = FitSettings { tuning: Some(Tuning::auto()), ..FitSettings::new(HeadKind::Ridge) };
    assert!(matches!(fit_head(&example.data(), &settings), Err(HeadError::NotForRidge)));
    let settings = FitSettings { tuning: Some(Tuning::new(vec![])), ..FitSettings::new(HeadKind::Svm) };
    assert!(matches!(
        fit_head(&example.data(), &settings),
        Err(HeadError::Solver(SolverError::Setting { .. }))
    ));
}

#[test]
fn a_held_out_fold_has_no_say_in_its_c() {
    // The labels of one fold are turned round; its C must stay what it was.
    let example = Example::new(20, 2);
    let settings = FitSettings {
        tuning: Some(Tuning::new(vec![1e-6, 1e-3, 1.0])),
        ..FitSettings::new(HeadKind::Logistic)
    };
    let folds =
        Folds::stratified(&example.labels, &(0..40).collect::<Vec<_>>(), &example.class_names, 5, 0).unwrap();
    let training = folds.training(3);
    let scaled = Standardizer::fit(example.features.view(), &training).transform(example.features.view());
    let groups: Vec<usize> = (0..40).collect();
    let mut turned = example.labels.clone();
    folds.testing(3).into_iter().for_each(|row| turned[row] = 1 - turned[row]);
    let solver = settings.solver().unwrap();
    let choose = |labels: &[usize]| {
        let data = FitRows { labels, class_names: &example.class_names, groups: &groups };
        settings.tuned(&problem(&data, &settings, &scaled, &training), &solver).unwrap().1
    };
    assert_eq!(choose(&turned), choose(&example.labels));
}

#[test]
fn balanced_weights_help_the_small_class() {
    let mut example = Example::new(120, 2);
    let kept: Vec<usize> = (0..240).filter(|i| i % 2 == 0 || i % 24 == 1).collect();
    example.features = example.features.select(Axis(0), &kept);
    example.labels = kept.iter().map(|&row| row % 2).collect();
    let everything: Vec<usize> = (0..kept.len()).collect();
    for kind in [HeadKind::Svm, HeadKind::Logistic] {
        let recalled = |class_weights: ClassWeights| {
            let settings = FitSettings { class_weights, c: Some(1e-3), ..FitSettings::new(kind) };
            let training = TrainingRows {
                features: &example.features,
                labels: &example.labels,
                rows: &everything,
                classes: 2,
                class_weights: &settings.class_weights,
            };
            let model = settings.solver().unwrap().fit(&training, None).unwrap();
            let scores = model.scores(example.features.view());
            everything
                .iter()
                .filter(|&&row| example.labels[row] == 1 && scores[[row, 1]] > scores[[row, 0]])
                .count()
        };
        let (plain, balanced) = (recalled(ClassWeights::Uniform), recalled(ClassWeights::Balanced));
        assert!(balanced > plain, "{balanced} {plain}");
    }
}

#[test]
fn settings_of_older_heads_can_be_read() {
    let mut json = serde_json::to_value(FitSettings::new(HeadKind::Svm)).unwrap();
    let fields = json.as_object_mut().unwrap();
    fields.remove("class_weights");
    fields.remove("tuning");
    fields.remove("solver");
    assert_eq!(serde_json::from_value::<FitSettings>(json).unwrap(), FitSettings::new(HeadKind::Svm));
}

#[test]
fn a_class_of_fewer_images_than_folds_is_said_by_every_head() {
    let mut example = Example::new(20, 3);
    let kept: Vec<usize> = (0..60).filter(|&row| row % 3 < 2 || row < 9).collect();
    example.features = example.features.select(Axis(0), &kept);
    example.labels = kept.iter().map(|&row| row % 3).collect();
    let all = KINDS.map(FitSettings::new).into_iter().chain([with_kernel()]);
    for settings in all {
        let evaluation = fit_head(&example.data(), &settings).unwrap().evaluation;
        assert_eq!((evaluation.folds, evaluation.per_class[2].support), (5, 3));
        let said = evaluation.notes.iter().any(|note| {
            note.severity == Severity::Warning && note.text.contains("`class2`") && note.text.contains('3')
        });
        assert!(said, "{:?}: {:?}", settings.kind, evaluation.notes);
    }
}
