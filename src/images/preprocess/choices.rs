//! The named choices of a recipe, each under one spelling everywhere: in manifests, in files and on the command
//! line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A word that is none of the choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {found:?}; choose one of: {choices}")]
pub struct UnknownChoice {
    what: &'static str,
    found: String,
    choices: String,
}

/// An enum whose variants have one name each, for serde, `Display` and `FromStr` alike.
macro_rules! choices {
    ($(#[$meta:meta])* $name:ident, $what:literal: $($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every choice.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in files and on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownChoice;

            fn from_str(text: &str) -> Result<Self, UnknownChoice> {
                Self::ALL.iter().copied().find(|choice| choice.as_str() == text).ok_or_else(|| UnknownChoice {
                    what: $what,
                    found: text.to_owned(),
                    choices: [$($text),+].join(", "),
                })
            }
        }
    };
}

choices! {
    /// Whose recipe it is.
    Preset, "preset":
    /// torchvision's ImageNet evaluation: shorter side 256, crop 224, mean and std of ImageNet, RGB.
    Torchvision = "torchvision",
    /// Keras's `caffe` mode (VGG16, ResNet50): stretched to 224 x 224 by nearest neighbour, BGR, mean subtracted.
    KerasCaffe = "keras-caffe",
    /// TensorFlow's `tf` mode (MobileNet, Inception): -1 to 1, RGB.
    Tf = "tf",
    /// None of these.
    Custom = "custom",
}

choices! {
    /// The resampling filter, antialiased when shrinking except for `nearest`.
    Interpolation, "interpolation":
    /// The pixel under the centre.
    Nearest = "nearest",
    /// Triangle filter.
    Bilinear = "bilinear",
    /// Cubic with a = -0.5 (Catmull-Rom).
    Bicubic = "bicubic",
    /// Windowed sinc with three lobes.
    Lanczos = "lanczos",
}

choices! {
    /// Where the crop of the centre begins if an odd number of pixels is cut off.
    CropOffset, "crop offset":
    /// Half of them, rounded to the even number, as torchvision and timm have it.
    HalfEven = "half-even",
    /// Half of them, rounded down, as Hugging Face's transformers has it.
    Floor = "floor",
}

choices! {
    /// What the tensor's channels hold, in order.
    ChannelOrder, "channel order":
    /// Red first.
    Rgb = "rgb",
    /// Blue first, as Caffe and OpenCV.
    Bgr = "bgr",
    /// The grey level in every channel: `(19595 R + 38470 G + 7471 B + 32768) >> 16` of the resized pixel, as Pillow's
    /// `convert("L")` has it (ITU-R BT.601). A network with one channel reads the first.
    Grey = "grey",
}

choices! {
    /// How a batch of input tensors lies in memory.
    TensorLayout, "layout":
    /// Batch, channel, row, column (PyTorch, Caffe).
    Nchw = "nchw",
    /// Batch, row, column, channel (TensorFlow).
    Nhwc = "nhwc",
}
