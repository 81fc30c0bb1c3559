//! Windows over maps, and maps that are made larger or smaller.

use super::super::super::graph::proto::NodeProto;
use super::super::super::topology::{attribute, int, ints};
use super::super::{NodeInputs, axis};
use super::KnownDims;

pub(super) fn convolution(node: &NodeProto, input: Option<&[usize]>, weights: Option<&[usize]>) -> KnownDims {
    let (input, weights) = (input?, weights?);
    let groups = int(node, "group").unwrap_or(1).max(1) as usize;
    if input.get(1)? != &(weights.get(1)? * groups) {
        return None;
    }
    let kernel: Vec<i64> = weights.get(2..)?.iter().map(|&side| side as i64).collect();
    windows(node, Some(input), Some(&kernel), weights.first().copied())
}

/// Where a window that goes over the map of `input` stops, for each axis of the map.
pub(super) fn windows(
    node: &NodeProto,
    input: Option<&[usize]>,
    kernel: Option<&[i64]>,
    channels: Option<usize>,
) -> KnownDims {
    let (input, kernel) = (input?, kernel?);
    let map = input.get(2..).filter(|map| map.len() == kernel.len())?;
    let auto = attribute(node, "auto_pad").and_then(|attribute| attribute.s.as_deref());
    let each = |name: &str, axis: usize, default: i64| {
        ints(node, name).map_or(Some(default), |values| values.get(axis).copied())
    };
    let length = |axis: usize| {
        let (stride, dilation) = (each("strides", axis, 1)?, each("dilations", axis, 1)?);
        let length = i64::try_from(map[axis]).ok()?;
        let window = dilation.checked_mul(kernel[axis] - 1)?.checked_add(1)?;
        let missing = match auto {
            Some(b"SAME_UPPER" | b"SAME_LOWER") => {
                return usize::try_from((length + stride - 1).checked_div(stride)?).ok();
            }
            Some(b"VALID") => 0,
            _ => each("pads", axis, 0)?.checked_add(each("pads", axis + map.len(), 0)?)?,
        };
        let room = length.checked_add(missing)?.checked_sub(window).filter(|&room| room >= 0)?;
        let mut steps = room.checked_div(stride)?;
        if int(node, "ceil_mode") == Some(1) && room % stride != 0 {
            // A window that would begin in the padding behind the map is left out.
            let start = (steps + 1).checked_mul(stride)?;
            steps += i64::from(start < length + each("pads", axis, 0)?);
        }
        usize::try_from(steps + 1).ok()
    };
    let map: KnownDims = (0..map.len()).map(length).collect();
    Some([&[*input.first()?, channels?][..], &map?].concat())
}

pub(super) fn pad(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let mut dims = inputs.dims(0)?.to_vec();
    let own = ints(node, "pads").or_else(|| ints(node, "paddings")).map(<[i64]>::to_vec);
    let pads = own.or_else(|| inputs.whole(1))?;
    let rank = dims.len();
    let has_axes = node.input.get(3).is_some_and(|name| !name.is_empty());
    let axes: Vec<usize> = match has_axes {
        true => inputs.whole(3)?.into_iter().map(|named| axis(named, rank)).collect::<Option<_>>()?,
        false => (0..rank).collect(),
    };
    for (at, &axis) in axes.iter().enumerate() {
        let added = pads.get(at)?.checked_add(*pads.get(at + axes.len())?)?;
        let dim = dims.get_mut(axis)?;
        *dim = usize::try_from(i64::try_from(*dim).ok()?.checked_add(added)?).ok()?;
    }
    Some(dims)
}

pub(super) fn resize(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let mut dims = inputs.dims(0)?.to_vec();
    let policy = attribute(node, "keep_aspect_ratio_policy").and_then(|attribute| attribute.s.as_deref());
    if policy.is_some_and(|policy| policy != b"stretch") {
        return None;
    }
    let axes: Vec<usize> = match ints(node, "axes") {
        Some(named) => named.iter().map(|&named| axis(named, dims.len())).collect::<Option<_>>()?,
        None => (0..dims.len()).collect(),
    };
    let sizes = inputs.whole(3).filter(|sizes| !sizes.is_empty());
    if let Some(sizes) = sizes {
        for (&axis, size) in axes.iter().zip(sizes) {
            *dims.get_mut(axis)? = usize::try_from(size).ok()?;
        }
        return Some(dims);
    }
    if node.input.get(3).is_some_and(|name| !name.is_empty()) {
        return None;
    }
    let own =
        attribute(node, "scales").map(|attribute| attribute.floats.iter().map(|&x| f64::from(x)).collect());
    let at = if node.input.len() > 2 { 2 } else { 1 };
    let scales: Vec<f64> = own.or_else(|| inputs.values(at).map(<[f64]>::to_vec))?;
    if scales.len() != axes.len() {
        return None;
    }
    for (&axis, scale) in axes.iter().zip(scales) {
        let dim = dims.get_mut(axis)?;
        *dim = (*dim as f64 * scale).floor() as usize;
    }
    Some(dims)
}

pub(super) fn blocks(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let &[batch, channels, height, width] = inputs.dims(0)? else { return None };
    let side = usize::try_from(int(node, "blocksize")?).ok()?;
    let area = side.checked_mul(side).filter(|&area| area > 0)?;
    Some(match node.op_type() {
        "SpaceToDepth" => vec![batch, channels.checked_mul(area)?, height / side, width / side],
        _ => vec![batch, channels / area, height.checked_mul(side)?, width.checked_mul(side)?],
    })
}
