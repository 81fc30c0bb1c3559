//! From the bytes of an image file to 8-bit RGB, as Pillow's `convert("RGB")` has it, which is what the loaders of
//! torchvision and Keras feed their networks.
//!
//! The format is told by the bytes, never by the file's extension. Dimensions are checked before anything of that
//! size is allocated. A file that is cut off is an error even where a lenient decoder would fill in the rest. What is not
//! read is named, with what to do; neither a library's words nor a file's bytes get into a message.
//!
//! What each kind of pixel means:
//! - greyscale: the value three times; palette: its colours; 1-bit: 0 and 255;
//! - alpha: dropped, not blended; hidden colours show, as in Pillow;
//! - 16 bits a sample: the upper byte (Pillow does so for colour, but clips greyscale to 255, which whitens it);
//! - floating point: 0 to 1 becomes 0 to 255, and what goes further up to 255 is taken as it is; else refused;
//! - CMYK: Pillow's formula, in JPEG inverted as Adobe writes it;
//! - animations, sequences and files of several pages: the first;
//! - colour profiles: left alone, as in Pillow.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

use super::jpeg::decode_jpeg;
use super::preprocess::Preprocess;
use super::sniff::{ImageFormat, sniff};
use super::tiff::decode_tiff;
use super::unread::OtherFile;
use super::{avif, heif, jxl, orientation};
use crate::panics;

#[cfg(test)]
mod tests;

/// Largest image, in pixels, that is decoded unless the user asks for more: 750 MB as RGB.
pub const DEFAULT_MAX_PIXELS: u64 = 250_000_000;

/// Room for a decoder's tables and metadata, beside the pixels.
const DECODER_OVERHEAD: u64 = 64 << 20;

/// How to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Turn the image as its EXIF (or TIFF) orientation says.
    pub apply_orientation: bool,
    /// Refuse images with more pixels than this.
    pub max_pixels: u64,
}

impl DecodeOptions {
    /// For images that `preprocess` is applied to, which says whether the orientation counts.
    pub fn for_preprocess(preprocess: &Preprocess, max_pixels: u64) -> Self {
        Self { apply_orientation: preprocess.exif_orientation(), max_pixels }
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { apply_orientation: true, max_pixels: DEFAULT_MAX_PIXELS }
    }
}

/// What to do with an image of a kind that is not read.
pub(super) const CONVERT: &str = "convert it to JPEG or to an 8-bit PNG";

/// Why a file's bytes give no image. The caller adds the file's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No bytes.
    #[error("the file is empty (0 bytes); copy it again from its source")]
    Empty,
    /// No known image format.
    #[error("not an image: {looks_like}; {remedy}")]
    NotAnImage {
        /// What the bytes look like.
        looks_like: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// An image format that is not read.
    #[error("{format} images are not read; {remedy}")]
    UnsupportedFormat {
        /// The format's name.
        format: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A variant of a known format that is not read.
    #[error("{kind} is not read; {remedy}")]
    UnsupportedKind {
        /// The variant, with the format's name.
        kind: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Floating-point samples that are neither 0 to 1 nor 0 to 255.
    #[error(
        "{format} with floating-point samples from {lowest} to {highest}, whose meaning is unknown; scale \
         them to 0 to 1 or to 0 to 255, or convert it to an 8-bit PNG"
    )]
    FloatRange {
        /// The format's name.
        format: &'static str,
        /// The smallest sample, or one that is no number.
        lowest: f64,
        /// The largest.
        highest: f64,
    },
    /// More pixels than allowed.
    #[error(
        "{width} x {height} pixels are more than the limit of {limit} pixels; if the image is genuine, raise the limit with --max-pixels"
    )]
    TooLarge {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// [`DecodeOptions::max_pixels`].
        limit: u64,
    },
    /// No pixels.
    #[error("{width} x {height}: the image has no pixels")]
    NoPixels {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A JPEG that libjpeg cannot decode, or only by inventing a part of it.
    #[error("damaged or cut-off JPEG ({reason}); copy it again from its source")]
    Jpeg {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another file that its decoder refuses.
    #[error("damaged or cut-off {format}; copy it again from its source")]
    Damaged {
        /// The format's name.
        format: &'static str,
    },
    /// A file whose own structure says that more should follow.
    #[error("cut-off {format}: its end is missing; copy it again from its source")]
    CutOff {
        /// The format's name.
        format: &'static str,
    },
    /// A decoder failed in a way that it should not.
    #[error("damaged {format}: its decoder panicked; copy it again from its source")]
    DecoderPanicked {
        /// The format's name.
        format: &'static str,
    },
}

impl DecodeError {
    /// An image of a format that is read, but not of this kind.
    pub(super) fn unsupported(kind: impl Into<String>) -> Self {
        Self::UnsupportedKind { kind: kind.into(), remedy: CONVERT }
    }
}

/// Decodes an image file to 8-bit RGB, the orientation applied if asked for.
///
/// ```
/// use cnncodes::images::{DecodeOptions, decode};
///
/// let not_an_image = decode(b"hello", &DecodeOptions::default());
/// assert!(not_an_image.unwrap_err().to_string().starts_with("not an image"));
/// ```
///
/// # Errors
/// When the bytes are no image of a format that is read, are damaged or cut off, or hold more than
/// `options.max_pixels`. Never panics.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, DecodeError> {
    let format = format_of(bytes)?;
    let name = format.name();
    let (image, orientation) = match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, options)?,
        ImageFormat::Png => decode_other(bytes, image::ImageFormat::Png, name, options)?,
        ImageFormat::WebP => decode_other(bytes, image::ImageFormat::WebP, name, options)?,
        ImageFormat::Bmp => decode_other(bytes, image::ImageFormat::Bmp, name, options)?,
        ImageFormat::Gif => decode_other(bytes, image::ImageFormat::Gif, name, options)?,
        ImageFormat::Tiff | ImageFormat::BigTiff => unwinding(name, || decode_tiff(bytes, name, options))?,
        ImageFormat::Heif => unwinding(name, || heif::decode_heif(bytes, options))?,
        ImageFormat::Avif => unwinding(name, || avif::decode_avif(bytes, options))?,
        ImageFormat::JpegXl => unwinding(name, || jxl::decode_jxl(bytes, options))?,
        other => return Err(DecodeError::UnsupportedFormat { format: name, remedy: other.remedy() }),
    };
    if !options.apply_orientation || orientation == Orientation::NoTransforms {
        return Ok(image);
    }
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// The format of an image, or what else the bytes are.
pub(super) fn format_of(bytes: &[u8]) -> Result<ImageFormat, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    sniff(bytes).ok_or_else(|| {
        let other = OtherFile::sniff(bytes);
        DecodeError::NotAnImage { looks_like: other.looks_like, remedy: other.remedy }
    })
}

