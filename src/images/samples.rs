//! The list of inputs: which image files there are, what each is called, and which class it belongs to.
//!
//! A name is what ties a row of codes to its photo for years, so it is made once, here: relative, '/'-separated,
//! UTF-8, unique, and the list is sorted by it. Whatever cannot become a sample (a dangling link, a directory
//! that may not be read, a name that is not UTF-8) becomes a [`Problem`] and the walk goes on.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

mod manifest;
#[cfg(test)]
mod tests;

pub use manifest::ManifestError;

/// File extensions that a folder walk takes for images, in lower case.
pub const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Relative to the set's root, '/'-separated.
    pub name: String,
    /// Where to open the file.
    pub path: PathBuf,
    /// Index into [`SampleSet::class_names`]; `None` where the class is unknown.
    pub label: Option<usize>,
}

/// An input that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The input's name as a [`Sample`] would have it (with U+FFFD in place of what is not UTF-8).
    pub name: String,
    /// What is wrong and, where there is one, the remedy.
    pub reason: String,
}

impl Problem {
    /// A problem whose reason is the error and its chain of causes, separated by ": ".
    pub fn from_error(name: impl Into<String>, error: &dyn Error) -> Self {
        Self { name: name.into(), reason: with_causes(error) }
    }
}

/// An error and its chain of causes in one line, separated by ": ".
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries already paste their cause's text into their own.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// The images of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleSet {
    /// What names are relative to: the folder, the manifest's folder, or "." for paths given one by one.
    pub root: PathBuf,
    /// Sorted by name, bytewise ([`SampleSet::from_paths`] keeps the order of its arguments instead).
    pub samples: Vec<Sample>,
    /// Sorted bytewise; every class has at least one sample.
    pub class_names: Vec<String>,
    /// What could not become a sample.
    pub problems: Vec<Problem>,
    /// What the user named, for provenance.
    pub source: String,
}

/// Why there is no list of images at all.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// Nothing lies at the path.
    #[error("{} does not exist; expected a folder of images such as {}/CLASS/*.jpg, or a CSV manifest with the columns path,label", path.display(), path.display())]
    Missing {
        /// What was named.
        path: PathBuf,
    },
    /// A folder was wanted and something else is there.
    #[error("{} is not a folder; expected a folder of images such as data/CLASS/*.jpg, or a CSV manifest with the columns path,label", path.display())]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// The path itself cannot be looked at.
    #[error("cannot read {}; check that it may be read by this user", path.display())]
    Unreadable {
        /// What was named.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A folder without one usable image.
    #[error("no images in {}{}; expected {}/CLASS/*.jpg with one folder a class (also png, webp, bmp, gif, tif), or images directly in it for an unlabelled set", path.display(), first_problem(problems), path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What was found there and could not be used.
        problems: Vec<Problem>,
    },
    /// The CSV manifest cannot be used.
    #[error("cannot use the manifest {}", path.display())]
    Manifest {
        /// The CSV file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
}

fn first_problem(problems: &[Problem]) -> String {
    match problems {
        [] => String::new(),
        [only] => format!(" (1 problem: {}: {})", only.name, only.reason),
        [first, ..] => format!(" ({} problems, the first: {}: {})", problems.len(), first.name, first.reason),
    }
}

impl SampleSet {
    /// Lists a folder or reads a CSV manifest, by what `path` is.
    ///
    /// # Errors
    /// As [`SampleSet::from_folder`] and [`SampleSet::from_manifest`].
    pub fn open(path: &Path) -> Result<Self, SamplesError> {
        if look_at(path)?.is_dir() {
            return Self::from_folder(path);
        }
        if has_image_extension(path) {
            return Err(SamplesError::NotADirectory { path: path.to_owned() });
        }
        Self::from_manifest(path)
    }

    /// Every image below `root`, links followed.
    ///
    /// The label is the first folder below `root`; an image directly in `root` has none. Hidden files and folders
    /// (a leading dot) and files with another extension are passed over in silence.
    ///
    /// # Errors
    /// When `root` is missing, is no folder, cannot be read, or holds no usable image.
    pub fn from_folder(root: &Path) -> Result<Self, SamplesError> {
        if !look_at(root)?.is_dir() {
            return Err(SamplesError::NotADirectory { path: root.to_owned() });
        }
        // A root that cannot be listed is an error; further down it is a problem among good images.
        fs::read_dir(root).map_err(|source| SamplesError::Unreadable { path: root.to_owned(), source })?;

        let (files, problems) = walk(root);
        if files.is_empty() {
            return Err(SamplesError::Empty { path: root.to_owned(), problems });
        }
        let class_of = |name: &str| name.split_once('/').map(|(class, _)| class.to_owned());
        let class_names: Vec<String> = files
            .iter()
            .filter_map(|(name, _)| class_of(name))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let samples = files
            .into_iter()
            .map(|(name, path)| {
                let label = class_of(&name).and_then(|class| class_names.binary_search(&class).ok());
                Sample { name, path, label }
            })
            .collect();
        let source = root.display().to_string();
        Ok(Self { root: root.to_owned(), samples, class_names, problems, source })
    }

