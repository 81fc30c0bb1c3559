//! Heads: fitting to a features file, answers for features, saving, and export.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use cnncodes::classifier::AnswerOptions;
use cnncodes::export::{ExportInput, ExportLabel, ExportSettings, NetworkOfHead, SealedClassifier, export};
use cnncodes::head::{CalibrationMethod, Engine, Head, HeadKind};
use cnncodes::network::ModelsFolder;
use cnncodes::report::FittingReport;
use cnncodes::training::{
    ClassWeighting, Cost, DuplicateSettings, HeadOptions, KernelFamily, RowValues, SmallClassPolicy,
    SplitSource, TrainingSettings, train,
};
use numpy::{PyArray1, PyArray2, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{rows, to_numpy};
use crate::errors::{Error, failed, in_python, invalid};
use crate::features::FeaturesFile;
use crate::process;

/// A head, and where it was read from.
#[pyclass(frozen, module = "cnncodes._cnncodes")]
pub struct HeadFile {
    pub head: Arc<Head>,
    /// The file that it was read from, if it was.
    pub path: Option<PathBuf>,
}

/// What `fit_head` was told, by names.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct FitOptions {
    kind: String,
    kernel: Option<String>,
    gamma: Option<f64>,
    degree: Option<u32>,
    coef0: Option<f64>,
    solver: String,
    c: Option<Vec<f64>>,
    c_auto: bool,
    class_weight: Option<Vec<(String, f64)>>,
    balanced: bool,
    folds: usize,
    seed: u64,
    l2_normalize: bool,
    standardize: bool,
    pca: Option<usize>,
    calibration: Option<String>,
    layer: Option<String>,
    labels: Option<Values>,
    groups: Option<Values>,
    duplicate_distance: Option<u32>,
    duplicate_threshold: Option<f64>,
    min_per_class: Option<usize>,
    split: Option<PathBuf>,
    split_folders: bool,
    max_memory: Option<String>,
    leaky_accuracy: bool,
}

/// An amount of memory as the user writes it.
pub fn memory_limit<T: FromStr<Err = String>>(text: Option<&str>) -> PyResult<Option<T>> {
    let parsed = text.map(T::from_str).transpose();
    parsed.map_err(|error| PyValueError::new_err(format!("max_memory: {error}")))
}

/// Values of the rows: one for each, or a CSV file.
#[derive(FromPyObject)]
enum Values {
    Given(Vec<Option<String>>),
    File(PathBuf),
}

impl From<Values> for RowValues {
    fn from(values: Values) -> Self {
        match values {
            Values::Given(values) => Self::Given(values),
            Values::File(path) => Self::File(path),
        }
    }
}

/// What Python gives for a value of each row.
pub fn row_values(values: &Bound<'_, PyAny>) -> PyResult<RowValues> {
    Ok(values.extract::<Values>()?.into())
}

impl FitOptions {
    fn settings(self) -> PyResult<TrainingSettings> {
        let kind = choose(
            "kind",
            &self.kind,
            [("svm", HeadKind::Svm), ("logistic", HeadKind::Logistic), ("ridge", HeadKind::Ridge)],
        )?;
        let kernel = self.kernel.as_deref().map(|kernel| {
            choose("kernel", kernel, [("rbf", KernelFamily::Rbf), ("poly", KernelFamily::Poly)])
        });
        let calibration = self.calibration.as_deref().map(|calibration| {
            let methods = [
                ("platt", CalibrationMethod::Platt),
                ("isotonic", CalibrationMethod::Isotonic),
                ("temperature", CalibrationMethod::Temperature),
            ];
            choose("calibration", calibration, methods)
        });
        let cost = match self.c {
            None if self.c_auto => Some("auto".parse::<Cost>().map_err(PyValueError::new_err)?),
            c => c.map(|values| Cost::of(&values)),
        };
        let options = HeadOptions {
            kernel: kernel.transpose()?,
            gamma: self.gamma,
            degree: self.degree,
            coef0: self.coef0,
            solver: choose("solver", &self.solver, [("own", Engine::Own), ("linfa", Engine::Linfa)])?,
            cost,
            folds: self.folds,
            seed: self.seed,
            l2_normalize: self.l2_normalize,
            standardize: self.standardize,
            pca: self.pca,
            calibration: calibration.transpose()?,
            ..HeadOptions::new(kind)
        };
        let mut settings = TrainingSettings::new(options.fit_settings().map_err(invalid)?);
        settings.class_weighting = match self.class_weight {
            None if self.balanced => ClassWeighting::Balanced,
            None => ClassWeighting::Uniform,
            Some(weights) => ClassWeighting::Given(weights),
        };
        settings.layer = self.layer;
        settings.labels = self.labels.map(RowValues::from);
        settings.duplicates = DuplicateSettings {
            distance: self.duplicate_distance,
            cosine: self.duplicate_threshold,
            groups: self.groups.map(RowValues::from),
        };
        settings.small_classes = SmallClassPolicy { min_per_class: self.min_per_class };
        settings.split =
            self.split.map(SplitSource::File).or(self.split_folders.then_some(SplitSource::Folders));
        settings.max_memory = memory_limit(self.max_memory.as_deref())?;
        settings.leaky_accuracy = self.leaky_accuracy;
        Ok(settings)
    }
}

