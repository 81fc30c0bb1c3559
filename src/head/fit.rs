//! Fitting a head to codes: cross-validation, calibration and the final fit, in one call.
//!
//! Nothing about a held-out fold is learned from it: its standardisation comes from the training rows, and its
//! probabilities are calibrated on the other folds.

use linfa::ParamGuard;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{
    Calibration, CalibrationMethod, ClassWeights, Conformal, Convergence, HeadError, HeadModel, LinearModel,
    LogisticParams, LogisticValidParams, Loss, RidgeParams, RidgeValidParams, Standardizer, SvmParams,
    SvmValidParams, Tuning, linear::TrainingSet, model::most_probable, tune::Problem,
};
use crate::evaluate::{CalibrationMetrics, Confusion, Evaluation, Folds, Note, log_loss};

/// Which classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// Linear support vector machine, one class against the rest.
    Svm,
    /// Multinomial logistic regression.
    Logistic,
    /// Ridge regression on targets of ±1.
    Ridge,
}

/// How a head is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitSettings {
    /// Which classifier.
    pub kind: HeadKind,
    /// Weight of the losses against the regularisation; `None` for the kind's default (see [`Self::c`]). For ridge
    /// regression it is 1 / 2α, and `None` chooses α by leave-one-out among the training rows.
    pub c: Option<f64>,
    /// Whether each column is brought to mean 0 and deviation 1 first. Without it, C means something else for every
    /// network, and codes of very small or large values may not be learned from at all.
    pub standardize: bool,
    /// Loss of the SVM.
    pub loss: Loss,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Seed of the folds and of the SVM's order of visits.
    pub seed: u64,
    /// Duality gap, relative to the objective, at which the solver stops: at most this share is left to gain.
    pub tolerance: f64,
    /// Passes (SVM) or iterations (logistic) after which the solver gives up, and says so.
    pub max_iterations: usize,
    /// How scores become probabilities; `None` for Platt's sigmoids for the SVM and a temperature for logistic
    /// regression.
    #[serde(default)]
    pub calibration: Option<CalibrationMethod>,
    /// How much mistakes on each class count; not for ridge regression.
    #[serde(default)]
    pub class_weights: ClassWeights,
    /// Chooses C, in place of `c`; not for ridge regression. The head that is returned has the chosen value in `c`.
    #[serde(default)]
    pub tuning: Option<Tuning>,
}

impl FitSettings {
    /// The defaults: standardised, squared hinge, 5 folds, seed 0, tolerance 1e-4, 1000 iterations.
    pub fn new(kind: HeadKind) -> Self {
        Self {
            kind,
            c: None,
            standardize: true,
            loss: Loss::default(),
            folds: 5,
            seed: 0,
            tolerance: 1e-4,
            max_iterations: 1000,
            calibration: None,
            class_weights: ClassWeights::default(),
            tuning: None,
        }
    }

    /// C, or its default: 0.01 for the SVM and 1 for logistic regression. On standardised codes of 512 to 4096 columns
    /// accuracy hardly depends on C; smaller values regularise more.
    pub fn c(&self) -> f64 {
        self.c.unwrap_or(match self.kind {
            HeadKind::Svm => 0.01,
            HeadKind::Logistic | HeadKind::Ridge => 1.0,
        })
    }

    /// How scores become probabilities, or the kind's default.
    pub fn calibration(&self) -> CalibrationMethod {
        self.calibration.unwrap_or(match self.kind {
            HeadKind::Svm | HeadKind::Ridge => CalibrationMethod::Platt,
            HeadKind::Logistic => CalibrationMethod::Temperature,
        })
    }

    /// The solver's checked settings, with C = `c`.
    fn solver_with(&self, c: f64) -> Result<Solver, HeadError> {
        let method = match self.kind {
            HeadKind::Svm => {
                let params = SvmParams::new().c(c).loss(self.loss).seed(self.seed);
                Method::Svm(params.tolerance(self.tolerance).max_passes(self.max_iterations).check()?)
            }
            HeadKind::Logistic => {
                let params = LogisticParams::new().c(c).tolerance(self.tolerance);
                Method::Logistic(params.max_iterations(self.max_iterations).check()?)
            }
            HeadKind::Ridge if self.c.is_none() => Method::Ridge(RidgeParams::new().check()?),
            HeadKind::Ridge => {
                HeadError::check_positive("C", c)?;
                Method::Ridge(RidgeParams::new().alphas(vec![0.5 / c]).check()?)
            }
        };
        Ok(Solver { method, class_weights: self.class_weights.clone() })
    }

