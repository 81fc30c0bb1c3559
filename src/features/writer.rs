//! Writing a features file: a sibling partial file, committed batch by batch, resumed after a crash, and
//! renamed onto the output when it is complete.

mod append_file;
mod batch;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crc32fast::Hasher as Crc32;

use super::checked_read::open_dataset;
use super::error::FeatureFileError;
use super::header::{FeatureFileHeader, check_format, read_attributes, read_header};
use super::journal::JournalContents;
use super::lock::RunLock;
use super::reader::open_hdf5;
use super::schema::{self, FeatureRow, PassedOverGroup, PlanPart, SkippedImage};
use super::strings::read_sha256;
use super::table::{CheckedBatch, Paths, Table, TableError};
use crate::files::{folder_of, sync_folder};
use batch::{ExpectedRows, SeenNames};

const PARTIAL: &str = ".partial";
const JOURNAL: &str = ".journal";
const RESERVING: &str = ".partial.new";
const LOCK: &str = ".lock";

/// Appended rows are committed this often, unless batches are farther apart. A commit waits for the disk.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// How an output is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// Whether an existing output may be replaced, which happens when the new one is complete.
    pub overwrite: bool,
    /// Rows at most, those of an interrupted run included. Space for them is reserved at the start, as a
    /// sparse file; what is not used of it is given back at the end.
    pub expected_rows: usize,
}

/// A row that an earlier, interrupted run has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedRow {
    /// The image's name.
    pub name: String,
    /// SHA-256 of the image file as it was then, in lower-case hexadecimal.
    pub sha256: String,
}

/// How [`FeatureWriter::open_or_create`] began.
#[derive(Debug)]
pub enum WriterStart {
    /// No partial file was there.
    New,
    /// A partial file is continued: these rows and skipped images are in it already, in this order.
    Resumed {
        /// The images that have rows, in their order.
        done: Vec<CommittedRow>,
        /// Those that could not be read.
        skipped: Vec<SkippedImage>,
    },
    /// A partial file was there but cannot be continued; it has been replaced by an empty one.
    Anew(NotResumed),
}

/// Why a partial file was not continued.
#[derive(Debug, thiserror::Error)]
pub enum NotResumed {
    /// It holds features under other settings; this names the first that differs.
    #[error("the interrupted run differs in {0}")]
    Differs(&'static str),
    /// It cannot be read.
    #[error("the partial file of the interrupted run cannot be read")]
    Damaged(#[source] Box<FeatureFileError>),
}

/// Writes one features file.
///
/// Rows go to `<output>.partial`, with the images' names in `<output>.journal` until the end; the output itself
/// appears, or is replaced, only in [`FeatureWriter::finish`].
/// A kill at any moment loses at most the rows since the last commit, which [`FeatureWriter::append`] makes
/// once a second, or with every batch if those take longer. Dropping the writer commits what it has and
/// leaves the partial file to be resumed.
///
/// ```
/// # use cnncodes::{feature_spec::FeatureSpec, images::{Preprocess, Preset}, network::{Pooling, Precision}};
/// # use cnncodes::features::{FeatureFile, FeatureWriter, FeatureFileHeader, StoredLayer, FeatureRow, WriteOptions};
/// # let folder = tempfile::tempdir()?;
/// # let output = folder.path().join("net-fc7.h5");
/// # let text = String::new;
/// # let preprocess = Preprocess::preset(Preset::Tf).ok_or("no preset")?;
/// let spec = FeatureSpec { layer: "fc7".into(), tensor: "relu7".into(), pooling: Pooling::None,
/// #     model_name: text(), model_sha256: text(), preprocess, precision: Precision::Fp32,
///     // and the network's name and hash, the preprocessing, the precision
/// };
/// # let header = FeatureFileHeader { program_version: text(), source: text(), runtime: text(), device: text(),
/// #     class_names: vec!["cat".into()], layers: vec![StoredLayer { spec, shape: vec![3] }] };
/// let mut writer = FeatureWriter::create(&output, &header, WriteOptions { overwrite: false, expected_rows: 1 })?;
/// let features: &[f32] = &[0.5, 0.0, 2.0];
/// let sha256 = "0".repeat(64);
/// let row =
///     FeatureRow { name: "cat/1.jpg", label: 0, sha256: &sha256, perceptual_hash: None, features: &[features] };
/// writer.append(&[row], &[])?;
/// writer.finish()?;
/// assert_eq!(FeatureFile::open(&output)?.read_layer(None)?.row(0).as_slice(), Some(features));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FeatureWriter {
    /// `None` after a failed write.
    table: Option<Table>,
    final_path: PathBuf,
    paths: Paths,
    overwrite: bool,
    header: FeatureFileHeader,
    names: SeenNames,
    passed_over: Vec<PassedOverGroup>,
    part: Option<PlanPart>,
    committed_rows: usize,
    committed_at: Instant,
    // Last, so that the file is closed before another run may open it.
    _lock: RunLock,
}

impl FeatureWriter {
    /// Starts a new file; a partial file of an earlier run is replaced. Missing parent folders are made.
    ///
    /// # Errors
    /// [`FeatureFileError::Exists`], [`FeatureFileError::Locked`], [`FeatureFileError::BadHeader`],
    /// [`FeatureFileError::CreateFolder`] and [`FeatureFileError::Create`].
    pub fn create(
        final_path: &Path,
        header: &FeatureFileHeader,
        options: WriteOptions,
    ) -> Result<Self, FeatureFileError> {
        let lock = prepare(final_path, header, options)?;
        let table = create_table(final_path, header, options)?;
        Ok(Self::with(table, lock, final_path, header, options))
    }

