//! The extractor: a network cut at a layer.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;

use cnncodes::dataset::{Dataset, SourceOptions};
use cnncodes::export::SealedClassifier;
use cnncodes::extract::{
    self, ExtractError, ExtractEvent, ExtractRequest, ExtractSettings, ExtractorSettings, WantedLayer,
};
use cnncodes::feature_spec::FeatureSpec;
use cnncodes::images::{DEFAULT_MAX_PIXELS, Preset};
use cnncodes::network::{
    Catalogue, Device, Graph, Layer, LayerList, Model, ModelsFolder, PENULTIMATE, Pooling, Precision,
    SessionSettings, WantedLayersError,
};
use numpy::PyArray2;
use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::to_numpy;
use crate::errors::{failed, invalid};
use crate::heads::{HeadFile, is_exported};
use crate::images::image_of;
use crate::process::not_forked;
use crate::progress::Progress;

/// Which of the images could be read, the features of these, and of the others their index, name and reason.
type Extracted<'py> = (Bound<'py, PyArray2<f32>>, Vec<usize>, Vec<(usize, String, String)>);

/// What a network runs on.
#[derive(FromPyObject)]
pub struct Compute {
    #[pyo3(item)]
    device: String,
    #[pyo3(item)]
    precision: Option<String>,
    #[pyo3(item)]
    threads: Option<usize>,
    #[pyo3(item)]
    batch_size: Option<usize>,
    #[pyo3(item)]
    max_pixels: Option<u64>,
}

impl Compute {
    /// The settings; `precision` is that of features which are to be compared with.
    pub fn settings(&self, precision: Precision) -> PyResult<ExtractorSettings> {
        let precision = self.precision.as_deref().map_or(Ok(precision), parsed)?;
        let threads = self.threads.filter(|&threads| threads > 0);
        let device: Device = parsed(&self.device)?;
        let session = SessionSettings { device, precision, threads, ..SessionSettings::default() };
        Ok(ExtractorSettings {
            session,
            max_pixels: self.max_pixels.unwrap_or(DEFAULT_MAX_PIXELS),
            batch_size: self.batch_size.and_then(NonZero::new).map(NonZero::get),
            digests: false,
            ..ExtractorSettings::default()
        })
    }
}

/// A value from its name.
pub fn parsed<T: FromStr<Err: std::fmt::Display>>(name: &str) -> PyResult<T> {
    name.parse().map_err(|error: T::Err| PyValueError::new_err(error.to_string()))
}

/// The model that is named: by its name in the models folder, by its manifest (.toml), or as a network's file or folder.
pub fn model_of(name: &str, models: PathBuf, preset: Option<&str>, changes: Option<&str>) -> PyResult<Model> {
    let changes = match changes {
        Some(json) => serde_json::from_str(json)
            .map_err(|error| PyValueError::new_err(format!("preprocess: {error}")))?,
        None => Default::default(),
    };
    let preset: Option<Preset> = preset.map(parsed).transpose()?;
    let path = Path::new(name);
    let is_file = path.extension().is_some_and(|extension| extension == "onnx" || extension == "toml");
    let folder = ModelsFolder { path: models };
    let mut model = match path.extension() {
        Some(extension) if extension == "toml" => Model::read(path).map_err(failed)?,
        _ if is_file || (name.contains(['/', '\\']) && path.is_dir()) => {
            return Model::of_file(path, preset, &changes).map_err(failed);
        }
        _ => folder.find((!name.is_empty()).then_some(name)).map_err(failed)?,
    };
    if let Some(preset) = preset {
        let graph = model.open().map_err(failed)?;
        model.manifest.preprocess =
            cnncodes::network::register::preprocessing_of(preset, changes, &graph).map_err(failed)?;
    } else {
        model.manifest.preprocess = model.manifest.preprocess.with(&changes).map_err(failed)?;
    }
    Ok(model)
}

/// The spec of `layer` of `model`.
fn spec_of(model: &Model, layer: &Layer, pool: Option<&str>, precision: Precision) -> PyResult<FeatureSpec> {
    let pooling = pool.map(parsed::<Pooling>).transpose()?.unwrap_or_else(|| layer.default_pooling());
    Ok(FeatureSpec { precision, ..FeatureSpec::of_layer(model, layer, pooling) })
}

/// The network of a head and its layer: in the head's own file, or in the models folder.
pub fn network_of(head: &HeadFile, models: PathBuf) -> PyResult<(Graph, Layer)> {
    match head.path.as_deref().filter(|path| is_exported(path)) {
        Some(path) => SealedClassifier::open(path).map_err(failed)?.network().map_err(failed),
        None => head.head.provenance.spec.network(&ModelsFolder { path: models }).map_err(failed),
    }
}

