//! Fitting a head to features: cross-validation, calibration and the final fit, in one call.
//!
//! Nothing about a held-out fold is learned from it: its preparation ([`Preparation`]) comes from the training rows, and
//! its probabilities are calibrated on the other folds.

mod held_out;
mod prepared;
mod settings;
mod stream;
mod subset;

#[cfg(feature = "linfa-engines")]
use cnncodes_linear_heads::MOST_LINFA_SVM_ROWS;
use cnncodes_linear_heads::{FittedModel, LinearModel, Solver};
use ndarray::{Array2, ArrayView2};

use self::held_out::{Calibrated, HeldOut, problem};
use self::prepared::{FeaturesInMemory, FitRows, PreparedFeatures};
pub use self::settings::{Engine, FitSettings, HeadKind, Loss};
pub use self::stream::{StreamedData, fit_head_streamed};
pub(crate) use self::subset::Subset;
use super::{ChosenC, Conformal, HeadError, HeadModel, Kernel, MOST_KERNEL_ROWS, SmallClasses, ranking};
use crate::evaluate::{CalibrationMetrics, Confusion, Evaluation, Folds, Note, Uncertainty, log_loss};

/// How the warning begins that a head may have learned nothing.
pub(crate) const NOT_ABOVE_CHANCE: &str = "the accuracy is not shown to be above chance";

/// What a head is fitted to. All slices have one element a row of `features`.
#[derive(Debug, Clone, Copy)]
pub struct TrainingData<'a> {
    /// n x d.
    pub features: ArrayView2<'a, f32>,
    /// Class of each row, an index into `class_names`.
    pub labels: &'a [usize],
    /// Names of the classes; each must have at least 2 rows.
    pub class_names: &'a [String],
    /// Equal numbers for rows that are duplicates of one image: they never stand on both sides of a split. `None` when all
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
    /// What tuning chose for each fold, in their order; empty without tuning.
    pub choices: Vec<ChosenC>,
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

impl OutOfFold {
    /// The class that each row was taken for.
    pub fn answers(&self) -> Vec<usize> {
        ranking::answers(self.probabilities.view(), self.scores.view())
    }
}

/// Cross-validates and fits a head.
///
/// # Errors
/// When settings are out of range, sizes disagree, features are not finite or do not vary, there is only one class, or a
/// class has fewer than 2 rows. A solver that did not reach its stopping rule, or an accuracy that is not above chance,
/// is no error, but a warning among the evaluation's notes.
pub fn fit_head(data: &TrainingData<'_>, settings: &FitSettings) -> Result<FittedHead, HeadError> {
    let solver = settings.solver()?;
    data.check()?;
    settings.class_weights.check(data.class_names.len())?;
    check_rows(data.labels.len(), settings, &solver)?;
    let own_groups: Vec<usize>;
    let groups = match data.groups {
        Some(groups) => groups,
        None => {
            own_groups = (0..data.labels.len()).collect();
            &own_groups
        }
    };
    let folds = Folds::stratified(data.labels, groups, data.class_names, settings.folds, settings.seed)?;
    let rows = FitRows { labels: data.labels, class_names: data.class_names, groups };
    let features = FeaturesInMemory::new(data.features.reborrow(), settings.steps(), &folds)?;
    fit_prepared(&rows, settings, &solver, &folds, &features)
}

/// Refuses more rows than a solver takes.
fn check_rows(rows: usize, settings: &FitSettings, solver: &Solver) -> Result<(), HeadError> {
    if settings.kernel != Kernel::Linear && rows > MOST_KERNEL_ROWS {
        return Err(HeadError::TooManyForKernels { rows });
    }
    match solver {
        #[cfg(feature = "linfa-engines")]
        Solver::LinfaSvm(_) if rows > MOST_LINFA_SVM_ROWS => Err(HeadError::TooManyForLinfa { rows }),
        _ => Ok(()),
    }
}

