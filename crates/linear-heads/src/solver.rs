//! A solver that is chosen at run time, on some of the rows of a matrix: what cross-validation calls again and again.

use ndarray::{Array1, Array2, ArrayView2};

use super::{
    ClassWeights, Convergence, KernelMap, KernelSvmValidParams, LinearModel, LogisticValidParams,
    RidgeValidParams, SolverError, SvmValidParams,
    adapter::{ClassScorer, Solve, linfa_predict},
    weighted_rows::WeightedRows,
};
#[cfg(feature = "linfa-engines")]
use super::{LinfaLogisticValidParams, LinfaSvmValidParams};

/// Any solver, with checked settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Solver {
    /// Linear SVM.
    Svm(SvmValidParams),
    /// Multinomial logistic regression.
    Logistic(LogisticValidParams),
    /// Ridge regression.
    Ridge(RidgeValidParams),
    /// SVM with a kernel.
    KernelSvm(KernelSvmValidParams),
    /// linfa-svm, linear.
    #[cfg(feature = "linfa-engines")]
    LinfaSvm(LinfaSvmValidParams),
    /// linfa-logistic.
    #[cfg(feature = "linfa-engines")]
    LinfaLogistic(LinfaLogisticValidParams),
}

/// What a solver is fitted to: some rows of a matrix of finite features in standard layout.
#[derive(Debug, Clone, Copy)]
pub struct TrainingRows<'a> {
    /// n x d.
    pub features: &'a Array2<f32>,
    /// Class of each of the n rows, below `classes`.
    pub labels: &'a [usize],
    /// The rows to fit to; not empty.
    pub rows: &'a [usize],
    /// Number of classes.
    pub classes: usize,
    /// How much the losses of each class's rows count.
    pub class_weights: &'a ClassWeights,
}

/// What a solver made: a classifier that is linear in the features, or in a kernel's values.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FittedModel {
    /// Linear in the features, or in the values of the map.
    pub linear: LinearModel,
    /// What is made of features first, for an SVM with a kernel.
    pub kernel: Option<KernelMap>,
}

impl FittedModel {
    /// Scores of each class for each row of features (n x d), n x classes.
    pub fn scores(&self, features: ArrayView2<'_, f32>) -> Array2<f64> {
        match &self.kernel {
            Some(map) => self.linear.scores(map.apply(features).view()),
            None => self.linear.scores(features),
        }
    }
}

impl ClassScorer for FittedModel {
    fn scores_of(&self, features: ArrayView2<'_, f32>) -> Array2<f64> {
        self.scores(features)
    }
}

linfa_predict!(FittedModel);

impl From<LinearModel> for FittedModel {
    fn from(linear: LinearModel) -> Self {
        Self { linear, kernel: None }
    }
}

impl Solver {
    /// Whether it can be fitted to rows that are streamed.
    pub fn is_streamable(&self) -> bool {
        matches!(self, Self::Svm(_) | Self::Logistic(_) | Self::Ridge(_))
    }

    /// Fits to the rows, starting from the solution of a similar problem on the same rows where one is given. Classes
    /// without a row among them are never predicted.
    ///
    /// # Errors
    /// What the solver refuses, such as too many rows.
    pub fn fit(
        &self,
        to: &TrainingRows<'_>,
        start: Option<&FittedModel>,
    ) -> Result<FittedModel, SolverError> {
        /// Score of a class that was not trained on; e^-30 leaves nothing of its probability.
        const ABSENT: f64 = -30.0;
        let &TrainingRows { features, labels, rows, classes, class_weights } = to;
        let mut present: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        present.sort_unstable();
        present.dedup();
        let mut set = WeightedRows::select(features, labels, rows, present.len());
        for label in &mut set.labels {
            *label = present.binary_search(label).expect("`present` holds every label of these rows");
        }
        class_weights.apply(&mut set, |label| present[label]);
        if present.len() == classes {
            return self.solve(&set, start.map(|model| &model.linear));
        }
        let mut bias = Array1::from_elem(classes, ABSENT);
        if let [only] = present[..] {
            bias[only] = 0.0;
            let convergence =
                Convergence { converged: true, iterations: 0, objective: 0.0, criterion: 0.0, message: None };
            let weights = Array2::zeros((classes, features.ncols()));
            return Ok(LinearModel { weights, bias, convergence }.into());
        }
        let FittedModel { linear: part, kernel } = self.solve(&set, None)?;
        let mut weights = Array2::zeros((classes, part.weights.ncols()));
        for (k, &class) in present.iter().enumerate() {
            weights.row_mut(class).assign(&part.weights.row(k));
            bias[class] = part.bias[k];
        }
        Ok(FittedModel { linear: LinearModel { weights, bias, convergence: part.convergence }, kernel })
    }

    fn solve(&self, set: &WeightedRows<'_>, start: Option<&LinearModel>) -> Result<FittedModel, SolverError> {
        Ok(match self {
            Self::Svm(params) => params.solve_from(set, start).into(),
            Self::Logistic(params) => params.solve_from(set, start).into(),
            Self::Ridge(params) => params.fit_linear(set).into(),
            Self::KernelSvm(params) => params.fit_set(set)?,
            #[cfg(feature = "linfa-engines")]
            Self::LinfaSvm(params) => params.fit_set(set)?.into(),
            #[cfg(feature = "linfa-engines")]
            Self::LinfaLogistic(params) => params.fit_set(set)?.into(),
        })
    }
}
