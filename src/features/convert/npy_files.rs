//! `.npy` files with names beside them: this program's own, thingsvision's `features.npy` with `file_names.txt`, and
//! clip-retrieval's folder of `img_emb/img_emb_*.npy` with `metadata/metadata_*.parquet`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::ConvertError;
use super::columns::ColumnNames;
use super::csv::{beside, header_beside, read_rows, write_rows};
use super::feature_table::{FeatureTable, FoundTable, RowBlocks, TakeBlock};
use super::labels::TableLabels;
use super::npy::{DType, NpyHeader, NpyRows, write_values};
use super::row_texts::RowTexts;
use crate::messages::count;

/// Where thingsvision writes the names.
const FILE_NAMES: &str = "file_names.txt";
/// What the arrays in a folder of thingsvision and of clip-retrieval begin with.
const FEATURES: &str = "features";
const IMAGES: &str = "img_emb";
const TEXTS: &str = "text_emb";
const METADATA: &str = "metadata";
/// Why no column can be named.
const NO_COLUMNS: &str = "an array has no named columns; --names FILE and --labels CSV give names and labels";

/// Arrays of one table, one after the other.
struct NpyFiles(Vec<NpyRows>);

impl RowBlocks for NpyFiles {
    fn each(&mut self, take: &mut TakeBlock<'_>) -> Result<(), ConvertError> {
        self.0.iter_mut().try_for_each(|part| part.each(take))
    }
}

/// The features of one or more arrays, still without names.
fn found(path: &Path, arrays: &[PathBuf]) -> Result<FoundTable, ConvertError> {
    let parts: Vec<NpyRows> = arrays.iter().map(|array| NpyRows::open(array)).collect::<Result<_, _>>()?;
    let shape = parts.first().map_or_else(Vec::new, |part| part.header.shape[1..].to_vec());
    if let Some(part) = parts.iter().find(|part| part.header.shape[1..] != shape) {
        let why = format!(
            "its rows have the shape {:?}, and those of {} {shape:?}",
            &part.header.shape[1..],
            arrays[0].display()
        );
        return Err(ConvertError::unusable(&part.path, why));
    }
    let mut notes: Vec<String> =
        parts.first().and_then(|part| part.header.dtype.note()).into_iter().collect();
    if parts.len() > 1 {
        notes.push(format!("{} make up the features", count(parts.len(), "array")));
    }
    Ok(FoundTable {
        path: path.to_owned(),
        header: None,
        rows: parts.iter().map(|part| part.header.shape[0]).sum(),
        shape,
        names: None,
        labels: TableLabels::Unsaid,
        sha256: None,
        hashes: None,
        notes,
        values: Box::new(NpyFiles(parts)),
    })
}

/// An array with what stands beside it; `named` says that the user names its rows.
pub(super) fn read(path: &Path, wanted: &ColumnNames, named: bool) -> Result<FoundTable, ConvertError> {
    let mut table = found(path, &[path.to_owned()])?;
    let csv = beside(path, ".csv");
    if csv.exists() {
        table.header = header_beside(path)?;
        let texts = read_rows(&csv, wanted, table.header.is_some())?;
        check_length(&csv, texts.rows, &table)?;
        texts.put_into(&mut table, wanted)?;
        return Ok(table);
    }
    wanted.refuse(path, NO_COLUMNS)?;
    if !named {
        name_as_listed(&mut table, crate::files::folder_of(path))?;
    }
    Ok(table)
}

/// Names the rows by thingsvision's list, if there is one in the folder.
fn name_as_listed(table: &mut FoundTable, folder: &Path) -> Result<(), ConvertError> {
    let list = folder.join(FILE_NAMES);
    if list.exists() { name_rows(table, &list) } else { Ok(()) }
}

/// Names the rows by a list with a name on each line.
pub(super) fn name_rows(table: &mut FoundTable, list: &Path) -> Result<(), ConvertError> {
    let bytes = std::fs::read(list).map_err(ConvertError::read(list))?;
    let text = crate::dataset::text_of(&bytes);
    let text = text.map_err(|error| ConvertError::unusable(list, error.to_string()))?;
    let found: Vec<String> =
        text.lines().map(str::trim_end).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    check_length(list, found.len(), table)?;
    table.notes.push(format!("the names are those of {}", list.display()));
    table.names = Some(found);
    Ok(())
}

