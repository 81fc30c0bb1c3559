//! `cnncodes extract`: codes of a folder of images.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::compute::{ComputeArgs, warn_of_fallback};
use super::inputs::InputArgs;
use super::{Status, show};
use crate::backbone::{
    Backbone, Catalogue, Layer, Model, ModelsFolder, PENULTIMATE, Pooling, Precision, Tap,
};
use crate::codes::{Header, LayerSpec};
use crate::extract::{self, ExtractSettings};
use crate::images::{DEFAULT_MAX_PIXELS, DecodeOptions, Preprocess, PreprocessOverrides, SampleSet};

/// Write the activations of a layer ("CNN codes") of every image of a folder to an HDF5 file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
IMAGES is one of these:
  a folder        with one folder a class (data/cats/1.jpg, data/dogs/1.jpg …), or of images without classes
  a CSV file      with the columns path,label
  -               a list on standard input: one path a line, or the lines of such a CSV file
  tar shards      *.tar in the form of WebDataset: KEY.jpg with KEY.cls (a class's name or number) or KEY.json (with \
label, cls or class); several, a folder of them, or a pattern such as 'train-{000..010}.tar'. classes.txt beside them, \
or --classes, names the numbers
  an HDF5 array   FILE.h5:/DATASET, uint8 of images x height x width x 3, images x 3 x height x width or images x height \
x width; --labels names the dataset of its labels

JPEG, PNG, WebP, BMP, GIF (first frame) and TIFF are read, whatever their extension says. The rows of the output are \
sorted by the images' names, so all names are listed before the first image is read; in memory an image takes 40 \
bytes and its name.

An image that cannot be read is listed, recorded in the file and skipped (exit status 1). A run that was \
interrupted goes on where it was when the same command is given again.

Examples:
  cnncodes extract                  of data/, with the only model in models/
  cnncodes extract --layer fc7
  cnncodes extract photos/ --model vgg16 --layer pool5 -o features/photos-pool5.h5
  cnncodes extract --layer pool3,pool4,fc7 --pool avg
  cnncodes extract photos.csv --layer fc6
  find photos -name '*.jpg' -print0 | cnncodes extract -0 -
  cnncodes extract 'shards/train-{000..010}.tar'
  cnncodes extract cifar10.h5:/x_train --labels y_train --classes names.txt")]
pub struct Args {
    /// The images: a folder, a CSV file, - for a list on standard input, tar shards, or FILE.h5:/DATASET
    #[arg(value_name = "IMAGES", default_value = "data")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    inputs: InputArgs,
    /// The model, by its name in models/; may be left out where there is only one
    #[arg(short, long, value_name = "NAME")]
    model: Option<String>,
    /// The layer, or several with commas between them (`cnncodes layers` lists them) [default: the
    /// model's own, or else the penultimate]
    #[arg(short, long = "layer", value_name = "LAYER", value_delimiter = ',')]
    layers: Vec<String>,
    /// How maps become codes: none (whole), flatten, avg, max, gem, or the means of a grid such as 2x2
    #[arg(long, value_name = "POOLING", default_value_t = Pooling::None)]
    pool: Pooling,
    /// The file to write [default: features/MODEL-LAYER.h5]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Do not take the folders' names as labels
    #[arg(long)]
    no_labels: bool,
    /// Images a forward run
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Refuse images of more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    max_pixels: u64,
    /// Take the pixels as they are stored, whatever orientation EXIF says
    #[arg(long)]
    ignore_orientation: bool,
    /// Stop at the first image that cannot be read
    #[arg(long)]
    strict: bool,
    /// Start anew instead of going on from an interrupted run
    #[arg(long)]
    fresh: bool,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let mut samples = args.inputs.open(&args.images)?;
    if args.no_labels {
        samples.class_names.clear();
        samples.samples.forget_labels();
    }
    let model = models.find(args.model.as_deref())?;
    let graph = model.open()?;
    let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
    let layers = wanted_layers(args, &model, &catalogue)?;
    let output = args.output.clone().unwrap_or_else(|| default_output(&model, &layers, args.pool));
    let preprocess = model.manifest.preprocess.with(&PreprocessOverrides {
        exif_orientation: args.ignore_orientation.then_some(false),
        ..Default::default()
    })?;
    let mut backbone = Backbone::open(&graph, &layers, preprocess.size(), &args.compute.settings())?;
    warn_of_fallback(&backbone);
    backbone.set_pooling(args.pool);
    let header = header(&model, &backbone, &preprocess, &samples)?;

    let bar = show::progress_bar("extracting");
    let result = extract::extract(
        &samples,
        &mut backbone,
        &preprocess,
        &header,
        &output,
        &ExtractSettings {
            batch_size: usize::from(args.batch_size),
            decode: DecodeOptions {
                apply_orientation: preprocess.exif_orientation(),
                max_pixels: args.max_pixels,
            },
            threads: args.compute.threads(),
            strict: args.strict,
            fresh: args.fresh,
        },
        |progress| {
            if bar.length() != Some(progress.total as u64) {
                bar.set_length(progress.total as u64);
                // What an interrupted run had done does not count towards the rate.
                bar.set_position(progress.done as u64);
                bar.reset_eta();
            }
            bar.set_position(progress.done as u64);
        },
    );
    bar.finish_and_clear();
    let summary = result?;
    summary.notes.iter().for_each(|note| show::warning(note));
    show::problems(&summary.problems, 20);
    println!(
        "{}: {} of {}, {} of {}, {} skipped{}, in {} on {}",
        summary.path.display(),
        show::count(summary.rows, "image"),
        show::count_of(samples.class_names.len(), "class", "classes"),
        describe(backbone.taps()),
        model.name,
        summary.problems.len(),
        if summary.resumed > 0 {
            format!(", {} kept from an interrupted run", summary.resumed)
        } else {
            String::new()
        },
        show::duration(summary.elapsed),
        match backbone.precision() {
            Precision::Fp32 => backbone.device().to_string(),
            precision => format!("{} in {precision}", backbone.device()),
        },
    );
    Ok(if summary.problems.is_empty() { Status::Done } else { Status::Skipped })
}

/// The layers that the user or else the manifest names, or else the penultimate; none twice.
fn wanted_layers(args: &Args, model: &Model, catalogue: &Catalogue) -> anyhow::Result<Vec<Layer>> {
    let default = [model.manifest.layer.clone().unwrap_or_else(|| PENULTIMATE.to_owned())];
    let names = if args.layers.is_empty() { &default[..] } else { &args.layers };
    let mut layers: Vec<Layer> = Vec::with_capacity(names.len());
    for name in names {
        let layer = catalogue.find(&model.name, name)?;
        if let Some(twice) = layers.iter().find(|other| other.tensor == layer.tensor) {
            bail!("the layer {} is named twice, the second time as {name}; name it once", twice.name);
        }
        layers.push(layer.clone());
    }
    Ok(layers)
}

/// `features/MODEL-LAYER.h5`, with what file systems dislike in a layer's name replaced; `LAYER+LAYER` for several, and
/// the pooling where there is one.
fn default_output(model: &Model, layers: &[Layer], pooling: Pooling) -> PathBuf {
    let safe = |layer: &Layer| -> String {
        let name = layer.name.trim_start_matches('/').chars();
        name.map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).collect()
    };
    let layers = layers.iter().map(safe).collect::<Vec<_>>().join("+");
    let pooling = if pooling == Pooling::None { String::new() } else { format!("-{pooling}") };
    Path::new("features").join(format!("{}-{layers}{pooling}.h5", model.name))
}

