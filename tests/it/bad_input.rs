//! What users get wrong: a message that names the file and the remedy, the right exit status, and nothing lost.

use std::fs;
use std::path::Path;
use std::process::Command as Process;

use cnncodes::features::FeatureFile;
use predicates::prelude::*;
use predicates::str::contains;

use crate::common::{cnncodes, fixture, png_crc, workspace};

fn extract(folder: &Path) {
    cnncodes(folder).args(["extract", "--layer", "fc7"]).assert().success();
}

fn features(folder: &Path) -> FeatureFile {
    FeatureFile::open(&folder.join("features/demo-vgg-fc7.h5")).unwrap()
}

#[test]
fn damaged_images_among_good_ones_are_listed_recorded_and_skipped() {
    let folder = workspace(6);
    extract(folder.path());
    let good = features(folder.path()).read_layer(None).unwrap();

    let fish = folder.path().join("data/fish");
    let whole = fs::read(fish.join("001.jpg")).unwrap();
    fs::write(fish.join("zz1-cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    fs::write(fish.join("zz2-text.jpg"), "this is a letter").unwrap();
    fs::write(fish.join("zz3-empty.jpg"), "").unwrap();
    let mut bomb = fs::read(fixture("fixtures/images/small.png")).unwrap();
    bomb[16..20].copy_from_slice(&30_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&30_000_u32.to_be_bytes());
    let crc = png_crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    fs::write(fish.join("zz4-bomb.png"), bomb).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink("nowhere.jpg", fish.join("zz5-dangling.jpg")).unwrap();
        symlink("zz6-loop.jpg", fish.join("zz6-loop.jpg")).unwrap();
        symlink("..", fish.join("zz7-up")).unwrap();
    }
    // This one is fine: the content counts, not the name.
    fs::copy(fixture("fixtures/images/png_rgb.png"), fish.join("zz8-png.jpg")).unwrap();

    let assert = cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().code(1);
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    for (name, reason) in [
        ("fish/zz1-cut.jpg", "cut-off"),
        ("fish/zz2-text.jpg", "not an image"),
        ("fish/zz3-empty.jpg", "empty"),
        ("fish/zz4-bomb.png", "--max-pixels"),
        ("fish/zz5-dangling.jpg", ""),
        ("fish/zz6-loop.jpg", ""),
        ("fish/zz7-up", "leads back"),
    ] {
        let line = said.lines().find(|line| line.contains(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not reported:\n{said}"));
        assert!(line.contains(reason), "{line}");
    }
    let file = features(folder.path());
    let mut names: Vec<&str> = file.errors().iter().map(|error| error.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(names[0], "fish/zz1-cut.jpg");
    // 24 good ones and the PNG; the good ones' features are what they were.
    assert_eq!(file.rows(), 25);
    let now = file.read_layer(None).unwrap();
    let png = file.image_names().iter().position(|name| name == "fish/zz8-png.jpg").unwrap();
    let kept: Vec<usize> = (0..25).filter(|&row| row != png).collect();
    assert_eq!(now.select(ndarray::Axis(0), &kept), good);
}

#[cfg(feature = "jxl")]
#[test]
fn a_decoder_that_panics_is_an_error_about_the_image_and_prints_nothing_else() {
    let folder = workspace(2);
    fs::copy(fixture("fixtures/damaged/decoder_panics.jxl"), folder.path().join("data/fish/zz.jxl")).unwrap();
    cnncodes(folder.path())
        .args(["extract", "--layer", "fc7"])
        .assert()
        .code(1)
        .stderr(contains("skipped: fish/zz.jxl: damaged JPEG XL").and(contains("panicked at").not()));
}

#[test]
fn strict_stops_at_the_first_bad_image_and_goes_on_once_it_is_gone() {
    let folder = workspace(6);
    let bad = folder.path().join("data/house/003.jpg");
    fs::write(&bad, "no picture").unwrap();
    cnncodes(folder.path())
        .args(["extract", "--strict"])
        .assert()
        .code(2)
        .stderr(contains("house/003.jpg").and(contains("--strict")));
    assert!(!folder.path().join("features/demo-vgg-fc7.h5").exists());
    fs::remove_file(&bad).unwrap();
    // Two whole batches of 8 less the images behind the bad one: 12 of flower and fish, 2 houses.
    cnncodes(folder.path())
        .args(["extract", "--strict"])
        .assert()
        .success()
        .stdout(contains("23 images").and(contains("14 kept from an interrupted run")));
}

#[test]
fn folders_without_images_say_what_was_expected() {
    let folder = workspace(5);
    fs::create_dir(folder.path().join("nothing")).unwrap();
    for images in ["nothing", "missing"] {
        cnncodes(folder.path()).args(["extract", images]).assert().code(2).stderr(contains(images));
    }
    cnncodes(folder.path()).args(["extract", "nothing"]).assert().stderr(contains("CLASS/*.jpg"));
    fs::create_dir(folder.path().join("letters")).unwrap();
    fs::write(folder.path().join("letters/a.jpg"), "dear").unwrap();
    cnncodes(folder.path())
        .args(["extract", "letters", "-o", "l.h5"])
        .assert()
        .code(2)
        .stderr(contains("none of the 1 images in letters could be read").and(contains("a.jpg")));
    assert!(!folder.path().join("l.h5").exists());
}

#[test]
fn one_class_is_no_classifier_and_the_features_stay() {
    let folder = workspace(6);
    cnncodes(folder.path()).args(["extract", "data/fish"]).assert().success();
    cnncodes(folder.path()).args(["fit-head", "--svm"]).assert().code(2).stderr(contains("label"));
    fs::create_dir(folder.path().join("one")).unwrap();
    fs::rename(folder.path().join("data/fish"), folder.path().join("one/fish")).unwrap();
    cnncodes(folder.path()).args(["extract", "one"]).assert().success();
    cnncodes(folder.path())
        .args(["fit-head", "--logistic"])
        .assert()
        .code(2)
        .stderr(contains("fish").and(contains("at least two classes")));
    assert_eq!(features(folder.path()).rows(), 6);
    cnncodes(folder.path())
        .arg("fit-head")
        .assert()
        .code(2)
        .stderr(contains("--svm").and(contains("--logistic")));
}

#[test]
fn what_is_no_network_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    cnncodes(folder.path())
        .args(["layers"])
        .assert()
        .code(2)
        .stderr(contains("models").and(contains("cnncodes models add")));
    fs::create_dir(folder.path().join("models")).unwrap();
    cnncodes(folder.path()).args(["layers"]).assert().code(2).stderr(contains("there is no model in models"));
    fs::write(folder.path().join("letter.onnx"), "dear reader, this is no network").unwrap();
    fs::write(folder.path().join("empty.onnx"), "").unwrap();
    for file in ["letter.onnx", "empty.onnx"] {
        cnncodes(folder.path())
            .args(["models", "add", file, "--preprocess", "tf"])
            .assert()
            .code(2)
            .stderr(contains(format!("{file} is not an ONNX graph")));
    }
    cnncodes(folder.path())
        .args(["models", "add", "absent.onnx", "--preprocess", "tf"])
        .assert()
        .code(2)
        .stderr(contains("cannot read the network absent.onnx"));
    fs::write(folder.path().join("models/net.onnx"), "x").unwrap();
    cnncodes(folder.path()).args(["layers"]).assert().code(2).stderr(
        contains("without a manifest (net.onnx)").and(contains("cnncodes models add models/net.onnx")),
    );
    fs::write(folder.path().join("models/net.toml"), "format = 1\nfile = ").unwrap();
    cnncodes(folder.path()).args(["layers"]).assert().code(2).stderr(contains("net.toml is not valid"));
    fs::write(folder.path().join("models/net.toml"), "format = 9").unwrap();
    cnncodes(folder.path()).args(["layers"]).assert().code(2).stderr(contains("a newer cnncodes"));
}

#[test]
fn a_layer_that_does_not_exist_offers_the_nearest() {
    let folder = workspace(5);
    for wanted in ["fc77", "block5_conv4", "pool6"] {
        cnncodes(folder.path()).args(["extract", "--layer", wanted]).assert().code(2).stderr(
            contains(format!("no layer {wanted:?}"))
                .and(contains("nearest:"))
                .and(contains("cnncodes layers")),
        );
    }
    cnncodes(folder.path()).args(["extract", "--layer", "fc77"]).assert().stderr(contains("fc7,"));
}

#[test]
fn files_that_are_no_features_or_heads_are_refused_by_name() {
    let folder = workspace(6);
    extract(folder.path());
    cnncodes(folder.path()).args(["fit-head", "--svm"]).assert().success();
    let head = folder.path().join("models/demo-vgg-fc7-svm.head.h5");
    let features = folder.path().join("features/demo-vgg-fc7.h5");

    let other = folder.path().join("other.h5");
    let file = hdf5_metno::File::create(&other).unwrap();
    file.new_dataset::<f32>().shape([3]).create("temperature").unwrap();
    file.close().unwrap();
    let cut = |from: &Path, to: &str| {
        let bytes = fs::read(from).unwrap();
        fs::write(folder.path().join(to), &bytes[..bytes.len() / 2]).unwrap();
    };
    cut(&features, "cut.h5");
    cut(&head, "cut.head.h5");
    fs::write(folder.path().join("text.h5"), "features").unwrap();
    for file in ["other.h5", "cut.h5", "text.h5", "absent.h5", "models/demo-vgg-fc7-svm.head.h5"] {
        cnncodes(folder.path())
            .args(["fit-head", "--svm", file])
            .assert()
            .code(2)
            .stderr(contains(file).and(contains("cnncodes extract")));
    }
    for file in ["other.h5", "cut.head.h5", "text.h5", "absent.h5", "features/demo-vgg-fc7.h5"] {
        cnncodes(folder.path())
            .args(["classify", "image.jpg", "--head", file])
            .assert()
            .code(2)
            .stderr(contains(file).and(contains("cnncodes fit-head")));
    }
    // Nothing of this touched what was there.
    assert_eq!(self::features(folder.path()).rows(), 24);
    cnncodes(folder.path()).args(["classify", "image.jpg"]).assert().success();
}

#[test]
fn unreadable_images_to_classify_are_named() {
    let folder = workspace(6);
    extract(folder.path());
    cnncodes(folder.path()).args(["fit-head", "--svm"]).assert().success();
    fs::write(folder.path().join("letter.jpg"), "dear").unwrap();
    cnncodes(folder.path())
        .args(["classify", "letter.jpg", "image.jpg", "absent.jpg"])
        .assert()
        .code(1)
        .stdout(contains("image.jpg"))
        .stderr(contains("letter.jpg").and(contains("absent.jpg")));
    cnncodes(folder.path()).args(["classify", "letter.jpg"]).assert().code(2);
}

#[test]
fn outputs_that_cannot_be_written_are_named_before_any_work() {
    let folder = workspace(5);
    fs::write(folder.path().join("file"), "").unwrap();
    cnncodes(folder.path())
        .args(["extract", "-o", "file/features.h5"])
        .assert()
        .code(2)
        .stderr(contains("cannot create the folder file").and(contains("choose an output")));
    extract(folder.path());
    cnncodes(folder.path())
        .args(["fit-head", "--svm", "-o", "file/head.h5"])
        .assert()
        .code(2)
        .stderr(contains("file"));
    #[cfg(target_os = "linux")]
    cnncodes(folder.path())
        .args(["extract", "-o", "/proc/features.h5"])
        .assert()
        .code(2)
        .stderr(contains("/proc/features.h5"));
}

/// A small memory disk in a mount namespace of its own fills up; then it is given room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_what_was_computed_and_the_same_command_goes_on() {
    let folder = workspace(40);
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // 160 images of 32 x 8 x 8 features are 1.3 MB.
    let script = "
        mount -t tmpfs -o size=20m tmpfs disk || exit 77
        head -c $((20 * 1024 * 1024 - 700 * 1024)) /dev/zero >disk/filler
        \"$0\" extract --layer pool3 -o disk/features.h5; echo \"first: $?\"
        ls disk
        rm disk/filler
        \"$0\" extract --layer pool3 -o disk/features.h5; echo \"second: $?\"
        cp disk/features.h5 features.h5";
    let output = Process::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "bash", "-c", script])
        .arg(assert_cmd::cargo::cargo_bin("cnncodes"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(77) || said.contains("unshare: ") {
        eprintln!(
            "SKIPPED: a_full_disk_keeps_what_was_computed: a small disk cannot be mounted here: {said}"
        );
        return;
    }
    assert!(printed.contains("first: 2"), "{printed}{said}");
    assert!(said.contains("disk/features.h5") && said.contains("same command"), "{said}");
    assert!(printed.contains("second: 0") && printed.contains("160 images"), "{printed}{said}");

    cnncodes(folder.path()).args(["extract", "--layer", "pool3", "-o", "whole.h5"]).assert().success();
    let read = |name: &str| {
        let file = FeatureFile::open(&folder.path().join(name)).unwrap();
        (file.image_names().to_vec(), file.labels().to_vec(), file.read_layer(None).unwrap())
    };
    assert_eq!(read("features.h5"), read("whole.h5"));
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_is_reported_and_the_rest_goes_on() {
    use std::os::unix::fs::PermissionsExt;

    let folder = workspace(5);
    let locked = folder.path().join("data/house");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let enforced = fs::read_dir(&locked).is_err();
    let assert = cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
    if enforced {
        assert.code(1).stderr(contains("house"));
        assert_eq!(features(folder.path()).rows(), 15);
    } else {
        eprintln!("SKIPPED: a_folder_without_permission_is_reported: this user may read everything");
    }
}

#[cfg(not(feature = "object-store"))]
#[test]
fn an_address_is_refused_by_a_build_without_object_stores() {
    use cnncodes::dataset::{Dataset, SourceOptions};
    let refused =
        |inputs: &str| Dataset::open(&[inputs.into()], &SourceOptions::default()).unwrap_err().to_string();
    for inputs in ["s3://bucket/data/", "gs://bucket/data", "https://host/a.tar"] {
        let expected = "this build of cnncodes has no object stores; install the wheel, or build with `cargo build \
                        --features object-store`";
        assert!(refused(inputs).ends_with(expected), "{}", refused(inputs));
    }
}
