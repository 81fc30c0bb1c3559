//! A head on images that were set apart for testing, with the duplicates of training images among them.

use serde::{Deserialize, Serialize};

use super::metrics::{ClassMetrics, Confusion, Proportion};
use super::report::percent;

/// Figures of a head on images that it was not fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestSet {
    /// Share of the images that were classified rightly. The interval takes them as independent.
    pub accuracy: Proportion,
    /// The images that are duplicates of training images: memory passes for skill with these.
    pub straddling: Vec<String>,
    /// The share without those images, where there are some.
    pub clean_accuracy: Option<Proportion>,
    /// Counts of true and predicted classes, of all the images.
    pub confusion: Confusion,
    /// Precision, recall, F1 and support of each class.
    pub per_class: Vec<ClassMetrics>,
}

impl TestSet {
    /// Figures for images of the classes `labels` that were taken for `predicted`; `straddles` says which are duplicates of
    /// training images. The slices have one element an image.
    pub fn new(
        class_names: &[String],
        names: &[String],
        labels: &[usize],
        predicted: &[usize],
        straddles: &[bool],
    ) -> Self {
        let confusion = Confusion::new(labels, predicted, class_names.len());
        let straddling: Vec<String> =
            names.iter().zip(straddles).filter(|&(_, &copy)| copy).map(|(name, _)| name.clone()).collect();
        let clean: Vec<usize> = (0..labels.len()).filter(|&row| !straddles[row]).collect();
        let right = clean.iter().filter(|&&row| labels[row] == predicted[row]).count();
        Self {
            accuracy: confusion.accuracy(),
            clean_accuracy: (!straddling.is_empty()).then(|| Proportion::new(right, clean.len())),
            straddling,
            per_class: confusion.per_class(class_names),
            confusion,
        }
    }

    /// One line, or two where duplicates stand on both sides.
    pub fn summary(&self) -> String {
        let mut text = format!("on the test images {}", with_interval(&self.accuracy));
        if let Some(clean) = &self.clean_accuracy {
            text.push_str(&format!(
                "\n{} of the test images are duplicates of training images, such as {}; without them {}",
                self.straddling.len(),
                self.straddling[0],
                with_interval(clean)
            ));
        }
        text
    }
}

fn with_interval(share: &Proportion) -> String {
    let Proportion { successes, trials, value, low, high } = *share;
    format!(
        "{} ({successes} of {trials}), 95 % interval {} to {}",
        percent(value),
        percent(low),
        percent(high)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_training_images_are_left_out_of_the_clean_accuracy() {
        let classes = ["a", "b"].map(String::from);
        let names = ["1", "2", "3", "4"].map(String::from);
        let (labels, predicted) = ([0, 0, 1, 1], [0, 0, 1, 0]);
        let test = TestSet::new(&classes, &names, &labels, &predicted, &[false, true, true, false]);
        assert_eq!((test.accuracy.successes, test.accuracy.trials), (3, 4));
        assert_eq!(test.straddling, ["2", "3"]);
        assert_eq!(test.clean_accuracy, Some(Proportion::new(1, 2)));
        assert_eq!(
            test.summary(),
            "on the test images 75.0 % (3 of 4), 95 % interval 30.1 % to 95.4 %\n2 of the test images are \
             duplicates of training images, such as 2; without them 50.0 % (1 of 2), 95 % interval 9.5 % to \
             90.5 %"
        );
        let test = TestSet::new(&classes, &names, &labels, &predicted, &[false; 4]);
        assert_eq!(test.clean_accuracy, None);
        assert!(!test.summary().contains("copies"));
    }
}