/// The one of the values that is called so.
fn choose<T, const N: usize>(argument: &str, name: &str, values: [(&str, T); N]) -> PyResult<T> {
    let names: Vec<String> = values.iter().map(|(name, _)| format!("{name:?}")).collect();
    let found = values.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    found.ok_or_else(|| {
        PyValueError::new_err(format!("{argument} is {name:?}, but must be one of {}", names.join(", ")))
    })
}

/// Fits a head, and writes a report if there is a file for it; also gives warnings.
#[pyfunction]
fn fit_head(
    py: Python<'_>,
    file: &FeaturesFile,
    options: FitOptions,
    report: Option<PathBuf>,
    models: PathBuf,
) -> PyResult<(HeadFile, Vec<String>)> {
    process::not_forked()?;
    let (settings, file) = (options.settings()?, &file.file);
    py.detach(|| {
        if let Some(report) = &report {
            settings.check_report(file, report).map_err(failed)?;
        }
        let trained = train(file, &settings, &mut |_| ()).map_err(failed)?;
        if let Some(report) = &report {
            let fitting = FittingReport { file, trained: &trained, output: None, layers: None };
            let models = ModelsFolder { path: models };
            fitting.write(report, &models, "cnncodes.fit_head", &mut |_, _, _| ()).map_err(failed)?;
        }
        let notes = trained.labelled.notes.iter().map(|note| in_python(note)).collect();
        Ok((HeadFile { head: Arc::new(trained.head), path: None }, notes))
    })
}

