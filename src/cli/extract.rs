//! `cnncodes extract`: features of a folder of images.

mod log;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use super::Status;
use super::compute_args::{BatchSize, ComputeArgs};
use super::input_args::InputArgs;
use super::layer_args::{LayerArgs, NamedLayers};
use crate::extract::{ExtractError, ExtractRequest, ExtractSettings, extract, features_file_name};
use crate::network::{ModelsFolder, Pooling};
use log::{Log, LogFormat};
use work::WorkArgs;

/// Write the features (a layer's activations, "CNN features") of every image of a folder to an HDF5 file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
IMAGES is one of these:
  a folder        with one folder for each class (data/cats/1.jpg, data/dogs/1.jpg …), or of images without classes
  a CSV file      with the columns path,label, or other usual names; --path-column and --label-column name others
  -               a list on standard input: one path on each line, or the lines of such a CSV file
  tar shards      *.tar in the form of WebDataset: KEY.jpg with KEY.cls (a class's name or number) or KEY.json (with \
label, cls or class; --label-column names another field); several, a folder of them, or a pattern such as \
'train-{000..010}.tar'. classes.txt beside them, or --classes, names the numbers. If they hold no label, the folders \
of their images are the classes
  an HDF5 array   FILE.h5:/DATASET, uint8 of images x height x width x 3, images x 3 x height x width or images x \
height x width, reversed in MATLAB's files; --axes names any other order; --labels names the dataset of the labels
  an address      s3://BUCKET/PREFIX/ (gs://, az://) in place of a folder; the address of a CSV file or of tar shards, https:// as well; and a CSV file may list addresses (docs/object-stores.md)

JPEG, PNG, WebP, BMP, GIF (first frame), TIFF and HEIC are read, whatever their extension is. Other files below a \
folder, hidden files and system files (@eaDir, $RECYCLE.BIN …) are passed over, counted, and recorded in the file. \
The rows of the output are sorted by the images' names, so all names are listed before the first image is read. In \
memory an image takes 40 bytes and its name.

An image that cannot be read, or whose features are NaN or infinite, is listed, recorded in the file and skipped (exit \
status 1). An interrupted run (Ctrl-C, status 130; a second Ctrl-C stops at once) resumes when you run the same command \
again. If the output \
exists already, only images that are new or have changed are computed; moved images are found by their content, and \
removed ones vanish from the output.

Examples:
  cnncodes extract                  of data/, with the only model in models/
  cnncodes extract --layer fc7
  cnncodes extract photos/ --model vgg16 --layer pool5 -o features/photos-pool5.h5
  cnncodes extract --layer pool3,pool4,fc7 --pool avg
  cnncodes extract --model dinov2 --layer block9 --pool cls+mean
  cnncodes extract photos.csv --layer fc6
  find photos -name '*.jpg' -print0 | cnncodes extract -0 -
  cnncodes extract 'shards/train-{000..010}.tar'
  cnncodes extract 's3://bucket/train-{000..099}.tar' --layer fc7
  cnncodes extract cifar10.h5:/x_train --labels y_train --classes names.txt
  cnncodes extract --plan run1 --shard 0/8      the first of eight shares of a plan (`cnncodes plan`)
  cnncodes extract --status run1")]
pub struct Args {
    /// Images: a folder, a CSV file, - for a list on standard input, tar shards, FILE.h5:/DATASET, or an address such as
    /// s3://BUCKET/PREFIX/
    #[arg(value_name = "IMAGES", default_value = "data")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    layers: LayerArgs,
    /// Output file [default: features/MODEL-LAYER.h5]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Ignore labels, from folder names and from columns
    #[arg(long)]
    no_labels: bool,
    /// Batch size, or auto to suit the network, the threads and the memory (--dry-run reports it)
    #[arg(long, value_name = "N", default_value_t = BatchSize::Auto)]
    batch_size: BatchSize,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Stop at the first image that cannot be read
    #[arg(long)]
    strict: bool,
    /// Compute every image, even if an earlier or an interrupted run computed it
    #[arg(long)]
    force: bool,
    /// Read every image to see whether it changed, instead of comparing size, times and inode. Adds perceptual hashes
    /// to a file that an earlier version wrote without them
    #[arg(long)]
    rehash: bool,
    /// Report what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    work: WorkArgs,
    /// Format of the log on standard error: text, or json with one object on each line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: LogFormat,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let log = Log::new(args.log);
    match run_logged(args, models, &log) {
        Err(error) if log.is_json() => {
            log.failed(&error);
            Ok(Status::Failed)
        }
        result => result,
    }
}

impl Args {
    /// How to compute, as far as the machine is concerned.
    fn settings(&self) -> ExtractSettings {
        ExtractSettings {
            batch_size: self.batch_size.images(),
            threads: self.compute.threads(),
            ..ExtractSettings::default()
        }
    }
}

fn run_logged(args: &Args, models: &ModelsFolder, log: &Log) -> anyhow::Result<Status> {
    if let Some(plan) = &args.work.status {
        return work::status(plan, args.log);
    }
    if let Some(plan) = &args.work.plan {
        return work::run(plan, args, models, log);
    }
    let samples = args.inputs.list(&args.images, args.no_labels)?;
    log.listed(&samples);
    let session = args.compute.settings();
    let NamedLayers { model, graph, layers, unusual_pooling } =
        args.layers.find(models, session.precision)?;
    let output = args.output.clone().unwrap_or_else(|| {
        let names = layers.iter().map(|wanted| wanted.spec.layer.as_str());
        default_output(&model.name, names, unusual_pooling)
    });
    let settings = ExtractSettings {
        max_pixels: args.layers.max_pixels,
        strict: args.strict,
        force: args.force,
        rehash: args.rehash,
        ..args.settings()
    };
    let request = ExtractRequest {
        samples: &samples,
        graph: &graph,
        layers: &layers,
        session: &session,
        output: &output,
        settings: &settings,
    };
    if args.dry_run {
        let plan = request.plan()?;
        let arrangement = request.arrangement(plan.tally().computed);
        log.dry_run(&request, &plan, &request.layers_of(&plan)?, &arrangement);
        return Ok(Status::Done);
    }

    let stop = stop_on_interrupt(log)?;
    let result = extract(&request, &stop, &mut |event| log.event(&request, event));
    log.end_of_progress();
    match result {
        Ok(summary) => {
            if let Some(note) = without_image(&samples.unreadable_classes(&summary.problems)) {
                log.note_now(&note);
            }
            log.finished(&request, &summary);
            Ok(if summary.problems.is_empty() { Status::Done } else { Status::Skipped })
        }
        Err(error @ ExtractError::Interrupted { .. }) => {
            log.interrupted(&error);
            Ok(Status::Interrupted)
        }
        Err(error) => Err(error.into()),
    }
}

/// What to say of classes none of whose images could be read.
fn without_image(classes: &[&str]) -> Option<String> {
    match classes {
        [] => None,
        [only] => Some(format!("none of the images of the class {only} could be read")),
        all => Some(format!("none of the images of {} classes could be read: {}", all.len(), all.join(", "))),
    }
}

/// Becomes true with the first Ctrl-C or request to terminate; the second ends the process at once, which loses no more
/// than a crash would.
fn stop_on_interrupt(log: &Log) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, is_json) = (Arc::clone(&stop), log.is_json());
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        if !is_json {
            anstream::eprintln!("stopping after the current images; press Ctrl-C again to stop at once");
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// The file in `features/`, see [`features_file_name`].
pub(super) fn default_output<'a>(
    model: &str,
    layers: impl IntoIterator<Item = &'a str>,
    pooling: Option<Pooling>,
) -> PathBuf {
    Path::new("features").join(features_file_name(model, layers, pooling))
}
