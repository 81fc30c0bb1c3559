//! Why a recipe is refused or cannot be applied.

use super::MAX_INPUT_SIDE;
use crate::images::resample::MAX_SIDE;

/// Why a recipe is refused or cannot be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// A side of the input tensor is 0 or absurdly long.
    #[error("input size {width} x {height}: each side must be between 1 and {MAX_INPUT_SIDE} pixels")]
    Size {
        /// Width asked for.
        width: u32,
        /// Height asked for.
        height: u32,
    },
    /// The crop would not fit into the resized image.
    #[error(
        "shorter side {shorter_side} is out of range for a crop of {width} x {height}; it must be between the crop's longer side and {MAX_INPUT_SIDE}"
    )]
    ShorterSide {
        /// Shorter side asked for.
        shorter_side: u32,
        /// Width of the crop.
        width: u32,
        /// Height of the crop.
        height: u32,
    },
    /// The crop would not fit into the stretched image.
    #[error(
        "an image stretched to {} x {} is out of range for a crop of {width} x {height}; each side must be between \
         the crop's and {MAX_INPUT_SIDE}",
        stretched.0, stretched.1
    )]
    Stretched {
        /// Width and height asked for.
        stretched: (u32, u32),
        /// Width of the crop.
        width: u32,
        /// Height of the crop.
        height: u32,
    },
    /// Stretching has no shorter side.
    #[error("a shorter side and stretching exclude each other; give one of them")]
    StretchWithShorterSide,
    /// A number that normalisation cannot use.
    #[error("{field} {value}: must be a finite number{}", if *.nonzero { " other than 0" } else { "" })]
    Number {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// Whether 0 is refused, too.
        nonzero: bool,
    },
    /// Grey is one channel, however often it is repeated.
    #[error(
        "grey images have one mean and one deviation, and these differ by channel (mean {mean:?}, deviation {std:?}); give \
         those of the network's training, such as --mean 0.5 --std 0.5"
    )]
    GreyOfSeveral {
        /// Mean of each channel.
        mean: [f64; 3],
        /// Deviation of each channel.
        std: [f64; 3],
    },
    /// A custom recipe must say everything.
    #[error(
        "preset \"custom\" needs {field}; give it, or start from one of the presets torchvision, keras-caffe, tf"
    )]
    MissingField {
        /// The field that is missing.
        field: &'static str,
    },
    /// The output slice has the wrong length.
    #[error("the tensor of this preprocessing has {expected} values, the buffer {found}")]
    BufferLength {
        /// 3 x height x width.
        expected: usize,
        /// The slice's length.
        found: usize,
    },
    /// An image that cannot be resized.
    #[error(
        "an image of {width} x {height} pixels cannot be resized; each side must be between 1 and {MAX_SIDE}"
    )]
    ImageSize {
        /// The image's width.
        width: u32,
        /// The image's height.
        height: u32,
    },
}
