//! What an image costs beside the network, stage by stage: `cargo bench --bench extraction`.
//!
//! The photos are drawn here, so that the figures do not depend on anybody's files. Whole extractions are measured beside
//! other programs by `scripts/bench/extract`.

mod common;

use std::hint::black_box;
use std::time::Duration;

use cnncodes::features::{FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, WriteOptions};
use cnncodes::images::{DecodeOptions, Preprocess, PreprocessOverrides, Preset, TensorLayout, decode, load};
use common::spec;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use image::{Rgb, RgbImage};

/// A photo as cameras of long ago and of today make them, and one that has the network's size.
const SIZES: [(u32, u32); 3] = [(500, 375), (4000, 3000), (224, 224)];

/// Slopes, edges and noise, so that a JPEG of it is about as large as a photo's.
fn picture((width, height): (u32, u32)) -> RgbImage {
    let mut state = 1_u32;
    RgbImage::from_fn(width, height, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 28) as u8;
        let edge = if (x / 37 + y / 23).is_multiple_of(3) { 60 } else { 0 };
        let slope = |a: u32, length: u32| (a * 150 / length) as u8;
        Rgb([
            slope(x, width) + edge + noise,
            slope(y, height) + noise,
            slope(x + y, width + height) + edge + noise,
        ])
    })
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut compress = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    compress.set_size(picture.width() as usize, picture.height() as usize);
    compress.set_quality(90.0);
    let mut started = compress.start_compress(Vec::new()).expect("a picture with pixels can be compressed");
    started.write_scanlines(picture.as_raw()).expect("memory takes what is written");
    started.finish().expect("memory takes what is written")
}

fn torchvision() -> Preprocess {
    Preprocess::preset(Preset::Torchvision).expect("the preset has a recipe")
}

fn images(criterion: &mut Criterion) {
    let recipe = torchvision();
    let fast = PreprocessOverrides { dct_scaling: Some(true), ..Default::default() };
    let fast = recipe.with(&fast).expect("a switch leaves a recipe usable");
    let options = DecodeOptions::default();
    let mut tensor = vec![0.0; recipe.tensor_len()];
    for size in SIZES {
        let (width, height) = size;
        let picture = picture(size);
        let file = jpeg(&picture);
        let mut group = criterion.benchmark_group(format!("{width} x {height}"));
        group.throughput(Throughput::Elements(u64::from(width) * u64::from(height)));
        group.bench_function("decode", |bencher| bencher.iter(|| decode(black_box(&file), &options)));
        // Of a picture of the network's size this is the normalisation, since there is nothing to weigh.
        let what = if width == 224 { "normalise" } else { "resize and normalise" };
        let stretch = PreprocessOverrides { stretch: Some(true), ..Default::default() };
        let own = if width == 224 { recipe.with(&stretch) } else { Ok(recipe.clone()) };
        let own = own.expect("stretching leaves a recipe usable");
        group.bench_function(what, |bencher| {
            bencher.iter(|| own.apply(black_box(&picture), TensorLayout::Nchw, &mut tensor));
        });
        for (name, recipe) in [("file to tensor", &recipe), ("file to tensor, --fast-decode", &fast)] {
            group.bench_function(name, |bencher| {
                bencher.iter(|| load(black_box(&file), &options, recipe, TensorLayout::Nchw, &mut tensor));
            });
        }
        group.finish();
    }
}

/// Rows of a file that is written and finished.
const ROWS: usize = 1024;

fn writing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write 1024 rows of 2048 codes");
    group.throughput(Throughput::Elements(ROWS as u64));
    let header = FeatureFileHeader {
        source: "data".to_owned(),
        class_names: Vec::new(),
        layers: vec![StoredLayer { spec: spec("layer"), shape: vec![2048] }],
        program_version: String::new(),
        runtime: String::new(),
        device: "cpu".to_owned(),
    };
    let names: Vec<String> = (0..ROWS).map(|row| format!("{row:05}.jpg")).collect();
    let (features, sha256) = (vec![0.5_f32; 2048], "0".repeat(64));
    let features: &[&[f32]] = &[&features];
    let rows: Vec<FeatureRow<'_>> = names
        .iter()
        .map(|name| FeatureRow { name, label: -1, sha256: &sha256, perceptual_hash: None, features })
        .collect();
    for batch in [2, 8, 32] {
        group.bench_function(BenchmarkId::new("batches of", batch), |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir().expect("there is a place for temporary files"),
                |folder| {
                    let output = folder.path().join("features.h5");
                    let options = WriteOptions { overwrite: true, expected_rows: ROWS };
                    let mut writer =
                        FeatureWriter::create(&output, &header, options).expect("the header is valid");
                    for rows in rows.chunks(batch) {
                        writer.append(rows, &[]).expect("the rows fit");
                    }
                    writer.finish().expect("the disk has room");
                    folder
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = extraction;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = images, writing
}
criterion_main!(extraction);
