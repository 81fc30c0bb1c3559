//! Pictures that show which parts of an image support its class.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use cnncodes::classifier::{Answer, AnswerOptions};
use cnncodes::dataset::Dataset;
use cnncodes::explain::{ExplainError, ExplainSettings, Explainer, ExplainingClassifier, OcclusionSettings};
use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;

use crate::errors::{ImageError, failed};
use crate::extractor::{Compute, network_of};
use crate::heads::HeadFile;
use crate::images::image_of;
use crate::process::not_forked;

/// Explains the answer for one image: JSON of the explained classes, with the paths of the pictures in `folder`, and of the
/// training images that are most alike.
#[pyfunction]
#[pyo3(signature = (head, models, compute, image, classes, folder, occlusion))]
#[expect(clippy::too_many_arguments, reason = "Python's side has the names")]
fn explain(
    py: Python<'_>,
    head: &HeadFile,
    models: PathBuf,
    compute: Compute,
    image: (String, Option<Bound<'_, PyAny>>),
    classes: Vec<String>,
    folder: PathBuf,
    occlusion: (Option<usize>, Option<usize>),
) -> PyResult<String> {
    not_forked()?;
    let (name, content) = image;
    let set = Dataset::from_images([(name, image_of(content.as_ref())?)]);
    py.detach(|| {
        let (graph, layer) = network_of(head, models)?;
        let head = &*head.head;
        let known = &head.model.class_names;
        let position = |name: &String| {
            known.iter().position(|class| class == name).ok_or_else(|| {
                PyValueError::new_err(format!(
                    "the head has no class {name:?}; it knows {}",
                    known.join(", ")
                ))
            })
        };
        let classes = classes.iter().map(position).collect::<PyResult<Vec<_>>>()?;
        let spec = &head.provenance.spec;
        let settings = compute.settings(spec.precision)?;
        let occlusion = OcclusionSettings { size: occlusion.0, stride: occlusion.1 };
        let how = ExplainSettings { session: settings.session, occlusion };
        let explainer = Explainer::open(&graph, &layer, head, &spec.preprocess, &how).map_err(failed)?;
        let mut classifier = ExplainingClassifier::new(head, explainer, folder, classes, settings.max_pixels)
            .map_err(failed)?;
        let stop = AtomicBool::new(false);
        let mut progress = |_, _| {
            if Python::attach(|py| py.check_signals()).is_err() {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let mut found = None;
        let taken = classifier.classify_each::<Failure>(
            set.samples.iter(),
            AnswerOptions::default(),
            &mut progress,
            |answer| {
                found = Some(answer.map(|(_, answer, explanation)| (answer, explanation)));
                Ok(())
            },
        );
        taken.map_err(|Failure(error)| failed(error))?;
        if stop.load(Ordering::Relaxed) {
            return Err(PyKeyboardInterrupt::new_err(()));
        }
        match found {
            Some(Ok((Answer { ranked, .. }, explanation))) => {
                let ranked: Vec<(&str, f64)> =
                    ranked.iter().map(|&(class, probability)| (&*known[class], probability)).collect();
                Ok(serde_json::json!({
                    "ranked": ranked,
                    "classes": explanation.classes,
                    "nearest": explanation.nearest,
                })
                .to_string())
            }
            Some(Err(problem)) => Err(ImageError::new_err(format!("{}: {}", problem.name, problem.reason))),
            None => Err(ImageError::new_err("there is no image")),
        }
    })
}

/// The only way in which an explanation fails.
struct Failure(ExplainError);

impl From<ExplainError> for Failure {
    fn from(error: ExplainError) -> Self {
        Self(error)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(explain, module)?)
}
