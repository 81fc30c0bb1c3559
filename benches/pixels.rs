//! Times decoding and preprocessing alone, for `scripts/bench/extract`: `pixels FOLDER THREADS RUNS [--fast-decode]` turns
//! every file of a folder into the input tensor of torchvision's recipe and prints the seconds of each run as JSON. The
//! files' bytes are in memory beforehand.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use cnncodes::images::{DecodeOptions, Preprocess, PreprocessOverrides, Preset, TensorLayout, load};
use rayon::prelude::*;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (fast, positional): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| *argument == "--fast-decode");
    let [folder, threads, runs] = &positional[..] else {
        bail!("usage: pixels FOLDER THREADS RUNS [--fast-decode]");
    };
    let Some(recipe) = Preprocess::preset(Preset::Torchvision) else { bail!("no such preset") };
    let recipe =
        recipe.with(&PreprocessOverrides { dct_scaling: Some(!fast.is_empty()), ..Default::default() })?;
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
                        load(bytes, &DecodeOptions::default(), &recipe, TensorLayout::Nchw, tensor)?;
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
