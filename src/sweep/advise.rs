//! From the trials to advice: the honest accuracy of choosing, the scenario, the best layer, and the cheapest as good.
//!
//! - *Choosing is judged as well.* Whoever picks the best of many layers by their cross-validated accuracy reports too
//!   good a figure. So the choice is made anew in each fold, by cross-validation within the fold's training images, and
//!   what it chose answers for the fold's held-out images (S. Varma, R. Simon: "Bias in error estimation when using
//!   cross-validation for model selection", BMC Bioinformatics 7:91, 2006).
//! - *Top against earlier layers* is a comparison of two such choices on the same images, so its interval is one of matched
//!   proportions.
//! - *The cheapest layer as good* is found by the one-standard-error rule (L. Breiman et al.: "Classification and
//!   Regression Trees", 1984, section 3.4.3), the standard error being that of the differences between folds.

use serde::{Deserialize, Serialize};

use super::{CandidateHead, HeadTrial, InnerValidation};
use crate::evaluate::{Difference, Proportion};

/// Images a class from which a set counts as large. cs231n names no number; ImageNet, on which fine-tuning and training
/// from scratch are known to work, has between 732 and 1,300 a class.
pub const LARGE_CLASS: usize = 1_000;

/// An accuracy by which two layers may differ and still count as equally good, where the data could tell no more.
pub const EQUAL_WITHIN: f64 = 0.02;

/// What a sweep advises. Candidates are indices into [`SweepResult::candidates`](super::SweepResult::candidates).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The candidate with the most right answers; of equals, the one of the cheapest layer, then of the fewest features.
    pub best: usize,
    /// The candidate of the cheapest layer whose accuracy is within one standard error of the best one's.
    pub cheapest: usize,
    /// All candidates within one standard error of the best, itself among them.
    pub as_good: Vec<usize>,
    /// How the choice itself does: what may be expected of the best candidate on new images.
    pub selection: Selection,
    /// Whether heads learned anything: the interval of the selection's accuracy lies above chance.
    pub learned: bool,
    /// Which of cs231n's scenarios the images fall into.
    pub scenario: Scenario,
}

/// The outcome of choosing anew in each fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Share of held-out images that the chosen candidates classified rightly.
    pub accuracy: Proportion,
    /// The candidate that was chosen in each fold.
    pub chosen: Vec<usize>,
}

/// Whether images are like those that the network was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// Earlier layers gain nothing over the top, or so little that it does not matter ([`EQUAL_WITHIN`]).
    Similar,
    /// An earlier layer is better than the top.
    Different,
    /// The images are too few to tell, or there is nothing to compare.
    Undecided,
}

/// Whether images are so many that fine-tuning the network becomes worth a thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetSize {
    /// Fewer than [`LARGE_CLASS`] a class.
    Small,
    /// As many or more.
    Large,
}

/// One of cs231n's four scenarios, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// How like ImageNet the images are.
    pub similarity: Similarity,
    /// How many images there are.
    pub size: DatasetSize,
    /// Different images a class, on average: duplicates count once.
    pub images_per_class: usize,
    /// The network that this is about, an index into [`SweepResult::networks`](super::SweepResult::networks): that of the
    /// best candidate.
    pub network: usize,
    /// Choosing among the heads on the network's top features alone.
    pub top: Option<Selection>,
    /// Choosing among the heads on its earlier layers alone.
    pub earlier: Option<Selection>,
    /// Accuracy of the earlier layers less that of the top features.
    pub difference: Option<Difference>,
    /// About how many images would tell, where they are too few: the interval's width taken to fall with the root of their
    /// number, the difference to stay.
    pub images_to_tell: Option<usize>,
}

