//! Fitting a head to codes that are larger than the memory it may use: they are streamed, again and again.
//!
//! The final head is fitted first, then those of all folds side by side, which share every pass over the codes. Each fold is
//! still standardised by its own training rows: their mean and deviation come from sums of each fold, made in one
//! pass, and are folded into the weights. Some rows stay in memory, of which the final head's Newton steps are made; the
//! heads of the folds start from its optimum, with its last rows. So few passes over all rows are needed. What is minimised,
//! and when it counts as minimised, is the same as in memory.

mod look;
mod plan;
mod ridge;

#[cfg(test)]
mod tests;

use std::{cell::RefCell, slice};

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::{
    FitSettings, FittedHead, HeadKind, OutOfFold, Said, check_labels, evaluate,
    held_out::{Calibrated, HeldOut},
    solver::{Method, Solver},
    solver_notes,
};
use crate::evaluate::{Folds, Note};
use crate::head::{
    ClassWeights, Conformal, HeadError, HeadModel, Kernel, LinearModel, Loss, Novelty, Preparation,
    batched::{Rows, Sums, add_rows},
    linear::{TrainingSet, linear_scores},
    lockstep::{Line, Request, lockstep},
    logistic::LogisticLoss,
    newton::{Drawn, Weighed, descend},
    primal::{PrimalLoss, PrimalSolution},
    ranking,
    source::{RowSource, scan},
    svm::SvmLoss,
    view::View,
};
use look::Look;
use plan::Plan;

/// Gap to which the heads of the folds are fitted at least: they start from the final head, which has learned from the rows
/// that they are tested on, and nothing of that may be left.
const OF_FOLDS: f64 = 1e-4;

/// Codes that a head is fitted to without having them in memory. Slices have one element a row.
#[derive(Clone, Copy)]
pub struct StreamedData<'a> {
    /// n x d.
    pub source: &'a dyn RowSource,
    /// Class of each row, an index into `class_names`.
    pub labels: &'a [usize],
    /// Names of the classes; each must have at least 2 rows.
    pub class_names: &'a [String],
    /// Equal numbers for rows that never stand on both sides of a split.
    pub groups: &'a [usize],
    /// Names of the images, for messages.
    pub row_names: &'a [String],
    /// Bytes that may be used.
    pub max_memory: usize,
}

