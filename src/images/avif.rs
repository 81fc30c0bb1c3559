//! AVIF, where the program is built with the feature `avif`: the first picture, of one piece or a grid.
//!
//! Pixels are Pillow's, which come from libavif and libyuv. The picture is turned as the file's container says; EXIF's
//! orientation repeats it, and is not asked.

use image::RgbImage;
use image::metadata::Orientation;

use super::decode::{DecodeError, DecodeOptions};

#[cfg(feature = "avif")]
mod av1;
#[cfg(feature = "avif")]
mod colour;

const NAME: &str = "AVIF";

/// Decodes the first picture to RGB; orientation is returned, not applied.
#[cfg(not(feature = "avif"))]
pub(super) fn decode_avif(_: &[u8], _: &DecodeOptions) -> Result<(RgbImage, Orientation), DecodeError> {
    Err(DecodeError::UnsupportedFormat {
        format: NAME,
        remedy: "build cnncodes with --features avif, as scripts/setup does, or convert it to JPEG or PNG",
    })
}

/// Decodes the first picture to RGB; orientation is returned, not applied.
#[cfg(feature = "avif")]
pub(super) fn decode_avif(
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    use super::container::{CodedPicture, ContainerRefusal, Presentation};
    use super::decode::check_pixels;

    let damaged = || DecodeError::Damaged { format: NAME };
    let unsupported = || DecodeError::unsupported(format!("this kind of {NAME}"));
    let picture = CodedPicture::of(bytes).map_err(|refusal| match refusal {
        ContainerRefusal::Damaged => damaged(),
        ContainerRefusal::Unsupported => unsupported(),
    })?;
    if let Some((width, height)) = picture.declared {
        check_pixels(width, height, options.max_pixels)?;
    }
    let mut image: Option<RgbImage> = None;
    for (index, part) in picture.parts.iter().enumerate() {
        let frame = av1::decode(part, options.max_pixels).ok_or_else(damaged)?;
        let (width, height) = (frame.width as u32, frame.height as u32);
        let rgb = colour::to_rgb(&frame, picture.colours).ok_or_else(unsupported)?;
        let part = RgbImage::from_raw(width, height, rgb).ok_or_else(damaged)?;
        let Some(size) = picture.grid else {
            image = Some(part);
            break;
        };
        // No more parts than the picture has room for.
        let (column, row) = ((index % picture.columns) as u32, (index / picture.columns) as u32);
        let (left, top) = (column.saturating_mul(width), row.saturating_mul(height));
        if left >= size.0 || top >= size.1 {
            return Err(damaged());
        }
        let image = image.get_or_insert_with(|| RgbImage::new(size.0, size.1));
        image::imageops::replace(image, &part, left.into(), top.into());
    }
    let shown = Presentation::of(bytes, &[b"av01", b"grid"]).ok_or_else(damaged)?;
    Ok((shown.crop(image.ok_or_else(damaged)?), shown.orientation))
}
