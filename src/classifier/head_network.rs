//! Where the network of a head is: in the models folder, or in the head's own file.

use std::ffi::OsStr;
use std::path::Path;

use crate::export::{SealedClassifier, SealedError};
use crate::feature_spec::{FeatureSpec, NetworkError};
use crate::head::{Head, HeadFileError};
use crate::network::{Graph, GraphError, Layer, ModelsFolder};

/// Where the network of a head is.
pub enum HeadNetwork {
    /// In the models folder.
    Models(ModelsFolder),
    /// In the head's own file, which `cnncodes export` made.
    Sealed(Box<(Graph, Layer)>),
}

/// Why a head cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenHeadError {
    /// The head's file cannot be read.
    #[error(transparent)]
    Head(#[from] HeadFileError),
    /// The exported classifier cannot be read.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The network inside of it cannot be read.
    #[error(transparent)]
    Network(#[from] GraphError),
}

impl HeadNetwork {
    /// The head in `file`, a head file or an exported classifier (`.onnx`), and where its network is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(file: &Path, models: &ModelsFolder) -> Result<(Head, Self), OpenHeadError> {
        if file.extension() == Some(OsStr::new("onnx")) {
            let sealed = SealedClassifier::open(file)?;
            let network = sealed.network()?;
            return Ok((sealed.head, Self::Sealed(Box::new(network))));
        }
        Ok((Head::load(file)?, Self::Models(models.clone())))
    }

    /// The network of `spec`, which the head has, and its layer.
    ///
    /// # Errors
    /// The models folder lacks the network.
    pub fn open(self, spec: &FeatureSpec) -> Result<(Graph, Layer), NetworkError> {
        match self {
            Self::Models(models) => spec.network(&models),
            Self::Sealed(network) => Ok(*network),
        }
    }
}
