//! Features as CSV: a row an image, a column a feature. What the columns cannot hold stands in `FILE.csv.json`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Writer};

use super::ConvertError;
use super::columns::{
    CLASS, ColumnNames, LABEL, NAME, PERCEPTUAL_HASH, RowColumns, SHA256, describe, may_be_feature,
};
use super::feature_table::{
    FeatureTable, FoundTable, RowBlocks, TableHeader, TableRows, TakeBlock, rows_of_block,
};
use super::hashes::to_hex;
use super::labels::TableLabels;
use super::row_texts::RowTexts;

/// What the columns of features begin with.
const FEATURE: &str = "feature_";
/// Ends a row whose fields were written one by one.
const NOTHING: [&str; 0] = [];
/// Longest first line that is looked at.
const MAX_LINE: u64 = 1 << 26;

/// A file that stands beside another one, under its name with something added.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The header that this program wrote beside a file without room for it.
pub(super) fn header_beside(path: &Path) -> Result<Option<TableHeader>, ConvertError> {
    let json = beside(path, ".json");
    match std::fs::read(&json) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(header) => Ok(Some(header)),
            Err(error) => {
                let what = "it is not the description that cnncodes wrote".to_owned();
                Err(ConvertError::Damaged { path: json, what, source: Some(error.into()) })
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConvertError::read(&json)(error)),
    }
}

/// How a CSV file is written.
#[derive(Debug, Clone)]
pub(super) struct CsvDialect {
    path: PathBuf,
    separator: u8,
    /// Whether the first line names the columns.
    named: bool,
    columns: Vec<String>,
}

impl CsvDialect {
    /// Looks at the first line.
    pub(super) fn of(path: &Path) -> Result<Self, ConvertError> {
        let file = File::open(path).map_err(ConvertError::read(path))?;
        let mut line = Vec::new();
        BufReader::new(file).take(MAX_LINE).read_until(b'\n', &mut line).map_err(ConvertError::read(path))?;
        let count = |separator: u8| line.iter().filter(|&&byte| byte == separator).count();
        // Of several that occur, the first that is the most frequent.
        let separator =
            [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|&byte| count(byte)).unwrap_or(b',');
        let mut dialect = Self { path: path.to_owned(), separator, named: true, columns: Vec::new() };
        let mut first = StringRecord::new();
        dialect.named = false;
        if !dialect.reader()?.read_record(&mut first).map_err(|error| dialect.malformed(error))? {
            return Err(ConvertError::unusable(path, "it is empty"));
        }
        let fields: Vec<&str> =
            first.iter().map(|field| field.trim_start_matches('\u{feff}').trim()).collect();
        let is_number = |field: &&str| field.parse::<f32>().is_ok();
        // Numbers in their order are the names that pandas gives to columns without names.
        let counts =
            |from: usize| fields.iter().enumerate().all(|(at, field)| field.parse() == Ok(at + from));
        dialect.named = !fields.iter().all(is_number) || counts(0) || counts(1);
        dialect.columns = match dialect.named {
            true => fields.iter().map(|field| field.to_string()).collect(),
            false => (0..fields.len()).map(|at| at.to_string()).collect(),
        };
        Ok(dialect)
    }

    fn reader(&self) -> Result<csv::Reader<File>, ConvertError> {
        let mut builder = ReaderBuilder::new();
        builder.has_headers(self.named).delimiter(self.separator).buffer_capacity(1 << 18);
        builder.from_path(&self.path).map_err(|error| self.malformed(error))
    }

    /// Why a line cannot be read.
    fn malformed(&self, error: csv::Error) -> ConvertError {
        let path = self.path.clone();
        let line = error.position().map_or(1, csv::Position::line);
        match error.into_kind() {
            csv::ErrorKind::Io(source) => ConvertError::Read { path, source },
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                let what = format!("line {line} has {len} fields, but the first line has {expected_len}");
                ConvertError::Damaged { path, what, source: None }
            }
            csv::ErrorKind::Utf8 { .. } => ConvertError::Unusable {
                path,
                why: format!("line {line} is not UTF-8 text; save the file as CSV UTF-8"),
            },
            kind => ConvertError::Damaged {
                path,
                what: format!("line {line} cannot be read: {kind:?}"),
                source: None,
            },
        }
    }

    /// The columns that are no features.
    fn row_columns(&self, wanted: &ColumnNames, has_header: bool) -> Result<RowColumns, ConvertError> {
        if !self.named {
            return Ok(RowColumns::default());
        }
        RowColumns::find(&self.columns, wanted, has_header, &self.path)
    }

    fn texts(&self, columns: &RowColumns) -> Result<RowTexts, ConvertError> {
        let mut texts = RowTexts::default();
        let places = [columns.name, columns.label, columns.sha256, columns.perceptual_hash];
        let mut found = places.map(|place| place.map(|_| Vec::new()));
        let (mut reader, mut record) = (self.reader()?, StringRecord::new());
        while reader.read_record(&mut record).map_err(|error| self.malformed(error))? {
            for (place, column) in places.iter().zip(&mut found) {
                if let Some((place, column)) = place.zip(column.as_mut()) {
                    column.push(record.get(place).filter(|text| !text.is_empty()).map(str::to_owned));
                }
            }
            texts.rows += 1;
        }
        [texts.names, texts.labels, texts.sha256, texts.hashes] = found;
        Ok(texts)
    }
}

