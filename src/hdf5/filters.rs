//! The filters that a chunk's bytes went through, undone.

use hdf5_reader::FilterRegistry;
use hdf5_reader::filters::apply_pipeline_with_limit;
use hdf5_reader::messages::filter_pipeline::FilterDescription;

use super::source::guarded;
use super::{Hdf5Error, lzf};

/// The largest chunk that is decoded: the format allows 4 GiB, writers use one to four MiB.
const MAX_CHUNK: usize = 1 << 30;
/// More filters than this are damage: libhdf5 knows no more than 32.
const MAX_FILTERS: usize = 32;

const DEFLATE: u16 = 1;
const SHUFFLE: u16 = 2;
const FLETCHER32: u16 = 3;
const SZIP: u16 = 4;
const NBIT: u16 = 5;
const SCALE_OFFSET: u16 = 6;
const LZF: u16 = 32000;

/// What is known of the registered plug-ins (The HDF Group's list of registered filters).
const PLUG_INS: [(u16, &str); 12] = [
    (305, "LZO"),
    (307, "bzip2"),
    (32001, "Blosc"),
    (32004, "LZ4"),
    (32008, "bitshuffle"),
    (32013, "ZFP"),
    (32015, "Zstandard"),
    (32017, "SZ"),
    (32024, "SZ3"),
    (32026, "Blosc2"),
    (32019, "JPEG"),
    (32018, "FCIDECOMP"),
];

/// The steps between the values and the bytes in the file, as they were taken when writing.
pub(super) struct FilterChain {
    filters: Vec<FilterDescription>,
    registry: FilterRegistry,
}

impl FilterChain {
    /// # Errors
    /// A filter is a plug-in that this program lacks.
    pub(super) fn of(filters: Vec<FilterDescription>, object: &str) -> Result<Self, Hdf5Error> {
        if filters.len() > MAX_FILTERS {
            return Err(Hdf5Error::damaged(object, format!("it has {} filters", filters.len())));
        }
        let known = [DEFLATE, SHUFFLE, FLETCHER32, SZIP, NBIT, SCALE_OFFSET, LZF];
        if let Some(unknown) = filters.iter().find(|filter| !known.contains(&filter.id)) {
            return Err(Hdf5Error::Filter { filter: name(unknown) });
        }
        let mut registry = FilterRegistry::new();
        registry
            .register(LZF, Box::new(|filter, data, _| lzf::decode(data, filter.client_data.get(2).copied())));
        Ok(Self { filters, registry })
    }

    /// Whether every filter was left out for a chunk.
    pub(super) fn is_left_out(&self, skipped: u32) -> bool {
        (0..self.filters.len()).all(|index| skipped >> index & 1 == 1)
    }

    /// The bytes of a chunk that has `size` bytes when decoded.
    pub(super) fn decode(
        &self,
        encoded: &[u8],
        skipped: u32,
        element: usize,
        size: usize,
        object: &str,
    ) -> Result<Vec<u8>, Hdf5Error> {
        if size > MAX_CHUNK {
            return Err(Hdf5Error::Unsupported(format!(
                "each of its chunks has {size} bytes, more than the limit of {MAX_CHUNK}; store it in \
                 smaller chunks, for example with `h5repack -l CHUNK=…`"
            )));
        }
        let decoded = guarded(object, || {
            let (filters, registry) = (&self.filters, Some(&self.registry));
            apply_pipeline_with_limit(encoded, filters, skipped, element, registry, Some(size + 1))
        })?;
        if decoded.len() != size {
            let why = format!("a chunk has {} bytes, expected {size}", decoded.len());
            return Err(Hdf5Error::damaged(object, why));
        }
        Ok(decoded)
    }
}

/// What a filter is called, and its number.
fn name(filter: &FilterDescription) -> String {
    let listed = PLUG_INS.iter().find(|(id, _)| *id == filter.id).map(|(_, name)| (*name).to_owned());
    // A name in the file is a stranger's text.
    let own = || {
        let name: String = filter.name.as_deref()?.chars().filter(|c| !c.is_control()).take(40).collect();
        (!name.trim().is_empty()).then(|| name.trim().to_owned())
    };
    match listed.or_else(own) {
        Some(name) => format!("{name} (number {})", filter.id),
        None => format!("number {}", filter.id),
    }
}
