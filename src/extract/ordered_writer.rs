//! The rows of the output in the order of the samples: computed ones as they come, and between them those that an
//! earlier file holds.

use std::ops::Range;

use super::pipeline::{Collector, Computed};
use super::plan::{ExtractPlan, PreviousOutput, RowAction};
use super::{ExtractError, skipped, stored_label};
use crate::dataset::{Dataset, InputProblem};
use crate::features::{FeatureFile, FeatureRow, FeatureWriter};

/// Values that are copied at a time from the earlier file: 8 MiB.
const BLOCK_VALUES: usize = 2 << 20;

/// A features file that is being put together.
pub(super) struct OrderedWriter<'a> {
    writer: FeatureWriter,
    plan: ExtractPlan,
    samples: &'a Dataset,
    /// Values in a row, for each layer.
    widths: Vec<usize>,
    /// The first sample that is not dealt with.
    position: usize,
    written: WrittenRows,
}

/// What was put into the file.
#[derive(Default)]
pub(super) struct WrittenRows {
    /// Rows of the earlier file.
    pub kept: usize,
    /// Rows that were computed.
    pub computed: usize,
    /// Images that could not be read.
    pub problems: Vec<InputProblem>,
}

impl<'a> OrderedWriter<'a> {
    /// Goes on with `writer`, which holds the first `known` samples.
    pub(super) fn new(
        writer: FeatureWriter,
        plan: ExtractPlan,
        samples: &'a Dataset,
        widths: Vec<usize>,
        known: usize,
    ) -> Self {
        Self { writer, plan, samples, widths, position: known, written: WrittenRows::default() }
    }

    /// Samples that are dealt with.
    pub(super) fn done(&self) -> usize {
        self.position
    }

    /// The writer, and what was put into it.
    pub(super) fn into_parts(self) -> (FeatureWriter, WrittenRows) {
        (self.writer, self.written)
    }

    /// Writes what is known of the samples before `end`.
    pub(super) fn advance(&mut self, end: usize) -> Result<(), ExtractError> {
        let block = (BLOCK_VALUES / self.widths.iter().sum::<usize>().max(1)).max(1);
        while self.position < end {
            match self.plan.fates[self.position] {
                RowAction::Keep(first) => {
                    let fates = self.plan.fates[self.position..end].iter().take(block);
                    let follows =
                        |(offset, fate): &(usize, &RowAction)| **fate == RowAction::Keep(first + offset);
                    let rows = first..first + fates.enumerate().take_while(follows).count();
                    self.copy(rows)?;
                }
                RowAction::Unreadable => {
                    if let Some(problem) = self.plan.problems.remove(&self.position) {
                        self.fail(problem)?;
                    }
                }
                // A sample that is neither known nor in a batch was not to be computed after a stop.
                RowAction::Compute => return Ok(()),
            }
        }
        Ok(())
    }

    /// Copies rows of the earlier file; they belong to the samples from the position on.
    fn copy(&mut self, rows: Range<usize>) -> Result<(), ExtractError> {
        let Some(PreviousOutput { file, layers }) = &self.plan.earlier else { return Ok(()) };
        let read = |(layer, &width): (&String, &usize)| read_rows(file, layer, rows.clone(), width);
        let values: Vec<Vec<f32>> = layers.iter().zip(&self.widths).map(read).collect::<Result<_, _>>()?;
        let features: Vec<Vec<&[f32]>> = (0..rows.len())
            .map(|row| {
                let layers = values.iter().zip(&self.widths);
                layers.map(|(layer, &width)| &layer[row * width..][..width]).collect()
            })
            .collect();
        let samples = &self.samples.samples;
        let rows: Vec<FeatureRow<'_>> = rows
            .zip(self.position..)
            .zip(&features)
            .map(|((row, index), features)| {
                let sample = samples.get(index);
                FeatureRow {
                    name: sample.name,
                    label: stored_label(sample.label),
                    sha256: &file.sha256()[row],
                    perceptual_hash: file.perceptual_hash(row).or(self.plan.hashes.get(&row).copied()),
                    features,
                }
            })
            .collect();
        self.writer.append(&rows, &[])?;
        self.position += rows.len();
        self.written.kept += rows.len();
        Ok(())
    }

    fn fail(&mut self, problem: InputProblem) -> Result<(), ExtractError> {
        self.writer.append(&[], &[skipped(&problem)])?;
        self.written.problems.push(problem);
        self.position += 1;
        Ok(())
    }
}

impl Collector for OrderedWriter<'_> {
    /// Writes a batch, and what stands before each of its samples.
    fn append(&mut self, batch: Computed) -> Result<(), ExtractError> {
        let mut computed = batch.rows.iter().enumerate().peekable();
        let mut failed = batch.problems.into_iter().peekable();
        loop {
            // Rows that follow one another go into the file together.
            let start = match (computed.peek(), failed.peek()) {
                (Some((_, (index, ..))), Some((broken, _))) => *index.min(broken),
                (Some((_, (index, ..))), None) => *index,
                (None, Some((broken, _))) => *broken,
                (None, None) => return Ok(()),
            };
            self.advance(start)?;
            let mut rows = Vec::new();
            while let Some((slot, (index, sha256, hash))) =
                computed.next_if(|(_, (index, ..))| *index == self.position)
            {
                rows.push((slot, *index, sha256.as_str(), *hash));
                self.position = index + 1;
            }
            let features: Vec<Vec<&[f32]>> = rows
                .iter()
                .map(|(slot, ..)| {
                    let layers = batch.layers.iter().zip(&self.widths);
                    layers.map(|(layer, &width)| &layer[slot * width..][..width]).collect()
                })
                .collect();
            let samples = &self.samples.samples;
            let rows: Vec<FeatureRow<'_>> = rows
                .iter()
                .zip(&features)
                .map(|(&(_, index, sha256, hash), features)| {
                    let sample = samples.get(index);
                    let (name, label) = (sample.name, stored_label(sample.label));
                    FeatureRow { name, label, sha256, perceptual_hash: Some(hash), features }
                })
                .collect();
            self.writer.append(&rows, &[])?;
            self.written.computed += rows.len();
            while let Some((_, problem)) = failed.next_if(|(index, _)| *index == self.position) {
                self.fail(problem)?;
            }
        }
    }
}

fn read_rows(
    file: &FeatureFile,
    layer: &str,
    rows: Range<usize>,
    width: usize,
) -> Result<Vec<f32>, ExtractError> {
    let mut values = vec![0.0; rows.len() * width];
    file.read_rows(Some(layer), rows, &mut values).map_err(|source| ExtractError::Reuse { source })?;
    Ok(values)
}
