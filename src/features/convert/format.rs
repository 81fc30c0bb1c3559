//! [`FileFormat`]: what a file of features is, by the ending of its name.

use std::path::Path;

use super::ConvertError;

/// A kind of file that features are converted to and from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFormat {
    /// This program's features file.
    Hdf5,
    Npy,
    Npz,
    Csv,
    Safetensors,
    Parquet,
    Arrow,
}

impl FileFormat {
    pub(super) fn of(path: &Path) -> Result<Self, ConvertError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "h5" | "hdf5" => Ok(Self::Hdf5),
            "npy" => Ok(Self::Npy),
            "npz" => Ok(Self::Npz),
            "csv" => Ok(Self::Csv),
            "safetensors" => Ok(Self::Safetensors),
            "parquet" | "pq" => Ok(Self::Parquet),
            "arrow" | "feather" => Ok(Self::Arrow),
            _ => Err(ConvertError::Ending { path: path.to_owned() }),
        }
    }

    /// What is added to the file's name for the files that stand beside it.
    pub(super) fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Npy => &[".csv", ".json"],
            Self::Csv => &[".json"],
            _ => &[],
        }
    }
}
