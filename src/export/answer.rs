//! From scores and features to what a head answers: probabilities, the class, the distance from the training images, whether that
//! is too far, and the prediction set.

use super::Arithmetic;
use super::builder::GraphBuilder;
use super::head::row_length;
use crate::head::{Calibration, Isotonic, Novelty, Sigmoid};
use crate::network::graph::proto::tensor_proto::DataType;
use crate::network::nodes::int;

/// The constant of training features, by which [`sealed`](super::sealed) reads them back.
pub(super) const NOVELTY_FEATURES: &str = "novelty/features";

/// Training features beside the nearest whose distances are computed in float64.
const MORE_CANDIDATES: usize = 13;

/// Probabilities, images x classes, as [`Calibration::probabilities`] computes them.
pub(super) fn probabilities(
    b: &mut GraphBuilder,
    calibration: &Calibration,
    scores: &str,
    arithmetic: Arithmetic,
) -> String {
    match calibration {
        Calibration::Platt { sigmoids } => {
            let logs = log_sigmoids(b, sigmoids, scores, arithmetic);
            softmax(b, &logs)
        }
        Calibration::Softmax { temperature } => {
            let temperature = arithmetic.number(b, *temperature);
            let logs = b.op("Div", &[scores, &temperature]);
            softmax(b, &logs)
        }
        Calibration::Isotonic { functions } => isotonic(b, functions, scores, arithmetic),
    }
}

fn softmax(b: &mut GraphBuilder, logs: &str) -> String {
    b.op_with("Softmax", &[logs], vec![int("axis", 1)])
}

/// `-log(1 + exp(slope f + offset))`, without overflow.
fn log_sigmoids(b: &mut GraphBuilder, sigmoids: &[Sigmoid], scores: &str, arithmetic: Arithmetic) -> String {
    let of = |value: fn(&Sigmoid) -> f64| -> Vec<f64> { sigmoids.iter().map(value).collect() };
    let slopes = arithmetic.numbers(b, &[sigmoids.len()], &of(|sigmoid| sigmoid.slope));
    let offsets = arithmetic.numbers(b, &[sigmoids.len()], &of(|sigmoid| sigmoid.offset));
    let scaled = b.op("Mul", &[scores, &slopes]);
    let x = b.op("Add", &[&scaled, &offsets]);
    let (zero, one) = (arithmetic.number(b, 0.0), arithmetic.number(b, 1.0));
    let above = b.op("Max", &[&x, &zero]);
    let magnitude = b.op("Abs", &[&x]);
    let negative = b.op("Neg", &[&magnitude]);
    let small = b.op("Exp", &[&negative]);
    let sum = b.op("Add", &[&small, &one]);
    let log = b.op("Log", &[&sum]);
    let softplus = b.op("Add", &[&above, &log]);
    b.op("Neg", &[&softplus])
}