/// The rows of a CSV file that has no features, and that belongs to an array.
pub(super) fn read_rows(
    path: &Path,
    wanted: &ColumnNames,
    has_header: bool,
) -> Result<RowTexts, ConvertError> {
    let dialect = CsvDialect::of(path)?;
    dialect.texts(&dialect.row_columns(wanted, has_header)?)
}

/// Finds the features and what belongs to their rows.
pub(super) fn read(path: &Path, wanted: &ColumnNames) -> Result<FoundTable, ConvertError> {
    let dialect = CsvDialect::of(path)?;
    let header = header_beside(path)?;
    let columns = dialect.row_columns(wanted, header.is_some())?;
    if wanted.features.is_some() {
        let why = "its features are its columns of numbers, so --features-column does not apply";
        return Err(ConvertError::unusable(path, why));
    }
    let mut first = StringRecord::new();
    dialect.reader()?.read_record(&mut first).map_err(|error| dialect.malformed(error))?;
    let is_number =
        |column: usize| first.get(column).is_some_and(|field| field.trim().parse::<f32>().is_ok());
    let features: Vec<usize> = (0..dialect.columns.len())
        .filter(|&column| {
            !columns.contain(column)
                && match header {
                    Some(_) => dialect.columns[column].starts_with(FEATURE),
                    None => is_number(column) && may_be_feature(&dialect.columns[column]),
                }
        })
        .collect();
    if features.is_empty() {
        let what = "columns of numbers that could be features".to_owned();
        return Err(ConvertError::Missing { path: path.to_owned(), what, present: dialect.columns });
    }
    if header.is_some() && !ends_with_line(path)? {
        return Err(ConvertError::damaged(path, "its last line has no end"));
    }
    let texts = dialect.texts(&columns)?;
    if let Some(header) = header.as_ref().filter(|header| header.rows != texts.rows) {
        let json = beside(path, ".json");
        let (found, expected) = (texts.rows, header.rows);
        let why = format!(
            "it has {found} rows, and {} says {expected}; copy both again, or remove {0} if you changed the rows",
            json.display()
        );
        return Err(ConvertError::unusable(path, why));
    }
    let notes =
        if header.is_none() { vec![describe(&dialect.columns, &columns, &features)] } else { Vec::new() };
    let mut found = FoundTable {
        path: path.to_owned(),
        header,
        rows: texts.rows,
        shape: vec![features.len()],
        names: None,
        labels: TableLabels::Unsaid,
        sha256: None,
        hashes: None,
        notes,
        values: Box::new(CsvRows { dialect, features }),
    };
    texts.put_into(&mut found, wanted)?;
    Ok(found)
}

/// Whether the file ends with a whole line, as this program writes them: a number that is cut short is a number as well.
fn ends_with_line(path: &Path) -> Result<bool, ConvertError> {
    let mut last = [0];
    let mut file = File::open(path).map_err(ConvertError::read(path))?;
    file.seek(SeekFrom::End(-1))
        .and_then(|_| file.read_exact(&mut last))
        .map_err(ConvertError::read(path))?;
    Ok(last == *b"\n")
}

/// The numbers of a CSV file.
struct CsvRows {
    dialect: CsvDialect,
    features: Vec<usize>,
}

