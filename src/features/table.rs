//! The HDF5 objects of a partial file, and the order in which they are written.
//!
//! HDF5 does not write its metadata atomically: a kill in the middle of a flush that rearranges them can make
//! a file unreadable, or one on which the library itself hangs or crashes. Therefore no metadata change while
//! rows are written:
//!
//! 1. Space for all rows is reserved at the start, under another name, when there is nothing to lose
//!    ([`Table::create`]). From then on a row is written into chunks that the file's index knows already; those of layers are
//!    written past HDF5 ([`super::raw_rows`]).
//!    If a resumed run has to reserve more, it does so in a copy.
//! 2. Strings, and what is safe, go to the [`Journal`]; a commit is written there after all its rows have been
//!    brought to the disk ([`Table::commit`]).
//! 3. The strings go into the file at its end ([`Table::finish`]). That only adds to what is there: the rows
//!    stay readable at every step of it.
//! 4. Before a flush the file is lengthened to the end that HDF5 is going to state, so that it is never shorter
//!    than it says.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crc32fast::Hasher as Crc32;
use hdf5_metno::{Dataset, File, FileBuilder};
use hdf5_metno_sys::h5p::H5P_DEFAULT;
use ndarray17::{ArrayView2, s};

use super::SkippedImage;
use super::background_sync::BackgroundSync;
use super::hdf5_objects::{Hdf5Objects, forget_strings, write_strings};
use super::header::{FeatureFileHeader, write_text};
use super::journal::{self, Journal, JournalContents, JournalEntry};
use super::raw_rows::{RowValues, places_of, write_rows};
use super::schema::{CRC32, HASH_BYTES, PLAN_ID, PLAN_PART, PassedOverGroup, PlanPart};
use super::strings::Sha256Hex;
use crate::hdf5::{Hdf5Error, RowPlaces};

/// The files of an unfinished output.
pub(super) struct Paths {
    pub(super) partial: PathBuf,
    pub(super) journal: PathBuf,
    /// The partial file's name until its space is reserved.
    pub(super) reserving: PathBuf,
}

/// What an append writes, checked: one element a row in each column.
pub(super) struct CheckedBatch<'a> {
    pub(super) names: Vec<&'a str>,
    pub(super) labels: Vec<i64>,
    pub(super) sha256: Vec<Sha256Hex>,
    /// One after another; zeros where there is none.
    pub(super) hashes: Vec<u8>,
    /// One a layer.
    pub(super) features: Vec<RowValues<'a>>,
    pub(super) skipped: &'a [SkippedImage],
}

/// An open partial file. `Err` from any method that writes means that the file must be [`Table::abandon`]ed.
pub(super) struct Table {
    // Dropped before `file`: HDF5 closes a file after its objects.
    objects: Hdf5Objects,
    file: File,
    /// The same file, opened beside HDF5 to write the layers' rows, to set its length and to bring it to the disk.
    plain: fs::File,
    /// Where the rows of each layer lie in it.
    places: Vec<RowPlaces>,
    background: BackgroundSync,
    /// CRC-32 of each layer's rows so far; `None` if another run wrote some of them.
    checksums: Option<Vec<Crc32>>,
    journal: Journal,
    rows: usize,
    skipped: usize,
    capacity: usize,
}

/// What HDF5, the file beside it or the look for the places of the rows ran into.
pub(super) enum TableError {
    Hdf5(hdf5_metno::Error),
    Io(io::Error),
    Places(Hdf5Error),
}

impl TableError {
    /// The damage to the file that the error speaks of; else the error, which then stems from the disk or its permissions.
    pub(super) fn damage(self) -> Result<Hdf5Error, Self> {
        match self {
            Self::Hdf5(error) if !super::error::is_of_system(&error) => {
                Ok(Hdf5Error::damaged("the file", error.to_string()))
            }
            Self::Places(Hdf5Error::Io(error)) => Err(Self::Io(error)),
            Self::Places(error) => Ok(error),
            error => Err(error),
        }
    }
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

impl From<Hdf5Error> for TableError {
    fn from(error: Hdf5Error) -> Self {
        Self::Places(error)
    }
}

impl From<TableError> for Box<dyn std::error::Error + Send + Sync> {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Hdf5(error) => super::error::cause(error),
            TableError::Io(error) => error.into(),
            TableError::Places(error) => error.into(),
        }
    }
}

