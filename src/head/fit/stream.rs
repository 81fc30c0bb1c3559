//! Fitting a head to features that are larger than the memory it may use: they are streamed, again and again, by
//! [`cnncodes_linear_heads::Streaming`], which fits the heads of all folds and the final one in shared passes. Where they are
//! projected on principal components, these are found in passes over the features ([`StreamedProjection`]), and heads are fitted
//! to the components as they are in memory.

#[cfg(test)]
mod tests;

use cnncodes_linear_heads::{
    ProjectionSettings, RowSample, RowSource, Solver, StreamSettings, StreamedProjection, StreamedRows,
    Streaming, linear_scores,
};

use super::{
    FitRows, FitSettings, FittedHead, OutOfFold, RowAnswers, check_labels, check_rows, evaluate,
    fit_prepared,
    held_out::{Calibrated, HeldOut},
    solver_notes,
};
use crate::evaluate::{Folds, Note};
use crate::head::{ClassWeights, Conformal, HeadError, HeadModel, Novelty, ranking};

/// Bytes that the command line keeps of each image, measured: its name, hashes and label, in the file's columns and among the images
/// that are fitted to, and its group of duplicates.
const KEPT_OF_ROW: usize = 500;

/// Features that a head is fitted to without having them in memory. Slices have one element a row.
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

/// As [`super::fit_head`], but streaming the features. The head also holds what tells unknown images, learned from a sample, or from
/// all rows where they are projected on principal components.
///
/// # Errors
/// As [`super::fit_head`]; when the features cannot be read; without principal components [`HeadError::NotStreamed`] for kernels,
/// class weights of ridge regression and a choice of C; [`SolverError::TooLittleMemory`](cnncodes_linear_heads::SolverError).
pub fn fit_head_streamed(data: &StreamedData<'_>, settings: &FitSettings) -> Result<FittedHead, HeadError> {
    let solver = settings.solver()?;
    let (rows, columns) = (data.source.rows(), data.source.columns());
    let bound = data.max_memory >> 20;
    let refused = |what| Err(HeadError::NotStreamed { what, bound });
    match &solver {
        _ if settings.pca.is_some() => {}
        _ if settings.tuning.is_some() => return refused("the choice of C"),
        Solver::Ridge(_) if settings.class_weights != ClassWeights::Uniform => {
            return refused("ridge regression with class weights");
        }
        Solver::KernelSvm(_) => return refused("a kernel SVM"),
        solver if !solver.is_streamable() => return refused("a solver of linfa"),
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
    let named = |error| HeadError::from(error).named(Some(data.row_names));
    let streamed = StreamedRows {
        source: data.source,
        labels: data.labels,
        classes: data.class_names.len(),
        folds: folds.assignment(),
        fold_count: folds.count(),
    };
    let kept_of_row = KEPT_OF_ROW + 16 * data.class_names.len();
    let projection = ProjectionSettings::of(settings.steps(), settings.seed, data.max_memory, kept_of_row);
    if let Some(projection) = projection {
        check_rows(rows, settings, &solver)?;
        let projected = StreamedProjection::new(streamed, &projection).map_err(named)?;
        if projected.constant_columns() == columns {
            return Err(HeadError::AllConstant);
        }
        let rows = FitRows { labels: data.labels, class_names: data.class_names, groups: data.groups };
        let mut fitted = fit_prepared(&rows, settings, &solver, &folds, &projected)?;
        if !projected.is_exact() {
            let text = "the principal components are not exact, because the passes over the features were too few: their variances \
                        fall slowly; raise --max-memory";
            fitted.evaluation.notes.push(Note::warning(text.to_owned()));
        }
        let novelty = Novelty::fit(data.source, data.groups, settings.seed);
        fitted.model.novelty = novelty.map_err(HeadError::unreadable)?;
        return Ok(fitted);
    }
    let stream_settings = StreamSettings {
        solver,
        class_weights: settings.class_weights.clone(),
        l2_normalize: settings.l2_normalize,
        standardize: settings.standardize,
        seed: settings.seed,
        max_memory: data.max_memory,
        kept_of_row: KEPT_OF_ROW,
    };
    let mut stream = Streaming::new(streamed, stream_settings).map_err(named)?;
    let constant = stream.constant_columns();
    if constant == columns {
        return Err(HeadError::AllConstant);
    }
    let RowSample { rows: sampled, features: sample, .. } = stream.take_sample();
    let sampled_groups: Vec<usize> = sampled.iter().map(|&row| data.groups[row]).collect();
    let novelty =
        Novelty::fit(&sample.view(), &sampled_groups, settings.seed).map_err(HeadError::unreadable)?;
    drop(sample);
    let mut models = stream.fit()?;
    let linear = models.pop().expect("the final fit is the last");

    let held_out = HeldOut {
        scores: stream.held_out_scores(&models)?,
        comparable: trained_classes(data, &folds),
        unconverged: models.iter().filter_map(|model| model.convergence.message.clone()).collect(),
        chosen: Vec::new(),
    };
    let labelled = (data.labels, data.class_names);
    let Calibrated { calibration, probabilities, answers, note } =
        held_out.calibrate(settings.calibration(), labelled, data.groups, &folds);
    let mut in_training = vec![0; rows];
    stream.scan(|first, block| {
        let scores = linear_scores(block, &linear.weights, &linear.bias);
        let predicted = ranking::answers(calibration.probabilities(scores.view()).view(), scores.view());
        in_training[first..first + predicted.len()].copy_from_slice(&predicted);
    })?;
    let said = RowAnswers { probabilities: &probabilities, answers: &answers, in_training: &in_training };
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
        preparation: stream.preparation().clone(),
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

/// Whether the class of each row was among those that its fold's head was trained on.
fn trained_classes(data: &StreamedData<'_>, folds: &Folds) -> Vec<bool> {
    let mut sizes = vec![0usize; data.class_names.len()];
    let mut in_fold = vec![vec![0usize; sizes.len()]; folds.count()];
    for (&label, &fold) in data.labels.iter().zip(folds.assignment()) {
        sizes[label] += 1;
        in_fold[fold][label] += 1;
    }
    let trained = |(&label, &fold): (&usize, &usize)| in_fold[fold][label] < sizes[label];
    data.labels.iter().zip(folds.assignment()).map(trained).collect()
}
