//! [`TrainingSet`]: the images that a head is fitted to, after duplicates are found and small classes are left out.

use super::{DuplicateSettings, LabelledFeatures, LeftOut, SmallClassPolicy, TrainingError};
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
    /// cross-validated in `folds`.
    ///
    /// # Errors
    /// As [`LabelledFeatures::duplicates`] and [`SmallClassPolicy::left_out`].
    pub fn new(
        labelled: LabelledFeatures,
        duplicates: &DuplicateSettings,
        small_classes: &SmallClassPolicy,
        folds: usize,
    ) -> Result<Self, TrainingError> {
        let (duplicates, notes) = labelled.duplicates(duplicates, folds)?;
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
