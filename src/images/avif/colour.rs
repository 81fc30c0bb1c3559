//! From AV1's planes to RGB with the arithmetic of libyuv, which libavif uses: whole numbers in steps of 1 / 64, and chroma
//! of fewer samples interpolated linearly, its samples in the middle of those of luma that they stand for.

use super::super::yuv::{Chroma, Planes, UNSPECIFIED, enlarge};
use super::av1::Frame;

/// RGB of a frame; what the file says of its colours counts before what the frame says. `None` for colours that are not known.
pub(super) fn to_rgb(frame: &Frame, colours: Option<(u8, bool)>) -> Option<Vec<u8>> {
    let (matrix, is_full_range) = colours.unwrap_or((frame.matrix, frame.is_full_range));
    let upper = |samples: &[u16]| -> Vec<i32> {
        samples.iter().map(|&sample| i32::from(sample >> (frame.depth - 8)).min(255)).collect()
    };
    let luma = upper(&frame.luma);
    let steps = LibyuvConstants::of(matrix, is_full_range);
    let size = (frame.width, frame.height);
    let Some((cb, cr, width, height)) = &frame.chroma else {
        // Here libavif computes by itself.
        let stretched = |luma: i32| ((luma - 16) as f32 * 255.0 / 219.0 + 0.5).clamp(0.0, 255.0) as u8;
        let grey = |&luma: &i32| [if is_full_range { luma as u8 } else { stretched(luma) }; 3];
        return Some(luma.iter().flat_map(grey).collect());
    };
    let whole = |samples: &[u16]| enlarge(&upper(samples), (*width, *height), size, true);
    let (cb, cr) = (whole(cb), whole(cr));
    if let Some(steps) = steps {
        let samples = luma.iter().zip(&cb).zip(&cr);
        return Some(samples.flat_map(|((&luma, &cb), &cr)| steps.rgb(luma, cb, cr)).collect());
    }
    let (width, height) = size;
    let chroma = Some(Chroma { cb: &cb, cr: &cr, width, height });
    Planes { width, height, luma: &luma, chroma, depth: 8, matrix, is_full_range }.to_rgb()
}

/// Libyuv's constants of a conversion.
struct LibyuvConstants {
    luma: u32,
    offset: i32,
    cb_in_blue: i32,
    cb_in_green: i32,
    cr_in_green: i32,
    cr_in_red: i32,
}

impl LibyuvConstants {
    /// `None` for a matrix that libyuv does not have.
    fn of(matrix: u8, is_full_range: bool) -> Option<Self> {
        let (luma, offset) = match (is_full_range, matrix) {
            (true, _) => (16320, 32),
            (false, 9) => (19003, -1160),
            (false, _) => (18997, -1160),
        };
        let (cb_in_blue, cb_in_green, cr_in_green, cr_in_red) = match (matrix, is_full_range) {
            (1, true) => (119, 12, 30, 101),
            (1, false) => (128, 14, 34, 115),
            (UNSPECIFIED | 5 | 6, true) => (113, 22, 46, 90),
            (UNSPECIFIED | 5 | 6, false) => (128, 25, 52, 102),
            (9, true) => (120, 11, 37, 94),
            (9, false) => (128, 12, 42, 107),
            _ => return None,
        };
        Some(Self { luma, offset, cb_in_blue, cb_in_green, cr_in_green, cr_in_red })
    }

    fn rgb(&self, luma: i32, cb: i32, cr: i32) -> [u8; 3] {
        let luma = ((luma as u32 * 0x0101 * self.luma) >> 16) as i32 + self.offset;
        let (cb, cr) = (cb - 128, cr - 128);
        [
            luma + cr * self.cr_in_red,
            luma - cb * self.cb_in_green - cr * self.cr_in_green,
            luma + cb * self.cb_in_blue,
        ]
        .map(|level| (level >> 6).clamp(0, 255) as u8)
    }
}
