//! The inner loops that the solvers spend their time in: products of float32 rows with weights, and sums of rows.
//!
//! Each is compiled once for every instruction set that pulp knows, and the widest that the processor has is chosen when it
//! is called. There are two kinds of products:
//!
//! - [`products`] and [`dot`] accumulate in float32 lanes over at most [`CHUNK`] columns and add up in float64, so the
//!   rounding error does not grow with the number of columns. [`dot_wide`] and [`add_scaled_wide`] are float64 throughout:
//!   dual coordinate descent adds up millions of small changes, and it waits for memory anyway. Their lanes do not depend on
//!   the processor, so their results differ only by fused multiply-add.
//! - [`products_of_few`] is float32 throughout, in whole registers, for passes over all rows with the weights of a few
//!   classes. A general matrix product takes classes in multiples of a register's lanes, and would compute for 16 where
//!   there are 10.

use pulp::{Arch, Simd, WithSimd};

/// Columns that are accumulated in float32 before they go into a float64 sum.
const CHUNK: usize = 1024;
/// float32 lanes of one accumulator.
const LANES: usize = 8;
/// Rows and weight vectors of one tile of [`products`].
const TILE_ROWS: usize = 2;
const TILE_WEIGHTS: usize = 4;

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    // Without hardware support `mul_add` is a call into the C library, hence the switch.
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn sum_lanes(lanes: &[f32; LANES]) -> f64 {
    lanes.iter().map(|&x| f64::from(x)).sum()
}

/// Products of `R` rows with `W` weight vectors, all of equal length.
#[inline(always)]
fn tile_body<const FUSED: bool, const R: usize, const W: usize>(
    rows: [&[f32]; R],
    weights: [&[f32]; W],
) -> [[f64; W]; R] {
    let columns = rows[0].len();
    let mut sums = [[0f64; W]; R];
    let mut start = 0;
    while start < columns {
        let end = (start + CHUNK).min(columns);
        let x: [&[f32]; R] = std::array::from_fn(|r| &rows[r][start..end]);
        let w: [&[f32]; W] = std::array::from_fn(|k| &weights[k][start..end]);
        let whole = (end - start) / LANES * LANES;
        let mut lanes = [[[0f32; LANES]; W]; R];
        let mut at = 0;
        while at < whole {
            let xv: [[f32; LANES]; R] = std::array::from_fn(|r| load(x[r], at));
            for k in 0..W {
                let wv = load(w[k], at);
                for r in 0..R {
                    for lane in 0..LANES {
                        lanes[r][k][lane] = multiply_add::<FUSED>(xv[r][lane], wv[lane], lanes[r][k][lane]);
                    }
                }
            }
            at += LANES;
        }
        for r in 0..R {
            for k in 0..W {
                let mut sum = sum_lanes(&lanes[r][k]);
                for (&a, &b) in x[r][whole..].iter().zip(&w[k][whole..]) {
                    sum += f64::from(a) * f64::from(b);
                }
                sums[r][k] += sum;
            }
        }
        start = end;
    }
    sums
}

#[inline(always)]
fn load(values: &[f32], at: usize) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    lanes.copy_from_slice(&values[at..at + LANES]);
    lanes
}

#[inline(always)]
fn dot_body<const FUSED: bool>(a: &[f32], b: &[f32]) -> f64 {
    // Four accumulators hide the latency of the additions.
    const STEP: usize = 4 * LANES;
    let (a, b) = (a, &b[..a.len()]);
    let mut total = 0f64;
    for (a, b) in a.chunks(CHUNK).zip(b.chunks(CHUNK)) {
        let mut lanes = [0f32; STEP];
        let (a_steps, b_steps) = (a.chunks_exact(STEP), b.chunks_exact(STEP));
        for (&x, &y) in a_steps.remainder().iter().zip(b_steps.remainder()) {
            total += f64::from(x) * f64::from(y);
        }
        for (x, y) in a_steps.zip(b_steps) {
            for lane in 0..STEP {
                lanes[lane] = multiply_add::<FUSED>(x[lane], y[lane], lanes[lane]);
            }
        }
        total += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
    }
    total
}

