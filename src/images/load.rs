//! From the bytes of an image file to a network's input tensor in one go.
//!
//! The tensor is that of [`decode`](super::decode()) and [`Preprocess::apply`], value for value. Of a JPEG, however, only
//! the blocks that the crop keeps are transformed, and its pixels pass from decoder to tensor row by row, so that neither
//! the photo nor its upright copy ever exists as a whole.

use image::metadata::Orientation;

use super::decode::{DecodeError, DecodeOptions, decode};
use super::jpeg::{Jpeg, guarded};
use super::preprocess::{Layout, Preprocess, PreprocessError};
use super::resample::Source;
use super::sniff::{ImageFormat, sniff};

#[cfg(test)]
mod tests;

/// Why a file gives no tensor.
#[derive(Debug, thiserror::Error)]
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
    layout: Layout,
    out: &mut [f32],
) -> Result<(), LoadError> {
    if sniff(bytes) != Some(ImageFormat::Jpeg) {
        return Ok(preprocess.apply(&decode(bytes, options)?, layout, out)?);
    }
    let mut tensor = preprocess.tensor(layout, out)?;
    guarded(bytes, || {
        let mut jpeg = Jpeg::open(bytes, options)?;
        let orientation =
            if options.apply_orientation { jpeg.orientation() } else { Orientation::NoTransforms };
        let (width, height) = jpeg.size();
        let reduction = preprocess.reduction((width, height), orientation);
        let source = Source {
            size: jpeg.start(reduction)?,
            extent: (f64::from(width) * reduction.factor(), f64::from(height) * reduction.factor()),
            orientation,
        };
        let mut resampler = preprocess.resampler(source, (width, height))?;
        jpeg.read(resampler.columns(), resampler.rows(), |index, row| {
            resampler.push(index, row, |line| tensor.put(&line));
        })?;
        Ok(())
    })
}
