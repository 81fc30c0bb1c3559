//! What can go wrong with an HDF5 file. The file's name, and the remedy that depends on what the file is for, are told by
//! the error that has one of these as its source.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Why something in an HDF5 file cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum Hdf5Error {
    /// The system cannot read the file.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
    /// The bytes are not those of an HDF5 file.
    #[error("it is not an HDF5 file")]
    NotHdf5,
    /// The file ends before the size that its own header states.
    #[error("it has {found} bytes, but states that it has {stated}")]
    Truncated { stated: u64, found: u64 },
    /// No such object.
    #[error("there is nothing with that name")]
    Missing,
    /// What the file says cannot be.
    #[error("{object} is damaged: {why}")]
    Damaged { object: String, why: String },
    /// A text is none.
    #[error("{object} holds text that is not UTF-8")]
    NotUtf8 { object: String },
    /// The values went through a filter that is not part of HDF5 itself.
    #[error(
        "its values are stored with the HDF5 filter {filter}, a plug-in that this program lacks; store them \
         again without it, for example with `h5repack -f GZIP=4 IN.h5 OUT.h5` on a machine with the plug-in"
    )]
    Filter { filter: String },
    /// A part of HDF5 that this program does not read.
    #[error("{0}")]
    Unsupported(String),
    /// A file that holds some of the rows of a virtual dataset cannot be read.
    #[error("the rows {} to {} are in {}, which cannot be read", rows.start, rows.end.saturating_sub(1), part.display())]
    Part { part: PathBuf, rows: Range<u64>, source: Box<Hdf5Error> },
    /// The values are of another type than the format says.
    #[error("it is {found}, expected {expected}")]
    WrongType { found: String, expected: String },
}

impl Hdf5Error {
    pub(crate) fn damaged(object: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged { object: object.into(), why: why.into() }
    }

    /// What the crate says about `object`.
    pub(super) fn of(error: hdf5_reader::error::Error, object: &str) -> Self {
        use hdf5_reader::error::Error;
        match error {
            Error::Io(error) => Self::Io(error),
            Error::InvalidMagic => Self::NotHdf5,
            Error::GroupNotFound(_) | Error::DatasetNotFound(_) | Error::AttributeNotFound(_) => {
                Self::Missing
            }
            Error::UnsupportedEncoding(why) => Self::Unsupported(why),
            Error::Context { source, .. } => Self::of(*source, object),
            other => Self::damaged(object, other.to_string()),
        }
    }
}
