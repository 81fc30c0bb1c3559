//! Comparing a few rows with all queries: a bound for each pair by one float32 matrix product, and the distance itself,
//! in float64, where the bound does not settle it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::ArrayView2;
use pulp::{Arch, Simd, WithSimd};

use super::{Metric, Neighbor};

/// Queries whose products with the rows are in memory at a time.
const QUERIES_AT_ONCE: usize = 256;
/// Sums that a float64 sum is split into, so that it can be computed in vector registers of any length; the result is
/// the same with all of them.
const LANES: usize = 16;
/// Sums of vectors that the square of a row's length is split into.
const SQUARE_SUMS: usize = 8;
/// Roundings where these are added up: of the sums, of the at most 16 lanes of a vector, and of the values left over.
const SQUARE_ROUNDINGS: usize = SQUARE_SUMS + 16 + 16;
/// Rows of lengths beyond these are always compared in float64: squares of their values or products with them might
/// overflow in float32, or lose what the bound does not count.
const SAFE_SQUARES: std::ops::Range<f32> = 1e-20..1e30;
/// Products that are looked at together.
const AT_ONCE: usize = 16;

/// A row that may be a neighbour, ordered by what decides: the distance, then the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RowCandidate {
    /// Grows with the distance: the distance itself, or its square where the metric is Euclidean.
    pub(super) key: f64,
    pub(super) row: usize,
}

impl Eq for RowCandidate {}

impl PartialOrd for RowCandidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RowCandidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.row.cmp(&other.row))
    }
}

/// The nearest rows of one query so far.
#[derive(Debug, Clone)]
pub(super) struct NearestRows {
    k: usize,
    /// The farthest on top.
    heap: BinaryHeap<RowCandidate>,
}

impl NearestRows {
    pub(super) fn new(k: usize) -> NearestRows {
        NearestRows { k, heap: BinaryHeap::new() }
    }

    /// What a later row's key must be below.
    pub(super) fn limit(&self) -> f64 {
        match self.heap.peek() {
            Some(farthest) if self.heap.len() >= self.k => farthest.key,
            _ if self.k == 0 => f64::NEG_INFINITY,
            _ => f64::INFINITY,
        }
    }

    pub(super) fn add(&mut self, candidate: RowCandidate) {
        self.heap.push(candidate);
        if self.heap.len() > self.k {
            self.heap.pop();
        }
    }

    /// Adds what another has found in other rows.
    pub(super) fn join(&mut self, other: NearestRows) {
        other.heap.into_iter().for_each(|candidate| self.add(candidate));
    }

    pub(super) fn into_neighbors(self, metric: Metric) -> Vec<Neighbor> {
        let neighbor = |RowCandidate { key, row }| Neighbor {
            row,
            distance: match metric {
                Metric::Cosine => key,
                Metric::Euclidean => key.sqrt(),
            },
        };
        self.heap.into_sorted_vec().into_iter().map(neighbor).collect()
    }
}

/// The queries, and what is known about them beforehand.
pub(super) struct PreparedQueries<'a> {
    queries: ArrayView2<'a, f32>,
    metric: Metric,
    /// The queries brought to length 1, row after row.
    directions: Vec<f32>,
    /// Squares of their lengths.
    squares: Vec<f64>,
    /// How far a float32 product of a row and a direction may be from the truth, as a share of the row's length.
    error: f64,
    /// How far the float32 square of a row's length may be from the truth, as a share of it.
    square_error: f64,
}

/// Rows whose product with a query's direction is at most `square * a + length * b + c` are no neighbours.
#[derive(Debug, Clone, Copy)]
struct RejectionBound {
    a: f64,
    b: f64,
    c: f64,
}

/// The bounds of several queries.
#[derive(Debug, Default)]
struct RejectionBounds {
    a: Vec<f64>,
    b: Vec<f64>,
    c: Vec<f64>,
}

/// What is known of rows beforehand. Not a number, which no bound rules out, for those that are not
/// [safe](SAFE_SQUARES).
#[derive(Debug, Default)]
struct RowLengths {
    squares: Vec<f64>,
    lengths: Vec<f64>,
}

