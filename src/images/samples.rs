//! The list of inputs: which image files there are, what each is called, and which class it belongs to.
//!
//! A name is what ties a row of codes to its photo for years, so it is made once, here: relative, '/'-separated,
//! UTF-8, unique, and the list is sorted by it. Whatever cannot become a sample (a dangling link, a directory
//! that may not be read, a name that is not UTF-8) becomes a [`Problem`] and the walk goes on.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod classes;
mod list;
mod manifest;
mod shards;
mod sources;
#[cfg(test)]
mod tests;
mod walk;

use crate::codes::ArrayError;
pub use classes::ClassesError;
pub use list::{Content, Sample, Samples};
pub use manifest::ManifestError;
#[doc(hidden)]
pub use shards::count_images;
pub use sources::{STDIN, SourceOptions};
use walk::{has_image_extension, not_a_file, not_utf8, reason_of, slashed, walk};

/// File extensions that a folder walk takes for images, in lower case.
pub const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

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
#[derive(Debug, Clone)]
pub struct SampleSet {
    /// Sorted by name, bytewise ([`SampleSet::from_paths`] keeps the order of its arguments instead).
    pub samples: Samples,
    /// Every class has at least one sample. Sorted bytewise, or in the order of their numbers where the data have
    /// numbers for classes.
    pub class_names: Vec<String>,
    /// What could not become a sample.
    pub problems: Vec<Problem>,
    /// What the user named, for provenance.
    pub source: String,
    /// What the user ought to know of the set as a whole.
    pub notes: Vec<String>,
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
    /// Several inputs that are not all shards.
    #[error("{} is no tar shard; several inputs are taken where all are .tar shards; for several folders name the one that holds them, or give a list of paths on standard input with -", other.display())]
    Several {
        /// The first that is none.
        other: PathBuf,
    },
    /// An option without use for what was named.
    #[error("{option} goes with {kind} only; leave it out")]
    OptionOfOtherKind {
        /// The option.
        option: &'static str,
        /// What it goes with.
        kind: &'static str,
    },
    /// A pattern that is none.
    #[error("{pattern} is not a pattern of file names")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: glob::PatternError,
    },
    /// A pattern without a file.
    #[error("no file matches {pattern}; check the folder and the number of digits")]
    NoMatch {
        /// As written.
        pattern: String,
    },
    /// Shards without one usable image.
    #[error(
        "no images in {}{}; expected tar shards with KEY.jpg and KEY.cls or KEY.json",
        shown(shards),
        first_problem(problems)
    )]
    EmptyShards {
        /// The shards.
        shards: Vec<PathBuf>,
        /// What was found there and could not be used.
        problems: Vec<Problem>,
    },
    /// The list of class names cannot be used.
    #[error(transparent)]
    Classes(#[from] ClassesError),
    /// The HDF5 array cannot be used.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// The list on standard input cannot be used.
    #[error("cannot use the list on standard input")]
    List(#[source] ManifestError),
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

fn shown(shards: &[PathBuf]) -> String {
    match shards {
        [only] => only.display().to_string(),
        [first, .., last] => format!("{} … {} ({} shards)", first.display(), last.display(), shards.len()),
        [] => "no shard".to_owned(),
    }
}

impl SampleSet {
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

        let mut samples = Samples::below(root);
        let problems = walk(root, |name| samples.push_file(name, name, None));
        if samples.is_empty() {
            return Err(SamplesError::Empty { path: root.to_owned(), problems });
        }
        samples.sort_from(0);
        samples.shrink();
        let classes: BTreeSet<&str> = samples.iter().filter_map(|sample| class_of(sample.name)).collect();
        let class_names: Vec<String> = classes.into_iter().map(str::to_owned).collect();
        samples.label_by_name(|name| {
            let class = class_of(name)?;
            class_names.binary_search_by(|known| known.as_str().cmp(class)).ok()
        });
        let source = root.display().to_string();
        Ok(Self { samples, class_names, problems, source, notes: Vec::new() })
    }

    /// Drops the classes that are not to be kept, with their samples.
    pub fn keep_classes(&mut self, keep: &[bool]) {
        self.samples.keep_classes(keep);
        let mut keep = keep.iter().copied();
        self.class_names.retain(|_| keep.next().unwrap_or(true));
    }

    /// The images named one by one, without labels: each argument a file (of any extension), a folder to walk, a tar
    /// shard, an HDF5 array as `FILE.h5:/DATASET`, or "-" for a list of images on standard input.
    ///
    /// The order is that of the arguments, and sorted by name inside each folder, shard or list. A name is the argument
    /// as written, '/'-separated. What is missing, or a folder without images, is a problem.
    ///
    /// # Errors
    /// The list on standard input, a shard or an array cannot be used at all.
    pub fn from_paths(paths: &[PathBuf], null: bool) -> Result<Self, SamplesError> {
        let mut samples = Samples::below(Path::new("."));
        let mut problems = Vec::new();
        for path in paths {
            if path == Path::new(STDIN) {
                let listed = Self::from_list(&sources::read_stdin()?, null)?;
                listed.samples.iter().for_each(|sample| samples.push_file(sample.name, sample.name, None));
                problems.extend(listed.problems);
                continue;
            }
            let (Some(name), Some(written)) = (slashed(path), path.to_str()) else {
                problems.push(not_utf8(path));
                continue;
            };
            if sources::add_container(&mut samples, &mut problems, path)? {
                continue;
            }
            match fs::metadata(path) {
                Err(error) => problems.push(Problem { reason: reason_of(path, &error), name }),
                Ok(metadata) if metadata.is_dir() => add_folder(&mut samples, &mut problems, &name, written),
                Ok(metadata) if metadata.is_file() => samples.push_file(&name, written, None),
                Ok(_) => problems.push(not_a_file(name)),
            }
        }
        samples.shrink();
        let source = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        Ok(Self { samples, class_names: Vec::new(), problems, source, notes: Vec::new() })
    }
}

/// Adds the images of the folder at `path`, under names that start with the folder's own.
fn add_folder(samples: &mut Samples, problems: &mut Vec<Problem>, name: &str, path: &str) {
    let below = |folder: &str, inner: &str| match folder {
        "." => inner.to_owned(),
        folder => format!("{}/{inner}", folder.trim_end_matches('/')),
    };
    let start = samples.len();
    let inner_problems =
        walk(Path::new(path), |inner| samples.push_file(&below(name, inner), &below(path, inner), None));
    samples.sort_from(start);
    if samples.len() == start && inner_problems.is_empty() {
        let reason = "no images in this folder (jpg, png, webp, bmp, gif, tif)".to_owned();
        problems.push(Problem { name: name.to_owned(), reason });
    }
    problems.extend(
        inner_problems
            .into_iter()
            .map(|Problem { name: inner, reason }| Problem { name: below(name, &inner), reason }),
    );
}

/// The first folder of a name.
fn class_of(name: &str) -> Option<&str> {
    name.split_once('/').map(|(class, _)| class)
}

fn look_at(path: &Path) -> Result<fs::Metadata, SamplesError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SamplesError::Missing { path: path.to_owned() },
        _ => SamplesError::Unreadable { path: path.to_owned(), source },
    })
}
