//! Fitting linear models to features that are larger than the memory they may use: the rows are streamed, again and again.
//!
//! The model of all rows is fitted first, then those of all folds side by side, which share every pass over the rows. Each
//! fold's model is standardised by its own training rows: their mean and deviation come from sums of each fold, made in one
//! pass, and are folded into the weights. Some rows stay in memory, of which the Newton steps of the model of all rows are
//! made; the models of the folds start from its optimum, with its last rows. So few passes over all rows are needed. What is
//! minimised, and when it counts as minimised, is the same as in memory.

mod first_pass;
mod memory_plan;
mod projection;
mod ridge;

use std::{cell::RefCell, slice};

use ndarray::{Array1, Array2, ArrayView2, Axis};

pub use self::projection::{ProjectionSettings, StreamedProjection};
use self::{first_pass::FirstPass, memory_plan::MemoryPlan};
use super::{
    ClassWeights, LinearModel, Preparation, RowSource, Solver, SolverError,
    batched::{MatrixRows, Sums, add_rows},
    fold_scaling::FoldScaling,
    linear_scores,
    logistic::LogisticLoss,
    newton::{PrioritySample, WeighedLoss, descend},
    primal::{PrimalLoss, PrimalSolution},
    row_source::scan,
    shared_passes::{PassHandle, PassRequest, shared_passes},
    svm::SvmLoss,
    weighted_rows::WeightedRows,
};

/// Gap to which the models of the folds are fitted at least: they start from the model of all rows, which has learned from
/// the rows that they are tested on, and nothing of that may be left.
const OF_FOLDS: f64 = 1e-4;

/// Rows that are streamed, and the folds of a cross-validation that they belong to. Slices have one element a row.
#[derive(Clone, Copy)]
pub struct StreamedRows<'a> {
    /// n x d.
    pub source: &'a dyn RowSource,
    /// Class of each row, below `classes`.
    pub labels: &'a [usize],
    /// Number of classes; each must have a row.
    pub classes: usize,
    /// Fold in which each row is tested, below `fold_count`.
    pub folds: &'a [usize],
    /// Number of folds.
    pub fold_count: usize,
}

/// How streamed rows are fitted to.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// The linear SVM, logistic regression or ridge regression.
    pub solver: Solver,
    /// How much the losses of each class's rows count; ridge regression takes uniform weights only.
    pub class_weights: ClassWeights,
    /// Whether each row is divided by its Euclidean length first.
    pub l2_normalize: bool,
    /// Whether each column is then brought to mean 0 and deviation 1, for each fold by its training rows.
    pub standardize: bool,
    /// Seed of all samples.
    pub seed: u64,
    /// Bytes that may be used.
    pub max_memory: usize,
    /// Bytes that the caller keeps of each row, which count as used.
    pub kept_of_row: usize,
}

/// A random sample of the rows, as the source gives them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RowSample {
    /// Their numbers, rising.
    pub rows: Vec<usize>,
    /// Their features.
    pub features: Array2<f32>,
}

/// Streamed rows after a first pass, ready to be fitted to.
pub struct Streaming<'a> {
    rows: StreamedRows<'a>,
    settings: StreamSettings,
    plan: MemoryPlan,
    /// Of the model of all rows.
    preparation: Preparation,
    constant_columns: usize,
    /// How the models of the folds, and that of all rows, see the features as prepared.
    scalings: Vec<FoldScaling>,
    /// Mean of each column.
    mean: Vec<f64>,
    /// Mean of the rows' squared lengths.
    squared_length: f64,
    /// Not empty until it is taken.
    sample: RowSample,
}

impl<'a> Streaming<'a> {
    /// Divides the memory, and makes the first pass.
    ///
    /// # Errors
    /// [`SolverError::NoRows`], [`SolverError::Mismatch`], [`SolverError::NotStreamed`] for solvers that need all rows in
    /// memory, [`SolverError::TooLittleMemory`], [`SolverError::NotFinite`], [`SolverError::Read`].
    pub fn new(rows: StreamedRows<'a>, settings: StreamSettings) -> Result<Self, SolverError> {
        let count = rows.source.rows();
        if count == 0 {
            return Err(SolverError::NoRows);
        }
        SolverError::check_equal("labels", count, rows.labels.len())?;
        SolverError::check_equal("folds", count, rows.folds.len())?;
        settings.class_weights.check(rows.classes)?;
        match &settings.solver {
            Solver::Ridge(_) if settings.class_weights != ClassWeights::Uniform => {
                return Err(SolverError::NotStreamed { what: "ridge regression with class weights" });
            }
            solver if !solver.is_streamable() => {
                return Err(SolverError::NotStreamed { what: "this solver" });
            }
            _ => {}
        }
        let plan = MemoryPlan::new(&rows, &settings)?;
        Self::with_plan(rows, settings, plan)
    }

