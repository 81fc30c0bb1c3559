//! Which images of a training set count as duplicates: how they are searched for, and when likeness is not relied on.
//! The search itself is [`crate::dataset::Duplicates::find`].

use cnncodes_linear_heads::RowSource;

use super::labelled::LabelledFeatures;
use super::{RowValues, StreamedLayer, TrainingError};
use crate::dataset::{DUPLICATE_DISTANCE, DUPLICATE_THRESHOLD, Duplicates, Likeness, MOST_COMPARED};
use crate::evaluate::Note;
use crate::features::FeatureFile;
use crate::head::HeadError;
use crate::messages::count;

/// How a file gets the perceptual hashes that an earlier version left out.
const REHASH: &str = "`cnncodes extract --rehash`, with the arguments of the first time, adds them without running the network";

/// How duplicates are told apart where the images are not known.
const GROUPS: &str = "--groups names duplicates that you know of";

/// Which images count as duplicates of one another.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DuplicateSettings {
    /// Bits of 256 in which the perceptual hashes of two duplicates differ at most; `None` is [`DUPLICATE_DISTANCE`].
    pub distance: Option<u32>,
    /// Go by the features instead: the cosine of centred features above which two images count as duplicates; 1 for
    /// byte-identical files only.
    pub cosine: Option<f64>,
    /// The group of each image (in a CSV file: the columns path,group): images of one group count as duplicates, whatever they
    /// look like.
    pub groups: Option<RowValues>,
}

impl DuplicateSettings {
    /// Refuses groups that are not one for each row of the file.
    ///
    /// # Errors
    /// [`TrainingError::RowValues`].
    pub fn check(&self, file: &FeatureFile) -> Result<(), TrainingError> {
        self.groups.as_ref().map_or(Ok(()), |groups| groups.check("group", file))
    }
}

/// Images in sets of several classes that are put down to wrong labels, however few images there are.
const A_FEW_WRONG_LABELS: usize = 4;

/// Share of the images in sets that may stand in sets of several classes where hashes are alike: a photo may have been filed
/// under two classes, and that happens often where photos are gathered by a search for each class.
const MOST_ACROSS_BY_HASH: f64 = 0.5;

/// The same where features are alike.
const MOST_ACROSS_BY_FEATURE: f64 = 0.1;

impl LabelledFeatures {
    /// How many images stand in sets of several classes, and two of them that differ in class, where these are so many
    /// that likeness cannot mean copying: more than `share` of the images in sets. A few may be wrong labels.
    fn alike_across_classes(&self, found: &Duplicates, share: f64) -> Option<(usize, [usize; 2])> {
        let (mut joined, mut crossed, mut example) = (0, 0, None);
        for set in &found.sets {
            joined += set.images.len();
            let first = set.images[0];
            if let Some(&other) = set.images.iter().find(|&&row| self.labels[row] != self.labels[first]) {
                crossed += set.images.len();
                example.get_or_insert([first, other]);
            }
        }
        example
            .filter(|_| crossed > A_FEW_WRONG_LABELS && crossed as f64 > share * joined as f64)
            .map(|example| (crossed, example))
    }

    /// How near-identical images are to be found, and what is to be said about it. `source` has the features.
    fn likeness<'a>(
        &'a self,
        settings: &DuplicateSettings,
        (source, memory): (&'a dyn RowSource, usize),
    ) -> Result<(Likeness<'a>, Option<Note>), TrainingError> {
        let without = self.without_hash();
        if let Some(distance) = settings.distance {
            if without > 0 {
                let (why, remedy) = self.why_without_hash();
                return Err(TrainingError::NoHashes { images: without, why, remedy });
            }
            return Ok((Likeness::Hashes(&self.hashes, distance), None));
        }
        let by_features = |threshold| Likeness::Features { source, threshold, memory };
        match settings.cosine {
            Some(threshold) if threshold >= 1.0 => return Ok((Likeness::None, None)),
            Some(threshold) => return Ok((by_features(threshold), None)),
            None if without == 0 => return Ok((Likeness::Hashes(&self.hashes, DUPLICATE_DISTANCE), None)),
            None => {}
        }
        let (why, remedy) = self.why_without_hash();
        let because =
            format!("the file has no perceptual hash of {}, because {why}", count(without, "image"));
        let (likeness, how) = if self.names.len() > MOST_COMPARED {
            let how = format!(
                "near-identical images are not searched for among more than {MOST_COMPARED}; \
                 --duplicate-threshold {DUPLICATE_THRESHOLD} does so by their features, in a time that \
                 grows with the square of their number"
            );
            (Likeness::None, how)
        } else {
            let how = format!(
                "near-identical images were found by their features (cosine above {DUPLICATE_THRESHOLD}), \
                 which depends on the layer"
            );
            (by_features(DUPLICATE_THRESHOLD), how)
        };
        Ok((likeness, Some(Note::info(format!("{because}: {how}; {remedy}")))))
    }

