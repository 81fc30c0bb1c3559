//! What ONNX's operations make of shapes and element types (<https://onnx.ai/onnx/operators/>).

use super::super::graph::proto::{NodeProto, tensor_proto::DataType};
use super::super::topology::{attribute, int, ints};
use super::{Fact, Inputs, axis, axis_of};

type Dims = Option<Vec<usize>>;

/// What is known of the outputs of `node`.
pub(super) fn infer(node: &NodeProto, inputs: &Inputs, opset: i64) -> Vec<Fact> {
    let element = inputs.element(0);
    let as_input = |dims: Dims| vec![Fact::new(element, dims)];
    let of = |element: DataType, dims: Dims| vec![Fact::new(Some(element), dims)];
    let same = || inputs.dims(0).map(<[usize]>::to_vec);
    let all = 0..node.input.len();
    match node.op_type() {
        "Shape" => {
            let rank = inputs.dims(0).map(<[usize]>::len);
            let place = |at: i64, rank: usize| {
                let rank = rank as i64;
                (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize
            };
            let length = rank.map(|rank| {
                let end = int(node, "end").unwrap_or(rank as i64);
                place(end, rank).saturating_sub(place(int(node, "start").unwrap_or(0), rank))
            });
            of(DataType::Int64, length.map(|length| vec![length]))
        }
        "Size" => of(DataType::Int64, Some(Vec::new())),
        "Cast" => {
            let to = int(node, "to").and_then(|to| DataType::try_from(i32::try_from(to).ok()?).ok());
            vec![Fact::new(to, same())]
        }
        "CastLike" => vec![Fact::new(inputs.element(1), same())],
        "Not" | "IsNaN" | "IsInf" => of(DataType::Bool, same()),
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "And" | "Or" | "Xor" => {
            of(DataType::Bool, broadcast(inputs, all))
        }
        "Where" => vec![Fact::new(inputs.element(1), broadcast(inputs, all))],
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "Mean" | "Sum" | "PRelu" => {
            // Before opset 7 the second input was fitted to the first.
            as_input(if opset < 7 { same() } else { broadcast(inputs, all) })
        }
        "QLinearAdd" | "QLinearMul" => as_input(broadcast_pair(inputs.dims(0), inputs.dims(3))),
        "QuantizeLinear" => {
            let zero_point = inputs.element(2);
            vec![Fact::new(zero_point.or(Some(DataType::Uint8)), same())]
        }
        "DequantizeLinear" => vec![Fact::new(inputs.element(1), same())],
        "DynamicQuantizeLinear" => vec![
            Fact::new(Some(DataType::Uint8), same()),
            Fact::new(Some(DataType::Float), Some(Vec::new())),
            Fact::new(Some(DataType::Uint8), Some(Vec::new())),
        ],
        "MatMul" => as_input(product(inputs.dims(0), inputs.dims(1))),
        "MatMulInteger" => of(DataType::Int32, product(inputs.dims(0), inputs.dims(1))),
        "QLinearMatMul" => as_input(product(inputs.dims(0), inputs.dims(3))),
        "Gemm" => as_input(gemm(node, inputs)),
        "Conv" => as_input(convolution(node, inputs.dims(0), inputs.dims(1))),
        "ConvInteger" => of(DataType::Int32, convolution(node, inputs.dims(0), inputs.dims(1))),
        "QLinearConv" => as_input(convolution(node, inputs.dims(0), inputs.dims(3))),
        "MaxPool" | "AveragePool" | "LpPool" | "QLinearAveragePool" => {
            let kernel = ints(node, "kernel_shape").map(<[i64]>::to_vec);
            let channels = inputs.dims(0).and_then(|dims| dims.get(1).copied());
            let dims = windows(node, inputs.dims(0), kernel.as_deref(), channels);
            vec![Fact::new(element, dims.clone()), Fact::new(Some(DataType::Int64), dims)]
        }
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" | "QLinearGlobalAveragePool" => {
            as_input(same().map(|dims| {
                dims.iter().enumerate().map(|(axis, &dim)| if axis < 2 { dim } else { 1 }).collect()
            }))
        }
        "Flatten" => as_input(flatten(node, inputs)),
        "Reshape" => as_input(reshape(node, inputs)),
        "Transpose" => as_input(transpose(node, inputs)),
        "Squeeze" => as_input(squeeze(node, inputs)),
        "Unsqueeze" => as_input(unsqueeze(node, inputs)),
        "Concat" => as_input(concat(node, inputs)),
        "Split" => split(node, inputs),
        "Slice" => as_input(slice(node, inputs)),
        "Gather" => as_input(gather(node, inputs)),
        "GatherElements" => as_input(inputs.dims(1).map(<[usize]>::to_vec)),
        "GatherND" => as_input(gather_nd(node, inputs)),
        "Expand" => as_input(expand(inputs)),
        "Tile" => as_input(tile(inputs)),
        "Pad" => as_input(pad(node, inputs)),
        "Resize" | "Upsample" => as_input(resize(node, inputs)),
        "SpaceToDepth" | "DepthToSpace" => as_input(blocks(node, inputs)),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => as_input(reduce(node, inputs)),
        "ArgMax" | "ArgMin" => of(DataType::Int64, arg(node, inputs)),
        "ConstantOfShape" => {
            let value = attribute(node, "value").and_then(|attribute| attribute.t.as_ref());
            let element =
                value.map_or(Some(DataType::Float), |tensor| DataType::try_from(tensor.data_type()).ok());
            vec![Fact::new(element, inputs.whole(0).and_then(whole_dims))]
        }
        "Range" => as_input(range(inputs)),
        "Einsum" => as_input(einsum(node, inputs)),
        "Dropout" => vec![Fact::new(element, same()), Fact::new(Some(DataType::Bool), same())],
        "LayerNormalization" | "RMSNormalization" | "BatchNormalization" | "SimplifiedLayerNormalization" => {
            as_input(same())
        }
        // The first input's batch and length, and the width of the heads together.
        "Attention" => as_input(attention(node, inputs)),
        "MultiHeadAttention" if node.domain() == "com.microsoft" => as_input(same()),
        "Identity"
        | "Relu"
        | "LeakyRelu"
        | "Sigmoid"
        | "Tanh"
        | "Erf"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Neg"
        | "Abs"
        | "Reciprocal"
        | "Floor"
        | "Ceil"
        | "Round"
        | "Sign"
        | "Softplus"
        | "Softsign"
        | "Elu"
        | "Selu"
        | "Celu"
        | "HardSigmoid"
        | "HardSwish"
        | "Gelu"
        | "FastGelu"
        | "QuickGelu"
        | "BiasGelu"
        | "Mish"
        | "Swish"
        | "ThresholdedRelu"
        | "Clip"
        | "Softmax"
        | "LogSoftmax"
        | "Hardmax"
        | "GroupNormalization"
        | "InstanceNormalization"
        | "LRN"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "Sin"
        | "Cos"
        | "Tan"
        | "Asin"
        | "Acos"
        | "Atan"
        | "Sinh"
        | "Cosh"
        | "CumSum"
        | "Trilu"
        | "ScatterND"
        | "ScatterElements"
        | "Scatter"
        | "QLinearSigmoid"
        | "QLinearLeakyRelu"
        | "QLinearSoftmax" => as_input(same()),
        _ => Vec::new(),
    }
}

