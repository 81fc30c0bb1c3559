//! HEIC and HEIF, the photos of iPhones and many cameras, through a decoder of HEVC that is safe Rust.
//!
//! The picture is turned, mirrored and cropped as its container says, which is the only say that it has; EXIF's orientation
//! repeats it, and is not asked.

use heic_decoder::{HeifError, decode, probe};
use image::RgbImage;
use image::metadata::Orientation;

use super::decode::{DecodeError, DecodeOptions, check_pixels};

const NAME: &str = "HEIC/HEIF";

/// Decodes the first picture to RGB.
pub(super) fn decode_heif(
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    let info = probe(bytes).map_err(refused)?;
    for (width, height) in [(info.width, info.height), (info.coded_width, info.coded_height)] {
        let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        check_pixels(side(width), side(height), options.max_pixels)?;
    }
    let rgb = decode(bytes).and_then(|image| image.to_rgb8()).map_err(refused)?;
    let damaged = DecodeError::Damaged { format: NAME };
    let (Ok(width), Ok(height)) = (u32::try_from(rgb.width), u32::try_from(rgb.height)) else {
        return Err(damaged);
    };
    let image = RgbImage::from_raw(width, height, rgb.data).ok_or(damaged)?;
    Ok((image, Orientation::NoTransforms))
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
