//! `cnncodes export`: a head with its network as one ONNX file.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::apply;
use super::compute_args::ComputeArgs;
use super::{Status, show};
use crate::classifier::{AnswerOptions, Classifier, HeadNetwork};
use crate::dataset::Dataset;
use crate::export::{ExportInput, ExportLabel, ExportSettings, NetworkOfHead, SealedClassifier, export};
use crate::head::Head;
use crate::images::DEFAULT_MAX_PIXELS;
use crate::network::ModelsFolder;

/// Write a head with its network as one ONNX file that runs without this program
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file takes the pixels of an image of any size (`image`: uint8, height x width x 3, RGB, upright) and gives \
`probabilities`, `label`, `scores`, and, if the head knows its training images, `distance` and `unknown`. Resizing, \
cropping, normalisation, network, head and calibration are inside, in ONNX's own operators. Resized pixels equal \
Pillow's bit for bit. docs/deploy.md shows how Python, Node, browsers, C# and Java run it.

With --input tensor it takes preprocessed images as the network wants them (`tensor`: float32). --static also fixes \
all shapes, computes in float32 alone and gives the label as an index, as converters to TFLite and Core ML want it.

`classify`, `evaluate` take the file with --head, and need no models folder for it.

Examples:
  cnncodes export -o classifier.onnx                          the only head in models/
  cnncodes export models/pets.head.h5 -o pets.onnx --coverage 0.95
  cnncodes export models/pets.head.h5 -o pets.onnx --fp16-weights --check photos/
  cnncodes export models/pets.head.h5 -o pets.onnx --input tensor --static
  cnncodes classify image.jpg --head classifier.onnx")]
pub struct Args {
    /// The head [default: the only one in the models folder]
    #[arg(value_name = "HEAD")]
    head: Option<PathBuf>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What the file takes
    #[arg(long, value_enum, default_value = "pixels")]
    input: InputChoice,
    /// Fix all shapes to one image, compute in float32 alone, and give the label as an index
    #[arg(long)]
    r#static: bool,
    /// What `label` is: the class's name, or its index for runtimes without text
    #[arg(long, value_enum, default_value = "name")]
    label: LabelChoice,
    /// Also give `prediction_set`, the classes that hold the right one in this share of cases, such as 0.95
    #[arg(long, value_name = "SHARE", value_parser = super::classify::share)]
    coverage: Option<f64>,
    /// Also give `features`
    #[arg(long)]
    with_features: bool,
    /// Store the network's weights as float16: half the size, slightly different answers
    #[arg(long)]
    fp16_weights: bool,
    /// Write the network's weights to a second file, FILE.data (always done above 2 GB)
    #[arg(long)]
    external_data: bool,
    /// Classify these images with the head and with the file, and report the difference
    #[arg(long, value_name = "IMAGES", num_args = 1..)]
    check: Vec<PathBuf>,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum InputChoice {
    /// The pixels of an image of any size: `image`, uint8, height x width x 3, RGB
    Pixels,
    /// Preprocessed images: `tensor`, float32, as the network wants them
    Tensor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LabelChoice {
    Name,
    Index,
}

impl Args {
    fn settings(&self) -> ExportSettings {
        ExportSettings {
            input: match self.input {
                InputChoice::Pixels => ExportInput::Pixels,
                InputChoice::Tensor => ExportInput::Tensor,
            },
            is_static: self.r#static,
            label: match self.label {
                LabelChoice::Name => ExportLabel::Name,
                LabelChoice::Index => ExportLabel::Index,
            },
            coverage: self.coverage,
            with_features: self.with_features,
            half_weights: self.fp16_weights,
        }
    }
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let (head, head_path) = apply::open_head(args.head.as_deref(), models)?;
    let (spec, holder) = (&head.provenance.spec, apply::head_at(&head_path));
    let model = spec.model(models).with_context(|| holder.clone())?;
    let (graph, layer) = spec.network_of(&model).with_context(|| holder.clone())?;
    let network = NetworkOfHead { graph: &graph, layer: &layer, licence: model.manifest.note.as_deref() };
    let exported = export(&head, network, &args.settings()).with_context(|| holder.clone())?;
    exported.remarks.iter().for_each(|remark| show::warning(remark));
    let domains: Vec<&str> = exported.other_domains().collect();
    if !domains.is_empty() {
        show::warning(&format!(
            "the network has operators of {}, which not every runtime of ONNX knows",
            domains.join(", ")
        ));
    }
    let outputs = exported.outputs().collect::<Vec<_>>().join(", ");
    let (nodes, opset) = (exported.nodes(), exported.opset());
    for (path, bytes) in exported.save(&args.output, args.external_data)? {
        println!("{}: {:.2} MB", path.display(), bytes as f64 / 1e6);
    }
    let takes = match args.input {
        InputChoice::Pixels => "image (uint8, height x width x 3, RGB)",
        InputChoice::Tensor => "tensor (float32, preprocessed)",
    };
    println!("{takes} -> {outputs}; {nodes} operations of ONNX {opset}");
    if args.check.is_empty() {
        if args.fp16_weights {
            show::warning(
                "the network's weights were rounded to float16; --check IMAGES measures what that changes",
            );
        }
        return Ok(Status::Done);
    }
    check(args, head, HeadNetwork::Sealed(Box::new((graph, layer))), &holder)
}

/// The answers of the head for the named images, and which of them could be read.
fn answers(
    args: &Args,
    head: Head,
    network: HeadNetwork,
    holder: &str,
    set: &Dataset,
) -> anyhow::Result<(Vec<Vec<f64>>, usize)> {
    let spec = head.provenance.spec.clone();
    let (compute, images) = (&args.compute, set.samples.len());
    let extractor = apply::open_extractor(&spec, holder, network, compute, DEFAULT_MAX_PIXELS, images)?;
    let (mut answers, mut unread) = (Vec::new(), 0);
    let mut classifier = Classifier::new(head, extractor);
    classifier.classify_each(set.samples.iter(), AnswerOptions::default(), |answer| {
        match answer {
            Ok((_, answer)) => {
                let mut probabilities = vec![0.0; answer.ranked.len()];
                answer.ranked.iter().for_each(|&(class, probability)| probabilities[class] = probability);
                answers.push(probabilities);
            }
            Err(_) => unread += 1,
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok((answers, unread))
}

/// Compares the answers of the file with those of the head.
fn check(args: &Args, head: Head, network: HeadNetwork, holder: &str) -> anyhow::Result<Status> {
    let set = Dataset::from_paths(&args.check, false, None)?;
    if set.samples.is_empty() {
        bail!("there is no image to check in the given files and folders");
    }
    let (expected, unread) = answers(args, head, network, holder, &set)?;
    let sealed = SealedClassifier::open(&args.output)?;
    let network = HeadNetwork::Sealed(Box::new(sealed.network()?));
    let (found, _) = answers(args, sealed.head, network, &args.output.display().to_string(), &set)?;
    let top = |probabilities: &[f64]| {
        probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class)
    };
    let pairs = || expected.iter().zip(&found);
    let same = pairs().filter(|(expected, found)| top(expected) == top(found)).count();
    let differences = pairs().flat_map(|(expected, found)| expected.iter().zip(found));
    let largest = differences.map(|(expected, found)| (expected - found).abs()).fold(0.0, f64::max);
    println!(
        "checked with {} images: the same class for {same}, largest difference of a probability {largest:.1e}",
        expected.len()
    );
    Ok(if unread == 0 { Status::Done } else { Status::Skipped })
}