/// Sizes as dimensions; none where one is negative.
fn whole_dims(sizes: Vec<i64>) -> Dims {
    sizes.into_iter().map(|size| usize::try_from(size).ok()).collect()
}

fn broadcast(inputs: &Inputs, of: std::ops::Range<usize>) -> Dims {
    let mut dims: Vec<usize> = Vec::new();
    for at in of {
        dims = broadcast_pair(Some(&dims), inputs.dims(at))?;
    }
    Some(dims)
}

/// NumPy's rule: aligned at the end, and a dimension of one fits any.
fn broadcast_pair(a: Option<&[usize]>, b: Option<&[usize]>) -> Dims {
    let (a, b) = (a?, b?);
    let rank = a.len().max(b.len());
    let dim = |dims: &[usize], axis: usize| match (axis + dims.len()).checked_sub(rank) {
        Some(at) => dims[at],
        None => 1,
    };
    let both = |axis: usize| match (dim(a, axis), dim(b, axis)) {
        (1, other) | (other, 1) => Some(other),
        (one, other) => (one == other).then_some(one),
    };
    (0..rank).map(both).collect()
}

fn product(a: Option<&[usize]>, b: Option<&[usize]>) -> Dims {
    let (a, b) = (a?, b?);
    match (a, b) {
        ([.., inner], [other]) => (inner == other).then(|| a[..a.len() - 1].to_vec()),
        ([inner], [.., other, columns]) => {
            (inner == other).then(|| [&b[..b.len() - 2], &[*columns]].concat())
        }
        ([.., rows, inner], [.., other, columns]) if inner == other => {
            let batch = broadcast_pair(Some(&a[..a.len() - 2]), Some(&b[..b.len() - 2]))?;
            Some([&batch[..], &[*rows, *columns]].concat())
        }
        _ => None,
    }
}

