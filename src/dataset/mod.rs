//! The list of inputs: which image files there are, what each is called, and which class it belongs to.
//!
//! A name is what ties a row of features to its photo for years, so it is made once, here: relative, '/'-separated,
//! UTF-8, unique, and the list is sorted by it. Whatever cannot become a sample (a dangling link, a directory
//! that may not be read, a name that is not UTF-8) becomes a [`InputProblem`] and the walk goes on.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod array_axes;
mod classes;
mod column_values;
mod csv_table;
mod duplicates;
mod image_array;
mod labels;
mod labels_csv;
mod large_list;
mod object_state;
mod passed_over;
mod places;
mod prefix;
mod read_ahead;
mod record;
mod sample_list;
mod shards;
mod sources;
mod split;
mod system_files;
#[cfg(test)]
mod tests;
mod unsupported;
mod walk;

use crate::messages::{Cause, with_causes};
use crate::remote::is_url;
pub use crate::remote::{Outage, RemoteError};
pub use array_axes::{ArrayAxes, NoAxes};
pub use classes::ClassesError;
pub(crate) use column_values::column_values;
pub use csv_table::CsvError;
pub(crate) use csv_table::{CsvTable, text_of};
pub use duplicates::{
    DUPLICATE_DISTANCE, DUPLICATE_THRESHOLD, DuplicateSet, Duplicates, Likeness, MOST_COMPARED,
};
pub use image_array::{ArrayError, ArrayLabels, ImageArray};
use labels::notes_of_labels;
pub(crate) use labels::{class_name_of, sort_class_names};
pub use labels_csv::ManifestError;
pub(crate) use labels_csv::{LABEL_COLUMNS, PATH_COLUMNS, named_as};
pub use passed_over::{PassedOver, PassedOverFiles, PassedOverReason};
pub(crate) use read_ahead::{ReadAhead, ReadFailure};
pub use record::{ContainerRecord, RecordError, SampleRecord};
pub use sample_list::{MemoryImage, Sample, SampleContent, SampleList};
#[doc(hidden)]
pub use shards::count_images;
pub use sources::{STDIN, SourceOptions};
pub use split::SplitPart;
#[cfg(feature = "serve")]
pub(crate) use system_files::is_system_name;
use unsupported::unsupported;
use walk::{Walked, has_image_extension, not_a_file, not_utf8, reason_of, slashed, walk};

/// File extensions that say that a file is an image, in lower case, those of formats that are not read included. Of other
/// files below a folder the first bytes tell.
pub const IMAGE_EXTENSIONS: [&str; 25] = [
    "jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "jfif", "jpe", "jif", "jfi", "pjpeg", "dib",
    "apng", "heic", "heif", "hif", "avif", "jxl", "jp2", "j2k", "jpx", "svg", "tga",
];

/// An input that could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputProblem {
    /// The input's name as a [`Sample`] would have it (with U+FFFD in place of what is not UTF-8).
    pub name: String,
    /// What is wrong and, where there is one, the remedy.
    pub reason: String,
}

impl InputProblem {
    /// A problem whose reason is the error and its chain of causes, separated by ": ".
    pub fn from_error(name: impl Into<String>, error: &dyn Error) -> Self {
        Self { name: name.into(), reason: with_causes(error) }
    }
}

/// The images of one run.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Sorted by name, bytewise ([`Dataset::from_paths`] keeps the order of its arguments instead).
    pub samples: SampleList,
    /// Every class has at least one sample. Sorted bytewise, or in the order of their numbers where the data have
    /// numbers for classes.
    pub class_names: Vec<String>,
    /// What could not become a sample.
    pub problems: Vec<InputProblem>,
    /// What the user named, for provenance.
    pub source: String,
    /// What the user ought to know of the set as a whole.
    pub notes: Vec<String>,
    /// Files below the folders that were named that are no images.
    pub passed_over: PassedOver,
}