impl Table {
    /// Makes the file anew, replacing what is there, with space for `expected` rows, and commits it empty.
    pub(super) fn create(
        paths: &Paths,
        header: &FeatureFileHeader,
        expected: usize,
    ) -> Result<Self, TableError> {
        // The old file goes before its journal, so that no journal is taken for that of another file.
        match fs::remove_file(&paths.partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        Journal::create(&paths.journal)?;
        let file = without_hdf5_locks().create(&paths.reserving)?;
        let plain = fs::OpenOptions::new().write(true).open(&paths.reserving)?;
        let made = Hdf5Objects::create(&file, header, expected).map_err(TableError::from);
        if let Err(error) = made.and_then(|()| flush(&file, &plain)) {
            discard(file, None);
            // Best effort: the next run replaces it.
            let _ = fs::remove_file(&paths.reserving);
            return Err(error);
        }
        // Closed and opened again, so that HDF5 forgets where there is room left among the header's strings:
        // later strings shall not be added to what the header needs.
        file.close()?;
        let mut table = Self::open(&paths.reserving, paths, &JournalContents::default())?;
        if let Err(error) = table.commit() {
            table.abandon();
            return Err(error);
        }
        fs::rename(&paths.reserving, &paths.partial)?;
        Ok(table)
    }

    /// Goes on with a checked file after the rows that its journal has recorded.
    pub(super) fn resume(
        paths: &Paths,
        record: &JournalContents,
        expected: usize,
    ) -> Result<Self, TableError> {
        let mut table = Self::open(&paths.partial, paths, record)?;
        if expected > table.capacity {
            drop(table);
            fs::copy(&paths.partial, &paths.reserving)?;
            table = Self::open(&paths.reserving, paths, record)?;
            if let Err(error) = table.reserve(expected, &paths.reserving) {
                table.abandon();
                let _ = fs::remove_file(&paths.reserving);
                return Err(error);
            }
            fs::rename(&paths.reserving, &paths.partial)?;
        }
        Ok(table)
    }

    fn open(path: &Path, paths: &Paths, record: &JournalContents) -> Result<Self, TableError> {
        let journal = Journal::resume(&paths.journal, record)?;
        let plain = fs::OpenOptions::new().write(true).open(path)?;
        let file = without_hdf5_locks().open_rw(path)?;
        let objects = Hdf5Objects::open(&file)?;
        let places = places_of(path, &objects.layers)?;
        // A run killed while it was finishing leaves strings, or references to them, and may have marked the
        // file as complete.
        for dataset in objects.strings() {
            forget_strings(dataset)?;
        }
        objects.complete.write_scalar(&0_u8)?;
        let capacity = objects.per_row().map(|dataset| dataset.shape()[0]).min().unwrap_or(0);
        let (rows, skipped) = (record.names.len(), record.skipped.len());
        let checksums = (rows == 0).then(|| vec![Crc32::new(); places.len()]);
        let background = BackgroundSync::default();
        Ok(Self { objects, file, plain, places, background, checksums, journal, rows, skipped, capacity })
    }

    /// Rows that have been appended, committed or not.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows for which there is space.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends without committing; the rows must fit into the capacity. Gives the CRC-32 of what was written of each layer.
    pub(super) fn append(&mut self, batch: &CheckedBatch<'_>) -> Result<Vec<Crc32>, TableError> {
        let mut written = vec![Crc32::new(); self.places.len()];
        let end = self.rows + batch.names.len();
        let (to, rows) = (&self.objects, self.rows..end);
        if !rows.is_empty() {
            for ((places, values), checksum) in self.places.iter().zip(&batch.features).zip(&mut written) {
                *checksum = write_rows(&self.plain, places, &rows, values)?;
                self.background.written(&self.plain, rows.len() as u64 * places.row_bytes())?;
            }
            to.labels.write_slice(&batch.labels, rows.clone())?;
            to.sha256.write_slice(&batch.sha256, rows.clone())?;
            if let Some(dataset) = &to.hashes {
                let hashes = ArrayView2::from_shape((rows.len(), HASH_BYTES), &batch.hashes)
                    .map_err(hdf5_metno::Error::from)?;
                dataset.write_slice(hashes, s![rows, ..])?;
            }
        }
        batch.names.iter().try_for_each(|name| self.journal.add_image(name))?;
        batch.skipped.iter().try_for_each(|image| self.journal.add_skipped(image))?;
        self.rows = end;
        self.skipped += batch.skipped.len();
        for (all, written) in self.checksums.iter_mut().flatten().zip(&written) {
            all.combine(written);
        }
        Ok(written)
    }

    /// Makes all appended rows safe against a kill of the process and a failure of the machine's power.
    pub(super) fn commit(&mut self) -> Result<(), TableError> {
        self.flush()?;
        self.background.wait()?;
        self.plain.sync_data()?;
        self.background = BackgroundSync::default();
        Ok(self.journal.commit(self.rows, self.skipped)?)
    }

    /// Commits, writes the strings from the journal, cuts the reserved space off and marks the file as
    /// complete; only [`Table::close`] may follow.
    pub(super) fn finish(
        &mut self,
        paths: &Paths,
        passed_over: &[PassedOverGroup],
        part: Option<&PlanPart>,
    ) -> Result<(), TableError> {
        self.commit()?;
        let to = &self.objects;
        to.resize(self.rows)?;
        to.resize_errors(self.skipped)?;
        let name = |entry| match entry {
            JournalEntry::Image(name) => Some(name),
            _ => None,
        };
        let name_of_skipped = |entry| match entry {
            JournalEntry::Skipped { name, .. } => Some(name),
            _ => None,
        };
        let reason = |entry| match entry {
            JournalEntry::Skipped { reason, .. } => Some(reason),
            _ => None,
        };
        write_from_journal(&to.names, &paths.journal, self.rows, name)?;
        write_from_journal(&to.error_names, &paths.journal, self.skipped, name_of_skipped)?;
        write_from_journal(&to.error_reasons, &paths.journal, self.skipped, reason)?;
        to.write_passed_over(passed_over)?;
        if let Some(part) = part {
            write_text(&self.file, PLAN_ID, &part.plan)?;
            self.file.new_attr::<u64>().create(PLAN_PART)?.write_scalar(&part.part)?;
            for (layer, checksum) in to.layers.iter().zip(self.checksums.iter().flatten()) {
                layer.new_attr::<u32>().create(CRC32)?.write_scalar(&checksum.clone().finalize())?;
            }
        }
        to.rows.write_scalar(&(self.rows as i64))?;
        to.error_rows.write_scalar(&(self.skipped as i64))?;
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
        let Self { objects, file, .. } = self;
        discard(file, Some(objects));
    }

    fn reserve(&mut self, rows: usize, path: &Path) -> Result<(), TableError> {
        self.objects.resize(rows)?;
        self.capacity = rows;
        self.flush()?;
        self.places = places_of(path, &self.objects.layers)?;
        Ok(self.plain.sync_data()?)
    }

    fn flush(&self) -> Result<(), TableError> {
        flush(&self.file, &self.plain)
    }
}

/// Writes a column of strings, of which the journal at `path` holds `count`, without holding all of them in memory.
fn write_from_journal(
    column: &Dataset,
    path: &Path,
    count: usize,
    text: impl Fn(JournalEntry) -> Option<String>,
) -> Result<(), TableError> {
    if count == 0 {
        return Ok(());
    }
    let mut failed = None;
    let mut texts = journal::entries(path)?
        .map_while(|entry| entry.map_err(|error| failed = Some(error)).ok())
        .filter_map(text);
    let written = write_strings(column, &mut texts)?;
    drop(texts);
    match failed {
        Some(error) => Err(error.into()),
        None if written == count => Ok(()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "its journal lacks names").into()),
    }
}

/// Opens files without HDF5's own locks: some network file systems have none, and child processes inherit
/// them. [`RunLock`](super::lock::RunLock) keeps writers apart.
fn without_hdf5_locks() -> FileBuilder {
    let mut builder = FileBuilder::new();
    builder.with_fapl(|access| access.file_locking(false));
    builder
}

/// Writes what HDF5 holds in memory, into a file that is long enough for it.
fn flush(file: &File, plain: &fs::File) -> Result<(), TableError> {
    let stated = file.size();
    if plain.metadata()?.len() < stated {
        plain.set_len(stated)?;
    }
    Ok(file.flush()?)
}

/// Closes a file of which a write has failed without letting HDF5 write to it again.
fn discard(file: File, objects: Option<Hdf5Objects>) {
    if redirect_to_null(&file).is_err() {
        // Never closed, hence never written again; the process's end frees it.
        std::mem::forget((file, objects));
    } else {
        drop(objects);
        drop(file);
    }
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
