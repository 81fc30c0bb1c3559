//! Reading a file of codes, trusting nothing in it: everything is checked once, when it is opened.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hdf5_metno::types::TypeDescriptor;
use hdf5_metno::{Dataset, File, FileBuilder, H5Type, MinorErrorCode};
use ndarray::Array2;

use super::schema::{self, HASH_BYTES, Header, LayerSpec, Skipped, column_length, open_dataset, read_number};
use super::strings::{is_type, read_sha256, read_strings};
use super::{CodesError, chunks, escape_layer_name};

/// Values that are read at a time where a whole layer is only looked through: 4 MiB.
const SCAN_VALUES: usize = 1 << 20;

/// An open, complete file of codes. Codes are read on demand, all else when it is opened.
pub struct CodesFile {
    contents: Contents,
    path: PathBuf,
    // Last, so that it is closed after its datasets.
    _file: File,
}

/// A value that is not a number or infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct NonFinite {
    /// Row in the layer.
    pub row: usize,
    /// Index within the row.
    pub column: usize,
    /// Name of the row's image.
    pub image: String,
    /// The value itself.
    pub value: f32,
}

/// All of a file but the codes, checked.
struct Contents {
    header: Header,
    layers: Vec<Dataset>,
    /// For each layer the rows of a chunk, where chunks can be read as they lie in the file.
    chunk_rows: Vec<Option<usize>>,
    image_names: Vec<String>,
    labels: Vec<i64>,
    sha256: Vec<String>,
    /// Empty where the file has none.
    hashes: Vec<[u8; HASH_BYTES]>,
    skipped: Vec<Skipped>,
}

