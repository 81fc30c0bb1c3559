//! Features files: what `read_features` shows of them, and `convert`, `suspects` and `neighbors`.

use std::path::PathBuf;

use cnncodes::features::{self, ConvertSettings, FeatureFile};
use cnncodes::similarity::{Metric, Neighbor, NeighborSearch};
use cnncodes::training::{DuplicateSettings, SmallClassPolicy, SuspectSettings, find_suspects};
use numpy::{PyArray1, PyArray2, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{rows, to_numpy};
use crate::errors::{failed, in_python, invalid};
use crate::heads::{memory_limit, row_values};
use crate::process;

/// An open features file.
#[pyclass(frozen, module = "cnncodes._cnncodes")]
pub struct FeaturesFile {
    pub file: FeatureFile,
}

#[pymethods]
impl FeaturesFile {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| FeatureFile::open(&path)).map(|file| Self { file }).map_err(failed)
    }

    fn rows(&self) -> usize {
        self.file.rows()
    }

    fn names(&self) -> Vec<String> {
        self.file.image_names().to_vec()
    }

    fn labels<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_slice(py, self.file.labels())
    }

    fn classes(&self) -> Vec<String> {
        self.file.class_names().to_vec()
    }

    fn sha256(&self) -> Vec<String> {
        self.file.sha256().to_vec()
    }

    /// Name and reason of each image that could not be read.
    fn skipped(&self) -> Vec<(String, String)> {
        self.file.errors().iter().map(|image| (image.name.clone(), image.reason.clone())).collect()
    }

    /// Names of the layers, the primary one first.
    fn layers(&self) -> Vec<String> {
        self.file.layers().iter().map(|layer| layer.spec.layer.clone()).collect()
    }

    /// Name of a layer and the shape of one image's features.
    #[pyo3(signature = (layer=None))]
    fn layer(&self, layer: Option<&str>) -> PyResult<(String, Vec<usize>)> {
        let layer = self.file.layer(layer).map_err(failed)?;
        Ok((layer.spec.layer.clone(), layer.shape.clone()))
    }

    /// What decides the features' values, as JSON.
    #[pyo3(signature = (layer=None))]
    fn spec(&self, layer: Option<&str>) -> PyResult<String> {
        serde_json::to_string(self.file.spec(layer).map_err(failed)?).map_err(failed)
    }

    /// Source of the images, version of the program, runtime and device.
    fn origin(&self) -> [&str; 4] {
        let header = self.file.header();
        [&header.source, &header.program_version, &header.runtime, &header.device]
    }

    /// Where the features begin in the file, if it can be mapped into memory.
    #[pyo3(signature = (layer=None))]
    fn position(&self, layer: Option<&str>) -> PyResult<Option<u64>> {
        let position = self.file.position_of_features(layer).map_err(failed)?;
        Ok(position.filter(|position| position % 4 == 0 && cfg!(target_endian = "little")))
    }

    /// The features, n x d.
    #[pyo3(signature = (layer=None))]
    fn read<'py>(&self, py: Python<'py>, layer: Option<&str>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let features = py.detach(|| self.file.read_layer(layer)).map_err(failed)?;
        to_numpy(py, features)
    }

    /// Refuses features of another file that are of another kind than those of this layer.
    fn check_kind(&self, layer: &str, other: &Self) -> PyResult<()> {
        let holder = self.file.path().display().to_string();
        let (own, found) = (self.file.spec(Some(layer)), other.file.spec(Some(layer)));
        own.map_err(failed)?.check(&holder, found.map_err(failed)?, other.file.path()).map_err(failed)
    }

    /// The nearest rows of each query (m x d), nearest first, as rows and distances; `left_out` is a row for each query, or -1.
    fn neighbors(
        &self,
        py: Python<'_>,
        layer: &str,
        queries: PyReadonlyArray2<'_, f32>,
        left_out: Vec<i64>,
        k: usize,
        metric: &str,
    ) -> PyResult<Vec<Vec<(usize, f64)>>> {
        process::not_forked()?;
        let metric: Metric = metric.parse().map_err(invalid)?;
        let queries = rows(&queries)?;
        let left_out = |query: usize, row: usize| {
            left_out.get(query).is_some_and(|&left_out| usize::try_from(left_out) == Ok(row))
        };
        let search = NeighborSearch { queries, k, metric, left_out: &left_out };
        let found = py.detach(|| search.run(&self.file, Some(layer), |_| ())).map_err(failed)?;
        let pairs = |nearest: Vec<Neighbor>| {
            nearest.into_iter().map(|neighbor| (neighbor.row, neighbor.distance)).collect()
        };
        Ok(found.into_iter().map(pairs).collect())
    }

    /// The suspects as JSON, and what the reader should know.
    #[pyo3(signature = (*, layer, folds, seed, most, min_per_class, duplicate_distance, duplicate_threshold, groups, max_memory))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
    fn suspects(
        &self,
        py: Python<'_>,
        layer: Option<String>,
        folds: usize,
        seed: u64,
        most: usize,
        min_per_class: Option<usize>,
        duplicate_distance: Option<u32>,
        duplicate_threshold: Option<f64>,
        groups: Option<Bound<'_, PyAny>>,
        max_memory: Option<&str>,
    ) -> PyResult<(String, Vec<String>)> {
        process::not_forked()?;
        let groups = groups.map(|groups| row_values(&groups)).transpose()?;
        let settings = SuspectSettings {
            layer,
            folds,
            seed,
            duplicates: DuplicateSettings {
                distance: duplicate_distance,
                cosine: duplicate_threshold,
                groups,
            },
            small_classes: SmallClassPolicy { min_per_class },
            most,
            max_memory: memory_limit(max_memory)?,
        };
        let found = py.detach(|| find_suspects(&self.file, &settings, &mut |_| ())).map_err(failed)?;
        let notes = found.notes.iter().map(|note| in_python(note)).collect();
        Ok((serde_json::to_string(&found.suspects).map_err(failed)?, notes))
    }
}

/// Converts features to or from the file of another program. Gives the files, and what the reader should know.
#[pyfunction]
#[pyo3(signature = (from, to, *, layer, name_column, label_column, features_column, names, labels, no_labels, overwrite))]
#[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
fn convert(
    py: Python<'_>,
    from: PathBuf,
    to: PathBuf,
    layer: Option<String>,
    name_column: Option<String>,
    label_column: Option<String>,
    features_column: Option<String>,
    names: Option<PathBuf>,
    labels: Option<PathBuf>,
    no_labels: bool,
    overwrite: bool,
) -> PyResult<(Vec<PathBuf>, Vec<String>)> {
    if name_column.is_some() && names.is_some() {
        return Err(PyValueError::new_err(
            "names come from name_column or from the file names; give one of them",
        ));
    }
    if usize::from(label_column.is_some()) + usize::from(labels.is_some()) + usize::from(no_labels) > 1 {
        return Err(PyValueError::new_err("give one of label_column, labels and no_labels"));
    }
    let mut settings = ConvertSettings::default();
    settings.layer = layer;
    settings.columns.name = name_column;
    settings.columns.label = label_column;
    settings.columns.features = features_column;
    settings.names = names;
    settings.labels = labels;
    settings.no_labels = no_labels;
    settings.overwrite = overwrite;
    let done = py.detach(|| features::convert(&from, &to, &settings, &mut |_, _| ())).map_err(failed)?;
    Ok((done.files, done.notes.iter().map(|note| in_python(note)).collect()))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FeaturesFile>()?;
    module.add_function(wrap_pyfunction!(convert, module)?)
}