impl RowBlocks for CsvRows {
    fn each(&mut self, take: &mut TakeBlock<'_>) -> Result<(), ConvertError> {
        let Self { dialect, features } = self;
        let mut reader = dialect.reader()?;
        let most = rows_of_block(features.len()) * features.len();
        let (mut record, mut values) = (StringRecord::new(), Vec::with_capacity(most.min(1 << 22)));
        while reader.read_record(&mut record).map_err(|error| dialect.malformed(error))? {
            for &column in features.iter() {
                let field = record.get(column).unwrap_or_default().trim();
                let value = field.parse().map_err(|_| {
                    let line = record.position().map_or(0, csv::Position::line);
                    let name = &dialect.columns[column];
                    let found = if field.is_empty() { "nothing".to_owned() } else { format!("{field:?}") };
                    let why = format!(
                        "line {line} has {found} in the column {name}, where the first row has a number"
                    );
                    ConvertError::unusable(&dialect.path, why)
                })?;
                values.push(value);
            }
            if values.len() >= most {
                take(&values)?;
                values.clear();
            }
        }
        if values.is_empty() { Ok(()) } else { take(&values) }
    }
}

/// The titles of the columns that are no features.
fn titles(rows: &TableRows) -> impl Iterator<Item = &'static str> {
    let hashes = rows.sha256.iter().flat_map(|_| [SHA256, PERCEPTUAL_HASH]);
    [NAME, LABEL, CLASS].into_iter().chain(hashes)
}

/// Appends a row's columns that are no features.
fn write_row<W: std::io::Write>(out: &mut Writer<W>, rows: &TableRows, row: usize) -> csv::Result<()> {
    out.write_field(&rows.names[row])?;
    out.write_field(rows.labels[row].to_string())?;
    out.write_field(rows.class(row).unwrap_or_default())?;
    if let Some(sha256) = &rows.sha256 {
        out.write_field(&sha256[row])?;
        out.write_field(rows.hashes[row].map_or(String::new(), |hash| to_hex(&hash)))?;
    }
    Ok(())
}

/// Writes the rows alone, beside an array of their features.
pub(super) fn write_rows(table: &FeatureTable<'_>, path: &Path) -> Result<(), ConvertError> {
    let failed = || ConvertError::write::<csv::Error>(path);
    let mut out = Writer::from_path(path).map_err(failed())?;
    out.write_record(titles(&table.rows)).map_err(failed())?;
    for row in 0..table.rows.count() {
        write_row(&mut out, &table.rows, row).and_then(|()| out.write_record(NOTHING)).map_err(failed())?;
    }
    out.flush().map_err(ConvertError::write(path))
}

/// Writes a table, and its header beside it.
pub(super) fn write(table: &mut FeatureTable<'_>, path: &Path) -> Result<(), ConvertError> {
    let failed = || ConvertError::write::<csv::Error>(path);
    let mut out = Writer::from_path(path).map_err(failed())?;
    let width = table.width();
    let features = (0..width).map(|column| format!("{FEATURE}{column}"));
    out.write_record(titles(&table.rows).map(str::to_owned).chain(features)).map_err(failed())?;
    table.each_block(&mut |block| {
        for (row, values) in block.range.clone().zip(block.values.chunks_exact(width)) {
            write_row(&mut out, block.table, row).map_err(failed())?;
            out.write_record(values.iter().copied().map(shortest)).map_err(failed())?;
        }
        Ok(())
    })?;
    out.flush().map_err(ConvertError::write(path))?;
    let json = beside(path, ".json");
    std::fs::write(&json, table.header_json()).map_err(ConvertError::write(&json))
}

/// The shortest decimal number that is read as this one, with a point or an exponent: pandas takes `-0` for the integer 0.
fn shortest(value: f32) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_number_is_read_as_the_same_bits() {
        for bits in
            [0, 1 << 31, 1, 0x8000_0001, 0x007f_ffff, 0x7f7f_ffff, 0x3f80_0001, 0x3727_c5ac, 0x5a0e_1bca]
        {
            let value = f32::from_bits(bits);
            assert_eq!(shortest(value).parse::<f32>().unwrap().to_bits(), bits, "{value}");
        }
        assert_eq!([0.1, -0.0, 1e-40, 3e38].map(shortest).join(" "), "0.1 -0.0 1e-40 3e38");
    }

    #[test]
    fn separators_and_files_without_names_of_columns_are_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        for (text, separator, columns) in [
            ("name,a\nx,1\n", b',', "name a"),
            ("\u{feff}name;a\nx;1\n", b';', "name a"),
            ("name\ta\nx\t1\n", b'\t', "name a"),
            ("0.5 , -1e3\n1,2\n", b',', "0 1"),
            ("0,1\n0.5,2\n", b',', "0 1"),
        ] {
            std::fs::write(&path, text).unwrap();
            let dialect = CsvDialect::of(&path).unwrap();
            assert_eq!(
                (dialect.separator, dialect.columns.join(" ").as_str()),
                (separator, columns),
                "{text}"
            );
            assert_eq!(dialect.named, !text.starts_with("0.5"));
        }
    }
}
