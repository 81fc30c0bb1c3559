//! Times the forward runs of a network cut at a layer, for `scripts/bench_truncation.py`:
//! `bench_forward NETWORK.onnx LAYER BATCH THREADS RUNS` prints the milliseconds of each run and the peak memory as JSON.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cnncodes::backbone::{Backbone, Catalogue, Graph, SessionSettings};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, layer, batch, threads, runs] = &arguments[..] else {
        bail!("usage: bench_forward NETWORK.onnx LAYER BATCH THREADS RUNS");
    };
    let start = Instant::now();
    let graph = Graph::open(Path::new(network))?;
    let layer = Catalogue::of(&graph, &Default::default()).find(network, layer)?.clone();
    let settings = SessionSettings { threads: Some(threads.parse()?), ..Default::default() };
    let mut backbone = Backbone::open(&graph, &[layer], (224, 224), &settings)?;
    let ready = start.elapsed().as_secs_f64();
    let images = vec![0.5_f32; batch.parse::<usize>()? * backbone.image_len()];
    let mut milliseconds = Vec::new();
    for _ in 0..runs.parse()? {
        let start = Instant::now();
        backbone.run(&images, |_, _| ())?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let status =
        std::fs::read_to_string("/proc/self/status").context("the peak memory is read from /proc")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    let kilobytes: u64 = peak.trim().trim_end_matches("kB").trim().parse()?;
    println!(
        "{}",
        serde_json::json!({ "ready": ready, "milliseconds": milliseconds, "peak_mb": kilobytes as f64 / 1024.0 })
    );
    Ok(())
}
