use std::fs;
use std::path::PathBuf;

use ndarray::Array2;
use tempfile::TempDir;

use super::*;
use crate::head::{FitSettings, HeadError, HeadKind, Kernel, Novelty, TrainingData, fit_head};
use crate::images::{Preprocess, Preset};
use crate::network::{Pooling, Precision};

fn features() -> Array2<f32> {
    Array2::from_shape_fn((30, 6), |(i, j)| ((i * 7 + j * 3) as f32).sin() + (i % 3 * j) as f32)
}

fn head(kind: HeadKind) -> Head {
    head_with(&FitSettings::new(kind))
}

fn head_with(settings: &FitSettings) -> Head {
    let labels: Vec<usize> = (0..30).map(|i| i % 3).collect();
    let class_names = ["cats", "größere Hunde", "馬"].map(String::from);
    let features = features();
    let data = TrainingData {
        features: features.view(),
        labels: &labels,
        class_names: &class_names,
        groups: None,
        row_names: None,
    };
    let fitted = fit_head(&data, settings).unwrap();
    let provenance = HeadProvenance {
        spec: FeatureSpec {
            model_name: "tiny".into(),
            model_sha256: "00ff".into(),
            layer: "fc7".into(),
            tensor: "relu_7".into(),
            pooling: Pooling::None,
            preprocess: Preprocess::preset(Preset::Tf).unwrap(),
            precision: Precision::Bf16,
        },
        row_shape: vec![6, 1, 1],
        features_file: "features/tiny-fc7.h5".into(),
        features_rows: 30,
        program_version: "0.1.0".into(),
    };
    let groups: Vec<usize> = (0..30).collect();
    let novelty = Novelty::fit(&features.view(), &groups, 0).unwrap();
    assert!(novelty.is_some());
    let model = HeadModel { novelty, ..fitted.model };
    let trained_on = vec![0, 0x0123_4567_89ab_cdef, u64::MAX];
    Head { model, provenance, evaluation: fitted.evaluation, trained_on }
}

/// A saved head in a folder of its own.
fn saved(kind: HeadKind) -> (TempDir, PathBuf, Head) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.head.h5");
    let head = head(kind);
    head.save(&path).unwrap();
    (folder, path, head)
}

/// What loading says after `spoil` has changed a sound file.
fn refusal(spoil: impl FnOnce(&hdf5::File) -> hdf5::Result<()>) -> String {
    let (_folder, path, _) = saved(HeadKind::Svm);
    let file = hdf5::File::open_rw(&path).unwrap();
    spoil(&file).unwrap();
    file.close().unwrap();
    Head::load(&path).unwrap_err().to_string()
}

fn replace_attribute(file: &hdf5::File, name: &str, value: &str) -> hdf5::Result<()> {
    file.attr(name)?.write_scalar(&unicode(value)?)
}

#[test]
fn a_head_comes_back_as_it_was_and_predicts_the_same() {
    for kind in [HeadKind::Svm, HeadKind::Logistic] {
        let (_folder, path, head) = saved(kind);
        let loaded = Head::load(&path).unwrap();
        assert_eq!(loaded, head);
        let features = features();
        assert_eq!(
            loaded.probabilities(features.view()).unwrap(),
            head.probabilities(features.view()).unwrap()
        );
        assert_eq!(loaded.ranked(features.view()).unwrap(), head.ranked(features.view()).unwrap());
        assert_eq!(loaded.scores(features.view()).unwrap().dim(), (30, 3));
    }
}

#[test]
fn an_older_head_is_replaced_and_nothing_else_is_left_behind() {
    let (folder, path, _) = saved(HeadKind::Svm);
    let newer = head(HeadKind::Logistic);
    newer.save(&path).unwrap();
    assert_eq!(Head::load(&path).unwrap(), newer);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tiny.head.h5"]);
}

#[test]
fn an_evaluation_of_a_thousand_classes_fits() {
    let (_folder, path, mut head) = saved(HeadKind::Svm);
    head.evaluation.confusion.counts = vec![vec![12_345; 300]; 300];
    head.save(&path).unwrap();
    assert_eq!(Head::load(&path).unwrap(), head);
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let (folder, _, head) = saved(HeadKind::Svm);
    let path = folder.path().join("missing").join("head.h5");
    let message = head.save(&path).unwrap_err().to_string();
    assert!(message.contains("missing/head.h5") && message.contains("folder exists"), "{message}");
}

