//! The head file: one self-describing HDF5 file (docs/head-format.md), written whole or not at all, and distrusted when
//! read: heads travel between people, so memory-safe code alone reads them ([`crate::hdf5`]).

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    str::FromStr,
};

use hdf5_metno::{self as hdf5, types::VarLenUnicode};
use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{FittedHead, HeadError, HeadModel};
use crate::evaluate::Evaluation;
use crate::feature_spec::FeatureSpec;
use crate::files::{folder_of, sync_folder, temporary_beside};
use crate::hdf5::{Attribute, Hdf5, Hdf5Dataset, Hdf5Error, Number};
use crate::messages::Cause;

/// Value of the attribute `format`.
const FORMAT: &str = "cnncodes-head";
/// The newest version that is read. Heads that need nothing newer are written as version 1, so that earlier programs read
/// them as well.
const VERSION: u32 = 3;

/// How many times as large as the file the values of a part may be: somebody may have compressed it.
const MAX_COMPRESSION: u64 = 16;

/// A head together with where its features came from and how good it was found to be: the content of a head file.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// What classifies.
    pub model: HeadModel,
    /// What the features must be made with.
    pub provenance: HeadProvenance,
    /// What cross-validation found.
    pub evaluation: Evaluation,
    /// The images that the head was fitted to, as [`fingerprint`]s, sorted; empty where they are not known.
    pub trained_on: Vec<u64>,
}

/// The first eight bytes of an image file's SHA-256, given in hexadecimal, as a big-endian number: enough to recognise
/// an image. `None` for text that is no hash.
pub fn fingerprint(sha256: &str) -> Option<u64> {
    sha256.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok())
}

/// How the features that a head was fitted to were made. Features made otherwise must not be classified with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadProvenance {
    /// What decides the features' values.
    #[serde(flatten)]
    pub spec: FeatureSpec,
    /// Shape of one row before it was flattened, such as `[512, 7, 7]`.
    pub row_shape: Vec<usize>,
    /// The file that the features were read from.
    #[serde(rename = "codes_file")]
    pub features_file: String,
    /// Number of rows of that file.
    #[serde(rename = "codes_rows")]
    pub features_rows: usize,
    /// Version of the program that fitted the head.
    pub program_version: String,
}

/// Why a head file cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeadFileError {
    /// The file is not there.
    #[error("there is no head file {}: make one with `cnncodes fit-head`", .0.display())]
    Missing(PathBuf),
    /// The file cannot be opened at all.
    #[error("the head file {} cannot be opened: check its permissions", .path.display())]
    Closed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened as HDF5.
    #[error("{} is not an HDF5 file, or is cut short: copy it again, or make it again with `cnncodes fit-head`", .path.display())]
    NotHdf5 {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Hdf5Error,
    },
    /// A features file where a head was expected.
    #[error("{} holds features, not a head: fit a head to it with `cnncodes fit-head`", .0.display())]
    Features(PathBuf),
    /// An HDF5 file of something else.
    #[error("{} is an HDF5 file, but not a head file of cnncodes: make one with `cnncodes fit-head`", .0.display())]
    OtherFormat(PathBuf),
    /// A file of a later version of the format.
    #[error("{} has version {found} of the head format, and this program reads up to {VERSION}: update cnncodes", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A part is missing or has another type.
    #[error("{} is damaged: `{part}` cannot be read; copy it again, or make it again with `cnncodes fit-head`", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The data set or attribute.
        part: &'static str,
        /// What is wrong with it.
        source: Hdf5Error,
    },
    /// An attribute that should hold JSON of a certain form.
    #[error("{} is damaged: attribute `{part}` is not what it should be; make it again with `cnncodes fit-head`", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The attribute.
        part: &'static str,
        /// What is wrong with it.
        source: Cause,
    },
    /// Parts that contradict each other, or values that make no sense.
    #[error("{} is damaged: {fault}; make it again with `cnncodes fit-head`", .path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The file cannot be written.
    #[error("the head cannot be written to {}: check that its folder exists, is writable and has space left", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The HDF5 library cannot write the file.
    #[error("the head cannot be written to {}: check that its folder is writable and has space left", .path.display())]
    WriteHdf5 {
        /// The file.
        path: PathBuf,
        /// What the HDF5 library says.
        source: hdf5::Error,
    },
}

