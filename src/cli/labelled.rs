//! The labelled rows of a file of codes, and which of them are copies: what `fit-head` and `suspects` start from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use ndarray::{Array2, Axis};

use super::show;
use crate::codes::CodesFile;
use crate::evaluate::{DUPLICATE_THRESHOLD, Duplicates, Joining, MOST_COMPARED, Note};
use crate::head::TrainingData;
use crate::images::{CsvTable, class_name_of, text_of};

/// Which images belong together.
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// Cosine of centred codes above which two images count as copies of one; 1 for byte-identical files only [default:
    /// 0.95 for up to 20,000 images, else 1]
    #[arg(long, value_name = "COSINE", value_parser = cosine)]
    pub duplicate_threshold: Option<f64>,
    /// CSV file with the columns path,group: images of one group count as copies, whatever they look like
    #[arg(long, value_name = "FILE.csv")]
    pub groups: Option<PathBuf>,
}

fn cosine(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("a cosine above 0 and up to 1 is needed, such as 0.95".to_owned()),
    }
}

/// Images in sets of several classes that are put down to wrong labels, however few images there are.
const A_FEW_WRONG_LABELS: usize = 4;

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
    pub notes: Vec<String>,
}

impl Labelled {
    pub fn read(file: &CodesFile, layer: Option<&str>, path: &Path) -> anyhow::Result<Labelled> {
        let mut labelled = Self::without_codes(file, path)?;
        labelled.codes = file.read_layer(layer)?;
        if labelled.rows.len() < file.rows() {
            labelled.codes = labelled.codes.select(Axis(0), &labelled.rows);
        }
        Ok(labelled)
    }

    /// All but the codes.
    pub fn without_codes(file: &CodesFile, path: &Path) -> anyhow::Result<Labelled> {
        let rows: Vec<usize> = (0..file.rows()).filter(|&row| file.labels()[row] >= 0).collect();
        if rows.is_empty() {
            bail!(
                "no image in {} has a label; extract a folder with one folder a class, or a CSV file with the columns path,label",
                path.display()
            );
        }
        let mut notes = Vec::new();
        if rows.len() < file.rows() {
            let unlabelled = show::count(file.rows() - rows.len(), "image");
            notes.push(format!("{unlabelled} without a label took no part"));
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
                notes.push(format!("the class {name:?} has no image that could be read; it took no part"));
            }
        }
        let text = |column: &[String]| rows.iter().map(|&row| column[row].clone()).collect();
        Ok(Labelled {
            codes: Array2::zeros((0, 0)),
            labels: rows.iter().map(|&row| renumbered[file.labels()[row] as usize]).collect(),
            class_names,
            names: text(file.image_names()),
            sha256: text(file.sha256()),
            notes,
            rows,
        })
    }

    /// The given rows alone, of the same classes and without notes.
    pub fn select(&self, rows: &[usize]) -> Labelled {
        let text = |column: &[String]| rows.iter().map(|&row| column[row].clone()).collect();
        Labelled {
            codes: self.codes.select(Axis(0), rows),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            class_names: self.class_names.clone(),
            names: text(&self.names),
            sha256: text(&self.sha256),
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
    /// that likeness cannot mean copying: more than a tenth of the images in sets. A few may be wrong labels.
    fn taken_for_copies_across_classes(&self, found: &Duplicates) -> Option<(usize, [usize; 2])> {
        let (mut joined, mut crossed, mut example) = (0, 0, None);
        for set in &found.sets {
            joined += set.images.len();
            let first = set.images[0];
            if let Some(&other) = set.images.iter().find(|&&row| self.labels[row] != self.labels[first]) {
                crossed += set.images.len();
                example.get_or_insert([first, other]);
            }
        }
        example.filter(|_| crossed > A_FEW_WRONG_LABELS.max(joined / 10)).map(|example| (crossed, example))
    }

    /// Which rows are copies of one another, and what the reader of the results should know about it.
    ///
    /// Were a class left with fewer photos than `folds` by their likeness alone, or many images of different classes
    /// taken for copies of one another, likeness is not relied on: such codes say nothing about copies.
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
        let threshold = args.duplicate_threshold.unwrap_or(DUPLICATE_THRESHOLD);
        if self.codes.nrows() < self.names.len() {
            if args.duplicate_threshold.is_some_and(|threshold| threshold < 1.0) {
                bail!(
                    "near-identical images are looked for in memory, and the codes take more than may be used: raise \
                     --max-memory, or leave --duplicate-threshold out"
                );
            }
            notes.push(Note::info(
                "near-identical images were not looked for, since the codes were streamed from their file"
                    .to_owned(),
            ));
            return Ok((certain.finish(), notes));
        }
        if args.duplicate_threshold.is_none() && self.names.len() > MOST_COMPARED {
            notes.push(Note::info(format!(
                "near-identical images were not looked for among more than {MOST_COMPARED}; --duplicate-threshold \
                 {threshold} does so, in a time that grows with the square of their number"
            )));
            return Ok((certain.finish(), notes));
        }
        let mut joining = certain.clone();
        if threshold < 1.0 {
            let _busy = show::busy("looking for copies");
            joining.similar(self.codes.view(), threshold);
        }
        let found = joining.finish();
        let fewest = found.fewest_of_a_class(&self.labels);
        if fewest < folds && args.duplicate_threshold.is_none() {
            let certain = certain.clone().finish();
            if certain.fewest_of_a_class(&self.labels) > fewest {
                notes.push(Note::warning(format!(
                    "by the likeness of their codes (cosine above {threshold}) a class would have only {fewest} different \
                     images, so only byte-identical ones were kept together; if the others are copies, the accuracy is \
                     too good, and --duplicate-threshold {threshold} keeps them together"
                )));
                return Ok((certain, notes));
            }
        }
        if args.duplicate_threshold.is_none()
            && let Some((crossed, set)) = self.taken_for_copies_across_classes(&found)
        {
            notes.push(Note::info(format!(
                "{crossed} images of different classes have nearly the same codes (cosine above {threshold}), such as {} \
                 and {}: these codes do not tell copies from look-alikes, so only byte-identical images were kept \
                 together; --duplicate-threshold {threshold} goes by likeness all the same",
                self.names[set[0]], self.names[set[1]]
            )));
            return Ok((certain.finish(), notes));
        }
        let mixed = found
            .sets
            .iter()
            .filter(|set| set.images.iter().any(|&row| self.labels[row] != self.labels[set.images[0]]));
        if let Some(set) = mixed.clone().next() {
            let named: Vec<&str> = set.images.iter().map(|&row| self.names[row].as_str()).collect();
            notes.push(Note::warning(format!(
                "{} of copies with different labels, such as {}; `cnncodes suspects` lists them",
                show::count(mixed.count(), "set"),
                named.join(" and ")
            )));
        }
        Ok((found, notes))
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
            "cannot use the {column}s in {}; its first line must be path,{column} and each further line name an image as the file of codes does",
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
            "not one line of {} gives a {column} to a labelled image; its paths must be the images' names, such as {}",
            csv.display(),
            names.first().map_or("cats/1.jpg", String::as_str)
        );
    }
    Ok((values, unknown))
}

