//! The confusion matrix of a report: how often images of each class are taken for each.

use crate::evaluate::Confusion;

/// Above this many classes the confusion matrix gives way to a list of the commonest confusions.
const WIDEST_MATRIX: usize = 25;
/// Up to this many classes the matrix needs no list of its largest cells.
const SMALL_MATRIX: usize = 6;
/// Confusions that are listed.
const MOST_PAIRS: usize = 12;

/// The section that shows it.
pub(super) struct ConfusionView<'a> {
    pub(super) is_matrix: bool,
    pub(super) classes: &'a [String],
    pub(super) rows: Vec<ConfusionRow<'a>>,
    pub(super) pairs: Vec<Cell>,
}

pub(super) struct ConfusionRow<'a> {
    pub(super) class: &'a str,
    pub(super) cells: Vec<Cell>,
}

pub(super) struct Cell {
    pub(super) truth: usize,
    pub(super) predicted: usize,
    pub(super) count: usize,
    /// Share of the row, 0 to 1.
    pub(super) share: String,
    pub(super) kind: &'static str,
    pub(super) label: String,
}

impl<'a> ConfusionView<'a> {
    /// Of classes called `names`.
    pub(super) fn new(confusion: &Confusion, names: &'a [String]) -> Self {
        let Confusion { counts } = confusion;
        let cell = |truth: usize, predicted: usize| {
            let (count, all) = (counts[truth][predicted], counts[truth].iter().sum::<usize>());
            Cell {
                truth,
                predicted,
                count,
                share: format!("{:.3}", count as f64 / all.max(1) as f64),
                kind: match (truth == predicted, count) {
                    (_, 0) => "none",
                    (true, _) => "right",
                    (false, _) => "wrong",
                },
                label: if truth == predicted {
                    format!("{} of {} {}: correct", count, all, names[truth])
                } else {
                    format!("{} of {} {} taken for {}", count, all, names[truth], names[predicted])
                },
            }
        };
        let is_matrix = names.len() <= WIDEST_MATRIX;
        let rows = if is_matrix { 0..names.len() } else { 0..0 };
        let pairs = confusion.mistakes();
        ConfusionView {
            is_matrix,
            classes: names,
            rows: rows
                .map(|truth| ConfusionRow {
                    class: &names[truth],
                    cells: (0..names.len()).map(|predicted| cell(truth, predicted)).collect(),
                })
                .collect(),
            pairs: pairs
                .into_iter()
                .take(if names.len() > SMALL_MATRIX { MOST_PAIRS } else { 0 })
                .map(|(truth, predicted, _)| cell(truth, predicted))
                .collect(),
        }
    }
}
