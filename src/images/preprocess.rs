//! The recipe from RGB pixels to a network's input tensor.
//!
//! A network is only as good as the agreement between how it was trained to see and how it is shown its input, so
//! the recipe is data: it stands in the model's manifest, travels with the features and the head, and gives the same
//! numbers as the framework that the network comes from.
//!
//! ```toml
//! [preprocess]
//! preset = "torchvision"       # or "keras-caffe", "tf", "custom"
//! size = [224, 224]            # width, height of the input tensor
//! resize = "shorter-side"      # then crop the centre; or "stretch"
//! shorter_side = 256
//! interpolation = "bilinear"   # or "nearest", "bicubic", "lanczos"
//! channel_order = "rgb"        # of the tensor; or "bgr", or "grey" in every channel
//! divisor = 255.0
//! mean = [0.485, 0.456, 0.406] # in the tensor's channel order
//! std = [0.229, 0.224, 0.225]
//! exif_orientation = true
//! dct_scaling = false          # JPEGs may be reduced while they are decoded
//! ```
//!
//! Everything but `preset` may be left out unless it is `custom`; `dct_scaling` may be left out there as well. Two fields
//! are there only where a recipe needs them: `stretched = [256, 256]` after `resize = "stretch"`, for a crop of the centre
//! of the stretched picture, and `crop_offset = "floor"`, for a crop as Hugging Face's transformers rounds it.

use std::fmt::Write as _;

use image::RgbImage;
use image::metadata::Orientation;
use serde::{Deserialize, Serialize};

use self::fields::PreprocessFields;
use self::tensor::ImageTensor;
use super::jpeg::JpegReduction;
use super::resample::{MAX_SIDE, Resampler, StoredImage, upright, window};

mod choices;
mod error;
mod fields;
mod tensor;
#[cfg(test)]
mod tests;

pub use choices::{ChannelOrder, CropOffset, Interpolation, Preset, TensorLayout, UnknownChoice};
pub use error::PreprocessError;
pub(crate) use tensor::GREY_WEIGHTS;

/// Longest side of an input tensor that is taken for meant.
const MAX_INPUT_SIDE: u32 = 8192;

/// torchvision resizes to 256 for a crop of 224.
const SHORTER_SIDE_OF_CROP: f64 = 256.0 / 224.0;

/// How many pixels of a reduced JPEG there must be to a pixel of the tensor, along a side.
const LEAST_SHRINK_AFTER_DCT: f64 = 2.0;

/// Whether all channels have one value.
pub(crate) fn all_alike([a, b, c]: [f64; 3]) -> bool {
    a == b && b == c
}

/// How an image of any shape becomes one of the network's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Shorter side to this many pixels, aspect kept, then the centre is cropped.
    ShorterSide(u32),
    /// Both sides to the network's size, aspect lost.
    Stretch,
    /// Both sides to this width and height, aspect lost, then the centre is cropped.
    StretchThenCrop(u32, u32),
}

/// Which pixels of a picture the network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CropGeometry {
    /// Width and height of the input tensor.
    pub size: (u32, u32),
    pub resize: Resize,
    pub crop_offset: CropOffset,
}

/// The whole recipe from RGB8 pixels to the input tensor.
///
/// A channel's value is `(x / divisor - mean) / std` with x in 0..=255, computed in f32 in that order, as
/// torchvision's ToTensor and Normalize and Keras's `preprocess_input` compute it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PreprocessFields", into = "PreprocessFields")]
pub struct Preprocess {
    preset: Preset,
    size: (u32, u32),
    resize: Resize,
    crop_offset: CropOffset,
    interpolation: Interpolation,
    channel_order: ChannelOrder,
    divisor: f64,
    mean: [f64; 3],
    std: [f64; 3],
    exif_orientation: bool,
    dct_scaling: bool,
}

