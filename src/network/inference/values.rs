//! Carries out the small computations of a graph on sizes, axes and indices, which exporters write as operations.

use super::super::graph::Graph;
use super::super::graph::proto::{NodeProto, TensorProto, tensor_proto::DataType};
use super::super::topology::{attribute, int, ints};
use super::shapes::cuts;
use super::{MOST_VALUES, NodeInputs, TensorFact, axis_of};

/// The numbers of a constant tensor of `count` numbers.
pub(super) fn of_tensor(
    tensor: &TensorProto,
    element: DataType,
    count: usize,
    graph: Option<&Graph>,
) -> Option<Vec<f64>> {
    let width = match element {
        DataType::Int64 | DataType::Double => 8,
        DataType::Int32 | DataType::Float => 4,
        DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
        _ => return None,
    };
    let outside;
    let bytes: &[u8] = match &tensor.raw_data {
        Some(bytes) => bytes,
        None if !tensor.external_data.is_empty() => {
            outside = graph?.external(tensor, count.checked_mul(width)?)?;
            &outside
        }
        None => {
            return Some(match element {
                DataType::Int64 => tensor.int64_data.iter().map(|&value| value as f64).collect(),
                DataType::Float => tensor.float_data.iter().map(|&value| f64::from(value)).collect(),
                DataType::Double => tensor.double_data.clone(),
                _ => tensor.int32_data.iter().map(|&value| f64::from(value)).collect(),
            });
        }
    };
    Some(match element {
        DataType::Int64 => {
            bytes.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as f64).collect()
        }
        DataType::Double => bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        DataType::Int32 => {
            bytes.as_chunks().0.iter().map(|&bytes| f64::from(i32::from_le_bytes(bytes))).collect()
        }
        DataType::Float => {
            bytes.as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect()
        }
        DataType::Int8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
        _ => bytes.iter().map(|&byte| f64::from(byte)).collect(),
    })
}

