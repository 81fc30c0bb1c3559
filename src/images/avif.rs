//! AVIF, where the program is built with the feature `avif`.

use image::RgbImage;
use image::metadata::Orientation;

use super::decode::{DecodeError, DecodeOptions};

const NAME: &str = "AVIF";

/// Decodes the first picture to RGB.
pub(super) fn decode_avif(_: &[u8], _: &DecodeOptions) -> Result<(RgbImage, Orientation), DecodeError> {
    Err(DecodeError::UnsupportedFormat {
        format: NAME,
        remedy: "build cnncodes with --features avif, as scripts/setup does, or convert it to JPEG or PNG",
    })
}
