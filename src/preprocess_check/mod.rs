//! Does a preprocessing fit its network? The network itself is asked, by how sure it is of some images.
//!
//! A network that still has its classifier is surest of pixels as it was trained with. So plausible recipes are tried on the
//! same images and ranked by [`sureness`]. The largest probability, the obvious measure, does not serve: with pixels that are
//! far too large, networks are sure of one class whatever they see (docs/preprocessing.md has the figures).
//!
//! The ranking is of colours: the order of the channels and their normalisation, all with one crop and filter. Crops and
//! filters are tried with the best colours and listed apart, because a network is often surer of another crop than it was
//! trained with: of one that shows it more of the picture, or a sharper one.

mod confidence;
mod recipes;
mod text;

use image::RgbImage;
use rand::{SeedableRng, seq::index};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use crate::dataset::{Dataset, InputProblem, Sample};
use crate::extract::{ImageReader, Readers};
use crate::images::{DEFAULT_MAX_PIXELS, Preprocess, PreprocessError, PreprocessOverrides, TensorLayout};
use crate::network::{Backbone, BackboneError, Graph, SessionSettings, class_scores};
use confidence::{Sureness, chance_limit, paired_interval, sureness};
pub use text::options_of;

/// Images that are run together.
const BATCH: usize = 8;

/// Fewer images than this say nothing.
const FEWEST_IMAGES: usize = 8;

/// Images that are tried unless told otherwise.
pub const DEFAULT_IMAGES: usize = 96;

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
pub enum StartingRecipe<'a> {
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
    /// How few classes hold the large scores, on average over the images; 0.5 is chance.
    pub confidence: f64,
    /// By how many standard deviations of the scores the winning class stands out, on average over the images.
    pub standing_out: f64,
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
pub enum CheckVerdict {
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
    pub verdict: CheckVerdict,
    /// Images that were tried.
    pub images: usize,
    /// Classes of the network; 0 where it has no classifier.
    pub classes: usize,
    /// What the winning class of scores without meaning stands out by once in a thousand times; `None` where every number
    /// of standard deviations may be chance.
    pub chance_limit: Option<f64>,
    /// Orders and normalisations of the colours, the surest first; of those that are tied with it, the chosen one.
    pub ranking: Vec<RankedRecipe>,
    /// Crops and filters with the colours of the first of the ranking, which is among them; the surest first.
    pub crops: Vec<RankedRecipe>,
    /// Images that could not be read.
    #[serde(skip)]
    pub problems: Vec<InputProblem>,
}

/// A recipe that was tried: how sure the network was of each image.
#[derive(Clone)]
struct RecipeTrial {
    preprocess: Preprocess,
    confidence: Vec<f64>,
    standing_out: f64,
}

impl RecipeTrial {
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
    start: StartingRecipe<'_>,
    dataset: &Dataset,
    settings: &CheckSettings,
    mut progress: impl FnMut(usize, usize),
) -> Result<PreprocessCheck, CheckError> {
    let (recipe, is_chosen) = match start {
        StartingRecipe::Chosen(recipe) => (recipe, true),
        StartingRecipe::Unchosen(recipe) => (recipe, false),
    };
    let cannot_tell = |why: &str, classes: usize| PreprocessCheck {
        verdict: CheckVerdict::CannotTell { why: why.to_owned() },
        images: 0,
        classes,
        chance_limit: None,
        ranking: Vec::new(),
        crops: Vec::new(),
        problems: Vec::new(),
    };
    let no_classifier = "the network has no classifier, so it is not sure of anything";
    let Some(scores) = class_scores(graph) else { return Ok(cannot_tell(no_classifier, 0)) };
    let backbone = Backbone::open(graph, &[scores], recipe.size(), &settings.session)?;
    let mut network =
        CheckedNetwork { backbone, images: chosen_images(dataset, settings), problems: Vec::new() };
    let Some(classes) = network.classes() else { return Ok(cannot_tell(no_classifier, 0)) };
    let Some(limit) = chance_limit(classes) else {
        let why = format!("scores of {classes} classes do not show how sure a network is");
        return Ok(cannot_tell(&why, classes));
    };

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
    let images = pictures.len();
    drop(pictures);
    let mut crops = Vec::new();
    let verdict = if trials[best].standing_out <= limit {
        let why = format!(
            "its surest class stands out by no more than {:.1} standard deviations, as one of {classes} may by chance; its \
             last layers do not know such images",
            trials[best].standing_out
        );
        CheckVerdict::CannotTell { why }
    } else {
        crops.push(trials[front].clone());
        for (index, geometry) in geometries.iter().enumerate().skip(1) {
            progress(trials.len() + index - 1, total);
            let preprocess = trials[front].preprocess.with(geometry)?.named();
            let pictures = network.read(&preprocess)?;
            crops.push(network.try_recipe(preprocess, &pictures)?);
        }
        verdict_on(&trials, front, best, is_chosen)
    };
    Ok(PreprocessCheck {
        verdict,
        images,
        classes,
        chance_limit: Some(limit),
        ranking: rank(&trials, front, is_chosen),
        crops: rank(&crops, 0, is_chosen && front == 0),
        problems: network.problems,
    })
}

