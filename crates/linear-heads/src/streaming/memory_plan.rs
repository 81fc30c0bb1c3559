//! How the memory of a fit to streamed features is divided.

use super::{StreamSettings, StreamedRows, ridge};
use crate::{Solver, SolverError, packed_lower_triangle::PackedLowerTriangle};

/// Rows for each column that the sample holds.
const SAMPLE: usize = 4;
/// Rows in memory for each column, of which Newton steps are made, where there is room. With an eighth of them descents among
/// ten classes take two to three times the passes; more cost more than they save.
const DRAWN: usize = 32;
/// Most bytes of the features that are read at a time.
const BLOCK_BYTES: usize = 16 << 20;
/// Bytes that a fit takes beside what it reckons with, measured (up to 83 MiB): the program itself, what matrix products put in order, and
/// what the allocator keeps.
const BESIDE: usize = 112 << 20;

/// What a fit may reckon with. Bounds up to [`BESIDE`], which no program could keep, are bounds on what it reckons with alone.
fn usable(max_memory: usize) -> usize {
    max_memory.saturating_sub(BESIDE).max(max_memory.min(BESIDE))
}

/// How the memory is divided.
pub(super) struct MemoryPlan {
    /// Rows that are read at a time.
    pub(super) block: usize,
    /// Rows of the sample.
    pub(super) sample: usize,
    /// Rows that stay in memory for Newton steps.
    pub(super) drawn: usize,
    /// Whether there is room for a d x d preconditioner a problem.
    pub(super) matrix: bool,
}

impl MemoryPlan {
    pub(super) fn new(data: &StreamedRows<'_>, settings: &StreamSettings) -> Result<Self, SolverError> {
        let (rows, columns, classes) = (data.source.rows(), data.source.columns(), data.classes);
        let (folds, max_memory) = (data.fold_count, settings.max_memory);
        let is_ridge = matches!(settings.solver, Solver::Ridge(_));
        let problems = folds + 1;
        let of_row = 4 * columns;
        // Labels, scores and probabilities of the rows; weights of rows in each problem; in each what L-BFGS keeps of its last
        // steps, its points and gradients, and the centres of the preconditioner.
        let always = rows * (settings.kept_of_row + 16 * classes + 24 * problems)
            + problems * 25 * 8 * classes * columns;
        let of_ridge = if is_ridge { ridge::bytes(columns, classes, folds) } else { 0 };
        let block = (BLOCK_BYTES.min(max_memory / 32) / of_row).clamp(1, rows);
        // Ridge regression brings them to float64, twice.
        let reading = if is_ridge { 10 } else { 6 } * block * of_row;
        let least = always + reading + 64 * of_row + of_ridge;
        let usable = usable(max_memory);
        if least > usable {
            let needed = if least > BESIDE { least + BESIDE } else { least };
            return Err(SolverError::TooLittleMemory { needed: (needed >> 20) + 1, bound: max_memory >> 20 });
        }
        let free = usable - always - reading - of_ridge;
        let of_matrices = problems * PackedLowerTriangle::<f32>::bytes(columns + 1);
        let matrix = !is_ridge && of_matrices <= free / 2;
        let left = if matrix { free - of_matrices } else { free };
        // The sample is then kept as integers of one byte, and scaled in a copy before.
        let sample = (SAMPLE * (columns + 1)).min(left / (3 * of_row)).clamp(1, rows);
        // Besides their features, what the rows' second derivatives are made of, in each problem.
        let of_drawn = of_row + 8 * (classes + 4) * problems;
        let drawn = (DRAWN * (columns + 1)).min((left - sample * columns) / of_drawn).clamp(1, rows);
        Ok(Self { block, sample, drawn, matrix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fit_takes_beside_is_left_of_bounds_that_can_be_kept() {
        let mebibytes = |bound: usize| usable(bound << 20) >> 20;
        assert_eq!([1, 112, 150, 224, 512].map(mebibytes), [1, 112, 112, 112, 400]);
    }
}
