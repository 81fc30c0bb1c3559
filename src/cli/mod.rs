//! The command line: one file a command, its arguments and its `run`.
//!
//! clap's types stay inside this room. Results go to standard output; progress, warnings and errors to standard
//! error.

mod apply;
mod classify;
mod completions;
mod compute_args;
mod convert;
mod demo;
mod evaluate;
mod explain;
mod export;
mod extract;
mod find_unique;
mod fit_head;
mod input_args;
mod interrupt;
mod layer_args;
mod layers;
#[cfg(feature = "man-pages")]
mod man_pages;
mod merge;
mod models;
mod neighbors;
mod plan;
mod pull;
mod report;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod suspects;
mod sweep;
mod training_args;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command as Process, ExitCode};
use std::sync::OnceLock;

use clap::{Parser, Subcommand};

use crate::network::{ModelsFolder, runtime};

const AFTER_HELP: &str = "\
Typical use, in a folder that holds data/CLASS/*.jpg and models/:
  cnncodes extract --layer fc7      activations of the layer fc7 of every photo -> features/
  cnncodes fit-head --svm           a linear SVM on them -> models/
  cnncodes classify image.jpg       what is in image.jpg

No photos yet? `cnncodes demo` shows all of it.

Exit status: 0 all well, 1 some inputs were skipped, 2 failed, 130 interrupted.";

/// Turns a frozen ImageNet network and a small folder of labelled photos into an image classifier.
#[derive(Debug, Parser)]
#[command(
    name = "cnncodes",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = AFTER_HELP,
    after_long_help = format!("{AFTER_HELP}\n\n{}", runtime::SEARCH_ORDER)
)]
struct Cli {
    /// Folder of networks, manifests and heads
    #[arg(long, global = true, value_name = "DIR", default_value = "models")]
    models: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Extract(extract::Args),
    FitHead(fit_head::Args),
    Classify(classify::Args),
    Evaluate(evaluate::Args),
    Export(export::Args),
    Suspects(suspects::Args),
    Neighbors(neighbors::Args),
    Sweep(sweep::Args),
    #[cfg(feature = "serve")]
    Serve(serve::Args),
    Layers(layers::Args),
    Models(models::Args),
    Convert(convert::Args),
    Plan(plan::Args),
    Merge(merge::Args),
    Demo(demo::Args),
    Completions(completions::Args),
}

impl Command {
    /// What there is when Ctrl-C stops the command while it works; none where it listens itself.
    fn kept_when_interrupted(&self) -> Option<&'static str> {
        match self {
            Command::Extract(_) => None,
            #[cfg(feature = "serve")]
            Command::Serve(_) => None,
            Command::FitHead(_) => Some("no head was written"),
            Command::Classify(_) => Some("printed answers and written pictures are complete"),
            Command::Demo(_) => {
                Some("the demo's folder stays as it is, and `cnncodes demo` starts again from the beginning")
            }
            _ => Some("nothing was written"),
        }
    }
}

/// How a command ended, when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All well.
    Done,
    /// Some inputs were skipped.
    Skipped,
    /// Failed.
    Failed,
    /// Stopped by the user, who can go on.
    Interrupted,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status.code())
    }
}

impl Status {
    /// The exit status of the process.
    pub fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Skipped => 1,
            Status::Failed => 2,
            // 128 and the number of SIGINT, as shells have it.
            Status::Interrupted => 130,
        }
    }
}

/// How this process was started.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The command line without the program.
    pub arguments: Vec<OsString>,
    /// What starts the program once more, such as `["/usr/bin/cnncodes"]` or `["python3", "-m", "cnncodes"]`.
    pub program: Vec<OsString>,
}

static INVOCATION: OnceLock<Invocation> = OnceLock::new();

impl Invocation {
    /// The command line as a person types it.
    fn text(&self) -> String {
        let arguments = self.arguments.iter().map(|word| word.to_string_lossy().into_owned());
        shell_words::join(std::iter::once("cnncodes".to_owned()).chain(arguments))
    }

    /// The program, to be run once more; none where nothing is known of it.
    fn again(&self) -> Option<Process> {
        let (program, first) = self.program.split_first()?;
        let mut process = Process::new(program);
        process.args(first);
        Some(process)
    }
}

/// How this process was started, by [`main`].
fn invocation() -> Option<&'static Invocation> {
    INVOCATION.get()
}

/// The program: parses the command line, runs the command and prints errors. A command line that is wrong, and one that asks for
/// help, end the process.
pub fn main(invocation: Invocation) -> Status {
    #[cfg(feature = "man-pages")]
    if let [command, folder] = &invocation.arguments[..]
        && command == "man-pages"
    {
        return man_pages::write(folder.as_ref());
    }
    let words = std::iter::once(OsString::from("cnncodes")).chain(invocation.arguments.iter().cloned());
    let cli = Cli::parse_from(words);
    // There is one program in a process; a second call keeps the first one's.
    let _ = INVOCATION.set(invocation);
    run(&cli).unwrap_or_else(|error| {
        show::error(&error);
        Status::Failed
    })
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the command from doing its work, with its causes.
fn run(cli: &Cli) -> anyhow::Result<Status> {
    crate::panics::print_only_unhandled();
    interrupt::end_with_the_reader();
    if let Some(kept) = cli.command.kept_when_interrupted() {
        interrupt::says(kept);
        interrupt::watch();
    }
    let models = ModelsFolder { path: cli.models.clone() };
    match &cli.command {
        Command::Extract(args) => extract::run(args, &models),
        Command::FitHead(args) => fit_head::run(args, &models),
        Command::Classify(args) => classify::run(args, &models),
        Command::Evaluate(args) => evaluate::run(args, &models),
        Command::Export(args) => export::run(args, &models),
        Command::Suspects(args) => suspects::run(args),
        Command::Neighbors(args) => neighbors::run(args, &models),
        Command::Sweep(args) => sweep::run(args, &models),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args, &models),
        Command::Layers(args) => layers::run(args, &models),
        Command::Models(args) => models::run(args, &models),
        Command::Convert(args) => convert::run(args),
        Command::Plan(args) => plan::run(args, &models),
        Command::Merge(args) => merge::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => completions::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_argument_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_in_its_help() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("cnncodes "), "{} has no example", command.get_name());
        }
    }
}