#[inline(always)]
fn dot_wide_body<const FUSED: bool>(row: &[f32], weights: &[f64]) -> f64 {
    const STEP: usize = 2 * LANES;
    let weights = &weights[..row.len()];
    let mut lanes = [0f64; STEP];
    let (row_steps, weight_steps) = (row.chunks_exact(STEP), weights.chunks_exact(STEP));
    let rest = row_steps.remainder().iter().zip(weight_steps.remainder());
    let mut total: f64 = rest.map(|(&x, &w)| f64::from(x) * w).sum();
    for (x, w) in row_steps.zip(weight_steps) {
        for lane in 0..STEP {
            let x = f64::from(x[lane]);
            lanes[lane] = if FUSED { x.mul_add(w[lane], lanes[lane]) } else { x * w[lane] + lanes[lane] };
        }
    }
    total += lanes.iter().sum::<f64>();
    total
}

#[inline(always)]
fn add_scaled_wide_body<const FUSED: bool>(sum: &mut [f64], factor: f64, row: &[f32]) {
    for (s, &x) in sum.iter_mut().zip(row) {
        let x = f64::from(x);
        *s = if FUSED { factor.mul_add(x, *s) } else { factor * x + *s };
    }
}

#[inline(always)]
fn products_body<const FUSED: bool>(rows: &[&[f32]], weights: &[&[f32]], out: &mut [f64]) {
    let count = weights.len();
    let whole = count / TILE_WEIGHTS * TILE_WEIGHTS;
    let mut r = 0;
    while r + TILE_ROWS <= rows.len() {
        let pair = [rows[r], rows[r + 1]];
        for k in (0..whole).step_by(TILE_WEIGHTS) {
            let tile =
                tile_body::<FUSED, TILE_ROWS, TILE_WEIGHTS>(pair, std::array::from_fn(|i| weights[k + i]));
            for (i, sums) in tile.iter().enumerate() {
                out[(r + i) * count + k..][..TILE_WEIGHTS].copy_from_slice(sums);
            }
        }
        for k in whole..count {
            let tile = tile_body::<FUSED, TILE_ROWS, 1>(pair, [weights[k]]);
            for (i, sums) in tile.iter().enumerate() {
                out[(r + i) * count + k] = sums[0];
            }
        }
        r += TILE_ROWS;
    }
    for r in r..rows.len() {
        for k in 0..count {
            out[r * count + k] = dot_body::<FUSED>(rows[r], weights[k]);
        }
    }
}

/// e^x, with a relative error of at most 2e-7 where the result is a normal number, 0 below.
///
/// e^x = 2^k e^r with |r| <= ln 2 / 2; the polynomial is Cephes' (S. L. Moshier, `expf`).
#[inline(always)]
fn exp_body<const FUSED: bool>(values: &mut [f32]) {
    // ln 2 in two parts, of which the first has few digits, so that its multiples are exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    const LOWEST: f32 = -87.0;
    const HIGHEST: f32 = 88.0;
    for value in values {
        let x = value.clamp(LOWEST, HIGHEST);
        // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
        const ROUNDER: f32 = 12_582_912.0;
        let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUNDER);
        let k = shifted - ROUNDER;
        let r = multiply_add::<FUSED>(k, -LOW, multiply_add::<FUSED>(k, -HIGH, x));
        let mut p = 1.987_569_1e-4;
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = multiply_add::<FUSED>(p, r, coefficient);
        }
        let of_rest = multiply_add::<FUSED>(p, r * r, r) + 1.0;
        // The low bits of the shifted number are k: they become the exponent of 2^k.
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
        *value = if *value < LOWEST { 0.0 } else { of_rest * power };
    }
}

#[inline(always)]
fn standardize_body<const FUSED: bool>(
    out: &mut [f32],
    row: &[f32],
    factor: f64,
    mean: &[f64],
    scale: &[f64],
    constant: &[bool],
) {
    let columns = mean.iter().zip(scale).zip(constant);
    for ((to, &x), ((mean, scale), &constant)) in out.iter_mut().zip(row).zip(columns) {
        let z = (factor * f64::from(x) - mean) / scale;
        *to = if constant { 0.0 } else { z as f32 };
    }
}

