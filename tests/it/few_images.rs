//! Heads on few images: a calibrated head answers as well as its scores do, and what it tells of its accuracy holds.
//!
//! The protocol: heads of every kind are fitted to some images a class, drawn at random, again and again. Each is compared with
//! what its raw scores say of all other images, and with the accuracy that it told. On features without meaning the accuracy that
//! is told must be chance. `cargo test --test it few_images -- --nocapture` prints the tables.

use std::fs;
use std::path::{Path, PathBuf};

use cnncodes::evaluate::Proportion;
use cnncodes::features::FeatureFile;
use cnncodes::head::{
    Calibration, CalibrationMethod, ClassWeights, FitSettings, FittedHead, Head, HeadKind, Kernel,
    StreamedData, TrainingData, Tuning, answers, fit_head, fit_head_streamed,
};
use ndarray::{Array2, ArrayView2, Axis};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::Value;

use crate::common::{assets, cnncodes};

/// Every kind of head, by the options that choose it.
fn heads() -> Vec<(&'static str, FitSettings)> {
    let svm = FitSettings::new(HeadKind::Svm);
    let logistic = FitSettings::new(HeadKind::Logistic);
    let ridge = FitSettings::new(HeadKind::Ridge);
    let auto = Some(Tuning::auto());
    let isotonic = Some(CalibrationMethod::Isotonic);
    let platt = Some(CalibrationMethod::Platt);
    let rbf = Kernel::Rbf { gamma: None };
    let poly = Kernel::Poly { gamma: None, degree: 3, constant: 1.0 };
    vec![
        ("--svm", svm.clone()),
        ("--logistic", logistic.clone()),
        ("--ridge", ridge.clone()),
        ("--svm --kernel rbf", FitSettings { kernel: rbf, ..svm.clone() }),
        ("--svm --kernel poly", FitSettings { kernel: poly, ..svm.clone() }),
        ("--svm --c auto", FitSettings { tuning: auto.clone(), ..svm.clone() }),
        ("--logistic --c auto", FitSettings { tuning: auto, ..logistic.clone() }),
        ("--svm --calibration isotonic", FitSettings { calibration: isotonic, ..svm.clone() }),
        ("--ridge --calibration isotonic", FitSettings { calibration: isotonic, ..ridge }),
        ("--logistic --calibration platt", FitSettings { calibration: platt, ..logistic.clone() }),
        ("--svm --class-weight balanced", FitSettings { class_weights: ClassWeights::Balanced, ..svm }),
        ("--logistic --l2-normalize", FitSettings { l2_normalize: true, ..logistic }),
    ]
}

/// Features with their labels.
struct Images {
    features: Array2<f32>,
    labels: Vec<usize>,
    class_names: Vec<String>,
}

impl Images {
    fn of_file(path: &Path) -> Self {
        let file = FeatureFile::open(path).unwrap();
        Self {
            features: file.read_layer(None).unwrap(),
            labels: file.labels().iter().map(|&label| usize::try_from(label).unwrap()).collect(),
            class_names: file.class_names().to_vec(),
        }
    }

