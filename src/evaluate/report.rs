//! The result of a cross-validation, as data (serde) and as text.

use crate::messages::printable;
use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_width::UnicodeWidthStr;

use super::calibration_error::CalibrationMetrics;
use super::metrics::{ClassMetrics, Confusion, Proportion};
use super::test_set::TestSet;
use crate::dataset::DuplicateSet;

/// Characters a line that a confusion matrix may have; were it wider, the commonest mistakes are listed instead, since a
/// line that wraps makes a table unreadable.
const WIDEST_MATRIX: usize = 80;

/// Something that the reader of a result should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// What it is, and what to do about it.
    pub text: String,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// The result may be worse, or less certain, than it looks.
    Warning,
}

impl Note {
    /// A note that is good to know.
    pub fn info(text: impl Into<String>) -> Self {
        Self { severity: Severity::Info, text: text.into() }
    }

    /// A note about something that may be wrong.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Info => "note",
            Severity::Warning => "WARNING",
        };
        write!(f, "{mark}: {}", self.text)
    }
}

/// What cross-validation found about a head: every row was classified by a head that had not seen it or a duplicate of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Class names in order.
    pub class_names: Vec<String>,
    /// Number of rows.
    pub rows: usize,
    /// Number of groups of rows that were kept together; equal to `rows` when nothing was grouped.
    pub groups: usize,
    /// Number of folds.
    pub folds: usize,
    /// Seed of the folds.
    pub seed: u64,
    /// Share of the held-out rows that were classified rightly. The interval takes the rows as independent.
    pub accuracy: Proportion,
    /// Accuracy in each fold.
    pub fold_accuracies: Vec<f64>,
    /// Accuracy on the training rows themselves, of the head fitted to all of them: no measure of skill, but a head that
    /// cannot even tell these apart was not fitted.
    pub training_accuracy: f64,
    /// Share of the largest class: what always guessing it would give.
    pub chance: f64,
    /// Counts of true and predicted classes.
    pub confusion: Confusion,
    /// Precision, recall, F1 and support of each class.
    pub per_class: Vec<ClassMetrics>,
    /// Mean `-ln p` of the true class, with probabilities calibrated on the other folds.
    pub log_loss: f64,
    /// How far these probabilities can be trusted; absent from heads of earlier versions.
    #[serde(default)]
    pub calibration: Option<CalibrationMetrics>,
    /// Accuracy when duplicates are allowed on both sides of a split, where there are duplicates: what is commonly reported, and
    /// too good.
    #[serde(default)]
    pub leaky_accuracy: Option<Proportion>,
    /// Images that were taken for duplicates of one another.
    #[serde(default)]
    pub duplicates: Vec<DuplicateSet<String>>,
    /// Figures on images that were set apart for testing, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestSet>,
    /// What else the reader should know.
    pub notes: Vec<Note>,
}

