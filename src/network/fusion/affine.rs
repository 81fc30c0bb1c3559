//! Operations that multiply each channel of a convolution by a factor and add a summand: batch normalisation, and the products
//! and sums that exporters write instead. They are folded into the convolution's weights.

use super::super::constants;
use super::super::graph::Graph;
use super::super::graph::proto::NodeProto;
use super::super::topology::attribute;
use super::attributes::operation;

/// One such operation, by the names of its constants.
pub(super) enum AffineOp {
    Normalise { scale: String, shift: String, mean: String, variance: String, epsilon: f64 },
    Scale(String),
    Shift(String),
}

impl AffineOp {
    /// The operation of `node` on `input`, which has so many channels; `None` if it is another one, or if its constants are not
    /// one for each channel.
    pub(super) fn of(graph: &Graph, node: &NodeProto, input: &str, channels: usize) -> Option<AffineOp> {
        match (operation(node), &node.input[..]) {
            ("BatchNormalization", [first, scale, shift, mean, variance]) if first == input => {
                let constants = [scale, shift, mean, variance];
                let fit = |name: &&String| {
                    let shape = graph.constant(name).and_then(constants::shape);
                    shape.is_some_and(|shape| shape == [channels])
                };
                let epsilon = attribute(node, "epsilon").and_then(|epsilon| epsilon.f).unwrap_or(1e-5);
                constants.iter().all(fit).then(|| AffineOp::Normalise {
                    scale: scale.clone(),
                    shift: shift.clone(),
                    mean: mean.clone(),
                    variance: variance.clone(),
                    epsilon: f64::from(epsilon),
                })
            }
            (operation @ ("Mul" | "Add"), [a, b]) => {
                let constant = if a == input { b } else { a };
                let shape = constants::shape(graph.constant(constant)?)?;
                let by_channel = shape.len() >= 3 && shape[shape.len() - 3] == channels;
                let count = shape.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim))?;
                // A constant of a higher rank would change the shape of the product.
                if shape.len() > 4 || count != 1 && !(by_channel && count == channels) {
                    return None;
                }
                let constant = constant.clone();
                Some(if operation == "Mul" { AffineOp::Scale(constant) } else { AffineOp::Shift(constant) })
            }
            _ => None,
        }
    }

    /// Folds the operation into `filters`, an equal number for each output, and `bias`; `None` if its constants cannot be read.
    pub(super) fn apply(&self, graph: &Graph, filters: &mut [f32], bias: &mut [f32]) -> Option<()> {
        let channels = bias.len();
        let of_channel = |name: &str| -> Option<Vec<f64>> {
            let values = graph.floats(name)?;
            match values[..] {
                [value] => Some(vec![f64::from(value); channels]),
                _ => (values.len() == channels).then(|| values.into_iter().map(f64::from).collect()),
            }
        };
        let ones = || vec![1.0; channels];
        let (scales, shifts) = match self {
            AffineOp::Scale(scale) => (of_channel(scale)?, vec![0.0; channels]),
            AffineOp::Shift(shift) => (ones(), of_channel(shift)?),
            AffineOp::Normalise { scale, shift, mean, variance, epsilon } => {
                let (mut scales, mut shifts) = (of_channel(scale)?, of_channel(shift)?);
                let (means, variances) = (of_channel(mean)?, of_channel(variance)?);
                for (scale, variance) in scales.iter_mut().zip(variances) {
                    *scale /= (variance + epsilon).sqrt();
                }
                for ((shift, mean), scale) in shifts.iter_mut().zip(means).zip(&scales) {
                    *shift -= mean * scale;
                }
                (scales, shifts)
            }
        };
        let of_output = filters.len() / channels.max(1);
        for (filter, scale) in filters.chunks_exact_mut(of_output.max(1)).zip(&scales) {
            for weight in filter {
                *weight = (f64::from(*weight) * scale) as f32;
            }
        }
        for ((bias, scale), shift) in bias.iter_mut().zip(scales).zip(shifts) {
            *bias = (f64::from(*bias) * scale + shift) as f32;
        }
        Some(())
    }
}
