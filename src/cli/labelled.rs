//! The labelled rows of a file of codes, and which of them are copies: what `fit-head` and `suspects` start from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use ndarray::{Array2, Axis};

use super::show;
use crate::codes::CodesFile;
use crate::evaluate::{DUPLICATE_DISTANCE, DUPLICATE_THRESHOLD, Duplicates, Joining, MOST_COMPARED, Note};
use crate::head::TrainingData;
use crate::images::{CsvTable, PerceptualHash, class_name_of, text_of};

/// Which images belong together.
#[derive(Debug, Default, clap::Args)]
pub struct CopyArgs {
    /// Largest number of bits, of 256, in which the perceptual hashes of two duplicates differ, 0 to 128 [default:
    /// 31]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(0..=128))]
    pub duplicate_distance: Option<u32>,
    /// Find duplicates by their features instead of perceptual hashes: two images are duplicates if the cosine of
    /// their centred features is above this, such as 0.95. It depends on the layer; 1 means byte-identical files only
    #[arg(long, value_name = "COSINE", value_parser = cosine, conflicts_with = "duplicate_distance")]
    pub duplicate_threshold: Option<f64>,
    /// CSV file with the columns path,group: images of one group stay on one side of each split, like duplicates
    #[arg(long, value_name = "FILE.csv")]
    pub groups: Option<PathBuf>,
}

/// How near-identical images are found.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Criterion {
    /// Not at all.
    Identical,
    /// Their perceptual hashes differ in so many bits at most.
    Distance(u32),
    /// The cosine of their codes is above this.
    Cosine(f64),
}

fn cosine(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a cosine above 0 and up to 1, such as 0.95".to_owned()),
    }
}

/// Images in sets of several classes that are put down to wrong labels, however few images there are.
const A_FEW_WRONG_LABELS: usize = 4;

/// Share of the images in sets that may stand in sets of several classes where hashes are alike: a photo may have been filed
/// under two classes, and that happens often where photos are gathered by a search for each class.
const MOST_ACROSS_BY_HASH: f64 = 0.5;

/// The same where codes are alike.
const MOST_ACROSS_BY_CODE: f64 = 0.1;

/// The rows of a file of codes whose class is known.
pub struct Labelled {
    /// Their codes; no row where they have been left in the file.
    pub codes: Array2<f32>,
    /// Their numbers in the file.
    pub rows: Vec<usize>,
    pub labels: Vec<usize>,
    pub class_names: Vec<String>,
    pub names: Vec<String>,
    /// SHA-256 of each image file.
    pub sha256: Vec<String>,
    /// Perceptual hash of each image; `None` where the file does not tell it.
    pub hashes: Vec<Option<PerceptualHash>>,
    pub notes: Vec<String>,
}

impl Labelled {
    pub fn read(file: &CodesFile, layer: Option<&str>, path: &Path) -> anyhow::Result<Labelled> {
        let mut labelled = Self::without_codes(file, path)?;
        labelled.read_codes(file, layer)?;
        Ok(labelled)
    }

    /// Reads the codes that were left in the file.
    pub fn read_codes(&mut self, file: &CodesFile, layer: Option<&str>) -> anyhow::Result<()> {
        self.codes = file.read_layer(layer)?;
        if self.rows.len() < file.rows() {
            self.codes = self.codes.select(Axis(0), &self.rows);
        }
        Ok(())
    }

