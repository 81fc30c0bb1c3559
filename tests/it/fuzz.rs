//! The fuzz targets over their seeds and over seeded mutations of them: bounded by count, the same in every run.
//!
//! `scripts/dev/fuzz` runs the same targets under cargo-fuzz for as long as one likes; what it finds becomes a file in
//! tests/fixtures/fuzz/TARGET/, which is a seed from then on. docs/fuzzing.md tells of past runs.

mod targets;

use std::fs;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::common::fixture;

/// Files whose name ends in one of `endings`, in order of name, no larger than `limit`.
fn files(folder: &Path, endings: &[&str], limit: u64) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| {
        path.is_file()
            && fs::metadata(path).unwrap().len() <= limit
            && endings.iter().any(|ending| path.to_string_lossy().ends_with(ending))
    });
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One to four changes of the kinds that libFuzzer makes.
fn mutate(seed: &[u8], other: &[u8], random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            return other.to_vec();
        }
        let at = random.random_range(0..bytes.len());
        let end = bytes.len().min(at + 1 + random.random_range(0..64));
        match random.random_range(0..7) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff, b'0', b',', b'\n'].get(at % 8).unwrap(),
            2 => {
                let word: u32 = [0, 1, 0x7fff_ffff, u32::MAX, 1 << 31, 0xffff][random.random_range(0..6)];
                let word = if random.random() { word.to_le_bytes() } else { word.to_be_bytes() };
                let end = bytes.len().min(at + 4);
                bytes[at..end].copy_from_slice(&word[..end - at]);
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let start = random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[start..]);
            }
        }
    }
    bytes
}

/// Runs the target over the seeds, of which it takes `taken`, and over mutations of them.
fn run(target: fn(&[u8]) -> bool, seeds: &[Vec<u8>], taken: usize, mutations: usize) {
    assert_eq!(seeds.iter().filter(|seed| target(seed)).count(), taken, "of {} seeds", seeds.len());
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
    for _ in 0..mutations {
        let [seed, other] = [0; 2].map(|_| &seeds[random.random_range(0..seeds.len())]);
        target(&mutate(seed, other, &mut random));
    }
}

fn own_seeds(target: &str) -> Vec<Vec<u8>> {
    files(&fixture("fixtures/fuzz").join(target), &[""], u64::MAX)
}

#[test]
fn images_of_any_bytes_are_decoded_or_refused() {
    let endings = [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif"];
    let mut seeds = files(&fixture("fixtures/images"), &endings, 16 << 10);
    seeds.extend(own_seeds("image"));
    let mut read = 66;
    for (ending, is_read) in
        [(".heic", true), (".avif", cfg!(feature = "avif")), (".jxl", cfg!(feature = "jxl"))]
    {
        let modern = files(&fixture("fixtures/images_modern"), &[ending], 16 << 10);
        read += if is_read { modern.len() } else { 0 };
        seeds.extend(modern);
    }
    run(targets::image, &seeds, read, 2_000);
}

#[test]
fn lists_of_any_bytes_are_read_or_refused() {
    run(targets::list, &own_seeds("list"), 5, 20_000);
}

#[test]
fn shards_of_any_bytes_are_listed_or_refused() {
    run(targets::shard, &own_seeds("shard"), 6, 20_000);
}

#[test]
fn networks_of_any_bytes_are_read_and_cut_or_refused() {
    let mut seeds = files(&fixture("fixtures/graphs"), &[".onnx"], 16 << 10);
    seeds.extend(own_seeds("network"));
    run(targets::network, &seeds, 14, 2_000);
}

#[test]
fn features_of_any_bytes_are_read_or_refused() {
    run(targets::features, &own_seeds("features"), 2, 2_000);
}

#[test]
fn heads_of_any_bytes_are_read_or_refused() {
    run(targets::head, &own_seeds("head"), 4, 2_000);
}

#[test]
fn arrays_of_any_bytes_are_read_or_refused() {
    run(targets::array, &own_seeds("array"), 2, 2_000);
}
