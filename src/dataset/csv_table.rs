//! Reading CSV files that people and programs write, for lists of images, groups and splits alike.
//!
//! As RFC 4180 has it, and what is common beside it: a byte order mark, UTF-16 with one, any line ends (CR, LF, CR LF),
//! semicolons, tabs or bars instead of commas, blanks around fields. The csv crate would take a quote that is never closed
//! for the beginning of a field as long as the rest of the file, and text after a closing quote for a part of the field; so
//! would a stray quote swallow rows in silence. Here both are errors that name the line.

use std::borrow::Cow;

/// Characters that may stand between fields; the first of two that would do is taken.
const SEPARATORS: [char; 4] = [',', ';', '\t', '|'];

/// Why a CSV file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsvError {
    /// Bytes that are not UTF-8.
    #[error("line {line} is not UTF-8 text; save the file as CSV UTF-8")]
    NotUtf8 {
        /// 1-based line of the file.
        line: u64,
    },
    /// A NUL, which no text has.
    #[error("line {line} holds a NUL character, so it is not UTF-8 text; save the file as CSV UTF-8")]
    Nul {
        /// 1-based line of the file.
        line: u64,
    },
    /// A quoted field without an end.
    #[error(
        "the quote that begins on line {line} is never closed; remove it, or close it (inside a quoted field a quote is written twice)"
    )]
    OpenQuote {
        /// 1-based line where the quote stands.
        line: u64,
    },
    /// Text between a closing quote and the field's end.
    #[error(
        "the quote that begins on line {line} is closed on line {end} with text after it; remove it, or \
         write a quote inside a quoted field twice"
    )]
    TextAfterQuote {
        /// 1-based line where the quote stands.
        line: u64,
        /// 1-based line where it is closed.
        end: u64,
    },
    /// A row that is longer or shorter than the first one.
    #[error(
        "line {line} has {found} fields, but the first line has {expected}; put quotes around a field that holds a {separator:?}"
    )]
    Fields {
        /// 1-based line of the file.
        line: u64,
        /// Fields of the row.
        found: usize,
        /// Columns.
        expected: usize,
        /// What stands between fields.
        separator: char,
    },
    /// A field of one line that goes over several.
    #[error(
        "the {column} on line {line} has several lines, up to line {end}; a quote on line {line} is stray \
         or is not closed there"
    )]
    LineEnd {
        /// The column's name.
        column: String,
        /// 1-based line where the field begins.
        line: u64,
        /// 1-based line where it ends.
        end: u64,
    },
    /// A column that is there twice.
    #[error("its first line names the column {column} twice; rename one of them")]
    ColumnTwice {
        /// The column's name.
        column: String,
    },
}

/// A CSV file with a header.
#[derive(Debug)]
pub(crate) struct CsvTable<'t> {
    /// The names of the columns, without blanks around them.
    pub(crate) header: Vec<String>,
    records: Records<'t>,
}

/// A line of a CSV file, or several where a quoted field holds line ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CsvRow<'t> {
    /// 1-based line of the file.
    pub(crate) line: u64,
    /// As many as there are columns.
    pub(crate) fields: Vec<CsvField<'t>>,
}

/// A field without its quotes and without blanks around it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CsvField<'t> {
    pub(crate) text: Cow<'t, str>,
    /// 1-based lines of the file where it begins and ends.
    pub(crate) lines: (u64, u64),
}

impl CsvField<'_> {
    /// The text of a field that has to be on one line.
    pub(crate) fn on_one_line(&self, column: &str) -> Result<&str, CsvError> {
        if self.text.contains(['\n', '\r']) {
            let (line, end) = self.lines;
            return Err(CsvError::LineEnd { column: column.to_owned(), line, end });
        }
        Ok(&self.text)
    }
}

