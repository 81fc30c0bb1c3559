//! Plans: making one, working on its parts, and merging them.

use std::path::PathBuf;

use cnncodes::extract::{ExtractRequest, ExtractSettings, ExtractorSettings};
use cnncodes::network::{ModelsFolder, Precision};
use cnncodes::plan::{
    self, Created, MergeOutput, MergeSettings, PlanError, PlanRequest, WorkEvent, WorkSettings,
};
use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::failed;
use crate::extractor::{Compute, FileOptions, model_of, wanted_layers};
use crate::process::not_forked;
use crate::progress::Progress;

/// A plan in its folder.
#[pyclass(module = "cnncodes._cnncodes", frozen)]
pub struct Plan {
    inner: plan::Plan,
}

#[pymethods]
impl Plan {
    /// Opens a plan.
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        Ok(Self { inner: plan::Plan::open(&path).map_err(failed)? })
    }

    /// Makes a plan; gives it, whether it was there already, and the name and reason of what is left out.
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "Python's side has the names")]
    #[expect(clippy::type_complexity, reason = "a plain tuple for Python")]
    #[pyo3(signature = (path, images, model, models, layers, pool, preset, changes, compute, options, rows_per_part, hash, progress))]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        images: Vec<PathBuf>,
        model: &str,
        models: PathBuf,
        layers: Vec<String>,
        pool: Option<&str>,
        preset: Option<&str>,
        changes: Option<&str>,
        compute: Compute,
        options: FileOptions,
        rows_per_part: u64,
        hash: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Self, bool, Vec<(String, String)>)> {
        not_forked()?;
        let ExtractorSettings { session, max_pixels, .. } = compute.settings(Precision::Fp32)?;
        let progress = Progress::new(progress);
        let created = py.detach(|| {
            let model = model_of(model, models, preset, changes)?;
            let graph = model.open().map_err(failed)?;
            let layers = wanted_layers(&model, &graph, &layers, pool, session.precision)?;
            let samples = options.list(&images)?;
            let settings = ExtractSettings { max_pixels, ..ExtractSettings::default() };
            let request = ExtractRequest {
                samples: &samples,
                graph: &graph,
                layers: &layers,
                session: &session,
                output: &path,
                settings: &settings,
            };
            let layers = request.new_layers().map_err(failed)?;
            let total = samples.samples.len();
            let plan = PlanRequest { samples: &samples, layers: &layers, max_pixels, rows_per_part, hash };
            plan.write(&path, &mut |done| {
                let done = usize::try_from(done).unwrap_or(usize::MAX);
                progress.tell(done, total);
            })
            .map_err(failed)
        });
        let Created { plan: inner, up_to_date, problems } = progress.result(created)?;
        let problems = problems.into_iter().map(|problem| (problem.name, problem.reason)).collect();
        Ok((Self { inner }, up_to_date, problems))
    }

    /// SHA-256 of all that the plan says.
    #[getter]
    fn id(&self) -> &str {
        self.inner.id()
    }

    /// What was named as the source of the images.
    #[getter]
    fn source(&self) -> &str {
        self.inner.source()
    }

    /// Names of the classes.
    #[getter]
    fn class_names(&self) -> Vec<String> {
        self.inner.class_names().to_vec()
    }

    /// Number of images.
    #[getter]
    fn images(&self) -> u64 {
        self.inner.images()
    }

    /// Number of parts.
    #[getter]
    fn parts(&self) -> u64 {
        self.inner.parts()
    }

    /// Rows of each part but the last.
    #[getter]
    fn rows_per_part(&self) -> u64 {
        self.inner.rows_per_part()
    }

    /// What decides the values of each layer, as JSON.
    fn specs(&self) -> PyResult<Vec<String>> {
        self.inner.layers().iter().map(|layer| serde_json::to_string(&layer.spec).map_err(failed)).collect()
    }

    /// How far the plan is, as JSON.
    fn status(&self, py: Python<'_>) -> PyResult<String> {
        let status = py.detach(|| self.inner.status()).map_err(failed)?;
        serde_json::to_string(&status).map_err(failed)
    }

    /// Computes those of the parts that are not done; gives what was done.
    fn extract<'py>(
        &self,
        py: Python<'py>,
        parts: Vec<u64>,
        models: PathBuf,
        root: Option<PathBuf>,
        compute: Compute,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        not_forked()?;
        let ExtractorSettings { session, batch_size, memory, .. } = compute.settings(Precision::Fp32)?;
        let extract =
            ExtractSettings { batch_size, threads: session.threads, memory, ..ExtractSettings::default() };
        let settings = WorkSettings { extract, session, root };
        let (progress, mut notes) = (Progress::new(progress), Vec::new());
        let worked = py.detach(|| {
            let mut tell = |event: WorkEvent<'_>| match event {
                WorkEvent::Progress(at) => progress.tell(at.done, at.total),
                WorkEvent::Note(note) => notes.push(note.to_owned()),
                _ => {}
            };
            let models = ModelsFolder { path: models };
            self.inner.extract(parts, &models, &settings, progress.stop(), &mut tell)
        });
        let summary = progress.result(worked.map_err(|error| match error {
            PlanError::Interrupted { .. } => PyKeyboardInterrupt::new_err(error.to_string()),
            error => failed(error),
        }))?;
        let done = PyDict::new(py);
        done.set_item("parts", summary.parts)?;
        done.set_item("done_before", summary.skipped)?;
        done.set_item("computed", summary.computed)?;
        done.set_item("done_by_others", summary.lost_races)?;
        done.set_item("rows", summary.rows)?;
        let problems = summary.problems.into_iter().map(|problem| (problem.name, problem.reason));
        done.set_item("problems", problems.collect::<Vec<_>>())?;
        let failures = summary.failures.into_iter().map(|failure| (failure.part, failure.reason));
        done.set_item("failures", failures.collect::<Vec<_>>())?;
        done.set_item("notes", notes)?;
        Ok(done)
    }

    /// Merges the parts; gives the number of rows and of images without features.
    fn merge(
        &self,
        py: Python<'_>,
        output: PathBuf,
        format: &str,
        allow_mixed: bool,
        overwrite: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(u64, u64)> {
        let output_kind = match format {
            "hdf5" => MergeOutput::File,
            "virtual" => MergeOutput::Virtual,
            "parquet" => MergeOutput::Parquet,
            other => {
                return Err(PyValueError::new_err(format!(
                    "format is \"hdf5\", \"virtual\" or \"parquet\", and not {other:?}"
                )));
            }
        };
        let settings = MergeSettings { output: output_kind, allow_mixed, overwrite };
        let progress = Progress::new(progress);
        let merged =
            py.detach(|| self.inner.merge(&output, settings, &mut |at| progress.tell(at.done, at.total)));
        let merged = progress.result(merged.map_err(failed))?;
        Ok((merged.rows, merged.errors))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Plan>()
}