/// As [`fit_head`], with features that are prepared for each fold and that are in memory afterwards.
fn fit_prepared(
    rows: &FitRows<'_>,
    settings: &FitSettings,
    solver: &Solver,
    folds: &Folds,
    features: &dyn PreparedFeatures,
) -> Result<FittedHead, HeadError> {
    let everything: Vec<usize> = (0..rows.labels.len()).collect();
    let (constant, preparation) = (features.constant_columns(), features.preparation().clone());
    // One buffer serves all folds and the final fit.
    let mut prepared = Array2::zeros((everything.len(), preparation.prepared_columns()));
    let held_out = HeldOut::collect(rows, settings, solver, folds, features, &mut prepared)?;
    let labelled = (rows.labels, rows.class_names);
    let Calibrated { calibration, probabilities, answers, note } =
        held_out.calibrate(settings.calibration(), labelled, rows.groups, folds);

    features.prepare(None, &mut prepared)?;
    let problem = problem(rows, settings, &prepared, &everything);
    let (solver, chosen) = settings.tuned(&problem, solver)?;
    let fitted = solver.fit(&settings.training_rows(&problem, &everything), None)?;
    let scores = fitted.scores(prepared.view());
    let in_training = ranking::answers(calibration.probabilities(scores.view()).view(), scores.view());
    let FittedModel { linear, kernel, .. } = fitted;
    let said = RowAnswers { probabilities: &probabilities, answers: &answers, in_training: &in_training };
    let mut evaluation = evaluate(labelled, settings, folds, &said);
    evaluation.notes.extend(note);
    evaluation.notes.extend(chosen.map(|chosen| note_of_choices(chosen, &held_out.chosen)));
    evaluation.notes.extend(solver_notes(&linear, &held_out.unconverged, folds.count()));
    if constant > 0 {
        let columns = features.columns();
        evaluation
            .notes
            .push(Note::info(format!("{constant} of {columns} columns are the same for all images")));
    }
    if let Some(pca) = preparation.pca() {
        evaluation.notes.push(Note::info(format!(
            "{} principal components keep {:.1} % of the variance of the features",
            pca.components().nrows(),
            100.0 * pca.kept()
        )));
    }
    let model = HeadModel {
        class_names: rows.class_names.to_vec(),
        settings: FitSettings { c: chosen.map(|choice| choice.c).or(settings.c), ..settings.clone() },
        preparation,
        kernel,
        weights: linear.weights,
        bias: linear.bias,
        calibration,
        convergence: linear.convergence,
        conformal: Some(Conformal::new(probabilities.view(), rows.labels)),
        novelty: None,
    };
    let out_of_fold =
        OutOfFold { folds: folds.assignment().to_vec(), scores: held_out.scores, probabilities };
    Ok(FittedHead { model, evaluation, out_of_fold, choices: held_out.chosen })
}

impl TrainingData<'_> {
    /// How far what a cross-validation of these rows measures may be from the truth.
    pub(crate) fn uncertainty(&self, folds: usize) -> Uncertainty {
        match self.groups {
            Some(groups) => Uncertainty::new(self.labels, groups, folds),
            None => {
                let rows: Vec<usize> = (0..self.labels.len()).collect();
                Uncertainty::new(self.labels, &rows, folds)
            }
        }
    }

    fn check(&self) -> Result<(), HeadError> {
        let rows = self.features.nrows();
        if rows == 0 {
            return Err(HeadError::NoRows);
        }
        HeadError::check_equal("labels", rows, self.labels.len())?;
        HeadError::check_equal("groups", rows, self.groups.map_or(rows, <[_]>::len))?;
        HeadError::check_equal("names of images", rows, self.row_names.map_or(rows, <[_]>::len))?;
        check_labels(self.labels, self.class_names)?;
        HeadError::check_finite(self.features, self.row_names)
    }
}

