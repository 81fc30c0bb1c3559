//! Images that were set apart for testing, by their folders or by a CSV file.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use super::labelled::LabelledFeatures;
use super::{RowValues, TrainingError};
use crate::dataset::{SplitPart, class_name_of, sort_class_names};
use crate::messages::count;

/// The argument of `--split`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitSource {
    /// The first folder of each image's name is its part, the second its class.
    Folders,
    /// A CSV file with the columns `path` and `split`.
    File(PathBuf),
}

impl FromStr for SplitSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text.is_empty() { Self::Folders } else { Self::File(text.into()) })
    }
}

/// Images in two parts.
pub struct TrainTestSplit {
    /// All images that take part, of either side; classes are those of both.
    pub whole: LabelledFeatures,
    /// Rows of `whole` to fit a head to.
    pub training: Vec<usize>,
    /// Rows of `whole` to test it on.
    pub test: Vec<usize>,
}

impl TrainTestSplit {
    /// Without the classes that are not to be kept; also the rows of `whole` that are left.
    pub fn keep_classes(self, keep: &[bool]) -> (TrainTestSplit, Vec<usize>) {
        let (whole, rows) = self.whole.keep_classes(keep);
        let place = |row: &usize| rows.binary_search(row).ok();
        let training = self.training.iter().filter_map(place).collect();
        let test = self.test.iter().filter_map(place).collect();
        (TrainTestSplit { whole, training, test }, rows)
    }
}

/// What is odd about classes that are named as the parts of a split are, where all are.
pub fn warning_of_classes(class_names: &[String]) -> Option<String> {
    class_names.iter().all(|name| SplitPart::named(name).is_some()).then(|| {
        format!(
            "the classes are named {}: if these are the parts of a split, with the classes below them, use \
             --split",
            class_names.join(", ")
        )
    })
}

/// Divides the images as the user's folders or CSV file do. Validation images are fitted to as well, since
/// cross-validation within the training images does their work.
pub fn divide(mut labelled: LabelledFeatures, source: &SplitSource) -> Result<TrainTestSplit, TrainingError> {
    let parts = match source {
        SplitSource::Folders => by_folders(&mut labelled)?,
        SplitSource::File(csv) => {
            let values = RowValues::File(csv.clone());
            let rows = labelled.rows.iter().copied();
            let (names, unknown) = values.of_rows("split", rows, &labelled.names)?;
            labelled.notes.extend(unknown);
            let part = |(name, image): (Option<String>, &String)| match name {
                None => Ok(None),
                Some(name) => match SplitPart::named(&name) {
                    None => Err(TrainingError::UnknownPart {
                        path: csv.clone(),
                        image: image.clone(),
                        part: name,
                    }),
                    part => Ok(part),
                },
            };
            names.into_iter().zip(&labelled.names).map(part).collect::<Result<Vec<_>, _>>()?
        }
    };
    let rows_of = |wanted: &[Option<SplitPart>]| -> Vec<usize> {
        (0..parts.len()).filter(|&row| wanted.contains(&parts[row])).collect()
    };
    let left_out = rows_of(&[None]).len();
    if left_out > 0 {
        let images = count(left_out, "image");
        labelled.notes.push(format!("left out {images} without a split"));
    }
    let validation = rows_of(&[Some(SplitPart::Validation)]).len();
    if validation > 0 {
        let images = count(validation, "validation image");
        labelled.notes.push(format!(
            "{images} were fitted to as well: C and the calibration come from cross-validation within the training images"
        ));
    }
    let training = rows_of(&[Some(SplitPart::Train), Some(SplitPart::Validation)]);
    let test = rows_of(&[Some(SplitPart::Test)]);
    if training.is_empty() || test.is_empty() {
        let (missing, there) = if test.is_empty() { ("test", "training") } else { ("training", "test") };
        return Err(TrainingError::EmptyPart { missing, there });
    }
    let mut trained = vec![false; labelled.class_names.len()];
    training.iter().for_each(|&row| trained[labelled.labels[row]] = true);
    if let Some(&row) = test.iter().find(|&&row| !trained[labelled.labels[row]]) {
        let class = labelled.class_names[labelled.labels[row]].clone();
        return Err(TrainingError::UntrainedClass { class, image: labelled.names[row].clone() });
    }
    Ok(TrainTestSplit { whole: labelled, training, test })
}

/// The part of each image by its first folder; the second becomes its class.
fn by_folders(labelled: &mut LabelledFeatures) -> Result<Vec<Option<SplitPart>>, TrainingError> {
    let mut found = Vec::with_capacity(labelled.names.len());
    for name in &labelled.names {
        let mut folders = name.split('/');
        let part = folders.next().and_then(SplitPart::named);
        let class = folders.next().filter(|_| folders.next().is_some());
        let Some((part, class)) = part.zip(class) else {
            return Err(TrainingError::NotInPartFolders { image: name.clone() });
        };
        let class = class_name_of(class)
            .map_err(|reason| TrainingError::FolderName { image: name.clone(), reason })?;
        found.push((part, class));
    }
    let classes: BTreeSet<&String> = found.iter().filter_map(|(_, class)| class.as_ref()).collect();
    let mut class_names: Vec<String> = classes.into_iter().cloned().collect();
    sort_class_names(&mut class_names);
    let number_of: HashMap<&String, usize> = class_names.iter().zip(0..).collect();
    // An image whose folder says that its class is unknown is of no part.
    let class_of = |class: &Option<String>| class.as_ref().and_then(|class| number_of.get(class).copied());
    let numbers: Vec<Option<usize>> = found.iter().map(|(_, class)| class_of(class)).collect();
    labelled.labels = numbers.iter().map(|number| number.unwrap_or_default()).collect();
    labelled.class_names = class_names;
    Ok(found.into_iter().zip(numbers).map(|((part, _), number)| number.map(|_| part)).collect())
}
