//! [`TrainingSet`]: the images that a head is fitted to, after duplicates are found and small classes are left out.

use super::{DuplicateSettings, LabelledFeatures, LeftOut, SmallClassPolicy, StreamedLayer, TrainingError};
use crate::dataset::Duplicates;
use crate::evaluate::Note;

/// Images with their classes, of which the duplicates are known.
#[derive(Debug)]
#[non_exhaustive]
pub struct TrainingSet {
    /// The images of classes that are large enough.
    pub labelled: LabelledFeatures,
    /// Which of them are duplicates of one another.
    pub duplicates: Duplicates,
    /// What the reader of results should know about the duplicates.
    pub notes: Vec<Note>,
    /// Which classes are too small because duplicates count once, if any are.
    pub left_out: Option<Note>,
}

impl TrainingSet {
    /// Finds the duplicates among `labelled`, and leaves out the classes that are too small without them; heads will be
    /// cross-validated in `folds`. `streamed` has the features if they are not in memory.
    ///
    /// # Errors
    /// As [`LabelledFeatures::duplicates`] and [`SmallClassPolicy::left_out`].
    pub fn new(
        labelled: LabelledFeatures,
        duplicates: &DuplicateSettings,
        small_classes: &SmallClassPolicy,
        folds: usize,
        streamed: Option<&StreamedLayer<'_>>,
    ) -> Result<Self, TrainingError> {
        let (duplicates, notes) = labelled.duplicates(duplicates, folds, streamed)?;
        let rows = 0..labelled.labels.len();
        Ok(match small_classes.left_out_of_duplicates(&labelled, &duplicates, rows)? {
            None => Self { labelled, duplicates, notes, left_out: None },
            Some(LeftOut { keep, note }) => {
                let (labelled, rows) = labelled.keep_classes(&keep);
                Self { labelled, duplicates: duplicates.select(&rows), notes, left_out: Some(note) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::super::labelled::tests::labelled;
    use super::*;

    #[test]
    fn a_class_of_one_image_and_its_duplicates_is_left_out_with_its_rows() {
        let mut images = labelled(Array2::zeros((9, 2)), vec![0, 2, 1, 2, 0, 2, 1, 1, 0]);
        images.class_names.push("c".to_owned());
        for row in [1, 3, 5] {
            images.sha256[row] = "same".to_owned();
        }
        images.sha256[8] = images.sha256[0].clone();
        let bytes_only = DuplicateSettings { cosine: Some(1.0), ..DuplicateSettings::default() };
        let two = SmallClassPolicy { min_per_class: Some(2) };
        let set = TrainingSet::new(images, &bytes_only, &two, 5, None).unwrap();
        assert_eq!(
            (&set.labelled.rows[..], &set.labelled.class_names.concat()[..]),
            (&[0, 2, 4, 6, 7, 8][..], "ab")
        );
        assert_eq!(set.duplicates.groups, [0, 2, 3, 4, 5, 0]);
        assert_eq!(set.duplicates.sets[0].images, [0, 5]);
        assert_eq!(set.notes, []);
        let left_out = set.left_out.unwrap().text;
        assert_eq!(
            left_out,
            "--min-per-class 2 left out 1 image of 1 class with fewer: `c` (1); duplicates count once"
        );
    }
}
