//! Whether heads deserve trust: copies kept together, probabilities that mean what they say, prediction sets, unknown
//! images, measuring a head on other images, and finding wrong labels.

use std::fs;
use std::path::Path;

use cnncodes::dataset::{DUPLICATE_DISTANCE, Duplicates, Likeness};
use cnncodes::evaluate::{SuspectEvidence, Suspects};
use cnncodes::features::FeatureFile;
use cnncodes::head::{FitSettings, Head, HeadKind, Novelty, TrainingData, fit_head};
use ndarray::{Array2, Axis};
use predicates::prelude::*;
use predicates::str::contains;
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::Value;

use crate::common::{assets, cnncodes, workspace};

fn stdout(folder: &Path, arguments: &[&str]) -> String {
    let output = cnncodes(folder).args(arguments).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(folder, arguments)).unwrap()
}

/// Features with labels and which of them are copies.
struct Photos {
    features: Array2<f32>,
    labels: Vec<usize>,
    class_names: Vec<String>,
    names: Vec<String>,
    copies: Duplicates,
}

impl Photos {
    fn read(path: &Path) -> Self {
        let file = FeatureFile::open(path).unwrap();
        let features = file.read_layer(None).unwrap();
        let hashes: Vec<_> = (0..file.rows()).map(|row| file.perceptual_hash(row)).collect();
        let copies =
            Duplicates::find(file.sha256(), &[], Likeness::Hashes(&hashes, DUPLICATE_DISTANCE)).unwrap();
        Self {
            features,
            labels: file.labels().iter().map(|&label| usize::try_from(label).unwrap()).collect(),
            class_names: file.class_names().to_vec(),
            names: file.image_names().to_vec(),
            copies,
        }
    }

    /// Four classes of 60 features each that overlap a little.
    fn drawn() -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        let labels: Vec<usize> = (0..240).map(|row| row % 4).collect();
        let features = Array2::from_shape_fn((240, 40), |(row, column)| {
            rng.random_range(-1.0f32..1.0) + if column % 4 == labels[row] { 0.6 } else { 0.0 }
        });
        Self {
            features,
            labels,
            class_names: ["a", "b", "c", "d"].map(String::from).to_vec(),
            names: (0..240).map(|row| format!("{row:03}.jpg")).collect(),
            copies: Duplicates::find(&vec![String::new(); 240], &[], Likeness::None).unwrap(),
        }
    }

    fn select(&self, rows: &[usize]) -> Self {
        let groups: Vec<usize> = rows.iter().map(|&row| self.copies.groups[row]).collect();
        Self {
            features: self.features.select(Axis(0), rows),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            class_names: self.class_names.clone(),
            names: rows.iter().map(|&row| self.names[row].clone()).collect(),
            copies: Duplicates { groups, sets: Vec::new() },
        }
    }

    /// A random fifth of the groups, and the others.
    fn split(&self, seed: u64) -> (Self, Self) {
        let groups = self.copies.groups.iter().max().unwrap() + 1;
        let mut order: Vec<usize> = (0..groups).collect();
        order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
        let mut tested = vec![false; groups];
        order[..groups / 5].iter().for_each(|&group| tested[group] = true);
        let (test, training): (Vec<usize>, Vec<usize>) =
            (0..self.labels.len()).partition(|&row| tested[self.copies.groups[row]]);
        (self.select(&training), self.select(&test))
    }

    fn fit(&self, kind: HeadKind, labels: &[usize]) -> cnncodes::head::FittedHead {
        let data = TrainingData {
            features: self.features.view(),
            labels,
            class_names: &self.class_names,
            groups: Some(&self.copies.groups),
            row_names: Some(&self.names),
        };
        fit_head(&data, &FitSettings::new(kind)).unwrap()
    }

    /// Over `splits` random splits: the share of held-out images whose 95 % set holds their class, and that are known.
    fn covered_and_known(&self, kind: HeadKind, splits: u64) -> (f64, f64) {
        let (mut covered, mut known, mut count) = (0, 0, 0);
        for seed in 0..splits {
            let (training, test) = self.split(seed);
            let model = training.fit(kind, &training.labels).model;
            let conformal = model.conformal.as_ref().unwrap();
            let novelty =
                Novelty::fit(&training.features.view(), &training.copies.groups, 0).unwrap().unwrap();
            let probabilities = model.probabilities(test.features.view()).unwrap();
            for (row, label) in probabilities.rows().into_iter().zip(&test.labels) {
                covered += usize::from(conformal.set(&row.to_vec(), 0.95).contains(label));
            }
            let distances = novelty.distances(test.features.view());
            known += distances.into_iter().filter(|&distance| !novelty.is_unknown(distance)).count();
            count += test.labels.len();
        }
        (covered as f64 / count as f64, known as f64 / count as f64)
    }

    /// Flips one label of twenty, and gives the share of the flipped that are among the first 8 % of the suspects.
    fn flipped_found(&self, seed: u64) -> f64 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        order.shuffle(&mut rng);
        let flipped = &order[..self.labels.len() / 20];
        let mut labels = self.labels.clone();
        let classes = self.class_names.len();
        for &row in flipped {
            labels[row] = (labels[row] + rng.random_range(1..classes)) % classes;
        }
        let fitted = self.fit(HeadKind::Logistic, &labels);
        let evidence = SuspectEvidence {
            class_names: &self.class_names,
            names: &self.names,
            labels: &labels,
            probabilities: fitted.out_of_fold.probabilities.view(),
            predicted: &fitted.out_of_fold.answers(),
            distances: &Novelty::held_out_distances(&self.features.view(), &self.copies.groups, 0).unwrap(),
            duplicates: &self.copies,
        };
        let suspects = Suspects::rank(&evidence, self.labels.len() * 8 / 100);
        let found = flipped
            .iter()
            .filter(|&&row| suspects.labels.iter().any(|suspect| suspect.image == self.names[row]));
        found.count() as f64 / flipped.len() as f64
    }
}

