//! A folder of Parquet files ("parts") that this program wrote, which together are what one features file is.
//!
//! What belongs to the rows is read when the folder is opened. The features stay in the files: they are decoded as they are asked
//! for, and a reader that goes through the rows in order decodes each once.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::ConvertError;
use super::batches::{ArrowColumns, guard, unreadable};
use super::columns::ColumnNames;
use super::feature_table::{FeatureTable, FoundTable, LabelOverrides, TableHeader, rows_of_block};
use super::parquet::{columns_of, open, read};
use crate::features::{FeatureFileHeader, PassedOverGroup, SkippedImage, StoredLayer};
use crate::images::PerceptualHash;

/// Readers that wait for the rows after those that they have read.
const MOST_IDLE: usize = 4;

/// What is in a folder of parts, in the order of their names.
pub(in crate::features) struct ParquetParts {
    pub(in crate::features) header: FeatureFileHeader,
    pub(in crate::features) names: Vec<String>,
    pub(in crate::features) labels: Vec<i64>,
    /// Empty where an image is not known.
    pub(in crate::features) sha256: Vec<String>,
    pub(in crate::features) hashes: Vec<Option<PerceptualHash>>,
    pub(in crate::features) errors: Vec<SkippedImage>,
    pub(in crate::features) passed_over: Vec<PassedOverGroup>,
    pub(in crate::features) features: ParquetRows,
}

/// The Parquet files of a folder that holds nothing else, by name, or the file itself; empty if it is neither. Names that begin with
/// `.` or `_` are left out, as data engines do.
pub(in crate::features) fn parts_of(path: &Path) -> Vec<PathBuf> {
    let is_parquet =
        |path: &Path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    if !path.is_dir() {
        return if is_parquet(path) { vec![path.to_owned()] } else { Vec::new() };
    }
    let shown =
        |path: &PathBuf| !path.file_name().unwrap_or_default().to_string_lossy().starts_with(['.', '_']);
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut parts: Vec<PathBuf> = entries.filter(shown).collect();
    parts.sort();
    if parts.iter().all(|part| is_parquet(part)) { parts } else { Vec::new() }
}

impl ParquetParts {
    /// Reads all of the parts but their features.
    ///
    /// # Errors
    /// A part cannot be read, another program wrote it, parts contradict each other, or there are no rows.
    pub(in crate::features) fn read(parts: &[PathBuf]) -> Result<Self, ConvertError> {
        let mut whole: Option<(PathBuf, Self)> = None;
        for path in parts {
            let part = Part::read(path)?;
            match &mut whole {
                None => whole = Some((path.clone(), part.into())),
                Some((first, whole)) => whole.add(part, path, first)?,
            }
        }
        let folder = || parts.first().cloned().unwrap_or_default();
        let (_, whole) = whole.ok_or_else(|| ConvertError::unusable(&folder(), "it has no features"))?;
        if whole.names.is_empty() {
            return Err(ConvertError::unusable(&folder(), "neither it nor another part has rows"));
        }
        let mut seen = HashMap::with_capacity(whole.names.len());
        for (row, name) in whole.names.iter().enumerate() {
            if let Some(first) = seen.insert(name, row) {
                let [first, second] = [first, row].map(|row| whole.features.place(row).display().to_string());
                let why =
                    format!("the row {name:?} of {first} is in {second} as well; remove one of the parts");
                return Err(ConvertError::unusable(whole.features.place(row), why));
            }
        }
        Ok(whole)
    }