    /// All but the codes.
    pub fn without_codes(file: &CodesFile, path: &Path) -> anyhow::Result<Labelled> {
        let rows: Vec<usize> = (0..file.rows()).filter(|&row| file.labels()[row] >= 0).collect();
        if rows.is_empty() {
            bail!(
                "no image in {} has a label; extract a folder with one folder for each class, or a CSV file \
                 with the columns path,label",
                path.display()
            );
        }
        let mut notes = Vec::new();
        if rows.len() < file.rows() {
            let unlabelled = show::count(file.rows() - rows.len(), "image");
            notes.push(format!("left out {unlabelled} without a label"));
        }
        // A class all of whose images were skipped is no class of the head.
        let mut present = vec![false; file.class_names().len()];
        rows.iter().for_each(|&row| present[file.labels()[row] as usize] = true);
        let mut renumbered = vec![0; present.len()];
        let mut class_names = Vec::new();
        for (class, name) in file.class_names().iter().enumerate() {
            if present[class] {
                renumbered[class] = class_names.len();
                class_names.push(name.clone());
            } else {
                notes.push(format!("the class {name:?} has no image that could be read, and was left out"));
            }
        }
        let text = |column: &[String]| rows.iter().map(|&row| column[row].clone()).collect();
        Ok(Labelled {
            codes: Array2::zeros((0, 0)),
            labels: rows.iter().map(|&row| renumbered[file.labels()[row] as usize]).collect(),
            class_names,
            names: text(file.image_names()),
            sha256: text(file.sha256()),
            hashes: rows.iter().map(|&row| file.perceptual_hash(row)).collect(),
            notes,
            rows,
        })
    }

    /// Without the classes that are not to be kept; also the rows that are left. Keeps the notes.
    pub fn keep_classes(self, keep: &[bool]) -> (Labelled, Vec<usize>) {
        let rows: Vec<usize> = (0..self.labels.len()).filter(|&row| keep[self.labels[row]]).collect();
        let mut kept = self.select(&rows);
        let mut renumbered = vec![0; keep.len()];
        let classes = (0..keep.len()).filter(|&class| keep[class]);
        classes.clone().enumerate().for_each(|(new, old)| renumbered[old] = new);
        kept.class_names = classes.map(|class| self.class_names[class].clone()).collect();
        kept.labels.iter_mut().for_each(|label| *label = renumbered[*label]);
        kept.notes = self.notes;
        (kept, rows)
    }

    /// The given rows alone, of the same classes and without notes.
    pub fn select(&self, rows: &[usize]) -> Labelled {
        let text = |column: &[String]| rows.iter().map(|&row| column[row].clone()).collect();
        // Codes that have been left in the file stay there.
        let in_memory = self.codes.nrows() == self.names.len();
        Labelled {
            codes: if in_memory { self.codes.select(Axis(0), rows) } else { Array2::zeros((0, 0)) },
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            class_names: self.class_names.clone(),
            names: text(&self.names),
            sha256: text(&self.sha256),
            hashes: rows.iter().map(|&row| self.hashes[row]).collect(),
            rows: rows.iter().map(|&row| self.rows[row]).collect(),
            notes: Vec::new(),
        }
    }

    /// What a head is fitted to; rows of equal `groups` are copies of one image.
    pub fn training_data<'a>(&'a self, groups: &'a [usize]) -> TrainingData<'a> {
        TrainingData {
            codes: self.codes.view(),
            labels: &self.labels,
            class_names: &self.class_names,
            groups: Some(groups),
            row_names: Some(&self.names),
        }
    }

