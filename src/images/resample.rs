//! Resize and centre crop in one step, in Pillow's own fixed-point arithmetic: the pixels equal Pillow's, so that
//! a network sees the image that torchvision or Keras would have shown it.
//!
//! Only the part of the resized image that the crop keeps is computed, and only the part of the image that it is made of
//! is wanted. So a 10000 x 1 strip, which "shorter side to 256" would blow up to 2,560,000 x 256, costs no more than any
//! other image.
//!
//! The image comes row by row, as a decoder makes it, and is turned upright on the way: a mirrored side gets mirrored
//! weights, and where the sides are swapped, so are the passes. Only the rows that the next output row needs are held.
//!
//! Resizers with 16-bit weights are no faster than this one and differ by one level in about a tenth of the values.

use std::f64::consts::PI;
use std::ops::Range;

use image::metadata::Orientation;

use self::convolve::{Instructions, Kernels, PRECISION_BITS, RowConvolution, weigh_rows};
use super::preprocess::{CropGeometry, CropOffset, Interpolation, Resize};

mod convolve;
#[cfg(test)]
mod tests;

/// Longest side that is resampled; the weights take up to 48 bytes for each source pixel of a side.
pub(super) const MAX_SIDE: u32 = 1 << 20;

/// Bytes after a row that the fast loops may load, whatever they hold. A row without them is copied first.
pub(super) const PADDING: usize = 32;

/// An image as it is stored, before it is turned upright.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StoredImage {
    /// Pixels that are there.
    pub size: (u32, u32),
    /// Size of the whole photo in these pixels. A reduced photo's last column and row may stand for less than the others.
    pub extent: (f64, f64),
    pub orientation: Orientation,
}

impl StoredImage {
    /// A photo with all its pixels.
    pub(super) fn whole((width, height): (u32, u32), orientation: Orientation) -> Self {
        Self { size: (width, height), extent: (width.into(), height.into()), orientation }
    }
}

/// How a stored image is turned upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Whether stored rows become columns.
    pub swapped: bool,
    /// Whether the stored columns, and the stored rows, run backwards.
    pub mirrored: (bool, bool),
}

impl From<Orientation> for Turn {
    fn from(orientation: Orientation) -> Self {
        let (swapped, mirrored) = match orientation {
            Orientation::NoTransforms => (false, (false, false)),
            Orientation::FlipHorizontal => (false, (true, false)),
            Orientation::Rotate180 => (false, (true, true)),
            Orientation::FlipVertical => (false, (false, true)),
            Orientation::Rotate90FlipH => (true, (false, false)),
            Orientation::Rotate90 => (true, (false, true)),
            Orientation::Rotate270FlipH => (true, (true, true)),
            Orientation::Rotate270 => (true, (true, false)),
        };
        Self { swapped, mirrored }
    }
}

/// Width and height of a stored image once it is turned upright.
pub(super) fn upright((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    if Turn::from(orientation).swapped { (height, width) } else { (width, height) }
}

/// The kept span of one side: `length` output pixels starting at `offset`, of `resized` which `source` became.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    source: u32,
    /// Source pixels that make up the whole side.
    extent: f64,
    resized: u64,
    offset: u64,
    length: u32,
}

impl Span {
    fn stretched((source, extent): (u32, f64), length: u32) -> Self {
        Self { source, extent, resized: length.into(), offset: 0, length }
    }

    /// torchvision's CenterCrop: `int(round((resized - length) / 2.0))`, and Python rounds halves to even; or
    /// transformers' `center_crop`: `(resized - length) // 2`.
    fn centred((source, extent): (u32, f64), resized: u64, length: u32, rounding: CropOffset) -> Self {
        let margin = resized.saturating_sub(length.into());
        let half = margin / 2;
        let up = rounding == CropOffset::HalfEven && margin % 2 == 1 && half % 2 == 1;
        let offset = if up { half + 1 } else { half };
        Self { source, extent, resized, offset, length }
    }

    /// Source pixels in one resized pixel.
    fn scale(self) -> f64 {
        self.extent / self.resized as f64
    }

    /// The source pixel under the centre of each kept pixel. Pillow steps from centre to centre by addition in
    /// double precision, whose rounding decides ties.
    fn nearest(self) -> Kernels {
        /// Far beyond what Pillow could hold; from here on, multiply instead of stepping for seconds.
        const MAX_STEPS: u64 = 1 << 24;
        let scale = self.scale();
        let mut centre = scale * 0.5;
        if self.offset <= MAX_STEPS {
            (0..self.offset).for_each(|_| centre += scale);
        } else {
            centre += scale * self.offset as f64;
        }
        let last = self.source as usize - 1;
        let mut kernels = Kernels::default();
        for _ in 0..self.length {
            kernels.push((centre as usize).min(last), [1 << PRECISION_BITS]);
            centre += scale;
        }
        kernels
    }