/// As [`super::fit_head`], but streaming the codes. The head also holds what tells unknown images, learned from a sample.
///
/// # Errors
/// As [`super::fit_head`]; when the codes cannot be read; [`HeadError::NotStreamed`] for kernels, the plain hinge, class
/// weights of ridge regression and a choice of C; [`HeadError::TooLittleMemory`].
pub fn fit_head_streamed(data: &StreamedData<'_>, settings: &FitSettings) -> Result<FittedHead, HeadError> {
    let solver = settings.solver()?;
    let (rows, columns) = (data.source.rows(), data.source.columns());
    let bound = data.max_memory >> 20;
    let refused = |what| Err(HeadError::NotStreamed { what, bound });
    match (settings.kind, settings.loss) {
        _ if settings.pca.is_some() => return refused("the choice of principal components"),
        _ if settings.tuning.is_some() => return refused("the choice of C"),
        (HeadKind::Ridge, _) if settings.class_weights != ClassWeights::Uniform => {
            return refused("ridge regression with class weights");
        }
        _ if settings.kernel != Kernel::Linear => return refused("a kernel SVM"),
        (HeadKind::Svm, Loss::Hinge) => return refused("the hinge loss"),
        _ => {}
    }
    if rows == 0 {
        return Err(HeadError::NoRows);
    }
    HeadError::check_equal("labels", rows, data.labels.len())?;
    HeadError::check_equal("groups", rows, data.groups.len())?;
    HeadError::check_equal("names of images", rows, data.row_names.len())?;
    check_labels(data.labels, data.class_names)?;
    settings.class_weights.check(data.class_names.len())?;
    let folds = Folds::stratified(data.labels, data.groups, data.class_names, settings.folds, settings.seed)?;
    let plan = Plan::new(data, folds.count(), settings.kind)?;

    let look = Look::new(data, &folds, &plan, settings)?;
    let everything = look.standardizer(None, settings.standardize);
    let preparation = Preparation::from_parts(settings.l2_normalize, everything.clone(), None)
        .expect("there are no components that might not fit");
    let constant = look.standardizer(None, true).constant().iter().filter(|&&constant| constant).count();
    if constant == columns {
        return Err(HeadError::AllConstant);
    }
    let sampled_groups: Vec<usize> = look.chosen.iter().map(|&row| data.groups[row]).collect();
    let novelty = Novelty::fit(look.sample.view(), &sampled_groups, settings.seed);
    let (mean, squared_length) = look.standardized(&everything);
    let stream = Stream {
        views: (0..folds.count())
            .map(Some)
            .chain([None])
            .map(|fold| View::new(&everything, &look.standardizer(fold, settings.standardize)))
            .collect(),
        mean,
        squared_length,
        seed: settings.seed,
        preparation,
        folds: &folds,
        plan,
        data,
    };
    drop(look);
    let mut models = stream.fit(&solver)?;
    let linear = models.pop().expect("the final fit is the last");

    let held_out = stream.held_out(&models)?;
    let labelled = (data.labels, data.class_names);
    let Calibrated { calibration, probabilities, answers, note } =
        held_out.calibrate(settings.calibration(), labelled, data.groups, &folds);
    let mut in_training = vec![0; rows];
    stream.scan(|first, block| {
        let scores = linear_scores(block, &linear.weights, &linear.bias);
        let predicted = ranking::answers(calibration.probabilities(scores.view()).view(), scores.view());
        in_training[first..first + predicted.len()].copy_from_slice(&predicted);
    })?;
    let said = Said { probabilities: &probabilities, answers: &answers, in_training: &in_training };
    let mut evaluation = evaluate(labelled, settings, &folds, &said);
    evaluation.notes.extend(note);
    evaluation.notes.extend(solver_notes(&linear, &held_out.unconverged, folds.count()));
    if constant > 0 {
        evaluation
            .notes
            .push(Note::info(format!("{constant} of {columns} columns are the same for all images")));
    }
    let model = HeadModel {
        class_names: data.class_names.to_vec(),
        settings: settings.clone(),
        preparation: stream.preparation.clone(),
        kernel: None,
        weights: linear.weights,
        bias: linear.bias,
        calibration,
        convergence: linear.convergence,
        conformal: Some(Conformal::new(probabilities.view(), data.labels)),
        novelty,
    };
    let out_of_fold =
        OutOfFold { folds: folds.assignment().to_vec(), scores: held_out.scores, probabilities };
    Ok(FittedHead { model, evaluation, out_of_fold, choices: Vec::new() })
}

/// The codes, standardised by all rows, and how each problem sees them.
struct Stream<'a> {
    data: &'a StreamedData<'a>,
    folds: &'a Folds,
    plan: Plan,
    /// Of the final head.
    preparation: Preparation,
    /// Of the heads of the folds, and of the final one.
    views: Vec<View>,
    /// Mean of each column.
    mean: Vec<f64>,
    /// Mean of the rows' squared lengths.
    squared_length: f64,
    seed: u64,
}

