//! The layers as callers see them: [`LayerOp`] computes an output's shape from an input's, and the output's values.

use super::blocked;
use super::conv_spec::ConvSpec;
use super::disjoint_slice::DisjointSliceMut;
use super::scratch::{Scratch, ScratchGuard};
use super::simd_isa::SimdIsa;
use super::{Activation, Depthwise, Direct, MaxPool, Winograd, pool};

/// Why a layer cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The layer takes activations of another shape.
    #[error("activations of shape {shape:?} do not fit a {layer}")]
    Shape {
        /// The kind of layer, such as `convolution`.
        layer: &'static str,
        /// The shape that does not fit.
        shape: Vec<usize>,
    },
}

/// A pool of threads, the caller's own: this crate starts none while it computes.
pub trait Parallel {
    /// How many threads there are.
    fn threads(&self) -> usize;

    /// Calls `task` with each of the numbers below `count`, once.
    fn for_each(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// Images and their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapDims {
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl MapDims {
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }
}

/// A convolution, by the algorithm that suits it.
#[derive(Debug)]
pub enum Conv {
    /// 3x3, stride 1.
    Winograd(Winograd),
    /// Any window and stride, one group.
    Direct(Direct),
    /// One filter a channel.
    Depthwise(Depthwise),
}

/// A layer. All take blocked activations but a [`Conv`] of planes and [`Pack`](LayerOp::Pack), and all return blocked
/// activations but [`Unpack`](LayerOp::Unpack) and [`GlobalAverage`](LayerOp::GlobalAverage).
#[derive(Debug)]
#[non_exhaustive]
pub enum LayerOp {
    /// May have a second input of its output's shape, which is added before the activation.
    Conv(Conv),
    /// The largest value of each window.
    MaxPool(MaxPool),
    /// The mean of each of so many channels, n x channels x 1 x 1.
    GlobalAverage {
        /// The instruction set of the blocks.
        isa: SimdIsa,
        /// Channels of the map.
        channels: usize,
    },
    /// The sum of one or two inputs.
    Sum {
        /// What is applied to the sum.
        activation: Activation,
    },
    /// From planes of so many channels to blocks.
    Pack {
        /// The instruction set of the blocks.
        isa: SimdIsa,
        /// Channels of the map.
        channels: usize,
    },
    /// From blocks to planes of so many channels.
    Unpack {
        /// The instruction set of the blocks.
        isa: SimdIsa,
        /// Channels of the map.
        channels: usize,
    },
    /// Layers one after another, image by image. A second input is the last one's.
    Chain(Vec<LayerOp>),
}

/// An input of a layer: its numbers and its shape.
pub type LayerInput<'a> = (&'a [f32], &'a [usize]);

impl LayerOp {
    /// The shape of what comes of a first input of `shape`.
    ///
    /// # Errors
    /// The layer does not take that shape.
    pub fn output(&self, shape: &[usize]) -> Result<Vec<usize>, LayerError> {
        let unfit = |layer| LayerError::Shape { layer, shape: shape.to_vec() };
        match (self, shape) {
            (LayerOp::Conv(conv), _) => conv.spec().output(shape).ok_or_else(|| unfit("convolution")),
            (LayerOp::MaxPool(pool), &[n, blocks, h, w, lanes]) if lanes == pool.lanes() => {
                let [h, w] = pool.window().output(h, w).ok_or_else(|| unfit("max pooling"))?;
                Ok(vec![n, blocks, h, w, lanes])
            }
            (&LayerOp::GlobalAverage { isa, channels }, &[n, blocks, h, w, lanes])
                if lanes == isa.lanes() && blocks == isa.blocks(channels) && h * w > 0 =>
            {
                Ok(vec![n, channels, 1, 1])
            }
            (LayerOp::Sum { .. }, &[..]) if shape.len() == 5 => Ok(shape.to_vec()),
            (&LayerOp::Pack { isa, channels }, &[n, c, h, w]) if c == channels => {
                Ok(vec![n, isa.blocks(channels), h, w, isa.lanes()])
            }
            (&LayerOp::Unpack { isa, channels }, &[n, blocks, h, w, lanes])
                if lanes == isa.lanes() && blocks == isa.blocks(channels) =>
            {
                Ok(vec![n, channels, h, w])
            }
            (LayerOp::Chain(ops), _) => ops.iter().try_fold(shape.to_vec(), |shape, op| op.output(&shape)),
            (LayerOp::MaxPool(_), _) => Err(unfit("max pooling")),
            (LayerOp::GlobalAverage { .. }, _) => Err(unfit("global average")),
            (LayerOp::Sum { .. }, _) => Err(unfit("sum")),
            (LayerOp::Pack { .. } | LayerOp::Unpack { .. }, _) => Err(unfit("change of layout")),
        }
    }

