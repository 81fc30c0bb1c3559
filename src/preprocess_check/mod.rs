//! Does a preprocessing fit its network? The network itself is asked, by how sure it is of some images.
//!
//! A network that still has its classifier is surest of pixels as it was trained with. So plausible recipes are tried on the
//! same images and ranked by [`standing_out`](confidence::standing_out). The largest probability, the obvious measure, does not
//! serve: with pixels that are far too large, networks are sure of one class whatever they see (docs/preprocessing.md has the
//! figures).
//!
//! Colours come first: the order of the channels and their normalisation, all with one crop and filter. Then crops and
//! filters are tried with the best colours.

mod confidence;
mod recipes;
mod text;

use image::RgbImage;
use rand::{SeedableRng, seq::index};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use crate::dataset::{Dataset, Problem, Sample};
use crate::extract::{ImageReader, Readers};
use crate::images::{DEFAULT_MAX_PIXELS, Layout, Preprocess, PreprocessError, PreprocessOverrides};
use crate::network::{Backbone, BackboneError, Graph, SessionSettings, class_scores};
use confidence::{chance_limit, paired_interval, standing_out};
pub use text::options_of;

/// Images that are run together.
const BATCH: usize = 8;

/// Fewer images than this say nothing.
const FEWEST_IMAGES: usize = 8;

/// Images that are tried unless told otherwise.
pub const DEFAULT_IMAGES: usize = 64;

/// Which images are tried, and what the network runs on.
#[derive(Debug, Clone)]
pub struct CheckSettings {
    /// At most so many images.
    pub images: usize,
    /// Seed of their choice.
    pub seed: u64,
    /// What the network runs on.
    pub session: SessionSettings,
}

impl Default for CheckSettings {
    fn default() -> Self {
        Self { images: DEFAULT_IMAGES, seed: 0, session: SessionSettings::default() }
    }
}

/// The recipe to begin with.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// The one that somebody chose; the others are compared with it.
    Chosen(&'a Preprocess),
    /// Its crop and its filter are as good as any; its colours are nothing special.
    Unchosen(&'a Preprocess),
}

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum CheckError {
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    #[error(
        "only {readable} of the {tried} images of {source_name} that were tried could be read; a check needs {FEWEST_IMAGES}"
    )]
    FewImages { readable: usize, tried: usize, source_name: String },
}