#[cfg(test)]
mod tests {
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
            notes: Vec::new(),
        }
    }

    fn arguments(duplicate_threshold: Option<f64>) -> CopyArgs {
        CopyArgs { duplicate_threshold, groups: None }
    }

    #[test]
    fn likeness_within_a_class_is_not_mistaken_for_copies_unless_it_is_asked_for() {
        let code = |(row, column): (usize, usize)| ((row % 2 == column % 2) as u8 * 100 + row as u8) as f32;
        let alike = labelled(Array2::from_shape_fn((12, 8), code), (0..12).map(|row| row % 2).collect());
        let (found, notes) = alike.copies(&arguments(None), 5).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("only 1 different"), "{notes:?}");
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
        assert!(notes[0].text.contains("1 set of copies with different labels, such as 0.jpg and 1.jpg"));
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
        assert!(notes[0].text.starts_with("6 images of different classes"), "{notes:?}");
        assert!(notes[0].text.contains("0.jpg and 1.jpg"), "{notes:?}");
        let (found, notes) = alike.copies(&arguments(Some(0.95)), 3).unwrap();
        assert_eq!(found.sets.len(), 1);
        assert!(notes[0].text.contains("copies with different labels"), "{notes:?}");
    }

    #[test]
    fn many_images_are_compared_only_when_asked() {
        let rows = MOST_COMPARED + 1;
        let many = labelled(Array2::zeros((rows, 1)), (0..rows).map(|row| row % 2).collect());
        let (found, notes) = many.copies(&arguments(None), 5).unwrap();
        assert_eq!(found.sets, []);
        assert!(notes[0].text.contains("--duplicate-threshold 0.95 does so"), "{notes:?}");
    }
}
