//! The three transforms of F(4x4, 3x3), at 0, ∞ and four points.

use pulp::{Simd, WithSimd};

/// Outputs along a tile.
pub(super) const OUT: usize = 4;
/// Inputs along a tile.
pub(super) const IN: usize = 6;
/// Weights along a filter.
const TAPS: usize = 3;
/// Numbers of a transformed tile.
pub(super) const POINTS: usize = IN * IN;

/// The finite points of interpolation besides 0: ±[`A`] and ±[`B`].
const A: f64 = std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = std::f64::consts::SQRT_2;

/// G: what the weights along a filter count for at each point.
fn filter_weights() -> [[f64; TAPS]; IN] {
    let points = [0.0, A, -A, B, -B];
    let mut rows = [[0.0, 0.0, 1.0]; IN];
    for (index, &point) in points.iter().enumerate() {
        let others = points.iter().enumerate().filter(|&(other, _)| other != index);
        let norm: f64 = others.map(|(_, other)| point - other).product();
        rows[index] = [1.0 / norm, point / norm, point * point / norm];
    }
    rows
}

/// Outputs whose filters are transformed side by side.
const SIDE: usize = 4;

/// Inputs whose filters are written together.
const TOGETHER: usize = 8;

/// GgGᵀ of the filters of a panel of outputs, for every input.
pub(super) struct Filters<'a> {
    /// Outputs x inputs x 3 x 3, of the panel's outputs; there may be fewer than it is wide.
    pub(super) filters: &'a [f32],
    pub(super) inputs: usize,
    /// Outputs in the panel, a multiple of [`SIDE`].
    pub(super) width: usize,
    /// [`POINTS`] x inputs x width.
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Filters<'_> {
    type Output = ();

    /// In plain numbers, of which the compiler makes registers.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { filters, inputs, width, out } = self;
        let weights = filter_weights();
        let of_output = inputs * TAPS * TAPS;
        let of_point = out.len() / POINTS;
        // The points' numbers lie powers of two apart, where a cache keeps few lines: so some at a time, in a place of their own.
        let mut some = vec![0.0_f32; POINTS * TOGETHER * width];
        for input in 0..inputs {
            let (block, of_block) = (input / TOGETHER, input % TOGETHER);
            for first in (0..width).step_by(SIDE) {
                let mut taps = [[0.0_f64; SIDE]; TAPS * TAPS];
                let mine = filters.chunks_exact(of_output).skip(first).take(SIDE);
                for (output, filter) in mine.enumerate() {
                    for (tap, &weight) in filter[input * TAPS * TAPS..][..TAPS * TAPS].iter().enumerate() {
                        taps[tap][output] = f64::from(weight);
                    }
                }
                let mut half = [[[0.0_f64; SIDE]; TAPS]; IN];
                for (half, weights) in half.iter_mut().zip(&weights) {
                    for (column, half) in half.iter_mut().enumerate() {
                        for (row, weight) in weights.iter().enumerate() {
                            half.iter_mut()
                                .zip(&taps[row * TAPS + column])
                                .for_each(|(sum, tap)| *sum += weight * tap);
                        }
                    }
                }
                for (row, half) in half.iter().enumerate() {
                    for (column, weights) in weights.iter().enumerate() {
                        let mut sums = [0.0_f64; SIDE];
                        for (half, weight) in half.iter().zip(weights) {
                            sums.iter_mut().zip(half).for_each(|(sum, half)| *sum += weight * half);
                        }
                        let at = ((row * IN + column) * TOGETHER + of_block) * width + first;
                        some[at..][..SIDE].iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
                    }
                }
            }
            if of_block + 1 == TOGETHER || input + 1 == inputs {
                let len = (of_block + 1) * width;
                for (some, out) in some.chunks_exact(TOGETHER * width).zip(out.chunks_exact_mut(of_point)) {
                    out[block * TOGETHER * width..][..len].copy_from_slice(&some[..len]);
                }
            }
        }
    }
}

/// Bᵀ along one direction. Its rows are the polynomials that vanish at all points but one, of degree 4, and at ∞ the one that
/// vanishes at all.
pub(super) struct InputTransform<V> {
    a: V,
    b: V,
    minus_a2: V,
    minus_b2: V,
    minus_sum: V,
    product: V,
}

impl<V: Copy> InputTransform<V> {
    #[inline(always)]
    pub(super) fn new<S: Simd<f32s = V>>(simd: S) -> Self {
        let splat = |value: f64| simd.splat_f32s(value as f32);
        Self {
            a: splat(A),
            b: splat(B),
            minus_a2: splat(-A * A),
            minus_b2: splat(-B * B),
            minus_sum: splat(-A * A - B * B),
            product: splat(A * A * B * B),
        }
    }

    #[inline(always)]
    pub(super) fn apply<S: Simd<f32s = V>>(&self, simd: S, d: [V; IN]) -> [V; IN] {
        let even_a = simd.mul_add_e_f32s(self.minus_b2, d[2], d[4]);
        let odd_a = simd.mul_add_e_f32s(self.minus_b2, d[1], d[3]);
        let even_b = simd.mul_add_e_f32s(self.minus_a2, d[2], d[4]);
        let odd_b = simd.mul_add_e_f32s(self.minus_a2, d[1], d[3]);
        let (odd_a, odd_b) = (simd.mul_f32s(self.a, odd_a), simd.mul_f32s(self.b, odd_b));
        let at_0 = simd.mul_add_e_f32s(self.minus_sum, d[2], d[4]);
        let at_infinity = simd.mul_add_e_f32s(self.minus_sum, d[3], d[5]);
        [
            simd.mul_add_e_f32s(self.product, d[0], at_0),
            simd.add_f32s(even_a, odd_a),
            simd.sub_f32s(even_a, odd_a),
            simd.add_f32s(even_b, odd_b),
            simd.sub_f32s(even_b, odd_b),
            simd.mul_add_e_f32s(self.product, d[1], at_infinity),
        ]
    }
}

/// Aᵀ along one direction: the powers 0 to 3 of the points.
pub(super) struct OutputTransform<V> {
    a: V,
    b: V,
    a2: V,
    b2: V,
    a3: V,
    b3: V,
}

impl<V: Copy> OutputTransform<V> {
    #[inline(always)]
    pub(super) fn new<S: Simd<f32s = V>>(simd: S) -> Self {
        let splat = |value: f64| simd.splat_f32s(value as f32);
        Self {
            a: splat(A),
            b: splat(B),
            a2: splat(A * A),
            b2: splat(B * B),
            a3: splat(A * A * A),
            b3: splat(B * B * B),
        }
    }

    #[inline(always)]
    pub(super) fn apply<S: Simd<f32s = V>>(&self, simd: S, m: [V; IN]) -> [V; OUT] {
        let (sum_a, difference_a) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
        let (sum_b, difference_b) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
        [
            simd.add_f32s(m[0], simd.add_f32s(sum_a, sum_b)),
            simd.mul_add_e_f32s(self.a, difference_a, simd.mul_f32s(self.b, difference_b)),
            simd.mul_add_e_f32s(self.a2, sum_a, simd.mul_f32s(self.b2, sum_b)),
            simd.mul_add_e_f32s(self.a3, difference_a, simd.mul_add_e_f32s(self.b3, difference_b, m[5])),
        ]
    }
}
