//! [`StreamedLayer`]: features that stay in their file, because they are larger than the memory they may use.

use cnncodes_linear_heads::RowSource;

use super::LabelledFeatures;
use crate::features::{FeatureFile, FeatureFileError};
use crate::head::FileRows;
use crate::memory::MemoryLimit;

/// Bytes of features that the duplicate search has in memory beside those that are there already.
const BESIDE_FEATURES: usize = 64 << 20;

/// A layer whose features stay in their file.
#[derive(Clone, Copy)]
pub struct StreamedLayer<'a> {
    pub(super) file: &'a FeatureFile,
    pub(super) layer: Option<&'a str>,
    pub(super) memory: MemoryLimit,
}

impl<'a> StreamedLayer<'a> {
    /// The layer, if a fit in memory takes more than the limit; `None` where it does not.
    ///
    /// # Errors
    /// The file has no such layer.
    pub fn if_too_large(
        file: &'a FeatureFile,
        layer: Option<&'a str>,
        memory: MemoryLimit,
    ) -> Result<Option<Self>, FeatureFileError> {
        let too_large = in_memory_bytes(file, layer)? > memory.bytes();
        Ok(too_large.then_some(Self { file, layer, memory }))
    }

    /// The features of the given rows.
    pub(super) fn rows<'r>(&self, rows: &'r [usize]) -> Result<FileRows<'r>, FeatureFileError>
    where
        'a: 'r,
    {
        FileRows::new(self.file, self.layer, rows)
    }
}

/// What a fit in memory would take: the features as they are, as the solver sees them, and a good third of their size for
/// the solver.
fn in_memory_bytes(file: &FeatureFile, layer: Option<&str>) -> Result<usize, FeatureFileError> {
    let columns = file.layer(layer)?.width().unwrap_or(1);
    Ok((file.rows() * columns).saturating_mul(4 * 5 / 2))
}

impl LabelledFeatures {
    /// Calls `work` with the features, wherever they lie, and with the bytes that may be used beside those in memory already.
    pub(super) fn with_rows<T, E: From<FeatureFileError>>(
        &self,
        streamed: Option<&StreamedLayer<'_>>,
        work: impl FnOnce(&dyn RowSource, usize) -> Result<T, E>,
    ) -> Result<T, E> {
        match streamed {
            None => work(&self.features.view(), BESIDE_FEATURES),
            // Names, hashes and labels take the rest.
            Some(layer) => work(&layer.rows(&self.rows)?, layer.memory.bytes() / 2),
        }
    }
}
