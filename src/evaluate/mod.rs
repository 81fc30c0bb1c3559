//! How good a head is: folds that no duplicate straddles, metrics with their uncertainty, and their report.

mod folds;
mod metrics;
mod report;

pub use folds::{FoldError, Folds};
pub use metrics::{ClassMetrics, Confusion, Proportion, log_loss};
pub use report::{Evaluation, Note, Severity};
