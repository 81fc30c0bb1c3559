//! Features as Arrow files (Feather version 2). A record batch is read as a whole, so memory grows with the file's batches.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::ArrowError;

use super::ConvertError;
use super::batches::{ArrowColumns, batch_of, guard, header_in, schema_of, unreadable};
use super::columns::ColumnNames;
use super::feature_table::{FeatureTable, FoundTable, HEADER_KEY, RowBlocks, TakeBlock};
use super::row_texts::RowTexts;

/// Opens a file for some of its columns; `None` is all.
fn open(path: &Path, columns: Option<Vec<usize>>) -> Result<FileReader<BufReader<File>>, ConvertError> {
    let file = BufReader::with_capacity(1 << 18, File::open(path).map_err(ConvertError::read(path))?);
    let not_arrow = |source: ArrowError| {
        let what = "it is not a whole Arrow file (Feather version 2)".to_owned();
        ConvertError::Damaged { path: path.to_owned(), what, source: Some(source.into()) }
    };
    guard(path, || FileReader::try_new(file, columns).map_err(not_arrow))
}

/// Hands on batches of some columns until `take` has had enough.
fn each_batch(
    path: &Path,
    columns: Vec<usize>,
    take: &mut dyn FnMut(arrow_array::RecordBatch) -> Result<bool, ConvertError>,
) -> Result<(), ConvertError> {
    let mut reader = open(path, Some(columns))?;
    while let Some(batch) = guard(path, || reader.next().transpose().map_err(unreadable(path)))? {
        if !take(batch)? {
            break;
        }
    }
    Ok(())
}

/// Finds the features and what belongs to their rows.
pub(super) fn read(path: &Path, wanted: &ColumnNames) -> Result<FoundTable, ConvertError> {
    let schema = open(path, None)?.schema();
    let header = header_in(schema.metadata().iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let columns = ArrowColumns::find(&schema, wanted, header.is_some(), path)?;
    let mut texts = RowTexts::default();
    each_batch(path, columns.row_columns(), &mut |batch| {
        columns.push_texts(&batch, &mut texts).map(|()| true)
    })?;
    let mut width = columns.width(&schema);
    if width.is_none() {
        each_batch(path, columns.feature_columns(), &mut |batch| {
            if batch.num_rows() > 0 {
                width = Some(columns.width_of(&batch)?);
            }
            Ok(width.is_none())
        })?;
    }
    let width = width.unwrap_or(0);
    let values =
        |columns| -> Box<dyn RowBlocks> { Box::new(ArrowRows { path: path.to_owned(), columns, width }) };
    columns.into_table(path, header, (texts, wanted), width, values)
}

/// The features of an Arrow file.
struct ArrowRows {
    path: PathBuf,
    columns: ArrowColumns,
    width: usize,
}

impl RowBlocks for ArrowRows {
    fn each(&mut self, take: &mut TakeBlock<'_>) -> Result<(), ConvertError> {
        let Self { path, columns, width } = self;
        let mut start = 0;
        each_batch(path, columns.feature_columns(), &mut |batch| {
            columns.each_block(&batch, start, *width, take)?;
            start += batch.num_rows();
            Ok(true)
        })
    }
}

/// Writes a table, uncompressed, so that readers can map it into memory.
pub(super) fn write(table: &mut FeatureTable<'_>, path: &Path) -> Result<(), ConvertError> {
    let metadata = HashMap::from([(HEADER_KEY.to_owned(), table.header_json())]);
    let schema = Arc::new(schema_of(table, path)?.with_metadata(metadata));
    let failed = || ConvertError::write::<ArrowError>(path);
    let file = BufWriter::with_capacity(
        1 << 18,
        File::create(path).map_err(ConvertError::write::<std::io::Error>(path))?,
    );
    let mut writer = FileWriter::try_new(file, &schema).map_err(failed())?;
    table.each_block(&mut |block| {
        let batch = batch_of(block, &schema).map_err(failed())?;
        writer.write(&batch).map_err(failed())
    })?;
    writer.finish().map_err(failed())?;
    let flushed: std::io::Result<()> = writer.get_mut().flush();
    flushed.map_err(ConvertError::write(path))
}
