//! How the memory of a fit to streamed codes is divided.

use super::{StreamedData, ridge};
use crate::head::{HeadError, HeadKind, panels::Panels};

/// Rows for each column that are looked at for what tells unknown images.
const SAMPLE: usize = 4;
/// Rows in memory for each column, of which Newton steps are made, where there is room. With an eighth of them descents among
/// ten classes take two to three times the passes; more cost more than they save.
const DRAWN: usize = 32;
/// Most bytes of the codes that are read at a time.
const BLOCK_BYTES: usize = 16 << 20;

/// How the memory is divided.
pub(super) struct Plan {
    /// Rows that are read at a time.
    pub(super) block: usize,
    /// Rows that are looked at for what tells unknown images.
    pub(super) sample: usize,
    /// Rows that stay in memory for Newton steps.
    pub(super) drawn: usize,
    /// Whether there is room for a d x d preconditioner a problem.
    pub(super) matrix: bool,
}

impl Plan {
    pub(super) fn new(data: &StreamedData<'_>, folds: usize, kind: HeadKind) -> Result<Self, HeadError> {
        let (rows, columns, classes) = (data.source.rows(), data.source.columns(), data.class_names.len());
        let problems = folds + 1;
        let of_row = 4 * columns;
        // Names, hashes, labels, scores and probabilities of the rows; weights of rows in each problem; in each what L-BFGS
        // keeps of its last steps, its points and gradients, and the centres of the preconditioner.
        let always = rows * (300 + 16 * classes + 24 * problems) + problems * 25 * 8 * classes * columns;
        let of_ridge = if kind == HeadKind::Ridge { ridge::bytes(columns, classes, folds) } else { 0 };
        let block = (BLOCK_BYTES.min(data.max_memory / 32) / of_row).clamp(1, rows);
        // Ridge regression brings them to float64, twice.
        let reading = if kind == HeadKind::Ridge { 10 } else { 6 } * block * of_row;
        let least = always + reading + 64 * of_row + of_ridge;
        if least > data.max_memory {
            return Err(HeadError::TooLittleMemory {
                needed: (least >> 20) + 1,
                bound: data.max_memory >> 20,
            });
        }
        let free = data.max_memory - always - reading - of_ridge;
        let of_matrices = problems * Panels::<f32>::bytes(columns + 1);
        let matrix = kind != HeadKind::Ridge && of_matrices <= free / 2;
        let left = if matrix { free - of_matrices } else { free };
        // The sample is then kept as integers of one byte, and scaled in a copy before.
        let sample = (SAMPLE * (columns + 1)).min(left / (3 * of_row)).clamp(1, rows);
        // Besides their codes, what the rows' second derivatives are made of, in each problem.
        let of_drawn = of_row + 8 * (classes + 4) * problems;
        let drawn = (DRAWN * (columns + 1)).min((left - sample * columns) / of_drawn).clamp(1, rows);
        Ok(Self { block, sample, drawn, matrix })
    }
}
