//! The `.npz` format of NumPy: a zip file of arrays. Arrays of the features file have their names there.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::ConvertError;
use super::columns::{
    CLASS_NAMES, ColumnNames, FEATURES, IMAGE_NAMES, LABELS, PERCEPTUAL_HASH, RowColumns, SHA256, vector_of,
};
use super::feature_table::{FeatureTable, FoundTable, HEADER_KEY, RowBlocks, TableHeader, TakeBlock};
use super::hashes::{hash_of_bytes, hash_to_bytes, sha256_of_bytes, sha256_to_bytes};
use super::labels::TableLabels;
use super::npy::{
    DType, NpyHeader, NpyRows, each_block_c, read_floats, read_integers, read_texts, write_one_text,
    write_texts, write_values,
};

/// What deflate makes of a byte at most; a header that claims more values than the file can hold is a lie.
const MOST_INFLATION: u64 = 1032;

type Archive = ZipArchive<BufReader<File>>;

/// Finds the features and what belongs to their rows.
pub(super) fn read(path: &Path, wanted: &ColumnNames) -> Result<FoundTable, ConvertError> {
    let file = File::open(path).map_err(ConvertError::read(path))?;
    let stored = file.metadata().map_err(ConvertError::read(path))?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(zip_error(path))?;
    let mut arrays = NpzArrays { path, headers: Vec::new(), names: Vec::new() };
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(zip_error(path))?;
        let name = entry.name().map_err(zip_error(path))?;
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
        let header = match NpyHeader::read(&mut entry, path, &format!("the array {name}")) {
            Ok(header) => header,
            // An array that is not asked for may be anything.
            Err(ConvertError::Unusable { .. })
                if name != FEATURES && wanted.features.as_ref() != Some(&name) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        arrays.headers.push(header);
        arrays.names.push(name);
    }
    let candidates: Vec<usize> = (0..arrays.names.len())
        .filter(|&at| {
            let header = &arrays.headers[at];
            header.shape.len() > 1
                && !header.dtype.is_text()
                && ![SHA256, PERCEPTUAL_HASH].contains(&arrays.names[at].as_str())
        })
        .collect();
    let Some(features) = vector_of(&candidates, &arrays.names, wanted, path)? else {
        let what = "array of features, that is of numbers of rows x values".to_owned();
        return Err(ConvertError::Missing { path: path.to_owned(), what, present: arrays.names });
    };
    let (name, header) = (arrays.names[features].clone(), arrays.headers[features].clone());
    header.check_features(path, &format!("the array {name}"))?;
    if header.bytes().is_none_or(|bytes| bytes / MOST_INFLATION > stored) {
        let rows = header.shape[0];
        return Err(ConvertError::damaged(
            path,
            format!("{name} claims {rows} rows, more than the file can hold"),
        ));
    }
    let rows = header.shape[0];
    let described = arrays.one_text(&mut archive, HEADER_KEY)?;
    let described: Option<TableHeader> = described.and_then(|json| serde_json::from_str(&json).ok());
    let mut notes: Vec<String> = header.dtype.note().into_iter().collect();
    let columns = RowColumns::find(&arrays.names, wanted, false, path)?;
    let ours = |name: &str| arrays.position(name);
    let names = match wanted.name.as_ref().and(columns.name).or(ours(IMAGE_NAMES)).or(columns.name) {
        Some(at) => Some(arrays.texts(&mut archive, at, rows)?),
        None => None,
    };
    let labels = match wanted.label.as_ref().and(columns.label).or(ours(LABELS)).or(columns.label) {
        None => TableLabels::Unsaid,
        Some(at) if !arrays.headers[at].dtype.is_integer() => {
            TableLabels::Texts(arrays.texts(&mut archive, at, rows)?.into_iter().map(Some).collect())
        }
        Some(at) => {
            let numbers = arrays.integers(&mut archive, at, rows)?;
            match ours(CLASS_NAMES).filter(|_| arrays.names[at] == LABELS) {
                Some(classes) => TableLabels::Indices(
                    numbers,
                    arrays.texts(
                        &mut archive,
                        classes,
                        arrays.headers[classes].shape.first().copied().unwrap_or(0),
                    )?,
                ),
                None => TableLabels::Numbers(numbers),
            }
        }
    };
    let sha256 = arrays
        .bytes(&mut archive, SHA256, rows)?
        .map(|bytes| bytes.as_chunks().0.iter().map(sha256_of_bytes).collect());
    let hashes = arrays
        .bytes(&mut archive, PERCEPTUAL_HASH, rows)?
        .map(|bytes| bytes.as_chunks().0.iter().map(hash_of_bytes).collect());
    if described.is_none() {
        notes.push(format!("features: {name}; arrays in the file: {}", arrays.names.join(", ")));
    }
    let shape = header.shape[1..].to_vec();
    let values: Box<dyn RowBlocks> = match header.fortran {
        true => Box::new(unpacked(&mut archive, &name, path)?),
        false => Box::new(NpzRows { archive, entry: format!("{name}.npy"), path: path.to_owned() }),
    };
    let path = path.to_owned();
    Ok(FoundTable { path, header: described, rows, shape, names, labels, sha256, hashes, notes, values })
}

