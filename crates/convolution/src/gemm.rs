//! Products of rows with panels of weights: the inner loop of every convolution that is not depthwise.
//!
//! A tile of sums, some rows by the outputs of a panel, stays in registers while the inputs go by. A weight is loaded once
//! for all rows of a tile, and an input is broadcast to all outputs of a panel (K. Goto and R. van de Geijn, Anatomy of
//! High-Performance Matrix Multiplication, 2008). Rows are pixels or tiles of a blocked map and need not be copied: their inputs lie
//! at offsets that are the same for all, in runs that are contiguous.

use pulp::Simd;

use super::aligned_vec::{AlignedVec, LINE};

/// Registers' worth of outputs in a panel; the last may have one.
pub(super) const WIDE: usize = 2;

/// Rows of a tile at most: two registers of sums each, of 32.
pub(super) const MANY: usize = 14;

/// Rows of a tile of AVX2's registers, which are 16.
const FEW: usize = 6;

/// Bytes of weights that stay in a second-level cache.
const KEPT: usize = 256 << 10;

/// Weights of inputs x outputs in panels: those of [`WIDE`] registers' outputs for the first input, then for the second, and
/// so on; then those of the next outputs.
#[derive(Debug)]
pub(super) struct PackedWeights {
    floats: AlignedVec,
    inputs: usize,
    blocks: usize,
    lanes: usize,
}

impl PackedWeights {
    /// Zeros for so many inputs and so many blocks of outputs.
    pub(super) fn zeros(inputs: usize, blocks: usize, lanes: usize) -> Self {
        Self { floats: AlignedVec::zeros(inputs * blocks * lanes), inputs, blocks, lanes }
    }

    /// Where the weight of `input` for `output` stands.
    pub(super) fn index(&self, input: usize, output: usize) -> usize {
        let width = self.width(output / self.lanes / WIDE) * self.lanes;
        let panel = output / self.lanes / WIDE;
        panel * WIDE * self.lanes * self.inputs + input * width + output % (WIDE * self.lanes)
    }

    /// All weights, to be written.
    pub(super) fn floats_mut(&mut self) -> &mut [f32] {
        &mut self.floats
    }

    /// Whether they are more than a second-level cache keeps beside what they are multiplied with.
    pub(super) fn are_large(&self) -> bool {
        size_of_val(&*self.floats) > KEPT
    }

    pub(super) fn count(&self) -> usize {
        self.blocks.div_ceil(WIDE)
    }

    /// Registers' worth of outputs in panel `index`.
    pub(super) fn width(&self, index: usize) -> usize {
        (self.blocks - index * WIDE).min(WIDE)
    }

    /// The weights of panel `index`.
    pub(super) fn panel(&self, index: usize) -> &[f32] {
        let start = index * WIDE * self.lanes * self.inputs;
        &self.floats[start..start + self.inputs * self.width(index) * self.lanes]
    }
}

/// Where the inputs of rows lie.
#[derive(Clone, Copy)]
pub(super) struct RowLayout<'a> {
    /// From the first input of a row to the first of each run of its inputs.
    pub(super) offsets: &'a [usize],
    /// Inputs in a run.
    pub(super) run: usize,
    /// From a row to the next.
    pub(super) step: usize,
}

/// Weights that will be wanted next, and how many cache lines of them to fetch in each run of a tile.
#[derive(Clone, Copy)]
pub(super) struct WeightPrefetch {
    pub(super) weights: *const f32,
    pub(super) lines: usize,
}