fn gemm(node: &NodeProto, inputs: &Inputs) -> Dims {
    let (&[a, b], &[c, d]) = (inputs.dims(0)?, inputs.dims(1)?) else { return None };
    let (rows, inner) = if int(node, "transA") == Some(1) { (b, a) } else { (a, b) };
    let (other, columns) = if int(node, "transB") == Some(1) { (d, c) } else { (c, d) };
    (inner == other).then(|| vec![rows, columns])
}

fn convolution(node: &NodeProto, input: Option<&[usize]>, weights: Option<&[usize]>) -> Dims {
    let (input, weights) = (input?, weights?);
    let groups = int(node, "group").unwrap_or(1).max(1) as usize;
    if input.get(1)? != &(weights.get(1)? * groups) {
        return None;
    }
    let kernel: Vec<i64> = weights.get(2..)?.iter().map(|&side| side as i64).collect();
    windows(node, Some(input), Some(&kernel), weights.first().copied())
}

/// Where a window that goes over the map of `input` stops, for each axis of the map.
fn windows(
    node: &NodeProto,
    input: Option<&[usize]>,
    kernel: Option<&[i64]>,
    channels: Option<usize>,
) -> Dims {
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
    let map: Dims = (0..map.len()).map(length).collect();
    Some([&[*input.first()?, channels?][..], &map?].concat())
}

fn flatten(node: &NodeProto, inputs: &Inputs) -> Dims {
    let dims = inputs.dims(0)?;
    let axis = axis_of(node, "axis", 1, dims.len())?;
    Some(vec![dims.get(..axis)?.iter().product(), dims[axis..].iter().product()])
}

fn reshape(node: &NodeProto, inputs: &Inputs) -> Dims {
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

fn transpose(node: &NodeProto, inputs: &Inputs) -> Dims {
    let dims = inputs.dims(0)?;
    match ints(node, "perm") {
        Some(order) => order.iter().map(|&axis| dims.get(usize::try_from(axis).ok()?).copied()).collect(),
        None => Some(dims.iter().rev().copied().collect()),
    }
}

/// The axes that a node names, by an attribute or by its input `at`.
fn axes(node: &NodeProto, inputs: &Inputs, at: usize, rank: usize) -> Option<Option<Vec<usize>>> {
    let named = match ints(node, "axes") {
        Some(axes) => axes.to_vec(),
        None if node.input.get(at).is_some_and(|name| !name.is_empty()) => inputs.whole(at)?,
        None => return Some(None),
    };
    named.into_iter().map(|named| axis(named, rank)).collect::<Option<_>>().map(Some)
}

fn squeeze(node: &NodeProto, inputs: &Inputs) -> Dims {
    let dims = inputs.dims(0)?;
    let axes = axes(node, inputs, 1, dims.len())?;
    let stays = |&(axis, &dim): &(usize, &usize)| match &axes {
        Some(axes) => !axes.contains(&axis),
        None => dim != 1,
    };
    Some(dims.iter().enumerate().filter(stays).map(|(_, &dim)| dim).collect())
}

fn unsqueeze(node: &NodeProto, inputs: &Inputs) -> Dims {
    let dims = inputs.dims(0)?;
    let count = ints(node, "axes").map(<[i64]>::len).or_else(|| Some(inputs.values(1)?.len()))?;
    let rank = dims.len() + count;
    let axes = axes(node, inputs, 1, rank)??;
    let mut rest = dims.iter();
    (0..rank).map(|axis| if axes.contains(&axis) { Some(1) } else { rest.next().copied() }).collect()
}

fn concat(node: &NodeProto, inputs: &Inputs) -> Dims {
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

fn split(node: &NodeProto, inputs: &Inputs) -> Vec<Fact> {
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
    (0..parts).map(|at| Fact::new(inputs.element(0), part(at))).collect()
}

fn slice(node: &NodeProto, inputs: &Inputs) -> Dims {
    Some(cuts(node, inputs)?.into_iter().map(|cut| cut.count).collect())
}

/// What a slice takes along an axis.
pub(super) struct Cut {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) count: usize,
}

/// What a slice takes along each axis of its input.
pub(super) fn cuts(node: &NodeProto, inputs: &Inputs) -> Option<Vec<Cut>> {
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
    let mut cuts: Vec<Cut> = dims.iter().map(|&count| Cut { start: 0, step: 1, count }).collect();
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
        cuts[axis] = Cut { start, step, count: usize::try_from(count).ok()? };
    }
    Some(cuts)
}

fn gather(node: &NodeProto, inputs: &Inputs) -> Dims {
    let (dims, indices) = (inputs.dims(0)?, inputs.dims(1)?);
    let axis = axis_of(node, "axis", 0, dims.len())?;
    Some([dims.get(..axis)?, indices, dims.get(axis + 1..)?].concat())
}

