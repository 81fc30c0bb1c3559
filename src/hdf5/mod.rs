//! Reading HDF5 files that may come from anybody: features files, heads, arrays of images and their labels.
//!
//! libhdf5 1.10.8 can crash or hang on a damaged file, so no file is opened with it for reading. What the file says about
//! itself (groups, types, attributes, where its chunks lie) is read by the crate hdf5-reader, in Rust; values are read
//! here, straight from the file into the caller's memory. Nothing that a file states is believed: all of it is bounded
//! by the file's own size before memory is taken, and how much the file's structure may cost to read is bounded as well
//! ([`source`]). A virtual dataset, whose rows lie in other files, is read like any other, as long as these files lie in the
//! folder of its own file or below it ([`virtual_mapping`]). Writing stays with libhdf5, in the rooms that own a file format.

mod attribute;
mod chunked;
mod chunks;
mod dataset;
mod element_type;
mod error;
mod filters;
mod hidden_layouts;
mod lzf;
mod row_places;
mod source;
mod strings;
mod virtual_mapping;
mod virtual_rows;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use hdf5_reader::group::Group;
use hdf5_reader::{Hdf5File, OpenOptions};

pub use attribute::Attribute;
pub use dataset::{Hdf5Dataset, describe};
pub use element_type::{ElementType, Integer, Number, Padding};
pub use error::Hdf5Error;
pub use row_places::RowPlaces;

use source::{Hdf5Source, guarded};

/// How deep groups are looked through for datasets.
const MAX_DEPTH: usize = 8;
/// Datasets that are listed at most.
const MAX_LISTED: usize = 10_000;

/// An HDF5 file, open for reading.
pub struct Hdf5 {
    tree: Hdf5File,
    source: Arc<Hdf5Source>,
}

impl Hdf5 {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Hdf5Error::Io`], [`Hdf5Error::NotHdf5`], [`Hdf5Error::Truncated`], or [`Hdf5Error::Damaged`] where its first
    /// bytes contradict each other.
    pub fn open(path: &Path) -> Result<Hdf5, Hdf5Error> {
        let mut source = Hdf5Source::open(path)?;
        // The crate's own caches of values are not used: values are read by this room.
        let options = OpenOptions::default().with_chunk_cache_bytes(0).with_max_object_header_bytes(8 << 20);
        let tree =
            guarded("its header", || Hdf5File::from_storage_with_options(Arc::new(source.clone()), options))?;
        let superblock = tree.superblock();
        let stated = superblock.eof_address;
        source.place(superblock.base_address, superblock.offset_size, superblock.length_size);
        let base = superblock.base_address;
        // Relative to the start of the file, as libhdf5 has it, or to that of its HDF5 part.
        if stated > source.len() && stated.saturating_sub(base) > source.len() - base.min(source.len()) {
            return Err(Hdf5Error::Truncated { stated, found: source.len() });
        }
        Ok(Hdf5 { tree, source: Arc::new(source) })
    }

    /// Size of the file in bytes.
    pub fn file_len(&self) -> u64 {
        self.source.len()
    }

    /// Whether MATLAB wrote the file, by the text before its HDF5 part.
    pub fn is_matlab(&self) -> bool {
        let mut text = [0; 10];
        self.source.base() >= 512 && self.source.read_absolute(0, &mut text).is_ok() && &text == b"MATLAB 7.3"
    }

    /// Whether there is a dataset or a group of that name.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`] where that cannot be told.
    pub fn contains(&self, path: &str) -> Result<bool, Hdf5Error> {
        let missing = |found: Result<(), Hdf5Error>| match found {
            Ok(()) => Ok(true),
            Err(Hdf5Error::Missing) => Ok(false),
            Err(error) => Err(error),
        };
        Ok(missing(self.group(path).map(drop))? || missing(self.find(path).map(drop))?)
    }

    /// Names of the datasets and groups in a group, sorted.
    ///
    /// # Errors
    /// [`Hdf5Error::Missing`] and [`Hdf5Error::Damaged`].
    pub fn members(&self, path: &str) -> Result<Vec<String>, Hdf5Error> {
        let group = self.group(path)?;
        let (mut names, datasets) = guarded(path, || group.member_names())?;
        names.extend(datasets);
        names.sort();
        Ok(names)
    }

    /// Opens a dataset.
    ///
    /// # Errors
    /// [`Hdf5Error::Missing`], [`Hdf5Error::Damaged`], [`Hdf5Error::Unsupported`].
    pub fn dataset(&self, path: &str) -> Result<Hdf5Dataset, Hdf5Error> {
        let found = self.find(path)?;
        Hdf5Dataset::of(&self.tree, &self.source, &found, path)
    }

    /// Full names of all datasets, with a leading `/`; each object once, however many names it has.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`] where a group cannot be read.
    pub fn datasets(&self) -> Result<Vec<String>, Hdf5Error> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let root = guarded("/", || self.tree.root_group())?;
        list(&root, "", &mut seen, &mut found)?;
        found.sort();
        Ok(found)
    }

    /// The attributes of the file's root.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`].
    pub fn attributes(&self) -> Result<Vec<Attribute>, Hdf5Error> {
        guarded("the list of attributes", || self.tree.root_group()?.raw_attributes())?
            .into_iter()
            .map(|attribute| Attribute::of(attribute, &self.source))
            .collect()
    }

    fn group(&self, path: &str) -> Result<Group, Hdf5Error> {
        guarded(path, || self.tree.group(path))
    }

    fn find(&self, path: &str) -> Result<hdf5_reader::Dataset, Hdf5Error> {
        guarded(path, || self.tree.dataset(path))
    }
}

fn list(
    group: &Group,
    prefix: &str,
    seen: &mut HashSet<u64>,
    found: &mut Vec<String>,
) -> Result<(), Hdf5Error> {
    let (groups, datasets) = guarded(if prefix.is_empty() { "/" } else { prefix }, || group.members())?;
    for dataset in datasets {
        if found.len() < MAX_LISTED && seen.insert(dataset.address()) {
            found.push(format!("{prefix}/{}", dataset.name()));
        }
    }
    for inner in groups {
        // Links may lead in circles.
        if prefix.matches('/').count() < MAX_DEPTH && seen.insert(inner.address()) {
            list(&inner, &format!("{prefix}/{}", inner.name()), seen, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
