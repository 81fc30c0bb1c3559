//! From the bytes of an image file to the pixels that a network wants.
//!
//! [`sniff`](sniff()) tells images from other files; [`decode`] turns the bytes of a file into 8-bit RGB; [`preprocess`]
//! turns those pixels into the network's input tensor; [`load`](load()) does both in one go, and
//! [`perceptual_hash`](perceptual_hash()) describes what an image looks like, by which its copies are found. Which images
//! there are, [`dataset`](crate::dataset) knows.

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
pub mod preprocess_config;
mod resample;
mod sniff;
mod tiff;
mod unread;
mod yuv;

pub use decode::{DEFAULT_MAX_PIXELS, DecodeError, DecodeOptions, decode};
pub(crate) use encode::encode_jpeg;
pub use load::{LoadError, decode_hash, load, load_and_hash};
pub use perceptual_hash::{PerceptualHash, hamming_distance, perceptual_hash};
pub use preprocess::{
    ChannelOrder, CropOffset, Interpolation, Preprocess, PreprocessError, PreprocessOverrides, Preset,
    Resize, TensorLayout,
};
pub(crate) use preprocess::{GREY_WEIGHTS, all_alike};
pub use sniff::{HEAD, ImageFormat, sniff};