    /// The weighted source pixels of each kept pixel (Pillow's precompute_coeffs and normalize_coeffs_8bpc).
    fn kernels(self, filter: ResizeFilter) -> Kernels {
        let scale = self.scale();
        let stretch = scale.max(1.0);
        let support = filter.support * stretch;
        let mut kernels = Kernels::default();
        let mut exact = Vec::new();
        for position in self.offset..self.offset + u64::from(self.length) {
            let centre = (position as f64 + 0.5) * scale;
            // A cast to an unsigned type stops at 0, which is Pillow's own lower bound.
            let start = (centre - support + 0.5) as u32;
            let end = ((centre + support + 0.5) as u32).min(self.source);
            exact.clear();
            exact.extend(
                (start..end).map(|x| (filter.weight)((f64::from(x) - centre + 0.5) * (1.0 / stretch))),
            );
            let sum: f64 = exact.iter().sum();
            kernels.push(
                start as usize,
                exact.iter().map(|&weight| {
                    let weight = if sum != 0.0 { weight / sum } else { weight };
                    (weight * f64::from(1 << PRECISION_BITS) + 0.5f64.copysign(weight)) as i32
                }),
            );
        }
        kernels
    }
}

/// A resampling filter: its weight at a distance from the centre, zero beyond `support`.
#[derive(Clone, Copy)]
struct ResizeFilter {
    support: f64,
    weight: fn(f64) -> f64,
}

const BILINEAR: ResizeFilter = ResizeFilter { support: 1.0, weight: |x| (1.0 - x.abs()).max(0.0) };

/// Keys's cubic with a = -0.5.
const BICUBIC: ResizeFilter = ResizeFilter {
    support: 2.0,
    weight: |x| {
        const A: f64 = -0.5;
        let x = x.abs();
        if x < 1.0 {
            ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * A
        } else {
            0.0
        }
    },
};

const LANCZOS: ResizeFilter = ResizeFilter {
    support: 3.0,
    weight: |x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 },
};

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// The spans of the horizontal and the vertical side of an upright image.
fn spans(source: [(u32, f64); 2], whole: (u32, u32), geometry: CropGeometry) -> (Span, Span) {
    let ([across, down], (out_width, out_height)) = (source, geometry.size);
    let centred = |(new_width, new_height): (u64, u64)| {
        (
            Span::centred(across, new_width, out_width, geometry.crop_offset),
            Span::centred(down, new_height, out_height, geometry.crop_offset),
        )
    };
    match geometry.resize {
        Resize::Stretch => (Span::stretched(across, out_width), Span::stretched(down, out_height)),
        Resize::ShorterSide(shorter) => {
            let (width, height) = whole;
            // torchvision: the longer side becomes int(size * long / short).
            let longer = |long: u32, short: u32| u64::from(shorter) * u64::from(long) / u64::from(short);
            centred(if width <= height {
                (shorter.into(), longer(height, width))
            } else {
                (longer(width, height), shorter.into())
            })
        }
        Resize::StretchThenCrop(width, height) => centred((width.into(), height.into())),
    }
}

/// The part of an image of `source` (width, height) that stays after the crop: left, top, width and height in pixels of
/// the source.
pub(super) fn window(source: (u32, u32), geometry: CropGeometry) -> [f64; 4] {
    let whole = StoredImage::whole(source, Orientation::NoTransforms);
    let sides = [(source.0, whole.extent.0), (source.1, whole.extent.1)];
    let (across, down) = spans(sides, source, geometry);
    let extent = |span: Span| (span.offset as f64 * span.scale(), f64::from(span.length) * span.scale());
    let ((left, width), (top, height)) = (extent(across), extent(down));
    [left, top, width, height]
}

/// Whether Pillow takes the vertical pass first: since release 13, where the height loses more than twice as many
/// pixels as the width. (Before, never; that changes such images by one level here and there.)
fn is_vertical_first(across: Span, down: Span) -> bool {
    let lost = |span: Span| i128::from(span.source) - i128::from(span.resized);
    lost(down) > 0 && lost(down) > 2 * lost(across)
}

/// A line of the upright result: a row, or a column where the image is stored on its side.
#[derive(Debug, PartialEq)]
pub(super) struct ResampledLine<'a> {
    pub index: usize,
    pub is_column: bool,
    /// RGB.
    pub pixels: &'a [u8],
}