    /// `per_class` of each class, with centres as far from one another as those of photos are for few of them.
    fn drawn(classes: usize, per_class: usize) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
        let centres = Array2::from_shape_fn((classes, 256), |_| rng.random_range(-0.45f32..0.45));
        let labels: Vec<usize> = (0..classes * per_class).map(|row| row / per_class).collect();
        let features = Array2::from_shape_fn((labels.len(), 256), |(row, column)| {
            centres[[labels[row], column]] + rng.random_range(-1f32..1.0) + rng.random_range(-1f32..1.0)
        });
        Self { features, labels, class_names: names(classes) }
    }

    /// Features that have nothing to do with the labels.
    fn noise(classes: usize, per_class: usize, columns: usize, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let features =
            Array2::from_shape_fn((classes * per_class, columns), |_| rng.random_range(-1f32..1.0));
        let labels = (0..classes * per_class).map(|row| row % classes).collect();
        Self { features, labels, class_names: names(classes) }
    }

    /// The given rows, all of the first classes.
    fn select(&self, rows: &[usize], classes: usize) -> Self {
        Self {
            features: self.features.select(Axis(0), rows),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            class_names: self.class_names[..classes].to_vec(),
        }
    }

    /// `per_class` rows of each of the first `classes` classes, and the others of these classes.
    fn draw(&self, classes: usize, per_class: usize, seed: u64) -> (Self, Self) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (mut drawn, mut others) = (Vec::new(), Vec::new());
        for class in 0..classes {
            let mut rows: Vec<usize> =
                (0..self.labels.len()).filter(|&row| self.labels[row] == class).collect();
            rows.shuffle(&mut rng);
            others.extend(rows.split_off(per_class));
            drawn.extend(rows);
        }
        (self.select(&drawn, classes), self.select(&others, classes))
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

    fn fit(&self, settings: &FitSettings) -> FittedHead {
        fit_head(&self.data(), settings).unwrap()
    }

    fn share_right(&self, answers: &[usize]) -> f64 {
        let right = answers.iter().zip(&self.labels).filter(|(answer, label)| answer == label).count();
        right as f64 / self.labels.len() as f64
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class{class}")).collect()
}

/// What the highest of the scores alone says.
fn by_score(scores: ArrayView2<'_, f64>) -> Vec<usize> {
    answers(Array2::zeros(scores.raw_dim()).view(), scores)
}

/// A head on a draw of images.
struct Outcome {
    /// The accuracy that it told.
    told: Proportion,
    /// Its accuracy on all other images.
    real: f64,
    /// That of its raw scores.
    raw: f64,
}

impl Outcome {
    fn of(head: &FittedHead, others: &Images) -> Self {
        let scores = head.model.scores(others.features.view()).unwrap();
        assert_eq!(head.model.calibration.reversed(), None);
        Self {
            told: head.evaluation.accuracy,
            real: others.share_right(&head.model.predict(others.features.view()).unwrap()),
            raw: others.share_right(&by_score(scores.view())),
        }
    }

    fn held(&self) -> bool {
        (self.told.low..=self.told.high).contains(&self.real)
    }
}

/// One line of the table. Fails where a head answers by more than a point worse than its scores.
fn tell(what: &str, outcomes: &[Outcome]) -> usize {
    let count = outcomes.len() as f64;
    let mean = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / count;
    let worst = outcomes.iter().map(|outcome| outcome.raw - outcome.real).fold(f64::NEG_INFINITY, f64::max);
    let held = outcomes.iter().filter(|outcome| outcome.held()).count();
    eprintln!(
        "{what:52} worst loss {:5.1}  real {:5.1}  told {:5.1}  interval {:5.1} wide  holds {held} of {}",
        100.0 * worst,
        100.0 * mean(&|outcome| outcome.real),
        100.0 * mean(&|outcome| outcome.told.value),
        100.0 * mean(&|outcome| outcome.told.high - outcome.told.low),
        outcomes.len(),
    );
    assert!(worst <= 0.01, "{what}: calibrated answers lose {worst}");
    held
}

/// Every head on `draws` draws of each size; the intervals must hold in nearly all of them.
fn check_draws(images: &Images, class_counts: &[usize], sizes: &[usize], draws: usize) {
    let (mut held, mut count) = (0, 0);
    for &classes in class_counts {
        for &size in sizes {
            let drawn: Vec<_> = (0..draws).map(|seed| images.draw(classes, size, seed as u64)).collect();
            for (name, settings) in heads() {
                let outcomes: Vec<Outcome> =
                    drawn.iter().map(|(few, others)| Outcome::of(&few.fit(&settings), others)).collect();
                let held_here = tell(&format!("{classes} classes x {size}, {name}"), &outcomes);
                assert!(held_here * 10 >= draws * 8, "{classes} x {size}, {name}: {held_here} of {draws}");
                (held, count) = (held + held_here, count + draws);
            }
        }
    }
    eprintln!("intervals held in {held} of {count}");
    assert!(held * 100 >= count * 95, "{held} of {count}");
}