/// Draws the conclusions from trials of all candidates on the same images, folds and groups.
///
/// `groups` is the number of different images, `classes` that of classes, `chance` the share of the largest class.
///
/// # Panics
/// There is no trial.
pub fn advise(trials: &[HeadTrial], groups: usize, classes: usize, chance: f64) -> Advice {
    let all: Vec<usize> = (0..trials.len()).collect();
    let wrong = |at: usize| {
        let accuracy = trials[at].candidate.accuracy;
        accuracy.trials - accuracy.successes
    };
    let best = first(trials, &all, wrong);
    let leader = &trials[best].candidate;
    let mut as_good: Vec<usize> =
        all.iter().copied().filter(|&at| within_one_standard_error(leader, &trials[at].candidate)).collect();
    as_good.sort_by_key(|&at| (trials[at].candidate.features.multiply_adds, wrong(at)));
    let cheapest_layer = trials[as_good[0]].candidate.features.multiply_adds;
    let of_cheapest: Vec<usize> = as_good
        .iter()
        .copied()
        .filter(|&at| trials[at].candidate.features.multiply_adds == cheapest_layer)
        .collect();
    as_good.sort_unstable();
    let (selection, _) = select(trials, &all);
    let learned = selection.accuracy.low > chance;
    Advice {
        best,
        cheapest: first(trials, &of_cheapest, wrong),
        as_good,
        learned,
        scenario: scenario(trials, leader.features.network, groups, classes, learned),
        selection,
    }
}

/// The candidate among `among` with the fewest mistakes; of equals, the cheapest layer's, then the one with the fewest
/// features, then the first.
fn first(trials: &[HeadTrial], among: &[usize], mistakes: impl Fn(usize) -> usize) -> usize {
    let order = |&at: &usize| {
        let features = &trials[at].candidate.features;
        (mistakes(at), features.multiply_adds, features.width)
    };
    among.iter().copied().min_by_key(order).expect("there is a candidate")
}

/// Chooses among `among` anew in each fold; also tells which images were classified rightly that way.
fn select(trials: &[HeadTrial], among: &[usize]) -> (Selection, Vec<bool>) {
    let mistakes = |at: usize, fold: usize| {
        trials[at].candidate.inner.get(fold).map_or(0, |inner: &InnerValidation| inner.mistakes)
    };
    let folds = &trials[among[0]].folds;
    let count = folds.iter().max().map_or(0, |&last| last + 1);
    let chosen: Vec<usize> = (0..count).map(|fold| first(trials, among, |at| mistakes(at, fold))).collect();
    let right: Vec<bool> =
        folds.iter().enumerate().map(|(row, &fold)| trials[chosen[fold]].right[row]).collect();
    let successes = right.iter().filter(|&&right| right).count();
    let accuracy = trials[among[0]].uncertainty.share(successes, right.len());
    (Selection { accuracy, chosen }, right)
}

/// Whether `other` does not fall behind `best` by more than the standard error of the differences between folds,
/// `s / sqrt(k)` with s their standard deviation (divisor k - 1) over k folds.
fn within_one_standard_error(best: &CandidateHead, other: &CandidateHead) -> bool {
    let differences: Vec<f64> =
        best.fold_accuracies.iter().zip(&other.fold_accuracies).map(|(best, other)| best - other).collect();
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let square = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>();
    let error = (square / (count - 1.0).max(1.0) / count).sqrt();
    // Rounding must not exclude equals.
    mean <= error + 1e-12
}

