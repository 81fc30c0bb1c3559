//! The numbers that a network gives for a batch.

use std::ops::Deref;

use ort::value::Tensor;

/// What a tap gave for a batch: rows of [`Tap::width`](super::Tap::width) numbers, one image's after another.
#[derive(Debug)]
pub struct TapOutput(TapValues);

#[derive(Debug)]
enum TapValues {
    /// As the runtime returned them, in its memory, which lives as long as they do.
    OfRuntime(Tensor<f32>),
    /// Reordered or pooled since.
    Own(Vec<f32>),
}

impl Deref for TapOutput {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            TapValues::OfRuntime(tensor) => tensor.extract_tensor().1,
            TapValues::Own(numbers) => numbers,
        }
    }
}

impl From<Vec<f32>> for TapOutput {
    fn from(numbers: Vec<f32>) -> Self {
        Self(TapValues::Own(numbers))
    }
}

impl TapOutput {
    /// Takes over what the runtime returned; in the memory of the processor, as all that leaves a session is.
    pub(super) fn of_runtime(tensor: Tensor<f32>) -> Self {
        Self(TapValues::OfRuntime(tensor))
    }
}
