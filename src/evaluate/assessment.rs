//! How a fitted head does on images with known classes: the answer of `cnncodes evaluate`, as data and as text.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::calibration_error::CalibrationMetrics;
use super::metrics::{ClassMetrics, Confusion, Proportion, log_loss};
use super::report::{Note, class_table, confusion_text, percent, table};

/// What a head said about images with known classes. All slices have one element an image.
#[derive(Debug, Clone, Copy)]
pub struct LabelledPredictions<'a> {
    /// The head's classes, in order.
    pub class_names: &'a [String],
    /// Names of the images.
    pub names: &'a [String],
    /// Their true classes, as indices into `class_names`.
    pub labels: &'a [usize],
    /// What the head gives each class (n x classes).
    pub probabilities: ArrayView2<'a, f64>,
    /// The class that it takes each image for ([`crate::head::answers`]).
    pub predicted: &'a [usize],
    /// Whether the image was called unknown, where the head can tell.
    pub unknown: Option<&'a [bool]>,
    /// Whether the prediction set held the true class, and the coverage that was asked for.
    pub covered: Option<(f64, &'a [bool])>,
    /// Whether the head was fitted to the image.
    pub trained_on: &'a [bool],
}

/// Figures of a head on given images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// The head's classes, in order.
    pub class_names: Vec<String>,
    /// Number of images.
    pub rows: usize,
    /// Share of right answers. The interval takes the images as independent.
    pub accuracy: Proportion,
    /// Number of images that the head was fitted to.
    pub trained_on: usize,
    /// Share of right answers among the other images, where there are some of both.
    pub accuracy_on_new: Option<Proportion>,
    /// Share of images that were called unknown, where the head can tell.
    pub unknown: Option<Proportion>,
    /// Share of images whose prediction set held the true class.
    pub covered: Option<Proportion>,
    /// The coverage that was asked for.
    pub coverage: Option<f64>,
    /// Counts of true and predicted classes.
    pub confusion: Confusion,
    /// Precision, recall, F1 and support of each class.
    pub per_class: Vec<ClassMetrics>,
    /// Mean `-ln p` of the true class.
    pub log_loss: f64,
    /// How far the probabilities can be trusted.
    pub calibration: CalibrationMetrics,
    /// Wrong answers, most confident first.
    pub mistakes: Vec<Mistake>,
    /// What else the reader should know.
    pub notes: Vec<Note>,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Name of the image.
    pub image: String,
    /// Its true class.
    pub class: String,
    /// The class that the head gave.
    pub predicted: String,
    /// How probable the head took that to be.
    pub probability: f64,
    /// Whether the head at least called the image unknown, where it can tell.
    pub unknown: Option<bool>,
}

impl Assessment {
    /// Figures for what a head said; `most_mistakes` of the wrong answers are kept.
    pub fn new(judged: &LabelledPredictions<'_>, most_mistakes: usize) -> Self {
        let predicted = judged.predicted;
        let rows = judged.labels.len();
        let right = |row: usize| predicted[row] == judged.labels[row];
        let confusion = Confusion::new(judged.labels, predicted, judged.class_names.len());
        let trained_on = judged.trained_on.iter().filter(|&&seen| seen).count();
        let new: Vec<usize> = (0..rows).filter(|&row| !judged.trained_on[row]).collect();
        let mut mistakes: Vec<Mistake> = (0..rows)
            .filter(|&row| !right(row))
            .map(|row| Mistake {
                image: judged.names[row].clone(),
                class: judged.class_names[judged.labels[row]].clone(),
                predicted: judged.class_names[predicted[row]].clone(),
                probability: judged.probabilities[[row, predicted[row]]],
                unknown: judged.unknown.map(|unknown| unknown[row]),
            })
            .collect();
        mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        mistakes.truncate(most_mistakes);
        let share = |flags: &[bool]| Proportion::new(flags.iter().filter(|&&flag| flag).count(), rows);
        let mut notes = Vec::new();
        if trained_on > 0 {
            notes.push(Note::warning(format!(
                "the head was fitted to {trained_on} of these {rows} images (same bytes): its answers to \
                 those do not measure its accuracy on new images"
            )));
        }
        Self {
            class_names: judged.class_names.to_vec(),
            rows,
            accuracy: confusion.accuracy(),
            trained_on,
            accuracy_on_new: (trained_on > 0 && !new.is_empty())
                .then(|| Proportion::new(new.iter().filter(|&&row| right(row)).count(), new.len())),
            unknown: judged.unknown.map(share),
            covered: judged.covered.map(|(_, covered)| share(covered)),
            coverage: judged.covered.map(|(coverage, _)| coverage),
            per_class: confusion.per_class(judged.class_names),
            confusion,
            log_loss: log_loss(judged.probabilities, judged.labels),
            calibration: CalibrationMetrics::new(judged.probabilities, predicted, judged.labels),
            mistakes,
            notes,
        }
    }

