//! From the bytes of an image file to 8-bit RGB, as Pillow's `convert("RGB")` has it, which is what the loaders of
//! torchvision and Keras feed their networks.
//!
//! The format is told by the bytes, never by the file's extension. Dimensions are checked before anything of that
//! size is allocated. A file that is cut off is an error even where a lenient decoder would fill in the rest.
//!
//! What each kind of pixel means:
//! - greyscale: the value three times; palette: its colours; 1-bit: 0 and 255;
//! - alpha: dropped, not blended; hidden colours show, as in Pillow;
//! - 16 bits a sample: the upper byte (Pillow does so for colour, but clips greyscale to 255, which whitens it);
//! - CMYK: Pillow's formula, in JPEG inverted as Adobe writes it (in TIFF within one level of it);
//! - animations: the first frame; floating-point samples: refused, as their range is not defined.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::jpeg::decode_jpeg;

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

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { apply_orientation: true, max_pixels: DEFAULT_MAX_PIXELS }
    }
}

/// Why a file's bytes give no image. The caller adds the file's name.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No bytes.
    #[error("the file is empty (0 bytes); copy it again from its source")]
    Empty,
    /// No known image format.
    #[error("not an image: {looks_like}; JPEG, PNG, WebP, BMP, GIF and TIFF are read")]
    NotAnImage {
        /// What the bytes look like.
        looks_like: &'static str,
    },
    /// An image format that is not read.
    #[error("{format} images are not read; convert it to JPEG or PNG")]
    UnsupportedFormat {
        /// The format's name.
        format: String,
    },
    /// A variant of a known format that is not read.
    #[error("this kind of {format} is not read; convert it to JPEG or to an 8-bit PNG")]
    UnsupportedKind {
        /// The format's name.
        format: &'static str,
        /// What is not supported.
        #[source]
        source: ImageError,
    },
    /// Floating-point samples.
    #[error(
        "{format} with floating-point samples is not read, as their range is not defined; convert it to an 8-bit PNG"
    )]
    FloatSamples {
        /// The format's name.
        format: &'static str,
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
    #[error("damaged or cut-off JPEG ({message}); copy it again from its source")]
    Jpeg {
        /// libjpeg's message.
        message: String,
    },
    /// Another file that its decoder refuses.
    #[error("damaged or cut-off {format}; copy it again from its source")]
    Damaged {
        /// The format's name.
        format: &'static str,
        /// The decoder's reason.
        #[source]
        source: ImageError,
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
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(bytes).map_err(|_| not_an_image(bytes))?;
    let (image, orientation) = match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, options)?,
        ImageFormat::Png => decode_other(bytes, format, "PNG", options)?,
        ImageFormat::WebP => decode_other(bytes, format, "WebP", options)?,
        ImageFormat::Bmp => decode_other(bytes, format, "BMP", options)?,
        ImageFormat::Gif => decode_other(bytes, format, "GIF", options)?,
        ImageFormat::Tiff => decode_other(bytes, format, "TIFF", options)?,
        other => return Err(DecodeError::UnsupportedFormat { format: format!("{other:?}").to_uppercase() }),
    };
    if !options.apply_orientation || orientation == Orientation::NoTransforms {
        return Ok(image);
    }
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
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

fn not_an_image(bytes: &[u8]) -> DecodeError {
    let is_heif = matches!(bytes.get(4..12), Some(b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1"));
    if is_heif {
        return DecodeError::UnsupportedFormat { format: "HEIC".to_owned() };
    }
    let start = &bytes[..bytes.len().min(512)];
    let is_text = start.iter().all(|&byte| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r'));
    let looks_like = if is_text {
        "it looks like text"
    } else if start.iter().all(|&byte| byte == 0) {
        "it starts with zeros, as an unfinished download does"
    } else {
        "its first bytes are of no image format"
    };
    DecodeError::NotAnImage { looks_like }
}

fn decode_other(
    bytes: &[u8],
    format: ImageFormat,
    name: &'static str,
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    // These decoders promise errors, not panics; a bug in one of them must not end a run over a million files.
    catch_unwind(AssertUnwindSafe(|| decode_unguarded(bytes, format, name, options)))
        .unwrap_or(Err(DecodeError::DecoderPanicked { format: name }))
}

fn decode_unguarded(
    bytes: &[u8],
    format: ImageFormat,
    name: &'static str,
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    let failed = |source: ImageError| match source {
        ImageError::Unsupported(_) => DecodeError::UnsupportedKind { format: name, source },
        _ => DecodeError::Damaged { format: name, source },
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

    // Unreadable metadata does not make the picture unreadable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    Ok((to_rgb8(image, name)?, orientation))
}

/// Whether a container's own structure reaches beyond the file's end. Decoders stop once they have all pixels, and
/// with the end of the file its metadata, so its orientation, would be lost in silence.
fn is_cut_off(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Png => {
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
        ImageFormat::WebP => match bytes.get(4..8) {
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
        _ => return Err(DecodeError::FloatSamples { format }),
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
