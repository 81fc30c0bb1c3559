//! Resize and centre crop in one step, in Pillow's own fixed-point arithmetic: the pixels equal Pillow's, so that
//! a network sees the image that torchvision or Keras would have shown it.
//!
//! Only the part of the resized image that the crop keeps is computed. So a 10000 x 1 strip, which "shorter side
//! to 256" would blow up to 2,560,000 x 256, costs no more than any other image.
//!
//! A faster resizer with 16-bit weights was tried and differed by one level in about a tenth of the values and by
//! two in some; at a network's input size the time lies in decoding and in the network.

use std::f64::consts::PI;
use std::ops::Range;

use image::RgbImage;

use super::preprocess::{Interpolation, Resize};

/// Longest side that is resampled; the weights take up to 24 bytes for each source pixel of a side.
pub(super) const MAX_SIDE: u32 = 1 << 20;

/// Fractional bits of a weight (Pillow's PRECISION_BITS): 8 bits of level and 2 of headroom fill an i32.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The kept span of one side: `length` output pixels starting at `offset`, of `resized` which `source` became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    source: u32,
    resized: u64,
    offset: u64,
    length: u32,
}

impl Span {
    fn stretched(source: u32, length: u32) -> Self {
        Self { source, resized: length.into(), offset: 0, length }
    }

    /// torchvision's CenterCrop: `int(round((resized - length) / 2.0))`, and Python rounds halves to even.
    fn centred(source: u32, resized: u64, length: u32) -> Self {
        let margin = resized.saturating_sub(length.into());
        let half = margin / 2;
        let offset = if margin % 2 == 1 && half % 2 == 1 { half + 1 } else { half };
        Self { source, resized, offset, length }
    }

    /// Source pixels in one resized pixel.
    fn scale(self) -> f64 {
        f64::from(self.source) / self.resized as f64
    }

    /// The source pixel under the centre of each kept pixel. Pillow steps from centre to centre by addition in
    /// double precision, whose rounding decides ties.
    fn nearest(self) -> Vec<usize> {
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
        (0..self.length)
            .map(|_| {
                let index = (centre as usize).min(last);
                centre += scale;
                index
            })
            .collect()
    }

    /// The weighted source pixels of each kept pixel (Pillow's precompute_coeffs and normalize_coeffs_8bpc).
    fn kernels(self, filter: Filter) -> Kernels {
        let scale = self.scale();
        let stretch = scale.max(1.0);
        let support = filter.support * stretch;
        let mut kernels = Kernels { spans: Vec::with_capacity(self.length as usize), weights: Vec::new() };
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
            let first = kernels.weights.len();
            kernels.weights.extend(exact.iter().map(|&weight| {
                let weight = if sum != 0.0 { weight / sum } else { weight };
                (weight * f64::from(1 << PRECISION_BITS) + 0.5f64.copysign(weight)) as i32
            }));
            kernels.spans.push((start as usize..end as usize, first));
        }
        kernels
    }
}

/// For each output pixel the source pixels it is made of, and their weights in 2^-22.
struct Kernels {
    /// Source range, and where its weights start.
    spans: Vec<(Range<usize>, usize)>,
    weights: Vec<i32>,
}

impl Kernels {
    fn iter(&self) -> impl Iterator<Item = (Range<usize>, &[i32])> {
        self.spans.iter().map(|(range, first)| (range.clone(), &self.weights[*first..][..range.len()]))
    }

    /// All source pixels that any output pixel needs.
    fn reach(&self) -> Range<usize> {
        let start = self.spans.first().map_or(0, |(range, _)| range.start);
        let end = self.spans.last().map_or(0, |(range, _)| range.end);
        start..end
    }
}

/// A resampling filter: its weight at a distance from the centre, zero beyond `support`.
#[derive(Clone, Copy)]
struct Filter {
    support: f64,
    weight: fn(f64) -> f64,
}

const BILINEAR: Filter = Filter { support: 1.0, weight: |x| (1.0 - x.abs()).max(0.0) };

/// Keys's cubic with a = -0.5.
const BICUBIC: Filter = Filter {
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

const LANCZOS: Filter =
    Filter { support: 3.0, weight: |x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 } };

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
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