/// A network that makes features of one layer.
#[pyclass(module = "cnncodes._cnncodes", frozen)]
pub struct Extractor {
    inner: Mutex<extract::Extractor>,
    /// What decides the features' values, as JSON.
    #[pyo3(get)]
    spec: String,
    /// Shape of an image's features.
    #[pyo3(get)]
    shape: Vec<usize>,
    /// Whether the preprocessing turns images as their EXIF orientation says.
    #[pyo3(get)]
    exif_orientation: bool,
    /// The device that the network runs on.
    #[pyo3(get)]
    device: String,
}

impl Extractor {
    fn of(spec: FeatureSpec, graph: Graph, layer: Layer, settings: ExtractorSettings) -> PyResult<Self> {
        let inner = extract::Extractor::of_network(spec, graph, layer, settings).map_err(failed)?;
        let spec = inner.spec();
        Ok(Self {
            spec: serde_json::to_string(spec).map_err(failed)?,
            shape: inner.shape().to_vec(),
            exif_orientation: spec.preprocess.exif_orientation(),
            device: inner.backbone().device().to_string(),
            inner: Mutex::new(inner),
        })
    }

    /// The features of `set`, until Ctrl-C. `progress` hears how many images are done.
    fn extract<'py>(
        &self,
        py: Python<'py>,
        set: &Dataset,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Extracted<'py>> {
        not_forked()?;
        let progress = Progress::new(progress);
        let total = set.samples.len();
        let found = py.detach(|| {
            let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            inner.extract_until(set.samples.iter(), progress.stop(), |done| progress.tell(done, total))
        });
        let batch = progress.result(found.map_err(failed))?;
        let problems = batch.failed.into_iter().zip(batch.problems);
        let problems = problems.map(|(index, problem)| (index, problem.name, problem.reason)).collect();
        Ok((to_numpy(py, batch.features)?, batch.indices, problems))
    }
}

#[pymethods]
impl Extractor {
    /// Opens a layer of a model.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "Python's side has the names")]
    #[pyo3(signature = (model, models, layer, pool, preset, changes, compute))]
    fn new(
        py: Python<'_>,
        model: &str,
        models: PathBuf,
        layer: Option<&str>,
        pool: Option<&str>,
        preset: Option<&str>,
        changes: Option<&str>,
        compute: Compute,
    ) -> PyResult<Self> {
        not_forked()?;
        let settings = compute.settings(Precision::Fp32)?;
        py.detach(|| {
            let model = model_of(model, models, preset, changes)?;
            let graph = model.open().map_err(failed)?;
            let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
            let name = layer.or(model.manifest.layer.as_deref()).unwrap_or(PENULTIMATE);
            let layer = catalogue.find(&model.name, name).map_err(failed)?.clone();
            let spec = spec_of(&model, &layer, pool, settings.session.precision)?;
            Self::of(spec, graph, layer, settings)
        })
    }

    /// Opens the network that a head's features come from.
    #[staticmethod]
    fn of_head(py: Python<'_>, head: &HeadFile, models: PathBuf, compute: Compute) -> PyResult<Self> {
        not_forked()?;
        let spec = head.head.provenance.spec.clone();
        let settings = compute.settings(spec.precision)?;
        py.detach(|| {
            let (graph, layer) = network_of(head, models)?;
            Self::of(spec, graph, layer, settings)
        })
    }

    /// Features of images: each a name, and bytes or an array, or nothing for the file of that name.
    #[pyo3(signature = (images, progress = None))]
    fn extract_images<'py>(
        &self,
        py: Python<'py>,
        images: Vec<(String, Option<Bound<'py, PyAny>>)>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Extracted<'py>> {
        let images: Vec<_> = images
            .into_iter()
            .map(|(name, image)| Ok((name, image_of(image.as_ref())?)))
            .collect::<PyResult<_>>()?;
        self.extract(py, &Dataset::from_images(images), progress)
    }

    /// Features of all images of a folder, a CSV file, tar shards or an array, with their names.
    #[pyo3(signature = (source, progress = None))]
    fn extract_source<'py>(
        &self,
        py: Python<'py>,
        source: PathBuf,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Extracted<'py>, Vec<String>)> {
        let options = SourceOptions { no_labels: true, ..SourceOptions::default() };
        let set = py.detach(|| Dataset::open(&[source], &options)).map_err(failed)?;
        let names = set.samples.iter().map(|sample| sample.name.to_owned()).collect();
        Ok((self.extract(py, &set, progress)?, names))
    }
}