#[test]
fn sets_cover_and_images_are_known_as_often_as_promised_on_drawn_features() {
    for kind in [HeadKind::Logistic, HeadKind::Svm] {
        let (covered, known) = Photos::drawn().covered_and_known(kind, 20);
        assert!((0.93..=0.97).contains(&covered), "{kind:?}: {covered}");
        assert!(known >= 0.955, "{kind:?}: {known}");
    }
}

#[test]
fn flipped_labels_of_drawn_features_are_among_the_first_suspects() {
    let found = Photos::drawn().flipped_found(1);
    assert!(found >= 0.8, "{found}");
}

#[test]
fn the_808_photos_pass_every_test_of_trust() {
    let Some(assets) = assets("the_808_photos_pass_every_test_of_trust") else { return };
    let folder = tempfile::tempdir().unwrap();
    let network = assets.join("models/mobilenetv2_1.0_224.onnx");
    let add = ["models", "add", network.to_str().unwrap(), "--preprocess", "tf", "--name", "mobilenet"];
    stdout(folder.path(), &add);
    let photos = assets.join("data/cats-dogs-horses-humans");
    stdout(folder.path(), &["extract", photos.to_str().unwrap(), "-o", "photos.h5"]);

    let evaluation =
        json(folder.path(), &["fit-head", "--logistic", "--leaky-accuracy", "photos.h5", "--format", "json"]);
    assert_eq!(evaluation["groups"], 754);
    assert!(evaluation["accuracy"]["value"].as_f64().unwrap() >= 0.98, "{evaluation}");
    assert!(evaluation["leaky_accuracy"]["value"].as_f64().unwrap() >= 0.98, "{evaluation}");
    assert!(evaluation["calibration"]["expected_error"].as_f64().unwrap() <= 0.02, "{evaluation}");
    let sets = evaluation["duplicates"].as_array().unwrap();
    assert_eq!(sets.len(), 49);
    let near = sets.iter().find(|set| set["images"][0] == "dogs/dog.180.jpg").unwrap();
    assert_eq!(near["images"][1], "dogs/dog.74.jpg");
    assert!(near["similarity"].as_f64().unwrap() < 1.0, "{near}");

    let noise = image::RgbImage::from_fn(320, 240, |x, y| {
        let mixed =
            (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)).wrapping_mul(3_266_489_917);
        image::Rgb([(mixed >> 8) as u8, (mixed >> 16) as u8, (mixed >> 24) as u8])
    });
    noise.save(folder.path().join("noise.png")).unwrap();
    for (name, grey) in [("black", 0), ("grey", 128), ("white", 255)] {
        let blank = image::RgbImage::from_pixel(320, 240, image::Rgb([grey; 3]));
        blank.save(folder.path().join(format!("{name}.png"))).unwrap();
    }
    let elephant = assets.join("data/predict/elephant.jpg");
    let cat = assets.join("data/predict/cat.jpg");
    let answers = json(
        folder.path(),
        &[
            "classify",
            elephant.to_str().unwrap(),
            "noise.png",
            "black.png",
            "grey.png",
            "white.png",
            cat.to_str().unwrap(),
            "--format",
            "json",
        ],
    );
    let unknown: Vec<bool> =
        answers.as_array().unwrap().iter().map(|answer| answer["unknown"].as_bool().unwrap()).collect();
    assert_eq!(unknown, [true, true, true, true, true, false], "{answers}");

    let photos = Photos::read(&folder.path().join("photos.h5"));
    let (covered, known) = photos.covered_and_known(HeadKind::Logistic, 20);
    println!("95 % sets cover {covered:.4}, known {known:.4}");
    assert!((0.93..=0.97).contains(&covered), "{covered}");
    assert!(known >= 0.97, "{known}");
    for seed in 1..=3 {
        let found = photos.flipped_found(seed);
        println!("seed {seed}: {found:.3} of the flipped labels among the first 8 %");
        assert!(found >= 0.8, "seed {seed}: {found}");
    }
}