#[pymethods]
impl HeadFile {
    /// Opens a head file, or an exported classifier; `remember` where it lies, unless the file goes away.
    #[new]
    #[pyo3(signature = (path, remember=true))]
    fn new(py: Python<'_>, path: PathBuf, remember: bool) -> PyResult<Self> {
        let head = py.detach(|| {
            if is_exported(&path) {
                SealedClassifier::open(&path).map(|sealed| sealed.head).map_err(failed)
            } else {
                Head::load(&path).map_err(failed)
            }
        })?;
        Ok(Self { head: Arc::new(head), path: remember.then_some(path) })
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.head.save(&path)).map_err(failed)
    }

    fn classes(&self) -> Vec<String> {
        self.head.model.class_names.clone()
    }

    /// Number of features of an image.
    fn columns(&self) -> usize {
        self.head.model.columns()
    }

    /// The layer of the features.
    fn layer(&self) -> &str {
        &self.head.provenance.spec.layer
    }

    /// How the features were made, as JSON.
    fn spec(&self) -> PyResult<String> {
        serde_json::to_string(&self.head.provenance).map_err(failed)
    }

    /// What the head was fitted with, as JSON.
    fn settings(&self) -> PyResult<String> {
        serde_json::to_string(&self.head.model.settings).map_err(failed)
    }

    /// What cross-validation found, as JSON.
    fn evaluation(&self) -> PyResult<String> {
        serde_json::to_string(&self.head.evaluation).map_err(failed)
    }

    /// The same as text.
    fn evaluation_text(&self) -> String {
        self.head.evaluation.to_text()
    }

    /// Refuses features that are not of the head's kind.
    fn check(&self, file: &FeaturesFile) -> PyResult<()> {
        self.head.check_features(&file.file, &self.holder()).map_err(failed)
    }

    /// Scores, n x classes.
    fn scores<'py>(
        &self,
        py: Python<'py>,
        features: PyReadonlyArray2<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        process::not_forked()?;
        let features = rows(&features)?;
        let scores = py.detach(|| self.head.scores(features)).map_err(failed)?;
        to_numpy(py, scores)
    }

    /// Probabilities, n x classes.
    fn probabilities<'py>(
        &self,
        py: Python<'py>,
        features: PyReadonlyArray2<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        process::not_forked()?;
        let features = rows(&features)?;
        let probabilities = py.detach(|| self.head.probabilities(features)).map_err(failed)?;
        to_numpy(py, probabilities)
    }

    /// The index of the class of each row.
    fn predict<'py>(
        &self,
        py: Python<'py>,
        features: PyReadonlyArray2<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        process::not_forked()?;
        let features = rows(&features)?;
        let classes = py.detach(|| self.head.model.predict(features)).map_err(failed)?;
        Ok(PyArray1::from_vec(py, classes.into_iter().map(|class| class as i64).collect()))
    }

    /// The indices of the classes in each row's prediction set, most probable first.
    fn sets(
        &self,
        py: Python<'_>,
        features: PyReadonlyArray2<'_, f32>,
        coverage: f64,
    ) -> PyResult<Vec<Vec<usize>>> {
        process::not_forked()?;
        let features = rows(&features)?;
        let options = AnswerOptions { coverage: Some(coverage), unknown: false };
        let answers = py.detach(|| self.head.answers(features, options)).map_err(failed)?;
        Ok(answers.into_iter().map(|answer| answer.prediction_set.unwrap_or_default()).collect())
    }

    /// Whether each row is unlike the training images.
    fn unknown<'py>(
        &self,
        py: Python<'py>,
        features: PyReadonlyArray2<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        process::not_forked()?;
        let features = rows(&features)?;
        if self.head.model.novelty.is_none() {
            return Err(Error::new_err(format!(
                "{} cannot tell images of none of its classes: it was fitted to fewer than 20 different images, or by an earlier \
                 version; fit it again",
                self.holder()
            )));
        }
        let answers = py.detach(|| self.head.answers(features, AnswerOptions::default())).map_err(failed)?;
        let unknown = answers.iter().map(|answer| answer.unknown == Some(true)).collect();
        Ok(PyArray1::from_vec(py, unknown))
    }

    /// Writes the head with its network as ONNX. Gives the files, and what their user should know.
    #[pyo3(signature = (path, *, models, input, is_static, label, coverage, with_features, fp16_weights, external_data))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
    fn to_onnx(
        &self,
        py: Python<'_>,
        path: PathBuf,
        models: PathBuf,
        input: &str,
        is_static: bool,
        label: &str,
        coverage: Option<f64>,
        with_features: bool,
        fp16_weights: bool,
        external_data: bool,
    ) -> PyResult<(Vec<PathBuf>, Vec<String>)> {
        process::not_forked()?;
        let settings = ExportSettings {
            input: choose(
                "input",
                input,
                [("pixels", ExportInput::Pixels), ("tensor", ExportInput::Tensor)],
            )?,
            is_static,
            label: choose("label", label, [("name", ExportLabel::Name), ("index", ExportLabel::Index)])?,
            coverage,
            with_features,
            half_weights: fp16_weights,
        };
        py.detach(|| {
            let spec = &self.head.provenance.spec;
            let (network, licence) = match &self.path {
                Some(path) if is_exported(path) => {
                    let sealed = SealedClassifier::open(path).map_err(failed)?;
                    (sealed.network().map_err(failed)?, None)
                }
                _ => {
                    let model = spec.model(&ModelsFolder { path: models }).map_err(failed)?;
                    (spec.network_of(&model).map_err(failed)?, model.manifest.note)
                }
            };
            let (graph, layer) = &network;
            let network = NetworkOfHead { graph, layer, licence: licence.as_deref() };
            let mut exported = export(&self.head, network, &settings).map_err(failed)?;
            let mut remarks = std::mem::take(&mut exported.remarks);
            let domains: Vec<&str> = exported.other_domains().collect();
            if !domains.is_empty() {
                remarks.push(format!(
                    "the network has operators of {}, which not every runtime of ONNX knows",
                    domains.join(", ")
                ));
            }
            let files = exported.save(&path, external_data).map_err(failed)?;
            Ok((files.into_iter().map(|(file, _)| file).collect(), remarks))
        })
    }
}

impl HeadFile {
    /// What messages call it.
    fn holder(&self) -> String {
        self.path
            .as_ref()
            .map_or_else(|| "the head".to_owned(), |path| format!("the head {}", path.display()))
    }
}

/// Whether a head's file is an exported classifier, by its name.
pub fn is_exported(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("onnx"))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HeadFile>()?;
    module.add_function(wrap_pyfunction!(fit_head, module)?)
}
