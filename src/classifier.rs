//! [`Classifier`]: an [`Extractor`] and a [`Head`]. An image in, an answer out. [`TestImages`] measure a head on images whose
//! classes are known.

mod features;
mod head_network;
mod test_images;

use std::path::Path;

use ndarray::ArrayView2;

pub use self::head_network::{HeadNetwork, OpenHeadError};
pub use self::test_images::{TestImages, TestImagesError, TestPredictions, TestSamples};
use crate::dataset::{DUPLICATE_DISTANCE, Dataset, DatasetError, Duplicates, InputProblem, Likeness, Sample};
use crate::extract::{ExtractError, Extractor, ExtractorSettings, FeatureBatch};
use crate::feature_spec::SpecMismatch;
use crate::features::FeatureFileError;
use crate::head::{FitSettings, Head, HeadError, HeadProvenance, Novelty, TrainingData, fit_head};
use crate::network::ModelsFolder;

/// Why an image could not be classified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassifyError {
    /// The network cannot be found or run.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The head does not fit the features.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The features are not of the head's kind.
    #[error(transparent)]
    Spec(#[from] SpecMismatch),
    /// The features file cannot be read.
    #[error(transparent)]
    Features(#[from] FeatureFileError),
    /// The image cannot be listed.
    #[error(transparent)]
    Samples(#[from] DatasetError),
    /// The image cannot be read.
    #[error("{name}: {reason}")]
    Image {
        /// The image.
        name: String,
        /// Why.
        reason: String,
    },
    /// Prediction sets were asked for.
    #[error("the head was fitted by an earlier version and cannot make prediction sets; fit it again")]
    NoPredictionSets,
}

/// What an answer holds beside the ranked classes.
#[derive(Debug, Clone, Copy)]
pub struct AnswerOptions {
    /// Also give the set of classes that holds the right one in this share of cases, between 0 and 1.
    pub coverage: Option<f64>,
    /// Tell images that are unlike the training images.
    pub unknown: bool,
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self { coverage: None, unknown: true }
    }
}

/// A head's answer for one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// Every class as its index in the head and its probability, most probable first.
    pub ranked: Vec<(usize, f64)>,
    /// Whether the image is probably of none of the classes; `None` where the head cannot tell, or was not asked.
    pub unknown: Option<bool>,
    /// 1 - cosine to the nearest training features, where the head knows them.
    pub distance: Option<f64>,
    /// The classes of the prediction set, where one was asked for.
    pub prediction_set: Option<Vec<usize>>,
}

impl Answer {
    /// The most probable class.
    pub fn top(&self) -> usize {
        self.ranked.first().map_or(0, |&(class, _)| class)
    }
}

impl Head {
    /// The answers for `features` (n x d), one a row.
    ///
    /// # Errors
    /// The head does not fit the features, they are not finite, or it cannot make prediction sets.
    pub fn answers(
        &self,
        features: ArrayView2<'_, f32>,
        options: AnswerOptions,
    ) -> Result<Vec<Answer>, ClassifyError> {
        let conformal = match (options.coverage, &self.model.conformal) {
            (Some(_), None) => return Err(ClassifyError::NoPredictionSets),
            (Some(coverage), Some(conformal)) => Some((coverage, conformal)),
            (None, _) => None,
        };
        if features.is_empty() {
            return Ok(Vec::new());
        }
        let ranked = self.ranked(features)?;
        let novelty = self.model.novelty.as_ref().filter(|_| options.unknown);
        let distances = novelty.map(|novelty| novelty.distances(features));
        let answer = |(row, ranked): (usize, Vec<(usize, f64)>)| {
            let distance = distances.as_ref().map(|distances| distances[row]);
            let prediction_set = conformal.map(|(coverage, conformal)| {
                let mut probabilities = vec![0.0; ranked.len()];
                ranked.iter().for_each(|&(class, probability)| probabilities[class] = probability);
                // In the order of the ranking, which knows what to do about ties.
                let set = conformal.set(&probabilities, coverage);
                ranked.iter().map(|&(class, _)| class).filter(|class| set.contains(class)).collect()
            });
            let unknown = novelty.zip(distance).map(|(novelty, distance)| novelty.is_unknown(distance));
            Answer { ranked, unknown, distance, prediction_set }
        };
        Ok(ranked.into_iter().enumerate().map(answer).collect())
    }
}

