//! `cnncodes models`: what is in `models/`, and how a network gets there.

use std::path::PathBuf;

use comfy_table::{ContentArrangement, Table, presets};

mod add;
mod check;

pub(super) use self::add::report_found;
use super::show::ReportFormat;
use super::{Status, pull, show};
use crate::images::Preset;
use crate::messages::with_causes;
use crate::network::manifest::layout_name;
use crate::network::{Model, ModelsFolder};

/// List the models of the models folder, add one, download one, or check a preprocessing
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  cnncodes models           what is there, and whether it is intact
  cnncodes models add vgg16.onnx --preprocess torchvision
  cnncodes models add resnet50.onnx --preprocess keras-caffe --copy
  cnncodes models add net.onnx --preprocess tf --size 299 --interpolation bicubic
  cnncodes models add dinov2-small/ --preprocess auto
  cnncodes models check resnet50 --images data/
  cnncodes models pull      which published networks can be downloaded
  cnncodes models pull vgg16-7"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,
}

#[derive(Debug, clap::Subcommand)]
enum ModelsCommand {
    Add(add::Args),
    Check(check::Args),
    Pull(pull::Args),
}

pub(super) fn preset(text: &str) -> Result<Preset, String> {
    match text.parse::<Preset>() {
        Ok(Preset::Custom) => {
            Err("start from torchvision, keras-caffe or tf and change it with the options".into())
        }
        Ok(preset) => Ok(preset),
        Err(error) => Err(error.to_string()),
    }
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    match &args.command {
        Some(ModelsCommand::Add(add_args)) => add::run(add_args, models),
        Some(ModelsCommand::Check(check_args)) => check::run(check_args, models),
        Some(ModelsCommand::Pull(pull_args)) => pull::run(pull_args, models),
        None => list(args.format, models),
    }
}

/// One model of the listing.
#[derive(Debug, serde::Serialize)]
struct ListedModel {
    name: String,
    file: PathBuf,
    architecture: Option<String>,
    sha256: String,
    input: String,
    preprocess: String,
    intact: bool,
    /// Why the model cannot be used.
    problem: Option<String>,
}

fn list(format: ReportFormat, models: &ModelsFolder) -> anyhow::Result<Status> {
    let mut entries = Vec::new();
    let mut unreadable = Vec::new();
    for model in models.manifests()? {
        match model {
            Ok(model) => entries.push(entry(&model)),
            Err(error) => unreadable.push(error),
        }
    }
    let orphans = models.without_manifest()?;
    match format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&entries)?),
        ReportFormat::Text if entries.is_empty() && orphans.is_empty() && unreadable.is_empty() => {
            // The same words as when another command looks for a model.
            models.find(None)?;
        }
        ReportFormat::Text if !entries.is_empty() => show::table(&table(&entries)),
        ReportFormat::Text => {}
    }
    for orphan in &orphans {
        show::warning(&format!(
            "{} has no manifest; write one with `cnncodes models add {} --preprocess torchvision|keras-caffe|tf`",
            orphan.display(),
            orphan.display()
        ));
    }
    for entry in entries.iter().filter(|entry| !entry.intact) {
        show::warning(entry.problem.as_deref().unwrap_or("not intact"));
    }
    let broken = !unreadable.is_empty() || entries.iter().any(|entry| !entry.intact);
    for error in unreadable {
        show::error(&error.into());
    }
    Ok(if broken { Status::Skipped } else { Status::Done })
}

fn entry(model: &Model) -> ListedModel {
    let opened = model.open();
    ListedModel {
        name: model.name.clone(),
        file: model.network_path(),
        architecture: model.manifest.architecture.clone(),
        sha256: model.manifest.sha256.clone(),
        input: format!("{} {}", model.manifest.input.name, layout_name(model.manifest.input.layout)),
        preprocess: model.manifest.preprocess.describe(),
        intact: opened.is_ok(),
        problem: opened.err().map(|error| with_causes(&error)),
    }
}

fn table(entries: &[ListedModel]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["model", "architecture", "input", "preprocessing", "sha256", "state"]);
    for entry in entries {
        table.add_row([
            entry.name.as_str(),
            entry.architecture.as_deref().unwrap_or("-"),
            entry.input.as_str(),
            entry.preprocess.as_str(),
            entry.sha256.get(..12).unwrap_or(&entry.sha256),
            if entry.intact { "intact" } else { "NOT INTACT" },
        ]);
    }
    table
}

/// Writes the manifest and says so.
pub(super) fn write_manifest(model: &Model) -> anyhow::Result<()> {
    model.write()?;
    say_manifest(model);
    Ok(())
}

/// What the manifest says, in a line.
pub(super) fn say_manifest(model: &Model) {
    println!(
        "{}: {}, input {}, {}",
        model.manifest_path.display(),
        model.manifest.architecture.as_deref().unwrap_or("unknown architecture"),
        layout_name(model.manifest.input.layout),
        model.manifest.preprocess.describe()
    );
}