#[test]
fn copies_are_found_listed_and_never_split() {
    let folder = workspace(12);
    fs::copy(folder.path().join("data/fish/001.jpg"), folder.path().join("data/fish/again.jpg")).unwrap();
    stdout(folder.path(), &["extract", "--layer", "fc7"]);
    let arguments = ["fit-head", "--logistic", "--duplicate-threshold", "1"];
    let said = stdout(folder.path(), &[&arguments[..], &["--list-duplicates"]].concat());
    assert!(said.contains("2 images are duplicates of one another, in 1 set"), "{said}");
    assert!(said.contains(" 1.000  fish/001.jpg  fish/again.jpg"), "{said}");
    assert!(stdout(folder.path(), &arguments).contains("--list-duplicates lists them"));

    fs::write(folder.path().join("groups.csv"), "path,group\nfish/001.jpg,x\nfish/002.jpg,x\nno.jpg,y\n")
        .unwrap();
    let evaluation =
        json(folder.path(), &[&arguments[..], &["--groups", "groups.csv", "--format", "json"]].concat());
    assert_eq!(evaluation["leaky_accuracy"], Value::Null);
    let more = ["--groups", "groups.csv", "--leaky-accuracy", "--format", "json"];
    let evaluation = json(folder.path(), &[&arguments[..], &more].concat());
    let images = &evaluation["duplicates"][0]["images"];
    assert_eq!(images, &serde_json::json!(["fish/001.jpg", "fish/002.jpg", "fish/again.jpg"]));
    assert_eq!(evaluation["groups"], 47);
    assert!(evaluation["leaky_accuracy"]["trials"] == 49, "{evaluation}");
    assert!(evaluation["notes"].to_string().contains("1 path of groups.csv"), "{evaluation}");

    let refuse = |more: &[&str], said: &str| {
        cnncodes(folder.path()).args(arguments).args(more).assert().code(2).stderr(contains(said));
    };
    fs::write(folder.path().join("bad.csv"), "file,set\na,b\n").unwrap();
    refuse(&["--groups", "bad.csv"], "path,group");
    refuse(&["--groups", "absent.csv"], "absent.csv");
    fs::write(folder.path().join("strange.csv"), "path,group\nno.jpg,1\n").unwrap();
    refuse(&["--groups", "strange.csv"], "no line");
    cnncodes(folder.path())
        .args(["fit-head", "--svm", "--duplicate-threshold", "1.5"])
        .assert()
        .code(2)
        .stderr(contains("up to 1"));
}

