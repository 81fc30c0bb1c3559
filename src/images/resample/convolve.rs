//! The two inner loops of resampling: weighted sums along a row, and down a column, of 8-bit RGB.
//!
//! Weights are 32-bit with 22 fractional bits, as Pillow has them, and the sums are exact modulo 2^32, so that their
//! order is free: the vectorised loops give the same levels as the plain ones. AVX2 multiplies 16-bit numbers best, two at
//! a time, so there a weight is taken apart into `2^11 high + low`, and the sums of both parts are put together at the end.

use std::ops::Range;

/// Fractional bits of a weight (Pillow's PRECISION_BITS): 8 bits of level and 2 of headroom fill an i32.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Half a level, so that the shift in [`level_of`] rounds to nearest.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Which instructions the loops use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Instructions {
    /// The best that this processor has.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        Self::Portable
    }
}

/// For each output pixel of a side the source pixels that it is made of, and their weights in 2^-22.
#[derive(Debug, Clone, Default)]
pub(super) struct Kernels {
    /// Source range, and where its weights start.
    spans: Vec<(Range<usize>, usize)>,
    weights: Vec<i32>,
}

impl Kernels {
    /// Adds the kernel of the next output pixel: `weights` for the source pixels from `start`.
    pub(super) fn push(&mut self, start: usize, weights: impl IntoIterator<Item = i32>) {
        let first = self.weights.len();
        self.weights.extend(weights);
        self.spans.push((start..start + self.weights.len() - first, first));
    }

    /// Output pixels.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The source pixels of output pixel `index`, and their weights.
    pub(super) fn get(&self, index: usize) -> (Range<usize>, &[i32]) {
        let (range, first) = &self.spans[index];
        (range.clone(), &self.weights[*first..][..range.len()])
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Range<usize>, &[i32])> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All source pixels that any output pixel needs.
    pub(super) fn reach(&self) -> Range<usize> {
        let start = self.spans.iter().map(|(range, _)| range.start).min().unwrap_or(0);
        let end = self.spans.iter().map(|(range, _)| range.end).max().unwrap_or(0);
        start..end
    }

    /// The most source pixels of any output pixel.
    pub(super) fn longest(&self) -> usize {
        self.spans.iter().map(|(range, _)| range.len()).max().unwrap_or(0)
    }

    /// The kernels for a source of `length` pixels that is stored the other way round; output order stays.
    pub(super) fn mirrored(&self, length: usize) -> Self {
        let mut mirrored = Self::default();
        for (range, weights) in self.iter() {
            mirrored.push(length - range.end, weights.iter().rev().copied());
        }
        mirrored
    }

    /// The same kernels, the last output pixel first.
    pub(super) fn reversed(&self) -> Self {
        let mut reversed = Self::default();
        for (range, weights) in self.iter().rev() {
            reversed.push(range.start, weights.iter().copied());
        }
        reversed
    }
}

fn level_of(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The kernels of a row, in the form that suits the instructions.
#[derive(Debug)]
pub(super) struct RowConvolution {
    kernels: Kernels,
    /// Column of the image where the rows begin.
    first_column: usize,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<avx2::RowKernels>,
}

impl RowConvolution {
    /// For rows that begin with column `first_column` of the image.
    pub(super) fn new(kernels: Kernels, first_column: usize, instructions: Instructions) -> Self {
        #[cfg(not(target_arch = "x86_64"))]
        let Instructions::Portable = instructions;
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: (instructions == Instructions::Avx2).then(|| avx2::RowKernels::new(&kernels, first_column)),
            kernels,
            first_column,
        }
    }

    /// Resizes one row of RGB pixels to one pixel a kernel.
    pub(super) fn apply(&mut self, row: &[u8], out: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernels) = &mut self.avx2 {
            return kernels.apply(row, out);
        }
        let (pixels, _) = row.as_chunks::<3>();
        for (result, (range, weights)) in out.as_chunks_mut::<3>().0.iter_mut().zip(self.kernels.iter()) {
            let [mut red, mut green, mut blue] = [HALF; 3];
            for (&[r, g, b], &weight) in pixels[range.start - self.first_column..].iter().zip(weights) {
                red += i32::from(r) * weight;
                green += i32::from(g) * weight;
                blue += i32::from(b) * weight;
            }
            *result = [red, green, blue].map(level_of);
        }
    }
}