/// Defines a function that calls `$body` compiled for the widest instruction set of this processor; the body's parameter
/// says whether that has fused multiply-add.
macro_rules! vectorized {
    ($(#[$meta:meta])* fn $name:ident<$($life:lifetime),*>($($argument:ident: $type:ty),*) $(-> $output:ty)? = $body:ident) => {
        $(#[$meta])*
        pub(crate) fn $name<$($life),*>($($argument: $type),*) $(-> $output)? {
            struct Call<$($life),*> {
                $($argument: $type),*
            }
            impl<$($life),*> WithSimd for Call<$($life),*> {
                type Output = vectorized!(@output $($output)?);

                #[inline(always)]
                fn with_simd<S: Simd>(self, _: S) -> Self::Output {
                    if S::IS_SCALAR {
                        $body::<false>($(self.$argument),*)
                    } else {
                        $body::<true>($(self.$argument),*)
                    }
                }
            }
            Arch::new().dispatch(Call { $($argument),* })
        }
    };
    (@output) => { () };
    (@output $output:ty) => { $output };
}

vectorized! {
    /// Inner product of `a` with the first `a.len()` elements of `b`.
    fn dot<'a, 'b>(a: &'a [f32], b: &'b [f32]) -> f64 = dot_body
}

vectorized! {
    /// Inner product of `row` with the first `row.len()` float64 weights.
    fn dot_wide<'a, 'b>(row: &'a [f32], weights: &'b [f64]) -> f64 = dot_wide_body
}

vectorized! {
    /// `sum += factor * row`, in float64.
    fn add_scaled_wide<'a, 'b>(sum: &'a mut [f64], factor: f64, row: &'b [f32]) = add_scaled_wide_body
}

vectorized! {
    /// `out[r * weights.len() + k] = rows[r] . weights[k]`; all slices are equally long.
    fn products<'a, 'b, 'c, 'd, 'e>(rows: &'a [&'b [f32]], weights: &'c [&'d [f32]], out: &'e mut [f64]) = products_body
}

vectorized! {
    /// Replaces each value x, which must not be NaN, by e^x.
    fn exp<'a>(values: &'a mut [f32]) = exp_body
}

vectorized! {
    /// Standardises a row, each value first multiplied by `factor`: `(factor · x - mean) / scale`, 0 where `constant`.
    fn standardize<'a>(
        out: &'a mut [f32], row: &'a [f32], factor: f64, mean: &'a [f64], scale: &'a [f64], constant: &'a [bool]
    ) = standardize_body
}

/// Rows and others of [`each_product`] at most, few enough to stay in a core's cache.
pub(crate) const TILE: usize = 16;

/// Calls `put` with r, k and `rows[r] . others[k]` for up to [`TILE`] of each; all slices are equally long.
pub(crate) fn each_product(rows: &[&[f32]], others: &[&[f32]], mut put: impl FnMut(usize, usize, f64)) {
    let mut tile = [0f64; TILE * TILE];
    let tile = &mut tile[..rows.len() * others.len()];
    products(rows, others, tile);
    for (r, values) in tile.chunks(others.len()).enumerate() {
        values.iter().enumerate().for_each(|(k, &value)| put(r, k, value));
    }
}

/// Rows and classes of a tile of [`products_of_few`], whose sums stay in registers.
const FEW_ROWS: usize = 4;
const FEW_CLASSES: usize = 3;

/// `out[r * m + k]` becomes the product of row r with the weights of class k, of m classes; all are `width` long, which is not 0.
pub(crate) fn products_of_few<'a>(
    row: impl Fn(usize) -> &'a [f32],
    weights: &[f32],
    width: usize,
    out: &mut [f32],
) {
    Arch::new().dispatch(FewProducts { row, weights, width, out });
}

struct FewProducts<'a, R> {
    row: R,
    weights: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl<'r, R: Fn(usize) -> &'r [f32]> WithSimd for FewProducts<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FewProducts { row, weights, width, out } = self;
        let count = weights.len() / width;
        let whole = count / FEW_CLASSES * FEW_CLASSES;
        for (chunk, out) in out.chunks_mut(FEW_ROWS * count).enumerate() {
            let first = chunk * FEW_ROWS;
            if out.len() < FEW_ROWS * count {
                for (r, out) in out.chunks_mut(count).enumerate() {
                    for (of_class, out) in weights.chunks(width).zip(out) {
                        [[*out]] = tile_of_few(simd, [row(first + r)], [of_class]);
                    }
                }
                continue;
            }
            let row = [row(first), row(first + 1), row(first + 2), row(first + 3)];
            for k in (0..whole).step_by(FEW_CLASSES) {
                let of_class = |at: usize| &weights[(k + at) * width..][..width];
                let sums = tile_of_few(simd, row, [of_class(0), of_class(1), of_class(2)]);
                for (r, sums) in sums.iter().enumerate() {
                    out[r * count + k..][..FEW_CLASSES].copy_from_slice(sums);
                }
            }
            for k in whole..count {
                let sums = tile_of_few(simd, row, [&weights[k * width..][..width]]);
                for (r, [sum]) in sums.into_iter().enumerate() {
                    out[r * count + k] = sum;
                }
            }
        }
    }
}