#[test]
fn every_calibration_is_kept_in_the_head_and_used() {
    let folder = workspace(12);
    stdout(folder.path(), &["extract", "--layer", "fc7"]);
    for kind in ["--svm", "--logistic"] {
        for method in ["platt", "isotonic", "temperature"] {
            let arguments = ["fit-head", kind, "--calibration", method, "-o", "h.h5", "--format", "json"];
            let evaluation = json(folder.path(), &arguments);
            let error = evaluation["calibration"]["expected_error"].as_f64().unwrap();
            assert!((0.0..0.5).contains(&error), "{kind} {method}: {error}");
            let head = Head::load(&folder.path().join("h.h5")).unwrap();
            let expected = if method == "temperature" { "softmax" } else { method };
            let written = serde_json::to_value(&head.model.calibration).unwrap();
            assert_eq!(written["method"], expected);
            let answers =
                json(folder.path(), &["classify", "image.jpg", "--head", "h.h5", "--format", "json"]);
            let sum: f64 = answers[0]["classes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|class| class["probability"].as_f64().unwrap())
                .sum();
            assert!((sum - 1.0).abs() < 1e-9);
        }
    }
}

#[test]
fn classify_gives_sets_and_says_unknown_unless_told_not_to() {
    let folder = workspace(12);
    stdout(folder.path(), &["extract", "--layer", "fc7"]);
    stdout(folder.path(), &["fit-head", "--logistic"]);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let colours: Vec<[u8; 3]> = (0..64).map(|_| rng.random()).collect();
    let tiles = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb(colours[(x / 8 + y / 8 * 8) as usize]));
    tiles.save(folder.path().join("tiles.png")).unwrap();
    let said = stdout(folder.path(), &["classify", "tiles.png", "image.jpg", "--coverage", "0.9"]);
    assert!(said.contains("tiles.png\n  unknown: unlike the training images"), "{said}");
    assert!(!said.contains("image.jpg\n  unknown"), "{said}");
    assert_eq!(said.matches("set at 0.9 coverage: ").count(), 2, "{said}");

    // No 48 images can promise 99.9 %: every class is in the set.
    let answers = json(folder.path(), &["classify", "image.jpg", "--coverage", "0.999", "--format", "json"]);
    assert_eq!(answers[0]["set"].as_array().unwrap().len(), 4);
    assert_eq!(answers[0]["unknown"], false);
    let answers = json(folder.path(), &["classify", "tiles.png", "--no-unknown", "--format", "json"]);
    assert!(answers[0].get("unknown").is_none() && answers[0].get("set").is_none(), "{answers}");
    let csv = stdout(folder.path(), &["classify", "tiles.png", "--coverage", "0.999", "--format", "csv"]);
    assert!(csv.lines().nth(1).unwrap().ends_with(",true,true"), "{csv}");
    for bad in ["0", "1", "95", "many"] {
        cnncodes(folder.path())
            .args(["classify", "image.jpg", "--coverage", bad])
            .assert()
            .code(2)
            .stderr(contains("such as 0.95"));
    }
}

#[test]
fn evaluate_measures_a_head_on_images_and_on_features_alike() {
    let folder = workspace(20);
    let list = |range: std::ops::RangeInclusive<usize>| -> String {
        let lines = ["fish", "house", "mushroom", "sailboat"]
            .into_iter()
            .filter(|class| folder.path().join("data").join(class).is_dir());
        let lines: Vec<String> = lines
            .flat_map(|class| range.clone().map(move |k| format!("data/{class}/{k:03}.jpg,{class}")))
            .collect();
        format!("path,label\n{}\n", lines.join("\n"))
    };
    fs::write(folder.path().join("train.csv"), list(1..=14)).unwrap();
    fs::write(folder.path().join("test.csv"), list(14..=20)).unwrap();
    stdout(folder.path(), &["extract", "train.csv", "--layer", "fc7", "-o", "train.h5"]);
    stdout(folder.path(), &["extract", "test.csv", "--layer", "fc7", "-o", "test.h5"]);
    stdout(folder.path(), &["fit-head", "--logistic", "train.h5"]);

    let of_images = json(folder.path(), &["evaluate", "test.csv", "--format", "json"]);
    let of_features = json(folder.path(), &["evaluate", "test.h5", "--format", "json"]);
    assert_eq!(of_images["confusion"], of_features["confusion"]);
    let rows = of_features["rows"].as_u64().unwrap();
    assert_eq!(of_features["trained_on"].as_u64().unwrap() * 7, rows, "one in seven was trained on");
    assert_eq!(of_features["accuracy_on_new"]["trials"].as_u64().unwrap() * 7, rows * 6);
    assert!(of_features["accuracy"]["value"].as_f64().unwrap() > 0.6, "{of_features}");
    assert_eq!(of_features["coverage"], 0.95);
    assert!(of_features["notes"].to_string().contains("do not measure its accuracy"), "{of_features}");

    let said = stdout(folder.path(), &["evaluate", "test.h5"]);
    assert!(said.starts_with("accuracy ") && said.contains("Confusion matrix"), "{said}");
    let csv = stdout(folder.path(), &["evaluate", "test.h5", "--format", "csv"]);
    assert_eq!(csv.lines().count() as u64, rows + 1);
    assert!(csv.starts_with(
        "image,class,predicted,probability,probability_of_class,right,unknown,in_set,trained_on\n"
    ));
}

