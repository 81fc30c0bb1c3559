//! From a layer's activations to the features, as [`Backbone`](crate::network::Backbone) pools them: one row for each image.

use super::Arithmetic;
use super::builder::GraphBuilder;
use crate::network::graph::proto::tensor_proto::DataType;
use crate::network::nodes::int;
use crate::network::pool::{GEM_EXPONENT, GEM_LEAST, cell_range};
use crate::network::{Activations, Layer, Pooling};

/// Places of the largest map whose mean in float32 is as good as one in float64: a tile of
/// [the program's own pooling](crate::network::Backbone::open_pooled).
const SMALL_MAP: usize = 16 * 16;
/// Multiplied with this, a float32 leaves eleven bits of its mantissa, those of a float16.
const SPLIT_AT_HALF: f32 = (1 << 13) as f32 + 1.0;

/// Adds the nodes that make features, images x values in float32, of the tapped tensor. `pooling` is what
/// [`Activations::pooling`] gave.
pub(super) fn features(
    b: &mut GraphBuilder,
    layer: &Layer,
    element: Option<DataType>,
    activations: &Activations,
    pooling: Pooling,
    arithmetic: Arithmetic,
) -> String {
    let tensor = floats(b, &layer.tensor, element);
    let (Some(tokens), &[_, width]) = (&activations.tokens, &activations.shape[..]) else {
        return match activations.shape[..] {
            [channels, height, width] => {
                let map = channels_first(b, &tensor, layer, [channels, height, width]);
                of_map(b, &map, [channels, height, width], pooling, arithmetic)
            }
            _ => flat(b, &tensor, activations.shape.iter().product()),
        };
    };
    let [rows, columns] = tokens.grid;
    let patches = |b: &mut GraphBuilder| {
        let (from, to) = (tokens.prefix as i64, (tokens.prefix + rows * columns) as i64);
        let patches = b.slice(&tensor, from, to, 1);
        let turned = b.transpose(&patches, &[0, 2, 1]);
        b.reshape(&turned, &[-1, width as i64, rows as i64, columns as i64])
    };
    let class_token = |b: &mut GraphBuilder| {
        let first = b.slice(&tensor, 0, 1, 1);
        flat(b, &first, width)
    };
    let map = [width, rows, columns];
    match pooling {
        Pooling::None | Pooling::Flatten => flat(b, &tensor, activations.shape.iter().product()),
        Pooling::ClassToken => class_token(b),
        Pooling::ClassTokenAndMean => {
            let (token, patches) = (class_token(b), patches(b));
            let mean = of_map(b, &patches, map, Pooling::Average, arithmetic);
            b.concat(&[&token, &mean], 1)
        }
        pooling => {
            let patches = patches(b);
            of_map(b, &patches, map, pooling, arithmetic)
        }
    }
}

/// As float32. Those of 16 bits are rounded to 16 bits again, since ONNX Runtime may have computed them in 32.
fn floats(b: &mut GraphBuilder, tensor: &str, element: Option<DataType>) -> String {
    match element {
        None | Some(DataType::Float) => tensor.to_owned(),
        Some(DataType::Float16) => {
            let wide = b.cast(tensor, DataType::Float);
            // T. J. Dekker, "A floating-point technique for extending the available precision" (1971): the upper half of a
            // number is cx - (cx - x).
            let split = b.float(SPLIT_AT_HALF);
            let scaled = b.op("Mul", &[&wide, &split]);
            let rest = b.op("Sub", &[&scaled, &wide]);
            b.op("Sub", &[&scaled, &rest])
        }
        Some(_) => b.cast(tensor, DataType::Float),
    }
}

/// The map as images x channels x height x width.
fn channels_first(
    b: &mut GraphBuilder,
    tensor: &str,
    layer: &Layer,
    [channels, height, width]: [usize; 3],
) -> String {
    if !layer.gives_channels_last() {
        return tensor.to_owned();
    }
    if layer.tokens.is_none() {
        return b.transpose(tensor, &[0, 3, 1, 2]);
    }
    let places = b.reshape(tensor, &[-1, (height * width) as i64, channels as i64]);
    let turned = b.transpose(&places, &[0, 2, 1]);
    b.reshape(&turned, &[-1, channels as i64, height as i64, width as i64])
}

/// Rows of `width` values.
fn flat(b: &mut GraphBuilder, tensor: &str, width: usize) -> String {
    b.reshape(tensor, &[-1, width as i64])
}

fn of_map(
    b: &mut GraphBuilder,
    map: &str,
    [channels, height, width]: [usize; 3],
    pooling: Pooling,
    arithmetic: Arithmetic,
) -> String {
    match pooling {
        Pooling::None | Pooling::Flatten | Pooling::ClassToken | Pooling::ClassTokenAndMean => {
            flat(b, map, channels * height * width)
        }
        Pooling::Max => {
            let maxima = b.op("GlobalMaxPool", &[map]);
            flat(b, &maxima, channels)
        }
        Pooling::Average | Pooling::PatchMean
            if height * width <= SMALL_MAP || arithmetic == Arithmetic::Single =>
        {
            let means = b.op("GlobalAveragePool", &[map]);
            flat(b, &means, channels)
        }
        Pooling::Average | Pooling::PatchMean => {
            let map = arithmetic.of(b, map);
            let means = mean(b, &map, height * width, arithmetic);
            let means = b.cast(&means, DataType::Float);
            flat(b, &means, channels)
        }
        Pooling::Gem => {
            let least = b.float(GEM_LEAST);
            let map = b.op("Max", &[map, &least]);
            let map = arithmetic.of(b, &map);
            let exponent = arithmetic.number(b, GEM_EXPONENT);
            let cubes = b.op("Pow", &[&map, &exponent]);
            let means = mean(b, &cubes, height * width, arithmetic);
            let root = arithmetic.number(b, 1.0 / GEM_EXPONENT);
            let roots = b.op("Pow", &[&means, &root]);
            let roots = arithmetic.to_float(b, &roots);
            flat(b, &roots, channels)
        }
        Pooling::Grid(k) => {
            let shares = |length: usize| -> Vec<f64> {
                let share = |cell: usize, at: usize| {
                    let range = cell_range(cell, k, length);
                    if range.contains(&at) { 1.0 / range.len() as f64 } else { 0.0 }
                };
                (0..k).flat_map(|cell| (0..length).map(move |at| share(cell, at))).collect()
            };
            let (down, across) = (shares(height), shares(width));
            // Turned round: width x k.
            let across: Vec<f64> =
                (0..width).flat_map(|at| across.iter().skip(at).step_by(width).copied()).collect();
            let map = arithmetic.of(b, map);
            let (down, across) =
                (arithmetic.numbers(b, &[k, height], &down), arithmetic.numbers(b, &[width, k], &across));
            let rows = b.op("MatMul", &[&down, &map]);
            let cells = b.op("MatMul", &[&rows, &across]);
            let cells = arithmetic.to_float(b, &cells);
            flat(b, &cells, channels * k * k)
        }
    }
}

/// The mean over the places of a map.
fn mean(b: &mut GraphBuilder, map: &str, places: usize, arithmetic: Arithmetic) -> String {
    let axes = b.longs(&[2, 3]);
    let sums = b.op_with("ReduceSum", &[map, &axes], vec![int("keepdims", 0)]);
    let count = arithmetic.number(b, places as f64);
    b.op("Div", &[&sums, &count])
}