#[inline(always)]
fn tile_of_few<S: Simd, const R: usize, const K: usize>(
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

    /// Values that leave a remainder in every blocking: neither lanes, chunks nor tiles divide the sizes.
    fn example(columns: usize, phase: f32) -> Vec<f32> {
        (0..columns).map(|j| (j as f32 * 0.37 + phase).sin() * 3.0).collect()
    }

    fn exact(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    }

    #[test]
    fn products_equal_float64_sums_at_every_remainder() {
        for columns in [1, 7, 8, 33, 1023, 1024, 1025, 2500] {
            let rows: Vec<_> = (0..5).map(|i| example(columns, i as f32)).collect();
            let weights: Vec<_> = (0..7).map(|i| example(columns, 10.0 + i as f32)).collect();
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
            let mut out = vec![0.0; rows.len() * weights.len()];
            products(&rows, &weights, &mut out);
            for (r, row) in rows.iter().enumerate() {
                for (k, weight) in weights.iter().enumerate() {
                    let expected = exact(row, weight);
                    let tolerance = 1e-5 * (columns as f64).sqrt();
                    assert!((out[r * weights.len() + k] - expected).abs() < tolerance);
                    assert!((dot(row, weight) - expected).abs() < tolerance);
                }
            }
        }
    }

    #[test]
    fn exponentials_are_those_of_float64_to_two_parts_in_ten_million() {
        let points: Vec<f32> = (-8700..=8800).map(|i| i as f32 * 0.01).collect();
        let (mut found, mut baseline) = (points.clone(), points.clone());
        exp(&mut found);
        exp_body::<false>(&mut baseline);
        for ((&x, &found), &baseline) in points.iter().zip(&found).zip(&baseline) {
            let expected = f64::from(x).exp();
            for value in [found, baseline] {
                let error = (f64::from(value) / expected - 1.0).abs();
                assert!(error < 2e-7, "e^{x} is {expected}, not {value}: {error}");
            }
        }
        let mut ends = [0.0, f32::NEG_INFINITY, -200.0];
        exp(&mut ends);
        assert_eq!(ends, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_baseline_build_agrees_with_the_chosen_one() {
        let (a, b) = (example(1999, 0.0), example(1999, 1.0));
        assert!((dot_body::<false>(&a, &b) - dot(&a, &b)).abs() < 1e-3);
    }

    #[test]
    fn float64_weights_lose_no_digits() {
        for columns in [1, 15, 16, 1999] {
            let row = example(columns, 0.0);
            let weights: Vec<f64> = (0..columns).map(|j| (j as f64 * 0.11).cos()).collect();
            let expected: f64 = row.iter().zip(&weights).map(|(&x, w)| f64::from(x) * w).sum();
            assert!((dot_wide(&row, &weights) - expected).abs() < 1e-11);
            assert!((dot_wide_body::<false>(&row, &weights) - expected).abs() < 1e-11);
            let (mut sum, mut baseline) = (weights.clone(), weights.clone());
            add_scaled_wide(&mut sum, 0.3, &row);
            add_scaled_wide_body::<false>(&mut baseline, 0.3, &row);
            for (j, &found) in sum.iter().enumerate() {
                assert!((found - (weights[j] + 0.3 * f64::from(row[j]))).abs() < 1e-14);
                assert!((found - baseline[j]).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn products_of_few_are_those_of_float64_at_every_remainder() {
        for width in [1, 15, 16, 17, 100] {
            for (rows, classes) in [(1, 1), (4, 3), (5, 7), (8, 2), (3, 6)] {
                let value = |at: usize, phase: f64| ((at as f64 * 0.37 + phase).sin()) as f32;
                let a: Vec<f32> = (0..rows * width).map(|at| value(at, 0.0)).collect();
                let b: Vec<f32> = (0..classes * width).map(|at| value(at, 1.0)).collect();
                let mut out = vec![f32::NAN; rows * classes];
                products_of_few(|r| &a[r * width..][..width], &b, width, &mut out);
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
