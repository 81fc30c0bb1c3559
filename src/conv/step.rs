//! A layer as it is called: shapes in, a shape out, and numbers.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use pulp::Simd;

use super::blocked::{self, Vectors};
use super::floats::Floats;
use super::form::Form;
use super::{Activation, Depthwise, Direct, MaxPool, Winograd, pool};

/// Why a layer cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("activations of shape {shape:?} do not fit a {layer}")]
    Shape { layer: &'static str, shape: Vec<usize> },
}

/// Threads that share work.
pub trait Parallel {
    /// How many there are.
    fn threads(&self) -> usize;

    /// Calls `task` with each of the numbers below `count`, once.
    fn for_each(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// Images and their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Dims {
    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }
}

/// Memory for what a layer computes on the way, kept from run to run.
#[derive(Debug, Default)]
pub struct Scratch(Mutex<Vec<Floats>>);

/// Some of it, until dropped.
pub(super) struct Taken<'a> {
    floats: Floats,
    from: &'a Scratch,
}

impl Scratch {
    /// At least `len` numbers, any.
    pub(super) fn take(&self, len: usize) -> Taken<'_> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, or else the largest, which grows.
        let fits = |floats: &&(usize, usize)| floats.1 >= len;
        let sizes: Vec<(usize, usize)> = free.iter().map(|floats| floats.len()).enumerate().collect();
        let best = sizes.iter().filter(fits).min_by_key(|(_, len)| *len);
        let chosen = best.or_else(|| sizes.iter().max_by_key(|(_, len)| *len));
        let mut floats = chosen.map(|&(index, _)| free.swap_remove(index)).unwrap_or_default();
        drop(free);
        floats.reserve(len);
        Taken { floats, from: self }
    }
}

impl Deref for Taken<'_> {
    type Target = Floats;

    fn deref(&self) -> &Floats {
        &self.floats
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Floats {
        &mut self.floats
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut free = self.from.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(std::mem::take(&mut self.floats));
    }
}

/// Numbers that several threads write, each its own.
pub(super) struct Shared<'a> {
    numbers: *mut f32,
    len: usize,
    lives: PhantomData<&'a mut [f32]>,
}

// SAFETY: all that threads do with it is unsafe, and they promise to write different numbers.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn of(numbers: &'a mut [f32]) -> Self {
        Self { numbers: numbers.as_mut_ptr(), len: numbers.len(), lives: PhantomData }
    }

    /// # Safety
    /// A register's numbers from `at` on are among these, and no other thread has them.
    #[inline(always)]
    pub(super) unsafe fn write<S: Simd>(&self, at: usize, value: S::f32s) {
        debug_assert!(at + S::F32_LANES <= self.len, "among the shared numbers");
        // SAFETY: promised by the caller.
        unsafe { self.numbers.add(at).cast::<S::f32s>().write_unaligned(value) };
    }

    /// # Safety
    /// No other thread has the `len` numbers from `start` on, and this one has them once.
    #[allow(clippy::mut_from_ref, reason = "what is borrowed is one thread's, as the caller promises")]
    pub(super) unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "among the shared numbers");
        // SAFETY: in bounds, and promised by the caller to be this thread's.
        unsafe { std::slice::from_raw_parts_mut(self.numbers.add(start), len) }
    }
}

/// A convolution, in the way that suits it.
#[derive(Debug)]
pub enum Conv {
    Winograd(Winograd),
    Direct(Direct),
    Depthwise(Depthwise),
}

/// A layer. All but a [`Conv`] of planes and [`Pack`](Step::Pack) take blocked activations, and all but
/// [`Unpack`](Step::Unpack) and [`GlobalAverage`](Step::GlobalAverage) give them.
#[derive(Debug)]
pub enum Step {
    /// May have a second input of its output's shape, which is added before the activation.
    Conv(Conv),
    MaxPool(MaxPool),
    /// The mean of each of so many channels, n x channels x 1 x 1.
    GlobalAverage {
        vectors: Vectors,
        channels: usize,
    },
    /// The sum of one or two inputs.
    Sum {
        activation: Activation,
    },
    /// From planes of so many channels to blocks.
    Pack {
        vectors: Vectors,
        channels: usize,
    },
    /// From blocks to planes of so many channels.
    Unpack {
        vectors: Vectors,
        channels: usize,
    },
    /// Layers one after another, image by image. A second input is the last one's.
    Chain(Vec<Step>),
}

/// An input of a layer: its numbers and its shape.
pub type Input<'a> = (&'a [f32], &'a [usize]);

