//! Convolutions by plain sums: 1x1, and those of other windows or strides.
//!
//! A row of outputs is a product of rows with panels of weights ([`super::gemm`]), whose rows are the windows where they lie;
//! nothing is copied, but for a frame of zeros where there is padding. The image itself, of at most
//! four channels, is read in planes as it comes.

use pulp::{Simd, WithSimd};

use super::conv_spec::ConvSpec;
use super::disjoint_slice::DisjointSliceMut;
use super::gemm::{self, MANY, PackedWeights, RowLayout, TileKernel, WIDE, WeightPrefetch};
use super::layer_op::{MapDims, Parallel};
use super::scratch::Scratch;
use super::simd_isa::SimdIsa;
use super::{Activation, Window};

/// Channels of an input in planes at most.
const PLANES: usize = 4;

/// Bytes of the inputs of a task, which all panels are multiplied with: about half of a second-level cache.
const TASK: usize = 384 << 10;

/// A convolution of one group.
#[derive(Debug)]
pub struct Direct {
    pub(super) spec: ConvSpec,
    weights: PackedWeights,
}

impl Direct {
    /// Whether an input of so many channels can be in planes.
    pub fn takes_planes(channels: usize) -> bool {
        channels <= PLANES
    }

    /// Of `filters`, outputs x inputs x height x width, and a bias for each output, for an input in `planes` or blocked.
    ///
    /// # Panics
    /// The lengths do not fit one another, or there are too many planes.
    pub fn new(
        isa: SimdIsa,
        filters: &[f32],
        bias: &[f32],
        window: Window,
        planes: bool,
        activation: Activation,
    ) -> Direct {
        let [height, width] = window.kernel;
        let taps = height * width;
        let outputs = bias.len();
        let inputs = filters.len() / (taps * outputs).max(1);
        assert_eq!(filters.len(), outputs * inputs * taps, "a filter for every output and input");
        assert!(!planes || Self::takes_planes(inputs), "at most four planes");
        let lanes = isa.lanes();
        let padded = if planes { inputs } else { isa.blocks(inputs) * lanes };
        let mut weights = PackedWeights::zeros(padded * taps, isa.blocks(outputs), lanes);
        for output in 0..outputs {
            for input in 0..inputs {
                for tap in 0..taps {
                    let row = if planes {
                        input * taps + tap
                    } else {
                        (tap * (padded / lanes) + input / lanes) * lanes + input % lanes
                    };
                    let index = weights.index(row, output);
                    weights.floats_mut()[index] = filters[(output * inputs + input) * taps + tap];
                }
            }
        }
        let spec = ConvSpec { planes, ..ConvSpec::new(isa, inputs, bias, window, activation) };
        Direct { spec, weights }
    }

