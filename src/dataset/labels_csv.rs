//! Lists of images: the CSV manifest `path,label`, for photos that are not laid out one folder a class, and the list of
//! paths on standard input.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use super::csv_table::{CsvError, CsvTable, text_of};
use super::labels::{class_name_of, notes_of_labels, sort_class_names};
use super::passed_over::PassedOver;
use super::{
    Dataset, DatasetError, InputProblem, STDIN, SampleList, SourceOptions, has_image_extension, large_list,
    look_at, not_a_file, not_utf8, places, reason_of, slashed,
};
use crate::remote::{self, RemoteError, is_url};

/// Names of the column with the paths, as [`plain`] has them; where one is called `path`, it is that one.
pub(crate) const PATH_COLUMNS: [&str; 12] = [
    "path",
    "file",
    "filename",
    "filepath",
    "image",
    "imagefile",
    "imagefilename",
    "imagename",
    "imagepath",
    "img",
    "imgname",
    "imgpath",
];

/// Names of the column with the labels; where one is called `label`, it is that one.
pub(crate) const LABEL_COLUMNS: [&str; 8] =
    ["label", "labelname", "class", "classname", "classlabel", "category", "categoryname", "target"];

/// Why a CSV manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("it cannot be read; check that it may be read by this user")]
    Read(#[source] io::Error),
    /// It is not well-formed CSV.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// The header has no column of paths.
    #[error(
        "its first line names no column of paths (columns seen: {}){}; write path,label there, or name the column with --path-column",
        seen(columns),
        headless(columns)
    )]
    NoPathColumn {
        /// The first line as read.
        columns: Vec<String>,
    },
    /// There are columns beside the paths, and none is of labels.
    #[error("its first line names no column of labels (columns seen: {}); {}", seen(columns), where_labels_are(*one_hot))]
    NoLabelColumn {
        /// The first line as read.
        columns: Vec<String>,
        /// Whether the other columns hold nothing but 0 and 1.
        one_hot: bool,
    },
    /// Several columns might be the one that is looked for.
    #[error("its columns {} might all hold the {what}s; name one with --{what}-column", seen(columns))]
    SeveralColumns {
        /// `path` or `label`.
        what: &'static str,
        /// Those that might be.
        columns: Vec<String>,
    },
    /// The column that the user named is not there.
    #[error("it has no column {wanted:?}, which --{what}-column names (columns seen: {})", seen(columns))]
    NoSuchColumn {
        /// `path` or `label`.
        what: &'static str,
        /// As the user wrote it.
        wanted: String,
        /// The first line as read.
        columns: Vec<String>,
    },
    /// Images inside of a field of another column.
    #[error(
        "the {column} that begins on line {line} holds lines that look like images, such as {image:?}; a \
         quote on line {line} is stray or is not closed there"
    )]
    HiddenRow {
        /// The column of the field.
        column: String,
        /// 1-based line of the file where the field begins.
        line: u64,
        /// The path of one of the images.
        image: String,
    },
    /// A label that is none.
    #[error("the label on line {line} cannot be used: {reason}")]
    Label {
        /// 1-based line of the file.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A line without a path.
    #[error("line {line} has no path; fill it in or remove the line")]
    EmptyPath {
        /// 1-based line of the file.
        line: u64,
    },
    /// The same image twice.
    #[error("lines {first} and {second} both name {name}; remove one of them")]
    Duplicate {
        /// The image's name.
        name: String,
        /// 1-based line where it came first.
        first: u64,
        /// 1-based line where it came again.
        second: u64,
    },
    /// The places that it names cannot be opened.
    #[error("it names images in places that cannot be opened")]
    Remote(#[source] RemoteError),
    /// Not one image of the list can be found.
    #[error("none of its {rows} images can be found{}; paths are relative to {folder}", .first.as_ref().map(|first| format!(" (the first: {}: {})", first.name, first.reason)).unwrap_or_default())]
    NoImages {
        /// Number of images listed.
        rows: usize,
        /// What paths are relative to, in words.
        folder: &'static str,
        /// What is wrong with the first.
        first: Option<InputProblem>,
    },
}

/// The first few of the columns, for a message.
fn seen(columns: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = columns
        .iter()
        .take(SHOWN)
        .map(|column| match column.char_indices().nth(40) {
            _ if column.is_empty() => "(empty)".to_owned(),
            Some((at, _)) => format!("{}…", &column[..at]),
            None => column.clone(),
        })
        .collect();
    match columns.len() {
        0 => "none".to_owned(),
        all if all > SHOWN => format!("{} and {} more", shown.join(", "), all - SHOWN),
        _ => shown.join(", "),
    }
}

/// What to add where the first line looks like that of an image.
fn headless(columns: &[String]) -> &'static str {
    let is_image = columns.iter().any(|column| has_image_extension(Path::new(column)));
    if is_image { ", so it seems to be an image already" } else { "" }
}

