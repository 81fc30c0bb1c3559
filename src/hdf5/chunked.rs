//! Reading the values of a dataset that is stored in chunks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Hdf5Error;
use super::chunks::{Chunk, ChunkGrid};
use super::dataset::DatasetStorage;
use super::filters::FilterChain;

/// Room for decoded chunks, so that the rows of one chunk are decoded once.
const CACHE_BYTES: usize = 64 << 20;
/// Chunks that are remembered at most, however small they are.
const MAX_SLOTS: usize = 256;

/// The chunks of a dataset, and those that were decoded last.
pub(super) struct Chunked {
    pub(super) grid: ChunkGrid,
    /// Bytes of a chunk.
    pub(super) bytes: usize,
    /// Where the chunks went through filters.
    pub(super) pipeline: Option<FilterChain>,
    /// Where the chunks lie, once that was asked.
    chunks: OnceLock<Vec<Chunk>>,
    decoded: Mutex<VecDeque<(u64, Slot)>>,
}

/// A chunk that is decoded by the first who needs it, while the others wait.
type Slot = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

impl Chunked {
    /// `bytes` is the size of a chunk.
    pub(super) fn new(grid: ChunkGrid, bytes: usize, pipeline: Option<FilterChain>) -> Self {
        Self { grid, bytes, pipeline, chunks: OnceLock::new(), decoded: Mutex::default() }
    }

    /// Whether a chunk is as wide as a row, so that its rows follow each other without gaps.
    pub(super) fn holds_whole_rows(&self) -> bool {
        self.grid.shape.iter().zip(&self.grid.chunk).skip(1).all(|(size, chunk)| size == chunk)
    }

