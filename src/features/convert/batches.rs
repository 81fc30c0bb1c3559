//! A table of features as Arrow record batches, which Parquet and Arrow files both are: a row an image, the features a column of
//! vectors, or a column each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::ConvertError;
use super::columns::{
    CLASS, ColumnNames, FEATURES, LABEL, NAME, PERCEPTUAL_HASH, RowColumns, SHA256, describe, may_be_feature,
    vector_of,
};
use super::feature_table::{
    FeatureTable, FoundTable, HEADER_KEY, RowBlocks, RowsOfBlock, TableHeader, rows_of_block,
};
use super::hashes::to_hex;
use super::labels::TableLabels;
use super::row_texts::RowTexts;
use crate::panics;

/// Runs a foreign reader, whose panics on damaged files become errors.
pub(super) fn guard<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, ConvertError>,
) -> Result<T, ConvertError> {
    let stopped = || Err(ConvertError::damaged(path, "it cannot be read"));
    panics::catch(work).unwrap_or_else(stopped)
}

/// What a foreign reader says about a file that it cannot read.
pub(super) fn unreadable<E: Into<crate::messages::Cause>>(path: &Path) -> impl FnOnce(E) -> ConvertError {
    let path = path.to_owned();
    move |source| ConvertError::Damaged {
        path,
        what: "it cannot be read".to_owned(),
        source: Some(source.into()),
    }
}

/// The header that this program wrote, from a file's metadata.
pub(super) fn header_in<'m>(texts: impl Iterator<Item = (&'m str, &'m str)>) -> Option<TableHeader> {
    let mut ours = texts.filter(|(key, _)| *key == HEADER_KEY);
    ours.next().and_then(|(_, json)| serde_json::from_str(json).ok())
}

/// Which columns of a table hold what.
#[derive(Debug, Clone)]
pub(super) struct ArrowColumns {
    path: PathBuf,
    columns: Vec<String>,
    rows: RowColumns,
    /// One column of vectors, or several of numbers.
    features: Vec<usize>,
    /// Whether it is one column of vectors.
    vectors: bool,
    /// What the user should know about the type of the values.
    pub(super) note: Option<String>,
}

impl ArrowColumns {
    /// The table of a file in `path`, of `width` features a row, which `values` reads by these columns.
    pub(super) fn into_table(
        self,
        path: &Path,
        header: Option<TableHeader>,
        (texts, wanted): (RowTexts, &ColumnNames),
        width: usize,
        values: impl FnOnce(Self) -> Box<dyn RowBlocks>,
    ) -> Result<FoundTable, ConvertError> {
        let mut notes: Vec<String> = self.note.clone().into_iter().collect();
        if header.is_none() {
            notes.push(self.describe());
        }
        let mut found = FoundTable {
            path: path.to_owned(),
            header,
            rows: texts.rows,
            shape: vec![width],
            names: None,
            labels: TableLabels::Unsaid,
            sha256: None,
            hashes: None,
            notes,
            values: values(self),
        };
        texts.put_into(&mut found, wanted)?;
        Ok(found)
    }

    pub(super) fn find(
        schema: &Schema,
        wanted: &ColumnNames,
        has_header: bool,
        path: &Path,
    ) -> Result<Self, ConvertError> {
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let rows = RowColumns::find(&columns, wanted, has_header, path)?;
        let kind = |column: usize| schema.field(column).data_type();
        let of = |holds: &dyn Fn(&DataType) -> bool| -> Vec<usize> {
            (0..columns.len()).filter(|&column| !rows.contain(column) && holds(kind(column))).collect()
        };
        let lists = of(&|kind| item_of(kind).is_some_and(|item| item.is_floating() || item.is_integer()));
        let vector = vector_of(&lists, &columns, wanted, path)?;
        let mut features: Vec<usize> = vector.into_iter().collect();
        for numbers in [DataType::is_floating, DataType::is_integer] {
            if features.is_empty() {
                features = of(&numbers);
                features.retain(|&column| may_be_feature(&columns[column]));
            }
        }
        if features.is_empty() {
            let what = "column of vectors, and no columns of numbers that could be features".to_owned();
            return Err(ConvertError::Missing { path: path.to_owned(), what, present: columns });
        }
        let value = kind(features[0]);
        let note = match item_of(value).unwrap_or(value) {
            DataType::Float32 => None,
            DataType::Float16 => Some("float16 values became float32, exactly".to_owned()),
            kind => Some(format!("{kind} values became float32, rounded where float32 cannot hold them")),
        };
        Ok(Self { path: path.to_owned(), columns, rows, features, vectors: vector.is_some(), note })
    }

