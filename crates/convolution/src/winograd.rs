//! 3x3 convolutions of stride 1 by Winograd's minimal filtering F(4x4, 3x3): 36 multiplications for 16 outputs, where plain
//! sums take 144 (A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016).
//!
//! A map is cut into tiles of 4x4 outputs. Of each tile, the 6x6 inputs d become BᵀdB; each of the 36 numbers is multiplied
//! with that of the transformed filter GgGᵀ and added up over the channels, which is 36 products of matrices; and the 36 sums
//! m become the outputs AᵀmA. The transforms come from interpolation of polynomials, at 0, ∞ and four points. The usual ±1 and ±2
//! cost a decimal digit: at ±√½ and ±√2 the error is about that of plain float32 sums (a test measures it; which points are good is
//! the subject of B. Barabasz et al., Error Analysis and Improving the Accuracy of Winograd Convolution, 2020).

mod transform;

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::conv_spec::ConvSpec;
use super::disjoint_slice::DisjointSliceMut;
use super::gemm::{self, MANY, PackedWeights, RowLayout, TileKernel, WIDE, WeightPrefetch};
use super::layer_op::{MapDims, Parallel};
use super::scratch::Scratch;
use super::simd_isa::SimdIsa;
use super::{Activation, Window};
use transform::{Filters, IN, InputTransform, OUT, OutputTransform, POINTS};

/// Between the numbers of one point and those of the next, so that they do not all fall into the same few lines of a cache.
const SKEW: usize = 80;

/// Tiles of a task at most: from here on more of them do not make reading the filters any cheaper.
const MOST_TILES: usize = 196;

/// A 3x3 convolution of stride 1.
#[derive(Debug)]
pub struct Winograd {
    pub(super) spec: ConvSpec,
    /// Transformed filters: of every panel of outputs, for each of the [`POINTS`] those of all inputs.
    filters: PackedWeights,
}

impl Winograd {
    /// Whether a convolution with this window is one of these.
    pub fn serves(window: &Window) -> bool {
        window.kernel == [3, 3] && window.stride == 1
    }

    /// Of `filters`, outputs x inputs x 3 x 3, and a bias for each output.
    ///
    /// # Panics
    /// The lengths do not fit one another, or [`serves`](Self::serves) is false.
    pub fn new(
        isa: SimdIsa,
        filters: &[f32],
        bias: &[f32],
        window: Window,
        activation: Activation,
    ) -> Winograd {
        assert!(Self::serves(&window), "a 3x3 window of stride 1");
        let outputs = bias.len();
        let inputs = filters.len() / (9 * outputs.max(1));
        assert_eq!(filters.len(), outputs * inputs * 9, "a filter for every output and input");
        let lanes = isa.lanes();
        let padded = isa.blocks(inputs) * lanes;
        let mut panels = PackedWeights::zeros(POINTS * padded, isa.blocks(outputs), lanes);
        let wide = WIDE * lanes;
        panels.floats_mut().par_chunks_mut(POINTS * padded * wide).enumerate().for_each(|(panel, out)| {
            let width = out.len() / (POINTS * padded);
            let there = (outputs - panel * wide).min(width);
            let filters = &filters[panel * wide * inputs * 9..][..there * inputs * 9];
            isa.run(Filters { filters, inputs, width, out });
        });
        Winograd { spec: ConvSpec::new(isa, inputs, bias, window, activation), filters: panels }
    }

    /// The filters of a panel for one of the [`POINTS`].
    fn filters_of(&self, panel: usize, point: usize) -> &[f32] {
        let filters = self.filters.panel(panel);
        let of_point = filters.len() / POINTS;
        &filters[point * of_point..][..of_point]
    }