/// The text of a file: UTF-8, or UTF-16 where it begins with a byte order mark, which is left out.
pub(crate) fn text_of(bytes: &[u8]) -> Result<Cow<'_, str>, CsvError> {
    let line_at = |at: usize| 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count() as u64;
    let utf16 = |two: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks(2).map(|unit| unit.try_into().map_or(0xD800, two));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        text.map(Cow::Owned).map_err(|_| CsvError::NotUtf8 { line: 1 })
    };
    let text = match bytes {
        [0xFF, 0xFE, ..] => utf16(u16::from_le_bytes)?,
        [0xFE, 0xFF, ..] => utf16(u16::from_be_bytes)?,
        _ => {
            let text = str::from_utf8(bytes);
            let text = text.map_err(|error| CsvError::NotUtf8 { line: line_at(error.valid_up_to()) })?;
            Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text))
        }
    };
    match text.find('\0') {
        Some(at) => Err(CsvError::Nul { line: 1 + text[..at].matches('\n').count() as u64 }),
        None => Ok(text),
    }
}

impl<'t> CsvTable<'t> {
    /// Reads the header. What stands between fields is the one of [`SEPARATORS`] with which `is_known` says that the header
    /// has the columns that are looked for; where that settles nothing, the one that gives most columns.
    pub(crate) fn new(text: &'t str, is_known: impl Fn(&[String]) -> bool) -> Result<Self, CsvError> {
        // What Excel writes, and reads, to name the separator.
        let named = text.get(..4).filter(|start| start.eq_ignore_ascii_case("sep="));
        if let Some(separator) = named.and_then(|_| text[4..].chars().next())
            && matches!(text[4 + separator.len_utf8()..].chars().next(), None | Some('\r' | '\n'))
        {
            let mut records = Records { rest: text, line: 1, separator: '\0' };
            records.next()?;
            return Self::with(Records { separator, ..records });
        }
        let mut best: Result<Self, CsvError> =
            Self::with(Records { rest: text, line: 1, separator: SEPARATORS[0] });
        let rank = |table: &Self| (is_known(&table.header), table.header.len());
        for separator in SEPARATORS.into_iter().skip(1) {
            // With the wrong separator, text seems to follow a closing quote.
            let Ok(table) = Self::with(Records { rest: text, line: 1, separator }) else { continue };
            if best.as_ref().map_or(true, |best| rank(&table) > rank(best)) {
                best = Ok(table);
            }
        }
        best
    }

    fn with(mut records: Records<'t>) -> Result<Self, CsvError> {
        let header = records.next()?.map_or_else(Vec::new, |row| row.fields);
        Ok(Self { header: header.into_iter().map(|field| field.text.into_owned()).collect(), records })
    }

    /// The column of that name, in upper or lower case unless that is two of them.
    pub(crate) fn column(&self, name: &str) -> Result<Option<usize>, CsvError> {
        let exact: Vec<usize> = (0..self.header.len()).filter(|&at| self.header[at] == name).collect();
        let found = match &exact[..] {
            [] => (0..self.header.len()).filter(|&at| self.header[at].eq_ignore_ascii_case(name)).collect(),
            _ => exact,
        };
        match &found[..] {
            [] => Ok(None),
            [only] => Ok(Some(*only)),
            _ => Err(CsvError::ColumnTwice { column: name.to_owned() }),
        }
    }

    /// The table that goes on with `text` where another one, of the same columns, has ended.
    pub(super) fn continued(header: Vec<String>, before: &CsvBlock, text: &'t str) -> Self {
        let CsvBlock { line, separator } = *before;
        Self { header, records: Records { rest: text, line, separator } }
    }

    /// Where the next block begins, once all rows are read.
    pub(super) fn block(&self) -> CsvBlock {
        CsvBlock { line: self.records.line, separator: self.records.separator }
    }

    /// What stands between fields.
    pub(crate) fn separator(&self) -> char {
        self.records.separator
    }

    /// The next row; rows without any text are passed over.
    pub(crate) fn next_row(&mut self) -> Result<Option<CsvRow<'t>>, CsvError> {
        while let Some(row) = self.records.next()? {
            let (found, expected) = (row.fields.len(), self.header.len());
            if row.fields.iter().all(|field| field.text.is_empty()) {
                continue;
            }
            if found != expected {
                let (line, separator) = (row.line, self.records.separator);
                return Err(CsvError::Fields { line, found, expected, separator });
            }
            return Ok(Some(row));
        }
        Ok(None)
    }
}

/// Where a block of a CSV file begins that is read in several.
pub(super) struct CsvBlock {
    /// 1-based line of the file.
    line: u64,
    separator: char,
}

