//! `cnncodes fit-head`: a classifier on a features file.

mod args;

use std::path::{Path, PathBuf};

pub use self::args::Args;
use super::find_unique::{FileKind, find_unique};
use super::report::write as write_report;
use super::show::ReportFormat;
use super::{Status, interrupt, show};
use crate::evaluate::Evaluation;
use crate::features::FeatureFile;
use crate::head::Head;
use crate::messages::printable;
use crate::network::ModelsFolder;
use crate::report::FittingReport;
use crate::training::{TrainedHead, TrainingSettings, TrainingStep, train};

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let settings = args.settings()?;
    let features = match &args.features {
        Some(features) => features.clone(),
        None => find_unique(
            Path::new("features"),
            &FileKind {
                what: "features file",
                suffix: ".h5",
                remedy: "run `cnncodes extract` first",
                how: ": cnncodes fit-head --svm|--logistic FEATURES",
            },
        )?,
    };
    let report = args.report.file()?;
    let file = FeatureFile::open(&features)?;
    if let Some(report) = report {
        settings.check_report(&file, report)?;
    }
    let output = match &args.output {
        Some(output) => output.clone(),
        None => default_output(models, &features, settings.kind_name()),
    };
    let trained = train_and_save(&file, &settings, &output)?;
    if let Some(report) = report {
        let fitting = FittingReport { file: &file, trained: &trained, output: Some(&output), layers: None };
        write_report(|command, progress| fitting.write(report, models, command, progress))?;
    }
    match args.format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&trained.head.evaluation)?),
        ReportFormat::Text => {
            print(&trained.head, settings.kind_name(), &output, args.list_duplicates);
            if let Some(report) = report {
                println!("{}: report", report.display());
            }
        }
    }
    trained.labelled.notes.iter().for_each(|note| show::warning(note));
    Ok(Status::Done)
}

/// Makes the head and writes it to `output`.
pub(super) fn train_and_save(
    file: &FeatureFile,
    settings: &TrainingSettings,
    output: &Path,
) -> anyhow::Result<TrainedHead> {
    if let Some(folder) = output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            anyhow::Error::new(error).context(format!("cannot create the folder {}", folder.display()))
        })?;
    }
    let folds = settings.fit.folds;
    let mut busy = None;
    let trained = train(file, settings, &mut |step| {
        // The one before ends first.
        busy = None;
        busy = match step {
            TrainingStep::FindingDuplicates => Some(show::busy("looking for duplicates")),
            TrainingStep::Fitting => Some(show::busy(format!("fitting: {folds} folds, then all images"))),
        };
    })?;
    drop(busy);
    trained.head.save(output)?;
    interrupt::says("the head was written");
    Ok(trained)
}

/// The evaluation, the duplicates, and where the head is.
pub(super) fn print(head: &Head, kind: &str, path: &Path, list_duplicates: bool) {
    let Head { evaluation, provenance, model, .. } = head;
    show::report(&evaluation.to_text());
    println!();
    print_duplicates(evaluation, list_duplicates);
    println!(
        "{}: {kind} head of {} on {} features of {} ({})",
        path.display(),
        show::count_of(model.class_names.len(), "class", "classes"),
        model.columns(),
        provenance.spec.layer,
        provenance.spec.network_name(),
    );
    if provenance.spec.is_foreign() {
        println!("it predicts features, not images: cnncodes classify --features FILE");
    }
}

/// `models/FEATURES-KIND.head.h5`.
pub(super) fn default_output(models: &ModelsFolder, features: &Path, kind: &str) -> PathBuf {
    let stem = features.file_stem().unwrap_or_default().to_string_lossy();
    models.path.join(format!("{stem}-{kind}.head.h5"))
}

/// How many images were taken for duplicates, and which where that was asked.
fn print_duplicates(evaluation: &Evaluation, list: bool) {
    let sets = &evaluation.duplicates;
    if sets.is_empty() {
        if list {
            println!("no duplicates were found\n");
        }
        return;
    }
    let images = sets.iter().map(|set| set.images.len()).sum();
    let hint = if list { ":" } else { "; --list-duplicates lists them" };
    println!(
        "{} are duplicates of one another, in {}, and were kept on one side of each split{hint}",
        show::count(images, "image"),
        show::count(sets.len(), "set"),
    );
    if list {
        println!("similarity  images");
        for set in sets {
            println!("     {:.3}  {}", set.similarity, printable(&set.images.join("  ")));
        }
    }
    println!();
}
