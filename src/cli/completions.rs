//! `cnncodes completions`: a shell's completion script.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Status};

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cnncodes completions bash > ~/.local/share/bash-completion/completions/cnncodes
  cnncodes completions zsh > \"${fpath[1]}/_cnncodes\"
  cnncodes completions fish > ~/.config/fish/completions/cnncodes.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args) -> anyhow::Result<Status> {
    clap_complete::generate(args.shell, &mut Cli::command(), "cnncodes", &mut io::stdout());
    Ok(Status::Done)
}
