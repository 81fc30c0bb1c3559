//! Some rows of training data, as data of their own: what a head is fitted to that must not see the others.

use ndarray::{Array2, Axis};

use super::TrainingData;

/// A copy of some rows, without the classes that have too few of them for a head.
pub(crate) struct Subset {
    features: Array2<f32>,
    labels: Vec<usize>,
    class_names: Vec<String>,
    groups: Option<Vec<usize>>,
    /// For each class of the subset, its number in the whole.
    pub(crate) classes: Vec<usize>,
}

impl Subset {
    /// `rows` of `data` whose class has at least 2 of them; `None` where fewer than 2 classes do.
    pub(crate) fn of(data: &TrainingData<'_>, rows: &[usize]) -> Option<Self> {
        let mut sizes = vec![0usize; data.class_names.len()];
        rows.iter().for_each(|&row| sizes[data.labels[row]] += 1);
        let classes: Vec<usize> = (0..sizes.len()).filter(|&class| sizes[class] >= 2).collect();
        if classes.len() < 2 {
            return None;
        }
        // Rows of the other classes are in none of `classes`.
        let (rows, labels): (Vec<usize>, Vec<usize>) = rows
            .iter()
            .filter_map(|&row| Some((row, classes.binary_search(&data.labels[row]).ok()?)))
            .unzip();
        Some(Self {
            features: data.features.select(Axis(0), &rows),
            labels,
            class_names: classes.iter().map(|&class| data.class_names[class].clone()).collect(),
            groups: data.groups.map(|groups| rows.iter().map(|&row| groups[row]).collect()),
            classes,
        })
    }

    /// What a head is fitted to.
    pub(crate) fn data(&self) -> TrainingData<'_> {
        TrainingData {
            features: self.features.view(),
            labels: &self.labels,
            class_names: &self.class_names,
            groups: self.groups.as_deref(),
            row_names: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_with_one_row_are_left_out_and_the_others_renumbered() {
        let features = Array2::from_shape_fn((6, 2), |(row, column)| (10 * row + column) as f32);
        let class_names = ["a", "b", "c"].map(String::from);
        let data = TrainingData {
            features: features.view(),
            labels: &[0, 2, 1, 0, 2, 1],
            class_names: &class_names,
            groups: Some(&[0, 1, 2, 3, 4, 2]),
            row_names: None,
        };
        let subset = Subset::of(&data, &[5, 0, 1, 3, 4]).unwrap();
        assert_eq!(subset.classes, [0, 2]);
        let subset = subset.data();
        assert_eq!(subset.labels, [0, 1, 0, 1]);
        assert_eq!(subset.class_names, ["a", "c"]);
        assert_eq!(subset.groups, Some(&[0, 1, 3, 4][..]));
        assert_eq!(subset.features.column(0).to_vec(), [0.0, 10.0, 30.0, 40.0]);
        assert!(Subset::of(&data, &[0, 3, 1]).is_none(), "one class has 2 rows");
    }
}
