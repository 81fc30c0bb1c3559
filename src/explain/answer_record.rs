//! [`AnswerRecord`]: a head's answer for one image as programs read it. `classify --format json` and the HTTP interface give it.

use serde::Serialize;

use super::{ClassExplanation, ImageExplanation, SimilarImage};
use crate::classifier::Answer;

/// The answer for one image, with names in place of indices.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AnswerRecord {
    /// The image.
    pub image: String,
    /// Whether the image is probably of none of the classes; absent where the head cannot tell, or was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<bool>,
    /// 1 - cosine to the nearest training features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// The classes of the prediction set, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<Vec<String>>,
    /// Most probable first.
    pub classes: Vec<RankedClass>,
    /// Pictures of what the answer rests on, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub explanations: Vec<ClassExplanation>,
    /// The training images that are most alike, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<SimilarImage>,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedClass {
    /// The class.
    pub class: String,
    /// Its probability.
    pub probability: f64,
}

impl AnswerRecord {
    /// The answer for `image` of a head with these classes, of which the `top` most probable are named.
    pub fn new(
        image: &str,
        answer: Answer,
        explanation: ImageExplanation,
        class_names: &[String],
        top: usize,
    ) -> Self {
        let name = |class: usize| class_names[class].clone();
        let ranked = |(class, probability)| RankedClass { class: name(class), probability };
        Self {
            image: image.to_owned(),
            unknown: answer.unknown,
            distance: answer.distance,
            set: answer.prediction_set.map(|set| set.into_iter().map(name).collect()),
            classes: answer.ranked.into_iter().take(top).map(ranked).collect(),
            explanations: explanation.classes,
            nearest: explanation.nearest,
        }
    }
}
