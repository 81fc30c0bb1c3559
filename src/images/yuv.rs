//! From luma and chroma, as films and today's photo formats have them, to RGB, with the arithmetic of libheif: samples of
//! more than 8 bits give their upper 8, chroma of fewer samples is repeated, and each kind of chroma rounds in its own way.

/// The number of a matrix that is not said.
pub(super) const UNSPECIFIED: u8 = 2;

/// A decoded picture. Chroma planes may be half as wide and half as high, rounded up.
pub(super) struct Planes<'a, T> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) luma: &'a [T],
    pub(super) chroma: Option<Chroma<'a, T>>,
    /// Bits of a sample.
    pub(super) depth: u32,
    /// As ITU-T H.273 numbers them.
    pub(super) matrix: u8,
    /// Whether luma goes from 0 to the largest sample, not from 16 to 235 (of 255).
    pub(super) is_full_range: bool,
}

/// What colour there is.
pub(super) struct Chroma<'a, T> {
    pub(super) cb: &'a [T],
    pub(super) cr: &'a [T],
    pub(super) width: usize,
    pub(super) height: usize,
}

/// A plane of chroma at the size of luma, interpolated linearly, its samples in the middle of those of luma that they stand
/// for; with `last_alone` the last column of an odd width comes from the last sample alone.
pub(super) fn enlarge<T: Copy + Into<i32>>(
    plane: &[T],
    from: (usize, usize),
    to: (usize, usize),
    last_alone: bool,
) -> Vec<i32> {
    let mut out = Vec::with_capacity(to.0 * to.1);
    for y in 0..to.1 {
        let (near, far) = neighbours(y, to.1, from.1);
        let (near, far) = (&plane[near * from.0..][..from.0], &plane[far * from.0..][..from.0]);
        for x in 0..to.0 {
            let (left, mut right) = neighbours(x, to.0, from.0);
            if last_alone && x + 1 == to.0 {
                right = left;
            }
            let column = |x: usize| 3 * near[x].into() + far[x].into();
            out.push((3 * column(left) + column(right) + 8) / 16);
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

impl<T: Copy + Into<i32>> Planes<'_, T> {
    /// Rows of RGB; `None` for a matrix that is not known, or planes that do not fit one another.
    pub(super) fn to_rgb(&self) -> Option<Vec<u8>> {
        let (width, height) = (self.width, self.height);
        if self.luma.len() != width * height || !(8..=16).contains(&self.depth) {
            return None;
        }
        let upper = |sample: T| sample.into() >> (self.depth - 8);
        let Some(chroma) = &self.chroma else {
            let grey = |&luma: &T| {
                let luma = upper(luma) as f32;
                [level(if self.is_full_range { luma } else { (luma - BLACK) * LUMA }); 3]
            };
            return Some(self.luma.iter().flat_map(grey).collect());
        };
        let halves = |length: usize, chroma: usize| match chroma {
            _ if chroma == length => Some(1),
            _ if chroma == length.div_ceil(2) => Some(2),
            _ => None,
        };
        let (across, down) = (halves(width, chroma.width)?, halves(height, chroma.height)?);
        let samples = chroma.width * chroma.height;
        if chroma.cb.len() != samples || chroma.cr.len() != samples {
            return None;
        }
        let matrix = Matrix::of(self.matrix)?;
        let is_quarter = (across, down) == (2, 2);
        let mut rgb = Vec::with_capacity(3 * width * height);
        for y in 0..height {
            let row = y / down * chroma.width;
            let (cb, cr) = (&chroma.cb[row..][..chroma.width], &chroma.cr[row..][..chroma.width]);
            for (x, &luma) in self.luma[y * width..][..width].iter().enumerate() {
                let (luma, cb, cr) = (upper(luma), upper(cb[x / across]), upper(cr[x / across]));
                rgb.extend(match &matrix {
                    // Green, blue and red as they are.
                    Matrix::Identity => [cr, luma, cb].map(|sample| sample.clamp(0, 255) as u8),
                    Matrix::Weights(weights) if is_quarter && self.is_full_range => {
                        weights.in_whole_numbers(luma, cb - 128, cr - 128)
                    }
                    Matrix::Weights(weights) => {
                        let (luma, cb, cr) = (luma as f32, (cb - 128) as f32, (cr - 128) as f32);
                        if self.is_full_range {
                            weights.rgb(luma, cb, cr)
                        } else {
                            weights.rgb((luma - BLACK) * LUMA, cb * CHROMA, cr * CHROMA)
                        }
                    }
                });
            }
        }
        Some(rgb)
    }
}

/// Of the narrow range: black, and what luma and chroma are multiplied by (256 / 219 and 256 / 224).
const BLACK: f32 = 16.0;
const LUMA: f32 = 1.1689;
const CHROMA: f32 = 1.1429;

fn level(value: f32) -> u8 {
    (value + 0.5).clamp(0.0, 255.0) as u8
}

enum Matrix {
    Identity,
    Weights(ChromaWeights),
}

/// What a unit of chroma adds to the colours.
struct ChromaWeights {
    cr_in_red: f32,
    cb_in_green: f32,
    cr_in_green: f32,
    cb_in_blue: f32,
}

impl Matrix {
    fn of(number: u8) -> Option<Self> {
        // The parts of red and blue in luma.
        let (red, blue) = match number {
            0 => return Some(Self::Identity),
            1 => (0.2126, 0.0722),
            4 => (0.30, 0.11),
            // Where it is not said, BT.601 is meant.
            UNSPECIFIED | 5 | 6 => (0.299, 0.114),
            7 => (0.212, 0.087),
            9 => (0.2627, 0.0593),
            _ => return None,
        };
        let green: f32 = 1.0 - red - blue;
        let (cr_in_red, cb_in_blue) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
        Some(Self::Weights(ChromaWeights {
            cr_in_red,
            cb_in_green: -blue * cb_in_blue / green,
            cr_in_green: -red * cr_in_red / green,
            cb_in_blue,
        }))
    }
}

impl ChromaWeights {
    fn rgb(&self, luma: f32, cb: f32, cr: f32) -> [u8; 3] {
        [
            level(luma + self.cr_in_red * cr),
            level(luma + self.cb_in_green * cb + self.cr_in_green * cr),
            level(luma + self.cb_in_blue * cb),
        ]
    }

    /// In steps of 1 / 256.
    fn in_whole_numbers(&self, luma: i32, cb: i32, cr: i32) -> [u8; 3] {
        let steps = |weight: f32| (256.0 * weight).round() as i32;
        let add = |sum: i32| (luma + ((sum + 128) >> 8)).clamp(0, 255) as u8;
        [
            add(steps(self.cr_in_red) * cr),
            add(steps(self.cb_in_green) * cb + steps(self.cr_in_green) * cr),
            add(steps(self.cb_in_blue) * cb),
        ]
    }
}