fn scenario(trials: &[HeadTrial], network: usize, groups: usize, classes: usize, learned: bool) -> Scenario {
    let part = |top: bool| -> Option<(Selection, Vec<bool>)> {
        let of_part = |&at: &usize| {
            let features = &trials[at].candidate.features;
            features.network == network && features.top == top
        };
        let among: Vec<usize> = (0..trials.len()).filter(of_part).collect();
        (!among.is_empty()).then(|| select(trials, &among))
    };
    let (top, earlier) = (part(true), part(false));
    let difference = match (&earlier, &top) {
        (Some((_, earlier)), Some((_, top))) => Some(Difference::of_pairs(earlier, top)),
        _ => None,
    };
    let similarity = match difference {
        Some(difference) if learned => similarity(&difference),
        _ => Similarity::Undecided,
    };
    let images_per_class = groups / classes.max(1);
    let rows = trials[0].right.len();
    Scenario {
        similarity,
        size: if images_per_class >= LARGE_CLASS { DatasetSize::Large } else { DatasetSize::Small },
        images_per_class,
        network,
        top: top.map(|(selection, _)| selection),
        earlier: earlier.map(|(selection, _)| selection),
        difference,
        images_to_tell: difference
            .filter(|_| learned && similarity == Similarity::Undecided)
            .map(|difference| images_to_tell(&difference, rows)),
    }
}

fn similarity(difference: &Difference) -> Similarity {
    if difference.high <= EQUAL_WITHIN {
        Similarity::Similar
    } else if difference.low > 0.0 {
        Similarity::Different
    } else {
        Similarity::Undecided
    }
}