    /// Convolves maps of `input`'s size, adds `residual`, and writes blocked maps of `output`'s size.
    pub(super) fn run(
        &self,
        input: (&[f32], MapDims),
        residual: Option<&[f32]>,
        output: (&mut [f32], MapDims),
        scratch: &Scratch,
        parallel: &dyn Parallel,
    ) {
        let (input, mut from) = input;
        let (output, to) = output;
        let (maps, depth) = self.spec.maps();
        let blocks = self.spec.isa.blocks(self.spec.outputs);
        self.spec.assert_lengths((input, from), residual, (output, to));
        let mut framed = None;
        let input = if self.spec.window.pads == [0; 4] {
            input
        } else {
            let [top, left, bottom, right] = self.spec.window.pads;
            let to = MapDims { height: from.height + top + bottom, width: from.width + left + right, ..from };
            let len = to.images * maps * to.pixels() * depth;
            let framed = &mut framed.insert(scratch.take(len))[..len];
            self.frame((input, from), (framed, to), parallel);
            from = to;
            &framed[..]
        };
        // Windows of one pixel that stand close make all of a map one row.
        let flat = self.spec.window.kernel == [1, 1] && self.spec.window.stride == 1;
        let (lines, line) = if flat { (1, to.pixels()) } else { (to.height, to.width) };
        let [kernel_height, kernel_width] = self.spec.window.kernel;
        let offsets: Vec<usize> = if self.spec.planes {
            (0..maps * kernel_height)
                .map(|row| (row / kernel_height * from.height + row % kernel_height) * from.width)
                .collect()
        } else {
            (0..kernel_height * kernel_width * maps)
                .map(|row| {
                    let (tap, map) = (row / maps, row % maps);
                    (map * from.pixels() + tap / kernel_width * from.width + tap % kernel_width) * depth
                })
                .collect()
        };
        let stride = self.spec.window.stride;
        let rows = RowLayout {
            offsets: &offsets,
            run: if self.spec.planes { kernel_width } else { depth },
            step: stride * depth,
        };
        // Of a row of the output: bytes of its inputs, and how a task is cut.
        let bytes = line * maps * depth * size_of::<f32>() * stride * if flat { 1 } else { stride };
        let (lines_of_task, pixels_of_task) = if flat {
            let pixels = (TASK * line / bytes.max(1)).max(1).next_multiple_of(MANY);
            let share = (to.images * line).div_ceil(parallel.threads()).next_multiple_of(MANY);
            (1, pixels.min(share).min(line))
        } else {
            let share = (to.images * lines).div_ceil(parallel.threads());
            ((TASK / bytes.max(1)).clamp(1, lines).min(share), line)
        };
        let tasks_of_image = if flat { line.div_ceil(pixels_of_task) } else { lines.div_ceil(lines_of_task) };
        let output = DisjointSliceMut::new(output);
        parallel.for_each(to.images * tasks_of_image, &|task| {
            let (image, part) = (task / tasks_of_image, task % tasks_of_image);
            let first_line = if flat { 0 } else { part * lines_of_task };
            let first_pixel = if flat { part * pixels_of_task } else { 0 };
            self.spec.isa.run(DirectTask {
                layer: self,
                input: &input[image * maps * from.pixels() * depth..][..maps * from.pixels() * depth],
                rows,
                line_step: stride * from.width * depth,
                residual,
                output: &output,
                start: image * blocks * to.pixels(),
                pixels: to.pixels(),
                line: to.width,
                lines: first_line..(first_line + lines_of_task).min(lines),
                columns: first_pixel..(first_pixel + pixels_of_task).min(line),
            });
        });
    }

    /// Copies maps into frames of zeros.
    fn frame(&self, input: (&[f32], MapDims), framed: (&mut [f32], MapDims), parallel: &dyn Parallel) {
        let [top, left, ..] = self.spec.window.pads;
        let (maps, depth) = self.spec.maps();
        let ((input, from), (framed, to)) = (input, framed);
        let framed = DisjointSliceMut::new(framed);
        parallel.for_each(to.images * maps, &|map| {
            let input = &input[map * from.pixels() * depth..][..from.pixels() * depth];
            // SAFETY: each map is one task's, and `framed` holds all of them.
            let out = unsafe { framed.part(map * to.pixels() * depth, to.pixels() * depth) };
            let (above, rest) = out.split_at_mut(top * to.width * depth);
            let (middle, below) = rest.split_at_mut(from.height * to.width * depth);
            above.fill(0.0);
            below.fill(0.0);
            let lines = middle.chunks_exact_mut(to.width * depth).zip(input.chunks_exact(from.width * depth));
            for (out, line) in lines {
                out[..left * depth].fill(0.0);
                out[left * depth..][..line.len()].copy_from_slice(line);
                out[left * depth + line.len()..].fill(0.0);
            }
        });
    }
}

/// Some outputs of an image.
struct DirectTask<'a> {
    layer: &'a Direct,
    /// The image's input, framed.
    input: &'a [f32],
    rows: RowLayout<'a>,
    /// From a row of windows to the next.
    line_step: usize,
    residual: Option<&'a [f32]>,
    output: &'a DisjointSliceMut<'a>,
    /// Pixels before the image's output.
    start: usize,
    /// Pixels of an output map.
    pixels: usize,
    /// Pixels of a row of it.
    line: usize,
    lines: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl WithSimd for DirectTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        // Strides that are known when this is compiled become constants of its inner loop.
        match (self.rows.run, self.rows.step) {
            (run, step) if run == lanes && step == lanes => self.run::<S>(simd, lanes, lanes),
            (run, step) if run == lanes && step == 2 * lanes => self.run::<S>(simd, lanes, 2 * lanes),
            (3, 1) => self.run::<S>(simd, 3, 1),
            (3, 2) => self.run::<S>(simd, 3, 2),
            (7, 2) => self.run::<S>(simd, 7, 2),
            (run, step) => self.run::<S>(simd, run, step),
        }
    }
}

