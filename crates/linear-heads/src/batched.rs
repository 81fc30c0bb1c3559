//! One pass over the features for all classes at once: scores by a matrix product, what the loss makes of them, and the
//! gradient by a second product while the block of rows is still in the cache.
//!
//! A pass over n x d features with K classes costs `4 n d K` operations and reads the features once; with few classes it waits
//! for memory. Products are float32, as the features are; the gradients of blocks of rows are added up in float64.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use rayon::prelude::*;

use super::{
    packed_lower_triangle::{CholeskyFactor, column_products},
    simd::products_of_few,
    standardizer::parts,
    weighted_rows::WeightedRows,
};

/// Rows of one block: 2 MiB at 2048 features, so that the second product finds it in the cache.
pub(super) const BLOCK: usize = 256;
/// Problems from which on a pass waits for the processor rather than for memory, and the rows of its blocks: then to lay out
/// the weights for each, and to add up its gradient, weighs more than to read the block again.
const MANY: usize = 32;
const LARGE_BLOCK: usize = 4 * BLOCK;

/// Rows of a block for this many problems.
pub(super) fn rows_of_block(problems: usize) -> usize {
    if problems < MANY { BLOCK } else { LARGE_BLOCK }
}

/// Problems up to which products are taken along the rows.
pub(super) const FEW: usize = 15;

/// What the rows' losses add up to. All but the loss are in the order of the weights that were passed.
pub(super) struct Sums {
    /// Loss of each class, or of all in the first element, as the loss has it.
    pub loss: Vec<f64>,
    /// Gradient with respect to the weights (classes x d).
    pub gradient: Vec<f64>,
    /// Gradient with respect to the biases.
    pub bias: Vec<f64>,
    /// A second derivative for each class, where the loss computes one.
    pub curvature: Vec<f64>,
}

impl Sums {
    pub fn zeros(classes: usize, columns: usize) -> Self {
        Self {
            loss: vec![0.0; classes],
            gradient: vec![0.0; classes * columns],
            bias: vec![0.0; classes],
            curvature: vec![0.0; classes],
        }
    }

    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.loss, &other.loss),
            (&mut self.gradient, &other.gradient),
            (&mut self.bias, &other.bias),
            (&mut self.curvature, &other.curvature),
        ];
        for (to, from) in pairs {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        }
    }
}

/// A loss of a row's scores.
pub(super) trait RowLoss: Sync {
    /// Replaces the scores of the rows from `first` (a row's classes side by side) by the loss's derivatives with
    /// respect to them, and adds up loss, bias gradient and curvature.
    fn differentiate(&self, first: usize, scores: &mut [f32], sums: &mut Sums);
}

/// Rows in memory: next to each other, or anywhere, or those of a lower triangle.
#[derive(Clone, Copy)]
pub(super) enum MatrixRows<'a> {
    /// Row after row.
    Whole(&'a [f32]),
    /// One slice a row.
    Scattered(&'a [&'a [f32]]),
    /// As many rows as columns, zeros beyond the diagonal.
    Triangle(&'a CholeskyFactor<f32>),
}

