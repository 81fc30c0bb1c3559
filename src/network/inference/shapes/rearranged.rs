//! Operations that rearrange numbers or choose among them.

use super::super::super::graph::proto::NodeProto;
use super::super::super::topology::{int, ints};
use super::super::{NodeInputs, TensorFact, axis, axis_of};
use super::{KnownDims, axes, broadcast_pair, whole_dims};

pub(super) fn flatten(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let dims = inputs.dims(0)?;
    let axis = axis_of(node, "axis", 1, dims.len())?;
    Some(vec![dims.get(..axis)?.iter().product(), dims[axis..].iter().product()])
}

pub(super) fn reshape(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let dims = inputs.dims(0)?;
    let target = inputs.whole(1).or_else(|| ints(node, "shape").map(<[i64]>::to_vec))?;
    let keep = int(node, "allowzero") != Some(1);
    let mut shape = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &size) in target.iter().enumerate() {
        match size {
            0 if keep => shape.push(*dims.get(axis)?),
            -1 => {
                open = Some(axis);
                shape.push(1);
            }
            size => shape.push(usize::try_from(size).ok()?),
        }
    }
    let (count, known): (usize, usize) = (dims.iter().product(), shape.iter().product());
    if let Some(open) = open {
        shape[open] = count.checked_div(known)?;
    }
    (shape.iter().product::<usize>() == count).then_some(shape)
}

pub(super) fn transpose(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let dims = inputs.dims(0)?;
    match ints(node, "perm") {
        Some(order) => order.iter().map(|&axis| dims.get(usize::try_from(axis).ok()?).copied()).collect(),
        None => Some(dims.iter().rev().copied().collect()),
    }
}

pub(super) fn squeeze(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let dims = inputs.dims(0)?;
    let axes = axes(node, inputs, 1, dims.len())?;
    let stays = |&(axis, &dim): &(usize, &usize)| match &axes {
        Some(axes) => !axes.contains(&axis),
        None => dim != 1,
    };
    Some(dims.iter().enumerate().filter(stays).map(|(_, &dim)| dim).collect())
}

pub(super) fn unsqueeze(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let dims = inputs.dims(0)?;
    let count = ints(node, "axes").map(<[i64]>::len).or_else(|| Some(inputs.values(1)?.len()))?;
    let rank = dims.len() + count;
    let axes = axes(node, inputs, 1, rank)??;
    let mut rest = dims.iter();
    (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { rest.next().copied() }).collect()
}

pub(super) fn concat(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let mut dims = inputs.dims(0)?.to_vec();
    let axis = axis_of(node, "axis", 1, dims.len())?;
    let mut length = 0;
    for at in 0..node.input.len() {
        let part = inputs.dims(at)?;
        let fits = part.len() == dims.len() && (0..dims.len()).all(|at| at == axis || part[at] == dims[at]);
        length += fits.then(|| part.get(axis).copied()).flatten()?;
    }
    *dims.get_mut(axis)? = length;
    Some(dims)
}

pub(super) fn split(node: &NodeProto, inputs: &NodeInputs) -> Vec<TensorFact> {
    let parts = node.output.len();
    let sizes = || -> Option<(usize, Vec<usize>)> {
        let dims = inputs.dims(0)?;
        let axis = axis_of(node, "axis", 0, dims.len())?;
        let length = *dims.get(axis)?;
        let named = match ints(node, "split") {
            Some(sizes) => Some(sizes.to_vec()),
            None if node.input.len() > 1 => Some(inputs.whole(1)?),
            None => None,
        };
        let sizes = match named {
            Some(sizes) => whole_dims(sizes)?,
            None => {
                let each = length.div_ceil(parts.max(1));
                (0..parts).map(|part| each.min(length.saturating_sub(part * each))).collect()
            }
        };
        Some((axis, sizes))
    };
    let known = sizes();
    let part = |part: usize| {
        let (axis, sizes) = known.as_ref()?;
        let mut dims = inputs.dims(0)?.to_vec();
        dims[*axis] = *sizes.get(part)?;
        Some(dims)
    };
    (0..parts).map(|at| TensorFact::new(inputs.element(0), part(at))).collect()
}

pub(super) fn slice(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    Some(cuts(node, inputs)?.into_iter().map(|cut| cut.count).collect())
}

/// What a slice takes along an axis.
pub(in super::super) struct SliceRange {
    pub(in super::super) start: i64,
    pub(in super::super) step: i64,
    pub(in super::super) count: usize,
}

/// What a slice takes along each axis of its input.
pub(in super::super) fn cuts(node: &NodeProto, inputs: &NodeInputs) -> Option<Vec<SliceRange>> {
    let dims = inputs.dims(0)?;
    let list = |at: usize, name: &str| ints(node, name).map(<[i64]>::to_vec).or_else(|| inputs.whole(at));
    let (starts, ends) = (list(1, "starts")?, list(2, "ends")?);
    let has = |at: usize| node.input.get(at).is_some_and(|name| !name.is_empty());
    let axes = match list(3, "axes") {
        Some(axes) => axes,
        None if has(3) => return None,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match list(4, "steps") {
        Some(steps) => steps,
        None if has(4) => return None,
        None => vec![1; starts.len()],
    };
    let mut cuts: Vec<SliceRange> =
        dims.iter().map(|&count| SliceRange { start: 0, step: 1, count }).collect();
    for (at, &named) in axes.iter().enumerate() {
        let axis = axis(named, dims.len())?;
        let length = i64::try_from(*dims.get(axis)?).ok()?;
        let (start, end, step) = (*starts.get(at)?, *ends.get(at)?, *steps.get(at)?);
        let place = |place: i64| if place < 0 { place.saturating_add(length) } else { place };
        // Backwards, a slice may begin at the last place and end before the first.
        let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let (start, end) =
            (place(start).clamp(least.min(most), most), place(end).clamp(least.min(most), most));
        let (way, stride) = if step > 0 { (end - start, step) } else { (start - end, step.checked_neg()?) };
        let count = way.max(0).checked_add(stride - 1)?.checked_div(stride)?;
        cuts[axis] = SliceRange { start, step, count: usize::try_from(count).ok()? };
    }
    Some(cuts)
}

pub(super) fn gather(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let (dims, indices) = (inputs.dims(0)?, inputs.dims(1)?);
    let axis = axis_of(node, "axis", 0, dims.len())?;
    Some([dims.get(..axis)?, indices, dims.get(axis + 1..)?].concat())
}

pub(super) fn gather_nd(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let (dims, indices) = (inputs.dims(0)?, inputs.dims(1)?);
    let batch = usize::try_from(int(node, "batch_dims").unwrap_or(0)).ok()?;
    let depth = *indices.last()?;
    Some([&indices[..indices.len() - 1], dims.get(batch + depth..)?].concat())
}

pub(super) fn expand(inputs: &NodeInputs) -> KnownDims {
    let target = whole_dims(inputs.whole(1)?)?;
    broadcast_pair(inputs.dims(0), Some(&target))
}

pub(super) fn tile(inputs: &NodeInputs) -> KnownDims {
    let repeats = whole_dims(inputs.whole(1)?)?;
    let dims = inputs.dims(0).filter(|dims| dims.len() == repeats.len())?;
    dims.iter().zip(repeats).map(|(&dim, times)| dim.checked_mul(times)).collect()
}
