//! The sweep: on the embedded network and drawn pictures, and on real photos and a real network where there are any.

use std::path::Path;

use cnncodes::dataset::Dataset;
use cnncodes::demo;
use cnncodes::features::FeatureFile;
use cnncodes::head::HeadKind;
use cnncodes::network::ModelsFolder;
use cnncodes::sweep::{
    DatasetSize, LayerChoice, SearchSpace, Similarity, Sweep, SweepError, SweepEvent, SweepResult,
    SweepSettings,
};
use ndarray::Array2;
use predicates::str::contains;

use crate::common::{assets, cnncodes, workspace};

fn sweep(folder: &Path, arguments: &[&str]) -> SweepResult {
    let output = cnncodes(folder)
        .arg("sweep")
        .args(arguments)
        .args(["--format", "json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    serde_json::from_slice(&output).unwrap()
}

fn features(folder: &Path, file: &str, name: Option<&str>) -> Array2<f32> {
    FeatureFile::open(&folder.join(file)).unwrap().read_layer(name).unwrap()
}

#[test]
fn one_pass_gives_the_features_that_extract_gives_and_the_accuracy_that_fit_head_gives() {
    let folder = workspace(12);
    let folder = folder.path();
    let result = sweep(
        folder,
        &["--layers", "pool3,fc7", "--pool", "avg,2x2", "--heads", "logistic,ridge", "--no-timing"],
    );
    let names: Vec<&str> = result.candidates.iter().map(|found| found.features.name.as_str()).collect();
    assert_eq!(names, ["pool3@avg", "pool3@avg", "pool3@2x2", "pool3@2x2", "fc7", "fc7"]);
    assert_eq!((result.rows, result.class_names.len(), result.folds), (48, 4, 5));
    let swept = "features/demo-vgg-sweep.h5";
    for pooling in ["avg", "2x2"] {
        cnncodes(folder).args(["extract", "--layer", "pool3", "--pool", pooling]).assert().success();
        assert_eq!(
            features(folder, swept, Some(&format!("pool3@{pooling}"))),
            features(folder, &format!("features/demo-vgg-pool3-{pooling}.h5"), None),
            "{pooling}"
        );
    }
    cnncodes(folder).args(["extract", "--layer", "fc7"]).assert().success();
    assert_eq!(
        features(folder, swept, None),
        features(folder, "features/demo-vgg-fc7.h5", None),
        "the top comes first"
    );

    let best = &result.candidates[result.advice.best];
    let [extract, fit] = &result.next[..2] else { panic!("{:?}", result.next) };
    cnncodes(folder).args(&extract.arguments).assert().success();
    let output = cnncodes(folder).args(&fit.arguments).args(["--format", "json"]).assert().success();
    let evaluation: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(evaluation["accuracy"]["successes"], best.accuracy.successes, "{:?}", fit.arguments);
}

#[test]
fn the_library_sweeps_as_the_command_does() {
    let folder = workspace(6);
    let folder = folder.path();
    let models = ModelsFolder { path: folder.join("models") };
    let photos = || Dataset::from_folder(&folder.join("data")).unwrap();
    let settings = SweepSettings {
        layers: LayerChoice::Named(["pool3", "fc7"].map(str::to_owned).to_vec()),
        heads: SearchSpace { kinds: vec![HeadKind::Svm], ..SearchSpace::default() },
        timing: false,
        folder: folder.join("by-the-library"),
        ..SweepSettings::default()
    };
    let (mut extracted, mut fitted) = (0, Vec::new());
    let swept = Sweep::run(photos(), vec![models.find(None).unwrap()], &settings, &mut |event| match event {
        SweepEvent::Extracted(progress) => extracted = progress.done,
        SweepEvent::Fitted(progress) => fitted.push((progress.done, progress.total)),
        SweepEvent::Timed(_) | SweepEvent::Note(_) => panic!("{event:?}"),
    })
    .unwrap();
    assert_eq!((extracted, fitted), (24, vec![(0, 2), (1, 2), (2, 2)]));
    let mut expected = sweep(folder, &["--layers", "pool3,fc7", "--heads", "svm", "--no-timing"]);
    // What depends on the door, and on the clock.
    expected.next.clear();
    expected.source.clone_from(&swept.result.source);
    expected.networks.clone_from(&swept.result.networks);
    for (expected, found) in expected.candidates.iter_mut().zip(&swept.result.candidates) {
        expected.seconds = found.seconds;
    }
    assert_eq!(swept.result, expected);

    let best = &swept.result.candidates[swept.result.advice.best];
    let trained = swept.fit(best).unwrap();
    assert_eq!(trained.head.evaluation.accuracy, best.accuracy);
    assert_eq!(trained.head.provenance.spec.layer, best.features.layer);
    let alone = folder.join("alone.h5");
    swept.write_features(best, &alone).unwrap();
    let alone = FeatureFile::open(&alone).unwrap();
    assert_eq!(alone.read_layer(None).unwrap(), trained.labelled.features);
    assert_eq!(*alone.spec(None).unwrap(), trained.head.provenance.spec);

    let refused = Sweep::run(photos(), Vec::new(), &settings, &mut |_| ());
    assert!(matches!(refused, Err(SweepError::NoModel)));
}

#[test]
fn the_default_layers_reach_from_an_early_one_to_the_top_and_fit_leaves_a_head() {
    let folder = workspace(12);
    let folder = folder.path();
    let result = sweep(folder, &["--fit"]);
    let layers: Vec<&str> =
        result.candidates.iter().step_by(3).map(|found| found.features.layer.as_str()).collect();
    assert_eq!(layers.len(), 6, "{layers:?}");
    assert_eq!(layers[5], "fc7");
    let costs: Vec<u64> = result.candidates.iter().map(|found| found.features.multiply_adds).collect();
    assert!(costs.is_sorted(), "{costs:?}");
    assert!(result.candidates.iter().all(|found| found.features.milliseconds.is_some_and(|ms| ms > 0.0)));
    assert!(result.advice.selection.accuracy.value > 0.5, "{:?}", result.advice.selection);
    let classify = &result.next[0].arguments;
    assert_eq!(classify[0], "classify");
    cnncodes(folder).args(classify).assert().success().stdout(contains("sailboat"));
    // As text, once more: what was there is replaced, and the table and the evaluation are both told.
    cnncodes(folder)
        .args(["sweep", "--layers", "pool4,fc7", "--fit=cheapest", "--no-timing"])
        .assert()
        .success()
        .stdout(contains("<- best"))
        .stdout(contains("Your images, for demo-vgg: small"))
        .stdout(contains("Confusion matrix"))
        .stdout(contains(".head.h5"));
}

#[test]
fn csv_has_a_line_for_each_layer_pooling_and_head() {
    let folder = workspace(8);
    let output = cnncodes(folder.path())
        .args([
            "sweep",
            "--layers",
            "pool5,fc7",
            "--pool",
            "avg,max",
            "--heads",
            "svm,ridge",
            "--no-timing",
            "--format",
            "csv",
        ])
        .assert()
        .success();
    let mut reader = csv::Reader::from_reader(&output.get_output().stdout[..]);
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|found| found == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let cells: Vec<(&str, &str, &str)> = rows
        .iter()
        .map(|row| (&row[column("layer")], &row[column("pooling")], &row[column("head")]))
        .collect();
    let expected = [("pool5", "avg"), ("pool5", "max"), ("fc7", "none")];
    let expected: Vec<_> = expected
        .iter()
        .flat_map(|&(layer, pooling)| [(layer, pooling, "svm"), (layer, pooling, "ridge")])
        .collect();
    assert_eq!(cells, expected);
    assert_eq!(rows.iter().filter(|row| &row[column("best")] == "true").count(), 1);
    assert!(rows.iter().all(|row| &row[column("images")] == "32"));
}

#[test]
fn what_cannot_be_swept_is_refused_with_a_remedy() {
    let folder = workspace(3);
    let folder = folder.path();
    cnncodes(folder)
        .args(["sweep", "data/fish"])
        .assert()
        .code(2)
        .stderr(contains("fewer than two classes"))
        .stderr(contains("one folder for each class"));
    cnncodes(folder)
        .args(["sweep", "--layers", "pool9"])
        .assert()
        .code(2)
        .stderr(contains("no layer \"pool9\""))
        .stderr(contains("nearest: pool"));
    cnncodes(folder)
        .args(["sweep", "--model", "demo-vgg,demo-vgg"])
        .assert()
        .code(2)
        .stderr(contains("named twice"));
}

#[test]
fn the_808_photos_are_small_and_similar() {
    let Some(assets) = assets("the_808_photos_are_small_and_similar") else { return };
    let folder = tempfile::tempdir().unwrap();
    add_mobilenet(folder.path(), &assets);
    let photos = assets.join("data/cats-dogs-horses-humans");
    // Two layers and one kind of head, so that the test is short.
    let short = ["--layers", "relu6_27,penultimate", "--heads", "logistic", "--no-timing"];
    let result = sweep(folder.path(), &[&[photos.to_str().unwrap()], &short[..]].concat());
    assert_eq!((result.rows, result.groups), (808, 754));
    let scenario = &result.advice.scenario;
    assert_eq!(
        (scenario.similarity, scenario.size),
        (Similarity::Similar, DatasetSize::Small),
        "{scenario:?}"
    );
    let best = &result.candidates[result.advice.best].features;
    assert_eq!(best.layer, "global_average_pooling2d");
    assert!(result.advice.selection.accuracy.value >= 0.98, "{:?}", result.advice.selection);
}

#[test]
fn textures_are_small_and_different() {
    let Some(assets) = assets("textures_are_small_and_different") else { return };
    let folder = tempfile::tempdir().unwrap();
    add_mobilenet(folder.path(), &assets);
    demo::write_textures(&folder.path().join("data"), 30, 256, 0).unwrap();
    let result = sweep(
        folder.path(),
        &["--layers", "relu6_7,relu6_27,penultimate", "--heads", "logistic", "--no-timing"],
    );
    let scenario = &result.advice.scenario;
    assert_eq!(
        (scenario.similarity, scenario.size),
        (Similarity::Different, DatasetSize::Small),
        "{scenario:?}"
    );
    let best = &result.candidates[result.advice.best].features;
    assert!(!best.top, "{best:?}");
    let (earlier, top) =
        (scenario.earlier.as_ref().unwrap().accuracy, scenario.top.as_ref().unwrap().accuracy);
    assert!(earlier.low > top.high, "not even the intervals overlap: {earlier:?} and {top:?}");
    assert!(result.advice.selection.accuracy.low > top.high, "{:?}", result.advice.selection);
}

fn add_mobilenet(folder: &Path, assets: &Path) {
    cnncodes(folder)
        .args(["models", "add"])
        .arg(assets.join("models/mobilenetv2_1.0_224.onnx"))
        .args(["--preprocess", "tf"])
        .assert()
        .success();
}
