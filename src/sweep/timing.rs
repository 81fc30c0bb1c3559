//! How long the network takes up to a layer.

use std::time::Instant;

use crate::network::{Backbone, BackboneError, Graph, Layer, SessionSettings};

/// Runs that are timed, after one that is not.
const RUNS: usize = 3;

/// Milliseconds that the network, cut at `layer`, takes for one image of `size` (width, height): the least of three runs,
/// since whatever else the machine does only adds to it. Networks of a fixed batch take that many images at once, and
/// the time is shared among them.
///
/// # Errors
/// The runtime cannot load or run the network.
pub fn milliseconds(
    graph: &Graph,
    layer: &Layer,
    size: (u32, u32),
    settings: &SessionSettings,
) -> Result<f64, BackboneError> {
    let mut backbone = Backbone::open(graph, std::slice::from_ref(layer), size, settings)?;
    let images = backbone.fixed_batch().unwrap_or(1);
    // Zeros could be faster than what pictures hold.
    let batch = vec![0.5_f32; images * backbone.image_len()];
    backbone.run(&batch)?;
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        backbone.run(&batch)?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least * 1e3 / images as f64)
}
