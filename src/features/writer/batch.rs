//! What rows must fit, and their columns as they are written.

use std::collections::HashSet;
use std::path::Path;

use super::super::FeatureFileError;
use super::super::header::FeatureFileHeader;
use super::super::raw_rows::RowValues;
use super::super::schema::{self, FeatureRow, SkippedImage};
use super::super::strings::to_sha256;
use super::super::table::CheckedBatch;

/// The names of the rows so far, none of which may come again.
pub(super) enum SeenNames {
    All(HashSet<String>),
    /// The last of names that come in ascending order.
    Ascending(String),
}

impl SeenNames {
    /// Adds `names`, or none of them if one is there already; gives that one.
    pub(super) fn add<'a>(&mut self, names: &[&'a str]) -> Result<(), &'a str> {
        match self {
            Self::All(seen) => {
                for (i, &name) in names.iter().enumerate() {
                    if !seen.insert(name.to_owned()) {
                        names[..i].iter().for_each(|&earlier| {
                            seen.remove(earlier);
                        });
                        return Err(name);
                    }
                }
            }
            Self::Ascending(last) => {
                let mut before = last.as_str();
                for &name in names {
                    if name <= before {
                        return Err(name);
                    }
                    before = name;
                }
                if let Some(name) = names.last() {
                    (*name).clone_into(last);
                }
            }
        }
        Ok(())
    }
}

/// What rows must fit.
pub(super) struct ExpectedRows<'a> {
    pub(super) path: &'a Path,
    pub(super) header: &'a FeatureFileHeader,
}

impl ExpectedRows<'_> {
    fn bad(&self, name: &str, why: impl Into<String>) -> FeatureFileError {
        FeatureFileError::BadRow { path: self.path.to_owned(), name: name.to_owned(), why: why.into() }
    }

    /// Checks the rows and turns them into columns.
    pub(super) fn batch<'a>(
        &self,
        rows: &[FeatureRow<'a>],
        skipped: &'a [SkippedImage],
    ) -> Result<CheckedBatch<'a>, FeatureFileError> {
        let classes = self.header.class_names.len();
        let widths: Vec<usize> = self.header.layers.iter().map(|layer| layer.width().unwrap_or(0)).collect();
        let mut sha256 = Vec::with_capacity(rows.len());
        let mut hashes = Vec::with_capacity(rows.len() * schema::HASH_BYTES);
        let mut features: Vec<_> =
            widths.iter().map(|width| Vec::with_capacity(width * rows.len())).collect();
        for row in rows {
            let known = -1..classes as i64;
            if !known.contains(&row.label) {
                let why = format!("its label is {}, but there are {} classes", row.label, classes);
                return Err(self.bad(row.name, why));
            }
            let found: Vec<usize> = row.features.iter().map(|features| features.len()).collect();
            if found != widths {
                let why = format!("its features have {found:?} values, and the layers have {widths:?}");
                return Err(self.bad(row.name, why));
            }
            let hash = to_sha256(row.sha256);
            hashes.extend_from_slice(&row.perceptual_hash.unwrap_or_default());
            sha256.push(hash.ok_or_else(|| self.bad(row.name, "its SHA-256 is malformed"))?);
            for (column, values) in features.iter_mut().zip(row.features) {
                column.extend_from_slice(values);
            }
        }
        let texts = rows.iter().map(|row| (row.name, ""));
        let texts = texts.chain(skipped.iter().map(|image| (image.name.as_str(), image.reason.as_str())));
        for (name, reason) in texts {
            if name.contains('\0') || reason.contains('\0') {
                return Err(self.bad(name, "its name or reason holds a NUL character"));
            }
        }
        let names = rows.iter().map(|row| row.name).collect();
        let labels = rows.iter().map(|row| row.label).collect();
        let features = features.into_iter().map(RowValues::Memory).collect();
        Ok(CheckedBatch { names, labels, sha256, hashes, features, skipped })
    }
}
