//! What tapping all candidate layers costs over tapping the deepest alone, for `scripts/bench/sweep`:
//! `sweep NETWORK.onnx BATCH THREADS ROUNDS` times both in turn, in one process, and prints the layers, the
//! milliseconds of each round and the ratio of the medians as JSON.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use cnncodes::network::{Backbone, Catalogue, Graph, Layer, Pooling, SessionSettings};
use cnncodes::sweep::{CandidateLayers, LayerChoice, POOLINGS, SPREAD_LAYERS};

const SIZE: (u32, u32) = (224, 224);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, batch, threads, rounds] = &arguments[..] else {
        bail!("usage: sweep NETWORK.onnx BATCH THREADS ROUNDS");
    };
    let graph = Graph::open(Path::new(network))?;
    let catalogue = Catalogue::of(&graph, &Default::default());
    let candidates = CandidateLayers::new(
        network,
        &graph,
        &catalogue,
        SIZE,
        &LayerChoice::Spread(SPREAD_LAYERS),
        &POOLINGS,
    )?;
    let (mut layers, mut poolings): (Vec<Layer>, Vec<Pooling>) = (Vec::new(), Vec::new());
    for candidate in &candidates.layers {
        for &pooling in &candidate.poolings {
            layers.push(candidate.layer.clone());
            poolings.push(pooling);
        }
    }
    // As a sweep runs it. Besides, threads that wait without sleeping would take the other session's cores.
    let settings =
        SessionSettings { threads: Some(threads.parse()?), shared_cores: true, ..Default::default() };
    let mut sweep = Backbone::open_pooled(&graph, &layers, &poolings, SIZE, &settings)?;
    let mut deepest = Backbone::open(&graph, &[candidates.top().layer.clone()], SIZE, &settings)?;
    let images = vec![0.5_f32; batch.parse::<usize>()? * sweep.image_len()];
    let timed = |backbone: &mut Backbone| -> Result<f64> {
        let start = Instant::now();
        backbone.run(&images)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    // The first run of a session allocates.
    timed(&mut sweep)?;
    timed(&mut deepest)?;
    let (mut of_sweep, mut of_deepest) = (Vec::new(), Vec::new());
    for _ in 0..rounds.parse()? {
        of_sweep.push(timed(&mut sweep)?);
        of_deepest.push(timed(&mut deepest)?);
    }
    let median = |times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let names: Vec<&str> = candidates.layers.iter().map(|candidate| candidate.layer.name.as_str()).collect();
    println!(
        "{}",
        serde_json::json!({
            "layers": names,
            "codes": layers.len(),
            "sweep_ms": of_sweep,
            "deepest_ms": of_deepest,
            "median_sweep_ms": median(&of_sweep),
            "median_deepest_ms": median(&of_deepest),
            "ratio": median(&of_sweep) / median(&of_deepest),
        })
    );
    Ok(())
}
