//! A hash of what an image looks like, by which copies of it are found whatever network they are run through.
//!
//! It is PDQ (Meta's ThreatExchange, `pdq/`): 256 bits that say which of the 16 x 16 lowest frequencies of the luma lie above
//! their median. Copies that were resized, recompressed, or made lighter or darker differ in few bits; different photos in
//! about 128. The luma is brought to 64 x 64 by plain averages, where PDQ filters and then picks pixels: that moves far fewer
//! bits when an image is resized. `docs/duplicates.md` says how well it does.
//!
//! An image whose frequencies hardly differ from zero, such as one of a single colour or with stripes, has no such hash:
//! noise would decide its bits, or all such images would share them. It gets the SHA-256 of its pixels instead, which
//! only the same pixels have.

use std::sync::LazyLock;

use image::RgbImage;
use image::metadata::Orientation;
use sha2::{Digest as _, Sha256};

use super::resample::Turn;

#[cfg(test)]
mod tests;

/// 256 bits, the highest frequency first, as PDQ writes them in hexadecimal.
pub type PerceptualHash = [u8; 32];

/// Cells along a side of what is transformed.
const SIDE: usize = 64;

/// Frequencies that count, along each side: 1 to 16 half waves.
const FREQUENCIES: usize = 16;

/// The least median magnitude of the frequencies, in levels of the orthonormal transform. The error of an 8-bit image, or of
/// a JPEG of fair quality, is about 1; photos have 25 and more, text and drawings 5 and more.
const LEAST_DETAIL: f32 = 2.0;

/// Of an image with more rows, some are left out, so that two to three rows count for each cell.
const ENOUGH_ROWS: usize = 2 * SIDE;

/// The hash of an upright image.
///
/// ```
/// use image::{Rgb, RgbImage, imageops};
/// use cnncodes::images::{hamming_distance, perceptual_hash};
///
/// let wave = |x: u32, y: u32| (x * x / 9 + x * y / 7 + y * y / 25) as u8;
/// let image = RgbImage::from_fn(160, 120, |x, y| Rgb([wave(x, y); 3]));
/// let copy = imageops::resize(&image, 240, 180, imageops::FilterType::Triangle);
/// assert!(hamming_distance(&perceptual_hash(&image), &perceptual_hash(&copy)) < 16);
/// ```
pub fn perceptual_hash(image: &RgbImage) -> PerceptualHash {
    LumaCells::of_image(image).hash().unwrap_or_else(|| hash_of_pixels(image))
}

/// In how many bits two hashes differ.
pub fn hamming_distance(a: &PerceptualHash, b: &PerceptualHash) -> u32 {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    words.map(|(&a, &b)| (u64::from_ne_bytes(a) ^ u64::from_ne_bytes(b)).count_ones()).sum()
}

/// The hash of an image without detail.
pub(super) fn hash_of_pixels(image: &RgbImage) -> PerceptualHash {
    let mut hasher = Sha256::new();
    hasher.update(image.width().to_le_bytes());
    hasher.update(image.height().to_le_bytes());
    hasher.update(image.as_raw());
    hasher.finalize().into()
}

/// The luma of an image as it is stored, in samples.
pub(super) struct Luma {
    samples: Vec<f32>,
    size: (usize, usize),
    extent: (f64, f64),
}

impl Luma {
    /// `size` samples across and down, of which the first `extent` are of the image.
    pub(super) fn new(size: (usize, usize), extent: (f64, f64)) -> Self {
        Self { samples: vec![0.0; size.0 * size.1], size, extent }
    }

    pub(super) fn set(&mut self, column: usize, row: usize, value: f32) {
        self.samples[row * self.size.0 + column] = value;
    }

    /// The hash of the image once it is turned upright; `None` where it has too little detail.
    pub(super) fn hash(&self, orientation: Orientation) -> Option<PerceptualHash> {
        let mut cells = CellAverages::new(self.size, self.extent);
        self.samples.chunks_exact(self.size.0).for_each(|row| cells.push(row));
        cells.finish().upright(orientation).hash()
    }
}

/// Averages of the luma, one for each of 64 x 64 equal parts of an image, row by row.
struct LumaCells(Vec<[f32; SIDE]>);

