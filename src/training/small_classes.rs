//! Classes with few images: refused by name before anything is computed, or left out where that was asked for.

use std::collections::HashSet;

use super::TrainingError;
use super::labelled::LabelledFeatures;
use crate::dataset::{Dataset, Duplicates};
use crate::evaluate::Note;
use crate::head::{HeadError, SmallClasses};
use crate::messages::{count, count_of};

/// The least number of images that a head can be fitted to and tested on.
const LEAST: usize = 2;

/// What to do about small classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SmallClassPolicy {
    /// Classes with fewer different images than this are left out; `None`: a class of one image is an error. Duplicates of
    /// an image count once, as soon as they are known.
    pub min_per_class: Option<usize>,
}

/// Classes that take no part.
#[derive(Debug)]
pub struct LeftOut {
    /// Whether each class stays.
    pub keep: Vec<bool>,
    /// Which do not.
    pub note: Note,
}

impl SmallClassPolicy {
    /// Which of the classes with so many images are left out; `None` where all stay.
    ///
    /// # Errors
    /// Classes of fewer than two images, all of them named, unless they are to be left out; fewer than two classes that would
    /// stay.
    pub fn left_out(
        &self,
        class_names: &[String],
        images: &[usize],
    ) -> Result<Option<LeftOut>, TrainingError> {
        let least = self.min_per_class.unwrap_or(LEAST);
        let small = |(name, &images): (&String, &usize)| (images < least).then(|| (name.clone(), images));
        let Some(classes) = SmallClasses::new(class_names.iter().zip(images).filter_map(small)) else {
            return Ok(None);
        };
        if self.min_per_class.is_none() {
            // That there is one class alone is another matter, which is told where the head is fitted.
            return if class_names.len() < 2 {
                Ok(None)
            } else {
                Err(HeadError::ClassesTooSmall { classes }.into())
            };
        }
        let keep: Vec<bool> = images.iter().map(|&images| images >= least).collect();
        let kept = keep.iter().filter(|&&keep| keep).count();
        if kept < 2 {
            return Err(TrainingError::TooFewClasses { least, kept, of: class_names.len(), classes });
        }
        let out: usize = images.iter().filter(|&&images| images < least).sum();
        let note = format!(
            "--min-per-class {least} left out {} of {} with fewer: {}",
            count(out, "image"),
            count_of(classes.classes().len(), "class", "classes"),
            classes.listed(),
        );
        Ok(Some(LeftOut { keep, note: Note::info(note) }))
    }

    /// Leaves out the samples of small classes; the note says which.
    ///
    /// # Errors
    /// As [`SmallClassPolicy::left_out`].
    pub fn apply_to_samples(&self, set: &mut Dataset) -> Result<Option<Note>, TrainingError> {
        let mut images = vec![0; set.class_names.len()];
        set.samples.iter().filter_map(|sample| sample.label).for_each(|label| images[label] += 1);
        let Some(LeftOut { keep, note }) = self.left_out(&set.class_names, &images)? else { return Ok(None) };
        set.keep_classes(&keep);
        Ok(Some(note))
    }

    /// Leaves out small classes, by the images of which nothing is known but their classes.
    ///
    /// # Errors
    /// As [`SmallClassPolicy::left_out`].
    pub fn apply(
        &self,
        labelled: LabelledFeatures,
        notes: &mut Vec<Note>,
    ) -> Result<LabelledFeatures, TrainingError> {
        let mut images = vec![0; labelled.class_names.len()];
        labelled.labels.iter().for_each(|&label| images[label] += 1);
        Ok(match self.left_out(&labelled.class_names, &images)? {
            None => labelled,
            Some(LeftOut { keep, note }) => {
                notes.push(note);
                labelled.keep_classes(&keep).0
            }
        })
    }

    /// Which classes are too small, now that duplicates are known and count once. `rows` are those that a head will be fitted to.
    /// Without `--min-per-class` none is: that all images of a class are duplicates of one is told with the folds.
    ///
    /// # Errors
    /// As [`SmallClassPolicy::left_out`].
    pub fn left_out_of_duplicates(
        &self,
        labelled: &LabelledFeatures,
        duplicates: &Duplicates,
        rows: impl Iterator<Item = usize>,
    ) -> Result<Option<LeftOut>, TrainingError> {
        if self.min_per_class.is_none() {
            return Ok(None);
        }
        let mut images = vec![HashSet::new(); labelled.class_names.len()];
        rows.for_each(|row| {
            images[labelled.labels[row]].insert(duplicates.groups[row]);
        });
        let images: Vec<usize> = images.iter().map(HashSet::len).collect();
        let mut left_out = self.left_out(&labelled.class_names, &images)?;
        if let Some(LeftOut { note, .. }) = &mut left_out {
            note.text.push_str("; duplicates count once");
        }
        Ok(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(min_per_class: Option<usize>, images: &[usize]) -> Result<Option<LeftOut>, String> {
        let names: Vec<String> = ('a'..).take(images.len()).map(String::from).collect();
        SmallClassPolicy { min_per_class }.left_out(&names, images).map_err(|error| error.to_string())
    }

    #[test]
    fn classes_of_one_image_are_refused_all_of_them_by_name() {
        let said = left_out(None, &[1, 5, 1, 2, 0]).unwrap_err();
        assert!(
            said.starts_with("3 classes have too few images: `e` (0), `a` (1), `c` (1), and at least 2"),
            "{said}"
        );
        assert!(said.contains("--min-per-class 2"), "{said}");
        assert!(left_out(None, &[2, 5]).unwrap().is_none());
        assert!(left_out(None, &[1]).unwrap().is_none(), "one class alone is another matter");
    }

    #[test]
    fn small_classes_are_left_out_where_that_is_asked_for_and_named() {
        let found = left_out(Some(5), &[4, 5, 9, 1]).unwrap().unwrap();
        assert_eq!(found.keep, [false, true, true, false]);
        assert_eq!(
            found.note.text,
            "--min-per-class 5 left out 5 images of 2 classes with fewer: `d` (1), `a` (4)"
        );
        assert!(left_out(Some(5), &[5, 6]).unwrap().is_none());
        let said = left_out(Some(5), &[4, 5]).unwrap_err();
        assert!(said.contains("leaves 1 of 2 classes") && said.contains("`a` has 4 images"), "{said}");
    }
}
