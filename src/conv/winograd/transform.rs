//! The three transforms of F(4x4, 3x3), at 0, ∞ and four points.

use pulp::Simd;

/// Outputs along a tile.
pub(super) const OUT: usize = 4;
/// Inputs along a tile.
pub(super) const IN: usize = 6;
/// Numbers of a transformed tile.
pub(super) const POINTS: usize = IN * IN;

/// The finite points of interpolation besides 0: ±[`A`] and ±[`B`].
const A: f64 = std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = std::f64::consts::SQRT_2;

/// What each of the 9 weights of a filter, row by row, counts for at each of the [`POINTS`]: G and Gᵀ.
pub(super) fn point_weights() -> [[f64; 9]; POINTS] {
    let points = [0.0, A, -A, B, -B];
    let mut rows = [[0.0, 0.0, 1.0]; IN];
    for (index, &point) in points.iter().enumerate() {
        let others = points.iter().enumerate().filter(|&(other, _)| other != index);
        let norm: f64 = others.map(|(_, other)| point - other).product();
        rows[index] = [1.0 / norm, point / norm, point * point / norm];
    }
    std::array::from_fn(|index| {
        std::array::from_fn(|tap| rows[index / IN][tap / 3] * rows[index % IN][tap % 3])
    })
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
