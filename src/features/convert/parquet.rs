//! Features as Parquet: the row groups are read one after the other, so memory does not grow with the file.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::ConvertError;
use super::batches::{ArrowColumns, batch_of, guard, header_in, schema_of, unreadable};
use super::columns::{ColumnNames, FEATURES};
use super::feature_table::{
    FeatureTable, FoundTable, HEADER_KEY, RowBlocks, TableHeader, TakeBlock, rows_of_block,
};
use super::row_texts::RowTexts;

/// Features in a row group, which is as much as a writer keeps in memory: 64 MiB.
const GROUP_VALUES: usize = 1 << 24;
/// Rows of texts that are read at a time.
const TEXT_ROWS: usize = 1 << 14;

type BatchReaderBuilder = ParquetRecordBatchReaderBuilder<File>;

pub(super) fn open(path: &Path) -> Result<BatchReaderBuilder, ConvertError> {
    let file = File::open(path).map_err(ConvertError::read(path))?;
    guard(path, || BatchReaderBuilder::try_new(file).map_err(not_parquet(path)))
}

fn not_parquet(path: &Path) -> impl FnOnce(ParquetError) -> ConvertError {
    let path = path.to_owned();
    move |source| {
        let what = "it is not a whole Parquet file".to_owned();
        ConvertError::Damaged { path, what, source: Some(source.into()) }
    }
}

/// Hands on batches of some columns.
fn each_batch(
    builder: BatchReaderBuilder,
    columns: Vec<usize>,
    rows_at_once: usize,
    path: &Path,
    take: &mut dyn FnMut(arrow_array::RecordBatch) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
    let builder = builder.with_projection(mask).with_batch_size(rows_at_once);
    let mut reader = guard(path, || builder.build().map_err(unreadable(path)))?;
    while let Some(batch) = guard(path, || reader.next().transpose().map_err(unreadable(path)))? {
        take(batch)?;
    }
    Ok(())
}

fn texts_of(
    builder: BatchReaderBuilder,
    columns: &ArrowColumns,
    path: &Path,
) -> Result<RowTexts, ConvertError> {
    let rows = rows_of(&builder, path)?;
    let wanted = columns.row_columns();
    if wanted.is_empty() {
        return Ok(RowTexts { rows, ..RowTexts::default() });
    }
    let mut texts = RowTexts::default();
    each_batch(builder, wanted, TEXT_ROWS, path, &mut |batch| columns.push_texts(&batch, &mut texts))?;
    Ok(texts)
}

fn rows_of(builder: &BatchReaderBuilder, path: &Path) -> Result<usize, ConvertError> {
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows());
    rows.map_err(|_| ConvertError::damaged(path, "it claims an impossible number of rows"))
}

/// The columns of a table that are no features.
pub(super) fn read_rows(path: &Path, wanted: &ColumnNames) -> Result<RowTexts, ConvertError> {
    let builder = open(path)?;
    let columns = ArrowColumns::without_features(builder.schema(), wanted, path)?;
    Ok(RowTexts { described: Some(columns.describe()), ..texts_of(builder, &columns, path)? })
}

/// Which columns hold what, and what this program wrote about the features.
pub(super) fn columns_of(
    builder: &BatchReaderBuilder,
    wanted: &ColumnNames,
    path: &Path,
) -> Result<(ArrowColumns, Option<TableHeader>), ConvertError> {
    let metadata = builder.metadata().file_metadata().key_value_metadata();
    let texts = metadata.into_iter().flatten();
    let header = header_in(texts.filter_map(|text| Some((text.key.as_str(), text.value.as_deref()?))));
    Ok((ArrowColumns::find(builder.schema(), wanted, header.is_some(), path)?, header))
}

/// Finds the features and what belongs to their rows.
pub(super) fn read(path: &Path, wanted: &ColumnNames) -> Result<FoundTable, ConvertError> {
    let builder = open(path)?;
    let (columns, header) = columns_of(&builder, wanted, path)?;
    let rows = rows_of(&builder, path)?;
    let width = match columns.width(builder.schema()) {
        Some(width) => width,
        None if rows == 0 => 0,
        None => {
            let mut width = 0;
            each_batch(open(path)?.with_limit(1), columns.feature_columns(), 1, path, &mut |batch| {
                width = columns.width_of(&batch)?;
                Ok(())
            })?;
            width
        }
    };
    let texts = texts_of(builder, &columns, path)?;
    if texts.rows != rows {
        return Err(ConvertError::damaged(path, format!("it holds {} of its {rows} rows", texts.rows)));
    }
    let values =
        |columns| -> Box<dyn RowBlocks> { Box::new(ParquetRows { path: path.to_owned(), columns, width }) };
    columns.into_table(path, header, (texts, wanted), width, values)
}

/// The features of a Parquet file.
struct ParquetRows {
    path: std::path::PathBuf,
    columns: ArrowColumns,
    width: usize,
}

impl RowBlocks for ParquetRows {
    fn each(&mut self, take: &mut TakeBlock<'_>) -> Result<(), ConvertError> {
        let Self { path, columns, width } = self;
        let mut start = 0;
        each_batch(open(path)?, columns.feature_columns(), rows_of_block(*width), path, &mut |batch| {
            columns.each_block(&batch, start, *width, take)?;
            start += batch.num_rows();
            Ok(())
        })
    }
}

/// Writes a table.
pub(super) fn write(table: &mut FeatureTable<'_>, path: &Path) -> Result<(), ConvertError> {
    // pyarrow shows the metadata of the Arrow schema that it finds, and not those of the file.
    let header = table.header_json();
    let metadata = HashMap::from([(HEADER_KEY.to_owned(), header.clone())]);
    let schema = Arc::new(schema_of(table, path)?.with_metadata(metadata));
    // Activations compress by a tenth, and dictionaries of them are larger than they are.
    let vectors = ColumnPath::new([FEATURES, "list", "element"].map(str::to_owned).to_vec());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_column_compression(vectors.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(vectors.clone(), false)
        .set_column_statistics_enabled(vectors, EnabledStatistics::None)
        .set_max_row_group_row_count(Some((GROUP_VALUES / table.width()).max(1)))
        .set_key_value_metadata(Some(vec![KeyValue::new(HEADER_KEY.to_owned(), header)]))
        .build();
    let failed = || ConvertError::write::<ParquetError>(path);
    let file =
        std::io::BufWriter::with_capacity(1 << 18, File::create(path).map_err(ConvertError::write(path))?);
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(failed())?;
    table.each_block(&mut |block| {
        let batch = batch_of(block, &schema).map_err(ConvertError::write(path))?;
        writer.write(&batch).map_err(failed())
    })?;
    writer.finish().map_err(failed())?;
    writer.inner_mut().flush().map_err(ConvertError::write(path))
}
