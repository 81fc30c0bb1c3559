//! Why there is no explanation.

use std::io;
use std::path::PathBuf;

use crate::classifier::ClassifyError;
use crate::extract::ExtractError;
use crate::head::HeadError;
use crate::images::{DecodeError, PreprocessError};
use crate::network::BackboneError;
use crate::similarity::NeighborsError;

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The network cannot be run.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The head does not fit the features.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The picture cannot be resized.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The network gives other features than the head's.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The head cannot answer.
    #[error(transparent)]
    Classify(#[from] ClassifyError),
    /// The training images cannot be searched.
    #[error(transparent)]
    Neighbors(#[from] NeighborsError),
    /// The folder of the overlays cannot be created.
    #[error("cannot create the folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The photo was read once and cannot be read again.
    #[error("cannot read {image}")]
    Read {
        /// The photo.
        image: String,
        /// Why.
        source: io::Error,
    },
    /// The photo was decoded once and cannot be decoded again.
    #[error("{image}")]
    Decode {
        /// The photo.
        image: String,
        /// Why.
        source: DecodeError,
    },
    /// An overlay cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The overlay.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
