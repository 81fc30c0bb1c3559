//! Convolutions of each channel with a filter of its own.

use pulp::{Simd, WithSimd};

use super::blocked::Vectors;
use super::floats::Floats;
use super::step::{Dims, Parallel, Shared};
use super::{Activation, Window};

/// A convolution of as many groups as channels.
#[derive(Debug)]
pub struct Depthwise {
    vectors: Vectors,
    channels: usize,
    window: Window,
    /// Blocks x taps x lanes.
    filters: Floats,
    bias: Floats,
    activation: Activation,
}

impl Depthwise {
    /// Of `filters`, channels x height x width, and a bias for each channel.
    ///
    /// # Panics
    /// The lengths do not fit one another.
    pub fn new(
        vectors: Vectors,
        filters: &[f32],
        bias: &[f32],
        window: Window,
        activation: Activation,
    ) -> Depthwise {
        let channels = bias.len();
        let taps = window.kernel[0] * window.kernel[1];
        assert_eq!(filters.len(), channels * taps, "a filter for every channel");
        let lanes = vectors.lanes();
        let blocks = vectors.blocks(channels);
        let mut blocked = Floats::zeros(blocks * taps * lanes);
        for (channel, filter) in filters.chunks_exact(taps.max(1)).enumerate() {
            for (tap, &weight) in filter.iter().enumerate() {
                blocked[(channel / lanes * taps + tap) * lanes + channel % lanes] = weight;
            }
        }
        let mut padded_bias = Floats::zeros(blocks * lanes);
        padded_bias[..channels].copy_from_slice(bias);
        Depthwise { vectors, channels, window, filters: blocked, bias: padded_bias, activation }
    }

    pub(super) fn vectors(&self) -> Vectors {
        self.vectors
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Convolves blocked maps of `input`'s size, adds `residual`, and writes maps of `output`'s size.
    pub(super) fn run(
        &self,
        input: (&[f32], Dims),
        residual: Option<&[f32]>,
        output: (&mut [f32], Dims),
        parallel: &dyn Parallel,
    ) {
        let ((input, from), (output, to)) = (input, output);
        let lanes = self.vectors.lanes();
        let blocks = self.vectors.blocks(self.channels);
        assert_eq!(input.len(), from.images * blocks * from.pixels() * lanes, "the input has its shape");
        assert_eq!(output.len(), to.images * blocks * to.pixels() * lanes, "the output has its shape");
        let output = Shared::of(output);
        parallel.for_each(to.images * blocks, &|map| {
            let block = map % blocks;
            let taps = self.window.kernel[0] * self.window.kernel[1] * lanes;
            // SAFETY: each map is one task's.
            let out = unsafe { output.part(map * to.pixels() * lanes, to.pixels() * lanes) };
            self.vectors.run(Map {
                input: &input[map * from.pixels() * lanes..][..from.pixels() * lanes],
                from,
                residual: residual
                    .map(|residual| &residual[map * to.pixels() * lanes..][..to.pixels() * lanes]),
                output: out,
                to,
                window: self.window,
                filter: &self.filters[block * taps..][..taps],
                bias: &self.bias[block * lanes..][..lanes],
                activation: self.activation,
            });
        });
    }
}

/// A block of channels of an image.
struct Map<'a> {
    input: &'a [f32],
    from: Dims,
    residual: Option<&'a [f32]>,
    output: &'a mut [f32],
    to: Dims,
    window: Window,
    filter: &'a [f32],
    bias: &'a [f32],
    activation: Activation,
}

impl WithSimd for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (input, _) = S::as_simd_f32s(self.input);
        let (filter, _) = S::as_simd_f32s(self.filter);
        let (bias, _) = S::as_simd_f32s(self.bias);
        let (output, _) = S::as_mut_simd_f32s(self.output);
        let residual = self.residual.map(|residual| S::as_simd_f32s(residual).0);
        let least = simd.splat_f32s(self.activation.least);
        let most = simd.splat_f32s(self.activation.most);
        let Window { kernel: [height, width], stride, pads: [top, left, ..] } = self.window;
        for (pixel, out) in output.iter_mut().enumerate() {
            let (y, x) = (pixel / self.to.width * stride, pixel % self.to.width * stride);
            let rows = top.saturating_sub(y)..height.min((self.from.height + top).saturating_sub(y));
            let columns = left.saturating_sub(x)..width.min((self.from.width + left).saturating_sub(x));
            let mut sum = bias[0];
            for row in rows {
                for column in columns.clone() {
                    let at = (y + row - top) * self.from.width + x + column - left;
                    sum = simd.mul_add_e_f32s(input[at], filter[row * width + column], sum);
                }
            }
            if let Some(residual) = residual {
                sum = simd.add_f32s(sum, residual[pixel]);
            }
            *out = simd.min_f32s(most, simd.max_f32s(least, sum));
        }
    }
}
