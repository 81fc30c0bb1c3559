//! Normalised pixels on their way into a network's input tensor.

use super::{ChannelOrder, Preprocess, TensorLayout};
use crate::images::resample::ResampledLine;

/// One image's part of an input tensor, filled line by line.
pub(in crate::images) struct ImageTensor<'a> {
    values: &'a mut [f32],
    layout: TensorLayout,
    width: usize,
    /// The channel of an RGB pixel that becomes each of the tensor's.
    source_channel: [usize; 3],
    /// Whether pixels become grey first.
    is_grey: bool,
    /// What each of the 256 levels becomes, for each channel of the tensor.
    levels: [[f32; 256]; 3],
}

impl<'a> ImageTensor<'a> {
    /// `values` has as many values as `recipe` wants.
    pub(super) fn new(recipe: &Preprocess, layout: TensorLayout, values: &'a mut [f32]) -> Self {
        let divisor = recipe.divisor as f32;
        Self {
            values,
            layout,
            width: recipe.size.0 as usize,
            source_channel: match recipe.channel_order {
                ChannelOrder::Rgb | ChannelOrder::Grey => [0, 1, 2],
                ChannelOrder::Bgr => [2, 1, 0],
            },
            is_grey: recipe.channel_order == ChannelOrder::Grey,
            levels: std::array::from_fn(|channel| {
                let (mean, std) = (recipe.mean[channel] as f32, recipe.std[channel] as f32);
                std::array::from_fn(|level| (level as f32 / divisor - mean) / std)
            }),
        }
    }

    /// Normalises a row, or a column, into its place.
    pub(in crate::images) fn put(&mut self, line: &ResampledLine<'_>) {
        let (pixels, _) = line.pixels.as_chunks::<3>();
        let grey: Vec<[u8; 3]>;
        let pixels = if self.is_grey {
            grey = pixels.iter().map(|&pixel| [grey_level(pixel); 3]).collect();
            &grey
        } else {
            pixels
        };
        let (first, step) =
            if line.is_column { (line.index, self.width) } else { (line.index * self.width, 1) };
        match self.layout {
            TensorLayout::Nchw => {
                let (zeroth, rest) = self.values.split_at_mut(self.values.len() / 3);
                let (first_plane, second) = rest.split_at_mut(rest.len() / 2);
                let [table_0, table_1, table_2] = &self.levels;
                let [source_0, source_1, source_2] = self.source_channel;
                let planes = zeroth[first..]
                    .iter_mut()
                    .step_by(step)
                    .zip(first_plane[first..].iter_mut().step_by(step))
                    .zip(second[first..].iter_mut().step_by(step));
                for (((a, b), c), pixel) in planes.zip(pixels) {
                    *a = table_0[usize::from(pixel[source_0])];
                    *b = table_1[usize::from(pixel[source_1])];
                    *c = table_2[usize::from(pixel[source_2])];
                }
            }
            TensorLayout::Nhwc => {
                let (places, _) = self.values.as_chunks_mut::<3>();
                for (values, pixel) in places[first..].iter_mut().step_by(step).zip(pixels) {
                    for channel in 0..3 {
                        values[channel] =
                            self.levels[channel][usize::from(pixel[self.source_channel[channel]])];
                    }
                }
            }
        }
    }
}

/// What red, green and blue weigh in a grey level, of 2^16.
pub(crate) const GREY_WEIGHTS: [u32; 3] = [19595, 38470, 7471];

/// As Pillow's `convert("L")`: ITU-R BT.601 in 16-bit fixed point, rounded.
fn grey_level([red, green, blue]: [u8; 3]) -> u8 {
    let [of_red, of_green, of_blue] = GREY_WEIGHTS;
    let weighted = of_red * u32::from(red) + of_green * u32::from(green) + of_blue * u32::from(blue);
    // The weights add up to 2^16.
    ((weighted + 0x8000) >> 16) as u8
}
