//! [`ServedHead`]: the head that answers, with its network, its training images and its explanations.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::ServeError;
use super::batcher::Batcher;
use super::explain_queue::ExplainQueue;
use super::metrics::Metrics;
use crate::classifier::HeadNetwork;
use crate::evaluate::Proportion;
use crate::explain::TrainingFeatures;
use crate::extract::ExtractorSettings;
use crate::feature_spec::{FeatureSpec, NetworkError};
use crate::head::{Head, HeadKind};
use crate::network::{Graph, Layer, ModelsFolder, SessionSettings};
use crate::report::Photos;

/// Where the network of a head is read from, each time that it is opened.
#[derive(Debug, Clone)]
pub(super) enum NetworkSource {
    Models(ModelsFolder),
    /// An exported classifier.
    Sealed(PathBuf),
}

impl NetworkSource {
    /// The network of `spec` and its layer.
    pub fn open(&self, spec: &FeatureSpec) -> Result<(Graph, Layer), ServeError> {
        match self {
            Self::Models(models) => Ok(spec.network(models)?),
            Self::Sealed(file) => {
                let models = ModelsFolder { path: PathBuf::new() };
                let (_, network) = HeadNetwork::of_file(file, &models)?;
                Ok(network.open(spec)?)
            }
        }
    }
}

/// A head as clients see it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct HeadInfo {
    pub name: String,
    pub saved: bool,
    /// Its file; none if it is not saved.
    pub file: Option<String>,
    pub classes: Vec<String>,
    pub kind: HeadKind,
    pub network: String,
    pub layer: String,
    pub accuracy: Proportion,
    /// Whether it can make prediction sets.
    pub coverage: bool,
    /// Whether it can call an image unknown.
    pub unknown: bool,
    /// Whether the nearest training images are known.
    pub neighbors: bool,
}

impl HeadInfo {
    /// Of a head in `file`, or of one that is not saved.
    pub fn new(name: &str, file: Option<&Path>, head: &Head, neighbors: bool) -> Self {
        Self {
            name: name.to_owned(),
            saved: file.is_some(),
            file: file.map(|file| file.display().to_string()),
            classes: head.model.class_names.clone(),
            kind: head.model.settings.kind,
            network: head.provenance.spec.network_name().to_owned(),
            layer: head.provenance.spec.layer.clone(),
            accuracy: head.evaluation.accuracy,
            coverage: head.model.conformal.is_some(),
            unknown: head.model.novelty.is_some(),
            neighbors,
        }
    }
}

/// The images that a head was fitted to.
pub(super) struct TrainingImages {
    pub features: TrainingFeatures,
    names: HashSet<String>,
    photos: Photos,
}

impl TrainingImages {
    fn of(head: &Head) -> Option<Self> {
        let features = TrainingFeatures::of(head).ok()?;
        let file = features.file();
        let photos = Photos::of_features(&file.header().source, file.path());
        let names = file.image_names().iter().cloned().collect();
        Some(Self { features, names, photos })
    }

    /// The file of the training image `name`; none if the head was not fitted to an image of that name.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.names.contains(name).then(|| self.photos.path(name))
    }
}

/// A head, and all that its answers need.
pub(super) struct ServedHead {
    pub info: HeadInfo,
    pub head: Arc<Head>,
    pub batcher: Arc<Batcher>,
    pub training: Option<TrainingImages>,
    pub explanations: ExplainQueue,
    pub network: NetworkSource,
}

/// How heads are opened.
#[derive(Clone)]
pub(super) struct HeadOpener {
    pub models: ModelsFolder,
    pub extractor: ExtractorSettings,
    pub metrics: Arc<Metrics>,
}

impl HeadOpener {
    /// Opens the head in `file`. It is called `name`; `saved` is where the user knows it to be. A network that `before` has opened
    /// is not opened again.
    ///
    /// # Errors
    /// The head or its network cannot be read or run.
    pub fn open(
        &self,
        name: &str,
        file: &Path,
        saved: Option<&Path>,
        before: Option<&ServedHead>,
    ) -> Result<ServedHead, ServeError> {
        let (head, opened) = HeadNetwork::of_file(file, &self.models)?;
        let network = match opened {
            HeadNetwork::Models(_) => NetworkSource::Models(self.models.clone()),
            HeadNetwork::Sealed(_) => NetworkSource::Sealed(file.to_owned()),
        };
        let spec = head.provenance.spec.clone();
        let precision = spec.precision;
        let session = SessionSettings {
            device: self.extractor.session.device.in_precision(precision),
            precision,
            ..self.extractor.session.clone()
        };
        let batcher = match before.filter(|before| before.batcher.spec().difference(&spec).is_none()) {
            Some(before) => Arc::clone(&before.batcher),
            None => {
                let (graph, layer) = opened.open(&spec)?;
                let settings = ExtractorSettings { session: session.clone(), ..self.extractor.clone() };
                Arc::new(Batcher::open(spec, graph, layer, &settings, Arc::clone(&self.metrics))?)
            }
        };
        let (head, training) = (Arc::new(head), None);
        let mut served = ServedHead {
            info: HeadInfo::new(name, saved, &head, false),
            explanations: ExplainQueue::new(
                Arc::clone(&head),
                network.clone(),
                session,
                self.extractor.max_pixels,
            ),
            head,
            batcher,
            training,
            network,
        };
        served.training = TrainingImages::of(&served.head);
        served.info.neighbors = served.training.is_some();
        Ok(served)
    }
}

impl From<NetworkError> for ServeError {
    fn from(error: NetworkError) -> Self {
        Self::Network(error)
    }
}
