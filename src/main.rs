//! The `cnncodes` program: parses the command line, runs the command, reports, and sets the exit status.

use std::process::ExitCode;

use clap::Parser;
use cnncodes::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(&Cli::parse()) {
        Ok(status) => status.into(),
        Err(error) => {
            cli::report_error(&error);
            cli::Status::Failed.into()
        }
    }
}
