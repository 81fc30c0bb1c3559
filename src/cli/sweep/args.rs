//! The arguments of `cnncodes sweep`.

use std::path::PathBuf;

use crate::cli::compute_args::{BatchSize, ComputeArgs};
use crate::cli::input_args::InputArgs;
use crate::cli::report::ReportArgs;
use crate::cli::show::AnswerFormat;
use crate::cli::training_args::{DuplicateArgs, SmallClassArgs};
use crate::extract::ExtractSettings;
use crate::head::HeadKind;
use crate::images::DEFAULT_MAX_PIXELS;
use crate::network::Pooling;
use crate::sweep::{LayerChoice, POOLINGS, SPREAD_LAYERS, SearchSpace, SweepSettings};

/// Folds unless others are asked for; what `fit-head` takes as well.
pub(super) const FOLDS: u16 = 5;

/// Compare layers and heads on labelled images, and recommend which to take
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One pass over the images extracts the features of several layers, from an early one to the top. Heads of every kind \
are cross-validated on each layer. C is chosen without the images that judge it, and duplicates stay on one side of \
each split. The table shows which of cs231n's scenarios the images belong to (few or many, similar to the network's \
own images or not), which layer and head are best, and which cheaper layer is as good. docs/sweep.md says how.

The features are kept in features/MODEL-sweep.h5: the same sweep does not compute them again, and an interrupted \
sweep resumes.

Examples:
  cnncodes sweep                                   of data/, with the only model in models/
  cnncodes sweep photos/ --model vgg16 --layers pool3,pool4,pool5,fc6,fc7
  cnncodes sweep --layers all --pool avg
  cnncodes sweep --model resnet50 --model vgg16    which network
  cnncodes sweep --fit                             and fit the best head at once
  cnncodes sweep --report sweep.html               the same as pictures, with the mistakes of the best head
  cnncodes sweep --format csv > sweep.csv")]
pub struct Args {
    /// Images with their classes: a folder, a CSV file, - for a list on standard input, tar shards, or
    /// FILE.h5:/DATASET, as in `extract`
    #[arg(value_name = "IMAGES", default_value = "data")]
    pub(super) images: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    /// Model, by its name in models/; give several to compare them [default: the only one]
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub(super) model: Vec<String>,
    /// Layers separated by commas, or `all` that the whole network passes through [default: 6 of these, spread over
    /// the depth and including the top]
    #[arg(short, long, value_name = "LAYERS", value_delimiter = ',')]
    pub(super) layers: Vec<String>,
    /// Poolings to try: avg, max, gem, a grid such as 2x2, flatten; for tokens of a transformer also cls and cls+mean. avg
    /// is the mean of their patches
    #[arg(long, value_name = "POOLINGS", value_delimiter = ',', default_values_t = POOLINGS)]
    pub(super) pool: Vec<Pooling>,
    /// Kinds of head to try
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',', default_values_t = [KindChoice::Svm, KindChoice::Logistic, KindChoice::Ridge])]
    pub(super) heads: Vec<KindChoice>,
    /// Number of folds of the cross-validation
    #[arg(long, value_name = "N", default_value_t = FOLDS, value_parser = clap::value_parser!(u16).range(2..))]
    pub(super) folds: u16,
    /// Random seed of the folds
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    /// Also fit a head: the best one, or the best one of the cheapest layer that is as good
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, default_missing_value = "best", require_equals = true)]
    pub(super) fit: Option<Which>,
    #[command(flatten)]
    pub(super) small_classes: SmallClassArgs,
    #[command(flatten)]
    pub(super) duplicates: DuplicateArgs,
    /// Do not measure how long the network takes up to each layer
    #[arg(long)]
    pub(super) no_timing: bool,
    /// Batch size, or auto to suit the network, the threads and the memory
    #[arg(long, value_name = "N", default_value_t = BatchSize::Auto)]
    pub(super) batch_size: BatchSize,
    #[command(flatten)]
    pub(super) compute: ComputeArgs,
    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    pub(super) max_pixels: u64,
    /// Ignore the EXIF orientation
    #[arg(long)]
    pub(super) ignore_orientation: bool,
    /// Compute the features of every image, even if an earlier or an interrupted sweep computed them
    #[arg(long)]
    pub(super) force: bool,
    /// Output format; CSV is only the table, with one line for each layer, pooling and head
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: AnswerFormat,
    #[command(flatten)]
    pub(super) report: ReportArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum KindChoice {
    /// Linear support vector machine
    Svm,
    /// Multinomial logistic regression
    Logistic,
    /// Ridge regression
    Ridge,
}

impl From<KindChoice> for HeadKind {
    fn from(choice: KindChoice) -> Self {
        match choice {
            KindChoice::Svm => Self::Svm,
            KindChoice::Logistic => Self::Logistic,
            KindChoice::Ridge => Self::Ridge,
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Which {
    /// The most accurate
    Best,
    /// The most accurate on the cheapest layer within one standard error of the best
    Cheapest,
}

impl Args {
    /// What is to be done.
    pub(super) fn settings(&self) -> SweepSettings {
        SweepSettings {
            layers: match &self.layers[..] {
                [] => LayerChoice::Spread(SPREAD_LAYERS),
                [all] if all == "all" => LayerChoice::All,
                names => LayerChoice::Named(names.to_vec()),
            },
            poolings: self.pool.clone(),
            heads: SearchSpace {
                kinds: self.heads.iter().map(|&kind| kind.into()).collect(),
                folds: usize::from(self.folds),
                seed: self.seed,
                ..SearchSpace::default()
            },
            duplicates: self.duplicates.settings(),
            small_classes: self.small_classes.policy(),
            ignore_orientation: self.ignore_orientation,
            session: self.compute.settings(),
            extract: ExtractSettings {
                batch_size: self.batch_size.images(),
                max_pixels: self.max_pixels,
                threads: self.compute.threads(),
                force: self.force,
                ..ExtractSettings::default()
            },
            timing: !self.no_timing,
            ..SweepSettings::default()
        }
    }
}
