//! [`GraphFilter`]: Pillow's resampling filters as ONNX operators, their weights in fixed point, and one pass with them.

use std::f64::consts::PI;

use super::{ResizedSide, scale};
use crate::export::builder::GraphBuilder;
use crate::network::graph::proto::tensor_proto::DataType;

/// Fractional bits of a weight.
const PRECISION_BITS: u32 = 22;
/// A weight plus this number has three bytes that are the weight's digits in base 256, from -128 to 127, plus 128 each.
const DIGITS: i32 = 0x80_80_80;

/// For each output pixel of a side the source pixels that it is made of, and their weights.
pub(super) struct ResizeWeights {
    /// The first source pixel that is wanted, and the one behind the last, as lists of one.
    pub(super) reach: [String; 2],
    /// Output pixels x the most source pixels of any, counted from the first that is wanted.
    indices: String,
    /// Output pixels x 3 x the most source pixels: the digits of the weights.
    digits: String,
}

/// A resampling filter: the nodes that weigh distances, and how far it reaches.
pub(super) struct GraphFilter {
    pub(super) support: f64,
    pub(super) weigh: fn(&mut GraphBuilder, &str) -> String,
}

impl GraphFilter {
    /// Pillow's precompute_coeffs and normalize_coeffs_8bpc.
    pub(super) fn weights(&self, b: &mut GraphBuilder, side: &ResizedSide) -> ResizeWeights {
        let (zero, one, half) = (b.double(0.0), b.double(1.0), b.double(0.5));
        let scale = scale(b, side);
        let stretch = b.op("Max", &[&scale, &one]);
        let support = b.double(self.support);
        let support = b.op("Mul", &[&stretch, &support]);
        // Positions of the resized side, and where their centres are in the source.
        let (length, step) = (b.long(side.length), b.long(1));
        let end = b.op("Add", &[&side.offset, &length]);
        let positions = b.op("Range", &[&side.offset, &end, &step]);
        let positions = b.cast(&positions, DataType::Double);
        let centres = b.op("Add", &[&positions, &half]);
        let centres = b.op("Mul", &[&centres, &scale]);
        // A cast truncates, as in Pillow.
        let start = b.op("Sub", &[&centres, &support]);
        let start = b.op("Add", &[&start, &half]);
        let start = b.op("Max", &[&start, &zero]);
        let start = b.cast(&start, DataType::Int64);
        let end = b.op("Add", &[&centres, &support]);
        let end = b.op("Add", &[&end, &half]);
        let end = b.cast(&end, DataType::Int64);
        let end = b.op("Min", &[&end, &side.source]);
        let reach = [b.slice(&start, 0, 1, 0), b.slice(&end, -1, i64::from(i32::MAX), 0)];
        // No output pixel is made of more source pixels than that.
        let most = b.op("Ceil", &[&support]);
        let two = b.double(2.0);
        let most = b.op("Mul", &[&most, &two]);
        let most = b.op("Add", &[&most, &one]);
        let most = b.cast(&most, DataType::Int64);
        let from = b.long(0);
        let places = b.op("Range", &[&from, &most, &step]);
        let start = b.unsqueeze(&start, &[1]);
        let indices = b.op("Add", &[&start, &places]);
        // Distances from the centres, and what the filter makes of them; nothing behind the last pixel counts.
        let centres = b.unsqueeze(&centres, &[1]);
        let distances = b.cast(&indices, DataType::Double);
        let distances = b.op("Sub", &[&distances, &centres]);
        let distances = b.op("Add", &[&distances, &half]);
        let shrink = b.op("Div", &[&one, &stretch]);
        let distances = b.op("Mul", &[&distances, &shrink]);
        let weights = (self.weigh)(b, &distances);
        let end = b.unsqueeze(&end, &[1]);
        let counts = b.op("Less", &[&indices, &end]);
        let weights = b.op("Where", &[&counts, &weights, &zero]);
        let sums = b.sum(&weights, &[1], true);
        let weights = b.op("Div", &[&weights, &sums]);
        // (int)(weight * 2^22 ± 0.5).
        let unit = b.double(f64::from(1 << PRECISION_BITS));
        let weights = b.op("Mul", &[&weights, &unit]);
        let sign = b.op("Sign", &[&weights]);
        let rounding = b.op("Mul", &[&sign, &half]);
        let weights = b.op("Add", &[&weights, &rounding]);
        let weights = b.cast(&weights, DataType::Int32);
        let last = b.op("Sub", &[&reach[1], &step]);
        let indices = b.op("Min", &[&indices, &last]);
        let indices = b.op("Sub", &[&indices, &reach[0]]);
        ResizeWeights { digits: digits(b, &weights), indices, reach }
    }
}