#[test]
fn a_file_that_is_not_there_names_the_command_that_makes_it() {
    let message = Head::load(Path::new("no/such.h5")).unwrap_err().to_string();
    assert_eq!(message, "there is no head file no/such.h5: make one with `cnncodes fit-head`");
}

#[test]
fn a_folder_is_no_head() {
    let (folder, _, _) = saved(HeadKind::Svm);
    let message = Head::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("is not an HDF5 file"), "{message}");
}

#[test]
fn text_and_truncated_files_are_told_from_heads() {
    let (folder, path, _) = saved(HeadKind::Svm);
    let bytes = fs::read(&path).unwrap();
    for spoiled in [&b"just text"[..], &bytes[..bytes.len() / 2], &[]] {
        let path = folder.path().join("spoiled.h5");
        fs::write(&path, spoiled).unwrap();
        let message = Head::load(&path).unwrap_err().to_string();
        assert!(message.contains("spoiled.h5 is not an HDF5 file, or is cut short"), "{message}");
    }
}

#[test]
fn features_and_foreign_files_are_told_from_heads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.h5");
    hdf5::File::create(&path).unwrap().close().unwrap();
    assert!(matches!(Head::load(&path), Err(HeadFileError::OtherFormat(_))));
    let file = hdf5::File::create(&path).unwrap();
    file.create_group("layers").unwrap();
    file.close().unwrap();
    let message = Head::load(&path).unwrap_err().to_string();
    assert!(message.contains("holds features, not a head"), "{message}");
}

#[test]
fn a_later_version_asks_for_an_update() {
    let message = refusal(|file| file.attr("format_version")?.write_scalar(&4u32));
    assert!(message.contains("version 4") && message.contains("update cnncodes"), "{message}");
}

#[test]
fn missing_and_misshapen_parts_are_named() {
    let message = refusal(|file| file.unlink("bias"));
    assert!(message.contains("`bias` cannot be read"), "{message}");
    let message = refusal(|file| {
        file.unlink("bias")?;
        file.new_dataset::<f64>().shape([2]).create("bias")?.write_raw(&[0.0, 0.0])
    });
    assert!(message.contains("`bias` has 2 values where the weights ask for 3"), "{message}");
    let message = refusal(|file| {
        file.unlink("weights")?;
        file.new_dataset::<f32>().shape([18]).create("weights").map(drop)
    });
    assert!(message.contains("`weights` has 1 dimensions instead of 2"), "{message}");
}

#[test]
fn sizes_beyond_the_file_are_not_believed() {
    let message = refusal(|file| {
        file.unlink("weights")?;
        file.new_dataset::<f32>().shape([1 << 20, 1 << 30]).chunk([1, 1 << 10]).create("weights").map(drop)
    });
    assert!(message.contains("`weights` claims to be larger than the file"), "{message}");
}

#[test]
fn values_that_cannot_be_are_refused() {
    let spoil_value = |part: &'static str, value: f64| {
        refusal(move |file| {
            let dataset = file.dataset(part)?;
            let mut values: Vec<f64> = dataset.read_raw()?;
            values[1] = value;
            dataset.write_raw(&values)
        })
    };
    assert!(spoil_value("bias", f64::NAN).contains("its weights are not all finite"));
    assert!(spoil_value("scale", 0.0).contains("mean or scale"));
    let message = refusal(|file| {
        let names = ["cats", "cats", "dogs"].map(|name| unicode(name).unwrap());
        file.dataset("class_names")?.write_raw(&names)
    });
    assert!(message.contains("class `cats` occurs twice"), "{message}");
}