    /// The images named one by one, without labels: each argument a file (of any extension) or a folder to walk.
    ///
    /// The order is that of the arguments, and sorted by name inside each folder. A name is the argument as
    /// written, '/'-separated. What is missing, or a folder without images, is a problem.
    pub fn from_paths(paths: &[PathBuf]) -> Self {
        let mut samples = Vec::new();
        let mut problems = Vec::new();
        for path in paths {
            let Some(name) = slashed(path) else {
                problems.push(not_utf8(path));
                continue;
            };
            match fs::metadata(path) {
                Err(error) => problems.push(Problem { reason: reason_of(path, &error), name }),
                Ok(metadata) if metadata.is_dir() => {
                    let (files, inner_problems) = walk(path);
                    if files.is_empty() && inner_problems.is_empty() {
                        let reason = "no images in this folder (jpg, png, webp, bmp, gif, tif)".to_owned();
                        problems.push(Problem { name: name.clone(), reason });
                    }
                    let prefix =
                        if name == "." { String::new() } else { format!("{}/", name.trim_end_matches('/')) };
                    samples.extend(files.into_iter().map(|(inner, path)| Sample {
                        name: format!("{prefix}{inner}"),
                        path,
                        label: None,
                    }));
                    problems.extend(inner_problems.into_iter().map(|problem| Problem {
                        name: format!("{prefix}{}", problem.name),
                        reason: problem.reason,
                    }));
                }
                Ok(metadata) if metadata.is_file() => {
                    samples.push(Sample { name, path: path.clone(), label: None })
                }
                Ok(_) => problems.push(not_a_file(name)),
            }
        }
        let source = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        Self { root: PathBuf::from("."), samples, class_names: Vec::new(), problems, source }
    }
}

fn look_at(path: &Path) -> Result<fs::Metadata, SamplesError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SamplesError::Missing { path: path.to_owned() },
        _ => SamplesError::Unreadable { path: path.to_owned(), source },
    })
}

/// The image files below `root` as (name, path), sorted by name, and what went wrong on the way.
fn walk(root: &Path) -> (Vec<(String, PathBuf)>, Vec<Problem>) {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    let mut entries = WalkDir::new(root).min_depth(1).follow_links(true).into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                problems.extend(walk_problem(root, &error));
                continue;
            }
        };
        let is_dir = entry.file_type().is_dir();
        if is_hidden(entry.path()) {
            if is_dir {
                entries.skip_current_dir();
            }
            continue;
        }
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let Some(name) = slashed(relative) else {
            if is_dir {
                // One problem for the folder, not one for each photo in it.
                entries.skip_current_dir();
                problems.push(not_utf8(relative));
            } else if has_image_extension(entry.path()) {
                problems.push(not_utf8(relative));
            }
            continue;
        };
        if is_dir || !has_image_extension(entry.path()) {
            continue;
        }
        if entry.file_type().is_file() {
            files.push((name, entry.into_path()));
        } else {
            // Opening a named pipe would wait for ever.
            problems.push(not_a_file(name));
        }
    }
    files.sort();
    problems.sort_by(|a, b| a.name.cmp(&b.name));
    (files, problems)
}

fn walk_problem(root: &Path, error: &walkdir::Error) -> Option<Problem> {
    let path = error.path().unwrap_or(root);
    if is_hidden(path) {
        return None;
    }
    let relative = path.strip_prefix(root).unwrap_or(path);
    let name = relative.to_string_lossy().replace('\\', "/");
    let reason = match (error.loop_ancestor(), error.io_error()) {
        (Some(ancestor), _) => {
            format!("a link that leads back to {}, which holds it; it was not followed", ancestor.display())
        }
        (None, Some(io_error)) => reason_of(path, io_error),
        (None, None) => error.to_string(),
    };
    Some(Problem { name, reason })
}

/// What an I/O error means for whoever named `path`.
fn reason_of(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => format!("a dangling link: its target {} does not exist", target.display()),
            Err(_) => "no such file or folder".to_owned(),
        },
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        // ELOOP: a link to itself, or links in a ring.
        _ if fs::read_link(path).is_ok() => format!("a link that cannot be followed ({error})"),
        _ => format!("cannot be read ({error})"),
    }
}

fn not_utf8(path: &Path) -> Problem {
    Problem {
        name: path.to_string_lossy().into_owned(),
        reason: "the name is not valid UTF-8, so it cannot be recorded; rename it".to_owned(),
    }
}

fn not_a_file(name: String) -> Problem {
    Problem { name, reason: "not a regular file".to_owned() }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether a folder walk would take the file for an image.
fn has_image_extension(path: &Path) -> bool {
    let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else { return false };
    IMAGE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// `path` as '/'-separated text without "." components, and without ".." wherever the component before it can be
/// dropped in exchange; `None` when it is not UTF-8.
fn slashed(path: &Path) -> Option<String> {
    let mut absolute = String::new();
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(prefix) => absolute.push_str(prefix.as_os_str().to_str()?),
            Component::RootDir => absolute.push('/'),
            Component::CurDir => {}
            Component::ParentDir if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            Component::ParentDir if parts.is_empty() && !absolute.is_empty() => {}
            Component::ParentDir => parts.push(".."),
            Component::Normal(part) => parts.push(part.to_str()?),
        }
    }
    let name = absolute + &parts.join("/");
    Some(if name.is_empty() { ".".to_owned() } else { name })
}