/// Each weight's three digits, the highest first, 128 too large.
fn digits(b: &mut GraphBuilder, weights: &str) -> String {
    let above = b.int32(DIGITS);
    let rest = b.op("Add", &[weights, &above]);
    let base = b.int32(256);
    let upper = b.op("Div", &[&rest, &base]);
    let high = b.op("Div", &[&upper, &base]);
    let middle = b.op("Mod", &[&upper, &base]);
    let low = b.op("Mod", &[&rest, &base]);
    let digits = [high, middle, low].map(|digit| b.unsqueeze(&digit, &[1]));
    let digits = b.concat(&digits.each_ref().map(String::as_str), 1);
    b.cast(&digits, DataType::Uint8)
}

/// Resizes the first dimension of `levels`, lines x pixels x 3, to `length` lines.
pub(super) fn pass(b: &mut GraphBuilder, levels: &str, weights: &ResizeWeights, length: i64) -> String {
    let lines = b.gather(levels, &weights.indices, 0);
    let lines = b.reshape(&lines, &[0, 0, -1]);
    let middle = b.byte(128);
    let products = b.op("MatMulInteger", &[&weights.digits, &lines, &middle]);
    let places = b.int32s(&[3, 1], &[1 << 16, 1 << 8, 1]);
    let products = b.op("Mul", &[&products, &places]);
    let sums = b.sum(&products, &[1], false);
    // Half a level makes the division round to nearest. Below 0 it rounds to 0, where levels end.
    let half = b.int32(1 << (PRECISION_BITS - 1));
    let sums = b.op("Add", &[&sums, &half]);
    let unit = b.int32(1 << PRECISION_BITS);
    let levels = b.op("Div", &[&sums, &unit]);
    let (least, most) = (b.int32(0), b.int32(255));
    let levels = b.op("Clip", &[&levels, &least, &most]);
    let levels = b.cast(&levels, DataType::Uint8);
    b.reshape(&levels, &[length, -1, 3])
}

pub(super) fn bilinear(b: &mut GraphBuilder, distances: &str) -> String {
    let (zero, one) = (b.double(0.0), b.double(1.0));
    let distances = b.op("Abs", &[distances]);
    let weights = b.op("Sub", &[&one, &distances]);
    b.op("Max", &[&weights, &zero])
}

/// Keys's cubic with a = -0.5.
pub(super) fn bicubic(b: &mut GraphBuilder, distances: &str) -> String {
    const A: f64 = -0.5;
    let x = b.op("Abs", &[distances]);
    let polynomial = |b: &mut GraphBuilder, steps: &[(&str, Option<f64>)]| {
        steps.iter().fold(x.clone(), |value, &(operator, by)| {
            let by = by.map_or_else(|| x.clone(), |number| b.double(number));
            b.op(operator, &[&value, &by])
        })
    };
    // ((A + 2) x - (A + 3)) x x + 1, and (((x - 5) x + 8) x - 4) A.
    let near =
        [("Mul", Some(A + 2.0)), ("Sub", Some(A + 3.0)), ("Mul", None), ("Mul", None), ("Add", Some(1.0))];
    let far = [
        ("Sub", Some(5.0)),
        ("Mul", None),
        ("Add", Some(8.0)),
        ("Mul", None),
        ("Sub", Some(4.0)),
        ("Mul", Some(A)),
    ];
    let (near, far) = (polynomial(b, &near), polynomial(b, &far));
    let (zero, one, two) = (b.double(0.0), b.double(1.0), b.double(2.0));
    let is_far = b.op("Less", &[&x, &two]);
    let far = b.op("Where", &[&is_far, &far, &zero]);
    let is_near = b.op("Less", &[&x, &one]);
    b.op("Where", &[&is_near, &near, &far])
}

pub(super) fn lanczos(b: &mut GraphBuilder, distances: &str) -> String {
    let (zero, three, least) = (b.double(0.0), b.double(3.0), b.double(-3.0));
    let third = b.op("Div", &[distances, &three]);
    let (inner, outer) = (sinc(b, distances), sinc(b, &third));
    let weights = b.op("Mul", &[&inner, &outer]);
    let from = b.op("GreaterOrEqual", &[distances, &least]);
    let to = b.op("Less", &[distances, &three]);
    let within = b.op("And", &[&from, &to]);
    b.op("Where", &[&within, &weights, &zero])
}

/// sin(πx) / (πx).
fn sinc(b: &mut GraphBuilder, x: &str) -> String {
    let (zero, one, pi) = (b.double(0.0), b.double(1.0), b.double(PI));
    let angle = b.op("Mul", &[x, &pi]);
    let sine = b.op("Sin", &[&angle]);
    let ratio = b.op("Div", &[&sine, &angle]);
    let centre = b.op("Equal", &[x, &zero]);
    b.op("Where", &[&centre, &one, &ratio])
}
