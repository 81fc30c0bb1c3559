//! Pooling of blocked maps.

use pulp::{Simd, WithSimd};

use super::Window;
use super::disjoint_slice::DisjointSliceMut;
use super::layer_op::{MapDims, Parallel};
use super::simd_isa::SimdIsa;

/// The largest number of each window; padding never is.
#[derive(Debug, Clone)]
pub struct MaxPool {
    isa: SimdIsa,
    window: Window,
}

impl MaxPool {
    /// Pooling with this window.
    pub fn new(isa: SimdIsa, window: Window) -> MaxPool {
        MaxPool { isa, window }
    }

    pub(super) fn lanes(&self) -> usize {
        self.isa.lanes()
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn run(
        &self,
        input: (&[f32], MapDims),
        output: (&mut [f32], MapDims),
        parallel: &dyn Parallel,
    ) {
        let ((input, from), (output, to)) = (input, output);
        let isa = self.isa;
        let lanes = isa.lanes();
        let maps = output.len() / (to.pixels() * lanes);
        let output = DisjointSliceMut::new(output);
        parallel.for_each(maps, &|map| {
            let input = &input[map * from.pixels() * lanes..][..from.pixels() * lanes];
            // SAFETY: each map is one task's.
            let output = unsafe { output.part(map * to.pixels() * lanes, to.pixels() * lanes) };
            isa.run(Maxima { input, from, output, to, window: self.window });
        });
    }
}

/// The maxima of a block of channels of an image.
struct Maxima<'a> {
    input: &'a [f32],
    from: MapDims,
    output: &'a mut [f32],
    to: MapDims,
    window: Window,
}

impl WithSimd for Maxima<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (input, _) = S::as_simd_f32s(self.input);
        let (output, _) = S::as_mut_simd_f32s(self.output);
        let Window { kernel: [height, width], stride, pads: [top, left, ..] } = self.window;
        for (y, line) in output.chunks_exact_mut(self.to.width).enumerate() {
            let y = y * stride;
            let rows = Window::inside(y, height, top, self.from.height);
            for (x, out) in line.iter_mut().enumerate() {
                let x = x * stride;
                let columns = Window::inside(x, width, left, self.from.width);
                let mut most = simd.splat_f32s(f32::NEG_INFINITY);
                for row in rows.clone() {
                    for column in columns.clone() {
                        let at = (y + row - top) * self.from.width + x + column - left;
                        // In this order NaN comes through.
                        most = simd.max_f32s(most, input[at]);
                    }
                }
                *out = most;
            }
        }
    }
}

/// The mean of `pixels` numbers for each of `channels`, image by image.
pub(super) fn global_average(
    input: &[f32],
    pixels: usize,
    channels: usize,
    lanes: usize,
    output: &mut [f32],
) {
    let blocks = channels.div_ceil(lanes);
    for (image, means) in output.chunks_exact_mut(channels).enumerate() {
        for (block, means) in means.chunks_mut(lanes).enumerate() {
            let map = &input[(image * blocks + block) * pixels * lanes..][..pixels * lanes];
            for (lane, mean) in means.iter_mut().enumerate() {
                let sum: f64 = map[lane..].iter().step_by(lanes).map(|&value| f64::from(value)).sum();
                *mean = (sum / pixels as f64) as f32;
            }
        }
    }
}
