//! The references are Pillow's pixels, written by scripts/make_image_reference.py.

use std::fs;
use std::path::PathBuf;

use image::RgbImage;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;

fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = tests_folder().join("fixtures/images").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn reference_names() -> Vec<String> {
    #[derive(Deserialize)]
    struct Reference {
        decoded: Vec<String>,
    }
    let text = fs::read_to_string(tests_folder().join("reference/images.json")).unwrap();
    serde_json::from_str::<Reference>(&text).unwrap().decoded
}

fn pillow(name: &str) -> RgbImage {
    let path = tests_folder().join("reference/images").join(format!("{name}.rgb.png"));
    image::open(path).unwrap().into_rgb8()
}

fn decoded(name: &str) -> RgbImage {
    decode(&fixture(name), &DecodeOptions::default()).unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

fn message(bytes: &[u8]) -> String {
    crate::images::Problem::from_error("x", &decode(bytes, &DecodeOptions::default()).unwrap_err()).reason
}

/// Largest and mean difference of two images of the same size.
fn difference(a: &RgbImage, b: &RgbImage) -> (u8, f64) {
    assert_eq!(a.dimensions(), b.dimensions());
    let differences: Vec<u8> = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: u64 = differences.iter().map(|&d| u64::from(d)).sum();
    (differences.iter().copied().max().unwrap(), sum as f64 / differences.len() as f64)
}

#[test]
fn pixels_equal_pillows() {
    let names = reference_names();
    assert!(names.len() > 50, "the reference lists {} fixtures", names.len());
    let unequal: Vec<String> = names
        .iter()
        .filter_map(|name| match difference(&decoded(name), &pillow(name)) {
            (0, _) => None,
            (max, mean) => Some(format!("{name}: at most {max}, on average {mean:.3}")),
        })
        .collect();
    assert_eq!(unequal, Vec::<String>::new());
}