/// Refuses sizes without pixels or beyond the limit.
pub(super) fn check_pixels(width: u32, height: u32, limit: u64) -> Result<(), DecodeError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(DecodeError::NoPixels { width, height });
    }
    if pixels > limit {
        return Err(DecodeError::TooLarge { width, height, limit });
    }
    Ok(())
}

fn decode_other(
    bytes: &[u8],
    format: image::ImageFormat,
    name: &'static str,
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    unwinding(name, || decode_unguarded(bytes, format, name, options))
}

/// Runs a decoder. They promise errors, not panics; a bug in one of them must not end a run over a million files.
fn unwinding<T>(
    format: &'static str,
    decoder: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    panics::catch(decoder).unwrap_or(Err(DecodeError::DecoderPanicked { format }))
}

fn decode_unguarded(
    bytes: &[u8],
    format: image::ImageFormat,
    name: &'static str,
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    let failed = |error: ImageError| match error {
        ImageError::Unsupported(_) => DecodeError::unsupported(format!("this kind of {name}")),
        _ => DecodeError::Damaged { format: name },
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_OVERHEAD);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;

    let (width, height) = decoder.dimensions();
    check_pixels(width, height, options.max_pixels)?;
    if is_cut_off(bytes, format) {
        return Err(DecodeError::CutOff { format: name });
    }
    // The frame and the canvas of an animation, each with up to 4 samples of 2 bytes.
    let pixels = u64::from(width) * u64::from(height);
    limits.max_alloc = Some(pixels.saturating_mul(16).saturating_add(DECODER_OVERHEAD));
    decoder.set_limits(limits).map_err(failed)?;

    let metadata = match format {
        image::ImageFormat::Png => orientation::of_png(bytes),
        image::ImageFormat::WebP => orientation::of_webp(bytes),
        _ => orientation::OrientationMetadata::default(),
    };
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    Ok((to_rgb8(image, name)?, metadata.orientation()))
}

/// Whether a container's own structure reaches beyond the file's end. Decoders stop once they have all pixels, and
/// with the end of the file its metadata, so its orientation, would be lost in silence.
fn is_cut_off(bytes: &[u8], format: image::ImageFormat) -> bool {
    match format {
        image::ImageFormat::Png => {
            let mut rest = bytes.get(8..).unwrap_or_default();
            // A chunk: length (big-endian), kind, body, checksum.
            while let Some((&[a, b, c, d, ref kind @ ..], _)) = rest.split_first_chunk::<8>() {
                let end = 12 + u64::from(u32::from_be_bytes([a, b, c, d]));
                match usize::try_from(end).ok().and_then(|end| rest.get(end..)) {
                    None => return true,
                    Some(_) if kind == b"IEND" => return false,
                    Some(next) => rest = next,
                }
            }
            true
        }
        // RIFF: the length (little-endian) of what follows it.
        image::ImageFormat::WebP => match bytes.get(4..8) {
            Some(&[a, b, c, d]) => (bytes.len() as u64) < 8 + u64::from(u32::from_le_bytes([a, b, c, d])),
            _ => true,
        },
        _ => false,
    }
}

/// Drops alpha and the lower byte of 16-bit samples, and spreads grey over three channels.
fn to_rgb8(image: DynamicImage, format: &'static str) -> Result<RgbImage, DecodeError> {
    let (width, height) = (image.width(), image.height());
    let samples: Vec<u8> = match image {
        DynamicImage::ImageRgb8(image) => return Ok(image),
        DynamicImage::ImageLuma8(image) => image.into_raw().into_iter().flat_map(|grey| [grey; 3]).collect(),
        DynamicImage::ImageLumaA8(image) => image.pixels().flat_map(|pixel| [pixel.0[0]; 3]).collect(),
        DynamicImage::ImageRgba8(image) => image.pixels().flat_map(|pixel| first_three(pixel.0)).collect(),
        DynamicImage::ImageLuma16(image) => image.pixels().flat_map(|pixel| [upper(pixel.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|pixel| [upper(pixel.0[0]); 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => image.pixels().flat_map(|pixel| pixel.0.map(upper)).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|pixel| first_three(pixel.0).map(upper)).collect()
        }
        _ => return Err(DecodeError::unsupported(format!("{format} with floating-point samples"))),
    };
    // Every arm above makes three samples of each pixel.
    RgbImage::from_raw(width, height, samples).ok_or(DecodeError::NoPixels { width, height })
}

fn first_three<T: Copy>([r, g, b, _]: [T; 4]) -> [T; 3] {
    [r, g, b]
}

fn upper(sample: u16) -> u8 {
    (sample >> 8) as u8
}
