//! [`TapOutput`]: the numbers of one tapped layer for a batch.

use std::ops::Deref;

use ort::value::Tensor;

/// The output of a tap for a batch: one row of [`Tap::width`](super::Tap::width) numbers for each image, row after row.
#[derive(Debug)]
pub struct TapOutput(TapValues);

#[derive(Debug)]
enum TapValues {
    /// As the runtime returned them, in its own memory.
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
    /// Takes over a tensor of the runtime. It lies in the CPU's memory, as all outputs of a session do.
    pub(super) fn of_runtime(tensor: Tensor<f32>) -> Self {
        Self(TapValues::OfRuntime(tensor))
    }
}
