//! The HDF5 objects of a partial file, and the order in which they are written.
//!
//! HDF5 does not write its metadata atomically: a kill in the middle of a flush that rearranges them can make
//! a file unreadable, or one on which the library itself hangs or crashes. Therefore no metadata change while
//! rows are written:
//!
//! 1. Space for all rows is reserved at the start, under another name, when there is nothing to lose
//!    ([`Table::create`]). From then on a row is written into chunks that the file's index knows already.
//!    If a resumed run has to reserve more, it does so in a copy.
//! 2. Strings, and what is safe, go to the [`Journal`]; a commit is written there after all its rows have been
//!    brought to the disk ([`Table::commit`]).
//! 3. The strings go into the file at its end ([`Table::finish`]). That only adds to what is there: the rows
//!    stay readable at every step of it.
//! 4. Before a flush the file is lengthened to the end that HDF5 is going to state, so that it is never shorter
//!    than it says.

use std::path::{Path, PathBuf};
use std::{fs, io};

use hdf5_metno::dataset::{AllocTime, FillTime};
use hdf5_metno::types::VarLenUnicode;
use hdf5_metno::{Attribute, Dataset, Extents, File, Group, H5Type};
use hdf5_metno_sys::h5d::H5Dwrite_chunk;
use hdf5_metno_sys::h5p::H5P_DEFAULT;
use ndarray17::{ArrayView2, s};

use super::Skipped;
use super::journal::{Journal, Record};
use super::schema::{self, Header};
use super::strings::{Sha256Hex, to_hdf5};

/// Size of a layer's chunk, if a row is not larger.
const LAYER_CHUNK_BYTES: usize = 512 << 10;
/// Size of a chunk of names, labels and the like.
const COLUMN_CHUNK_BYTES: usize = 64 << 10;
/// Chunks are no longer than the expected rows, but no shorter than this, in case a resumed run has more.
const MIN_CHUNK_ROWS: usize = 64;
/// Skipped images for which space is reserved.
const EXPECTED_ERRORS: usize = 1024;
/// Strings that are converted at a time, to bound what a million names need.
const STRING_BATCH: usize = 1 << 16;
/// Bytes of a reference to a variable-length string in the file: length, heap address and index.
const STRING_REFERENCE: usize = 16;

/// The files of an unfinished output.
pub(super) struct Paths {
    pub(super) partial: PathBuf,
    pub(super) journal: PathBuf,
    /// The partial file's name until its space is reserved.
    pub(super) reserving: PathBuf,
}

/// What an append writes, checked: one element a row in each column.
pub(super) struct Batch<'a> {
    pub(super) names: Vec<&'a str>,
    pub(super) labels: Vec<i64>,
    pub(super) sha256: Vec<Sha256Hex>,
    /// One matrix a layer, row by row.
    pub(super) codes: Vec<Vec<f32>>,
    pub(super) skipped: &'a [Skipped],
}

/// An open partial file. `Err` from any method that writes means that the file must be [`Table::abandon`]ed.
pub(super) struct Table {
    // Dropped before `file`: HDF5 closes a file after its objects.
    objects: Objects,
    file: File,
    /// The same file, opened beside HDF5 to set its length and to bring it to the disk.
    plain: fs::File,
    journal: Journal,
    rows: usize,
    skipped: usize,
    capacity: usize,
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
    pub(super) fn create(paths: &Paths, header: &Header, expected: usize) -> Result<Self, TableError> {
        // The old file goes before its journal, so that no journal is taken for that of another file.
        match fs::remove_file(&paths.partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let journal = Journal::create(&paths.journal)?;
        let file = super::reader::without_hdf5_locks().create(&paths.reserving)?;
        let plain = fs::OpenOptions::new().write(true).open(&paths.reserving)?;
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
            error_names: new_strings(&file, schema::ERROR_NAME, EXPECTED_ERRORS)?,
            error_reasons: new_strings(&file, schema::ERROR_REASON, EXPECTED_ERRORS)?,
            rows: new_count(&file, schema::ROWS)?,
            error_rows: new_count(&file, schema::ERROR_ROWS)?,
            complete,
        };
        let mut table = Self { objects, file, plain, journal, rows: 0, skipped: 0, capacity: 0 };
        table.objects.resize_errors(EXPECTED_ERRORS)?;
        table.reserve(expected)?;
        table.commit()?;
        fs::rename(&paths.reserving, &paths.partial)?;
        Ok(table)
    }

    /// Goes on with a checked file after the rows that its journal has recorded.
    pub(super) fn resume(paths: &Paths, record: &Record, expected: usize) -> Result<Self, TableError> {
        let mut table = Self::open(&paths.partial, paths, record)?;
        if expected > table.capacity {
            drop(table);
            fs::copy(&paths.partial, &paths.reserving)?;
            table = Self::open(&paths.reserving, paths, record)?;
            table.reserve(expected)?;
            table.plain.sync_data()?;
            fs::rename(&paths.reserving, &paths.partial)?;
        }
        Ok(table)
    }