/// What to change in a recipe; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessOverrides {
    /// Width and height of the input tensor.
    ///
    /// Without `shorter_side`, a recipe that crops keeps its ratio of shorter side to crop (256/224).
    pub size: Option<(u32, u32)>,
    /// `true`: stretch both sides to `size`; `false`: shorter side, then centre crop.
    pub stretch: Option<bool>,
    /// Shorter side in pixels before the crop; implies cropping.
    pub shorter_side: Option<u32>,
    /// Width and height that both sides are stretched to before the crop; implies stretching.
    pub stretched: Option<(u32, u32)>,
    /// Where a crop that leaves an odd number of pixels begins.
    pub crop_offset: Option<CropOffset>,
    /// Resampling filter.
    pub interpolation: Option<Interpolation>,
    /// Channel order of the tensor. The recipe's own mean and std move with their channels.
    pub channel_order: Option<ChannelOrder>,
    /// What pixel values are divided by first.
    pub divisor: Option<f64>,
    /// Subtracted then, in the tensor's channel order.
    pub mean: Option<[f64; 3]>,
    /// Divided by last, in the tensor's channel order.
    pub std: Option<[f64; 3]>,
    /// Whether to turn images as their EXIF orientation says.
    pub exif_orientation: Option<bool>,
    /// Whether large JPEGs are reduced while they are decoded.
    pub dct_scaling: Option<bool>,
}

impl Preprocess {
    /// The recipe of torchvision.
    pub fn torchvision() -> Self {
        Self {
            preset: Preset::Torchvision,
            size: (224, 224),
            resize: Resize::ShorterSide(256),
            crop_offset: CropOffset::HalfEven,
            interpolation: Interpolation::Bilinear,
            channel_order: ChannelOrder::Rgb,
            divisor: 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            exif_orientation: true,
            dct_scaling: false,
        }
    }

    /// The recipe of a framework; `None` for [`Preset::Custom`], which has none of its own.
    pub fn preset(preset: Preset) -> Option<Self> {
        let torchvision = Self { preset, ..Self::torchvision() };
        match preset {
            Preset::Torchvision => Some(torchvision),
            Preset::KerasCaffe => Some(Self {
                resize: Resize::Stretch,
                interpolation: Interpolation::Nearest,
                channel_order: ChannelOrder::Bgr,
                divisor: 1.0,
                mean: [103.939, 116.779, 123.68],
                std: [1.0; 3],
                ..torchvision
            }),
            Preset::Tf => Some(Self { divisor: 127.5, mean: [1.0; 3], std: [1.0; 3], ..torchvision }),
            Preset::Custom => None,
        }
    }

    /// The recipe with some of its fields changed. Where that makes it differ from its preset in anything but
    /// the switches `exif_orientation` and `dct_scaling`, its preset becomes [`Preset::Custom`].
    ///
    /// # Errors
    /// When the result is no usable recipe.
    pub fn with(&self, overrides: &PreprocessOverrides) -> Result<Self, PreprocessError> {
        let mut recipe = self.clone();
        recipe.size = overrides.size.unwrap_or(self.size);
        recipe.resize = self.resize_with(overrides)?;
        recipe.crop_offset = overrides.crop_offset.unwrap_or(self.crop_offset);
        recipe.interpolation = overrides.interpolation.unwrap_or(self.interpolation);
        if let Some(order) = overrides.channel_order.filter(|&order| order != self.channel_order) {
            recipe.channel_order = order;
            if (self.channel_order == ChannelOrder::Bgr) != (order == ChannelOrder::Bgr) {
                recipe.mean.reverse();
                recipe.std.reverse();
            }
        }
        recipe.divisor = overrides.divisor.unwrap_or(self.divisor);
        recipe.mean = overrides.mean.unwrap_or(recipe.mean);
        recipe.std = overrides.std.unwrap_or(recipe.std);
        recipe.exif_orientation = overrides.exif_orientation.unwrap_or(self.exif_orientation);
        recipe.dct_scaling = overrides.dct_scaling.unwrap_or(self.dct_scaling);
        recipe.checked()
    }

