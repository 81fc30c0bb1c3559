//! `cnncodes classify`: what is in an image, by a head.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use ndarray::Array2;
use rayon::prelude::*;

use super::choose::{self, Kind};
use super::compute::{ComputeArgs, warn_of_fallback};
use super::{Status, show};
use crate::backbone::{Backbone, Catalogue, Graph, Layer, ModelError, ModelsFolder};
use crate::extract::read_image;
use crate::head::Head;
use crate::images::{DEFAULT_MAX_PIXELS, DecodeOptions, Preprocess, Problem, Sample, SampleSet};

/// Say what is in an image, with probabilities
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The head knows its network, layer and preprocessing; the network is looked for in the models folder by its hash.

Examples:
  cnncodes classify image.jpg                    with the only head in models/
  cnncodes classify photos/ --format csv --top 1 > answers.csv
  cnncodes classify a.jpg b.png --head models/vgg16-fc7-svm.head.h5 --format json")]
pub struct Args {
    /// Images, or folders of images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// The head; may be left out where the models folder holds only one
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// How many classes to show, most probable first
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Refuse images of more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    max_pixels: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
}

/// Images a forward run.
const BATCH: usize = 8;

/// The answer for one image.
#[derive(Debug, serde::Serialize)]
struct Answer {
    image: String,
    /// Most probable first.
    classes: Vec<Ranked>,
}

#[derive(Debug, serde::Serialize)]
struct Ranked {
    class: String,
    probability: f64,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let head_path = match &args.head {
        Some(head) => head.clone(),
        None => choose::only(
            &models.path,
            &Kind {
                what: "head",
                suffix: ".head.h5",
                remedy: "run `cnncodes fit-head --svm` or `cnncodes fit-head --logistic` first",
                how: " with --head FILE",
            },
        )?,
    };
    let head = Head::load(&head_path)?;
    let preprocess: Preprocess =
        serde_json::from_str(&head.provenance.preprocess_json).with_context(|| {
            format!("the preprocessing recorded in {} is not valid; fit the head again", head_path.display())
        })?;
    let samples = SampleSet::from_paths(&args.images);
    if samples.samples.is_empty() && samples.problems.is_empty() {
        bail!("there is no image to classify in what was named");
    }
    let mut problems = samples.problems.clone();
    let mut printer = Printer::new(args);
    if !samples.samples.is_empty() {
        let (graph, layer) = backbone_of(&head, models, &head_path)?;
        let mut backbone = Backbone::open(
            &graph,
            std::slice::from_ref(&layer),
            preprocess.size(),
            &args.compute.settings(),
        )?;
        warn_of_fallback(&backbone);
        backbone.set_pooling(head.provenance.pooling.parse().with_context(|| {
            format!("the pooling recorded in {} is not known; fit the head again", head_path.display())
        })?);
        let decode =
            DecodeOptions { apply_orientation: preprocess.exif_orientation(), max_pixels: args.max_pixels };
        for batch in samples.samples.chunks(BATCH) {
            let (answers, unreadable) = classify(batch, &mut backbone, &head, &preprocess, &decode)?;
            for answer in answers {
                printer.print(answer)?;
            }
            problems.extend(unreadable);
        }
    }
    let answered = printer.finish()?;
    show::problems(&problems, usize::MAX);
    Ok(match (answered, problems.len()) {
        (0, _) => Status::Failed,
        (_, 0) => Status::Done,
        _ => Status::Skipped,
    })
}

/// The network that the head's codes came from, and its layer.
fn backbone_of(head: &Head, models: &ModelsFolder, path: &std::path::Path) -> anyhow::Result<(Graph, Layer)> {
    let wanted = &head.provenance;
    let mut readable: Vec<_> = models.manifests()?.into_iter().filter_map(Result::ok).collect();
    // Of several manifests for one network, the one of the head's own name first.
    readable.sort_by_key(|model| model.name != wanted.model_name);
    let Some(model) =
        readable.iter().find(|model| model.manifest.sha256.eq_ignore_ascii_case(&wanted.model_sha256))
    else {
        let same_name = readable.iter().find(|model| model.name == wanted.model_name);
        match same_name {
            Some(model) => bail!(
                "the head {} was fitted on the network {} with SHA-256 {}, but {} in {} is another one (SHA-256 {}); extract and fit again, or bring the right network back",
                path.display(),
                wanted.model_name,
                wanted.model_sha256,
                model.name,
                models.path.display(),
                model.manifest.sha256
            ),
            None => bail!(
                "the head {} needs the network {} (SHA-256 {}), which is not in {}; add it with `cnncodes models add FILE`",
                path.display(),
                wanted.model_name,
                wanted.model_sha256,
                models.path.display()
            ),
        }
    };
    let graph = model.open().map_err(|error: ModelError| {
        anyhow::Error::new(error).context(format!(
            "the head {} needs the network {}",
            path.display(),
            model.name
        ))
    })?;
    let layer = Catalogue::of(&graph, &model.manifest.aliases).find(&model.name, &wanted.tensor)?.clone();
    Ok((graph, layer))
}

