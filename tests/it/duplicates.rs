//! Copies of an image: found by its pixels, the same whatever the network, the layer and the way in which it was extracted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cnncodes::features::FeatureFile;
use cnncodes::images::{DecodeOptions, decode};
use image::imageops::{self, FilterType};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::common::{assets, cnncodes, fixture, workspace};

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = cnncodes(folder).args(arguments).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

/// The sets of copies that a head was told, each in order.
fn sets(evaluation: &Value) -> BTreeSet<Vec<String>> {
    let names = |set: &Value| serde_json::from_value::<Vec<String>>(set["images"].clone()).unwrap();
    evaluation["duplicates"].as_array().unwrap().iter().map(names).collect()
}

fn hashes(file: &Path) -> BTreeMap<String, Option<[u8; 32]>> {
    let file = FeatureFile::open(file).unwrap();
    file.image_names()
        .iter()
        .enumerate()
        .map(|(row, name)| (name.clone(), file.perceptual_hash(row)))
        .collect()
}

/// Removes what files of earlier versions lack.
fn forget_hashes(file: &Path) {
    let file = hdf5_metno::File::open_rw(file).unwrap();
    file.unlink("perceptual_hash").unwrap();
    file.close().unwrap();
}

/// Writes copies of `fish/001.jpg` that other programs could have made.
fn write_copies(data: &Path) {
    let bytes = fs::read(data.join("fish/001.jpg")).unwrap();
    let image = decode(&bytes, &DecodeOptions::default()).unwrap();
    image.save(data.join("fish/same.png")).unwrap();
    image.save(data.join("fish/same.bmp")).unwrap();
    let smaller =
        imageops::resize(&image, image.width() * 2 / 3, image.height() * 2 / 3, FilterType::Triangle);
    smaller.save(data.join("fish/smaller.png")).unwrap();
    let mut low = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    low.set_size(image.width() as usize, image.height() as usize);
    low.set_quality(40.0);
    let mut low = low.start_compress(Vec::new()).unwrap();
    low.write_scanlines(&image).unwrap();
    fs::write(data.join("fish/low.jpg"), low.finish().unwrap()).unwrap();
    let mut darker = image;
    darker.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|value| value / 5 * 4));
    darker.save(data.join("fish/darker.png")).unwrap();
}

#[test]
fn resized_recompressed_and_darker_copies_are_found_and_listed_at_every_layer() {
    let folder = workspace(8);
    write_copies(&folder.path().join("data"));
    cnncodes(folder.path()).args(["extract", "--layer", "pool5,fc7", "-o", "a.h5"]).assert().success();
    let expected: Vec<String> = ["001.jpg", "darker.png", "low.jpg", "same.bmp", "same.png", "smaller.png"]
        .map(|name| format!("fish/{name}"))
        .to_vec();
    let mut found = Vec::new();
    for layer in ["pool5", "fc7"] {
        let fit = ["fit-head", "--ridge", "a.h5", "--layer", layer, "--format", "json"];
        let evaluation = json(folder.path(), &fit);
        assert!(sets(&evaluation).contains(&expected), "{layer}: {evaluation}");
        assert_eq!(evaluation["leaky_accuracy"], Value::Null);
        found.push((evaluation["groups"].clone(), evaluation["duplicates"].clone()));
    }
    assert_eq!(found[0], found[1]);
    cnncodes(folder.path())
        .args(["fit-head", "--ridge", "a.h5", "--list-duplicates"])
        .assert()
        .success()
        .stdout(contains("similarity  images").and(contains("fish/001.jpg  fish/darker.png  fish/low.jpg")));
    let streamed = ["fit-head", "--ridge", "a.h5", "--max-memory", "1MB", "--format", "json"];
    assert_eq!(json(folder.path(), &streamed)["duplicates"], found[0].1);
}