/// What is left of a CSV file.
#[derive(Debug)]
struct Records<'t> {
    rest: &'t str,
    /// 1-based line where `rest` begins.
    line: u64,
    separator: char,
}

impl<'t> Records<'t> {
    /// The fields up to the next line end outside of quotes; blank lines are passed over.
    fn next(&mut self) -> Result<Option<CsvRow<'t>>, CsvError> {
        self.skip_blanks();
        while self.take_line_end() {
            self.skip_blanks();
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        let mut fields = vec![self.field()?];
        while self.rest.starts_with(self.separator) {
            self.rest = &self.rest[self.separator.len_utf8()..];
            fields.push(self.field()?);
        }
        self.take_line_end();
        Ok(Some(CsvRow { line, fields }))
    }

    /// The field at the beginning of the rest, up to a separator, a line end or the end of the file.
    fn field(&mut self) -> Result<CsvField<'t>, CsvError> {
        self.skip_blanks();
        let begin = self.line;
        if !self.rest.starts_with('"') {
            let end = self.rest.find([self.separator, '\r', '\n']).unwrap_or(self.rest.len());
            let (text, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Ok(CsvField { text: Cow::Borrowed(text.trim()), lines: (begin, begin) });
        }
        self.rest = &self.rest[1..];
        let mut text = Cow::Borrowed("");
        loop {
            let Some(quote) = self.rest.find('"') else { return Err(CsvError::OpenQuote { line: begin }) };
            let (part, rest) = self.rest.split_at(quote);
            self.line += line_ends(part);
            match &mut text {
                Cow::Borrowed("") => text = Cow::Borrowed(part),
                text => text.to_mut().push_str(part),
            }
            let Some(rest) = rest[1..].strip_prefix('"') else {
                self.rest = &rest[1..];
                break;
            };
            text.to_mut().push('"');
            self.rest = rest;
        }
        let end = self.line;
        self.skip_blanks();
        if !self.rest.is_empty() && !self.rest.starts_with([self.separator, '\r', '\n']) {
            return Err(CsvError::TextAfterQuote { line: begin, end });
        }
        let text = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        };
        Ok(CsvField { text, lines: (begin, end) })
    }

    /// Goes over blanks that are no separators.
    fn skip_blanks(&mut self) {
        let separator = self.separator;
        self.rest = self.rest.trim_start_matches(|c| c != separator && matches!(c, ' ' | '\t'));
    }

    fn take_line_end(&mut self) -> bool {
        let rest = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix(['\r', '\n']));
        if let Some(rest) = rest {
            (self.rest, self.line) = (rest, self.line + 1);
        }
        rest.is_some()
    }
}