impl<'a> PreparedQueries<'a> {
    /// Refuses values that are not finite; gives the query and the value.
    pub(super) fn new(
        queries: ArrayView2<'a, f32>,
        metric: Metric,
    ) -> Result<PreparedQueries<'a>, (usize, f32)> {
        let mut directions = Vec::with_capacity(queries.len());
        let mut squares = Vec::with_capacity(queries.nrows());
        for (index, query) in queries.rows().into_iter().enumerate() {
            if let Some(&value) = query.iter().find(|value| !value.is_finite()) {
                return Err((index, value));
            }
            let square = dot(&query.to_vec(), &query.to_vec());
            let length = if square > 0.0 { square.sqrt() } else { 1.0 };
            directions.extend(query.iter().map(|&value| (f64::from(value) / length) as f32));
            squares.push(square);
        }
        // A sum of n rounded products, in whatever order, is within γ_n = n u / (1 - n u) times the sum of their
        // magnitudes, where n is the most roundings that a product goes through (N. J. Higham: "Accuracy and Stability
        // of Numerical Algorithms", 2002, sections 3.1 and 4.2). That sum is at most the product of the lengths.
        // Rounding the direction adds u. The last terms cover underflow at the lengths that count as safe, and the
        // roundings of float64.
        let (unit, width) = (f64::from(f32::EPSILON) / 2.0, queries.ncols());
        let gamma = |roundings: usize| {
            let terms = roundings as f64 * unit;
            if terms < 1.0 { terms / (1.0 - terms) } else { f64::INFINITY }
        };
        let error = gamma(width) * (1.0 + unit) + unit + 1e-9;
        let square_error = gamma(1 + width.div_ceil(SQUARE_SUMS) + SQUARE_ROUNDINGS) + 1e-9;
        Ok(PreparedQueries { queries, metric, directions, squares, error, square_error })
    }

    pub(super) fn len(&self) -> usize {
        self.squares.len()
    }

    pub(super) fn width(&self) -> usize {
        self.queries.ncols()
    }

    /// Compares `rows`, the file's from `first` on, with all queries. Those in `best`, one for each query, must be
    /// earlier ones.
    ///
    /// Refuses values that are not finite; gives the row and the value.
    pub(super) fn scan(
        &self,
        rows: &[f32],
        first: usize,
        best: &mut [NearestRows],
        left_out: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<(), (usize, f32)> {
        let width = self.width();
        let known = RowLengths::of(rows, width).map_err(|(row, value)| (first + row, value))?;
        let count = known.squares.len();
        let mut products = vec![0.0; count * QUERIES_AT_ONCE.min(self.len())];
        for start in (0..self.len()).step_by(QUERIES_AT_ONCE) {
            let end = self.len().min(start + QUERIES_AT_ONCE);
            let products = &mut products[..count * (end - start)];
            // A row of products for each row is faster, by a sixth for 32 queries, than one for each query.
            matmul(
                MatMut::from_row_major_slice_mut(products, count, end - start),
                Accum::Replace,
                MatRef::from_row_major_slice(rows, count, width),
                MatRef::from_row_major_slice(
                    &self.directions[start * width..end * width],
                    end - start,
                    width,
                )
                .transpose(),
                1.0,
                Par::Seq,
            );
            let mut bounds = RejectionBounds::default();
            (start..end).for_each(|query| bounds.push(self.bound(query, best[query].limit())));
            let mut from = 0;
            while let Some(at) = bounds.first_above(products, &known, from) {
                from = at + 1;
                let (index, query) = (at / (end - start), start + at % (end - start));
                if left_out(query, first + index) {
                    continue;
                }
                let best = &mut best[query];
                let key = self.key(query, &rows[index * width..][..width]);
                if key < best.limit() {
                    best.add(RowCandidate { key, row: first + index });
                    bounds.set(query - start, self.bound(query, best.limit()));
                }
            }
        }
        Ok(())
    }

    /// What rows must be above to have a key below `limit`.
    ///
    /// Let r be a row, s the square of its length and l its length as computed, e and f the errors above, p the product
    /// with the direction of the query q. The truth r·q/|q| is at most p + e|r|, and |r| at most l (1 + f).
    ///
    /// Cosine: 1 - r·q / (|r||q|) is below the limit only if p > |r| (1 - limit - e), whose second factor is between -2
    /// and 2, so only if p > l (1 - limit - e) - 4 f l.
    ///
    /// Euclidean: |r|² + |q|² - 2 r·q is below the limit only if s (1 - 2f) + |q|² - 2|q| (p + e l (1 + f)) is, but for
    /// roundings of float64.
    fn bound(&self, query: usize, limit: f64) -> RejectionBound {
        let (error, square_error) = (self.error, self.square_error);
        match self.metric {
            Metric::Cosine => RejectionBound { a: 0.0, b: 1.0 - limit - error - 4.0 * square_error, c: 0.0 },
            Metric::Euclidean => {
                let square = self.squares[query];
                // The direction of a query without length is 0, and so is every product with it, whatever this is.
                let twice = 2.0 * if square > 0.0 { square.sqrt() } else { 1.0 };
                RejectionBound {
                    a: (1.0 - 2.0 * square_error - 1e-12) / twice,
                    b: -error * (1.0 + square_error) * (1.0 + 1e-12),
                    c: (square * (1.0 - 1e-12) - limit) / twice,
                }
            }
        }
    }

    /// The key of a row, in float64.
    fn key(&self, query: usize, row: &[f32]) -> f64 {
        let own = self.queries.row(query);
        // Rows of a view that was made row after row are slices.
        let copy: Vec<f32>;
        let own = match own.as_slice() {
            Some(own) => own,
            None => {
                copy = own.to_vec();
                &copy
            }
        };
        match self.metric {
            Metric::Cosine => {
                // The root of the product, not the product of the roots: equal features are then at distance 0 exactly.
                let lengths = (dot(row, row) * self.squares[query]).sqrt();
                if lengths > 0.0 { (1.0 - dot(row, own) / lengths).max(0.0) } else { 1.0 }
            }
            Metric::Euclidean => square_of_difference(row, own),
        }
    }
}

