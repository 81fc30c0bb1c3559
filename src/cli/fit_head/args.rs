//! What `fit-head` is told.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args as _, FromArgMatches};

use crate::cli::labelled::CopyArgs;
use crate::cli::memory::Memory;
use crate::cli::report::ReportArgs;
use crate::cli::show::Listing;
use crate::cli::small_classes::SmallClassArgs;
use crate::cli::splits::SplitSource;
use crate::head::{CalibrationMethod, ClassWeights, Engine, FitSettings, HeadKind, Kernel, Loss, Tuning};

/// Fit a linear SVM or logistic regression to codes, and say how good it is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Accuracy is measured by cross-validation: every image is classified by a head that was fitted without it, and \
copies of an image (byte-identical files, and images that look the same) never stand on both sides of a split, whatever \
the network and the layer; --leaky-accuracy tells what the accuracy would be if they did. The head that is written is fitted to all images; its \
probabilities are calibrated on the cross-validation's scores; with fewer than 30 different images in a class (100 for \
isotonic functions) all classes share one function, which keeps the order of their scores. It also holds what `classify --coverage` and the answer \
\"unknown\" need.

Examples:
  cnncodes fit-head --svm                        on the only file in features/
  cnncodes fit-head --logistic features/vgg16-fc7.h5 -o models/pets.head.h5
  cnncodes fit-head --svm --c 0.1 --folds 10 --seed 7
  cnncodes fit-head --logistic --l2-normalize --pca 128
  cnncodes fit-head --svm --class-weight balanced
  cnncodes fit-head --svm --kernel rbf           with a kernel, for up to 10,000 images
  cnncodes fit-head --logistic --solver linfa    with linfa-logistic in place of the program's own solver
  cnncodes fit-head --logistic --split           on codes of train/CLASS, val/CLASS and test/CLASS
  cnncodes fit-head --logistic --list-duplicates
  cnncodes fit-head --svm --min-per-class 5      without classes of fewer than 5 different images
  cnncodes fit-head --svm --calibration isotonic --groups scenes.csv
  cnncodes fit-head --svm --max-memory 2GiB      on codes of any size
  cnncodes fit-head --svm --report report.html   and look at it in a browser")]
