use std::collections::HashSet;
use std::fs;
use std::path::Path;

use image::RgbImage;
use sha2::{Digest, Sha256};

use super::*;

fn mean_colour(picture: &RgbImage) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for pixel in picture.pixels() {
        for (sum, level) in sums.iter_mut().zip(pixel.0) {
            *sum += f64::from(level);
        }
    }
    sums.map(|sum| sum / f64::from(picture.width() * picture.height()))
}

fn decoded(path: &Path) -> RgbImage {
    let bytes = fs::read(path).unwrap();
    let decoder = mozjpeg::Decompress::new_mem(&bytes).unwrap();
    let mut started = decoder.rgb().unwrap();
    let (width, height) = (started.width() as u32, started.height() as u32);
    let levels: Vec<u8> = started.read_scanlines().unwrap();
    started.finish().unwrap();
    RgbImage::from_raw(width, height, levels).unwrap()
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/"))
        .collect();
    names.sort();
    names
}

#[test]
fn class_names_are_sorted_and_follow_the_enum() {
    assert!(CLASSES.is_sorted());
    assert_eq!(DemoClass::ALL.map(DemoClass::name), CLASSES);
}

#[test]
fn a_picture_has_the_stated_size_and_depends_on_class_and_seed_alone() {
    let mut seen = HashSet::new();
    for class in DemoClass::ALL {
        for seed in [0, 1, 2, u64::MAX] {
            let picture = draw(class, seed);
            assert_eq!(picture.dimensions(), (WIDTH, HEIGHT));
            assert_eq!(picture, draw(class, seed));
            assert!(seen.insert(Sha256::digest(picture.as_raw())), "{class:?} {seed} repeats a picture");
        }
    }
}

/// Keeps the pictures from changing by accident: the figures in the README rest on them.
#[test]
fn the_first_pictures_stay_what_they_are() {
    let expected = [[154.2, 126.4, 173.4], [133.2, 134.7, 98.8], [109.1, 144.2, 88.9], [107.8, 95.8, 113.3]];
    for (class, expected) in DemoClass::ALL.into_iter().zip(expected) {
        let mean = mean_colour(&draw(class, 1));
        // A level of slack: sines and square roots may round differently on another processor.
        let close = mean.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1.0);
        assert!(close, "{class:?}: {mean:.1?} is not {expected:.1?}");
    }
}

/// A classifier that sees only the mean colour must stay near chance (25 %), or the demo would prove nothing.
#[test]
fn mean_colour_does_not_give_the_class_away() {
    let per_class = 60;
    let features: Vec<(usize, [f64; 3])> = DemoClass::ALL
        .into_iter()
        .enumerate()
        .flat_map(|(label, class)| (0..per_class).map(move |seed| (label, mean_colour(&draw(class, seed)))))
        .collect();
    let mut hits = 0;
    for (row, (label, mean)) in features.iter().enumerate() {
        let distance =
            |other: &[f64; 3]| -> f64 { mean.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum() };
        let nearest = (0..features.len())
            .filter(|&other| other != row)
            .min_by(|&a, &b| distance(&features[a].1).total_cmp(&distance(&features[b].1)))
            .unwrap();
        hits += usize::from(features[nearest].0 == *label);
    }
    // Three standard deviations of a guess over 240 pictures are 8.4 points.
    let accuracy = hits as f64 / features.len() as f64;
    assert!(accuracy < 0.25 + 0.084, "nearest neighbour by mean colour: {accuracy}");
}

#[test]
fn the_folder_holds_the_pictures_and_the_unseen_one() {
    let root = tempfile::tempdir().unwrap();
    write_folder(root.path(), 2, 7).unwrap();
    let mut expected = vec!["image.jpg".to_owned()];
    for class in CLASSES {
        expected.extend([1, 2].map(|number| format!("data/{class}/{number:03}.jpg")));
    }
    expected.sort();
    assert_eq!(files_below(root.path()), expected);

    let unseen = decoded(&root.path().join("image.jpg"));
    for name in &expected {
        let picture = decoded(&root.path().join(name));
        assert_eq!(picture.dimensions(), (WIDTH, HEIGHT), "{name}");
        assert!(name == "image.jpg" || picture != unseen, "{name} is the picture that should be unseen");
    }
    // Quality 90 with halved chroma: the noise of a picture is the most that compression may add.
    let (drawn, stored) = (draw(DemoClass::Fish, 8), decoded(&root.path().join("data/fish/001.jpg")));
    let error: f64 = drawn.iter().zip(stored.iter()).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum::<f64>()
        / drawn.len() as f64;
    assert!(error < 9.0, "the file differs from the drawing by {error} levels a pixel");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("data"), "in the way").unwrap();
    let error = write_folder(root.path(), 1, 1).unwrap_err();
    assert!(matches!(&error, DemoError::Folder { path, .. } if path.ends_with("data/fish")));
    assert!(error.to_string().contains("fish"));
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_picture_that_cannot_be_written_is_named() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("data/fish/001.jpg")).unwrap();
    let error = write_folder(root.path(), 1, 1).unwrap_err();
    assert!(matches!(&error, DemoError::Picture { path, .. } if path.ends_with("data/fish/001.jpg")));
}

#[test]
fn the_model_is_a_small_onnx_file() {
    assert!(MODEL.len() <= 1_000_000, "{} bytes", MODEL.len());
    // ModelProto starts with field 1 (ir_version), and torch then names itself as the producer.
    assert_eq!(MODEL[0], 0x08);
    assert!(MODEL.windows(7).take(32).any(|bytes| bytes == b"pytorch"));
}

/// Writes the pictures that `scripts/export/measure_demo_transfer.py` measures, into the folder that CNNCODES_DEMO_DUMP names.
#[test]
#[ignore = "writes files for scripts/export/measure_demo_transfer.py"]
fn dump_pictures() {
    let Some(root) = std::env::var_os("CNNCODES_DEMO_DUMP") else {
        println!("SKIPPED: CNNCODES_DEMO_DUMP names no folder");
        return;
    };
    write_folder(Path::new(&root), 60, 1).unwrap();
}
