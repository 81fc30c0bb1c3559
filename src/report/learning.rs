//! The learning curve: accuracy against the number of photos, and whether more of them would help.
//!
//! The folds are those of the head's own cross-validation, so the curve ends in the accuracy that it reports. For each
//! point every class keeps half as many different photos of each fold's training part as for the next one (the smaller
//! set is part of the larger, duplicates stay together), a head is fitted to them, and all held-out photos are classified.

use ndarray::Axis;
use rand::{SeedableRng, seq::SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use crate::evaluate::{Difference, Proportion};
use crate::head::{FitSettings, OutOfFold, Subset, TrainingData, fit_head};

/// Points of the curve at most: its smallest part is 1/32 of the photos.
const MOST_POINTS: usize = 6;
/// Different photos a class, on average, below which no head is fitted.
const FEWEST_PER_CLASS: f64 = 3.0;
/// Accuracy, as a share, that is not worth twice the photos.
const HARDLY: f64 = 0.01;

/// Accuracy of heads that were fitted to parts of the photos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearningCurve {
    /// From few photos to all; at least two.
    pub points: Vec<LearningPoint>,
    /// What the last doubling brought: the whole set's accuracy less the half's.
    pub gain: Difference,
}

/// One size of the training set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearningPoint {
    /// Different photos (duplicates count once) a class that a head was fitted to, on average over classes and folds.
    pub per_class: f64,
    /// Share of all photos that were classified rightly, each while it was held out.
    pub accuracy: Proportion,
}

impl LearningCurve {
    /// Fits heads with `settings`, of which C has been chosen, to parts of `data`, whose cross-validation was `held_out`.
    /// `progress` is told the number of fits done and of all fits. `None` where there are too few photos for two points.
    pub fn measure(
        data: &TrainingData<'_>,
        settings: &FitSettings,
        held_out: &OutOfFold,
        mut progress: impl FnMut(usize, usize),
    ) -> Option<Self> {
        // The inner folds calibrate, and measure nothing that is used here.
        let settings = FitSettings { folds: 2, tuning: None, ..settings.clone() };
        let rows = data.labels.len();
        let predicted = held_out.answers();
        let right: Vec<bool> = (0..rows).map(|row| predicted[row] == data.labels[row]).collect();
        let folds: Vec<LearningFold> = (0..=held_out.folds.iter().copied().max()?)
            .map(|fold| LearningFold::new(data, &held_out.folds, fold))
            .collect();
        let mut outcomes = vec![(mean_size(&folds, 1), right)];
        for halvings in 1..MOST_POINTS {
            let divisor = 1 << halvings;
            let size = mean_size(&folds, divisor);
            if size < FEWEST_PER_CLASS {
                break;
            }
            let mut right = vec![false; rows];
            let fitted = folds.iter().enumerate().all(|(done, fold)| {
                progress((halvings - 1) * folds.len() + done, (MOST_POINTS - 1) * folds.len());
                fold.test(data, &settings, divisor, &mut right).is_some()
            });
            if !fitted {
                break;
            }
            outcomes.push((size, right));
        }
        let [(_, all), (_, half), ..] = &outcomes[..] else { return None };
        let gain = Difference::of_pairs(all, half);
        let uncertainty = data.uncertainty(folds.len());
        let point = |(per_class, right): &(f64, Vec<bool>)| LearningPoint {
            per_class: *per_class,
            accuracy: uncertainty.share(right.iter().filter(|&&right| right).count(), rows),
        };
        Some(Self { points: outcomes.iter().rev().map(point).collect(), gain })
    }

    /// Whether more photos would help, in a sentence or two.
    pub fn verdict(&self) -> String {
        let [.., half, all] = &self.points[..] else { return String::new() };
        let points = |share: f64| format!("{:+.2}", 100.0 * share).replace('-', "−");
        let Difference { value, low, high, .. } = self.gain;
        let measured = format!(
            "Going from {:.0} to {:.0} different photos per class changed the accuracy by {} points (95 % \
             interval {} to {}).",
            half.per_class,
            all.per_class,
            points(value),
            points(low),
            points(high)
        );
        let verdict = if low > 0.0 {
            "More photos would probably help."
        } else if high < HARDLY {
            "More photos of the same kind would hardly help."
        } else {
            "There are too few photos to decide whether more of them would help."
        };
        format!("{verdict} {measured}")
    }
}

/// One fold: what may be trained on, class by class in random order, and what is tested.
struct LearningFold {
    /// Of each class, the groups of duplicates that may be trained on.
    groups: Vec<Vec<Vec<usize>>>,
    testing: Vec<usize>,
}

impl LearningFold {
    fn new(data: &TrainingData<'_>, folds: &[usize], fold: usize) -> Self {
        let rows = 0..folds.len();
        let mut groups: Vec<Vec<Vec<usize>>> = vec![Vec::new(); data.class_names.len()];
        let mut place = std::collections::HashMap::new();
        for row in rows.clone().filter(|&row| folds[row] != fold) {
            let group = data.groups.map_or(row, |groups| groups[row]);
            // A group of several classes counts for that of its first row.
            let (class, at) = *place.entry(group).or_insert_with(|| {
                let class = data.labels[row];
                groups[class].push(Vec::new());
                (class, groups[class].len() - 1)
            });
            groups[class][at].push(row);
        }
        let mut random = Xoshiro256PlusPlus::seed_from_u64(fold as u64);
        groups.iter_mut().for_each(|class| class.shuffle(&mut random));
        Self { groups, testing: rows.filter(|&row| folds[row] == fold).collect() }
    }

    /// How many groups of each class remain of one part in `divisor`; never fewer than two where there are two.
    fn kept(&self, divisor: usize) -> impl Iterator<Item = usize> {
        self.groups.iter().map(move |class| class.len().div_ceil(divisor).max(class.len().min(2)))
    }

    /// Fits to one part in `divisor` and notes which of the held-out rows are classified rightly; `None` where no head
    /// could be fitted.
    fn test(
        &self,
        data: &TrainingData<'_>,
        settings: &FitSettings,
        divisor: usize,
        right: &mut [bool],
    ) -> Option<()> {
        let chosen =
            self.groups.iter().zip(self.kept(divisor)).flat_map(|(class, kept)| class[..kept].concat());
        let mut rows: Vec<usize> = chosen.collect();
        rows.sort_unstable();
        // A class that a head cannot be fitted to is left out, and its photos count as mistakes.
        let subset = Subset::of(data, &rows)?;
        let head = fit_head(&subset.data(), settings).ok()?.model;
        let answers = head.predict(data.features.select(Axis(0), &self.testing).view()).ok()?;
        for (&row, answer) in self.testing.iter().zip(answers) {
            right[row] = subset.classes[answer] == data.labels[row];
        }
        Some(())
    }
}

/// Different photos a class, on average over classes and folds, where one part in `divisor` is kept.
fn mean_size(folds: &[LearningFold], divisor: usize) -> f64 {
    let sizes: Vec<usize> = folds.iter().flat_map(|fold| fold.kept(divisor)).collect();
    sizes.iter().sum::<usize>() as f64 / sizes.len().max(1) as f64
}
