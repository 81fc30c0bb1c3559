//! Which pictures there are, and their pixels as a network wants them.
//!
//! [`samples`] lists the inputs (a folder, a CSV manifest, a list of paths, tar shards, an HDF5 array) and gives each a
//! stable name and a label; [`sniff`](sniff()) tells images from other files; [`decode`] turns the bytes of a file into 8-bit RGB; [`preprocess`] turns those pixels into
//! the network's input tensor; [`load`](load()) does both in one go, and
//! [`perceptual_hash`](perceptual_hash()) says what a picture looks like, by which its copies are found. All of them follow one rule: a bad input is a
//! [`Problem`] with a name and a reason, never a silent substitute and never the end of the run.

mod avif;
mod container;
pub mod decode;
mod encode;
mod heif;
mod ifd;
mod jpeg;
mod jxl;
mod load;
mod orientation;
mod perceptual_hash;
pub mod preprocess;
mod resample;
pub mod samples;
mod sniff;
mod tiff;
mod unread;
mod yuv;

pub use decode::{DEFAULT_MAX_PIXELS, DecodeError, DecodeOptions, decode};
pub(crate) use encode::encode_jpeg;
pub use load::{LoadError, decode_hash, load, load_and_hash};
pub use perceptual_hash::{PerceptualHash, hamming_distance, perceptual_hash};
pub use preprocess::{
    ChannelOrder, Interpolation, Layout, Preprocess, PreprocessError, PreprocessOverrides, Preset, Resize,
};
pub(crate) use samples::with_causes;
pub use samples::{
    Content, Part, PassedOver, Problem, Sample, SampleSet, Samples, SamplesError, SourceOptions,
};
pub(crate) use samples::{CsvTable, class_name_of, sort_class_names, text_of};
pub use sniff::{HEAD, ImageFormat, sniff};
