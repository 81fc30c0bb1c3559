//! Where the chunks of a dataset lie in the file.

use hdf5_reader::messages::layout::ChunkIndexing;
use hdf5_reader::{btree_v1, chunk_index, extensible_array, fixed_array};

use super::Hdf5Error;
use super::source::{Hdf5Source, guarded};

/// The grid that chunks cut a dataset into, and how it is indexed.
#[derive(Debug)]
pub(super) struct ChunkGrid {
    /// Address of the index.
    pub(super) address: u64,
    pub(super) indexing: Option<ChunkIndexing>,
    pub(super) shape: Vec<u64>,
    pub(super) max_shape: Option<Vec<u64>>,
    /// Elements of a chunk in each dimension; none is 0, and there are as many as dimensions.
    pub(super) chunk: Vec<u64>,
    /// Bytes of an element.
    pub(super) element: usize,
}

/// One chunk in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its number, counted in row-major order.
    pub(super) number: u64,
    pub(super) address: u64,
    /// Bytes in the file.
    pub(super) size: u64,
    /// Bit i is set where filter i was left out.
    pub(super) skipped_filters: u32,
}

impl ChunkGrid {
    /// Chunks in each dimension.
    pub(super) fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.shape.iter().zip(&self.chunk).map(|(size, chunk)| size.div_ceil(*chunk))
    }

    /// Chunks that share the first coordinate; `None` where they cannot be counted.
    pub(super) fn chunks_across(&self) -> Option<u64> {
        self.counts().skip(1).try_fold(1_u64, u64::checked_mul)
    }

    /// The coordinates of the first element of the chunk of that number.
    pub(super) fn origin(&self, mut number: u64) -> Vec<u64> {
        let counts: Vec<u64> = self.counts().collect();
        let mut origin = vec![0; counts.len()];
        for dimension in (0..counts.len()).rev() {
            origin[dimension] = number % counts[dimension].max(1) * self.chunk[dimension];
            number /= counts[dimension].max(1);
        }
        origin
    }

    /// All chunks that are in the file, by number. Those that were never written are missing.
    pub(super) fn chunks(&self, source: &Hdf5Source, object: &str) -> Result<Vec<Chunk>, Hdf5Error> {
        let damaged = |why: &str| Hdf5Error::damaged(object, why);
        let dims: Option<Vec<u32>> = self.chunk.iter().map(|&n| u32::try_from(n).ok()).collect();
        let dims = dims.ok_or_else(|| damaged("its chunks are too large"))?;
        let entries = guarded(object, || self.entries(source, &dims))?;
        // A chunk's number fits if that of the last one does.
        self.counts().try_fold(1_u64, u64::checked_mul).ok_or_else(|| damaged("it has too many chunks"))?;
        let mut chunks = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.offsets.len() != self.shape.len() || source.is_undefined(entry.address) {
                continue;
            }
            // Chunks outside of a dataset that was made smaller may be left over.
            if entry.offsets.iter().zip(&self.shape).any(|(offset, size)| offset >= size) {
                continue;
            }
            let mut number = 0;
            for ((offset, chunk), count) in entry.offsets.iter().zip(&self.chunk).zip(self.counts()) {
                if offset % chunk != 0 {
                    return Err(damaged("a chunk overlaps others"));
                }
                number = number * count + offset / chunk;
            }
            let (address, size) = (entry.address, entry.size);
            chunks.push(Chunk { number, address, size, skipped_filters: entry.filter_mask });
        }
        chunks.sort_unstable_by_key(|chunk| chunk.number);
        if chunks.windows(2).any(|pair| pair[0].number == pair[1].number) {
            return Err(damaged("a chunk occurs twice"));
        }
        chunks.shrink_to_fit();
        Ok(chunks)
    }

    fn entries(
        &self,
        source: &Hdf5Source,
        dims: &[u32],
    ) -> hdf5_reader::error::Result<Vec<chunk_index::ChunkEntry>> {
        let storage = &source.structure();
        let (offset_size, length_size) = (source.offset_size(), source.length_size());
        let rank = self.shape.len();
        match &self.indexing {
            None => {
                let leaves = btree_v1::collect_btree_v1_leaves_storage(
                    storage,
                    self.address,
                    offset_size,
                    length_size,
                    Some(rank as u32),
                    dims,
                    None,
                )?;
                Ok(leaves
                    .into_iter()
                    .filter_map(|(key, address)| match key {
                        btree_v1::BTreeV1Key::RawData { chunk_size, filter_mask, mut offsets } => {
                            // The last one counts bytes within an element.
                            offsets.truncate(rank);
                            let size = u64::from(chunk_size);
                            Some(chunk_index::ChunkEntry { address, size, filter_mask, offsets })
                        }
                        btree_v1::BTreeV1Key::Group { .. } => None,
                    })
                    .collect())
            }
            Some(ChunkIndexing::SingleChunk { filtered_size, filters }) => {
                Ok(vec![chunk_index::single_chunk_entry(self.address, *filtered_size, *filters, rank)])
            }
            Some(ChunkIndexing::Implicit) => chunk_index::collect_implicit_chunk_entries(
                self.address,
                &self.shape,
                dims,
                self.element,
                None,
                source.len(),
            ),
            Some(ChunkIndexing::FixedArray { .. }) => fixed_array::collect_fixed_array_chunk_entries_storage(
                storage,
                self.address,
                offset_size,
                length_size,
                &self.shape,
                dims,
                None,
            ),
            Some(ChunkIndexing::ExtensibleArray { .. }) => {
                extensible_array::collect_extensible_array_chunk_entries_storage(
                    storage,
                    self.address,
                    offset_size,
                    length_size,
                    &self.shape,
                    self.max_shape.as_deref(),
                    dims,
                    None,
                )
            }
            Some(ChunkIndexing::BTreeV2) => chunk_index::collect_v2_chunk_entries_storage(
                storage,
                self.address,
                offset_size,
                length_size,
                rank as u32,
                dims,
                None,
            ),
        }
    }
}
