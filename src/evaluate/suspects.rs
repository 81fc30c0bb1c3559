//! Images that deserve a second look: probable label errors, duplicates with different labels, outliers.

use crate::messages::printable;
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::report::{percent, table};
use crate::dataset::{DuplicateSet, Duplicates};

/// What the ranking is made from. All slices have one element an image.
#[derive(Debug, Clone, Copy)]
pub struct SuspectEvidence<'a> {
    /// The classes, in order.
    pub class_names: &'a [String],
    /// Names of the images.
    pub names: &'a [String],
    /// Their given classes, as indices into `class_names`.
    pub labels: &'a [usize],
    /// What heads that had not seen the image give each class (n x classes).
    pub probabilities: ArrayView2<'a, f64>,
    /// The class that these heads take it for ([`crate::head::answers`]).
    pub predicted: &'a [usize],
    /// Distance of each image from the others.
    pub distances: &'a [f64],
    /// Which images are duplicates of one another.
    pub duplicates: &'a Duplicates,
}

/// The ranked suspects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspects {
    /// Number of images that were looked at.
    pub rows: usize,
    /// Images whose given class is improbable, the most improbable first.
    pub labels: Vec<LabelSuspect>,
    /// Copies of one image that are given different classes: at least one is wrong.
    pub copies: Vec<MixedCopies>,
    /// Images that are least like any other, the farthest first.
    pub outliers: Vec<Outlier>,
}

/// An image whose label may be wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelSuspect {
    /// Name of the image.
    pub image: String,
    /// The class that it was given.
    pub class: String,
    /// How probable a head that had not seen it takes this class to be ("self-confidence": C. G. Northcutt, L. Jiang, I.
    /// L. Chuang: "Confident learning", J. Artificial Intelligence Research 70, 2021).
    pub probability: f64,
    /// The class that this head would give.
    pub predicted: String,
    /// How probable it takes that to be.
    pub predicted_probability: f64,
}

/// Copies with different labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixedCopies {
    /// The images.
    pub images: Vec<String>,
    /// The class that each was given.
    pub classes: Vec<String>,
    /// The lowest likeness that joined them, as in [`DuplicateSet`]; 1 for identical files.
    pub similarity: f64,
}

/// An image that is unlike the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outlier {
    /// Name of the image.
    pub image: String,
    /// The class that it was given.
    pub class: String,
    /// Its mean distance (1 - cosine of features) from the three nearest images that are no duplicates of it.
    pub distance: f64,
}

impl Suspects {
    /// Ranks the images, and keeps at most `most` of each kind.
    pub fn rank(evidence: &SuspectEvidence<'_>, most: usize) -> Self {
        let SuspectEvidence { class_names, names, labels, probabilities, predicted, distances, duplicates } =
            *evidence;
        let class = |row: usize| class_names[labels[row]].clone();
        let mut by_label: Vec<usize> = (0..labels.len()).collect();
        by_label.sort_by(|&a, &b| {
            probabilities[[a, labels[a]]].total_cmp(&probabilities[[b, labels[b]]]).then(a.cmp(&b))
        });
        let mut by_distance: Vec<usize> = (0..labels.len()).collect();
        by_distance.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]).then(a.cmp(&b)));
        let label_suspect = |row: usize| {
            let predicted = predicted[row];
            LabelSuspect {
                image: names[row].clone(),
                class: class(row),
                probability: probabilities[[row, labels[row]]],
                predicted: class_names[predicted].clone(),
                predicted_probability: probabilities[[row, predicted]],
            }
        };
        let mixed =
            |set: &&DuplicateSet<usize>| set.images.iter().any(|&row| labels[row] != labels[set.images[0]]);
        let mut sets: Vec<&DuplicateSet<usize>> = duplicates.sets.iter().filter(mixed).collect();
        sets.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        let named = |set: &DuplicateSet<usize>| MixedCopies {
            images: set.images.iter().map(|&row| names[row].clone()).collect(),
            classes: set.images.iter().map(|&row| class(row)).collect(),
            similarity: set.similarity,
        };
        let outlier =
            |row: usize| Outlier { image: names[row].clone(), class: class(row), distance: distances[row] };
        Self {
            rows: labels.len(),
            labels: by_label.into_iter().take(most).map(label_suspect).collect(),
            copies: sets.into_iter().take(most).map(named).collect(),
            outliers: by_distance.into_iter().take(most).map(outlier).collect(),
        }
    }

    /// Three tables.
    pub fn to_text(&self) -> String {
        let mut text = "Least probable labels (by heads that had not seen the image):\n".to_owned();
        let header = ["image", "label", "probability", "predicted", "probability"].map(String::from);
        let rows = self.labels.iter().map(|suspect| {
            vec![
                suspect.image.clone(),
                suspect.class.clone(),
                percent(suspect.probability),
                suspect.predicted.clone(),
                percent(suspect.predicted_probability),
            ]
        });
        text.push_str(&table(header.to_vec(), rows));
        text.push_str("\n\nDuplicates with different labels:\n");
        if self.copies.is_empty() {
            text.push_str(" none\n");
        }
        for set in &self.copies {
            let members = set.images.iter().zip(&set.classes);
            let members: Vec<String> = members
                .map(|(image, class)| format!("{} ({})", printable(image), printable(class)))
                .collect();
            text.push_str(&format!(" similarity {:.3}: {}\n", set.similarity, members.join(", ")));
        }
        text.push_str("\nImages least similar to any other (distance from their nearest three):\n");
        let header = ["image", "label", "distance"].map(String::from);
        let rows = self.outliers.iter().map(|outlier| {
            vec![outlier.image.clone(), outlier.class.clone(), format!("{:.3}", outlier.distance)]
        });
        text.push_str(&table(header.to_vec(), rows));
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::dataset::Likeness;

    #[test]
    fn suspects_of_each_kind_are_ranked() {
        let class_names = ["cats", "dogs"].map(String::from);
        let names = ["a", "b", "c", "d"].map(String::from);
        let probabilities = array![[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]];
        let duplicates =
            Duplicates::find(&["1", "1", "2", "2"].map(String::from), &[], Likeness::None).unwrap();
        let evidence = SuspectEvidence {
            class_names: &class_names,
            names: &names,
            labels: &[0, 0, 1, 0],
            probabilities: probabilities.view(),
            predicted: &[0, 1, 1, 1],
            distances: &[0.1, 0.2, 0.9, 0.3],
            duplicates: &duplicates,
        };
        let found = Suspects::rank(&evidence, 3);
        let order: Vec<&str> = found.labels.iter().map(|suspect| suspect.image.as_str()).collect();
        assert_eq!(order, ["d", "b", "c"]);
        assert_eq!((found.labels[0].predicted.as_str(), found.labels[0].probability), ("dogs", 0.1));
        assert_eq!(found.copies.len(), 1, "a and b have one label");
        assert_eq!(found.copies[0].classes, ["dogs", "cats"]);
        let order: Vec<&str> = found.outliers.iter().map(|outlier| outlier.image.as_str()).collect();
        assert_eq!(order, ["c", "d", "b"]);
        let text = found.to_text();
        assert!(text.contains("similarity 1.000: c (dogs), d (cats)"), "{text}");
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Suspects>(&json).unwrap(), found);
    }
}