/// The number of line ends, whether CR, LF or CR LF.
fn line_ends(text: &str) -> u64 {
    let bytes = text.as_bytes();
    (0..bytes.len())
        .filter(|&at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r') || bytes[at] == b'\r')
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(u64, Vec<String>)>, CsvError> {
        let mut table = CsvTable::new(text, |header| header.iter().any(|name| name == "path"))?;
        let mut rows = vec![(0, table.header.clone())];
        while let Some(row) = table.next_row()? {
            rows.push((row.line, row.fields.into_iter().map(|field| field.text.into_owned()).collect()));
        }
        Ok(rows)
    }

    fn rows(rows: &[(u64, &[&str])]) -> Result<Vec<(u64, Vec<String>)>, CsvError> {
        Ok(rows
            .iter()
            .map(|(line, row)| (*line, row.iter().map(|&field| field.to_owned()).collect()))
            .collect())
    }

    #[test]
    fn fields_are_read_whatever_stands_between_them() {
        let expected = rows(&[(0, &["path", "label"]), (2, &["a.jpg", "cat, big"]), (4, &["b.jpg", ""])]);
        for text in [
            "path,label\na.jpg,\"cat, big\"\n\nb.jpg,\n",
            "path;label\r\na.jpg;cat, big\r\n\r\nb.jpg;",
            "path\tlabel\ra.jpg\tcat, big\r\rb.jpg\t",
            " path | label \n a.jpg | cat, big \n \t \n b.jpg | \n",
            "path , label\na.jpg , \"cat, big\" \n,\n\"b.jpg\",\"\"",
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
        let expected = rows(&[(0, &["a,b", "c"]), (3, &["1", "2,3"])]);
        assert_eq!(read("sep=;\na,b;c\n1;2,3\n"), expected);
        assert_eq!(read(""), rows(&[(0, &[])]));
    }

    #[test]
    fn quotes_inside_of_fields_are_theirs() {
        let text =
            "path,label\na.jpg,\"5\"\" disk\"\nb.jpg,5\" disk\nc.jpg,\"\"\"x\"\"\"\n\"d\n.jpg\",x\ne.jpg,y\n";
        let expected = rows(&[
            (0, &["path", "label"]),
            (2, &["a.jpg", "5\" disk"]),
            (3, &["b.jpg", "5\" disk"]),
            (4, &["c.jpg", "\"x\""]),
            (5, &["d\n.jpg", "x"]),
            (7, &["e.jpg", "y"]),
        ]);
        assert_eq!(read(text), expected);
    }

    #[test]
    fn stray_quotes_are_errors_that_name_their_line() {
        for (text, error) in [
            ("path,label\na.jpg,x\nb.jpg,\"blue\nc.jpg,x\n", CsvError::OpenQuote { line: 3 }),
            ("path,label,note\na.jpg,x,\"two\r\nlines\"\r\nb.jpg,\"y,z\n", CsvError::OpenQuote { line: 4 }),
            ("\"path,label\na.jpg,x\n", CsvError::OpenQuote { line: 1 }),
            ("path,label\na.jpg,\"x\nb.jpg,\"y\n", CsvError::TextAfterQuote { line: 2, end: 3 }),
            ("path,label\na.jpg,\"x\"y\n", CsvError::TextAfterQuote { line: 2, end: 2 }),
            ("path,label\na.jpg\n", CsvError::Fields { line: 2, found: 1, expected: 2, separator: ',' }),
        ] {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        let field = CsvField { text: "blue\nc.jpg,x".into(), lines: (3, 4) };
        let error = CsvError::LineEnd { column: "label".into(), line: 3, end: 4 };
        assert_eq!(field.on_one_line("label"), Err(error));
    }

    #[test]
    fn files_are_read_as_pandas_reads_them() {
        use base64::Engine as _;
        use base64::prelude::BASE64_STANDARD;

        use crate::dataset::class_name_of;

        let reference = include_str!("../../tests/reference/csv.json");
        let reference: serde_json::Value = serde_json::from_str(reference).unwrap();
        let cases = reference["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let bytes = BASE64_STANDARD.decode(case["content"].as_str().unwrap()).unwrap();
            let text = text_of(&bytes).unwrap();
            let mut table = CsvTable::new(&text, |header| header.iter().any(|name| name == "path")).unwrap();
            let (path, label) =
                (table.column("path").unwrap().unwrap(), table.column("label").unwrap().unwrap());
            let mut found = Vec::new();
            while let Some(row) = table.next_row().unwrap() {
                let label = row.fields[label].on_one_line("label").unwrap();
                found.push((row.fields[path].text.clone().into_owned(), class_name_of(label).unwrap()));
            }
            let expected: Vec<(String, Option<String>)> =
                serde_json::from_value(case["rows"].clone()).unwrap();
            assert_eq!(found, expected, "{}", case["dialect"]);
        }
    }

    #[test]
    fn texts_are_utf8_or_marked_as_utf16() {
        let utf16 = |mark: [u8; 2], two: fn(u16) -> [u8; 2]| -> Vec<u8> {
            mark.into_iter().chain("päth\n1".encode_utf16().flat_map(two)).collect()
        };
        assert_eq!(text_of(&utf16([0xFF, 0xFE], u16::to_le_bytes)).unwrap(), "päth\n1");
        assert_eq!(text_of(&utf16([0xFE, 0xFF], u16::to_be_bytes)).unwrap(), "päth\n1");
        assert_eq!(text_of("\u{feff}päth".as_bytes()).unwrap(), "päth");
        assert_eq!(text_of(b"path\na\nb\xe4r.jpg"), Err(CsvError::NotUtf8 { line: 3 }));
        assert_eq!(text_of(b"p\0a\0"), Err(CsvError::Nul { line: 1 }));
        assert_eq!(text_of(b"\xff\xfea"), Err(CsvError::NotUtf8 { line: 1 }));
    }
}
