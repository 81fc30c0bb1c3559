//! `cnncodes classify`: what is in an image, by a head.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::apply;
use super::compute_args::ComputeArgs;
use super::explain::{self, ExplainArgs};
use super::show::AnswerFormat;
use super::{Status, show};
use crate::classifier::{AnswerOptions, Classifier, ClassifyError};
use crate::dataset::ArrayAxes;
use crate::dataset::Dataset;
use crate::explain::{AnswerRecord, ClassExplanation, ImageExplanation, RankedClass, SimilarImage};
use crate::features::FeatureFile;
use crate::head::Head;
use crate::images::DEFAULT_MAX_PIXELS;
use crate::messages::printable;
use crate::network::ModelsFolder;

/// Classify images, with probabilities
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The head knows its network, layer and preprocessing. The program finds the network in the models folder by its hash.

An image is called unknown if its features are farther from the training images than 97.5 % of these are from one \
another: it probably belongs to none of the classes, whatever the probabilities say.

With --coverage 0.95, each answer has a set of classes that holds the right one for about 95 % of images like the \
training images: one class if the head is sure, several if it is not, none if nothing fits.

With --explain DIR, a picture of each image shows the places that support its class in yellow. For heads on maps, \
pooled or not, the values of all places add up exactly to the class's score (class activation map). For heads on \
dense layers a patch covers one part of the image after another, and the picture shows how much the score falls \
(occlusion). The training images with the most similar features are named.

Examples:
  cnncodes classify image.jpg                    with the only head in models/
  cnncodes classify photos/ --format csv --top 1 > answers.csv
  cnncodes classify photos/ --coverage 0.95
  find photos -newer last-run -name '*.jpg' | cnncodes classify -
  cnncodes classify image.jpg --explain why      why/image-CLASS.png shows which parts support the class
  cnncodes classify a.jpg b.png --head models/vgg16-fc7-svm.head.h5 --format json
  cnncodes classify --features features/new.h5   features instead of images
  cnncodes classify a.jpg --head classifier.onnx   with an exported classifier, which has its network inside")]
pub struct Args {
    /// Images, folders of images, tar shards, HDF5 arrays (FILE.h5:/DATASET), or - for a list of images on standard
    /// input
    #[arg(value_name = "IMAGE", required_unless_present = "features")]
    images: Vec<PathBuf>,
    /// Classify the rows of a features file instead of images, such as those of another program (`cnncodes convert`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "null", "axes", "explain"])]
    features: Option<PathBuf>,
    /// Paths on standard input end with a NUL, as `find -print0` writes them, and not with a line end
    #[arg(short = '0', long)]
    null: bool,
    /// Order of an HDF5 array's dimensions as h5py shows them, such as NHWC, NCHW or HWCN: N images, H height, W
    /// width, C colours
    #[arg(long)]
    axes: Option<ArrayAxes>,
    /// The head, or what `cnncodes export` made of it [default: the only head in the models folder]
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Number of classes to show, most probable first
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Also print the set of classes that holds the right one in this share of cases, such as 0.95
    #[arg(long, value_name = "SHARE", value_parser = share)]
    coverage: Option<f64>,
    /// Never answer "unknown"
    #[arg(long)]
    no_unknown: bool,
    #[command(flatten)]
    explain: ExplainArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: AnswerFormat,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    max_pixels: u64,
}

/// A share between 0 and 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("expected a share above 0 and below 1, such as 0.95".to_owned()),
    }
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let (head, head_path, network) = apply::open_head_with_network(args.head.as_deref(), models)?;
    if args.coverage.is_some() && head.model.conformal.is_none() {
        return Err(ClassifyError::NoPredictionSets).with_context(|| apply::head_at(&head_path));
    }
    let options = AnswerOptions { coverage: args.coverage, unknown: !args.no_unknown };
    if let Some(features) = &args.features {
        return classify_features(args, &head, &head_path, features, options);
    }
    let set = Dataset::from_paths(&args.images, args.null, args.axes.as_ref())?;
    show::passed_over(&set.passed_over);
    if set.samples.is_empty() && set.problems.is_empty() {
        bail!("there is no image to classify in the given files and folders");
    }
    let mut problems = set.problems.clone();
    let mut printer = Printer::new(args);
    let class_names = head.model.class_names.clone();
    let top = usize::from(args.top);
    if set.samples.is_empty() {
        // All that is left is to report them.
    } else if args.explain.is_wanted() {
        let mut explainer = args.explain.open(&head, &head_path, network, &args.compute, args.max_pixels)?;
        let mut progress = explain::progress();
        explainer.classify_each(set.samples.iter(), options, &mut progress, |answer| match answer {
            Ok((sample, answer, explanation)) => {
                printer.print(AnswerRecord::new(sample.name, answer, explanation, &class_names, top))
            }
            Err(problem) => {
                problems.push(problem);
                Ok(())
            }
        })?;
    } else {
        let spec = &head.provenance.spec;
        let (holder, images) = (apply::head_at(&head_path), set.samples.len());
        let extractor =
            apply::open_extractor(spec, &holder, network, &args.compute, args.max_pixels, images)?;
        Classifier::new(head, extractor).classify_each(
            set.samples.iter(),
            options,
            |answer| match answer {
                Ok((sample, answer)) => printer.print(AnswerRecord::new(
                    sample.name,
                    answer,
                    ImageExplanation::default(),
                    &class_names,
                    top,
                )),
                Err(problem) => {
                    problems.push(problem);
                    Ok(())
                }
            },
        )?;
    }
    let answered = printer.finish()?;
    show::problems(&problems, usize::MAX);
    Ok(match (answered, problems.len()) {
        (0, _) => Status::Failed,
        (_, 0) => Status::Done,
        _ => Status::Skipped,
    })
}

