//! The head: the classifier that is trained on features, its probabilities, and its file. It is linear in the features, or in
//! what a kernel makes of them ([`KernelMap`]).
//!
//! [`fit_head`] is the whole of it: prepare the features ([`Preparation`]), cross-validate, fit, calibrate ([`Calibration`]).
//! The solvers are those of the crate [`cnncodes_linear_heads`]. [`Head`] is what is saved and what classifies.

mod calibrate;
mod conformal;
mod error;
mod feature_rows;
mod file;
mod fit;
mod isotonic;
mod model;
mod novelty;
mod ranking;
mod sigmoid;
mod small_classes;
mod tune;

pub use calibrate::{Calibration, CalibrationMethod};
pub use cnncodes_linear_heads::{
    ClassWeights, Convergence, Kernel, KernelMap, MOST_KERNEL_ROWS, Pca, Preparation, PreparationSteps,
    RowSource, SolverError, Standardizer,
};
pub use conformal::Conformal;
pub use error::HeadError;
pub use feature_rows::FileRows;
pub use file::{Head, HeadFileError, HeadProvenance, fingerprint};
pub(crate) use fit::NOT_ABOVE_CHANCE;
pub(crate) use fit::Subset;
pub use fit::{
    Engine, FitSettings, FittedHead, HeadKind, Loss, OutOfFold, StreamedData, TrainingData, fit_head,
    fit_head_streamed,
};
pub use isotonic::Isotonic;
pub use model::HeadModel;
pub use novelty::{Novelty, NoveltyLimits};
pub use ranking::answers;
pub use sigmoid::Sigmoid;
pub use small_classes::SmallClasses;
pub use tune::{ChosenC, Tuning};
