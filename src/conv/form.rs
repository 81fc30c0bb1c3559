//! What every convolution has, whichever way it is computed.

use super::blocked::Vectors;
use super::floats::Floats;
use super::step::Dims;
use super::{Activation, Window};

/// The form of a convolution: all but its filters.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) vectors: Vectors,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) window: Window,
    /// Whether the input is in planes, n x c x h x w, and not blocked.
    pub(super) planes: bool,
    /// Of whole blocks.
    pub(super) bias: Floats,
    pub(super) activation: Activation,
}

impl Form {
    /// Of a convolution of a blocked input to as many outputs as there are biases.
    pub(super) fn new(
        vectors: Vectors,
        inputs: usize,
        bias: &[f32],
        window: Window,
        activation: Activation,
    ) -> Form {
        let outputs = bias.len();
        let mut padded = Floats::zeros(vectors.blocks(outputs) * vectors.lanes());
        padded[..outputs].copy_from_slice(bias);
        Form { vectors, inputs, outputs, window, planes: false, bias: padded, activation }
    }

    /// Maps of an image's input, and numbers of a pixel in each.
    pub(super) fn maps(&self) -> (usize, usize) {
        if self.planes { (self.inputs, 1) } else { (self.vectors.blocks(self.inputs), self.vectors.lanes()) }
    }

    /// The shape of what comes of an input of `shape`; none where the convolution does not take it.
    pub(super) fn output(&self, shape: &[usize]) -> Option<Vec<usize>> {
        let lanes = self.vectors.lanes();
        let (maps, _) = self.maps();
        let [n, h, w] = match *shape {
            [n, c, h, w] if self.planes && c == maps => [n, h, w],
            [n, blocks, h, w, l] if !self.planes && blocks == maps && l == lanes => [n, h, w],
            _ => return None,
        };
        let [h, w] = self.window.output(h, w)?;
        Some(vec![n, self.vectors.blocks(self.outputs), h, w, lanes])
    }

    /// Asserts that the lengths of an input, of what is added and of an output are those of maps of these sizes.
    pub(super) fn assert_lengths(
        &self,
        (input, from): (&[f32], Dims),
        residual: Option<&[f32]>,
        (output, to): (&[f32], Dims),
    ) {
        let (maps, depth) = self.maps();
        let of_output = to.images * self.vectors.blocks(self.outputs) * to.pixels() * self.vectors.lanes();
        assert_eq!(input.len(), from.images * maps * from.pixels() * depth, "the input has its shape");
        assert_eq!(output.len(), of_output, "the output has its shape");
        assert!(
            residual.is_none_or(|residual| residual.len() == of_output),
            "what is added has the output's shape"
        );
        assert_eq!(self.window.output(from.height, from.width), Some([to.height, to.width]), "sizes fit");
    }
}
