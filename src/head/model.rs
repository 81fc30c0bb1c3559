//! A fitted head: everything that turns features into class probabilities.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use cnncodes_linear_heads::linear_scores;

use super::{
    Calibration, Conformal, Convergence, FitSettings, HeadError, KernelMap, Novelty, Preparation, ranking,
};

/// A classifier that is linear in the features or in a kernel's values, with the preparation of its features and its calibration.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadModel {
    /// Class names in the order of the columns of scores and probabilities.
    pub class_names: Vec<String>,
    /// What the head was fitted with.
    pub settings: FitSettings,
    /// Applied to features first.
    pub preparation: Preparation,
    /// What is made of prepared features, for an SVM with a kernel.
    pub kernel: Option<KernelMap>,
    /// Weights of the prepared features (classes x [`Preparation::prepared_columns`]), or of the kernel's values (classes x
    /// support vectors).
    pub weights: Array2<f32>,
    /// One value a class.
    pub bias: Array1<f64>,
    /// From scores to probabilities.
    pub calibration: Calibration,
    /// How far the solver got.
    pub convergence: Convergence,
    /// What prediction sets are made with; absent from heads of earlier versions.
    pub conformal: Option<Conformal>,
    /// What tells images of none of the classes, where it was learned.
    pub novelty: Option<Novelty>,
}

impl HeadModel {
    /// Number of features of an image.
    pub fn columns(&self) -> usize {
        self.preparation.columns()
    }

    /// Scores `prepared features . weights' + bias` of `features` (n x d): n x classes.
    ///
    /// # Errors
    /// When the features have another number of columns than the head, or hold NaN or infinite values, and when a score is no
    /// finite number.
    pub fn scores(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f64>, HeadError> {
        HeadError::check_equal("features of an image", self.columns(), features.ncols())?;
        HeadError::check_finite(features, None)?;
        let prepared = self.preparation.transform(features);
        let values = match &self.kernel {
            Some(kernel) => kernel.apply(prepared.view()),
            None => prepared,
        };
        let scores = linear_scores(values.view(), &self.weights, &self.bias);
        // Each number of a head's file may be sound, and their product not.
        match scores.rows().into_iter().position(|row| row.iter().any(|score| !score.is_finite())) {
            Some(row) => Err(HeadError::ScoreNotFinite { row, name: None }),
            None => Ok(scores),
        }
    }

    /// Calibrated probabilities for `features` (n x d): n x classes, each row sums to 1. Errors as [`Self::scores`].
    pub fn probabilities(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f64>, HeadError> {
        Ok(self.calibration.probabilities(self.scores(features)?.view()))
    }

    /// The most probable class of each row; where several are, the one of the highest score. Errors as [`Self::scores`].
    pub fn predict(&self, features: ArrayView2<'_, f32>) -> Result<Vec<usize>, HeadError> {
        Ok(self.answers(self.scores(features)?.view()))
    }

    /// What [`Self::predict`] says of rows with these scores (n x classes).
    pub fn answers(&self, scores: ArrayView2<'_, f64>) -> Vec<usize> {
        ranking::answers(self.calibration.probabilities(scores).view(), scores)
    }

    /// For each row all classes with their probabilities, most probable first; equally probable ones by falling score.
    /// Errors as [`Self::scores`].
    pub fn ranked(&self, features: ArrayView2<'_, f32>) -> Result<Vec<Vec<(usize, f64)>>, HeadError> {
        let scores = self.scores(features)?;
        let probabilities = self.calibration.probabilities(scores.view());
        let rank = |(probabilities, scores): (ArrayView1<'_, f64>, ArrayView1<'_, f64>)| {
            let ranked = ranking::ranked(probabilities, scores);
            ranked.into_iter().map(|class| (class, probabilities[class])).collect()
        };
        Ok(probabilities.axis_iter(Axis(0)).zip(scores.axis_iter(Axis(0))).map(rank).collect())
    }
}
