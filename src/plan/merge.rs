//! From the parts of a plan to one features file, or to a folder of Parquet files.
//!
//! Every file among the parts is looked at. A gap, a part of another plan, and two files that claim the same part with different
//! contents are refused before anything is written. The merged file is the one that a single machine would have written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::part::{OpenPart, same_contents};
use super::{Plan, PlanError};
use crate::extract::ExtractProgress;
use crate::features::{
    ConvertSettings, FeatureFile, FeatureFileError, FeatureFileHeader, FeatureRow, FeatureWriter,
    SkippedImage, VirtualFile, WriteOptions, convert, escape_layer_name, write_virtual,
};
use crate::remote::is_url;

/// Bytes of features that are copied at a time.
const BLOCK_BYTES: usize = 8 << 20;

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

/// What is to be known of a part before any is copied.
struct FoundPart {
    number: u64,
    name: String,
    rows: usize,
    errors: Vec<SkippedImage>,
    header: FeatureFileHeader,
}

/// A part that is to be merged.
struct MergedPart {
    name: String,
    rows: usize,
    errors: Vec<SkippedImage>,
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
        let mut merged = Merged { path: output.to_owned(), rows: 0, errors: 0, parts: self.parts() };
        let total = usize::try_from(self.images()).unwrap_or(usize::MAX);
        let mut tell = |merged: &Merged| {
            let done = usize::try_from(merged.rows + merged.errors).unwrap_or(usize::MAX);
            advance(ExtractProgress { done, total });
        };
        match settings.output {
            MergeOutput::File => {
                self.merge_file(output, &parts, &header, settings, &mut merged, &mut tell)?
            }
            MergeOutput::Virtual => {
                self.merge_virtual(output, &parts, &header, settings, &mut merged, &mut tell)?;
            }
            MergeOutput::Parquet => self.merge_parquet(output, &parts, settings, &mut merged, &mut tell)?,
        }
        Ok(merged)
    }

    /// The parts in their order, and what the merged file says of itself.
    fn find_parts(&self, allow_mixed: bool) -> Result<(Vec<MergedPart>, FeatureFileHeader), PlanError> {
        let files = self
            .store
            .part_files()
            .map_err(|source| PlanError::Read { path: self.store.path("parts"), source })?;
        let opened: Vec<FoundPart> = files
            .into_par_iter()
            .map(|name| {
                let OpenPart { number, file, .. } = self.open_part(&name)?;
                let (rows, errors, header) = (file.rows(), file.errors().to_vec(), file.header().clone());
                Ok(FoundPart { number, name, rows, errors, header })
            })
            .collect::<Result<_, PlanError>>()?;
        let mut found: BTreeMap<u64, MergedPart> = BTreeMap::new();
        let mut first_of: Vec<(Provenance, PathBuf)> = Vec::new();
        let mut header: Option<FeatureFileHeader> = None;
        for part in opened {
            if let Some(other) = found.get(&part.number) {
                let (one, two) = (self.open_part(&other.name)?, self.open_part(&part.name)?);
                if !same_contents(&one.file, &two.file)? {
                    let (first, second) = (self.store.path(&other.name), self.store.path(&part.name));
                    return Err(PlanError::Conflict { part: part.number, first, second });
                }
                continue;
            }
            let here =
                Provenance { runtime: part.header.runtime.clone(), device: part.header.device.clone() };
            if !first_of.iter().any(|(known, _)| *known == here) {
                first_of.push((here, self.store.path(&part.name)));
            }
            let FoundPart { number, name, rows, errors, header: own } = part;
            header.get_or_insert(own);
            found.insert(number, MergedPart { name, rows, errors });
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
        if found.values().all(|part| part.rows == 0) {
            let first = found.values().find_map(|part| part.errors.first());
            let first = first.map_or_else(String::new, |error| format!("{}: {}", error.name, error.reason));
            return Err(PlanError::NothingReadable { images: self.images(), first });
        }
        let all = |of: fn(&Provenance) -> &String| {
            let mut texts: Vec<&str> = first_of.iter().map(|(at, _)| of(at).as_str()).collect();
            texts.sort_unstable();
            texts.dedup();
            texts.join(" + ")
        };
        (header.runtime, header.device) = (all(|at| &at.runtime), all(|at| &at.device));
        Ok((found.into_values().collect(), header))
    }

    fn merge_file(
        &self,
        output: &Path,
        parts: &[MergedPart],
        header: &FeatureFileHeader,
        settings: MergeSettings,
        merged: &mut Merged,
        tell: &mut dyn FnMut(&Merged),
    ) -> Result<(), PlanError> {
        let content = &self.document.content;
        let expected_rows = usize::try_from(self.images()).unwrap_or(usize::MAX);
        let options = WriteOptions { overwrite: settings.overwrite, expected_rows };
        let mut writer = FeatureWriter::create(output, header, options)?;
        writer.expect_ascending_names();
        let widths: Vec<usize> = header.layers.iter().map(|layer| layer.width().unwrap_or(0)).collect();
        let block = (BLOCK_BYTES / (size_of::<f32>() * widths.iter().sum::<usize>().max(1))).max(1);
        for MergedPart { name, .. } in parts {
            let part = self.open_part(name)?;
            copy_rows(&part.file, &widths, block, &mut writer)?;
            writer.append(&[], part.file.errors())?;
            merged.rows += part.file.rows() as u64;
            merged.errors += part.file.errors().len() as u64;
            tell(merged);
        }
        writer.append(&[], &content.problems)?;
        writer.pass_over(&content.passed_over)?;
        writer.finish()?;
        Ok(())
    }

    fn merge_virtual(
        &self,
        output: &Path,
        parts: &[MergedPart],
        header: &FeatureFileHeader,
        settings: MergeSettings,
        merged: &mut Merged,
        tell: &mut dyn FnMut(&Merged),
    ) -> Result<(), PlanError> {
        if !settings.overwrite && output.exists() {
            return Err(FeatureFileError::Exists { path: output.to_owned() }.into());
        }
        let content = &self.document.content;
        let mut skipped: Vec<SkippedImage> =
            parts.iter().flat_map(|part| part.errors.iter().cloned()).collect();
        let parts: Vec<(PathBuf, usize)> =
            parts.iter().map(|part| (self.store.path(&part.name), part.rows)).collect();
        let errors = skipped.len() as u64;
        skipped.extend_from_slice(&content.problems);
        let file =
            VirtualFile { header, parts: &parts, skipped: &skipped, passed_over: &content.passed_over };
        write_virtual(output, &file, &mut |rows| {
            merged.rows = rows as u64;
            tell(merged);
        })?;
        (merged.rows, merged.errors) = (parts.iter().map(|(_, rows)| *rows as u64).sum(), errors);
        Ok(())
    }

    fn merge_parquet(
        &self,
        output: &Path,
        parts: &[MergedPart],
        settings: MergeSettings,
        merged: &mut Merged,
        tell: &mut dyn FnMut(&Merged),
    ) -> Result<(), PlanError> {
        for (MergedPart { name, .. }, number) in parts.iter().zip(0_u64..) {
            let part = self.open_part(name)?;
            for layer in self.layers() {
                let layer = &layer.spec.layer;
                let folder = match self.layers() {
                    [_] => output.to_owned(),
                    _ => output.join(escape_layer_name(layer)),
                };
                std::fs::create_dir_all(&folder)
                    .map_err(|source| PlanError::Write { path: folder.clone(), source })?;
                if part.file.rows() == 0 {
                    continue;
                }
                let convert_settings = ConvertSettings {
                    layer: Some(layer.clone()),
                    overwrite: settings.overwrite,
                    ..ConvertSettings::default()
                };
                let to = folder.join(format!("part-{number:06}.parquet"));
                convert(part.file.path(), &to, &convert_settings, &mut |_, _| ())?;
            }
            merged.rows += part.file.rows() as u64;
            merged.errors += part.file.errors().len() as u64;
            tell(merged);
        }
        Ok(())
    }
}

