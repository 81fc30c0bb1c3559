//! Where the prepared features of each fold come from: from features in memory, or from the principal components of streamed
//! ones. What is done with them is the same.

use cnncodes_linear_heads::StreamedProjection;
use ndarray::{Array2, ArrayView2};

use crate::evaluate::Folds;
use crate::head::{HeadError, Preparation, PreparationSteps, Standardizer};

/// The rows that a head is fitted to, without their features. All slices have one element a row.
#[derive(Clone, Copy)]
pub(super) struct FitRows<'a> {
    /// Class of each row.
    pub labels: &'a [usize],
    pub class_names: &'a [String],
    /// Equal numbers for duplicates of one image.
    pub groups: &'a [usize],
}

/// Features that can be prepared as each fold sees them.
pub(super) trait PreparedFeatures {
    /// Number of features of a row.
    fn columns(&self) -> usize;

    /// Number of features that are the same for all rows.
    fn constant_columns(&self) -> usize;

    /// What is done to the features before the final head sees them.
    fn preparation(&self) -> &Preparation;

    /// Prepares all rows by what was learned from the training rows of a fold, or from all rows, into `out` (n x prepared columns).
    fn prepare(&self, fold: Option<usize>, out: &mut Array2<f32>) -> Result<(), HeadError>;
}

/// Features in memory.
pub(super) struct FeaturesInMemory<'a> {
    features: ArrayView2<'a, f32>,
    steps: PreparationSteps,
    folds: &'a Folds,
    constant_columns: usize,
    preparation: Preparation,
}

impl<'a> FeaturesInMemory<'a> {
    /// Finite features of at least one row.
    pub fn new(
        features: ArrayView2<'a, f32>,
        steps: PreparationSteps,
        folds: &'a Folds,
    ) -> Result<Self, HeadError> {
        let everything: Vec<usize> = (0..features.nrows()).collect();
        let learned = Standardizer::fit(features, &everything);
        let constant_columns = learned.constant().iter().filter(|&&constant| constant).count();
        if constant_columns == features.ncols() {
            return Err(HeadError::AllConstant);
        }
        let preparation = Preparation::fit(features, &everything, steps)?;
        Ok(Self { features, steps, folds, constant_columns, preparation })
    }
}

impl PreparedFeatures for FeaturesInMemory<'_> {
    fn columns(&self) -> usize {
        self.features.ncols()
    }

    fn constant_columns(&self) -> usize {
        self.constant_columns
    }

    fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    fn prepare(&self, fold: Option<usize>, out: &mut Array2<f32>) -> Result<(), HeadError> {
        match fold {
            None => self.preparation.transform_into(self.features, out),
            Some(fold) => {
                let training = self.folds.training(fold);
                Preparation::fit(self.features, &training, self.steps)?.transform_into(self.features, out);
            }
        }
        Ok(())
    }
}

impl PreparedFeatures for StreamedProjection<'_> {
    fn columns(&self) -> usize {
        self.preparation(None).columns()
    }

    fn constant_columns(&self) -> usize {
        self.constant_columns()
    }

    fn preparation(&self) -> &Preparation {
        self.preparation(None)
    }

    fn prepare(&self, fold: Option<usize>, out: &mut Array2<f32>) -> Result<(), HeadError> {
        Ok(self.prepare(fold, out)?)
    }
}