fn check_length(list: &Path, names: usize, table: &FoundTable) -> Result<(), ConvertError> {
    if names == table.rows {
        return Ok(());
    }
    let (path, features) = (list.to_owned(), table.path.clone());
    let (found, expected) = (count(names, "name"), count(table.rows, "row"));
    Err(ConvertError::OtherLength { path, found, features, expected })
}

/// What a program wrote into a folder.
pub(super) fn read_folder(
    folder: &Path,
    wanted: &ColumnNames,
    named: bool,
) -> Result<FoundTable, ConvertError> {
    let whole = folder.join("features.npy");
    if whole.is_file() {
        return read(&whole, wanted, named);
    }
    // The folder itself, or that of its arrays.
    let name = folder.file_name().and_then(|name| name.to_str());
    let (root, kind) = match name {
        Some(kind @ (IMAGES | TEXTS)) => (crate::files::folder_of(folder), kind),
        _ => (folder, IMAGES),
    };
    let arrays = numbered(&root.join(kind), kind, "npy")?;
    if arrays.is_empty() {
        let parts: Vec<PathBuf> =
            numbered(folder, FEATURES, "npy")?.into_iter().map(|(_, path)| path).collect();
        if parts.is_empty() {
            return Err(ConvertError::Folder { path: folder.to_owned() });
        }
        wanted.refuse(folder, NO_COLUMNS)?;
        let mut table = found(folder, &parts)?;
        if !named {
            name_as_listed(&mut table, folder)?;
        }
        return Ok(table);
    }
    let paths: Vec<PathBuf> = arrays.iter().map(|(_, path)| path.clone()).collect();
    let mut table = found(folder, &paths)?;
    let metadata = root.join(METADATA);
    if named || !metadata.is_dir() {
        wanted.refuse(folder, NO_COLUMNS)?;
        return Ok(table);
    }
    let mut texts = RowTexts::default();
    for (number, array) in &arrays {
        let tables = numbered(&metadata, METADATA, "parquet")?;
        let Some((_, part)) = tables.iter().find(|(other, _)| other == number) else {
            let why = format!("{} has no metadata_*.parquet of the same number", metadata.display());
            return Err(ConvertError::unusable(array, why));
        };
        let read = super::read_parquet_rows(part, wanted)?;
        let rows = NpyRows::open(array)?.header.shape[0];
        if read.rows != rows {
            let (path, features) = (part.clone(), array.clone());
            let (found, expected) = (count(read.rows, "row"), count(rows, "row"));
            return Err(ConvertError::OtherLength { path, found, features, expected });
        }
        texts.append(read);
    }
    table.notes.extend(texts.described.take());
    texts.put_into(&mut table, wanted)?;
    Ok(table)
}

/// The files `PREFIX_NUMBER.EXTENSION` of a folder, by number; none where there is no such folder.
fn numbered(folder: &Path, prefix: &str, extension: &str) -> Result<Vec<(u64, PathBuf)>, ConvertError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(ConvertError::read(folder))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(ConvertError::read(folder))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| {
                name.strip_prefix(prefix)?.strip_prefix('_')?.strip_suffix(extension)?.strip_suffix('.')
            })
            .and_then(|number| number.parse().ok());
        files.extend(number.map(|number| (number, path.clone())));
    }
    files.sort();
    Ok(files)
}

/// Writes an array, its rows' names and labels beside it as `FILE.npy.csv`, and its header as `FILE.npy.json`.
pub(super) fn write(table: &mut FeatureTable<'_>, path: &Path) -> Result<(), ConvertError> {
    let io = || ConvertError::write::<std::io::Error>(path);
    let mut out = BufWriter::with_capacity(1 << 18, File::create(path).map_err(io())?);
    NpyHeader::write(&mut out, DType::F32, &[table.rows.count(), table.width()]).map_err(io())?;
    table.each_block(&mut |block| write_values(&mut out, block.values).map_err(io()))?;
    out.flush().map_err(io())?;
    write_rows(table, &beside(path, ".csv"))?;
    let json = beside(path, ".json");
    std::fs::write(&json, table.header_json()).map_err(ConvertError::write(&json))
}