    /// Computes `output`, of the shape that [`output`](Self::output) tells for the first input.
    ///
    /// # Errors
    /// An input has another shape than the layer takes, or a second one another than the output's.
    ///
    /// # Panics
    /// A slice's length is not that of its shape.
    pub fn run(
        &self,
        input: LayerInput<'_>,
        second: Option<LayerInput<'_>>,
        output: &mut [f32],
        scratch: &Scratch,
        parallel: &dyn Parallel,
    ) -> Result<(), LayerError> {
        let shape = self.output(input.1)?;
        let added = match second {
            Some((_, shape_of_second)) if *shape_of_second != *shape => {
                return Err(LayerError::Shape { layer: "sum", shape: shape_of_second.to_vec() });
            }
            second => second.map(|(numbers, _)| numbers),
        };
        assert_eq!(input.0.len(), input.1.iter().product::<usize>(), "the input has its shape");
        assert_eq!(output.len(), shape.iter().product::<usize>(), "the output has its shape");
        let dims = |shape: &[usize]| MapDims { images: shape[0], height: shape[2], width: shape[3] };
        let (from, to) = (dims(input.1), dims(&shape));
        let numbers = input.0;
        if output.is_empty() {
            return Ok(());
        }
        match self {
            LayerOp::Conv(Conv::Winograd(conv)) => {
                conv.run((numbers, from), added, (output, to), scratch, parallel)
            }
            LayerOp::Conv(Conv::Direct(conv)) => {
                conv.run((numbers, from), added, (output, to), scratch, parallel)
            }
            LayerOp::Conv(Conv::Depthwise(conv)) => conv.run((numbers, from), added, (output, to), parallel),
            LayerOp::MaxPool(pool) => pool.run((numbers, from), (output, to), parallel),
            LayerOp::GlobalAverage { isa, channels } => {
                pool::global_average(numbers, from.pixels(), *channels, isa.lanes(), output);
            }
            LayerOp::Sum { activation } => {
                output.copy_from_slice(numbers);
                for (out, add) in output.iter_mut().zip(added.into_iter().flatten()) {
                    *out += add;
                }
                // Unlike `clamp`, takes no order of bounds for granted, and lets NaN through.
                for out in output {
                    *out = if *out < activation.least { activation.least } else { *out };
                    *out = if *out > activation.most { activation.most } else { *out };
                }
            }
            LayerOp::Chain(ops) => {
                let (input, second) = ((numbers, input.1), added.map(|added| (added, &shape[..])));
                run_chain(ops, input, second, output, scratch, parallel)?;
            }
            &LayerOp::Pack { isa, channels } => {
                by_image(numbers, output, from.images, parallel, |planes, out| {
                    blocked::pack(planes, channels, isa.lanes(), out);
                })
            }
            &LayerOp::Unpack { isa, channels } => {
                by_image(numbers, output, from.images, parallel, |maps, out| {
                    blocked::unpack(maps, channels, isa.lanes(), out);
                })
            }
        }
        Ok(())
    }
}

/// Calls `task` with the input and the output of each of the `images`.
fn by_image(
    input: &[f32],
    output: &mut [f32],
    images: usize,
    parallel: &dyn Parallel,
    task: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let [read, made] = [input.len(), output.len()].map(|len| len / images);
    let output = DisjointSliceMut::new(output);
    parallel.for_each(images, &|image| {
        // SAFETY: each image is one task's.
        let out = unsafe { output.part(image * made, made) };
        task(&input[image * read..][..read], out);
    });
}

/// Runs `ops` image by image.
fn run_chain<'a>(
    ops: &[LayerOp],
    input: LayerInput<'a>,
    second: Option<LayerInput<'a>>,
    output: &mut [f32],
    scratch: &Scratch,
    parallel: &dyn Parallel,
) -> Result<(), LayerError> {
    let images = input.1[0];
    let Some((last, before)) = ops.split_last() else { return Ok(()) };
    let one = |shape: &[usize]| [&[1], &shape[1..]].concat();
    let of_image = |(numbers, shape): LayerInput<'a>, image: usize| {
        let len = shape[1..].iter().product::<usize>();
        &numbers[image * len..][..len]
    };
    let of_output = output.len() / images;
    for image in 0..images {
        let mut shape = one(input.1);
        let mut between: Option<(ScratchGuard<'_>, usize)> = None;
        for op in before {
            let next = op.output(&shape)?;
            let len = next.iter().product();
            let mut made = scratch.take(len);
            let numbers = between.as_ref().map_or(of_image(input, image), |(made, len)| &made[..*len]);
            op.run((numbers, &shape), None, &mut made[..len], scratch, parallel)?;
            between = Some((made, len));
            shape = next;
        }
        let numbers = between.as_ref().map_or(of_image(input, image), |(made, len)| &made[..*len]);
        let shape_of_second = second.map(|(_, shape)| one(shape));
        let second =
            second.zip(shape_of_second.as_deref()).map(|(second, shape)| (of_image(second, image), shape));
        let out = &mut output[image * of_output..][..of_output];
        last.run((numbers, &shape), second, out, scratch, parallel)?;
    }
    Ok(())
}

impl Conv {
    fn spec(&self) -> &ConvSpec {
        match self {
            Conv::Winograd(conv) => &conv.spec,
            Conv::Direct(conv) => &conv.spec,
            Conv::Depthwise(conv) => &conv.spec,
        }
    }
}
