//! How a network runs on a machine: number of sessions, threads of each session, and batch size.
//!
//! Threads that share an operation wait for one another at its end, and most operations of a small network are short. It is
//! faster to give each thread its own session and its own small batch, which stays in the cache of its core: MobileNetV2 by a
//! quarter on two cores, ResNet50 by 2 % (docs/bench-arrangement.md). But each session has its own copy of the weights. So a
//! network with large weights, which means dense layers, gets fewer sessions with several threads each, and batches so large
//! that reading the weights takes a small part of the time.

use super::graph::Graph;
use super::inference::fixed_batch;
use super::layer::Layer;

/// Bytes of weights from which a session has several threads. Such weights do not fit into a processor's caches, and reading
/// them takes longer than waiting for a thread.
const LARGE_WEIGHTS: u64 = 256 << 20;

/// The fewest threads of such a session, if there are so many.
const LARGE_THREADS: usize = 4;

/// How often a session holds its weights in memory: as they are stored, and packed for the processor.
const COPIES: u64 = 2;

/// Bytes of weights that can be loaded in the time that another session saves for one image.
const WEIGHTS_FOR_AN_IMAGE: u64 = 512 << 10;

/// Activations of an image, in multiples of the input: two or three tensors of 64 channels at full resolution.
const ACTIVATIONS: u64 = 64;

/// Batch size of a session of one thread.
const SMALL_BATCH: usize = 2;

/// The same for weights that do not fit into a cache: more images share the reading of them.
///
/// The maps of seven images, 14 x 14 or 7 x 7, fill whole tiles of registers in `cnncodes_convolution`.
const MEDIUM_BATCH: usize = 7;

/// Bytes of weights from which they do not fit.
const MEDIUM_WEIGHTS: u64 = 32 << 20;

/// Batch size of a session of several threads.
const BATCH: usize = 8;

/// The same for large weights.
const LARGE_BATCH: usize = 16;

/// Batch size on a GPU.
const GPU_BATCH: usize = 64;

/// What the plan depends on in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelFootprint {
    /// Bytes of the weights up to the tapped layers.
    pub weights: u64,
    /// Bytes of one preprocessed image.
    pub image: u64,
    /// The batch size, if the graph fixes it.
    pub fixed_batch: Option<usize>,
}

impl ModelFootprint {
    /// The footprint of `graph` cut at `layers`, for images of `size` (width, height).
    pub fn of(graph: &Graph, layers: &[Layer], size: (u32, u32)) -> Self {
        let (width, height) = size;
        Self {
            weights: graph.weight_bytes(layers.iter().map(|layer| layer.tensor.as_str())),
            image: 3 * size_of::<f32>() as u64 * u64::from(width) * u64::from(height),
            fixed_batch: fixed_batch(graph, layers, size),
        }
    }
}

/// The number of threads that was asked for, or one for each core.
pub(crate) fn threads_or_all(threads: Option<usize>) -> usize {
    threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// How a network is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ExecutionPlan {
    /// Sessions side by side.
    pub sessions: usize,
    /// Threads in each of them.
    pub threads: usize,
    /// Batch size.
    pub batch: usize,
}

impl ExecutionPlan {
    /// The plan for `images` images on `threads` threads of a processor, within about `memory` bytes.
    pub fn choose(demand: &ModelFootprint, images: usize, threads: usize, memory: u64) -> Self {
        let threads = threads.max(1);
        let weights = demand.weights.saturating_mul(COPIES);
        let large = demand.weights >= LARGE_WEIGHTS;
        let small = if demand.weights < MEDIUM_WEIGHTS { SMALL_BATCH } else { MEDIUM_BATCH };
        let most = if large { threads / LARGE_THREADS } else { threads };
        let pays = images as u64 > demand.weights.div_ceil(WEIGHTS_FOR_AN_IMAGE)
            && images >= most * if large { LARGE_BATCH } else { small };
        let fits = |sessions: &usize| weights.saturating_mul(*sessions as u64) <= memory;
        let divides = |sessions: &usize| threads.is_multiple_of(*sessions);
        let most = if pays { most } else { 1 };
        let sessions = (1..=most).rev().filter(divides).find(fits).unwrap_or(1);
        let batch = if large {
            LARGE_BATCH
        } else if sessions == threads && threads > 1 {
            small
        } else {
            BATCH
        };
        let left = memory.saturating_sub(weights.saturating_mul(sessions as u64)) / sessions as u64;
        let room = left / demand.image.saturating_mul(ACTIVATIONS).max(1);
        let batch = batch.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
        let arrangement = Self { sessions, threads: threads / sessions, batch };
        arrangement.for_images(images, demand)
    }

