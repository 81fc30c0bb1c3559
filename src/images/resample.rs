//! Resize and centre crop in one step, in Pillow's and torchvision's arithmetic.
//!
//! Only the part of the resized image that the crop keeps is computed: the crop is mapped back to a box of the
//! source. So a 10000 x 1 strip, which "shorter side to 256" would blow up to 2,560,000 x 256, costs no more than
//! any other image.

use std::error::Error;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use super::preprocess::{Interpolation, Resize};

/// Longest side that is resampled; the weights of a resize take up to 60 bytes a source pixel of a side.
pub(super) const MAX_SIDE: u32 = 1 << 20;

/// The kept span of one side: `length` output pixels starting at `offset`, of `resized` which `source` became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    source: u64,
    resized: u64,
    offset: u64,
    length: u32,
}

impl Span {
    fn stretched(source: u32, length: u32) -> Self {
        Self { source: source.into(), resized: length.into(), offset: 0, length }
    }

    /// torchvision's CenterCrop: `int(round((resized - length) / 2.0))`, and Python rounds halves to even.
    fn centred(source: u32, resized: u64, length: u32) -> Self {
        let margin = resized.saturating_sub(length.into());
        let half = margin / 2;
        let offset = if margin % 2 == 1 && half % 2 == 1 { half + 1 } else { half };
        Self { source: source.into(), resized, offset, length }
    }

    /// The span in source pixels: start and length.
    fn source_box(self) -> (f64, f64) {
        let (source, resized) = (self.source as f64, self.resized as f64);
        let start = self.offset as f64 * source / resized;
        let mut length = f64::from(self.length) * source / resized;
        while start + length > source {
            length = length.next_down();
        }
        (start, length)
    }

    /// Pillow's nearest neighbour: the pixel under the centre, the centres found by repeated addition in double
    /// precision, which decides ties.
    fn nearest(self) -> Vec<usize> {
        let scale = self.source as f64 / self.resized as f64;
        // Beyond what Pillow could resize at all, skip to the offset by multiplication.
        let stepwise = self.offset <= u64::from(MAX_SIDE) * 16;
        let mut centre = scale * 0.5;
        if stepwise {
            (0..self.offset).for_each(|_| centre += scale);
        } else {
            centre += scale * self.offset as f64;
        }
        (0..self.length)
            .map(|_| {
                let index = centre as usize;
                centre += scale;
                index.min(self.source as usize - 1)
            })
            .collect()
    }
}

/// The spans of the horizontal and the vertical side.
fn spans(source: (u32, u32), size: (u32, u32), resize: Resize) -> (Span, Span) {
    let ((width, height), (out_width, out_height)) = (source, size);
    match resize {
        Resize::Stretch => (Span::stretched(width, out_width), Span::stretched(height, out_height)),
        Resize::ShorterSide(shorter) => {
            // torchvision: the longer side becomes int(size * long / short).
            let longer = |long: u32, short: u32| u64::from(shorter) * u64::from(long) / u64::from(short);
            let (new_width, new_height) = if width <= height {
                (shorter.into(), longer(height, width))
            } else {
                (longer(width, height), shorter.into())
            };
            (Span::centred(width, new_width, out_width), Span::centred(height, new_height, out_height))
        }
    }
}

/// Resizes and crops to `size` (width, height); returns RGB rows.
///
/// `image` has pixels and no side beyond [`MAX_SIDE`]; a shorter side is at least as long as either side of
/// `size`.
pub(super) fn resample(
    image: &RgbImage,
    size: (u32, u32),
    resize: Resize,
    interpolation: Interpolation,
) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let (across, down) = spans(image.dimensions(), size, resize);
    let filter = match interpolation {
        Interpolation::Nearest => return Ok(pick(image, &across.nearest(), &down.nearest())),
        Interpolation::Bilinear => FilterType::Bilinear,
        // Pillow's bicubic has a = -0.5, which is the Catmull-Rom spline.
        Interpolation::Bicubic => FilterType::CatmullRom,
        Interpolation::Lanczos => FilterType::Lanczos3,
    };
    let (left, width) = across.source_box();
    let (top, height) = down.source_box();
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)?;
    let mut resized = Image::new(size.0, size.1, PixelType::U8x3);
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(left, top, width, height);
    Resizer::new().resize(&source, &mut resized, &options)?;
    Ok(resized.into_vec())
}

fn pick(image: &RgbImage, columns: &[usize], rows: &[usize]) -> Vec<u8> {
    let row_length = 3 * image.width() as usize;
    let samples = image.as_raw();
    let mut out = Vec::with_capacity(3 * columns.len() * rows.len());
    for row in rows {
        let row = &samples[row * row_length..][..row_length];
        for column in columns {
            out.extend_from_slice(&row[3 * column..][..3]);
        }
    }
    out
}
