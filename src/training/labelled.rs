//! [`LabelledFeatures`]: the rows of a feature file whose class is known, and columns of CSV files about them.

use std::collections::{BTreeSet, HashMap};

use ndarray::{Array2, Axis};

use super::{RowValues, TrainingError};
use crate::dataset::sort_class_names;
use crate::features::FeatureFile;
use crate::head::TrainingData;
use crate::images::PerceptualHash;
use crate::messages::count;

/// The rows of a feature file whose class is known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LabelledFeatures {
    /// Their features, one row an image; no row where they have been left in the file.
    pub features: Array2<f32>,
    /// Their row numbers in the file.
    pub rows: Vec<usize>,
    /// The class of each, as an index into `class_names`.
    pub labels: Vec<usize>,
    /// Names of the classes that have images.
    pub class_names: Vec<String>,
    /// Names of the images.
    pub names: Vec<String>,
    /// SHA-256 of each image file.
    pub sha256: Vec<String>,
    /// Perceptual hash of each image; `None` where the file does not tell it.
    pub hashes: Vec<Option<PerceptualHash>>,
    /// Whether another program computed the features, so that the images are not known.
    pub foreign: bool,
    /// What the reader of results should know.
    pub notes: Vec<String>,
}

impl LabelledFeatures {
    /// Reads the labelled rows of a layer; `None` is the primary one.
    ///
    /// # Errors
    /// No image has a label, or the file cannot be read.
    pub fn read(file: &FeatureFile, layer: Option<&str>) -> Result<LabelledFeatures, TrainingError> {
        let mut labelled = Self::without_features(file)?;
        labelled.read_features(file, layer)?;
        Ok(labelled)
    }

    /// Reads the features that were left in the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_features(&mut self, file: &FeatureFile, layer: Option<&str>) -> Result<(), TrainingError> {
        self.features = file.read_layer(layer)?;
        if self.rows.len() < file.rows() {
            self.features = self.features.select(Axis(0), &self.rows);
        }
        Ok(())
    }

    /// All but the features themselves.
    ///
    /// # Errors
    /// No image has a label.
    pub fn without_features(file: &FeatureFile) -> Result<LabelledFeatures, TrainingError> {
        Self::labelled_by(None, file)
    }

    /// All but the features themselves, with the given labels in place of the file's where there are some.
    ///
    /// # Errors
    /// No image has a label, or the given labels cannot be used.
    pub fn labelled_by(
        given: Option<&RowValues>,
        file: &FeatureFile,
    ) -> Result<LabelledFeatures, TrainingError> {
        let mut notes = Vec::new();
        let (labels, names_of_classes) = match given {
            None => (file.labels().to_vec(), file.class_names().to_vec()),
            Some(given) => {
                given.check("label", file)?;
                let (names, note) = given.of_rows("label", 0..file.rows(), file.image_names())?;
                notes.extend(note);
                numbered(&names)
            }
        };
        let rows: Vec<usize> = (0..file.rows()).filter(|&row| labels[row] >= 0).collect();
        if rows.is_empty() {
            return Err(TrainingError::NoLabels { path: file.path().to_owned() });
        }
        if rows.len() < file.rows() {
            let unlabelled = count(file.rows() - rows.len(), "image");
            notes.push(format!("left out {unlabelled} without a label"));
        }
        // A class all of whose images were skipped is no class of the head.
        let mut present = vec![false; names_of_classes.len()];
        rows.iter().for_each(|&row| present[labels[row] as usize] = true);
        let mut renumbered = vec![0; present.len()];
        let mut class_names = Vec::new();
        for (class, name) in names_of_classes.iter().enumerate() {
            if present[class] {
                renumbered[class] = class_names.len();
                class_names.push(name.clone());
            } else {
                notes.push(format!("the class {name:?} has no image that could be read, and was left out"));
            }
        }
        let text = |column: &[String]| rows.iter().map(|&row| column[row].clone()).collect();
        Ok(LabelledFeatures {
            features: Array2::zeros((0, 0)),
            labels: rows.iter().map(|&row| renumbered[labels[row] as usize]).collect(),
            class_names,
            names: text(file.image_names()),
            sha256: text(file.sha256()),
            hashes: rows.iter().map(|&row| file.perceptual_hash(row)).collect(),
            foreign: file.header().spec().is_foreign(),
            notes,
            rows,
        })
    }

    /// Without the classes that are not to be kept; also the rows that are left. Keeps the notes.
    pub fn keep_classes(self, keep: &[bool]) -> (LabelledFeatures, Vec<usize>) {
        let rows: Vec<usize> = (0..self.labels.len()).filter(|&row| keep[self.labels[row]]).collect();
        let mut kept = self.select(&rows);
        let mut renumbered = vec![0; keep.len()];
        let classes = (0..keep.len()).filter(|&class| keep[class]);
        classes.clone().enumerate().for_each(|(new, old)| renumbered[old] = new);
        kept.class_names = classes.map(|class| self.class_names[class].clone()).collect();
        kept.labels.iter_mut().for_each(|label| *label = renumbered[*label]);
        kept.notes = self.notes;
        (kept, rows)
    }

    /// The given rows alone, of the same classes and without notes.
    pub fn select(&self, rows: &[usize]) -> LabelledFeatures {
        let text = |column: &[String]| rows.iter().map(|&row| column[row].clone()).collect();
        // Features that have been left in the file stay there.
        let in_memory = self.features.nrows() == self.names.len();
        LabelledFeatures {
            features: if in_memory { self.features.select(Axis(0), rows) } else { Array2::zeros((0, 0)) },
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            class_names: self.class_names.clone(),
            names: text(&self.names),
            sha256: text(&self.sha256),
            hashes: rows.iter().map(|&row| self.hashes[row]).collect(),
            foreign: self.foreign,
            rows: rows.iter().map(|&row| self.rows[row]).collect(),
            notes: Vec::new(),
        }
    }

    /// What a head is fitted to; rows of equal `groups` are duplicates of one image.
    pub fn training_data<'a>(&'a self, groups: &'a [usize]) -> TrainingData<'a> {
        TrainingData {
            features: self.features.view(),
            labels: &self.labels,
            class_names: &self.class_names,
            groups: Some(groups),
            row_names: Some(&self.names),
        }
    }

    /// How many images have no perceptual hash.
    pub fn without_hash(&self) -> usize {
        self.hashes.iter().filter(|hash| hash.is_none()).count()
    }
}

