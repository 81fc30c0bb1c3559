//! The HDF5 features file: what an image became in each tapped layer, under the image's own name.
//!
//! This room owns the file's layout ([`schema`]), its writing ([`FeatureWriter`]: one process, one sibling
//! partial file, resumed after a crash), its reading ([`FeatureFile`]: nothing in the file is trusted), and
//! its conversion to and from the files of other programs ([`convert()`]). Many features files become one without copying
//! their features ([`write_virtual`]).
//! Types of libhdf5 and ndarray 0.17 stay inside; callers see slices, strings and ndarray 0.16.
//! The layout for users of h5py, MATLAB and R is in `docs/features-format.md`.

mod background_sync;
mod checked_read;
mod convert;
mod error;
mod hdf5_objects;
mod header;
mod journal;
mod lock;
mod raw_rows;
mod reader;
pub mod schema;
mod strings;
mod table;
#[cfg(test)]
mod testing;
mod virtual_file;
mod writer;

pub use convert::{ColumnNames, ConvertError, ConvertSettings, Converted, convert};
pub use error::FeatureFileError;
pub use header::{FeatureFileHeader, StoredLayer};
pub use reader::{FeatureFile, FeatureFileSummary, NonFinite};
pub use schema::{FeatureRow, PassedOverGroup, PlanPart, SkippedImage, escape_layer_name};
pub use virtual_file::{VirtualFile, write_virtual};
pub use writer::{CommittedRow, FeatureWriter, NotResumed, WriteOptions, WriterStart};
