//! How an extraction reports: for people, or as one JSON object a line for machines (`docs/extract-log.md`).

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::cli::show;
use crate::dataset::Dataset;
use crate::dataset::{PassedOver, PassedOverFiles, PassedOverReason};
use crate::extract::{
    ExtractError, ExtractEvent, ExtractPlan, ExtractProgress, ExtractRequest, ExtractSummary, PlanTally,
};
use crate::features::{FeatureFileHeader, StoredLayer};
use crate::messages::with_causes;
use crate::network::{ExecutionPlan, Pooling, Precision};

/// Problems that are listed for people; all are in the file.
const LISTED: usize = 20;

/// JSON tells of progress so often at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// For whom to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Reports an extraction. Results go to standard output, all else to standard error.
pub struct Log {
    format: LogFormat,
    bar: ProgressBar,
    told: Cell<Option<Instant>>,
    notes: RefCell<Vec<String>>,
}

impl Log {
    pub fn new(format: LogFormat) -> Self {
        let bar = match format {
            LogFormat::Text => show::progress_bar("extracting"),
            LogFormat::Json => ProgressBar::hidden(),
        };
        Self { format, bar, told: Cell::new(None), notes: RefCell::default() }
    }

    pub fn is_json(&self) -> bool {
        self.format == LogFormat::Json
    }

    /// Something that the user ought to know.
    pub fn note(&self, text: &str) {
        match self.format {
            // A line in the middle of the bar would tear it.
            LogFormat::Text => self.notes.borrow_mut().push(text.to_owned()),
            LogFormat::Json => emit(&json!({ "event": "note", "text": text })),
        }
    }

    /// As [`Log::note`], while there is no bar.
    pub fn note_now(&self, text: &str) {
        match self.format {
            LogFormat::Text => show::warning(text),
            LogFormat::Json => self.note(text),
        }
    }

    /// What is remarkable about the images, and what was passed over among them. JSON has the latter in its events.
    pub fn listed(&self, samples: &Dataset) {
        samples.notes.iter().for_each(|note| self.note_now(note));
        if !self.is_json() {
            show::passed_over(&samples.passed_over);
        }
    }

    pub fn event(&self, request: &ExtractRequest<'_>, event: ExtractEvent<'_>) {
        match (event, self.format) {
            (ExtractEvent::Note(text), _) => self.note(text),
            (ExtractEvent::Progress(progress), _) => self.progress(progress),
            (ExtractEvent::Planned(plan), LogFormat::Json) => {
                let mut line = planned(request, plan.tally());
                line["event"] = "started".into();
                emit(&line);
            }
            (ExtractEvent::Arranged(arrangement), LogFormat::Json) => {
                let mut line = json!(arrangement);
                line["event"] = "arranged".into();
                emit(&line);
            }
            (ExtractEvent::Problem(problem), LogFormat::Json) => {
                emit(&json!({ "event": "problem", "name": problem.name, "reason": problem.reason }));
            }
            // People get the problems at the end, in order.
            (
                ExtractEvent::Planned(_) | ExtractEvent::Arranged(_) | ExtractEvent::Problem(_),
                LogFormat::Text,
            ) => {}
        }
    }

    /// More images are dealt with.
    pub fn progress(&self, progress: ExtractProgress) {
        if !self.is_json() {
            return self.advance(progress);
        }
        let ExtractProgress { done, total } = progress;
        let due = self.told.get().is_none_or(|told| told.elapsed() >= INTERVAL);
        if due || done == total {
            self.told.set(Some(Instant::now()));
            emit(&json!({ "event": "progress", "done": done, "total": total }));
        }
    }

    /// Removes the progress bar, and says what had to wait for it.
    pub fn end_of_progress(&self) {
        self.bar.finish_and_clear();
        self.notes.take().iter().for_each(|note| show::warning(note));
    }

    pub fn finished(&self, request: &ExtractRequest<'_>, summary: &ExtractSummary) {
        match self.format {
            LogFormat::Text => {
                show::problems(&summary.problems, LISTED);
                println!("{}", one_line(request, summary));
            }
            LogFormat::Json => {
                let ExtractSummary { tally, header, .. } = summary;
                emit(&json!({
                    "event": "finished",
                    "output": summary.path,
                    "up_to_date": summary.up_to_date,
                    "rows": summary.rows,
                    "kept": summary.kept,
                    "moved": tally.moved,
                    "computed": summary.computed,
                    "removed": tally.removed,
                    "resumed": summary.resumed,
                    "skipped": summary.problems.len(),
                    "passed_over": passed_over(&request.samples.passed_over),
                    "layers": layers(&header.layers),
                    "runtime": header.runtime,
                    "device": header.device,
                    "precision": header.spec().precision,
                    "seconds": summary.elapsed.as_secs_f64(),
                }));
            }
        }
    }

    pub fn interrupted(&self, error: &ExtractError) {
        match (self.format, error) {
            (LogFormat::Json, ExtractError::Interrupted { done, total }) => {
                emit(&json!({ "event": "interrupted", "done": done, "total": total }));
            }
            _ => show::warning(&error.to_string()),
        }
    }

    pub fn failed(&self, error: &anyhow::Error) {
        emit(&json!({ "event": "failed", "error": with_causes(error.as_ref()) }));
    }

