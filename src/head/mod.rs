//! The head: the classifier that is trained on codes, its probabilities, and its file. It is linear in the codes, or in
//! what a kernel makes of them ([`KernelMap`]).
//!
//! [`fit_head`] is the whole of it: prepare the codes ([`Preparation`]), cross-validate, fit ([`SvmParams`] or
//! [`LogisticParams`], both behind linfa's `Fit`), calibrate ([`Calibration`]). [`Head`] is what is saved and what
//! classifies.

mod batched;
mod calibrate;
mod conformal;
mod dual;
mod error;
mod file;
mod fit;
mod isotonic;
mod kernel;
mod kernel_map;
mod kernel_svm;
mod lbfgs;
mod linear;
mod lockstep;
mod logistic;
mod model;
mod newton;
mod novelty;
mod panels;
mod pca;
mod preconditioner;
mod prepare;
mod primal;
mod products;
mod ranking;
mod reduced;
mod ridge;
mod scale;
mod sigmoid;
mod small;
mod smo;
mod source;
mod svm;
mod tune;
mod view;
mod weights;

#[cfg(test)]
mod solver_tests;

pub use calibrate::{Calibration, CalibrationMethod};
pub use conformal::Conformal;
pub use error::HeadError;
pub use file::{Head, HeadFileError, HeadProvenance, fingerprint};
pub use fit::{
    FitSettings, FittedHead, HeadKind, OutOfFold, StreamedData, TrainingData, fit_head, fit_head_streamed,
};
pub(crate) use fit::{NOT_ABOVE_CHANCE, Subset};
pub use isotonic::Isotonic;
pub use kernel_map::{Kernel, KernelMap};
pub use kernel_svm::{KernelSvmParams, KernelSvmValidParams, MOST_KERNEL_ROWS};
pub(crate) use linear::highest;
pub use linear::{Convergence, LinearModel};
pub use logistic::{LogisticParams, LogisticValidParams};
pub use model::HeadModel;
pub use novelty::{Novelty, NoveltyLimits};
pub use pca::Pca;
pub use prepare::{Preparation, Steps};
pub use ranking::answers;
pub use ridge::{RidgeModel, RidgeParams, RidgeValidParams};
pub use scale::{CONSTANT_SHARE, Standardizer};
pub use sigmoid::Sigmoid;
pub use small::SmallClasses;
pub use source::{FileRows, RowSource};
pub use svm::{Loss, SvmParams, SvmValidParams};
pub use tune::{Choice, Tuning};
pub use weights::ClassWeights;
