//! Which column or array of a table holds what, by its name: in tables of this program, and in those that other programs
//! write.

use std::path::Path;

use super::ConvertError;
use crate::dataset::{LABEL_COLUMNS, PATH_COLUMNS, named_as};

/// Columns of the tables that this program writes.
pub(super) const NAME: &str = "name";
pub(super) const LABEL: &str = "label";
pub(super) const CLASS: &str = "class";
pub(super) const SHA256: &str = "sha256";
pub(super) const PERCEPTUAL_HASH: &str = "perceptual_hash";
pub(super) const FEATURES: &str = "features";

/// Arrays of the files of arrays that this program writes; those of the features file have the same names.
pub(super) const IMAGE_NAMES: &str = "image_names";
pub(super) const LABELS: &str = "labels";
pub(super) const CLASS_NAMES: &str = "class_names";

/// Other names of the column or array of names: plurals, and what has no place among the columns of paths of a list of images.
const NAMES: [&str; 10] =
    ["name", "names", "imagenames", "filenames", "paths", "imagepaths", "filepaths", "files", "key", "id"];
/// Other names of arrays of labels.
const PLURAL_LABELS: [&str; 6] = ["labels", "classes", "targets", "y", "categories", "classlabels"];
/// Names of the column or array of features.
const VECTORS: [&str; 11] = [
    "features",
    "feature",
    "embeddings",
    "embedding",
    "vectors",
    "vector",
    "x",
    "activations",
    "codes",
    "imgemb",
    "imageembedding",
];

/// Names of columns of numbers that are no features.
const OTHERS: [&str; 11] =
    ["", "id", "index", "row", "rownumber", "fold", "split", "group", "level0", "sha256", "perceptualhash"];

/// Whether a column of numbers may be a feature, by its name alone; pandas and others number rows.
pub(super) fn may_be_feature(column: &str) -> bool {
    let numbered = column.starts_with("Unnamed:") || column.starts_with("__index_level_");
    !numbered && named_as(&[column.to_owned()], &OTHERS).is_empty()
}

/// The columns that the user named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnNames {
    /// The names of the rows.
    pub name: Option<String>,
    /// The labels.
    pub label: Option<String>,
    /// The features: a column of vectors, or an array.
    pub features: Option<String>,
}

impl ColumnNames {
    /// Makes sure that the user named no columns where there are none.
    pub(super) fn refuse(&self, path: &Path, why: &str) -> Result<(), ConvertError> {
        let options = [("name", &self.name), ("label", &self.label), ("features", &self.features)];
        match options.into_iter().find(|(_, column)| column.is_some()) {
            Some((what, _)) => {
                Err(ConvertError::unusable(path, format!("--{what}-column does not apply: {why}")))
            }
            None => Ok(()),
        }
    }
}

/// Where the columns are that are no features.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowColumns {
    pub(super) name: Option<usize>,
    pub(super) label: Option<usize>,
    pub(super) sha256: Option<usize>,
    pub(super) perceptual_hash: Option<usize>,
    /// The class in words beside a label that is its number, or the other way round.
    pub(super) class: Option<usize>,
}

impl RowColumns {
    /// Finds them; `has_header` says that this program wrote the table, so that its columns are those of this program.
    pub(super) fn find(
        columns: &[String],
        wanted: &ColumnNames,
        has_header: bool,
        path: &Path,
    ) -> Result<Self, ConvertError> {
        let exact = |name: &str| columns.iter().position(|column| column == name);
        let named = |what: &str, name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => exact(name).map(Some).ok_or_else(|| missing(path, what, name, columns)),
        };
        let name = match named("name", &wanted.name)? {
            None if has_header => exact(NAME),
            None => one_of(columns, &NAMES[..2], &[]).or_else(|| one_of(columns, &PATH_COLUMNS, &NAMES[2..])),
            some => some,
        };
        let class = exact(CLASS);
        let label = match named("label", &wanted.label)? {
            None if has_header => exact(LABEL),
            // The class in words says more than its number.
            None if class.is_some() => class,
            None => one_of(columns, &LABEL_COLUMNS, &PLURAL_LABELS),
            some => some,
        };
        let label = label.filter(|_| label != name);
        let ours = |name: &str| if has_header { exact(name) } else { None };
        Ok(Self {
            name,
            label,
            sha256: ours(SHA256),
            perceptual_hash: ours(PERCEPTUAL_HASH),
            class: match label {
                Some(_) if label == class => exact(LABEL),
                _ => class.filter(|_| has_header || exact(LABEL).is_some()),
            },
        })
    }

    /// Whether a column belongs to the rows, and so holds no features.
    pub(super) fn contain(&self, column: usize) -> bool {
        [self.name, self.label, self.sha256, self.perceptual_hash, self.class].contains(&Some(column))
    }
}