#[test]
fn few_drawn_features_are_answered_as_by_their_scores_and_the_told_accuracy_holds() {
    check_draws(&Images::drawn(4, 100), &[2, 4], &[2, 3, 5, 10], 10);
}

#[test]
fn few_real_photos_are_answered_as_by_their_scores_and_the_told_accuracy_holds() {
    let Some(assets) = assets("few_real_photos_are_answered_as_by_their_scores") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = extract(folder.path(), &assets);
    check_draws(&Images::of_file(&file), &[2, 4], &[2, 3, 5, 10], 20);
}

/// MobileNetV2's features of the 808 photos.
fn extract(folder: &Path, assets: &Path) -> PathBuf {
    cnncodes(folder)
        .args(["models", "add", "--preprocess", "tf", "--name", "mobilenetv2"])
        .arg(assets.join("models/mobilenetv2_1.0_224.onnx"))
        .assert()
        .success();
    cnncodes(folder)
        .args(["extract", "-o", "photos.h5"])
        .arg(assets.join("data/cats-dogs-horses-humans"))
        .assert()
        .success();
    folder.join("photos.h5")
}

/// The photos of a class, in the order of their names.
fn photos(folder: &Path) -> Vec<PathBuf> {
    let mut photos: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    photos.sort();
    photos
}

#[test]
fn five_cats_and_five_dogs_whose_held_out_scores_mislead_are_still_told_apart() {
    let Some(assets) = assets("five_cats_and_five_dogs_are_told_apart") else { return };
    let folder = tempfile::tempdir().unwrap();
    let all = extract(folder.path(), &assets);
    // numpy.random.default_rng(2).choice(202, 5, replace=False), twice.
    let mut csv = "path,label\n".to_owned();
    for (class, chosen) in [("cats", [59, 21, 165, 52, 83]), ("dogs", [145, 199, 161, 118, 37])] {
        let photos = photos(&assets.join("data/cats-dogs-horses-humans").join(class));
        chosen.into_iter().for_each(|at| csv.push_str(&format!("{},{class}\n", photos[at].display())));
    }
    fs::write(folder.path().join("few.csv"), csv).unwrap();
    cnncodes(folder.path()).args(["extract", "few.csv", "-o", "few.h5"]).assert().success();
    let json = |arguments: &[&str]| -> Value {
        let output = cnncodes(folder.path()).args(arguments).assert().success().get_output().stdout.clone();
        serde_json::from_slice(&output).unwrap()
    };
    let few = "calibration by Platt's sigmoids needs 30 different images of each class, and `cats` has 5";
    let fewer = "isotonic calibration needs 100 different images of each class, and `cats` has 5";
    for (kind, said) in
        [(&["--svm"][..], few), (&["--ridge"], few), (&["--logistic", "--calibration", "isotonic"], fewer)]
    {
        let fit = [&["fit-head", "few.h5", "-o", "few.head.h5", "--format", "json"], kind].concat();
        let evaluation = json(&fit);
        let told: Proportion = serde_json::from_value(evaluation["accuracy"].clone()).unwrap();
        assert_eq!(evaluation["training_accuracy"], 1.0, "{kind:?}");
        let notes = evaluation["notes"].as_array().unwrap();
        assert!(notes.iter().any(|note| note["text"].as_str().unwrap().starts_with(said)), "{notes:?}");
        let head = Head::load(&folder.path().join("few.head.h5")).unwrap();
        match &head.model.calibration {
            Calibration::Platt { sigmoids } => {
                assert!(sigmoids[0] == sigmoids[1] && sigmoids[0].slope < 0.0, "{sigmoids:?}");
            }
            Calibration::Isotonic { functions } => assert_eq!(functions[0], functions[1]),
            Calibration::Softmax { .. } => {}
        }
        assert_eq!(serde_json::to_value(&head.evaluation.notes).unwrap(), evaluation["notes"]);
        let path = all.to_str().unwrap();
        let assessed = json(&["evaluate", path, "--head", "few.head.h5", "--format", "json"]);
        let real = assessed["accuracy_on_new"]["value"].as_f64().unwrap();
        assert!(real > 0.95, "{kind:?}: {real}");
        // What it tells is no farther from that than its interval is wide.
        assert!((told.value - real).abs() <= told.high - told.low, "{kind:?}: {told:?} {real}");
    }
}

