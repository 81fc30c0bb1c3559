//! `--report`: what the commands know about a head, as one HTML file.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::{Invocation, invocation, show};
use crate::files;
use crate::report::{ReportError, ReportStep};

/// Where the report goes.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Write a report: one HTML file for the browser, with confusions, mistakes and suspects as pictures
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

impl ReportArgs {
    /// The file, where one was asked for; told before the slow work if it cannot be written.
    pub fn file(&self) -> anyhow::Result<Option<&Path>> {
        let Some(file) = self.report.as_deref() else { return Ok(None) };
        let folder = files::folder_of(file);
        ensure!(
            folder.is_dir(),
            "cannot write the report {}: {} is not a folder; create it first",
            file.display(),
            folder.display()
        );
        ensure!(!file.is_dir(), "cannot write the report {}: it is a folder; name a file", file.display());
        Ok(Some(file))
    }
}

/// Writes a report: `write` gets the command that asks for it, and its progress is shown.
pub fn write(
    write: impl FnOnce(&str, &mut dyn FnMut(ReportStep, usize, usize)) -> Result<(), ReportError>,
) -> Result<(), ReportError> {
    let bar = show::steps("report");
    let command = invocation().map_or_else(String::new, Invocation::text);
    let written = write(&command, &mut |step, done, total| {
        bar.set_message(match step {
            ReportStep::LearningCurve => "report: learning curve",
            ReportStep::Map => "report: map of the features",
            ReportStep::Explanations => "report: explanations",
            ReportStep::Thumbnails => "report: thumbnails",
        });
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    written
}
