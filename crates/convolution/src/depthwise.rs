//! Convolutions of each channel with a filter of its own.

use pulp::{Simd, WithSimd};

use super::aligned_vec::AlignedVec;
use super::conv_spec::ConvSpec;
use super::disjoint_slice::DisjointSliceMut;
use super::layer_op::{MapDims, Parallel};
use super::simd_isa::SimdIsa;
use super::{Activation, Window};

/// A convolution of as many groups as channels.
#[derive(Debug)]
pub struct Depthwise {
    pub(super) spec: ConvSpec,
    /// Blocks x taps x lanes.
    filters: AlignedVec,
}

impl Depthwise {
    /// Of `filters`, channels x height x width, and a bias for each channel.
    ///
    /// # Panics
    /// The lengths do not fit one another.
    pub fn new(
        isa: SimdIsa,
        filters: &[f32],
        bias: &[f32],
        window: Window,
        activation: Activation,
    ) -> Depthwise {
        let channels = bias.len();
        let taps = window.kernel[0] * window.kernel[1];
        assert_eq!(filters.len(), channels * taps, "a filter for every channel");
        let lanes = isa.lanes();
        let blocks = isa.blocks(channels);
        let mut blocked = AlignedVec::zeros(blocks * taps * lanes);
        for (channel, filter) in filters.chunks_exact(taps.max(1)).enumerate() {
            for (tap, &weight) in filter.iter().enumerate() {
                blocked[(channel / lanes * taps + tap) * lanes + channel % lanes] = weight;
            }
        }
        Depthwise { spec: ConvSpec::new(isa, channels, bias, window, activation), filters: blocked }
    }

    /// Convolves blocked maps of `input`'s size, adds `residual`, and writes maps of `output`'s size.
    pub(super) fn run(
        &self,
        input: (&[f32], MapDims),
        residual: Option<&[f32]>,
        output: (&mut [f32], MapDims),
        parallel: &dyn Parallel,
    ) {
        let ((input, from), (output, to)) = (input, output);
        let lanes = self.spec.isa.lanes();
        let blocks = self.spec.isa.blocks(self.spec.inputs);
        self.spec.assert_lengths((input, from), residual, (output, to));
        let output = DisjointSliceMut::new(output);
        parallel.for_each(to.images * blocks, &|map| {
            let block = map % blocks;
            let taps = self.spec.window.kernel[0] * self.spec.window.kernel[1] * lanes;
            // SAFETY: each map is one task's.
            let out = unsafe { output.part(map * to.pixels() * lanes, to.pixels() * lanes) };
            self.spec.isa.run(ChannelBlock {
                input: &input[map * from.pixels() * lanes..][..from.pixels() * lanes],
                from,
                residual: residual
                    .map(|residual| &residual[map * to.pixels() * lanes..][..to.pixels() * lanes]),
                output: out,
                to,
                window: self.spec.window,
                filter: &self.filters[block * taps..][..taps],
                bias: &self.spec.bias[block * lanes..][..lanes],
                activation: self.spec.activation,
            });
        });
    }
}

/// A block of channels of an image.
struct ChannelBlock<'a> {
    input: &'a [f32],
    from: MapDims,
    residual: Option<&'a [f32]>,
    output: &'a mut [f32],
    to: MapDims,
    window: Window,
    filter: &'a [f32],
    bias: &'a [f32],
    activation: Activation,
}

impl WithSimd for ChannelBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A width that is known when this is compiled unrolls the loop over a window's row.
        match self.window.kernel[1] {
            3 => self.convolve::<S, 3>(simd),
            5 => self.convolve::<S, 5>(simd),
            _ => self.convolve::<S, 0>(simd),
        }
    }
}

impl ChannelBlock<'_> {
    /// WIDTH is that of the window, or 0 for any.
    #[inline(always)]
    fn convolve<S: Simd, const WIDTH: usize>(self, simd: S) {
        let (input, _) = S::as_simd_f32s(self.input);
        let (filter, _) = S::as_simd_f32s(self.filter);
        let (bias, _) = S::as_simd_f32s(self.bias);
        let (output, _) = S::as_mut_simd_f32s(self.output);
        let residual = self.residual.map(|residual| S::as_simd_f32s(residual).0);
        let least = simd.splat_f32s(self.activation.least);
        let most = simd.splat_f32s(self.activation.most);
        let Window { kernel: [height, width], stride, pads: [top, left, ..] } = self.window;
        let width = if WIDTH == 0 { width } else { WIDTH };
        let MapDims { height: rows_in, width: columns_in, .. } = self.from;
        for (y, line) in output.chunks_exact_mut(self.to.width).enumerate() {
            let first = y * self.to.width;
            let y = y * stride;
            let rows = Window::inside(y, height, top, rows_in);
            for (x, out) in line.iter_mut().enumerate() {
                let start = x * stride;
                let mut sum = bias[0];
                if start >= left && start + width <= columns_in + left {
                    for row in rows.clone() {
                        let values = &input[(y + row - top) * columns_in + start - left..][..width];
                        let weights = &filter[row * width..][..width];
                        for (&value, &weight) in values.iter().zip(weights) {
                            sum = simd.mul_add_e_f32s(value, weight, sum);
                        }
                    }
                } else {
                    let columns = Window::inside(start, width, left, columns_in);
                    for row in rows.clone() {
                        for column in columns.clone() {
                            let value = input[(y + row - top) * columns_in + start + column - left];
                            sum = simd.mul_add_e_f32s(value, filter[row * width + column], sum);
                        }
                    }
                }
                if let Some(residual) = residual {
                    sum = simd.add_f32s(sum, residual[first + x]);
                }
                *out = simd.min_f32s(most, simd.max_f32s(least, sum));
            }
        }
    }
}