    /// The columns that are no features, of a table that need not have any.
    pub(super) fn without_features(
        schema: &Schema,
        wanted: &ColumnNames,
        path: &Path,
    ) -> Result<Self, ConvertError> {
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let rows = RowColumns::find(&columns, wanted, false, path)?;
        Ok(Self { path: path.to_owned(), columns, rows, features: Vec::new(), vectors: false, note: None })
    }

    pub(super) fn describe(&self) -> String {
        describe(&self.columns, &self.rows, &self.features)
    }

    /// The columns of the rows, in the order of the table, as readers want to be told.
    pub(super) fn row_columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self.places().into_iter().flatten().collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// The columns of features, in the order of the table.
    pub(super) fn feature_columns(&self) -> Vec<usize> {
        self.features.clone()
    }

    fn places(&self) -> [Option<usize>; 4] {
        [self.rows.name, self.rows.label, self.rows.sha256, self.rows.perceptual_hash]
    }

    /// Appends the rows of a batch of [`Self::row_columns`] alone.
    pub(super) fn push_texts(&self, batch: &RecordBatch, texts: &mut RowTexts) -> Result<(), ConvertError> {
        let read = self.row_columns();
        let column = |place: Option<usize>| match place.and_then(|place| read.binary_search(&place).ok()) {
            None => Ok(None),
            Some(at) => {
                let found = texts_of(batch.column(at).as_ref());
                let why = || {
                    let (name, kind) = (&self.columns[read[at]], batch.column(at).data_type());
                    ConvertError::unusable(
                        &self.path,
                        format!("the column {name} holds {kind}, and not texts or numbers"),
                    )
                };
                found.ok_or_else(why).map(Some)
            }
        };
        let [names, labels, sha256, hashes] = self.places().map(column);
        texts.append(RowTexts {
            rows: batch.num_rows(),
            names: names?,
            labels: labels?,
            sha256: sha256?,
            hashes: hashes?,
            described: None,
        });
        Ok(())
    }

    /// Features of a row; `None` where only a first row can tell.
    pub(super) fn width(&self, schema: &Schema) -> Option<usize> {
        if !self.vectors {
            return Some(self.features.len());
        }
        match schema.field(self.features[0]).data_type() {
            DataType::FixedSizeList(_, width) => usize::try_from(*width).ok(),
            _ => None,
        }
    }

    /// Features of a row, by a batch of [`Self::feature_columns`] alone with at least one row.
    pub(super) fn width_of(&self, batch: &RecordBatch) -> Result<usize, ConvertError> {
        let lists = self.lists(batch.column(0), 0)?;
        let first = lists.lengths.first().copied();
        first
            .filter(|&width| width > 0)
            .ok_or_else(|| ConvertError::unusable(&self.path, "the vector of its first row is empty"))
    }