    /// Why images have no perceptual hash, and how to do without.
    fn why_without_hash(&self) -> (&'static str, &'static str) {
        if self.foreign {
            ("another program computed the features", GROUPS)
        } else {
            ("an earlier version of cnncodes wrote it", REHASH)
        }
    }

    /// Which rows are duplicates of one another, and what the reader of the results should know about it.
    ///
    /// Likeness is not relied on, unless it was asked for, where it can hardly mean duplicates: it would leave a class too few
    /// different images, or many images of different classes are alike.
    ///
    /// `streamed` has the features if they are not in memory.
    ///
    /// # Errors
    /// The CSV file of groups cannot be used, the features lack what `settings` ask for, or they cannot be read.
    pub fn duplicates(
        &self,
        settings: &DuplicateSettings,
        folds: usize,
        streamed: Option<&StreamedLayer<'_>>,
    ) -> Result<(Duplicates, Vec<Note>), TrainingError> {
        self.with_rows(streamed, |source, memory| self.duplicates_by(settings, folds, (source, memory)))
    }

    fn duplicates_by(
        &self,
        settings: &DuplicateSettings,
        folds: usize,
        features: (&dyn RowSource, usize),
    ) -> Result<(Duplicates, Vec<Note>), TrainingError> {
        let (mut groups, mut notes) = (Vec::new(), Vec::new());
        if let Some(given) = &settings.groups {
            let (column, unknown) = given.of_rows("group", self.rows.iter().copied(), &self.names)?;
            groups = column;
            notes.extend(unknown.map(Note::warning));
        }
        let (likeness, note) = self.likeness(settings, features)?;
        notes.extend(note);
        let find =
            |likeness| Duplicates::find(&self.sha256, &groups, likeness).map_err(HeadError::unreadable);
        let found = find(likeness)?;
        let was_asked_for = settings.distance.is_some() || settings.cosine.is_some();
        if !was_asked_for {
            let certain = || find(Likeness::None);
            if let Some((certain, note)) = self.distrust(likeness, &found, certain, folds)? {
                notes.push(note);
                return Ok((certain, notes));
            }
        }
        let mixed = found
            .sets
            .iter()
            .filter(|set| set.images.iter().any(|&row| self.labels[row] != self.labels[set.images[0]]));
        if let Some(set) = mixed.clone().next() {
            let named: Vec<&str> = set.images.iter().map(|&row| self.names[row].as_str()).collect();
            notes.push(Note::warning(format!(
                "{} of duplicates with different labels, such as {}; `cnncodes suspects` lists them",
                count(mixed.count(), "set"),
                named.join(" and ")
            )));
        }
        Ok((found, notes))
    }