impl Step {
    /// The shape of what comes of a first input of `shape`.
    ///
    /// # Errors
    /// The layer does not take that shape.
    pub fn output(&self, shape: &[usize]) -> Result<Vec<usize>, StepError> {
        let unfit = |layer| StepError::Shape { layer, shape: shape.to_vec() };
        match (self, shape) {
            (Step::Conv(conv), _) => conv.form().output(shape).ok_or_else(|| unfit("convolution")),
            (Step::MaxPool(pool), &[n, blocks, h, w, lanes]) if lanes == pool.lanes() => {
                let [h, w] = pool.window().output(h, w).ok_or_else(|| unfit("max pooling"))?;
                Ok(vec![n, blocks, h, w, lanes])
            }
            (&Step::GlobalAverage { vectors, channels }, &[n, blocks, h, w, lanes])
                if lanes == vectors.lanes() && blocks == vectors.blocks(channels) && h * w > 0 =>
            {
                Ok(vec![n, channels, 1, 1])
            }
            (Step::Sum { .. }, &[..]) if shape.len() == 5 => Ok(shape.to_vec()),
            (&Step::Pack { vectors, channels }, &[n, c, h, w]) if c == channels => {
                Ok(vec![n, vectors.blocks(channels), h, w, vectors.lanes()])
            }
            (&Step::Unpack { vectors, channels }, &[n, blocks, h, w, lanes])
                if lanes == vectors.lanes() && blocks == vectors.blocks(channels) =>
            {
                Ok(vec![n, channels, h, w])
            }
            (Step::Chain(steps), _) => {
                steps.iter().try_fold(shape.to_vec(), |shape, step| step.output(&shape))
            }
            (Step::MaxPool(_), _) => Err(unfit("max pooling")),
            (Step::GlobalAverage { .. }, _) => Err(unfit("global average")),
            (Step::Sum { .. }, _) => Err(unfit("sum")),
            (Step::Pack { .. } | Step::Unpack { .. }, _) => Err(unfit("change of layout")),
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
        input: Input<'_>,
        second: Option<Input<'_>>,
        output: &mut [f32],
        scratch: &Scratch,
        parallel: &dyn Parallel,
    ) -> Result<(), StepError> {
        let shape = self.output(input.1)?;
        let added = match second {
            Some((_, shape_of_second)) if *shape_of_second != *shape => {
                return Err(StepError::Shape { layer: "sum", shape: shape_of_second.to_vec() });
            }
            second => second.map(|(numbers, _)| numbers),
        };
        assert_eq!(input.0.len(), input.1.iter().product::<usize>(), "the input has its shape");
        assert_eq!(output.len(), shape.iter().product::<usize>(), "the output has its shape");
        let dims = |shape: &[usize]| Dims { images: shape[0], height: shape[2], width: shape[3] };
        let (from, to) = (dims(input.1), dims(&shape));
        let numbers = input.0;
        if output.is_empty() {
            return Ok(());
        }
        match self {
            Step::Conv(Conv::Winograd(conv)) => {
                conv.run((numbers, from), added, (output, to), scratch, parallel)
            }
            Step::Conv(Conv::Direct(conv)) => {
                conv.run((numbers, from), added, (output, to), scratch, parallel)
            }
            Step::Conv(Conv::Depthwise(conv)) => conv.run((numbers, from), added, (output, to), parallel),
            Step::MaxPool(pool) => pool.run((numbers, from), (output, to), parallel),
            Step::GlobalAverage { vectors, channels } => {
                pool::global_average(numbers, from.pixels(), *channels, vectors.lanes(), output);
            }
            Step::Sum { activation } => {
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
            Step::Chain(steps) => {
                let (input, second) = ((numbers, input.1), added.map(|added| (added, &shape[..])));
                run_chain(steps, input, second, output, scratch, parallel)?;
            }
            &Step::Pack { vectors, channels } => {
                by_image(numbers, output, from.images, parallel, |planes, out| {
                    blocked::pack(planes, channels, vectors.lanes(), out);
                })
            }
            &Step::Unpack { vectors, channels } => {
                by_image(numbers, output, from.images, parallel, |maps, out| {
                    blocked::unpack(maps, channels, vectors.lanes(), out);
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
    let output = Shared::of(output);
    parallel.for_each(images, &|image| {
        // SAFETY: each image is one task's.
        let out = unsafe { output.part(image * made, made) };
        task(&input[image * read..][..read], out);
    });
}

/// Runs `steps` image by image.
fn run_chain<'a>(
    steps: &[Step],
    input: Input<'a>,
    second: Option<Input<'a>>,
    output: &mut [f32],
    scratch: &Scratch,
    parallel: &dyn Parallel,
) -> Result<(), StepError> {
    let images = input.1[0];
    let Some((last, before)) = steps.split_last() else { return Ok(()) };
    let one = |shape: &[usize]| [&[1], &shape[1..]].concat();
    let of_image = |(numbers, shape): Input<'a>, image: usize| {
        let len = shape[1..].iter().product::<usize>();
        &numbers[image * len..][..len]
    };
    let of_output = output.len() / images;
    for image in 0..images {
        let mut shape = one(input.1);
        let mut between: Option<(Taken<'_>, usize)> = None;
        for step in before {
            let next = step.output(&shape)?;
            let len = next.iter().product();
            let mut made = scratch.take(len);
            let numbers = between.as_ref().map_or(of_image(input, image), |(made, len)| &made[..*len]);
            step.run((numbers, &shape), None, &mut made[..len], scratch, parallel)?;
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
    fn form(&self) -> &Form {
        match self {
            Conv::Winograd(conv) => &conv.form,
            Conv::Direct(conv) => &conv.form,
            Conv::Depthwise(conv) => &conv.form,
        }
    }
}