    /// One session for all threads, and batches that keep a GPU busy, unless the graph fixes them or they were `asked` for.
    pub fn on_gpu(self, asked: Option<usize>, demand: &ModelFootprint) -> Self {
        let batch = demand.fixed_batch.or(asked).unwrap_or(GPU_BATCH).max(1);
        Self { batch, ..self.together() }
    }

    /// One session for all threads, for a device that is not the processor.
    pub fn together(self) -> Self {
        Self { sessions: 1, threads: self.sessions * self.threads, ..self }
    }

    /// Makes batches smaller if there are few images, so that every session has some.
    fn for_images(self, images: usize, demand: &ModelFootprint) -> Self {
        let share = images.div_ceil(self.sessions).max(1);
        Self { batch: demand.fixed_batch.unwrap_or(self.batch.min(share)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: u64 = 3 * 4 * 224 * 224;
    const MOBILENET: ModelFootprint = ModelFootprint { weights: 14 << 20, image: IMAGE, fixed_batch: None };
    const RESNET50: ModelFootprint = ModelFootprint { weights: 94 << 20, image: IMAGE, fixed_batch: None };
    const VGG16: ModelFootprint = ModelFootprint { weights: 537 << 20, image: IMAGE, fixed_batch: None };
    const GIB: u64 = 1 << 30;

    fn choose(demand: ModelFootprint, images: usize, threads: usize, memory: u64) -> [usize; 3] {
        let ExecutionPlan { sessions, threads, batch } =
            ExecutionPlan::choose(&demand, images, threads, memory);
        [sessions, threads, batch]
    }

    #[test]
    fn small_networks_get_a_session_for_each_thread() {
        assert_eq!(choose(MOBILENET, 1000, 2, 4 * GIB), [2, 1, 2]);
        assert_eq!(choose(RESNET50, 1000, 8, 4 * GIB), [8, 1, 7]);
    }

    #[test]
    fn one_thread_takes_one_session() {
        assert_eq!(choose(MOBILENET, 1000, 1, 4 * GIB), [1, 1, 8]);
        assert_eq!(choose(MOBILENET, 1000, 0, 4 * GIB), [1, 1, 8]);
    }

    #[test]
    fn large_networks_get_a_session_for_every_four_threads() {
        assert_eq!(choose(VGG16, 100_000, 2, 8 * GIB), [1, 2, 16]);
        assert_eq!(choose(VGG16, 100_000, 6, 8 * GIB), [1, 6, 16]);
        assert_eq!(choose(VGG16, 100_000, 16, 8 * GIB), [4, 4, 16]);
        // As many as memory allows, if there are enough images.
        assert_eq!(choose(VGG16, 100_000, 16, 4 * GIB), [2, 8, 16]);
        assert_eq!(choose(VGG16, 1000, 16, 8 * GIB), [1, 16, 16]);
    }

    #[test]
    fn few_images_are_not_worth_another_session() {
        assert_eq!(choose(RESNET50, 100, 2, 4 * GIB), [1, 2, 8]);
        assert_eq!(choose(RESNET50, 200, 2, 4 * GIB), [2, 1, 7]);
        assert_eq!(choose(MOBILENET, 3, 2, 4 * GIB), [1, 2, 3]);
        assert_eq!(choose(MOBILENET, 0, 2, 4 * GIB), [1, 2, 1]);
    }

    #[test]
    fn little_memory_means_fewer_sessions_and_smaller_batches() {
        assert_eq!(choose(RESNET50, 10_000, 8, GIB), [4, 2, 1]);
        assert_eq!(choose(VGG16, 10_000, 2, GIB + (200 << 20)), [1, 2, 4]);
        assert_eq!(choose(VGG16, 10_000, 2, GIB), [1, 2, 1]);
    }

    #[test]
    fn a_batch_that_the_graph_fixes_is_kept() {
        assert_eq!(choose(ModelFootprint { fixed_batch: Some(4), ..MOBILENET }, 1000, 2, 4 * GIB), [2, 1, 4]);
    }

    #[test]
    fn other_devices_get_all_threads_together() {
        let arrangement = ExecutionPlan::choose(&MOBILENET, 1000, 2, 4 * GIB).together();
        assert_eq!(arrangement, ExecutionPlan { sessions: 1, threads: 2, batch: 2 });
    }

    #[test]
    fn a_gpu_gets_large_batches_however_few_the_images_are() {
        let batch = |asked, demand: ModelFootprint| {
            let arrangement = ExecutionPlan::choose(&demand, 3, 2, 4 * GIB).on_gpu(asked, &demand);
            assert_eq!((arrangement.sessions, arrangement.threads), (1, 2));
            arrangement.batch
        };
        assert_eq!(batch(None, RESNET50), 64);
        assert_eq!(batch(Some(5), RESNET50), 5);
        assert_eq!(batch(Some(5), ModelFootprint { fixed_batch: Some(4), ..RESNET50 }), 4);
    }
}
