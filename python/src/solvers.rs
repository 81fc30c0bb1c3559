//! The solvers of cnncodes-linear-heads on arrays: what the estimators of python/cnncodes/_estimators.py fit with.
//!
//! Rows that are the same count as one of their summed weight, and those of weight 0 not at all. Where there are such rows, or
//! weights, the rows are brought into an order that depends on their values alone. So a row of weight 3 is the same as three
//! rows, to the last bit.

use std::hash::{DefaultHasher, Hash, Hasher};

use cnncodes_linear_heads::{LinearModel, LogisticParams, RidgeParams, SolverError, Standardizer, SvmParams};
use linfa::DatasetBase;
use linfa::traits::Fit;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::arrays::{rows, to_numpy};
use crate::errors::invalid;
use crate::process;

/// A linear classifier: weights (classes x d) and biases (classes) of features as they were given, iterations, and what to know
/// if the solver stopped early.
type Linear<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<f64>>, usize, Option<String>);

/// What the solvers are fitted to: features (n x d), the class of each row from 0 without gaps, and what each class and each row
/// weighs.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Rows<'py> {
    features: PyReadonlyArray2<'py, f32>,
    labels: PyReadonlyArray1<'py, i64>,
    class_weights: Vec<f64>,
    row_weights: Option<PyReadonlyArray1<'py, f64>>,
    standardize: bool,
}

impl Rows<'_> {
    /// Calls `fit` without Python's lock.
    fn fit<T: Send>(
        &self,
        py: Python<'_>,
        fit: impl FnOnce(&Data<'_>) -> Result<T, SolverError> + Send,
    ) -> PyResult<(T, Option<Standardizer>)> {
        process::not_forked()?;
        let features = rows(&self.features)?;
        let labels: Option<Vec<usize>> =
            self.labels.as_slice()?.iter().map(|&label| usize::try_from(label).ok()).collect();
        let classes = self.class_weights.len();
        let labels = labels.filter(|labels| labels.iter().all(|&label| label < classes));
        let labels = labels.ok_or_else(|| PyValueError::new_err("a label is of no class"))?;
        let row_weights = self.row_weights.as_ref().map(|weights| weights.as_slice()).transpose()?;
        let (class_weights, standardize) = (&self.class_weights, self.standardize);
        py.detach(|| {
            SolverError::check_equal("labels", features.nrows(), labels.len())?;
            SolverError::check_equal(
                "weights",
                features.nrows(),
                row_weights.map_or(labels.len(), <[f64]>::len),
            )?;
            let distinct = Distinct::of(features, &labels, row_weights);
            let (features, labels, weights) = match &distinct {
                Some(Distinct { features, labels, weights }) => (features.view(), labels, Some(&weights[..])),
                // A view of another lifetime.
                None => (features.reborrow(), &labels, None),
            };
            let standardizer = standardize.then(|| match weights {
                Some(weights) => Standardizer::fit_weighted(features, weights),
                None => Standardizer::fit(features, &(0..features.nrows()).collect::<Vec<_>>()),
            });
            let prepared = standardizer.as_ref().map(|standardizer| standardizer.transform(features));
            let weight = |(row, &label): (usize, &usize)| {
                (weights.map_or(1.0, |weights| weights[row]) * class_weights[label]) as f32
            };
            let weights: Array1<f32> = labels.iter().enumerate().map(weight).collect();
            let records = prepared.as_ref().map_or(features.reborrow(), |prepared| prepared.view());
            let data = DatasetBase::new(records, Array1::from(labels.clone())).with_weights(weights);
            Ok((fit(&data)?, standardizer))
        })
        .map_err(|error: SolverError| invalid(error))
    }
}

/// Features (n x d) with labels and weights.
type Data<'a> = DatasetBase<ArrayView2<'a, f32>, Array1<usize>>;

/// Fits a linear SVM.
#[pyfunction]
fn fit_svm<'py>(
    py: Python<'py>,
    data: Rows<'py>,
    c: f64,
    tolerance: f64,
    most_passes: usize,
    seed: u64,
) -> PyResult<Linear<'py>> {
    let params = SvmParams::new().c(c).tolerance(tolerance).max_passes(most_passes).seed(seed);
    let (model, standardizer) = data.fit(py, |data| params.fit(data))?;
    linear(py, model, standardizer)
}

