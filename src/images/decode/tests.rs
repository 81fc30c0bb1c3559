//! The references are Pillow's pixels, written by scripts/reference/make_image_reference.py.

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
    crate::dataset::InputProblem::from_error("x", &decode(bytes, &DecodeOptions::default()).unwrap_err())
        .reason
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
        assert!(reason.starts_with("damaged or cut-off JPEG (it ends too soon)"), "{reason}");
    }
    // The end-of-image marker stands, but a part of the data before it is gone.
    let mut bytes = fixture("jpeg_420.jpg");
    bytes.drain(bytes.len() * 2 / 3..bytes.len() - 2);
    let reason = message(&bytes);
    assert!(reason.contains("a part of its data is missing"), "{reason}");
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
fn what_is_no_image_is_named_for_what_it_is_with_what_to_do() {
    let tar = [&[b'a'; 257][..], b"ustar"].concat();
    let matlab73 = [&b"MATLAB 7.3 MAT-file"[..], &[b' '; 493], b"\x89HDF\r\n\x1a\n"].concat();
    let targa = [&[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 9, 0, 24, 0][..], &[200; 9 * 9 * 3]].concat();
    for (bytes, says, remedy) in [
        (&b""[..], "the file is empty", "copy it again"),
        (b"Dear reader,\r\n", "not an image: it looks like text", "JPEG, PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "pointer", "`git lfs pull`"),
        (b"\n <!DOCTYPE HTML><html>404", "a web page (HTML)", "download the image itself"),
        (b"<?xml version=\"1.0\"?><annotation/>", "it looks like text (XML)", "JPEG"),
        (b"data:image/png;base64,iVBOR", "a data URL", "Base64"),
        (&[0; 64], "not an image: it starts with zeros", "copy it again"),
        (b"\x7fELF\x02\x01\x01\0", "not an image: its first bytes", "JPEG"),
        (b"%PDF-1.7\n", "a PDF document", "extract its pictures"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript", "render it"),
        (b"PK\x03\x04\x14\0", "a zip archive", "unpack it"),
        (b"\x1f\x8b\x08\0", "gzip", "unpack it"),
        (&tar, "a tar archive", "name it by itself"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "FILE:/DATASET"),
        (&matlab73, "a MATLAB file (HDF5)", "FILE:/VARIABLE"),
        (b"MATLAB 5.0 MAT-file, Platform", "a MATLAB file of version 5", "-v7.3"),
        (b"\x93NUMPY\x01\0", "a NumPy array", "PNG"),
        (b"SIMPLE  =                    T", "a FITS file", "PNG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video (MP4 or QuickTime)", "save frames"),
        (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)", "save frames"),
        (b"RIFF\0\0\0\0AVI LIST", "a video (AVI)", "save frames"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "AppleDouble", "leave it out"),
        (&targa, "a Targa (TGA) image", "convert it to JPEG"),
        (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0", "ICO images are not read", "convert it to JPEG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000 images are not read", "convert it to JPEG"),
        (b"\xff\x4f\xff\x51\0\x29", "JPEG 2000 images are not read", "convert it to JPEG"),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG images are not read", "render it"),
        (b"8BPS\0\x01", "Photoshop images are not read", "export it"),
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw images are not read", "develop it"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw images are not read", "develop it"),
        (b"\x76\x2f\x31\x01\x02\0\0\0", "OpenEXR images are not read", "map it to 8 bits"),
        (b"#?RADIANCE\nFORMAT", "Radiance HDR images are not read", "map it to 8 bits"),
    ] {
        let reason = message(bytes);
        assert!(reason.contains(says) && reason.contains(remedy), "{reason}");
        assert!(!reason.contains(char::is_control), "{reason:?}");
    }
}

/// A TIFF of these tags (tag, type, value), and pixels behind them.
fn tiff(entries: &[(u16, u16, u32)], pixels: usize) -> Vec<u8> {
    let mut entries = entries.to_vec();
    let start = 8 + 2 + 12 * (entries.len() as u32 + 2) + 4;
    entries.extend([(273, 4, start), (279, 4, pixels as u32)]);
    entries.sort_unstable();
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes.resize(bytes.len() + pixels, 0);
    bytes
}

#[test]
fn kinds_that_are_not_read_are_named() {
    let jpeg_of = |sof: u8, precision: u8| {
        let mut bytes = fixture("jpeg_grey.jpg");
        let at = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        (bytes[at + 1], bytes[at + 4]) = (sof, precision);
        message(&bytes)
    };
    for (sof, precision, kind) in [
        (0xc1, 12, "JPEG with 12 bits a sample"),
        (0xc3, 8, "lossless JPEG"),
        (0xc5, 8, "hierarchical JPEG"),
        (0xf7, 8, "JPEG-LS"),
    ] {
        let expected = format!("{kind} is not read; convert it to JPEG or to an 8-bit PNG");
        assert_eq!(jpeg_of(sof, precision), expected);
    }
    let size = [(256, 3, 4), (257, 3, 4)];
    for (tags, kind) in [
        (&[(258, 3, 32), (262, 3, 1)][..], "TIFF with samples of 32 bits is not read"),
        (&[(258, 3, 8), (262, 3, 1), (339, 3, 2)], "TIFF with signed samples of 8 bits is not read"),
        (&[(258, 3, 8), (262, 3, 8), (277, 3, 3)], "TIFF in the colour space CIELab is not read"),
        (&[(258, 3, 8), (262, 3, 1), (277, 3, 5)], "TIFF of 5 bands is not read"),
        (&[(258, 3, 8), (259, 3, 50000), (262, 3, 1)], "TIFF compressed with Zstandard is not read"),
        (&[(258, 3, 8), (259, 3, 34712), (262, 3, 1)], "TIFF compressed with JPEG 2000 is not read"),
        (&[(258, 3, 16), (262, 3, 32803)], "camera raw images are not read"),
    ] {
        let reason = message(&tiff(&[&size, tags].concat(), 64));
        assert!(reason.starts_with(kind), "{reason}");
    }
}

#[test]
fn floats_that_may_mean_anything_are_refused_with_their_range() {
    let tags = [(256, 3, 4), (257, 3, 4), (258, 3, 32), (262, 3, 1), (339, 3, 3)];
    let mut bytes = tiff(&tags, 64);
    let at = bytes.len() - 64;
    bytes[at..at + 4].copy_from_slice(&(-12.5_f32).to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&3871.0_f32.to_le_bytes());
    let reason = message(&bytes);
    assert!(
        reason.starts_with("TIFF with floating-point samples from -12.5 to 3871, whose meaning is unknown;"),
        "{reason}"
    );
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(message(&bytes).contains("from NaN to NaN"), "{}", message(&bytes));
}

#[test]
fn a_page_that_is_a_small_copy_of_another_is_no_photo() {
    let tags = [(254, 4, 1), (256, 3, 4), (257, 3, 4), (258, 3, 8), (262, 3, 1)];
    let mut bytes = tiff(&tags, 16);
    assert!(decode(&bytes, &DecodeOptions::default()).is_ok(), "it is the only one");
    // The next directory lies at the end, and has a width of 4000.
    let (next, end) = (8 + 2 + 12 * 7, bytes.len() as u32);
    bytes[next..next + 4].copy_from_slice(&end.to_le_bytes());
    bytes.extend([1, 0, 0, 1, 4, 0, 1, 0, 0, 0]);
    bytes.extend(4000_u32.to_le_bytes());
    bytes.extend([0; 4]);
    assert!(message(&bytes).starts_with("camera raw images are not read"), "{}", message(&bytes));
}

#[test]
fn a_jpeg_that_stops_in_zeros_is_an_error() {
    for name in ["jpeg_420.jpg", "jpeg_444.jpg", "jpeg_grey.jpg", "jpeg_restart.jpg", "jpeg_progressive.jpg"]
    {
        let mut bytes = fixture(name);
        let whole = bytes.len();
        bytes.truncate(whole * 2 / 3);
        bytes.resize(2 * whole, 0);
        let reason = message(&bytes);
        assert!(reason.starts_with("damaged or cut-off JPEG ("), "{name}: {reason}");
    }
}

fn modern(name: &str) -> Option<(Vec<u8>, RgbImage)> {
    let is_read = match name.rsplit('.').next() {
        Some("avif") => cfg!(feature = "avif"),
        Some("jxl") => cfg!(feature = "jxl"),
        _ => true,
    };
    let reference = tests_folder().join("reference/images_modern").join(format!("{name}.png"));
    let bytes = fs::read(tests_folder().join("fixtures/images_modern").join(name)).unwrap();
    is_read.then(|| (bytes, image::open(reference).unwrap().into_rgb8()))
}

fn modern_names() -> Vec<String> {
    let entries = fs::read_dir(tests_folder().join("fixtures/images_modern")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// HEIC against pillow-heif, AVIF against Pillow, JPEG XL against pillow-jxl-plugin (scripts/reference/make_modern_reference.py).
#[test]
fn modern_formats_equal_their_libraries() {
    let names = modern_names();
    assert!(names.len() > 40, "{} fixtures", names.len());
    let mut unequal = Vec::new();
    for name in &names {
        let Some((bytes, expected)) = modern(name) else { continue };
        // libjxl rounds to 8 bits by a pattern of its own.
        let allowed = if name.ends_with(".jxl") { 1 } else { 0 };
        match decode(&bytes, &DecodeOptions::default()) {
            Ok(image) if image.dimensions() == expected.dimensions() => {
                let (max, mean) = difference(&image, &expected);
                if max > allowed {
                    unequal.push(format!("{name}: at most {max}, on average {mean:.3}"));
                }
            }
            Ok(image) => unequal.push(format!("{name}: {:?}", image.dimensions())),
            Err(error) => unequal.push(format!("{name}: {error}")),
        }
    }
    assert_eq!(unequal, Vec::<String>::new());
}

#[test]
fn what_a_build_cannot_read_says_so() {
    for (name, is_read, feature) in [
        ("avif_420.avif", cfg!(feature = "avif"), "--features avif"),
        ("jxl_lossy.jxl", cfg!(feature = "jxl"), "--features jxl"),
    ] {
        let bytes = fs::read(tests_folder().join("fixtures/images_modern").join(name)).unwrap();
        if !is_read {
            assert!(message(&bytes).contains(feature), "{}", message(&bytes));
        }
    }
}

#[test]
fn modern_files_that_are_cut_or_damaged_are_errors_or_lose_nothing() {
    let options = DecodeOptions { max_pixels: 1 << 18, ..DecodeOptions::default() };
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
    for name in [
        "heic_420.heic",
        "heic_grid.heic",
        "avif_420.avif",
        "avif_grid.avif",
        "jxl_lossy.jxl",
        "jxl_of_jpeg.jxl",
    ] {
        let Some((bytes, _)) = modern(name) else { continue };
        let whole = decode(&bytes, &options).unwrap();
        for length in (1..bytes.len()).step_by(23) {
            if let Ok(image) = decode(&bytes[..length], &options) {
                assert_eq!(difference(&image, &whole), (0, 0.0), "{name} cut to {length} of {}", bytes.len());
            }
        }
        for _ in 0..60 {
            let mut bytes = bytes.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            if let Ok(image) = decode(&bytes, &options) {
                assert!(image.width() * image.height() <= 1 << 18);
            }
        }
        let few = DecodeOptions { max_pixels: 100, ..options };
        assert!(matches!(decode(&bytes, &few), Err(DecodeError::TooLarge { limit: 100, .. })), "{name}");
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let names = reference_names();
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
        recipe.apply(&image, crate::images::TensorLayout::Nchw, &mut tensor).unwrap();
        let sums: Vec<u64> = tensor.chunks(224 * 224).map(|c| c.iter().map(|&v| v as u64).sum()).collect();
        assert_eq!(sums, photo.resized_channel_sums, "{}", photo.name);
    }
}
