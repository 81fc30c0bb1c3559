use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::{Rgb, imageops};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::images::{DecodeOptions, decode, decode_hash};

/// What scripts/reference/make_perceptual_hash_reference.py makes with PDQ's own code.
#[derive(Deserialize)]
struct Reference {
    drawn: Vec<Drawn>,
    photos: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Drawn {
    seed: i64,
    width: u32,
    height: u32,
    hash: String,
}

fn reference() -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/perceptual_hash.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// As the script draws it.
fn drawn(seed: i64, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (i64::from(x) * 256 / i64::from(width), i64::from(y) * 256 / i64::from(height));
        let red = x * x / (3 + seed) + x * y / 7 + y * (5 + seed);
        let green = x * (2 + seed) + y * y / (11 + seed);
        let blue = (x - 90) * (x - 90) / (17 + seed) + (y - 140) * (y - 140) / 19;
        Rgb([red, green, blue].map(|value| (value % 256) as u8))
    })
}

fn parsed(hexadecimal: &str) -> PerceptualHash {
    std::array::from_fn(|byte| u8::from_str_radix(&hexadecimal[2 * byte..][..2], 16).unwrap())
}

/// The photos of the assets' data set, where they are there.
fn photos() -> Option<PathBuf> {
    let assets = std::env::var_os("CNNCODES_ASSETS")?;
    Some(PathBuf::from(assets).join("data/cats-dogs-horses-humans")).filter(|folder| folder.is_dir())
}

#[test]
fn hashes_of_64_and_32_pixels_a_side_are_those_of_pdq() {
    for Drawn { seed, width, height, hash } in reference().drawn {
        assert_eq!(perceptual_hash(&drawn(seed, width, height)), parsed(&hash), "{seed}, {width} x {height}");
    }
}

#[test]
fn hashes_of_photos_are_near_those_of_pdq_and_of_their_own_pixels() {
    let Some(folder) = photos() else {
        eprintln!(
            "SKIPPED: hashes_of_photos_are_near_those_of_pdq_and_of_their_own_pixels: no CNNCODES_ASSETS"
        );
        return;
    };
    let mut distances = Vec::new();
    for (name, hash) in reference().photos {
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        let found = decode_hash(&bytes, &DecodeOptions::default()).unwrap();
        let pixels = perceptual_hash(&decode(&bytes, &DecodeOptions::default()).unwrap());
        let own = hamming_distance(&found, &pixels);
        distances.push((own, hamming_distance(&found, &parsed(&hash))));
    }
    let median_and_most = |mut distances: Vec<u32>| {
        distances.sort_unstable();
        (distances[distances.len() / 2], distances[distances.len() - 1])
    };
    let (own, of_pdq) = distances.into_iter().unzip();
    let (own, of_pdq) = (median_and_most(own), median_and_most(of_pdq));
    assert!(own.0 <= 4 && own.1 <= 16, "{own:?} bits from the hashes of their pixels");
    assert!(of_pdq.0 <= 20 && of_pdq.1 <= 44, "{of_pdq:?} bits from PDQ's hashes");
}

#[test]
fn half_of_the_bits_are_set() {
    for seed in 0..6 {
        let hash = perceptual_hash(&drawn(seed, 90, 70));
        assert_eq!(hash.iter().map(|byte| byte.count_ones()).sum::<u32>(), 128);
    }
}

#[test]
fn copies_differ_in_few_bits_and_other_pictures_in_half_of_them() {
    let smooth = |seed| imageops::resize(&drawn(seed, 24, 18), 160, 120, imageops::FilterType::Triangle);
    let hash = perceptual_hash(&smooth(1));
    let smaller = imageops::resize(&smooth(1), 83, 70, imageops::FilterType::Triangle);
    let larger = imageops::resize(&smooth(1), 200, 180, imageops::FilterType::CatmullRom);
    let darker: Vec<u8> = smooth(1).pixels().flat_map(|pixel| pixel.0.map(|value| value / 2 + 5)).collect();
    let darker = RgbImage::from_raw(160, 120, darker).unwrap();
    for copy in [smaller, larger, darker] {
        let distance = hamming_distance(&hash, &perceptual_hash(&copy));
        assert!(distance <= 16, "{} x {}: {distance} bits", copy.width(), copy.height());
    }
    for other in [0, 2, 3, 4, 5] {
        let distance = hamming_distance(&hash, &perceptual_hash(&smooth(other)));
        assert!(distance > 60, "{other}: {distance} bits");
    }
}

#[test]
fn images_without_detail_are_alike_only_if_their_pixels_are() {
    let plain = |level: u8, side| RgbImage::from_pixel(side, side, Rgb([level; 3]));
    let stripes = |wave: u32| RgbImage::from_fn(96, 96, |x, _| Rgb([(x * wave % 7 * 36) as u8; 3]));
    let gradient = |step: u32| RgbImage::from_fn(96, 96, |_, y| Rgb([(y * step / 2) as u8; 3]));
    let mut flat: Vec<RgbImage> = (0..20).map(|level| plain(level, 50)).collect();
    flat.extend([plain(3, 51), stripes(1), stripes(2), stripes(3), gradient(2), gradient(3)]);
    let hashes: Vec<PerceptualHash> = flat.iter().map(perceptual_hash).collect();
    for (index, hash) in hashes.iter().enumerate() {
        assert_eq!(*hash, perceptual_hash(&flat[index].clone()));
        for other in &hashes[..index] {
            let distance = hamming_distance(hash, other);
            assert!(distance > 70, "{index}: {distance} bits");
        }
    }
}

#[test]
fn luma_is_turned_as_images_are() {
    let image = drawn(2, 64, 64);
    for exif in 1..=8 {
        let orientation = Orientation::from_exif(exif).unwrap();
        let mut turned = image::DynamicImage::ImageRgb8(image.clone());
        turned.apply_orientation(orientation);
        let cells = LumaCells::of_image(&image).upright(orientation);
        assert_eq!(cells.0, LumaCells::of_image(&turned.into_rgb8()).0, "{orientation:?}");
    }
}

proptest! {
    #[test]
    fn cells_are_averages_of_what_they_cover(width in 1u32..200, height in 1u32..120, level in 1u8..=255) {
        let flat = LumaCells::of_image(&RgbImage::from_pixel(width, height, Rgb([level; 3])));
        for &cell in flat.0.as_flattened() {
            prop_assert!((cell - f32::from(level)).abs() < 0.01, "{cell} for {level}");
        }
        // Halves stay halves, whatever the size.
        let half = RgbImage::from_fn(2 * width, height, |x, _| Rgb([if x < width { 0 } else { level }; 3]));
        for row in LumaCells::of_image(&half).0 {
            prop_assert!(row[..32].iter().all(|&cell| cell.abs() < 0.01));
            prop_assert!(row[32..].iter().all(|&cell| (cell - f32::from(level)).abs() < 0.01));
        }
    }

    #[test]
    fn any_size_is_hashed(width in 1u32..300, height in 1u32..300) {
        let hash = perceptual_hash(&drawn(3, width, height));
        prop_assert_ne!(hash, [0; 32]);
    }
}