#[test]
fn hashes_do_not_depend_on_how_an_image_is_extracted() {
    let folder = workspace(3);
    let data = folder.path().join("data");
    write_copies(&data);
    for kind in [
        "jpeg_exif_6.jpg",
        "jpeg_progressive.jpg",
        "jpeg_cmyk.jpg",
        "jpeg_restart.jpg",
        "scene.jpg",
        "png_exif_6.png",
    ] {
        fs::copy(fixture("fixtures/images").join(kind), data.join("house").join(kind)).unwrap();
    }
    let extract = |output: &str, more: &[&str]| {
        cnncodes(folder.path()).args(["extract", "-o", output]).args(more).assert().success();
        hashes(&folder.path().join(output))
    };
    let plain = extract("a.h5", &["--layer", "fc7"]);
    assert!(plain.values().all(Option::is_some));
    assert_eq!(
        extract("b.h5", &["--layer", "pool1", "--pool", "avg", "--batch-size", "1", "--threads", "1"]),
        plain
    );
    assert_eq!(extract("c.h5", &["--layer", "fc7", "--fast-decode"]), plain);
    assert_eq!(extract("d.h5", &["--layer", "fc7", "--ignore-orientation"]), plain);

    // Rows that are taken over keep theirs, and new ones get theirs.
    fs::remove_file(data.join("fish/low.jpg")).unwrap();
    fs::copy(data.join("fish/002.jpg"), data.join("fish/new.jpg")).unwrap();
    let again = extract("a.h5", &["--layer", "fc7"]);
    assert_eq!(again["fish/new.jpg"], plain["fish/002.jpg"]);
    assert!(again.iter().all(|(name, hash)| name == "fish/new.jpg" || plain[name] == *hash));
}

#[test]
fn files_of_earlier_versions_go_by_their_features_until_hashes_are_added_without_the_network() {
    let folder = workspace(8);
    write_copies(&folder.path().join("data"));
    let extract = ["extract", "--layer", "fc7", "-o", "a.h5"];
    cnncodes(folder.path()).args(extract).assert().success();
    let file = folder.path().join("a.h5");
    let (complete, bytes) = (hashes(&file), fs::read(&file).unwrap());
    forget_hashes(&file);
    let evaluation = json(folder.path(), &["fit-head", "--ridge", "a.h5", "--format", "json"]);
    let notes = evaluation["notes"].to_string();
    assert!(
        notes.contains("no perceptual hash of 37 images") && notes.contains("extract --rehash"),
        "{notes}"
    );
    cnncodes(folder.path())
        .args(["fit-head", "--ridge", "a.h5", "--duplicate-distance", "20"])
        .assert()
        .code(2)
        .stderr(contains("lacks for 37 images").and(contains("--rehash")));

    // An unchanged folder is left as it is.
    let lacking = fs::read(&file).unwrap();
    cnncodes(folder.path()).args(extract).assert().success();
    assert!(fs::read(&file).unwrap() == lacking);
    // Whatever runs no network does not miss its library.
    cnncodes(folder.path())
        .args(extract)
        .arg("--rehash")
        .env("CNNCODES_ONNXRUNTIME", "/absent/libonnxruntime.so")
        .assert()
        .success();
    assert_eq!(hashes(&file), complete);
    assert!(fs::read(&file).unwrap() == bytes);
}

