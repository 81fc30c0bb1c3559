//! From the parts of a plan to one features file, or to a folder of Parquet files.
//!
//! First, every file among the parts says what it is: a gap, a part that is cut short or of another plan, parts of different devices,
//! and two files that claim the same part with different contents are refused before anything is written. Then each part is checked
//! image by image as its turn comes, so that no part is read twice. The output appears only when all have passed, and it is the file
//! that a single machine would have written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rayon::prelude::*;

use super::part::{OpenPart, same_contents};
use super::{Plan, PlanError};
use crate::extract::ExtractProgress;
use crate::features::{
    ConvertSettings, FeatureFile, FeatureFileError, FeatureFileHeader, FeatureFileSummary, FeatureWriter,
    SkippedImage, VirtualFile, WriteOptions, convert, escape_layer_name, write_virtual,
};
use crate::remote::is_url;

/// What the parts become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeOutput {
    /// One features file with all rows.
    File,
    /// One features file whose layers are virtual datasets on the parts, which stay where they are: beside it or below.
    Virtual,
    /// A folder of Parquet files, one a part; with several layers, a folder in it for each.
    Parquet,
}

/// How parts are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeSettings {
    /// What they become.
    pub output: MergeOutput,
    /// Whether parts of several devices or versions of the runtime may be mixed.
    pub allow_mixed: bool,
    /// Whether an output that is there may be replaced.
    pub overwrite: bool,
}

/// What was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The file or folder.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: u64,
    /// Images of the plan without features.
    pub errors: u64,
    /// Parts.
    pub parts: u64,
}

/// Where a part is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Provenance {
    runtime: String,
    device: String,
}

impl Plan {
    /// Merges the parts into `output`. `advance` hears how many images are copied.
    ///
    /// # Errors
    /// A part is missing, invalid, of another plan, or there twice with different contents; parts of different devices or runtimes
    /// would be mixed; the output cannot be written.
    pub fn merge(
        &self,
        output: &Path,
        settings: MergeSettings,
        advance: &mut dyn FnMut(ExtractProgress),
    ) -> Result<Merged, PlanError> {
        if settings.output == MergeOutput::Virtual && is_url(self.location()) {
            return Err(PlanError::NoFiles { path: self.location().to_owned() });
        }
        let (parts, header) = self.find_parts(settings.allow_mixed)?;
        let merged = Merged { path: output.to_owned(), rows: 0, errors: 0, parts: self.parts() };
        let mut merge = Merge { plan: self, parts: &parts, settings, merged, advance };
        match settings.output {
            MergeOutput::File => merge.write_file(&header)?,
            MergeOutput::Virtual => merge.write_virtual(&header)?,
            MergeOutput::Parquet => merge.write_parquet()?,
        }
        Ok(merge.merged)
    }

    /// The names of the parts in their order, and what the merged file says of itself.
    fn find_parts(&self, allow_mixed: bool) -> Result<(Vec<String>, FeatureFileHeader), PlanError> {
        let files = self
            .store
            .part_files()
            .map_err(|source| PlanError::Read { path: self.store.path("parts"), source })?;
        let summaries: Vec<(u64, FeatureFileSummary)> =
            files.par_iter().map(|name| self.part_summary(name)).collect::<Result<_, _>>()?;
        let mut found: BTreeMap<u64, String> = BTreeMap::new();
        let mut first_of: Vec<(Provenance, PathBuf)> = Vec::new();
        let mut header: Option<FeatureFileHeader> = None;
        let mut rows = 0;
        for (name, (number, summary)) in files.into_iter().zip(summaries) {
            if let Some(other) = found.get(&number) {
                let (one, two) = (self.open_part(other)?, self.open_part(&name)?);
                if !same_contents(&one.file, &two.file)? {
                    let (first, second) = (self.store.path(other), self.store.path(&name));
                    return Err(PlanError::Conflict { part: number, first, second });
                }
                continue;
            }
            let FeatureFileHeader { runtime, device, .. } = &summary.header;
            let here = Provenance { runtime: runtime.clone(), device: device.clone() };
            if !first_of.iter().any(|(known, _)| *known == here) {
                first_of.push((here, self.store.path(&name)));
            }
            rows += summary.rows;
            header.get_or_insert(summary.header);
            found.insert(number, name);
        }
        let missing: Vec<u64> = (0..self.parts()).filter(|part| !found.contains_key(part)).collect();
        let (true, Some(mut header)) = (missing.is_empty(), header) else {
            return Err(PlanError::Gaps { missing, parts: self.parts() });
        };
        if let ([(here, first), (there, second), ..], false) = (&first_of[..], allow_mixed) {
            let says = |at: &Provenance| format!("{} on {}", at.runtime, at.device);
            let (first, second) = (first.clone(), second.clone());
            return Err(PlanError::Mixed { first, here: says(here), second, there: says(there) });
        }
        let parts: Vec<String> = found.into_values().collect();
        if rows == 0 {
            return Err(self.nothing_readable(&parts)?);
        }
        let all = |of: fn(&Provenance) -> &String| {
            let mut texts: Vec<&str> = first_of.iter().map(|(at, _)| of(at).as_str()).collect();
            texts.sort_unstable();
            texts.dedup();
            texts.join(" + ")
        };
        (header.runtime, header.device) = (all(|at| &at.runtime), all(|at| &at.device));
        Ok((parts, header))
    }