#[test]
fn evaluate_says_what_it_cannot_use() {
    let folder = workspace(8);
    stdout(folder.path(), &["extract", "--layer", "fc7", "-o", "features.h5"]);
    stdout(folder.path(), &["fit-head", "--svm", "features.h5"]);
    let data = folder.path().join("data");
    fs::create_dir(data.join("robots")).unwrap();
    fs::copy(data.join("fish/001.jpg"), data.join("robots/1.jpg")).unwrap();
    fs::copy(data.join("fish/001.jpg"), data.join("loose.jpg")).unwrap();
    fs::write(data.join("fish/broken.jpg"), "no picture").unwrap();
    cnncodes(folder.path())
        .args(["evaluate", "data"])
        .assert()
        .code(1)
        .stdout(contains("left out 1 image of \"robots\"").and(contains("left out 1 image without a label")));
    let refuse = |input: &str, said: &str| {
        cnncodes(folder.path()).args(["evaluate", input]).assert().code(2).stderr(contains(said));
    };
    fs::create_dir(folder.path().join("plain")).unwrap();
    fs::copy(data.join("loose.jpg"), folder.path().join("plain/a.jpg")).unwrap();
    refuse("plain", "belongs to a class of the head");
    refuse("absent", "absent does not exist");
    refuse("absent.h5", "absent.h5");
    stdout(folder.path(), &["extract", "data/house", "--layer", "pool5", "--no-labels", "-o", "other.h5"]);
    refuse("other.h5", "has no layer \"fc7\"");
}

#[test]
fn suspects_are_ranked_by_name_in_every_format() {
    let folder = workspace(12);
    let data = folder.path().join("data");
    // A fish among the houses, under its own name too.
    fs::copy(data.join("fish/003.jpg"), data.join("house/wrong.jpg")).unwrap();
    stdout(folder.path(), &["extract", "--layer", "fc7"]);
    let arguments = ["suspects", "--duplicate-threshold", "1", "--top", "3"];
    let found = json(folder.path(), &[&arguments[..], &["--format", "json"]].concat());
    let images: Vec<&str> = found["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|suspect| suspect["image"].as_str().unwrap())
        .collect();
    assert_eq!(images.len(), 3);
    assert!(images.contains(&"house/wrong.jpg"), "{found}");
    assert_eq!(found["copies"][0]["images"], serde_json::json!(["fish/003.jpg", "house/wrong.jpg"]));
    assert_eq!(found["copies"][0]["classes"], serde_json::json!(["fish", "house"]));
    assert_eq!(found["outliers"].as_array().unwrap().len(), 3);
    let said = stdout(folder.path(), &arguments);
    assert!(said.contains("similarity 1.000: fish/003.jpg (fish), house/wrong.jpg (house)"), "{said}");
    let csv = stdout(folder.path(), &[&arguments[..], &["--format", "csv"]].concat());
    assert_eq!(csv.lines().count(), 1 + 3 + 2 + 3, "{csv}");

    stdout(folder.path(), &["extract", "--layer", "fc7", "--no-labels", "-o", "plain.h5"]);
    cnncodes(folder.path())
        .args(["suspects", "plain.h5"])
        .assert()
        .code(2)
        .stderr(contains("no image in plain.h5 has a label"));
}