impl LumaCells {
    fn of_image(image: &RgbImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let step = (height / ENOUGH_ROWS).max(1);
        let rows = height.div_ceil(step);
        let mut cells = CellAverages::new((width, rows), (width as f64, height as f64 / step as f64));
        let mut luma = vec![0.0; width];
        for row in image.as_raw().chunks_exact(3 * width).step_by(step) {
            for (luma, &[red, green, blue]) in luma.iter_mut().zip(row.as_chunks::<3>().0) {
                *luma = 0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue);
            }
            cells.push(&luma);
        }
        cells.finish()
    }

    fn upright(self, orientation: Orientation) -> Self {
        let turn = Turn::from(orientation);
        let mut upright = vec![[0.0; SIDE]; SIDE];
        for (row, cells) in self.0.iter().enumerate() {
            for (column, &value) in cells.iter().enumerate() {
                let column = if turn.mirrored.0 { SIDE - 1 - column } else { column };
                let row = if turn.mirrored.1 { SIDE - 1 - row } else { row };
                let (row, column) = if turn.swapped { (column, row) } else { (row, column) };
                upright[row][column] = value;
            }
        }
        Self(upright)
    }

    /// `None` where there is too little detail.
    fn hash(&self) -> Option<PerceptualHash> {
        // Rows first: 64 rows of 16 frequencies, then columns.
        let rows: Vec<[f32; FREQUENCIES]> = self.0.iter().map(transform).collect();
        let mut frequencies = [[0.0; FREQUENCIES]; FREQUENCIES];
        for across in 0..FREQUENCIES {
            let column: [f32; SIDE] = std::array::from_fn(|row| rows[row][across]);
            for (down, value) in transform(&column).into_iter().enumerate() {
                frequencies[down][across] = value;
            }
        }
        let frequencies = frequencies.as_flattened();
        let is_flat = lower_median(frequencies.iter().map(|value| value.abs())) < LEAST_DETAIL;
        if is_flat {
            return None;
        }
        let median = lower_median(frequencies.iter().copied());
        let mut hash = [0; 32];
        for (index, _) in frequencies.iter().enumerate().filter(|(_, value)| **value > median) {
            hash[31 - index / 8] |= 1 << (index % 8);
        }
        Some(hash)
    }
}

/// The lower one of the two in the middle.
fn lower_median(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let middle = values.len().saturating_sub(1) / 2;
    let mut values: Vec<f32> = values.collect();
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// The cosines of 1 to 16 half waves in each cell of the first half of a side; in its other half they are the same, or the
/// same negated.
static BASIS: LazyLock<[[f32; FREQUENCIES]; SIDE / 2]> = LazyLock::new(|| {
    let norm = (2.0 / SIDE as f64).sqrt();
    let step = std::f64::consts::PI / (2 * SIDE) as f64;
    std::array::from_fn(|cell| {
        std::array::from_fn(|index| (norm * (step * ((index + 1) * (2 * cell + 1)) as f64).cos()) as f32)
    })
});

/// The lowest frequencies of a side, without the mean.
fn transform(side: &[f32; SIDE]) -> [f32; FREQUENCIES] {
    let mut frequencies = [0.0; FREQUENCIES];
    let opposites = side.iter().zip(side.iter().rev());
    for ((value, opposite), cosines) in opposites.zip(&*BASIS) {
        let (difference, sum) = (value - opposite, value + opposite);
        for at in (0..FREQUENCIES).step_by(2) {
            frequencies[at] += difference * cosines[at];
            frequencies[at + 1] += sum * cosines[at + 1];
        }
    }
    frequencies
}

/// Averages samples, which come row by row, to 64 x 64 cells.
struct CellAverages {
    across: CellShares,
    down: CellShares,
    /// The averages of each row that has come.
    rows: Vec<[f32; SIDE]>,
}

impl CellAverages {
    fn new(size: (usize, usize), extent: (f64, f64)) -> Self {
        let (across, down) = (CellShares::new(size.0, extent.0), CellShares::new(size.1, extent.1));
        Self { across, down, rows: Vec::with_capacity(size.1) }
    }

    fn push(&mut self, row: &[f32]) {
        let mut averages = [0.0; SIDE];
        for (average, (start, weights)) in averages.iter_mut().zip(self.across.of_cells()) {
            *average = row[start..].iter().zip(weights).map(|(value, weight)| value * weight).sum();
        }
        self.rows.push(averages);
    }

    /// The cells, once all rows have come.
    fn finish(self) -> LumaCells {
        let weighted = |(start, weights): (usize, &[f32])| {
            let mut cells = [0.0; SIDE];
            for (row, weight) in self.rows[start..].iter().zip(weights) {
                cells.iter_mut().zip(row).for_each(|(cell, value)| *cell += value * weight);
            }
            cells
        };
        LumaCells(self.down.of_cells().map(weighted).collect())
    }
}

/// Which samples of a side make up each of its 64 cells, and how much each counts.
struct CellShares {
    /// The first sample of each cell.
    starts: Vec<usize>,
    /// As many for each cell as the largest needs, the others being zero.
    weights: Vec<f32>,
    /// How many that are.
    count: usize,
}

impl CellShares {
    /// For 64 equal parts of the first `extent` of `samples`.
    fn new(samples: usize, extent: f64) -> Self {
        let border = |cell: usize| extent * cell as f64 / SIDE as f64;
        let length = extent / SIDE as f64;
        // A cell begins and ends anywhere in a sample.
        let count = (length.ceil() as usize + 1).min(samples);
        let (mut starts, mut weights) = (Vec::with_capacity(SIDE), Vec::with_capacity(SIDE * count));
        for cell in 0..SIDE {
            let start = (border(cell) as usize).min(samples - count);
            let covered = |sample: usize| {
                let (from, to) = (border(cell).max(sample as f64), border(cell + 1).min((sample + 1) as f64));
                ((to - from).max(0.0) / length) as f32
            };
            starts.push(start);
            weights.extend((start..start + count).map(covered));
        }
        Self { starts, weights, count }
    }

    fn of_cells(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.count))
    }
}
