//! The HDF5 file of codes: what an image became in each tapped layer, under the image's own name.
//!
//! This room owns the file's layout ([`schema`]), its writing ([`CodesWriter`]: one process, one sibling
//! partial file, resumed after a crash) and its reading ([`CodesFile`]: nothing in the file is trusted).
//! It reads arrays of images from other programs' HDF5 files as well ([`ImageArray`]), since
//! HDF5 types and ndarray 0.17 stay inside; callers see slices, strings and ndarray 0.16.
//! The layout for users of h5py, MATLAB and R is in `docs/codes-format.md`.

mod chunks;
mod error;
mod image_array;
mod journal;
mod lock;
mod objects;
mod reader;
pub mod schema;
mod strings;
mod table;
#[cfg(test)]
mod testing;
mod writer;

pub use error::CodesError;
pub use image_array::{ArrayError, ArrayLabels, ImageArray};
pub use reader::{CodesFile, NonFinite};
pub use schema::{Header, LayerSpec, PassedOver, Row, Skipped, escape_layer_name};
pub use writer::{CodesWriter, Done, NotResumed, Start, WriteOptions};
