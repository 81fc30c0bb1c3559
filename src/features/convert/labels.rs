//! The classes of a table's rows: as numbers, as texts, or by the folders in the rows' names.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::ConvertError;
use crate::dataset::{class_name_of, sort_class_names};
use crate::messages::count_of;

/// The labels of a table as its file has them, one a row.
pub(super) enum TableLabels {
    /// None were asked for.
    None,
    /// The file has none.
    Unsaid,
    /// Indices into the names of the classes, -1 where unknown.
    Indices(Vec<i64>, Vec<String>),
    /// Indices into the class names of the header; without one, the numbers are the classes' names.
    Numbers(Vec<i64>),
    /// Names of the classes.
    Texts(Vec<Option<String>>),
}

/// An index of each row into the names of the classes, -1 where its class is unknown.
pub(super) fn classes_of(
    labels: TableLabels,
    names: &[String],
    known: Option<&[String]>,
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<(Vec<i64>, Vec<String>), ConvertError> {
    let texts = match (labels, known) {
        (TableLabels::None, _) => return Ok((vec![-1; names.len()], Vec::new())),
        (TableLabels::Unsaid, Some(known)) => return Ok((vec![-1; names.len()], known.to_vec())),
        (TableLabels::Numbers(labels), Some(known)) => return indices(labels, known.to_vec(), path),
        (TableLabels::Indices(labels, class_names), _) => return indices(labels, class_names, path),
        (TableLabels::Unsaid, None) => by_folder(names, notes),
        (TableLabels::Numbers(labels), None) => labels.iter().map(|label| Some(label.to_string())).collect(),
        (TableLabels::Texts(texts), _) => texts,
    };
    let mut labels = Vec::with_capacity(texts.len());
    for (row, text) in texts.into_iter().enumerate() {
        let name = class_name_of(text.as_deref().unwrap_or_default());
        labels.push(name.map_err(|why| {
            ConvertError::unusable(path, format!("the label of row {row} cannot be used: {why}"))
        })?);
    }
    let distinct: BTreeSet<&String> = labels.iter().flatten().collect();
    let mut class_names: Vec<String> = distinct.into_iter().cloned().collect();
    sort_class_names(&mut class_names);
    let index: HashMap<&String, i64> = class_names.iter().zip(0..).collect();
    let labels = labels.iter().map(|label| label.as_ref().map_or(-1, |label| index[label])).collect();
    Ok((labels, class_names))
}

fn indices(
    labels: Vec<i64>,
    class_names: Vec<String>,
    path: &Path,
) -> Result<(Vec<i64>, Vec<String>), ConvertError> {
    let allowed = -1..class_names.len() as i64;
    match labels.iter().position(|label| !allowed.contains(label)) {
        Some(row) => {
            let (label, classes) = (labels[row], count_of(class_names.len(), "class", "classes"));
            let why = format!("row {row} has the label {label}, but there are {classes}");
            Err(ConvertError::unusable(path, why))
        }
        None => Ok((labels, class_names)),
    }
}

/// The folder that each name lies in, where these are several: `data/cats/1.jpg` is of the class cats.
fn by_folder(names: &[String], notes: &mut Vec<String>) -> Vec<Option<String>> {
    let folder = |name: &String| {
        let name = name.replace('\\', "/");
        let (folder, _) = name.rsplit_once('/')?;
        folder.rsplit('/').next().filter(|folder| !folder.is_empty() && *folder != ".").map(str::to_owned)
    };
    let labels: Vec<Option<String>> = names.iter().map(folder).collect();
    let classes: BTreeSet<&String> = labels.iter().flatten().collect();
    if classes.len() < 2 {
        notes.push(
            "there are no labels; give them with --labels CSV (columns path,label) or --label-column NAME"
                .to_owned(),
        );
        return vec![None; names.len()];
    }
    notes.push(format!("the labels are the folders in the names ({} classes)", classes.len()));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: TableLabels, names: &[&str]) -> (Vec<i64>, Vec<String>, Vec<String>) {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut notes = Vec::new();
        let (labels, classes) = classes_of(labels, &names, None, Path::new("x.npy"), &mut notes).unwrap();
        (labels, classes, notes)
    }

    #[test]
    fn the_folder_of_a_name_is_its_class_where_there_are_several() {
        let (labels, classes, notes) =
            of(TableLabels::Unsaid, &["./d/cats/1.jpg", "d\\dogs\\2.jpg", "3.jpg", "d/cats/4"]);
        assert_eq!((labels, classes.join(" ")), (vec![0, 1, -1, 0], "cats dogs".to_owned()));
        assert_eq!(notes, ["the labels are the folders in the names (2 classes)"]);
        let (labels, classes, notes) = of(TableLabels::Unsaid, &["images/1.jpg", "images/2.jpg"]);
        assert_eq!((labels, classes.len()), (vec![-1, -1], 0));
        assert!(notes[0].contains("--labels CSV"), "{notes:?}");
    }

    #[test]
    fn numbers_are_classes_in_their_order_and_below_zero_is_unknown() {
        let (labels, classes, _) = of(TableLabels::Numbers(vec![10, -1, 2, 10]), &["a", "b", "c", "d"]);
        assert_eq!((labels, classes.join(" ")), (vec![1, -1, 0, 1], "2 10".to_owned()));
        let bad = classes_of(
            TableLabels::Indices(vec![0, 2], vec!["a".into(), "b".into()]),
            &["1".to_owned(), "2".to_owned()],
            None,
            Path::new("x.npz"),
            &mut Vec::new(),
        );
        assert_eq!(bad.unwrap_err().to_string(), "x.npz: row 1 has the label 2, but there are 2 classes");
    }
}