    fn with_plan(
        rows: StreamedRows<'a>,
        settings: StreamSettings,
        plan: MemoryPlan,
    ) -> Result<Self, SolverError> {
        let first = FirstPass::new(&rows, (plan.block, plan.sample), settings.seed, settings.l2_normalize)?;
        let everything = first.standardizer(None, settings.standardize);
        let constant = first.standardizer(None, true).constant().iter().filter(|&&constant| constant).count();
        let (mean, squared_length) = first.standardized(&everything);
        let scaling = |fold| FoldScaling::new(&everything, &first.standardizer(fold, settings.standardize));
        Ok(Self {
            scalings: (0..rows.fold_count).map(Some).chain([None]).map(scaling).collect(),
            preparation: Preparation::from_parts(settings.l2_normalize, everything.clone(), None)
                .expect("there are no components that might not fit"),
            constant_columns: constant,
            mean,
            squared_length,
            sample: first.into_sample(),
            rows,
            settings,
            plan,
        })
    }

    /// What is done to features before the model of all rows sees them.
    pub fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// Number of columns that are the same for all rows.
    pub fn constant_columns(&self) -> usize {
        self.constant_columns
    }

    /// Hands over the sample of rows that the first pass took.
    pub fn take_sample(&mut self) -> RowSample {
        let columns = self.rows.source.columns();
        let none = RowSample { rows: Vec::new(), features: Array2::zeros((0, columns)) };
        std::mem::replace(&mut self.sample, none)
    }

