//! `cnncodes man-pages FOLDER`: a page of the manual for the program and for each of its commands. scripts/release calls it.
//!
//! clap does not know this command: completions would offer a hidden one as well.

use std::path::Path;

use clap::CommandFactory;

use super::{Cli, Status, show};

/// Writes the pages into `folder`, which must exist.
pub fn write(folder: &Path) -> Status {
    match clap_mangen::generate_to(Cli::command(), folder) {
        Ok(()) => Status::Done,
        Err(error) => {
            let text = format!("{}: the pages of the manual cannot be written", folder.display());
            show::error(&anyhow::Error::new(error).context(text));
            Status::Failed
        }
    }
}