impl Head {
    /// A fitted head with where its features come from, and the SHA-256 (hexadecimal) of the images that it was fitted to.
    pub fn new(fitted: FittedHead, provenance: HeadProvenance, sha256: &[String]) -> Self {
        let mut trained_on: Vec<u64> = sha256.iter().filter_map(|hash| fingerprint(hash)).collect();
        trained_on.sort_unstable();
        trained_on.dedup();
        Self { model: fitted.model, provenance, evaluation: fitted.evaluation, trained_on }
    }

    /// Scores as [`HeadModel::scores`].
    pub fn scores(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f64>, HeadError> {
        self.model.scores(features)
    }

    /// Probabilities as [`HeadModel::probabilities`].
    pub fn probabilities(&self, features: ArrayView2<'_, f32>) -> Result<Array2<f64>, HeadError> {
        self.model.probabilities(features)
    }

    /// Ranked classes as [`HeadModel::ranked`].
    pub fn ranked(&self, features: ArrayView2<'_, f32>) -> Result<Vec<Vec<(usize, f64)>>, HeadError> {
        self.model.ranked(features)
    }

    /// Whether the image file with this SHA-256 (hexadecimal) was among those that the head was fitted to.
    pub fn was_trained_on(&self, sha256: &str) -> bool {
        fingerprint(sha256).is_some_and(|image| self.trained_on.binary_search(&image).is_ok())
    }

    /// Writes the head to `path`, replacing what is there: into a temporary file beside it, which takes its place only
    /// when it is complete and on the disk.
    pub fn save(&self, path: &Path) -> Result<(), HeadFileError> {
        let failed = |source| HeadFileError::Write { path: path.to_owned(), source };
        let temporary = temporary_beside(path).map_err(failed)?;
        self.write(temporary.path())
            .map_err(|source| HeadFileError::WriteHdf5 { path: path.to_owned(), source })?;
        // HDF5 wrote through a handle of its own; synchronising works on any handle of the file.
        temporary.as_file().sync_all().map_err(failed)?;
        temporary.persist(path).map_err(|error| failed(error.error))?;
        sync_folder(folder_of(path)).map_err(failed)
    }

    /// The format version that the head needs.
    fn version(&self) -> u32 {
        let preparation = &self.model.preparation;
        if self.model.kernel.is_some() {
            return 3;
        }
        if preparation.l2_normalize() || preparation.pca().is_some() { 2 } else { 1 }
    }

    fn write(&self, path: &Path) -> hdf5::Result<()> {
        let model = &self.model;
        let file = hdf5::File::create(path)?;
        let out = HeadWriter { file: &file };
        let (classes, columns) = model.weights.dim();
        out.preparation(&model.preparation)?;
        if let Some(kernel) = &model.kernel {
            out.kernel(kernel)?;
        }
        out.numbers("weights", &[classes, columns], &model.weights.iter().copied().collect::<Vec<f32>>())?;
        out.numbers("bias", &[classes], &model.bias.to_vec())?;
        out.names("class_names", &model.class_names)?;
        out.text("format", FORMAT)?;
        file.new_attr::<u32>().create("format_version")?.write_scalar(&self.version())?;
        out.json("settings", &model.settings)?;
        out.json("calibration", &model.calibration)?;
        out.json("convergence", &model.convergence)?;
        out.json("provenance", &self.provenance)?;
        out.json("evaluation", &self.evaluation)?;
        if let Some(conformal) = &model.conformal {
            out.conformal(conformal)?;
        }
        if let Some(novelty) = &model.novelty {
            out.novelty(novelty)?;
        }
        out.trained_on(&self.trained_on)?;
        file.flush()?;
        file.close()
    }

    /// Reads a head, believing nothing: every size, name and number is checked before it is used.
    pub fn load(path: &Path) -> Result<Self, HeadFileError> {
        let file = Hdf5::open(path).map_err(|error| match error {
            Hdf5Error::Io(source) if source.kind() == ErrorKind::NotFound => {
                HeadFileError::Missing(path.to_owned())
            }
            Hdf5Error::Io(source) if source.kind() != ErrorKind::IsADirectory => {
                HeadFileError::Closed { path: path.to_owned(), source }
            }
            source => HeadFileError::NotHdf5 { path: path.to_owned(), source },
        })?;
        let attributes = file.attributes().map_err(|source| HeadFileError::Unreadable {
            path: path.to_owned(),
            part: "attributes",
            source,
        })?;
        let input = HeadReader { file: &file, attributes: &attributes, path };
        input.check_format()?;
        let (class_names, weights) = (input.names("class_names")?, input.matrix("weights")?);
        let (classes, columns) = weights.dim();
        let bias = Array1::from(input.vector::<f64>("bias", classes)?);
        let kernel = input.kernel(columns)?;
        let prepared = kernel.as_ref().map_or(columns, |kernel| kernel.vectors().ncols());
        let preparation = input.preparation(prepared)?;
        let columns = preparation.columns();
        let head = Self {
            model: HeadModel {
                class_names,
                settings: input.json("settings")?,
                preparation,
                kernel,
                weights,
                bias,
                calibration: input.json("calibration")?,
                convergence: input.json("convergence")?,
                conformal: input.conformal()?,
                novelty: input.novelty(columns)?,
            },
            provenance: input.json("provenance")?,
            evaluation: input.json("evaluation")?,
            trained_on: input.trained_on()?,
        };
        match head.fault() {
            Some(fault) => Err(input.unsound(&fault)),
            None => Ok(head),
        }
    }

    /// What contradicts itself, once all parts have been read.
    pub(crate) fn fault(&self) -> Option<String> {
        let model = &self.model;
        let (classes, inputs) = model.weights.dim();
        let columns = model.columns();
        let names = &model.class_names;
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort();
        if names.len() != classes {
            return Some(format!("it has {} class names and weights for {classes} classes", names.len()));
        }
        if classes < 2 || inputs == 0 {
            return Some(format!("its weights are {classes} x {inputs}"));
        }
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(format!("class `{}` occurs twice", pair[0]));
        }
        if !model.weights.iter().all(|w| w.is_finite()) || !model.bias.iter().all(|b| b.is_finite()) {
            return Some("its weights are not all finite".to_owned());
        }
        if model.calibration.classes().is_some_and(|calibrated| calibrated != classes) {
            return Some("its calibration is made for another number of classes".to_owned());
        }
        if !model.calibration.is_sound() {
            return Some("its calibration holds values that cannot be".to_owned());
        }
        if let Some(class) = model.calibration.reversed() {
            return Some(format!(
                "its calibration turns the scores of class `{}` round, as earlier versions could with few images",
                names[class]
            ));
        }
        // An unknown row shape is empty; a known one must multiply to the columns.
        let product = self.provenance.row_shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if !self.provenance.row_shape.is_empty() && product != Some(columns) {
            return Some(format!(
                "its row shape {:?} does not make {columns} features",
                self.provenance.row_shape
            ));
        }
        None
    }
}

