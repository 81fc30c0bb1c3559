//! What `fit-head` is told.

use std::path::PathBuf;

use crate::cli::report::ReportArgs;
use crate::cli::show::ReportFormat;
use crate::cli::training_args::{DuplicateArgs, SmallClassArgs};
use crate::head::{CalibrationMethod, Engine, HeadKind};
use crate::memory::MemoryLimit;
use crate::training::{ClassWeighting, Cost, HeadOptions, KernelFamily, SplitSource, TrainingSettings};

/// Fit a linear SVM, logistic regression or ridge regression to features, and measure how good it is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Cross-validation measures the accuracy: a head that was fitted without an image classifies it. Duplicates \
(byte-identical files, and images that look the same) are never on both sides of a split, whatever the network and \
the layer; --leaky-accuracy reports the accuracy if they were. The head that is written is fitted to all images. Its \
probabilities are calibrated on the cross-validation's scores; with fewer than 30 different images in a class (100 \
for isotonic functions) all classes share one function, which keeps the order of their scores. The head also holds \
what `classify --coverage` and the answer \"unknown\" need.

Examples:
  cnncodes fit-head --svm                        on the only file in features/
  cnncodes fit-head --logistic features/vgg16-fc7.h5 -o models/pets.head.h5
  cnncodes fit-head --svm --c 0.1 --folds 10 --seed 7
  cnncodes fit-head --logistic --l2-normalize --pca 128
  cnncodes fit-head --svm --class-weight balanced
  cnncodes fit-head --svm --kernel rbf           with a kernel, for up to 10,000 images
  cnncodes fit-head --logistic --solver linfa    with linfa-logistic instead of the program's own solver
  cnncodes fit-head --logistic --split           on features of train/CLASS, val/CLASS and test/CLASS
  cnncodes fit-head --logistic --list-duplicates
  cnncodes fit-head --svm --min-per-class 5      without classes of fewer than 5 different images
  cnncodes fit-head --svm --calibration isotonic --groups scenes.csv
  cnncodes fit-head --svm --max-memory 2GiB      on features of any size
  cnncodes fit-head --svm --report report.html   and look at it in a browser")]