    /// Hands on the features of a batch of [`Self::feature_columns`] alone, whose first row is `start`.
    pub(super) fn each_block(
        &self,
        batch: &RecordBatch,
        start: usize,
        width: usize,
        take: &mut dyn FnMut(&[f32]) -> Result<(), ConvertError>,
    ) -> Result<(), ConvertError> {
        let step = rows_of_block(width);
        for from in (0..batch.num_rows()).step_by(step) {
            let part = batch.slice(from, step.min(batch.num_rows() - from));
            let start = start + from;
            if self.vectors {
                let lists = self.lists(part.column(0), start)?;
                if let Some(at) = lists.lengths.iter().position(|&found| found != width) {
                    let (path, found) = (self.path.clone(), lists.lengths[at]);
                    return Err(ConvertError::Ragged { path, row: start + at, found, expected: width });
                }
                take(&lists.values)?;
                continue;
            }
            let mut values = vec![0.0; part.num_rows() * width];
            for (at, column) in part.columns().iter().enumerate() {
                let name = &self.columns[self.features[at]];
                let numbers = self.numbers(column.as_ref(), &format!("the column {name}"), start)?;
                for (row, number) in numbers.into_iter().enumerate() {
                    values[row * width + at] = number;
                }
            }
            take(&values)?;
        }
        Ok(())
    }

    /// The vectors of a column.
    fn lists(&self, column: &ArrayRef, start: usize) -> Result<ListColumn, ConvertError> {
        let name = &self.columns[self.features[0]];
        if let Some(row) = (0..column.len()).find(|&row| column.is_null(row)) {
            let why = format!(
                "row {} has no vector in the column {name}; fill it in or remove the row",
                start + row
            );
            return Err(ConvertError::unusable(&self.path, why));
        }
        let (lengths, values) = match column.data_type() {
            DataType::FixedSizeList(..) => {
                let lists = column.as_fixed_size_list();
                (vec![lists.value_length() as usize; lists.len()], lists.values().clone())
            }
            DataType::LargeList(_) => {
                let offsets = column.as_list::<i64>().value_offsets();
                let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
                let values = column.as_list::<i64>().values().slice(first as usize, (last - first) as usize);
                (offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect(), values)
            }
            _ => {
                let offsets = column.as_list::<i32>().value_offsets();
                let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
                let values = column.as_list::<i32>().values().slice(first as usize, (last - first) as usize);
                (offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect(), values)
            }
        };
        let values = self.numbers(values.as_ref(), &format!("a vector of the column {name}"), start)?;
        Ok(ListColumn { lengths, values })
    }

    fn numbers(&self, array: &dyn Array, what: &str, start: usize) -> Result<Vec<f32>, ConvertError> {
        if array.null_count() > 0 {
            let why = format!("{what} lacks a value behind row {start}; fill it in or remove the row");
            return Err(ConvertError::unusable(&self.path, why));
        }
        floats_of(array)
            .ok_or_else(|| ConvertError::unusable(&self.path, format!("{what} does not hold numbers")))
    }
}

/// Vectors one after the other, and the length of each.
struct ListColumn {
    lengths: Vec<usize>,
    values: Vec<f32>,
}

/// The type of the values of a list.
fn item_of(kind: &DataType) -> Option<&DataType> {
    match kind {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            Some(item.data_type())
        }
        _ => None,
    }
}

fn floats_of(array: &dyn Array) -> Option<Vec<f32>> {
    fn each<T: ArrowPrimitiveType>(array: &dyn Array, number: impl Fn(T::Native) -> f32) -> Option<Vec<f32>> {
        Some(array.as_primitive_opt::<T>()?.values().iter().map(|&value| number(value)).collect())
    }
    match array.data_type() {
        DataType::Float16 => each::<Float16Type>(array, |value| value.to_f32()),
        DataType::Float32 => each::<Float32Type>(array, |value| value),
        DataType::Float64 => each::<Float64Type>(array, |value| value as f32),
        DataType::Int8 => each::<Int8Type>(array, f32::from),
        DataType::Int16 => each::<Int16Type>(array, f32::from),
        DataType::Int32 => each::<Int32Type>(array, |value| value as f32),
        DataType::Int64 => each::<Int64Type>(array, |value| value as f32),
        DataType::UInt8 => each::<UInt8Type>(array, f32::from),
        DataType::UInt16 => each::<UInt16Type>(array, f32::from),
        DataType::UInt32 => each::<UInt32Type>(array, |value| value as f32),
        DataType::UInt64 => each::<UInt64Type>(array, |value| value as f32),
        _ => None,
    }
}