    /// Continues the partial file of an interrupted run where its header equals `header` in all that makes
    /// features comparable (model, preprocessing, layers, classes, source); else starts anew and says why.
    ///
    /// # Errors
    /// As [`FeatureWriter::create`].
    pub fn open_or_create(
        final_path: &Path,
        header: &FeatureFileHeader,
        options: WriteOptions,
    ) -> Result<(Self, WriterStart), FeatureFileError> {
        let lock = prepare(final_path, header, options)?;
        let paths = paths_of(final_path);
        let (table, start) = match read_interrupted(&paths, header) {
            Ok(None) => (create_table(final_path, header, options)?, WriterStart::New),
            Err(why) => (create_table(final_path, header, options)?, WriterStart::Anew(why)),
            Ok(Some((record, hashes))) => match Table::resume(&paths, &record, options.expected_rows) {
                Ok(table) => {
                    let names = record.names.into_iter().zip(hashes);
                    let done = names.map(|(name, sha256)| CommittedRow { name, sha256 }).collect();
                    (table, WriterStart::Resumed { done, skipped: record.skipped })
                }
                Err(error) => match error.damage() {
                    Ok(source) => {
                        let (path, object) = (paths.partial, "what a new row needs".into());
                        let why =
                            NotResumed::Damaged(Box::new(FeatureFileError::Damaged { path, object, source }));
                        (create_table(final_path, header, options)?, WriterStart::Anew(why))
                    }
                    Err(error) => {
                        let (path, rows) = (paths.partial, record.names.len() as u64);
                        return Err(FeatureFileError::Write { path, rows, source: error.into() });
                    }
                },
            },
        };
        let mut writer = Self::with(table, lock, final_path, header, options);
        if let WriterStart::Resumed { done, .. } = &start {
            writer.names = SeenNames::All(done.iter().map(|row| row.name.clone()).collect());
        }
        Ok((writer, start))
    }

    fn with(
        table: Table,
        lock: RunLock,
        final_path: &Path,
        header: &FeatureFileHeader,
        options: WriteOptions,
    ) -> Self {
        Self {
            committed_rows: table.rows(),
            table: Some(table),
            final_path: final_path.to_owned(),
            paths: paths_of(final_path),
            overwrite: options.overwrite,
            header: header.clone(),
            names: SeenNames::All(HashSet::new()),
            passed_over: Vec::new(),
            part: None,
            committed_at: Instant::now(),
            _lock: lock,
        }
    }

