//! What can go wrong while features are converted. Each variant names the file, the cause and the remedy.

use std::io;
use std::path::{Path, PathBuf};

use crate::features::FeatureFileError;
use crate::messages::Cause;

/// Why features cannot be converted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum ConvertError {
    /// The ending of a file's name says nothing.
    #[error(
        "{}: the ending of its name does not say what it holds; the endings are .h5, .npz, .npy, .parquet, .arrow, .csv and \
         .safetensors", path.display()
    )]
    Ending { path: PathBuf },
    /// A folder was named that holds no features.
    #[error(
        "{} is a folder without features: it has neither features.npy (as thingsvision writes) nor img_emb/*.npy (as \
         clip-retrieval writes); name a file", path.display()
    )]
    Folder { path: PathBuf },
    /// The program was built without a format.
    #[error(
        "{}: this program was built without the cargo feature `parquet`; build it with `--features parquet`, or use .npz", path.display()
    )]
    NotBuilt { path: PathBuf },
    /// The file cannot be opened or read.
    #[error("cannot read {}; check the path", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file ends too early, or is not what its name says.
    #[error("{} is damaged or cut short: {what}; copy it again", path.display())]
    Damaged { path: PathBuf, what: String, source: Option<Cause> },
    /// The file is sound but holds no table of features.
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
    /// A column or array is not there.
    #[error("{} has no {what}; it has {}", path.display(), listed(present))]
    Missing { path: PathBuf, what: String, present: Vec<String> },
    /// A vector is longer or shorter than the first one.
    #[error(
        "{}: the vector of row {row} has {found} values, and the first has {expected}; every row needs as many", path.display()
    )]
    Ragged { path: PathBuf, row: usize, found: usize, expected: usize },
    /// A feature that is no finite number.
    #[error(
        "{}: row {row} ({name}) holds {value} in column {column}; remove the row, or compute its features again", path.display()
    )]
    NotFinite { path: PathBuf, row: usize, name: String, column: usize, value: f32 },
    /// Two rows of one name.
    #[error(
        "{}: rows {first} and {second} are both named {name:?}; remove one of them, or name another column of names with \
         --name-column", path.display()
    )]
    DuplicateName { path: PathBuf, name: String, first: usize, second: usize },
    /// The list of names is as long as another table.
    #[error("{} has {found}, but {} has {expected}; they do not belong together", path.display(), features.display())]
    OtherLength { path: PathBuf, found: String, features: PathBuf, expected: String },
    /// The labels cannot be read.
    #[error("{} cannot be used for labels", path.display())]
    Labels { path: PathBuf, source: Cause },
    /// An output is there already.
    #[error("{} exists already; name another output, or replace it with --force", path.display())]
    Exists { path: PathBuf },
    /// The output cannot be written.
    #[error("cannot write {}; check that its folder is writable and has space left", path.display())]
    Write { path: PathBuf, source: Cause },
    /// The features file of this program.
    #[error(transparent)]
    Features(#[from] FeatureFileError),
}

/// The first few names.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.len() {
        0 => "none".to_owned(),
        all if all > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), all - SHOWN),
        _ => names.join(", "),
    }
}

impl ConvertError {
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    /// A read that should have found something: a file that ends too early is damaged, all else the system's.
    pub(super) fn cut(path: &Path, what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let (path, what) = (path.to_owned(), what.into());
        move |source| match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Damaged { path, what, source: Some(source.into()) }
            }
            _ => Self::Read { path, source },
        }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into(), source: None }
    }

    pub(super) fn unusable(path: &Path, why: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), why: why.into() }
    }

    pub(super) fn write<E: Into<Cause>>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source: source.into() }
    }
}