/// What to do where no column has the name of one with labels.
fn where_labels_are(one_hot: bool) -> &'static str {
    if one_hot {
        "the others seem to be one column for each class (one-hot), which is not read; write the name of \
         each image's class into one column named label"
    } else {
        "name the column with --label-column, or extract without labels with --no-labels"
    }
}

/// A line of the list.
struct ListRow {
    line: u64,
    path: String,
    /// The name of its class, where it is known.
    label: Option<String>,
}

/// What a list says.
#[derive(Default)]
struct ParsedList {
    rows: Vec<ListRow>,
    /// What could not become a row.
    problems: Vec<InputProblem>,
    notes: Vec<String>,
    /// Whether there are to be labels.
    labelled: bool,
}

/// What kind of list it is, in words.
pub(super) struct ListKind {
    name: &'static str,
    /// What its paths are relative to.
    folder: &'static str,
}

pub(super) const MANIFEST: ListKind = ListKind { name: "manifest", folder: "the folder of the manifest" };
const LIST: ListKind = ListKind { name: "list", folder: "the current folder" };

impl Dataset {
    /// The images of a CSV file with a header line, a column of paths and, if there are labels, a column of labels.
    ///
    /// The columns are called `path` and `label`, have another usual name that only one column of the file has (see
    /// docs/images.md), or are named by `options`. Further columns are ignored; but where there are some and none is of
    /// labels, the file is refused, unless `options` want no labels. What a label means is the rule of
    /// [`labels`](super::labels). A path is absolute or relative to the folder of the CSV file. Names are the paths as
    /// written, '/'-separated, without "." and "..", and relative where an absolute path lies in the manifest's folder;
    /// only a path that leads out of that folder keeps its leading "..". A file that is missing is a problem. The CSV file or any
    /// of the paths may be an address; whether there is something at an address is found out when it is read.
    ///
    /// # Errors
    /// When the file cannot be read as such a CSV, names an image twice, or none of its images exists.
    pub fn from_manifest(csv: &Path, options: &SourceOptions) -> Result<Self, DatasetError> {
        if !is_url(csv) {
            look_at(csv)?;
        }
        if let Some(set) = large_list::read_if_large(csv, options) {
            return Ok(set);
        }
        let fail = |source| DatasetError::Manifest { path: csv.to_owned(), source };
        let bytes = places::read(csv).map_err(|error| fail(ManifestError::Read(error)))?;
        let listing = read_table(&bytes, options).map_err(fail)?;
        let folder = crate::files::folder_of(csv);
        collect(folder, listing, csv.display().to_string(), &MANIFEST).map_err(fail)
    }

    /// The images of a list as it comes on standard input: one path a line, or with `options.null`, a NUL after each.
    ///
    /// A list whose first line has a column `path`, or another usual name of such a column beside one of labels, or the
    /// column that `options` name, is a CSV manifest instead (not with `null`). Paths are absolute or relative to the
    /// current folder; without a manifest there are no labels. Names and problems are as with
    /// [`Dataset::from_manifest`]; a path that is not UTF-8 is a problem.
    ///
    /// # Errors
    /// As with [`Dataset::from_manifest`].
    pub fn from_list(bytes: &[u8], options: &SourceOptions) -> Result<Self, DatasetError> {
        let listing = if !options.null && has_header(bytes, options) {
            read_table(bytes, options).map_err(DatasetError::List)?
        } else {
            read_paths(bytes, if options.null { 0 } else { b'\n' })
        };
        collect(Path::new("."), listing, STDIN.to_owned(), &LIST).map_err(DatasetError::List)
    }
}

