//! Why no head can be made of a feature file.

use std::error::Error;
use std::path::PathBuf;

use crate::features::FeatureFileError;
use crate::head::{HeadError, SmallClasses};
use crate::messages::{count, count_of};

/// Why no head can be made of a feature file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum TrainingError {
    /// The feature file cannot be read.
    #[error(transparent)]
    Features(#[from] FeatureFileError),
    /// The head cannot be fitted.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Nobody said which classes the images are of.
    #[error(
        "no image in {} has a label; extract a folder with one folder for each class, or a CSV file with the columns path,label (or \
         convert features of another program with --labels)",
        path.display()
    )]
    NoLabels { path: PathBuf },
    /// A CSV file beside the features.
    #[error(
        "cannot use the {column}s in {}; its first line must be path,{column}, and every other line must name an image as the features file does", path.display()
    )]
    Column { path: PathBuf, column: &'static str, source: Box<dyn Error + Send + Sync> },
    /// Values that are not one a row.
    #[error("{found} values were given as the {column}s of the {rows} rows in {}; give one for each row", path.display())]
    RowValues { path: PathBuf, column: &'static str, rows: usize, found: usize },
    /// A kernel of a head that has none.
    #[error("--kernel is for the SVM: use it with --svm")]
    KernelOfLinearHead,
    /// A parameter that the chosen kernel has not.
    #[error("{options} are for {kernels}")]
    ParameterOfKernel { options: &'static str, kernels: &'static str },
    /// Perceptual hashes were asked for, and the file has none.
    #[error(
        "--duplicate-distance compares perceptual hashes, which the file lacks for {}: {why}; {remedy}", count(*images, "image")
    )]
    NoHashes { images: usize, why: &'static str, remedy: &'static str },
    /// A split needs the features in memory.
    #[error("--split needs the features in memory, and they take more than {limit}; raise --max-memory")]
    SplitOfStreamed { limit: String },
    /// A report needs the features in memory.
    #[error(
        "the report {} needs the features in memory, which take more than {limit}; raise --max-memory, or fit without --report", report.display()
    )]
    ReportOfStreamed { report: PathBuf, limit: String },
    /// A word that is no part of a split.
    #[error("{} gives {image} the split `{part}`, but it must be train, val or test", path.display())]
    UnknownPart { path: PathBuf, image: String, part: String },
    /// One side of a split has no image.
    #[error("--split finds no {missing} image, only {there} images; name the parts train, val and test")]
    EmptyPart { missing: &'static str, there: &'static str },
    /// A class that is tested and not trained.
    #[error("the class `{class}` has test images, such as {image}, but none to train on")]
    UntrainedClass { class: String, image: String },
    /// The folders do not say the parts of a split.
    #[error(
        "--split needs folders such as train/cats and test/cats, but there is {image}; --split=FILE.csv takes a file with \
         the columns path,split"
    )]
    NotInPartFolders { image: String },
    /// A folder's name is no name of a class.
    #[error("the folder of {image}: {reason}")]
    FolderName { image: String, reason: String },
    /// Too few classes would stay.
    #[error(
        "--min-per-class {least} leaves {kept} of {}, and a classifier needs two: {classes}; give a smaller number, or add \
         images", count_of(*of, "class", "classes")
    )]
    TooFewClasses { least: usize, kept: usize, of: usize, classes: SmallClasses },
    /// A weight of a class that is not there.
    #[error("--class-weight names the class `{class}`, but the classes are {}", classes.join(", "))]
    UnknownClass { class: String, classes: Vec<String> },
}
