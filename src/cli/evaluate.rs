//! `cnncodes evaluate`: how well a head does on images whose classes are known.

use std::io;
use std::path::{Path, PathBuf};

use super::apply;
use super::compute_args::ComputeArgs;
use super::input_args::InputArgs;
use super::report::{ReportArgs, write as write_report};
use super::show::AnswerFormat;
use super::{Status, show};
use crate::classifier::{HeadNetwork, TestImages, TestImagesError, TestSamples};
use crate::evaluate::LabelledPredictions;
use crate::features::FeatureFile;
use crate::head::Head;
use crate::images::DEFAULT_MAX_PIXELS;
use crate::network::ModelsFolder;
use crate::report::{AssessmentReport, Photos};

/// Measure a head on images whose classes are known
#[derive(Debug, clap::Args)]
#[command(after_help = "\
IMAGES is a folder with one folder for each class, a CSV file with the columns path,label (- for standard input), \
tar shards or an HDF5 array FILE.h5:/DATASET, all as in `cnncodes extract`. FEATURES is a features file from \
`cnncodes extract`, made with the head's network, layer and preprocessing. Use images that the head was not fitted \
to; training images are recognised by their bytes and reported.

CSV has one line for each image; text and JSON have the figures and the most confident mistakes.

Examples:
  cnncodes evaluate test-photos/                 with the only head in models/
  cnncodes evaluate test.csv --head models/pets.head.h5 --format json
  cnncodes evaluate 'shards/test-*.tar' --classes names.txt
  cnncodes evaluate features/test-fc7.h5 --format csv > answers.csv
  cnncodes evaluate test-photos/ --report report.html")]
pub struct Args {
    /// Images or features with known classes
    #[arg(value_name = "IMAGES|FEATURES", required = true)]
    input: Vec<PathBuf>,
    #[command(flatten)]
    inputs: InputArgs,
    /// The head, or what `cnncodes export` made of it [default: the only head in the models folder]
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Number of most confident mistakes to list
    #[arg(long, value_name = "N", default_value_t = 10)]
    mistakes: usize,
    /// Coverage of the prediction sets to check
    #[arg(long, value_name = "SHARE", default_value = "0.95", value_parser = super::classify::share)]
    coverage: f64,
    #[command(flatten)]
    report: ReportArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: AnswerFormat,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    max_pixels: u64,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let report = args.report.file()?;
    let (head, head_path, network) = apply::open_head_with_network(args.head.as_deref(), models)?;
    let (images, photos) = match &args.input[..] {
        [path] if FeatureFile::is_named(path) => {
            let file = FeatureFile::open(path)?;
            let photos = Photos::of_features(&file.header().source, path);
            (TestImages::from_features(&file, &head, &apply::head_at(&head_path))?, photos)
        }
        _ => extract(args, &head, &head_path, network)?,
    };
    let judgement = images.judge(&head, args.coverage)?;
    let (judged, assessment) = (judgement.judged(), judgement.assess(args.mistakes));
    match args.format {
        AnswerFormat::Text => show::report(&assessment.to_text()),
        AnswerFormat::Json => println!("{}", serde_json::to_string_pretty(&assessment)?),
        AnswerFormat::Csv => {
            print_csv(&judged)?;
            assessment.notes.iter().for_each(|note| show::warning(&note.text));
        }
    }
    if let Some(report) = report {
        let inputs: Vec<String> = args.input.iter().map(|path| path.display().to_string()).collect();
        let page = AssessmentReport {
            head: &head,
            head_path: &head_path,
            judged: &judged,
            assessment: &assessment,
            source: &inputs.join(", "),
            features: images.features.view(),
            photos: &photos,
        };
        write_report(|command, progress| page.write(report, models, command, progress))?;
    }
    show::problems(&images.problems, 20);
    Ok(if images.problems.is_empty() { Status::Done } else { Status::Skipped })
}

/// The images that were named, as features, and where they lie.
fn extract(
    args: &Args,
    head: &Head,
    head_path: &Path,
    network: HeadNetwork,
) -> anyhow::Result<(TestImages, Photos)> {
    let set = args.inputs.open(&args.input)?;
    let samples = TestSamples::of_classes(&set, head)?;
    let (spec, holder) = (&head.provenance.spec, apply::head_at(head_path));
    let (compute, count) = (&args.compute, samples.count());
    let mut extractor = apply::open_extractor(spec, &holder, network, compute, args.max_pixels, count)?;
    let bar = show::progress_bar("looking");
    bar.set_length(count as u64);
    let extracted = samples.extract(&mut extractor, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    if let Err(TestImagesError::NothingReadable { problems, .. }) = &extracted {
        show::problems(problems, 20);
    }
    Ok((extracted?, Photos::below(set.samples.root())))
}

/// One line an image.
fn print_csv(judged: &LabelledPredictions<'_>) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(io::stdout());
    let header = ["image", "class", "predicted", "probability", "probability_of_class"];
    out.write_record(header.into_iter().chain(["right", "unknown", "in_set", "trained_on"]))?;
    let flag = |flags: Option<&[bool]>, row: usize| flags.map_or(String::new(), |f| f[row].to_string());
    for (row, (name, &label)) in judged.names.iter().zip(judged.labels).enumerate() {
        let predicted = judged.predicted[row];
        out.write_record([
            name,
            &judged.class_names[label],
            &judged.class_names[predicted],
            &format!("{:.6}", judged.probabilities[[row, predicted]]),
            &format!("{:.6}", judged.probabilities[[row, label]]),
            &(predicted == label).to_string(),
            &flag(judged.unknown, row),
            &flag(judged.covered.map(|(_, covered)| covered), row),
            &judged.trained_on[row].to_string(),
        ])?;
    }
    out.flush()?;
    Ok(())
}
