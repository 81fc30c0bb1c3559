//! cnncodes turns a frozen ImageNet network and a folder of labelled photos into an image classifier.
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
//! - [`conv`]: convolutional layers on the processor, where they are faster than the runtime's.
//! - [`extract`]: the pipeline from a set of images to a file of codes.
//! - [`codes`]: the HDF5 file of codes.
//! - [`head`]: the linear classifier that is trained on codes, and its file.
//! - [`evaluate`]: folds, metrics and how they are reported.
//! - [`explain`]: which parts of a picture a head's answer rests on.
//! - [`neighbors`]: the nearest images by code, exactly, in one pass over a file.
//! - [`sweep`]: which layer and which head suit a set of images, and advice on it.
//! - [`fetch`]: downloading a file, completely or not at all.
//! - [`report`]: one HTML file that shows how good a head is and what it fails on.
//! - [`demo`]: the embedded example.
//! - [`cli`]: one file a command.

pub mod backbone;
pub mod cli;
pub mod codes;
pub mod conv;
pub mod demo;
pub mod evaluate;
pub mod explain;
pub mod extract;
pub mod fetch;
pub mod files;
pub mod head;
pub mod images;
pub mod neighbors;
mod printable;
pub mod report;
pub mod sweep;
