//! Convolutional layers on the processor: 3x3 convolutions by Winograd's minimal filtering, other convolutions by plain
//! sums, depthwise convolutions, pooling and sums, for float32 activations, with AVX-512, AVX2 or NEON.
//!
//! Most of the work of a VGG, and a third of that of a ResNet, are 3x3 convolutions of stride 1. Winograd's minimal
//! filtering computes them with a quarter of the multiplications ([`Winograd`]). Changing the layout of activations before
//! and after each of them would cost part of that, so the layers between them are here as well ([`Direct`],
//! [`Depthwise`], [`MaxPool`]).
//!
//! Activations are *blocked* (NCHWc): n x ceil(c / lanes) x h x w x lanes, where `lanes` is the number of float32 values
//! in a register ([`SimdIsa::lanes`]). Channels that the last block lacks are 0. A [`LayerOp`] is one layer:
//! [`LayerOp::Pack`] makes blocks of planes (NCHW), and [`LayerOp::Unpack`] makes planes of blocks.
//!
//! The crate knows no graph and no runtime, and starts no threads while it computes: the caller brings its own
//! ([`Parallel`]).
//!
//! ```
//! use cnncodes_convolution::{Activation, Conv, LayerOp, Parallel, Scratch, SimdIsa, Window, Winograd};
//!
//! struct OneThread;
//! impl Parallel for OneThread {
//!     fn threads(&self) -> usize {
//!         1
//!     }
//!     fn for_each(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
//!         (0..count).for_each(task);
//!     }
//! }
//!
//! let Some(isa) = SimdIsa::detect() else { return };
//! // One channel to one channel: a filter that adds up the eight neighbours.
//! let filter = [1., 1., 1., 1., 0., 1., 1., 1., 1.];
//! let window = Window { kernel: [3, 3], stride: 1, pads: [1; 4] };
//! let layers = LayerOp::Chain(vec![
//!     LayerOp::Pack { isa, channels: 1 },
//!     LayerOp::Conv(Conv::Winograd(Winograd::new(isa, &filter, &[0.5], window, Activation::RELU))),
//!     LayerOp::Unpack { isa, channels: 1 },
//! ]);
//! let mut sums = [0.0; 6];
//! layers
//!     .run((&[1., 2., 3., 4., 5., 6.], &[1, 1, 2, 3]), None, &mut sums, &Scratch::default(), &OneThread)
//!     .unwrap();
//! let expected = [11.5, 19.5, 13.5, 8.5, 16.5, 10.5];
//! assert!(sums.iter().zip(expected).all(|(sum, expected)| (sum - expected).abs() < 1e-4), "{sums:?}");
//! ```

mod aligned_vec;
mod blocked;
mod conv_spec;
mod depthwise;
mod direct;
mod disjoint_slice;
mod gemm;
mod layer_op;
mod pool;
mod scratch;
mod simd_isa;
#[cfg(test)]
mod tests;
mod winograd;

pub use depthwise::Depthwise;
pub use direct::Direct;
pub use layer_op::{Conv, LayerError, LayerInput, LayerOp, Parallel};
pub use pool::MaxPool;
pub use scratch::Scratch;
pub use simd_isa::SimdIsa;
pub use winograd::Winograd;

/// The bounds that are applied to a layer's sums before they are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Smaller values become this one; negative infinity for no lower bound.
    pub least: f32,
    /// Larger values become this one; infinity for no upper bound.
    pub most: f32,
}

impl Activation {
    /// No bounds.
    pub const NONE: Activation = Activation { least: f32::NEG_INFINITY, most: f32::INFINITY };
    /// A lower bound of 0.
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
