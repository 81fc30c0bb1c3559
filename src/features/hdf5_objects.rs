//! The HDF5 objects of a file that is being written: how they are made, enlarged and filled.

use hdf5_metno::dataset::{AllocTime, FillTime};
use hdf5_metno::types::VarLenUnicode;
use hdf5_metno::{Attribute, Dataset, Extents, File, Group, H5Type};
use hdf5_metno_sys::h5d::H5Dwrite_chunk;
use hdf5_metno_sys::h5p::H5P_DEFAULT;

use super::header::{FeatureFileHeader, layer_datasets};
use super::schema::{self, PassedOverGroup};
use super::strings::{Sha256Hex, to_hdf5};

/// Size of a layer's chunk, if a row is not larger.
const LAYER_CHUNK_BYTES: usize = 512 << 10;
/// Size of a chunk of names, labels and the like.
const COLUMN_CHUNK_BYTES: usize = 64 << 10;
/// Chunks are no longer than the expected rows, but no shorter than this, in case a resumed run has more.
const MIN_CHUNK_ROWS: usize = 64;
/// Skipped images for which space is reserved.
const EXPECTED_ERRORS: usize = 1024;
/// Reasons to pass files over for which space is reserved.
const EXPECTED_REASONS: usize = 8;
/// Strings that are converted at a time, to bound what a million names need.
const STRING_BATCH: usize = 1 << 16;
/// Bytes of a reference to a variable-length string in the file: length, heap address and index.
const STRING_REFERENCE: usize = 16;

/// The objects of the file that are written to after it is made.
pub(super) struct Hdf5Objects {
    pub(super) layers: Vec<Dataset>,
    pub(super) names: Dataset,
    pub(super) labels: Dataset,
    pub(super) sha256: Dataset,
    /// Missing from files that an older program began.
    pub(super) hashes: Option<Dataset>,
    pub(super) error_names: Dataset,
    pub(super) error_reasons: Dataset,
    pub(super) passed_over_reasons: Dataset,
    pub(super) passed_over_files: Dataset,
    pub(super) passed_over_examples: Dataset,
    pub(super) rows: Attribute,
    pub(super) error_rows: Attribute,
    pub(super) complete: Attribute,
}

impl Hdf5Objects {
    /// Makes all objects of a new file, with space for `expected` rows.
    pub(super) fn create(file: &File, header: &FeatureFileHeader, expected: usize) -> hdf5_metno::Result<()> {
        let layers = Self::create_with(file, header, expected, |path, width| {
            let rows = chunk_rows(LAYER_CHUNK_BYTES, width * size_of::<f32>(), expected);
            new_dataset::<f32>(file, path, (0.., width).into(), &[rows, width], FillTime::Never)
        })?;
        // Last, hence at the file's end, where space that is not used in the end can be cut off.
        layers.iter().try_for_each(|(dataset, width)| dataset.resize((expected, *width)))
    }

    /// Makes all objects of a new file, with space for `expected` rows, and the layers' datasets as `new_layer` does by their paths
    /// and widths. Returns the layers with their widths.
    pub(super) fn create_with(
        file: &File,
        header: &FeatureFileHeader,
        expected: usize,
        new_layer: impl Fn(&str, usize) -> hdf5_metno::Result<Dataset>,
    ) -> hdf5_metno::Result<Vec<(Dataset, usize)>> {
        header.write(file)?;
        file.create_group(schema::LAYERS)?;
        file.create_group(schema::ERRORS)?;
        file.create_group(schema::PASSED_OVER)?;
        let mut layers = Vec::with_capacity(header.layers.len());
        for (index, layer) in header.layers.iter().enumerate() {
            let width = layer.width().ok_or_else(|| hdf5_metno::Error::from("a layer is too wide"))?;
            let dataset = new_layer(&schema::layer_path(&layer.spec.layer), width)?;
            layer.write(&dataset, index)?;
            layers.push((dataset, width));
        }
        let primary = format!("/{}", schema::layer_path(&header.spec().layer));
        file.link_soft(&primary, schema::FEATURES)?;
        new_strings(file, schema::IMAGE_NAMES, expected)?;
        new_column::<i64>(file, schema::LABELS, expected)?;
        new_column::<Sha256Hex>(file, schema::SHA256, expected)?;
        let (hash, rows) = (schema::HASH_BYTES, chunk_rows(COLUMN_CHUNK_BYTES, schema::HASH_BYTES, expected));
        let extents = (expected.., hash).into();
        new_dataset::<u8>(file, schema::PERCEPTUAL_HASH, extents, &[rows, hash], FillTime::Never)?;
        new_strings(file, schema::ERROR_NAME, EXPECTED_ERRORS)?;
        new_strings(file, schema::ERROR_REASON, EXPECTED_ERRORS)?;
        new_strings(file, schema::PASSED_OVER_REASON, EXPECTED_REASONS)?;
        new_column::<i64>(file, schema::PASSED_OVER_FILES, EXPECTED_REASONS)?;
        new_strings(file, schema::PASSED_OVER_EXAMPLE, EXPECTED_REASONS)?;
        file.new_attr::<i64>().create(schema::ROWS)?.write_scalar(&0_i64)?;
        file.new_attr::<i64>().create(schema::ERROR_ROWS)?.write_scalar(&0_i64)?;
        file.new_attr::<u8>().create(schema::COMPLETE)?.write_scalar(&0_u8)?;
        Ok(layers)
    }