/// Why there is no list of images at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
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
    #[error("no images in {}{}{}; expected {}/CLASS/*.jpg with one folder for each class (also png, webp, \
             bmp, gif, tif), or images directly in it for an unlabelled set", path.display(), first_problem(problems), passed(passed_over), path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What was found there and could not be used.
        problems: Vec<InputProblem>,
        /// What is no image there.
        passed_over: PassedOver,
    },
    /// Several inputs that are not all shards.
    #[error("{} is not a tar shard; several inputs must all be .tar shards; for several folders name the \
             one that holds them, or give a list of paths on standard input with -", other.display())]
    Several {
        /// The first that is none.
        other: PathBuf,
    },
    /// A file of a kind that is not taken.
    #[error("{} is {what}", path.display())]
    Unsupported {
        /// What was named.
        path: PathBuf,
        /// What it is, and what to do with it.
        what: String,
    },
    /// An option without use for what was named.
    #[error("{option} works with {kind} only; leave it out")]
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
        source: Cause,
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
        problems: Vec<InputProblem>,
    },
    /// Labels of a shard that may be those of several images.
    #[error(
        "cannot assign the labels in {}: {why}; give each label the name of its image with another \
         extension (NAME.jpg and NAME.cls)",
        path.display()
    )]
    ShardLabels {
        /// The shard.
        path: PathBuf,
        /// The first image of which it is so, and its labels.
        why: String,
    },
    /// Shards with `.json` that say nothing of classes.
    #[error(
        "no image in {} has a label: {why}; name the field with --label-column, or extract without labels \
         (--no-labels)",
        shown(shards)
    )]
    NoShardLabels {
        /// The shards.
        shards: Vec<PathBuf>,
        /// What was looked for, and what is there.
        why: String,
    },
    /// An object store or a web server does not give what was named.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The list of class names cannot be used.
    #[error(transparent)]
    Classes(#[from] ClassesError),
    /// The HDF5 array cannot be used.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// A file of labels without the dataset's name.
    #[error("--labels {}: name the dataset of that file as well, as in {}:/y", path.display(), path.display())]
    NoLabels {
        /// The file.
        path: PathBuf,
    },
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

fn first_problem(problems: &[InputProblem]) -> String {
    match problems {
        [] => String::new(),
        [only] => format!(" (1 problem: {}: {})", only.name, only.reason),
        [first, ..] => format!(" ({} problems, the first: {}: {})", problems.len(), first.name, first.reason),
    }
}

fn passed(passed_over: &PassedOver) -> String {
    if passed_over.is_empty() { String::new() } else { format!(" (passed over: {})", passed_over.describe()) }
}

fn shown(shards: &[PathBuf]) -> String {
    match shards {
        [only] => only.display().to_string(),
        [first, .., last] => format!("{} … {} ({} shards)", first.display(), last.display(), shards.len()),
        [] => "no shard".to_owned(),
    }
}

impl Dataset {
    /// Every image below `root`, links followed.
    ///
    /// What is an image is told by a name that ends as images' names do, or else by the file's first bytes; hidden files
    /// and folders, and those of systems, are no data. What is passed over is counted. The label is the first folder
    /// below `root`, by the rule of [`labels`]; an image directly in `root` has none.
    ///
    /// # Errors
    /// When `root` is missing, is no folder, cannot be read, or holds no usable image.
    pub fn from_folder(root: &Path) -> Result<Self, DatasetError> {
        if !look_at(root)?.is_dir() {
            return Err(DatasetError::NotADirectory { path: root.to_owned() });
        }
        // A root that cannot be listed is an error; further down it is a problem among good images.
        fs::read_dir(root).map_err(|source| DatasetError::Unreadable { path: root.to_owned(), source })?;

        let mut samples = SampleList::below(root);
        let walked = walk(root, |name| samples.push_file(name, name, None));
        Self::labelled_by_folders(root, samples, walked)
    }

    /// The set of what was found below `root`, labelled by first folders.
    fn labelled_by_folders(
        root: &Path,
        mut samples: SampleList,
        Walked { mut problems, passed_over, folders }: Walked,
    ) -> Result<Self, DatasetError> {
        samples.sort_from(0);
        let classes = classes_of_folders(&samples);
        if classes.values().any(Result::is_err) {
            let is_usable = |name: &str| first_folder(name).is_none_or(|folder| classes[folder].is_ok());
            samples.retain_from(0, |_, sample| is_usable(sample.name));
            problems.extend(classes.iter().filter_map(|(folder, class)| {
                let reason = class.as_ref().err()?;
                let reason = format!("its name cannot be a label: {reason}; rename the folder");
                Some(InputProblem { name: folder.clone(), reason })
            }));
            problems.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if samples.is_empty() {
            return Err(DatasetError::Empty { path: root.to_owned(), problems, passed_over });
        }
        samples.shrink();
        let mut class_names: Vec<String> = classes.values().flatten().flatten().cloned().collect();
        sort_class_names(&mut class_names);
        class_names.dedup();
        let number_of: HashMap<&String, usize> = class_names.iter().zip(0..).collect();
        samples.label_by_name(|name| {
            let class = classes[first_folder(name)?].as_ref().ok()?.as_ref()?;
            number_of.get(class).copied()
        });
        let mut notes = Vec::new();
        if !classes.is_empty() {
            notes.extend(notes_of_labels(&samples, &class_names));
        }
        notes.extend(note_of_empty_folders(&folders, &classes));
        Ok(Self { samples, class_names, problems, source: root.display().to_string(), notes, passed_over })
    }

    /// Images one by one, in this order and without labels: each under its name a file (`None`) or an image in memory. The name of
    /// a file is its path.
    pub fn from_images(images: impl IntoIterator<Item = (String, Option<MemoryImage>)>) -> Self {
        let mut samples = SampleList::below(Path::new("."));
        for (name, image) in images {
            match image {
                Some(image) => samples.push_memory(&name, image),
                None => samples.push_file(&name, &name, None),
            }
        }
        samples.shrink();
        let source = "images one by one".to_owned();
        let (class_names, problems, notes) = Default::default();
        Self { samples, class_names, problems, source, notes, passed_over: PassedOver::default() }
    }

    /// The classes that have samples, and none that is not among `problems`: all of their images are unreadable.
    pub fn unreadable_classes(&self, problems: &[InputProblem]) -> Vec<&str> {
        let failed: HashSet<&str> = problems.iter().map(|problem| problem.name.as_str()).collect();
        let mut has_image = vec![false; self.class_names.len()];
        for sample in self.samples.iter() {
            if let Some(label) = sample.label.filter(|_| !failed.contains(sample.name)) {
                has_image[label] = true;
            }
        }
        let classes = self.class_names.iter().zip(has_image);
        classes.filter(|(_, has_image)| !has_image).map(|(name, _)| name.as_str()).collect()
    }

    /// Drops the classes that are not to be kept, with their samples.
    pub fn keep_classes(&mut self, keep: &[bool]) {
        self.samples.keep_classes(keep);
        let mut keep = keep.iter().copied();
        self.class_names.retain(|_| keep.next().unwrap_or(true));
    }

    /// The images named one by one, without labels: each argument a file (of any extension), a folder to walk, a tar
    /// shard, the address of an image or of a shard, that of a prefix with a / at its end, an HDF5 array as `FILE.h5:/DATASET`, or "-" for a list of images on standard input.
    ///
    /// The order is that of the arguments, and sorted by name inside each folder, shard or list. A name is the argument
    /// as written, '/'-separated. What is missing, or a folder without images, is a problem. `null` is for the list, `axes`
    /// for arrays.
    ///
    /// # Errors
    /// The list on standard input, a shard or an array cannot be used at all.
    pub fn from_paths(paths: &[PathBuf], null: bool, axes: Option<&ArrayAxes>) -> Result<Self, DatasetError> {
        let mut samples = SampleList::below(Path::new("."));
        let (mut problems, mut passed_over) = (Vec::new(), PassedOver::default());
        for path in paths {
            if path == Path::new(STDIN) {
                let options = SourceOptions { null, no_labels: true, ..SourceOptions::default() };
                let listed = Self::from_list(&sources::read_stdin()?, &options)?;
                listed.samples.iter().for_each(|sample| samples.push_file(sample.name, sample.name, None));
                problems.extend(listed.problems);
                continue;
            }
            let (Some(name), Some(written)) = (slashed(path), path.to_str()) else {
                problems.push(not_utf8(path));
                continue;
            };
            if let Some(url) = written_url(path) {
                prefix::add(&mut samples, &mut problems, &mut passed_over, url)?;
                continue;
            }
            if sources::add_container(&mut samples, &mut problems, &mut passed_over, path, axes)? {
                continue;
            }
            match fs::metadata(path) {
                Err(error) => problems.push(InputProblem { reason: reason_of(path, &error), name }),
                Ok(metadata) if metadata.is_dir() => {
                    add_folder(&mut samples, &mut problems, &mut passed_over, &name, written);
                }
                Ok(metadata) if metadata.is_file() => match unsupported(path) {
                    None => samples.push_file(&name, written, None),
                    Some(kind) => problems.push(InputProblem { name, reason: kind.to_string() }),
                },
                Ok(_) => problems.push(not_a_file(name)),
            }
        }
        samples.shrink();
        let source = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        Ok(Self { samples, class_names: Vec::new(), problems, source, notes: Vec::new(), passed_over })
    }
}

/// Adds the images of the folder at `path`, under names that start with the folder's own.
fn add_folder(
    samples: &mut SampleList,
    problems: &mut Vec<InputProblem>,
    passed_over: &mut PassedOver,
    name: &str,
    path: &str,
) {
    let below = |folder: &str, inner: &str| match folder {
        "." => inner.to_owned(),
        folder => format!("{}/{inner}", folder.trim_end_matches('/')),
    };
    let start = samples.len();
    let walked =
        walk(Path::new(path), |inner| samples.push_file(&below(name, inner), &below(path, inner), None));
    samples.sort_from(start);
    if samples.len() == start && walked.problems.is_empty() {
        let passed = passed(&walked.passed_over);
        let reason = format!("no images in this folder{passed}; jpg, png, webp, bmp, gif and tif are read");
        problems.push(InputProblem { name: name.to_owned(), reason });
    }
    problems.extend(
        walked
            .problems
            .into_iter()
            .map(|InputProblem { name: inner, reason }| InputProblem { name: below(name, &inner), reason }),
    );
    passed_over.merge(walked.passed_over, |inner| below(name, inner));
}

/// The path as an address, if it is one.
fn written_url(path: &Path) -> Option<&str> {
    path.to_str().filter(|path| is_url(path))
}

/// The first folder of a name.
fn first_folder(name: &str) -> Option<&str> {
    name.split_once('/').map(|(folder, _)| folder)
}

/// What the first folder of each sample says of its class, by the folder's name; the samples are sorted.
fn classes_of_folders(samples: &SampleList) -> HashMap<String, Result<Option<String>, String>> {
    let mut classes = HashMap::new();
    let mut last = "";
    for folder in samples.iter().filter_map(|sample| first_folder(sample.name)) {
        if folder != last {
            classes.insert(folder.to_owned(), class_name_of(folder));
            last = folder;
        }
    }
    classes
}

/// Names folders directly below the root without an image, each of which may have been meant as a class.
fn note_of_empty_folders<T>(folders: &[String], with_images: &HashMap<String, T>) -> Option<String> {
    const NAMED: usize = 10;
    let empty: Vec<&str> =
        folders.iter().map(String::as_str).filter(|&folder| !with_images.contains_key(folder)).collect();
    let more = match empty.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = empty[..empty.len().min(NAMED)].join(", ");
    match &empty[..] {
        [] => None,
        [only] => Some(format!("the folder {only} holds no image, so there is no class {only}")),
        all => Some(format!("{} folders hold no image and give no class: {named}{more}", all.len())),
    }
}

fn look_at(path: &Path) -> Result<fs::Metadata, DatasetError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => DatasetError::Missing { path: path.to_owned() },
        _ => DatasetError::Unreadable { path: path.to_owned(), source },
    })
}
