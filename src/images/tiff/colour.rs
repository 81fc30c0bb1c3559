//! From a TIFF's samples to levels of 8 bits.

use super::super::decode::DecodeError;
use super::super::ifd::Directory;
use super::layout::PageLayout;

/// One sample a byte, from samples of 1, 2 or 4 bits whose rows end at a byte: indices of a palette as they are, greys
/// stretched to 0 to 255.
pub(super) fn unpack_bits(packed: &[u8], layout: &PageLayout, samples_a_row: usize) -> Vec<u8> {
    let bits = layout.bits;
    let largest = (1_u8 << bits) - 1;
    let factor = if layout.photometric == super::Photometric::Palette { 1 } else { 255 / largest };
    packed
        .chunks_exact((samples_a_row * bits).div_ceil(8))
        .flat_map(|row| {
            (0..samples_a_row).map(move |index| {
                let at = index * bits;
                (row[at / 8] >> (8 - bits - at % 8) & largest) * factor
            })
        })
        .collect()
}

/// Undoes the multiplication of a pixel's colours by its alpha, as Pillow does it: what was never seen is black.
pub(super) fn unassociated(pixel: &mut [u8], n_colours: usize) {
    let alpha = u32::from(pixel[n_colours]);
    for level in &mut pixel[..n_colours] {
        *level = match alpha {
            0 => 0,
            _ => (255 * u32::from(*level) / alpha).min(255) as u8,
        };
    }
}

/// Floating-point samples as levels. Those from 0 to 1 are fractions of white, rounded; those that go further, up to 255,
/// are levels, cut to whole ones as Pillow cuts them.
pub(super) fn float_levels(samples: &[f64], name: &'static str) -> Result<Vec<u8>, DecodeError> {
    let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
    for &sample in samples {
        if !sample.is_finite() {
            return Err(DecodeError::FloatRange { format: name, lowest: sample, highest: sample });
        }
        (lowest, highest) = (lowest.min(sample), highest.max(sample));
    }
    if lowest < 0.0 || highest > 255.0 {
        return Err(DecodeError::FloatRange { format: name, lowest, highest });
    }
    Ok(if highest <= 1.0 {
        samples.iter().map(|sample| (255.0 * sample).round() as u8).collect()
    } else {
        samples.iter().map(|&sample| sample as u8).collect()
    })
}

/// The conversion of YCbCr that a TIFF names (TIFF 6.0, section 21).
pub(super) struct YCbCr {
    /// The weights of red, green and blue in Y.
    luma: [f64; 3],
    /// What stands for no light and for full light in Y, and for no and for most colour in Cb and Cr.
    references: [f64; 6],
}

impl YCbCr {
    pub(super) fn of(directory: &Directory) -> Self {
        let numbers = |tag| directory.rationals(tag);
        let luma = match numbers(529).as_deref() {
            Some(&[red, green, blue]) if green > 0.0 => [red, green, blue],
            _ => [0.299, 0.587, 0.114],
        };
        let references = numbers(532)
            .and_then(|values| <[f64; 6]>::try_from(values).ok())
            .filter(|[black, white, b0, b1, r0, r1]| white > black && b1 > b0 && r1 > r0)
            .unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
        Self { luma, references }
    }

    pub(super) fn to_rgb(&self, [y, cb, cr]: [u8; 3]) -> [u8; 3] {
        let [black, white, b0, b1, r0, r1] = self.references;
        let [red, green, blue] = self.luma;
        let y = (f64::from(y) - black) * 255.0 / (white - black);
        let cb = (f64::from(cb) - b0) * 127.0 / (b1 - b0);
        let cr = (f64::from(cr) - r0) * 127.0 / (r1 - r0);
        let r = y + cr * (2.0 - 2.0 * red);
        let b = y + cb * (2.0 - 2.0 * blue);
        let g = (y - red * r - blue * b) / green;
        [r, g, b].map(|level| level.round().clamp(0.0, 255.0) as u8)
    }
}