    /// What would be done.
    pub fn dry_run(
        &self,
        request: &ExtractRequest<'_>,
        plan: &ExtractPlan,
        stored: &[StoredLayer],
        arrangement: &ExecutionPlan,
    ) {
        self.end_of_progress();
        let tally = plan.tally();
        let rows = tally.kept + tally.computed;
        let values: usize = stored.iter().filter_map(StoredLayer::width).sum();
        let (bytes, memory) = (rows * values * size_of::<f32>(), request.memory(arrangement, stored));
        if self.is_json() {
            let mut line = planned(request, tally);
            line["event"] = "planned".into();
            line["layers"] = layers(stored);
            line["bytes"] = bytes.into();
            line["memory"] = memory.into();
            line["arrangement"] = json!(arrangement);
            return emit(&line);
        }
        plan.notes().iter().for_each(|note| show::warning(note));
        println!(
            "{}: would hold up to {} of {}, {} of {}: {} of features",
            request.output.display(),
            show::count(rows, "image"),
            show::count_of(request.samples.class_names.len(), "class", "classes"),
            describe(stored),
            request.spec().model_name,
            indicatif::DecimalBytes(bytes as u64),
        );
        println!(
            "to compute {}, to keep {} ({} under another name), to remove {}; {} cannot be read{}",
            tally.computed,
            tally.kept,
            tally.moved,
            tally.removed,
            tally.unreadable + request.samples.problems.len(),
            of_passed_over(&request.samples.passed_over),
        );
        let ExecutionPlan { sessions, threads, batch } = arrangement;
        println!(
            "{} of {}, batches of {}; the current batches take up to {}, besides the network",
            show::count(*sessions, "session"),
            show::count(*threads, "thread"),
            show::count(*batch, "image"),
            indicatif::DecimalBytes(memory as u64)
        );
    }

    fn advance(&self, ExtractProgress { done, total }: ExtractProgress) {
        if self.bar.length() != Some(total as u64) {
            self.bar.set_length(total as u64);
            // What was done before this run does not count towards the rate.
            self.bar.set_position(done as u64);
            self.bar.reset_eta();
        }
        self.bar.set_position(done as u64);
    }
}

/// Writes a line of the log.
pub(super) fn emit(line: &Value) {
    // Not `anstream`, which would take escape sequences out of names.
    eprintln!("{line}");
}

/// What is going to be done, as JSON.
fn planned(request: &ExtractRequest<'_>, tally: PlanTally) -> Value {
    json!({
        "event": Value::Null,
        "output": request.output,
        "source": request.samples.source,
        "model": request.spec().model_name,
        "images": request.samples.samples.len(),
        "to_compute": tally.computed,
        "kept": tally.kept,
        "moved": tally.moved,
        "removed": tally.removed,
        "unreadable": tally.unreadable + request.samples.problems.len(),
        "passed_over": passed_over(&request.samples.passed_over),
    })
}

/// The files that are no images, as JSON: by reason.
fn passed_over(files: &PassedOver) -> Value {
    let one = |(reason, group): (PassedOverReason, &PassedOverFiles)| json!({ "reason": reason.as_str(), "files": group.files, "more": group.more, "examples": group.examples });
    files.by_reason().map(one).collect()
}

/// `, 3 passed over`, where there are any.
fn of_passed_over(files: &PassedOver) -> String {
    if files.is_empty() { String::new() } else { format!(", {} passed over", files.files()) }
}

fn layers(stored: &[StoredLayer]) -> Value {
    let one = |StoredLayer { spec, shape }: &StoredLayer| json!({ "name": spec.layer, "tensor": spec.tensor, "shape": shape, "pooling": spec.pooling });
    stored.iter().map(one).collect()
}

/// The line that a run ends with.
fn one_line(request: &ExtractRequest<'_>, summary: &ExtractSummary) -> String {
    let ExtractSummary { tally, header, .. } = summary;
    let mut extra = String::new();
    if summary.resumed > 0 {
        extra += &format!(", {} kept from an interrupted run", summary.resumed);
    }
    if !summary.up_to_date && (summary.kept > 0 || tally.removed > 0) {
        extra += &format!(", {} kept", summary.kept);
        if tally.moved > 0 {
            extra += &format!(" ({} moved)", tally.moved);
        }
        extra += &format!(", {} computed, {} removed", summary.computed, tally.removed);
    }
    format!(
        "{}: {}{} of {}, {} of {}, {} skipped{}{extra}, in {} on {}",
        summary.path.display(),
        if summary.up_to_date { "up to date, " } else { "" },
        show::count(summary.rows, "image"),
        show::count_of(request.samples.class_names.len(), "class", "classes"),
        describe(&header.layers),
        header.spec().model_name,
        summary.problems.len(),
        of_passed_over(&request.samples.passed_over),
        show::duration(summary.elapsed),
        on(header),
    )
}

fn on(header: &FeatureFileHeader) -> String {
    match header.spec().precision {
        Precision::Fp32 => header.device.clone(),
        precision => format!("{} in {precision}", header.device),
    }
}

/// `4096 features of fc7`, for every layer.
fn describe(stored: &[StoredLayer]) -> String {
    let each = |stored: &StoredLayer| {
        let (width, spec) = (stored.width().unwrap_or(0), &stored.spec);
        match spec.pooling {
            Pooling::None => format!("{width} features of {}", spec.layer),
            pooling => format!("{width} features of {} ({pooling})", spec.layer),
        }
    };
    stored.iter().map(each).collect::<Vec<_>>().join(", ")
}
