//! Times the forward runs of a network cut at a layer, for `scripts/bench/truncation`, `arrangement` and `extract`:
//! `forward NETWORK.onnx LAYER BATCH THREADS RUNS [SESSIONS]` prints the milliseconds of each run and the peak memory
//! as JSON. Several sessions, of THREADS each, run side by side, each its own batch.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cnncodes::network::{Backbone, Catalogue, Graph, SessionSettings};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (network, layer, batch, threads, runs, sessions) = match &arguments[..] {
        [network, layer, batch, threads, runs] => (network, layer, batch, threads, runs, 1),
        [network, layer, batch, threads, runs, sessions] => {
            (network, layer, batch, threads, runs, sessions.parse()?)
        }
        _ => bail!("usage: forward NETWORK.onnx LAYER BATCH THREADS RUNS [SESSIONS]"),
    };
    let runs: usize = runs.parse()?;
    let start = Instant::now();
    let graph = Graph::open(Path::new(network))?;
    let layer = Catalogue::of(&graph, &Default::default()).find(network, layer)?.clone();
    let settings = SessionSettings { threads: Some(threads.parse()?), ..Default::default() };
    let side = |fixed: Option<usize>| u32::try_from(fixed.unwrap_or(224));
    let size = (side(graph.input().width)?, side(graph.input().height)?);
    let mut backbones = (0..sessions)
        .map(|_| Ok(Backbone::open(&graph, std::slice::from_ref(&layer), size, &settings)?))
        .collect::<Result<Vec<_>>>()?;
    let ready = start.elapsed().as_secs_f64();
    let image_len = backbones.first().context("no session was asked for")?.image_len();
    let images = vec![0.5_f32; batch.parse::<usize>()? * image_len];
    let milliseconds = std::thread::scope(|scope| {
        let timed = |backbone: &mut Backbone| -> Result<Vec<f64>> {
            let mut milliseconds = Vec::new();
            for _ in 0..runs {
                let start = Instant::now();
                backbone.run(&images)?;
                milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
            }
            Ok(milliseconds)
        };
        let threads: Vec<_> =
            backbones.iter_mut().map(|backbone| scope.spawn(move || timed(backbone))).collect();
        let mut slowest = vec![0.0_f64; runs];
        for thread in threads {
            let Ok(milliseconds) = thread.join() else { bail!("a session's thread panicked") };
            slowest.iter_mut().zip(milliseconds?).for_each(|(most, took)| *most = most.max(took));
        }
        Ok(slowest)
    })?;
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