    /// How many images stand in sets of several classes, and two of them that differ in class, where these are so many
    /// that likeness cannot mean copying: more than `share` of the images in sets. A few may be wrong labels.
    fn taken_for_copies_across_classes(&self, found: &Duplicates, share: f64) -> Option<(usize, [usize; 2])> {
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

    /// How many images have no perceptual hash.
    pub fn without_hash(&self) -> usize {
        self.hashes.iter().filter(|hash| hash.is_none()).count()
    }

    /// How near-identical images are to be found, and what is to be said about it.
    fn criterion(&self, args: &CopyArgs) -> anyhow::Result<(Criterion, Option<Note>)> {
        let without = self.without_hash();
        let remedy = "`cnncodes extract --rehash`, with the arguments of the first time, adds them without \
                      running the network";
        if let Some(distance) = args.duplicate_distance {
            if without > 0 {
                bail!(
                    "--duplicate-distance compares perceptual hashes, which the file lacks for {}: an \
                     earlier version of cnncodes wrote it; {remedy}",
                    show::count(without, "image")
                );
            }
            return Ok((Criterion::Distance(distance), None));
        }
        let in_memory = self.codes.nrows() == self.names.len();
        match args.duplicate_threshold {
            Some(threshold) if threshold >= 1.0 => return Ok((Criterion::Identical, None)),
            Some(_) if !in_memory => bail!(
                "--duplicate-threshold compares the features in memory, and they take more than the limit; \
                 raise --max-memory, or leave out --duplicate-threshold"
            ),
            Some(threshold) => return Ok((Criterion::Cosine(threshold), None)),
            None if without == 0 => return Ok((Criterion::Distance(DUPLICATE_DISTANCE), None)),
            None => {}
        }
        let because = format!(
            "the file has no perceptual hash of {}, because an earlier version of cnncodes wrote it",
            show::count(without, "image")
        );
        let (criterion, how) = if !in_memory {
            (
                Criterion::Identical,
                "near-identical images were not searched for, because the features were streamed".to_owned(),
            )
        } else if self.names.len() > MOST_COMPARED {
            let how = format!(
                "near-identical images are not searched for among more than {MOST_COMPARED}; \
                 --duplicate-threshold {DUPLICATE_THRESHOLD} does so by their features, in a time that \
                 grows with the square of their number"
            );
            (Criterion::Identical, how)
        } else {
            let how = format!(
                "near-identical images were found by their features (cosine above {DUPLICATE_THRESHOLD}), \
                 which depends on the layer"
            );
            (Criterion::Cosine(DUPLICATE_THRESHOLD), how)
        };
        Ok((criterion, Some(Note::info(format!("{because}: {how}; {remedy}")))))
    }

    /// Which rows are copies of one another, and what the reader of the results should know about it.
    ///
    /// Likeness is not relied on, unless it was asked for, where it can hardly mean copying: it would leave a class too few
    /// different images, or many images of different classes are alike.
    pub fn copies(&self, args: &CopyArgs, folds: usize) -> anyhow::Result<(Duplicates, Vec<Note>)> {
        let mut certain = Joining::new(self.names.len());
        certain.equal(self.sha256.iter().map(|hash| (!hash.is_empty()).then_some(hash)));
        let mut notes = Vec::new();
        if let Some(csv) = &args.groups {
            let (groups, unknown) = read_column(csv, "group", &self.names)?;
            certain.equal(groups);
            if unknown > 0 {
                let unknown = show::count(unknown, "path");
                notes.push(Note::warning(format!("{unknown} of {} name no labelled image", csv.display())));
            }
        }
        let (criterion, note) = self.criterion(args)?;
        notes.extend(note);
        let mut joining = certain.clone();
        {
            let _busy = show::busy("looking for duplicates");
            match criterion {
                Criterion::Identical => {}
                Criterion::Distance(distance) => joining.near(&self.hashes, distance),
                Criterion::Cosine(threshold) => joining.similar(self.codes.view(), threshold),
            }
        }
        let found = joining.finish();
        let was_asked_for = args.duplicate_distance.is_some() || args.duplicate_threshold.is_some();
        if criterion != Criterion::Identical && !was_asked_for {
            let certain = certain.finish();
            if let Some(note) = self.distrust(criterion, &found, &certain, folds) {
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
                show::count(mixed.count(), "set"),
                named.join(" and ")
            )));
        }
        Ok((found, notes))
    }

    /// Why what was `found` by likeness is not relied on, but only what is `certain`.
    fn distrust(
        &self,
        criterion: Criterion,
        found: &Duplicates,
        certain: &Duplicates,
        folds: usize,
    ) -> Option<Note> {
        // Hashes are seldom alike by chance, and copies are better off in fewer folds than in several at once. Codes of an
        // early layer, or of few values, are often alike.
        let (what, option, least, share) = match criterion {
            Criterion::Identical => return None,
            Criterion::Distance(distance) => (
                format!("perceptual hashes (up to {distance} bits of 256 differ)"),
                format!("--duplicate-distance {distance}"),
                2,
                MOST_ACROSS_BY_HASH,
            ),
            Criterion::Cosine(threshold) => (
                format!("features (cosine above {threshold})"),
                format!("--duplicate-threshold {threshold}"),
                folds,
                MOST_ACROSS_BY_CODE,
            ),
        };
        let fewest = found.fewest_of_a_class(&self.labels);
        if fewest < least && certain.fewest_of_a_class(&self.labels) > fewest {
            let different = show::count(fewest, "different image");
            return Some(Note::warning(format!(
                "with similar {what} as duplicates, a class would have only {different}, so only \
                 byte-identical images were kept together; if the others are duplicates, the accuracy is \
                 too high, and {option} keeps them together"
            )));
        }
        let (crossed, set) = self.taken_for_copies_across_classes(found, share)?;
        Some(Note::info(format!(
            "{crossed} images of different classes have nearly the same {what}, such as {} and {}: this \
             does not distinguish duplicates from similar images here, so only byte-identical images were \
             kept together; {option} keeps similar ones together as well",
            self.names[set[0]], self.names[set[1]]
        )))
    }
}