    fn add(&mut self, part: Part, path: &Path, first: &Path) -> Result<(), ConvertError> {
        // What the user named as the source is no matter of the rows.
        let header = FeatureFileHeader { source: self.header.source.clone(), ..part.header };
        if let Some(what) = self.header.difference(&header) {
            let first = first.display();
            let why = format!("it differs from {first} in {what}; the parts of a folder belong together");
            return Err(ConvertError::unusable(path, why));
        }
        self.names.extend(part.names);
        self.labels.extend(part.labels);
        self.sha256.extend(part.sha256);
        self.hashes.extend(part.hashes);
        // Parts may each state what holds for all of them.
        let new: Vec<SkippedImage> =
            part.errors.into_iter().filter(|image| !self.errors.contains(image)).collect();
        self.errors.extend(new);
        let new = part.passed_over.into_iter().filter(|group| !self.passed_over.contains(group));
        let new: Vec<PassedOverGroup> = new.collect();
        self.passed_over.extend(new);
        self.features.parts.extend(part.file);
        Ok(())
    }
}

/// One file.
struct Part {
    header: FeatureFileHeader,
    names: Vec<String>,
    labels: Vec<i64>,
    sha256: Vec<String>,
    hashes: Vec<Option<PerceptualHash>>,
    errors: Vec<SkippedImage>,
    passed_over: Vec<PassedOverGroup>,
    /// `None` without rows.
    file: Option<PartFile>,
}

impl Part {
    fn read(path: &Path) -> Result<Self, ConvertError> {
        let found = read(path, &ColumnNames::default())?;
        if found.header.is_none() {
            let why = "another program wrote it; convert it to a features file (`cnncodes convert`)";
            return Err(ConvertError::unusable(path, why));
        }
        if found.rows == 0 {
            return Self::without_rows(found, path);
        }
        let mut progress = |_, _| ();
        let table = FeatureTable::of(found, &LabelOverrides::default(), &mut progress)?;
        let (columns, _) = columns_of(&open(path)?, &ColumnNames::default(), path)?;
        let rows = table.rows.count();
        let FeatureTable { header, errors, passed_over, rows: of_rows, .. } = table;
        Ok(Self {
            header,
            errors,
            passed_over,
            sha256: of_rows.sha256.unwrap_or_else(|| vec![String::new(); rows]),
            hashes: of_rows.hashes,
            names: of_rows.names,
            labels: of_rows.labels,
            file: Some(PartFile { path: path.to_owned(), columns, rows }),
        })
    }

    /// A part all of whose images could not be read.
    fn without_rows(found: FoundTable, path: &Path) -> Result<Self, ConvertError> {
        let header = found.header.ok_or_else(|| ConvertError::unusable(path, "it has no header"))?;
        let TableHeader { program_version, source, runtime, device, class_names, spec, shape, .. } = header;
        let layers = vec![StoredLayer { spec, shape }];
        Ok(Self {
            header: FeatureFileHeader { program_version, source, runtime, device, class_names, layers },
            names: Vec::new(),
            labels: Vec::new(),
            sha256: Vec::new(),
            hashes: Vec::new(),
            errors: header.errors,
            passed_over: header.passed_over,
            file: None,
        })
    }
}

impl From<Part> for ParquetParts {
    fn from(part: Part) -> Self {
        let width = part.header.layers[0].width().unwrap_or(1);
        let Part { header, names, labels, sha256, hashes, errors, passed_over, file } = part;
        let features = ParquetRows { parts: Vec::from_iter(file), width, idle: Mutex::default() };
        Self { header, names, labels, sha256, hashes, errors, passed_over, features }
    }
}

/// Where the features of a part lie.
struct PartFile {
    path: PathBuf,
    columns: ArrowColumns,
    rows: usize,
}

/// The features of all parts, one after the other. Any thread may read from them, at the same time as others.
pub(in crate::features) struct ParquetRows {
    parts: Vec<PartFile>,
    width: usize,
    /// Readers behind the rows that they have read.
    idle: Mutex<Vec<Cursor>>,
}

impl ParquetRows {
    /// The features of the rows `range`, row after row, into `out`, which is exactly their size.
    pub(in crate::features) fn read(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), ConvertError> {
        let (mut first, mut rest) = (0, out);
        for (index, part) in self.parts.iter().enumerate() {
            let rows = range.start.max(first)..range.end.min(first + part.rows);
            if !rows.is_empty() {
                let (values, after) = rest.split_at_mut(rows.len() * self.width);
                self.read_part(index, rows.start - first, values)?;
                rest = after;
            }
            first += part.rows;
        }
        Ok(())
    }