impl Evaluation {
    /// Plain text: summary, confusion matrix, per-class table and notes. No colours, no box drawing.
    pub fn to_text(&self) -> String {
        let mut text = self.summary();
        text.push_str("\n\n");
        text.push_str(&confusion_text(&self.class_names, &self.confusion));
        text.push_str("\n\n");
        text.push_str(&class_table(&self.per_class));
        text.push('\n');
        for note in &self.notes {
            text.push_str(&format!("\n{note}"));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }

    /// Some lines: accuracy with its interval, how it was obtained, how far the probabilities can be trusted.
    pub fn summary(&self) -> String {
        let Proportion { successes, trials, value, low, high } = self.accuracy;
        let grouped = match self.rows - self.groups {
            0 => String::new(),
            _ => format!(" in {} groups of duplicates", self.groups),
        };
        let mut text = format!(
            "accuracy {} ({successes} of {trials}), 95 % interval {} to {}, chance {}\n\
             {} stratified folds (seed {}) of {} images{grouped}; log-loss {:.3}; on the training images {}",
            percent(value),
            percent(low),
            percent(high),
            percent(self.chance),
            self.folds,
            self.seed,
            self.rows,
            self.log_loss,
            percent(self.training_accuracy),
        );
        if let Some(calibration) = &self.calibration {
            text.push_str(&format!(
                "\ncalibration error {} (ECE, 15 bins), Brier score {:.3}",
                percent(calibration.expected_error),
                calibration.brier
            ));
        }
        if let Some(leaky) = self.leaky_accuracy.filter(|leaky| leaky.successes != successes) {
            text.push_str(&format!(
                "\nwith duplicates on both sides of the splits it would be {} ({} of {})",
                percent(leaky.value),
                leaky.successes,
                leaky.trials
            ));
        }
        if let Some(test) = &self.test {
            text.push_str(&format!("\n{}", test.summary()));
        }
        text
    }
}

/// The confusion matrix, or the commonest confusions where it would be too wide, with a heading.
pub(super) fn confusion_text(class_names: &[String], confusion: &Confusion) -> String {
    // The first column holds a name as well, and columns are two characters apart.
    let names = class_names.iter().map(|name| name.chars().count());
    if names.clone().map(|length| length + 2).sum::<usize>() + names.max().unwrap_or(0) < WIDEST_MATRIX {
        let mut header = vec![String::new()];
        header.extend(class_names.iter().cloned());
        let rows = class_names.iter().zip(&confusion.counts).map(|(name, counts)| {
            let mut row = vec![name.clone()];
            row.extend(counts.iter().map(usize::to_string));
            row
        });
        return format!("Confusion matrix (rows: true class, columns: predicted):\n{}", table(header, rows));
    }
    let header = ["true class", "predicted", "count"].map(String::from).to_vec();
    let rows = confusion.mistakes().into_iter().take(10).map(|(truth, predicted, count)| {
        vec![class_names[truth].clone(), class_names[predicted].clone(), count.to_string()]
    });
    format!("Most frequent confusions:\n{}", table(header, rows))
}

/// Precision, recall, F1 and number of images of each class.
pub(super) fn class_table(per_class: &[ClassMetrics]) -> String {
    let header = ["class", "precision", "recall", "F1", "images"].map(String::from).to_vec();
    let rows = per_class.iter().map(|class| {
        vec![
            class.name.clone(),
            percent(class.precision),
            percent(class.recall),
            percent(class.f1),
            class.support.to_string(),
        ]
    });
    table(header, rows)
}

/// Columns separated by spaces, aligned to the right but for the first and those without a header, which hold remarks.
pub(crate) fn table(header: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let to_left: Vec<bool> =
        header.iter().enumerate().map(|(column, title)| column == 0 || title.is_empty()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header)
        .chain(rows)
        .map(|line| line.iter().map(|cell| printable(cell).into_owned()).collect())
        .collect();
    let mut widths = vec![0; to_left.len()];
    for line in &lines {
        widths.iter_mut().zip(line).for_each(|(width, cell)| *width = cell.width().max(*width));
    }
    let padded = |((cell, &width), &to_left): ((&String, &usize), &bool)| {
        let space = " ".repeat(width - cell.width());
        if to_left { format!(" {cell}{space} ") } else { format!(" {space}{cell} ") }
    };
    let text = |line: &Vec<String>| {
        let cells: String = line.iter().zip(&widths).zip(&to_left).map(padded).collect();
        cells.trim_end().to_owned()
    };
    lines.iter().map(text).collect::<Vec<_>>().join("\n")
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(class_names: Vec<String>, truth: &[usize], predicted: &[usize]) -> Evaluation {
        let confusion = Confusion::new(truth, predicted, class_names.len());
        Evaluation {
            rows: truth.len(),
            groups: truth.len(),
            folds: 2,
            seed: 3,
            accuracy: confusion.accuracy(),
            fold_accuracies: vec![0.5, 1.0],
            training_accuracy: 1.0,
            chance: 0.5,
            per_class: confusion.per_class(&class_names),
            confusion,
            class_names,
            log_loss: 0.25,
            calibration: None,
            leaky_accuracy: None,
            duplicates: Vec::new(),
            test: None,
            notes: vec![Note::warning("few images"), Note::info("all is well")],
        }
    }

    #[test]
    fn the_text_is_aligned_and_complete() {
        let names = ["cats", "dogs"].map(String::from).to_vec();
        let text = evaluation(names, &[0, 0, 1, 1], &[0, 1, 1, 1]).to_text();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "accuracy 75.0 % (3 of 4), 95 % interval 30.1 % to 95.4 %, chance 50.0 %",
                "2 stratified folds (seed 3) of 4 images; log-loss 0.250; on the training images 100.0 %",
                "",
                "Confusion matrix (rows: true class, columns: predicted):",
                "       cats  dogs",
                " cats     1     1",
                " dogs     0     2",
                "",
                " class  precision   recall      F1  images",
                " cats     100.0 %   50.0 %  66.7 %       2",
                " dogs      66.7 %  100.0 %  80.0 %       2",
                "",
                "WARNING: few images",
                "note: all is well",
            ]
        );
    }

    #[test]
    fn calibration_and_what_leaks_would_have_claimed_are_told() {
        let names = ["cats", "dogs"].map(String::from).to_vec();
        let mut evaluation = evaluation(names, &[0, 0, 1, 1], &[0, 1, 1, 1]);
        evaluation.calibration =
            Some(CalibrationMetrics { expected_error: 0.0234, brier: 0.125, bins: Vec::new() });
        evaluation.leaky_accuracy = Some(Proportion::new(4, 4));
        let summary = evaluation.summary();
        assert!(summary.contains("calibration error 2.3 % (ECE, 15 bins), Brier score 0.125"), "{summary}");
        assert!(summary.contains("on both sides of the splits it would be 100.0 % (4 of 4)"), "{summary}");
        evaluation.leaky_accuracy = Some(evaluation.accuracy);
        assert!(!evaluation.summary().contains("both sides"), "they do not differ");
    }

    #[test]
    fn heads_of_earlier_versions_still_load() {
        let names = ["a", "b"].map(String::from).to_vec();
        let mut json = serde_json::to_value(evaluation(names, &[0, 1], &[0, 0])).unwrap();
        for newer in ["calibration", "leaky_accuracy", "duplicates"] {
            json.as_object_mut().unwrap().remove(newer);
        }
        assert_eq!(serde_json::from_value::<Evaluation>(json).unwrap().calibration, None);
    }

    #[test]
    fn with_many_classes_the_commonest_mistakes_replace_the_matrix() {
        let names: Vec<String> = (0..20).map(|k| format!("class{k}")).collect();
        let truth: Vec<usize> = (0..20).collect();
        let mut predicted = truth.clone();
        predicted[4] = 7;
        let text = evaluation(names, &truth, &predicted).to_text();
        assert!(!text.contains("Confusion matrix"));
        assert!(text.contains("class4") && text.contains("class7"));
    }

    #[test]
    fn json_keeps_everything() {
        let names = ["a", "b"].map(String::from).to_vec();
        let before = evaluation(names, &[0, 1], &[0, 0]);
        let json = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), before);
    }
}