/// Some of these rows, for products with all of them at once.
pub(super) enum RowBlock<'a> {
    /// Row after row.
    Whole(&'a [f32]),
    /// Rows of a lower triangle.
    Triangle(&'a CholeskyFactor<f32>, Range<usize>),
}

impl<'a> MatrixRows<'a> {
    pub fn of(set: &'a WeightedRows<'_>) -> Self {
        match set.whole {
            Some(values) => Self::Whole(values),
            None => Self::Scattered(&set.rows),
        }
    }

    pub fn count(&self, columns: usize) -> usize {
        match self {
            Self::Whole(values) => values.len() / columns.max(1),
            Self::Scattered(rows) => rows.len(),
            Self::Triangle(lower) => lower.order(),
        }
    }

    /// Appends the given row to `to`.
    pub fn copy(&self, number: usize, columns: usize, to: &mut Vec<f32>) {
        match self {
            Self::Whole(values) => to.extend_from_slice(&values[number * columns..][..columns]),
            Self::Scattered(rows) => to.extend_from_slice(rows[number]),
            Self::Triangle(lower) => {
                let end = to.len() + columns;
                for (_, _, part) in lower.rows(number..number + 1) {
                    to.extend(part.row(0).iter());
                }
                to.resize(end, 0.0);
            }
        }
    }

    /// The given rows, copied to `buffer` where they do not lie together.
    pub fn block<'b>(&self, range: Range<usize>, columns: usize, buffer: &'b mut Vec<f32>) -> RowBlock<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Whole(values) => RowBlock::Whole(&values[range.start * columns..range.end * columns]),
            Self::Scattered(rows) => {
                buffer.clear();
                rows[range].iter().for_each(|row| buffer.extend_from_slice(row));
                RowBlock::Whole(buffer)
            }
            Self::Triangle(lower) => RowBlock::Triangle(lower, range),
        }
    }
}

impl RowBlock<'_> {
    /// Scores of the rows (a row's problems side by side) at `weights` (problems x d), without biases.
    pub fn scores(&self, weights: &[f32], columns: usize, scores: &mut [f32]) {
        match self {
            Self::Whole(block) => products(block, weights, columns, scores),
            Self::Triangle(lower, range) => {
                let (count, problems) = (range.len(), weights.len() / columns.max(1));
                let weights = MatRef::from_row_major_slice(weights, problems, columns);
                let mut out = MatMut::from_row_major_slice_mut(scores, count, problems);
                out.fill(0.0);
                for (first, from, part) in lower.rows(range.clone()) {
                    let weights = weights.subcols(from, part.ncols());
                    let out = out.as_mut().subrows_mut(first, part.nrows());
                    matmul(out, Accum::Add, part, weights.transpose(), 1.0, Par::Seq);
                }
            }
        }
    }

    /// Adds to `gradient` (problems x d) the sum of the rows, each times its residuals (a row's problems side by side).
    /// `scratch` is as long as the gradient.
    pub fn add_gradient(&self, residuals: &[f32], columns: usize, scratch: &mut [f32], gradient: &mut [f64]) {
        let problems = gradient.len() / columns.max(1);
        let residuals = MatRef::from_row_major_slice(residuals, residuals.len() / problems.max(1), problems);
        match self {
            Self::Whole(block) => {
                let block = MatRef::from_row_major_slice(block, residuals.nrows(), columns);
                let out = MatMut::from_row_major_slice_mut(scratch, problems, columns);
                matmul(out, Accum::Replace, residuals.transpose(), block, 1.0, Par::Seq);
                gradient.iter_mut().zip(scratch).for_each(|(to, &mut from)| *to += f64::from(from));
            }
            Self::Triangle(lower, range) => {
                let mut gathered = Vec::new();
                for (first, from, part) in lower.rows(range.clone()) {
                    let residuals = residuals.subrows(first, part.nrows());
                    // A column's problems side by side.
                    let sums = &mut scratch[..part.ncols() * problems];
                    if problems <= FEW {
                        column_products(part, residuals, &mut gathered, sums);
                    } else {
                        let out = MatMut::from_row_major_slice_mut(sums, part.ncols(), problems);
                        matmul(out, Accum::Replace, part.transpose(), residuals, 1.0, Par::Seq);
                    }
                    for (j, sums) in sums.chunks(problems).enumerate() {
                        for (k, &sum) in sums.iter().enumerate() {
                            gradient[k * columns + from + j] += f64::from(sum);
                        }
                    }
                }
            }
        }
    }
}

