//! The sweep: which layer and which head suit the images.

use std::path::PathBuf;
use std::sync::Arc;

use cnncodes::dataset::{Dataset, SourceOptions};
use cnncodes::extract::ExtractSettings;
use cnncodes::head::HeadKind;
use cnncodes::network::{ModelsFolder, Pooling, Precision};
use cnncodes::sweep::{LayerChoice, POOLINGS, SPREAD_LAYERS, SearchSpace, Sweep, SweepEvent, SweepSettings};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::failed;
use crate::extractor::{Compute, parsed};
use crate::process::not_forked;
use crate::progress::Progress;

/// What is to be tried, and how.
#[derive(FromPyObject)]
struct Trials {
    #[pyo3(item)]
    layers: Vec<String>,
    #[pyo3(item)]
    pool: Vec<String>,
    #[pyo3(item)]
    heads: Vec<String>,
    #[pyo3(item)]
    folds: usize,
    #[pyo3(item)]
    seed: u64,
    #[pyo3(item)]
    force: bool,
}

/// A kind of head by its name.
fn kind_of(name: &str) -> PyResult<HeadKind> {
    match name {
        "svm" => Ok(HeadKind::Svm),
        "logistic" => Ok(HeadKind::Logistic),
        "ridge" => Ok(HeadKind::Ridge),
        _ => Err(PyValueError::new_err(format!(
            "{name:?} is no kind of head; there are svm, logistic and ridge"
        ))),
    }
}

/// Compares layers and heads on labelled images; gives what the command prints as JSON, and the same as text.
#[pyfunction]
#[pyo3(signature = (images, networks, models, trials, compute, progress))]
fn sweep(
    py: Python<'_>,
    images: Vec<PathBuf>,
    networks: Vec<String>,
    models: PathBuf,
    trials: Trials,
    compute: Compute,
    progress: Option<Py<PyAny>>,
) -> PyResult<(String, String)> {
    not_forked()?;
    let progress = Progress::new(progress);
    let settings = compute.settings(Precision::Fp32)?;
    let space = SearchSpace { folds: trials.folds, seed: trials.seed, ..SearchSpace::default() };
    let kinds = trials.heads.iter().map(|kind| kind_of(kind)).collect::<PyResult<Vec<_>>>()?;
    let poolings = trials.pool.iter().map(|pool| parsed(pool)).collect::<PyResult<Vec<Pooling>>>()?;
    let sweep = SweepSettings {
        layers: match &trials.layers[..] {
            [] => LayerChoice::Spread(SPREAD_LAYERS),
            [all] if all == "all" => LayerChoice::All,
            names => LayerChoice::Named(names.to_vec()),
        },
        poolings: if poolings.is_empty() { POOLINGS.to_vec() } else { poolings },
        heads: if kinds.is_empty() { space } else { SearchSpace { kinds, ..space } },
        extract: ExtractSettings {
            batch_size: settings.batch_size,
            max_pixels: settings.max_pixels,
            threads: settings.session.threads,
            force: trials.force,
            ..ExtractSettings::default()
        },
        session: settings.session,
        stop: Arc::clone(progress.stop()),
        ..SweepSettings::default()
    };
    py.detach(|| {
        let folder = ModelsFolder { path: models };
        let images = Dataset::open(&images, &SourceOptions::default()).map_err(failed)?;
        let networks = match &networks[..] {
            [] => vec![folder.find(None).map_err(failed)?],
            names => {
                names.iter().map(|name| folder.find(Some(name)).map_err(failed)).collect::<PyResult<_>>()?
            }
        };
        let swept = Sweep::run(images, networks, &sweep, &mut |event| {
            let (what, at) = match event {
                SweepEvent::Extracted(at) => ("features", at),
                SweepEvent::Timed(at) => ("timing", at),
                SweepEvent::Fitted(at) => ("heads", at),
                _ => return,
            };
            progress.tell_phase(what, at.done, at.total);
        });
        let result = progress.result(swept.map_err(failed))?.result;
        Ok((serde_json::to_string(&result).map_err(failed)?, result.to_text()))
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sweep, module)?)
}