/// A recipe with its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedRecipe {
    /// The recipe.
    pub preprocess: Preprocess,
    /// How far the winning class stands out, in standard deviations of the scores, on average over the images.
    pub confidence: f64,
    /// The surest recipe's confidence less this one's.
    pub behind: f64,
    /// 99 % interval of that, by a bootstrap over the images.
    pub interval: [f64; 2],
    /// Whether that difference is within the noise.
    pub tied: bool,
    /// Whether it is the one to be checked.
    pub chosen: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// No recipe makes the network surer than the chosen one, and the network tells at least some of them apart.
    Fits,
    /// Another order or normalisation of the colours makes the network clearly surer.
    Better,
    /// Nothing was chosen, and this is how sure the first of the ranking is.
    Surest {
        /// Whether its colours are clearly ahead of all others.
        clearly: bool,
    },
    /// The network does not say.
    CannotTell {
        /// The reason.
        why: String,
    },
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreprocessCheck {
    #[serde(flatten)]
    /// What it comes to.
    pub verdict: Verdict,
    /// Images that were tried.
    pub images: usize,
    /// Classes of the network; 0 where it has no classifier.
    pub classes: usize,
    /// What the confidence of scores without meaning exceeds once in a thousand times.
    pub chance_limit: f64,
    /// The surest first; of those that are tied with it, the chosen one.
    pub ranking: Vec<RankedRecipe>,
    /// Images that could not be read.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// A recipe that was tried: how sure the network was of each image.
struct Trial {
    preprocess: Preprocess,
    confidence: Vec<f64>,
}

impl Trial {
    fn mean(&self) -> f64 {
        self.confidence.iter().sum::<f64>() / self.confidence.len().max(1) as f64
    }
}

/// Ranks plausible recipes for `graph` on some of the images of `dataset`; `progress` is told how many of how many recipes are
/// tried.
///
/// # Errors
/// The network does not run, or too few images can be read.
pub fn check_preprocessing(
    graph: &Graph,
    start: Start<'_>,
    dataset: &Dataset,
    settings: &CheckSettings,
    mut progress: impl FnMut(usize, usize),
) -> Result<PreprocessCheck, CheckError> {
    let (recipe, is_chosen) = match start {
        Start::Chosen(recipe) => (recipe, true),
        Start::Unchosen(recipe) => (recipe, false),
    };
    let cannot_tell = |why: &str, classes: usize, problems: Vec<Problem>| PreprocessCheck {
        verdict: Verdict::CannotTell { why: why.to_owned() },
        images: 0,
        classes,
        chance_limit: chance_limit(classes),
        ranking: Vec::new(),
        problems,
    };
    let Some(scores) = class_scores(graph) else {
        return Ok(cannot_tell(
            "the network has no classifier, so it is not sure of anything",
            0,
            Vec::new(),
        ));
    };
    let backbone = Backbone::open(graph, &[scores], recipe.size(), &settings.session)?;
    let mut network = Network { backbone, images: chosen_images(dataset, settings), problems: Vec::new() };
    let classes = network.classes();
    if chance_limit(classes).is_infinite() {
        let why = format!("scores of {classes} classes do not show how sure a network is");
        return Ok(cannot_tell(&why, classes, Vec::new()));
    }

    let colours = recipes::colours(recipe, is_chosen)?;
    // The start's own crop and filter are among the geometries.
    let geometries = recipes::geometries(recipe)?;
    let total = colours.len() + geometries.len() - 1;
    let mut trials = Vec::with_capacity(total);
    let pictures = network.read(recipe)?;
    if pictures.len() < FEWEST_IMAGES {
        return Err(CheckError::FewImages {
            readable: pictures.len(),
            tried: network.images.len(),
            source_name: dataset.source.clone(),
        });
    }
    for preprocess in colours {
        progress(trials.len(), total);
        trials.push(network.try_recipe(preprocess, &pictures)?);
    }
    let best = surest(&trials);
    // Of colours that are as good, the chosen ones.
    let front = if is_chosen && !is_behind(&trials[0], &trials[best]) { 0 } else { best };
    let colours_tried = trials.len();
    let images = pictures.len();
    drop(pictures);
    for geometry in geometries.into_iter().skip(1) {
        progress(trials.len(), total);
        let preprocess = trials[front].preprocess.with(&geometry)?;
        let pictures = network.read(&preprocess)?;
        trials.push(network.try_recipe(preprocess, &pictures)?);
    }

    let limit = chance_limit(classes);
    let verdict = if trials[best].mean() <= limit {
        let why = format!(
            "its surest class stands out by {:.1} standard deviations at best, as a class of {classes} does by chance; \
             its last layers do not know such images",
            trials[best].mean()
        );
        Verdict::CannotTell { why }
    } else {
        verdict_on(&trials[..colours_tried], front, best, is_chosen)
    };
    Ok(PreprocessCheck {
        verdict,
        images,
        classes,
        chance_limit: limit,
        ranking: rank(trials, front, is_chosen),
        problems: network.problems,
    })
}

/// What the trials of colours say; the first is the chosen one, if there is one.
fn verdict_on(colours: &[Trial], front: usize, best: usize, is_chosen: bool) -> Verdict {
    let others_behind = |of: usize| {
        let others = colours.iter().enumerate().filter(|&(index, _)| index != of);
        others.map(|(_, trial)| is_behind(trial, &colours[of])).collect::<Vec<_>>()
    };
    if !is_chosen {
        return Verdict::Surest { clearly: others_behind(best).into_iter().all(|behind| behind) };
    }
    if front != 0 {
        return Verdict::Better;
    }
    if others_behind(best).into_iter().any(|behind| behind) {
        return Verdict::Fits;
    }
    let why = "the recipes differ by less than the noise; try more images with --count";
    Verdict::CannotTell { why: why.to_owned() }
}

/// The trials in their order; `front` is the one that comes first if it is tied with the surest.
fn rank(trials: Vec<Trial>, front: usize, is_chosen: bool) -> Vec<RankedRecipe> {
    let best = surest(&trials);
    let mut ranking: Vec<(bool, RankedRecipe)> = trials
        .iter()
        .enumerate()
        .map(|(index, trial)| {
            let interval = paired_interval(&trials[best].confidence, &trial.confidence);
            let tied = index == best || interval[0] <= 0.0;
            let ranked = RankedRecipe {
                preprocess: trial.preprocess.clone(),
                confidence: trial.mean(),
                behind: trials[best].mean() - trial.mean(),
                interval,
                tied,
                chosen: is_chosen && index == 0,
            };
            (index == front && tied, ranked)
        })
        .collect();
    ranking.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.confidence.total_cmp(&a.1.confidence)));
    ranking.into_iter().map(|(_, ranked)| ranked).collect()
}

