//! The file of a part: whether it is what the plan asks for.

use std::io;
use std::path::Path;

use super::create::short;
use super::store::{LocalFile, part_name};
use super::{Plan, PlanError};
use crate::dataset::SampleRecord;
use crate::features::{
    FeatureFile, FeatureFileError, FeatureFileHeader, FeatureFileSummary, PlanPart, SkippedImage,
};

/// What is there of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartState {
    /// Its file is whole and holds what the plan asks for.
    Done {
        /// Images that have features.
        rows: u64,
        /// Images that could not be read, and why.
        errors: Vec<SkippedImage>,
    },
    /// There is no file.
    Missing,
    /// The file cannot be used, and why.
    Invalid(String),
}

/// A file that holds a part of the plan, checked.
pub(super) struct OpenPart {
    pub number: u64,
    pub file: FeatureFile,
    /// Keeps the file on this machine.
    pub _local: LocalFile,
}

impl Plan {
    /// What is there of a part. Its features themselves are not read.
    ///
    /// # Errors
    /// The plan cannot be read.
    pub fn part_state(&self, part: u64) -> Result<PartState, PlanError> {
        let name = part_name(part);
        Ok(match self.open_part(&name) {
            Ok(OpenPart { number, .. }) if number != part => {
                PartState::Invalid(format!("it holds part {number}"))
            }
            Ok(OpenPart { file, .. }) => {
                PartState::Done { rows: file.rows() as u64, errors: file.errors().to_vec() }
            }
            // Of the part, not of the manifest.
            Err(PlanError::Read { path, source })
                if source.kind() == io::ErrorKind::NotFound && path == self.store.path(&name) =>
            {
                PartState::Missing
            }
            Err(PlanError::InvalidPart { why, .. }) => PartState::Invalid(why),
            Err(PlanError::ForeignPart { found, .. }) => {
                PartState::Invalid(format!("it belongs to another plan ({found})"))
            }
            Err(error) => return Err(error),
        })
    }

    /// The file of the plan under `name`, which must hold a part of it and be whole.
    pub(super) fn open_part(&self, name: &str) -> Result<OpenPart, PlanError> {
        let (file, local) = self.read_part(name, FeatureFile::open)?;
        let number = self.number_of(name, file.part())?;
        match self.check(&file, &self.records(number)?) {
            None => Ok(OpenPart { number, file, _local: local }),
            Some(why) => Err(PlanError::InvalidPart { path: self.store.path(name), why }),
        }
    }

    /// What the file of the plan under `name` says of itself, and which part that is.
    pub(super) fn part_summary(&self, name: &str) -> Result<(u64, FeatureFileSummary), PlanError> {
        let (summary, _) = self.read_part(name, FeatureFile::summary)?;
        let number = self.number_of(name, summary.part.as_ref())?;
        match self.check_header(&summary.header) {
            None => Ok((number, summary)),
            Some(why) => Err(PlanError::InvalidPart { path: self.store.path(name), why }),
        }
    }

    fn read_part<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Path) -> Result<T, FeatureFileError>,
    ) -> Result<(T, LocalFile), PlanError> {
        let path = self.store.path(name);
        let local =
            self.store.local(name).map_err(|source| PlanError::Read { path: path.clone(), source })?;
        match read(&local.path) {
            Ok(found) => Ok((found, local)),
            Err(error) => {
                Err(PlanError::InvalidPart { path, why: self.store.in_words(&local, name, &error) })
            }
        }
    }

    /// Which part of this plan the file under `name` says that it is.
    fn number_of(&self, name: &str, part: Option<&PlanPart>) -> Result<u64, PlanError> {
        let found = match part {
            Some(part) if part.plan == self.id() && part.part < self.parts() => return Ok(part.part),
            Some(part) if part.plan == self.id() => format!("part {} of {}", part.part, self.parts()),
            Some(part) => short(&part.plan).to_owned(),
            None => "an ordinary features file".to_owned(),
        };
        Err(PlanError::ForeignPart { path: self.store.path(name), found })
    }

    /// Why what a part's file says of itself is not what the plan says.
    fn check_header(&self, header: &FeatureFileHeader) -> Option<String> {
        if header.layers != self.layers() {
            return Some("its layers are not those of the plan".to_owned());
        }
        (header.class_names != self.class_names()).then(|| "its classes are not those of the plan".to_owned())
    }

    /// Why the contents of a part's file are not those of `records`.
    fn check(&self, file: &FeatureFile, records: &[SampleRecord]) -> Option<String> {
        if let Some(why) = self.check_header(file.header()) {
            return Some(why);
        }
        let (found, planned) = (file.rows() + file.errors().len(), records.len());
        if found != planned {
            return Some(format!(
                "it has {} rows and {} errors, and the plan has {planned} images in this part",
                file.rows(),
                file.errors().len()
            ));
        }
        let mut rows = file.image_names().iter().zip(file.labels()).peekable();
        let mut errors = file.errors().iter();
        for record in records {
            let label = record.label.map_or(-1, |label| label as i64);
            match rows.next_if(|(name, _)| **name == record.name) {
                Some((_, &found)) if found == label => {}
                Some(_) => return Some(format!("the class of {} is not that of the plan", record.name)),
                None if errors.next().is_some_and(|error| error.name == record.name) => {}
                None => return Some(format!("it lacks {}, or has it in another place", record.name)),
            }
        }
        None
    }
}

/// Whether two files hold the same rows and errors, to the bit.
pub(super) fn same_contents(one: &FeatureFile, other: &FeatureFile) -> Result<bool, PlanError> {
    let same_columns = one.image_names() == other.image_names()
        && one.labels() == other.labels()
        && one.sha256() == other.sha256()
        && one.errors() == other.errors();
    if !same_columns {
        return Ok(false);
    }
    for layer in one.layers() {
        let name = Some(layer.spec.layer.as_str());
        let (one, other) = (one.read_layer(name)?, other.read_layer(name)?);
        let bits =
            |values: &ndarray::Array2<f32>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        if bits(&one) != bits(&other) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The name of a file without its folder, for messages.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