/// Straight between the points of each class's function and constant beyond them, divided by the sum; equal where all are 0.
fn isotonic(b: &mut GraphBuilder, functions: &[Isotonic], scores: &str, arithmetic: Arithmetic) -> String {
    let classes = functions.len();
    let longest = functions.iter().map(|function| function.scores.len()).max().unwrap_or(1);
    // One row a class, filled up with points that no score is above.
    let table = |values: fn(&Isotonic) -> &[f64], filler: f64| -> Vec<f64> {
        let row = |function| {
            let values: &[f64] = values(function);
            values.iter().copied().chain(std::iter::repeat_n(filler, longest - values.len()))
        };
        functions.iter().flat_map(row).collect()
    };
    let points = table(|function| &function.scores, f64::MAX);
    let points = arithmetic.numbers(b, &[classes, longest], &points);
    let values = arithmetic.numbers(b, &[classes, longest], &table(|function| &function.values, 0.0));
    let wide = b.unsqueeze(scores, &[2]);
    let below = b.op("Less", &[&points, &wide]);
    let below = b.cast(&below, DataType::Int64);
    let next = b.sum(&below, &[2], false);
    let (zero, one) = (b.long(0), b.long(1));
    let before = b.op("Sub", &[&next, &one]);
    let before = b.op("Max", &[&before, &zero]);
    let last: Vec<i64> = functions.iter().map(|function| function.scores.len() as i64 - 1).collect();
    let last = b.longs(&last);
    let next = b.op("Min", &[&next, &last]);
    let starts: Vec<i64> = (0..classes as i64).map(|class| class * longest as i64).collect();
    let starts = b.longs(&starts);
    let (before, next) = (b.op("Add", &[&before, &starts]), b.op("Add", &[&next, &starts]));
    let at = |b: &mut GraphBuilder, table: &str| {
        let list = b.reshape(table, &[-1]);
        [b.gather(&list, &before, 0), b.gather(&list, &next, 0)]
    };
    let ([left, right], [low, high]) = (at(b, &points), at(b, &values));
    let run = b.op("Sub", &[&right, &left]);
    let (none, unit) = (arithmetic.number(b, 0.0), arithmetic.number(b, 1.0));
    let is_between = b.op("Greater", &[&run, &none]);
    let run = b.op("Where", &[&is_between, &run, &unit]);
    let way = b.op("Sub", &[scores, &left]);
    let share = b.op("Div", &[&way, &run]);
    let share = b.op("Where", &[&is_between, &share, &none]);
    let rise = b.op("Sub", &[&high, &low]);
    let rise = b.op("Mul", &[&share, &rise]);
    let found = b.op("Add", &[&low, &rise]);
    let total = b.sum(&found, &[1], true);
    let is_somewhere = b.op("Greater", &[&total, &none]);
    let total = b.op("Where", &[&is_somewhere, &total, &unit]);
    let shares = b.op("Div", &[&found, &total]);
    let equal = arithmetic.number(b, 1.0 / classes as f64);
    b.op("Where", &[&is_somewhere, &shares, &equal])
}

/// The index of each image's class: the most probable one, of equally probable ones the one of the highest score.
pub(super) fn class(
    b: &mut GraphBuilder,
    probabilities: &str,
    scores: &str,
    arithmetic: Arithmetic,
) -> String {
    let highest = b.maximum(probabilities, 1);
    let is_highest = b.op("Equal", &[probabilities, &highest]);
    let lowest = arithmetic.number(b, f64::from(f32::MIN));
    let ranked = b.op("Where", &[&is_highest, scores, &lowest]);
    b.op_with("ArgMax", &[&ranked], vec![int("axis", 1), int("keepdims", 0)])
}

/// The distance of each image from the training images, as [`Novelty::distances`] computes it: products in float32 find the
/// candidates, and of these alone the distances are computed in float64. Graphs of float32 alone leave it at the products.
pub(super) fn distance(
    b: &mut GraphBuilder,
    novelty: &Novelty,
    features: &str,
    arithmetic: Arithmetic,
) -> String {
    let training = novelty.features();
    let (rows, columns) = training.dim();
    // A row an image, so that what is gathered lies together.
    let bytes: Vec<u8> = training.iter().map(|&feature| feature as u8).collect();
    let stored = b.named(NOVELTY_FEATURES, DataType::Int8, &[rows, columns], bytes);
    let floats = b.cast(&stored, DataType::Float);
    let squares = b.op("Mul", &[&floats, &floats]);
    let squares = b.sum(&squares, &[1], false);
    let lengths = b.op("Sqrt", &[&squares]);
    // A row of zeros has no direction, whatever it is divided by.
    let (zero, one) = (b.float(0.0), b.float(1.0));
    let has_direction = b.op("Greater", &[&lengths, &zero]);
    let lengths = b.op("Where", &[&has_direction, &lengths, &one]);
    let values = arithmetic.of(b, features);
    let direction = direction(b, &values, arithmetic);
    let turned = b.transpose(&floats, &[1, 0]);
    let products = b.op("MatMul", &[&direction, &turned]);
    let cosines = b.op("Div", &[&products, &lengths]);
    let neighbours = novelty.limits().neighbours.min(rows);
    let cosines = match arithmetic {
        Arithmetic::Single => cosines,
        Arithmetic::Double => {
            let count = rows.min(neighbours + MORE_CANDIDATES);
            let (_, places) = top(b, &cosines, count, ["novelty/candidates", "novelty/places"]);
            cosines_of(b, [&stored, &lengths, places, &values])
        }
    };
    let (nearest, _) = top(b, &cosines, neighbours, ["novelty/nearest", "novelty/nearest_places"]);
    let (zero, one) = (arithmetic.number(b, 0.0), arithmetic.number(b, 1.0));
    let distances = b.op("Sub", &[&one, nearest]);
    let distances = b.op("Max", &[&distances, &zero]);
    let sum = b.sum(&distances, &[1], false);
    let count = arithmetic.number(b, neighbours as f64);
    b.op("Div", &[&sum, &count])
}

