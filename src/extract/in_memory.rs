//! Features that are collected in memory, in the order of the samples.

use super::ExtractError;
use super::pipeline::{Collector, Computed};
use crate::dataset::InputProblem;
use crate::images::PerceptualHash;

/// The rows of one layer, as they come.
#[derive(Default)]
pub(super) struct FeatureRows {
    /// Index, SHA-256 and perceptual hash of each sample that could be read.
    pub rows: Vec<(usize, String, PerceptualHash)>,
    /// Index of each sample that could not be read, in their order.
    pub failed: Vec<usize>,
    /// Why.
    pub problems: Vec<InputProblem>,
    /// The features of the rows, one after another.
    pub values: Vec<f32>,
}

impl FeatureRows {
    /// With room for so many values.
    pub(super) fn with_capacity(values: usize) -> Self {
        Self { values: Vec::with_capacity(values), ..Self::default() }
    }
}

impl Collector for FeatureRows {
    fn append(&mut self, batch: Computed) -> Result<(), ExtractError> {
        self.rows.extend(batch.rows);
        for (index, problem) in batch.problems {
            self.failed.push(index);
            self.problems.push(problem);
        }
        // An extractor has one layer; a batch none of whose images could be read has no features at all.
        if let Some(values) = batch.layers.first() {
            self.values.extend_from_slice(values);
        }
        Ok(())
    }
}