/// Scores of the rows of a block (a row's problems side by side) at `weights` (problems x d), without biases.
pub(super) fn products(block: &[f32], weights: &[f32], columns: usize, scores: &mut [f32]) {
    let (count, problems) = (block.len() / columns.max(1), weights.len() / columns.max(1));
    if problems <= FEW && columns > 0 {
        return products_of_few(|row| &block[row * columns..][..columns], weights, columns, scores);
    }
    let block = MatRef::from_row_major_slice(block, count, columns);
    let w = MatRef::from_row_major_slice(weights, problems, columns);
    let out = MatMut::from_row_major_slice_mut(scores, count, problems);
    matmul(out, Accum::Replace, block, w.transpose(), 1.0, Par::Seq);
}

/// What all rows add up to at `weights` (problems x d) and `bias`.
pub(super) fn pass(rows: MatrixRows<'_>, loss: &impl RowLoss, weights: &[f32], bias: &[f64]) -> Sums {
    let mut sums = Sums::zeros(bias.len(), weights.len() / bias.len().max(1));
    add_rows(rows, 0, weights, bias, loss, &mut sums);
    sums
}

/// Adds to `sums` what `rows` contribute, at `weights` (classes x d) and `bias`. `first` is the number of the first row,
/// as the loss counts them. The result does not depend on the number of threads.
pub(super) fn add_rows(
    rows: MatrixRows<'_>,
    first: usize,
    weights: &[f32],
    bias: &[f64],
    loss: &impl RowLoss,
    sums: &mut Sums,
) {
    let classes = bias.len();
    let columns = weights.len() / classes.max(1);
    let count = rows.count(columns);
    // Each part has a gradient of its own, which at 100 rows a class takes little beside its features.
    let wanted = (count / (100 * classes.max(1))).clamp(4, 32).next_power_of_two();
    let parts = parts(count, wanted);
    let rows_of_block = rows_of_block(classes);
    let next = AtomicUsize::new(0);
    let total = Mutex::new(InOrder { sums, next: 0, early: BTreeMap::new() });
    // Threads take one part after the other, so that few wait for their turn to be added.
    (0..rayon::current_num_threads().min(parts.len())).into_par_iter().with_max_len(1).for_each(|_| {
        let mut scores = vec![0f32; rows_of_block.min(count) * classes];
        let mut gradient = vec![0f32; classes * columns];
        let mut buffer = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(number) else { break };
            let mut sums = Sums::zeros(classes, columns);
            for from in part.clone().step_by(rows_of_block) {
                let to = (from + rows_of_block).min(part.end);
                let scores = &mut scores[..(to - from) * classes];
                let block = rows.block(from..to, columns, &mut buffer);
                block.scores(weights, columns, scores);
                for row in scores.chunks_mut(classes) {
                    row.iter_mut().zip(bias).for_each(|(score, b)| *score = (f64::from(*score) + b) as f32);
                }
                loss.differentiate(first + from, scores, &mut sums);
                block.add_gradient(scores, columns, &mut gradient, &mut sums.gradient);
            }
            // What a panic could leave half added is not read any more.
            total.lock().unwrap_or_else(PoisonError::into_inner).add(number, sums);
        }
    });
}

/// Adds up parts' sums in the parts' order, whichever comes first.
struct InOrder<'a> {
    sums: &'a mut Sums,
    /// The part whose turn it is.
    next: usize,
    /// Those that came before their turn.
    early: BTreeMap<usize, Sums>,
}

impl InOrder<'_> {
    fn add(&mut self, number: usize, part: Sums) {
        self.early.insert(number, part);
        while let Some(part) = self.early.remove(&self.next) {
            self.sums.add(&part);
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added_in_their_order_whichever_comes_first() {
        // In float64, (1 + 1e17) - 1e17 is 0 and (1e17 - 1e17) + 1 is 1.
        let part = |loss: f64| Sums { loss: vec![loss], ..Sums::zeros(1, 0) };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut sums = Sums::zeros(1, 0);
            let mut total = InOrder { sums: &mut sums, next: 0, early: BTreeMap::new() };
            order.iter().for_each(|&number| total.add(number, part([1e17, -1e17, 1.0][number])));
            assert_eq!(sums.loss, [1.0], "{order:?}");
        }
    }
}