/// Hands the answers for a batch to `take`, in the order of the images, and then the images that could not be read.
pub(crate) fn answer_batch<'s, E>(
    samples: &[Sample<'s>],
    batch: FeatureBatch,
    answers: Vec<Answer>,
    mut take: impl FnMut(Result<(&Sample<'s>, Answer), InputProblem>) -> Result<(), E>,
) -> Result<(), E> {
    for (&index, answer) in batch.indices.iter().zip(answers) {
        take(Ok((&samples[index], answer)))?;
    }
    batch.problems.into_iter().try_for_each(|problem| take(Err(problem)))
}

/// An error of a caller, which takes the extractor's errors as [`ClassifyError`]s.
struct ThroughClassify<E>(E);

impl<E: From<ClassifyError>> From<ExtractError> for ThroughClassify<E> {
    fn from(error: ExtractError) -> Self {
        Self(ClassifyError::from(error).into())
    }
}

/// A head with its network: it classifies images.
pub struct Classifier {
    head: Head,
    extractor: Extractor,
}

impl Classifier {
    /// Opens the network that `head` needs, on what `settings` say.
    ///
    /// # Errors
    /// The models folder lacks the network, or it cannot be run.
    pub fn open(
        head: Head,
        models: &ModelsFolder,
        settings: &ExtractorSettings,
    ) -> Result<Self, ClassifyError> {
        let extractor = Extractor::open(head.provenance.spec.clone(), models, settings)?;
        Ok(Self::new(head, extractor))
    }

    /// A head and the extractor of the features that it was fitted to.
    pub fn new(head: Head, extractor: Extractor) -> Self {
        Self { head, extractor }
    }

    /// Extracts the features of labelled photos, cross-validates and fits a head to them. Photos of the same bytes, and
    /// photos that look the same, never stand on both sides of a split. Photos without a label take no part.
    ///
    /// The accuracy that cross-validation found is `head().evaluation`.
    ///
    /// # Errors
    /// The network fails, or there are too few labelled photos that can be read.
    pub fn fit(
        mut extractor: Extractor,
        photos: &Dataset,
        settings: &FitSettings,
    ) -> Result<Self, ClassifyError> {
        let labelled: Vec<Sample<'_>> = photos.samples.iter().filter(|photo| photo.label.is_some()).collect();
        extractor.compute_hashes();
        let batch = extractor.extract_all(labelled.iter().copied(), |_| ())?;
        let labels: Vec<usize> = batch.indices.iter().filter_map(|&index| labelled[index].label).collect();
        let hashes: Vec<_> = batch.perceptual_hashes.iter().copied().map(Some).collect();
        let likeness = Likeness::Hashes(&hashes, DUPLICATE_DISTANCE);
        let groups = Duplicates::find(&batch.sha256, &[], likeness).map_err(HeadError::unreadable)?.groups;
        let data = TrainingData {
            features: batch.features.view(),
            labels: &labels,
            class_names: &photos.class_names,
            groups: Some(&groups),
            row_names: None,
        };
        let mut fitted = fit_head(&data, settings)?;
        fitted.model.novelty =
            Novelty::fit(&batch.features.view(), &groups, settings.seed).map_err(HeadError::unreadable)?;
        let provenance = HeadProvenance {
            spec: extractor.spec().clone(),
            row_shape: extractor.shape().to_vec(),
            features_file: String::new(),
            features_rows: labels.len(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(Self::new(Head::new(fitted, provenance, &batch.sha256), extractor))
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The network with its preprocessing.
    pub fn extractor(&self) -> &Extractor {
        &self.extractor
    }

    /// The name of a class.
    pub fn class_name(&self, class: usize) -> &str {
        &self.head.model.class_names[class]
    }

    /// Classifies images, a batch at a time: `take` gets each image that could be read with its answer, in order, and each
    /// image that could not with the reason.
    ///
    /// # Errors
    /// The network or the head fails, or `take` does.
    pub fn classify_each<'s, E: From<ClassifyError>>(
        &mut self,
        samples: impl IntoIterator<Item = Sample<'s>>,
        options: AnswerOptions,
        mut take: impl FnMut(Result<(&Sample<'s>, Answer), InputProblem>) -> Result<(), E>,
    ) -> Result<(), E> {
        let head = &self.head;
        let mut answer = |samples: &[Sample<'s>], batch: FeatureBatch| -> Result<(), E> {
            let answers = head.answers(batch.features.view(), options)?;
            answer_batch(samples, batch, answers, &mut take)
        };
        let classified = self
            .extractor
            .extract_each(samples, |samples, batch| answer(samples, batch).map_err(ThroughClassify));
        classified.map_err(|ThroughClassify(error)| error)
    }

    /// Classifies the image file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or the network or the head fails.
    pub fn classify_file(&mut self, path: &Path) -> Result<Answer, ClassifyError> {
        let set = Dataset::from_paths(&[path.to_owned()], false, None)?;
        let unreadable =
            |problem: InputProblem| ClassifyError::Image { name: problem.name, reason: problem.reason };
        if let Some(problem) = set.problems.into_iter().next() {
            return Err(unreadable(problem));
        }
        let mut found = None;
        self.classify_each(set.samples.iter(), AnswerOptions::default(), |answer| {
            let (_, answer) = answer.map_err(unreadable)?;
            found.get_or_insert(answer);
            Ok::<(), ClassifyError>(())
        })?;
        found.ok_or_else(|| ClassifyError::Image {
            name: path.display().to_string(),
            reason: "it holds no image".to_owned(),
        })
    }
}
