//! `cnncodes extract --plan` and `--status`: the share of one worker in a plan, and how far the plan is.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use serde_json::json;

use super::log::{Log, LogFormat, emit};
use super::{Args, stop_on_interrupt};
use crate::cli::{Status, show};
use crate::network::ModelsFolder;
use crate::plan::{Plan, PlanError, PlanStatus, Share, ShareError, WorkEvent, WorkSettings, WorkSummary};

/// Names that are listed of each kind for people; JSON has all.
const LISTED: usize = 20;

/// What goes with a plan.
#[derive(Debug, clap::Args)]
pub struct WorkArgs {
    /// Plan to work on (`cnncodes plan` makes it): compute the parts of --shard that are not done yet, whatever computes the others
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["images", "model", "layers", "pool", "output", "no_labels", "max_pixels",
        "ignore_orientation", "fast_decode", "precision", "strict", "force", "rehash", "dry_run"])]
    pub plan: Option<PathBuf>,
    /// Share of the plan: i/n with i from 0 to n-1, or auto for a task of a Slurm array, an indexed Kubernetes job (set
    /// JOB_COMPLETIONS) or an AWS Batch array. n may be another one on a retry [default: the whole plan]
    #[arg(long, value_name = "I/N", requires = "plan")]
    shard: Option<ShardChoice>,
    /// Folder of the images on this machine, if it is not where the plan was made
    #[arg(long, value_name = "DIR", requires = "plan")]
    root: Option<PathBuf>,
    /// Report which parts of a plan are done, missing or unusable, and which images could not be read; write nothing
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["plan", "images", "model", "layers", "pool", "output", "dry_run"])]
    pub status: Option<PathBuf>,
}

/// The value of --shard.
#[derive(Debug, Clone, Copy)]
enum ShardChoice {
    Auto,
    Given(Share),
}

impl FromStr for ShardChoice {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        match text {
            "auto" => Ok(Self::Auto),
            share => share.parse().map(Self::Given),
        }
    }
}

/// Works on the plan.
pub fn run(location: &Path, args: &Args, models: &ModelsFolder, log: &Log) -> anyhow::Result<Status> {
    let start = Instant::now();
    let share = match args.work.shard {
        None => Share::ALL,
        Some(ShardChoice::Given(share)) => share,
        Some(ShardChoice::Auto) => Share::of_scheduler(|name| std::env::var(name).ok())?,
    };
    let plan = Plan::open(location)?;
    let settings = WorkSettings {
        extract: args.settings(),
        session: args.compute.settings_in(plan.layers()[0].spec.precision),
        root: args.work.root.clone(),
    };
    let stop = stop_on_interrupt(log)?;
    let mut tell = |event: WorkEvent<'_>| match event {
        WorkEvent::Note(text) => log.note(text),
        WorkEvent::Progress(progress) => log.progress(progress),
        WorkEvent::Planned { parts, done, images } if log.is_json() => {
            emit(&json!({ "event": "started", "plan": location, "id": plan.id(), "shard": share.to_string(),
                "parts": parts, "done": done, "to_compute": images }));
        }
        WorkEvent::Problem(problem) if log.is_json() => {
            emit(&json!({ "event": "problem", "name": problem.name, "reason": problem.reason }));
        }
        WorkEvent::Finished { part, rows, errors } if log.is_json() => {
            emit(&json!({ "event": "part", "part": part, "rows": rows, "errors": errors }));
        }
        // People get the problems at the end.
        WorkEvent::Planned { .. } | WorkEvent::Problem(_) | WorkEvent::Finished { .. } => {}
    };
    let result = plan.extract_share(share, models, &settings, &stop, &mut tell);
    log.end_of_progress();
    let summary = match result {
        Err(PlanError::Interrupted { done, total }) if log.is_json() => {
            emit(&json!({ "event": "interrupted", "done": done, "total": total }));
            return Ok(Status::Interrupted);
        }
        Err(error @ PlanError::Interrupted { .. }) => {
            show::warning(&error.to_string());
            return Ok(Status::Interrupted);
        }
        result => result?,
    };
    let WorkSummary { parts, skipped, computed, lost_races, rows, ref problems, ref failures } = summary;
    if log.is_json() {
        emit(
            &json!({ "event": "finished", "plan": location, "shard": share.to_string(), "parts": parts, "done_before": skipped,
            "computed": computed, "done_by_others": lost_races, "rows": rows, "skipped": problems.len(),
            "failed": failures.iter().map(|failure| json!({ "part": failure.part, "reason": failure.reason })).collect::<Vec<_>>(),
            "seconds": start.elapsed().as_secs_f64() }),
        );
    } else {
        show::problems(problems, LISTED);
        for failure in failures.iter().take(LISTED) {
            show::warning(&format!("part {} was not computed: {}", failure.part, failure.reason));
        }
        let others = match lost_races {
            0 => String::new(),
            others => format!(", {others} by another worker meanwhile"),
        };
        println!(
            "{}: share {share}: {} ({skipped} done before, {computed} computed{others}, {} failed), {} computed, {} skipped, in {}",
            location.display(),
            show::count(usize::try_from(parts).unwrap_or(usize::MAX), "part"),
            failures.len(),
            show::count(usize::try_from(rows).unwrap_or(usize::MAX), "row"),
            problems.len(),
            show::duration(start.elapsed()),
        );
    }
    Ok(match (failures.is_empty(), problems.is_empty()) {
        (false, _) => Status::Failed,
        (true, false) => Status::Skipped,
        (true, true) => Status::Done,
    })
}

/// Reports how far the plan is.
pub fn status(location: &Path, format: LogFormat) -> anyhow::Result<Status> {
    let status = Plan::open(location)?.status()?;
    if format == LogFormat::Json {
        println!("{}", serde_json::to_string(&status)?);
        return Ok(status_of(&status));
    }
    let PlanStatus { images, parts, done, rows, missing, invalid, errors, strangers, .. } = &status;
    println!(
        "{}: {done} of {parts} parts done, {} missing, {} unusable; {rows} of {images} images have features, {} could not be read",
        location.display(),
        missing.len(),
        invalid.len(),
        errors.len(),
    );
    list("missing parts", missing.iter().map(u64::to_string).collect());
    for part in invalid.iter().take(LISTED) {
        println!(
            "  part {} cannot be used: {}; the next run of its share computes it again",
            part.part, part.why
        );
    }
    for error in errors.iter().take(LISTED) {
        println!("  {} (part {}): {}", error.name, error.part, error.reason);
    }
    if errors.len() > LISTED {
        println!("  and {} more images; --log json lists all", errors.len() - LISTED);
    }
    list("other files among the parts", strangers.clone());
    if !errors.is_empty() {
        println!(
            "  To try these images again, remove the files of their parts (parts/NNNNNN.h5) and run their share again."
        );
    }
    Ok(status_of(&status))
}

/// Ranges of what is missing are what a person submits again, so that all are listed as far as they are few.
fn list(what: &str, names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    let more = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    println!("  {what}: {}{more}", names[..names.len().min(LISTED)].join(", "));
}

fn status_of(status: &PlanStatus) -> Status {
    if status.is_complete() { Status::Done } else { Status::Skipped }
}
