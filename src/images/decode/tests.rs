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
            // The tiff decoder of `image` truncates where Pillow rounds.
            (1, _) if name == "tiff_cmyk.tif" => None,
            (max, mean) => Some(format!("{name}: at most {max}, on average {mean:.3}")),
        })
        .collect();
    assert_eq!(unequal, Vec::<String>::new());
}

#[test]
fn orientation_is_left_alone_unless_asked_for() {
    let options = DecodeOptions { apply_orientation: false, ..DecodeOptions::default() };
    let upright = decoded("jpeg_exif_1.jpg");
    for orientation in 2..=8 {
        let name = format!("jpeg_exif_{orientation}.jpg");
        assert_eq!(decode(&fixture(&name), &options).unwrap(), upright, "{name}");
        assert_ne!(decoded(&name), upright, "{name}");
    }
    for name in ["png_exif_6.png", "tiff_orientation_6.tif", "webp_exif_8.webp"] {
        assert_eq!(decode(&fixture(name), &options).unwrap(), decoded("png_rgb.png"), "{name}");
        assert_eq!(decoded(name).dimensions(), (47, 61), "{name}");
    }
}

#[test]
fn a_cut_jpeg_is_an_error_wherever_it_is_cut() {
    for name in ["jpeg_420.jpg", "jpeg_progressive.jpg", "jpeg_restart.jpg", "jpeg_cmyk.jpg", "jpeg_grey.jpg"]
    {
        let bytes = fixture(name);
        assert_eq!(bytes[bytes.len() - 2..], [0xff, 0xd9], "{name} ends with its end-of-image marker");
        for length in 1..bytes.len() {
            let result = decode(&bytes[..length], &DecodeOptions::default());
            assert!(result.is_err(), "{name} cut to {length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn a_jpeg_cut_in_half_says_so() {
    for name in ["jpeg_420.jpg", "jpeg_progressive.jpg"] {
        let bytes = fixture(name);
        let reason = message(&bytes[..bytes.len() / 2]);
        assert!(reason.starts_with("damaged or cut-off JPEG (Premature end of JPEG file)"), "{reason}");
    }
    // The end-of-image marker stands, but a part of the data before it is gone.
    let mut bytes = fixture("jpeg_420.jpg");
    bytes.drain(bytes.len() * 2 / 3..bytes.len() - 2);
    let reason = message(&bytes);
    assert!(reason.contains("premature end of data segment"), "{reason}");
}

#[test]
fn bytes_after_the_end_of_a_jpeg_are_harmless() {
    let mut bytes = fixture("jpeg_420.jpg");
    bytes.extend_from_slice(b"\0\0\0 a camera's own trailer");
    assert_eq!(decode(&bytes, &DecodeOptions::default()).unwrap(), decoded("jpeg_420.jpg"));
}

#[test]
fn other_cut_files_are_errors_or_lose_nothing() {
    for name in reference_names().iter().filter(|name| !name.ends_with(".jpg")) {
        let (bytes, whole) = (fixture(name), decoded(name));
        let mut n_errors = 0;
        for length in 1..bytes.len() {
            match decode(&bytes[..length], &DecodeOptions::default()) {
                Err(_) => n_errors += 1,
                Ok(image) => {
                    assert_eq!(
                        difference(&image, &whole),
                        (0, 0.0),
                        "{name} cut to {length} of {}",
                        bytes.len()
                    )
                }
            }
        }
        assert!(n_errors > bytes.len() / 3, "{name}: {n_errors} of {} cuts noticed", bytes.len());
    }
}

#[test]
fn too_many_pixels_are_refused_before_they_are_read() {
    let options = DecodeOptions { max_pixels: 61 * 47 - 1, ..DecodeOptions::default() };
    for name in reference_names().iter().filter(|&name| name != "jpeg_440.jpg") {
        match decode(&fixture(name), &options) {
            Err(DecodeError::TooLarge { width: 61, height: 47, limit: 2866 }) => {}
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_header_of_30000_by_30000_is_refused() {
    let mut bytes = fixture("png_rgb.png");
    bytes[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    let reason = message(&bytes);
    let expected = "30000 x 30000 pixels are more than the limit of 250000000 pixels; \
                    if the image is genuine, raise the limit with --max-pixels";
    assert_eq!(reason, expected);
}

/// PNG's checksum, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn what_is_no_image_is_named_for_what_it_is() {
    assert!(message(b"").starts_with("the file is empty"));
    assert!(message(b"Dear reader,\r\n").starts_with("not an image: it looks like text"));
    assert!(message(&[0; 64]).starts_with("not an image: it starts with zeros"));
    assert!(message(b"\x7fELF\x02\x01\x01\0").starts_with("not an image: its first bytes"));
    assert!(message(b"\0\0\0\x18ftypheic\0\0\0\0").starts_with("HEIC images are not read"));
    assert!(message(b"\0\0\x01\0\x01\0\x10\x10").starts_with("ICO images are not read"));
}

#[test]
fn kinds_that_are_not_read_say_so() {
    let float = message(&fixture("unsupported_tiff_float.tif"));
    assert!(float.starts_with("this kind of TIFF is not read; convert it"), "{float}");
    let palette = message(&fixture("unsupported_tiff_palette.tif"));
    assert!(palette.starts_with("this kind of TIFF is not read; convert it"), "{palette}");
}

#[test]
fn damaged_bytes_never_panic() {
    let mut names = reference_names();
    names.extend(["unsupported_tiff_float.tif".to_owned(), "unsupported_tiff_palette.tif".to_owned()]);
    let options = DecodeOptions { max_pixels: 1 << 20, ..DecodeOptions::default() };
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut n_errors = 0;
    for name in &names {
        let original = fixture(name);
        for _ in 0..60 {
            let mut bytes = original.clone();
            for _ in 0..rng.random_range(1..8) {
                // Half of the damage to the header, where it does the most.
                let end = if rng.random() { bytes.len() } else { bytes.len().min(64) };
                let at = rng.random_range(0..end);
                bytes[at] = rng.random();
            }
            match decode(&bytes, &options) {
                Ok(image) => assert!(image.width() * image.height() <= 1 << 20),
                Err(DecodeError::DecoderPanicked { format }) => {
                    panic!("the {format} decoder panicked on {name}")
                }
                Err(_) => n_errors += 1,
            }
        }
    }
    assert!(n_errors > 500, "only {n_errors} damaged files were noticed");
}

/// Real photos decode to Pillow's pixels. Needs CNNCODES_ASSETS, a folder that holds `data/`.
#[test]
fn real_photos_equal_pillows() {
    #[derive(Deserialize)]
    struct Photo {
        name: String,
        size: (u32, u32),
        rgb_sha256: String,
        resized_channel_sums: [u64; 3],
    }
    let Some(assets) = std::env::var_os("CNNCODES_ASSETS") else {
        eprintln!("SKIPPED: real_photos_equal_pillows needs CNNCODES_ASSETS, a folder with data/ in it");
        return;
    };
    let text = fs::read_to_string(tests_folder().join("reference/images_photos.json")).unwrap();
    let photos: Vec<Photo> = serde_json::from_str(&text).unwrap();
    assert!(photos.len() >= 20);
    let levels = r#"{"preset": "torchvision", "divisor": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}"#;
    let recipe: crate::images::Preprocess = serde_json::from_str(levels).unwrap();
    for photo in photos {
        let bytes = fs::read(PathBuf::from(&assets).join("data").join(&photo.name)).unwrap();
        let image = decode(&bytes, &DecodeOptions::default()).unwrap();
        assert_eq!(image.dimensions(), photo.size, "{}", photo.name);
        let digest: String =
            Sha256::digest(image.as_raw()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, photo.rgb_sha256, "{}", photo.name);
        let mut tensor = vec![0.0; recipe.tensor_len()];
        recipe.apply(&image, crate::images::Layout::Nchw, &mut tensor).unwrap();
        let sums: Vec<u64> = tensor.chunks(224 * 224).map(|c| c.iter().map(|&v| v as u64).sum()).collect();
        assert_eq!(sums, photo.resized_channel_sums, "{}", photo.name);
    }
}
