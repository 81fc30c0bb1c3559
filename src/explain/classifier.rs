//! [`ExplainingClassifier`]: a classifier that draws what each of its answers rests on, and names the training images that
//! are most similar.

use std::path::PathBuf;

use super::overlay_folder::OverlayFolder;
use super::training_features::{SimilarImage, TrainingFeatures};
use super::{ExplainError, ExplainMethod, Explainer, ForwardPass};
use crate::classifier::{Answer, AnswerOptions, answer_batch};
use crate::dataset::{InputProblem, Sample};
use crate::extract::{FeatureBatch, ImageReader, Readers, batches};
use crate::head::Head;

/// Training images that are named for each photo.
const NEAREST: usize = 3;

/// Why an image gets its score for a class.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ClassExplanation {
    /// The class.
    pub class: String,
    /// The head's score, before it is made a probability.
    pub score: f64,
    /// How the explanation was found.
    pub method: ExplainMethod,
    /// What of the score belongs to no place; absent for occlusion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
    /// The picture: the path of its file, or a `data:` URL that holds it.
    pub overlay: String,
}

/// What there is to say about one image beside its classes.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ImageExplanation {
    /// One element a class that was to be explained.
    pub classes: Vec<ClassExplanation>,
    /// Nearest first; none if the features that the head was fitted to are not available.
    pub nearest: Vec<SimilarImage>,
}

/// A head with its network: it classifies images and explains the answers.
pub struct ExplainingClassifier<'h> {
    head: &'h Head,
    explainer: Explainer<'h>,
    reader: ImageReader,
    overlays: OverlayFolder,
    classes: Vec<usize>,
    /// The features that the head was fitted to, or why they are not available.
    training: Result<TrainingFeatures, String>,
}

impl<'h> ExplainingClassifier<'h> {
    /// Explains `classes` of `head`, as indices, or of each image the most probable one if there are none; the overlays go to
    /// `folder`. `explainer` is that of the head. Images of more than `max_pixels` are refused.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(
        head: &'h Head,
        explainer: Explainer<'h>,
        folder: PathBuf,
        classes: Vec<usize>,
        max_pixels: u64,
    ) -> Result<Self, ExplainError> {
        let preprocess = &head.provenance.spec.preprocess;
        Ok(Self {
            reader: ImageReader::new(preprocess, explainer.backbone().layout(), max_pixels),
            overlays: OverlayFolder::create(folder, preprocess, max_pixels)?,
            training: TrainingFeatures::of(head),
            head,
            explainer,
            classes,
        })
    }

    /// Why the most similar training images are not named, if they are not.
    pub fn why_no_similar_images(&self) -> Option<&str> {
        self.training.as_ref().err().map(String::as_str)
    }

    /// Classifies images and explains the answers: `take` gets each image that could be read, in order, and each image that
    /// could not with the reason. `progress` hears how many of how many covered pictures of an image have been run.
    ///
    /// # Errors
    /// The network or the head fails, an overlay cannot be written, or `take` fails.
    pub fn classify_each<'s, E: From<ExplainError>>(
        &mut self,
        samples: impl IntoIterator<Item = Sample<'s>>,
        options: AnswerOptions,
        progress: &mut dyn FnMut(usize, usize),
        mut take: impl FnMut(Result<(&Sample<'s>, Answer, ImageExplanation), InputProblem>) -> Result<(), E>,
    ) -> Result<(), E> {
        for samples in batches(samples) {
            let (batch, passes) = self.extract_batch(&samples)?;
            let answers = self.head.answers(batch.features.view(), options).map_err(ExplainError::from)?;
            let mut explanations = self.explain(&samples, &batch, &passes, &answers, progress)?.into_iter();
            answer_batch(&samples, batch, answers, |answer| {
                take(answer.map(|(sample, answer)| (sample, answer, explanations.next().unwrap_or_default())))
            })?;
        }
        Ok(())
    }

    /// The features of the samples that can be read and have finite features, and the forward passes that gave them.
    fn extract_batch(
        &mut self,
        samples: &[Sample<'_>],
    ) -> Result<(FeatureBatch, Vec<ForwardPass>), ExplainError> {
        let mut images = Vec::new();
        let read = self.reader.read_batch(samples, &mut images, Readers::Pool, false);
        let mut passes = Vec::new();
        for image in images.chunks(self.reader.len()) {
            passes.push(self.explainer.run(image.to_vec())?);
        }
        let features = passes.iter().flat_map(ForwardPass::features).copied().collect();
        let layer = (&*self.head.provenance.spec.layer, self.head.model.columns());
        let mut keeps = Vec::with_capacity(passes.len());
        let batch = FeatureBatch::new(samples, read, features, layer, |keep| keeps.push(keep))?;
        let kept = passes.into_iter().zip(keeps).filter_map(|(pass, keep)| keep.then_some(pass));
        Ok((batch, kept.collect()))
    }

    /// Explains the images of `batch`; one explanation a row.
    fn explain(
        &mut self,
        samples: &[Sample<'_>],
        batch: &FeatureBatch,
        passes: &[ForwardPass],
        answers: &[Answer],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<ImageExplanation>, ExplainError> {
        let mut explained = Vec::with_capacity(passes.len());
        for ((pass, answer), &index) in passes.iter().zip(answers).zip(&batch.indices) {
            let classes = if self.classes.is_empty() { vec![answer.top()] } else { self.classes.clone() };
            let explanations = self.explainer.explain(pass, &classes, progress)?;
            let class_names = &self.head.model.class_names;
            let classes = self.overlays.draw(&samples[index], &explanations, class_names)?;
            explained.push(ImageExplanation { classes, nearest: Vec::new() });
        }
        if let Some(training) = self.training.as_ref().ok().filter(|_| !batch.indices.is_empty()) {
            let nearest = training.nearest(batch.features.view(), &batch.sha256, NEAREST)?;
            explained
                .iter_mut()
                .zip(nearest)
                .for_each(|(explanation, nearest)| explanation.nearest = nearest);
        }
        Ok(explained)
    }
}