/// Has the processor fetch the cache line at `address`, which may be any, to the first level of caches, or for LATER to the
/// second.
#[inline(always)]
pub(super) fn prefetch<const LATER: bool>(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 processor has it, and it does not fault.
        unsafe {
            if LATER {
                _mm_prefetch::<_MM_HINT_T1>(address.cast());
            } else {
                _mm_prefetch::<_MM_HINT_T0>(address.cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The sums of products of R rows, the first of which starts at `first`, with a panel of N registers' width.
///
/// # Safety
/// All inputs of all rows can be read, and `weights` holds N registers for each input of a row.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const R: usize, const N: usize>(
    simd: S,
    first: *const f32,
    rows: RowLayout<'_>,
    weights: *const f32,
    mut ahead: WeightPrefetch,
) -> [[S::f32s; N]; R] {
    let mut sums = [[simd.splat_f32s(0.0); N]; R];
    let mut weights = weights.cast::<S::f32s>();
    for (index, &offset) in rows.offsets.iter().enumerate() {
        // The next run of a blocked map is elsewhere: too far for the processor to guess.
        if rows.run == S::F32_LANES
            && let Some(&next) = rows.offsets.get(index + 1)
        {
            for r in 0..R {
                prefetch::<false>(first.wrapping_add(next + r * rows.step));
            }
        }
        for _ in 0..ahead.lines {
            prefetch::<true>(ahead.weights);
            ahead.weights = ahead.weights.wrapping_add(LINE);
        }
        // SAFETY: promised by the caller, here and below.
        let inputs = unsafe { first.add(offset) };
        for input in 0..rows.run {
            let mut of_input = [simd.splat_f32s(0.0); N];
            for (n, weight) in of_input.iter_mut().enumerate() {
                // SAFETY: as above.
                *weight = unsafe { weights.add(n).read_unaligned() };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let value = simd.splat_f32s(unsafe { *inputs.add(r * rows.step + input) });
                for (sum, weight) in sums.iter_mut().zip(of_input) {
                    *sum = simd.mul_add_e_f32s(value, weight, *sum);
                }
            }
            // SAFETY: as above.
            weights = unsafe { weights.add(N) };
        }
    }
    sums
}

impl WeightPrefetch {
    /// Nothing.
    pub(super) const NONE: WeightPrefetch = WeightPrefetch { weights: std::ptr::null(), lines: 0 };

    /// All of `weights`, over `count` rows of so many runs.
    pub(super) fn over(weights: &[f32], lanes: usize, count: usize, runs: usize) -> WeightPrefetch {
        let tiles = count.div_ceil(if lanes == 8 { FEW } else { MANY });
        WeightPrefetch {
            weights: weights.as_ptr(),
            lines: weights.len().div_ceil(LINE).div_ceil((tiles * runs).max(1)),
        }
    }

    /// What remains after a tile of so many runs.
    #[inline(always)]
    pub(super) fn advance(&mut self, runs: usize) {
        self.weights = self.weights.wrapping_add(self.lines * runs * LINE);
    }
}

/// Something that is done for R rows from `row` on.
pub(super) trait TileKernel {
    /// # Safety
    /// The rows are among those that the implementor was made for.
    unsafe fn tile<const R: usize>(&mut self, row: usize);
}

/// Cuts `count` rows into tiles of as many as registers of `lanes` numbers allow, two for each row's sums.
///
/// # Safety
/// The rows from 0 to `count` are among those that `tiles` was made for.
#[inline(always)]
pub(super) unsafe fn for_all<T: TileKernel>(lanes: usize, count: usize, tiles: &mut T) {
    let mut row = 0;
    macro_rules! tiles_of {
        ($rows:literal, $until:expr) => {
            while $until - row >= $rows {
                // SAFETY: promised by the caller.
                unsafe { tiles.tile::<$rows>(row) };
                row += $rows;
            }
        };
    }
    if lanes == 8 {
        // Dealt out evenly, since tiles of few rows are slow.
        let parts = count.div_ceil(FEW).max(1);
        let (rows, larger) = (count / parts, count % parts);
        for (rows, until) in [(rows + 1, larger * (rows + 1)), (rows, count)] {
            match rows {
                6 => tiles_of!(6, until),
                5 => tiles_of!(5, until),
                4 => tiles_of!(4, until),
                3 => tiles_of!(3, until),
                2 => tiles_of!(2, until),
                _ => tiles_of!(1, until),
            }
        }
    } else {
        tiles_of!(14, count);
        tiles_of!(7, count);
        tiles_of!(4, count);
        tiles_of!(2, count);
        tiles_of!(1, count);
    }
}

#[cfg(test)]
mod tests {
    use super::{TileKernel, for_all};

    struct VisitedRows(Vec<usize>);

    impl TileKernel for VisitedRows {
        unsafe fn tile<const R: usize>(&mut self, row: usize) {
            self.0.extend(row..row + R);
        }
    }

    #[test]
    fn every_row_is_in_one_tile() {
        for lanes in [4, 8, 16] {
            for count in 0..60 {
                let mut seen = VisitedRows(Vec::new());
                // SAFETY: nothing is read or written.
                unsafe { for_all(lanes, count, &mut seen) };
                assert_eq!(seen.0, (0..count).collect::<Vec<_>>(), "{lanes} lanes");
            }
        }
    }
}
