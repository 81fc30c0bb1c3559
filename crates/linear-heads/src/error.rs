//! Why a model cannot be fitted.

use thiserror::Error;

use super::{kernel_svm::MOST_KERNEL_ROWS, pca::LONGEST_PCA_SIDE};

/// The error of a source of rows or of another library, as its own text and cause.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Why a model cannot be fitted to these rows.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SolverError {
    /// There is nothing to learn from.
    #[error("there are no rows to fit a model to")]
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
    /// Only one class.
    #[error("all rows belong to class {label}: a classifier needs rows of at least two classes")]
    OneClass {
        /// The only label.
        label: usize,
    },
    /// A feature that is NaN or infinite.
    #[error("row {row} holds {value} in column {column}: features must be finite numbers")]
    NotFinite {
        /// The row, from 0.
        row: usize,
        /// Its first column with such a value, from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// More principal components than the rows can have.
    #[error(
        "{asked} principal components were asked for, but {rows} rows of {columns} features have {most} at most: ask \
         for fewer"
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
        "the principal components of {rows} rows of {columns} features need the eigenvectors of a matrix of more than \
         {LONGEST_PCA_SIDE} x {LONGEST_PCA_SIDE}: take fewer rows or fewer columns"
    )]
    TooLargeForPca {
        /// Rows that are learned from.
        rows: usize,
        /// Features of a row.
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
    /// More rows than a kernel SVM can be fitted to.
    #[error(
        "a kernel SVM works on the matrix of all pairs of rows, and {rows} rows are more than the {MOST_KERNEL_ROWS} that it \
         is fitted to: its memory and time grow with the square of their number"
    )]
    TooManyForKernels {
        /// Rows that are learned from.
        rows: usize,
    },
    /// More rows than linfa-svm is given.
    #[cfg(feature = "linfa-engines")]
    #[error(
        "linfa-svm builds the matrix of all pairs of rows for every class, and {rows} rows are more than the {} that it is \
         given: its memory and time grow with the square of their number",
        super::MOST_LINFA_SVM_ROWS
    )]
    TooManyForLinfaSvm {
        /// Rows that are learned from.
        rows: usize,
    },
    /// A solver that needs all rows in memory.
    #[error("{what} needs all rows in memory")]
    NotStreamed {
        /// What was asked for.
        what: &'static str,
    },
    /// Not even what must be kept of each row fits the bound.
    #[error("about {needed} MiB of memory are needed, and the bound is {bound} MiB: raise it")]
    TooLittleMemory {
        /// What is needed, in MiB.
        needed: usize,
        /// The bound, in MiB.
        bound: usize,
    },
    /// The source of the rows cannot be read.
    #[error("the rows cannot be read")]
    Read(#[source] BoxedError),
    /// linfa's solver fails.
    #[error("linfa's solver failed")]
    Linfa(#[source] BoxedError),
    /// linfa refuses the data set.
    #[error("the data set is not usable")]
    Dataset(#[source] BoxedError),
}

impl From<linfa::Error> for SolverError {
    fn from(error: linfa::Error) -> Self {
        Self::Dataset(Box::new(error))
    }
}

impl SolverError {
    /// [`SolverError::Setting`] unless `value` is a finite number above 0.
    ///
    /// # Errors
    /// As said.
    pub fn check_positive(name: &'static str, value: f64) -> Result<(), Self> {
        Self::check(value.is_finite() && value > 0.0, name, value, "a number above 0")
    }

    pub(crate) fn check_tolerance(value: f64, least: f64) -> Result<(), Self> {
        let requirement = "below 1, and at least 1e-9 for the SVM and 1e-7 for logistic regression";
        Self::check((least..1.0).contains(&value), "the tolerance", value, requirement)
    }

    pub(crate) fn check_iterations(value: usize) -> Result<(), Self> {
        Self::check(value > 0, "the iteration limit", value as f64, "at least 1")
    }

    /// [`SolverError::Setting`] unless the value of the named setting is `sound`.
    ///
    /// # Errors
    /// As said.
    pub fn check(sound: bool, name: &'static str, value: f64, requirement: &'static str) -> Result<(), Self> {
        if sound { Ok(()) } else { Err(Self::Setting { name, value, requirement }) }
    }

    /// [`SolverError::Mismatch`] unless two sizes are equal.
    ///
    /// # Errors
    /// As said.
    pub fn check_equal(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Mismatch { what, expected, found }) }
    }

    /// [`SolverError::NotFinite`] for the first of some rows that holds NaN or an infinite value.
    ///
    /// # Errors
    /// As said.
    pub fn check_finite<'a>(rows: impl IntoIterator<Item = &'a [f32]>) -> Result<(), Self> {
        for (row, values) in rows.into_iter().enumerate() {
            if let Some((column, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(Self::NotFinite { row, column, value });
            }
        }
        Ok(())
    }
}
