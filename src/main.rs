//! The `cnncodes` program.

use std::process::ExitCode;

use cnncodes::cli::{self, Invocation};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next();
    // Where the program's own file cannot be found, its name serves.
    let program = std::env::current_exe().map(Into::into).ok().or(name);
    cli::main(Invocation { arguments: words.collect(), program: program.into_iter().collect() }).into()
}