    /// As [`Self::solver_with`] the settings' own C, after a check of everything else.
    fn solver(&self) -> Result<Solver, HeadError> {
        HeadError::check(self.folds >= 2, "the number of folds", self.folds as f64, "at least 2")?;
        let plain = self.class_weights == ClassWeights::Uniform && self.tuning.is_none();
        if self.kind == HeadKind::Ridge && !plain {
            return Err(HeadError::NotForRidge);
        }
        if let Some(tuning) = &self.tuning {
            tuning.check()?;
        }
        self.solver_with(self.c())
    }

    /// The solver for the rows `problem` may look at: with the settings' own C, or with the one chosen by tuning, which is
    /// returned as well.
    fn tuned(&self, problem: &Problem<'_>, plain: &Solver) -> Result<(Solver, Option<f64>), HeadError> {
        let Some(tuning) = &self.tuning else { return Ok((plain.clone(), None)) };
        let solvers = |path: &[f64]| path.iter().map(|&c| self.solver_with(c)).collect::<Result<Vec<_>, _>>();
        solvers(&tuning.grid)?;
        let classes = problem.class_names.len();
        let chosen = tuning.choose(problem, |rows, path| {
            let solvers = solvers(path).expect("every C of the grid has just been checked");
            fit_path(&solvers, problem.codes, problem.labels, rows, classes)
        })?;
        Ok((self.solver_with(chosen)?, Some(chosen)))
    }
}

/// Fits with each solver in turn, each but the first starting from the solution of the last.
fn fit_path(
    solvers: &[Solver],
    codes: &Array2<f32>,
    labels: &[usize],
    rows: &[usize],
    classes: usize,
) -> Vec<LinearModel> {
    let mut models: Vec<LinearModel> = Vec::with_capacity(solvers.len());
    for solver in solvers {
        let model = solver.fit_from(codes, labels, rows, classes, models.last());
        models.push(model);
    }
    models
}

/// What a head is fitted to. All slices have one element a row of `codes`.
#[derive(Debug, Clone, Copy)]
pub struct TrainingData<'a> {
    /// n x d.
    pub codes: ArrayView2<'a, f32>,
    /// Class of each row, an index into `class_names`.
    pub labels: &'a [usize],
    /// Names of the classes; each must have at least 2 rows.
    pub class_names: &'a [String],
    /// Equal numbers for rows that are copies of one image: they never stand on both sides of a split. `None` when all
    /// rows are known to be different.
    pub groups: Option<&'a [usize]>,
    /// Names of the images, for messages.
    pub row_names: Option<&'a [String]>,
}

/// A head with what cross-validation found about it.
#[derive(Debug, Clone)]
pub struct FittedHead {
    /// Fitted to all rows.
    pub model: HeadModel,
    /// How well heads fitted alike did on rows that they had not seen.
    pub evaluation: Evaluation,
    /// What they said about each of those rows.
    pub out_of_fold: OutOfFold,
}

/// What was said about each row by a head that had not seen it.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfFold {
    /// The fold in which each row was tested.
    pub folds: Vec<usize>,
    /// n x classes.
    pub scores: Array2<f64>,
    /// n x classes, calibrated on the other folds.
    pub probabilities: Array2<f64>,
}