/// Images until the interval would lie above 0 or below [`EQUAL_WITHIN`], whichever is nearer, were the difference to
/// stay what it is.
fn images_to_tell(difference: &Difference, rows: usize) -> usize {
    let half = (difference.high - difference.low) / 2.0;
    let room = difference.value.max(EQUAL_WITHIN - difference.value);
    (rows as f64 * (half / room).powi(2)).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::super::CandidateFeatures;
    use super::*;
    use crate::evaluate::Uncertainty;
    use crate::head::HeadKind;
    use crate::network::Pooling;

    /// Five folds of 20 images.
    const FOLDS: usize = 5;
    const EACH: usize = 20;

    /// A trial of a layer that cost `multiply_adds`, with so many mistakes in each fold, and inside it.
    fn trial(multiply_adds: u64, top: bool, wrong: [usize; FOLDS], inner: [usize; FOLDS]) -> HeadTrial {
        let right: Vec<bool> = (0..FOLDS * EACH).map(|row| row % EACH >= wrong[row / EACH]).collect();
        let fold_accuracies = wrong.iter().map(|&wrong| 1.0 - wrong as f64 / EACH as f64).collect();
        let successes = right.iter().filter(|&&right| right).count();
        HeadTrial {
            candidate: CandidateHead {
                features: CandidateFeatures {
                    network: 0,
                    layer: format!("layer{multiply_adds}"),
                    tensor: String::new(),
                    pooling: Pooling::None,
                    default_pooling: Pooling::None,
                    name: String::new(),
                    shape: vec![8],
                    width: 8,
                    multiply_adds,
                    share: 0.0,
                    milliseconds: None,
                    top,
                },
                kind: HeadKind::Svm,
                c: None,
                accuracy: Proportion::new(successes, right.len()),
                fold_accuracies,
                log_loss: 0.0,
                inner: inner.map(|mistakes| InnerValidation { mistakes, rows: EACH * (FOLDS - 1) }).to_vec(),
                seconds: 0.0,
            },
            folds: (0..FOLDS * EACH).map(|row| row / EACH).collect(),
            uncertainty: Uncertainty {
                effective_rows: right.len() as f64,
                images_per_class: right.len() as f64 / 4.0,
                folds: FOLDS,
            },
            right,
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_choice_is_made_by_what_each_fold_could_know() {
        // The second looks better inside folds 0 to 3, and is wrong more often there.
        let trials = [
            trial(1, false, [1, 1, 1, 1, 5], [9, 9, 9, 9, 2]),
            trial(2, true, [3, 3, 3, 3, 1], [4, 4, 4, 4, 4]),
        ];
        let (selection, right) = select(&trials, &[0, 1]);
        assert_eq!(selection.chosen, [1, 1, 1, 1, 0]);
        assert_eq!(selection.accuracy.successes, 100 - (3 * 4 + 5));
        assert_eq!(right.iter().filter(|&&right| !right).count(), 17);
        // The best in hindsight has 9 mistakes: that figure would have been too good.
        assert_eq!(advise(&trials, 100, 4, 0.25).best, 0);
    }

    #[test]
    fn equals_are_decided_by_cost() {
        let same = [1; FOLDS];
        let trials = [trial(9, true, same, same), trial(3, false, same, same), trial(5, false, same, same)];
        let advice = advise(&trials, 100, 4, 0.25);
        assert_eq!((advice.best, advice.cheapest), (1, 1));
        assert_eq!(advice.selection.chosen, [1; FOLDS]);
        assert_eq!(advice.as_good, [0, 1, 2]);
    }

    #[test]
    fn the_cheapest_within_one_standard_error_of_the_difference_is_found() {
        let inner = [1; FOLDS];
        let best = trial(9, true, [1, 1, 1, 1, 1], inner);
        // Differences 0, 0, 0, 0, 0.1: mean 0.02, standard error 0.02.
        let near = trial(5, false, [1, 1, 1, 1, 3], inner);
        // Differences 0.05 in every fold: mean 0.05, standard error 0.
        let far = trial(2, false, [2, 2, 2, 2, 2], inner);
        assert!(within_one_standard_error(&best.candidate, &near.candidate));
        assert!(!within_one_standard_error(&best.candidate, &far.candidate));
        let advice = advise(&[far, near, best], 100, 4, 0.25);
        assert_eq!((advice.best, advice.cheapest), (2, 1));
        assert_eq!(advice.as_good, [1, 2]);
    }

    #[test]
    fn the_scenario_follows_the_difference_between_earlier_layers_and_the_top() {
        let told = |earlier: [usize; FOLDS], top: [usize; FOLDS], classes: usize| {
            let trials = [trial(1, false, earlier, earlier), trial(2, true, top, top)];
            advise(&trials, 100, classes, 0.25).scenario
        };
        let different = told([1; FOLDS], [8; FOLDS], 4);
        assert_eq!((different.similarity, different.size), (Similarity::Different, DatasetSize::Small));
        assert_eq!(different.images_per_class, 25);
        let difference = different.difference.unwrap();
        assert_eq!((difference.only_first, difference.only_second), (35, 0));
        assert_eq!(different.images_to_tell, None);
        assert_eq!(told([8; FOLDS], [1; FOLDS], 4).similarity, Similarity::Similar);
        // Two images of a hundred more: an interval of -1.3 to 5.3 points.
        let undecided = told([1, 1, 1, 0, 0], [1; FOLDS], 4);
        assert_eq!(undecided.similarity, Similarity::Undecided);
        let enough = undecided.images_to_tell.unwrap();
        assert_eq!(enough, 274, "the half width of 3.3 points must shrink to 2");
    }

    #[test]
    fn where_nothing_is_learned_nothing_is_concluded() {
        let trials = [trial(1, false, [14; FOLDS], [1; FOLDS]), trial(2, true, [16; FOLDS], [2; FOLDS])];
        let advice = advise(&trials, 100, 4, 0.25);
        assert!(!advice.learned);
        assert_eq!(advice.scenario.similarity, Similarity::Undecided);
        assert_eq!(advice.scenario.images_to_tell, None);
    }

    #[test]
    fn a_single_layer_has_nothing_to_be_compared_with() {
        let scenario = advise(&[trial(1, true, [0; FOLDS], [0; FOLDS])], 100, 4, 0.25).scenario;
        assert_eq!((scenario.similarity, scenario.difference), (Similarity::Undecided, None));
    }

    #[test]
    fn a_thousand_different_images_a_class_are_large() {
        let trials = [trial(1, true, [0; FOLDS], [0; FOLDS])];
        assert_eq!(advise(&trials, 3_999, 4, 0.25).scenario.size, DatasetSize::Small);
        assert_eq!(advise(&trials, 4_000, 4, 0.25).scenario.size, DatasetSize::Large);
    }
}