/// The part of an image of `source` (width, height) that stays after the crop: left, top, width and height in pixels of
/// the source.
pub(super) fn window(source: (u32, u32), size: (u32, u32), resize: Resize) -> [f64; 4] {
    let (across, down) = spans(source, size, resize);
    let extent = |span: Span| (span.offset as f64 * span.scale(), f64::from(span.length) * span.scale());
    let ((left, width), (top, height)) = (extent(across), extent(down));
    [left, top, width, height]
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
) -> Vec<u8> {
    let (across, down) = spans(image.dimensions(), size, resize);
    let filter = match interpolation {
        Interpolation::Nearest => return pick(image, &across.nearest(), &down.nearest()),
        Interpolation::Bilinear => BILINEAR,
        Interpolation::Bicubic => BICUBIC,
        Interpolation::Lanczos => LANCZOS,
    };
    // A side that keeps its length has the weights 0 .. 1 .. 0 and so passes unchanged, as in Pillow, which skips it.
    let (vertical_first, across, down) =
        (is_vertical_first(across, down), across.kernels(filter), down.kernels(filter));
    let (columns, rows) = (across.reach(), down.reach());
    let source = Rows { samples: image.as_raw(), width: image.width() as usize };
    // Between the passes the levels are rounded to 8 bits, so their order shows in the result.
    if vertical_first {
        let flattened = convolve_columns(source, columns.clone(), 0, &down);
        let flattened = Rows { samples: &flattened, width: columns.len() };
        convolve_rows(flattened, 0..down.spans.len(), columns.start, &across)
    } else {
        let narrowed = convolve_rows(source, rows.clone(), 0, &across);
        let narrowed = Rows { samples: &narrowed, width: across.spans.len() };
        convolve_columns(narrowed, 0..across.spans.len(), rows.start, &down)
    }
}

/// Whether Pillow takes the vertical pass first: since release 13, where the height loses more than twice as many
/// pixels as the width. (Before, never; that changes such images by one level here and there.)
fn is_vertical_first(across: Span, down: Span) -> bool {
    let lost = |span: Span| i128::from(span.source) - i128::from(span.resized);
    lost(down) > 0 && lost(down) > 2 * lost(across)
}

fn pick(image: &RgbImage, columns: &[usize], rows: &[usize]) -> Vec<u8> {
    let row_length = 3 * image.width() as usize;
    let mut out = Vec::with_capacity(3 * columns.len() * rows.len());
    for row in rows {
        let row = &image.as_raw()[row * row_length..][..row_length];
        for column in columns {
            out.extend_from_slice(&row[3 * column..][..3]);
        }
    }
    out
}

/// Half a level, so that the shift in [`level_of`] rounds to nearest.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn level_of(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// RGB rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    samples: &'a [u8],
    /// Pixels a row.
    width: usize,
}

impl<'a> Rows<'a> {
    fn row(self, index: usize) -> &'a [u8] {
        &self.samples[3 * index * self.width..][..3 * self.width]
    }
}

/// Some rows of `source`, each resized to one pixel a kernel. The first pixel of a row is column `first_column`
/// to the kernels.
fn convolve_rows(source: Rows<'_>, rows: Range<usize>, first_column: usize, kernels: &Kernels) -> Vec<u8> {
    let width = kernels.spans.len();
    let mut out = vec![0; 3 * rows.len() * width];
    for (row, resized) in rows.zip(out.chunks_exact_mut(3 * width)) {
        let (pixels, _) = source.row(row).as_chunks::<3>();
        for (result, (range, weights)) in resized.as_chunks_mut::<3>().0.iter_mut().zip(kernels.iter()) {
            let [mut red, mut green, mut blue] = [HALF; 3];
            for (&[r, g, b], &weight) in pixels[range.start - first_column..].iter().zip(weights) {
                red += i32::from(r) * weight;
                green += i32::from(g) * weight;
                blue += i32::from(b) * weight;
            }
            *result = [red, green, blue].map(level_of);
        }
    }
    out
}

/// Some columns of `source`, resized to one row a kernel. The first row is row `first_row` to the kernels.
fn convolve_columns(source: Rows<'_>, columns: Range<usize>, first_row: usize, kernels: &Kernels) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * columns.len() * kernels.spans.len());
    let mut sums = vec![HALF; 3 * columns.len()];
    for (range, weights) in kernels.iter() {
        sums.fill(HALF);
        for (row, &weight) in range.zip(weights) {
            let levels = &source.row(row - first_row)[3 * columns.start..3 * columns.end];
            for (sum, &level) in sums.iter_mut().zip(levels) {
                *sum += i32::from(level) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| level_of(sum)));
    }
    out
}
