//! How things look on a terminal: errors, warnings, skipped inputs, progress, durations.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::dataset::{InputProblem, PassedOver};
pub(super) use crate::messages::{count, count_of};
use crate::messages::{printable, printable_lines};

/// How a report is printed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum ReportFormat {
    Text,
    Json,
}

/// How answers about images are printed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum AnswerFormat {
    Text,
    Json,
    Csv,
}

const BOLD: Style = Style::new().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Prints `error` and its causes, each on a line of its own.
pub fn error(error: &anyhow::Error) {
    anstream::eprintln!("{RED}error{RED:#}: {}", printable_lines(&error.to_string()));
    // An error that shows its source's text itself must not show it twice.
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !last.contains(&text) {
            anstream::eprintln!("  because: {}", printable_lines(&text));
        }
        last = text;
    }
}

/// Prints a warning.
pub fn warning(text: &str) {
    anstream::eprintln!("{YELLOW}warning{YELLOW:#}: {}", printable_lines(text));
}

/// Prints what the user may want to know.
pub fn note(text: &str) {
    anstream::eprintln!("{BOLD}note{BOLD:#}: {}", printable_lines(text));
}

/// Lists inputs that were skipped, with their reasons; the first `limit` of them.
pub fn problems(problems: &[InputProblem], limit: usize) {
    for problem in problems.iter().take(limit) {
        let (name, reason) = (printable(&problem.name), printable(&problem.reason));
        anstream::eprintln!("{YELLOW}skipped{YELLOW:#}: {name}: {reason}");
    }
    if problems.len() > limit {
        anstream::eprintln!("… and {} more", problems.len() - limit);
    }
}

/// Says which files below the folders of images are no images, if any.
pub fn passed_over(files: &PassedOver) {
    if !files.is_empty() {
        anstream::eprintln!("{YELLOW}passed over{YELLOW:#}: {}", printable(&files.describe()));
    }
}

/// Prints a report of several lines: the first one, headings (which end in a colon) and warnings stand out where there is
/// colour, and nothing is lost where there is none.
pub fn report(text: &str) {
    let mut out = anstream::stdout().lock();
    for (index, line) in text.lines().map(str::trim_end).map(printable).enumerate() {
        let written = match line.strip_prefix("WARNING:") {
            Some(rest) => writeln!(out, "{YELLOW}WARNING{YELLOW:#}:{rest}"),
            None if index == 0 || line.ends_with(':') => writeln!(out, "{BOLD}{line}{BOLD:#}"),
            None => writeln!(out, "{line}"),
        };
        // As with `println`, there is nobody left to tell.
        if written.is_err() {
            return;
        }
    }
}

/// Characters of a line of standard output; without bound where it is no terminal.
pub fn width() -> usize {
    Table::new().width().map_or(usize::MAX, usize::from)
}

/// Prints a table, its header standing out where there is colour.
pub fn table(table: &Table) {
    for (index, line) in table.lines().enumerate() {
        let style = if index == 0 { BOLD } else { Style::new() };
        anstream::println!("{style}{}{style:#}", line.trim_end());
    }
}

/// Shows that something goes on, and for how long, until it is dropped.
pub struct Spinner(ProgressBar);

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Says what goes on where it cannot be told how far it is; silent where standard error is no terminal.
pub fn busy(what: impl Into<Cow<'static, str>>) -> Spinner {
    let bar = ProgressBar::with_draw_target(None, draw_target());
    // The template is a constant; were it wrong, the default bar would do.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(250));
    Spinner(bar)
}

/// Standard error, unless it is no terminal, or one that cannot rewrite a line.
fn draw_target() -> ProgressDrawTarget {
    match std::env::var_os("TERM") {
        Some(term) if term == "dumb" => ProgressDrawTarget::hidden(),
        _ => ProgressDrawTarget::stderr_with_hz(8),
    }
}

/// A progress bar with images a second and time left; silent where standard error is no terminal.
pub fn progress_bar(what: &'static str) -> ProgressBar {
    progress_of(what, "images")
}

/// A progress bar with `units` a second and time left; silent where standard error is no terminal.
pub fn progress_of(what: &'static str, units: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, draw_target());
    // The template is a constant; were it wrong, the default bar would do.
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len}  {rate}  {eta} left")
    {
        bar.set_style(style.with_key("rate", move |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A rate that cannot be written leaves a gap in the bar, and nothing else.
            let _ = write!(out, "{:.1} {units}/s", state.per_sec());
        }));
    }
    bar.set_message(what);
    bar
}

/// A progress bar of a few slow steps; silent where standard error is no terminal.
pub fn steps(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, draw_target());
    // The template is a constant; were it wrong, the default bar would do.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// A progress bar of a download, with bytes a second; silent where standard error is no terminal.
pub fn download_bar(from: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, draw_target());
    // The template is a constant; were it wrong, the default bar would do.
    if let Ok(style) = ProgressStyle::with_template(
        "{msg}\n{wide_bar} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
    ) {
        bar.set_style(style);
    }
    bar.set_message(from.to_owned());
    bar
}

/// Shows on a [`download_bar`] that so many bytes are here, of so many where that is known.
pub fn bytes(bar: &ProgressBar, here: u64, total: Option<u64>) {
    if let Some(total) = total {
        bar.set_length(total);
    }
    bar.set_position(here);
}

/// A duration as people say it.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0..60 => format!("{seconds:.1} s"),
        whole @ 60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        whole => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{count, duration};

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(61)), "1 min 1 s");
        assert_eq!(duration(Duration::from_secs(3_600 * 2 + 60 * 5 + 7)), "2 h 5 min");
    }

    #[test]
    fn counts_take_a_plural() {
        assert_eq!(count(1, "image"), "1 image");
        assert_eq!(count(0, "image"), "0 images");
    }
}
