//! [`FeatureTable`]: a table of features on its way from one file to another. What belongs to the rows is in memory; the
//! features themselves pass in blocks of rows.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ConvertError;
use super::labels::{TableLabels, classes_of};
use crate::dataset::column_values;
use crate::feature_spec::FeatureSpec;
use crate::features::schema::FORMAT_VERSION;
use crate::features::{FeatureFileError, FeatureFileHeader, PassedOverGroup, SkippedImage, StoredLayer};
use crate::images::PerceptualHash;

/// The key under which files of other formats hold the [`TableHeader`].
pub(super) const HEADER_KEY: &str = "cnncodes";

/// Values that are handed on at a time: 4 MiB.
pub(super) const BLOCK_VALUES: usize = 1 << 20;

/// Rows in a block, if a row has so many values.
pub(super) fn rows_of_block(width: usize) -> usize {
    (BLOCK_VALUES / width.max(1)).max(1)
}

/// All of a features file but what belongs to its rows, as other formats hold it: in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TableHeader {
    /// Version of the layout of the features file.
    pub(super) format_version: i64,
    /// Number of rows when it was written.
    pub(super) rows: usize,
    pub(super) program_version: String,
    pub(super) source: String,
    pub(super) runtime: String,
    pub(super) device: String,
    pub(super) class_names: Vec<String>,
    pub(super) spec: FeatureSpec,
    pub(super) shape: Vec<usize>,
    pub(super) errors: Vec<SkippedImage>,
    pub(super) passed_over: Vec<PassedOverGroup>,
}

/// Number of values in a row of that shape; `None` if that is not a possible size.
fn width_of(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n)).filter(|&width| width > 0)
}

/// Takes blocks of whole rows.
pub(super) type TakeBlock<'a> = dyn FnMut(&[f32]) -> Result<(), ConvertError> + 'a;

/// The features of a table, wherever they lie.
pub(super) trait RowBlocks {
    /// Hands all rows on, in order, in blocks of whole rows.
    fn each(&mut self, take: &mut TakeBlock<'_>) -> Result<(), ConvertError>;
}

/// What a file says, before it is a table that can be written.
pub(super) struct FoundTable {
    /// Where it was read, for messages.
    pub(super) path: PathBuf,
    /// What this program wrote about the features, where it did.
    pub(super) header: Option<TableHeader>,
    pub(super) rows: usize,
    /// Shape of one row.
    pub(super) shape: Vec<usize>,
    pub(super) names: Option<Vec<String>>,
    pub(super) labels: TableLabels,
    pub(super) sha256: Option<Vec<String>>,
    pub(super) hashes: Option<Vec<Option<PerceptualHash>>>,
    /// What the user should know about how the file was understood.
    pub(super) notes: Vec<String>,
    pub(super) values: Box<dyn RowBlocks>,
}

/// Where names and labels come from.
#[derive(Debug, Clone, Default)]
pub(super) struct LabelOverrides<'a> {
    /// CSV file with the columns path,label.
    pub(super) labels: Option<&'a Path>,
    /// Whether the table is to have no labels.
    pub(super) no_labels: bool,
}

/// A table of features that can be written.
pub(super) struct FeatureTable<'p> {
    path: PathBuf,
    pub(super) header: FeatureFileHeader,
    pub(super) errors: Vec<SkippedImage>,
    pub(super) passed_over: Vec<PassedOverGroup>,
    pub(super) rows: TableRows,
    pub(super) notes: Vec<String>,
    values: Box<dyn RowBlocks>,
    /// Hears how many of how many rows have passed.
    progress: &'p mut dyn FnMut(usize, usize),
}

/// What belongs to the rows of a table, beside their features; one element a row.
pub(super) struct TableRows {
    pub(super) names: Vec<String>,
    pub(super) labels: Vec<i64>,
    /// The class of each row in words, by its label.
    class_names: Vec<String>,
    /// SHA-256 of the images; `None` where the images are not known.
    pub(super) sha256: Option<Vec<String>>,
    pub(super) hashes: Vec<Option<PerceptualHash>>,
}

impl TableRows {
    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// The name of a row's class.
    pub(super) fn class(&self, row: usize) -> Option<&str> {
        usize::try_from(self.labels[row]).ok().map(|label| self.class_names[label].as_str())
    }
}

