//! `cnncodes models check`: does the chosen preprocessing fit the network?

use std::path::{Path, PathBuf};

use super::super::Status;
use super::super::show::{self, ReportFormat};
use crate::dataset::{Dataset, SourceOptions};
use crate::network::{Graph, ModelsFolder};
use crate::preprocess_check::{
    CheckSettings, CheckVerdict, DEFAULT_IMAGES, PreprocessCheck, StartingRecipe, check_preprocessing,
    options_of,
};

/// Check by the network's own confidence whether its preprocessing fits
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A network that still has its classifier is surest of images that it sees as it was trained. So plausible preprocessings are \
tried on some of the images and ranked: order of the channels, scale, mean and deviation, then crop and filter. Photos of \
things that the network has classes for are best; no labels are needed.

The network cannot tell if it has no classifier, if its classifier does not know such images, or if the differences are \
within the noise.

Examples:
  cnncodes models check mobilenetv2 --images data/
  cnncodes models check mobilenetv2 --images data/ --count 200 --format json")]
pub struct Args {
    /// Name of the model
    #[arg(value_name = "NAME")]
    name: String,
    /// Images: a folder, a CSV file, tar shards or an HDF5 array
    #[arg(long, value_name = "PATH")]
    images: PathBuf,
    #[command(flatten)]
    sampling: Sampling,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,
}

/// Which images are tried.
#[derive(Debug, clap::Args)]
pub struct Sampling {
    /// Number of images to try
    #[arg(long, value_name = "N", default_value_t = DEFAULT_IMAGES)]
    count: usize,
    /// Seed of their choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { count: DEFAULT_IMAGES, seed: 0 }
    }
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let model = models.find(Some(&args.name))?;
    let chosen = &model.manifest.preprocess;
    let checked = check(&model.open()?, StartingRecipe::Chosen(chosen), &args.images, &args.sampling)?;
    match args.format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&checked)?),
        ReportFormat::Text => {
            show::report(&checked.to_text(&model.name));
            if checked.verdict == CheckVerdict::Better
                && let Some(first) = checked.ranking.first()
            {
                match options_of(&first.preprocess) {
                    Some(options) => println!(
                        "\nto use the first one: cnncodes models add {} --force --name {} {options}",
                        model.network_path().display(),
                        model.name
                    ),
                    None => println!(
                        "\nto use the first one, write this into [preprocess] of {}:\n{}",
                        model.manifest_path.display(),
                        toml::to_string(&first.preprocess)?
                    ),
                }
            }
        }
    }
    Ok(if checked.problems.is_empty() { Status::Done } else { Status::Skipped })
}

/// Ranks preprocessings on the images at `path`, and says which could not be read.
pub(super) fn check(
    graph: &Graph,
    start: StartingRecipe<'_>,
    path: &Path,
    sampling: &Sampling,
) -> anyhow::Result<PreprocessCheck> {
    let options = SourceOptions { no_labels: true, ..SourceOptions::default() };
    let images = Dataset::open(&[path.to_path_buf()], &options)?;
    let settings = CheckSettings { images: sampling.count, seed: sampling.seed, ..CheckSettings::default() };
    let bar = show::steps("trying preprocessings");
    let checked = check_preprocessing(graph, start, &images, &settings, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let checked = checked?;
    show::problems(&checked.problems, 5);
    Ok(checked)
}