    /// Appends a batch of images and of images that could not be read.
    ///
    /// # Errors
    /// [`FeatureFileError::BadRow`] if a row does not fit the header or its name is there already; nothing of the
    /// batch is then stored and the writer remains usable. [`FeatureFileError::Write`] if the disk is full or
    /// fails; the partial file then keeps the rows that the error states, and the writer is of no more use.
    pub fn append(
        &mut self,
        rows: &[FeatureRow<'_>],
        skipped: &[SkippedImage],
    ) -> Result<(), FeatureFileError> {
        let fit = ExpectedRows { path: &self.final_path, header: &self.header };
        let batch = fit.batch(rows, skipped)?;
        let due = self.committed_at.elapsed() >= COMMIT_INTERVAL;
        self.append_batch(&batch, due).map(drop)
    }

    /// Gives the CRC-32 of what was written of each layer.
    fn append_batch(
        &mut self,
        batch: &CheckedBatch<'_>,
        commit: bool,
    ) -> Result<Vec<Crc32>, FeatureFileError> {
        let table =
            self.table.as_mut().ok_or(FeatureFileError::Failed { path: self.paths.partial.clone() })?;
        let bad = |name: &str, why: String| {
            let (path, name) = (self.final_path.clone(), name.to_owned());
            FeatureFileError::BadRow { path, name, why }
        };
        if let Some(surplus) = batch.names.get(table.capacity().saturating_sub(table.rows())) {
            let why = format!("there are more than the {} announced rows", table.capacity());
            return Err(bad(surplus, why));
        }
        if let Err(name) = self.names.add(&batch.names) {
            return Err(bad(name, "an image of this name is stored already".to_owned()));
        }
        let result = table.append(batch).and_then(|written| match commit {
            true => table.commit().map(|()| written),
            false => Ok(written),
        });
        self.settle(result, commit)
    }

    /// Says that names come in ascending order, of which the writer then remembers the last one only. A name that does not come
    /// after it is refused.
    pub fn expect_ascending_names(&mut self) {
        self.names = SeenNames::Ascending(String::new());
    }

    /// Records which files beside the images are none; it is written when the file is finished.
    ///
    /// # Errors
    /// [`FeatureFileError::BadRow`] if a text holds a NUL.
    pub fn pass_over(&mut self, files: &[PassedOverGroup]) -> Result<(), FeatureFileError> {
        if let Some(bad) =
            files.iter().find(|files| files.reason.contains('\0') || files.example.contains('\0'))
        {
            let (path, name) = (self.final_path.clone(), bad.example.clone());
            let why = "its name or reason holds a NUL character".to_owned();
            return Err(FeatureFileError::BadRow { path, name, why });
        }
        self.passed_over = files.to_vec();
        Ok(())
    }

    /// Records that the file is a part of a plan; it is written when the file is finished, with the CRC-32 of each layer's rows.
    pub fn mark_as_part(&mut self, part: &PlanPart) {
        self.part = Some(part.clone());
    }

    /// Makes all appended rows safe now.
    ///
    /// # Errors
    /// [`FeatureFileError::Write`] as [`FeatureWriter::append`].
    pub fn commit(&mut self) -> Result<(), FeatureFileError> {
        let table =
            self.table.as_mut().ok_or(FeatureFileError::Failed { path: self.paths.partial.clone() })?;
        let result = table.commit();
        self.settle(result, true)
    }

    /// Rows in the file so far, resumed ones included.
    pub fn rows(&self) -> usize {
        self.table.as_ref().map_or(self.committed_rows, Table::rows)
    }

    /// Marks the file as complete, brings it to the disk and renames it onto the output.
    ///
    /// # Errors
    /// [`FeatureFileError::Write`] as [`FeatureWriter::append`]; [`FeatureFileError::Exists`] if the output has come into
    /// being meanwhile and may not be replaced; [`FeatureFileError::Create`] if it cannot be renamed.
    pub fn finish(mut self) -> Result<(), FeatureFileError> {
        let mut table =
            self.table.take().ok_or(FeatureFileError::Failed { path: self.paths.partial.clone() })?;
        if let Err(error) = table.finish(&self.paths, &self.passed_over, self.part.as_ref()) {
            table.abandon();
            return Err(self.write_error(error));
        }
        self.committed_rows = table.rows();
        table.close().map_err(|error| self.write_error(error))?;
        if !self.overwrite && self.final_path.exists() {
            return Err(FeatureFileError::Exists { path: self.final_path.clone() });
        }
        let rename_error =
            |e: std::io::Error| FeatureFileError::Create { path: self.final_path.clone(), source: e.into() };
        fs::rename(&self.paths.partial, &self.final_path).map_err(rename_error)?;
        sync_folder(folder_of(&self.final_path)).map_err(rename_error)?;
        fs::remove_file(&self.paths.journal)
            .map_err(|e| FeatureFileError::Create { path: self.paths.journal.clone(), source: e.into() })
    }

    /// Gives the file up: what was written of it is removed, as far as that is possible.
    pub fn discard(mut self) {
        if let Some(table) = self.table.take() {
            table.abandon();
        }
        let _ = fs::remove_file(&self.paths.partial);
        let _ = fs::remove_file(&self.paths.journal);
    }

    fn settle<T>(&mut self, result: Result<T, TableError>, committed: bool) -> Result<T, FeatureFileError> {
        match result {
            Ok(done) => {
                if committed {
                    self.committed_at = Instant::now();
                    self.committed_rows = self.rows();
                }
                Ok(done)
            }
            Err(error) => {
                if let Some(table) = self.table.take() {
                    table.abandon();
                }
                Err(self.write_error(error))
            }
        }
    }

    fn write_error(&self, error: TableError) -> FeatureFileError {
        let (path, rows) = (self.paths.partial.clone(), self.committed_rows as u64);
        FeatureFileError::Write { path, rows, source: error.into() }
    }
}

impl Drop for FeatureWriter {
    fn drop(&mut self) {
        if let Some(mut table) = self.table.take() {
            // Best effort: a failure here loses no more than a kill at this point would.
            match table.commit() {
                Ok(()) => drop(table),
                Err(_) => table.abandon(),
            }
        }
    }
}

/// Checks the request, makes the folder and takes the lock: all that may fail before the slow work.
fn prepare(
    final_path: &Path,
    header: &FeatureFileHeader,
    options: WriteOptions,
) -> Result<RunLock, FeatureFileError> {
    header.validate().map_err(|why| FeatureFileError::BadHeader { path: final_path.to_owned(), why })?;
    if final_path.to_str().is_none() {
        return Err(FeatureFileError::PathNotUtf8 { path: final_path.to_owned() });
    }
    if final_path.is_dir() || final_path.file_name().is_none() {
        let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
        return Err(FeatureFileError::Create { path: final_path.to_owned(), source: source.into() });
    }
    if !options.overwrite && final_path.exists() {
        return Err(FeatureFileError::Exists { path: final_path.to_owned() });
    }
    let folder = folder_of(final_path);
    fs::create_dir_all(folder)
        .map_err(|source| FeatureFileError::CreateFolder { path: folder.to_owned(), source })?;
    RunLock::take(&sibling(final_path, LOCK), final_path)
}

fn create_table(
    final_path: &Path,
    header: &FeatureFileHeader,
    options: WriteOptions,
) -> Result<Table, FeatureFileError> {
    let paths = paths_of(final_path);
    Table::create(&paths, header, options.expected_rows)
        .map_err(|error| FeatureFileError::Create { path: paths.partial, source: error.into() })
}

/// What an interrupted run has committed under the same settings: its record, and the images' SHA-256.
fn read_interrupted(
    paths: &Paths,
    header: &FeatureFileHeader,
) -> Result<Option<(JournalContents, Vec<String>)>, NotResumed> {
    if !paths.partial.exists() {
        return Ok(None);
    }
    let path = &paths.partial;
    let read = || {
        let record = JournalContents::read(&paths.journal)
            .map_err(|source| FeatureFileError::Open { path: paths.journal.clone(), source })?;
        let file = open_hdf5(path)?;
        let attributes = read_attributes(&file, path)?;
        check_format(&attributes, path)?;
        let (found, layers) = read_header(&file, &attributes, path)?;
        // Runs of earlier versions left no place for it.
        open_dataset(&file, schema::PASSED_OVER_FILES, path)?;
        for (layer, dataset) in found.layers.iter().zip(layers) {
            let (found, expected) = (dataset.shape()[0], record.names.len() as u64);
            if found < expected {
                let (path, object) = (path.clone(), layer.spec.layer.clone());
                return Err(FeatureFileError::WrongLength { path, object, unit: "rows", found, expected });
            }
        }
        let hashes = open_dataset(&file, schema::SHA256, path)?;
        let hashes = read_sha256(&hashes, 0..record.names.len(), path, schema::SHA256)?;
        Ok((record, hashes, found))
    };
    let (record, hashes, found) =
        read().map_err(|error: FeatureFileError| NotResumed::Damaged(Box::new(error)))?;
    match header.difference(&found) {
        Some(what) => Err(NotResumed::Differs(what)),
        None => Ok(Some((record, hashes))),
    }
}

fn paths_of(final_path: &Path) -> Paths {
    Paths {
        partial: sibling(final_path, PARTIAL),
        journal: sibling(final_path, JOURNAL),
        reserving: sibling(final_path, RESERVING),
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
