//! One pass over the codes for all classes at once: scores by a matrix product, what the loss makes of them, and the
//! gradient by a second product while the block of rows is still in the cache.
//!
//! A pass over n x d codes with K classes costs `4 n d K` operations and reads the codes once; with few classes it waits
//! for memory. Products are float32, as the codes are; the gradients of blocks of rows are added up in float64.

use std::ops::Range;

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use rayon::prelude::*;

use super::{linear::TrainingSet, products::products as products_of_few, scale::parts};

/// Rows of one block: 2 MiB at 2048 codes, so that the second product finds it in the cache.
pub(super) const BLOCK: usize = 256;
/// Problems from which on a pass waits for the processor rather than for memory, and the rows of its blocks: then to lay out
/// the weights for each, and to add up its gradient, weighs more than to read the block again.
const MANY: usize = 32;
const LARGE_BLOCK: usize = 4 * BLOCK;

/// Problems up to which products are taken along the rows.
const FEW: usize = 15;

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

/// Rows in memory: next to each other, or anywhere.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Row after row.
    Whole(&'a [f32]),
    /// One slice a row.
    Scattered(&'a [&'a [f32]]),
}

impl<'a> Rows<'a> {
    pub fn of(set: &'a TrainingSet<'_>) -> Self {
        match set.whole {
            Some(values) => Self::Whole(values),
            None => Self::Scattered(&set.rows),
        }
    }

    fn count(&self, columns: usize) -> usize {
        match self {
            Self::Whole(values) => values.len() / columns.max(1),
            Self::Scattered(rows) => rows.len(),
        }
    }

    /// The given rows one after the other, copied to `buffer` where they are not so already.
    pub fn block<'b>(&self, range: Range<usize>, columns: usize, buffer: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::Whole(values) => &values[range.start * columns..range.end * columns],
            Self::Scattered(rows) => {
                buffer.clear();
                rows[range].iter().for_each(|row| buffer.extend_from_slice(row));
                buffer
            }
        }
    }
}

/// Scores of the rows of a block (a row's problems side by side) at `weights` (problems x d), without biases.
pub(super) fn products(block: &[f32], weights: &[f32], columns: usize, scores: &mut [f32]) {
    let (count, problems) = (block.len() / columns.max(1), weights.len() / columns.max(1));
    if problems <= FEW && columns > 0 {
        return products_of_few(block, weights, columns, scores);
    }
    let block = MatRef::from_row_major_slice(block, count, columns);
    let w = MatRef::from_row_major_slice(weights, problems, columns);
    let out = MatMut::from_row_major_slice_mut(scores, count, problems);
    matmul(out, Accum::Replace, block, w.transpose(), 1.0, Par::Seq);
}

/// What all rows of a set add up to at `weights` (problems x d) and `bias`.
pub(super) fn pass(set: &TrainingSet<'_>, loss: &impl RowLoss, weights: &[f32], bias: &[f64]) -> Sums {
    let mut sums = Sums::zeros(bias.len(), set.columns());
    add_rows(Rows::of(set), 0, weights, bias, loss, &mut sums);
    sums
}

/// Adds to `sums` what `rows` contribute, at `weights` (classes x d) and `bias`. `first` is the number of the first row,
/// as the loss counts them. The result does not depend on the number of threads.
pub(super) fn add_rows(
    rows: Rows<'_>,
    first: usize,
    weights: &[f32],
    bias: &[f64],
    loss: &impl RowLoss,
    sums: &mut Sums,
) {
    let classes = bias.len();
    let columns = weights.len() / classes.max(1);
    let count = rows.count(columns);
    // Each part has gradients of its own: at 100 rows a class they take a thirtieth of the codes' memory together.
    let split = parts(count, (count / (100 * classes.max(1))).clamp(4, 32));
    let rows_of_block = if classes < MANY { BLOCK } else { LARGE_BLOCK };
    let partial: Vec<Sums> = split
        .into_par_iter()
        .map(|part| {
            let mut sums = Sums::zeros(classes, columns);
            let mut scores = vec![0f32; rows_of_block * classes];
            let mut gradient = vec![0f32; classes * columns];
            let mut buffer = Vec::new();
            for from in part.clone().step_by(rows_of_block) {
                let to = (from + rows_of_block).min(part.end);
                let scores = &mut scores[..(to - from) * classes];
                let block = rows.block(from..to, columns, &mut buffer);
                products(block, weights, columns, scores);
                for row in scores.chunks_mut(classes) {
                    row.iter_mut().zip(bias).for_each(|(score, b)| *score = (f64::from(*score) + b) as f32);
                }
                loss.differentiate(first + from, scores, &mut sums);
                let block = MatRef::from_row_major_slice(block, to - from, columns);
                let residuals = MatRef::from_row_major_slice(scores, to - from, classes);
                let out = MatMut::from_row_major_slice_mut(&mut gradient, classes, columns);
                matmul(out, Accum::Replace, residuals.transpose(), block, 1.0, Par::Seq);
                sums.gradient.iter_mut().zip(&gradient).for_each(|(to, &from)| *to += f64::from(from));
            }
            sums
        })
        .collect();
    partial.iter().for_each(|part| sums.add(part));
}