/// What the `column` of a CSV file beside `path` says about each image, `None` for those that the file does not name or
/// says nothing of; and how many paths are of no image. Values are read as labels are: `1.0` is 1, and `-1` nothing.
pub(super) fn read_column(
    csv: &Path,
    column: &str,
    names: &[String],
) -> anyhow::Result<(Vec<Option<String>>, usize)> {
    let remedy = || {
        format!(
            "cannot use the {column}s in {}; its first line must be path,{column}, and every other line \
             must name an image as the features file does",
            csv.display()
        )
    };
    let positions: HashMap<&str, usize> =
        names.iter().enumerate().map(|(row, name)| (name.as_str(), row)).collect();
    // The value of each image, and the line that it stands on.
    let mut values: Vec<Option<(Option<String>, u64)>> = vec![None; names.len()];
    let mut unknown = 0;
    let bytes = std::fs::read(csv).with_context(remedy)?;
    let text = text_of(&bytes).with_context(remedy)?;
    let wanted = |header: &[String]| header.iter().any(|name| name.eq_ignore_ascii_case("path"));
    let mut table = CsvTable::new(&text, wanted).with_context(remedy)?;
    let position = |wanted: &str| -> anyhow::Result<usize> {
        let position = table.column(wanted).with_context(remedy)?;
        let seen = || anyhow!("it has no column {wanted} (columns seen: {})", table.header.join(", "));
        position.ok_or_else(seen).with_context(remedy)
    };
    let (path_at, value_at) = (position("path")?, position(column)?);
    while let Some(row) = table.next_row().with_context(remedy)? {
        let path = row.fields[path_at].on_one_line("path").with_context(remedy)?;
        let value = row.fields[value_at].on_one_line(column).with_context(remedy)?;
        let value = class_name_of(value)
            .map_err(|reason| anyhow!("the {column} on line {}: {reason}", row.line))
            .with_context(remedy)?;
        let Some(&at) = positions.get(path.replace('\\', "/").trim_start_matches("./")) else {
            unknown += 1;
            continue;
        };
        match &values[at] {
            Some((other, line)) if *other != value => bail!(
                "lines {line} and {} of {} give {} different {column}s; remove one of them",
                row.line,
                csv.display(),
                names[at]
            ),
            _ => values[at] = Some((value, row.line)),
        }
    }
    let values: Vec<Option<String>> =
        values.into_iter().map(|value| value.and_then(|(value, _)| value)).collect();
    if values.iter().all(Option::is_none) {
        bail!(
            "no line of {} gives a {column} to a labelled image; its paths must be the images' names, such \
             as {}",
            csv.display(),
            names.first().map_or("cats/1.jpg", String::as_str)
        );
    }
    Ok((values, unknown))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn labelled(codes: Array2<f32>, labels: Vec<usize>) -> Labelled {
        let rows = labels.len();
        Labelled {
            codes,
            rows: (0..rows).collect(),
            labels,
            class_names: ["a", "b"].map(String::from).to_vec(),
            names: (0..rows).map(|row| format!("{row}.jpg")).collect(),
            sha256: (0..rows).map(|row| row.to_string()).collect(),
            hashes: vec![None; rows],
            notes: Vec::new(),
        }
    }

    #[test]
    fn classes_that_are_left_out_take_their_rows_along_wherever_the_codes_are() {
        for codes in [Array2::from_shape_fn((5, 2), |(row, _)| row as f32), Array2::zeros((0, 0))] {
            let expected = if codes.nrows() > 0 { vec![0.0, 2.0, 3.0, 4.0] } else { Vec::new() };
            let mut all = labelled(codes, vec![2, 0, 1, 2, 1]);
            all.class_names = ["a", "b", "c"].map(String::from).to_vec();
            all.notes.push("said before".to_owned());
            let (kept, rows) = all.keep_classes(&[false, true, true]);
            assert_eq!((&rows, &kept.rows), (&vec![0, 2, 3, 4], &vec![0, 2, 3, 4]));
            assert_eq!((&kept.labels[..], &kept.class_names.concat()[..]), (&[1, 0, 1, 0][..], "bc"));
            assert_eq!((&kept.names[1][..], &kept.notes[0][..]), ("2.jpg", "said before"));
            let codes: Vec<f32> = kept.codes.rows().into_iter().map(|row| row[0]).collect();
            assert_eq!(codes, expected);
        }
    }

    fn arguments(duplicate_threshold: Option<f64>) -> CopyArgs {
        CopyArgs { duplicate_threshold, ..CopyArgs::default() }
    }

    #[test]
    fn likeness_within_a_class_is_not_mistaken_for_copies_unless_it_is_asked_for() {
        let code = |(row, column): (usize, usize)| ((row % 2 == column % 2) as u8 * 100 + row as u8) as f32;
        let alike = labelled(Array2::from_shape_fn((12, 8), code), (0..12).map(|row| row % 2).collect());
        let (found, notes) = alike.copies(&arguments(None), 5).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("no perceptual hash of 12 images"), "{notes:?}");
        assert!(notes[1].text.contains("only 1 different"), "{notes:?}");
        let (found, _) = alike.copies(&arguments(Some(0.95)), 5).unwrap();
        assert_eq!(found.sets.len(), 2);
    }

    #[test]
    fn copies_with_different_labels_are_warned_of() {
        let mut codes = Array2::from_shape_fn((12, 12), |(row, column)| f32::from(u8::from(row == column)));
        let first = codes.row(0).to_owned();
        codes.row_mut(1).assign(&first);
        let (found, notes) =
            labelled(codes, (0..12).map(|row| row % 2).collect()).copies(&arguments(None), 3).unwrap();
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
        let (found, notes) = alike.copies(&arguments(None), 3).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[1].text.starts_with("6 images of different classes"), "{notes:?}");
        assert!(notes[1].text.contains("0.jpg and 1.jpg"), "{notes:?}");
        let (found, notes) = alike.copies(&arguments(Some(0.95)), 3).unwrap();
        assert_eq!(found.sets.len(), 1);
        assert!(notes[0].text.contains("duplicates with different labels"), "{notes:?}");
    }

    #[test]
    fn many_images_are_compared_only_when_asked() {
        let rows = MOST_COMPARED + 1;
        let many = labelled(Array2::zeros((rows, 1)), (0..rows).map(|row| row % 2).collect());
        let (found, notes) = many.copies(&arguments(None), 5).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("--duplicate-threshold 0.95 does so"), "{notes:?}");
    }

    /// Hashes that differ in 128 bits, but for the rows of `alike`, whose hash is that of the first of them but for 3 bits.
    fn hashed(labels: Vec<usize>, alike: &[&[usize]]) -> Labelled {
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
    fn hashes_tell_copies_whatever_the_codes_are() {
        let mut alike = hashed((0..12).map(|row| row % 2).collect(), &[&[0, 4, 8], &[1, 3]]);
        let (found, notes) = alike.copies(&arguments(None), 5).unwrap();
        let sets = |found: &Duplicates| found.sets.iter().map(|set| set.images.clone()).collect::<Vec<_>>();
        assert_eq!(sets(&found), [vec![0, 4, 8], vec![1, 3]]);
        assert_eq!(found.sets[1].similarity, 1.0 - 3.0 / 256.0);
        assert_eq!(notes, []);
        // Codes that were left in their file are not missed.
        alike.codes = Array2::zeros((0, 0));
        assert_eq!(alike.copies(&arguments(None), 5).unwrap(), (found, vec![]));
        let distance = CopyArgs { duplicate_distance: Some(2), ..CopyArgs::default() };
        assert_eq!(alike.copies(&distance, 5).unwrap().0.sets, []);
        assert_eq!(alike.copies(&arguments(Some(1.0)), 5).unwrap().0.sets, []);
        alike.hashes[7] = None;
        let refused = alike.copies(&distance, 5).unwrap_err().to_string();
        assert!(refused.contains("for 1 image") && refused.contains("extract --rehash"), "{refused}");
        let (found, notes) = alike.copies(&arguments(None), 5).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("no perceptual hash of 1 image"), "{notes:?}");
    }

    #[test]
    fn a_class_of_few_photos_and_many_copies_keeps_them_together() {
        // Three photos four times each, and twelve others.
        let labels = (0..24).map(|row| row / 12).collect();
        let few = hashed(labels, &[&[0, 1, 2, 3], &[4, 5, 6, 7], &[8, 9, 10, 11]]);
        let (found, notes) = few.copies(&arguments(None), 5).unwrap();
        assert_eq!((found.sets.len(), found.fewest_of_a_class(&few.labels)), (3, 3));
        assert_eq!(notes, []);
    }

    #[test]
    fn a_class_that_looks_the_same_all_over_is_not_taken_for_one_image() {
        let all: Vec<usize> = (0..12).collect();
        let same = hashed((0..24).map(|row| row / 12).collect(), &[&all]);
        let (found, notes) = same.copies(&arguments(None), 5).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("only 1 different image"), "{notes:?}");
        assert!(notes[0].text.contains("--duplicate-distance 31 keeps them together"), "{notes:?}");
        let asked = CopyArgs { duplicate_distance: Some(31), ..CopyArgs::default() };
        assert_eq!(same.copies(&asked, 5).unwrap().0.sets.len(), 1);
    }

    #[test]
    fn photos_filed_under_two_classes_are_copies_and_look_alikes_of_all_classes_are_not() {
        let labels: Vec<usize> = (0..40).map(|row| row % 2).collect();
        let pairs: Vec<[usize; 2]> = vec![[0, 1], [2, 3], [4, 5], [6, 8], [7, 9], [10, 12], [11, 13]];
        let sets: Vec<&[usize]> = pairs.iter().map(|pair| &pair[..]).collect();
        let (found, notes) = hashed(labels.clone(), &sets).copies(&arguments(None), 5).unwrap();
        assert_eq!(found.sets.len(), 7);
        assert!(notes[0].text.starts_with("3 sets of duplicates with different labels"), "{notes:?}");
        let (found, notes) = hashed(labels, &sets[..4]).copies(&arguments(None), 5).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.starts_with("6 images of different classes"), "{notes:?}");
    }
}
