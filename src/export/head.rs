//! From features to scores: the preparation, the kernel and the weights of a head, as
//! [`HeadModel::scores`](crate::head::HeadModel::scores) computes them.
//!
//! The constants have names of their own, by which [`sealed`](super::sealed) reads the head back. Matrices are stored in the form
//! that the product takes: ONNX Runtime 1.24 has no kernel for what it makes of a transposition and a product in float64.

use ndarray::ArrayView2;

use super::Arithmetic;
use super::builder::{GraphBuilder, le_doubles, le_floats};
use crate::head::{HeadModel, Kernel, KernelMap, Preparation};
use crate::network::graph::proto::tensor_proto::DataType;

/// Names of the constants.
pub(super) const MEAN: &str = "head/mean";
/// What float32 leaves of the mean, in files of float32 alone.
pub(super) const MEAN_REST: &str = "head/mean_rest";
pub(super) const SCALE: &str = "head/scale";
pub(super) const VARIES: &str = "head/varies";
pub(super) const COMPONENTS: &str = "head/components";
pub(super) const SUPPORT_VECTORS: &str = "head/support_vectors";
pub(super) const WEIGHTS: &str = "head/weights";
pub(super) const BIAS: &str = "head/bias";

/// Adds the nodes that make scores, images x classes, of `features`, images x values in float32.
pub(super) fn scores(
    b: &mut GraphBuilder,
    model: &HeadModel,
    features: &str,
    arithmetic: Arithmetic,
) -> String {
    let mut values = prepared(b, &model.preparation, features, arithmetic);
    if let Some(kernel) = &model.kernel {
        values = kernel_values(b, kernel, &values, arithmetic);
    }
    let weights = turned(b, WEIGHTS, model.weights.view());
    let products = product(b, &values, &weights, arithmetic);
    let bias = arithmetic.named(b, BIAS, &[model.bias.len()], &model.bias.to_vec());
    b.op("Add", &[&products, &bias])
}

/// The rows of `matrix` as columns.
fn turned(b: &mut GraphBuilder, name: &str, matrix: ArrayView2<'_, f32>) -> String {
    let values: Vec<f32> = matrix.t().iter().copied().collect();
    b.named(name, DataType::Float, &[matrix.ncols(), matrix.nrows()], le_floats(&values))
}

/// The product of two matrices of float32 numbers.
fn product(b: &mut GraphBuilder, left: &str, right: &str, arithmetic: Arithmetic) -> String {
    let (left, right) = (arithmetic.of(b, left), arithmetic.of(b, right));
    b.op("MatMul", &[&left, &right])
}

fn prepared(
    b: &mut GraphBuilder,
    preparation: &Preparation,
    features: &str,
    arithmetic: Arithmetic,
) -> String {
    let standardized = standardized(b, preparation, features, arithmetic);
    match preparation.pca() {
        None => standardized,
        Some(pca) => {
            let components = turned(b, COMPONENTS, pca.components().view());
            let projected = product(b, &standardized, &components, arithmetic);
            arithmetic.to_float(b, &projected)
        }
    }
}

/// Each row divided by its length, and each column brought to mean 0 and deviation 1, as far as the head asks for it: float32.
fn standardized(
    b: &mut GraphBuilder,
    preparation: &Preparation,
    features: &str,
    arithmetic: Arithmetic,
) -> String {
    let standardizer = preparation.standardizer();
    let columns = [preparation.columns()];
    let centres = standardizer.mean().iter().any(|&mean| mean != 0.0);
    let scales = standardizer.scale().iter().any(|&scale| scale != 1.0);
    let masks = standardizer.constant().iter().any(|&constant| constant);
    if !(preparation.l2_normalize() || centres || scales || masks) {
        return features.to_owned();
    }
    let mut values = arithmetic.of(b, features);
    if preparation.l2_normalize() {
        let length = row_length(b, &values);
        let (zero, one) = (arithmetic.number(b, 0.0), arithmetic.number(b, 1.0));
        let is_row = b.op("Greater", &[&length, &zero]);
        // A row of zeros stays one.
        let length = b.op("Where", &[&is_row, &length, &one]);
        let factor = b.op("Div", &[&one, &length]);
        values = b.op("Mul", &[&values, &factor]);
    }
    if centres {
        let mean = arithmetic.named(b, MEAN, &columns, standardizer.mean());
        values = b.op("Sub", &[&values, &mean]);
        if arithmetic == Arithmetic::Single {
            // A mean far above the deviations would lose in float32 what counts.
            let rest: Vec<f32> =
                standardizer.mean().iter().map(|&mean| (mean - f64::from(mean as f32)) as f32).collect();
            let rest = b.named(MEAN_REST, DataType::Float, &columns, le_floats(&rest));
            values = b.op("Sub", &[&values, &rest]);
        }
    }
    if scales {
        let scale = arithmetic.named(b, SCALE, &columns, standardizer.scale());
        values = b.op("Div", &[&values, &scale]);
    }
    if masks {
        let varies = standardizer.constant().iter().map(|&constant| u8::from(!constant)).collect();
        let varies = b.named(VARIES, DataType::Bool, &columns, varies);
        let zero = arithmetic.number(b, 0.0);
        values = b.op("Where", &[&varies, &values, &zero]);
    }
    arithmetic.to_float(b, &values)
}

