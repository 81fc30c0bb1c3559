//! [`RowValues`]: what somebody says about the rows of a features file that the file itself does not say, such as groups.

use std::path::PathBuf;

use super::TrainingError;
use crate::dataset::column_values;
use crate::features::FeatureFile;
use crate::messages::count;

/// One value for each row of a features file, by its name or by its place.
#[derive(Debug, Clone, PartialEq)]
pub enum RowValues {
    /// A CSV file with the column `path`, whose values are names of rows, and one that is named after what it holds.
    File(PathBuf),
    /// A value for each row of the features file, in order; `None` where nothing is known.
    Given(Vec<Option<String>>),
}

impl RowValues {
    /// Refuses values that are not one for each row of the file.
    ///
    /// # Errors
    /// [`TrainingError::RowValues`].
    pub fn check(&self, column: &'static str, file: &FeatureFile) -> Result<(), TrainingError> {
        match self {
            Self::Given(values) if values.len() != file.rows() => Err(TrainingError::RowValues {
                path: file.path().to_owned(),
                column,
                rows: file.rows(),
                found: values.len(),
            }),
            _ => Ok(()),
        }
    }

    /// The values of the `rows` of these `names`, `None` where nothing is known; and what the reader should know about them.
    ///
    /// # Errors
    /// [`TrainingError::Column`].
    pub(super) fn of_rows(
        &self,
        column: &'static str,
        rows: impl IntoIterator<Item = usize>,
        names: &[String],
    ) -> Result<(Vec<Option<String>>, Option<String>), TrainingError> {
        match self {
            // The length has been checked.
            Self::Given(values) => {
                Ok((rows.into_iter().map(|row| values.get(row).cloned().flatten()).collect(), None))
            }
            Self::File(csv) => {
                let (values, unknown) = column_values(csv, column, names)
                    .map_err(|source| TrainingError::Column { path: csv.clone(), column, source })?;
                let note = (unknown > 0).then(|| {
                    let unknown = count(unknown, "path");
                    format!("{unknown} of {} name no labelled image", csv.display())
                });
                Ok((values, note))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_rows_of_the_file_whichever_of_them_take_part() {
        let names = ["a.jpg", "c.jpg"].map(String::from);
        let given = RowValues::Given(["1", "2", "3"].map(|value| Some(value.to_owned())).to_vec());
        let (values, note) = given.of_rows("group", [0, 2], &names).unwrap();
        assert_eq!((values, note), (vec![Some("1".to_owned()), Some("3".to_owned())], None));
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("groups.csv");
        std::fs::write(&csv, "path,group\nb.jpg,2\nc.jpg,3\n").unwrap();
        let (values, note) = RowValues::File(csv.clone()).of_rows("group", [0, 2], &names).unwrap();
        assert_eq!(values, [None, Some("3".to_owned())]);
        assert_eq!(note.unwrap(), format!("1 path of {} name no labelled image", csv.display()));
    }
}