/// Whether the list begins with the header of a manifest. One usual name alone might be a file's; `path` has always been a
/// header.
fn has_header(bytes: &[u8], options: &SourceOptions) -> bool {
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
    // UTF-16 has zeros between its letters, so its line end may be cut in half.
    let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let Ok(line) = text_of(if is_utf16 { bytes } else { &bytes[..end] }) else { return false };
    let Ok(table) = CsvTable::new(&line, |header| has_path_column(header, options)) else { return false };
    let columns = &table.header;
    options.path_column.is_some()
        || columns.iter().any(|column| plain(column) == "path")
        || (named_as(columns, &PATH_COLUMNS).len() == 1 && !named_as(columns, &LABEL_COLUMNS).is_empty())
}

fn read_paths(bytes: &[u8], separator: u8) -> ParsedList {
    let mut listing = ParsedList::default();
    for (line, path) in (1..).zip(bytes.split(|&byte| byte == separator)) {
        let path = if separator == b'\n' { path.strip_suffix(b"\r").unwrap_or(path) } else { path };
        match str::from_utf8(path) {
            Ok("") => {}
            Ok(path) => listing.rows.push(ListRow { line, path: path.to_owned(), label: None }),
            Err(_) => listing.problems.push(not_utf8(Path::new(&*String::from_utf8_lossy(path)))),
        }
    }
    listing
}

fn read_table(bytes: &[u8], options: &SourceOptions) -> Result<ParsedList, ManifestError> {
    let text = text_of(bytes)?;
    let mut table = CsvTable::new(&text, |header| has_path_column(header, options))?;
    let path_column = path_column(&table, options)?;
    let label_column = match label_column(&table, path_column, options)? {
        LabelColumn::At(column) => Some(column),
        LabelColumn::Unwanted => None,
        LabelColumn::Missing => {
            let one_hot = is_one_hot(&mut table, path_column)?;
            return Err(ManifestError::NoLabelColumn { columns: table.header, one_hot });
        }
    };
    let (columns, separator) = (table.header.clone(), table.separator());
    let mut listing = ParsedList { labelled: label_column.is_some(), ..ParsedList::default() };
    let mut over_lines: Option<(usize, u64, usize)> = None;
    while let Some(row) = table.next_row()? {
        let line = row.line;
        let path = row.fields[path_column].on_one_line(&columns[path_column])?;
        if path.is_empty() {
            return Err(ManifestError::EmptyPath { line });
        }
        let label = match label_column {
            None => None,
            Some(column) => {
                let text = row.fields[column].on_one_line(&columns[column])?;
                class_name_of(text).map_err(|reason| ManifestError::Label { line, reason })?
            }
        };
        listing.rows.push(ListRow { line, path: path.to_owned(), label });
        let lines = |column: usize| row.fields[column].lines;
        if let Some(column) = (0..columns.len()).find(|&column| lines(column).0 < lines(column).1) {
            if let Some(image) = hidden_row(&row.fields[column].text, path_column, columns.len(), separator) {
                let column = columns[column].clone();
                return Err(ManifestError::HiddenRow { column, line: row.line, image });
            }
            let (first_column, first_line, count) = over_lines.unwrap_or((column, lines(column).0, 0));
            over_lines = Some((first_column, first_line, count + 1));
        }
    }
    if let Some((column, line, count)) = over_lines {
        let column = &columns[column];
        listing.notes.push(format!(
            "{count} of {} rows have a field of several lines, the first: {column} on line {line}; a stray \
             quote there hides images",
            listing.rows.len()
        ));
    }
    Ok(listing)
}

/// The path of the first line behind the field's first one that has as many fields as a row, and an image's name for a path.
fn hidden_row(field: &str, path_column: usize, columns: usize, separator: char) -> Option<String> {
    field.split(['\n', '\r']).skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split(separator).collect();
        let path = fields.get(path_column)?.trim_matches(['"', ' ']);
        (fields.len() == columns && has_image_extension(Path::new(path))).then(|| path.to_owned())
    })
}

