//! The features of all candidate layers of a network: one pass over the images, and one features file.

use std::path::Path;
use std::time::Instant;

use super::{
    CandidateFeatures, CandidateLayer, CandidateLayers, NetworkSummary, SweepError, SweepEvent,
    SweepSettings, milliseconds,
};
use crate::dataset::{Dataset, InputProblem};
use crate::extract::{ExtractEvent, ExtractProgress, ExtractRequest, WantedLayer, extract};
use crate::features::{
    FeatureFile, FeatureFileError, FeatureFileHeader, FeatureRow, FeatureWriter, WriteOptions,
};
use crate::images::PreprocessOverrides;
use crate::network::{Catalogue, Layer, Model, Pooling, SessionSettings};

/// A network with the features of its candidate layers.
pub(super) struct NetworkFeatures {
    pub(super) model: Model,
    layers: CandidateLayers,
    /// The features under each pooling, in the order of the file: the deepest layer's first.
    pub(super) candidates: Vec<CandidateFeatures>,
    pub(super) file: FeatureFile,
    /// The images that could not be read.
    pub(super) problems: Vec<InputProblem>,
    seconds: f64,
}

impl NetworkFeatures {
    /// Runs `images` through `model`, the `network`-th of the sweep, for the features of all its candidate layers under all
    /// their poolings; what the file holds already is reused.
    pub(super) fn extract(
        network: usize,
        model: Model,
        images: &Dataset,
        settings: &SweepSettings,
        tell: &mut dyn FnMut(SweepEvent<'_>),
    ) -> Result<Self, SweepError> {
        let start = Instant::now();
        let graph = model.open()?;
        let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
        let preprocess = model.manifest.preprocess.with(&PreprocessOverrides {
            exif_orientation: settings.ignore_orientation.then_some(false),
            ..Default::default()
        })?;
        let size = preprocess.size();
        let SweepSettings { layers: wanted, poolings, .. } = settings;
        let layers = CandidateLayers::new(&model.name, &graph, &catalogue, size, wanted, poolings)?;
        // The deepest first: a file's first layer is what other commands take unless they are told.
        let taps: Vec<(&CandidateLayer, Pooling)> = layers
            .layers
            .iter()
            .rev()
            .flat_map(|layer| layer.poolings.iter().rev().map(move |&pooling| (layer, pooling)))
            .collect();
        // Features of one layer under two poolings need two names in the file.
        let named = |&(layer, pooling): &(&CandidateLayer, Pooling)| match pooling {
            Pooling::None => layer.layer.clone(),
            pooling => Layer { name: format!("{}@{pooling}", layer.layer.name), ..layer.layer.clone() },
        };
        let tapped: Vec<Layer> = taps.iter().map(named).collect();
        let describe = |(&(layer, pooling), named): (&(&CandidateLayer, Pooling), &Layer)| {
            let shape = layer.activations.pooled_shape(pooling);
            CandidateFeatures {
                network,
                layer: layer.layer.name.clone(),
                tensor: layer.layer.tensor.clone(),
                pooling,
                default_pooling: layer.layer.default_pooling(),
                name: named.name.clone(),
                width: shape.iter().product(),
                shape,
                multiply_adds: layer.multiply_adds,
                share: layer.multiply_adds as f64 / layers.total.max(1) as f64,
                milliseconds: None,
                top: layer.top,
            }
        };
        let mut candidates: Vec<CandidateFeatures> = taps.iter().zip(&tapped).map(describe).collect();
        let output = settings.folder.join(format!("{}-sweep.h5", model.name));
        let session = SessionSettings { shared_cores: true, ..settings.session.clone() };
        let wanted = |(layer, &(_, pooling)): (Layer, &(&CandidateLayer, Pooling))| {
            WantedLayer::new(&model, layer, pooling, &preprocess, session.precision)
        };
        let tapped: Vec<WantedLayer> = tapped.into_iter().zip(&taps).map(wanted).collect();
        let request = ExtractRequest {
            samples: images,
            graph: &graph,
            layers: &tapped,
            session: &session,
            output: &output,
            settings: &settings.extract,
        };
        let summary = extract(&request, &settings.stop, &mut |event| match event {
            ExtractEvent::Progress(progress) => tell(SweepEvent::Extracted(progress)),
            ExtractEvent::Note(note) => tell(SweepEvent::Note(note)),
            ExtractEvent::Planned(_) | ExtractEvent::Arranged(_) | ExtractEvent::Problem(_) => {}
        })?;
        let seconds = start.elapsed().as_secs_f64();
        if settings.timing {
            let total = layers.layers.len();
            for (done, CandidateLayer { layer, .. }) in layers.layers.iter().enumerate() {
                tell(SweepEvent::Timed(ExtractProgress { done, total }));
                let measured = milliseconds(&graph, layer, size, &settings.session)?;
                let of_layer = candidates.iter_mut().filter(|features| features.tensor == layer.tensor);
                of_layer.for_each(|features| features.milliseconds = Some(measured));
            }
            tell(SweepEvent::Timed(ExtractProgress { done: total, total }));
        }
        let file = FeatureFile::open(&output)?;
        Ok(Self { model, layers, candidates, file, problems: summary.problems, seconds })
    }

    pub(super) fn summary(&self) -> NetworkSummary {
        NetworkSummary {
            name: self.model.name.clone(),
            sha256: self.model.manifest.sha256.clone(),
            multiply_adds: self.layers.total,
            features_file: self.file.path().display().to_string(),
            layers: self.layers.layers.len(),
            top: self.layers.top().layer.name.clone(),
            seconds: self.seconds,
        }
    }

    /// Writes the features of one candidate to a file of their own, as those of their layer.
    pub(super) fn write_alone(
        &self,
        features: &CandidateFeatures,
        output: &Path,
    ) -> Result<(), FeatureFileError> {
        let file = &self.file;
        let mut layer = file.layer(Some(&features.name))?.clone();
        layer.spec.layer.clone_from(&features.layer);
        let header = FeatureFileHeader { layers: vec![layer], ..file.header().clone() };
        let options = WriteOptions { overwrite: true, expected_rows: file.rows() };
        let mut writer = FeatureWriter::create(output, &header, options)?;
        let values = file.read_layer(Some(&features.name))?;
        let values: Vec<[&[f32]; 1]> = values
            .rows()
            .into_iter()
            .map(|row| [row.to_slice().expect("features are read in standard layout")])
            .collect();
        let rows: Vec<FeatureRow<'_>> = values
            .iter()
            .enumerate()
            .map(|(at, features)| FeatureRow {
                name: &file.image_names()[at],
                label: file.labels()[at],
                sha256: &file.sha256()[at],
                perceptual_hash: file.perceptual_hash(at),
                features,
            })
            .collect();
        writer.append(&rows, file.errors())?;
        writer.finish()
    }
}
