//! From AV1's planes to RGB with the arithmetic of libyuv, which libavif uses: whole numbers in steps of 1 / 64, and chroma
//! of fewer samples interpolated linearly, its samples in the middle of those of luma that they stand for.

use super::super::yuv::{Chroma, Planes, UNSPECIFIED};
use super::av1::Frame;

/// RGB of a frame; what the file says of its colours counts before what the frame says. `None` for colours that are not known.
pub(super) fn to_rgb(frame: &Frame, colours: Option<(u8, bool)>) -> Option<Vec<u8>> {
    let (matrix, is_full_range) = colours.unwrap_or((frame.matrix, frame.is_full_range));
    let upper = |samples: &[u16]| -> Vec<u8> {
        samples.iter().map(|sample| (sample >> (frame.depth - 8)).min(255) as u8).collect()
    };
    let luma = upper(&frame.luma);
    let steps = Steps::of(matrix, is_full_range);
    let Some((cb, cr, width, height)) = &frame.chroma else {
        let steps = steps.unwrap_or(Steps::of(UNSPECIFIED, is_full_range)?);
        return Some(luma.iter().flat_map(|&luma| steps.rgb(luma, 128, 128)).collect());
    };
    let whole = |samples: &[u16]| enlarge(&upper(samples), (*width, *height), (frame.width, frame.height));
    let (cb, cr) = (whole(cb), whole(cr));
    if let Some(steps) = steps {
        let samples = luma.iter().zip(&cb).zip(&cr);
        return Some(samples.flat_map(|((&luma, &cb), &cr)| steps.rgb(luma, cb, cr)).collect());
    }
    let (width, height) = (frame.width, frame.height);
    let chroma = Some(Chroma { cb: &cb, cr: &cr, width, height });
    Planes { width, height, luma: &luma, chroma, depth: 8, matrix, is_full_range }.to_rgb()
}

/// A plane of chroma at the size of luma.
fn enlarge(plane: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    if from == to {
        return plane.to_vec();
    }
    let mut out = Vec::with_capacity(to.0 * to.1);
    for y in 0..to.1 {
        let (near, far) = neighbours(y, to.1, from.1);
        let (near, far) = (&plane[near * from.0..][..from.0], &plane[far * from.0..][..from.0]);
        for x in 0..to.0 {
            let (left, mut right) = neighbours(x, to.0, from.0);
            // libyuv takes the last column from the last sample alone.
            if x + 1 == to.0 {
                right = left;
            }
            let column = |x: usize| 3 * u32::from(near[x]) + u32::from(far[x]);
            out.push(((3 * column(left) + column(right) + 8) / 16) as u8);
        }
    }
    out
}

/// The sample of `chroma` that is nearest to a place of `length`, and the next nearest, which has a third of its weight.
fn neighbours(at: usize, length: usize, chroma: usize) -> (usize, usize) {
    if length == chroma {
        return (at, at);
    }
    let near = at / 2;
    let far = if at % 2 == 1 { (near + 1).min(chroma - 1) } else { near.saturating_sub(1) };
    (near, far)
}

/// Libyuv's constants of a conversion.
struct Steps {
    luma: u32,
    offset: i32,
    cb_in_blue: i32,
    cb_in_green: i32,
    cr_in_green: i32,
    cr_in_red: i32,
}

impl Steps {
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

    fn rgb(&self, luma: u8, cb: u8, cr: u8) -> [u8; 3] {
        let luma = ((u32::from(luma) * 0x0101 * self.luma) >> 16) as i32 + self.offset;
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        [
            luma + cr * self.cr_in_red,
            luma - cb * self.cb_in_green - cr * self.cr_in_green,
            luma + cb * self.cb_in_blue,
        ]
        .map(|level| (level >> 6).clamp(0, 255) as u8)
    }
}
