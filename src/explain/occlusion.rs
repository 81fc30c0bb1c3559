//! Occlusion: a patch covers one part of the picture after the other, and what the score falls by is told of each pixel.
//!
//! M. D. Zeiler, R. Fergus: "Visualizing and Understanding Convolutional Networks" (ECCV 2014), section 4.2. The patch has
//! the mean colour of the picture, which no preprocessing makes an extreme one. A pixel's value is the mean over the
//! patches that cover it.

use ndarray::{Array2, s};

use super::ExplainError;
use crate::images::TensorLayout;

/// Covered pictures a forward run.
const BATCH: usize = 16;
/// The patch's side is this part of the picture's shorter one, unless it is given.
const PATCH_PART: usize = 5;
/// The patch moves by this part of its side, unless the stride is given.
const STRIDE_PART: usize = 3;

/// The patch, in pixels of the network's input; what is not given follows from the input's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OcclusionSettings {
    /// Side of the square patch: by default a fifth of the input's shorter side.
    pub size: Option<usize>,
    /// How far it moves each time: by default a third of its side.
    pub stride: Option<usize>,
}

impl OcclusionSettings {
    /// Side and stride for an input of `width` x `height`.
    pub fn resolve(self, (width, height): (usize, usize)) -> (usize, usize) {
        let shorter = width.min(height).max(1);
        let size = self.size.unwrap_or(shorter / PATCH_PART).clamp(1, shorter);
        (size, self.stride.unwrap_or(size / STRIDE_PART).max(1))
    }

    /// How many covered pictures an explanation takes for an input of `width` x `height`.
    pub fn runs(self, (width, height): (usize, usize)) -> usize {
        let (side, stride) = self.resolve((width, height));
        starts(width, side, stride).len() * starts(height, side, stride).len()
    }
}

/// A picture that is to be covered.
pub(super) struct OccludedImage<'a> {
    /// The network's input.
    pub(super) tensor: &'a [f32],
    pub(super) layout: TensorLayout,
    /// Width and height.
    pub(super) size: (usize, usize),
    pub(super) settings: OcclusionSettings,
}

impl OccludedImage<'_> {
    /// For each of `classes`, what its score falls by on average where a pixel is covered, H x W. `score` gives the
    /// scores, n x classes, of n pictures one after the other; `whole` are those of the picture as it is.
    pub(super) fn drops(
        &self,
        whole: &[f64],
        classes: &[usize],
        score: &mut impl FnMut(&[f32], usize) -> Result<Array2<f64>, ExplainError>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Array2<f64>>, ExplainError> {
        let (width, height) = self.size;
        let (side, stride) = self.settings.resolve(self.size);
        let (columns, rows) = (starts(width, side, stride), starts(height, side, stride));
        let patches: Vec<(usize, usize)> =
            rows.iter().flat_map(|&top| columns.iter().map(move |&left| (left, top))).collect();
        let colour = self.mean_colour();
        let mut drops = vec![Array2::<f64>::zeros((height, width)); classes.len()];
        let mut covers = Array2::<f64>::zeros((height, width));
        let mut pictures = Vec::with_capacity(BATCH * self.tensor.len());
        for (batch, patches_of_batch) in patches.chunks(BATCH).enumerate() {
            pictures.clear();
            for &patch in patches_of_batch {
                let start = pictures.len();
                pictures.extend_from_slice(self.tensor);
                self.cover(&mut pictures[start..], patch, side, colour);
            }
            let scores = score(&pictures, patches_of_batch.len())?;
            for (&(left, top), scores) in patches_of_batch.iter().zip(scores.rows()) {
                let place = s![top..top + side, left..left + side];
                covers.slice_mut(place).mapv_inplace(|count| count + 1.0);
                for (drops, &class) in drops.iter_mut().zip(classes) {
                    drops.slice_mut(place).mapv_inplace(|sum| sum + whole[class] - scores[class]);
                }
            }
            progress((batch * BATCH + patches_of_batch.len()).min(patches.len()), patches.len());
        }
        // A stride beyond the side leaves pixels that no patch covers: nothing is known of them.
        covers.mapv_inplace(|count| count.max(1.0));
        Ok(drops.into_iter().map(|drops| drops / &covers).collect())
    }

    /// Mean of each channel over all pixels.
    fn mean_colour(&self) -> [f32; 3] {
        let pixels = self.size.0 * self.size.1;
        std::array::from_fn(|channel| {
            let sum: f64 = (0..pixels).map(|pixel| f64::from(self.tensor[self.index(channel, pixel)])).sum();
            (sum / pixels as f64) as f32
        })
    }

    /// Paints the square of `side` pixels at `left`, `top`.
    fn cover(&self, tensor: &mut [f32], (left, top): (usize, usize), side: usize, colour: [f32; 3]) {
        for row in top..top + side {
            for column in left..left + side {
                for (channel, level) in colour.into_iter().enumerate() {
                    tensor[self.index(channel, row * self.size.0 + column)] = level;
                }
            }
        }
    }

    fn index(&self, channel: usize, pixel: usize) -> usize {
        match self.layout {
            TensorLayout::Nchw => channel * self.size.0 * self.size.1 + pixel,
            TensorLayout::Nhwc => pixel * 3 + channel,
        }
    }
}

