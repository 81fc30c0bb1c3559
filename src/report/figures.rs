//! The figures of a report, the same for a cross-validation and for the assessment of other images.

use crate::evaluate::{
    Assessment, CalibrationMetrics, ClassMetrics, Confusion, Evaluation, Note, Proportion,
};

/// Something with a name and a value, both in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedValue {
    /// What it is.
    pub name: String,
    /// How much, or which.
    pub value: String,
    /// Whether the value is to be typed or compared letter by letter.
    pub code: bool,
}

impl NamedValue {
    /// A fact in words.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), code: false }
    }

    /// A fact whose letters count: a command, a path, a hash.
    pub fn code(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { code: true, ..Self::new(name, value) }
    }
}

/// How good a head's answers are.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// How they were obtained, in a sentence.
    pub how: String,
    /// Share of the images that were classified rightly.
    pub accuracy: Proportion,
    /// Share of the largest class.
    pub chance: f64,
    /// Counts of true and predicted classes.
    pub confusion: Confusion,
    /// Precision, recall, F1 and support of each class.
    pub per_class: Vec<ClassMetrics>,
    /// How far the probabilities can be trusted.
    pub calibration: CalibrationMetrics,
    /// Further figures.
    pub facts: Vec<NamedValue>,
    /// What else the reader should know.
    pub notes: Vec<Note>,
}

/// `98.6 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `98.6 % (797 of 808), 95 % interval 97.6 % to 99.2 %`.
fn with_interval(share: &Proportion) -> String {
    format!(
        "{} ({} of {}), 95 % interval {} to {}",
        percent(share.value),
        share.successes,
        share.trials,
        percent(share.low),
        percent(share.high)
    )
}

impl Figures {
    /// Figures of a cross-validation. Heads of earlier versions do not tell their calibration; it is `calibration` then.
    pub fn of_evaluation(evaluation: &Evaluation, calibration: CalibrationMetrics) -> Self {
        let mut facts = vec![
            NamedValue::new("log-loss", format!("{:.3}", evaluation.log_loss)),
            NamedValue::new("calibration error (ECE, 15 bins)", percent(calibration.expected_error)),
            NamedValue::new("Brier score", format!("{:.3}", calibration.brier)),
            NamedValue::new("on the training photos themselves", percent(evaluation.training_accuracy)),
        ];
        if let Some(leaky) = &evaluation.leaky_accuracy {
            facts.push(NamedValue::new("with duplicates on both sides of the splits", percent(leaky.value)));
        }
        let folds: Vec<String> = evaluation.fold_accuracies.iter().map(|&share| percent(share)).collect();
        facts.push(NamedValue::new("fold by fold", folds.join(", ")));
        Self {
            how: format!(
                "A head that had seen neither the photo nor a duplicate of it classified each photo \
                 ({}-fold cross-validation).",
                evaluation.folds
            ),
            accuracy: evaluation.accuracy,
            chance: evaluation.chance,
            confusion: evaluation.confusion.clone(),
            per_class: evaluation.per_class.clone(),
            calibration,
            facts,
            notes: evaluation.notes.clone(),
        }
    }
}

impl From<&Assessment> for Figures {
    fn from(assessment: &Assessment) -> Self {
        let mut facts = vec![
            NamedValue::new("log-loss", format!("{:.3}", assessment.log_loss)),
            NamedValue::new(
                "calibration error (ECE, 15 bins)",
                percent(assessment.calibration.expected_error),
            ),
            NamedValue::new("Brier score", format!("{:.3}", assessment.calibration.brier)),
        ];
        if let Some(new) = &assessment.accuracy_on_new {
            facts.push(NamedValue::new("on photos that the head was not fitted to", with_interval(new)));
        }
        if let Some((coverage, covered)) = assessment.coverage.zip(assessment.covered.as_ref()) {
            let name = format!("sets at {} coverage that hold the true class", percent(coverage));
            facts.push(NamedValue::new(name, with_interval(covered)));
        }
        if let Some(unknown) = &assessment.unknown {
            facts.push(NamedValue::new(
                "called unknown",
                format!("{} of {}", unknown.successes, unknown.trials),
            ));
        }
        let largest = assessment.per_class.iter().map(|class| class.support).max().unwrap_or(0);
        Self {
            how: "The head was fitted before this evaluation.".to_owned(),
            accuracy: assessment.accuracy,
            chance: largest as f64 / assessment.rows.max(1) as f64,
            confusion: assessment.confusion.clone(),
            per_class: assessment.per_class.clone(),
            calibration: assessment.calibration.clone(),
            facts,
            notes: assessment.notes.clone(),
        }
    }
}