impl RowLengths {
    /// Refuses values that are not finite; gives the row, counted from 0, and the value.
    fn of(rows: &[f32], width: usize) -> Result<RowLengths, (usize, f32)> {
        let count = rows.len() / width.max(1);
        let mut known = RowLengths { squares: Vec::with_capacity(count), lengths: Vec::with_capacity(count) };
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let square = square(row);
            let square = if SAFE_SQUARES.contains(&square) {
                f64::from(square)
            } else {
                if let Some(&value) = row.iter().find(|value| !value.is_finite()) {
                    return Err((index, value));
                }
                f64::NAN
            };
            known.squares.push(square);
            known.lengths.push(square.sqrt());
        }
        Ok(known)
    }
}

impl RejectionBounds {
    fn push(&mut self, RejectionBound { a, b, c }: RejectionBound) {
        self.a.push(a);
        self.b.push(b);
        self.c.push(c);
    }

    fn set(&mut self, query: usize, RejectionBound { a, b, c }: RejectionBound) {
        (self.a[query], self.b[query], self.c[query]) = (a, b, c);
    }

    /// The first of the products from `from` on that is not ruled out: rows, each with one for every query.
    fn first_above(&self, products: &[f32], known: &RowLengths, from: usize) -> Option<usize> {
        Arch::new().dispatch(FirstAbove { bounds: self, products, known, from })
    }

    /// The first query from `from` on that does not rule out a row.
    #[inline(always)]
    fn above(&self, products: &[f32], square: f64, length: f64, from: usize) -> Option<usize> {
        let (products, a, b, c) = (&products[from..], &self.a[from..], &self.b[from..], &self.c[from..]);
        let is_above = |at: usize| {
            // False for what is not a number.
            let ruled_out = f64::from(products[at]) <= square * a[at] + length * b[at] + c[at];
            !ruled_out
        };
        let whole = products.len() / AT_ONCE * AT_ONCE;
        for start in (0..whole).step_by(AT_ONCE) {
            if (start..start + AT_ONCE).fold(false, |any, at| any | is_above(at)) {
                return (start..start + AT_ONCE).find(|&at| is_above(at)).map(|at| from + at);
            }
        }
        (whole..products.len()).find(|&at| is_above(at)).map(|at| from + at)
    }
}

/// See [`RejectionBounds::first_above`].
struct FirstAbove<'a> {
    bounds: &'a RejectionBounds,
    products: &'a [f32],
    known: &'a RowLengths,
    from: usize,
}

impl WithSimd for FirstAbove<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Option<usize> {
        let FirstAbove { bounds, products, known, from } = self;
        let queries = bounds.a.len();
        let (mut row, mut skipped) = (from / queries, from % queries);
        while row < known.squares.len() {
            let products = &products[row * queries..][..queries];
            let above = bounds.above(products, known.squares[row], known.lengths[row], skipped);
            if let Some(query) = above {
                return Some(row * queries + query);
            }
            (row, skipped) = (row + 1, 0);
        }
        None
    }
}

/// Square of a row's length in float32.
fn square(row: &[f32]) -> f32 {
    Arch::new().dispatch(Square(row))
}

/// A product is rounded once, then at most once for every `SQUARE_SUMS` values of the row, and `SQUARE_ROUNDINGS` times
/// where the sums and what is left over are added up, whatever the length of the vector registers.
struct Square<'a>(&'a [f32]);

impl WithSimd for Square<'_> {
    type Output = f32;

    // Inlined, or it would not be compiled for the registers that it is dispatched to.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let mut sums = [simd.splat_f32s(0.0); SQUARE_SUMS];
        let (whole, few) = vectors.as_chunks::<SQUARE_SUMS>();
        for vectors in whole {
            for (sum, &vector) in sums.iter_mut().zip(vectors) {
                *sum = simd.add_f32s(*sum, simd.mul_f32s(vector, vector));
            }
        }
        for (sum, &vector) in sums.iter_mut().zip(few) {
            *sum = simd.add_f32s(*sum, simd.mul_f32s(vector, vector));
        }
        let total = sums.into_iter().fold(simd.splat_f32s(0.0), |total, sum| simd.add_f32s(total, sum));
        rest.iter().fold(simd.reduce_sum_f32s(total), |total, &value| total + value * value)
    }
}

/// Sum over all positions of `term`, in float64 and in an order that depends on the length alone.
#[inline(always)]
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += term(f64::from(a[lane]), f64::from(b[lane]));
        }
    }
    for (lane, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += term(f64::from(a), f64::from(b));
    }
    sums.iter().sum()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    Arch::new().dispatch(|| sum_of(a, b, |a, b| a * b))
}

fn square_of_difference(a: &[f32], b: &[f32]) -> f64 {
    Arch::new().dispatch(|| sum_of(a, b, |a, b| (a - b) * (a - b)))
}

#[cfg(test)]
mod tests;