    /// Plain text: summary, confusion matrix, per-class table, most confident mistakes and notes.
    pub fn to_text(&self) -> String {
        let share = |p: &Proportion| {
            format!(
                "{} ({} of {}), 95 % interval {} to {}",
                percent(p.value),
                p.successes,
                p.trials,
                percent(p.low),
                percent(p.high)
            )
        };
        let mut text = format!("accuracy {}\n", share(&self.accuracy));
        if let Some(new) = &self.accuracy_on_new {
            text.push_str(&format!("on the images that the head was not fitted to {}\n", share(new)));
        }
        text.push_str(&format!(
            "log-loss {:.3}, calibration error {} (ECE, 15 bins), Brier score {:.3}\n",
            self.log_loss,
            percent(self.calibration.expected_error),
            self.calibration.brier
        ));
        if let Some((coverage, covered)) = self.coverage.zip(self.covered.as_ref()) {
            let asked = percent(coverage);
            text.push_str(&format!("sets at {asked} coverage hold the true class for {}\n", share(covered)));
        }
        if let Some(unknown) = &self.unknown {
            let (unknown, rows) = (unknown.successes, unknown.trials);
            text.push_str(&format!("{unknown} of {rows} images called unknown\n"));
        }
        text.push('\n');
        text.push_str(&confusion_text(&self.class_names, &self.confusion));
        text.push_str("\n\n");
        text.push_str(&class_table(&self.per_class));
        text.push('\n');
        if !self.mistakes.is_empty() {
            text.push_str("\nMost confident mistakes:\n");
            let header = ["image", "true class", "predicted", "probability"].map(String::from).to_vec();
            let rows = self.mistakes.iter().map(|mistake| {
                let unknown = if mistake.unknown == Some(true) { " (unknown)" } else { "" };
                vec![
                    mistake.image.clone(),
                    mistake.class.clone(),
                    format!("{}{unknown}", mistake.predicted),
                    percent(mistake.probability),
                ]
            });
            text.push_str(&table(header, rows));
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}"));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn figures_mistakes_and_overlap_are_told() {
        let class_names = ["cats", "dogs"].map(String::from);
        let names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"].map(String::from);
        let probabilities = array![[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.4, 0.6]];
        let judged = LabelledPredictions {
            class_names: &class_names,
            names: &names,
            labels: &[0, 0, 1, 1],
            probabilities: probabilities.view(),
            predicted: &[0, 1, 0, 1],
            unknown: Some(&[false, false, true, false]),
            covered: Some((0.95, &[true, false, true, true])),
            trained_on: &[true, false, false, false],
        };
        let found = Assessment::new(&judged, 10);
        assert_eq!((found.accuracy.successes, found.accuracy.trials), (2, 4));
        let new = found.accuracy_on_new.unwrap();
        assert_eq!((new.successes, new.trials), (1, 3));
        assert_eq!(found.confusion.counts, [[1, 1], [1, 1]]);
        let order: Vec<&str> = found.mistakes.iter().map(|mistake| mistake.image.as_str()).collect();
        assert_eq!(order, ["c.jpg", "b.jpg"]);
        let text = found.to_text();
        for line in [
            "accuracy 50.0 % (2 of 4), 95 % interval 15.0 % to 85.0 %",
            "on the images that the head was not fitted to 33.3 % (1 of 3)",
            "sets at 95.0 % coverage hold the true class for 75.0 % (3 of 4)",
            "1 of 4 images called unknown",
            "cats (unknown)",
            "fitted to 1 of these 4 images",
        ] {
            assert!(text.contains(line), "{line:?} is missing from\n{text}");
        }
        assert_eq!(Assessment::new(&judged, 1).mistakes.len(), 1);
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Assessment>(&json).unwrap(), found);
    }
}
