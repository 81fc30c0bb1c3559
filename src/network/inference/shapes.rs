//! What ONNX's operations make of shapes and element types (<https://onnx.ai/onnx/operators/>).

mod maps;
mod rearranged;

use super::super::graph::proto::{NodeProto, tensor_proto::DataType};
use super::super::topology::{attribute, int, ints};
use super::{NodeInputs, TensorFact, axis, axis_of};
use maps::{blocks, convolution, pad, resize, windows};
pub(super) use rearranged::cuts;
use rearranged::{
    concat, expand, flatten, gather, gather_nd, reshape, slice, split, squeeze, tile, transpose, unsqueeze,
};

type KnownDims = Option<Vec<usize>>;

/// What is known of the outputs of `node`.
pub(super) fn infer(node: &NodeProto, inputs: &NodeInputs, opset: i64) -> Vec<TensorFact> {
    let element = inputs.element(0);
    let as_input = |dims: KnownDims| vec![TensorFact::new(element, dims)];
    let of = |element: DataType, dims: KnownDims| vec![TensorFact::new(Some(element), dims)];
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
            vec![TensorFact::new(to, same())]
        }
        "CastLike" => vec![TensorFact::new(inputs.element(1), same())],
        "Not" | "IsNaN" | "IsInf" => of(DataType::Bool, same()),
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "And" | "Or" | "Xor" => {
            of(DataType::Bool, broadcast(inputs, all))
        }
        "Where" => vec![TensorFact::new(inputs.element(1), broadcast(inputs, all))],
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "Mean" | "Sum" | "PRelu" => {
            // Before opset 7 the second input was fitted to the first.
            as_input(if opset < 7 { same() } else { broadcast(inputs, all) })
        }
        "QLinearAdd" | "QLinearMul" => as_input(broadcast_pair(inputs.dims(0), inputs.dims(3))),
        "QuantizeLinear" => {
            let zero_point = inputs.element(2);
            vec![TensorFact::new(zero_point.or(Some(DataType::Uint8)), same())]
        }
        "DequantizeLinear" => vec![TensorFact::new(inputs.element(1), same())],
        "DynamicQuantizeLinear" => vec![
            TensorFact::new(Some(DataType::Uint8), same()),
            TensorFact::new(Some(DataType::Float), Some(Vec::new())),
            TensorFact::new(Some(DataType::Uint8), Some(Vec::new())),
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
            vec![TensorFact::new(element, dims.clone()), TensorFact::new(Some(DataType::Int64), dims)]
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
            vec![TensorFact::new(element, inputs.whole(0).and_then(whole_dims))]
        }
        "Range" => as_input(range(inputs)),
        "Einsum" => as_input(einsum(node, inputs)),
        "Dropout" => vec![TensorFact::new(element, same()), TensorFact::new(Some(DataType::Bool), same())],
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
fn whole_dims(sizes: Vec<i64>) -> KnownDims {
    sizes.into_iter().map(|size| usize::try_from(size).ok()).collect()
}

fn broadcast(inputs: &NodeInputs, of: std::ops::Range<usize>) -> KnownDims {
    let mut dims: Vec<usize> = Vec::new();
    for at in of {
        dims = broadcast_pair(Some(&dims), inputs.dims(at))?;
    }
    Some(dims)
}

/// NumPy's rule: aligned at the end, and a dimension of one fits any.
fn broadcast_pair(a: Option<&[usize]>, b: Option<&[usize]>) -> KnownDims {
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

fn product(a: Option<&[usize]>, b: Option<&[usize]>) -> KnownDims {
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

fn gemm(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let (&[a, b], &[c, d]) = (inputs.dims(0)?, inputs.dims(1)?) else { return None };
    let (rows, inner) = if int(node, "transA") == Some(1) { (b, a) } else { (a, b) };
    let (other, columns) = if int(node, "transB") == Some(1) { (d, c) } else { (c, d) };
    (inner == other).then(|| vec![rows, columns])
}

/// The axes that a node names, by an attribute or by its input `at`.
fn axes(node: &NodeProto, inputs: &NodeInputs, at: usize, rank: usize) -> Option<Option<Vec<usize>>> {
    let named = match ints(node, "axes") {
        Some(axes) => axes.to_vec(),
        None if node.input.get(at).is_some_and(|name| !name.is_empty()) => inputs.whole(at)?,
        None => return Some(None),
    };
    named.into_iter().map(|named| axis(named, rank)).collect::<Option<_>>().map(Some)
}

fn reduce(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
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

fn arg(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
    let mut dims = inputs.dims(0)?.to_vec();
    let axis = axis_of(node, "axis", 0, dims.len()).filter(|&axis| axis < dims.len())?;
    match int(node, "keepdims") {
        Some(0) => drop(dims.remove(axis)),
        _ => dims[axis] = 1,
    }
    Some(dims)
}

fn range(inputs: &NodeInputs) -> KnownDims {
    let one = |at: usize| inputs.values(at)?.first().copied();
    let count = ((one(1)? - one(0)?) / one(2)?).ceil();
    (count.is_finite() && count < 1e9).then(|| vec![count.max(0.0) as usize])
}

fn attention(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
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
fn einsum(node: &NodeProto, inputs: &NodeInputs) -> KnownDims {
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