#[test]
fn streamed_heads_on_few_images_are_calibrated_alike() {
    let images = Images::drawn(4, 100);
    for size in [2, 5] {
        for kind in [HeadKind::Svm, HeadKind::Logistic, HeadKind::Ridge] {
            let settings = FitSettings::new(kind);
            let outcome = |seed| {
                let (few, others) = images.draw(4, size, seed);
                let groups: Vec<usize> = (0..few.labels.len()).collect();
                let row_names: Vec<String> = groups.iter().map(usize::to_string).collect();
                let view = few.features.view();
                let data = StreamedData {
                    source: &view,
                    labels: &few.labels,
                    class_names: &few.class_names,
                    groups: &groups,
                    row_names: &row_names,
                    max_memory: 256 << 20,
                };
                let streamed = fit_head_streamed(&data, &settings).unwrap();
                if let Calibration::Platt { sigmoids } = &streamed.model.calibration {
                    assert!(sigmoids.iter().all(|own| *own == sigmoids[0]), "{sigmoids:?}");
                }
                let in_memory = few.fit(&settings).evaluation;
                let same = |found: Proportion| (found.trials, found.high - found.low > 0.1);
                assert_eq!(same(streamed.evaluation.accuracy), same(in_memory.accuracy));
                Outcome::of(&streamed, &others)
            };
            let outcomes: Vec<Outcome> = (0..5).map(outcome).collect();
            let held = tell(&format!("4 classes x {size}, streamed {kind:?}"), &outcomes);
            assert!(held >= 4, "{held}");
        }
    }
}

/// On noise, over 40 draws: how often the told interval holds chance, and the mean of the told accuracies.
fn check_noise(classes: usize, per_class: usize, columns: usize, settings: &(&'static str, FitSettings)) {
    const DRAWS: u64 = 40;
    let told: Vec<Proportion> = (0..DRAWS)
        .map(|seed| Images::noise(classes, per_class, columns, seed).fit(&settings.1).evaluation.accuracy)
        .collect();
    let chance = 1.0 / classes as f64;
    let held = told.iter().filter(|told| (told.low..=told.high).contains(&chance)).count();
    let mean = told.iter().map(|told| told.value).sum::<f64>() / DRAWS as f64;
    // As if all answers were independent.
    let error = (chance * (1.0 - chance) / (classes * per_class) as f64 / DRAWS as f64).sqrt();
    let what = format!("noise, {classes} classes x {per_class} of {columns}, {}", settings.0);
    eprintln!(
        "{what:66} chance {:5.2}  told {:5.2} ± {:4.2}  held {held} of {DRAWS}",
        100.0 * chance,
        100.0 * mean,
        100.0 * error
    );
    assert!(held >= 38, "{what}: {held}");
    assert!((mean - chance).abs() <= 3.5 * error, "{what}: {mean}");
}

#[test]
fn on_noise_the_told_accuracy_is_chance() {
    for settings in &heads() {
        for (classes, per_class) in [(4, 2), (5, 3)] {
            check_noise(classes, per_class, 512, settings);
        }
    }
    // Images that do not divide evenly among the folds, and more features: to be below chance is as wrong as to be above.
    for settings in &heads()[..4] {
        check_noise(2, 7, 4096, settings);
        check_noise(3, 8, 2048, settings);
    }
}

#[test]
fn on_noise_of_many_classes_the_told_accuracy_is_chance() {
    for settings in heads().iter().filter(|(name, _)| !name.contains("auto")) {
        check_noise(50, 2, 512, settings);
    }
}
