//! [`RowTexts`]: the columns of a table that are no features, as texts, before it is known what they mean.

use std::path::Path;

use super::ConvertError;
use super::columns::ColumnNames;
use super::feature_table::FoundTable;
use super::hashes::{hash_column, sha256_column};
use super::labels::TableLabels;

/// A column of texts; a value may be missing.
pub(super) type TextColumn = Option<Vec<Option<String>>>;

/// One text a row, in every column that is there.
#[derive(Debug, Default)]
pub(super) struct RowTexts {
    pub(super) rows: usize,
    pub(super) names: TextColumn,
    pub(super) labels: TextColumn,
    pub(super) sha256: TextColumn,
    pub(super) hashes: TextColumn,
    /// Which columns they are, for the user.
    pub(super) described: Option<String>,
}

impl RowTexts {
    /// Appends the rows of another part of the table, which has the same columns.
    pub(super) fn append(&mut self, other: Self) {
        let join = |mine: &mut TextColumn, theirs: TextColumn| match (mine.as_mut(), theirs) {
            (Some(mine), Some(theirs)) => mine.extend(theirs),
            (None, theirs) if self.rows == 0 => *mine = theirs,
            _ => *mine = None,
        };
        join(&mut self.names, other.names);
        join(&mut self.labels, other.labels);
        join(&mut self.sha256, other.sha256);
        join(&mut self.hashes, other.hashes);
        self.rows += other.rows;
        self.described = self.described.take().or(other.described);
    }

    /// Puts the columns into the table that they belong to.
    pub(super) fn put_into(self, found: &mut FoundTable, wanted: &ColumnNames) -> Result<(), ConvertError> {
        let Self { names, labels, sha256, hashes, .. } = self;
        found.names = names.map(|names| all_named(names, &found.path)).transpose()?;
        // The numbers of a table of this program count its own classes.
        let numbers = |labels: &[Option<String>]| -> Option<Vec<i64>> {
            labels.iter().map(|label| label.as_deref().unwrap_or("-1").parse().ok()).collect()
        };
        found.labels = match labels {
            None => TableLabels::Unsaid,
            Some(labels) => {
                match numbers(&labels).filter(|_| found.header.is_some() && wanted.label.is_none()) {
                    Some(numbers) => TableLabels::Numbers(numbers),
                    None => TableLabels::Texts(labels),
                }
            }
        };
        found.sha256 = sha256_column(sha256);
        found.hashes = hash_column(hashes);
        Ok(())
    }
}

fn all_named(names: Vec<Option<String>>, path: &Path) -> Result<Vec<String>, ConvertError> {
    let named = |(row, name): (usize, Option<String>)| {
        let why = || format!("row {row} has no name; fill it in, or name another column with --name-column");
        name.ok_or_else(|| ConvertError::unusable(path, why()))
    };
    names.into_iter().enumerate().map(named).collect()
}