/// The Euclidean length of each row, as a column.
pub(super) fn row_length(b: &mut GraphBuilder, rows: &str) -> String {
    let squares = row_square(b, rows);
    b.op("Sqrt", &[&squares])
}

fn row_square(b: &mut GraphBuilder, rows: &str) -> String {
    let squares = b.op("Mul", &[rows, rows]);
    b.sum(&squares, &[1], true)
}

/// The kernel of each row with each support vector: float32.
fn kernel_values(b: &mut GraphBuilder, map: &KernelMap, rows: &str, arithmetic: Arithmetic) -> String {
    let vectors = turned(b, SUPPORT_VECTORS, map.vectors().view());
    let products = product(b, rows, &vectors, arithmetic);
    let values = match map.kernel() {
        Kernel::Linear => products,
        Kernel::Rbf { gamma } => {
            let of_vectors = map.vectors().rows().into_iter();
            let squares: Vec<f64> =
                of_vectors.map(|row| row.iter().map(|&x| f64::from(x).powi(2)).sum()).collect();
            let squares = arithmetic.numbers(b, &[squares.len()], &squares);
            let rows = arithmetic.of(b, rows);
            let own = row_square(b, &rows);
            let sums = b.op("Add", &[&own, &squares]);
            let two = arithmetic.number(b, 2.0);
            let twice = b.op("Mul", &[&products, &two]);
            let distances = b.op("Sub", &[&sums, &twice]);
            let zero = arithmetic.number(b, 0.0);
            let distances = b.op("Max", &[&distances, &zero]);
            let factor = arithmetic.number(b, -gamma.unwrap_or(1.0));
            let exponents = b.op("Mul", &[&distances, &factor]);
            b.op("Exp", &[&exponents])
        }
        Kernel::Poly { gamma, degree, constant } => {
            let gamma = arithmetic.number(b, gamma.unwrap_or(1.0));
            let scaled = b.op("Mul", &[&products, &gamma]);
            let constant = arithmetic.number(b, constant);
            let base = b.op("Add", &[&scaled, &constant]);
            (1..degree).fold(base.clone(), |power, _| b.op("Mul", &[&power, &base]))
        }
    };
    arithmetic.to_float(b, &values)
}

impl Arithmetic {
    /// What the head computes in.
    fn element(self) -> DataType {
        match self {
            Self::Double => DataType::Double,
            Self::Single => DataType::Float,
        }
    }

    /// A tensor of float32 numbers, to be computed with.
    pub(super) fn of(self, b: &mut GraphBuilder, tensor: &str) -> String {
        match self {
            Self::Double => b.cast(tensor, DataType::Double),
            Self::Single => tensor.to_owned(),
        }
    }

    /// What was computed, as float32.
    pub(super) fn to_float(self, b: &mut GraphBuilder, tensor: &str) -> String {
        match self {
            Self::Double => b.cast(tensor, DataType::Float),
            Self::Single => tensor.to_owned(),
        }
    }

    pub(super) fn number(self, b: &mut GraphBuilder, value: f64) -> String {
        match self {
            Self::Double => b.double(value),
            Self::Single => b.float(value as f32),
        }
    }

    pub(super) fn numbers(self, b: &mut GraphBuilder, dims: &[usize], values: &[f64]) -> String {
        match self {
            Self::Double => b.doubles(dims, values),
            Self::Single => b.floats(dims, &single(values)),
        }
    }

    fn named(self, b: &mut GraphBuilder, name: &str, dims: &[usize], values: &[f64]) -> String {
        let bytes = match self {
            Self::Double => le_doubles(values),
            Self::Single => le_floats(&single(values)),
        };
        b.named(name, self.element(), dims, bytes)
    }
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