    /// Convolves `images` blocked maps of `input`'s size, adds `residual`, and writes blocked maps of `output`'s size.
    pub(super) fn run(
        &self,
        input: (&[f32], MapDims),
        residual: Option<&[f32]>,
        output: (&mut [f32], MapDims),
        scratch: &Scratch,
        parallel: &dyn Parallel,
    ) {
        let (input, from) = input;
        let (output, to) = output;
        let lanes = self.spec.isa.lanes();
        let [blocks_in, blocks_out] = [self.spec.inputs, self.spec.outputs].map(|c| self.spec.isa.blocks(c));
        self.spec.assert_lengths((input, from), residual, (output, to));
        let [rows, columns] = [to.height, to.width].map(|length| length.div_ceil(OUT));
        let total = to.images * rows * columns;
        let TaskSize { tiles, panels } = self.split(total, parallel.threads());
        let groups = self.filters.count().div_ceil(panels);
        let output = DisjointSliceMut::new(output);
        parallel.for_each(total.div_ceil(tiles) * groups, &|task| {
            let first = task / groups * tiles;
            let count = tiles.min(total - first);
            let panel = task % groups * panels;
            let panels = panel..(panel + panels).min(self.filters.count());
            let blocks_of_sums = (panels.end * WIDE).min(blocks_out) - panels.start * WIDE;
            let strides = [blocks_in, blocks_of_sums].map(|blocks| count * blocks * lanes + SKEW);
            let len = POINTS * (strides[0] + strides[1]);
            let mut scratch = scratch.take(len);
            self.spec.isa.run(WinogradTask {
                layer: self,
                input,
                from,
                residual,
                output: &output,
                to,
                columns,
                per_image: rows * columns,
                first,
                count,
                panels,
                strides,
                scratch: &mut scratch[..len],
            });
        });
    }

    /// How `total` tiles are divided among `threads`.
    pub(super) fn split(&self, total: usize, threads: usize) -> TaskSize {
        let (inputs, outputs) = (self.spec.inputs, self.spec.outputs);
        // Each task reads the filters of its outputs, and transforms the inputs of its tiles. Of c parts of the tiles by g of the
        // outputs, all tasks together read c·inputs·outputs numbers for each point, and write and read g·inputs·total: least,
        // for as many tasks as threads, where g² is this.
        let ratio = (threads * outputs) as f64 / (2 * total.max(1)) as f64;
        let most = threads.min(self.filters.count()).max(1);
        let groups = (ratio.sqrt().round() as usize).clamp(1, most);
        // About as many numbers of tiles as of filters, which are read once for each task.
        let even = ((inputs * outputs) as f64).sqrt() as usize * 7 / 16;
        let share = total.div_ceil(threads.div_ceil(groups));
        let tiles = even.clamp(MANY, MOST_TILES).min(share);
        // A multiple of what registers hold, or of half of it where that is much of the share.
        let whole = if tiles < 4 * MANY { MANY / 2 } else { MANY };
        TaskSize { tiles: tiles.next_multiple_of(whole), panels: self.filters.count().div_ceil(groups) }
    }
}

/// What a task takes of a layer.
pub(super) struct TaskSize {
    tiles: usize,
    /// Panels of outputs.
    pub(super) panels: usize,
}

/// Some tiles, from their inputs to some of their outputs.
struct WinogradTask<'a> {
    layer: &'a Winograd,
    input: &'a [f32],
    from: MapDims,
    residual: Option<&'a [f32]>,
    output: &'a DisjointSliceMut<'a>,
    to: MapDims,
    /// Tiles along a row of a map.
    columns: usize,
    /// Tiles of an image.
    per_image: usize,
    first: usize,
    count: usize,
    /// The panels of outputs.
    panels: Range<usize>,
    /// From one of the [`POINTS`] to the next: of transformed inputs and of sums.
    strides: [usize; 2],
    /// Room for both.
    scratch: &'a mut [f32],
}

/// Where a tile stands: its image, and its first output.
struct TilePosition {
    image: usize,
    y: usize,
    x: usize,
}

