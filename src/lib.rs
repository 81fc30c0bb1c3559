//! cnncodes turns a frozen ImageNet network and a folder of labelled photos into an image classifier.
//!
//! ```
//! use cnncodes::backbone::{ModelsFolder, Pooling};
//! use cnncodes::classifier::Classifier;
//! use cnncodes::extract::{Extractor, ExtractorSettings};
//! use cnncodes::{demo, feature_spec::FeatureSpec, head::{FitSettings, HeadKind}, images::SampleSet};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! demo::write_folder(folder.path(), 20, 0)?; // data/CLASS/*.jpg, and image.jpg, which shows a sailboat
//! let models = ModelsFolder { path: folder.path().join("models") };
//! let network = demo::write_model(&models)?;
//!
//! let spec = FeatureSpec::new(&network, "fc7", Pooling::None)?;
//! let extractor = Extractor::open(spec, &models, &ExtractorSettings::default())?;
//! let photos = SampleSet::from_folder(&folder.path().join("data"))?;
//! let mut classifier = Classifier::fit(extractor, &photos, &FitSettings::new(HeadKind::Svm))?;
//! println!("{}", classifier.head().evaluation.to_text());
//!
//! let answer = classifier.classify_file(&folder.path().join("image.jpg"))?;
//! assert_eq!(classifier.class_name(answer.top()), "sailboat");
//! classifier.head().save(&folder.path().join("models/demo.head.h5"))?;
//! # Ok(())
//! # }
//! ```
//!
//! Data flows through the rooms in this order:
//!
//! ```text
//! images/ -> decode -> preprocess -> batch -> backbone (truncated ONNX graph) -> codes (HDF5)
//! codes (HDF5) -> folds -> scale -> solver -> head file
//! image -> preprocess -> backbone -> head -> ranked classes
//! ```
//!
//! - [`images`]: which pictures there are, and their pixels as the network wants them.
//! - [`backbone`]: the frozen network: its manifest, its layers, its truncated graph, its session.
//! - The crate `cnncodes-convolution` (crates/convolution): convolutional layers on the processor, where they are faster
//!   than the runtime's.
//! - The crate `cnncodes-linear-heads` (crates/linear-heads): the solvers of linear classifiers.
//! - [`extract`]: the pipeline from a set of images to a file of codes.
//! - [`codes`]: the HDF5 file of codes.
//! - [`hdf5`]: reading HDF5 files that may come from anybody.
//! - [`head`]: the linear classifier that is trained on codes, and its file.
//! - [`evaluate`]: folds, metrics and how they are reported.
//! - [`explain`]: which parts of a picture a head's answer rests on.
//! - [`neighbors`]: the nearest images by code, exactly, in one pass over a file.
//! - [`sweep`]: which layer and which head suit a set of images, and advice on it.
//! - [`feature_spec`]: all that decides the value of a feature, in one record.
//! - [`classifier`]: an extractor and a head: image in, answer out.
//! - [`fetch`]: downloading a file, completely or not at all.
//! - [`report`]: one HTML file that shows how good a head is and what it fails on.
//! - [`demo`]: the embedded example.
//! - [`cli`]: one file a command.

pub mod backbone;
pub mod classifier;
pub mod cli;
pub mod codes;
pub mod demo;
pub mod evaluate;
pub mod explain;
pub mod extract;
pub mod feature_spec;
pub mod fetch;
pub mod files;
pub mod hdf5;
pub mod head;
pub mod images;
pub mod neighbors;
mod printable;
pub mod report;
pub mod sweep;