    /// The rows at which the chunks begin and their addresses, if they hold whole rows as they are and none is left out.
    pub(super) fn whole_rows(
        &self,
        place: &DatasetStorage,
    ) -> Result<Option<impl Iterator<Item = (u64, u64)> + '_>, Hdf5Error> {
        if !self.holds_whole_rows() || self.pipeline.is_some() {
            return Ok(None);
        }
        let (chunks, rows) = (self.chunks(place)?, self.grid.chunk[0]);
        // They are sorted by their numbers, which occur once.
        let complete = chunks.len() as u64 == self.grid.shape[0].div_ceil(rows);
        Ok(complete.then(|| chunks.iter().map(move |chunk| (chunk.number * rows, chunk.address))))
    }

    pub(super) fn chunks(&self, place: &DatasetStorage) -> Result<&[Chunk], Hdf5Error> {
        if let Some(chunks) = self.chunks.get() {
            return Ok(chunks);
        }
        let chunks = self.grid.chunks(&place.source, &place.path)?;
        // Where chunks lie as they are, each has its whole size.
        let beyond = |chunk: &Chunk| !place.source.holds(chunk.address, self.bytes as u64);
        let odd = |chunk: &Chunk| chunk.size != 0 && chunk.size != self.bytes as u64;
        if self.pipeline.is_none() && chunks.iter().any(|chunk| beyond(chunk) || odd(chunk)) {
            return Err(Hdf5Error::damaged(
                &place.path,
                "a chunk has a wrong size, or reaches beyond the end of the file",
            ));
        }
        Ok(self.chunks.get_or_init(|| chunks))
    }

    /// Rows that lie in the file one after the other within each chunk: one read a chunk, straight into the caller's memory.
    pub(super) fn read_whole_rows(
        &self,
        place: &DatasetStorage,
        range: &Range<u64>,
        row: u64,
        out: &mut [u8],
    ) -> Result<(), Hdf5Error> {
        let chunks = self.chunks(place)?;
        let per_chunk = self.grid.chunk[0];
        let (mut at, mut rest) = (range.start, out);
        while at < range.end {
            let (number, within) = (at / per_chunk, at % per_chunk);
            let rows = (per_chunk - within).min(range.end - at);
            // At most as much as is left of `out`.
            let (part, after) = rest.split_at_mut((rows * row) as usize);
            match chunks.binary_search_by_key(&number, |chunk| chunk.number) {
                Ok(index) => place.source.read(chunks[index].address.saturating_add(within * row), part)?,
                Err(_) => place.fill(part),
            }
            (at, rest) = (at + rows, after);
        }
        Ok(())
    }

    /// Rows that chunks cut into parts, or that went through filters.
    pub(super) fn read_parts(
        &self,
        place: &DatasetStorage,
        range: &Range<u64>,
        out: &mut [u8],
    ) -> Result<(), Hdf5Error> {
        place.fill(out);
        let (grid, chunks) = (&self.grid, self.chunks(place)?);
        // The number of chunks was counted when they were located.
        let across = grid.chunks_across().unwrap_or(1);
        let first = (range.start / grid.chunk[0]).saturating_mul(across);
        let end = range.end.div_ceil(grid.chunk[0]).saturating_mul(across);
        let from = chunks.partition_point(|chunk| chunk.number < first);
        for chunk in chunks[from..].iter().take_while(|chunk| chunk.number < end) {
            let bytes = self.decoded(place, chunk)?;
            copy_overlap(grid, &grid.origin(chunk.number), &bytes, range, out);
        }
        Ok(())
    }

    /// The bytes of a chunk, decoded at most once while it is remembered.
    fn decoded(&self, place: &DatasetStorage, chunk: &Chunk) -> Result<Arc<Vec<u8>>, Hdf5Error> {
        let slot = {
            let mut decoded = lock(&self.decoded);
            match decoded.iter().find(|(number, _)| *number == chunk.number) {
                Some((_, slot)) => Arc::clone(slot),
                None => {
                    while decoded.len() >= (CACHE_BYTES / self.bytes).clamp(1, MAX_SLOTS) {
                        decoded.pop_front();
                    }
                    let slot = Slot::default();
                    decoded.push_back((chunk.number, Arc::clone(&slot)));
                    slot
                }
            }
        };
        let mut slot = lock(&slot);
        if let Some(bytes) = &*slot {
            return Ok(Arc::clone(bytes));
        }
        let bytes = Arc::new(self.decode(place, chunk)?);
        *slot = Some(Arc::clone(&bytes));
        Ok(bytes)
    }

    fn decode(&self, place: &DatasetStorage, chunk: &Chunk) -> Result<Vec<u8>, Hdf5Error> {
        let damaged = |why: &str| Hdf5Error::damaged(&place.path, why);
        let pipeline = self.pipeline.as_ref().filter(|pipeline| !pipeline.is_left_out(chunk.skipped_filters));
        let size = match pipeline {
            // Some indices state no size for chunks as they are.
            None => self.bytes,
            Some(_) => usize::try_from(chunk.size).unwrap_or(usize::MAX),
        };
        if !place.source.holds(chunk.address, size as u64) {
            return Err(damaged("a chunk reaches beyond the end of the file"));
        }
        let mut bytes = vec![0; size];
        place.source.read(chunk.address, &mut bytes)?;
        match pipeline {
            None => Ok(bytes),
            Some(pipeline) => {
                pipeline.decode(&bytes, chunk.skipped_filters, self.grid.element, self.bytes, &place.path)
            }
        }
    }
}

/// Copies what a chunk that begins at `origin` holds of the rows `range` to `out`.
fn copy_overlap(grid: &ChunkGrid, origin: &[u64], chunk: &[u8], range: &Range<u64>, out: &mut [u8]) {
    let rank = origin.len();
    // The overlap in coordinates of the dataset.
    let mut low: Vec<u64> = origin.to_vec();
    let mut high: Vec<u64> =
        (0..rank).map(|d| origin[d].saturating_add(grid.chunk[d]).min(grid.shape[d])).collect();
    low[0] = low[0].max(range.start);
    high[0] = high[0].min(range.end);
    if low.iter().zip(&high).any(|(low, high)| low >= high) {
        return;
    }
    let last = rank - 1;
    let element = grid.element as u64;
    let run = ((high[last] - low[last]) * element) as usize;
    let mut at = low.clone();
    loop {
        let (mut from, mut to) = (0, 0);
        for d in 0..rank {
            from = from * grid.chunk[d] + (at[d] - origin[d]);
            to = if d == 0 { at[0] - range.start } else { to * grid.shape[d] + at[d] };
        }
        let (from, to) = ((from * element) as usize, (to * element) as usize);
        out[to..to + run].copy_from_slice(&chunk[from..from + run]);
        // The next run: all dimensions but the last count on.
        let Some(d) = (0..last).rev().find(|&d| at[d] + 1 < high[d]) else { return };
        at[d] += 1;
        at[d + 1..last].copy_from_slice(&low[d + 1..last]);
    }
}

/// What a panic left behind is a cache, which any content suits.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
