//! JPEG through libjpeg (mozjpeg), bit for bit as libjpeg-turbo and so Pillow decode it: accurate integer DCT,
//! smooth chroma upsampling.
//!
//! libjpeg repairs what it can: it fills the missing half of a photo with grey and only counts a warning. Here a
//! warning about the picture's data is an error, because codes of half a photo are wrong and look right.

use std::any::Any;
use std::ffi::c_int;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use image::RgbImage;
use image::metadata::Orientation;
use mozjpeg::decompress::DecompressBuilder;
use mozjpeg::{ColorSpace, Marker};
use mozjpeg_sys as ffi;

use super::decode::{DecodeError, DecodeOptions, check_pixels};

const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// What libjpeg says about the data; the payload that unwinds from its callbacks to [`decode_jpeg`].
struct Complaint(String);

/// Decodes a JPEG to RGB; orientation is returned, not applied.
///
/// CMYK and YCCK become RGB as Pillow's `convert("RGB")` does it, taking the file for inverted as Adobe writes it.
pub(super) fn decode_jpeg(
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    // Errors leave libjpeg by unwinding; every object that it holds is freed by its owner's Drop on the way, and
    // nothing of it is used afterwards.
    match catch_unwind(AssertUnwindSafe(|| decode_unwinding(bytes, options))) {
        Ok(result) => result,
        Err(payload) => Err(DecodeError::Jpeg { message: complaint_of(payload) }),
    }
}

fn complaint_of(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<Complaint>() {
        Ok(complaint) => complaint.0,
        Err(_) => "the decoder failed on it".to_owned(),
    }
}

/// As [`decode_jpeg`], except that libjpeg's errors unwind out of it.
fn decode_unwinding(bytes: &[u8], options: &DecodeOptions) -> Result<(RgbImage, Orientation), DecodeError> {
    let io_error = |error: std::io::Error| DecodeError::Jpeg { message: error.to_string() };
    let jpeg = DecompressBuilder::new()
        .with_err(strict_error_manager())
        .with_markers(&[Marker::APP(1)])
        .from_mem(bytes)
        .map_err(io_error)?;
    let (width, height) = (jpeg.width() as u32, jpeg.height() as u32);
    check_pixels(width, height, options.max_pixels)?;
    let orientation = jpeg
        .markers()
        .find_map(|marker| marker.data.strip_prefix(EXIF_PREFIX))
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms);

    let is_cmyk = matches!(jpeg.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
    let target = if is_cmyk { ColorSpace::JCS_CMYK } else { ColorSpace::JCS_RGB };
    let mut started = jpeg.to_colorspace(target).map_err(io_error)?;
    let mut samples: Vec<u8> = started.read_scanlines().map_err(io_error)?;
    // Reads on to the end-of-image marker; that it is missing is noticed only here.
    started.finish().map_err(io_error)?;
    if is_cmyk {
        samples = adobe_cmyk_to_rgb(samples);
    }
    let image = RgbImage::from_raw(width, height, samples).ok_or_else(|| DecodeError::Jpeg {
        message: "it holds fewer rows than its header says".to_owned(),
    })?;
    Ok((image, orientation))
}

/// Inverted CMYK (Adobe's convention in JPEG) to RGB with Pillow's rounding: R = K' - C K' / 255 for each ink,
/// where K' = 255 - K, and the division rounds to nearest.
fn adobe_cmyk_to_rgb(mut samples: Vec<u8>) -> Vec<u8> {
    let n_pixels = samples.len() / 4;
    for pixel in 0..n_pixels {
        // The file stores 255 - ink, so the stored K is K' already.
        let [c, m, y, not_k] =
            [samples[4 * pixel], samples[4 * pixel + 1], samples[4 * pixel + 2], samples[4 * pixel + 3]];
        for (channel, stored) in [c, m, y].into_iter().enumerate() {
            samples[3 * pixel + channel] = not_k.saturating_sub(multiply_255(255 - stored, not_k));
        }
    }
    samples.truncate(3 * n_pixels);
    samples
}

/// a b / 255, rounded to nearest (Pillow's MULDIV255).
fn multiply_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

fn strict_error_manager() -> ffi::jpeg_error_mgr {
    // SAFETY: the struct is plain C data (numbers, nullable pointers), for which all zeros is a valid value;
    // jpeg_std_error then fills it in and keeps no pointer to it.
    unsafe {
        let mut manager: ffi::jpeg_error_mgr = mem::zeroed();
        ffi::jpeg_std_error(&mut manager);
        manager.error_exit = Some(on_error);
        manager.emit_message = Some(on_message);
        manager
    }
}

/// libjpeg's fatal errors; must not return.
#[cold]
extern "C-unwind" fn on_error(info: &mut ffi::jpeg_common_struct) {
    resume_unwind(Box::new(Complaint(message_of(info))));
}

/// Warnings (level -1) and traces (level 0 and above).
extern "C-unwind" fn on_message(info: &mut ffi::jpeg_common_struct, level: c_int) {
    if level >= 0 {
        return;
    }
    // SAFETY: libjpeg's callbacks get the error manager that was set before decompression was created.
    let code = unsafe { (*info.err).msg_code };
    let harmless = matches!(
        code,
        // About metadata, about bytes between segments, or about header fields that baseline decoding ignores:
        // the picture itself is whole.
        ffi::JWRN_ADOBE_XFORM
            | ffi::JWRN_BOGUS_ICC
            | ffi::JWRN_EXTRANEOUS_DATA
            | ffi::JWRN_JFIF_MAJOR
            | ffi::JWRN_NOT_SEQUENTIAL
    );
    if !harmless {
        on_error(info);
    }
}

fn message_of(info: &mut ffi::jpeg_common_struct) -> String {
    /// As the C header has it; the crate's own declaration has a read-only buffer that is too short.
    type FormatMessage = unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, *mut u8);
    const JMSG_LENGTH_MAX: usize = 200;
    let mut buffer = [0u8; JMSG_LENGTH_MAX];
    // SAFETY: as in on_message. The two function types differ only in how they spell the pointer to the buffer,
    // and the C function writes at most JMSG_LENGTH_MAX bytes, the last of them 0.
    unsafe {
        let Some(format) = (*info.err).format_message else {
            return format!("libjpeg message {}", (*info.err).msg_code);
        };
        let format: FormatMessage = mem::transmute(format);
        format(info, buffer.as_mut_ptr());
    }
    let text = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
