//! The two inner loops of resampling: weighted sums along a row, and down a column, of 8-bit RGB.
//!
//! Weights are 32-bit with 22 fractional bits, as Pillow has them, and the sums are exact modulo 2^32, so that their
//! order is free: the vectorised loops give the same levels as the plain ones. AVX2 and AVX-512 multiply 16-bit numbers
//! best, two at a time, so there a weight is taken apart into `2^11 high + low`, and the sums of both parts are put together
//! at the end.

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
    /// AVX-512 with byte permutations (VBMI) and products that add up (VNNI): Ice Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    /// The slowest first.
    pub(super) const ALL: &[Self] = &[
        Self::Portable,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
    ];

    /// The best that this processor has.
    pub(super) fn best() -> Self {
        Self::ALL
            .iter()
            .rev()
            .copied()
            .find(|instructions| instructions.are_there())
            .unwrap_or(Self::Portable)
    }

    /// Whether this processor has them.
    pub(super) fn are_there(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
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
    vectors: Option<VectorKernels>,
}

/// The kernels of a row for vectorised loops.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
enum VectorKernels {
    Avx2(steps::KernelSteps<{ avx2::STEP }>),
    Avx512(steps::KernelSteps<{ avx512::STEP }>),
}

impl RowConvolution {
    /// For rows that begin with column `first_column` of the image.
    pub(super) fn new(kernels: Kernels, first_column: usize, instructions: Instructions) -> Self {
        #[cfg(not(target_arch = "x86_64"))]
        let Instructions::Portable = instructions;
        Self {
            #[cfg(target_arch = "x86_64")]
            vectors: match instructions {
                Instructions::Portable => None,
                Instructions::Avx2 => {
                    Some(VectorKernels::Avx2(steps::KernelSteps::new(&kernels, first_column, avx2::LOAD)))
                }
                Instructions::Avx512 => {
                    Some(VectorKernels::Avx512(steps::KernelSteps::new(&kernels, first_column, avx512::LOAD)))
                }
            },
            kernels,
            first_column,
        }
    }

    /// Resizes one row of RGB pixels to one pixel a kernel.
    pub(super) fn apply(&mut self, row: &[u8], out: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        match &mut self.vectors {
            Some(VectorKernels::Avx2(steps)) => {
                return steps.on(row, out, |steps, row, out| {
                    // SAFETY: steps of this kind are made only where the processor has AVX2.
                    unsafe { avx2::weigh_pixels(steps, row, out) }
                });
            }
            Some(VectorKernels::Avx512(steps)) => {
                return steps.on(row, out, |steps, row, out| {
                    // SAFETY: steps of this kind are made only where the processor has these parts of AVX-512.
                    unsafe { avx512::weigh_pixels(steps, row, out) }
                });
            }
            None => {}
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
    if instructions != Instructions::Portable && out.len() >= avx2::BLOCK {
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

/// Weights taken apart and cut into steps, for the vectorised loops along a row.
#[cfg(target_arch = "x86_64")]
mod steps {
    use std::ops::Range;

    use super::Kernels;

    /// Bits of a weight's lower part; the upper part of any weight up to 16 fits an i16.
    pub(super) const LOW_BITS: u32 = 11;
    const LOW_MASK: i32 = (1 << LOW_BITS) - 1;

    /// A weight's upper and lower part.
    pub(super) fn parts(weight: i32) -> (i16, i16) {
        ((weight >> LOW_BITS) as i16, (weight & LOW_MASK) as i16)
    }

    /// The weights of `PIXELS` neighbouring pixels.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct KernelStep<const PIXELS: usize> {
        pub upper: [i16; PIXELS],
        pub lower: [i16; PIXELS],
    }

    /// Kernels cut into steps.
    #[derive(Debug)]
    pub(super) struct KernelSteps<const PIXELS: usize> {
        /// Where in the row each output pixel's first step begins, in samples, and where its steps begin and end.
        pub spans: Vec<(usize, Range<usize>)>,
        pub steps: Vec<KernelStep<PIXELS>>,
        /// Samples that the steps load.
        pub reach: usize,
        /// A row that lacked the padding.
        padded: Vec<u8>,
    }

    impl<const PIXELS: usize> KernelSteps<PIXELS> {
        /// For rows that begin with column `first_column`; a step loads `load` samples.
        pub fn new(kernels: &Kernels, first_column: usize, load: usize) -> Self {
            let mut spans = Vec::with_capacity(kernels.len());
            let mut steps = Vec::new();
            let mut reach = 0;
            for (range, weights) in kernels.iter() {
                let (start, first) = (3 * (range.start - first_column), steps.len());
                for weights in weights.chunks(PIXELS) {
                    let mut step = KernelStep { upper: [0; PIXELS], lower: [0; PIXELS] };
                    for (index, &weight) in weights.iter().enumerate() {
                        (step.upper[index], step.lower[index]) = parts(weight);
                    }
                    reach = reach.max(start + 3 * PIXELS * (steps.len() - first) + load);
                    steps.push(step);
                }
                spans.push((start, first..steps.len()));
            }
            Self { spans, steps, reach, padded: Vec::new() }
        }

        /// Has `weigh` resize a row that has as many samples as are loaded, and an output that has as many pixels.
        pub fn on(&mut self, row: &[u8], out: &mut [u8], weigh: impl FnOnce(&Self, &[u8], &mut [u8])) {
            assert!(out.len() >= 3 * self.spans.len());
            if row.len() >= self.reach {
                return weigh(self, row, out);
            }
            let mut padded = std::mem::take(&mut self.padded);
            padded.clear();
            padded.extend_from_slice(row);
            padded.resize(self.reach, 0);
            weigh(self, &padded, out);
            self.padded = padded;
        }
    }
}

/// The loop along a row in AVX-512. It is reached only where [`Instructions::best`] found what it needs.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::steps::{KernelSteps, LOW_BITS};
    use super::{HALF, PRECISION_BITS};

    /// Pixels that one step weighs.
    pub(super) const STEP: usize = 8;

    /// Samples that one step loads, of which it needs the first 24.
    pub(super) const LOAD: usize = 32;

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    pub(super) fn weigh_pixels(steps: &KernelSteps<STEP>, row: &[u8], out: &mut [u8]) {
        assert!(row.len() >= steps.reach);
        // Of eight pixels RGB: eight r as 16-bit numbers, then eight g, eight b, and nothing.
        let mut places = [0u8; 64];
        for (place, at) in
            places.iter_mut().step_by(2).zip((0..3).flat_map(|c| (c..3 * STEP as u8).step_by(3)))
        {
            *place = at;
        }
        // SAFETY: the array is as long as the load.
        let places = unsafe { _mm512_loadu_si512(places.as_ptr().cast()) };
        let is_level = 0x0000_5555_5555_5555;
        let half = _mm512_maskz_set1_epi32(0x1111, HALF);
        for ((start, range), result) in steps.spans.iter().zip(out.as_chunks_mut::<3>().0) {
            let (mut high, mut low) = (_mm512_setzero_si512(), half);
            for (index, step) in steps.steps[range.clone()].iter().enumerate() {
                // SAFETY: the row has `reach` samples, which is the end of the last step's load. The two halves of a
                // step are 16 bytes each.
                let (pixels, upper, lower) = unsafe {
                    debug_assert!(start + 3 * STEP * index + LOAD <= row.len());
                    (
                        _mm256_loadu_si256(row.as_ptr().add(start + 3 * STEP * index).cast()),
                        _mm_loadu_si128(step.upper.as_ptr().cast()),
                        _mm_loadu_si128(step.lower.as_ptr().cast()),
                    )
                };
                let pixels = _mm512_maskz_permutexvar_epi8(is_level, places, _mm512_castsi256_si512(pixels));
                high = _mm512_dpwssd_epi32(high, pixels, _mm512_broadcast_i32x4(upper));
                low = _mm512_dpwssd_epi32(low, pixels, _mm512_broadcast_i32x4(lower));
            }
            // Each colour's sum stands in four neighbours.
            let sums = _mm512_add_epi32(_mm512_slli_epi32::<LOW_BITS>(high), low);
            let sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32::<0b01_00_11_10>(sums));
            let sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32::<0b10_11_00_01>(sums));
            let levels = _mm512_max_epi32(_mm512_srai_epi32::<PRECISION_BITS>(sums), _mm512_setzero_si512());
            let levels = _mm512_cvtusepi32_epi8(levels);
            let red_and_green = _mm_cvtsi128_si64(levels);
            *result = [red_and_green as u8, (red_and_green >> 32) as u8, _mm_extract_epi8::<8>(levels) as u8];
        }
    }
}

