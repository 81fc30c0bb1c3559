//! Products of rows with the weights of a few classes, in float32.
//!
//! Both are read along their length, as they lie. A general matrix product takes classes in multiples of its registers'
//! lanes, and would compute for 16 where there are 10. ([`super::kernel`]'s products are added
//! up in float64, for the dual's many small steps, which passes do not need.)

use pulp::{Arch, Simd, WithSimd};

/// Rows and classes of a tile, whose sums stay in registers.
const ROWS: usize = 4;
const CLASSES: usize = 3;

/// `out[r * m + k]` becomes the product of row r with the weights of class k, of m classes; all are `width` long, which is not 0.
pub(super) fn products<'a>(row: impl Fn(usize) -> &'a [f32], weights: &[f32], width: usize, out: &mut [f32]) {
    Arch::new().dispatch(Products { row, weights, width, out });
}

struct Products<'a, R> {
    row: R,
    weights: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl<'r, R: Fn(usize) -> &'r [f32]> WithSimd for Products<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Products { row, weights, width, out } = self;
        let count = weights.len() / width;
        let whole = count / CLASSES * CLASSES;
        for (chunk, out) in out.chunks_mut(ROWS * count).enumerate() {
            let first = chunk * ROWS;
            if out.len() < ROWS * count {
                for (r, out) in out.chunks_mut(count).enumerate() {
                    for (of_class, out) in weights.chunks(width).zip(out) {
                        [[*out]] = tile(simd, [row(first + r)], [of_class]);
                    }
                }
                continue;
            }
            let row = [row(first), row(first + 1), row(first + 2), row(first + 3)];
            for k in (0..whole).step_by(CLASSES) {
                let of_class = |at: usize| &weights[(k + at) * width..][..width];
                let sums = tile(simd, row, [of_class(0), of_class(1), of_class(2)]);
                for (r, sums) in sums.iter().enumerate() {
                    out[r * count + k..][..CLASSES].copy_from_slice(sums);
                }
            }
            for k in whole..count {
                let sums = tile(simd, row, [&weights[k * width..][..width]]);
                for (r, [sum]) in sums.into_iter().enumerate() {
                    out[r * count + k] = sum;
                }
            }
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize, const K: usize>(
    simd: S,
    rows: [&[f32]; R],
    weights: [&[f32]; K],
) -> [[f32; K]; R] {
    let (first, _) = S::as_simd_f32s(rows[0]);
    let (mut row, mut row_rest) = ([first; R], [&rows[0][..0]; R]);
    let (mut of_class, mut class_rest) = ([first; K], [&rows[0][..0]; K]);
    // Slices of one length, so that no index is checked in the loop.
    let vectors = first.len();
    for ((row, rest), values) in row.iter_mut().zip(&mut row_rest).zip(rows) {
        (*row, *rest) = S::as_simd_f32s(values);
        *row = &row[..vectors];
    }
    for ((of_class, rest), values) in of_class.iter_mut().zip(&mut class_rest).zip(weights) {
        (*of_class, *rest) = S::as_simd_f32s(values);
        *of_class = &of_class[..vectors];
    }
    let mut sums = [[simd.splat_f32s(0.0); K]; R];
    for at in 0..vectors {
        for r in 0..R {
            for k in 0..K {
                sums[r][k] = simd.mul_add_f32s(row[r][at], of_class[k][at], sums[r][k]);
            }
        }
    }
    let mut totals = [[0.0; K]; R];
    for r in 0..R {
        for k in 0..K {
            totals[r][k] = simd.reduce_sum_f32s(sums[r][k]);
            for (&x, &y) in row_rest[r].iter().zip(class_rest[k]) {
                totals[r][k] += x * y;
            }
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_float64_at_every_remainder() {
        for width in [1, 15, 16, 17, 100] {
            for (rows, classes) in [(1, 1), (4, 3), (5, 7), (8, 2), (3, 6)] {
                let value = |at: usize, phase: f64| ((at as f64 * 0.37 + phase).sin()) as f32;
                let a: Vec<f32> = (0..rows * width).map(|at| value(at, 0.0)).collect();
                let b: Vec<f32> = (0..classes * width).map(|at| value(at, 1.0)).collect();
                let mut out = vec![f32::NAN; rows * classes];
                products(|r| &a[r * width..][..width], &b, width, &mut out);
                for (r, row) in a.chunks(width).enumerate() {
                    for (k, of_class) in b.chunks(width).enumerate() {
                        let expected: f64 =
                            row.iter().zip(of_class).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                        let found = f64::from(out[r * classes + k]);
                        assert!((found - expected).abs() < 1e-5, "{width} {r} {k}: {found}, not {expected}");
                    }
                }
            }
        }
    }
}
