//! Stratified cross-validation folds that keep groups together.
//!
//! A group is a set of rows that must not be split, such as duplicates of one photo: were one trained on and the other
//! tested, memory would pass for skill.

use rand::{SeedableRng, seq::SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;
use thiserror::Error;

use super::{Note, Uncertainty};

/// Which fold each row is tested in.
#[derive(Debug, Clone, PartialEq)]
pub struct Folds {
    assignment: Vec<usize>,
    count: usize,
    groups: usize,
    uncertainty: Uncertainty,
    notes: Vec<Note>,
}

/// Why rows cannot be divided into folds.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum FoldError {
    /// Fewer than two folds were asked for.
    #[error("cross-validation needs at least 2 folds, not {0}")]
    TooFewFolds(usize),
    /// All rows of every class are duplicates of one another.
    #[error(
        "every class consists of duplicates of a single image, so nothing can be held out for testing; add \
         different images of each class"
    )]
    OneGroupPerClass,
}

impl Folds {
    /// Deals rows with `labels` (`0..class_names.len()`) and `groups` (any numbers, equal for rows that belong together)
    /// to at most `wanted` folds, so that each fold has its share of every class.
    ///
    /// Groups are shuffled by `seed`, sorted by falling size, and dealt one by one to the fold that has the smallest
    /// share of the group's classes so far, the first of equals. So the first folds get what does not divide evenly, of all
    /// classes alike, and classes of equal size have equally many rows in the training part of every fold. Were they to have
    /// fewer of the class that is tested than of the others, heads would take the class for a rarer one, and the accuracy
    /// of a few images would be below chance where there is nothing to learn (G. Forman, M. Scholz: "Apples-to-apples in
    /// cross-validation studies", SIGKDD Explorations 12, 2010; R. Kohavi, IJCAI 1995, for leave-one-out). No more folds are made than the class with the most groups has groups;
    /// this, and every class with fewer groups than folds, is told in [`Folds::notes`].
    pub fn stratified(
        labels: &[usize],
        groups: &[usize],
        class_names: &[String],
        wanted: usize,
        seed: u64,
    ) -> Result<Self, FoldError> {
        assert_eq!(labels.len(), groups.len(), "every row has a label and a group");
        if wanted < 2 {
            return Err(FoldError::TooFewFolds(wanted));
        }
        let classes = class_names.len();
        let members = members_by_group(groups);
        let mut class_sizes = vec![0usize; classes];
        labels.iter().for_each(|&label| class_sizes[label] += 1);
        let class_groups = groups_per_class(&members, labels, classes);
        let most = class_groups.iter().copied().max().unwrap_or(0);
        if most < 2 {
            return Err(FoldError::OneGroupPerClass);
        }
        let count = wanted.min(most);
        let mut notes = Vec::new();
        if count < wanted {
            notes.push(Note::warning(format!(
                "{count} folds instead of {wanted}: no class has more than {most} images that are not \
                 duplicates of one another"
            )));
        }
        notes.extend(scarce_classes(&class_sizes, &class_groups, class_names, count));
        Ok(Self {
            count,
            groups: members.len(),
            uncertainty: Uncertainty::new(labels, groups, count),
            assignment: deal(members, labels, &class_sizes, count, seed),
            notes,
        })
    }

    /// Number of folds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of groups that were dealt.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// How far what is measured by these folds may be from the truth.
    pub fn uncertainty(&self) -> Uncertainty {
        self.uncertainty
    }

    /// The fold in which each row is tested.
    pub fn assignment(&self) -> &[usize] {
        &self.assignment
    }

    /// Rows that are trained on when `fold` is tested, in order.
    pub fn training(&self, fold: usize) -> Vec<usize> {
        self.rows(|of_row| of_row != fold)
    }

    /// Rows that are tested in `fold`, in order.
    pub fn testing(&self, fold: usize) -> Vec<usize> {
        self.rows(|of_row| of_row == fold)
    }

    /// What the reader of the results should know about these folds.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn rows(&self, chosen: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.assignment.len()).filter(|&row| chosen(self.assignment[row])).collect()
    }
}

/// Rows of each group, groups in order of their first row.
fn members_by_group(groups: &[usize]) -> Vec<Vec<usize>> {
    let mut position = std::collections::HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (row, group) in groups.iter().enumerate() {
        let at = *position.entry(group).or_insert_with(|| {
            members.push(Vec::new());
            members.len() - 1
        });
        members[at].push(row);
    }
    members
}

fn groups_per_class(members: &[Vec<usize>], labels: &[usize], classes: usize) -> Vec<usize> {
    let mut count = vec![0; classes];
    for rows in members {
        let mut present: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        present.sort_unstable();
        present.dedup();
        present.into_iter().for_each(|class| count[class] += 1);
    }
    count
}

fn scarce_classes(sizes: &[usize], groups: &[usize], class_names: &[String], folds: usize) -> Vec<Note> {
    let scarce = |class: &usize| groups[*class] < folds && sizes[*class] > 0;
    (0..class_names.len())
        .filter(scarce)
        .map(|class| {
            let (name, size) = (&class_names[class], sizes[class]);
            match groups[class] {
                1 => Note::warning(format!(
                    "class `{name}` has {size} image(s), all duplicates of one: while they are tested no \
                     image of the class is trained on, so they count as errors"
                )),
                distinct => Note::warning(format!(
                    "class `{name}` has only {distinct} different images, fewer than the {folds} folds: {} \
                     of the folds test no image of it",
                    folds - distinct
                )),
            }
        })
        .collect()
}