/// The trial with the largest mean.
fn surest(trials: &[Trial]) -> usize {
    let means = trials.iter().map(Trial::mean).enumerate();
    means.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map_or(0, |(index, _)| index)
}

/// Whether `trial` is behind `best` by more than the noise.
fn is_behind(trial: &Trial, best: &Trial) -> bool {
    paired_interval(&best.confidence, &trial.confidence)[0] > 0.0
}

/// A seeded choice of the images, in their order.
fn chosen_images<'a>(dataset: &'a Dataset, settings: &CheckSettings) -> Vec<Sample<'a>> {
    let count = dataset.samples.len();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let mut chosen = index::sample(&mut random, count, settings.images.min(count)).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|index| dataset.samples.get(index)).collect()
}

/// The network that is asked, and the images that it is asked about.
struct Network<'a> {
    backbone: Backbone,
    images: Vec<Sample<'a>>,
    problems: Vec<Problem>,
}

impl Network<'_> {
    fn classes(&self) -> usize {
        self.backbone.taps().first().map_or(0, |tap| tap.width())
    }

    /// The images as `recipe` crops and scales them, in RGB.
    fn read(&mut self, recipe: &Preprocess) -> Result<Vec<RgbImage>, CheckError> {
        let levels = recipe.with(&recipes::LEVELS)?;
        let (width, height) = levels.size();
        let reader = ImageReader::new(&levels, Layout::Nhwc, DEFAULT_MAX_PIXELS);
        let mut pictures = Vec::with_capacity(self.images.len());
        let mut unreadable = Vec::new();
        let mut values = Vec::new();
        for batch in self.images.chunks(BATCH) {
            let read = reader.read_batch(batch, &mut values, Readers::Pool, false);
            for picture in values.chunks(reader.len()) {
                let bytes = picture.iter().map(|&level| level as u8).collect();
                pictures.extend(RgbImage::from_raw(width, height, bytes));
            }
            unreadable.extend(read.into_problems());
        }
        self.problems = unreadable;
        Ok(pictures)
    }

    /// How sure the network is of `pictures` with the colours of `preprocess`, whose size they have.
    fn try_recipe(&mut self, preprocess: Preprocess, pictures: &[RgbImage]) -> Result<Trial, CheckError> {
        let as_they_are =
            preprocess.with(&PreprocessOverrides { stretch: Some(true), ..Default::default() })?;
        let (layout, classes, len) = (self.backbone.layout(), self.classes(), as_they_are.tensor_len());
        let mut scores: Vec<f32> = Vec::with_capacity(pictures.len() * classes);
        let mut values = vec![0.0; BATCH * len];
        for batch in pictures.chunks(BATCH) {
            let values = &mut values[..batch.len() * len];
            for (picture, values) in batch.iter().zip(values.chunks_mut(len)) {
                as_they_are.apply(picture, layout, values)?;
            }
            self.backbone.run(values)?.iter().for_each(|rows| scores.extend_from_slice(rows));
        }
        Ok(Trial { preprocess, confidence: standing_out(&scores, classes) })
    }
}