/// Each row divided by its length, in float32.
fn direction(b: &mut GraphBuilder, rows: &str, arithmetic: Arithmetic) -> String {
    let length = row_length(b, rows);
    let (zero, one) = (arithmetic.number(b, 0.0), arithmetic.number(b, 1.0));
    let has_direction = b.op("Greater", &[&length, &zero]);
    let length = b.op("Where", &[&has_direction, &length, &one]);
    let direction = b.op("Div", &[rows, &length]);
    arithmetic.to_float(b, &direction)
}

/// The cosines, images x candidates in float64, between the rows of `values` and the training features at `places`.
fn cosines_of(b: &mut GraphBuilder, [features, lengths, places, values]: [&str; 4]) -> String {
    // Images x candidates x values.
    let chosen = b.gather(features, places, 0);
    let chosen = b.cast(&chosen, DataType::Float);
    let lengths = b.gather(lengths, places, 0);
    let lengths = b.unsqueeze(&lengths, &[2]);
    let directions = b.op("Div", &[&chosen, &lengths]);
    let directions = b.cast(&directions, DataType::Double);
    // ONNX Runtime 1.24 makes of a transposition and a product of float64 matrices what it has no kernel for, so this is a sum of
    // products.
    let own_values = b.unsqueeze(values, &[1]);
    let products = b.op("Mul", &[&directions, &own_values]);
    let products = b.sum(&products, &[2], false);
    let squares = b.op("Mul", &[&directions, &directions]);
    let squares = b.sum(&squares, &[2], false);
    let own = b.op("Mul", &[values, values]);
    let own = b.sum(&own, &[1], true);
    let both = b.op("Mul", &[&squares, &own]);
    let both = b.op("Sqrt", &[&both]);
    // What has no direction is at distance 1 from everything.
    let (zero, one) = (b.double(0.0), b.double(1.0));
    let have_direction = b.op("Greater", &[&both, &zero]);
    let both = b.op("Where", &[&have_direction, &both, &one]);
    let cosines = b.op("Div", &[&products, &both]);
    b.op("Where", &[&have_direction, &cosines, &zero])
}

/// The largest values of each row, and where they are.
fn top(
    b: &mut GraphBuilder,
    values: &str,
    count: usize,
    [found, places]: [&'static str; 2],
) -> (&'static str, &'static str) {
    let count = b.longs(&[count as i64]);
    b.push("TopK", &[values, &count], &[found, places], vec![int("axis", 1)]);
    (found, places)
}

/// Whether each class is in the prediction set: 1 - p, rounded as the head's scores are, is at most `threshold`.
pub(super) fn prediction_set(
    b: &mut GraphBuilder,
    probabilities: &str,
    threshold: f64,
    arithmetic: Arithmetic,
) -> String {
    let one = arithmetic.number(b, 1.0);
    let rest = b.op("Sub", &[&one, probabilities]);
    let rest = arithmetic.to_float(b, &rest);
    let threshold = b.float(threshold as f32);
    b.op("LessOrEqual", &[&rest, &threshold])
}
