//! Writes a file of random features of any size, with a seed: called by `scripts/bench/out-of-core`.

mod common;

use std::{env, path::Path};

use cnncodes::features::{FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, WriteOptions};
use common::spec;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Rows that are appended at a time.
const BATCH: usize = 1000;
/// Dimensions in which the classes differ.
const LATENT: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [output, rows, columns, classes] = &arguments[..] else {
        return Err("usage: random_features OUTPUT.h5 ROWS COLUMNS CLASSES".into());
    };
    let (rows, columns, classes): (usize, usize, usize) = (rows.parse()?, columns.parse()?, classes.parse()?);
    let header = FeatureFileHeader {
        program_version: env!("CARGO_PKG_VERSION").into(),
        source: "random_features".into(),
        runtime: "none".into(),
        device: "cpu".into(),
        class_names: (0..classes).map(|class| format!("class{class}")).collect(),
        layers: vec![StoredLayer { spec: spec("features"), shape: vec![columns] }],
    };
    let options = WriteOptions { overwrite: true, expected_rows: rows };
    let mut writer = FeatureWriter::create(Path::new(output), &header, options)?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(0);
    let mut uniform = move || rng.random_range(-1f32..1.0);
    let centres: Vec<f32> = (0..classes * LATENT).map(|_| 0.7 * uniform()).collect();
    let mixing: Vec<f32> = (0..LATENT * columns).map(|_| uniform()).collect();
    let mut features = vec![0f32; BATCH * columns];
    for first in (0..rows).step_by(BATCH) {
        let count = BATCH.min(rows - first);
        for (i, row) in features.chunks_exact_mut(columns).take(count).enumerate() {
            row.fill_with(&mut uniform);
            let centre = &centres[label(first + i, classes) * LATENT..][..LATENT];
            for (mixing, centre) in mixing.chunks_exact(columns).zip(centre) {
                let latent = centre + uniform();
                row.iter_mut().zip(mixing).for_each(|(x, m)| *x += latent * m);
            }
            row.iter_mut().for_each(|x| *x = x.max(0.0));
        }
        let names: Vec<String> = (first..first + count).map(|row| format!("{row:08}.jpg")).collect();
        let hashes: Vec<String> = (first..first + count).map(|row| format!("{row:064x}")).collect();
        let parts: Vec<[&[f32]; 1]> = features.chunks_exact(columns).take(count).map(|row| [row]).collect();
        let batch: Vec<FeatureRow<'_>> = (0..count)
            .map(|i| FeatureRow {
                name: &names[i],
                label: label(first + i, classes) as i64,
                sha256: &hashes[i],
                perceptual_hash: None,
                features: &parts[i],
            })
            .collect();
        writer.append(&batch, &[])?;
    }
    writer.finish()?;
    Ok(())
}

/// Classes in a fixed order without a pattern.
fn label(row: usize, classes: usize) -> usize {
    row.wrapping_mul(0x9E37_79B9).wrapping_shr(7) % classes
}
