//! The frozen network: its manifest, its graph and layers, the ONNX Runtime library and a session on it.
//!
//! `ort` types stay inside this room. [`Backbone`] takes batches of preprocessed images and gives features.

mod activations;
mod class_scores;
mod constants;
pub mod device;
pub mod execution_plan;
mod fusion;
pub mod graph;
mod inference;
mod input_normalisation;
pub mod layer;
mod layer_list;
pub mod layers;
pub mod manifest;
mod network_file;
pub mod network_folder;
pub(crate) mod nodes;
mod operator;
pub mod pool;
pub mod profile;
pub mod register;
mod resnet;
pub mod runtime;
pub mod session;
mod tap_output;
#[cfg(test)]
pub(crate) mod testing;
mod tiles;
mod topology;
mod transformer;
mod vgg;
pub mod zoo;

pub use activations::{Activations, PoolingMismatch, TokenRows};
pub use class_scores::class_scores;
pub use device::{Device, DeviceError, Precision};
pub use execution_plan::{ExecutionPlan, ModelFootprint};
pub use graph::{Graph, GraphError};
pub(crate) use inference::{element_of, fixed_batch};
pub use input_normalisation::InputNormalisation;
pub use layer::{Layer, Tokens};
pub use layer_list::{LayerEntry, LayerList};
pub use layers::{Catalogue, NoSuchLayer, PENULTIMATE, WantedLayersError, activation_tensors, pooled_map};
pub use manifest::{Manifest, Model, ModelError, ModelsFolder};
pub use pool::Pooling;
pub use register::ModelMetadata;
pub use session::{Backbone, BackboneError, Runner, SessionSettings, Tap};
pub use tap_output::TapOutput;
