//! A fused layer before and after its weights are read.

use super::super::graph::Graph;
use super::affine::AffineOp;
use cnncodes_convolution::{
    Activation, Conv, Depthwise, Direct, LayerOp, MaxPool, SimdIsa, Window, Winograd,
};

/// A layer whose weights are not read yet.
pub(super) enum FusedLayer {
    Conv(Box<Convolution>),
    MaxPool(Window),
    GlobalAverage(usize),
    Sum(Activation),
    Pack(usize),
    Unpack(usize),
    /// One after another, image by image.
    Chain(Vec<FusedLayer>),
}

/// A convolution as the graph has it.
pub(super) struct Convolution {
    pub(super) filters: String,
    pub(super) bias: Option<String>,
    /// The operations on its channels after it, in order.
    pub(super) affine: Vec<AffineOp>,
    pub(super) window: Window,
    pub(super) outputs: usize,
    pub(super) algorithm: ConvAlgorithm,
    pub(super) activation: Activation,
}

/// How a convolution is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConvAlgorithm {
    Winograd,
    Direct,
    /// From an image in planes.
    Planes,
    Depthwise,
}

impl FusedLayer {
    /// The layer with its weights; none where they cannot be read.
    pub(super) fn build(self, graph: &Graph, isa: SimdIsa) -> Option<LayerOp> {
        Some(match self {
            FusedLayer::Conv(convolution) => LayerOp::Conv(convolution.build(graph, isa)?),
            FusedLayer::MaxPool(window) => LayerOp::MaxPool(MaxPool::new(isa, window)),
            FusedLayer::GlobalAverage(channels) => LayerOp::GlobalAverage { isa, channels },
            FusedLayer::Sum(activation) => LayerOp::Sum { activation },
            FusedLayer::Pack(channels) => LayerOp::Pack { isa, channels },
            FusedLayer::Unpack(channels) => LayerOp::Unpack { isa, channels },
            FusedLayer::Chain(layers) => LayerOp::Chain(
                layers.into_iter().map(|layer| layer.build(graph, isa)).collect::<Option<_>>()?,
            ),
        })
    }
}

impl Convolution {
    /// Numbers of its weights, for so many channels of input.
    pub(super) fn weights(&self, inputs: usize) -> usize {
        match self.algorithm {
            ConvAlgorithm::Winograd => 36 * inputs * self.outputs,
            ConvAlgorithm::Direct | ConvAlgorithm::Planes => {
                self.window.kernel[0] * self.window.kernel[1] * inputs * self.outputs
            }
            ConvAlgorithm::Depthwise => self.window.kernel[0] * self.window.kernel[1] * self.outputs,
        }
    }

    fn build(self, graph: &Graph, isa: SimdIsa) -> Option<Conv> {
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
        Some(match self.algorithm {
            ConvAlgorithm::Winograd => {
                Conv::Winograd(Winograd::new(isa, &filters, &bias, window, activation))
            }
            ConvAlgorithm::Depthwise => {
                Conv::Depthwise(Depthwise::new(isa, &filters, &bias, window, activation))
            }
            ConvAlgorithm::Direct | ConvAlgorithm::Planes => {
                let planes = self.algorithm == ConvAlgorithm::Planes;
                Conv::Direct(Direct::new(isa, &filters, &bias, window, planes, activation))
            }
        })
    }
}
