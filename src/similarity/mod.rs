//! The nearest images by their features: exactly, for many queries at once, in one pass over a features file.
//!
//! Each thread reads a part of the file into a buffer that stays in its cache and compares it with all queries there,
//! while the others read and compare theirs: memory holds a part a thread whatever the file's size, and a small batch of
//! queries costs little more than reading the file. Most rows are dismissed by a float32 matrix product whose error is
//! bounded; only those that the bound does not rule out are compared in float64, and only that decides. So the answer is
//! that of a float64 comparison with every row.
//!
//! Equal distances are ordered by row: the earlier row of the file is the nearer one.

mod queries;
mod scan;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;
use serde::Serialize;

pub use self::queries::{NearImage, Queries, QueryAnswer, QueryError};
use self::scan::{NearestRows, PreparedQueries};
use crate::features::{FeatureFile, FeatureFileError};

/// Bytes of features that a thread reads and compares at a time: few enough for its share of the cache, and so many that
/// laying out the queries anew for each product weighs little.
const PART_BYTES: usize = 2 << 20;
/// Bytes that a part may have where the file's chunks are larger than that.
const LARGEST_PART_BYTES: usize = 16 << 20;
/// Queries that a thread takes at a time where all is in memory.
const QUERIES_OF_BLOCK: usize = 256;

/// How far two features are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// 1 - cosine of the angle between them: 0 to 2. Features that are all zero have no direction and are at distance 1
    /// from all others, as scikit-learn has it.
    #[default]
    Cosine,
    /// Length of their difference.
    Euclidean,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Cosine => "cosine",
            Metric::Euclidean => "euclidean",
        })
    }
}

/// A word that is no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a metric; choose cosine or euclidean")]
pub struct UnknownMetric(String);

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Metric, UnknownMetric> {
        match text {
            "cosine" => Ok(Metric::Cosine),
            "euclidean" => Ok(Metric::Euclidean),
            _ => Err(UnknownMetric(text.to_owned())),
        }
    }
}

/// A row near a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Row of the file.
    pub row: usize,
    /// By the metric that was asked for, computed in float64.
    pub distance: f64,
}

/// Why neighbours could not be found.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum NeighborsError {
    #[error(transparent)]
    Features(#[from] FeatureFileError),
    #[error(
        "a query has {found} features, and the rows of {file} have {expected}; use features of the same \
         layer"
    )]
    Width { file: String, expected: usize, found: usize },
    #[error("query {query} holds {value}; features must be finite numbers: extract them again")]
    QueryNotFinite { query: usize, value: f32 },
    #[error(
        "row {row} ({image}) of {file} holds {value}; features must be finite numbers: extract them again"
    )]
    RowNotFinite { file: String, row: usize, image: String, value: f32 },
}

/// What is looked for.
#[derive(Clone, Copy)]
pub struct NeighborSearch<'a> {
    /// One query a row, m x d.
    pub queries: ArrayView2<'a, f32>,
    /// Neighbours of each query; fewer are found only where the file has fewer rows.
    pub k: usize,
    /// What distance is.
    pub metric: Metric,
    /// Whether a row, the second argument, is left out of the answer to a query, the first.
    pub left_out: &'a (dyn Fn(usize, usize) -> bool + Sync),
}

