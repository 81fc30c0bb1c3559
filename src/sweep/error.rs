//! Why a sweep stopped.

use std::path::PathBuf;

use super::CandidateLayersError;
use crate::extract::ExtractError;
use crate::features::FeatureFileError;
use crate::head::HeadError;
use crate::images::PreprocessError;
use crate::network::{BackboneError, ModelError};
use crate::training::TrainingError;

/// Why a sweep stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// There is nothing to tell apart.
    #[error(
        "{source_name} has fewer than two classes; a sweep needs a folder with one folder for each class, or a CSV \
         file with the columns path,label"
    )]
    TooFewClasses {
        /// What the user named as the source of the images.
        source_name: String,
    },
    /// [`SweepSettings::stop`](super::SweepSettings::stop) was set.
    #[error("the sweep was stopped; the same sweep resumes")]
    Stopped,
    /// There is nothing to compare.
    #[error("no model is named; name at least one")]
    NoModel,
    /// One network would be compared with itself.
    #[error("the model {model} is named twice; name it once")]
    NamedTwice {
        /// The name of its manifest.
        model: String,
    },
    /// The network cannot be opened.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its preprocessing cannot be changed as asked.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The wanted layers cannot be compared.
    #[error(transparent)]
    Layers(#[from] CandidateLayersError),
    /// The features cannot be extracted.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The network cannot be timed.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A features file cannot be read or written.
    #[error(transparent)]
    Features(#[from] FeatureFileError),
    /// The images cannot be used for training.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// The features of two networks are not of the same images.
    #[error(
        "{} holds other images than the first network's file; run the sweep with --force", path.display()
    )]
    OtherImages {
        /// The features file.
        path: PathBuf,
    },
    /// No head could be fitted.
    #[error("no head could be fitted to {features} of {model}")]
    Head {
        /// The name of the features in the network's file.
        features: String,
        /// The network.
        model: String,
        /// Why.
        source: Box<HeadError>,
    },
}