    /// Visits the prepared rows block by block: the number of the first, and their features.
    ///
    /// # Errors
    /// [`SolverError::Read`].
    pub fn scan(&self, mut visit: impl FnMut(usize, ArrayView2<'_, f32>)) -> Result<(), SolverError> {
        let columns = self.rows.source.columns();
        let mut scaled = Array2::zeros((0, columns));
        scan(self.rows.source, self.plan.block, |first, block| {
            let view = ArrayView2::from_shape((block.len() / columns, columns), &*block)
                .expect("whole rows are read");
            if scaled.dim() != view.dim() {
                scaled = Array2::zeros(view.dim());
            }
            self.preparation.transform_into(view, &mut scaled);
            visit(first, scaled.view());
            Ok(())
        })
    }

    /// The models of the folds, each fitted without the rows of its fold and for features as those rows standardise them; then
    /// the model of all rows.
    ///
    /// # Errors
    /// [`SolverError::Read`].
    pub fn fit(&self) -> Result<Vec<LinearModel>, SolverError> {
        let columns = self.rows.source.columns();
        let (labels, classes) = (self.rows.labels, self.rows.classes);
        let weights: Vec<Vec<f64>> =
            (0..self.scalings.len()).map(|problem| self.row_weights(problem)).collect();
        let costs = |weights: &[f64], c: f64| weights.iter().map(|weight| c * weight).collect::<Vec<_>>();
        match &self.settings.solver {
            Solver::Svm(params) => {
                let loss = |weights: &Vec<f64>| SvmLoss::of(labels, classes, costs(weights, params.c()));
                let losses: Vec<_> = weights.iter().map(loss).collect();
                let model = |loss: &SvmLoss<'_>, found| params.model(loss, found, columns);
                self.descend(&losses, (params.tolerance(), params.max_passes()), model)
            }
            Solver::Logistic(params) => {
                // Only an estimate is made of it.
                let squares = vec![self.squared_length; labels.len()];
                let loss = |weights: &Vec<f64>| {
                    LogisticLoss::of(labels, classes, costs(weights, params.c()), squares.clone())
                };
                let losses: Vec<_> = weights.iter().map(loss).collect();
                let model = |loss: &LogisticLoss<'_>, found| params.model(loss, found, columns);
                self.descend(&losses, (params.tolerance(), params.max_iterations()), model)
            }
            Solver::Ridge(params) => self.ridge(params),
            _ => Err(SolverError::NotStreamed { what: "this solver" }),
        }
    }

    /// Weight of each row in a problem: 0 in the model of its own fold.
    fn row_weights(&self, problem: usize) -> Vec<f64> {
        let labels = self.rows.labels;
        let training: Vec<usize> = (0..labels.len()).filter(|&row| self.rows.folds[row] != problem).collect();
        let mut set = WeightedRows {
            rows: Vec::new(),
            whole: None,
            labels: training.iter().map(|&row| labels[row]).collect(),
            weights: vec![1.0; training.len()],
            classes: self.rows.classes,
        };
        self.settings.class_weights.apply(&mut set, |label| label);
        let mut weights = vec![0.0; labels.len()];
        training.iter().zip(&set.weights).for_each(|(&row, &weight)| weights[row] = weight);
        weights
    }

    fn descend<L: PrimalLoss>(
        &self,
        losses: &[L],
        limits: (f64, usize),
        model: impl Fn(&L, PrimalSolution) -> LinearModel + Sync,
    ) -> Result<Vec<LinearModel>, SolverError> {
        let columns = self.rows.source.columns();
        let last = self.scalings.len() - 1;
        let (loss, scaling) = (&losses[last], &self.scalings[last]);
        let sample = RefCell::new(PrioritySample::new(self.plan.drawn, columns, self.settings.seed));
        let (place, failed) = (RefCell::default(), RefCell::new(None));
        let of_all = |weights: &[f32], bias: &[f64]| {
            let request = PassRequest { problem: last, weights: weights.to_vec(), bias: bias.to_vec() };
            let sums = self.pass(losses, slice::from_ref(&request), Some(&mut sample.borrow_mut()));
            *place.borrow_mut() = (request.weights, request.bias);
            sums.map(|mut sums| sums.remove(0)).map_err(|error| *failed.borrow_mut() = Some(error)).ok()
        };
        let newton = |vectors: &mut [f64]| {
            sample.borrow().hessian(loss, scaling, &place.borrow(), self.plan.matrix).solve(vectors);
        };
        let solution = descend(loss, columns, &of_all, None, newton, limits);
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        let optimum = scaling.to_shared(&solution.linear.0, &solution.linear.1);
        let whole = model(loss, solution);
        let sample = sample.into_inner();
        let (tolerance, most) = limits;
        let limits = (tolerance.min(OF_FOLDS), most);
        let solve = |problem: usize, passes: &PassHandle<'_>| {
            let (loss, scaling) = (&losses[problem], &self.scalings[problem]);
            let start = scaling.to_own(&optimum.0, &optimum.1);
            let hessian = sample.hessian(loss, scaling, &start, self.plan.matrix);
            let of_all = |weights: &[f32], bias: &[f64]| passes.sums(weights, bias);
            let newton = |vectors: &mut [f64]| hessian.solve(vectors);
            model(loss, descend(loss, columns, &of_all, Some(&start), newton, limits))
        };
        let mut models = shared_passes(last, solve, |requests| self.pass(losses, requests, None))?;
        models.push(whole);
        Ok(models)
    }

    /// Answers all requests by one reading of the rows, and draws a sample for the first.
    fn pass<L: PrimalLoss>(
        &self,
        losses: &[L],
        requests: &[PassRequest],
        mut sample: Option<&mut PrioritySample>,
    ) -> Result<Vec<Sums>, SolverError> {
        let columns = self.rows.source.columns();
        let shared: Vec<_> = requests
            .iter()
            .map(|request| self.scalings[request.problem].to_shared(&request.weights, &request.bias))
            .collect();
        let mut sums: Vec<Sums> =
            requests.iter().map(|request| Sums::zeros(request.bias.len(), columns)).collect();
        if let Some(sample) = &mut sample {
            sample.clear();
        }
        self.scan(|first, block| {
            let values = block.to_slice().expect("made in standard layout");
            let rows = MatrixRows::Whole(values);
            for (i, ((request, (weights, bias)), sums)) in
                requests.iter().zip(&shared).zip(&mut sums).enumerate()
            {
                let loss = &losses[request.problem];
                match &mut sample {
                    Some(sample) if i == 0 => {
                        let weighed = WeighedLoss::new(loss, first, block.nrows());
                        add_rows(rows, first, weights, bias, &weighed, sums);
                        let weighed_rows = weighed.weights().zip(values.chunks_exact(columns));
                        weighed_rows
                            .enumerate()
                            .for_each(|(i, (weight, row))| sample.insert(first + i, weight, row));
                    }
                    _ => add_rows(rows, first, weights, bias, loss, sums),
                }
            }
        })?;
        for (request, sums) in requests.iter().zip(&mut sums) {
            self.scalings[request.problem].gradient(sums);
        }
        Ok(sums)
    }