impl NeighborSearch<'_> {
    /// The nearest rows of a layer of `file` (the primary one where none is named), nearest first, for each query.
    /// `progress` is told how many rows have been compared, by several threads.
    ///
    /// # Errors
    /// The file has no such layer or cannot be read, the queries have another width, or a feature is not finite.
    pub fn run(
        &self,
        file: &FeatureFile,
        layer: Option<&str>,
        progress: impl Fn(usize) + Sync,
    ) -> Result<Vec<Vec<Neighbor>>, NeighborsError> {
        let name = || file.path().display().to_string();
        let width = file.layer(layer)?.width().unwrap_or(0);
        let found = self.queries.ncols();
        if found != width {
            return Err(NeighborsError::Width { file: name(), expected: width, found });
        }
        let queries = PreparedQueries::new(self.queries, self.metric)
            .map_err(|(query, value)| NeighborsError::QueryNotFinite { query, value })?;
        let rows = file.rows();
        let step = part_rows(width, file.rows_at_once(layer)?);
        let (next, done, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        // The nearest of the parts that one thread takes, or what is wrong with a row, and where its part begins.
        let compare = || -> Result<Vec<NearestRows>, (usize, NeighborsError)> {
            let mut best = vec![NearestRows::new(self.k); queries.len()];
            let mut part = vec![0.0; step.min(rows) * width];
            while !failed.load(Ordering::Relaxed) {
                let start = next.fetch_add(step, Ordering::Relaxed);
                let Some(count) = rows.checked_sub(start).filter(|&left| left > 0).map(|left| left.min(step))
                else {
                    break;
                };
                let part = &mut part[..count * width];
                let compared = match file.read_rows(layer, start..start + count, part) {
                    Ok(()) => queries.scan(part, start, &mut best, self.left_out).map_err(|(row, value)| {
                        let image = file.image_names()[row].clone();
                        NeighborsError::RowNotFinite { file: name(), row, image, value }
                    }),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = compared {
                    failed.store(true, Ordering::Relaxed);
                    return Err((start, error));
                }
                progress(done.fetch_add(count, Ordering::Relaxed) + count);
            }
            Ok(best)
        };
        let mut best = vec![NearestRows::new(self.k); queries.len()];
        let mut first_error: Option<(usize, NeighborsError)> = None;
        for compared in rayon::broadcast(|_| compare()) {
            match compared {
                Ok(found) => best.iter_mut().zip(found).for_each(|(best, found)| best.join(found)),
                // Parts are taken in order, and those before a bad one are compared to their end: the first is always
                // the same.
                Err(error) if first_error.as_ref().is_none_or(|first| error.0 < first.0) => {
                    first_error = Some(error);
                }
                Err(_) => {}
            }
        }
        match first_error {
            Some((_, error)) => Err(error),
            None => Ok(best.into_iter().map(|best| best.into_neighbors(self.metric)).collect()),
        }
    }
}

/// The nearest of `rows` (n x d) to each row of `queries` (m x d), both in memory and finite: as [`NeighborSearch`], with all
/// threads. A row that `left_out` names for a query is no answer to it.
///
/// # Errors
/// A value is not finite; gives its row and the value. Rows of the queries come first.
pub(crate) fn nearest_rows(
    queries: ArrayView2<'_, f32>,
    rows: ArrayView2<'_, f32>,
    k: usize,
    left_out: impl Fn(usize, usize) -> bool + Sync,
) -> Result<Vec<Vec<Neighbor>>, (usize, f32)> {
    let rows = rows.as_standard_layout();
    let rows = rows.as_slice().unwrap_or_default();
    let part = part_rows(queries.ncols(), 1) * queries.ncols().max(1);
    let of_block = |(block, queries): (usize, ArrayView2<'_, f32>)| {
        let first = block * QUERIES_OF_BLOCK;
        let queries =
            PreparedQueries::new(queries, Metric::Cosine).map_err(|(row, value)| (first + row, value))?;
        let mut best = vec![NearestRows::new(k); queries.len()];
        for (index, rows) in rows.chunks(part).enumerate() {
            let left_out = |query: usize, row: usize| left_out(first + query, row);
            queries.scan(rows, index * part / queries.width().max(1), &mut best, &left_out)?;
        }
        Ok(best.into_iter().map(|best| best.into_neighbors(Metric::Cosine)).collect::<Vec<_>>())
    };
    let blocks: Vec<_> = queries.axis_chunks_iter(Axis(0), QUERIES_OF_BLOCK).enumerate().collect();
    let found: Result<Vec<_>, _> = blocks.into_par_iter().map(of_block).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// Rows of a part: whole chunks of `chunk` rows, unless these are very large.
fn part_rows(width: usize, chunk: usize) -> usize {
    let rows_in = |bytes: usize| (bytes / (width.max(1) * size_of::<f32>())).max(1);
    let rows = rows_in(PART_BYTES).next_multiple_of(chunk.max(1));
    rows.min(rows_in(LARGEST_PART_BYTES))
}
