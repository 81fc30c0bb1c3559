//! Reading a features file, trusting nothing in it: everything is checked once, when it is opened.
//!
//! A folder of Parquet parts is read like a file: what is not HDF5 about it is known to [`LayerRows`] alone.

mod values;

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::checked_read::{column_length, open_dataset, read_number, read_text};
use super::header::{FeatureFileHeader, StoredLayer, check_format, read_attributes, read_header};
use super::schema::{self, HASH_BYTES, PassedOverGroup, PlanPart, SkippedImage};
use super::strings::{read_sha256, read_strings};
use super::{FeatureFileError, escape_layer_name};
use crate::feature_spec::FeatureSpec;
use crate::hdf5::{Attribute, Hdf5, Hdf5Dataset, Hdf5Error, RowPlaces};

pub use values::NonFinite;

#[cfg(feature = "parquet")]
use super::convert::{ParquetParts, ParquetRows, parts_of};

/// An open, complete features file. Features are read on demand, all else when it is opened.
pub struct FeatureFile {
    contents: FileContents,
    path: PathBuf,
}

/// What a features file says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureFileSummary {
    /// What its rows are.
    pub header: FeatureFileHeader,
    /// Number of rows.
    pub rows: usize,
    /// Number of images that could not be read.
    pub errors: usize,
    /// Which part of which plan it holds, if it is one.
    pub part: Option<PlanPart>,
}

/// All of a file but the features, checked.
struct FileContents {
    header: FeatureFileHeader,
    layers: Vec<LayerRows>,
    image_names: Vec<String>,
    labels: Vec<i64>,
    sha256: Vec<String>,
    /// Empty where the file has none.
    hashes: Vec<[u8; HASH_BYTES]>,
    skipped: Vec<SkippedImage>,
    passed_over: Vec<PassedOverGroup>,
    part: Option<PlanPart>,
}

/// Where the features of a layer lie.
enum LayerRows {
    Hdf5(Hdf5Dataset),
    #[cfg(feature = "parquet")]
    Parquet(ParquetRows),
}

impl FeatureFile {
    /// Opens a complete features file and checks all of it but the features' values.
    ///
    /// A virtual features file, whose rows are in other files beside it or below, is read like any other; so is a Parquet file, or a
    /// folder of them, that this program wrote (with the feature `parquet`).
    ///
    /// # Errors
    /// A [`FeatureFileError`] of its own for each thing that can be wrong; see there.
    pub fn open(path: &Path) -> Result<Self, FeatureFileError> {
        #[cfg(feature = "parquet")]
        if let parts @ [_, ..] = &parts_of(path)[..] {
            let contents = ParquetParts::read(parts).map_err(FeatureFileError::from)?;
            return Ok(Self { contents: contents.into(), path: path.to_owned() });
        }
        let file = open_hdf5(path)?;
        let (summary, layers) = read_summary(&file, path)?;
        let contents = FileContents::read(&file, summary, layers, path)?;
        Ok(Self { contents, path: path.to_owned() })
    }

    /// Reads what an HDF5 features file says of itself, but nothing of its rows and what they are called. The file is whole, but only
    /// [`FeatureFile::open`] finds out whether all in it can be used.
    ///
    /// # Errors
    /// As [`FeatureFile::open`].
    pub fn summary(path: &Path) -> Result<FeatureFileSummary, FeatureFileError> {
        Ok(read_summary(&open_hdf5(path)?, path)?.0)
    }

    /// Whether a path names a features file, by its ending: an HDF5 file, or (with the feature `parquet`) a Parquet file, or a folder
    /// that holds nothing else.
    pub fn is_named(path: &Path) -> bool {
        #[cfg(feature = "parquet")]
        if !parts_of(path).is_empty() {
            return true;
        }
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("h5"))
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says about itself.
    pub fn header(&self) -> &FeatureFileHeader {
        &self.contents.header
    }