impl DirectTask<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, run: usize, step: usize) {
        let lanes = S::F32_LANES;
        let layer = self.layer;
        let count = self.columns.len();
        let furthest = self.rows.offsets.iter().max().copied().unwrap_or(0) + run;
        let last_row = (self.lines.end.max(1) - 1) * self.line_step + (self.columns.end.max(1) - 1) * step;
        assert!(last_row + furthest <= self.input.len(), "windows are in the framed map");
        for panel in 0..layer.weights.count() {
            let weights = layer.weights.panel(panel);
            let width = layer.weights.width(panel);
            assert_eq!(
                weights.len(),
                self.rows.offsets.len() * run * width * lanes,
                "a weight for every input"
            );
            let mut ahead = if layer.weights.are_large() && panel + 1 < layer.weights.count() {
                let rows = self.lines.len() * count;
                WeightPrefetch::over(layer.weights.panel(panel + 1), lanes, rows, self.rows.offsets.len())
            } else {
                WeightPrefetch::NONE
            };
            for line in self.lines.clone() {
                let first = line * self.line_step + self.columns.start * step;
                let mut tiles = OutputRow {
                    simd,
                    input: self.input[first..].as_ptr(),
                    rows: RowLayout { offsets: self.rows.offsets, run, step },
                    weights: weights.as_ptr(),
                    ahead,
                    bias: &layer.spec.bias[panel * WIDE * lanes..][..width * lanes],
                    activation: layer.spec.activation,
                    residual: self.residual,
                    output: self.output,
                    start: self.start + panel * WIDE * self.pixels + line * self.line + self.columns.start,
                    pixels: self.pixels,
                    wide: width == WIDE,
                };
                // SAFETY: the windows of these rows are in the input, and the weights are as many as their inputs: both
                // are asserted above. Their outputs are in the image's maps, and only this part writes them.
                unsafe { gemm::for_all(lanes, count, &mut tiles) };
                ahead = tiles.ahead;
            }
        }
    }
}

/// A row of outputs of one panel.
struct OutputRow<'a, S> {
    simd: S,
    input: *const f32,
    rows: RowLayout<'a>,
    weights: *const f32,
    ahead: WeightPrefetch,
    bias: &'a [f32],
    activation: Activation,
    residual: Option<&'a [f32]>,
    output: &'a DisjointSliceMut<'a>,
    /// Pixels before the first output.
    start: usize,
    pixels: usize,
    wide: bool,
}

impl<S: Simd> OutputRow<'_, S> {
    /// # Safety
    /// As for [`TileKernel::tile`], and the panel is N registers wide.
    #[inline(always)]
    unsafe fn write<const R: usize, const N: usize>(&mut self, row: usize) {
        let (simd, lanes) = (self.simd, S::F32_LANES);
        // SAFETY: promised by the caller.
        let first = unsafe { self.input.add(row * self.rows.step) };
        if let Some(residual) = self.residual {
            for n in 0..N {
                for r in 0..R {
                    let at = (self.start + n * self.pixels + row + r) * lanes;
                    gemm::prefetch::<false>(residual.as_ptr().wrapping_add(at));
                }
            }
        }
        // SAFETY: promised by the caller.
        let sums = unsafe { gemm::tile::<S, R, N>(simd, first, self.rows, self.weights, self.ahead) };
        self.ahead.advance(self.rows.offsets.len());
        let (bias, _) = S::as_simd_f32s(self.bias);
        let least = simd.splat_f32s(self.activation.least);
        let most = simd.splat_f32s(self.activation.most);
        for (r, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                let at = (self.start + n * self.pixels + row + r) * lanes;
                let mut value = simd.add_f32s(sum, bias[n]);
                if let Some(residual) = self.residual {
                    debug_assert!(at + lanes <= residual.len(), "the pixel is in its map");
                    // SAFETY: the residual has the length of the output, where the pixel is.
                    let add = unsafe { residual.as_ptr().add(at).cast::<S::f32s>().read_unaligned() };
                    value = simd.add_f32s(value, add);
                }
                let value = simd.min_f32s(most, simd.max_f32s(least, value));
                // SAFETY: promised by the caller.
                unsafe { self.output.write::<S>(at, value) };
            }
        }
    }
}

impl<S: Simd> TileKernel for OutputRow<'_, S> {
    #[inline(always)]
    unsafe fn tile<const R: usize>(&mut self, row: usize) {
        // SAFETY: promised by the caller.
        unsafe { if self.wide { self.write::<R, WIDE>(row) } else { self.write::<R, 1>(row) } }
    }
}
