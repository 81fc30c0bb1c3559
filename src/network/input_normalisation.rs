//! Finds the normalisation that a graph does itself, so that it is not done twice.
//!
//! Keras's networks with `Rescaling` and `Normalization` layers, and graphs with added preprocessing, begin with sums and
//! products with constants. These are followed from the input, through `Cast` and `Transpose`, to the first other operation.

use super::graph::Graph;
use super::graph::proto::NodeProto;
use super::topology::{attribute, ints};
use crate::images::TensorLayout;

/// What a graph does to the values of its input before anything else: `x * scale + offset` in each channel, in the order of
/// the input's channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputNormalisation {
    /// Factors.
    pub scale: [f64; 3],
    /// Terms.
    pub offset: [f64; 3],
}

impl InputNormalisation {
    /// Whether it expects levels from 0 to 255, not values from 0 to 1.
    pub fn wants_levels(&self) -> bool {
        let mean = (0..3).map(|channel| -self.offset[channel] / self.scale[channel]).sum::<f64>() / 3.0;
        let scale = self.scale.iter().map(|scale| scale.abs()).sum::<f64>() / 3.0;
        // A mean of levels is near 127, one of values near 0.5. Without a mean, levels become numbers of order one.
        mean > 2.0 || scale < 0.1
    }

    /// In words, such as `(x - 127.5) / 127.5`.
    pub fn describe(&self) -> String {
        let listed = |values: [f64; 3]| {
            let rounded =
                values.map(|value| format!("{:.4}", value).parse::<f64>().unwrap_or(value).to_string());
            if rounded.iter().all(|value| *value == rounded[0]) {
                rounded[0].clone()
            } else {
                rounded.join(" ")
            }
        };
        let mean = std::array::from_fn(|channel| -self.offset[channel] / self.scale[channel]);
        format!("(x - {}) / {}", listed(mean), listed(self.scale.map(|scale| 1.0 / scale)))
    }
}

impl Graph {
    /// The normalisation that the graph begins with; `None` where it begins with something else.
    pub fn input_normalisation(&self) -> Option<InputNormalisation> {
        let mut found = InputNormalisation { scale: [1.0; 3], offset: [0.0; 3] };
        let mut channel_axis = if self.input().layout == TensorLayout::Nchw { 1 } else { 3 };
        let mut tensor = self.input().name.clone();
        // No chain is longer than there are nodes, unless it is a circle.
        for _ in self.nodes() {
            let mut readers = self.nodes().iter().filter(|node| node.input.contains(&tensor));
            let (Some(node), None) = (readers.next(), readers.next()) else { break };
            match node.op_type() {
                "Identity" | "Cast" => {}
                "Transpose" => {
                    let Some(permutation) = ints(node, "perm") else { break };
                    let place = permutation.iter().position(|&from| from == channel_axis);
                    let Some(place) = place else { break };
                    channel_axis = place as i64;
                }
                _ => {
                    let Some((scale, offset)) = self.affine(node, &tensor, channel_axis) else { break };
                    for channel in 0..3 {
                        found.scale[channel] *= scale[channel];
                        found.offset[channel] = found.offset[channel] * scale[channel] + offset[channel];
                    }
                }
            }
            let Some(output) = node.output.first() else { break };
            tensor = output.clone();
        }
        let usable = found.scale.iter().all(|&scale| scale.is_finite() && scale != 0.0)
            && found.offset.iter().all(|offset| offset.is_finite());
        let identity = InputNormalisation { scale: [1.0; 3], offset: [0.0; 3] };
        (usable && found != identity).then_some(found)
    }

    /// Scale and offset of a sum, a product or a batch normalisation of the image `tensor`; `None` for any other node.
    fn affine(&self, node: &NodeProto, tensor: &str, channel_axis: i64) -> Option<([f64; 3], [f64; 3])> {
        if node.op_type() == "BatchNormalization" && channel_axis == 1 {
            let [_, scale, bias, mean, variance] = &node.input[..] else { return None };
            let vector = |name: &str| -> Option<[f64; 3]> {
                <[f32; 3]>::try_from(self.floats(name)?).ok().map(|values| values.map(f64::from))
            };
            let epsilon = attribute(node, "epsilon").and_then(|attribute| attribute.f).unwrap_or(1e-5);
            let (scale, bias, mean, variance) =
                (vector(scale)?, vector(bias)?, vector(mean)?, vector(variance)?);
            let scale: [f64; 3] =
                std::array::from_fn(|c| scale[c] / (variance[c] + f64::from(epsilon)).sqrt());
            return Some((scale, std::array::from_fn(|c| bias[c] - mean[c] * scale[c])));
        }
        let [first, second] = &node.input[..] else { return None };
        let (constant, image_first) = if first == tensor { (second, true) } else { (first, false) };
        let values = self.per_channel(constant, channel_axis)?;
        match node.op_type() {
            "Add" => Some(([1.0; 3], values)),
            "Sub" if image_first => Some(([1.0; 3], values.map(|value| -value))),
            "Mul" => Some((values, [0.0; 3])),
            "Div" if image_first => Some((values.map(|value| 1.0 / value), [0.0; 3])),
            _ => None,
        }
    }

    /// The constant `name` as one number for each channel of an image.
    fn per_channel(&self, name: &str, channel_axis: i64) -> Option<[f64; 3]> {
        let values = self.floats(name)?;
        match values[..] {
            [one] => Some([f64::from(one); 3]),
            [a, b, c] => {
                let shape = self.constant_shape(name)?;
                let place = shape.iter().position(|&side| side == 3)?;
                // Dimensions of less than four count from the last one.
                let axis = 4_usize.checked_sub(shape.len())? + place;
                (axis as i64 == channel_axis).then(|| [a, b, c].map(f64::from))
            }
            _ => None,
        }
    }
}
