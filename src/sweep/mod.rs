//! The sweep: which layer of which network, and which head, suits a set of images.
//!
//! cs231n's notes on transfer learning advise top features for images like those that the network was trained on, and
//! earlier activations for others, and leave it to the reader to guess which case is theirs. [`Sweep::run`] measures it:
//! [`CandidateLayers`] picks the layers, one forward pass computes their features, [`try_heads`] cross-validates heads on
//! them, and [`advise`] says what follows. [`SweepResult`] is all of it as data. `docs/sweep.md` has the formulae.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use cnncodes::{dataset::Dataset, network::ModelsFolder, sweep::{Sweep, SweepSettings}};
//!
//! let models = ModelsFolder { path: "models".into() };
//! let photos = Dataset::from_folder("data".as_ref())?;
//! let sweep = Sweep::run(photos, vec![models.find(Some("vgg16"))?], &SweepSettings::default(), &mut |_| ())?;
//! println!("{}", sweep.result.to_text());
//!
//! let best = &sweep.result.candidates[sweep.result.advice.best];
//! sweep.fit(best)?.head.save("models/best.head.h5".as_ref())?;
//! # Ok(()) }
//! ```

mod advise;
mod candidate_layers;
mod compare;
mod error;
mod network_features;
mod run;
mod text;
mod timing;

use serde::{Deserialize, Serialize};

pub use advise::{Advice, DatasetSize, EQUAL_WITHIN, LARGE_CLASS, Scenario, Selection, Similarity, advise};
pub use candidate_layers::{
    CandidateLayer, CandidateLayers, CandidateLayersError, LayerChoice, POOLINGS, SPREAD_LAYERS,
};
pub use compare::{GRID, HeadTrial, SearchSpace, try_heads};
pub use error::SweepError;
pub use run::{Sweep, SweepEvent, SweepSettings};
pub use timing::milliseconds;

use crate::dataset::DuplicateSet;
use crate::evaluate::{Note, Proportion};
use crate::head::HeadKind;
use crate::network::Pooling;

/// Everything that a sweep found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepResult {
    /// What the user named as the source of the images.
    pub source: String,
    /// Names of the classes, in order.
    pub class_names: Vec<String>,
    /// Number of images of each class.
    pub class_sizes: Vec<usize>,
    /// Number of images.
    pub rows: usize,
    /// Number of groups of images that were kept together; equal to `rows` when no duplicates were found.
    pub groups: usize,
    /// Folds of the outer cross-validation.
    pub folds: usize,
    /// Seed of all folds.
    pub seed: u64,
    /// Share of the largest class: what always guessing it would give.
    pub chance: f64,
    /// The networks, in the order in which they were named.
    pub networks: Vec<NetworkSummary>,
    /// Every layer with every pooling and every kind of head: networks in order, the earliest layer first.
    pub candidates: Vec<CandidateHead>,
    /// What follows from it.
    pub advice: Advice,
    /// Commands that do what is advised, in order.
    pub next: Vec<NextStep>,
    /// Images that were taken for duplicates of one another.
    pub duplicates: Vec<DuplicateSet<String>>,
    /// What else the reader should know.
    pub notes: Vec<Note>,
}

/// A network that took part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkSummary {
    /// The name of its manifest.
    pub name: String,
    /// SHA-256 of its graph, in lower-case hexadecimal.
    pub sha256: String,
    /// Multiply-adds of the whole network for one image.
    pub multiply_adds: u64,
    /// The file that holds the features of all its layers.
    #[serde(rename = "codes_file")]
    pub features_file: String,
    /// Number of layers that were compared.
    pub layers: usize,
    /// The deepest of them.
    pub top: String,
    /// Seconds that reading the images and computing the features of all layers took; 0 if they were there already.
    pub seconds: f64,
}

/// Features that a sweep compares: of one layer, under one pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateFeatures {
    /// The network, an index into [`SweepResult::networks`].
    pub network: usize,
    /// The layer's name.
    pub layer: String,
    /// The ONNX tensor that was tapped.
    pub tensor: String,
    /// How its maps were pooled; [`Pooling::None`] if it has none.
    pub pooling: Pooling,
    /// What `extract` takes of the layer unless it is told otherwise.
    #[serde(skip)]
    pub default_pooling: Pooling,
    /// The name of the features in the network's file.
    pub name: String,
    /// Shape of one image's features.
    pub shape: Vec<usize>,
    /// Number of features of an image.
    #[serde(rename = "codes")]
    pub width: usize,
    /// Multiply-adds for one image up to and with the layer.
    pub multiply_adds: u64,
    /// The same as a share of the whole network's.
    pub share: f64,
    /// Milliseconds that the network cut at this layer took for a single image, if that was measured.
    pub milliseconds: Option<f64>,
    /// Whether these are top features: of the network's deepest layer of those compared, or of the maps that this averages.
    pub top: bool,
}

/// A kind of head on the features of a layer, cross-validated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateHead {
    /// The features.
    #[serde(flatten)]
    pub features: CandidateFeatures,
    /// The kind of head.
    pub kind: HeadKind,
    /// C, as chosen by cross-validation among all images; for ridge regression, which chooses its penalty itself, none.
    pub c: Option<f64>,
    /// Share of held-out images that were classified rightly, C chosen anew in each fold without them.
    pub accuracy: Proportion,
    /// The same in each fold.
    pub fold_accuracies: Vec<f64>,
    /// Mean `-ln p` of the true class of held-out images.
    pub log_loss: f64,
    /// For each fold, how the head did within the training images: what a choice may go by that is to be judged on the
    /// fold's own images.
    pub inner: Vec<InnerValidation>,
    /// Seconds that cross-validating and fitting took.
    pub seconds: f64,
}

/// What users call a kind of head: its option of `fit-head`.
pub fn kind_name(kind: HeadKind) -> &'static str {
    match kind {
        HeadKind::Svm => "svm",
        HeadKind::Logistic => "logistic",
        HeadKind::Ridge => "ridge",
    }
}

/// The outcome of a cross-validation within the training images of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InnerValidation {
    /// Mistakes on inner held-out images, with the best C.
    pub mistakes: usize,
    /// Number of images.
    pub rows: usize,
}

/// A command to run next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextStep {
    /// What it does, in a few words.
    pub what: String,
    /// The program's arguments, its own name left out.
    pub arguments: Vec<String>,
}