/// Cross-validates and fits a head.
///
/// # Errors
/// When settings are out of range, sizes disagree, codes are not finite or do not vary, there is only one class, or a
/// class has fewer than 2 rows. A solver that did not reach its stopping rule, or an accuracy that is not above chance,
/// is no error, but a warning among the evaluation's notes.
pub fn fit_head(data: &TrainingData<'_>, settings: &FitSettings) -> Result<FittedHead, HeadError> {
    let solver = settings.solver()?;
    data.check()?;
    settings.class_weights.check(data.class_names.len())?;
    let own_groups: Vec<usize>;
    let groups = match data.groups {
        Some(groups) => groups,
        None => {
            own_groups = (0..data.labels.len()).collect();
            &own_groups
        }
    };
    let folds = Folds::stratified(data.labels, groups, data.class_names, settings.folds, settings.seed)?;
    let everything: Vec<usize> = (0..data.labels.len()).collect();
    let learned = Standardizer::fit(data.codes, &everything);
    let constant = learned.constant().iter().filter(|&&constant| constant).count();
    if constant == data.codes.ncols() {
        return Err(HeadError::AllConstant);
    }
    let scaler = if settings.standardize { learned } else { Standardizer::identity(data.codes.ncols()) };

    // One buffer serves all folds and the final fit.
    let mut scaled = Array2::zeros(data.codes.raw_dim());
    let held_out = HeldOut::collect(data, settings, &solver, groups, &folds, &mut scaled)?;
    let calibration = held_out.calibrate(settings.calibration(), data.labels, |_| true);
    let probabilities = held_out.probabilities(settings.calibration(), data.labels, &folds);

    scaler.transform_into(data.codes, &mut scaled);
    let (solver, chosen) = settings.tuned(&problem(data, groups, settings, &scaled, &everything), &solver)?;
    let linear = solver.fit(&scaled, data.labels, &everything, data.class_names.len());
    let in_training = most_probable(calibration.probabilities(linear.scores(scaled.view()).view()).view());
    let mut evaluation = evaluate(data, settings, &folds, &probabilities, &in_training);
    if let Some(chosen) = chosen {
        let c_of_folds: Vec<String> = held_out.chosen.iter().map(f64::to_string).collect();
        evaluation.notes.push(Note::info(format!(
            "C = {chosen} was chosen by cross-validation; to measure the accuracy it was chosen anew in each fold, \
             without looking at the fold's images: {}",
            c_of_folds.join(", ")
        )));
    }
    evaluation.notes.extend(solver_notes(&linear, &held_out.unconverged, folds.count()));
    if constant > 0 {
        let columns = data.codes.ncols();
        evaluation
            .notes
            .push(Note::info(format!("{constant} of {columns} columns are the same for all images")));
    }
    let model = HeadModel {
        class_names: data.class_names.to_vec(),
        settings: FitSettings { c: chosen.or(settings.c), ..settings.clone() },
        standardizer: scaler,
        weights: linear.weights,
        bias: linear.bias,
        calibration,
        convergence: linear.convergence,
        conformal: Some(Conformal::new(probabilities.view(), data.labels)),
        novelty: None,
    };
    let out_of_fold =
        OutOfFold { folds: folds.assignment().to_vec(), scores: held_out.scores, probabilities };
    Ok(FittedHead { model, evaluation, out_of_fold })
}

impl FitSettings {
    fn standardizer(&self, data: &TrainingData<'_>, rows: &[usize]) -> Standardizer {
        if self.standardize {
            Standardizer::fit(data.codes, rows)
        } else {
            Standardizer::identity(data.codes.ncols())
        }
    }
}

impl TrainingData<'_> {
    fn check(&self) -> Result<(), HeadError> {
        let rows = self.codes.nrows();
        if rows == 0 {
            return Err(HeadError::NoRows);
        }
        HeadError::check_equal("labels", rows, self.labels.len())?;
        HeadError::check_equal("groups", rows, self.groups.map_or(rows, <[_]>::len))?;
        HeadError::check_equal("names of images", rows, self.row_names.map_or(rows, <[_]>::len))?;
        let classes = self.class_names.len();
        let mut sizes = vec![0usize; classes];
        for (row, &label) in self.labels.iter().enumerate() {
            *sizes.get_mut(label).ok_or(HeadError::LabelOutOfRange { row, label, classes })? += 1;
        }
        if sizes.iter().filter(|&&size| size > 0).count() < 2 {
            let class = self.class_names[self.labels[0]].clone();
            return Err(HeadError::OneClass { class });
        }
        if let Some(class) = sizes.iter().position(|&size| size < 2) {
            return Err(HeadError::ClassTooSmall {
                class: self.class_names[class].clone(),
                rows: sizes[class],
            });
        }
        HeadError::check_finite(self.codes, self.row_names)
    }
}

