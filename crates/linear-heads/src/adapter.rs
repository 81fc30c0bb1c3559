//! What makes a solver one of linfa's: settings that are checked once (`ParamGuard`), `Fit` on a data set, and `Predict`.

use ndarray::{Array2, ArrayView2};

use super::{SolverError, weighted_rows::WeightedRows};

/// Settings of a solver, as linfa's traits need them.
pub(crate) trait Solve {
    type Model;

    /// Refuses settings that are out of range.
    fn check_settings(&self) -> Result<(), SolverError>;

    /// Fits to rows that have been checked.
    fn fit_set(&self, set: &WeightedRows<'_>) -> Result<Self::Model, SolverError>;
}

/// A model that scores classes.
pub(crate) trait ClassScorer {
    /// n x classes, for n rows of features.
    fn scores_of(&self, features: ArrayView2<'_, f32>) -> Array2<f64>;
}

/// Implements linfa's `ParamGuard` for the settings `$params($checked)`, and its `Fit` for `$checked`, which is [`Solve`]. A
/// data set's records are float32 features (n x d), its targets are labels 0, 1, …, its weights multiply the rows' losses.
macro_rules! linfa_fit {
    ($params:ident, $checked:ident => $model:ty) => {
        impl linfa::ParamGuard for $params {
            type Checked = $checked;
            type Error = $crate::SolverError;

            fn check_ref(&self) -> Result<&$checked, $crate::SolverError> {
                $crate::adapter::Solve::check_settings(&self.0)?;
                Ok(&self.0)
            }

            fn check(self) -> Result<$checked, $crate::SolverError> {
                self.check_ref()?;
                Ok(self.0)
            }
        }

        impl<D, T> linfa::traits::Fit<ndarray::ArrayBase<D, ndarray::Ix2>, T, $crate::SolverError>
            for $checked
        where
            D: ndarray::Data<Elem = f32>,
            T: linfa::dataset::AsSingleTargets<Elem = usize>,
        {
            type Object = $model;

            /// Fits to features (n x d) with labels 0, 1, …; a row's loss counts as often as its weight says.
            fn fit(
                &self,
                dataset: &linfa::DatasetBase<ndarray::ArrayBase<D, ndarray::Ix2>, T>,
            ) -> Result<$model, $crate::SolverError> {
                let features = dataset.records().as_standard_layout();
                let set = $crate::weighted_rows::WeightedRows::of_dataset(features.view(), dataset)?;
                $crate::adapter::Solve::fit_set(self, &set)
            }
        }
    };
}

/// Implements linfa's `Predict` for a model that has [`ClassScorer`]: the class of each row is the one of the highest score.
macro_rules! linfa_predict {
    ($model:ty) => {
        impl<D: ndarray::Data<Elem = f32>>
            linfa::traits::PredictInplace<ndarray::ArrayBase<D, ndarray::Ix2>, ndarray::Array1<usize>>
            for $model
        {
            fn predict_inplace<'a>(
                &'a self,
                features: &'a ndarray::ArrayBase<D, ndarray::Ix2>,
                classes: &mut ndarray::Array1<usize>,
            ) {
                let scores = $crate::adapter::ClassScorer::scores_of(self, features.view());
                for (class, row) in classes.iter_mut().zip(scores.rows()) {
                    *class = $crate::highest(row.iter().copied());
                }
            }

            fn default_target(
                &self,
                features: &ndarray::ArrayBase<D, ndarray::Ix2>,
            ) -> ndarray::Array1<usize> {
                ndarray::Array1::zeros(features.nrows())
            }
        }
    };
}

pub(crate) use {linfa_fit, linfa_predict};
