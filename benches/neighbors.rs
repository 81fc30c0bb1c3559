//! What `scripts/bench/neighbors` runs: FOLDER, where the features file is made, then options.

mod common;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use cnncodes::features::{
    FeatureFile, FeatureFileHeader, FeatureRow, FeatureWriter, StoredLayer, WriteOptions,
};
use cnncodes::similarity::{Metric, NeighborSearch};
use common::spec;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

#[derive(Parser)]
struct Args {
    folder: std::path::PathBuf,
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    #[arg(long, default_value_t = 2048)]
    width: usize,
    #[arg(long, default_value_t = 32)]
    queries: usize,
    #[arg(short, default_value_t = 10)]
    k: usize,
    #[arg(long, default_value = "cosine")]
    metric: Metric,
    /// Turns of each
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Drop the file from the page cache before each turn
    #[arg(long)]
    cold: bool,
}

/// Features as a ReLU and an average leave them: none negative, most small.
fn write(path: &Path, rows: usize, width: usize, seed: u64) -> anyhow::Result<()> {
    const BATCH: usize = 1000;
    let layer = StoredLayer { spec: spec("avg_pool"), shape: vec![width] };
    let header = FeatureFileHeader {
        program_version: env!("CARGO_PKG_VERSION").into(),
        source: "random".into(),
        runtime: "none".into(),
        device: "cpu".into(),
        class_names: Vec::new(),
        layers: vec![layer],
    };
    let mut writer =
        FeatureWriter::create(path, &header, WriteOptions { overwrite: true, expected_rows: rows })?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    for start in (0..rows).step_by(BATCH) {
        let count = BATCH.min(rows - start);
        let features: Vec<f32> = (0..count * width).map(|_| rng.random_range(0.0f32..1.0).powi(3)).collect();
        let names: Vec<(String, String)> =
            (start..start + count).map(|row| (format!("{row:08}.jpg"), format!("{row:064x}"))).collect();
        let slices: Vec<[&[f32]; 1]> = features.chunks(width).map(|row| [row]).collect();
        let rows: Vec<FeatureRow<'_>> = names
            .iter()
            .zip(&slices)
            .map(|((name, sha256), features)| FeatureRow {
                name,
                label: -1,
                sha256,
                perceptual_hash: None,
                features,
            })
            .collect();
        writer.append(&rows, &[])?;
    }
    writer.finish()?;
    Ok(())
}

/// Makes the system forget the file's pages.
fn drop_from_cache(path: &Path) -> anyhow::Result<()> {
    use std::os::fd::AsRawFd;
    let file = File::open(path)?;
    file.sync_all()?;
    // SAFETY: the descriptor is that of the open file, and the call only gives advice.
    let status = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    ensure!(status == 0, "the page cache cannot be told to forget {}", path.display());
    Ok(())
}

fn python(script_arguments: &[&str]) -> anyhow::Result<Option<f64>> {
    let Some(python) = std::env::var_os("CNNCODES_BENCH_PYTHON").filter(|python| !python.is_empty()) else {
        return Ok(None);
    };
    let output = Command::new(python).arg("scripts/bench/neighbors.py").args(script_arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(String::from_utf8(output.stdout)?.trim().parse()?))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (features, asked) = (args.folder.join("features.h5"), args.folder.join("queries.h5"));
    write(&features, args.rows, args.width, 1)?;
    write(&asked, args.queries, args.width, 2)?;
    let (features_name, asked_name, k) =
        (features.to_string_lossy(), asked.to_string_lossy(), args.k.to_string());
    let queries: Array2<f32> = FeatureFile::open(&asked)?.read_layer(None)?;
    let names = ["open", "read once", "neighbours", "read once, h5py", "neighbours, NumPy"];
    let mut times: [Vec<f64>; 5] = Default::default();
    let prepare = || if args.cold { drop_from_cache(&features) } else { Ok(()) };
    if !args.cold {
        std::io::copy(&mut File::open(&features)?, &mut std::io::sink())?;
    }
    for _ in 0..args.turns {
        prepare()?;
        let start = Instant::now();
        let file = FeatureFile::open(&features)?;
        times[0].push(start.elapsed().as_secs_f64());

        prepare()?;
        let start = Instant::now();
        let step = 2048;
        let mut block = vec![0.0; step * args.width];
        for first in (0..args.rows).step_by(step) {
            let range = first..args.rows.min(first + step);
            let values = range.len() * args.width;
            file.read_rows(None, range, &mut block[..values])?;
        }
        times[1].push(start.elapsed().as_secs_f64());

        prepare()?;
        let start = Instant::now();
        let search = NeighborSearch {
            queries: queries.view(),
            k: args.k,
            metric: args.metric,
            left_out: &|_, _| false,
        };
        let found = search.run(&file, None, |_| {})?;
        times[2].push(start.elapsed().as_secs_f64());
        ensure!(found.len() == args.queries && found[0].len() == args.k.min(args.rows), "too few were found");

        for (index, what) in [(3, "read"), (4, "search")] {
            prepare()?;
            let taken = python(&[&features_name, &asked_name, &k, what]).context("the turn in Python")?;
            times[index].extend(taken);
        }
    }
    let cache = if args.cold { "cold" } else { "warm" };
    println!(
        "{} rows x {} features, {} queries, k = {}, {}, page cache {cache}, {} turns, medians",
        args.rows, args.width, args.queries, args.k, args.metric, args.turns
    );
    let read = median(&mut times[1]);
    for (name, times) in names.iter().zip(&mut times) {
        if !times.is_empty() {
            let time = median(times);
            println!("{name:<18} {time:8.3} s  {:5.2} x reading once", time / read);
        }
    }
    Ok(())
}