    /// The stored layers, the primary one first; never empty.
    pub fn layers(&self) -> &[StoredLayer] {
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

    /// Index into [`FeatureFile::class_names`] or -1, one a row.
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
    pub fn errors(&self) -> &[SkippedImage] {
        &self.contents.skipped
    }

    /// Which files below the folder of images were no images, by reason; empty in files of versions that did not tell.
    pub fn passed_over(&self) -> &[PassedOverGroup] {
        &self.contents.passed_over
    }

    /// Which part of which plan the file holds, if it is one.
    pub fn part(&self) -> Option<&PlanPart> {
        self.contents.part.as_ref()
    }

    /// The layer of that name (its own or its dataset's), or the primary one.
    ///
    /// # Errors
    /// [`FeatureFileError::NoSuchLayer`], which lists those that there are.
    pub fn layer(&self, name: Option<&str>) -> Result<&StoredLayer, FeatureFileError> {
        Ok(&self.layers()[self.index(name)?])
    }

    /// What decides the values of a layer, or of the primary one.
    ///
    /// # Errors
    /// As [`FeatureFile::layer`].
    pub fn spec(&self, layer: Option<&str>) -> Result<&FeatureSpec, FeatureFileError> {
        Ok(&self.layer(layer)?.spec)
    }

    /// All features of a layer, as rows x width. `None` is the primary layer.
    ///
    /// # Errors
    /// [`FeatureFileError::NoSuchLayer`], or [`FeatureFileError::Damaged`] if they cannot be read.
    pub fn read_layer(&self, name: Option<&str>) -> Result<Array2<f32>, FeatureFileError> {
        let index = self.index(name)?;
        let width = self.width(index);
        let values = match &self.contents.layers[index] {
            LayerRows::Hdf5(dataset) => {
                let damaged = FeatureFileError::damaged(&self.path, self.object(index));
                dataset.numbers::<f32>().map_err(damaged)?
            }
            #[cfg(feature = "parquet")]
            LayerRows::Parquet(_) => {
                let mut values = vec![0.0; self.rows() * width];
                self.read_rows(name, 0..self.rows(), &mut values)?;
                values
            }
        };
        let (found, expected) = (values.len(), self.rows() * width);
        Array2::from_shape_vec((self.rows(), width), values).map_err(|_| {
            let (path, object) = (self.path.clone(), self.object(index));
            let (found, expected) = (found as u64, expected as u64);
            FeatureFileError::WrongLength { path, object, unit: "values", found, expected }
        })
    }

    /// Features of the rows `range` of a layer, row after row, into `out`.
    ///
    /// # Errors
    /// [`FeatureFileError::BadRange`] if the rows do not exist or `out` is not exactly their size;
    /// [`FeatureFileError::NoSuchLayer`]; [`FeatureFileError::Damaged`] if they cannot be read.
    pub fn read_rows(
        &self,
        name: Option<&str>,
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), FeatureFileError> {
        let index = self.index(name)?;
        let fits = range.start <= range.end
            && range.end <= self.rows()
            && range.len().checked_mul(self.width(index)) == Some(out.len());
        if !fits {
            let (path, rows, buffer) = (self.path.clone(), self.rows(), out.len());
            return Err(FeatureFileError::BadRange {
                path,
                start: range.start,
                end: range.end,
                rows,
                buffer,
            });
        }
        if range.is_empty() {
            return Ok(());
        }
        match &self.contents.layers[index] {
            LayerRows::Hdf5(dataset) => dataset
                .read_rows_f32(range.start as u64..range.end as u64, out)
                .map_err(FeatureFileError::damaged(&self.path, self.object(index))),
            #[cfg(feature = "parquet")]
            LayerRows::Parquet(rows) => Ok(rows.read(range, out)?),
        }
    }

    /// The number of rows such that ranges between its multiples are the fastest to read.
    ///
    /// # Errors
    /// [`FeatureFileError::NoSuchLayer`].
    pub fn rows_at_once(&self, name: Option<&str>) -> Result<usize, FeatureFileError> {
        let rows = match &self.contents.layers[self.index(name)?] {
            LayerRows::Hdf5(dataset) => dataset.rows_of_chunk(),
            #[cfg(feature = "parquet")]
            LayerRows::Parquet(_) => None,
        };
        Ok(rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(1))
    }

    /// Where the features of a layer begin in the file, if they lie there in one piece, row by row, as float32 of this machine, so
    /// that the file may be mapped into memory.
    ///
    /// # Errors
    /// [`FeatureFileError::NoSuchLayer`], or [`FeatureFileError::Damaged`].
    pub fn position_of_features(&self, name: Option<&str>) -> Result<Option<u64>, FeatureFileError> {
        Ok(self.places_of_rows(self.index(name)?)?.and_then(|places| places.in_one_piece()))
    }

    /// Where the rows of a layer lie in the file, if each lies there in one piece, as float32 of this machine.
    pub(super) fn places_of_rows(&self, layer: usize) -> Result<Option<RowPlaces>, FeatureFileError> {
        match &self.contents.layers[layer] {
            LayerRows::Hdf5(dataset) => {
                let damaged = FeatureFileError::damaged(&self.path, self.object(layer));
                dataset.places_of_f32_rows().map_err(damaged)
            }
            #[cfg(feature = "parquet")]
            LayerRows::Parquet(_) => Ok(None),
        }
    }

    fn index(&self, name: Option<&str>) -> Result<usize, FeatureFileError> {
        let Some(name) = name else { return Ok(0) };
        let own = self.layers().iter().position(|layer| layer.spec.layer == name);
        let escaped = || self.layers().iter().position(|layer| escape_layer_name(&layer.spec.layer) == name);
        own.or_else(escaped).ok_or_else(|| FeatureFileError::NoSuchLayer {
            path: self.path.clone(),
            layer: name.to_owned(),
            available: self.layers().iter().map(|layer| layer.spec.layer.clone()).collect(),
        })
    }

    /// What a layer is called in the file.
    fn object(&self, index: usize) -> String {
        format!("/{}", schema::layer_path(&self.layers()[index].spec.layer))
    }

    fn width(&self, index: usize) -> usize {
        // Checked against the dataset when it was opened, and never 0.
        self.layers()[index].width().unwrap_or(1)
    }
}

impl FileContents {
    fn read(
        file: &Hdf5,
        summary: FeatureFileSummary,
        layers: Vec<Hdf5Dataset>,
        path: &Path,
    ) -> Result<Self, FeatureFileError> {
        let FeatureFileSummary { header, rows, errors: error_rows, part } = summary;
        for (dataset, layer) in layers.iter().zip(&header.layers) {
            let object = schema::layer_path(&layer.spec.layer);
            check_length(dataset.shape()[0], rows, path, &object)?;
            let object = format!("/{object}");
            dataset.locate().map_err(FeatureFileError::damaged(path, object.as_str()))?;
            if !dataset.fits_file() {
                return Err(FeatureFileError::bad_value(
                    path,
                    object,
                    "it claims to be larger than the file",
                ));
            }
        }
        let features = file.contains(schema::FEATURES);
        if !features.map_err(FeatureFileError::damaged(path, "the link /features"))? {
            return Err(FeatureFileError::missing(path, "the link /features"));
        }
        let column = |name: &str, rows: usize| {
            let dataset = open_dataset(file, name, path)?;
            check_length(column_length(&dataset, name, path)?, rows, path, name)?;
            Ok::<_, FeatureFileError>(dataset)
        };
        let texts = |name: &str, rows: usize| read_strings(&column(name, rows)?, path, name);
        let image_names = texts(schema::IMAGE_NAMES, rows)?;
        let mut seen = HashSet::with_capacity(rows);
        if let Some(name) = image_names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(FeatureFileError::DuplicateImage { path: path.to_owned(), name: name.clone() });
        }
        let labels = read_labels(&column(schema::LABELS, rows)?, header.class_names.len(), path)?;
        let sha256 = read_sha256(&column(schema::SHA256, rows)?, 0..rows, path, schema::SHA256)?;
        let hashed = file.contains(schema::PERCEPTUAL_HASH);
        let hashes = match hashed.map_err(FeatureFileError::damaged(path, "the dataset /perceptual_hash"))? {
            true => read_hashes(&open_dataset(file, schema::PERCEPTUAL_HASH, path)?, rows, path)?,
            false => Vec::new(),
        };
        let reasons = texts(schema::ERROR_REASON, error_rows)?;
        let skipped = texts(schema::ERROR_NAME, error_rows)?
            .into_iter()
            .zip(reasons)
            .map(|(name, reason)| SkippedImage { name, reason })
            .collect();
        let passed_over = read_passed_over(file, path)?;
        let layers = layers.into_iter().map(LayerRows::Hdf5).collect();
        Ok(Self { header, layers, image_names, labels, sha256, hashes, skipped, passed_over, part })
    }
}

