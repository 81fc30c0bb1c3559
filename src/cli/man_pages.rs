//! `cnncodes man-pages`: a page of the manual for the program and for each of its commands. scripts/release calls it.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use super::{Cli, Status};

/// Write the pages of the manual into a folder
#[derive(Debug, clap::Args)]
#[command(hide = true, after_help = "\
Example:
  cnncodes man-pages ~/.local/share/man/man1")]
pub struct Args {
    /// The folder, which must exist
    folder: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<Status> {
    // `Command::ManPages` hides itself, and clap_mangen leaves out what is hidden.
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .with_context(|| format!("{}: the pages of the manual cannot be written", args.folder.display()))?;
    Ok(Status::Done)
}
