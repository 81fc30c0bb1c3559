//! HEIC and HEIF, the photos of iPhones and many cameras, through a decoder of HEVC that is safe Rust.
//!
//! Pixels are those of libheif, and so of pillow-heif. The picture is turned, mirrored and cropped as its container says;
//! EXIF's orientation repeats it, and is not asked.

use heic_decoder::{HeifError, decode_with, probe};
use image::RgbImage;
use image::metadata::Orientation;

use super::container::Presentation;
use super::decode::{DecodeError, DecodeOptions, check_pixels};
use super::yuv::{Chroma, Planes, UNSPECIFIED, enlarge};

const NAME: &str = "HEIC/HEIF";

/// Decodes the first picture to RGB.
pub(super) fn decode_heif(
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    let info = probe(bytes).map_err(refused)?;
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    for (width, height) in [(info.width, info.height), (info.coded_width, info.coded_height)] {
        check_pixels(side(width), side(height), options.max_pixels)?;
    }
    // Pixels are turned when they are RGB: chroma of odd sizes, turned by itself, would lie half a sample off.
    let shown = Presentation::of(bytes, &[b"hvc1", b"grid"]);
    let settings = heic_decoder::DecodeOptions { apply_transforms: shown.is_none() };
    let picture = decode_with(bytes, &settings).map_err(refused)?;
    let unsupported = || DecodeError::unsupported(format!("this kind of {NAME}"));
    if picture.chroma_format_idc != 0 && picture.bit_depth_luma != picture.bit_depth_chroma {
        return Err(unsupported());
    }
    let colours = picture.color_info;
    let size = (picture.width, picture.height);
    let chroma_size = (picture.cb_width, picture.cb_height);
    let (cb, cr);
    let chroma = if picture.chroma_format_idc == 0 {
        None
    } else if shown.as_ref().is_some_and(|shown| shown.splits_chroma(size, chroma_size)) {
        cb = enlarge(&picture.cb, chroma_size, size, false);
        cr = enlarge(&picture.cr, chroma_size, size, false);
        Some(Chroma { cb: &cb[..], cr: &cr[..], width: size.0, height: size.1 })
    } else {
        let (cb, cr) = (&picture.cb[..], &picture.cr[..]);
        Some(Chroma { cb, cr, width: chroma_size.0, height: chroma_size.1 })
    };
    let planes = Planes {
        width: picture.width,
        height: picture.height,
        luma: &picture.y,
        chroma,
        depth: picture.bit_depth_luma,
        matrix: colours
            .map_or(UNSPECIFIED, |colours| u8::try_from(colours.matrix_coefficients).unwrap_or(u8::MAX)),
        is_full_range: colours.is_none_or(|colours| colours.full_range),
    };
    let rgb = planes.to_rgb().ok_or_else(unsupported)?;
    let image = RgbImage::from_raw(side(picture.width), side(picture.height), rgb).ok_or_else(unsupported)?;
    Ok(match shown {
        Some(shown) => (shown.crop(image), shown.orientation),
        None => (image, Orientation::NoTransforms),
    })
}

fn refused(error: HeifError) -> DecodeError {
    match error {
        HeifError::Unsupported(_) => DecodeError::unsupported(format!("this kind of {NAME}")),
        HeifError::LimitExceeded(_) => {
            DecodeError::unsupported(format!("a {NAME} of more than 268 million pixels"))
        }
        _ => DecodeError::Damaged { format: NAME },
    }
}