pub struct Args {
    #[command(flatten)]
    kind: KindArgs,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Solver of the SVM or logistic regression
    #[arg(long, value_enum, value_name = "SOLVER", default_value = "own")]
    solver: EngineChoice,
    /// Features file [default: the only one in features/]
    #[arg(value_name = "FEATURES")]
    pub(super) features: Option<PathBuf>,
    /// Output file [default: MODELS/FEATURES-KIND.head.h5]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Layer, if the file holds several [default: the first]
    #[arg(short, long, value_name = "LAYER")]
    pub(super) layer: Option<String>,
    /// Weight of the losses against the regularisation. `auto`, or several numbers separated by commas: chosen by
    /// cross-validation within the training images [default: 0.01 for the SVM, 1 with a kernel and for logistic
    /// regression]
    #[arg(long, value_name = "C")]
    c: Option<Cost>,
    /// Weight of mistakes on each class: `uniform`, `balanced` (every class counts the same, however many images it
    /// has), or CLASS=WEIGHT separated by commas, where other classes count 1 [default: uniform]
    #[arg(long, value_name = "WEIGHTS")]
    class_weight: Option<ClassWeighting>,
    /// Folds of the cross-validation
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) folds: usize,
    /// Random seed of the folds
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    #[command(flatten)]
    preparation: PreparationArgs,
    /// Calibration of scores to probabilities [default: platt for the SVM and ridge regression, temperature for
    /// logistic regression]
    #[arg(long, value_enum, value_name = "METHOD")]
    calibration: Option<CalibrationChoice>,
    /// Memory limit, such as 2GiB or 500MB. Features that take more are streamed from their file, pass after pass
    /// [default: half of the machine's memory]
    #[arg(long, value_name = "SIZE")]
    pub(super) max_memory: Option<MemoryLimit>,
    /// Fit to the training and validation images and test on the test images: by folders train/CLASS, val/CLASS and
    /// test/CLASS, or by a CSV file with the columns path,split
    #[arg(long, value_name = "FILE.csv", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) split: Option<SplitSource>,
    #[command(flatten)]
    pub(super) small_classes: SmallClassArgs,
    #[command(flatten)]
    pub(super) duplicates: DuplicateArgs,
    /// List the duplicates (JSON always does)
    #[arg(long)]
    pub(super) list_duplicates: bool,
    /// Also measure how good the head would look with duplicates on both sides of the splits, by a second
    /// cross-validation
    #[arg(long)]
    pub(super) leaky_accuracy: bool,
    #[command(flatten)]
    pub(super) report: ReportArgs,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum EngineChoice {
    /// The program's own: any number of images, class weights, kernels, streaming
    Own,
    /// linfa-svm (the plain hinge, up to 4,000 images) or linfa-logistic (standardised features); no class weights, no kernels,
    /// no streaming
    Linfa,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CalibrationChoice {
    /// One sigmoid for each class; with fewer than 30 images in a class one for all
    Platt,
    /// A function a class that never falls; follows any shape, wants some hundreds of images a class
    Isotonic,
    /// Softmax of the scores divided by one number
    Temperature,
}

impl From<CalibrationChoice> for CalibrationMethod {
    fn from(choice: CalibrationChoice) -> Self {
        match choice {
            CalibrationChoice::Platt => Self::Platt,
            CalibrationChoice::Isotonic => Self::Isotonic,
            CalibrationChoice::Temperature => Self::Temperature,
        }
    }
}

/// What is done to the features first, in this order.
#[derive(Debug, clap::Args)]
struct PreparationArgs {
    /// Divide each image's features by their Euclidean length first
    #[arg(long)]
    l2_normalize: bool,
    /// Standardise each feature to mean 0 and deviation 1 over the training images (the default)
    #[arg(long, overrides_with = "no_standardize")]
    standardize: bool,
    /// Do not standardise the features
    #[arg(long)]
    no_standardize: bool,
    /// Keep only the first K principal components (after standardising)
    #[arg(long, value_name = "K")]
    pca: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct KindArgs {
    /// Fit a linear support vector machine, one class against the rest
    #[arg(long)]
    svm: bool,
    /// Fit multinomial logistic regression
    #[arg(long)]
    logistic: bool,
    /// Fit ridge regression on targets of ±1, with the penalty chosen by exact leave-one-out
    #[arg(long)]
    ridge: bool,
}

/// What an SVM takes for the likeness of two images.
#[derive(Debug, clap::Args)]
struct KernelArgs {
    /// Kernel of the SVM, for up to 10,000 images: rbf, exp(-gamma |x - y|²), or poly, (gamma x·y + coef0)^degree
    /// [default: a linear SVM]
    #[arg(long, value_enum, value_name = "KERNEL")]
    kernel: Option<KernelChoice>,
    /// Parameter gamma of the kernel [default: 1 / (number of features · variance of all features), scikit-learn's `scale`]
    #[arg(long, value_name = "GAMMA", requires = "kernel")]
    gamma: Option<f64>,
    /// Degree of the polynomial, 1 to 10 [default: 3]
    #[arg(long, value_name = "N", requires = "kernel")]
    degree: Option<u32>,
    /// Constant that is added before the polynomial's power [default: 1]
    #[arg(long, value_name = "NUMBER", requires = "kernel")]
    coef0: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KernelChoice {
    /// Radial basis functions
    Rbf,
    /// A polynomial
    Poly,
}

impl Args {
    fn kind(&self) -> HeadKind {
        match self.kind {
            KindArgs { svm: true, .. } => HeadKind::Svm,
            KindArgs { ridge: true, .. } => HeadKind::Ridge,
            KindArgs { .. } => HeadKind::Logistic,
        }
    }

    /// What is to be done, once the arguments are known to hold together.
    pub(super) fn settings(&self) -> anyhow::Result<TrainingSettings> {
        Ok(TrainingSettings {
            layer: self.layer.clone(),
            class_weighting: self.class_weight.clone().unwrap_or_default(),
            duplicates: self.duplicates.settings(),
            small_classes: self.small_classes.policy(),
            split: self.split.clone(),
            max_memory: self.max_memory,
            leaky_accuracy: self.leaky_accuracy,
            ..TrainingSettings::new(self.options().fit_settings()?)
        })
    }

    fn options(&self) -> HeadOptions {
        let KernelArgs { kernel, gamma, degree, coef0 } = self.kernel;
        HeadOptions {
            kind: self.kind(),
            kernel: kernel.map(|kernel| match kernel {
                KernelChoice::Rbf => KernelFamily::Rbf,
                KernelChoice::Poly => KernelFamily::Poly,
            }),
            gamma,
            degree,
            coef0,
            solver: match self.solver {
                EngineChoice::Own => Engine::Own,
                EngineChoice::Linfa => Engine::Linfa,
            },
            cost: self.c.clone(),
            folds: self.folds,
            seed: self.seed,
            standardize: self.preparation.standardize || !self.preparation.no_standardize,
            l2_normalize: self.preparation.l2_normalize,
            pca: self.preparation.pca,
            calibration: self.calibration.map(CalibrationMethod::from),
        }
    }
}