/// Writes features of layers to a file, as the command `extract` does; gives what was done.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "Python's side has the names")]
#[pyo3(signature = (model, models, layers, pool, preset, changes, compute, images, output, options, progress))]
fn extract_to<'py>(
    py: Python<'py>,
    model: &str,
    models: PathBuf,
    layers: Vec<String>,
    pool: Option<&str>,
    preset: Option<&str>,
    changes: Option<&str>,
    compute: Compute,
    images: Vec<PathBuf>,
    output: PathBuf,
    options: FileOptions,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    not_forked()?;
    let ExtractorSettings { session, max_pixels, batch_size, memory, .. } =
        compute.settings(Precision::Fp32)?;
    let (progress, mut notes) = (Progress::new(progress), Vec::new());
    let summary = py.detach(|| {
        let model = model_of(model, models, preset, changes)?;
        let graph = model.open().map_err(failed)?;
        let wanted = wanted_layers(&model, &graph, &layers, pool, session.precision)?;
        let samples = options.list(&images)?;
        let settings = ExtractSettings {
            batch_size,
            max_pixels,
            threads: session.threads,
            memory,
            strict: options.strict,
            force: options.force,
            rehash: options.rehash,
        };
        let request = ExtractRequest {
            samples: &samples,
            graph: &graph,
            layers: &wanted,
            session: &session,
            output: &output,
            settings: &settings,
        };
        let mut tell = |event: ExtractEvent<'_>| match event {
            ExtractEvent::Progress(at) => progress.tell(at.done, at.total),
            ExtractEvent::Note(note) => notes.push(note.to_owned()),
            _ => {}
        };
        extract::extract(&request, progress.stop(), &mut tell).map_err(|error| match error {
            ExtractError::Interrupted { .. } => PyKeyboardInterrupt::new_err(error.to_string()),
            error => failed(error),
        })
    });
    let summary = progress.result(summary)?;
    let done = PyDict::new(py);
    done.set_item("path", summary.path)?;
    done.set_item("rows", summary.rows)?;
    done.set_item("computed", summary.computed)?;
    done.set_item("kept", summary.kept)?;
    done.set_item("resumed", summary.resumed)?;
    done.set_item("up_to_date", summary.up_to_date)?;
    let problems = summary.problems.into_iter().map(|problem| (problem.name, problem.reason));
    done.set_item("problems", problems.collect::<Vec<_>>())?;
    done.set_item("notes", notes)?;
    done.set_item("seconds", summary.elapsed.as_secs_f64())?;
    Ok(done)
}

/// The layers that are named, each once, with all that decides their values.
pub fn wanted_layers(
    model: &Model,
    graph: &Graph,
    names: &[String],
    pool: Option<&str>,
    precision: Precision,
) -> PyResult<Vec<WantedLayer>> {
    let layers =
        Catalogue::of(graph, &model.manifest.aliases).wanted(model, names).map_err(|error| match error {
            WantedLayersError::Twice { .. } => invalid(error),
            error => failed(error),
        })?;
    let wanted = |layer: Layer| Ok(WantedLayer { spec: spec_of(model, &layer, pool, precision)?, layer });
    layers.into_iter().map(wanted).collect()
}

/// How a file of features is written.
#[derive(FromPyObject)]
pub struct FileOptions {
    #[pyo3(item)]
    labels: bool,
    #[pyo3(item)]
    strict: bool,
    #[pyo3(item)]
    force: bool,
    #[pyo3(item)]
    rehash: bool,
    #[pyo3(item)]
    path_column: Option<String>,
    #[pyo3(item)]
    label_column: Option<String>,
}

impl FileOptions {
    /// The images that are named, with their labels if they are to have any.
    pub fn list(&self, images: &[PathBuf]) -> PyResult<Dataset> {
        let source = SourceOptions {
            no_labels: !self.labels,
            path_column: self.path_column.clone(),
            label_column: self.label_column.clone(),
            ..SourceOptions::default()
        };
        Dataset::open(images, &source).map_err(failed)
    }
}

/// The layers of a model, as the command `layers` lists them: JSON. `all` adds those without a name but ONNX's.
#[pyfunction]
#[pyo3(signature = (model, models, all))]
fn layers(py: Python<'_>, model: &str, models: PathBuf, all: bool) -> PyResult<String> {
    not_forked()?;
    py.detach(|| {
        let (graph, model) = match Path::new(model) {
            file if file.extension().is_some_and(|extension| extension == "onnx") => {
                (Graph::open(file).map_err(failed)?, None)
            }
            _ => {
                let model = model_of(model, models, None, None)?;
                (model.open().map_err(failed)?, Some(model))
            }
        };
        let aliases = model.as_ref().map(|model| model.manifest.aliases.clone()).unwrap_or_default();
        // A graph without a manifest is listed at its own size, or at the usual one.
        let size = model.map_or_else(
            || graph.input_size().unwrap_or((224, 224)),
            |model| model.manifest.preprocess.size(),
        );
        let catalogue = Catalogue::of(&graph, &aliases);
        let list = LayerList::of(&graph, &catalogue, size, all).map_err(failed)?;
        serde_json::to_string(&list.layers).map_err(failed)
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Extractor>()?;
    module.add_function(wrap_pyfunction!(extract_to, module)?)?;
    module.add_function(wrap_pyfunction!(layers, module)?)
}
