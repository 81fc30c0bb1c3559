//! The HDF5 objects of a partial file, and the order in which they are written.
//!
//! HDF5 does not write its metadata atomically. A kill in the middle of a flush that rearranges them (new
//! chunks in a dataset's index, a grown file) can make a file unreadable. Here nothing is rearranged while
//! rows are written:
//!
//! 1. Space for the expected rows is reserved at the start, when there is nothing to lose ([`Table::reserve`]).
//!    From then on a row is written into chunks that the index knows already. New strings go to the file's
//!    heap, which only grows.
//! 2. Before a flush the file is lengthened to the end that HDF5 is going to state ([`Table::commit`]), so
//!    that it is never shorter than it says.
//! 3. The row count, an attribute of fixed size and place, is written by a second flush, after the first has
//!    brought all its rows to the disk.
//!
//! More rows than were expected, or many skipped images, make the index grow now and then; only within that
//! flush of a fraction of a millisecond is a kill dangerous.

use std::path::Path;
use std::{fs, io};

use hdf5_metno::dataset::{AllocTime, FillTime};
use hdf5_metno::types::VarLenUnicode;
use hdf5_metno::{Attribute, Dataset, Extents, File, Group, H5Type};
use hdf5_metno_sys::h5d::{H5Dread_chunk1, H5Dwrite_chunk};
use hdf5_metno_sys::h5p::H5P_DEFAULT;
use ndarray17::{ArrayView2, s};

use super::schema::{self, Header};
use super::strings::Sha256Hex;

/// Size of a layer's chunk, if a row is not larger.
const LAYER_CHUNK_BYTES: usize = 512 << 10;
/// Size of a chunk of names, labels and the like.
const COLUMN_CHUNK_BYTES: usize = 64 << 10;
/// Chunks are no longer than the expected rows, but no shorter than this, in case more come.
const MIN_CHUNK_ROWS: usize = 64;
/// Skipped images for which space is added at a time.
const ERROR_STEP: usize = 1024;
/// Rows that are added at least when more come than were expected.
const GROWTH_ROWS: usize = 1024;
/// Bytes of a reference to a variable-length string in the file: length, heap address and index.
const STRING_REFERENCE: usize = 16;

/// What an append writes, already in HDF5's terms: one element a row in each column.
pub(super) struct Batch {
    pub names: Vec<VarLenUnicode>,
    pub labels: Vec<i64>,
    pub sha256: Vec<Sha256Hex>,
    /// One matrix a layer, row by row.
    pub codes: Vec<Vec<f32>>,
    pub error_names: Vec<VarLenUnicode>,
    pub error_reasons: Vec<VarLenUnicode>,
}

/// An open partial file. `Err` from any method that writes means that the file must be [`Table::abandon`]ed.
pub(super) struct Table {
    // Dropped before `file`: HDF5 closes a file after its objects.
    objects: Objects,
    file: File,
    /// The same file, opened beside HDF5 to set its length and to bring it to the disk.
    plain: fs::File,
    rows: usize,
    error_rows: usize,
    capacity: usize,
    error_capacity: usize,
}

/// The objects of the file that are written to after it is made.
struct Objects {
    layers: Vec<Dataset>,
    names: Dataset,
    labels: Dataset,
    sha256: Dataset,
    error_names: Dataset,
    error_reasons: Dataset,
    rows: Attribute,
    error_rows: Attribute,
    complete: Attribute,
}

/// HDF5's error, or that of the plain file beside it.
pub(super) enum TableError {
    Hdf5(hdf5_metno::Error),
    Io(io::Error),
}

impl From<hdf5_metno::Error> for TableError {
    fn from(error: hdf5_metno::Error) -> Self {
        Self::Hdf5(error)
    }
}

impl From<io::Error> for TableError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<TableError> for Box<dyn std::error::Error + Send + Sync> {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Hdf5(error) => super::error::cause(error),
            TableError::Io(error) => error.into(),
        }
    }
}