#[cfg(feature = "parquet")]
impl From<ParquetParts> for FileContents {
    fn from(parts: ParquetParts) -> Self {
        Self {
            header: parts.header,
            layers: vec![LayerRows::Parquet(parts.features)],
            image_names: parts.names,
            labels: parts.labels,
            sha256: parts.sha256,
            hashes: parts.hashes.into_iter().map(|hash| hash.unwrap_or([0; HASH_BYTES])).collect(),
            skipped: parts.errors,
            passed_over: parts.passed_over,
            part: None,
        }
    }
}

/// Opens an HDF5 file, telling apart the ways in which it may not be one.
pub(super) fn open_hdf5(path: &Path) -> Result<Hdf5, FeatureFileError> {
    Hdf5::open(path).map_err(|source| {
        let path = path.to_owned();
        match source {
            Hdf5Error::Io(source) => FeatureFileError::Open { path, source },
            Hdf5Error::NotHdf5 => FeatureFileError::NotHdf5 { path },
            Hdf5Error::Truncated { .. } => FeatureFileError::Truncated { path, source },
            source => FeatureFileError::Damaged { path, object: "its header".to_owned(), source },
        }
    })
}

/// What a file says of itself, and its layers' datasets.
fn read_summary(
    file: &Hdf5,
    path: &Path,
) -> Result<(FeatureFileSummary, Vec<Hdf5Dataset>), FeatureFileError> {
    let attributes = &read_attributes(file, path)?[..];
    check_format(attributes, path)?;
    if read_number::<u8>(attributes, schema::COMPLETE, path)? != 1 {
        return Err(FeatureFileError::Incomplete { path: path.to_owned() });
    }
    let rows = read_count(attributes, schema::ROWS, path)?;
    let errors = read_count(attributes, schema::ERROR_ROWS, path)?;
    let (header, layers) = read_header(file, attributes, path)?;
    let is_part = attributes.iter().any(|attribute| attribute.name() == schema::PLAN_ID);
    let part = match is_part {
        true => Some(PlanPart {
            plan: read_text(attributes, schema::PLAN_ID, path)?,
            part: read_number::<u64>(attributes, schema::PLAN_PART, path)?,
        }),
        false => None,
    };
    Ok((FeatureFileSummary { header, rows, errors, part }, layers))
}