    /// The error for a part whose rows cannot be copied.
    fn of_part(&self, name: &str, error: FeatureFileError) -> PlanError {
        match error {
            FeatureFileError::BadValue { object, why, .. } => {
                PlanError::InvalidPart { path: self.store.path(name), why: format!("{object}: {why}") }
            }
            error => error.into(),
        }
    }

    /// The error for parts without rows, which tells the first of their errors.
    fn nothing_readable(&self, parts: &[String]) -> Result<PlanError, PlanError> {
        let mut first = String::new();
        if let [name, ..] = parts {
            let part = self.open_part(name)?;
            first =
                part.file.errors().first().map_or(first, |error| format!("{}: {}", error.name, error.reason));
        }
        Ok(PlanError::NothingReadable { images: self.images(), first })
    }
}

/// A merge under way.
struct Merge<'a> {
    plan: &'a Plan,
    /// Names of their files, in their order.
    parts: &'a [String],
    settings: MergeSettings,
    /// What is merged so far.
    merged: Merged,
    advance: &'a mut dyn FnMut(ExtractProgress),
}

impl Merge<'_> {
    fn tell(&mut self) {
        let count = |images: u64| usize::try_from(images).unwrap_or(usize::MAX);
        let done = count(self.merged.rows + self.merged.errors);
        (self.advance)(ExtractProgress { done, total: count(self.plan.images()) });
    }

    /// Counts a part as merged.
    fn add(&mut self, part: &FeatureFile) {
        self.merged.rows += part.rows() as u64;
        self.merged.errors += part.errors().len() as u64;
        self.tell();
    }

    fn write_file(&mut self, header: &FeatureFileHeader) -> Result<(), PlanError> {
        let content = &self.plan.document.content;
        let expected_rows = usize::try_from(self.plan.images()).unwrap_or(usize::MAX);
        let options = WriteOptions { overwrite: self.settings.overwrite, expected_rows };
        let mut writer = FeatureWriter::create(&self.merged.path, header, options)?;
        writer.expect_ascending_names();
        let copied = self.copy_parts(&mut writer).and_then(|()| {
            writer.append(&[], &content.problems)?;
            Ok(writer.pass_over(&content.passed_over)?)
        });
        match copied {
            Ok(()) => Ok(writer.finish()?),
            Err(error) => {
                // A merge does not resume.
                writer.discard();
                Err(error)
            }
        }
    }

    /// Appends the parts. The next one is opened, and transferred, while one is copied.
    fn copy_parts(&mut self, writer: &mut FeatureWriter) -> Result<(), PlanError> {
        let (plan, parts) = (self.plan, self.parts);
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::sync_channel(1);
            scope.spawn(move || {
                for name in parts {
                    if send.send((name, plan.open_part(name))).is_err() {
                        // Whoever does not receive any more has failed.
                        return;
                    }
                }
            });
            for (name, part) in receive {
                let part = part?;
                writer.append_file(&part.file).map_err(|error| plan.of_part(name, error))?;
                self.add(&part.file);
            }
            Ok(())
        })
    }

    fn write_virtual(&mut self, header: &FeatureFileHeader) -> Result<(), PlanError> {
        let output = self.merged.path.clone();
        if !self.settings.overwrite && output.exists() {
            return Err(FeatureFileError::Exists { path: output }.into());
        }
        let content = &self.plan.document.content;
        let checked: Vec<(PathBuf, usize, Vec<SkippedImage>)> = self
            .parts
            .par_iter()
            .map(|name| {
                let OpenPart { file, .. } = self.plan.open_part(name)?;
                Ok((file.path().to_owned(), file.rows(), file.errors().to_vec()))
            })
            .collect::<Result<_, PlanError>>()?;
        let mut skipped: Vec<SkippedImage> =
            checked.iter().flat_map(|(_, _, errors)| errors.iter().cloned()).collect();
        let parts: Vec<(PathBuf, usize)> = checked.into_iter().map(|(path, rows, _)| (path, rows)).collect();
        let errors = skipped.len() as u64;
        skipped.extend_from_slice(&content.problems);
        let file =
            VirtualFile { header, parts: &parts, skipped: &skipped, passed_over: &content.passed_over };
        write_virtual(&output, &file, &mut |rows| {
            self.merged.rows = rows as u64;
            self.tell();
        })?;
        (self.merged.rows, self.merged.errors) = (parts.iter().map(|(_, rows)| *rows as u64).sum(), errors);
        Ok(())
    }

    fn write_parquet(&mut self) -> Result<(), PlanError> {
        for (name, number) in self.parts.iter().zip(0_u64..) {
            let part = self.plan.open_part(name)?;
            part.file.verify_features().map_err(|error| self.plan.of_part(name, error))?;
            for layer in self.plan.layers() {
                let layer = &layer.spec.layer;
                let folder = match self.plan.layers() {
                    [_] => self.merged.path.clone(),
                    _ => self.merged.path.join(escape_layer_name(layer)),
                };
                std::fs::create_dir_all(&folder)
                    .map_err(|source| PlanError::Write { path: folder.clone(), source })?;
                if part.file.rows() == 0 {
                    continue;
                }
                let convert_settings = ConvertSettings {
                    layer: Some(layer.clone()),
                    overwrite: self.settings.overwrite,
                    ..ConvertSettings::default()
                };
                let to = folder.join(format!("part-{number:06}.parquet"));
                convert(part.file.path(), &to, &convert_settings, &mut |_, _| ())?;
            }
            self.add(&part.file);
        }
        Ok(())
    }
}
