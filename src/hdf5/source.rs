//! The bytes of an HDF5 file, read at positions, and the bounds on what its structure may cost.
//!
//! A small file can describe much work: nodes that share children, heaps that overlap, headers that continue for ever. So
//! everything that belongs to the file's structure is read through [`Hdf5Source`], which stops once several times the file
//! was read.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hdf5_reader::error::{Error, Result as ReaderResult};
use hdf5_reader::{Storage, StorageBuffer};

use super::Hdf5Error;
use super::hidden_layouts::{Addressing, HiddenLayouts, VirtualLayout};
use crate::panics;
use crate::positional::read_exact_at;

/// What the structure of a file of any size may cost to read, in bytes.
const BUDGET: u64 = 64 << 20;
/// How often a file may be read through for its structure, beside that.
const TIMES: u64 = 4;
/// What a single read costs beside its bytes.
const PER_READ: u64 = 256;
/// Bytes that the crate reads where an object's header begins, to tell the versions of headers apart.
const START_OF_HEADER: usize = 4;

/// An open file. Clones share it and what is left of its budget.
#[derive(Debug, Clone)]
pub(super) struct Hdf5Source {
    file: Arc<File>,
    path: Arc<Path>,
    len: u64,
    left: Arc<AtomicU64>,
    addressing: Arc<OnceLock<Addressing>>,
    hidden: Arc<Mutex<HiddenLayouts>>,
    /// Where the HDF5 part begins: addresses count from there.
    base: u64,
    offset_size: u8,
    length_size: u8,
}

impl Hdf5Source {
    pub(super) fn open(path: &Path) -> Result<Self, Hdf5Error> {
        let file = File::open(path).map_err(Hdf5Error::Io)?;
        let metadata = file.metadata().map_err(Hdf5Error::Io)?;
        if metadata.is_dir() {
            return Err(Hdf5Error::Io(io::ErrorKind::IsADirectory.into()));
        }
        let len = metadata.len();
        let left = Arc::new(AtomicU64::new(BUDGET.saturating_add(len.saturating_mul(TIMES))));
        Ok(Self {
            file: Arc::new(file),
            path: Arc::from(path),
            len,
            left,
            addressing: Arc::default(),
            hidden: Arc::default(),
            base: 0,
            offset_size: 8,
            length_size: 8,
        })
    }

    /// States where the HDF5 part begins, and how wide addresses and lengths are.
    pub(super) fn place(&mut self, base: u64, offset_size: u8, length_size: u8) {
        (self.base, self.offset_size, self.length_size) = (base, offset_size, length_size);
        let (offset_size, length_size) = (usize::from(offset_size), usize::from(length_size));
        // Stated once, after the file was opened.
        let _ = self.addressing.set(Addressing { base, offset_size, length_size });
    }

    /// Where the file lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The layout of the dataset with a header at that address, if its values lie in other files.
    pub(super) fn virtual_layout(&self, header: u64) -> Option<VirtualLayout> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).get(header)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn offset_size(&self) -> u8 {
        self.offset_size
    }

    pub(super) fn length_size(&self) -> u8 {
        self.length_size
    }

    /// Whether an address stands for "nowhere".
    pub(super) fn is_undefined(&self, address: u64) -> bool {
        hdf5_reader::io::Cursor::is_undefined_offset(address, self.offset_size)
    }

    /// Whether `len` bytes from `address` on lie within the file.
    pub(super) fn holds(&self, address: u64, len: u64) -> bool {
        let end = address.checked_add(self.base).and_then(|start| start.checked_add(len));
        end.is_some_and(|end| end <= self.len)
    }

    /// Reads values at an address, outside of the budget: values are read as often as the caller asks.
    pub(super) fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Hdf5Error> {
        if !self.holds(address, out.len() as u64) {
            return Err(Hdf5Error::damaged("an address", "it points beyond the end of the file"));
        }
        self.read_absolute(address + self.base, out).map_err(Hdf5Error::Io)
    }

    /// Reads from the start of the file, not of its HDF5 part.
    pub(super) fn read_absolute(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(&self.file, out, position)
    }

    /// The file's structure as the crate reads it: addresses count from the start of the HDF5 part.
    pub(super) fn structure(&self) -> RelativeSource<'_> {
        RelativeSource(self)
    }

    fn spend(&self, bytes: u64) -> ReaderResult<()> {
        let cost = bytes.saturating_add(PER_READ);
        let spent =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost));
        spent.map(drop).map_err(|_| {
            Error::ResourceLimit(
                "its structure refers to itself and would have to be read again and again".into(),
            )
        })
    }

    /// A part of the file's structure as the crate is shown it: without the layouts of virtual datasets.
    fn shown(&self, position: u64, len: usize) -> ReaderResult<Vec<u8>> {
        let Some(&addressing) = self.addressing.get() else { return self.range(position, len) };
        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        if len == START_OF_HEADER {
            let read = |position: u64, len: usize| self.range(position, len).map_err(io::Error::other);
            hidden.look_through(position, addressing, &read);
        }
        let mut bytes = self.range(position, len)?;
        hidden.cover(position, &mut bytes);
        Ok(bytes)
    }

    fn range(&self, position: u64, len: usize) -> ReaderResult<Vec<u8>> {
        let needed = len as u64;
        if position.checked_add(needed).is_none_or(|end| end > self.len) {
            let available = self.len.saturating_sub(position);
            return Err(Error::UnexpectedEof { offset: position, needed, available });
        }
        self.spend(needed)?;
        let mut bytes = vec![0; len];
        self.read_absolute(position, &mut bytes)?;
        Ok(bytes)
    }
}

/// For the crate, which finds the start of the HDF5 part itself.
impl Storage for Hdf5Source {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_range(&self, offset: u64, len: usize) -> ReaderResult<StorageBuffer> {
        self.shown(offset, len).map(StorageBuffer::from_vec)
    }
}

/// A [`Hdf5Source`] whose addresses count from the start of the HDF5 part.
pub(super) struct RelativeSource<'a>(&'a Hdf5Source);

impl Storage for RelativeSource<'_> {
    fn len(&self) -> u64 {
        self.0.len.saturating_sub(self.0.base)
    }

    fn read_range(&self, offset: u64, len: usize) -> ReaderResult<StorageBuffer> {
        let position = offset.checked_add(self.0.base).ok_or(Error::OffsetOutOfBounds(offset))?;
        self.0.range(position, len).map(StorageBuffer::from_vec)
    }
}

/// Runs the crate's code. Its own checks are thorough, but a panic in them would be no reason to end the program: a file
/// that brings it about is damaged.
pub(super) fn guarded<T>(object: &str, work: impl FnOnce() -> ReaderResult<T>) -> Result<T, Hdf5Error> {
    match panics::catch(work) {
        Some(result) => result.map_err(|error| Hdf5Error::of(error, object)),
        None => Err(Hdf5Error::damaged(object, "it cannot be interpreted")),
    }
}
