//! Lists of images: the CSV manifest `path,label`, for photos that are not laid out one folder a class, and the list of
//! paths on standard input.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{
    Problem, STDIN, SampleSet, Samples, SamplesError, look_at, not_a_file, not_utf8, reason_of, slashed,
};

/// Why a CSV manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("it cannot be read; check that it may be read by this user")]
    Read(#[source] io::Error),
    /// It is not UTF-8.
    #[error("it is not UTF-8 text; save it as CSV (UTF-8) with the columns path,label")]
    NotUtf8,
    /// It is not well-formed CSV.
    #[error(
        "it is not well-formed CSV; each line needs as many fields as the header, with quotes around a field that holds a comma"
    )]
    Csv(#[source] csv::Error),
    /// The header has no `path`.
    #[error(
        "its first line has no column `path` (found: {found}); the first line must be path,label with commas between"
    )]
    NoPathColumn {
        /// The first line as read.
        found: String,
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
    /// Not one image of the list can be found.
    #[error("not one of its {rows} images can be found{}; paths are relative to {folder}", .first.as_ref().map(|first| format!(" (the first: {}: {})", first.name, first.reason)).unwrap_or_default())]
    NoImages {
        /// Number of images listed.
        rows: usize,
        /// What paths are relative to, in words.
        folder: &'static str,
        /// What is wrong with the first.
        first: Option<Problem>,
    },
}

/// A line of the list.
struct Row {
    line: u64,
    path: String,
    label: Option<String>,
}

/// What kind of list it is, in words.
struct Kind {
    name: &'static str,
    /// What its paths are relative to.
    folder: &'static str,
}

const MANIFEST: Kind = Kind { name: "manifest", folder: "the folder of the manifest" };
const LIST: Kind = Kind { name: "list", folder: "the current folder" };

impl SampleSet {
    /// The images of a CSV file with a header line and the columns `path` and, if there are labels, `label`.
    ///
    /// Further columns are ignored. A path is absolute or relative to the folder of the CSV file; an empty label
    /// means that the class is unknown. Names are the paths as written, '/'-separated, without "." and "..", and
    /// relative where an absolute path lies in the manifest's folder; only a path that leads out of that folder
    /// keeps its leading "..". A file that is missing is a problem.
    ///
    /// # Errors
    /// When the file cannot be read as such a CSV, names an image twice, or none of its images exists.
    pub fn from_manifest(csv: &Path) -> Result<Self, SamplesError> {
        look_at(csv)?;
        let fail = |source| SamplesError::Manifest { path: csv.to_owned(), source };
        let bytes = fs::read(csv).map_err(|error| fail(ManifestError::Read(error)))?;
        let rows = read_rows(&bytes).map_err(fail)?;
        let folder = match csv.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let problems = Vec::new();
        collect(&folder, rows, problems, csv.display().to_string(), &MANIFEST).map_err(fail)
    }

    /// The images of a list as it comes on standard input: one path a line, or with `null`, a NUL after each.
    ///
    /// A list whose first line has a column `path` is a CSV manifest instead (not with `null`). Paths are absolute or
    /// relative to the current folder; without a manifest there are no labels. Names and problems are as with
    /// [`SampleSet::from_manifest`]; a path that is not UTF-8 is a problem.
    ///
    /// # Errors
    /// As with [`SampleSet::from_manifest`].
    pub fn from_list(bytes: &[u8], null: bool) -> Result<Self, SamplesError> {
        let mut problems = Vec::new();
        let rows = if !null && has_header(bytes) {
            read_rows(bytes).map_err(SamplesError::List)?
        } else {
            read_paths(bytes, if null { 0 } else { b'\n' }, &mut problems)
        };
        collect(Path::new("."), rows, problems, STDIN.to_owned(), &LIST).map_err(SamplesError::List)
    }
}

/// Whether the first line is the header of a manifest.
fn has_header(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    line.split(|&byte| byte == b',').any(|field| field.trim_ascii().eq_ignore_ascii_case(b"path"))
}

fn read_paths(bytes: &[u8], separator: u8, problems: &mut Vec<Problem>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (line, path) in (1..).zip(bytes.split(|&byte| byte == separator)) {
        let path = if separator == b'\n' { path.strip_suffix(b"\r").unwrap_or(path) } else { path };
        match str::from_utf8(path) {
            Ok("") => {}
            Ok(path) => rows.push(Row { line, path: path.to_owned(), label: None }),
            Err(_) => problems.push(not_utf8(Path::new(&*String::from_utf8_lossy(path)))),
        }
    }
    rows
}

fn read_rows(bytes: &[u8]) -> Result<Vec<Row>, ManifestError> {
    let text = str::from_utf8(bytes).map_err(|_| ManifestError::NotUtf8)?;
    // Excel starts a UTF-8 file with a byte order mark, which would become part of the first column's name.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(ManifestError::Csv)?.clone();
    let column = |wanted: &str| header.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    let path_column = column("path").ok_or_else(|| ManifestError::NoPathColumn {
        found: header.iter().collect::<Vec<_>>().join(",").chars().take(80).collect(),
    })?;
    let label_column = column("label");

    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(ManifestError::Csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        let path = record.get(path_column).unwrap_or_default().to_owned();
        if path.is_empty() {
            return Err(ManifestError::EmptyPath { line });
        }
        let label = label_column.and_then(|column| record.get(column)).filter(|label| !label.is_empty());
        rows.push(Row { line, path, label: label.map(str::to_owned) });
    }
    Ok(rows)
}

fn collect(
    folder: &Path,
    rows: Vec<Row>,
    mut problems: Vec<Problem>,
    source: String,
    kind: &Kind,
) -> Result<SampleSet, ManifestError> {
    let n_rows = rows.len();
    let mut line_of_name: HashMap<String, u64> = HashMap::with_capacity(n_rows);
    let mut found: Vec<(String, String, Option<String>)> = Vec::with_capacity(n_rows);
    for Row { line, path, label } in rows {
        let (written, name) = resolve(folder, path);
        if let Some(&first) = line_of_name.get(&name) {
            return Err(ManifestError::Duplicate { name, first, second: line });
        }
        line_of_name.insert(name.clone(), line);
        let path = folder.join(&written);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => found.push((name, written, label)),
            Ok(_) => problems.push(not_a_file(name)),
            Err(error) => {
                let reason = format!("{} (line {line} of the {})", reason_of(&path, &error), kind.name);
                problems.push(Problem { name, reason });
            }
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
    let class_names: Vec<String> = class_names.into_iter().cloned().collect();
    let mut samples = Samples::below(folder);
    for (name, path, label) in &found {
        let label = label.as_ref().and_then(|label| class_names.binary_search(label).ok());
        samples.push_file(name, path, label);
    }
    samples.sort_from(0);
    samples.shrink();
    problems.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(SampleSet { samples, class_names, problems, source, notes: Vec::new() })
}

/// The path that the line names, relative to `folder` or absolute, and the name that the image gets.
fn resolve(folder: &Path, written: String) -> (String, String) {
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
