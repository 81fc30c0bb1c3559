//! The options that go with images of some kinds, and how the commands open what was named.

use std::path::PathBuf;

use super::show;
use crate::dataset::ArrayAxes;
use crate::dataset::{Dataset, DatasetError, SourceOptions};

/// Options of lists, shards and arrays.
#[derive(Debug, clap::Args)]
pub struct InputArgs {
    /// Paths on standard input end with a NUL, as `find -print0` writes them, and not with a line end
    #[arg(short = '0', long)]
    null: bool,
    /// Names of the classes that tar shards or an HDF5 array number: a text file with one name on each line, class 0
    /// first
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Dataset with the labels of an HDF5 array, or FILE.h5:/DATASET in another file
    #[arg(long, value_name = "DATASET")]
    labels: Option<String>,
    /// Column of a CSV file with the paths of the images [default: path, or another usual name]
    #[arg(long, value_name = "NAME")]
    path_column: Option<String>,
    /// Column of a CSV file with the labels, or field of the .json in tar shards [default: label, or another usual
    /// name]
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Order of an HDF5 array's dimensions as h5py shows them, such as NHWC, NCHW or HWCN: N images, H height, W
    /// width, C colours
    #[arg(long)]
    axes: Option<ArrayAxes>,
}

impl InputArgs {
    /// The images that `inputs` name, with their labels; says what is remarkable about them, and what was passed over.
    pub fn open(&self, inputs: &[PathBuf]) -> Result<Dataset, DatasetError> {
        let set = self.list(inputs, false)?;
        set.notes.iter().for_each(|note| show::warning(note));
        show::passed_over(&set.passed_over);
        Ok(set)
    }

    /// The images that `inputs` name, for somebody else to say what is remarkable about them; with `no_labels`, none are
    /// looked for.
    pub fn list(&self, inputs: &[PathBuf], no_labels: bool) -> Result<Dataset, DatasetError> {
        let options = SourceOptions {
            null: self.null,
            classes: self.classes.clone(),
            labels: self.labels.clone(),
            axes: self.axes.clone(),
            path_column: self.path_column.clone(),
            label_column: self.label_column.clone(),
            no_labels,
        };
        Dataset::open(inputs, &options)
    }

    /// The options as they would be given again.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        arguments.extend(self.null.then(|| "--null".to_owned()));
        if let Some(classes) = &self.classes {
            arguments.extend(["--classes".to_owned(), classes.display().to_string()]);
        }
        if let Some(labels) = &self.labels {
            arguments.extend(["--labels".to_owned(), labels.clone()]);
        }
        for (option, column) in [("--path-column", &self.path_column), ("--label-column", &self.label_column)]
        {
            arguments.extend(column.iter().flat_map(|column| [option.to_owned(), column.clone()]));
        }
        if let Some(axes) = &self.axes {
            arguments.extend(["--axes".to_owned(), axes.to_string()]);
        }
        arguments
    }
}
