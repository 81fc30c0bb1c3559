//! Why a head cannot be fitted or applied.

use linfa::{DatasetBase, dataset::AsSingleTargets};
use ndarray::{ArrayBase, ArrayView2, Data, Ix2};
use thiserror::Error;

use super::{SmallClasses, kernel_svm::MOST_KERNEL_ROWS, linear::TrainingSet, pca::LONGEST_SIDE};
use crate::evaluate::FoldError;
use crate::features::FeatureFileError;

/// Why a head cannot be fitted to these codes, or applied to them.
#[derive(Debug, Error)]
pub enum HeadError {
    /// There is nothing to learn from.
    #[error("there are no codes to fit a head to: extract some images first")]
    NoRows,
    /// Two inputs that belong together differ in size.
    #[error("{what}: {found} where {expected} were expected")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// The size it should have.
        expected: usize,
        /// The size it has.
        found: usize,
    },
    /// A label that names no class.
    #[error("image {row} has label {label}, but there are only {classes} classes (labels count from 0)")]
    LabelOutOfRange {
        /// Row of the codes, from 0.
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
    /// A code that is NaN or infinite.
    #[error("the codes of {} hold {value} in column {column}: extract this image again or leave it out", who(*row, name))]
    NotFinite {
        /// Row of the codes, from 0.
        row: usize,
        /// Name of the image, where known.
        name: Option<String>,
        /// First column with such a value, from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// No column varies.
    #[error(
        "the codes of all images are the same, so no head can tell them apart: tap another layer or check the model"
    )]
    AllConstant,
    /// More principal components than the images can have.
    #[error(
        "{asked} principal components were asked for, but {rows} training images of {columns} codes have {most} at most: \
         ask for fewer"
    )]
    TooManyComponents {
        /// How many were asked for.
        asked: usize,
        /// Rows that are learned from.
        rows: usize,
        /// Codes of a row.
        columns: usize,
        /// How many there can be.
        most: usize,
    },
    /// A matrix too large for its eigenvectors.
    #[error(
        "the principal components of {rows} images of {columns} codes need the eigenvectors of a matrix of more than \
         {LONGEST_SIDE} x {LONGEST_SIDE}: pool the layer when extracting (--pool avg), or fit without --pca"
    )]
    TooLargeForPca {
        /// Rows that are learned from.
        rows: usize,
        /// Codes of a row.
        columns: usize,
    },
    /// A setting outside its range.
    #[error("{name} is {value}, but must be {requirement}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        requirement: &'static str,
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
    /// A setting for which all codes must be in memory.
    #[error(
        "{what} needs all codes in memory, and they take more than the bound of {bound} MiB: raise it, or do without"
    )]
    NotStreamed {
        /// What was asked for.
        what: &'static str,
        /// The bound, in MiB.
        bound: usize,
    },
    /// Not even what must be kept of each image fits the bound.
    #[error("about {needed} MiB of memory are needed, and the bound is {bound} MiB: raise it")]
    TooLittleMemory {
        /// What is needed, in MiB.
        needed: usize,
        /// The bound, in MiB.
        bound: usize,
    },
    /// The file of codes cannot be read.
    #[error("the codes cannot be read")]
    Codes(#[from] FeatureFileError),
    /// The images cannot be divided into folds.
    #[error("the images cannot be cross-validated")]
    Folds(#[from] FoldError),
    /// An error of linfa's data set.
    #[error("the data set is not usable")]
    Dataset(#[from] linfa::Error),
}

fn who(row: usize, name: &Option<String>) -> String {
    match name {
        Some(name) => format!("image {row} ({name})"),
        None => format!("image {row}"),
    }
}

impl HeadError {
    pub(super) fn check_positive(name: &'static str, value: f64) -> Result<(), Self> {
        Self::check(value.is_finite() && value > 0.0, name, value, "a number above 0")
    }

    pub(super) fn check_tolerance(value: f64, least: f64) -> Result<(), Self> {
        let requirement = "below 1, and at least 1e-9 for the SVM and 1e-7 for logistic regression";
        Self::check((least..1.0).contains(&value), "the tolerance", value, requirement)
    }

    pub(super) fn check_iterations(value: usize) -> Result<(), Self> {
        Self::check(value > 0, "the iteration limit", value as f64, "at least 1")
    }

    pub(super) fn check(
        sound: bool,
        name: &'static str,
        value: f64,
        requirement: &'static str,
    ) -> Result<(), Self> {
        if sound { Ok(()) } else { Err(Self::Setting { name, value, requirement }) }
    }

    pub(super) fn check_equal(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Mismatch { what, expected, found }) }
    }

    /// Refuses the first value of `codes` (n x d) that is NaN or infinite.
    pub(super) fn check_finite(codes: ArrayView2<'_, f32>, names: Option<&[String]>) -> Result<(), Self> {
        for (row, values) in codes.rows().into_iter().enumerate() {
            if let Some((column, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                let name = names.and_then(|names| names.get(row)).cloned();
                return Err(Self::NotFinite { row, name, column, value });
            }
        }
        Ok(())
    }
}

/// The checked rows of a linfa data set whose records are `codes` in standard layout.
pub(super) fn training_set_of<'a, D, T>(
    codes: ArrayView2<'a, f32>,
    dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
) -> Result<TrainingSet<'a>, HeadError>
where
    D: Data<Elem = f32>,
    T: AsSingleTargets<Elem = usize>,
{
    let labels = dataset.as_single_targets().to_vec();
    HeadError::check_equal("labels", codes.nrows(), labels.len())?;
    HeadError::check_finite(codes, None)?;
    let classes = labels.iter().max().ok_or(HeadError::NoRows)? + 1;
    if labels.iter().all(|&label| label == labels[0]) {
        return Err(HeadError::OneClass { class: labels[0].to_string() });
    }
    let weights = match dataset.weights() {
        Some(weights) => weights.iter().map(|&weight| f64::from(weight)).collect(),
        None => vec![1.0; labels.len()],
    };
    HeadError::check_equal("weights", labels.len(), weights.len())?;
    for &weight in &weights {
        let sound = weight.is_finite() && weight >= 0.0;
        HeadError::check(sound, "the weight of a row", weight, "a number of at least 0")?;
    }
    let columns = codes.ncols();
    let values = codes.to_slice().expect("the caller passes standard layout");
    let rows = (0..labels.len()).map(|row| &values[row * columns..(row + 1) * columns]).collect();
    Ok(TrainingSet { rows, whole: Some(values), labels, weights, classes })
}
