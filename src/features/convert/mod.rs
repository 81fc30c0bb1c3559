//! Conversion of features to and from the files of other programs: [`convert`].
//!
//! Every format is read into one [`FeatureTable`](feature_table::FeatureTable) and written from it: what belongs to the rows (names, labels, hashes) is in
//! memory, and the features pass in blocks, so that memory does not grow with them. What this program knows about features
//! (their [`FeatureSpec`](crate::feature_spec::FeatureSpec), classes, images that could not be read) travels along as JSON under one key. A table of another
//! program has no such header: its features are [foreign](crate::feature_spec::FeatureSpec::is_foreign).

#[cfg(feature = "parquet")]
mod arrow;
#[cfg(feature = "parquet")]
mod batches;
mod columns;
mod csv;
mod error;
mod feature_table;
mod format;
mod hashes;
mod hdf5;
mod labels;
mod npy;
mod npy_files;
mod npz;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "parquet")]
mod parquet_parts;
mod row_texts;
mod safetensors;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::columns::ColumnNames;
pub use self::error::ConvertError;
use self::feature_table::{FeatureTable, FoundTable, LabelOverrides};
use self::format::FileFormat;
use self::output::OutputFiles;
#[cfg(feature = "parquet")]
pub(super) use self::parquet_parts::{ParquetParts, ParquetRows, parts_of};

/// How features are converted.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ConvertSettings {
    /// The layer of a features file; `None` is the primary one.
    pub layer: Option<String>,
    /// Columns or arrays of other programs that have unusual names.
    pub columns: ColumnNames,
    /// A text file with the name of a row on each line.
    pub names: Option<PathBuf>,
    /// A CSV file with the columns path,label, whose paths are the rows' names.
    pub labels: Option<PathBuf>,
    /// Whether the result is to have no labels.
    pub no_labels: bool,
    /// Whether files that are there already may be replaced.
    pub overwrite: bool,
}

/// What was converted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// Number of rows.
    pub rows: usize,
    /// Features of a row.
    pub width: usize,
    /// Rows whose class is known.
    pub labelled: usize,
    /// Number of classes.
    pub classes: usize,
    /// The files that were written; the one that was asked for comes first.
    pub files: Vec<PathBuf>,
    /// How a table of another program was understood, and what its values became.
    pub notes: Vec<String>,
}

/// Converts the features in `from` to the file `to`; the endings of their names say what they are. A folder is what thingsvision
/// or clip-retrieval wrote, or one of Parquet parts that this program wrote.
///
/// `to` appears when it is complete. `progress` hears how many of how many rows are done.
///
/// ```
/// # use cnncodes::features::{ConvertSettings, FeatureFile, convert};
/// # let folder = tempfile::tempdir()?;
/// # let (from, to) = (folder.path().join("features.csv"), folder.path().join("features.h5"));
/// std::fs::write(&from, "path,species,f0,f1\na.jpg,cat,0.5,-1e-3\nb.jpg,dog,0,2\n")?;
/// let mut settings = ConvertSettings::default();
/// settings.columns.label = Some("species".to_owned());
/// let converted = convert(&from, &to, &settings, &mut |_, _| ())?;
/// assert_eq!((converted.rows, converted.width, converted.classes), (2, 2, 2));
/// assert_eq!(FeatureFile::open(&to)?.read_layer(None)?.row(0).to_vec(), [0.5, -1e-3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ConvertError`]: a file cannot be read or written, or does not hold a table of features.
pub fn convert(
    from: &Path,
    to: &Path,
    settings: &ConvertSettings,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Converted, ConvertError> {
    let written = FileFormat::of(to)?;
    let output = OutputFiles::new(to, written.endings(), settings.overwrite)?;
    let mut found = read(from, settings)?;
    if let Some(list) = &settings.names {
        npy_files::name_rows(&mut found, list)?;
    }
    let overrides = LabelOverrides { labels: settings.labels.as_deref(), no_labels: settings.no_labels };
    let mut table = FeatureTable::of(found, &overrides, progress)?;
    write(&mut table, written, &output.path())?;
    let files = output.publish()?;
    Ok(Converted {
        rows: table.rows.count(),
        width: table.width(),
        labelled: table.rows.labels.iter().filter(|&&label| label >= 0).count(),
        classes: table.header.class_names.len(),
        files,
        notes: std::mem::take(&mut table.notes),
    })
}

fn read(from: &Path, settings: &ConvertSettings) -> Result<FoundTable, ConvertError> {
    let (wanted, named) = (&settings.columns, settings.names.is_some());
    let format = if from.is_dir() { None } else { Some(FileFormat::of(from)?) };
    if settings.layer.is_some() && format != Some(FileFormat::Hdf5) {
        return Err(ConvertError::unusable(from, "--layer is for features files (.h5)"));
    }
    #[cfg(feature = "parquet")]
    if from.is_dir() && !parts_of(from).is_empty() {
        wanted.refuse(from, "a folder of Parquet parts names its own")?;
        return hdf5::read(from, None);
    }
    let Some(format) = format else { return npy_files::read_folder(from, wanted, named) };
    match format {
        FileFormat::Hdf5 => {
            wanted.refuse(from, "a features file (.h5) names its own")?;
            hdf5::read(from, settings.layer.as_deref())
        }
        FileFormat::Npy => npy_files::read(from, wanted, named),
        FileFormat::Npz => npz::read(from, wanted),
        FileFormat::Csv => csv::read(from, wanted),
        FileFormat::Safetensors => safetensors::read(from, wanted),
        #[cfg(feature = "parquet")]
        FileFormat::Parquet => parquet::read(from, wanted),
        #[cfg(feature = "parquet")]
        FileFormat::Arrow => arrow::read(from, wanted),
        #[cfg(not(feature = "parquet"))]
        FileFormat::Parquet | FileFormat::Arrow => Err(ConvertError::NotBuilt { path: from.to_owned() }),
    }
}

fn write(table: &mut FeatureTable<'_>, format: FileFormat, to: &Path) -> Result<(), ConvertError> {
    match format {
        FileFormat::Hdf5 => hdf5::write(table, to),
        FileFormat::Npy => npy_files::write(table, to),
        FileFormat::Npz => npz::write(table, to),
        FileFormat::Csv => csv::write(table, to),
        FileFormat::Safetensors => safetensors::write(table, to),
        #[cfg(feature = "parquet")]
        FileFormat::Parquet => parquet::write(table, to),
        #[cfg(feature = "parquet")]
        FileFormat::Arrow => arrow::write(table, to),
        #[cfg(not(feature = "parquet"))]
        FileFormat::Parquet | FileFormat::Arrow => Err(ConvertError::NotBuilt { path: to.to_owned() }),
    }
}

/// The columns of clip-retrieval's metadata.
#[cfg(feature = "parquet")]
fn read_parquet_rows(path: &Path, wanted: &ColumnNames) -> Result<row_texts::RowTexts, ConvertError> {
    parquet::read_rows(path, wanted)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet_rows(path: &Path, _: &ColumnNames) -> Result<row_texts::RowTexts, ConvertError> {
    Err(ConvertError::NotBuilt { path: path.to_owned() })
}