pub struct Args {
    #[command(flatten)]
    kind: KindArgs,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Whose solver fits the SVM or logistic regression
    #[arg(long, value_enum, value_name = "SOLVER", default_value = "own")]
    solver: EngineChoice,
    /// The file of codes; may be left out where features/ holds only one
    #[arg(value_name = "FEATURES")]
    pub(super) features: Option<PathBuf>,
    /// The file to write [default: MODELS/FEATURES-KIND.head.h5]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// The layer, where the file holds several [default: the first]
    #[arg(short, long, value_name = "LAYER")]
    pub(super) layer: Option<String>,
    /// Weight of the losses against the regularisation; `auto`, or several numbers with commas, to have it chosen by
    /// cross-validation within the training images [default: 0.01 for the SVM, 1 with a kernel and for
    /// logistic regression]
    #[arg(long, value_name = "C")]
    c: Option<Cost>,
    /// How much a mistake on each class counts: `uniform`, `balanced` (every class the same, however many images it has),
    /// or CLASS=WEIGHT with commas, where classes that are not named count 1 [default: uniform]
    #[arg(long, value_name = "WEIGHTS")]
    class_weight: Option<Weighting>,
    /// Folds of the cross-validation
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) folds: usize,
    /// Seed of the folds
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    #[command(flatten)]
    preparation: PreparationArgs,
    /// How scores become probabilities [default: platt for the SVM and ridge regression, temperature for logistic
    /// regression]
    #[arg(long, value_enum, value_name = "METHOD")]
    calibration: Option<CalibrationChoice>,
    /// Memory to keep within, such as 2GiB or 500MB; codes that take more are streamed from their file, pass after pass
    /// [default: half of the machine's memory]
    #[arg(long, value_name = "SIZE")]
    pub(super) max_memory: Option<Memory>,
    /// Fit to the training images and test on the test images: by folders train/CLASS, val/CLASS and test/CLASS, or by a
    /// CSV file with the columns path,split. Validation images are fitted to as well
    #[arg(long, value_name = "FILE.csv", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) split: Option<SplitSource>,
    #[command(flatten)]
    pub(super) small_classes: SmallClassArgs,
    #[command(flatten)]
    pub(super) copies: CopyArgs,
    /// Name the images that were taken for copies of one another (JSON always does)
    #[arg(long)]
    pub(super) list_duplicates: bool,
    /// Measure as well how good the head would look with copies on both sides of the splits: a second cross-validation
    #[arg(long)]
    pub(super) leaky_accuracy: bool,
    #[command(flatten)]
    pub(super) report: ReportArgs,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Listing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum EngineChoice {
    /// The program's own: any number of images, class weights, kernels, streaming
    Own,
    /// linfa-svm (the plain hinge, up to 4,000 images) or linfa-logistic (standardised codes); no class weights, no kernels,
    /// no streaming
    Linfa,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CalibrationChoice {
    /// A sigmoid a class; with fewer than 30 images in a class one for all
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

/// What is done to the codes first, in this order.
#[derive(Debug, clap::Args)]
struct PreparationArgs {
    /// Divide each image's codes by their Euclidean length first
    #[arg(long)]
    l2_normalize: bool,
    /// Bring each code to mean 0 and deviation 1 over the training images (the default)
    #[arg(long, overrides_with = "no_standardize")]
    standardize: bool,
    /// Do not
    #[arg(long)]
    no_standardize: bool,
    /// Then keep only the first K principal components
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
    /// Fit ridge regression on targets of ±1, whose penalty is chosen by exact leave-one-out
    #[arg(long)]
    ridge: bool,
}

/// What an SVM takes for the likeness of two images.
#[derive(Debug, clap::Args)]
struct KernelArgs {
    /// Fit the SVM with a kernel, to up to 10,000 images: rbf, exp(-gamma |x - y|²), or poly, (gamma x·y + coef0)^degree
    /// [default: a linear SVM]
    #[arg(long, value_enum, value_name = "KERNEL")]
    kernel: Option<KernelChoice>,
    /// [default: 1 / (codes of an image · variance of all codes), scikit-learn's `scale`]
    #[arg(long, value_name = "GAMMA", requires = "kernel")]
    gamma: Option<f64>,
    /// Degree of the polynomial, 1 to 10 [default: 3]
    #[arg(long, value_name = "N", requires = "kernel")]
    degree: Option<u32>,
    /// What is added before the polynomial's power [default: 1]
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

impl KernelArgs {
    fn kernel(&self, kind: HeadKind) -> anyhow::Result<Kernel> {
        let Some(choice) = self.kernel else { return Ok(Kernel::Linear) };
        if kind != HeadKind::Svm {
            bail!("--kernel is for the SVM: use it with --svm");
        }
        match choice {
            KernelChoice::Rbf if self.degree.is_some() || self.coef0.is_some() => {
                bail!("--degree and --coef0 are for --kernel poly; --kernel rbf takes --gamma alone")
            }
            KernelChoice::Rbf => Ok(Kernel::Rbf { gamma: self.gamma }),
            KernelChoice::Poly => Ok(Kernel::Poly {
                gamma: self.gamma,
                degree: self.degree.unwrap_or(3),
                constant: self.coef0.unwrap_or(1.0),
            }),
        }
    }
}

/// The argument of `--c`.
#[derive(Debug, Clone, PartialEq)]
enum Cost {
    Fixed(f64),
    Tuned(Tuning),
}

impl std::str::FromStr for Cost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Tuned(Tuning::auto()));
        }
        let number = |part: &str| part.trim().parse::<f64>().map_err(|error| format!("`{part}`: {error}"));
        match text.split(',').map(number).collect::<Result<Vec<_>, _>>()?[..] {
            [only] => Ok(Self::Fixed(only)),
            ref grid => Ok(Self::Tuned(Tuning::new(grid.to_vec()))),
        }
    }
}

/// The argument of `--class-weight`.
#[derive(Debug, Clone, PartialEq)]
enum Weighting {
    Uniform,
    Balanced,
    Given(Vec<(String, f64)>),
}

impl std::str::FromStr for Weighting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let weight = |part: &str| {
            let (class, weight) = part
                .rsplit_once('=')
                .ok_or_else(|| format!("`{part}` is no CLASS=WEIGHT, such as cats=2"))?;
            match weight.trim().parse::<f64>() {
                Ok(weight) if weight.is_finite() && weight > 0.0 => Ok((class.trim().to_owned(), weight)),
                _ => Err(format!("the weight of `{class}` is `{weight}`, but must be a number above 0")),
            }
        };
        match text {
            "uniform" => Ok(Self::Uniform),
            "balanced" => Ok(Self::Balanced),
            given => given.split(',').map(weight).collect::<Result<_, _>>().map(Self::Given),
        }
    }
}

impl Weighting {
    fn of_classes(&self, class_names: &[String]) -> anyhow::Result<ClassWeights> {
        let Self::Given(given) = self else {
            return Ok(if *self == Self::Balanced { ClassWeights::Balanced } else { ClassWeights::Uniform });
        };
        let mut weights = vec![1.0; class_names.len()];
        for (class, weight) in given {
            let Some(index) = class_names.iter().position(|name| name == class) else {
                bail!(
                    "--class-weight names the class `{class}`, but the classes are {}",
                    class_names.join(", ")
                );
            };
            weights[index] = *weight;
        }
        Ok(ClassWeights::Given(weights))
    }
}