/// The numbers of the first output of `node`, whose shape and type are known to be `output`'s.
pub(super) fn compute(node: &NodeProto, inputs: &NodeInputs, output: &TensorFact) -> Option<Vec<f64>> {
    let dims = output.dims.as_deref()?;
    let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim))?;
    if count > MOST_VALUES {
        return None;
    }
    let unary = |function: &dyn Fn(f64) -> f64| -> Option<Vec<f64>> {
        Some(inputs.values(0)?.iter().map(|&value| function(value)).collect())
    };
    let binary = |function: &dyn Fn(f64, f64) -> f64| -> Option<Vec<f64>> {
        let (a, b) = (spread(inputs, 0, dims)?, spread(inputs, 1, dims)?);
        Some(a.into_iter().zip(b).map(|(a, b)| function(a, b)).collect())
    };
    let truth = |condition: bool| if condition { 1.0 } else { 0.0 };
    let is_whole = output.element.is_some_and(|element| !super::is_float(element));
    let values: Vec<f64> = match node.op_type() {
        "Shape" => {
            let dims = inputs.dims(0)?;
            let rank = dims.len() as i64;
            let place = |at: i64| (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize;
            let (start, end) = (int(node, "start").unwrap_or(0), int(node, "end").unwrap_or(rank));
            dims.get(place(start)..place(end))?.iter().map(|&dim| dim as f64).collect()
        }
        "Size" => vec![inputs.dims(0)?.iter().product::<usize>() as f64],
        "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" => inputs.values(0)?.to_vec(),
        "Cast" if is_whole => unary(&f64::trunc)?,
        "Cast" => inputs.values(0)?.to_vec(),
        "Floor" => unary(&f64::floor)?,
        "Ceil" => unary(&f64::ceil)?,
        "Sqrt" => unary(&f64::sqrt)?,
        "Neg" => unary(&|value| -value)?,
        "Abs" => unary(&f64::abs)?,
        "Not" => unary(&|value| truth(value == 0.0))?,
        "Add" => binary(&|a, b| a + b)?,
        "Sub" => binary(&|a, b| a - b)?,
        "Mul" => binary(&|a, b| a * b)?,
        "Div" if is_whole => binary(&|a, b| (a / b).trunc())?,
        "Div" => binary(&|a, b| a / b)?,
        "Pow" => binary(&f64::powf)?,
        "Clip" => {
            let limit = |at: usize, name: &str, open: f64| {
                let own = attribute(node, name).map(|attribute| f64::from(attribute.f()));
                let given = || inputs.values(at).and_then(|values| values.first().copied());
                let is_given = node.input.get(at).is_some_and(|input| !input.is_empty());
                own.or_else(given).or((!is_given).then_some(open))
            };
            let (least, most) = (limit(1, "min", f64::NEG_INFINITY)?, limit(2, "max", f64::INFINITY)?);
            unary(&|value| value.max(least).min(most))?
        }
        "Round" => unary(&f64::round_ties_even)?,
        "Reciprocal" => unary(&f64::recip)?,
        "Mod" => binary(&|a, b| a - b * (a / b).floor())?,
        "Min" if node.input.len() == 2 => binary(&f64::min)?,
        "Max" if node.input.len() == 2 => binary(&f64::max)?,
        "Equal" => binary(&|a, b| truth(a == b))?,
        "Less" => binary(&|a, b| truth(a < b))?,
        "Greater" => binary(&|a, b| truth(a > b))?,
        "LessOrEqual" => binary(&|a, b| truth(a <= b))?,
        "GreaterOrEqual" => binary(&|a, b| truth(a >= b))?,
        "And" => binary(&|a, b| truth(a != 0.0 && b != 0.0))?,
        "Or" => binary(&|a, b| truth(a != 0.0 || b != 0.0))?,
        "Where" => {
            let (yes, no) = (spread(inputs, 1, dims)?, spread(inputs, 2, dims)?);
            let choice = spread(inputs, 0, dims)?.into_iter().zip(yes.into_iter().zip(no));
            choice.map(|(condition, (yes, no))| if condition != 0.0 { yes } else { no }).collect()
        }
        "Expand" => spread(inputs, 0, dims)?,
        "Concat" if dims.len() <= 1 => {
            let parts: Option<Vec<&[f64]>> = (0..node.input.len()).map(|at| inputs.values(at)).collect();
            parts?.concat()
        }
        "Gather" => {
            let (values, source) = (inputs.values(0)?, inputs.dims(0)?);
            // Sizes are picked out of lists.
            let [length] = *source else { return None };
            let place = |index: &f64| {
                let index = if *index < 0.0 { *index + length as f64 } else { *index };
                values.get(index as usize).copied()
            };
            inputs.values(1)?.iter().map(place).collect::<Option<_>>()?
        }
        "Slice" => {
            let (cuts, source) = (cuts(node, inputs)?, inputs.dims(0)?);
            let values = inputs.values(0)?;
            let place = |index: usize| {
                let along = |axis: usize, at: usize| {
                    usize::try_from(cuts[axis].start + at as i64 * cuts[axis].step).ok()
                };
                let mut place = 0;
                for (axis, at) in coordinates(index, dims).into_iter().enumerate() {
                    place = place * source[axis] + along(axis, at)?;
                }
                values.get(place).copied()
            };
            (0..count).map(place).collect::<Option<_>>()?
        }
        "Transpose" => {
            let (values, source) = (inputs.values(0)?, inputs.dims(0)?);
            let order: Vec<usize> = match ints(node, "perm") {
                Some(order) => order.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<_>>()?,
                None => (0..source.len()).rev().collect(),
            };
            let place = |index: usize| {
                let at = coordinates(index, dims);
                let along = |axis: usize| order.iter().position(|&from| from == axis).map(|to| at[to]);
                let place =
                    (0..source.len()).try_fold(0, |place, axis| Some(place * source[axis] + along(axis)?))?;
                values.get(place).copied()
            };
            (0..count).map(place).collect::<Option<_>>()?
        }
        "Split" if dims.len() == 1 && axis_of(node, "axis", 0, 1)? == 0 => {
            inputs.values(0)?.get(..count)?.to_vec()
        }
        "ReduceProd" if count == 1 => vec![inputs.values(0)?.iter().product()],
        "ReduceSum" if count == 1 => vec![inputs.values(0)?.iter().sum()],
        "ReduceMax" if count == 1 => {
            vec![inputs.values(0)?.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
        }
        "ConstantOfShape" => {
            let value = attribute(node, "value").and_then(|attribute| attribute.t.as_ref());
            let value = value.and_then(|tensor| super::fact_of(tensor, None).values?.first().copied());
            vec![value.unwrap_or(0.0); count]
        }
        "Range" => {
            let (start, step) = (*inputs.values(0)?.first()?, *inputs.values(2)?.first()?);
            (0..count).map(|index| start + index as f64 * step).collect()
        }
        _ => return None,
    };
    (values.len() == count).then_some(values)
}

/// Where the number of this index stands in a tensor of `dims`.
fn coordinates(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut at = vec![0; dims.len()];
    for (axis, &dim) in dims.iter().enumerate().rev() {
        at[axis] = index % dim.max(1);
        index /= dim.max(1);
    }
    at
}

/// The numbers of an input, broadcast to `dims`.
fn spread(inputs: &NodeInputs, at: usize, dims: &[usize]) -> Option<Vec<f64>> {
    let (values, own) = (inputs.values(at)?, inputs.dims(at)?);
    let count: usize = dims.iter().product();
    let missing = dims.len().checked_sub(own.len())?;
    let place = |index: usize| {
        let at = coordinates(index, dims);
        let along = at.iter().skip(missing).zip(own);
        let place = along.fold(0, |place, (&at, &length)| place * length + if length == 1 { 0 } else { at });
        values.get(place).copied()
    };
    (0..count).map(place).collect()
}
