//! Rows of a features file, as the solvers stream them.

use std::ops::Range;

use cnncodes_linear_heads::{BoxedError, RowSource};

use crate::features::{FeatureFile, FeatureFileError};

/// Some rows of a layer of a features file.
pub struct FileRows<'a> {
    file: &'a FeatureFile,
    layer: Option<&'a str>,
    rows: &'a [usize],
    columns: usize,
}

impl<'a> FileRows<'a> {
    /// The given rows of a layer; `None` is the primary one.
    ///
    /// # Errors
    /// [`FeatureFileError::NoSuchLayer`].
    pub fn new(
        file: &'a FeatureFile,
        layer: Option<&'a str>,
        rows: &'a [usize],
    ) -> Result<Self, FeatureFileError> {
        // A layer's width was checked when the file was opened.
        let columns = file.layer(layer)?.width().unwrap_or(1);
        Ok(Self { file, layer, rows, columns })
    }
}

impl RowSource for FileRows<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn read(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), BoxedError> {
        let mut from = 0;
        for run in self.rows[range].chunk_by(|a, b| a + 1 == *b) {
            let to = from + run.len() * self.columns;
            self.file.read_rows(self.layer, run[0]..run[0] + run.len(), &mut out[from..to])?;
            from = to;
        }
        Ok(())
    }
}
