//! Why a head cannot be fitted or applied.

use cnncodes_linear_heads::{BoxedError, LONGEST_PCA_SIDE, MOST_KERNEL_ROWS, SolverError};
use ndarray::ArrayView2;
use thiserror::Error;

use super::SmallClasses;
use crate::evaluate::FoldError;
use crate::features::FeatureFileError;

/// Why a head cannot be fitted to these features, or applied to them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// There is nothing to learn from.
    #[error("there are no features to fit a head to: extract some images first")]
    NoRows,
    /// A label that names no class.
    #[error("image {row} has label {label}, but there are only {classes} classes (labels count from 0)")]
    LabelOutOfRange {
        /// Row of the features, from 0.
        row: usize,
        /// Its label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Only one class.
    #[error("all images belong to one class ({class}): a classifier needs images of at least two classes")]
    OneClass {
        /// Name of the only class.
        class: String,
    },
    /// Classes that are too small to be trained on and tested.
    #[error(
        "{classes}, and at least 2 are needed, one to train on and one to test: add images, or leave such classes out \
         (--min-per-class 2)"
    )]
    ClassesTooSmall {
        /// All of them.
        classes: SmallClasses,
    },
    /// A feature that is NaN or infinite.
    #[error("the features of {} hold {value} in column {column}: extract this image again or leave it out", who(*row, name))]
    NotFinite {
        /// Row of the features, from 0.
        row: usize,
        /// Name of the image, where known.
        name: Option<String>,
        /// First column with such a value, from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A score that is NaN or infinite, which a damaged head gives.
    #[error(
        "the head gives {} a score that is not a finite number: its file is damaged, or these features are extreme; fit the \
         head again", who(*row, name)
    )]
    ScoreNotFinite {
        /// Row of the features, from 0.
        row: usize,
        /// Name of the image, where known.
        name: Option<String>,
    },
    /// No column varies.
    #[error(
        "the features of all images are the same, so no head can tell them apart: tap another layer or check the model"
    )]
    AllConstant,
    /// More principal components than the images can have.
    #[error(
        "{asked} principal components were asked for, but {rows} training images of {columns} features have {most} at most: \
         ask for fewer"
    )]
    TooManyComponents {
        /// How many were asked for.
        asked: usize,
        /// Rows that are learned from.
        rows: usize,
        /// Features of a row.
        columns: usize,
        /// How many there can be.
        most: usize,
    },
    /// A matrix too large for its eigenvectors.
    #[error(
        "the principal components of {rows} images of {columns} features need the eigenvectors of a matrix of more than \
         {LONGEST_PCA_SIDE} x {LONGEST_PCA_SIDE}: pool the layer when extracting (--pool avg), or fit without --pca"
    )]
    TooLargeForPca {
        /// Rows that are learned from.
        rows: usize,
        /// Features of a row.
        columns: usize,
    },
    /// Ridge regression with a choice of C, which only the other heads have.
    #[error(
        "ridge regression takes no values of C to choose from, since it chooses its penalty by itself: leave --c out, or \
         fit an SVM or logistic regression"
    )]
    NotForRidge,
    /// A kernel with what only linear heads have.
    #[error("{what} cannot have a kernel: only an SVM without class weights can; leave one of them out")]
    NotForKernels {
        /// What was asked for.
        what: &'static str,
    },
    /// The hinge loss for an SVM that has the squared one.
    #[error(
        "the linear SVM minimises the squared hinge: only an SVM with a kernel, or that of linfa, has the plain hinge"
    )]
    HingeOfLinearSvm,
    /// More rows than a kernel SVM can be fitted to.
    #[error(
        "a kernel SVM works on the matrix of all pairs of images, and {rows} images are more than the {MOST_KERNEL_ROWS} that \
         it is fitted to: its memory and time grow with the square of their number; leave --kernel out, \
         since linear heads take any number, or take fewer images"
    )]
    TooManyForKernels {
        /// Rows that are learned from.
        rows: usize,
    },
    /// linfa's solver with what only this program's own can.
    #[error(
        "linfa's solvers cannot be used with {what}: leave it out, or use this program's own (--solver own)"
    )]
    NotForLinfa {
        /// What was asked for.
        what: &'static str,
    },
    /// More rows than linfa-svm is given.
    #[cfg(feature = "linfa-engines")]
    #[error(
        "linfa-svm builds the matrix of all pairs of images for every class, and {rows} images are more than the {} that it is \
         given: its memory and time grow with the square of their number; use this program's own solver (--solver own), or \
         take fewer images",
        cnncodes_linear_heads::MOST_LINFA_SVM_ROWS
    )]
    TooManyForLinfa {
        /// Rows that are learned from.
        rows: usize,
    },
    /// A program that was built without linfa's solvers.
    #[error(
        "this program was built without linfa's solvers: build it with the feature `linfa-engines`, or use its own \
         (--solver own)"
    )]
    WithoutLinfa,
    /// A setting for which all features must be in memory.
    #[error(
        "{what} needs all features in memory, and they take more than the bound of {bound} MiB: raise it, or do without"
    )]
    NotStreamed {
        /// What was asked for.
        what: &'static str,
        /// The bound, in MiB.
        bound: usize,
    },
    /// The features file cannot be read.
    #[error("the features cannot be read")]
    Features(#[from] FeatureFileError),
    /// The images cannot be divided into folds.
    #[error("the images cannot be cross-validated")]
    Folds(#[from] FoldError),
    /// A solver cannot be fitted, for a reason that needs no words of this program.
    #[error(transparent)]
    Solver(SolverError),
}

impl From<SolverError> for HeadError {
    /// With this program's remedies, where it has some.
    fn from(error: SolverError) -> Self {
        match error {
            SolverError::NoRows => Self::NoRows,
            SolverError::NotFinite { row, column, value } => {
                Self::NotFinite { row, name: None, column, value }
            }
            SolverError::TooManyComponents { asked, rows, columns, most } => {
                Self::TooManyComponents { asked, rows, columns, most }
            }
            SolverError::TooLargeForPca { rows, columns } => Self::TooLargeForPca { rows, columns },
            SolverError::TooManyForKernels { rows } => Self::TooManyForKernels { rows },
            #[cfg(feature = "linfa-engines")]
            SolverError::TooManyForLinfaSvm { rows } => Self::TooManyForLinfa { rows },
            SolverError::Read(error) => match error.downcast::<FeatureFileError>() {
                Ok(error) => Self::Features(*error),
                Err(error) => Self::Solver(SolverError::Read(error)),
            },
            other => Self::Solver(other),
        }
    }
}

fn who(row: usize, name: &Option<String>) -> String {
    match name {
        Some(name) => format!("image {row} ({name})"),
        None => format!("image {row}"),
    }
}

impl HeadError {
    /// The rows cannot be read from where they lie, or hold what no features are.
    pub(crate) fn unreadable(error: BoxedError) -> Self {
        match error.downcast::<SolverError>() {
            Ok(error) => (*error).into(),
            Err(error) => SolverError::Read(error).into(),
        }
    }

    pub(super) fn check_equal(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        Ok(SolverError::check_equal(what, expected, found)?)
    }

    /// Refuses the first value of `features` (n x d) that is NaN or infinite.
    pub(super) fn check_finite(features: ArrayView2<'_, f32>, names: Option<&[String]>) -> Result<(), Self> {
        for (row, values) in features.rows().into_iter().enumerate() {
            if let Some((column, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(Self::NotFinite { row, name: None, column, value }.named(names));
            }
        }
        Ok(())
    }

    /// With the name of the image, where the error is about one.
    pub(crate) fn named(self, names: Option<&[String]>) -> Self {
        match self {
            Self::NotFinite { row, column, value, .. } => {
                Self::NotFinite { row, name: names.and_then(|names| names.get(row)).cloned(), column, value }
            }
            other => other,
        }
    }
}