/// What the trials of colours say; the first is the chosen one, if there is one.
fn verdict_on(colours: &[RecipeTrial], front: usize, best: usize, is_chosen: bool) -> CheckVerdict {
    let others_behind = |of: usize| {
        let others = colours.iter().enumerate().filter(|&(index, _)| index != of);
        others.map(|(_, trial)| is_behind(trial, &colours[of])).collect::<Vec<_>>()
    };
    if !is_chosen {
        return CheckVerdict::Surest { clearly: others_behind(best).into_iter().all(|behind| behind) };
    }
    if front != 0 {
        return CheckVerdict::Better;
    }
    if others_behind(best).into_iter().any(|behind| behind) {
        return CheckVerdict::Fits;
    }
    let why = "the recipes differ by less than the noise; try more images with --count";
    CheckVerdict::CannotTell { why: why.to_owned() }
}

/// The trials in their order; `front` is the one that comes first if it is tied with the surest. The first trial may be the
/// chosen one.
fn rank(trials: &[RecipeTrial], front: usize, is_chosen: bool) -> Vec<RankedRecipe> {
    let Some(best) = trials.get(surest(trials)) else { return Vec::new() };
    let mut ranking: Vec<(bool, RankedRecipe)> = trials
        .iter()
        .enumerate()
        .map(|(index, trial)| {
            let interval = paired_interval(&best.confidence, &trial.confidence);
            let tied = interval[0] <= 0.0;
            let ranked = RankedRecipe {
                preprocess: trial.preprocess.clone(),
                confidence: trial.mean(),
                standing_out: trial.standing_out,
                behind: best.mean() - trial.mean(),
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
fn surest(trials: &[RecipeTrial]) -> usize {
    let means = trials.iter().map(RecipeTrial::mean).enumerate();
    means.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map_or(0, |(index, _)| index)
}

/// Whether `trial` is behind `best` by more than the noise.
fn is_behind(trial: &RecipeTrial, best: &RecipeTrial) -> bool {
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
struct CheckedNetwork<'a> {
    backbone: Backbone,
    images: Vec<Sample<'a>>,
    problems: Vec<InputProblem>,
}

impl CheckedNetwork<'_> {
    /// Scores of an image; `None` where there are several for each class, as of every patch.
    fn classes(&self) -> Option<usize> {
        let tap = self.backbone.taps().first()?;
        tap.shape.iter().copied().max().filter(|&longest| longest == tap.width())
    }

    /// The images as `recipe` crops and scales them, in RGB.
    fn read(&mut self, recipe: &Preprocess) -> Result<Vec<RgbImage>, CheckError> {
        let levels = recipe.with(&recipes::LEVELS)?;
        let (width, height) = levels.size();
        let reader = ImageReader::new(&levels, TensorLayout::Nhwc, DEFAULT_MAX_PIXELS);
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
    fn try_recipe(
        &mut self,
        preprocess: Preprocess,
        pictures: &[RgbImage],
    ) -> Result<RecipeTrial, CheckError> {
        let as_they_are =
            preprocess.with(&PreprocessOverrides { stretch: Some(true), ..Default::default() })?;
        let (layout, len) = (self.backbone.layout(), as_they_are.tensor_len());
        let classes = self.classes().unwrap_or(1);
        let mut scores: Vec<f32> = Vec::with_capacity(pictures.len() * classes);
        let mut values = vec![0.0; BATCH * len];
        for batch in pictures.chunks(BATCH) {
            let values = &mut values[..batch.len() * len];
            for (picture, values) in batch.iter().zip(values.chunks_mut(len)) {
                as_they_are.apply(picture, layout, values)?;
            }
            self.backbone.run(values)?.iter().for_each(|rows| scores.extend_from_slice(rows));
        }
        let sureness = sureness(&scores, classes);
        let standing_out: f64 = sureness.iter().map(|image| image.standing_out).sum();
        Ok(RecipeTrial {
            preprocess,
            standing_out: standing_out / sureness.len().max(1) as f64,
            confidence: sureness.into_iter().map(|Sureness { confidence, .. }| confidence).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Preset;

    /// Forty images of which each is surer by the recipe's share, with some noise that all recipes have.
    fn trial(preset: Preset, share: f64) -> RecipeTrial {
        let image = |index: u32| f64::from(index * 7 % 40) / 10.0 + share * (1.0 + f64::from(index % 5));
        let preprocess = Preprocess::preset(preset).unwrap();
        RecipeTrial { preprocess, confidence: (0..40).map(image).collect(), standing_out: 6.0 }
    }

    /// Neither is surer than the other on more than half of the images.
    fn undecided(preset: Preset) -> RecipeTrial {
        let mut trial = trial(preset, 0.0);
        trial
            .confidence
            .iter_mut()
            .enumerate()
            .for_each(|(index, x)| *x += if index % 2 == 0 { 0.1 } else { -0.1 });
        trial
    }

    fn presets(ranking: &[RankedRecipe]) -> Vec<Preset> {
        ranking.iter().map(|ranked| ranked.preprocess.preset_name()).collect()
    }

    #[test]
    fn the_chosen_recipe_fits_unless_another_is_clearly_ahead() {
        let trials = [trial(Preset::Tf, 0.1), trial(Preset::Torchvision, 0.0), undecided(Preset::KerasCaffe)];
        assert_eq!(verdict_on(&trials, 0, surest(&trials), true), CheckVerdict::Fits);
        let trials = [trial(Preset::Torchvision, 0.0), trial(Preset::Tf, 0.1), undecided(Preset::KerasCaffe)];
        assert_eq!(surest(&trials), 1);
        assert_eq!(verdict_on(&trials, 1, 1, true), CheckVerdict::Better);
        let ranking = rank(&trials, 1, true);
        assert_eq!(ranking[0].preprocess.preset_name(), Preset::Tf);
        assert_eq!(ranking.iter().map(|ranked| ranked.tied).collect::<Vec<_>>(), [true, false, false]);
        let chosen = ranking.iter().find(|ranked| ranked.chosen).unwrap();
        assert_eq!(chosen.preprocess.preset_name(), Preset::Torchvision);
        assert!(chosen.interval[0] > 0.0 && chosen.interval[1] > chosen.behind);
    }

    #[test]
    fn differences_within_the_noise_are_no_verdict_and_leave_the_chosen_one_first() {
        let trials = [trial(Preset::Torchvision, 0.0), undecided(Preset::Tf)];
        let verdict = verdict_on(&trials, 0, surest(&trials), true);
        assert!(
            matches!(verdict, CheckVerdict::CannotTell { ref why } if why.contains("--count")),
            "{verdict:?}"
        );
        assert_eq!(presets(&rank(&trials, 0, true)), [Preset::Torchvision, Preset::Tf]);
    }

    #[test]
    fn without_a_chosen_recipe_it_says_whether_the_surest_is_clearly_ahead() {
        let clear = [trial(Preset::Torchvision, 0.0), trial(Preset::Tf, 0.1)];
        assert_eq!(verdict_on(&clear, 1, 1, false), CheckVerdict::Surest { clearly: true });
        let close = [trial(Preset::Torchvision, 0.0), undecided(Preset::Tf)];
        assert_eq!(
            verdict_on(&close, surest(&close), surest(&close), false),
            CheckVerdict::Surest { clearly: false }
        );
    }
}
