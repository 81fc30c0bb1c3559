//! [`RowValues`]: what somebody says about the rows of a features file that the file itself does not say, such as groups.

use std::path::PathBuf;

use super::TrainingError;
use crate::dataset::column_values;
use crate::features::FeatureFile;

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
                    let unknown = crate::messages::count(unknown, "path");
                    format!("{unknown} of {} name no labelled image", csv.display())
                });
                Ok((values, note))
            }
        }
    }
}