/// Classifies one batch; gives the answers in order, and what could not be read.
fn classify(
    samples: &[Sample],
    backbone: &mut Backbone,
    head: &Head,
    preprocess: &Preprocess,
    decode: &DecodeOptions,
) -> anyhow::Result<(Vec<Answer>, Vec<Problem>)> {
    let layout = backbone.layout();
    let len = backbone.image_len();
    let read: Vec<Result<Vec<f32>, Problem>> = samples
        .par_iter()
        .map(|sample| {
            let mut image = vec![0.0; len];
            read_image(sample, preprocess, decode, layout, &mut image).map(|_| image)
        })
        .collect();
    let mut names = Vec::new();
    let mut images = Vec::new();
    let mut problems = Vec::new();
    for (image, sample) in read.into_iter().zip(samples) {
        match image {
            Ok(image) => {
                names.push(sample.name.clone());
                images.extend(image);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if names.is_empty() {
        return Ok((Vec::new(), problems));
    }
    let mut codes = Vec::new();
    backbone.run(&images, |_, rows| codes.extend_from_slice(rows))?;
    let codes = Array2::from_shape_vec((names.len(), codes.len() / names.len()), codes)?;
    let answers = names
        .into_iter()
        .zip(head.ranked(codes.view())?)
        .map(|(image, ranked)| Answer {
            image,
            classes: ranked
                .into_iter()
                .map(|(class, probability)| Ranked {
                    class: head.model.class_names[class].clone(),
                    probability,
                })
                .collect(),
        })
        .collect();
    Ok((answers, problems))
}

/// Prints answers as they come.
struct Printer {
    format: Format,
    top: usize,
    printed: usize,
    csv: csv::Writer<io::Stdout>,
}

impl Printer {
    fn new(args: &Args) -> Printer {
        Printer {
            format: args.format,
            top: usize::from(args.top),
            printed: 0,
            csv: csv::Writer::from_writer(io::stdout()),
        }
    }

    fn print(&mut self, mut answer: Answer) -> anyhow::Result<()> {
        answer.classes.truncate(self.top);
        let mut out = io::stdout().lock();
        match self.format {
            Format::Text => {
                let width =
                    answer.classes.iter().map(|ranked| ranked.class.chars().count()).max().unwrap_or(0);
                writeln!(out, "{}", answer.image)?;
                for Ranked { class, probability } in &answer.classes {
                    writeln!(out, "  {class:width$}  {:5.1} %", probability * 100.0)?;
                }
            }
            Format::Json => {
                write!(out, "{}", if self.printed == 0 { "[\n" } else { ",\n" })?;
                serde_json::to_writer(&mut out, &answer)?;
            }
            Format::Csv => {
                drop(out);
                if self.printed == 0 {
                    self.csv.write_record(["image", "rank", "class", "probability"])?;
                }
                for (rank, Ranked { class, probability }) in answer.classes.iter().enumerate() {
                    let (rank, probability) = ((rank + 1).to_string(), format!("{probability:.6}"));
                    self.csv.write_record([&answer.image, &rank, class, &probability])?;
                }
                self.csv.flush()?;
            }
        }
        self.printed += 1;
        Ok(())
    }

    /// Ends the output; gives how many answers there were.
    fn finish(self) -> anyhow::Result<usize> {
        if matches!(self.format, Format::Json) {
            println!("{}", if self.printed == 0 { "[]" } else { "\n]" });
        }
        Ok(self.printed)
    }
}
