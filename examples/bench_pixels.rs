//! Times decoding and preprocessing alone, for `scripts/bench-extract`: `bench_pixels FOLDER THREADS RUNS` turns every file
//! of a folder into the input tensor of torchvision's recipe and prints the seconds of each run as JSON. Nothing but the
//! files' bytes is held in memory beforehand.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use cnncodes::images::{DecodeOptions, Layout, Preprocess, Preset, decode};
use rayon::prelude::*;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, threads, runs] = &arguments[..] else {
        bail!("usage: bench_pixels FOLDER THREADS RUNS");
    };
    let Some(recipe) = Preprocess::preset(Preset::Torchvision) else { bail!("no such preset") };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(std::fs::read).collect::<std::io::Result<_>>()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build()?;
    let mut seconds = Vec::new();
    let mut sum = 0.0;
    for _ in 0..runs.parse()? {
        let start = Instant::now();
        sum = pool.install(|| -> Result<f64> {
            files
                .par_iter()
                .map_init(
                    || vec![0.0_f32; recipe.tensor_len()],
                    |tensor, bytes| -> Result<f64> {
                        let image = decode(bytes, &DecodeOptions::default())?;
                        recipe.apply(&image, Layout::Nchw, tensor)?;
                        Ok(f64::from(tensor[tensor.len() / 2]))
                    },
                )
                .sum()
        })?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    println!("{}", serde_json::json!({ "photos": files.len(), "seconds": seconds, "checksum": sum }));
    Ok(())
}