fn gather_nd(node: &NodeProto, inputs: &Inputs) -> Dims {
    let (dims, indices) = (inputs.dims(0)?, inputs.dims(1)?);
    let batch = usize::try_from(int(node, "batch_dims").unwrap_or(0)).ok()?;
    let depth = *indices.last()?;
    Some([&indices[..indices.len() - 1], dims.get(batch + depth..)?].concat())
}

fn expand(inputs: &Inputs) -> Dims {
    let target = whole_dims(inputs.whole(1)?)?;
    broadcast_pair(inputs.dims(0), Some(&target))
}

fn tile(inputs: &Inputs) -> Dims {
    let repeats = whole_dims(inputs.whole(1)?)?;
    let dims = inputs.dims(0).filter(|dims| dims.len() == repeats.len())?;
    dims.iter().zip(repeats).map(|(&dim, times)| dim.checked_mul(times)).collect()
}

fn pad(node: &NodeProto, inputs: &Inputs) -> Dims {
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

fn resize(node: &NodeProto, inputs: &Inputs) -> Dims {
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

fn blocks(node: &NodeProto, inputs: &Inputs) -> Dims {
    let &[batch, channels, height, width] = inputs.dims(0)? else { return None };
    let side = usize::try_from(int(node, "blocksize")?).ok()?;
    let area = side.checked_mul(side).filter(|&area| area > 0)?;
    Some(match node.op_type() {
        "SpaceToDepth" => vec![batch, channels.checked_mul(area)?, height / side, width / side],
        _ => vec![batch, channels / area, height.checked_mul(side)?, width.checked_mul(side)?],
    })
}

fn reduce(node: &NodeProto, inputs: &Inputs) -> Dims {
    let dims = inputs.dims(0)?;
    let keep = int(node, "keepdims") != Some(0);
    let axes = axes(node, inputs, 1, dims.len())?.filter(|axes| !axes.is_empty());
    let gone = match axes {
        Some(axes) => axes,
        None if int(node, "noop_with_empty_axes") == Some(1) => Vec::new(),
        None => (0..dims.len()).collect(),
    };
    let left = dims.iter().enumerate().filter_map(|(axis, &dim)| match gone.contains(&axis) {
        true => keep.then_some(1),
        false => Some(dim),
    });
    Some(left.collect())
}

fn arg(node: &NodeProto, inputs: &Inputs) -> Dims {
    let mut dims = inputs.dims(0)?.to_vec();
    let axis = axis_of(node, "axis", 0, dims.len()).filter(|&axis| axis < dims.len())?;
    match int(node, "keepdims") {
        Some(0) => drop(dims.remove(axis)),
        _ => dims[axis] = 1,
    }
    Some(dims)
}

fn range(inputs: &Inputs) -> Dims {
    let one = |at: usize| inputs.values(at)?.first().copied();
    let count = ((one(1)? - one(0)?) / one(2)?).ceil();
    (count.is_finite() && count < 1e9).then(|| vec![count.max(0.0) as usize])
}

fn attention(node: &NodeProto, inputs: &Inputs) -> Dims {
    let mut dims = inputs.dims(0)?.to_vec();
    if node.domain() == "com.microsoft" {
        // Width of query, key and value together, by the weights.
        *dims.last_mut()? = inputs.dims(1)?.last()? / 3;
        return Some(dims);
    }
    let values = inputs.dims(2)?;
    let (last, width) = (dims.len().checked_sub(1)?, *values.last()?);
    dims[last] = match dims.len() {
        3 => {
            let heads = |name: &str| usize::try_from(int(node, name)?).ok().filter(|&heads| heads > 0);
            width / heads("kv_num_heads")? * heads("q_num_heads")?
        }
        _ => width,
    };
    Some(dims)
}

/// `equation` such as `bhid,bhjd->bhij`; none with an ellipsis.
fn einsum(node: &NodeProto, inputs: &Inputs) -> Dims {
    let equation = attribute(node, "equation")?.s.as_deref()?;
    let equation: String = std::str::from_utf8(equation).ok()?.split_whitespace().collect();
    let (from, to) = equation.split_once("->")?;
    let mut sizes: Vec<(char, usize)> = Vec::new();
    for (at, term) in from.split(',').enumerate() {
        let dims = inputs.dims(at).filter(|dims| dims.len() == term.len())?;
        sizes.extend(term.chars().zip(dims.iter().copied()));
    }
    to.chars().map(|letter| sizes.iter().find(|(known, _)| *known == letter).map(|(_, size)| *size)).collect()
}
