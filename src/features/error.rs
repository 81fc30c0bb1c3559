//! What can go wrong with a features file. Each variant names the file and, where there is one, the remedy.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::ConvertError;
use crate::hdf5::Hdf5Error;

/// The remedy for a file that cannot be used.
const AGAIN: &str = "run `cnncodes extract` again";

/// An error while writing or reading a features file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum FeatureFileError {
    /// The file cannot be opened at all: it is missing, a folder, or not permitted.
    #[error("cannot open {}; check the path, or run `cnncodes extract` to write the file", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// HDF5 writes to UTF-8 paths only.
    #[error("the path {} is not valid UTF-8, which HDF5 needs; rename the folder or file", path.display())]
    PathNotUtf8 { path: PathBuf },
    /// The bytes are not those of an HDF5 file.
    #[error(
        "{} is not an HDF5 file; name a features file, convert features of another format (`cnncodes convert`), or {AGAIN}",
        path.display()
    )]
    NotHdf5 { path: PathBuf },
    /// The file ends before the size that its own header states.
    #[error("{} is cut short (an interrupted copy?); copy it again, or {AGAIN}", path.display())]
    Truncated { path: PathBuf, source: Hdf5Error },
    /// Something that ought to be there cannot be read.
    #[error("{} is damaged: cannot read {object}; copy it again, or {AGAIN}", path.display())]
    Damaged { path: PathBuf, object: String, source: Hdf5Error },
    /// A file that holds some of the rows of a virtual features file cannot be used.
    #[error(
        "{}: the part {} cannot be used ({why}); put it back as it was when the file was made, or make the file again",
        path.display(), part.display()
    )]
    Part { path: PathBuf, part: PathBuf, why: String, source: Option<Box<dyn Error + Send + Sync>> },
    /// An HDF5 file without this program's `format` attribute.
    #[error(
        "{} is an HDF5 file of another program (its attribute `format` is not \"cnncodes\"); name a file \
         that `cnncodes extract` wrote", path.display()
    )]
    NotFeatures { path: PathBuf },
    /// Written by a later version of this program.
    #[error(
        "{} has format version {found}, and this program reads versions up to {known}; update cnncodes, or \
         {AGAIN}", path.display()
    )]
    NewerFormat { path: PathBuf, found: i64, known: i64 },
    /// A Parquet file, or a folder of them, cannot be read.
    #[error(transparent)]
    Parquet(Box<ConvertError>),
    /// An extraction that did not end.
    #[error(
        "{} is incomplete: the run that wrote it was stopped; run the same `cnncodes extract` command again \
         to resume it", path.display()
    )]
    Incomplete { path: PathBuf },
    /// A dataset, group, link or attribute is missing.
    #[error("{} lacks {object}; {AGAIN}", path.display())]
    Missing { path: PathBuf, object: String },
    /// A dataset or attribute has another type or rank than the format says.
    #[error("{}: {object} is not {expected}; {AGAIN}", path.display())]
    WrongType { path: PathBuf, object: String, expected: &'static str },
    /// A dataset has another size than the rest of the file says.
    #[error("{}: {object} has {found} {unit}, expected {expected}; {AGAIN}", path.display())]
    WrongLength { path: PathBuf, object: String, unit: &'static str, found: u64, expected: u64 },
    /// A string is not UTF-8, or a value is outside of what the format allows.
    #[error("{}: {object} holds an invalid value: {why}; {AGAIN}", path.display())]
    BadValue { path: PathBuf, object: String, why: String },
    /// A label that is neither -1 nor the index of a class.
    #[error("{}: row {row} has label {label}, but there are {classes} classes; {AGAIN}", path.display())]
    LabelOutOfRange { path: PathBuf, row: usize, label: i64, classes: usize },
    /// Two classes of one name.
    #[error("{}: the class name {name:?} occurs twice; {AGAIN}", path.display())]
    DuplicateClass { path: PathBuf, name: String },
    /// Two rows of one image name.
    #[error("{}: the image name {name:?} occurs twice; {AGAIN}", path.display())]
    DuplicateImage { path: PathBuf, name: String },
    /// A layer that the file does not hold.
    #[error("{} has no layer {layer:?}; it holds {}", path.display(), available.join(", "))]
    NoSuchLayer { path: PathBuf, layer: String, available: Vec<String> },
    /// Rows beyond the end of the file, or a buffer of the wrong size, were asked for.
    #[error("{}: rows {start}..{end} of {rows} do not fit a buffer of {buffer} values", path.display())]
    BadRange { path: PathBuf, start: usize, end: usize, rows: usize, buffer: usize },
    /// The output exists and may not be replaced.
    #[error("{} exists already; name another output, or allow overwriting", path.display())]
    Exists { path: PathBuf },
    /// The output's folder cannot be made.
    #[error("cannot create the folder {}; choose an output where you may write", path.display())]
    CreateFolder { path: PathBuf, source: io::Error },
    /// The partial or the lock file cannot be made, opened or renamed.
    #[error("cannot write {}; choose an output where you may write", path.display())]
    Create { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    /// Another process writes the same output.
    #[error(
        "another run is writing {}; wait until it ends, or name another output", path.display()
    )]
    Locked { path: PathBuf },
    /// The header that the caller gave cannot be stored.
    #[error("cannot store features in {}: {why}", path.display())]
    BadHeader { path: PathBuf, why: String },
    /// A row or a skipped image that the caller gave cannot be stored.
    #[error("cannot store image {name:?} in {}: {why}", path.display())]
    BadRow { path: PathBuf, name: String, why: String },
    /// Another features file whose rows cannot be added.
    #[error(
        "cannot add the rows of {} to {}: they differ in {what}; merge features that were extracted alike",
        other.display(), path.display()
    )]
    Incomparable { path: PathBuf, other: PathBuf, what: &'static str },
    /// Writing failed on the way: most often a full disk.
    #[error(
        "writing {} failed after {rows} safe rows; make room on its disk (or remove the cause) and run the \
         same command again to resume after those rows", path.display()
    )]
    Write { path: PathBuf, rows: u64, source: Box<dyn Error + Send + Sync> },
    /// A writer that has failed was used again.
    #[error("{} is not written any further after an earlier failure; run the same command again", path.display())]
    Failed { path: PathBuf },
}