/// The number of each row's class, -1 where it has none, and the names of the classes in the order of their numbers.
fn numbered(names: &[Option<String>]) -> (Vec<i64>, Vec<String>) {
    let classes: BTreeSet<&String> = names.iter().flatten().collect();
    let mut classes: Vec<String> = classes.into_iter().cloned().collect();
    sort_class_names(&mut classes);
    let number_of: HashMap<&String, i64> = classes.iter().zip(0..).collect();
    let labels = names.iter().map(|name| name.as_ref().map_or(-1, |name| number_of[name])).collect();
    (labels, classes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::training) fn labelled(features: Array2<f32>, labels: Vec<usize>) -> LabelledFeatures {
        let rows = labels.len();
        LabelledFeatures {
            features,
            rows: (0..rows).collect(),
            labels,
            class_names: ["a", "b"].map(String::from).to_vec(),
            names: (0..rows).map(|row| format!("{row}.jpg")).collect(),
            sha256: (0..rows).map(|row| row.to_string()).collect(),
            hashes: vec![None; rows],
            foreign: false,
            notes: Vec::new(),
        }
    }

    #[test]
    fn classes_that_are_left_out_take_their_rows_along_wherever_the_features_are() {
        for features in [Array2::from_shape_fn((5, 2), |(row, _)| row as f32), Array2::zeros((0, 0))] {
            let expected = if features.nrows() > 0 { vec![0.0, 2.0, 3.0, 4.0] } else { Vec::new() };
            let mut all = labelled(features, vec![2, 0, 1, 2, 1]);
            all.class_names = ["a", "b", "c"].map(String::from).to_vec();
            all.notes.push("said before".to_owned());
            let (kept, rows) = all.keep_classes(&[false, true, true]);
            assert_eq!((&rows, &kept.rows), (&vec![0, 2, 3, 4], &vec![0, 2, 3, 4]));
            assert_eq!((&kept.labels[..], &kept.class_names.concat()[..]), (&[1, 0, 1, 0][..], "bc"));
            assert_eq!((&kept.names[1][..], &kept.notes[0][..]), ("2.jpg", "said before"));
            let features: Vec<f32> = kept.features.rows().into_iter().map(|row| row[0]).collect();
            assert_eq!(features, expected);
        }
    }
}