    fn resize_with(&self, overrides: &PreprocessOverrides) -> Result<Resize, PreprocessError> {
        let (width, height) = overrides.size.unwrap_or(self.size);
        // A side beyond u32 saturates, and is refused as out of range.
        let scaled = |side: u32, from: u32, to: u32| {
            (f64::from(side) * f64::from(to) / f64::from(from)).round() as u32
        };
        match (overrides.stretch, overrides.shorter_side, overrides.stretched) {
            (Some(true), Some(_), _) | (Some(false), _, Some(_)) | (_, Some(_), Some(_)) => {
                Err(PreprocessError::StretchWithShorterSide)
            }
            (_, Some(shorter_side), None) => Ok(Resize::ShorterSide(shorter_side)),
            (_, None, Some((across, down))) => Ok(Resize::StretchThenCrop(across, down)),
            (Some(true), None, None) => Ok(Resize::Stretch),
            (stretch, None, None) => Ok(match self.resize {
                Resize::Stretch if stretch.is_none() => Resize::Stretch,
                Resize::StretchThenCrop(across, down) if stretch.is_none() => Resize::StretchThenCrop(
                    scaled(across, self.size.0, width),
                    scaled(down, self.size.1, height),
                ),
                Resize::ShorterSide(shorter) => {
                    let ratio = f64::from(shorter) / f64::from(self.size.0.max(self.size.1));
                    Resize::ShorterSide((f64::from(width.max(height)) * ratio).round() as u32)
                }
                _ => {
                    Resize::ShorterSide((f64::from(width.max(height)) * SHORTER_SIDE_OF_CROP).round() as u32)
                }
            }),
        }
    }

    /// Validates, and names the preset for what the fields are.
    fn checked(mut self) -> Result<Self, PreprocessError> {
        let (width, height) = self.size;
        let sane = 1..=MAX_INPUT_SIDE;
        if !sane.contains(&width) || !sane.contains(&height) {
            return Err(PreprocessError::Size { width, height });
        }
        if let Resize::ShorterSide(shorter_side) = self.resize
            && !(width.max(height)..=MAX_INPUT_SIDE).contains(&shorter_side)
        {
            return Err(PreprocessError::ShorterSide { shorter_side, width, height });
        }
        if let Resize::StretchThenCrop(across, down) = self.resize {
            if !(width..=MAX_INPUT_SIDE).contains(&across) || !(height..=MAX_INPUT_SIDE).contains(&down) {
                return Err(PreprocessError::Stretched { stretched: (across, down), width, height });
            }
            if (across, down) == self.size {
                self.resize = Resize::Stretch;
            }
        }
        if self.resize == Resize::Stretch {
            // Nothing is cropped: recipes of the same pixels are to be equal.
            self.crop_offset = CropOffset::HalfEven;
        }
        // What counts is the f32 that the arithmetic sees: 1e-60 is a zero there, 1e60 infinite.
        let check = |field, value: f64, nonzero| match value as f32 {
            x if x.is_finite() && !(nonzero && x == 0.0) => Ok(()),
            _ => Err(PreprocessError::Number { field, value, nonzero }),
        };
        check("divisor", self.divisor, true)?;
        self.mean.into_iter().try_for_each(|mean| check("mean", mean, false))?;
        self.std.into_iter().try_for_each(|std| check("std", std, true))?;
        if self.channel_order == ChannelOrder::Grey && !(all_alike(self.mean) && all_alike(self.std)) {
            return Err(PreprocessError::GreyOfSeveral { mean: self.mean, std: self.std });
        }

        let original = Self::preset(self.preset);
        let same = original.is_some_and(|preset| {
            preset
                == Self {
                    exif_orientation: preset.exif_orientation,
                    dct_scaling: preset.dct_scaling,
                    ..self.clone()
                }
        });
        if !same {
            self.preset = Preset::Custom;
        }
        Ok(self)
    }