    /// What is `certain`, where what was `found` by likeness is not relied on, and why it is not.
    fn distrust(
        &self,
        likeness: Likeness<'_>,
        found: &Duplicates,
        certain: impl Fn() -> Result<Duplicates, HeadError>,
        folds: usize,
    ) -> Result<Option<(Duplicates, Note)>, HeadError> {
        // Hashes are seldom alike by chance, and duplicates are better off in fewer folds than in several at once. Features of an
        // early layer, or of few values, are often alike.
        let (what, option, least, share) = match likeness {
            Likeness::None => return Ok(None),
            Likeness::Hashes(_, distance) => (
                format!("perceptual hashes (up to {distance} bits of 256 differ)"),
                format!("--duplicate-distance {distance}"),
                2,
                MOST_ACROSS_BY_HASH,
            ),
            Likeness::Features { threshold, .. } => (
                format!("features (cosine above {threshold})"),
                format!("--duplicate-threshold {threshold}"),
                folds,
                MOST_ACROSS_BY_FEATURE,
            ),
        };
        let certain = certain()?;
        let fewest = found.fewest_of_a_class(&self.labels);
        if fewest < least && certain.fewest_of_a_class(&self.labels) > fewest {
            let different = count(fewest, "different image");
            let note = Note::warning(format!(
                "with similar {what} as duplicates, a class would have only {different}, so only \
                 byte-identical images were kept together; if the others are duplicates, the accuracy is \
                 too high, and {option} keeps them together"
            ));
            return Ok(Some((certain, note)));
        }
        let Some((crossed, set)) = self.alike_across_classes(found, share) else { return Ok(None) };
        let note = Note::info(format!(
            "{crossed} images of different classes have nearly the same {what}, such as {} and {}: this \
             does not distinguish duplicates from similar images here, so only byte-identical images were \
             kept together; {option} keeps similar ones together as well",
            self.names[set[0]], self.names[set[1]]
        ));
        Ok(Some((certain, note)))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::super::labelled::tests::labelled;
    use super::*;
    use crate::images::PerceptualHash;

    fn arguments(cosine: Option<f64>) -> DuplicateSettings {
        DuplicateSettings { cosine, ..DuplicateSettings::default() }
    }

    #[test]
    fn likeness_within_a_class_is_not_mistaken_for_copies_unless_it_is_asked_for() {
        let value = |(row, column): (usize, usize)| ((row % 2 == column % 2) as u8 * 100 + row as u8) as f32;
        let alike = labelled(Array2::from_shape_fn((12, 8), value), (0..12).map(|row| row % 2).collect());
        let (found, notes) = alike.duplicates(&arguments(None), 5, None).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("no perceptual hash of 12 images"), "{notes:?}");
        assert!(notes[1].text.contains("only 1 different"), "{notes:?}");
        let (found, _) = alike.duplicates(&arguments(Some(0.95)), 5, None).unwrap();
        assert_eq!(found.sets.len(), 2);
    }

    #[test]
    fn copies_with_different_labels_are_warned_of() {
        let mut features =
            Array2::from_shape_fn((12, 12), |(row, column)| f32::from(u8::from(row == column)));
        let first = features.row(0).to_owned();
        features.row_mut(1).assign(&first);
        let (found, notes) = labelled(features, (0..12).map(|row| row % 2).collect())
            .duplicates(&arguments(None), 3, None)
            .unwrap();
        assert_eq!(found.sets.len(), 1);
        assert!(notes[1].text.contains("1 set of duplicates with different labels, such as 0.jpg and 1.jpg"));
    }

