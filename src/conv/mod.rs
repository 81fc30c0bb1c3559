//! Convolutional layers on the processor, faster than a general runtime has them.
//!
//! Most of the work of a VGG, and a third of that of a ResNet, are 3x3 convolutions of stride 1. Winograd's minimal filtering
//! computes them with a quarter of the multiplications ([`winograd`]), which ONNX Runtime, TensorFlow and PyTorch do not do on
//! processors. To change the layout of activations before and after each of them would take back a part of that, so
//! what lies between them is here as well: other convolutions ([`direct`]), those of single channels ([`depthwise`]) and
//! pooling ([`pool`]).
//!
//! Activations are *blocked* (NCHWc): n x c/lanes x h x w x lanes, where lanes is how many float32 a register of the
//! processor holds, and channels that a last block lacks are 0. All layers are [`Step`]s; the graph that they come from, and
//! the runtime that calls them, are the business of [`backbone`](crate::backbone).

mod blocked;
mod depthwise;
mod direct;
mod floats;
mod form;
mod panel;
mod pool;
mod step;
#[cfg(test)]
mod tests;
mod winograd;

pub use blocked::Vectors;
pub use depthwise::Depthwise;
pub use direct::Direct;
pub use pool::MaxPool;
pub use step::{Conv, Input, Parallel, Scratch, Step, StepError};
pub use winograd::Winograd;

/// What is done with a convolution's sums before they are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Smaller numbers become this one; negative infinity where there is no such bound.
    pub least: f32,
    /// Larger numbers become this one; infinity where there is no such bound.
    pub most: f32,
}

impl Activation {
    pub const NONE: Activation = Activation { least: f32::NEG_INFINITY, most: f32::INFINITY };
    pub const RELU: Activation = Activation { least: 0.0, most: f32::INFINITY };

    /// This activation, and then `next`.
    #[must_use]
    pub fn then(self, next: Activation) -> Activation {
        let bound = |value: f32| value.max(next.least).min(next.most);
        Activation { least: bound(self.least), most: bound(self.most) }
    }
}

/// Where a window of a convolution or a pooling stands on a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next, in both directions.
    pub stride: usize,
    /// Pixels of padding at the top, the left, the bottom and the right.
    pub pads: [usize; 4],
}

impl Window {
    /// Height and width of what comes of a map of `height` x `width`; none where the map is smaller than a window.
    pub fn output(&self, height: usize, width: usize) -> Option<[usize; 2]> {
        let [top, left, bottom, right] = self.pads;
        let along = |length: usize, kernel: usize| Some(length.checked_sub(kernel)? / self.stride + 1);
        Some([along(height + top + bottom, self.kernel[0])?, along(width + left + right, self.kernel[1])?])
    }

    /// Along one direction, the part of a window of `kernel` pixels from `start` on that is no padding, of which `pad` pixels come
    /// before a map of `length`.
    #[inline(always)]
    fn inside(start: usize, kernel: usize, pad: usize, length: usize) -> std::ops::Range<usize> {
        pad.saturating_sub(start)..kernel.min((length + pad).saturating_sub(start))
    }
}
