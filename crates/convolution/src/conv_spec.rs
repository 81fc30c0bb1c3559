//! The specification of a convolution, whichever algorithm computes it.

use super::aligned_vec::AlignedVec;
use super::layer_op::MapDims;
use super::simd_isa::SimdIsa;
use super::{Activation, Window};

/// Shapes, window, bias and activation of a convolution: everything but its filters.
#[derive(Debug)]
pub(super) struct ConvSpec {
    pub(super) isa: SimdIsa,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) window: Window,
    /// Whether the input is in planes, n x c x h x w, and not blocked.
    pub(super) planes: bool,
    /// Of whole blocks.
    pub(super) bias: AlignedVec,
    pub(super) activation: Activation,
}

impl ConvSpec {
    /// Of a convolution of a blocked input to as many outputs as there are biases.
    pub(super) fn new(
        isa: SimdIsa,
        inputs: usize,
        bias: &[f32],
        window: Window,
        activation: Activation,
    ) -> ConvSpec {
        let outputs = bias.len();
        let mut padded = AlignedVec::zeros(isa.blocks(outputs) * isa.lanes());
        padded[..outputs].copy_from_slice(bias);
        ConvSpec { isa, inputs, outputs, window, planes: false, bias: padded, activation }
    }

    /// Maps of an image's input, and numbers of a pixel in each.
    pub(super) fn maps(&self) -> (usize, usize) {
        if self.planes { (self.inputs, 1) } else { (self.isa.blocks(self.inputs), self.isa.lanes()) }
    }

    /// The shape of what comes of an input of `shape`; none where the convolution does not take it.
    pub(super) fn output(&self, shape: &[usize]) -> Option<Vec<usize>> {
        let lanes = self.isa.lanes();
        let (maps, _) = self.maps();
        let [n, h, w] = match *shape {
            [n, c, h, w] if self.planes && c == maps => [n, h, w],
            [n, blocks, h, w, l] if !self.planes && blocks == maps && l == lanes => [n, h, w],
            _ => return None,
        };
        let [h, w] = self.window.output(h, w)?;
        Some(vec![n, self.isa.blocks(self.outputs), h, w, lanes])
    }

    /// Asserts that the lengths of an input, of what is added and of an output are those of maps of these sizes.
    pub(super) fn assert_lengths(
        &self,
        (input, from): (&[f32], MapDims),
        residual: Option<&[f32]>,
        (output, to): (&[f32], MapDims),
    ) {
        let (maps, depth) = self.maps();
        let of_output = to.images * self.isa.blocks(self.outputs) * to.pixels() * self.isa.lanes();
        assert_eq!(input.len(), from.images * maps * from.pixels() * depth, "the input has its shape");
        assert_eq!(output.len(), of_output, "the output has its shape");
        assert!(
            residual.is_none_or(|residual| residual.len() == of_output),
            "what is added has the output's shape"
        );
        assert_eq!(self.window.output(from.height, from.width), Some([to.height, to.width]), "sizes fit");
    }
}
