//! JPEG XL, where the program is built with the feature `jxl`.
//!
//! A JPEG that was packed into JPEG XL without loss is unpacked and decoded as the JPEG that it was. Others are decoded to
//! 8 bits in the colour space that the file names, turned as the file says.

use image::RgbImage;
use image::metadata::Orientation;

use super::decode::{DecodeError, DecodeOptions};

const NAME: &str = "JPEG XL";

/// Decodes the first frame to RGB.
#[cfg(not(feature = "jxl"))]
pub(super) fn decode_jxl(_: &[u8], _: &DecodeOptions) -> Result<(RgbImage, Orientation), DecodeError> {
    Err(DecodeError::UnsupportedFormat {
        format: NAME,
        remedy: "build cnncodes with --features jxl, as scripts/setup does, or convert it to JPEG or PNG",
    })
}

/// Decodes the first frame to RGB.
#[cfg(feature = "jxl")]
pub(super) fn decode_jxl(
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    reading::decode(bytes, options)
}

#[cfg(feature = "jxl")]
mod reading {
    use jxl_oxide::{AllocTracker, InitializeResult, JpegReconstructionStatus, JxlImage, JxlThreadPool};

    use super::super::decode::check_pixels;
    use super::super::jpeg::decode_jpeg;
    use super::{DecodeError, DecodeOptions, NAME, Orientation, RgbImage};

    const DAMAGED: DecodeError = DecodeError::Damaged { format: NAME };

    /// Memory for a pixel: three channels in floating point, as decoded and as rendered, and what transforms need.
    const BYTES_A_PIXEL: u64 = 64;

    /// Memory for tables and small pictures.
    const OVERHEAD: u64 = 64 << 20;

    pub(super) fn decode(
        bytes: &[u8],
        options: &DecodeOptions,
    ) -> Result<(RgbImage, Orientation), DecodeError> {
        let image = open(bytes, options)?;
        if let JpegReconstructionStatus::Available = image.jpeg_reconstruction_status() {
            let mut jpeg = Vec::new();
            if image.reconstruct_jpeg(&mut jpeg).is_ok() {
                return decode_jpeg(&jpeg, options);
            }
        }
        if image.pixel_format().has_black() {
            return Err(DecodeError::unsupported(format!("{NAME} with the inks of printing (CMYK)")));
        }
        let render = image.render_frame(0).map_err(|_| DAMAGED)?;
        let mut stream = render.stream_no_alpha();
        let (width, height, channels) = (stream.width(), stream.height(), stream.channels() as usize);
        check_pixels(width, height, options.max_pixels)?;
        let length = width as usize * height as usize * channels;
        let samples: Vec<u8> = if image.image_header().metadata.bit_depth.bits_per_sample() > 8 {
            let mut samples = vec![0_u16; length];
            stream.write_to_buffer(&mut samples);
            samples.into_iter().map(|sample| (sample >> 8) as u8).collect()
        } else {
            let mut samples = vec![0_u8; length];
            stream.write_to_buffer(&mut samples);
            samples
        };
        let samples = match channels {
            1 => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
            3 => samples,
            _ => return Err(DecodeError::unsupported(format!("{NAME} of {channels} channels"))),
        };
        let image = RgbImage::from_raw(width, height, samples).ok_or(DAMAGED)?;
        Ok((image, Orientation::NoTransforms))
    }

    /// The file with its first frame read, its size checked before any of its pixels.
    fn open(mut bytes: &[u8], options: &DecodeOptions) -> Result<JxlImage, DecodeError> {
        let memory = options.max_pixels.saturating_mul(BYTES_A_PIXEL).saturating_add(OVERHEAD);
        let tracker = AllocTracker::with_limit(usize::try_from(memory).unwrap_or(usize::MAX));
        let mut header =
            JxlImage::builder().pool(JxlThreadPool::none()).alloc_tracker(tracker).build_uninit();
        // The header is small; what is behind it is given once the size is known.
        const STEP: usize = 4096;
        let mut image = loop {
            let part = &bytes[..bytes.len().min(STEP)];
            if part.is_empty() {
                return Err(DAMAGED);
            }
            let taken = header.feed_bytes(part).map_err(|_| DAMAGED)?;
            bytes = &bytes[taken..];
            match header.try_init().map_err(|_| DAMAGED)? {
                InitializeResult::NeedMoreData(more) if taken > 0 => header = more,
                InitializeResult::NeedMoreData(_) => return Err(DAMAGED),
                InitializeResult::Initialized(image) => break image,
            }
        };
        check_pixels(image.width(), image.height(), options.max_pixels)?;
        while !bytes.is_empty() {
            let taken = image.feed_bytes(bytes).map_err(|_| DAMAGED)?;
            if taken == 0 {
                break;
            }
            bytes = &bytes[taken..];
        }
        image.finalize().map_err(|_| DAMAGED)?;
        if image.num_loaded_keyframes() == 0 {
            return Err(DecodeError::CutOff { format: NAME });
        }
        Ok(image)
    }
}