/// Where patches of `side` begin along `length`: every `stride` pixels, and so that the last one ends at the edge.
fn starts(length: usize, side: usize, stride: usize) -> Vec<usize> {
    let last = length - side;
    let mut starts: Vec<usize> = (0..last).step_by(stride).collect();
    starts.push(last);
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_reach_both_edges() {
        assert_eq!(starts(10, 4, 2), [0, 2, 4, 6]);
        assert_eq!(starts(10, 4, 4), [0, 4, 6]);
        assert_eq!(starts(5, 5, 1), [0]);
        assert_eq!(OcclusionSettings::default().resolve((224, 224)), (44, 14));
        assert_eq!(OcclusionSettings { size: Some(500), stride: None }.resolve((64, 32)), (32, 10));
        assert_eq!(OcclusionSettings { size: None, stride: Some(0) }.resolve((3, 3)), (1, 1));
    }

    /// A picture whose score is the sum of what is in one square, and zero elsewhere.
    #[test]
    fn the_drop_is_highest_where_the_score_comes_from_in_both_layouts() {
        let (width, height) = (12, 9);
        let object = |row: usize, column: usize| (2..5).contains(&row) && (6..9).contains(&column);
        for layout in [TensorLayout::Nchw, TensorLayout::Nhwc] {
            let mut covered = OccludedImage {
                tensor: &[],
                layout,
                size: (width, height),
                settings: OcclusionSettings { size: Some(3), stride: Some(1) },
            };
            let mut tensor = vec![0.0; 3 * width * height];
            for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
                if object(row, column) {
                    tensor[covered.index(1, row * width + column)] = 1.0;
                }
            }
            let tensor_len = tensor.len();
            let places: Vec<usize> = (0..width * height)
                .filter(|pixel| object(pixel / width, pixel % width))
                .map(|pixel| covered.index(1, pixel))
                .collect();
            covered.tensor = &tensor;
            let mut score = |pictures: &[f32], count: usize| {
                let sum =
                    |picture: &[f32]| places.iter().map(|&place| f64::from(picture[place])).sum::<f64>();
                let sums: Vec<f64> = pictures.chunks(tensor_len).map(sum).collect();
                Ok(Array2::from_shape_fn((count, 2), |(row, class)| if class == 1 { sums[row] } else { 7.0 }))
            };
            let drops = covered.drops(&[7.0, 9.0], &[1, 0], &mut score, &mut |_, _| {}).unwrap();
            let highest = drops[0].indexed_iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
            assert_eq!(highest.0, (3, 7), "the middle of the object");
            // The patch has the mean colour, 9 of 108 pixels' worth: covering all nine takes 9 - 9 * 9 / 108 away.
            let at_middle: f64 = (1..=5usize)
                .flat_map(|top| (5..=9usize).map(move |left| (top, left)))
                .filter(|&(top, left)| (top..top + 3).contains(&3) && (left..left + 3).contains(&7))
                .map(|(top, left)| {
                    let inside = |row: usize, column: usize| object(row, column) as u8 as f64;
                    let hidden: f64 = (top..top + 3)
                        .flat_map(|row| (left..left + 3).map(move |column| inside(row, column)))
                        .sum();
                    hidden * (1.0 - 9.0 / 108.0)
                })
                .sum::<f64>()
                / 9.0;
            assert!((highest.1 - at_middle).abs() < 1e-5, "{} {at_middle}", highest.1);
            assert_eq!(drops[0][[8, 0]], 0.0);
            assert!(drops[1].iter().all(|&drop| drop == 0.0), "the other class's score never changes");
        }
    }
}