    pub(super) fn open(file: &File) -> hdf5_metno::Result<Self> {
        Ok(Self {
            layers: layer_datasets(file)?,
            names: file.dataset(schema::IMAGE_NAMES)?,
            labels: file.dataset(schema::LABELS)?,
            sha256: file.dataset(schema::SHA256)?,
            hashes: match file.link_exists(schema::PERCEPTUAL_HASH) {
                true => Some(file.dataset(schema::PERCEPTUAL_HASH)?),
                false => None,
            },
            error_names: file.dataset(schema::ERROR_NAME)?,
            error_reasons: file.dataset(schema::ERROR_REASON)?,
            passed_over_reasons: file.dataset(schema::PASSED_OVER_REASON)?,
            passed_over_files: file.dataset(schema::PASSED_OVER_FILES)?,
            passed_over_examples: file.dataset(schema::PASSED_OVER_EXAMPLE)?,
            rows: file.attr(schema::ROWS)?,
            error_rows: file.attr(schema::ERROR_ROWS)?,
            complete: file.attr(schema::COMPLETE)?,
        })
    }

    pub(super) fn per_row(&self) -> impl Iterator<Item = &Dataset> {
        self.layers.iter().chain([&self.names, &self.labels, &self.sha256]).chain(&self.hashes)
    }

    fn per_error(&self) -> impl Iterator<Item = &Dataset> {
        [&self.error_names, &self.error_reasons].into_iter()
    }

    pub(super) fn resize(&self, rows: usize) -> hdf5_metno::Result<()> {
        self.per_row().try_for_each(|dataset| {
            let mut shape = dataset.shape();
            shape[0] = rows;
            dataset.resize(shape)
        })
    }

    pub(super) fn resize_errors(&self, rows: usize) -> hdf5_metno::Result<()> {
        self.per_error().try_for_each(|dataset| dataset.resize(rows))
    }

    /// Writes what was passed over, one row a reason.
    pub(super) fn write_passed_over(&self, reasons: &[PassedOverGroup]) -> hdf5_metno::Result<()> {
        let columns = [&self.passed_over_reasons, &self.passed_over_files, &self.passed_over_examples];
        columns.into_iter().try_for_each(|dataset| dataset.resize(reasons.len()))?;
        write_strings(&self.passed_over_reasons, reasons.iter().map(|passed| passed.reason.as_str()))?;
        write_strings(&self.passed_over_examples, reasons.iter().map(|passed| passed.example.as_str()))?;
        let files: Vec<i64> =
            reasons.iter().map(|passed| i64::try_from(passed.files).unwrap_or(i64::MAX)).collect();
        if files.is_empty() { Ok(()) } else { self.passed_over_files.write(&files) }
    }

    /// The columns of strings that a run killed while it was finishing may have left.
    pub(super) fn strings(&self) -> [&Dataset; 5] {
        [
            &self.names,
            &self.error_names,
            &self.error_reasons,
            &self.passed_over_reasons,
            &self.passed_over_examples,
        ]
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
    new_dataset::<T>(at, name, (expected..).into(), &[rows], FillTime::Never)
}

/// A column of strings; its references start as null, because HDF5 follows the one that it overwrites.
fn new_strings(at: &Group, name: &str, expected: usize) -> hdf5_metno::Result<Dataset> {
    let rows = chunk_rows(COLUMN_CHUNK_BYTES, STRING_REFERENCE, expected);
    new_dataset::<VarLenUnicode>(at, name, (expected..).into(), &[rows], FillTime::IfSet)
}

/// Writes strings into a column from its beginning on, which is long enough; gives how many there were.
pub(super) fn write_strings(
    dataset: &Dataset,
    texts: impl Iterator<Item: AsRef<str>>,
) -> hdf5_metno::Result<usize> {
    write_strings_from(0, dataset, texts)
}

/// Writes strings from the row `start` on of a column that is long enough; gives the row after the last one.
pub(super) fn write_strings_from(
    mut start: usize,
    dataset: &Dataset,
    texts: impl Iterator<Item: AsRef<str>>,
) -> hdf5_metno::Result<usize> {
    let (mut texts, length) = (texts.peekable(), dataset.size());
    while texts.peek().is_some() {
        let batch: Option<Vec<_>> =
            texts.by_ref().take(STRING_BATCH).map(|text| to_hdf5(text.as_ref())).collect();
        let batch = batch.ok_or("a string holds a NUL")?;
        let end = start + batch.len();
        if end > length {
            return Err("there are more strings than the column has places".into());
        }
        dataset.write_slice(&batch, start..end)?;
        start = end;
    }
    Ok(start)
}

/// Nulls all references of a column of strings.
///
/// They may stem from a killed run and point to strings that never reached the disk; HDF5 would follow and
/// free them before it overwrites them, and fail. The chunks are rewritten in place, past that machinery.
pub(super) fn forget_strings(dataset: &Dataset) -> hdf5_metno::Result<()> {
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