impl<'p> FeatureTable<'p> {
    /// Completes what a file says: names, classes and a spec are made up where it has none, and all of it is checked.
    pub(super) fn of(
        found: FoundTable,
        overrides: &LabelOverrides<'_>,
        progress: &'p mut dyn FnMut(usize, usize),
    ) -> Result<Self, ConvertError> {
        let FoundTable { path, mut header, rows, shape, names, labels, sha256, hashes, mut notes, values } =
            found;
        if rows == 0 {
            return Err(ConvertError::unusable(&path, "it has no rows; there is nothing to convert"));
        }
        if let Some(version) = header.as_ref().map(|header| header.format_version)
            && version > FORMAT_VERSION
        {
            let (found, known) = (version, FORMAT_VERSION);
            return Err(FeatureFileError::NewerFormat { path, found, known }.into());
        }
        let width = width_of(&shape);
        if header.take_if(|header| width_of(&header.shape) != width).is_some() {
            notes.push(
                "what the file says about its features does not fit their number: they count as another program's"
                    .to_owned(),
            );
        }
        let names = match names {
            Some(names) => names,
            None => {
                notes.push("the rows have no names and are named by their numbers, from 0".to_owned());
                (0..rows).map(|row| row.to_string()).collect()
            }
        };
        check_names(&path, &names)?;
        let known = header.as_ref().map(|header| header.class_names.as_slice());
        let labels = match overrides {
            LabelOverrides { no_labels: true, .. } => TableLabels::None,
            LabelOverrides { labels: Some(csv), .. } => {
                let (labels, unknown) = column_values(csv, "label", &names)
                    .map_err(|source| ConvertError::Labels { path: csv.to_path_buf(), source })?;
                if unknown > 0 {
                    let paths = crate::messages::count(unknown, "path");
                    notes.push(format!("{paths} of {} name no row", csv.display()));
                }
                TableLabels::Texts(labels)
            }
            _ => labels,
        };
        let (labels, class_names) = classes_of(labels, &names, known, &path, &mut notes)?;
        let (errors, passed_over, header) = match header {
            // Tables of two dimensions hold rows of any shape.
            Some(header) => {
                let layers = vec![StoredLayer { spec: header.spec, shape: header.shape }];
                let TableHeader { program_version, source, runtime, device, .. } = header;
                let written =
                    FeatureFileHeader { program_version, source, runtime, device, class_names, layers };
                (header.errors, header.passed_over, written)
            }
            None => {
                notes.push(
                    "another program computed these features: a head on them predicts features, not images"
                        .to_owned(),
                );
                let header = FeatureFileHeader {
                    program_version: env!("CARGO_PKG_VERSION").to_owned(),
                    source: path.display().to_string(),
                    runtime: String::new(),
                    device: String::new(),
                    class_names,
                    layers: vec![StoredLayer { spec: FeatureSpec::foreign(), shape }],
                };
                (Vec::new(), Vec::new(), header)
            }
        };
        let hashes = hashes.unwrap_or_else(|| vec![None; rows]);
        let rows = TableRows { names, labels, class_names: header.class_names.clone(), sha256, hashes };
        Ok(Self { path, header, errors, passed_over, rows, notes, values, progress })
    }

    /// Number of features of a row.
    pub(super) fn width(&self) -> usize {
        self.header.layers[0].width().unwrap_or(0)
    }

    /// The one layer.
    pub(super) fn layer(&self) -> &StoredLayer {
        &self.header.layers[0]
    }

    /// What other formats hold beside the rows, as JSON.
    pub(super) fn header_json(&self) -> String {
        let StoredLayer { spec, shape } = self.layer().clone();
        let FeatureFileHeader { program_version, source, runtime, device, class_names, .. } =
            self.header.clone();
        let header = TableHeader {
            format_version: FORMAT_VERSION,
            rows: self.rows.count(),
            program_version,
            source,
            runtime,
            device,
            class_names,
            spec,
            shape,
            errors: self.errors.clone(),
            passed_over: self.passed_over.clone(),
        };
        // Strings and numbers of one struct always have a JSON text.
        serde_json::to_string(&header).unwrap_or_default()
    }

    /// Hands the features to `take` in blocks of rows, with the rows that they are of. Every value is finite.
    pub(super) fn each_block(
        &mut self,
        take: &mut dyn FnMut(&RowsOfBlock<'_>) -> Result<(), ConvertError>,
    ) -> Result<(), ConvertError> {
        let (width, rows, mut start) = (self.width(), self.rows.count(), 0);
        let (path, table, progress) = (&self.path, &self.rows, &mut self.progress);
        self.values.each(&mut |values| {
            let range = start..start + values.len() / width;
            if range.end > rows {
                return Err(ConvertError::damaged(path, format!("it has more than its {rows} rows")));
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, column) = (start + at / width, at % width);
                let (path, name) = (path.clone(), table.names[row].clone());
                return Err(ConvertError::NotFinite { path, row, name, column, value: values[at] });
            }
            start = range.end;
            take(&RowsOfBlock { table, range, values })?;
            progress(start, rows);
            Ok(())
        })?;
        if start < rows {
            return Err(ConvertError::damaged(path, format!("it ends after {start} of {rows} rows")));
        }
        Ok(())
    }
}

/// Some rows of a table.
pub(super) struct RowsOfBlock<'a> {
    /// What belongs to all rows of the table.
    pub(super) table: &'a TableRows,
    pub(super) range: Range<usize>,
    /// Their features, row after row.
    pub(super) values: &'a [f32],
}

fn check_names(path: &Path, names: &[String]) -> Result<(), ConvertError> {
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for (row, name) in names.iter().enumerate() {
        if name.is_empty() || name.contains('\0') {
            let why = format!("the name of row {row} is empty or holds a NUL; every row needs a name");
            return Err(ConvertError::unusable(path, why));
        }
        if let Some(first) = seen.insert(name, row) {
            let (path, name) = (path.to_owned(), name.clone());
            return Err(ConvertError::DuplicateName { path, name, first, second: row });
        }
    }
    Ok(())
}