/// Refuses labels of no class, and classes of fewer than 2 rows.
fn check_labels(labels: &[usize], class_names: &[String]) -> Result<(), HeadError> {
    let classes = class_names.len();
    let mut sizes = vec![0usize; classes];
    for (row, &label) in labels.iter().enumerate() {
        *sizes.get_mut(label).ok_or(HeadError::LabelOutOfRange { row, label, classes })? += 1;
    }
    if sizes.iter().filter(|&&size| size > 0).count() < 2 {
        let class = class_names[labels[0]].clone();
        return Err(HeadError::OneClass { class });
    }
    let small = |(name, &size): (&String, &usize)| (size < 2).then(|| (name.clone(), size));
    match SmallClasses::new(class_names.iter().zip(&sizes).filter_map(small)) {
        Some(classes) => Err(HeadError::ClassesTooSmall { classes }),
        None => Ok(()),
    }
}

/// What C was chosen, and what was chosen to measure how good that is.
fn note_of_choices(chosen: ChosenC, of_folds: &[ChosenC]) -> Note {
    let by_default = |choice: &ChosenC| if choice.by_default { " (the default)" } else { "" };
    let listed: Vec<String> =
        of_folds.iter().map(|choice| format!("{}{}", choice.c, by_default(choice))).collect();
    let (c, listed) = (chosen.c, listed.join(", "));
    if chosen.by_default || of_folds.iter().any(|choice| choice.by_default) {
        return Note::warning(format!(
            "C = {c}{}; in the folds of the cross-validation {listed}: where the training images leave none of a class to \
             choose by, C is the default; add images, or leave --c out",
            by_default(&chosen)
        ));
    }
    Note::info(format!(
        "C = {c} was chosen by cross-validation; to measure the accuracy it was chosen again in each fold, without looking \
         at the fold's images: {listed}"
    ))
}

/// What was said about the rows.
struct RowAnswers<'a> {
    /// While they were held out (n x classes).
    probabilities: &'a Array2<f64>,
    /// The classes that follow from that.
    answers: &'a [usize],
    /// The classes that the head gives them that was fitted to all of them.
    in_training: &'a [usize],
}

/// Figures of the held-out predictions, with the folds' notes and a warning when nothing was learned.
fn evaluate(
    (labels, class_names): (&[usize], &[String]),
    settings: &FitSettings,
    folds: &Folds,
    &RowAnswers { probabilities, answers: predicted, in_training }: &RowAnswers<'_>,
) -> Evaluation {
    let classes = class_names.len();
    let confusion = Confusion::new(labels, predicted, classes);
    let right = predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
    let accuracy = folds.uncertainty().share(right, labels.len());
    let per_class = confusion.per_class(class_names);
    let largest = per_class.iter().map(|class| class.support).max().unwrap_or(0);
    let chance = largest as f64 / labels.len() as f64;
    let training_accuracy = Confusion::new(labels, in_training, classes).accuracy().value;
    let fold_accuracies = (0..folds.count())
        .map(|fold| {
            let rows = folds.testing(fold);
            let right = rows.iter().filter(|&&row| predicted[row] == labels[row]).count();
            right as f64 / rows.len() as f64
        })
        .collect();

    let mut notes = Vec::new();
    if accuracy.low <= chance {
        let cause = if settings.standardize { "" } else { "; fit with standardised features" };
        let finding = if accuracy.value <= chance {
            "this head has learned nothing that carries over to new images"
        } else {
            "either the images are too few to tell, or this head has learned nothing that carries over to new ones"
        };
        notes.push(Note::warning(format!(
            "{NOT_ABOVE_CHANCE}: {finding} (on its own training images it is right for {:.1} %); add images, or check the \
             labels and the layer{cause}",
            100.0 * training_accuracy
        )));
    }
    notes.extend(folds.notes().iter().cloned());
    Evaluation {
        class_names: class_names.to_vec(),
        rows: labels.len(),
        groups: folds.groups(),
        folds: folds.count(),
        seed: settings.seed,
        accuracy,
        fold_accuracies,
        training_accuracy,
        chance,
        confusion,
        per_class,
        log_loss: log_loss(probabilities.view(), labels),
        calibration: Some(CalibrationMetrics::new(probabilities.view(), predicted, labels)),
        leaky_accuracy: None,
        duplicates: Vec::new(),
        test: None,
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