#[test]
fn attributes_that_are_not_what_they_should_be_are_named() {
    let message = refusal(|file| replace_attribute(file, "settings", "{}"));
    assert!(message.contains("attribute `settings`"), "{message}");
    let message =
        refusal(|file| replace_attribute(file, "calibration", r#"{"method":"platt","sigmoids":[]}"#));
    assert!(message.contains("calibration is made for another number of classes"), "{message}");
    let message =
        refusal(|file| replace_attribute(file, "calibration", r#"{"method":"softmax","temperature":0.0}"#));
    assert!(message.contains("its calibration holds values that cannot be"), "{message}");
    let reversed = r#"{"method":"platt","sigmoids":[{"slope":-1,"offset":0},{"slope":0.1,"offset":0},{"slope":-1,"offset":0}]}"#;
    let message = refusal(|file| replace_attribute(file, "calibration", reversed));
    assert!(message.contains("turns the scores of class") && message.contains("again"), "{message}");
    let message = refusal(|file| {
        let mut provenance = head(HeadKind::Svm).provenance;
        provenance.row_shape = vec![512, 7, 7];
        replace_attribute(file, "provenance", &serde_json::to_string(&provenance).unwrap())
    });
    assert!(message.contains("row shape [512, 7, 7] does not make 6 features"), "{message}");
}

#[cfg(unix)]
#[test]
fn the_file_is_readable_by_whoever_may_read_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path, _) = saved(HeadKind::Svm);
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}

#[test]
fn a_head_of_an_earlier_version_loads_without_what_it_lacks() {
    let (_folder, path, head) = saved(HeadKind::Logistic);
    let file = hdf5::File::open_rw(&path).unwrap();
    for part in ["conformal_scores", "novelty_codes", "trained_on"] {
        file.unlink(part).unwrap();
    }
    file.close().unwrap();
    let loaded = Head::load(&path).unwrap();
    assert_eq!((&loaded.model.conformal, &loaded.model.novelty), (&None, &None));
    assert_eq!(loaded.model.weights, head.model.weights);
    assert!(!loaded.was_trained_on(&"0".repeat(64)));
}

#[test]
fn what_makes_no_sense_about_trust_is_refused() {
    let refused = refusal(|file| replace_attribute(file, "conformal", "{\"rows\":7}"));
    assert!(refused.contains("prediction sets"), "{refused}");
    let refused =
        refusal(|file| replace_attribute(file, "novelty", "{\"neighbours\":0,\"threshold\":1,\"known\":1}"));
    assert!(refused.contains("training features"), "{refused}");
    let refused = refusal(|file| replace_attribute(file, "novelty", "[]"));
    assert!(refused.contains("attribute `novelty`"), "{refused}");
    let refused = refusal(|file| {
        file.unlink("novelty_codes")?;
        file.new_dataset::<i8>().shape([1, 2]).create("novelty_codes")?.write_raw(&[0i8, 1])
    });
    assert!(refused.contains("different numbers of columns"), "{refused}");
}

#[test]
fn training_images_are_recognised_by_their_hash() {
    let (_folder, path, _) = saved(HeadKind::Svm);
    let loaded = Head::load(&path).unwrap();
    assert!(loaded.was_trained_on(&format!("0123456789abcdef{}", "5".repeat(48))));
    assert!(!loaded.was_trained_on(&format!("0123456789abcdee{}", "5".repeat(48))));
    assert!(!loaded.was_trained_on("") && !loaded.was_trained_on("no hash, but long enough"));
}

/// A head whose features are normalised and projected.
fn prepared() -> (TempDir, PathBuf, Head) {
    let (folder, path, _) = saved(HeadKind::Svm);
    let settings = FitSettings { l2_normalize: true, pca: Some(4), ..FitSettings::new(HeadKind::Logistic) };
    let head = head_with(&settings);
    head.save(&path).unwrap();
    (folder, path, head)
}

fn version(path: &Path) -> u32 {
    hdf5::File::open(path).unwrap().attr("format_version").unwrap().read_scalar().unwrap()
}

#[test]
fn lengths_and_components_come_back_in_a_file_that_earlier_programs_refuse() {
    let (_folder, path, head) = prepared();
    let loaded = Head::load(&path).unwrap();
    assert_eq!(loaded, head);
    assert_eq!((loaded.model.columns(), loaded.model.weights.ncols()), (6, 4));
    let features = features();
    assert_eq!(loaded.scores(features.view()).unwrap(), head.scores(features.view()).unwrap());
    assert_eq!(version(&path), 2);
    // What needs nothing new is written as before.
    let (_folder, path, _) = saved(HeadKind::Svm);
    assert_eq!(version(&path), 1);
}

#[test]
fn components_that_do_not_fit_are_damage() {
    let refusal = |spoil: &dyn Fn(&hdf5::File)| {
        let (_folder, path, _) = prepared();
        let file = hdf5::File::open_rw(&path).unwrap();
        spoil(&file);
        file.close().unwrap();
        Head::load(&path).unwrap_err().to_string()
    };
    let replace = |file: &hdf5::File, shape: [usize; 2], value: f32| {
        file.unlink("components").unwrap();
        let values = vec![value; shape[0] * shape[1]];
        file.new_dataset::<f32>().shape(shape).create("components").unwrap().write_raw(&values).unwrap();
    };
    assert!(refusal(&|file| replace(file, [3, 6], 0.5)).contains("components hold values"));
    assert!(refusal(&|file| replace(file, [4, 5], 0.5)).contains("`constant` has 6 values"));
    assert!(refusal(&|file| replace(file, [4, 6], f32::NAN)).contains("components hold values"));
    assert!(refusal(&|file| file.unlink("components").unwrap()).contains("`components` cannot be read"));
    let swap = |file: &hdf5::File, json: &str| replace_attribute(file, "preparation", json).unwrap();
    assert!(refusal(&|file| swap(file, "{}")).contains("attribute `preparation`"));
    let other = "{\"l2_normalize\":true,\"pca\":null}";
    assert!(refusal(&|file| swap(file, other)).contains("`constant` has 6 values"));
}

/// A head with a kernel, in a file.
fn saved_with_kernel() -> (TempDir, PathBuf, Head) {
    let (folder, path, _) = saved(HeadKind::Svm);
    let kernel = Kernel::Poly { gamma: None, degree: 2, constant: 1.0 };
    let head = head_with(&FitSettings { kernel, ..FitSettings::new(HeadKind::Svm) });
    head.save(&path).unwrap();
    (folder, path, head)
}

#[test]
fn a_kernel_and_its_support_vectors_come_back_as_they_were() {
    let (_folder, path, head) = saved_with_kernel();
    assert_eq!(Head::load(&path).unwrap(), head);
    let file = hdf5::File::open(&path).unwrap();
    assert_eq!(file.attr("format_version").unwrap().read_scalar::<u32>().unwrap(), 3);
    let vectors = file.dataset("support_vectors").unwrap().shape();
    assert_eq!(vectors, [head.model.weights.ncols(), 6]);
}

#[test]
fn a_kernel_that_makes_no_sense_is_refused() {
    let refusal = |spoil: &dyn Fn(&hdf5::File)| {
        let (_folder, path, _) = saved_with_kernel();
        let file = hdf5::File::open_rw(&path).unwrap();
        spoil(&file);
        file.close().unwrap();
        Head::load(&path).unwrap_err().to_string()
    };
    let message = refusal(&|file| {
        let kernel = r#"{"function": "rbf", "gamma": -1.0}"#;
        replace_attribute(file, "kernel", kernel).unwrap();
    });
    assert!(message.contains("its kernel or support vectors hold values that cannot be"), "{message}");
    let message = refusal(&|file| replace_attribute(file, "kernel", "{}").unwrap());
    assert!(message.contains("attribute `kernel` is not what it should be"), "{message}");
    let message = refusal(&|file| {
        file.unlink("support_vectors").unwrap();
        let set = file.new_dataset::<f32>().shape([1, 6]).create("support_vectors").unwrap();
        set.write_raw(&[0f32; 6]).unwrap();
    });
    assert!(message.contains("`support_vectors` and the weights are not of the same number"), "{message}");
    let message = refusal(&|file| file.unlink("support_vectors").unwrap());
    assert!(message.contains("is damaged"), "{message}");
}

/// Found by fuzzing: a mean of 1e59 and a scale of 1e-143 make every feature infinite, and the scores NaN.
#[test]
fn a_score_that_is_no_number_is_an_error() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/fuzz/head/infinite_scores.h5");
    let head = Head::load(path.as_ref()).unwrap();
    let refused = head.ranked(Array2::from_elem((2, 6), 0.5).view()).unwrap_err();
    assert!(matches!(refused, HeadError::ScoreNotFinite { row: 0, .. }), "{refused}");
    assert!(refused.to_string().contains("fit the head again"), "{refused}");
}
