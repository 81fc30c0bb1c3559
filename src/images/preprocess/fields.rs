//! A recipe as it stands in a file: flat, every field but the preset optional.

use serde::{Deserialize, Serialize};

use super::{
    ChannelOrder, CropOffset, Interpolation, Preprocess, PreprocessError, PreprocessOverrides, Preset, Resize,
};

/// The fields as they stand in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PreprocessFields {
    preset: Preset,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resize: Option<ResizeName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shorter_side: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stretched: Option<(u32, u32)>,
    /// Left out where it is torchvision's, as in files from before it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    crop_offset: Option<CropOffset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interpolation: Option<Interpolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_order: Option<ChannelOrder>,
    #[serde(skip_serializing_if = "Option::is_none")]
    divisor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<[f64; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    std: Option<[f64; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exif_orientation: Option<bool>,
    /// Left out where it is off, as in files from before it was there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dct_scaling: bool,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ResizeName {
    ShorterSide,
    Stretch,
}

impl From<Preprocess> for PreprocessFields {
    fn from(recipe: Preprocess) -> Self {
        let (resize, shorter_side, stretched) = match recipe.resize {
            Resize::ShorterSide(shorter_side) => (ResizeName::ShorterSide, Some(shorter_side), None),
            Resize::Stretch => (ResizeName::Stretch, None, None),
            Resize::StretchThenCrop(across, down) => (ResizeName::Stretch, None, Some((across, down))),
        };
        Self {
            preset: recipe.preset,
            size: Some(recipe.size),
            resize: Some(resize),
            shorter_side,
            stretched,
            crop_offset: Some(recipe.crop_offset).filter(|&offset| offset != CropOffset::HalfEven),
            interpolation: Some(recipe.interpolation),
            channel_order: Some(recipe.channel_order),
            divisor: Some(recipe.divisor),
            mean: Some(recipe.mean),
            std: Some(recipe.std),
            exif_orientation: Some(recipe.exif_orientation),
            dct_scaling: recipe.dct_scaling,
        }
    }
}

impl TryFrom<PreprocessFields> for Preprocess {
    type Error = PreprocessError;

    fn try_from(fields: PreprocessFields) -> Result<Self, PreprocessError> {
        let Some(base) = Self::preset(fields.preset) else { return fields.into_custom() };
        base.with(&PreprocessOverrides {
            size: fields.size,
            stretch: fields.resize.map(|resize| resize == ResizeName::Stretch),
            shorter_side: fields.shorter_side,
            stretched: fields.stretched,
            crop_offset: fields.crop_offset,
            interpolation: fields.interpolation,
            channel_order: fields.channel_order,
            divisor: fields.divisor,
            mean: fields.mean,
            std: fields.std,
            exif_orientation: fields.exif_orientation,
            dct_scaling: Some(fields.dct_scaling),
        })
    }
}

impl PreprocessFields {
    /// A recipe without a preset to fall back on.
    fn into_custom(self) -> Result<Preprocess, PreprocessError> {
        let missing = |field| PreprocessError::MissingField { field };
        let resize = match (self.resize, self.shorter_side, self.stretched) {
            (Some(ResizeName::Stretch), Some(_), _)
            | (Some(ResizeName::ShorterSide), _, Some(_))
            | (None, Some(_), Some(_)) => return Err(PreprocessError::StretchWithShorterSide),
            (Some(ResizeName::Stretch), None, None) => Resize::Stretch,
            (_, None, Some((across, down))) => Resize::StretchThenCrop(across, down),
            (_, Some(shorter_side), None) => Resize::ShorterSide(shorter_side),
            (Some(ResizeName::ShorterSide), None, None) => return Err(missing("shorter_side")),
            (None, None, None) => return Err(missing("resize")),
        };
        Preprocess {
            preset: Preset::Custom,
            size: self.size.ok_or_else(|| missing("size"))?,
            resize,
            crop_offset: self.crop_offset.unwrap_or(CropOffset::HalfEven),
            interpolation: self.interpolation.ok_or_else(|| missing("interpolation"))?,
            channel_order: self.channel_order.ok_or_else(|| missing("channel_order"))?,
            divisor: self.divisor.ok_or_else(|| missing("divisor"))?,
            mean: self.mean.ok_or_else(|| missing("mean"))?,
            std: self.std.ok_or_else(|| missing("std"))?,
            exif_orientation: self.exif_orientation.ok_or_else(|| missing("exif_orientation"))?,
            dct_scaling: self.dct_scaling,
        }
        .checked()
    }
}