/// The loops in AVX2. Everything here is reached only where [`Instructions::best`] found AVX2.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::steps::{KernelSteps, LOW_BITS, parts};
    use super::{HALF, PRECISION_BITS};

    /// Pixels that one step along a row weighs.
    pub(super) const STEP: usize = 4;

    /// Samples that one step along a row loads, of which it needs the first twelve.
    pub(super) const LOAD: usize = 16;

    /// Columns that one step down the rows weighs.
    pub(super) const BLOCK: usize = 32;

    #[target_feature(enable = "avx2")]
    pub(super) fn weigh_pixels(steps: &KernelSteps<STEP>, row: &[u8], out: &mut [u8]) {
        assert!(row.len() >= steps.reach);
        // Of four pixels RGB RGB RGB RGB: below, the pairs r0 r1, r2 r3, g0 g1, g2 g3 as 16-bit numbers; above, the
        // same of b. A negative index gives a zero.
        const Z: i8 = -1;
        let pairs = _mm256_setr_epi8(
            0, Z, 3, Z, 6, Z, 9, Z, 1, Z, 4, Z, 7, Z, 10, Z, //
            2, Z, 5, Z, 8, Z, 11, Z, Z, Z, Z, Z, Z, Z, Z, Z,
        );
        let half = _mm256_set1_epi64x(i64::from(HALF));
        for ((start, range), result) in steps.spans.iter().zip(out.as_chunks_mut::<3>().0) {
            let (mut high, mut low) = (_mm256_setzero_si256(), half);
            for (index, step) in steps.steps[range.clone()].iter().enumerate() {
                // SAFETY: the row has `reach` samples, which is the end of the last step's load. The two halves of a
                // step are 8 bytes each.
                let (pixels, upper, lower) = unsafe {
                    debug_assert!(start + 3 * STEP * index + LOAD <= row.len());
                    (
                        _mm_loadu_si128(row.as_ptr().add(start + 3 * STEP * index).cast()),
                        step.upper.as_ptr().cast::<i64>().read_unaligned(),
                        step.lower.as_ptr().cast::<i64>().read_unaligned(),
                    )
                };
                let pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(pixels), pairs);
                high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, _mm256_set1_epi64x(upper)));
                low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, _mm256_set1_epi64x(lower)));
            }
            let sums = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high), low);
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
                let sum = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high[index]), low[index]);
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