/// The weighted sum of rows: `offsets` says where in `samples` each begins, `weights` has one weight for each, and all
/// are as long as `out`.
pub(super) fn weigh_rows(
    samples: &[u8],
    offsets: &[usize],
    weights: &[i32],
    out: &mut [u8],
    instructions: Instructions,
) {
    /// Sums that stay in registers.
    const BLOCK: usize = 32;
    #[cfg(target_arch = "x86_64")]
    if instructions == Instructions::Avx2 && out.len() >= avx2::BLOCK {
        return avx2::weigh_rows(samples, offsets, weights, out);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let Instructions::Portable = instructions;
    for (block, results) in out.chunks_mut(BLOCK).enumerate() {
        let mut sums = [HALF; BLOCK];
        for (offset, &weight) in offsets.iter().zip(weights) {
            let levels = &samples[offset + block * BLOCK..][..results.len()];
            for (sum, &level) in sums.iter_mut().zip(levels) {
                *sum += i32::from(level) * weight;
            }
        }
        for (result, &sum) in results.iter_mut().zip(&sums) {
            *result = level_of(sum);
        }
    }
}

/// The loops in AVX2. Everything here is reached only where [`Instructions::best`] found AVX2.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;
    use std::ops::Range;

    use super::{HALF, Kernels, PRECISION_BITS};

    /// Bits of a weight's lower part; the upper part of any weight up to 16 fits an i16.
    const LOW_BITS: i32 = 11;
    const LOW_MASK: i32 = (1 << LOW_BITS) - 1;

    /// Pixels that one step along a row weighs.
    const STEP: usize = 4;

    /// Samples that one step along a row loads, of which it needs the first twelve.
    const LOAD: usize = 16;

    /// Columns that one step down the rows weighs.
    pub(super) const BLOCK: usize = 32;

    /// A weight's upper and lower part.
    fn parts(weight: i32) -> (i16, i16) {
        ((weight >> LOW_BITS) as i16, (weight & LOW_MASK) as i16)
    }

    /// Kernels cut into steps of four pixels.
    #[derive(Debug)]
    pub(super) struct RowKernels {
        /// Where in the row each output pixel's first step begins, in samples, and where its steps begin and end.
        spans: Vec<(usize, Range<usize>)>,
        /// The upper parts of four weights, then their lower parts.
        steps: Vec<[i16; 2 * STEP]>,
        /// Samples that the steps load.
        reach: usize,
        /// A row that lacked the padding.
        padded: Vec<u8>,
    }

    impl RowKernels {
        pub(super) fn new(kernels: &Kernels, first_column: usize) -> Self {
            let mut spans = Vec::with_capacity(kernels.len());
            let mut steps = Vec::new();
            let mut reach = 0;
            for (range, weights) in kernels.iter() {
                let (start, first) = (3 * (range.start - first_column), steps.len());
                for four in weights.chunks(STEP) {
                    let mut step = [0; 2 * STEP];
                    for (index, &weight) in four.iter().enumerate() {
                        (step[index], step[STEP + index]) = parts(weight);
                    }
                    reach = reach.max(start + 3 * STEP * (steps.len() - first) + LOAD);
                    steps.push(step);
                }
                spans.push((start, first..steps.len()));
            }
            Self { spans, steps, reach, padded: Vec::new() }
        }

        pub(super) fn apply(&mut self, row: &[u8], out: &mut [u8]) {
            assert!(out.len() >= 3 * self.spans.len());
            if row.len() >= self.reach {
                // SAFETY: kernels of this kind are made only where the processor has AVX2.
                return unsafe { self.apply_avx2(row, out) };
            }
            let mut padded = std::mem::take(&mut self.padded);
            padded.clear();
            padded.extend_from_slice(row);
            padded.resize(self.reach, 0);
            // SAFETY: as above.
            unsafe { self.apply_avx2(&padded, out) };
            self.padded = padded;
        }

        #[target_feature(enable = "avx2")]
        fn apply_avx2(&self, row: &[u8], out: &mut [u8]) {
            assert!(row.len() >= self.reach);
            // Of four pixels RGB RGB RGB RGB: below, the pairs r0 r1, r2 r3, g0 g1, g2 g3 as 16-bit numbers; above, the
            // same of b. A negative index gives a zero.
            const Z: i8 = -1;
            let pairs = _mm256_setr_epi8(
                0, Z, 3, Z, 6, Z, 9, Z, 1, Z, 4, Z, 7, Z, 10, Z, //
                2, Z, 5, Z, 8, Z, 11, Z, Z, Z, Z, Z, Z, Z, Z, Z,
            );
            let half = _mm256_set1_epi64x(i64::from(HALF));
            for ((start, steps), result) in self.spans.iter().zip(out.as_chunks_mut::<3>().0) {
                let (mut high, mut low) = (_mm256_setzero_si256(), half);
                for (index, step) in self.steps[steps.clone()].iter().enumerate() {
                    // SAFETY: the row has `reach` samples, which is the end of the last step's load. The two halves of a
                    // step are 8 bytes each.
                    let (pixels, upper, lower) = unsafe {
                        debug_assert!(start + 3 * STEP * index + LOAD <= row.len());
                        (
                            _mm_loadu_si128(row.as_ptr().add(start + 3 * STEP * index).cast()),
                            step.as_ptr().cast::<i64>().read_unaligned(),
                            step.as_ptr().add(STEP).cast::<i64>().read_unaligned(),
                        )
                    };
                    let pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(pixels), pairs);
                    high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, _mm256_set1_epi64x(upper)));
                    low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, _mm256_set1_epi64x(lower)));
                }
                let sums = _mm256_add_epi32(_mm256_slli_epi32::<LOW_BITS>(high), low);
                // Each colour's sum stands in two neighbours.
                let sums = _mm256_add_epi32(sums, _mm256_srli_epi64::<32>(sums));
                let levels = _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(sums);
                let levels = _mm256_packs_epi32(levels, levels);
                let levels = _mm256_packus_epi16(levels, levels);
                let red_and_green = _mm256_extract_epi32::<0>(levels) as u32;
                let blue = _mm256_extract_epi32::<4>(levels) as u32;
                *result = [red_and_green as u8, (red_and_green >> 16) as u8, blue as u8];
            }
        }
    }

    pub(super) fn weigh_rows(samples: &[u8], offsets: &[usize], weights: &[i32], out: &mut [u8]) {
        let length = out.len();
        assert!(length >= BLOCK && offsets.len() == weights.len());
        assert!(offsets.iter().all(|&offset| offset <= samples.len() && length <= samples.len() - offset));
        // SAFETY: the caller has found AVX2 in the processor.
        unsafe { weigh_rows_avx2(samples, offsets, weights, out) }
    }

    #[target_feature(enable = "avx2")]
    fn weigh_rows_avx2(samples: &[u8], offsets: &[usize], weights: &[i32], out: &mut [u8]) {
        let zero = _mm256_setzero_si256();
        let last = out.len() - BLOCK;
        let mut column = 0;
        loop {
            let mut high = [zero; 4];
            let mut low = [_mm256_set1_epi32(HALF); 4];
            let (pairs, odd) = offsets.as_chunks::<2>();
            let (weight_pairs, odd_weight) = weights.as_chunks::<2>();
            // SAFETY: weigh_rows has checked that `out.len()` samples follow every offset, and `column` leaves BLOCK of
            // them.
            let load = |offset: usize| unsafe {
                debug_assert!(offset + column + BLOCK <= samples.len());
                _mm256_loadu_si256(samples.as_ptr().add(offset + column).cast())
            };
            for (&[a, b], &[weight_a, weight_b]) in pairs.iter().zip(weight_pairs) {
                add_pair(&mut high, &mut low, load(a), load(b), weight_a, weight_b);
            }
            if let ([a], [weight]) = (odd, odd_weight) {
                add_pair(&mut high, &mut low, load(*a), zero, *weight, 0);
            }
            let level = |index: usize| {
                let sum = _mm256_add_epi32(_mm256_slli_epi32::<LOW_BITS>(high[index]), low[index]);
                _mm256_srai_epi32::<{ PRECISION_BITS as i32 }>(sum)
            };
            let levels = _mm256_packus_epi16(
                _mm256_packs_epi32(level(0), level(1)),
                _mm256_packs_epi32(level(2), level(3)),
            );
            // SAFETY: `column` leaves BLOCK bytes.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().add(column).cast(), levels) };
            if column == last {
                return;
            }
            // The last block overlaps the one before it.
            column = (column + BLOCK).min(last);
        }
    }

    /// Adds 32 columns of two rows. The order of columns in the sums is the one that packing undoes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn add_pair(
        high: &mut [__m256i; 4],
        low: &mut [__m256i; 4],
        a: __m256i,
        b: __m256i,
        weight_a: i32,
        weight_b: i32,
    ) {
        let zero = _mm256_setzero_si256();
        let ((high_a, low_a), (high_b, low_b)) = (parts(weight_a), parts(weight_b));
        let both = |a: i16, b: i16| _mm256_set1_epi32(i32::from(b) << 16 | i32::from(a as u16));
        let (upper, lower) = (both(high_a, high_b), both(low_a, low_b));
        let (first, second) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
        let pairs = [
            _mm256_unpacklo_epi8(first, zero),
            _mm256_unpackhi_epi8(first, zero),
            _mm256_unpacklo_epi8(second, zero),
            _mm256_unpackhi_epi8(second, zero),
        ];
        for (index, pair) in pairs.into_iter().enumerate() {
            high[index] = _mm256_add_epi32(high[index], _mm256_madd_epi16(pair, upper));
            low[index] = _mm256_add_epi32(low[index], _mm256_madd_epi16(pair, lower));
        }
    }
}