fn read_count(attributes: &[Attribute], name: &str, path: &Path) -> Result<usize, FeatureFileError> {
    let count = read_number::<i64>(attributes, name, path)?;
    usize::try_from(count)
        .map_err(|_| FeatureFileError::bad_value(path, format!("the attribute {name}"), count.to_string()))
}

fn check_length(found: u64, expected: usize, path: &Path, object: &str) -> Result<(), FeatureFileError> {
    if found == expected as u64 {
        return Ok(());
    }
    let (path, object) = (path.to_owned(), format!("/{object}"));
    Err(FeatureFileError::WrongLength { path, object, unit: "rows", found, expected: expected as u64 })
}

/// What was passed over; files of earlier versions do not say.
fn read_passed_over(file: &Hdf5, path: &Path) -> Result<Vec<PassedOverGroup>, FeatureFileError> {
    let known = file.contains(schema::PASSED_OVER);
    if !known.map_err(FeatureFileError::damaged(path, format!("the group /{}", schema::PASSED_OVER)))? {
        return Ok(Vec::new());
    }
    let reasons = open_dataset(file, schema::PASSED_OVER_REASON, path)?;
    column_length(&reasons, schema::PASSED_OVER_REASON, path)?;
    let reasons = read_strings(&reasons, path, schema::PASSED_OVER_REASON)?;
    let column = |name: &str| {
        let dataset = open_dataset(file, name, path)?;
        check_length(column_length(&dataset, name, path)?, reasons.len(), path, name)?;
        Ok::<_, FeatureFileError>(dataset)
    };
    let examples = read_strings(&column(schema::PASSED_OVER_EXAMPLE)?, path, schema::PASSED_OVER_EXAMPLE)?;
    let files = column(schema::PASSED_OVER_FILES)?;
    if !files.kind().is::<i64>() {
        return Err(FeatureFileError::wrong_type(path, schema::PASSED_OVER_FILES, "a dataset of int64"));
    }
    let files = files.numbers::<i64>().map_err(FeatureFileError::damaged(path, schema::PASSED_OVER_FILES))?;
    let one = |((reason, example), files): ((String, String), i64)| match u64::try_from(files) {
        Ok(files) => Ok(PassedOverGroup { reason, files, example }),
        Err(_) => Err(FeatureFileError::bad_value(path, schema::PASSED_OVER_FILES, files.to_string())),
    };
    reasons.into_iter().zip(examples).zip(files).map(one).collect()
}

fn read_labels(dataset: &Hdf5Dataset, classes: usize, path: &Path) -> Result<Vec<i64>, FeatureFileError> {
    if !dataset.kind().is::<i64>() {
        return Err(FeatureFileError::wrong_type(path, "/labels", "a dataset of int64"));
    }
    let labels = dataset.numbers::<i64>().map_err(FeatureFileError::damaged(path, "/labels"))?;
    let allowed = -1..classes as i64;
    match labels.iter().position(|label| !allowed.contains(label)) {
        Some(row) => {
            let (path, label) = (path.to_owned(), labels[row]);
            Err(FeatureFileError::LabelOutOfRange { path, row, label, classes })
        }
        None => Ok(labels),
    }
}

fn read_hashes(
    dataset: &Hdf5Dataset,
    rows: usize,
    path: &Path,
) -> Result<Vec<[u8; HASH_BYTES]>, FeatureFileError> {
    const WIDTH: u64 = HASH_BYTES as u64;
    let object = format!("/{}", schema::PERCEPTUAL_HASH);
    let (&[length, WIDTH], true) = (dataset.shape(), dataset.kind().is::<u8>()) else {
        return Err(FeatureFileError::wrong_type(path, object, "rows of 32 bytes (uint8)"));
    };
    check_length(length, rows, path, schema::PERCEPTUAL_HASH)?;
    let bytes = dataset.numbers::<u8>().map_err(FeatureFileError::damaged(path, object))?;
    Ok(bytes.as_chunks().0.to_vec())
}

#[cfg(test)]
mod tests;