/// The name of a column without what people write differently: `File Name`, `file-name` and `filename` are one.
fn plain(column: &str) -> String {
    column.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// The columns that have one of the `names`; the first of these settles it where one column has it.
pub(crate) fn named_as(columns: &[String], names: &[&str]) -> Vec<usize> {
    let with = |wanted: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..columns.len()).filter(|&at| wanted(&plain(&columns[at]))).collect()
    };
    let first = with(&|name| names.first() == Some(&name));
    if first.is_empty() { with(&|name| names.contains(&name)) } else { first }
}

pub(super) fn has_path_column(columns: &[String], options: &SourceOptions) -> bool {
    match &options.path_column {
        Some(wanted) => columns.iter().any(|column| column.eq_ignore_ascii_case(wanted)),
        None => !named_as(columns, &PATH_COLUMNS).is_empty(),
    }
}

/// The column that the user named with `--WHAT-column`.
fn named_column(table: &CsvTable<'_>, what: &'static str, wanted: &str) -> Result<usize, ManifestError> {
    let column = table.column(wanted)?;
    let (wanted, columns) = (wanted.to_owned(), table.header.clone());
    column.ok_or(ManifestError::NoSuchColumn { what, wanted, columns })
}

fn several(table: &CsvTable<'_>, what: &'static str, found: &[usize]) -> ManifestError {
    let columns = found.iter().map(|&column| table.header[column].clone()).collect();
    ManifestError::SeveralColumns { what, columns }
}

pub(super) fn path_column(table: &CsvTable<'_>, options: &SourceOptions) -> Result<usize, ManifestError> {
    if let Some(wanted) = &options.path_column {
        return named_column(table, "path", wanted);
    }
    match &named_as(&table.header, &PATH_COLUMNS)[..] {
        [] => Err(ManifestError::NoPathColumn { columns: table.header.clone() }),
        [only] => Ok(*only),
        found => Err(several(table, "path", found)),
    }
}

/// Where the labels are.
pub(super) enum LabelColumn {
    At(usize),
    /// Nobody wants any, or there is nothing beside the paths.
    Unwanted,
    /// Some column ought to hold them, and none has their name.
    Missing,
}

pub(super) fn label_column(
    table: &CsvTable<'_>,
    path_column: usize,
    options: &SourceOptions,
) -> Result<LabelColumn, ManifestError> {
    if options.no_labels {
        return Ok(LabelColumn::Unwanted);
    }
    if let Some(wanted) = &options.label_column {
        return named_column(table, "label", wanted).map(LabelColumn::At);
    }
    let mut found = named_as(&table.header, &LABEL_COLUMNS);
    found.retain(|&column| column != path_column);
    // A column without a name holds the numbers of rows that pandas writes.
    let others = table.header.iter().enumerate().any(|(at, name)| at != path_column && !name.is_empty());
    match &found[..] {
        [only] => Ok(LabelColumn::At(*only)),
        [] if others => Ok(LabelColumn::Missing),
        [] => Ok(LabelColumn::Unwanted),
        found => Err(several(table, "label", found)),
    }
}

/// Whether the columns beside the paths, two or more, hold nothing but 0 and 1.
fn is_one_hot(table: &mut CsvTable<'_>, path_column: usize) -> Result<bool, CsvError> {
    let others: Vec<usize> =
        (0..table.header.len()).filter(|&at| at != path_column && !table.header[at].is_empty()).collect();
    let mut rows = 0;
    while let Some(row) = table.next_row()? {
        let is_flag = |text: &str| {
            matches!(text.to_ascii_lowercase().as_str(), "" | "0" | "1" | "0.0" | "1.0" | "false" | "true")
        };
        if !others.iter().all(|&column| is_flag(&row.fields[column].text)) {
            return Ok(false);
        }
        rows += 1;
    }
    Ok(rows > 0 && others.len() > 1)
}

