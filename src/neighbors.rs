//! The nearest images by code: exactly, for many queries at once, in one pass over a file of codes.
//!
//! A thread reads the file block by block while the others compare the block before it with all queries, so that memory
//! holds a few blocks whatever the file's size, and a small batch of queries costs little more than reading the file.
//! Most rows are dismissed by a float32 matrix product whose error is bounded; only those that the bound does not rule
//! out are compared in float64, and only that decides. So the answer is that of a float64 comparison with every row.
//!
//! Equal distances are ordered by row: the earlier row of the file is the nearer one.

mod scan;

use std::ops::Range;
use std::str::FromStr;
use std::{fmt, thread};

use crossbeam_channel::bounded;
use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::Serialize;

use self::scan::{Best, Candidate, Queries};
use crate::codes::{CodesError, CodesFile};

/// Bytes of codes that are read at a time.
const BLOCK_BYTES: usize = 16 << 20;
/// Bytes of codes that one thread compares at a time: the product finds them in the cache.
const PART_BYTES: usize = 1 << 20;
/// Blocks in memory: one is read, one is compared, and one waits, so that neither waits for the other's last byte.
const BLOCKS: usize = 3;

/// How far two codes are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// 1 - cosine of the angle between them: 0 to 2. A code of nothing but zeros has no direction and is at distance 1
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
#[error("{0:?} is no metric; choose cosine or euclidean")]
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
pub enum NeighborsError {
    #[error(transparent)]
    Codes(#[from] CodesError),
    #[error(
        "a query has {found} codes where the rows of {file} have {expected}; take codes of the same layer"
    )]
    Width { file: String, expected: usize, found: usize },
    #[error("query {query} holds {value}; codes must be finite numbers: extract them again")]
    QueryNotFinite { query: usize, value: f32 },
    #[error("row {row} ({image}) of {file} holds {value}; codes must be finite numbers: extract them again")]
    RowNotFinite { file: String, row: usize, image: String, value: f32 },
}

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// One query a row, m x d.
    pub queries: ArrayView2<'a, f32>,
    /// Neighbours of each query; fewer are found only where the file has fewer rows.
    pub k: usize,
    pub metric: Metric,
    /// Whether a row, the second argument, is left out of the answer to a query, the first.
    pub left_out: &'a (dyn Fn(usize, usize) -> bool + Sync),
}

impl Search<'_> {
    /// The nearest rows of a layer of `file` (the primary one where none is named), nearest first, for each query.
    /// `progress` is told how many rows have been compared.
    ///
    /// # Errors
    /// The file has no such layer or cannot be read, the queries have another width, or a code is not finite.
    pub fn run(
        &self,
        file: &CodesFile,
        layer: Option<&str>,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Vec<Neighbor>>, NeighborsError> {
        let name = || file.path().display().to_string();
        let width = file.layer(layer)?.width().unwrap_or(0);
        let found = self.queries.ncols();
        if found != width {
            return Err(NeighborsError::Width { file: name(), expected: width, found });
        }
        let queries = Queries::new(self.queries, self.metric)
            .map_err(|(query, value)| NeighborsError::QueryNotFinite { query, value })?;
        let mut best = vec![Best::new(self.k); queries.len()];
        let rows = file.rows();
        let step = (BLOCK_BYTES / (width * size_of::<f32>())).clamp(1, rows.max(1));
        thread::scope(|scope| {
            let (filled, to_compare) = bounded::<Result<(Range<usize>, Vec<f32>), CodesError>>(BLOCKS);
            let (emptied, to_fill) = bounded::<Vec<f32>>(BLOCKS);
            for _ in 0..BLOCKS {
                // There is room for all of them.
                let _ = emptied.send(vec![0.0; step * width]);
            }
            scope.spawn(move || {
                for start in (0..rows).step_by(step) {
                    // Nobody waits for more once a block could not be compared.
                    let Ok(mut block) = to_fill.recv() else { return };
                    let range = start..rows.min(start + step);
                    let read = file.read_rows(layer, range.clone(), &mut block[..range.len() * width]);
                    let failed = read.is_err();
                    if filled.send(read.map(|()| (range, block))).is_err() || failed {
                        return;
                    }
                }
            });
            for block in to_compare {
                let (range, block) = block?;
                let values = &block[..range.len() * width];
                self.compare(&queries, values, range.start, &mut best).map_err(|(row, value)| {
                    let image = file.image_names()[row].clone();
                    NeighborsError::RowNotFinite { file: name(), row, image, value }
                })?;
                progress(range.end);
                // The reader has gone once all is read.
                let _ = emptied.send(block);
            }
            Ok(best.into_iter().map(|best| best.into_neighbors(self.metric)).collect())
        })
    }

    /// Compares the rows of a block, the first of which is row `first` of the file, with all queries.
    fn compare(
        &self,
        queries: &Queries<'_>,
        block: &[f32],
        first: usize,
        best: &mut [Best],
    ) -> Result<(), (usize, f32)> {
        let width = queries.width();
        let part_rows = (PART_BYTES / (width * size_of::<f32>())).max(1);
        let limits: Vec<f64> = best.iter().map(Best::limit).collect();
        let found: Vec<Vec<(usize, Candidate)>> = block
            .par_chunks(part_rows * width)
            .enumerate()
            .map(|(part, rows)| queries.scan(rows, first + part * part_rows, self.k, &limits, self.left_out))
            .collect::<Result<_, _>>()?;
        for (query, candidate) in found.into_iter().flatten() {
            best[query].add(candidate);
        }
        Ok(())
    }
}