/// The fold of each row.
fn deal(
    mut members: Vec<Vec<usize>>,
    labels: &[usize],
    class_sizes: &[usize],
    folds: usize,
    seed: u64,
) -> Vec<usize> {
    members.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(seed));
    // Large groups first, while there is still freedom to balance them; the sort is stable, so equals stay shuffled.
    members.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let mut filled = vec![vec![0usize; class_sizes.len()]; folds];
    let mut assignment = vec![0; labels.len()];
    for rows in &members {
        // Share of the group's classes that the fold already holds: adding where it is least keeps the sum of squared
        // shares smallest.
        let burden = |fold: usize| -> f64 {
            rows.iter().map(|&row| filled[fold][labels[row]] as f64 / class_sizes[labels[row]] as f64).sum()
        };
        let order = |&a: &usize, &b: &usize| burden(a).total_cmp(&burden(b)).then(a.cmp(&b));
        let fold = (0..folds).min_by(order).expect("there are at least two folds");
        for &row in rows {
            assignment[row] = fold;
            filled[fold][labels[row]] += 1;
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|k| format!("class{k}")).collect()
    }

    fn alone(count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    #[test]
    fn every_fold_gets_its_share_of_every_class() {
        let labels: Vec<usize> = (0..100).map(|i| usize::from(i >= 60) + usize::from(i >= 90)).collect();
        let folds = Folds::stratified(&labels, &alone(100), &names(3), 5, 1).unwrap();
        for fold in 0..5 {
            let rows = folds.testing(fold);
            let of_class = |class| rows.iter().filter(|&&row| labels[row] == class).count();
            assert_eq!((of_class(0), of_class(1), of_class(2)), (12, 6, 2));
            assert_eq!(folds.training(fold).len(), 80);
        }
        assert_eq!(folds.notes(), []);
    }

    #[test]
    fn classes_of_equal_size_have_equally_many_rows_in_every_training_part() {
        for rows in 2..14 {
            let labels: Vec<usize> = (0..3 * rows).map(|i| i % 3).collect();
            for seed in 0..5 {
                let folds = Folds::stratified(&labels, &alone(3 * rows), &names(3), 5, seed).unwrap();
                for fold in 0..folds.count() {
                    let training = folds.training(fold);
                    let of_class = |class| training.iter().filter(|&&row| labels[row] == class).count();
                    assert_eq!([of_class(1), of_class(2)], [of_class(0); 2], "{rows} rows, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn the_seed_decides_the_folds() {
        let labels: Vec<usize> = (0..40).map(|i| i % 2).collect();
        let with = |seed| Folds::stratified(&labels, &alone(40), &names(2), 4, seed).unwrap();
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
    }

    #[test]
    fn a_class_with_fewer_members_than_folds_is_named() {
        let labels = [0, 0, 0, 0, 0, 0, 1, 1, 1];
        let folds = Folds::stratified(&labels, &alone(9), &names(2), 5, 0).unwrap();
        assert_eq!(folds.count(), 5);
        let note = &folds.notes()[0].text;
        assert!(note.contains("`class1`") && note.contains("3 different images"), "{note}");
        assert!(note.contains("2 of the folds test no image of it"), "{note}");
    }

    #[test]
    fn a_class_of_copies_only_is_named() {
        let labels = [0, 0, 0, 1, 1];
        let folds = Folds::stratified(&labels, &[0, 1, 2, 3, 3], &names(2), 3, 0).unwrap();
        let note = &folds.notes()[0].text;
        assert!(note.contains("`class1`") && note.contains("all duplicates of one"), "{note}");
    }

    #[test]
    fn there_are_no_more_folds_than_different_images() {
        let folds = Folds::stratified(&[0, 0, 1, 1], &alone(4), &names(2), 5, 0).unwrap();
        assert_eq!(folds.count(), 2);
        assert!(folds.notes()[0].text.starts_with("2 folds instead of 5"));
        for fold in 0..2 {
            assert_eq!(folds.testing(fold).len(), 2);
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let one = Folds::stratified(&[0, 0], &[0, 1], &names(1), 1, 0);
        assert_eq!(one.unwrap_err(), FoldError::TooFewFolds(1));
        let copies = Folds::stratified(&[0, 0, 1, 1], &[0, 0, 1, 1], &names(2), 2, 0);
        assert_eq!(copies.unwrap_err(), FoldError::OneGroupPerClass);
    }

    proptest! {
        #[test]
        fn no_group_straddles_and_every_row_is_tested_once(
            rows in prop::collection::vec((0usize..4, 0usize..30), 20..120),
            wanted in 2usize..8,
            seed in any::<u64>(),
        ) {
            let labels: Vec<usize> = rows.iter().map(|row| row.0).collect();
            let groups: Vec<usize> = rows.iter().map(|row| row.1).collect();
            let folds = Folds::stratified(&labels, &groups, &names(4), wanted, seed).unwrap();
            let mut tested = vec![0; labels.len()];
            for fold in 0..folds.count() {
                let testing = folds.testing(fold);
                prop_assert!(!testing.is_empty());
                for row in folds.training(fold) {
                    prop_assert!(testing.iter().all(|&other| groups[other] != groups[row]));
                }
                testing.iter().for_each(|&row| tested[row] += 1);
            }
            prop_assert!(tested.iter().all(|&times| times == 1));
        }
    }
}
