//! `cnncodes fit-head`: a linear classifier on a file of codes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args as _, FromArgMatches};

use super::choose::{self, Kind};
use super::labelled::{CopyArgs, Labelled};
use super::memory::Memory;
use super::report::{Fitting, ReportArgs};
use super::show::Listing;
use super::splits::{self, Divided, SplitSource};
use super::{Status, interrupt, show};
use crate::backbone::ModelsFolder;
use crate::codes::CodesFile;
use crate::evaluate::{Duplicates, Evaluation, Note, TestSet};
use crate::head::{
    CalibrationMethod, ClassWeights, FileRows, FitSettings, FittedHead, Head, HeadError, HeadKind, HeadModel,
    HeadProvenance, Novelty, StreamedData, Tuning, fingerprint, fit_head, fit_head_streamed,
};

/// Fit a linear SVM or logistic regression to codes, and say how good it is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Accuracy is measured by cross-validation: every image is classified by a head that was fitted without it, and \
copies of an image (byte-identical files, and images of nearly the same code) never stand on both sides of a split; \
where that changes the accuracy, both figures are told. The head that is written is fitted to all images; its \
probabilities are calibrated on the cross-validation's scores. It also holds what `classify --coverage` and the answer \
\"unknown\" need.

Examples:
  cnncodes fit-head --svm                        on the only file in features/
  cnncodes fit-head --logistic features/vgg16-fc7.h5 -o models/pets.head.h5
  cnncodes fit-head --svm --c 0.1 --folds 10 --seed 7
  cnncodes fit-head --logistic --l2-normalize --pca 128
  cnncodes fit-head --svm --class-weight balanced
  cnncodes fit-head --logistic --split           on codes of train/CLASS, val/CLASS and test/CLASS
  cnncodes fit-head --logistic --list-duplicates
  cnncodes fit-head --svm --calibration isotonic --groups scenes.csv
  cnncodes fit-head --svm --max-memory 2GiB      on codes of any size
  cnncodes fit-head --svm --report report.html   and look at it in a browser")]