impl Table {
    /// Makes the file anew, replacing what is there, with space for `expected` rows, and commits it empty.
    pub(super) fn create(path: &Path, header: &Header, expected: usize) -> Result<Self, TableError> {
        let file = super::reader::without_hdf5_locks().create(path)?;
        // The library makes a file with the usual permissions; opening it again follows the same path.
        let plain = fs::OpenOptions::new().write(true).open(path)?;
        header.write(&file)?;
        file.create_group(schema::LAYERS)?;
        file.create_group(schema::ERRORS)?;
        let mut layers = Vec::with_capacity(header.layers.len());
        for (index, layer) in header.layers.iter().enumerate() {
            let width = layer.width().ok_or_else(|| hdf5_metno::Error::from("a layer is too wide"))?;
            let rows = chunk_rows(LAYER_CHUNK_BYTES, width * size_of::<f32>(), expected);
            let dataset = new_dataset::<f32>(
                &file,
                &schema::layer_path(&layer.name),
                (0.., width).into(),
                &[rows, width],
                FillTime::Never,
            )?;
            layer.write(&dataset, index)?;
            layers.push(dataset);
        }
        let primary = format!("/{}", schema::layer_path(&header.layers[0].name));
        file.link_soft(&primary, schema::FEATURES)?;
        let complete = file.new_attr::<u8>().create(schema::COMPLETE)?;
        complete.write_scalar(&0_u8)?;
        let objects = Objects {
            layers,
            names: new_strings(&file, schema::IMAGE_NAMES, expected)?,
            labels: new_column::<i64>(&file, schema::LABELS, expected)?,
            sha256: new_column::<Sha256Hex>(&file, schema::SHA256, expected)?,
            error_names: new_strings(&file, schema::ERROR_NAME, ERROR_STEP)?,
            error_reasons: new_strings(&file, schema::ERROR_REASON, ERROR_STEP)?,
            rows: new_count(&file, schema::ROWS)?,
            error_rows: new_count(&file, schema::ERROR_ROWS)?,
            complete,
        };
        let mut table = Self { objects, file, plain, rows: 0, error_rows: 0, capacity: 0, error_capacity: 0 };
        table.reserve(expected, ERROR_STEP)?;
        table.commit()?;
        Ok(table)
    }

    /// Goes on with an open, checked file after its first `rows` rows and `error_rows` skipped images.
    pub(super) fn resume(
        path: &Path,
        file: File,
        layers: Vec<Dataset>,
        rows: usize,
        error_rows: usize,
        expected: usize,
    ) -> Result<Self, TableError> {
        let plain = fs::OpenOptions::new().write(true).open(path)?;
        let objects = Objects {
            layers,
            names: file.dataset(schema::IMAGE_NAMES)?,
            labels: file.dataset(schema::LABELS)?,
            sha256: file.dataset(schema::SHA256)?,
            error_names: file.dataset(schema::ERROR_NAME)?,
            error_reasons: file.dataset(schema::ERROR_REASON)?,
            rows: file.attr(schema::ROWS)?,
            error_rows: file.attr(schema::ERROR_ROWS)?,
            complete: file.attr(schema::COMPLETE)?,
        };
        forget_strings_after(&objects.names, rows)?;
        forget_strings_after(&objects.error_names, error_rows)?;
        forget_strings_after(&objects.error_reasons, error_rows)?;
        let shortest = |lengths: &mut dyn Iterator<Item = usize>| lengths.min().unwrap_or(0);
        let capacity = shortest(&mut objects.per_row().map(|dataset| dataset.shape()[0]));
        let error_capacity = shortest(&mut objects.per_error().map(|dataset| dataset.size()));
        // A run killed between finishing the file and renaming it leaves it marked as complete.
        objects.complete.write_scalar(&0_u8)?;
        let mut table = Self { objects, file, plain, rows, error_rows, capacity, error_capacity };
        table.reserve(expected, 0)?;
        table.commit()?;
        Ok(table)
    }