/// The array in a file of its own, where its columns can be found.
fn unpacked(archive: &mut Archive, name: &str, path: &Path) -> Result<NpyRows, ConvertError> {
    let mut file = tempfile::tempfile().map_err(ConvertError::write(path))?;
    let mut entry = archive.by_name(&format!("{name}.npy")).map_err(zip_error(path))?;
    io::copy(&mut entry, &mut file)
        .map_err(ConvertError::cut(path, format!("the array {name} cannot be unpacked")))?;
    NpyRows::of(file, path, &format!("the array {name}"))
}

/// The arrays of the file, by their headers.
struct NpzArrays<'a> {
    path: &'a Path,
    names: Vec<String>,
    headers: Vec<NpyHeader>,
}

impl NpzArrays<'_> {
    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|array| array == name)
    }

    /// Reads an array behind its header.
    fn read<T>(
        &self,
        archive: &mut Archive,
        at: usize,
        read: impl FnOnce(&mut dyn Read, &NpyHeader, &Path, &str) -> Result<T, ConvertError>,
    ) -> Result<T, ConvertError> {
        let (path, name) = (self.path, &self.names[at]);
        let entry = archive.by_name(&format!("{name}.npy")).map_err(zip_error(path))?;
        let mut entry = BufReader::new(entry);
        let what = format!("the array {name}");
        let header = NpyHeader::read(&mut entry, path, &what)?;
        read(&mut entry, &header, path, &what)
    }

    /// Makes sure that an array has one element a row.
    fn check_column(&self, at: usize, rows: usize) -> Result<(), ConvertError> {
        if self.headers[at].shape == [rows] {
            return Ok(());
        }
        let (name, shape) = (&self.names[at], &self.headers[at].shape);
        let why = format!("the array {name} has the shape {shape:?}, and there are {rows} rows");
        Err(ConvertError::unusable(self.path, why))
    }

    fn texts(&self, archive: &mut Archive, at: usize, rows: usize) -> Result<Vec<String>, ConvertError> {
        self.check_column(at, rows)?;
        let dtype = self.headers[at].dtype;
        if dtype.is_text() {
            return self.read(archive, at, read_texts);
        }
        if dtype.is_float() {
            return Ok(self.read(archive, at, read_floats)?.iter().map(f32::to_string).collect());
        }
        Ok(self.read(archive, at, read_integers)?.iter().map(i64::to_string).collect())
    }

    fn integers(&self, archive: &mut Archive, at: usize, rows: usize) -> Result<Vec<i64>, ConvertError> {
        self.check_column(at, rows)?;
        self.read(archive, at, read_integers)
    }

    /// The text of an array of no dimension.
    fn one_text(&self, archive: &mut Archive, name: &str) -> Result<Option<String>, ConvertError> {
        match self.position(name) {
            Some(at) if self.headers[at].shape.is_empty() && self.headers[at].dtype.is_text() => {
                Ok(self.read(archive, at, read_texts)?.pop())
            }
            _ => Ok(None),
        }
    }

    /// An array of this program's: 32 bytes a row.
    fn bytes(&self, archive: &mut Archive, name: &str, rows: usize) -> Result<Option<Vec<u8>>, ConvertError> {
        match self.position(name) {
            Some(at) if self.headers[at].shape == [rows, 32] && self.headers[at].dtype == DType::U8 => {
                let numbers = self.read(archive, at, read_integers)?;
                Ok(Some(numbers.into_iter().map(|number| number as u8).collect()))
            }
            _ => Ok(None),
        }
    }
}