/// Classifies the rows of a features file.
fn classify_features(
    args: &Args,
    head: &Head,
    head_path: &Path,
    features: &Path,
    options: AnswerOptions,
) -> anyhow::Result<Status> {
    let file = FeatureFile::open(features)?;
    let mut printer = Printer::new(args);
    head.answer_features(&file, &apply::head_at(head_path), options, |name, answer| {
        let explanation = ImageExplanation::default();
        printer.print(AnswerRecord::new(
            name,
            answer,
            explanation,
            &head.model.class_names,
            usize::from(args.top),
        ))
    })?;
    printer.finish()?;
    Ok(Status::Done)
}

/// Prints answers as they come.
struct Printer {
    format: AnswerFormat,
    coverage: Option<f64>,
    /// Whether the answers are explained.
    explained: bool,
    printed: usize,
    csv: csv::Writer<io::Stdout>,
}

impl Printer {
    fn new(args: &Args) -> Printer {
        Printer {
            format: args.format,
            coverage: args.coverage,
            explained: args.explain.is_wanted(),
            printed: 0,
            csv: csv::Writer::from_writer(io::stdout()),
        }
    }

    fn print(&mut self, answer: AnswerRecord) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match self.format {
            AnswerFormat::Text => {
                let width =
                    answer.classes.iter().map(|ranked| ranked.class.chars().count()).max().unwrap_or(0);
                writeln!(out, "{}", printable(&answer.image))?;
                if answer.unknown == Some(true) {
                    writeln!(out, "  unknown: unlike the training images; if it is one of the classes:")?;
                }
                for RankedClass { class, probability } in &answer.classes {
                    writeln!(out, "  {:width$}  {:5.1} %", printable(class), probability * 100.0)?;
                }
                if let Some((set, coverage)) = answer.set.as_ref().zip(self.coverage) {
                    let classes = if set.is_empty() { "no class".to_owned() } else { set.join(", ") };
                    writeln!(out, "  set at {coverage} coverage: {}", printable(&classes))?;
                }
                for ClassExplanation { class, method, overlay, .. } in &answer.explanations {
                    writeln!(out, "  why {}: {} ({method})", printable(class), printable(overlay))?;
                }
                if !answer.nearest.is_empty() {
                    writeln!(out, "  most similar training images, by 1 - cosine:")?;
                }
                for SimilarImage { image, distance, .. } in &answer.nearest {
                    writeln!(out, "    {distance:.3}  {}", printable(image))?;
                }
            }
            AnswerFormat::Json => {
                write!(out, "{}", if self.printed == 0 { "[\n" } else { ",\n" })?;
                serde_json::to_writer(&mut out, &answer)?;
            }
            AnswerFormat::Csv => {
                drop(out);
                if self.printed == 0 {
                    let columns = ["image", "rank", "class", "probability", "unknown", "in_set"];
                    self.csv.write_record(columns.iter().chain(self.explained.then_some(&"explanation")))?;
                }
                // Empty where it was not asked for or cannot be told.
                let flag = |value: Option<bool>| value.map_or(String::new(), |value| value.to_string());
                let unknown = flag(answer.unknown);
                for (rank, RankedClass { class, probability }) in answer.classes.iter().enumerate() {
                    let (rank, probability) = ((rank + 1).to_string(), format!("{probability:.6}"));
                    let in_set = flag(answer.set.as_ref().map(|set| set.contains(class)));
                    let picture = answer.explanations.iter().find(|why| why.class == *class);
                    let picture = picture.map_or(String::new(), |why| why.overlay.clone());
                    let fields = [&answer.image, &rank, class, &probability, &unknown, &in_set];
                    self.csv.write_record(fields.into_iter().chain(self.explained.then_some(&picture)))?;
                }
                self.csv.flush()?;
            }
        }
        self.printed += 1;
        Ok(())
    }

    /// Ends the output; gives how many answers there were.
    fn finish(self) -> anyhow::Result<usize> {
        if matches!(self.format, AnswerFormat::Json) {
            println!("{}", if self.printed == 0 { "[]" } else { "\n]" });
        }
        Ok(self.printed)
    }
}