    /// Rows that have been appended, committed or not.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Appends without committing.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), TableError> {
        let end = self.rows + batch.names.len();
        let error_end = self.error_rows + batch.error_names.len();
        if end > self.capacity || error_end > self.error_capacity {
            // What was appended so far must not depend on the rearrangement that comes now.
            self.commit()?;
            let rows = if end > self.capacity { end + (end / 2).max(GROWTH_ROWS) } else { 0 };
            self.reserve(rows, error_end.next_multiple_of(ERROR_STEP))?;
        }
        let (to, rows, errors) = (&self.objects, self.rows..end, self.error_rows..error_end);
        if !rows.is_empty() {
            for (dataset, codes) in to.layers.iter().zip(&batch.codes) {
                let codes = ArrayView2::from_shape((rows.len(), codes.len() / rows.len()), codes)
                    .map_err(hdf5_metno::Error::from)?;
                dataset.write_slice(codes, s![rows.clone(), ..])?;
            }
            to.names.write_slice(&batch.names, rows.clone())?;
            to.labels.write_slice(&batch.labels, rows.clone())?;
            to.sha256.write_slice(&batch.sha256, rows)?;
        }
        if !errors.is_empty() {
            to.error_names.write_slice(&batch.error_names, errors.clone())?;
            to.error_reasons.write_slice(&batch.error_reasons, errors)?;
        }
        (self.rows, self.error_rows) = (end, error_end);
        Ok(())
    }

    /// Makes all appended rows safe against a kill of the process and a failure of the machine's power.
    pub(super) fn commit(&mut self) -> Result<(), TableError> {
        self.flush()?;
        self.plain.sync_data()?;
        self.objects.rows.write_scalar(&(self.rows as i64))?;
        self.objects.error_rows.write_scalar(&(self.error_rows as i64))?;
        self.flush()
    }

    /// Commits, cuts the reserved space off and marks the file as complete; only [`Table::close`] may follow.
    pub(super) fn finish(&mut self) -> Result<(), TableError> {
        self.commit()?;
        self.objects.resize(self.rows)?;
        self.objects.resize_errors(self.error_rows)?;
        self.flush()?;
        self.objects.complete.write_scalar(&1_u8)?;
        self.flush()
    }

    /// Closes the file and brings it to the disk.
    pub(super) fn close(self) -> Result<(), TableError> {
        let Self { objects, file, plain, .. } = self;
        // HDF5 closes a file with the last object in it, which must not happen unheard.
        drop(objects);
        file.close()?;
        Ok(plain.sync_all()?)
    }

    /// Closes the file after a failed write, leaving it on the disk as it is.
    ///
    /// HDF5 keeps what it could not write and writes it once more when the file is closed. On a full disk
    /// that would fail again, and might state a length that the file does not have. So the library's file
    /// descriptor is turned to the null device first: it closes in peace, and the last commit stands.
    pub(super) fn abandon(self) {
        if redirect_to_null(&self.file).is_err() {
            // Never closed, hence never written again; the process's end frees it.
            std::mem::forget(self);
        }
    }

    fn reserve(&mut self, rows: usize, error_rows: usize) -> Result<(), TableError> {
        if rows > self.capacity {
            self.objects.resize(rows)?;
            self.capacity = rows;
        }
        if error_rows > self.error_capacity {
            self.objects.resize_errors(error_rows)?;
            self.error_capacity = error_rows;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), TableError> {
        let stated = self.file.size();
        if self.plain.metadata()?.len() < stated {
            self.plain.set_len(stated)?;
        }
        Ok(self.file.flush()?)
    }
}

impl Objects {
    fn per_row(&self) -> impl Iterator<Item = &Dataset> {
        self.layers.iter().chain([&self.names, &self.labels, &self.sha256])
    }

    fn per_error(&self) -> impl Iterator<Item = &Dataset> {
        [&self.error_names, &self.error_reasons].into_iter()
    }

    fn resize(&self, rows: usize) -> hdf5_metno::Result<()> {
        self.per_row().try_for_each(|dataset| {
            let mut shape = dataset.shape();
            shape[0] = rows;
            dataset.resize(shape)
        })
    }

    fn resize_errors(&self, rows: usize) -> hdf5_metno::Result<()> {
        self.per_error().try_for_each(|dataset| dataset.resize(rows))
    }
}

fn chunk_rows(chunk_bytes: usize, row_bytes: usize, expected: usize) -> usize {
    (chunk_bytes / row_bytes).clamp(1, expected.max(MIN_CHUNK_ROWS))
}