impl CodesFile {
    /// Opens a complete file of codes and checks all of it but the codes' values.
    ///
    /// # Errors
    /// A [`CodesError`] of its own for each thing that can be wrong; see there.
    pub fn open(path: &Path) -> Result<Self, CodesError> {
        let file = open_hdf5(path)?;
        schema::check_format(&file, path)?;
        if read_number::<u8>(&file, schema::COMPLETE, path)? != 1 {
            return Err(CodesError::Incomplete { path: path.to_owned() });
        }
        let contents = Contents::read(&file, path)?;
        Ok(Self { contents, path: path.to_owned(), _file: file })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says about itself.
    pub fn header(&self) -> &Header {
        &self.contents.header
    }

    /// The stored layers, the primary one first; never empty.
    pub fn layers(&self) -> &[LayerSpec] {
        &self.contents.header.layers
    }

    /// Number of images, that is of rows in each layer.
    pub fn rows(&self) -> usize {
        self.contents.image_names.len()
    }

    /// Names of the images, one a row, each unique.
    pub fn image_names(&self) -> &[String] {
        &self.contents.image_names
    }

    /// Index into [`CodesFile::class_names`] or -1, one a row.
    pub fn labels(&self) -> &[i64] {
        &self.contents.labels
    }

    /// Names of the classes, each unique.
    pub fn class_names(&self) -> &[String] {
        &self.contents.header.class_names
    }

    /// SHA-256 of the image files in lower-case hexadecimal, one a row.
    pub fn sha256(&self) -> &[String] {
        &self.contents.sha256
    }

    /// Perceptual hash of the pixels of a row's image; `None` where the file does not tell it, as files of older programs
    /// do not.
    pub fn perceptual_hash(&self, row: usize) -> Option<[u8; 32]> {
        self.contents.hashes.get(row).copied().filter(|hash| *hash != [0; HASH_BYTES])
    }

    /// The images that could not be read, and why.
    pub fn errors(&self) -> &[Skipped] {
        &self.contents.skipped
    }

    /// The layer of that name (its own or its dataset's), or the primary one.
    ///
    /// # Errors
    /// [`CodesError::NoSuchLayer`], which lists those that there are.
    pub fn layer(&self, name: Option<&str>) -> Result<&LayerSpec, CodesError> {
        Ok(&self.layers()[self.index(name)?])
    }

    /// All codes of a layer, as rows x width. `None` is the primary layer.
    ///
    /// # Errors
    /// [`CodesError::NoSuchLayer`], or [`CodesError::Damaged`] if HDF5 cannot read them.
    pub fn read_layer(&self, name: Option<&str>) -> Result<Array2<f32>, CodesError> {
        let index = self.index(name)?;
        let (object, dataset) = self.dataset(index);
        let damaged = CodesError::damaged(&self.path, object.as_str());
        let values = dataset.read_raw::<f32>().map_err(damaged)?;
        let (found, expected) = (values.len(), self.rows() * self.width(index));
        Array2::from_shape_vec((self.rows(), self.width(index)), values).map_err(|_| {
            CodesError::WrongLength { path: self.path.clone(), object, unit: "values", found, expected }
        })
    }

    /// Codes of the rows `range` of a layer, row after row, into `out`.
    ///
    /// # Errors
    /// [`CodesError::BadRange`] if the rows do not exist or `out` is not exactly their size;
    /// [`CodesError::NoSuchLayer`]; [`CodesError::Damaged`] if HDF5 cannot read them.
    pub fn read_rows(
        &self,
        name: Option<&str>,
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), CodesError> {
        let index = self.index(name)?;
        let fits = range.start <= range.end
            && range.end <= self.rows()
            && range.len().checked_mul(self.width(index)) == Some(out.len());
        if !fits {
            let (path, rows, buffer) = (self.path.clone(), self.rows(), out.len());
            return Err(CodesError::BadRange { path, start: range.start, end: range.end, rows, buffer });
        }
        if range.is_empty() {
            return Ok(());
        }
        let (object, dataset) = self.dataset(index);
        let chunk = self.contents.chunk_rows[index];
        chunks::read_rows(dataset, chunk, range, out)
            .map_err(CodesError::damaged(&self.path, object.as_str()))
    }

    /// The number of rows such that ranges between its multiples are the fastest to read.
    ///
    /// # Errors
    /// [`CodesError::NoSuchLayer`].
    pub fn rows_at_once(&self, name: Option<&str>) -> Result<usize, CodesError> {
        Ok(self.contents.chunk_rows[self.index(name)?].unwrap_or(1))
    }

    /// The first value of a layer that is not a number or infinite, with the image it belongs to.
    ///
    /// # Errors
    /// As [`CodesFile::read_rows`].
    pub fn first_non_finite(&self, name: Option<&str>) -> Result<Option<NonFinite>, CodesError> {
        let width = self.width(self.index(name)?);
        let step = (SCAN_VALUES / width).max(1);
        let mut values = vec![0.0; step.min(self.rows()) * width];
        for start in (0..self.rows()).step_by(step) {
            let end = self.rows().min(start + step);
            let values = &mut values[..(end - start) * width];
            self.read_rows(name, start..end, values)?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, column) = (start + at / width, at % width);
                let image = self.image_names()[row].clone();
                return Ok(Some(NonFinite { row, column, image, value: values[at] }));
            }
        }
        Ok(None)
    }

    fn index(&self, name: Option<&str>) -> Result<usize, CodesError> {
        let Some(name) = name else { return Ok(0) };
        let own = self.layers().iter().position(|layer| layer.name == name);
        let escaped = || self.layers().iter().position(|layer| escape_layer_name(&layer.name) == name);
        own.or_else(escaped).ok_or_else(|| CodesError::NoSuchLayer {
            path: self.path.clone(),
            layer: name.to_owned(),
            available: self.layers().iter().map(|layer| layer.name.clone()).collect(),
        })
    }

    fn dataset(&self, index: usize) -> (String, &Dataset) {
        (format!("/{}", schema::layer_path(&self.layers()[index].name)), &self.contents.layers[index])
    }

    fn width(&self, index: usize) -> usize {
        // Checked against the dataset when it was opened, and never 0.
        self.layers()[index].width().unwrap_or(1)
    }
}

impl Contents {
    fn read(file: &File, path: &Path) -> Result<Self, CodesError> {
        let rows = read_count(file, schema::ROWS, path)?;
        let error_rows = read_count(file, schema::ERROR_ROWS, path)?;
        let (header, layers) = schema::read_header(file, path)?;
        for (dataset, layer) in layers.iter().zip(&header.layers) {
            check_length(dataset.shape()[0], rows, path, &schema::layer_path(&layer.name))?;
        }
        if !file.link_exists(schema::FEATURES) {
            return Err(CodesError::missing(path, "the link /features"));
        }
        let column = |name: &str, rows: usize| {
            let dataset = open_dataset(file, name, path)?;
            check_length(column_length(&dataset, name, path)?, rows, path, name)?;
            Ok::<_, CodesError>(dataset)
        };
        let texts = |name: &str, rows: usize| read_strings(&column(name, rows)?, 0..rows, path, name);
        let image_names = texts(schema::IMAGE_NAMES, rows)?;
        let mut seen = HashSet::with_capacity(rows);
        if let Some(name) = image_names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(CodesError::DuplicateImage { path: path.to_owned(), name: name.clone() });
        }
        let labels = read_labels(&column(schema::LABELS, rows)?, rows, header.class_names.len(), path)?;
        let sha256 = read_sha256(&column(schema::SHA256, rows)?, 0..rows, path, schema::SHA256)?;
        let hashes = match file.link_exists(schema::PERCEPTUAL_HASH) {
            true => read_hashes(&open_dataset(file, schema::PERCEPTUAL_HASH, path)?, rows, path)?,
            false => Vec::new(),
        };
        let reasons = texts(schema::ERROR_REASON, error_rows)?;
        let skipped = texts(schema::ERROR_NAME, error_rows)?
            .into_iter()
            .zip(reasons)
            .map(|(name, reason)| Skipped { name, reason })
            .collect();
        let chunk_rows = layers.iter().map(chunks::rows_of_chunk).collect();
        Ok(Self { header, layers, chunk_rows, image_names, labels, sha256, hashes, skipped })
    }
}

