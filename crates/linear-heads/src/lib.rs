//! Linear classifiers for wide float32 features, such as the activations of a neural network: support vector machine,
//! multinomial logistic regression and ridge regression, and a support vector machine with a kernel, behind [linfa]'s
//! traits.
//!
//! ```
//! use cnncodes_linear_heads::{LogisticParams, SvmParams};
//! use linfa::{Dataset, traits::{Fit, Predict}};
//! use ndarray::{Array1, array};
//!
//! // Four rows of two features, of the classes 0 and 1.
//! let rows = array![[0.0f32, 1.0], [0.2, 0.9], [1.0, 0.1], [0.9, 0.0]];
//! let data = Dataset::new(rows.clone(), array![0usize, 0, 1, 1]);
//!
//! let svm = SvmParams::new().c(1.0).fit(&data)?;
//! let classes: Array1<usize> = svm.predict(&rows);
//! assert_eq!(classes, array![0, 0, 1, 1]);
//! assert!(svm.convergence.converged);
//!
//! let logistic = LogisticParams::new().c(10.0).fit(&data)?;
//! assert!(logistic.scores(rows.view())[[0, 0]] > logistic.scores(rows.view())[[0, 1]]);
//! # Ok::<(), cnncodes_linear_heads::SolverError>(())
//! ```
//!
//! | settings | minimises | by |
//! |---|---|---|
//! | [`SvmParams`] | `½ w·w + Σ C max(0, 1 - y f)²`, each class against the rest | dual coordinate descent, or preconditioned L-BFGS in the primal for many rows |
//! | [`LogisticParams`] | `C Σ (log Σ exp f - f_y) + ½ Σ w·w`, all classes at once | preconditioned L-BFGS; in as many columns as rows where these are few |
//! | [`RidgeParams`] | `\|Y - X Wᵀ\|² + α \|W\|²`, targets of ±1 | Cholesky factor or eigenvectors, with exact leave-one-out |
//! | [`KernelSvmParams`] | `½ \|w\|² + Σ C max(0, 1 - y f)` in a kernel's space | sequential minimal optimisation |
//!
//! linfa-svm and linfa-logistic are there to choose as well (`LinfaSvmParams`, `LinfaLogisticParams`; feature `linfa-engines`,
//! on by default).
//!
//! Records are float32 matrices (n rows x d features), targets labels 0, 1, …, and the weights of a data set multiply the
//! rows' losses. A fit ends when the duality gap is at most a given share of the objective, and says so in
//! [`Convergence`]: a solver that stops at a limit is no error, but has a message.
//!
//! [`Solver`] is any of them, chosen at run time, on some rows of a matrix. [`Streaming`] fits to rows that do not fit into
//! memory, with the models of a cross-validation beside that of all rows. [`Preparation`] is what usually comes first: rows of
//! length 1, columns of deviation 1, principal components.
//!
//! [linfa]: https://docs.rs/linfa

mod adapter;
mod batched;
mod class_weights;
mod dual;
mod error;
mod fold_scaling;
mod kernel_map;
mod kernel_svm;
mod lbfgs;
mod linear_model;
#[cfg(feature = "linfa-engines")]
mod linfa_engines;
mod logistic;
mod newton;
mod packed_lower_triangle;
mod pca;
mod preconditioner;
mod prepare;
mod primal;
mod ridge;
mod row_source;
mod row_space;
mod shared_passes;
mod simd;
mod smo;
mod solver;
mod standardizer;
mod streaming;
mod svm;
mod weighted_rows;

#[cfg(test)]
mod tests;

pub use class_weights::ClassWeights;
pub use error::{BoxedError, SolverError};
pub use kernel_map::{Kernel, KernelMap};
pub use kernel_svm::{KernelSvmParams, KernelSvmValidParams, MOST_KERNEL_ROWS};
pub use linear_model::{Convergence, LinearModel, highest, linear_scores};
#[cfg(feature = "linfa-engines")]
pub use linfa_engines::{
    LinfaLogisticParams, LinfaLogisticValidParams, LinfaSvmParams, LinfaSvmValidParams, MOST_LINFA_SVM_ROWS,
};
pub use logistic::{LogisticParams, LogisticValidParams};
pub use pca::{LONGEST_PCA_SIDE, Pca};
pub use prepare::{Preparation, PreparationSteps};
pub use ridge::{RidgeModel, RidgeParams, RidgeValidParams};
pub use row_source::RowSource;
pub use solver::{FittedModel, Solver, TrainingRows};
pub use standardizer::{CONSTANT_SHARE, Standardizer};
pub use streaming::{
    ProjectionSettings, RowSample, StreamSettings, StreamedProjection, StreamedRows, Streaming,
};
pub use svm::{SvmParams, SvmValidParams};
