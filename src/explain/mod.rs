//! Which parts of a picture a head's answer rests on, as a map over the picture.
//!
//! If the features are a map of activations, or were pooled from one, a linear head's score is a sum over the places of the
//! map, and the terms of that sum are the explanation: exact, and free of any choice ([`ActivationMap`](Method)). Features
//! of dense layers have no place, and the score of a head with a kernel is no sum. Then patches of the picture are covered
//! one after the other, and what the score falls by is the explanation ([`Occlusion`](Method)). [`ExplainingClassifier`]
//! explains the answers for many photos, and writes the pictures.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use cnncodes::{network::*, explain::*, head::Head, images::*};
//! # let (graph, layer): (Graph, Layer) = unimplemented!();
//! # let preprocess: Preprocess = unimplemented!();
//! let head = Head::load("models/pets.head.h5".as_ref())?;
//! let photo = decode(&std::fs::read("cat.jpg")?, &DecodeOptions::default())?;
//! let mut explainer = Explainer::open(&graph, &layer, &head, &preprocess, &ExplainSettings::default())?;
//! let pass = explainer.run_on(&photo)?;
//! let why = explainer.explain(&pass, &[pass.top()], &mut |_, _| {})?;
//! let picture = overlay(&photo, preprocess.window(photo.width(), photo.height()), &why[0].map);
//! # Ok(()) }
//! ```

mod answer_record;
mod cam;
mod classifier;
mod error;
mod occlusion;
mod overlay;
mod overlay_folder;
mod training_features;

use ndarray::{Array2, ArrayView2};

pub use self::answer_record::{AnswerRecord, RankedClass};
pub use self::classifier::{ClassExplanation, ExplainingClassifier, ImageExplanation};
pub use self::error::ExplainError;
pub use self::occlusion::OcclusionSettings;
pub use self::overlay::{overlay, write_png};
pub use self::training_features::SimilarImage;
#[cfg(feature = "serve")]
pub(crate) use self::training_features::TrainingFeatures;
use crate::head::{Head, HeadError, HeadModel, SolverError};
use crate::images::Preprocess;
use crate::network::{Activations, Backbone, Graph, Layer, Pooling, SessionSettings, pooled_map};
use cnncodes_linear_heads::highest;

/// How far the mean over a map may be from the feature that it is taken to be, as a share of the largest feature.
const SAME_MEAN: f32 = 1e-3;

/// Where an explanation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExplainMethod {
    /// The terms of the score's sum over the places of the map.
    ActivationMap,
    /// What the score falls by where a patch is covered.
    Occlusion,
}

impl std::fmt::Display for ExplainMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ExplainMethod::ActivationMap => "class activation map",
            ExplainMethod::Occlusion => "occlusion",
        })
    }
}

/// How to explain.
#[derive(Debug, Clone, Default)]
pub struct ExplainSettings {
    /// What the network runs on.
    pub session: SessionSettings,
    /// Patches, where the features have no place.
    pub occlusion: OcclusionSettings,
}

/// Why a picture gets its score for one class.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Index of the class in the head.
    pub class: usize,
    /// The head's score of the class, before it is made a probability.
    pub score: f64,
    /// Where [`map`](Self::map) comes from.
    pub method: ExplainMethod,
    /// What of the score belongs to no place; the map's sum and this are the score. None for occlusion, whose map is no
    /// sum.
    pub bias: Option<f64>,
    /// A value for each place, rows x columns, over the part of the picture that the network sees. Positive: speaks for
    /// the class. An activation map's zero is the average training image.
    pub map: Array2<f64>,
}

/// What one run of the network gives for a picture: features, scores, and the map that they come from.
#[derive(Debug, Clone)]
pub struct ForwardPass {
    /// The network's input.
    tensor: Vec<f32>,
    /// The head's input.
    features: Vec<f32>,
    /// A score for each class.
    scores: Vec<f64>,
    /// The activations that the features are made of, their form, and how they become features; none where they have no places.
    map: Option<(Vec<f32>, Activations, Pooling)>,
}

impl ForwardPass {
    /// The features of the picture, as the head takes them.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// The head's score for each class.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// How its scores can be explained.
    pub fn method(&self) -> ExplainMethod {
        if self.map.is_some() { ExplainMethod::ActivationMap } else { ExplainMethod::Occlusion }
    }

    /// The class of the highest score.
    pub fn top(&self) -> usize {
        highest(self.scores.iter().copied())
    }
}

/// A head with its network, ready to explain.
pub struct Explainer<'h> {
    head: &'h HeadModel,
    backbone: Backbone,
    preprocess: Preprocess,
    occlusion: OcclusionSettings,
    /// How the head's features are pooled from the tapped layer.
    pooling: Pooling,
    /// Form of the map or the tokens that the head's layer is the mean of, which are then the second tap.
    pooled: Option<Activations>,
}