#[test]
fn copies_under_two_classes_are_named_and_look_alikes_are_left_apart() {
    let folder = workspace(8);
    let data = folder.path().join("data");
    write_copies(&data);
    fs::rename(data.join("fish/low.jpg"), data.join("house/low.jpg")).unwrap();
    cnncodes(folder.path()).args(["extract", "--layer", "fc7", "-o", "a.h5"]).assert().success();
    let found = json(folder.path(), &["suspects", "a.h5", "--duplicate-distance", "31", "--format", "json"]);
    let images = found["copies"][0]["images"].to_string();
    assert!(images.contains("fish/001.jpg") && images.contains("house/low.jpg"), "{found}");

    // Plain pictures are no copies of one another, and equal ones are.
    let plain = tempfile::tempdir().unwrap();
    crate::common::add_demo_network(plain.path());
    for class in ["dark", "light"] {
        fs::create_dir_all(plain.path().join("data").join(class)).unwrap();
        for index in 0..6_u8 {
            let level = index * 15 + if class == "light" { 140 } else { 10 };
            let image = image::RgbImage::from_pixel(40, 40, image::Rgb([level; 3]));
            image.save(plain.path().join(format!("data/{class}/{index}.png"))).unwrap();
            if index == 0 {
                image.save(plain.path().join(format!("data/{class}/{index}.bmp"))).unwrap();
            }
        }
    }
    cnncodes(plain.path()).args(["extract", "--layer", "fc7", "-o", "a.h5"]).assert().success();
    let evaluation = json(plain.path(), &["fit-head", "--ridge", "a.h5", "--folds", "3", "--format", "json"]);
    let expected = [["dark/0.bmp", "dark/0.png"], ["light/0.bmp", "light/0.png"]];
    assert_eq!(sets(&evaluation), expected.map(|set| set.map(String::from).to_vec()).into());
}

/// What was judged by eye (docs/duplicates.md).
fn judged(kind: &str) -> Vec<[String; 2]> {
    let text = fs::read(fixture("reference/duplicates_808.json")).unwrap();
    serde_json::from_value(serde_json::from_slice::<Value>(&text).unwrap()[kind].clone()).unwrap()
}

#[test]
fn the_copies_among_the_808_photos_are_those_judged_by_eye_whatever_the_network() {
    let Some(assets) = assets("the_copies_among_the_808_photos_are_those_judged_by_eye_whatever_the_network")
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let photos = assets.join("data/cats-dogs-horses-humans");
    // VGG16 is cut off above its first block, as its pool5 takes minutes: what it sees of the photos is the same.
    let networks: [(&str, &[&str], &[&str]); 4] = [
        ("mobilenetv2_1.0_224", &["--preprocess", "tf"], &[]),
        (
            "squeezenet1_1_notop",
            &["--preprocess", "keras-caffe", "--crop", "--interpolation", "bilinear"],
            &[],
        ),
        ("efficientnet-lite0", &["--preprocess", "tf", "--interpolation", "bicubic"], &[]),
        ("vgg16_conv_240_keras", &["--preprocess", "keras-caffe"], &["--layer", "pool1", "--pool", "avg"]),
    ];
    let mut all = Vec::new();
    for (network, preprocess, layer) in networks {
        let file = assets.join(format!("models/{network}.onnx"));
        let add = ["models", "add", file.to_str().unwrap(), "--name", network];
        cnncodes(folder.path()).args(add).args(preprocess).assert().success();
        let extract = ["extract", photos.to_str().unwrap(), "--model", network, "-o", "a.h5", "--force"];
        cnncodes(folder.path()).args(extract).args(layer).assert().success();
        let evaluation = json(folder.path(), &["fit-head", "--ridge", "a.h5", "--format", "json"]);
        assert!(!evaluation["notes"].to_string().contains("perceptual hash"), "{evaluation}");
        all.push((hashes(&folder.path().join("a.h5")), sets(&evaluation), evaluation["groups"].clone()));
    }
    assert!(all.iter().all(|found| *found == all[0]));

    let (hashes, found, groups) = &all[0];
    let together = |pair: &[String; 2]| found.iter().any(|set| pair.iter().all(|name| set.contains(name)));
    let copies = judged("copies");
    assert_eq!(copies.len(), 60);
    assert_eq!(copies.iter().filter(|pair| together(pair)).count(), 60);
    assert!(!judged("edited").iter().chain(&judged("different")).any(together));
    // Nothing but what was judged a copy is joined.
    let joined: usize = found.iter().map(|set| set.len() * (set.len() - 1) / 2).sum();
    assert_eq!((joined, found.len(), groups.as_u64()), (60, 49, Some(754)));
    let distance =
        |[a, b]: &[String; 2]| cnncodes::images::hamming_distance(&hashes[a].unwrap(), &hashes[b].unwrap());
    assert!(copies.iter().all(|pair| distance(pair) <= 22));
}