impl Args {
    /// The arguments as the command line would give them.
    pub(in crate::cli) fn parse(arguments: &[String]) -> Result<Args, clap::Error> {
        let command = Args::augment_args(clap::Command::new("fit-head").no_binary_name(true));
        Args::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    /// Which head, and what its file is named after.
    pub(super) fn kind(&self) -> (HeadKind, &'static str) {
        match &self.kind {
            KindArgs { svm: true, .. } if self.solver == EngineChoice::Linfa => (HeadKind::Svm, "svm-linfa"),
            KindArgs { logistic: true, .. } if self.solver == EngineChoice::Linfa => {
                (HeadKind::Logistic, "logistic-linfa")
            }
            KindArgs { svm: true, .. } => match self.kernel.kernel {
                None => (HeadKind::Svm, "svm"),
                Some(KernelChoice::Rbf) => (HeadKind::Svm, "svm-rbf"),
                Some(KernelChoice::Poly) => (HeadKind::Svm, "svm-poly"),
            },
            KindArgs { ridge: true, .. } => (HeadKind::Ridge, "ridge"),
            KindArgs { .. } => (HeadKind::Logistic, "logistic"),
        }
    }

    /// Whether such a head can be fitted to codes that stay in their file.
    pub(super) fn is_streamable(&self) -> bool {
        let weighted_ridge =
            self.kind.ridge && self.class_weight.as_ref().is_some_and(|w| *w != Weighting::Uniform);
        self.kernel.kernel.is_none()
            && self.solver == EngineChoice::Own
            && self.preparation.pca.is_none()
            && !matches!(self.c, Some(Cost::Tuned(_)))
            && !weighted_ridge
    }

    /// How the head is to be fitted to images of these classes.
    pub(super) fn settings(&self, class_names: &[String]) -> anyhow::Result<FitSettings> {
        let (kind, _) = self.kind();
        let kernel = self.kernel.kernel(kind)?;
        let plain = FitSettings::new(kind);
        Ok(FitSettings {
            c: match self.c {
                Some(Cost::Fixed(c)) => Some(c),
                _ => None,
            },
            tuning: match &self.c {
                Some(Cost::Tuned(tuning)) => Some(tuning.clone()),
                _ => None,
            },
            kernel,
            solver: match self.solver {
                EngineChoice::Own => Engine::Own,
                EngineChoice::Linfa => Engine::Linfa,
            },
            loss: match kind {
                HeadKind::Svm if kernel != Kernel::Linear || self.solver == EngineChoice::Linfa => {
                    Loss::Hinge
                }
                _ => plain.loss,
            },
            folds: self.folds,
            seed: self.seed,
            standardize: self.preparation.standardize || !self.preparation.no_standardize,
            l2_normalize: self.preparation.l2_normalize,
            pca: self.preparation.pca,
            calibration: self.calibration.map(CalibrationMethod::from),
            class_weights: match &self.class_weight {
                Some(weighting) => weighting.of_classes(class_names)?,
                None => ClassWeights::Uniform,
            },
            ..plain
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_is_a_number_several_numbers_or_auto() {
        assert_eq!("0.1".parse(), Ok(Cost::Fixed(0.1)));
        assert_eq!("auto".parse(), Ok(Cost::Tuned(Tuning::auto())));
        assert_eq!("0.01, 1".parse(), Ok(Cost::Tuned(Tuning::new(vec![0.01, 1.0]))));
        assert!("0.01,much".parse::<Cost>().unwrap_err().contains("`much`"));
    }

    #[test]
    fn weights_are_of_named_classes() {
        let names = ["cats", "dogs", "a=b"].map(String::from);
        let weights = |text: &str| text.parse::<Weighting>().unwrap().of_classes(&names);
        assert_eq!(weights("balanced").unwrap(), ClassWeights::Balanced);
        assert_eq!(weights("uniform").unwrap(), ClassWeights::Uniform);
        assert_eq!(weights("dogs=2.5, a=b=3").unwrap(), ClassWeights::Given(vec![1.0, 2.5, 3.0]));
        let unknown = weights("cat=2").unwrap_err().to_string();
        assert!(unknown.contains("`cat`") && unknown.contains("cats, dogs, a=b"), "{unknown}");
        assert!("cats".parse::<Weighting>().unwrap_err().contains("CLASS=WEIGHT"));
        for bad in ["cats=0", "cats=-1", "cats=much", "cats=inf"] {
            assert!(bad.parse::<Weighting>().unwrap_err().contains("above 0"), "{bad}");
        }
    }
}
