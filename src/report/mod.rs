//! The report: one HTML file that shows how good a head is, on what it fails, and what to do about it.
//!
//! [`FittingReport`] and [`AssessmentReport`] write it. [`Report`] gathers what is known: figures, answers, [`LearningCurve`],
//! suspects, duplicates, [`SimilarityMap`], provenance. [`Report::html`] makes the page, which needs no network: thumbnails,
//! styles, the plotting library and the data are in the file, and its content security policy forbids it to load anything.

mod figures;
mod layers;
mod learning;
mod overlays;
mod page;
mod photos;
mod similarity_map;
mod view;
mod write;

#[cfg(test)]
mod tests;

use image::RgbImage;
use ndarray::ArrayView2;

pub use figures::{Figures, NamedValue};
pub use layers::{LayerAndHead, Layers};
pub use learning::{LearningCurve, LearningPoint};
pub use overlays::Overlays;
pub use page::ReportError;
#[cfg(feature = "serve")]
pub(crate) use photos::shrunk;
pub use photos::{Photos, Thumbnails};
pub use similarity_map::{MOST_MAPPED, SimilarityMap};
pub use write::{AssessmentReport, FittingReport, ReportStep};

use crate::dataset::DuplicateSet;
use crate::evaluate::Suspects;

/// What a report shows. All slices have one element an image.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// What was measured, in a few words.
    pub title: String,
    /// A line below the title.
    pub subtitle: String,
    /// The classes, in order.
    pub class_names: &'a [String],
    /// Names of the images.
    pub names: &'a [String],
    /// Their given classes, as indices into `class_names`.
    pub labels: &'a [usize],
    /// What a head that had not seen the image gives each class (n x classes).
    pub probabilities: ArrayView2<'a, f64>,
    /// The class that it takes each image for ([`crate::head::answers`]).
    pub predicted: &'a [usize],
    /// Where the images lie.
    pub photos: Photos,
    /// What supports the answers for some rows, if that was looked for.
    pub overlays: Option<Overlays>,
    /// How good the answers are.
    pub figures: Figures,
    /// How other layers and heads do, where they were compared.
    pub layers: Option<Layers>,
    /// Accuracy against the number of photos, where it was measured.
    pub learning: Option<LearningCurve>,
    /// Images that deserve a second look, where they were ranked.
    pub suspects: Option<Suspects>,
    /// Images that are duplicates of one another, as rows.
    pub duplicates: &'a [DuplicateSet<usize>],
    /// Where each image stands among the others.
    pub map: Option<SimilarityMap>,
    /// Where all of it comes from.
    pub provenance: Vec<NamedValue>,
}

impl Report<'_> {
    /// What supports the answers for some rows.
    fn pictures(&self) -> impl Iterator<Item = (usize, &RgbImage)> {
        self.overlays.iter().flat_map(|overlays| &overlays.pictures).map(|(&row, picture)| (row, picture))
    }

    /// The rows of the images whose answers are worth an explanation: the most confident mistakes and the least probable
    /// labels, in the order of the page.
    pub fn doubtful(&self) -> Vec<usize> {
        view::doubtful(self, self.predicted)
    }
}
