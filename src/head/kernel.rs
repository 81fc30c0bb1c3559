//! The inner loops that the solvers spend their time in: products of float32 rows with weights, and sums of rows.
//!
//! With float32 weights, products are accumulated in float32 lanes over at most [`CHUNK`] columns and then added up in
//! float64, so the rounding error does not grow with the number of columns. With float64 weights everything is float64;
//! dual coordinate descent needs that, since it adds up millions of small changes, and it waits for memory anyway. The loops are plain Rust, compiled twice: once for the
//! baseline processor and once for AVX2 with fused multiply-add, chosen at run time.

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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
        super::dot_body::<true>(a, b)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dot_wide(row: &[f32], weights: &[f64]) -> f64 {
        super::dot_wide_body::<true>(row, weights)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn add_scaled_wide(sum: &mut [f64], factor: f64, row: &[f32]) {
        super::add_scaled_wide_body::<true>(sum, factor, row);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn products(rows: &[&[f32]], weights: &[&[f32]], out: &mut [f64]) {
        super::products_body::<true>(rows, weights, out);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn exp(values: &mut [f32]) {
        super::exp_body::<true>(values);
    }
}

/// Calls the AVX2 build of a kernel where the processor has AVX2 and FMA, the baseline build elsewhere.
macro_rules! dispatch {
    ($kernel:ident, $baseline:expr, ($($argument:expr),*)) => {{
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the two features that the function is compiled for.
            return unsafe { avx2::$kernel($($argument),*) };
        }
        $baseline
    }};
}

/// Inner product of `a` with the first `a.len()` elements of `b`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    dispatch!(dot, dot_body::<false>(a, b), (a, b))
}

/// Inner product of `row` with the first `row.len()` float64 weights.
pub(super) fn dot_wide(row: &[f32], weights: &[f64]) -> f64 {
    dispatch!(dot_wide, dot_wide_body::<false>(row, weights), (row, weights))
}

/// `sum += factor * row`, in float64.
pub(super) fn add_scaled_wide(sum: &mut [f64], factor: f64, row: &[f32]) {
    dispatch!(add_scaled_wide, add_scaled_wide_body::<false>(sum, factor, row), (sum, factor, row))
}

/// Rows and others of [`each_product`] at most, few enough to stay in a core's cache.
pub(super) const TILE: usize = 16;

/// Calls `put` with r, k and `rows[r] . others[k]` for up to [`TILE`] of each; all slices are equally long.
pub(super) fn each_product(rows: &[&[f32]], others: &[&[f32]], mut put: impl FnMut(usize, usize, f64)) {
    let mut tile = [0f64; TILE * TILE];
    let tile = &mut tile[..rows.len() * others.len()];
    products(rows, others, tile);
    for (r, values) in tile.chunks(others.len()).enumerate() {
        values.iter().enumerate().for_each(|(k, &value)| put(r, k, value));
    }
}

/// `out[r * weights.len() + k] = rows[r] . weights[k]`; all slices are equally long.
pub(super) fn products(rows: &[&[f32]], weights: &[&[f32]], out: &mut [f64]) {
    dispatch!(products, products_body::<false>(rows, weights, out), (rows, weights, out))
}

/// Replaces each value x, which must not be NaN, by e^x.
pub(super) fn exp(values: &mut [f32]) {
    dispatch!(exp, exp_body::<false>(values), (values))
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
}