/// Texts, and numbers as texts; the values of a dictionary, which pandas calls a categorical column.
fn texts_of(array: &dyn Array) -> Option<Vec<Option<String>>> {
    fn each<T: ArrowPrimitiveType>(array: &dyn Array) -> Option<Vec<Option<String>>>
    where
        T::Native: ToString,
    {
        Some(
            array.as_primitive_opt::<T>()?.iter().map(|value| value.map(|value| value.to_string())).collect(),
        )
    }
    fn owned<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> Option<Vec<Option<String>>> {
        Some(texts.map(|text| text.map(str::to_owned)).collect())
    }
    match array.data_type() {
        DataType::Utf8 => owned(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => owned(array.as_string::<i64>().iter()),
        DataType::Utf8View => owned(array.as_string_view().iter()),
        DataType::Float16 => each::<Float16Type>(array),
        DataType::Float32 => each::<Float32Type>(array),
        DataType::Float64 => each::<Float64Type>(array),
        DataType::Int8 => each::<Int8Type>(array),
        DataType::Int16 => each::<Int16Type>(array),
        DataType::Int32 => each::<Int32Type>(array),
        DataType::Int64 => each::<Int64Type>(array),
        DataType::UInt8 => each::<UInt8Type>(array),
        DataType::UInt16 => each::<UInt16Type>(array),
        DataType::UInt32 => each::<UInt32Type>(array),
        DataType::UInt64 => each::<UInt64Type>(array),
        DataType::Boolean => {
            Some(array.as_boolean().iter().map(|value| value.map(|value| value.to_string())).collect())
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary_opt()?;
            let values = texts_of(dictionary.values().as_ref())?;
            let keys = texts_of(dictionary.keys())?;
            let value = |key: Option<String>| match key {
                None => Some(None),
                Some(key) => values.get(key.parse::<usize>().ok()?).cloned(),
            };
            keys.into_iter().map(value).collect()
        }
        _ => None,
    }
}

/// The columns of the tables that this program writes, without their header.
pub(super) fn schema_of(table: &FeatureTable<'_>, path: &Path) -> Result<Schema, ConvertError> {
    let width = i32::try_from(table.width());
    let width =
        width.map_err(|_| ConvertError::unusable(path, "its rows are too long for a column of vectors"))?;
    let mut fields = vec![
        Field::new(NAME, DataType::Utf8, false),
        Field::new(LABEL, DataType::Int64, false),
        Field::new(CLASS, DataType::Utf8, true),
    ];
    if table.rows.sha256.is_some() {
        fields.push(Field::new(SHA256, DataType::Utf8, false));
        fields.push(Field::new(PERCEPTUAL_HASH, DataType::Utf8, true));
    }
    fields.push(Field::new(FEATURES, DataType::FixedSizeList(Arc::new(element()), width), false));
    Ok(Schema::new(fields))
}

fn element() -> Field {
    Field::new("element", DataType::Float32, false)
}

/// Rows of a table as a batch.
pub(super) fn batch_of(block: &RowsOfBlock<'_>, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let (rows, range) = (block.table, block.range.clone());
    let classes: StringArray = range.clone().map(|row| rows.class(row)).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(&rows.names[range.clone()])),
        Arc::new(Int64Array::from(rows.labels[range.clone()].to_vec())),
        Arc::new(classes),
    ];
    if let Some(sha256) = &rows.sha256 {
        columns.push(Arc::new(StringArray::from_iter_values(&sha256[range.clone()])));
        let hashes: StringArray =
            rows.hashes[range.clone()].iter().map(|hash| hash.map(|hash| to_hex(&hash))).collect();
        columns.push(Arc::new(hashes));
    }
    let width = (block.values.len() / range.len().max(1)) as i32;
    let values = Arc::new(Float32Array::from(block.values.to_vec()));
    columns.push(Arc::new(FixedSizeListArray::try_new(Arc::new(element()), width, values, None)?));
    RecordBatch::try_new(schema.clone(), columns)
}
