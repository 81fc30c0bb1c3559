use super::super::graph::proto::{AttributeProto, NodeProto, attribute_proto::AttributeType};
use super::*;

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let single = matches!(name, "ceil_mode" | "axis" | "keepdims" | "group");
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(if single { AttributeType::Int } else { AttributeType::Ints }.into()),
        i: single.then(|| values[0]),
        ints: if single { Vec::new() } else { values.to_vec() },
        ..Default::default()
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::String.into()),
        s: Some(value.as_bytes().to_vec()),
        ..Default::default()
    }
}

fn map(dims: &[usize]) -> Option<TensorFact> {
    Some(TensorFact::new(Some(DataType::Float), Some(dims.to_vec())))
}

fn numbers(values: &[i64]) -> Option<TensorFact> {
    let values: Vec<f64> = values.iter().map(|&value| value as f64).collect();
    Some(TensorFact { element: Some(DataType::Int64), dims: Some(vec![values.len()]), values: Some(values) })
}

/// What is known of the first output.
fn of(operator: &str, inputs: &[Option<TensorFact>], attribute: Vec<AttributeProto>) -> TensorFact {
    let node = NodeProto {
        op_type: Some(operator.to_owned()),
        input: (0..inputs.len()).map(|at| format!("input{at}")).collect(),
        output: vec!["output".to_owned()],
        attribute,
        ..Default::default()
    };
    let inputs = NodeInputs(inputs);
    let mut fact = shapes::infer(&node, &inputs, 17).into_iter().next().unwrap_or_default();
    fact.values = values::compute(&node, &inputs, &fact);
    fact
}

fn dims(
    operator: &str,
    inputs: &[Option<TensorFact>],
    attributes: Vec<AttributeProto>,
) -> Option<Vec<usize>> {
    of(operator, inputs, attributes).dims
}

/// The values are PyTorch's, by `torch.nn.functional`.
#[test]
fn windows_stop_where_they_do_in_pytorch() {
    let input = map(&[2, 4, 7, 9]);
    let weights = map(&[6, 2, 3, 3]);
    let convolution = vec![ints("group", &[2]), ints("strides", &[2, 1]), ints("pads", &[1, 0, 1, 0])];
    assert_eq!(dims("Conv", &[input.clone(), weights.clone()], convolution), Some(vec![2, 6, 4, 7]));
    let dilated = vec![ints("group", &[2]), ints("dilations", &[2, 2])];
    assert_eq!(dims("Conv", &[input.clone(), weights.clone()], dilated), Some(vec![2, 6, 3, 5]));
    let same = vec![ints("group", &[2]), ints("strides", &[2, 2]), text("auto_pad", "SAME_UPPER")];
    assert_eq!(dims("Conv", &[input.clone(), weights.clone()], same), Some(vec![2, 6, 4, 5]));
    assert_eq!(dims("Conv", &[input.clone(), weights], vec![]), None, "weights for two channels, not four");
    let pool =
        |ceil| vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("ceil_mode", &[ceil])];
    let even = map(&[1, 4, 8, 8]);
    assert_eq!(dims("MaxPool", std::slice::from_ref(&even), pool(0)), Some(vec![1, 4, 3, 3]));
    assert_eq!(dims("MaxPool", &[even], pool(1)), Some(vec![1, 4, 4, 4]));
    // A window that would begin in the padding is left out.
    let padded = vec![
        ints("kernel_shape", &[2, 2]),
        ints("strides", &[2, 2]),
        ints("pads", &[1, 1, 1, 1]),
        ints("ceil_mode", &[1]),
    ];
    assert_eq!(dims("MaxPool", &[map(&[1, 1, 5, 6])], padded), Some(vec![1, 1, 3, 4]));
}

#[test]
fn numbers_are_rearranged_as_numpy_rearranges_them() {
    let input = map(&[2, 3, 4]);
    assert_eq!(dims("Reshape", &[input.clone(), numbers(&[0, -1])], vec![]), Some(vec![2, 12]));
    assert_eq!(dims("Reshape", &[input.clone(), numbers(&[5, -1])], vec![]), None);
    assert_eq!(dims("Transpose", std::slice::from_ref(&input), vec![]), Some(vec![4, 3, 2]));
    let backwards = [input.clone(), numbers(&[-1]), numbers(&[i64::MIN + 1]), numbers(&[2]), numbers(&[-3])];
    assert_eq!(dims("Slice", &backwards, vec![]), Some(vec![2, 3, 2]));
    let beyond = [input.clone(), numbers(&[1]), numbers(&[i64::MAX]), numbers(&[1])];
    assert_eq!(dims("Slice", &beyond, vec![]), Some(vec![2, 2, 4]));
    assert_eq!(dims("Unsqueeze", &[input.clone(), numbers(&[0, -1])], vec![]), Some(vec![1, 2, 3, 4, 1]));
    assert_eq!(
        dims("Gather", &[input.clone(), map(&[5, 6])], vec![ints("axis", &[1])]),
        Some(vec![2, 5, 6, 4])
    );
    let sum = vec![ints("axes", &[-1]), ints("keepdims", &[0])];
    assert_eq!(dims("ReduceMean", std::slice::from_ref(&input), sum), Some(vec![2, 3]));
    let equation = vec![text("equation", "b i d, b j d -> b i j")];
    assert_eq!(dims("Einsum", &[input.clone(), map(&[2, 7, 4])], equation), Some(vec![2, 3, 7]));
    assert_eq!(dims("MatMul", &[input, map(&[4, 5])], vec![]), Some(vec![2, 3, 5]));
    assert_eq!(dims("Add", &[map(&[2, 1, 4]), map(&[3, 1])], vec![]), Some(vec![2, 3, 4]));
    assert_eq!(dims("Add", &[map(&[2, 4]), map(&[3])], vec![]), None);
}

#[test]
fn small_computations_are_carried_out() {
    let values =
        |operator: &str, inputs: &[Option<TensorFact>], attributes| of(operator, inputs, attributes).values;
    assert_eq!(values("Shape", &[map(&[2, 3, 4])], vec![]), Some(vec![2.0, 3.0, 4.0]));
    assert_eq!(values("Div", &[numbers(&[-7]), numbers(&[2])], vec![]), Some(vec![-3.0]), "towards zero");
    let reversed =
        [numbers(&[1, 2, 3, 4, 5]), numbers(&[-1]), numbers(&[i64::MIN + 1]), numbers(&[0]), numbers(&[-2])];
    assert_eq!(values("Slice", &reversed, vec![]), Some(vec![5.0, 3.0, 1.0]));
    let pairs = Some(TensorFact { dims: Some(vec![2, 2]), ..numbers(&[1, 2, 3, 4]).unwrap() });
    assert_eq!(values("Transpose", &[pairs], vec![]), Some(vec![1.0, 3.0, 2.0, 4.0]));
    assert_eq!(values("Gather", &[numbers(&[7, 8, 9]), numbers(&[-1, 0])], vec![]), Some(vec![9.0, 7.0]));
    let joined = values("Concat", &[numbers(&[1]), numbers(&[2, 3])], vec![ints("axis", &[0])]);
    assert_eq!(joined, Some(vec![1.0, 2.0, 3.0]));
    assert_eq!(values("Relu", &[map(&[2])], vec![]), None, "pixels are not followed");
}
