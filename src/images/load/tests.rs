use std::fs;
use std::path::PathBuf;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;
use crate::images::{Interpolation, PreprocessOverrides, Preset, hamming_distance};

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images");
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() > 50, "{} fixtures", files.len());
    files
}

fn recipe(overrides: PreprocessOverrides) -> Preprocess {
    Preprocess::preset(Preset::Torchvision).unwrap().with(&overrides).unwrap()
}

fn in_two_steps(bytes: &[u8], options: &DecodeOptions, recipe: &Preprocess) -> Result<Vec<f32>, String> {
    let image = decode(bytes, options).map_err(|error| error.to_string())?;
    let mut out = vec![f32::NAN; recipe.tensor_len()];
    recipe.apply(&image, TensorLayout::Nchw, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}

fn in_one(bytes: &[u8], options: &DecodeOptions, recipe: &Preprocess) -> Result<Vec<f32>, String> {
    let mut out = vec![f32::NAN; recipe.tensor_len()];
    load(bytes, options, recipe, TensorLayout::Nchw, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}

/// Small crops keep little of an image, so that most of its blocks and rows are left out.
fn recipes() -> Vec<Preprocess> {
    let sizes = [((224, 224), Some(256)), ((20, 12), Some(45)), ((8, 8), Some(61)), ((16, 9), None)];
    let mut recipes = Vec::new();
    for (size, shorter_side) in sizes {
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Lanczos] {
            recipes.push(recipe(PreprocessOverrides {
                size: Some(size),
                shorter_side,
                stretch: shorter_side.is_none().then_some(true),
                interpolation: Some(interpolation),
                ..Default::default()
            }));
        }
    }
    recipes
}

#[test]
fn one_go_gives_the_tensor_of_two_steps() {
    for apply_orientation in [true, false] {
        let options = DecodeOptions { apply_orientation, ..Default::default() };
        for (name, bytes) in fixtures() {
            for recipe in recipes() {
                let (found, expected) =
                    (in_one(&bytes, &options, &recipe), in_two_steps(&bytes, &options, &recipe));
                assert!(found == expected, "{name}: {}", recipe.describe());
            }
        }
    }
}

#[test]
fn a_larger_jpeg_gives_the_same_tensor_whatever_part_of_it_is_decoded() {
    // Large enough that whole block rows and columns are skipped, in every way of subsampling chroma.
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let (width, height) = (403_usize, 301_usize);
    let pixels: Vec<u8> = (0..width * height)
        .flat_map(|index| {
            let (x, y) = (index % width, index / width);
            [(x * 255 / width) as u8, (y * 255 / height) as u8, rng.random::<u8>() / 2]
        })
        .collect();
    for (h, v) in [(1, 1), (2, 1), (2, 2), (1, 2), (4, 1)] {
        for progressive in [false, true] {
            let mut compress = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
            compress.set_size(width, height);
            compress.set_quality(85.0);
            compress.set_chroma_sampling_pixel_sizes((h, v), (h, v));
            if progressive {
                compress.set_progressive_mode();
            } else {
                compress.set_fastest_defaults();
                compress.set_chroma_sampling_pixel_sizes((h, v), (h, v));
            }
            let mut compress = compress.start_compress(Vec::new()).unwrap();
            compress.write_scanlines(&pixels).unwrap();
            let bytes = compress.finish().unwrap();
            for size in [(10, 301), (301, 10), (17, 18), (150, 60), (64, 299)] {
                let recipe = recipe(PreprocessOverrides {
                    size: Some(size),
                    shorter_side: Some(301),
                    interpolation: Some(Interpolation::Bicubic),
                    ..Default::default()
                });
                let options = DecodeOptions::default();
                assert!(
                    in_one(&bytes, &options, &recipe) == in_two_steps(&bytes, &options, &recipe),
                    "{h} x {v}, progressive {progressive}: {}",
                    recipe.describe()
                );
            }
        }
    }
}

#[test]
fn a_jpeg_that_is_cut_or_damaged_outside_the_crop_is_an_error_all_the_same() {
    let options = DecodeOptions::default();
    let small =
        recipe(PreprocessOverrides { size: Some((8, 8)), shorter_side: Some(47), ..Default::default() });
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    for (name, bytes) in fixtures().into_iter().filter(|(name, _)| name.starts_with("jpeg_4")) {
        for length in (1..bytes.len()).step_by(7) {
            let (cut, whole) = (
                in_one(&bytes[..length], &options, &small),
                in_two_steps(&bytes[..length], &options, &small),
            );
            assert_eq!(cut.err(), whole.err(), "{name} cut to {length}");
        }
        for _ in 0..50 {
            let mut damaged = bytes.clone();
            let at = rng.random_range(0..damaged.len());
            damaged[at] = rng.random();
            let (found, expected) =
                (in_one(&damaged, &options, &small), in_two_steps(&damaged, &options, &small));
            assert!(found == expected, "{name} with byte {at} = {}", damaged[at]);
        }
    }
}

#[test]
fn reduced_decoding_changes_large_jpegs_a_little_and_small_ones_not_at_all() {
    let (width, height) = (1600_usize, 1203_usize);
    let wave = |length: f64, at: usize| 127.5 + 100.0 * (at as f64 / length).sin();
    let pixels: Vec<u8> = (0..width * height)
        .flat_map(|index| {
            let (x, y) = (index % width, index / width);
            [wave(37.0, x) as u8, wave(61.0, y) as u8, wave(90.0, x + y) as u8]
        })
        .collect();
    let mut compress = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    compress.set_size(width, height);
    compress.set_quality(95.0);
    let mut compress = compress.start_compress(Vec::new()).unwrap();
    compress.write_scanlines(&pixels).unwrap();
    let bytes = compress.finish().unwrap();
    let levels = |side, dct_scaling| {
        recipe(PreprocessOverrides {
            size: Some((side, side)),
            divisor: Some(1.0),
            mean: Some([0.0; 3]),
            std: Some([1.0; 3]),
            dct_scaling: Some(dct_scaling),
            ..Default::default()
        })
    };
    let options = DecodeOptions::default();
    for side in [64, 112, 224] {
        let exact = in_one(&bytes, &options, &levels(side, false)).unwrap();
        let reduced = in_one(&bytes, &options, &levels(side, true)).unwrap();
        let largest = exact.iter().zip(&reduced).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest <= 3.0, "{side}: {largest} levels");
        assert!(largest > 0.0, "{side}: nothing was reduced");
    }
    // 1203 rows to 700 leave less than two to one at half the size.
    assert!(in_one(&bytes, &options, &levels(612, false)) == in_one(&bytes, &options, &levels(612, true)));
}