    fn open(path: &Path, paths: &Paths, record: &Record) -> Result<Self, TableError> {
        let journal = Journal::resume(&paths.journal, record)?;
        let plain = fs::OpenOptions::new().write(true).open(path)?;
        let file = super::reader::without_hdf5_locks().open_rw(path)?;
        let layers = schema::layer_datasets(&file)?;
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
        // A run killed while it was finishing leaves strings, or references to them, and may have marked the
        // file as complete.
        for dataset in [&objects.names, &objects.error_names, &objects.error_reasons] {
            forget_strings(dataset)?;
        }
        objects.complete.write_scalar(&0_u8)?;
        let capacity = objects.per_row().map(|dataset| dataset.shape()[0]).min().unwrap_or(0);
        let (rows, skipped) = (record.names.len(), record.skipped.len());
        let mut table = Self { objects, file, plain, journal, rows, skipped, capacity };
        table.flush()?;
        Ok(table)
    }

    /// Rows that have been appended, committed or not.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows for which there is space.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends without committing; the rows must fit into the capacity.
    pub(super) fn append(&mut self, batch: &Batch<'_>) -> Result<(), TableError> {
        let end = self.rows + batch.names.len();
        let (to, rows) = (&self.objects, self.rows..end);
        if !rows.is_empty() {
            for (dataset, codes) in to.layers.iter().zip(&batch.codes) {
                let codes = ArrayView2::from_shape((rows.len(), codes.len() / rows.len()), codes)
                    .map_err(hdf5_metno::Error::from)?;
                dataset.write_slice(codes, s![rows.clone(), ..])?;
            }
            to.labels.write_slice(&batch.labels, rows.clone())?;
            to.sha256.write_slice(&batch.sha256, rows)?;
        }
        batch.names.iter().try_for_each(|name| self.journal.add_image(name))?;
        batch.skipped.iter().try_for_each(|image| self.journal.add_skipped(image))?;
        self.rows = end;
        self.skipped += batch.skipped.len();
        Ok(())
    }

    /// Makes all appended rows safe against a kill of the process and a failure of the machine's power.
    pub(super) fn commit(&mut self) -> Result<(), TableError> {
        self.flush()?;
        self.plain.sync_data()?;
        Ok(self.journal.commit(self.rows, self.skipped)?)
    }

    /// Commits, writes the strings from the journal, cuts the reserved space off and marks the file as
    /// complete; only [`Table::close`] may follow.
    pub(super) fn finish(&mut self, paths: &Paths) -> Result<(), TableError> {
        self.commit()?;
        let record = Record::read(&paths.journal)?;
        let to = &self.objects;
        to.resize(record.names.len())?;
        to.resize_errors(record.skipped.len())?;
        write_strings(&to.names, record.names.iter().map(String::as_str))?;
        write_strings(&to.error_names, record.skipped.iter().map(|image| image.name.as_str()))?;
        write_strings(&to.error_reasons, record.skipped.iter().map(|image| image.reason.as_str()))?;
        to.rows.write_scalar(&(record.names.len() as i64))?;
        to.error_rows.write_scalar(&(record.skipped.len() as i64))?;
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

    fn reserve(&mut self, rows: usize) -> Result<(), TableError> {
        self.objects.resize(rows)?;
        self.capacity = rows;
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

/// Writes a whole column of strings that has the right length already.
fn write_strings<'a>(dataset: &Dataset, texts: impl Iterator<Item = &'a str>) -> hdf5_metno::Result<()> {
    let mut texts = texts.peekable();
    let mut start = 0;
    while texts.peek().is_some() {
        let batch: Option<Vec<_>> = texts.by_ref().take(STRING_BATCH).map(to_hdf5).collect();
        let batch = batch.ok_or("a string holds a NUL")?;
        dataset.write_slice(&batch, start..start + batch.len())?;
        start += batch.len();
    }
    Ok(())
}

/// Nulls all references of a column of strings.
///
/// They may stem from a killed run and point to strings that never reached the disk; HDF5 would follow and
/// free them before it overwrites them, and fail. The chunks are rewritten in place, past that machinery.
fn forget_strings(dataset: &Dataset) -> hdf5_metno::Result<()> {
    let chunk = dataset.chunk().and_then(|chunk| chunk.first().copied()).unwrap_or(0);
    if chunk == 0 {
        return Err("the dataset of strings is not chunked".into());
    }
    let nulls = vec![0_u8; chunk * STRING_REFERENCE];
    let (size, buffer) = (nulls.len(), nulls.as_ptr().cast());
    for start in (0..dataset.size()).step_by(chunk) {
        let offset = start as hdf5_metno_sys::h5::hsize_t;
        let _library = hdf5_metno_sys::LOCK.lock();
        // SAFETY: the library is locked, the id is that of an open one-dimensional dataset, `offset` has its
        // one dimension, and `buffer` is as large as one of its chunks: no filters, 16 bytes an element.
        let status = unsafe { H5Dwrite_chunk(dataset.id(), H5P_DEFAULT, 0, &offset, size, buffer) };
        if status < 0 {
            return Err(hdf5_metno::Error::query()?);
        }
    }
    Ok(())
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