    /// The same recipe under the name of the preset that has all of its values, if there is one.
    pub fn named(self) -> Self {
        let is_same = |preset: &Self| {
            let (exif_orientation, dct_scaling) = (preset.exif_orientation, preset.dct_scaling);
            Self { preset: preset.preset, exif_orientation, dct_scaling, ..self.clone() } == *preset
        };
        let preset = Preset::ALL.iter().copied().filter_map(Self::preset).find(is_same);
        Self { preset: preset.map_or(self.preset, |preset| preset.preset), ..self }
    }

    /// Which framework's recipe this is.
    pub fn preset_name(&self) -> Preset {
        self.preset
    }

    /// Width and height of the input tensor.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// How an image gets that size.
    pub fn resize(&self) -> Resize {
        self.resize
    }

    /// Where a crop that leaves an odd number of pixels begins.
    pub fn crop_offset(&self) -> CropOffset {
        self.crop_offset
    }

    /// The resampling filter.
    pub fn interpolation(&self) -> Interpolation {
        self.interpolation
    }

    /// The tensor's channel order.
    pub fn channel_order(&self) -> ChannelOrder {
        self.channel_order
    }

    /// Divisor, mean and deviation, the latter two in the tensor's channel order.
    pub fn normalisation(&self) -> (f64, [f64; 3], [f64; 3]) {
        (self.divisor, self.mean, self.std)
    }

    /// Scale and offset of each of the tensor's channels: a level x becomes `x * scale + offset`, but for rounding.
    pub fn scale_and_offset(&self) -> [(f64, f64); 3] {
        std::array::from_fn(|channel| {
            let std = self.std[channel];
            (1.0 / (self.divisor * std), -self.mean[channel] / std)
        })
    }

    /// What a channel of opaque alpha holds, of level 255: normalised as the colours are if all three have one mean and one deviation,
    /// otherwise only divided.
    pub fn opaque_alpha(&self) -> f32 {
        let divided = 255.0 / self.divisor as f32;
        if all_alike(self.mean) && all_alike(self.std) {
            (divided - self.mean[0] as f32) / self.std[0] as f32
        } else {
            divided
        }
    }

    /// Whether images are to be turned as their EXIF orientation says, before [`Preprocess::apply`].
    pub fn exif_orientation(&self) -> bool {
        self.exif_orientation
    }

    /// Whether JPEGs may be reduced to a half, a quarter or an eighth of their sides while they are decoded, which is much
    /// faster for large ones and changes the tensor a little.
    pub fn dct_scaling(&self) -> bool {
        self.dct_scaling
    }

    /// Whether pixels stay whole numbers from 0 to 255, as networks want them that take bytes.
    pub fn keeps_levels(&self) -> bool {
        self.divisor == 1.0 && self.mean == [0.0; 3] && self.std == [1.0; 3]
    }

    /// Number of values in the tensor of one image: 3 x height x width.
    pub fn tensor_len(&self) -> usize {
        3 * self.size.0 as usize * self.size.1 as usize
    }

    /// Resizes, crops and normalises `image` into `out`, which has the shape 3 x H x W or H x W x 3 by `layout`.
    ///
    /// The resized 8-bit pixels equal Pillow's, with any of the filters.
    ///
    /// # Errors
    /// When `out` has another length than [`Preprocess::tensor_len`], or the image no pixels or a side of more
    /// than 2^20.
    pub fn apply(
        &self,
        image: &RgbImage,
        layout: TensorLayout,
        out: &mut [f32],
    ) -> Result<(), PreprocessError> {
        let mut tensor = self.tensor(layout, out)?;
        let (width, height) = image.dimensions();
        let source = StoredImage::whole((width, height), Orientation::NoTransforms);
        let mut resampler = self.resampler(source, (width, height))?;
        let columns = resampler.columns();
        for index in resampler.rows() {
            // What follows the columns serves as padding.
            let row = &image.as_raw()[3 * (index * width as usize + columns.start)..];
            resampler.push(index, row, |line| tensor.put(&line));
        }
        Ok(())
    }