/// The hashes of an image under every recipe, with its orientation and without, reduced and not, and without a tensor.
fn hashes(bytes: &[u8]) -> Vec<PerceptualHash> {
    let mut hashes = vec![decode_hash(bytes, &DecodeOptions::default()).unwrap()];
    for recipe in recipes() {
        for (apply_orientation, dct_scaling) in [(true, false), (true, true), (false, false), (false, true)] {
            let options = DecodeOptions { apply_orientation, ..Default::default() };
            let recipe = recipe
                .with(&PreprocessOverrides { dct_scaling: Some(dct_scaling), ..Default::default() })
                .unwrap();
            let mut out = vec![f32::NAN; recipe.tensor_len()];
            hashes.push(load_and_hash(bytes, &options, &recipe, TensorLayout::Nchw, &mut out).unwrap());
            let mut expected = vec![f32::NAN; recipe.tensor_len()];
            load(bytes, &options, &recipe, TensorLayout::Nchw, &mut expected).unwrap();
            assert!(out == expected, "hashing changes the tensor");
        }
    }
    hashes
}

#[test]
fn a_hash_is_that_of_the_whole_upright_image_whatever_the_network_sees_of_it() {
    let options = DecodeOptions::default();
    for (name, bytes) in fixtures() {
        let Ok(image) = decode(&bytes, &options) else { continue };
        let hashes = hashes(&bytes);
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{name}");
        let distance = hamming_distance(&hashes[0], &perceptual_hash(&image));
        let most = if name.ends_with(".jpg") { 12 } else { 0 };
        assert!(distance <= most, "{name}: {distance} bits from the hash of its pixels");
    }
}

#[test]
fn luma_of_a_jpeg_is_gathered_at_every_size_and_in_every_way_that_it_is_stored() {
    let wave = |x: usize, y: usize| {
        127.5 + 60.0 * ((x * 7) as f64 / 40.0).sin() + 60.0 * ((y * x) as f64 / 900.0).cos()
    };
    for (width, height) in [(19, 33), (70, 61), (131, 140), (403, 301), (61, 500)] {
        let samples = (0..width * height).flat_map(|index| {
            let value = wave(200 * (index % width) / width, 150 * (index / width) / height) as u8;
            [value, 255 - value / 2, value / 3 + (index % width * 100 / width) as u8]
        });
        let samples: Vec<u8> = samples.collect();
        for (h, v) in [(1, 1), (2, 1), (2, 2), (1, 2), (4, 1)] {
            for progressive in [false, true] {
                let mut compress = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
                compress.set_size(width, height);
                if progressive {
                    compress.set_progressive_mode();
                } else {
                    compress.set_fastest_defaults();
                }
                compress.set_quality(90.0);
                compress.set_chroma_sampling_pixel_sizes((h, v), (h, v));
                let mut compress = compress.start_compress(Vec::new()).unwrap();
                compress.write_scanlines(&samples).unwrap();
                let bytes = compress.finish().unwrap();
                let hashes = hashes(&bytes);
                assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{width} x {height}, {h} x {v}");
                let pixels = perceptual_hash(&decode(&bytes, &DecodeOptions::default()).unwrap());
                let distance = hamming_distance(&hashes[0], &pixels);
                // Of smaller images so few frequencies have detail that their bits, or whether there is enough of it at
                // all, hang on rounding.
                if width.min(height) >= 64 {
                    assert!(distance <= 12, "{width} x {height}, {h} x {v}, {progressive}: {distance} bits");
                }
            }
        }
    }
}