/// Names for what the schema consists of.
struct HeadWriter<'a> {
    file: &'a hdf5::File,
}

impl HeadWriter<'_> {
    fn numbers<T: hdf5::H5Type>(&self, name: &str, shape: &[usize], values: &[T]) -> hdf5::Result<()> {
        self.file.new_dataset::<T>().shape(shape).create(name)?.write_raw(values)
    }

    fn names(&self, name: &str, values: &[String]) -> hdf5::Result<()> {
        let values: Vec<VarLenUnicode> =
            values.iter().map(|value| unicode(value)).collect::<hdf5::Result<_>>()?;
        self.numbers(name, &[values.len()], &values)
    }

    fn text(&self, name: &str, value: &str) -> hdf5::Result<()> {
        self.file.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&unicode(value)?)
    }

    fn json(&self, name: &str, value: &impl Serialize) -> hdf5::Result<()> {
        let json = serde_json::to_string(value).map_err(|error| hdf5::Error::from(error.to_string()))?;
        self.text(name, &json)
    }
}

fn unicode(text: &str) -> hdf5::Result<VarLenUnicode> {
    VarLenUnicode::from_str(text).map_err(|error| hdf5::Error::from(format!("{text:?}: {error}")))
}

/// A file that claims to be a head.
struct HeadReader<'a> {
    file: &'a Hdf5,
    attributes: &'a [Attribute],
    path: &'a Path,
}

