//! `cnncodes suspects`: images of a features file that deserve a second look.

use std::io;
use std::path::PathBuf;

use super::find_unique::{FileKind, find_unique};
use super::show::AnswerFormat;
use super::training_args::{DuplicateArgs, SmallClassArgs};
use super::{Status, show};
use crate::evaluate::Suspects;
use crate::features::FeatureFile;
use crate::memory::MemoryLimit;
use crate::training::{SuspectSettings, TrainingStep, find_suspects};

/// List probable label errors, duplicates with different labels, and outliers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A logistic regression that was fitted without an image and its duplicates judges the image. If the given class is \
improbable, the image has a wrong label, is difficult, or shows several things; look at it. Duplicates with \
different labels cannot all be right. Outliers are the images whose features are farthest from all others.

Examples:
  cnncodes suspects                              on the only file in features/
  cnncodes suspects features/vgg16-fc7.h5 --top 50
  cnncodes suspects features/vgg16-fc7.h5 --format csv > look-at-these.csv")]
pub struct Args {
    /// Features file [default: the only one in features/]
    #[arg(value_name = "FEATURES")]
    features: Option<PathBuf>,
    /// Layer, if the file holds several [default: the first]
    #[arg(short, long, value_name = "LAYER")]
    layer: Option<String>,
    /// Number of each kind to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Number of folds of the cross-validation
    #[arg(long, value_name = "N", default_value_t = 5)]
    folds: usize,
    /// Random seed of the folds
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Memory limit, such as 2GiB or 500MB. Features that take more are streamed from their file, pass after pass
    /// [default: half of the machine's memory]
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<MemoryLimit>,
    #[command(flatten)]
    small_classes: SmallClassArgs,
    #[command(flatten)]
    duplicates: DuplicateArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: AnswerFormat,
}

pub fn run(args: &Args) -> anyhow::Result<Status> {
    let features = match &args.features {
        Some(features) => features.clone(),
        None => find_unique(
            "features".as_ref(),
            &FileKind {
                what: "features file",
                suffix: ".h5",
                remedy: "run `cnncodes extract` first",
                how: ": cnncodes suspects FEATURES",
            },
        )?,
    };
    let settings = SuspectSettings {
        layer: args.layer.clone(),
        folds: args.folds,
        seed: args.seed,
        duplicates: args.duplicates.settings(),
        small_classes: args.small_classes.policy(),
        most: args.top,
        max_memory: args.max_memory,
    };
    let mut busy = None;
    let found = find_suspects(&FeatureFile::open(&features)?, &settings, &mut |step| {
        busy = (step == TrainingStep::Fitting)
            .then(|| show::busy("judging every image with heads that have not seen it"));
    })?;
    drop(busy);
    let suspects = &found.suspects;
    match args.format {
        AnswerFormat::Text => show::report(&suspects.to_text()),
        AnswerFormat::Json => println!("{}", serde_json::to_string_pretty(suspects)?),
        AnswerFormat::Csv => print_csv(suspects)?,
    }
    found.notes.iter().for_each(|note| show::warning(note));
    Ok(Status::Done)
}

/// One line a suspect; duplicates take one line each, with the number of their set as rank.
fn print_csv(suspects: &Suspects) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(io::stdout());
    out.write_record(["kind", "rank", "image", "label", "probability", "predicted", "distance"])?;
    let rank = |index: usize| (index + 1).to_string();
    for (index, suspect) in suspects.labels.iter().enumerate() {
        let probability = format!("{:.6}", suspect.probability);
        let (image, class, predicted) = (&suspect.image, &suspect.class, &suspect.predicted);
        out.write_record(["label", &rank(index), image, class, &probability, predicted, ""])?;
    }
    for (index, set) in suspects.copies.iter().enumerate() {
        let distance = format!("{:.6}", 1.0 - set.similarity);
        for (image, class) in set.images.iter().zip(&set.classes) {
            out.write_record(["copies", &rank(index), image, class, "", "", &distance])?;
        }
    }
    for (index, outlier) in suspects.outliers.iter().enumerate() {
        let distance = format!("{:.6}", outlier.distance);
        out.write_record(["outlier", &rank(index), &outlier.image, &outlier.class, "", "", &distance])?;
    }
    out.flush()?;
    Ok(())
}