/// Makes a resized and cropped image of rows that come one by one.
#[derive(Debug)]
pub(super) struct Resampler {
    turn: Turn,
    columns: Range<usize>,
    across: RowConvolution,
    /// In the order in which the stored rows complete them.
    down: Kernels,
    /// Whether rows are weighed before they are resized; the levels in between are rounded, so it shows.
    vertical_first: bool,
    instructions: Instructions,
    /// Output lines that are done.
    done: usize,
    /// The last rows, each in the place of its number modulo `held`.
    window: Vec<u8>,
    held: usize,
    /// Bytes of a row in the window.
    stride: usize,
    line: Vec<u8>,
    weighed: Vec<u8>,
    offsets: Vec<usize>,
}

impl Resampler {
    /// `whole` is the photo's own size, as it is stored.
    ///
    /// The image has pixels and no side beyond [`MAX_SIDE`]; no side is shorter before the crop than after it.
    pub(super) fn new(
        source: StoredImage,
        whole: (u32, u32),
        geometry: CropGeometry,
        interpolation: Interpolation,
    ) -> Self {
        Self::with(Instructions::best(), source, whole, geometry, interpolation)
    }

    fn with(
        instructions: Instructions,
        source: StoredImage,
        whole: (u32, u32),
        geometry: CropGeometry,
        interpolation: Interpolation,
    ) -> Self {
        let turn = Turn::from(source.orientation);
        let stored = [(source.size.0, source.extent.0), (source.size.1, source.extent.1)];
        let (upright, whole) = match turn.swapped {
            true => ([stored[1], stored[0]], (whole.1, whole.0)),
            false => (stored, whole),
        };
        let (across, down) = spans(upright, whole, geometry);
        let kernels = |span: Span| match interpolation {
            Interpolation::Nearest => span.nearest(),
            Interpolation::Bilinear => span.kernels(BILINEAR),
            Interpolation::Bicubic => span.kernels(BICUBIC),
            Interpolation::Lanczos => span.kernels(LANCZOS),
        };
        // A side that keeps its length has the weights 0 .. 1 .. 0 and so passes unchanged, as in Pillow, which skips it.
        let (vertical_first, across, down) =
            (is_vertical_first(across, down), kernels(across), kernels(down));
        let (vertical_first, mut across, mut down) = match turn.swapped {
            true => (!vertical_first, down, across),
            false => (vertical_first, across, down),
        };
        if turn.mirrored.0 {
            across = across.mirrored(source.size.0 as usize);
        }
        if turn.mirrored.1 {
            down = down.mirrored(source.size.1 as usize).reversed();
        }
        let columns = across.reach();
        let line = 3 * across.len();
        let stride = if vertical_first { 3 * columns.len() } else { line };
        let held = down.longest();
        Self {
            turn,
            across: RowConvolution::new(across, columns.start, instructions),
            columns,
            down,
            vertical_first,
            instructions,
            done: 0,
            window: vec![0; held * stride],
            held,
            stride,
            line: vec![0; line],
            weighed: vec![0; if vertical_first { stride + PADDING } else { 0 }],
            offsets: Vec::new(),
        }
    }

    /// The stored columns that are wanted.
    pub(super) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The stored rows that are wanted.
    pub(super) fn rows(&self) -> Range<usize> {
        self.down.reach()
    }

    /// Takes the wanted columns of stored row `index`, RGB, and hands out the lines that it completes. Wanted rows come in
    /// their order, and none is left out. `row` may be longer, and is best longer by [`PADDING`].
    pub(super) fn push(&mut self, index: usize, row: &[u8], mut take: impl FnMut(ResampledLine<'_>)) {
        let is_needed = |done: usize| done < self.down.len() && self.down.get(done).0.start <= index;
        if !is_needed(self.done) {
            return;
        }
        let place = &mut self.window[index % self.held * self.stride..][..self.stride];
        if self.vertical_first {
            place.copy_from_slice(&row[..self.stride]);
        } else {
            self.across.apply(row, place);
        }
        while self.done < self.down.len() {
            let (range, weights) = self.down.get(self.done);
            if range.end > index + 1 {
                return;
            }
            self.offsets.clear();
            self.offsets.extend(range.map(|row| row % self.held * self.stride));
            if self.vertical_first {
                weigh_rows(
                    &self.window,
                    &self.offsets,
                    weights,
                    &mut self.weighed[..self.stride],
                    self.instructions,
                );
                self.across.apply(&self.weighed, &mut self.line);
            } else {
                weigh_rows(&self.window, &self.offsets, weights, &mut self.line, self.instructions);
            }
            let index = if self.turn.mirrored.1 { self.down.len() - 1 - self.done } else { self.done };
            take(ResampledLine { index, is_column: self.turn.swapped, pixels: &self.line });
            self.done += 1;
        }
    }
}