impl Stream<'_> {
    /// Visits the standardised codes block by block.
    fn scan(&self, mut visit: impl FnMut(usize, ArrayView2<'_, f32>)) -> Result<(), HeadError> {
        let columns = self.data.source.columns();
        let mut scaled = Array2::zeros((0, columns));
        scan(self.data.source, self.plan.block, |first, block| {
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

    /// The folds' heads, then the final one.
    fn fit(&self, solver: &Solver) -> Result<Vec<LinearModel>, HeadError> {
        let columns = self.data.source.columns();
        let classes = self.data.class_names.len();
        let weights: Vec<Vec<f64>> =
            (0..self.views.len()).map(|problem| self.row_weights(solver, problem)).collect();
        let costs = |weights: &[f64], c: f64| weights.iter().map(|weight| c * weight).collect::<Vec<_>>();
        match &solver.method {
            Method::Svm(params) => {
                let loss =
                    |weights: &Vec<f64>| SvmLoss::of(self.data.labels, classes, costs(weights, params.c()));
                let losses: Vec<_> = weights.iter().map(loss).collect();
                let model = |loss: &SvmLoss<'_>, found| params.model(loss, found, columns);
                self.descend(&losses, (params.tolerance(), params.max_passes()), model)
            }
            Method::Logistic(params) => {
                // Only an estimate is made of it.
                let squares = vec![self.squared_length; self.data.labels.len()];
                let loss = |weights: &Vec<f64>| {
                    LogisticLoss::of(self.data.labels, classes, costs(weights, params.c()), squares.clone())
                };
                let losses: Vec<_> = weights.iter().map(loss).collect();
                let model = |loss: &LogisticLoss<'_>, found| params.model(loss, found, columns);
                self.descend(&losses, (params.tolerance(), params.max_iterations()), model)
            }
            Method::Ridge(params) => self.ridge(params),
            Method::Kernel(_) => unreachable!("kernel SVMs have been refused"),
        }
    }

    /// Weight of each row in a problem: 0 in the head of its own fold.
    fn row_weights(&self, solver: &Solver, problem: usize) -> Vec<f64> {
        let labels = self.data.labels;
        let training: Vec<usize> =
            (0..labels.len()).filter(|&row| self.folds.assignment()[row] != problem).collect();
        let mut set = TrainingSet {
            rows: Vec::new(),
            whole: None,
            labels: training.iter().map(|&row| labels[row]).collect(),
            weights: vec![1.0; training.len()],
            classes: self.data.class_names.len(),
        };
        solver.class_weights.apply(&mut set, |label| label);
        let mut weights = vec![0.0; labels.len()];
        training.iter().zip(&set.weights).for_each(|(&row, &weight)| weights[row] = weight);
        weights
    }

    fn descend<L: PrimalLoss>(
        &self,
        losses: &[L],
        limits: (f64, usize),
        model: impl Fn(&L, PrimalSolution) -> LinearModel + Sync,
    ) -> Result<Vec<LinearModel>, HeadError> {
        let columns = self.data.source.columns();
        let last = self.views.len() - 1;
        let (loss, view) = (&losses[last], &self.views[last]);
        let drawn = RefCell::new(Drawn::new(self.plan.drawn, columns, self.seed));
        let (place, failed) = (RefCell::default(), RefCell::new(None));
        let of_all = |weights: &[f32], bias: &[f64]| {
            let request = Request { problem: last, weights: weights.to_vec(), bias: bias.to_vec() };
            let sums = self.pass(losses, slice::from_ref(&request), Some(&mut drawn.borrow_mut()));
            *place.borrow_mut() = (request.weights, request.bias);
            sums.map(|mut sums| sums.remove(0)).map_err(|error| *failed.borrow_mut() = Some(error)).ok()
        };
        let newton = |vectors: &mut [f64]| {
            drawn.borrow().hessian(loss, view, &place.borrow(), self.plan.matrix).solve(vectors);
        };
        let solution = descend(loss, columns, &of_all, None, newton, limits);
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        let optimum = view.leave(&solution.linear.0, &solution.linear.1);
        let whole = model(loss, solution);
        let drawn = drawn.into_inner();
        let (tolerance, most) = limits;
        let limits = (tolerance.min(OF_FOLDS), most);
        let solve = |problem: usize, line: &Line<'_>| {
            let (loss, view) = (&losses[problem], &self.views[problem]);
            let start = view.enter(&optimum.0, &optimum.1);
            let hessian = drawn.hessian(loss, view, &start, self.plan.matrix);
            let of_all = |weights: &[f32], bias: &[f64]| line.sums(weights, bias);
            let newton = |vectors: &mut [f64]| hessian.solve(vectors);
            model(loss, descend(loss, columns, &of_all, Some(&start), newton, limits))
        };
        let mut models = lockstep(last, solve, |requests| self.pass(losses, requests, None))?;
        models.push(whole);
        Ok(models)
    }

    /// Answers all requests by one reading of the codes, and draws rows for the first.
    fn pass<L: PrimalLoss>(
        &self,
        losses: &[L],
        requests: &[Request],
        mut drawn: Option<&mut Drawn>,
    ) -> Result<Vec<Sums>, HeadError> {
        let columns = self.data.source.columns();
        let seen: Vec<_> = requests
            .iter()
            .map(|request| self.views[request.problem].leave(&request.weights, &request.bias))
            .collect();
        let mut sums: Vec<Sums> =
            requests.iter().map(|request| Sums::zeros(request.bias.len(), columns)).collect();
        if let Some(drawn) = &mut drawn {
            drawn.clear();
        }
        self.scan(|first, block| {
            let values = block.to_slice().expect("made in standard layout");
            let rows = Rows::Whole(values);
            for (i, ((request, (weights, bias)), sums)) in
                requests.iter().zip(&seen).zip(&mut sums).enumerate()
            {
                let loss = &losses[request.problem];
                match &mut drawn {
                    Some(drawn) if i == 0 => {
                        let weighed = Weighed::new(loss, first, block.nrows());
                        add_rows(rows, first, weights, bias, &weighed, sums);
                        let offered = weighed.weights().zip(values.chunks_exact(columns));
                        offered
                            .enumerate()
                            .for_each(|(i, (weight, row))| drawn.offer(first + i, weight, row));
                    }
                    _ => add_rows(rows, first, weights, bias, loss, sums),
                }
            }
        })?;
        for (request, sums) in requests.iter().zip(&mut sums) {
            self.views[request.problem].gradient(sums);
        }
        Ok(sums)
    }

    /// Scores of each row by its fold's head.
    fn held_out(&self, models: &[LinearModel]) -> Result<HeldOut, HeadError> {
        let (labels, classes) = (self.data.labels, self.data.class_names.len());
        let columns = self.data.source.columns();
        let mut sizes = vec![0usize; classes];
        let mut in_fold = vec![vec![0usize; classes]; models.len()];
        for (&label, &fold) in labels.iter().zip(self.folds.assignment()) {
            sizes[label] += 1;
            in_fold[fold][label] += 1;
        }
        let trained = |row: usize| in_fold[self.folds.assignment()[row]][labels[row]] < sizes[labels[row]];
        let mut held_out = HeldOut {
            scores: Array2::zeros((labels.len(), classes)),
            comparable: (0..labels.len()).map(trained).collect(),
            unconverged: models.iter().filter_map(|model| model.convergence.message.clone()).collect(),
            chosen: Vec::new(),
        };
        let seen: Vec<(Array2<f32>, Array1<f64>)> = models
            .iter()
            .zip(&self.views)
            .map(|(model, view)| {
                let flat: Vec<f32> = model.weights.iter().copied().collect();
                let (weights, bias) = view.leave(&flat, &model.bias.to_vec());
                let weights =
                    Array2::from_shape_vec((classes, columns), weights).expect("one row of weights a class");
                (weights, Array1::from(bias))
            })
            .collect();
        self.scan(|first, block| {
            for (fold, (weights, bias)) in seen.iter().enumerate() {
                let own: Vec<usize> =
                    (0..block.nrows()).filter(|&i| self.folds.assignment()[first + i] == fold).collect();
                let scores = linear_scores(block.select(Axis(0), &own).view(), weights, bias);
                for (&i, scores) in own.iter().zip(scores.rows()) {
                    held_out.scores.row_mut(first + i).assign(&scores);
                }
            }
        })?;
        Ok(held_out)
    }
}