    /// Scores of each row by the model of its fold, of those that [`Self::fit`] returned first: n x classes.
    ///
    /// # Errors
    /// [`SolverError::Read`].
    ///
    /// # Panics
    /// With fewer models than folds.
    pub fn held_out_scores(&self, models: &[LinearModel]) -> Result<Array2<f64>, SolverError> {
        let (classes, columns) = (self.rows.classes, self.rows.source.columns());
        let mut held_out = Array2::zeros((self.rows.labels.len(), classes));
        let shared: Vec<(Array2<f32>, Array1<f64>)> = models[..self.rows.fold_count]
            .iter()
            .zip(&self.scalings)
            .map(|(model, scaling)| {
                let flat: Vec<f32> = model.weights.iter().copied().collect();
                let (weights, bias) = scaling.to_shared(&flat, &model.bias.to_vec());
                let weights =
                    Array2::from_shape_vec((classes, columns), weights).expect("one row of weights a class");
                (weights, Array1::from(bias))
            })
            .collect();
        self.scan(|first, block| {
            for (fold, (weights, bias)) in shared.iter().enumerate() {
                let own: Vec<usize> =
                    (0..block.nrows()).filter(|&i| self.rows.folds[first + i] == fold).collect();
                let scores = linear_scores(block.select(Axis(0), &own).view(), weights, bias);
                for (&i, scores) in own.iter().zip(scores.rows()) {
                    held_out.row_mut(first + i).assign(&scores);
                }
            }
        })?;
        Ok(held_out)
    }
}

#[cfg(test)]
mod tests {
    use linfa::ParamGuard;
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::LogisticParams;

    /// Noisy rows of three classes, with a constant column and one that is larger and far from 0.
    fn example() -> (Array2<f32>, Vec<usize>) {
        let labels: Vec<usize> = (0..900).map(|i| i * i % 7 % 3).collect();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        let mut noise = || rng.random_range(-2f32..2.0);
        let feature = |(i, j): (usize, usize)| match j {
            5 => 3.0,
            6 => 20.0 + 3.0 * noise(),
            _ => noise() + if j % 3 == labels[i] { 0.6 } else { 0.0 },
        };
        let features = Array2::from_shape_fn((900, 20), feature);
        (features, labels)
    }

    #[test]
    fn few_drawn_rows_and_several_blocks_change_nothing() {
        let (features, labels) = example();
        let view = features.view();
        let folds: Vec<usize> = (0..900).map(|row| row % 3).collect();
        let rows = StreamedRows { source: &view, labels: &labels, classes: 3, folds: &folds, fold_count: 3 };
        let settings = StreamSettings {
            solver: Solver::Logistic(LogisticParams::new().tolerance(1e-6).check().unwrap()),
            class_weights: ClassWeights::Uniform,
            l2_normalize: false,
            standardize: true,
            seed: 0,
            max_memory: 256 << 20,
            kept_of_row: 0,
        };
        let mut objectives = Vec::new();
        for plan in [
            MemoryPlan { block: 1000, sample: 900, drawn: 900, matrix: true },
            MemoryPlan { block: 77, sample: 100, drawn: 100, matrix: true },
            MemoryPlan { block: 128, sample: 50, drawn: 30, matrix: false },
        ] {
            let stream = Streaming::with_plan(rows, settings.clone(), plan).unwrap();
            assert_eq!(stream.constant_columns(), 1);
            let models = stream.fit().unwrap();
            assert!(models.iter().all(|model| model.convergence.converged), "{:?}", models[0].convergence);
            objectives.push(models.iter().map(|model| model.convergence.objective).collect::<Vec<_>>());
        }
        for other in &objectives[1..] {
            for (a, b) in other.iter().zip(&objectives[0]) {
                assert!((a / b - 1.0).abs() < 2e-6, "{objectives:?}");
            }
        }
    }
}
