//! The frozen network: its manifest, its graph and layers, the ONNX Runtime library and a session on it.
//!
//! `ort` types stay inside this room. [`Backbone`] takes batches of preprocessed images and gives codes.

mod activations;
mod codes;
mod constants;
pub mod device;
pub mod execution_plan;
mod fusion;
pub mod graph;
mod inference;
pub mod layer;
pub mod layers;
pub mod manifest;
mod network_file;
mod operator;
pub mod pool;
pub mod profile;
pub mod register;
mod resnet;
pub mod runtime;
pub mod session;
mod tiles;
mod topology;
mod transformer;
mod vgg;
pub mod zoo;

pub use activations::{Activations, PoolingMismatch, TokenRows};
pub use codes::Codes;
pub use device::{Device, DeviceError, Precision};
pub use execution_plan::{ExecutionPlan, ModelFootprint};
pub use graph::{Graph, GraphError};
pub use layer::{Layer, Tokens};
pub use layers::{Catalogue, NoSuchLayer, PENULTIMATE, activation_tensors, pooled_map};
pub use manifest::{Manifest, Model, ModelError, ModelsFolder};
pub use pool::Pooling;
pub use register::ModelMetadata;
pub use session::{Backbone, BackboneError, Runner, SessionSettings, Tap};
