//! cnncodes turns a frozen ImageNet network and a folder of labelled photos into an image classifier.
//!
//! ```
//! use cnncodes::network::{ModelsFolder, Pooling};
//! use cnncodes::classifier::Classifier;
//! use cnncodes::extract::{Extractor, ExtractorSettings};
//! use cnncodes::{dataset::Dataset, demo, feature_spec::FeatureSpec, head::{FitSettings, HeadKind}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! demo::write_folder(folder.path(), 20, 0)?; // data/CLASS/*.jpg, and image.jpg, which shows a sailboat
//! let models = ModelsFolder { path: folder.path().join("models") };
//! let network = demo::write_model(&models)?;
//!
//! let spec = FeatureSpec::new(&network, "fc7", Pooling::None)?;
//! let extractor = Extractor::open(spec, &models, &ExtractorSettings::default())?;
//! let photos = Dataset::from_folder(&folder.path().join("data"))?;
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
//! Data flows through the modules in this order:
//!
//! ```text
//! dataset -> images: decode, preprocess -> network (truncated ONNX graph) -> features (HDF5)
//! features (HDF5) -> training: labels, duplicates, folds -> head: solver -> head file
//! image -> network -> head -> ranked classes
//! ```
//!
//! - [`dataset`]: which images there are, where their bytes lie, their labels, and which are duplicates.
//! - `remote`: files in object stores and on the web.
//! - [`images`]: from the bytes of an image to the pixels that the network wants.
//! - [`network`]: the frozen network: its manifest, its layers, its truncated graph, its session.
//! - The crate `cnncodes-convolution` (crates/convolution): convolutional layers on the processor, where they are faster
//!   than the runtime's.
//! - [`preprocess_check`]: whether a preprocessing fits its network.
//! - [`feature_spec`]: all that decides the value of a feature, in one record.
//! - [`extract`]: images in, features out, in memory or into a file.
//! - [`features`]: the HDF5 file of features.
//! - [`plan`]: extraction on many machines: a frozen list of images, its parts, and the one file that they become.
//! - [`hdf5`]: reading HDF5 files that may come from anybody.
//! - [`training`]: from a features file to a head: labels, duplicates, splits, small classes. Suspects of the file.
//! - [`head`]: the classifier that is fitted to features, its cross-validation, and its file.
//! - The crate `cnncodes-linear-heads` (crates/linear-heads): the solvers.
//! - [`classifier`]: an extractor and a head: image in, answer out. Test images measure the head.
//! - [`evaluate`]: folds, metrics and how they are reported.
//! - [`explain`]: which parts of an image an answer rests on, and which training images it resembles.
//! - [`export`]: a head with its network as one ONNX graph, for whatever runs ONNX.
//! - [`similarity`]: the nearest images by their features, exactly, in one pass over a file.
//! - [`sweep`]: which layer and which head suit a set of images, and advice on it.
//! - [`report`]: one HTML file that shows how good a head is and what it fails on.
//! - [`download`]: downloading a file, completely or not at all; from a hub of models to the models folder.
//! - `serve`: the page and the HTTP interface; with the feature `serve`.
//! - [`demo`]: the embedded example.
//! - `cli`: one file for each command; with the feature `cli`, which is on by default.

#![warn(missing_docs)]
pub mod classifier;
#[cfg(feature = "cli")]
pub mod cli;
pub mod dataset;
pub mod demo;
mod digest;
pub mod download;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod extract;
pub mod feature_spec;
pub mod features;
mod files;
pub mod hdf5;
pub mod head;
pub mod images;
mod memory;
mod messages;
pub mod network;
mod panics;
pub mod plan;
mod positional;
pub mod preprocess_check;
mod remote;
pub mod report;
#[cfg(feature = "serve")]
pub mod serve;
pub mod similarity;
pub mod sweep;
pub mod training;