impl WithSimd for WinogradTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = S::F32_LANES;
        let blocks_in = self.layer.spec.isa.blocks(self.layer.spec.inputs);
        let [transformed, sums] = self.strides;
        let (count, layer) = (self.count, self.layer);
        let (of_inputs, of_sums) = std::mem::take(&mut self.scratch).split_at_mut(POINTS * transformed);
        self.transform_inputs(simd, of_inputs, transformed);
        let offsets: Vec<usize> = (0..blocks_in).map(|block| block * count * lanes).collect();
        let rows = RowLayout { offsets: &offsets, run: lanes, step: lanes };
        let large = layer.filters.are_large();
        for point in 0..POINTS {
            for panel in self.panels.clone() {
                let weights = layer.filters_of(panel, point);
                let next = if panel + 1 < self.panels.end {
                    (panel + 1, point)
                } else {
                    (self.panels.start, point + 1)
                };
                let place = panel - self.panels.start;
                let ahead = if large && next.1 < POINTS {
                    WeightPrefetch::over(layer.filters_of(next.0, next.1), lanes, count, blocks_in)
                } else {
                    WeightPrefetch::NONE
                };
                let width = layer.filters.width(panel) * lanes;
                let mut product = PointProduct {
                    simd,
                    inputs: of_inputs[point * transformed..][..count * blocks_in * lanes].as_ptr(),
                    rows,
                    weights: weights.as_ptr(),
                    ahead,
                    sums: of_sums[point * sums + place * WIDE * count * lanes..][..width * count]
                        .as_mut_ptr(),
                    count,
                    wide: layer.filters.width(panel) == WIDE,
                };
                // SAFETY: `inputs`, `weights` and `sums` were cut to what `count` rows of all inputs need.
                unsafe { gemm::for_all(lanes, count, &mut product) };
            }
        }
        self.transform_sums(simd, of_sums, sums);
    }
}

impl WinogradTask<'_> {
    fn place(&self, tile: usize) -> TilePosition {
        let (image, of_image) = (tile / self.per_image, tile % self.per_image);
        TilePosition { image, y: of_image / self.columns * OUT, x: of_image % self.columns * OUT }
    }

    /// BᵀdB of all tiles: points x blocks x tiles x lanes, `stride` numbers from point to point.
    #[expect(clippy::needless_range_loop, reason = "maps of arrays of registers would go through memory")]
    #[inline(always)]
    fn transform_inputs<S: Simd>(&self, simd: S, out: &mut [f32], stride: usize) {
        let lanes = S::F32_LANES;
        let MapDims { height, width, .. } = self.from;
        let [top, left, ..] = self.layer.spec.window.pads;
        let blocks = self.layer.spec.isa.blocks(self.layer.spec.inputs);
        let inputs = InputTransform::new(simd);
        let zero = simd.splat_f32s(0.0);
        for tile in 0..self.count {
            let TilePosition { image, y, x } = self.place(self.first + tile);
            let inside = y >= top && x >= left && y - top + IN <= height && x - left + IN <= width;
            for block in 0..blocks {
                let map = &self.input[(image * blocks + block) * height * width * lanes..]
                    [..height * width * lanes];
                let pixel = |row: usize, column: usize| {
                    let (row, column) = ((y + row).wrapping_sub(top), (x + column).wrapping_sub(left));
                    if inside || (row < height && column < width) {
                        // SAFETY: the pixel is in the map, whose length is that of all its pixels.
                        unsafe {
                            map.as_ptr()
                                .add((row * width + column) * lanes)
                                .cast::<S::f32s>()
                                .read_unaligned()
                        }
                    } else {
                        zero
                    }
                };
                let mut half = [[zero; IN]; IN];
                for column in 0..IN {
                    let of_column = inputs.apply(simd, std::array::from_fn(|row| pixel(row, column)));
                    for row in 0..IN {
                        half[row][column] = of_column[row];
                    }
                }
                let start = (block * self.count + tile) * lanes;
                for (row, half) in half.into_iter().enumerate() {
                    for (column, value) in inputs.apply(simd, half).into_iter().enumerate() {
                        let at = (row * IN + column) * stride + start;
                        debug_assert!(
                            at + lanes <= out.len(),
                            "the numbers of a tile are among those of all"
                        );
                        // SAFETY: `out` holds `stride` numbers for each point, of which block x tiles x lanes are used.
                        unsafe { out.as_mut_ptr().add(at).cast::<S::f32s>().write_unaligned(value) };
                    }
                }
            }
        }
    }

    /// The outputs AᵀmA of all tiles, with bias, residual and activation.
    #[expect(clippy::needless_range_loop, reason = "maps of arrays of registers would go through memory")]
    #[inline(always)]
    fn transform_sums<S: Simd>(&self, simd: S, sums: &[f32], stride: usize) {
        let lanes = S::F32_LANES;
        let MapDims { height, width, .. } = self.to;
        let blocks = self.layer.spec.isa.blocks(self.layer.spec.outputs);
        let outputs = OutputTransform::new(simd);
        let zero = simd.splat_f32s(0.0);
        let least = simd.splat_f32s(self.layer.spec.activation.least);
        let most = simd.splat_f32s(self.layer.spec.activation.most);
        let (biases, _) = S::as_simd_f32s(&self.layer.spec.bias);
        let first = self.panels.start * WIDE;
        let mine = biases.iter().enumerate().take(self.panels.end * WIDE).skip(first);
        for (block, &bias) in mine {
            for tile in 0..self.count {
                let TilePosition { image, y, x } = self.place(self.first + tile);
                let start = ((block - first) * self.count + tile) * lanes;
                let sum = |row: usize, column: usize| {
                    let at = (row * IN + column) * stride + start;
                    debug_assert!(at + lanes <= sums.len(), "the sums of a tile are among those of all");
                    // SAFETY: `sums` holds `stride` numbers for each point, of which block x tiles x lanes are used.
                    unsafe { sums.as_ptr().add(at).cast::<S::f32s>().read_unaligned() }
                };
                let mut half = [[zero; IN]; OUT];
                for column in 0..IN {
                    let of_column = outputs.apply(simd, std::array::from_fn(|row| sum(row, column)));
                    for row in 0..OUT {
                        half[row][column] = of_column[row];
                    }
                }
                let map = (image * blocks + block) * height * width;
                let (there_y, there_x) = ((height - y).min(OUT), (width - x).min(OUT));
                for (row, half) in half.into_iter().enumerate().take(there_y) {
                    let values = outputs.apply(simd, half);
                    for (column, value) in values.into_iter().enumerate() {
                        if column < there_x {
                            let at = (map + (y + row) * width + x + column) * lanes;
                            let mut value = simd.add_f32s(value, bias);
                            if let Some(residual) = self.residual {
                                debug_assert!(at + lanes <= residual.len(), "the pixel is in its map");
                                // SAFETY: the residual has the length of the output, and the pixel is in its map.
                                let add =
                                    unsafe { residual.as_ptr().add(at).cast::<S::f32s>().read_unaligned() };
                                value = simd.add_f32s(value, add);
                            }
                            let value = simd.min_f32s(most, simd.max_f32s(least, value));
                            // SAFETY: the pixel is in its map, and only this tile has it.
                            unsafe { self.output.write::<S>(at, value) };
                        }
                    }
                }
            }
        }
    }
}

