//! A layer as it is planned, and as it is when its weights are read.

use super::super::graph::Graph;
use super::affine::Affine;
use crate::conv::{Activation, Conv, Depthwise, Direct, MaxPool, Step, Vectors, Window, Winograd};

/// A layer whose weights are not read yet.
pub(super) enum Layer {
    Conv(Box<Convolution>),
    MaxPool(Window),
    GlobalAverage(usize),
    Sum(Activation),
    Pack(usize),
    Unpack(usize),
    /// One after another, image by image.
    Chain(Vec<Layer>),
}

/// A convolution as the graph has it.
pub(super) struct Convolution {
    pub(super) filters: String,
    pub(super) bias: Option<String>,
    /// What is done to its channels then, in this order.
    pub(super) affine: Vec<Affine>,
    pub(super) window: Window,
    pub(super) outputs: usize,
    pub(super) way: Way,
    pub(super) activation: Activation,
}

/// How a convolution is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Winograd,
    Direct,
    /// From an image in planes.
    Planes,
    Depthwise,
}

impl Layer {
    /// The layer with its weights; none where they cannot be read.
    pub(super) fn build(self, graph: &Graph, vectors: Vectors) -> Option<Step> {
        Some(match self {
            Layer::Conv(convolution) => Step::Conv(convolution.build(graph, vectors)?),
            Layer::MaxPool(window) => Step::MaxPool(MaxPool::new(vectors, window)),
            Layer::GlobalAverage(channels) => Step::GlobalAverage { vectors, channels },
            Layer::Sum(activation) => Step::Sum { activation },
            Layer::Pack(channels) => Step::Pack { vectors, channels },
            Layer::Unpack(channels) => Step::Unpack { vectors, channels },
            Layer::Chain(layers) => Step::Chain(
                layers.into_iter().map(|layer| layer.build(graph, vectors)).collect::<Option<_>>()?,
            ),
        })
    }
}

impl Convolution {
    /// Numbers of its weights, for so many channels of input.
    pub(super) fn weights(&self, inputs: usize) -> usize {
        match self.way {
            Way::Winograd => 36 * inputs * self.outputs,
            Way::Direct | Way::Planes => {
                self.window.kernel[0] * self.window.kernel[1] * inputs * self.outputs
            }
            Way::Depthwise => self.window.kernel[0] * self.window.kernel[1] * self.outputs,
        }
    }

    fn build(self, graph: &Graph, vectors: Vectors) -> Option<Conv> {
        let mut filters = graph.floats(&self.filters)?;
        let mut bias = match &self.bias {
            Some(bias) => graph.floats(bias)?,
            None => vec![0.0; self.outputs],
        };
        if bias.len() != self.outputs {
            return None;
        }
        for affine in &self.affine {
            affine.apply(graph, &mut filters, &mut bias)?;
        }
        let Convolution { window, activation, .. } = self;
        Some(match self.way {
            Way::Winograd => Conv::Winograd(Winograd::new(vectors, &filters, &bias, window, activation)),
            Way::Depthwise => Conv::Depthwise(Depthwise::new(vectors, &filters, &bias, window, activation)),
            Way::Direct | Way::Planes => {
                let planes = self.way == Way::Planes;
                Conv::Direct(Direct::new(vectors, &filters, &bias, window, planes, activation))
            }
        })
    }
}