    /// The file that holds a row.
    fn place(&self, row: usize) -> &Path {
        let mut first = 0;
        let part = self.parts.iter().find(|part| {
            first += part.rows;
            row < first
        });
        part.map_or(Path::new(""), |part| &part.path)
    }

    fn read_part(&self, index: usize, start: usize, out: &mut [f32]) -> Result<(), ConvertError> {
        let mut cursor = match self.take_idle(index, start) {
            Some(cursor) => cursor,
            None => Cursor::open(index, &self.parts[index], start, self.width)?,
        };
        cursor.read(&self.parts[index], start, out, self.width)?;
        if cursor.next < self.parts[index].rows {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() == MOST_IDLE {
                idle.remove(0);
            }
            idle.push(cursor);
        }
        Ok(())
    }

    /// The reader that is nearest before a row, if reading on from there is no more work than to begin anew.
    fn take_idle(&self, part: usize, start: usize) -> Option<Cursor> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let near = |cursor: &Cursor| {
            cursor.part == part && cursor.next <= start && start - cursor.next <= rows_of_block(self.width)
        };
        let at = (0..idle.len()).filter(|&at| near(&idle[at])).max_by_key(|&at| idle[at].next)?;
        Some(idle.remove(at))
    }
}

/// A reader within a part.
struct Cursor {
    part: usize,
    reader: ParquetRecordBatchReader,
    /// The row that it gives next.
    next: usize,
    /// Features that were decoded.
    decoded: Vec<f32>,
    /// How many of them were given.
    used: usize,
}

impl Cursor {
    /// A reader that begins with a row.
    fn open(index: usize, part: &PartFile, start: usize, width: usize) -> Result<Self, ConvertError> {
        let builder = open(&part.path)?;
        let changed = || ConvertError::damaged(&part.path, "it has other rows than when it was opened");
        // Whole groups of rows before the first one are not looked at.
        let (mut group, mut before) = (0, 0_usize);
        for metadata in builder.metadata().row_groups() {
            let rows = usize::try_from(metadata.num_rows()).map_err(|_| changed())?;
            if before.saturating_add(rows) > start {
                break;
            }
            (group, before) = (group + 1, before + rows);
        }
        let groups: Vec<usize> = (group..builder.metadata().num_row_groups()).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), part.columns.feature_columns());
        let builder = builder.with_projection(mask).with_batch_size(rows_of_block(width));
        let builder = builder.with_row_groups(groups).with_offset(start - before);
        let reader = guard(&part.path, || builder.build().map_err(unreadable(&part.path)))?;
        Ok(Self { part: index, reader, next: start, decoded: Vec::new(), used: 0 })
    }

    /// The rows from `start` on, which is not before the next one.
    fn read(
        &mut self,
        part: &PartFile,
        start: usize,
        mut out: &mut [f32],
        width: usize,
    ) -> Result<(), ConvertError> {
        while !out.is_empty() {
            let there = (self.decoded.len() - self.used) / width;
            let skipped = start.saturating_sub(self.next).min(there);
            // None while rows before the first one are skipped.
            let taken = (out.len() / width).min(there - skipped);
            let from = self.used + skipped * width;
            let (now, later) = out.split_at_mut(taken * width);
            now.copy_from_slice(&self.decoded[from..from + taken * width]);
            out = later;
            self.used += (skipped + taken) * width;
            self.next += skipped + taken;
            if out.is_empty() {
                break;
            }
            let ended =
                || ConvertError::damaged(&part.path, format!("it ends before its {} rows", part.rows));
            let read = || self.reader.next().transpose().map_err(unreadable(&part.path));
            let batch = guard(&part.path, read)?.ok_or_else(ended)?;
            self.used = 0;
            let decoded = &mut self.decoded;
            decoded.clear();
            part.columns.each_block(&batch, self.next, width, &mut |values| {
                decoded.extend_from_slice(values);
                Ok(())
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