/// One point's product: all tiles with a panel of filters.
struct PointProduct<'a, S> {
    simd: S,
    inputs: *const f32,
    rows: RowLayout<'a>,
    weights: *const f32,
    ahead: WeightPrefetch,
    sums: *mut f32,
    count: usize,
    wide: bool,
}

impl<S: Simd> PointProduct<'_, S> {
    /// # Safety
    /// As for [`TileKernel::tile`], and the panel is N registers wide.
    #[inline(always)]
    unsafe fn write<const R: usize, const N: usize>(&mut self, row: usize) {
        let lanes = S::F32_LANES;
        // SAFETY: promised by the caller.
        let first = unsafe { self.inputs.add(row * lanes) };
        let rows = RowLayout { run: lanes, step: lanes, ..self.rows };
        // SAFETY: promised by the caller.
        let sums = unsafe { gemm::tile::<S, R, N>(self.simd, first, rows, self.weights, self.ahead) };
        self.ahead.advance(self.rows.offsets.len());
        for (r, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                // SAFETY: promised by the caller.
                unsafe {
                    self.sums.add((n * self.count + row + r) * lanes).cast::<S::f32s>().write_unaligned(sum)
                };
            }
        }
    }
}

impl<S: Simd> TileKernel for PointProduct<'_, S> {
    #[inline(always)]
    unsafe fn tile<const R: usize>(&mut self, row: usize) {
        // SAFETY: promised by the caller.
        unsafe { if self.wide { self.write::<R, WIDE>(row) } else { self.write::<R, 1>(row) } }
    }
}