/// A solver with checked settings.
#[derive(Debug, Clone)]
struct Solver {
    method: Method,
    class_weights: ClassWeights,
}

#[derive(Debug, Clone)]
enum Method {
    Svm(SvmValidParams),
    Logistic(LogisticValidParams),
    Ridge(RidgeValidParams),
}

impl Solver {
    /// Fits on the given rows of standardised `codes`. Classes without a row among them are never predicted.
    fn fit(&self, codes: &Array2<f32>, labels: &[usize], rows: &[usize], classes: usize) -> LinearModel {
        self.fit_from(codes, labels, rows, classes, None)
    }

    /// As [`Self::fit`], starting from the solution of a similar problem on the same rows.
    fn fit_from(
        &self,
        codes: &Array2<f32>,
        labels: &[usize],
        rows: &[usize],
        classes: usize,
        start: Option<&LinearModel>,
    ) -> LinearModel {
        /// Score of a class that was not trained on; e^-30 leaves nothing of its probability.
        const ABSENT: f64 = -30.0;
        let mut present: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        present.sort_unstable();
        present.dedup();
        let mut set = TrainingSet::select(codes, labels, rows, present.len());
        for label in &mut set.labels {
            *label = present.binary_search(label).expect("`present` holds every label of these rows");
        }
        self.class_weights.apply(&mut set, |label| present[label]);
        if present.len() == classes {
            return self.solve(&set, start);
        }
        let mut weights = Array2::zeros((classes, codes.ncols()));
        let mut bias = Array1::from_elem(classes, ABSENT);
        if let [only] = present[..] {
            bias[only] = 0.0;
            let convergence =
                Convergence { converged: true, iterations: 0, objective: 0.0, criterion: 0.0, message: None };
            return LinearModel { weights, bias, convergence };
        }
        let part = self.solve(&set, None);
        for (k, &class) in present.iter().enumerate() {
            weights.row_mut(class).assign(&part.weights.row(k));
            bias[class] = part.bias[k];
        }
        LinearModel { weights, bias, convergence: part.convergence }
    }

    fn solve(&self, set: &TrainingSet<'_>, start: Option<&LinearModel>) -> LinearModel {
        match &self.method {
            Method::Svm(params) => params.solve_from(set, start),
            Method::Logistic(params) => params.solve_from(set, start),
            Method::Ridge(params) => params.solve(set).linear,
        }
    }
}

/// Scores of every row by the head of the fold that it was held out of.
struct HeldOut {
    scores: Array2<f64>,
    /// Whether the row's class was trained on at all: the scores of other rows say nothing about calibration.
    comparable: Vec<bool>,
    /// Messages of solvers that did not converge.
    unconverged: Vec<String>,
    /// C of each fold, where it was tuned.
    chosen: Vec<f64>,
}

/// What tuning on `rows` may look at; `scaled` has been standardised on them.
fn problem<'a>(
    data: &'a TrainingData<'_>,
    groups: &'a [usize],
    settings: &FitSettings,
    scaled: &'a Array2<f32>,
    rows: &'a [usize],
) -> Problem<'a> {
    Problem {
        codes: scaled,
        labels: data.labels,
        groups,
        class_names: data.class_names,
        rows,
        seed: settings.seed,
    }
}

impl HeldOut {
    fn collect(
        data: &TrainingData<'_>,
        settings: &FitSettings,
        solver: &Solver,
        groups: &[usize],
        folds: &Folds,
        scaled: &mut Array2<f32>,
    ) -> Result<Self, HeadError> {
        let (rows, classes) = (data.labels.len(), data.class_names.len());
        let mut held_out = Self {
            scores: Array2::zeros((rows, classes)),
            comparable: vec![false; rows],
            unconverged: Vec::new(),
            chosen: Vec::new(),
        };
        for fold in 0..folds.count() {
            let training = folds.training(fold);
            let testing = folds.testing(fold);
            settings.standardizer(data, &training).transform_into(data.codes, scaled);
            let (solver, chosen) =
                settings.tuned(&problem(data, groups, settings, scaled, &training), solver)?;
            held_out.chosen.extend(chosen);
            let model = solver.fit(scaled, data.labels, &training, classes);
            let scores = model.scores(scaled.select(Axis(0), &testing).view());
            let mut trained = vec![false; classes];
            training.iter().for_each(|&row| trained[data.labels[row]] = true);
            for (&row, scores) in testing.iter().zip(scores.rows()) {
                held_out.scores.row_mut(row).assign(&scores);
                held_out.comparable[row] = trained[data.labels[row]];
            }
            held_out.unconverged.extend(model.convergence.message);
        }
        Ok(held_out)
    }