/// `4096 codes of fc7`, for every layer.
fn describe(taps: &[Tap]) -> String {
    let each = |tap: &Tap| match tap.pooling {
        Pooling::None => format!("{} codes of {}", tap.width(), tap.layer.name),
        pooling => format!("{} codes of {} ({pooling})", tap.width(), tap.layer.name),
    };
    taps.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// What the file of codes says of where they come from.
fn header(
    model: &Model,
    backbone: &Backbone,
    preprocess: &Preprocess,
    samples: &SampleSet,
) -> anyhow::Result<Header> {
    Ok(Header {
        model_name: model.name.clone(),
        model_sha256: model.manifest.sha256.clone(),
        preprocess_json: serde_json::to_string(preprocess)
            .context("the preprocessing cannot be written as JSON")?,
        source: samples.source.clone(),
        class_names: samples.class_names.clone(),
        layers: backbone
            .taps()
            .iter()
            .map(|tap| LayerSpec {
                name: tap.layer.name.clone(),
                tensor: tap.layer.tensor.clone(),
                shape: tap.shape.clone(),
                pooling: tap.pooling.to_string(),
            })
            .collect(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime: format!("ONNX Runtime {}", backbone.runtime_version()),
        device: backbone.device().to_string(),
        precision: backbone.precision().to_string(),
    })
}