/// Fits multinomial logistic regression.
#[pyfunction]
fn fit_logistic<'py>(
    py: Python<'py>,
    data: Rows<'py>,
    c: f64,
    tolerance: f64,
    most_iterations: usize,
) -> PyResult<Linear<'py>> {
    let params = LogisticParams::new().c(c).tolerance(tolerance).max_iterations(most_iterations);
    let (model, standardizer) = data.fit(py, |data| params.fit(data))?;
    linear(py, model, standardizer)
}

/// Fits ridge regression; also gives the penalty that was chosen.
#[pyfunction]
fn fit_ridge<'py>(py: Python<'py>, data: Rows<'py>, alphas: Vec<f64>) -> PyResult<(Linear<'py>, f64)> {
    let params = RidgeParams::new().alphas(alphas);
    let (model, standardizer) = data.fit(py, |data| params.fit(data))?;
    Ok((linear(py, model.linear, standardizer)?, model.alpha))
}

/// The model in terms of features that are not standardised.
fn linear(py: Python<'_>, model: LinearModel, standardizer: Option<Standardizer>) -> PyResult<Linear<'_>> {
    let mut weights = model.weights.mapv(f64::from);
    let mut bias = model.bias;
    if let Some(standardizer) = standardizer {
        for (mut weights, bias) in weights.rows_mut().into_iter().zip(&mut bias) {
            for (j, weight) in weights.iter_mut().enumerate() {
                *weight = if standardizer.constant()[j] { 0.0 } else { *weight / standardizer.scale()[j] };
                *bias -= *weight * standardizer.mean()[j];
            }
        }
    }
    let convergence = model.convergence;
    let bias = PyArray1::from_vec(py, bias.to_vec());
    Ok((to_numpy(py, weights)?, bias, convergence.iterations, convergence.message))
}

/// Different rows with the sums of their weights.
struct Distinct {
    features: Array2<f32>,
    labels: Vec<usize>,
    weights: Vec<f64>,
}

impl Distinct {
    /// The different rows among those of a weight above 0, in the order of their hashes; `None` if there are no weights and no two
    /// rows are the same, so that nothing needs to be copied.
    fn of(features: ArrayView2<'_, f32>, labels: &[usize], weights: Option<&[f64]>) -> Option<Self> {
        let weight = |row: usize| weights.map_or(1.0, |weights| weights[row]);
        let values = features.to_slice().expect("`arrays::rows` gives rows one after the other");
        let columns = features.ncols();
        let bytes = |row: usize| bytemuck::cast_slice::<f32, u8>(&values[row * columns..(row + 1) * columns]);
        let hash = |row: usize| {
            let mut hasher = DefaultHasher::new();
            labels[row].hash(&mut hasher);
            hasher.write(bytes(row));
            hasher.finish()
        };
        let mut order: Vec<(u64, usize)> = (0..labels.len())
            .into_par_iter()
            .filter(|&row| weight(row) > 0.0)
            .map(|row| (hash(row), row))
            .collect();
        // Rows of one hash may differ; the row number keeps sums of weights the same for the same input.
        order.sort_unstable_by(|&(a, i), &(b, j)| {
            let unlike = || labels[i].cmp(&labels[j]).then_with(|| bytes(i).cmp(bytes(j)));
            a.cmp(&b).then_with(unlike).then(i.cmp(&j))
        });
        let same = |&(a, i): &(u64, usize), &(b, j): &(u64, usize)| {
            a == b && labels[i] == labels[j] && bytes(i) == bytes(j)
        };
        let groups: Vec<&[(u64, usize)]> = order.chunk_by(same).collect();
        if weights.is_none() && groups.len() == labels.len() {
            return None;
        }
        let kept: Vec<usize> = groups.iter().map(|group| group[0].1).collect();
        Some(Self {
            features: features.select(Axis(0), &kept),
            labels: kept.iter().map(|&row| labels[row]).collect(),
            weights: groups.iter().map(|group| group.iter().map(|&(_, row)| weight(row)).sum()).collect(),
        })
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fit_svm, module)?)?;
    module.add_function(wrap_pyfunction!(fit_logistic, module)?)?;
    module.add_function(wrap_pyfunction!(fit_ridge, module)?)
}