impl<'h> Explainer<'h> {
    /// Opens `graph`, the network of `head`, at the head's `layer`, and at the map that enters it where the layer is the
    /// network's global average pooling.
    ///
    /// # Errors
    /// The network cannot be run.
    pub fn open(
        graph: &Graph,
        layer: &Layer,
        head: &'h Head,
        preprocess: &Preprocess,
        settings: &ExplainSettings,
    ) -> Result<Explainer<'h>, ExplainError> {
        let pooling = head.provenance.spec.pooling;
        let mut layers = vec![layer.clone()];
        layers.extend(pooled_map(graph, layer));
        let backbone = Backbone::open(graph, &layers, preprocess.size(), &settings.session)?;
        let features = &backbone.taps()[0].activations;
        let pooled = backbone.taps().get(1).map(|tap| &tap.activations).filter(|source| {
            source.places().is_some()
                && source
                    .pooling(Pooling::Average)
                    .is_ok_and(|mean| source.pooled_shape(mean) == features.shape)
        });
        let pooling = backbone.taps()[0].suited_pooling(pooling, &graph.path().display().to_string())?;
        let pooled = pooled.cloned();
        Ok(Explainer {
            head: &head.model,
            pooling,
            pooled,
            backbone,
            preprocess: preprocess.clone(),
            occlusion: settings.occlusion,
        })
    }

    /// The network, for what it says about itself.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Runs the network on a decoded picture.
    ///
    /// # Errors
    /// As [`Self::run`], or the picture cannot be resized.
    pub fn run_on(&mut self, picture: &image::RgbImage) -> Result<ForwardPass, ExplainError> {
        let mut tensor = vec![0.0; self.backbone.image_len()];
        self.preprocess.apply(picture, self.backbone.layout(), &mut tensor)?;
        self.run(tensor)
    }

    /// Runs the network on a preprocessed picture, one input of the network.
    ///
    /// # Errors
    /// The network fails, or the head does not fit its features.
    pub fn run(&mut self, tensor: Vec<f32>) -> Result<ForwardPass, ExplainError> {
        let mut taps: Vec<Vec<f32>> =
            self.backbone.run(&tensor)?.iter().map(|values| values.to_vec()).collect();
        let activations = &self.backbone.taps()[0].activations;
        let mut features = Vec::new();
        activations.pool(self.pooling, &taps[0], &mut features);
        let scores = self.head.scores(row(&features)?)?.row(0).to_vec();
        let map = match &self.pooled {
            // With a kernel the score is no sum over places.
            _ if self.head.kernel.is_some() => None,
            _ if cam::has_places(activations, self.pooling) => {
                Some((taps.swap_remove(0), activations.clone(), self.pooling))
            }
            Some(source) => {
                let map = taps.swap_remove(1);
                mean_of(&map, source, &features).map(|mean| (map, source.clone(), mean))
            }
            None => None,
        };
        Ok(ForwardPass { tensor, features, scores, map })
    }

    /// Explains the scores of `classes` for the picture. `progress` is told how many of how many covered pictures have
    /// been run.
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// # Panics
    /// The head has no such class.
    pub fn explain(
        &mut self,
        pass: &ForwardPass,
        classes: &[usize],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Explanation>, ExplainError> {
        let by_places = pass.map.as_ref().and_then(|(map, activations, pooling)| {
            let explained = classes.iter().map(|&class| {
                let terms = cam::LinearTerms::of(self.head, class, &pass.features);
                let (map, bias) = cam::explained(&terms, map, activations, *pooling)?;
                Some(Explanation {
                    class,
                    score: pass.scores[class],
                    method: ExplainMethod::ActivationMap,
                    bias: Some(bias),
                    map,
                })
            });
            explained.collect::<Option<Vec<_>>>()
        });
        if let Some(explained) = by_places {
            return Ok(explained);
        }
        let (head, pooling, backbone) = (self.head, self.pooling, &mut self.backbone);
        let (width, height) = self.preprocess.size();
        let covered = occlusion::OccludedImage {
            tensor: &pass.tensor,
            layout: backbone.layout(),
            size: (width as usize, height as usize),
            settings: self.occlusion,
        };
        let activations = backbone.taps()[0].activations.clone();
        let mut score = |pictures: &[f32], count: usize| -> Result<Array2<f64>, ExplainError> {
            let mut features = Vec::new();
            if let Some(values) = backbone.run(pictures)?.first() {
                activations.pool(pooling, values, &mut features);
            }
            Ok(head.scores(rows(&features, count)?)?)
        };
        let drops = covered.drops(&pass.scores, classes, &mut score, progress)?;
        let explained = classes.iter().zip(drops).map(|(&class, map)| Explanation {
            class,
            score: pass.scores[class],
            method: ExplainMethod::Occlusion,
            bias: None,
            map,
        });
        Ok(explained.collect())
    }
}

fn row(features: &[f32]) -> Result<ArrayView2<'_, f32>, HeadError> {
    rows(features, 1)
}

fn rows(features: &[f32], count: usize) -> Result<ArrayView2<'_, f32>, HeadError> {
    let columns = features.len() / count.max(1);
    ArrayView2::from_shape((count, columns), features).map_err(|_| {
        let (expected, found) = (columns * count, features.len());
        SolverError::Mismatch { what: "features of an image", expected, found }.into()
    })
}

/// How `features` are the mean over the places of `source`, if they are: the pooling that topology found may have covered a part
/// only.
fn mean_of(values: &[f32], source: &Activations, features: &[f32]) -> Option<Pooling> {
    let pooling = source.pooling(Pooling::Average).ok()?;
    let mut means = Vec::new();
    source.pool(pooling, values, &mut means);
    let largest = features.iter().fold(0.0f32, |largest, feature| largest.max(feature.abs()));
    let close = |(mean, feature): (&f32, &f32)| (mean - feature).abs() <= SAME_MEAN * largest;
    (means.len() == features.len() && means.iter().zip(features).all(close)).then_some(pooling)
}