/// Appends all rows of a part, `block` at a time.
fn copy_rows(
    part: &FeatureFile,
    widths: &[usize],
    block: usize,
    writer: &mut FeatureWriter,
) -> Result<(), PlanError> {
    let mut buffers: Vec<Vec<f32>> =
        widths.iter().map(|width| vec![0.0; width * block.min(part.rows())]).collect();
    for start in (0..part.rows()).step_by(block) {
        let rows = start..part.rows().min(start + block);
        for ((layer, buffer), width) in part.layers().iter().zip(&mut buffers).zip(widths) {
            let name = Some(layer.spec.layer.as_str());
            part.read_rows(name, rows.clone(), &mut buffer[..rows.len() * width])?;
        }
        let features: Vec<Vec<&[f32]>> = (0..rows.len())
            .map(|row| {
                buffers.iter().zip(widths).map(|(buffer, width)| &buffer[row * width..][..*width]).collect()
            })
            .collect();
        let appended: Vec<FeatureRow<'_>> = rows
            .zip(&features)
            .map(|(row, features)| FeatureRow {
                name: &part.image_names()[row],
                label: part.labels()[row],
                sha256: &part.sha256()[row],
                perceptual_hash: part.perceptual_hash(row),
                features,
            })
            .collect();
        writer.append(&appended, &[] as &[SkippedImage])?;
    }
    Ok(())
}
