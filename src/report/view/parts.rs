//! The parts of the page, as the template takes them.

use crate::evaluate::Proportion;
use crate::report::figures::percent;

/// A share with its interval, in words.
pub(super) struct ShareView {
    pub(super) value: String,
    pub(super) low: String,
    pub(super) high: String,
    pub(super) counts: String,
}

impl From<&Proportion> for ShareView {
    fn from(share: &Proportion) -> Self {
        Self {
            value: percent(share.value),
            low: percent(share.low),
            high: percent(share.high),
            counts: format!("{} of {} photos", share.successes, share.trials),
        }
    }
}

/// A finding, and the section that tells more.
pub(super) struct FindingView {
    pub(super) text: String,
    pub(super) anchor: &'static str,
    pub(super) link: &'static str,
}

pub(super) struct LayersView<'a> {
    pub(super) folds: usize,
    pub(super) advice: &'a [(String, Vec<String>)],
    pub(super) next: &'a [(String, String)],
    pub(super) rows: Vec<LayerRow<'a>>,
}

pub(super) struct LayerRow<'a> {
    pub(super) layer: &'a str,
    pub(super) head: &'a str,
    pub(super) c: String,
    pub(super) accuracy: ShareView,
    pub(super) width: usize,
    pub(super) cost: String,
    pub(super) milliseconds: String,
}

pub(super) struct LearningView {
    pub(super) verdict: String,
    pub(super) first: String,
    pub(super) last: String,
    pub(super) points: Vec<LearningPointView>,
}

pub(super) struct LearningPointView {
    pub(super) x: String,
    pub(super) accuracy: ShareView,
}

pub(super) struct ClassView<'a> {
    pub(super) name: &'a str,
    pub(super) precision: String,
    pub(super) recall: String,
    pub(super) f1: String,
    pub(super) photos: usize,
}

pub(super) struct SuspectsView<'a> {
    pub(super) text: &'static str,
    /// Whether the labels' photos have pictures of what speaks for the answer.
    pub(super) explained: bool,
    pub(super) labels: Vec<PhotoView<'a>>,
    pub(super) copies: Vec<SetView<'a>>,
    pub(super) outliers: Vec<PhotoView<'a>>,
}

pub(super) struct CalibrationView {
    pub(super) text: String,
    pub(super) bins: Vec<BinView>,
}

pub(super) struct BinView {
    pub(super) range: String,
    pub(super) claim: String,
    pub(super) right: ShareView,
    pub(super) photos: usize,
}

pub(super) struct MapView<'a> {
    pub(super) has_tsne: bool,
    pub(super) text: String,
    pub(super) caption: String,
    pub(super) neighbours: Vec<NeighboursView<'a>>,
}

pub(super) struct NeighboursView<'a> {
    pub(super) name: &'a str,
    pub(super) value: String,
}

pub(super) struct DuplicatesView<'a> {
    pub(super) text: String,
    pub(super) first: Vec<SetView<'a>>,
    pub(super) others: Vec<SetView<'a>>,
}

pub(super) struct SetView<'a> {
    pub(super) likeness: String,
    pub(super) photos: Vec<PhotoView<'a>>,
}

/// A photo with what there is to say about it.
pub(super) struct PhotoView<'a> {
    /// Where it stands in the page's data.
    pub(super) index: Option<usize>,
    pub(super) name: &'a str,
    pub(super) link: Option<&'a str>,
    pub(super) lines: Vec<PhotoDetail<'a>>,
}

pub(super) struct PhotoDetail<'a> {
    pub(super) text: &'static str,
    pub(super) class: Option<&'a str>,
    pub(super) value: Option<String>,
}