impl From<ConvertError> for FeatureFileError {
    fn from(error: ConvertError) -> Self {
        match error {
            ConvertError::Features(error) => error,
            error => Self::Parquet(Box::new(error)),
        }
    }
}

impl FeatureFileError {
    pub(super) fn damaged(path: &Path, object: impl Into<String>) -> impl FnOnce(Hdf5Error) -> Self {
        let object = object.into();
        move |source| {
            let path = path.to_owned();
            match source {
                Hdf5Error::Part { part, rows, source } => {
                    let why = format!("it holds the rows {} to {}", rows.start, rows.end.saturating_sub(1));
                    Self::Part { path, part, why, source: Some(source) }
                }
                source => Self::Damaged { path, object, source },
            }
        }
    }

    pub(super) fn missing(path: &Path, object: impl Into<String>) -> Self {
        Self::Missing { path: path.to_owned(), object: object.into() }
    }

    pub(super) fn wrong_type(path: &Path, object: impl Into<String>, expected: &'static str) -> Self {
        Self::WrongType { path: path.to_owned(), object: object.into(), expected }
    }

    pub(super) fn bad_value(path: &Path, object: impl Into<String>, why: impl Into<String>) -> Self {
        Self::BadValue { path: path.to_owned(), object: object.into(), why: why.into() }
    }
}

/// The operating system's error inside an HDF5 error where there is one, else the HDF5 error itself.
pub(super) fn cause(error: hdf5_metno::Error) -> Box<dyn Error + Send + Sync> {
    match system_error(&error) {
        Some(code) => Box::new(io::Error::from_raw_os_error(code)),
        None => Box::new(error),
    }
}

/// Whether the operating system refused (a full disk, no permission), and not HDF5 itself.
pub(super) fn is_of_system(error: &hdf5_metno::Error) -> bool {
    system_error(error).is_some()
}

/// HDF5 states it in the text of its innermost frame only.
fn system_error(error: &hdf5_metno::Error) -> Option<i32> {
    error.stack()?.iter().find_map(|frame| {
        let (_, rest) = frame.desc().split_once("errno = ")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    })
}
