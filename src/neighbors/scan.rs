//! Comparing a few rows with all queries: a bound for each pair by one float32 matrix product, and the distance itself,
//! in float64, where the bound does not settle it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::ArrayView2;
use pulp::Arch;

use super::{Metric, Neighbor};

/// Queries whose products with the rows are in memory at a time.
const QUERIES_AT_ONCE: usize = 256;
/// Sums that a float64 sum is split into, so that it can be computed in vector registers of any length; the result is
/// the same with all of them.
const LANES: usize = 16;
/// Rows of lengths beyond these are always compared in float64: their float32 products might overflow, or lose what the
/// bound does not count.
const SAFE_LENGTHS: std::ops::Range<f64> = 1e-25..1e25;

/// A row that may be a neighbour, ordered by what decides: the distance, then the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Grows with the distance: the distance itself, or its square where the metric is Euclidean.
    pub(super) key: f64,
    pub(super) row: usize,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.row.cmp(&other.row))
    }
}

/// The nearest rows of one query so far.
#[derive(Debug, Clone)]
pub(super) struct Best {
    k: usize,
    /// The farthest on top.
    heap: BinaryHeap<Candidate>,
}

impl Best {
    pub(super) fn new(k: usize) -> Best {
        Best { k, heap: BinaryHeap::new() }
    }

    /// What a later row's key must be below.
    pub(super) fn limit(&self) -> f64 {
        match self.heap.peek() {
            Some(farthest) if self.heap.len() >= self.k => farthest.key,
            _ if self.k == 0 => f64::NEG_INFINITY,
            _ => f64::INFINITY,
        }
    }

    pub(super) fn add(&mut self, candidate: Candidate) {
        self.heap.push(candidate);
        if self.heap.len() > self.k {
            self.heap.pop();
        }
    }

    pub(super) fn into_neighbors(self, metric: Metric) -> Vec<Neighbor> {
        let neighbor = |Candidate { key, row }| Neighbor {
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
pub(super) struct Queries<'a> {
    queries: ArrayView2<'a, f32>,
    metric: Metric,
    /// The queries brought to length 1, row after row.
    directions: Vec<f32>,
    /// Squares of their lengths.
    squares: Vec<f64>,
    /// How far a float32 product of a row and a direction may be from the truth, as a share of the row's length.
    error: f64,
}

impl<'a> Queries<'a> {
    /// Refuses values that are not finite; gives the query and the value.
    pub(super) fn new(queries: ArrayView2<'a, f32>, metric: Metric) -> Result<Queries<'a>, (usize, f32)> {
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
        // A sum of d rounded products, in whatever order, is within γ_d = d u / (1 - d u) times the sum of their
        // magnitudes (N. J. Higham: "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1), which is at
        // most the product of the lengths. Rounding the direction adds u. The last term covers underflow at the
        // lengths that count as safe, and the roundings of float64.
        let (unit, terms) = (f64::from(f32::EPSILON) / 2.0, queries.ncols() as f64);
        let gamma = terms * unit / (1.0 - terms * unit);
        let error = if gamma > 0.0 { gamma * (1.0 + unit) + unit + 1e-9 } else { f64::INFINITY };
        Ok(Queries { queries, metric, directions, squares, error })
    }

    pub(super) fn len(&self) -> usize {
        self.squares.len()
    }

    pub(super) fn width(&self) -> usize {
        self.queries.ncols()
    }

    /// Those of `rows` that may be among the `k` nearest of a query, with the query. They are the file's rows from
    /// `first`; `limits` are the keys that they must be below, by the rows before them.
    ///
    /// Refuses values that are not finite; gives the row and the value.
    pub(super) fn scan(
        &self,
        rows: &[f32],
        first: usize,
        k: usize,
        limits: &[f64],
        left_out: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Vec<(usize, Candidate)>, (usize, f32)> {
        let width = self.width();
        let squares: Vec<f64> = rows.chunks_exact(width).map(|row| dot(row, row)).collect();
        if let Some(row) = squares.iter().position(|square| !square.is_finite()) {
            let values = &rows[row * width..][..width];
            let value = values.iter().copied().find(|value| !value.is_finite()).unwrap_or(f32::INFINITY);
            return Err((first + row, value));
        }
        let lengths: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
        let mut products = vec![0.0; squares.len() * QUERIES_AT_ONCE.min(self.len())];
        let mut found = Vec::new();
        for start in (0..self.len()).step_by(QUERIES_AT_ONCE) {
            let end = self.len().min(start + QUERIES_AT_ONCE);
            let count = end - start;
            let products = &mut products[..squares.len() * count];
            matmul(
                MatMut::from_row_major_slice_mut(products, count, squares.len()),
                Accum::Replace,
                MatRef::from_row_major_slice(&self.directions[start * width..end * width], count, width),
                MatRef::from_row_major_slice(rows, squares.len(), width).transpose(),
                1.0,
                Par::Seq,
            );
            for (query, products) in (start..end).zip(products.chunks_exact(squares.len())) {
                let mut best = Best::new(k);
                let mut limit = limits[query];
                for (index, &product) in products.iter().enumerate() {
                    if self.least(query, product, lengths[index], squares[index]) >= limit
                        || left_out(query, first + index)
                    {
                        continue;
                    }
                    let key = self.key(query, &rows[index * width..][..width], squares[index]);
                    if key < limit {
                        best.add(Candidate { key, row: first + index });
                        limit = limit.min(best.limit());
                    }
                }
                found.extend(best.heap.into_iter().map(|candidate| (query, candidate)));
            }
        }
        Ok(found)
    }

    /// What the key of a row is at least, given its product with the query's direction.
    fn least(&self, query: usize, product: f32, length: f64, square: f64) -> f64 {
        let product = f64::from(product);
        if !product.is_finite() || !SAFE_LENGTHS.contains(&length) {
            return f64::NEG_INFINITY;
        }
        match self.metric {
            Metric::Cosine => 1.0 - product / length - self.error,
            Metric::Euclidean => {
                let other = self.squares[query];
                let sum = square + other;
                sum - 2.0 * other.sqrt() * (product + self.error * length) - 1e-12 * sum
            }
        }
    }

    /// The key of a row, in float64.
    fn key(&self, query: usize, row: &[f32], square: f64) -> f64 {
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
                // The root of the product, not the product of the roots: equal codes are then at distance 0 exactly.
                let lengths = (square * self.squares[query]).sqrt();
                if lengths > 0.0 { (1.0 - dot(row, own) / lengths).max(0.0) } else { 1.0 }
            }
            Metric::Euclidean => square_of_difference(row, own),
        }
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