fn zip_error(path: &Path) -> impl FnOnce(ZipError) -> ConvertError {
    let path = path.to_owned();
    move |source| match source {
        ZipError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            ConvertError::Read { path, source }
        }
        source => {
            let what = "it is not a whole .npz file, which is a zip file of arrays".to_owned();
            ConvertError::Damaged { path, what, source: Some(source.into()) }
        }
    }
}

/// The rows of an array in C order.
struct NpzRows {
    archive: Archive,
    entry: String,
    path: PathBuf,
}

impl RowBlocks for NpzRows {
    fn each(&mut self, take: &mut TakeBlock<'_>) -> Result<(), ConvertError> {
        let path = self.path.as_path();
        let entry = self.archive.by_name(&self.entry).map_err(zip_error(path))?;
        let mut entry = BufReader::with_capacity(1 << 18, entry);
        let header = NpyHeader::read(&mut entry, path, &self.entry)?;
        each_block_c(&mut entry, &header, path, take)?;
        // Only at its end is an entry's checksum known.
        let rest = io::copy(&mut entry, &mut io::sink());
        rest.map(|_| ()).map_err(ConvertError::cut(path, format!("{} is damaged", self.entry)))
    }
}

/// Writes a table, uncompressed as `np.savez` does.
pub(super) fn write(table: &mut FeatureTable<'_>, path: &Path) -> Result<(), ConvertError> {
    let file = File::create(path).map_err(ConvertError::write(path))?;
    let mut zip = ZipWriter::new(BufWriter::new(file));
    let failed = || ConvertError::write::<ZipError>(path);
    let io = || ConvertError::write::<io::Error>(path);
    let start = |zip: &mut ZipWriter<BufWriter<File>>, name: &str| {
        // Two runs shall give the same file, so no entry has a time.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .large_file(true);
        zip.start_file(format!("{name}.npy"), options).map_err(failed())
    };
    let rows = table.rows.count();
    start(&mut zip, FEATURES)?;
    let shape: Vec<usize> = [rows, table.width()].to_vec();
    NpyHeader::write(&mut zip, DType::F32, &shape).map_err(io())?;
    table.each_block(&mut |block| write_values(&mut zip, block.values).map_err(io()))?;
    start(&mut zip, IMAGE_NAMES)?;
    write_texts(&mut zip, table.rows.names.iter().map(String::as_str)).map_err(io())?;
    start(&mut zip, LABELS)?;
    NpyHeader::write(&mut zip, DType::I64, &[rows]).map_err(io())?;
    table.rows.labels.iter().try_for_each(|label| zip.write_all(&label.to_le_bytes())).map_err(io())?;
    start(&mut zip, CLASS_NAMES)?;
    write_texts(&mut zip, table.header.class_names.iter().map(String::as_str)).map_err(io())?;
    if let Some(hashes) = &table.rows.sha256 {
        start(&mut zip, SHA256)?;
        NpyHeader::write(&mut zip, DType::U8, &[rows, 32]).map_err(io())?;
        hashes.iter().try_for_each(|hash| zip.write_all(&sha256_to_bytes(hash))).map_err(io())?;
        start(&mut zip, PERCEPTUAL_HASH)?;
        NpyHeader::write(&mut zip, DType::U8, &[rows, 32]).map_err(io())?;
        table.rows.hashes.iter().try_for_each(|hash| zip.write_all(&hash_to_bytes(*hash))).map_err(io())?;
    }
    start(&mut zip, HEADER_KEY)?;
    write_one_text(&mut zip, &table.header_json()).map_err(io())?;
    let mut file = zip.finish().map_err(failed())?;
    file.flush().and_then(|()| file.rewind()).map_err(io())
}