pub struct Args {
    #[command(flatten)]
    kind: KindArgs,
    /// The file of codes; may be left out where features/ holds only one
    #[arg(value_name = "FEATURES")]
    features: Option<PathBuf>,
    /// The file to write [default: MODELS/FEATURES-KIND.head.h5]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The layer, where the file holds several [default: the first]
    #[arg(short, long, value_name = "LAYER")]
    layer: Option<String>,
    /// Weight of the losses against the regularisation; `auto`, or several numbers with commas, to have it chosen by
    /// cross-validation within the training images [default: 0.01 for the SVM, 1 for logistic regression]
    #[arg(long, value_name = "C")]
    c: Option<Cost>,
    /// How much a mistake on each class counts: `uniform`, `balanced` (every class the same, however many images it has),
    /// or CLASS=WEIGHT with commas, where classes that are not named count 1 [default: uniform]
    #[arg(long, value_name = "WEIGHTS")]
    class_weight: Option<Weighting>,
    /// Folds of the cross-validation
    #[arg(long, value_name = "N", default_value_t = 5)]
    folds: usize,
    /// Seed of the folds
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    preparation: PreparationArgs,
    /// How scores become probabilities [default: platt for the SVM, temperature for logistic regression]
    #[arg(long, value_enum, value_name = "METHOD")]
    calibration: Option<CalibrationChoice>,
    /// Memory to keep within, such as 2GiB or 500MB; codes that take more are streamed from their file, pass after pass
    /// [default: half of the machine's memory]
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<Memory>,
    /// Fit to the training images and test on the test images: by folders train/CLASS, val/CLASS and test/CLASS, or by a
    /// CSV file with the columns path,split. Validation images are fitted to as well
    #[arg(long, value_name = "FILE.csv", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    split: Option<SplitSource>,
    #[command(flatten)]
    copies: CopyArgs,
    /// Name the images that were taken for copies of one another (JSON always does)
    #[arg(long)]
    list_duplicates: bool,
    #[command(flatten)]
    report: ReportArgs,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Listing,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CalibrationChoice {
    /// A sigmoid a class; sound for few images
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

/// A head that was fitted and written.
pub(super) struct Written {
    head: Head,
    path: PathBuf,
    kind: &'static str,
    /// What the reader should know beside the evaluation's own notes.
    notes: Vec<String>,
    report: Option<PathBuf>,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let written = fit(args, models)?;
    match args.format {
        Listing::Json => println!("{}", serde_json::to_string_pretty(&written.head.evaluation)?),
        Listing::Text => written.print(args),
    }
    written.notes.iter().for_each(|note| show::warning(note));
    Ok(Status::Done)
}

impl Args {
    /// The arguments as the command line would give them.
    pub(super) fn parse(arguments: &[String]) -> Result<Args, clap::Error> {
        let command = Args::augment_args(clap::Command::new("fit-head").no_binary_name(true));
        Args::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

impl Written {
    /// The evaluation, the copies, and where the head is.
    pub(super) fn print(&self, args: &Args) {
        let Head { evaluation, provenance, model, .. } = &self.head;
        show::report(&evaluation.to_text());
        println!();
        print_duplicates(evaluation, args.list_duplicates);
        println!(
            "{}: {} head of {} on {} codes of {} ({})",
            self.path.display(),
            self.kind,
            show::count_of(model.class_names.len(), "class", "classes"),
            model.columns(),
            provenance.layer,
            provenance.model_name,
        );
        if let Some(report) = &self.report {
            println!("{}: report", report.display());
        }
    }
}

/// Fits and writes the head that the arguments ask for.
pub(super) fn fit(args: &Args, models: &ModelsFolder) -> anyhow::Result<Written> {
    let (kind, kind_name) = match &args.kind {
        KindArgs { svm: true, .. } => (HeadKind::Svm, "svm"),
        KindArgs { ridge: true, .. } => (HeadKind::Ridge, "ridge"),
        KindArgs { .. } => (HeadKind::Logistic, "logistic"),
    };
    let features = match &args.features {
        Some(features) => features.clone(),
        None => choose::only(
            Path::new("features"),
            &Kind {
                what: "file of codes",
                suffix: ".h5",
                remedy: "run `cnncodes extract` first",
                how: ": cnncodes fit-head --svm|--logistic FEATURES",
            },
        )?,
    };
    let report = args.report.file()?;
    let file = CodesFile::open(&features)?;
    let layer = args.layer.as_deref();
    let max_memory = args.max_memory.unwrap_or_default();
    // What cannot be streamed is refused only where the bound was asked for.
    let streamable =
        kind != HeadKind::Ridge && args.preparation.pca.is_none() && !matches!(args.c, Some(Cost::Tuned(_)));
    let streamed =
        in_memory_bytes(&file, layer)? > max_memory.bytes() && (streamable || args.max_memory.is_some());
    if streamed && args.split.is_some() {
        bail!("--split needs the codes in memory, and they take more than {max_memory}: raise --max-memory");
    }
    if let Some(report) = report
        && streamed
    {
        bail!(
            "the report {} needs the codes in memory, which take more than {max_memory}; raise --max-memory, or fit \
             without --report",
            report.display()
        );
    }
    let read = match streamed {
        true => Labelled::without_codes(&file, &features)?,
        false => Labelled::read(&file, layer, &features)?,
    };
    let Parts { labelled, copies, notes, test } = Parts::of(read, args)?;
    let settings = FitSettings {
        c: match args.c {
            Some(Cost::Fixed(c)) => Some(c),
            _ => None,
        },
        tuning: match &args.c {
            Some(Cost::Tuned(tuning)) => Some(tuning.clone()),
            _ => None,
        },
        folds: args.folds,
        seed: args.seed,
        standardize: args.preparation.standardize || !args.preparation.no_standardize,
        l2_normalize: args.preparation.l2_normalize,
        pca: args.preparation.pca,
        calibration: args.calibration.map(CalibrationMethod::from),
        class_weights: match &args.class_weight {
            Some(weighting) => weighting.of_classes(&labelled.class_names)?,
            None => ClassWeights::Uniform,
        },
        ..FitSettings::new(kind)
    };
    let output = args.output.clone().unwrap_or_else(|| default_output(models, &features, kind_name));
    if let Some(folder) = output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            anyhow::Error::new(error).context(format!("cannot make the folder {}", folder.display()))
        })?;
    }
    let apart: Vec<usize> = (0..labelled.labels.len()).collect();
    let rows = FileRows::new(&file, layer, &labelled.rows)?;
    let fit = |groups: &[usize]| {
        if streamed {
            let data = StreamedData {
                source: &rows,
                labels: &labelled.labels,
                class_names: &labelled.class_names,
                groups,
                row_names: &labelled.names,
                max_memory: max_memory.bytes(),
            };
            return fit_head_streamed(&data, &settings);
        }
        fit_head(&labelled.training_data(groups), &settings)
    };
    let busy = show::busy(format!("fitting: {} folds, then all images", args.folds));
    let mut fitted = fit(&copies.groups)?;
    if !copies.sets.is_empty() {
        fitted.evaluation.leaky_accuracy = Some(fit(&apart)?.evaluation.accuracy);
        fitted.evaluation.duplicates = copies.named(&labelled.names);
    }
    fitted.evaluation.notes.extend(notes);
    fitted.evaluation.test = test.map(|test| test.measure(&fitted.model)).transpose()?;
    if streamed {
        fitted.evaluation.notes.push(Note::info(format!(
            "the codes were streamed from their file, to keep within {max_memory} of memory (--max-memory)"
        )));
    } else {
        fitted.model.novelty = Novelty::fit(labelled.codes.view(), &copies.groups, args.seed);
    }
    drop(busy);
    let out_of_fold = fitted.out_of_fold.clone();
    let head = head(&file, args.layer.as_deref(), &features, fitted, &labelled)?;
    head.save(&output)?;
    interrupt::says("the head is written");
    if let Some(report) = report {
        let fitting = Fitting {
            file: &file,
            labelled: &labelled,
            copies: &copies,
            head: &head,
            output: Some(&output),
            out_of_fold: &out_of_fold,
            layers: None,
        };
        fitting.write(report, models)?;
    }
    Ok(Written {
        head,
        path: output,
        kind: kind_name,
        notes: labelled.notes,
        report: report.map(Path::to_owned),
    })
}

/// What a fit in memory would take: the codes as they are, the codes as the solver sees them, and a good third of their size
/// for the solver.
fn in_memory_bytes(file: &CodesFile, layer: Option<&str>) -> anyhow::Result<usize> {
    let columns = file.layer(layer)?.width().unwrap_or(1);
    Ok((file.rows() * columns).saturating_mul(4 * 5 / 2))
}

/// What a head is fitted to, and what it is tested on.
struct Parts {
    labelled: Labelled,
    copies: Duplicates,
    notes: Vec<Note>,
    test: Option<SetApart>,
}

/// Images for testing, and which of them are copies of training images.
struct SetApart {
    images: Labelled,
    straddles: Vec<bool>,
}

impl Parts {
    fn of(mut labelled: Labelled, args: &Args) -> anyhow::Result<Parts> {
        let Some(source) = &args.split else {
            labelled.notes.extend(splits::warning_of_classes(&labelled.class_names));
            let (copies, notes) = labelled.copies(&args.copies, args.folds)?;
            return Ok(Parts { labelled, copies, notes, test: None });
        };
        let Divided { whole, training, test } = splits::divide(labelled, source)?;
        let (copies, notes) = whole.copies(&args.copies, args.folds)?;
        let trained: HashSet<usize> = training.iter().map(|&row| copies.groups[row]).collect();
        let straddles = test.iter().map(|&row| trained.contains(&copies.groups[row])).collect();
        let test = SetApart { images: whole.select(&test), straddles };
        let labelled = Labelled { notes: whole.notes.clone(), ..whole.select(&training) };
        Ok(Parts { labelled, copies: copies.select(&training), notes, test: Some(test) })
    }
}

impl SetApart {
    fn measure(&self, model: &HeadModel) -> Result<TestSet, HeadError> {
        let Labelled { codes, labels, class_names, names, .. } = &self.images;
        Ok(TestSet::new(class_names, names, labels, &model.predict(codes.view())?, &self.straddles))
    }
}

/// `models/FEATURES-KIND.head.h5`.
pub(super) fn default_output(models: &ModelsFolder, features: &Path, kind: &str) -> PathBuf {
    let stem = features.file_stem().unwrap_or_default().to_string_lossy();
    models.path.join(format!("{stem}-{kind}.head.h5"))
}

/// How many images were taken for copies, and which where that was asked.
fn print_duplicates(evaluation: &Evaluation, list: bool) {
    let sets = &evaluation.duplicates;
    if sets.is_empty() {
        if list {
            println!("no copies were found\n");
        }
        return;
    }
    let images = sets.iter().map(|set| set.images.len()).sum();
    let hint = if list { ":" } else { "; --list-duplicates names them" };
    println!(
        "{} are copies of one another, in {}, and were kept on one side of each split{hint}",
        show::count(images, "image"),
        show::count(sets.len(), "set"),
    );
    if list {
        println!("cosine  images");
        for set in sets {
            println!(" {:.3}  {}", set.similarity, set.images.join("  "));
        }
    }
    println!();
}

/// The fitted head with where its codes come from.
pub(super) fn head(
    file: &CodesFile,
    layer: Option<&str>,
    path: &Path,
    fitted: FittedHead,
    labelled: &Labelled,
) -> anyhow::Result<Head> {
    let header = file.header();
    let layer = file.layer(layer)?;
    let mut trained_on: Vec<u64> = labelled.sha256.iter().filter_map(|hash| fingerprint(hash)).collect();
    trained_on.sort_unstable();
    trained_on.dedup();
    Ok(Head {
        model: fitted.model,
        provenance: HeadProvenance {
            model_name: header.model_name.clone(),
            model_sha256: header.model_sha256.clone(),
            layer: layer.name.clone(),
            tensor: layer.tensor.clone(),
            pooling: layer.pooling.clone(),
            row_shape: layer.shape.clone(),
            preprocess_json: header.preprocess_json.clone(),
            codes_file: path.display().to_string(),
            codes_rows: file.rows(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        evaluation: fitted.evaluation,
        trained_on,
    })
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
