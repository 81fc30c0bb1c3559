//! From the bytes of an image file to a network's input tensor in one go.
//!
//! The tensor is that of [`decode`](super::decode()) and [`Preprocess::apply`], value for value. Of a JPEG, however, only
//! the blocks that the crop keeps are transformed, and its pixels pass from decoder to tensor row by row, so that neither
//! the photo nor its upright copy ever exists as a whole.

use image::metadata::Orientation;

use super::decode::{DecodeError, DecodeOptions, decode};
use super::jpeg::{Jpeg, JpegReduction, guarded};
use super::perceptual_hash::{Luma, PerceptualHash, hash_of_pixels, perceptual_hash};
use super::preprocess::{Preprocess, PreprocessError, TensorLayout};
use super::resample::StoredImage;
use super::sniff::{ImageFormat, sniff};

#[cfg(test)]
mod tests;

/// Why a file gives no tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its pixels cannot be preprocessed.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

/// Decodes an image file and preprocesses it into `out`, which has the shape 3 x H x W or H x W x 3 by `layout`.
///
/// # Errors
/// As [`decode`](super::decode()) and [`Preprocess::apply`]. What `out` holds then is not defined.
pub fn load(
    bytes: &[u8],
    options: &DecodeOptions,
    preprocess: &Preprocess,
    layout: TensorLayout,
    out: &mut [f32],
) -> Result<(), LoadError> {
    if is_jpeg(bytes) {
        return load_jpeg(bytes, options, preprocess, layout, out, false).map(drop);
    }
    Ok(preprocess.apply(&decode(bytes, options)?, layout, out)?)
}

/// As [`load`], and gives the image's [`perceptual_hash`]: that of the whole upright image, whatever `options` and
/// `preprocess` make of it. Of a JPEG it is that of its luma as the file holds it, which is up to a few bits of 256 another
/// one than that of its pixels.
///
/// # Errors
/// As [`load`].
pub fn load_and_hash(
    bytes: &[u8],
    options: &DecodeOptions,
    preprocess: &Preprocess,
    layout: TensorLayout,
    out: &mut [f32],
) -> Result<PerceptualHash, LoadError> {
    if !is_jpeg(bytes) {
        let image = decode(bytes, options)?;
        preprocess.apply(&image, layout, out)?;
        let image = if options.apply_orientation { image } else { decode(bytes, &upright(options))? };
        return Ok(perceptual_hash(&image));
    }
    match load_jpeg(bytes, options, preprocess, layout, out, true)? {
        LumaHash::NoLuma => Ok(decode_hash(bytes, options)?),
        hashed => Ok(hashed.or_decoded(bytes, options)?),
    }
}

/// The hash that [`load_and_hash`] gives, without the tensor.
///
/// # Errors
/// As [`decode`](super::decode()).
pub fn decode_hash(bytes: &[u8], options: &DecodeOptions) -> Result<PerceptualHash, DecodeError> {
    if !is_jpeg(bytes) {
        return Ok(perceptual_hash(&decode(bytes, &upright(options))?));
    }
    let hashed = guarded(bytes, || {
        let mut jpeg = Jpeg::open(bytes, options)?;
        let orientation = jpeg.orientation();
        let (width, height) = jpeg.start(JpegReduction::ALL[1])?;
        jpeg.gather_luma()?;
        // The last row alone: the others' blocks need not be transformed.
        let last = height.saturating_sub(1) as usize;
        let luma = jpeg.read(0..width as usize, last..height as usize, |_, _| ())?;
        Ok::<_, DecodeError>(LumaHash::of(luma, orientation))
    })?;
    hashed.or_decoded(bytes, options)
}

fn upright(options: &DecodeOptions) -> DecodeOptions {
    DecodeOptions { apply_orientation: true, ..*options }
}

fn is_jpeg(bytes: &[u8]) -> bool {
    sniff(bytes) == Some(ImageFormat::Jpeg)
}

/// What came of hashing a JPEG's luma.
enum LumaHash {
    Luma(PerceptualHash),
    /// It has too little detail.
    Flat,
    /// It was not asked for, was not decoded, or the file has none, such as one in CMYK.
    NoLuma,
}

impl LumaHash {
    fn of(luma: Option<Luma>, orientation: Orientation) -> Self {
        match luma.map(|luma| luma.hash(orientation)) {
            Some(Some(hash)) => Self::Luma(hash),
            Some(None) => Self::Flat,
            None => Self::NoLuma,
        }
    }

    /// The hash, if need be of the whole image's pixels: what has no luma, or is flat, is rare enough to be decoded once more.
    fn or_decoded(self, bytes: &[u8], options: &DecodeOptions) -> Result<PerceptualHash, DecodeError> {
        match self {
            Self::Luma(hash) => Ok(hash),
            Self::Flat => Ok(hash_of_pixels(&decode(bytes, &upright(options))?)),
            Self::NoLuma => Ok(perceptual_hash(&decode(bytes, &upright(options))?)),
        }
    }
}

fn load_jpeg(
    bytes: &[u8],
    options: &DecodeOptions,
    preprocess: &Preprocess,
    layout: TensorLayout,
    out: &mut [f32],
    hashes: bool,
) -> Result<LumaHash, LoadError> {
    let mut tensor = preprocess.tensor(layout, out)?;
    guarded(bytes, || {
        let mut jpeg = Jpeg::open(bytes, options)?;
        let upright = jpeg.orientation();
        let orientation = if options.apply_orientation { upright } else { Orientation::NoTransforms };
        let (width, height) = jpeg.size();
        let reduction = preprocess.reduction((width, height), orientation);
        let source = StoredImage {
            size: jpeg.start(reduction)?,
            extent: (f64::from(width) * reduction.factor(), f64::from(height) * reduction.factor()),
            orientation,
        };
        let mut resampler = preprocess.resampler(source, (width, height))?;
        if hashes {
            jpeg.gather_luma()?;
        }
        let luma = jpeg.read(resampler.columns(), resampler.rows(), |index, row| {
            resampler.push(index, row, |line| tensor.put(&line));
        })?;
        Ok(LumaHash::of(luma, upright))
    })
}
