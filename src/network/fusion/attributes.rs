//! Reads the attributes of ONNX nodes that layers need.

use super::super::graph::Graph;
use super::super::graph::proto::NodeProto;
use super::super::topology::{attribute, ints};
use super::planner::MapShape;
use cnncodes_convolution::{Activation, Window};

/// The operator of a node; the empty text if it is not of ONNX's own domain.
pub(super) fn operation(node: &NodeProto) -> &str {
    if matches!(node.domain(), "" | "ai.onnx") { node.op_type() } else { "" }
}

/// The largest window, stride or padding.
const LARGEST: usize = 1 << 15;

/// The window of a convolution or pooling over `map`; `None` if it is dilated, or if the strides of rows and columns differ.
pub(super) fn window(node: &NodeProto, kernel: &[i64], map: Option<MapShape>) -> Option<Window> {
    // No network has larger ones, and sums of these do not overflow.
    let whole = |value: i64| usize::try_from(value).ok().filter(|&value| value <= LARGEST);
    let [height, width] = *kernel else { return None };
    let kernel = [whole(height)?, whole(width)?];
    let stride = match ints(node, "strides") {
        None => 1,
        Some(&[down, along]) if down == along && down > 0 => whole(down)?,
        Some(_) => return None,
    };
    if ints(node, "dilations").is_some_and(|dilations| dilations.iter().any(|&dilation| dilation != 1)) {
        return None;
    }
    let auto = attribute(node, "auto_pad");
    let auto = auto.and_then(|attribute| attribute.s.as_deref()).unwrap_or(b"NOTSET");
    let pads = match auto {
        b"NOTSET" | b"" => match ints(node, "pads") {
            None => [0; 4],
            Some(&[top, left, bottom, right]) => [whole(top)?, whole(left)?, whole(bottom)?, whole(right)?],
            Some(_) => return None,
        },
        b"VALID" => [0; 4],
        b"SAME_UPPER" | b"SAME_LOWER" => {
            let [_, height, width] = map?;
            let missing = |length: usize, kernel: usize| {
                ((length.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(length)
            };
            let [down, along] = [missing(height, kernel[0]), missing(width, kernel[1])];
            let smaller = [down / 2, along / 2];
            let larger = [down - down / 2, along - along / 2];
            let (first, second) = if auto == b"SAME_UPPER" { (smaller, larger) } else { (larger, smaller) };
            [first[0], first[1], second[0], second[1]]
        }
        _ => return None,
    };
    // A window may lie in the padding alone. No network needs it, and it would take room.
    let [top, left, bottom, right] = pads;
    if top.max(bottom) >= kernel[0] || left.max(right) >= kernel[1] {
        return None;
    }
    Some(Window { kernel, stride, pads })
}

/// The activation function of a node; `None` for an unknown one, or one whose bounds are not constant.
pub(super) fn activation(graph: &Graph, node: &NodeProto) -> Option<Activation> {
    match operation(node) {
        "Relu" => Some(Activation::RELU),
        "Clip" => {
            let bound = |index: usize, name: &str, default: f32| match node.input.get(index) {
                Some(input) if !input.is_empty() => graph.floats(input)?.first().copied(),
                _ => Some(attribute(node, name).and_then(|attribute| attribute.f).unwrap_or(default)),
            };
            let Activation { least, most } = Activation::NONE;
            let clip = Activation { least: bound(1, "min", least)?, most: bound(2, "max", most)? };
            (clip.least <= clip.most).then_some(clip)
        }
        _ => None,
    }
}