/// A column that the user named, and that is not there.
pub(super) fn missing(path: &Path, what: &str, name: &str, columns: &[String]) -> ConvertError {
    let what = format!("column {name:?}, which --{what}-column names");
    ConvertError::Missing { path: path.to_owned(), what, present: columns.to_vec() }
}

/// The column with the first of the names that is there once.
fn one_of(columns: &[String], names: &[&str], more: &[&str]) -> Option<usize> {
    let found = named_as(columns, names);
    let found = if found.is_empty() { named_as(columns, more) } else { found };
    found.first().copied()
}

/// Which of the columns that might hold features does: the one that the user named, the only one, or the only one with a usual
/// name.
pub(super) fn vector_of(
    candidates: &[usize],
    columns: &[String],
    wanted: &ColumnNames,
    path: &Path,
) -> Result<Option<usize>, ConvertError> {
    if let Some(name) = &wanted.features {
        let found = candidates.iter().find(|&&column| columns[column] == *name);
        let vectors: Vec<String> = candidates.iter().map(|&column| columns[column].clone()).collect();
        return match found {
            Some(&column) => Ok(Some(column)),
            None => {
                let what = format!("features named {name:?}, as --features-column says");
                let present = if vectors.is_empty() { columns.to_vec() } else { vectors };
                Err(ConvertError::Missing { path: path.to_owned(), what, present })
            }
        };
    }
    let names: Vec<String> = candidates.iter().map(|&column| columns[column].clone()).collect();
    match (candidates, &named_as(&names, &VECTORS)[..]) {
        ([], _) => Ok(None),
        ([only], _) => Ok(Some(*only)),
        (_, [only]) => Ok(Some(candidates[*only])),
        _ => {
            let why =
                format!("{} might all be the features; name one with --features-column", names.join(", "));
            Err(ConvertError::unusable(path, why))
        }
    }
}

/// What the user should know about the columns of another program's table.
pub(super) fn describe(columns: &[String], rows: &RowColumns, features: &[usize]) -> String {
    let named = |at: usize| columns[at].as_str();
    let mut said = match features {
        [only] => vec![format!("features: {}", named(*only))],
        [first, .., last] => {
            vec![format!("features: {} columns, {} to {}", features.len(), named(*first), named(*last))]
        }
        [] => Vec::new(),
    };
    for (what, at) in [("names", rows.name), ("labels", rows.label)] {
        said.extend(at.map(|at| format!("{what}: {}", named(at))));
    }
    let ignored: Vec<&str> =
        (0..columns.len()).filter(|&at| !rows.contain(at) && !features.contains(&at)).map(named).collect();
    match &ignored[..] {
        [] => {}
        few if few.len() <= 8 => said.push(format!("ignored: {}", few.join(", "))),
        many => said.push(format!("ignored: {} and {} more", many[..8].join(", "), many.len() - 8)),
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(columns: &[&str], wanted: &ColumnNames, ours: bool) -> Result<RowColumns, ConvertError> {
        let columns: Vec<String> = columns.iter().map(|column| column.to_string()).collect();
        RowColumns::find(&columns, wanted, ours, Path::new("t.parquet"))
    }

    #[test]
    fn columns_are_found_by_their_usual_names_and_the_class_in_words_before_its_number() {
        let none = ColumnNames::default();
        let ours = ["name", "label", "class", "sha256", "perceptual_hash", "features"];
        let found = find(&ours, &none, true).unwrap();
        assert_eq!((found.name, found.label, found.sha256), (Some(0), Some(1), Some(3)));
        let found = find(&ours, &none, false).unwrap();
        assert_eq!((found.name, found.label, found.sha256), (Some(0), Some(2), None));
        let found = find(&["emb", "image_path", "caption", "target"], &none, false).unwrap();
        assert_eq!((found.name, found.label), (Some(1), Some(3)));
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_there_are() {
        let wanted = ColumnNames { label: Some("species".into()), ..ColumnNames::default() };
        let message = find(&["a", "b"], &wanted, false).unwrap_err().to_string();
        assert_eq!(message, "t.parquet has no column \"species\", which --label-column names; it has a, b");
        let wanted = ColumnNames { features: Some("c".into()), ..ColumnNames::default() };
        let columns = ["a".to_owned(), "b".to_owned()];
        let error = vector_of(&[0], &columns, &wanted, Path::new("t")).unwrap_err().to_string();
        assert!(error.contains("features named \"c\"") && error.ends_with("it has a"), "{error}");
        let error = vector_of(&[0, 1], &columns, &ColumnNames::default(), Path::new("t")).unwrap_err();
        assert!(error.to_string().contains("a, b might all be the features"), "{error}");
    }
}