fn collect(
    folder: &Path,
    listing: ParsedList,
    source: String,
    kind: &ListKind,
) -> Result<Dataset, ManifestError> {
    let ParsedList { rows, mut problems, notes, labelled } = listing;
    let n_rows = rows.len();
    if let Some(first) = rows.iter().find(|row| is_url(&row.path)) {
        remote::check(&first.path).map_err(ManifestError::Remote)?;
    }
    let mut line_of_name: HashMap<String, u64> = HashMap::with_capacity(n_rows);
    let mut found: Vec<(String, String, Option<String>)> = Vec::with_capacity(n_rows);
    for ListRow { line, path, label } in rows {
        let located = locate(folder, line, path, kind);
        let (Located::Found { name, .. } | Located::Problem(InputProblem { name, .. })) = &located;
        if let Some(&first) = line_of_name.get(name) {
            return Err(ManifestError::Duplicate { name: name.clone(), first, second: line });
        }
        line_of_name.insert(name.clone(), line);
        match located {
            Located::Found { name, written } => found.push((name, written, label)),
            Located::Problem(problem) => problems.push(problem),
        }
    }
    if found.is_empty() {
        return Err(ManifestError::NoImages {
            rows: n_rows,
            folder: kind.folder,
            first: problems.into_iter().next(),
        });
    }
    let class_names: BTreeSet<&String> = found.iter().filter_map(|(.., label)| label.as_ref()).collect();
    let mut class_names: Vec<String> = class_names.into_iter().cloned().collect();
    sort_class_names(&mut class_names);
    let number_of: HashMap<&String, usize> = class_names.iter().zip(0..).collect();
    let mut samples = SampleList::below(folder);
    for (name, path, label) in &found {
        let label = label.as_ref().and_then(|label| number_of.get(label).copied());
        samples.push_file(name, path, label);
    }
    samples.sort_from(0);
    Ok(finish(samples, class_names, problems, notes, source, labelled))
}

/// The set of sorted samples.
pub(super) fn finish(
    mut samples: SampleList,
    class_names: Vec<String>,
    mut problems: Vec<InputProblem>,
    mut notes: Vec<String>,
    source: String,
    labelled: bool,
) -> Dataset {
    samples.shrink();
    problems.sort_by(|a, b| a.name.cmp(&b.name));
    if labelled {
        notes.extend(notes_of_labels(&samples, &class_names));
    }
    Dataset { samples, class_names, problems, source, notes, passed_over: PassedOver::default() }
}

/// What a line of a list names.
pub(super) enum Located {
    /// An image: its name, and its path relative to the folder or absolute.
    Found { name: String, written: String },
    /// Nothing that can be used.
    Problem(InputProblem),
}

/// What the path on a line names.
pub(super) fn locate(folder: &Path, line: u64, path: String, kind: &ListKind) -> Located {
    let (written, name) = resolve(folder, path);
    if is_url(&written) || is_url(folder) && !Path::new(&written).is_absolute() {
        if name.split('/').any(|part| part == "..") {
            let reason = format!(
                "leads out of the folder of the {} (line {line}); write its whole address",
                kind.name
            );
            return Located::Problem(InputProblem { name, reason });
        }
        return Located::Found { name, written };
    }
    let path = folder.join(&written);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => Located::Found { name, written },
        Ok(_) => Located::Problem(not_a_file(name)),
        Err(error) => {
            let reason = format!("{} (line {line} of the {})", reason_of(&path, &error), kind.name);
            Located::Problem(InputProblem { name, reason })
        }
    }
}

/// The path that the line names, relative to `folder` or absolute, and the name that the image gets.
fn resolve(folder: &Path, written: String) -> (String, String) {
    if is_url(&written) {
        let below = folder.to_str().filter(|folder| is_url(folder));
        let relative = below.and_then(|folder| written.strip_prefix(folder)?.strip_prefix('/'));
        let name = relative.unwrap_or(&written).to_owned();
        return (written, name);
    }
    let written = if written.contains('\\') && !folder.join(&written).exists() {
        // Written on Windows, read elsewhere.
        written.replace('\\', "/")
    } else {
        written
    };
    let shown = Path::new(&written);
    let relative = match shown.strip_prefix(folder) {
        Ok(relative) if shown.is_absolute() => relative.to_owned(),
        _ if shown.is_absolute() => {
            let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
            shown.strip_prefix(&folder).unwrap_or(shown).to_owned()
        }
        _ => shown.to_owned(),
    };
    // The CSV is UTF-8, so its paths are as well; the fallback only spares an unreachable panic.
    let name = slashed(&relative).unwrap_or_else(|| written.clone());
    (written, name)
}
