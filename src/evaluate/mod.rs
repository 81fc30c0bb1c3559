//! How good a head is: folds that no duplicate straddles, metrics with their uncertainty, and their report.

mod assessment;
mod calibration_error;
mod difference;
mod folds;
mod metrics;
mod report;
mod suspects;
mod test_set;
mod uncertainty;

pub use assessment::{Assessment, LabelledPredictions, Mistake};
pub use calibration_error::{CalibrationMetrics, ReliabilityBin};
pub use difference::Difference;
pub use folds::{FoldError, Folds};
pub use metrics::{ClassMetrics, Confusion, Proportion, log_loss};
pub use report::{Evaluation, Note, Severity};
pub(crate) use report::{percent, table};
pub use suspects::{LabelSuspect, MixedCopies, Outlier, SuspectEvidence, Suspects};
pub use test_set::TestSet;
pub use uncertainty::Uncertainty;