    #[test]
    fn look_alikes_of_different_classes_are_no_copies() {
        // Rows 0 to 5 are alike and of both classes; the others differ from all.
        let alike = labelled(
            Array2::from_shape_fn((20, 20), |(row, column)| f32::from(u8::from(row.max(5) == column.max(5)))),
            (0..20).map(|row| row % 2).collect(),
        );
        let (found, notes) = alike.duplicates(&arguments(None), 3, None).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[1].text.starts_with("6 images of different classes"), "{notes:?}");
        assert!(notes[1].text.contains("0.jpg and 1.jpg"), "{notes:?}");
        let (found, notes) = alike.duplicates(&arguments(Some(0.95)), 3, None).unwrap();
        assert_eq!(found.sets.len(), 1);
        assert!(notes[0].text.contains("duplicates with different labels"), "{notes:?}");
    }

    #[test]
    fn many_images_are_compared_only_when_asked() {
        let rows = MOST_COMPARED + 1;
        let many = labelled(Array2::zeros((rows, 1)), (0..rows).map(|row| row % 2).collect());
        let (found, notes) = many.duplicates(&arguments(None), 5, None).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("--duplicate-threshold 0.95 does so"), "{notes:?}");
    }

    /// Hashes that differ in 128 bits, but for the rows of `alike`, whose hash is that of the first of them but for 3 bits.
    fn hashed(labels: Vec<usize>, alike: &[&[usize]]) -> LabelledFeatures {
        let rows = labels.len();
        let mut labelled = labelled(Array2::zeros((rows, 1)), labels);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        let mut hashes: Vec<PerceptualHash> = (0..rows).map(|_| rng.random()).collect();
        for set in alike {
            for (copy, &row) in set.iter().enumerate().skip(1) {
                hashes[row] = hashes[set[0]];
                hashes[row][copy] ^= 0b111;
            }
        }
        labelled.hashes = hashes.into_iter().map(Some).collect();
        labelled
    }

    #[test]
    fn hashes_tell_copies_whatever_the_features_are() {
        let mut alike = hashed((0..12).map(|row| row % 2).collect(), &[&[0, 4, 8], &[1, 3]]);
        let (found, notes) = alike.duplicates(&arguments(None), 5, None).unwrap();
        let sets = |found: &Duplicates| found.sets.iter().map(|set| set.images.clone()).collect::<Vec<_>>();
        assert_eq!(sets(&found), [vec![0, 4, 8], vec![1, 3]]);
        assert_eq!(found.sets[1].similarity, 1.0 - 3.0 / 256.0);
        assert_eq!(notes, []);
        // Features that were left in their file are not missed.
        alike.features = Array2::zeros((0, 0));
        assert_eq!(alike.duplicates(&arguments(None), 5, None).unwrap(), (found, vec![]));
        let distance = DuplicateSettings { distance: Some(2), ..DuplicateSettings::default() };
        assert_eq!(alike.duplicates(&distance, 5, None).unwrap().0.sets, []);
        assert_eq!(alike.duplicates(&arguments(Some(1.0)), 5, None).unwrap().0.sets, []);
        alike.hashes[7] = None;
        let refused = alike.duplicates(&distance, 5, None).unwrap_err().to_string();
        assert!(refused.contains("for 1 image") && refused.contains("extract --rehash"), "{refused}");
        let (found, notes) = alike.duplicates(&arguments(None), 5, None).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("no perceptual hash of 1 image"), "{notes:?}");
    }

    #[test]
    fn a_class_of_few_photos_and_many_copies_keeps_them_together() {
        // Three photos four times each, and twelve others.
        let labels = (0..24).map(|row| row / 12).collect();
        let few = hashed(labels, &[&[0, 1, 2, 3], &[4, 5, 6, 7], &[8, 9, 10, 11]]);
        let (found, notes) = few.duplicates(&arguments(None), 5, None).unwrap();
        assert_eq!((found.sets.len(), found.fewest_of_a_class(&few.labels)), (3, 3));
        assert_eq!(notes, []);
    }

    #[test]
    fn a_class_that_looks_the_same_all_over_is_not_taken_for_one_image() {
        let all: Vec<usize> = (0..12).collect();
        let same = hashed((0..24).map(|row| row / 12).collect(), &[&all]);
        let (found, notes) = same.duplicates(&arguments(None), 5, None).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("only 1 different image"), "{notes:?}");
        assert!(notes[0].text.contains("--duplicate-distance 31 keeps them together"), "{notes:?}");
        let asked = DuplicateSettings { distance: Some(31), ..DuplicateSettings::default() };
        assert_eq!(same.duplicates(&asked, 5, None).unwrap().0.sets.len(), 1);
    }

    #[test]
    fn photos_filed_under_two_classes_are_copies_and_look_alikes_of_all_classes_are_not() {
        let labels: Vec<usize> = (0..40).map(|row| row % 2).collect();
        let pairs: Vec<[usize; 2]> = vec![[0, 1], [2, 3], [4, 5], [6, 8], [7, 9], [10, 12], [11, 13]];
        let sets: Vec<&[usize]> = pairs.iter().map(|pair| &pair[..]).collect();
        let (found, notes) = hashed(labels.clone(), &sets).duplicates(&arguments(None), 5, None).unwrap();
        assert_eq!(found.sets.len(), 7);
        assert!(notes[0].text.starts_with("3 sets of duplicates with different labels"), "{notes:?}");
        let (found, notes) = hashed(labels, &sets[..4]).duplicates(&arguments(None), 5, None).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.starts_with("6 images of different classes"), "{notes:?}");
    }
}