    /// The calibration that the chosen rows ask for.
    fn calibrate(
        &self,
        method: CalibrationMethod,
        labels: &[usize],
        chosen: impl Fn(usize) -> bool,
    ) -> Calibration {
        let rows: Vec<usize> = (0..labels.len()).filter(|&row| self.comparable[row] && chosen(row)).collect();
        let scores = self.scores.select(Axis(0), &rows);
        let labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        Calibration::fit(method, scores.view(), &labels)
    }

    /// Probabilities of every row, calibrated on the folds that it does not belong to.
    fn probabilities(&self, method: CalibrationMethod, labels: &[usize], folds: &Folds) -> Array2<f64> {
        let mut probabilities = Array2::zeros(self.scores.raw_dim());
        for fold in 0..folds.count() {
            let calibration = self.calibrate(method, labels, |row| folds.assignment()[row] != fold);
            let testing = folds.testing(fold);
            let held_out = calibration.probabilities(self.scores.select(Axis(0), &testing).view());
            for (&row, values) in testing.iter().zip(held_out.rows()) {
                probabilities.row_mut(row).assign(&values);
            }
        }
        probabilities
    }
}

/// Figures of the held-out predictions, with the folds' notes and a warning when nothing was learned.
fn evaluate(
    data: &TrainingData<'_>,
    settings: &FitSettings,
    folds: &Folds,
    probabilities: &Array2<f64>,
    in_training: &[usize],
) -> Evaluation {
    let classes = data.class_names.len();
    let predicted = most_probable(probabilities.view());
    let confusion = Confusion::new(data.labels, &predicted, classes);
    let accuracy = confusion.accuracy();
    let per_class = confusion.per_class(data.class_names);
    let largest = per_class.iter().map(|class| class.support).max().unwrap_or(0);
    let chance = largest as f64 / data.labels.len() as f64;
    let training_accuracy = Confusion::new(data.labels, in_training, classes).accuracy().value;
    let fold_accuracies = (0..folds.count())
        .map(|fold| {
            let rows = folds.testing(fold);
            let right = rows.iter().filter(|&&row| predicted[row] == data.labels[row]).count();
            right as f64 / rows.len() as f64
        })
        .collect();

    let mut notes = Vec::new();
    if accuracy.low <= chance {
        let cause = if settings.standardize { "" } else { "; fit with standardised codes" };
        notes.push(Note::warning(format!(
            "the accuracy is not above chance: this head has learned nothing that carries over to new images (on its \
             own training images it is right for {:.1} %); check the labels and the layer{cause}",
            100.0 * training_accuracy
        )));
    }
    notes.extend(folds.notes().iter().cloned());
    Evaluation {
        class_names: data.class_names.to_vec(),
        rows: data.labels.len(),
        groups: folds.groups(),
        folds: folds.count(),
        seed: settings.seed,
        accuracy,
        fold_accuracies,
        training_accuracy,
        chance,
        confusion,
        per_class,
        log_loss: log_loss(probabilities.view(), data.labels),
        calibration: Some(CalibrationMetrics::new(probabilities.view(), data.labels)),
        leaky_accuracy: None,
        duplicates: Vec::new(),
        notes,
    }
}

/// Warnings about solvers that did not reach their stopping rule.
fn solver_notes(fitted: &LinearModel, unconverged: &[String], folds: usize) -> Vec<Note> {
    let finally = fitted.convergence.message.iter().map(|message| format!("final fit: {message}"));
    let held_out =
        unconverged.first().map(|message| format!("in {} of {folds} folds: {message}", unconverged.len()));
    finally.chain(held_out).map(Note::warning).collect()
}

#[cfg(test)]
mod tests;