    /// The part of an image of `width` x `height` pixels that the network sees: left, top, width and height, in the
    /// image's own pixels.
    pub fn window(&self, width: u32, height: u32) -> [f64; 4] {
        window((width, height), self.geometry())
    }

    fn geometry(&self) -> CropGeometry {
        CropGeometry { size: self.size, resize: self.resize, crop_offset: self.crop_offset }
    }

    /// The tensor that this recipe fills in `out`.
    pub(super) fn tensor<'a>(
        &self,
        layout: TensorLayout,
        out: &'a mut [f32],
    ) -> Result<ImageTensor<'a>, PreprocessError> {
        let expected = self.tensor_len();
        if out.len() != expected {
            return Err(PreprocessError::BufferLength { expected, found: out.len() });
        }
        Ok(ImageTensor::new(self, layout, out))
    }

    /// What makes this recipe's pixels of `source`, a photo of `whole` pixels as it is stored.
    pub(super) fn resampler(
        &self,
        source: StoredImage,
        whole: (u32, u32),
    ) -> Result<Resampler, PreprocessError> {
        let (width, height) = whole;
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(PreprocessError::ImageSize { width, height });
        }
        Ok(Resampler::new(source, whole, self.geometry(), self.interpolation))
    }

    /// How far a JPEG of this size, as it is stored, is reduced while it is decoded: as far as leaves two of its pixels, or
    /// more, to one of the resized image.
    pub(super) fn reduction(&self, size: (u32, u32), orientation: Orientation) -> JpegReduction {
        if !self.dct_scaling || self.interpolation == Interpolation::Nearest {
            return JpegReduction::NONE;
        }
        let (width, height) = upright(size, orientation);
        let shrink = match self.resize {
            Resize::ShorterSide(shorter) => f64::from(width.min(height)) / f64::from(shorter),
            Resize::Stretch | Resize::StretchThenCrop(..) => {
                let (across, down) = match self.resize {
                    Resize::StretchThenCrop(across, down) => (across, down),
                    _ => self.size,
                };
                (f64::from(width) / f64::from(across)).min(f64::from(height) / f64::from(down))
            }
        };
        let mut reductions = JpegReduction::ALL.into_iter();
        reductions
            .find(|reduction| shrink * reduction.factor() >= LEAST_SHRINK_AFTER_DCT)
            .unwrap_or(JpegReduction::NONE)
    }

    /// The recipe in one line, for people.
    pub fn describe(&self) -> String {
        let (width, height) = self.size;
        let mut line = format!("{}: ", self.preset);
        // Writing to a String cannot fail.
        let filter = self.interpolation;
        let _ = match self.resize {
            Resize::ShorterSide(shorter) => write!(line, "shorter side to {shorter} ({filter})"),
            Resize::Stretch => write!(line, "stretch to {width} x {height} ({filter})"),
            Resize::StretchThenCrop(across, down) => write!(line, "stretch to {across} x {down} ({filter})"),
        };
        if self.resize != Resize::Stretch {
            let _ = write!(line, ", centre crop {width} x {height}");
        }
        if self.crop_offset == CropOffset::Floor {
            line.push_str(" (offset rounded down)");
        }
        let _ = write!(line, ", {}", self.channel_order.to_string().to_uppercase());
        if self.divisor != 1.0 {
            let _ = write!(line, ", / {}", self.divisor);
        }
        let listed = |values: [f64; 3]| values.map(|value| value.to_string()).join(" ");
        if self.mean != [0.0; 3] {
            let _ = write!(line, ", - mean {}", listed(self.mean));
        }
        if self.std != [1.0; 3] {
            let _ = write!(line, ", / std {}", listed(self.std));
        }
        line.push_str(if self.exif_orientation {
            ", EXIF orientation applied"
        } else {
            ", EXIF orientation ignored"
        });
        if self.dct_scaling {
            line.push_str(", large JPEGs reduced in decoding");
        }
        line
    }
}