impl HeadReader<'_> {
    fn check_format(&self) -> Result<(), HeadFileError> {
        match self.text("format") {
            Ok(format) if format == FORMAT => {}
            _ if self.has("layers")? => return Err(HeadFileError::Features(self.path.to_owned())),
            _ => return Err(HeadFileError::OtherFormat(self.path.to_owned())),
        }
        let version = self.attribute("format_version").and_then(Attribute::number::<u32>);
        match version.map_err(|source| self.unreadable("format_version", source))? {
            0 => Err(self.unsound("its format version is 0")),
            1..=VERSION => Ok(()),
            found => Err(HeadFileError::Newer { path: self.path.to_owned(), found }),
        }
    }

    /// Whether the file has a data set or group of that name.
    fn has(&self, part: &'static str) -> Result<bool, HeadFileError> {
        self.file.contains(part).map_err(|source| self.unreadable(part, source))
    }

    fn has_attribute(&self, part: &str) -> bool {
        self.attributes.iter().any(|attribute| attribute.name() == part)
    }

    fn attribute(&self, part: &'static str) -> Result<&Attribute, Hdf5Error> {
        self.attributes.iter().find(|attribute| attribute.name() == part).ok_or(Hdf5Error::Missing)
    }

    fn text(&self, part: &'static str) -> Result<String, HeadFileError> {
        self.attribute(part).and_then(Attribute::text).map_err(|source| self.unreadable(part, source))
    }

    fn json<T: DeserializeOwned>(&self, part: &'static str) -> Result<T, HeadFileError> {
        serde_json::from_str(&self.text(part)?).map_err(|source| HeadFileError::Json {
            path: self.path.to_owned(),
            part,
            source: source.into(),
        })
    }

    fn names(&self, part: &'static str) -> Result<Vec<String>, HeadFileError> {
        let dataset = self.dataset(part, 1)?;
        dataset.texts().map_err(|source| self.unreadable(part, source))
    }

    fn matrix(&self, part: &'static str) -> Result<Array2<f32>, HeadFileError> {
        let (shape, values) = self.values(part, 2)?;
        Array2::from_shape_vec((shape[0], shape[1]), values)
            .map_err(|_| self.unsound(&format!("`{part}` has fewer values than its shape says")))
    }

    fn vector<T: Number>(&self, part: &'static str, length: usize) -> Result<Vec<T>, HeadFileError> {
        let (shape, values) = self.values(part, 1)?;
        if shape[0] != length {
            return Err(
                self.unsound(&format!("`{part}` has {} values where the weights ask for {length}", shape[0]))
            );
        }
        Ok(values)
    }

    /// Shape and values of a data set with `dimensions` dimensions.
    fn values<T: Number>(
        &self,
        part: &'static str,
        dimensions: usize,
    ) -> Result<(Vec<usize>, Vec<T>), HeadFileError> {
        let dataset = self.dataset(part, dimensions)?;
        let values = dataset.numbers().map_err(|source| self.unreadable(part, source))?;
        // All values are in memory, so each size is one of a `usize`.
        Ok((dataset.shape().iter().map(|&n| n as usize).collect(), values))
    }

    fn dataset(&self, part: &'static str, dimensions: usize) -> Result<Hdf5Dataset, HeadFileError> {
        let dataset = self.file.dataset(part).map_err(|source| self.unreadable(part, source))?;
        let found = dataset.shape().len();
        if found != dimensions {
            return Err(self.unsound(&format!("`{part}` has {found} dimensions instead of {dimensions}")));
        }
        // Compressed files are not larger than that either, as long as they hold weights.
        if dataset.bytes() > self.file.file_len().saturating_mul(MAX_COMPRESSION) {
            return Err(self.unsound(&format!("`{part}` claims to be larger than the file")));
        }
        Ok(dataset)
    }

    fn unreadable(&self, part: &'static str, source: Hdf5Error) -> HeadFileError {
        HeadFileError::Unreadable { path: self.path.to_owned(), part, source }
    }

    fn unsound(&self, fault: &str) -> HeadFileError {
        HeadFileError::Unsound { path: self.path.to_owned(), fault: fault.to_owned() }
    }
}

mod kernel;
mod preparation;
mod trust;

#[cfg(test)]
mod tests;
