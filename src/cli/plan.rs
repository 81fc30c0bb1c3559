//! `cnncodes plan`: a frozen list of images and layers that many machines can work on.

use std::num::NonZero;
use std::path::PathBuf;

use super::compute_args::ComputeArgs;
use super::input_args::InputArgs;
use super::layer_args::{LayerArgs, NamedLayers};
use super::{Status, show};
use crate::extract::{ExtractRequest, ExtractSettings};
use crate::features::StoredLayer;
use crate::network::ModelsFolder;
use crate::plan::{Created, PlanRequest, ROWS_PER_PART};

/// Plan an extraction that many machines do together
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plan is a folder that all machines see: plan.json (layers, preprocessing, the network's hash), manifest.jsonl.gz (a line \
for each image, sorted by name) and parts/. Each part has the same number of rows, whatever the number of machines. Workers \
(`cnncodes extract --plan PLAN --shard i/n`) write parts, each complete or not at all; they can be stopped, repeated and run \
twice at once. `cnncodes merge PLAN` makes one features file of the parts, the same that one machine would have written.

Images are what `cnncodes extract` takes. An image that changes after the plan was made is not mixed in: it is recorded as \
unreadable. What counts is the size and the time of its file; with --hash it is the content, so that images may be copied.

docs/scale.md has Slurm, Kubernetes, Ray, Spark, and what happens when something fails.

Examples:
  cnncodes plan photos/ --model resnet50 --layer avg_pool -o run1
  cnncodes plan 'shards/train-{000..999}.tar' --layer fc7 -o run1
  cnncodes extract --plan run1 --shard 0/8        on the first of eight machines
  cnncodes extract --status run1
  cnncodes merge run1 -o features/photos.h5")]
pub struct Args {
    /// Images: a folder, a CSV file, - for a list on standard input, tar shards, FILE.h5:/DATASET, or an address such as
    /// s3://BUCKET/PREFIX/
    #[arg(value_name = "IMAGES", default_value = "data")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    layers: LayerArgs,
    /// Folder of the plan, or an address such as s3://BUCKET/PREFIX
    #[arg(short, long, value_name = "PLAN")]
    output: PathBuf,
    /// Rows of a part
    #[arg(long, value_name = "N", default_value_t = NonZero::new(ROWS_PER_PART).unwrap_or(NonZero::<u64>::MIN))]
    rows_per_part: NonZero<u64>,
    /// Read every image, and let its content say whether it changed, not the time of its file
    #[arg(long)]
    hash: bool,
    /// Ignore labels, from folder names and from columns
    #[arg(long)]
    no_labels: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let samples = args.inputs.list(&args.images, args.no_labels)?;
    samples.notes.iter().for_each(|note| show::warning(note));
    show::passed_over(&samples.passed_over);
    let session = args.compute.settings();
    let NamedLayers { graph, layers, .. } = args.layers.find(models, session.precision)?;
    let settings = ExtractSettings { max_pixels: args.layers.max_pixels, ..ExtractSettings::default() };
    let request = ExtractRequest {
        samples: &samples,
        graph: &graph,
        layers: &layers,
        session: &session,
        output: &args.output,
        settings: &settings,
    };
    let stored = request.new_layers()?;
    let bar = show::progress_of("planning", "images");
    bar.set_length(samples.samples.len() as u64);
    let plan = PlanRequest {
        samples: &samples,
        layers: &stored,
        max_pixels: args.layers.max_pixels,
        rows_per_part: args.rows_per_part.get(),
        hash: args.hash,
    };
    let created = plan.write(&args.output, &mut |done| bar.set_position(done));
    bar.finish_and_clear();
    let Created { plan, up_to_date, problems } = created?;
    show::problems(&problems, 20);
    let width: usize = stored.iter().filter_map(StoredLayer::width).sum();
    let bytes = plan.images().saturating_mul((width * size_of::<f32>()) as u64);
    println!(
        "{}: {}{} images of {}, {} of {} rows, {} features each ({}); id {}",
        args.output.display(),
        if up_to_date { "up to date, " } else { "" },
        plan.images(),
        show::count_of(plan.class_names().len(), "class", "classes"),
        show::count(usize::try_from(plan.parts()).unwrap_or(usize::MAX), "part"),
        plan.rows_per_part(),
        width,
        indicatif::DecimalBytes(bytes),
        &plan.id()[..12],
    );
    Ok(if problems.is_empty() { Status::Done } else { Status::Skipped })
}