fn new_dataset<T: H5Type>(
    at: &Group,
    name: &str,
    extents: Extents,
    chunk: &[usize],
    fill: FillTime,
) -> hdf5_metno::Result<Dataset> {
    at.new_dataset_builder()
        .chunk(chunk.to_vec())
        .alloc_time(Some(AllocTime::Early))
        .fill_time(fill)
        // Two runs over the same images shall give the same file.
        .obj_track_times(false)
        .empty::<T>()
        .shape(extents)
        .create(name)
}

/// A column whose elements are written before they are read, so that filling them first would be in vain.
fn new_column<T: H5Type>(at: &Group, name: &str, expected: usize) -> hdf5_metno::Result<Dataset> {
    let rows = chunk_rows(COLUMN_CHUNK_BYTES, size_of::<T>(), expected);
    new_dataset::<T>(at, name, (0..).into(), &[rows], FillTime::Never)
}

/// A column of strings; its references start as null, because HDF5 follows the one that it overwrites.
fn new_strings(at: &Group, name: &str, expected: usize) -> hdf5_metno::Result<Dataset> {
    let rows = chunk_rows(COLUMN_CHUNK_BYTES, STRING_REFERENCE, expected);
    new_dataset::<VarLenUnicode>(at, name, (0..).into(), &[rows], FillTime::IfSet)
}

fn new_count(file: &File, name: &str) -> hdf5_metno::Result<Attribute> {
    let attribute = file.new_attr::<i64>().create(name)?;
    attribute.write_scalar(&0_i64)?;
    Ok(attribute)
}

/// Nulls the references of a column of strings after its first `rows` elements.
///
/// They may stem from a killed run and point to strings that never reached the disk; HDF5 would follow and
/// free them before it overwrites them, and fail. The chunks are rewritten in place, past that machinery.
fn forget_strings_after(dataset: &Dataset, rows: usize) -> hdf5_metno::Result<()> {
    let chunk = dataset.chunk().and_then(|chunk| chunk.first().copied()).unwrap_or(0);
    if chunk == 0 {
        return Err("the dataset of strings is not chunked".into());
    }
    let mut bytes = vec![0_u8; chunk * STRING_REFERENCE];
    let first = rows - rows % chunk;
    for start in (first..dataset.size()).step_by(chunk) {
        let offset = start as hdf5_metno_sys::h5::hsize_t;
        let kept = rows.saturating_sub(start) * STRING_REFERENCE;
        bytes.fill(0);
        let _library = hdf5_metno_sys::LOCK.lock();
        let mut filters = 0_u32;
        // SAFETY: the library is locked, the id is that of an open one-dimensional dataset, `offset` has its
        // one dimension, and `bytes` is as large as one of its chunks: no filters, 16 bytes an element.
        unsafe {
            if kept > 0 {
                let buffer = bytes.as_mut_ptr().cast();
                check(H5Dread_chunk1(dataset.id(), H5P_DEFAULT, &offset, &mut filters, buffer))?;
                bytes[kept..].fill(0);
            }
            let (size, buffer) = (bytes.len(), bytes.as_ptr().cast());
            check(H5Dwrite_chunk(dataset.id(), H5P_DEFAULT, 0, &offset, size, buffer))?;
        }
    }
    Ok(())
}

fn check(status: hdf5_metno_sys::h5::herr_t) -> hdf5_metno::Result<()> {
    if status < 0 { Err(hdf5_metno::Error::query()?) } else { Ok(()) }
}

#[cfg(unix)]
fn redirect_to_null(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let _library = hdf5_metno_sys::LOCK.lock();
    let mut handle: *mut std::ffi::c_void = std::ptr::null_mut();
    // SAFETY: the library is locked, the id is that of an open file under the default driver, for which HDF5
    // gives the address of its file descriptor; `dup2` replaces that descriptor and touches nothing else.
    unsafe {
        let status = hdf5_metno_sys::h5f::H5Fget_vfd_handle(file.id(), H5P_DEFAULT, &mut handle);
        if status < 0 || handle.is_null() {
            return Err(io::Error::other("HDF5 does not tell its file descriptor"));
        }
        if libc::dup2(null.as_raw_fd(), *handle.cast::<libc::c_int>()) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn redirect_to_null(_file: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
