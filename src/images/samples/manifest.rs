//! The CSV manifest: `path,label`, for photos that are not laid out one folder a class.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Problem, SampleSet, Samples, SamplesError, look_at, not_a_file, reason_of, slashed};

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
    /// Not one image of the manifest can be found.
    #[error("not one of its {rows} images can be found{}; paths are relative to the folder of the manifest", .first.as_ref().map(|first| format!(" (the first: {}: {})", first.name, first.reason)).unwrap_or_default())]
    NoImages {
        /// Number of lines below the header.
        rows: usize,
        /// What is wrong with the first.
        first: Option<Problem>,
    },
}

/// A line of the manifest.
struct Row {
    line: u64,
    path: String,
    label: Option<String>,
}

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
        collect(&folder, rows, csv.display().to_string()).map_err(fail)
    }
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

fn collect(folder: &Path, rows: Vec<Row>, source: String) -> Result<SampleSet, ManifestError> {
    let n_rows = rows.len();
    let mut line_of_name: HashMap<String, u64> = HashMap::with_capacity(n_rows);
    let mut found: Vec<(String, String, Option<String>)> = Vec::with_capacity(n_rows);
    let mut problems = Vec::new();
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
                let reason = format!("{} (line {line} of the manifest)", reason_of(&path, &error));
                problems.push(Problem { name, reason });
            }
        }
    }
    if found.is_empty() {
        return Err(ManifestError::NoImages { rows: n_rows, first: problems.into_iter().next() });
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
    Ok(SampleSet { samples, class_names, problems, source })
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