/// Opens an HDF5 file, telling apart the ways in which it may not be one.
pub(super) fn open_hdf5(path: &Path) -> Result<File, CodesError> {
    let open = |source| CodesError::Open { path: path.to_owned(), source };
    if path.to_str().is_none() {
        return Err(CodesError::PathNotUtf8 { path: path.to_owned() });
    }
    // Opened once without HDF5, whose errors do not tell a missing file from a forbidden one.
    let metadata = std::fs::File::open(path).and_then(|file| file.metadata()).map_err(open)?;
    if metadata.is_dir() {
        return Err(open(std::io::ErrorKind::IsADirectory.into()));
    }
    without_hdf5_locks().open(path).map_err(|source| {
        let path = path.to_owned();
        if source.contains_minor(MinorErrorCode::NotHdf5) {
            CodesError::NotHdf5 { path }
        } else if source.contains_minor(MinorErrorCode::Truncated) {
            CodesError::Truncated { path, source }
        } else {
            CodesError::Damaged { path, object: "its header".to_owned(), source }
        }
    })
}

/// Opens files without HDF5's own locks: some network file systems have none, and child processes inherit
/// them. [`RunLock`](super::lock::RunLock) keeps writers apart, and nothing writes to a complete file.
pub(super) fn without_hdf5_locks() -> FileBuilder {
    let mut builder = FileBuilder::new();
    builder.with_fapl(|access| access.file_locking(false));
    builder
}

fn read_count(file: &File, name: &str, path: &Path) -> Result<usize, CodesError> {
    let count = read_number::<i64>(file, name, path)?;
    usize::try_from(count)
        .map_err(|_| CodesError::bad_value(path, format!("the attribute {name}"), count.to_string()))
}

fn check_length(found: usize, expected: usize, path: &Path, object: &str) -> Result<(), CodesError> {
    if found == expected {
        return Ok(());
    }
    let (path, object) = (path.to_owned(), format!("/{object}"));
    Err(CodesError::WrongLength { path, object, unit: "rows", found, expected })
}

fn read_labels(dataset: &Dataset, rows: usize, classes: usize, path: &Path) -> Result<Vec<i64>, CodesError> {
    let int64: TypeDescriptor = i64::type_descriptor();
    if !is_type(dataset, path, schema::LABELS, |t| *t == int64)? {
        return Err(CodesError::wrong_type(path, "/labels", "a dataset of int64"));
    }
    let labels =
        dataset.read_slice_1d::<i64, _>(0..rows).map_err(CodesError::damaged(path, "/labels"))?.to_vec();
    let allowed = -1..classes as i64;
    match labels.iter().position(|label| !allowed.contains(label)) {
        Some(row) => {
            let (path, label) = (path.to_owned(), labels[row]);
            Err(CodesError::LabelOutOfRange { path, row, label, classes })
        }
        None => Ok(labels),
    }
}

fn read_hashes(dataset: &Dataset, rows: usize, path: &Path) -> Result<Vec<[u8; HASH_BYTES]>, CodesError> {
    let object = format!("/{}", schema::PERCEPTUAL_HASH);
    let is_u8 = is_type(dataset, path, &object, |t| *t == u8::type_descriptor())?;
    let shape = dataset.get_shape().map_err(CodesError::damaged(path, object.as_str()))?;
    let [length, HASH_BYTES] = shape[..] else {
        return Err(CodesError::wrong_type(path, object, "rows of 32 bytes (uint8)"));
    };
    if !is_u8 {
        return Err(CodesError::wrong_type(path, object, "rows of 32 bytes (uint8)"));
    }
    check_length(length, rows, path, schema::PERCEPTUAL_HASH)?;
    let bytes = dataset.read_raw::<u8>().map_err(CodesError::damaged(path, object))?;
    Ok(bytes.as_chunks().0.to_vec())
}

#[cfg(test)]
mod tests;
