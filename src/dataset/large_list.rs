//! CSV manifests of many millions of images, read block by block so that the text is never in memory as a whole.
//!
//! This is a faster way to the set that [`Dataset::from_manifest`] gives, for files in which nothing is wrong. If anything is, it
//! gives up, and the other way says what it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::csv_table::{CsvBlock, CsvTable, text_of};
use super::labels_csv::{
    LabelColumn, Located, MANIFEST, finish, has_path_column, label_column, locate, path_column,
};
use super::{Dataset, InputProblem, SampleList, SourceOptions, class_name_of};
use crate::remote::{self, is_url};

/// Smaller files are read at once.
pub(super) const LARGE: u64 = 64 << 20;

/// Bytes of a block.
const BLOCK: usize = 4 << 20;

/// The images of the manifest `csv`, or `None` if it is not read in this way.
pub(super) fn read(csv: &Path, options: &SourceOptions, block: usize) -> Option<Dataset> {
    let folder = crate::files::folder_of(csv);
    let mut blocks = Blocks::open(csv, block).ok()?;
    let first = blocks.next().ok()??;
    // UTF-16, which is cut elsewhere.
    if first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff") {
        return None;
    }
    let text = text_of(&first).ok()?;
    let table = CsvTable::new(&text, |header| has_path_column(header, options)).ok()?;
    let path = path_column(&table, options).ok()?;
    let label = match label_column(&table, path, options).ok()? {
        LabelColumn::At(column) => Some(column),
        LabelColumn::Unwanted => None,
        LabelColumn::Missing => return None,
    };
    let columns = table.header.clone();
    let (mut samples, mut problems) = (SampleList::below(folder), Vec::new());
    let mut classes: HashMap<String, usize> = HashMap::new();
    let mut has_url = false;
    let mut read_block = |mut table: CsvTable<'_>| {
        while let Some(row) = table.next_row().ok()? {
            let lines = |column: usize| row.fields[column].lines;
            let written =
                row.fields[path].on_one_line(&columns[path]).ok().filter(|path| !path.is_empty())?;
            // Fields of several lines are looked at more closely.
            if (0..columns.len()).any(|column| lines(column).0 < lines(column).1) {
                return None;
            }
            let class = match label {
                Some(column) => class_name_of(&row.fields[column].text).ok()?,
                None => None,
            };
            match locate(folder, row.line, written.to_owned(), &MANIFEST) {
                Located::Found { name, written } => {
                    if !has_url && is_url(&written) {
                        remote::check(&written).ok()?;
                        has_url = true;
                    }
                    let next = classes.len();
                    let class = class.map(|class| *classes.entry(class).or_insert(next));
                    samples.push_file(&name, &written, class);
                }
                Located::Problem(problem) => problems.push(problem),
            }
        }
        Some(table.block())
    };
    let mut at: CsvBlock = read_block(table)?;
    while let Some(bytes) = blocks.next().ok()? {
        at = read_block(CsvTable::continued(columns.clone(), &at, text_of(&bytes).ok()?.as_ref()))?;
    }
    samples.sort_from(0);
    let mut twice = false;
    samples.retain_from(0, |before, sample| {
        twice |= before.is_some_and(|before| before.name == sample.name);
        true
    });
    problems.sort_by(|a: &InputProblem, b| a.name.cmp(&b.name));
    if twice || samples.is_empty() || problems.windows(2).any(|two| two[0].name == two[1].name) {
        return None;
    }
    let mut class_names: Vec<String> = classes.keys().cloned().collect();
    super::sort_class_names(&mut class_names);
    let place: HashMap<usize, usize> =
        class_names.iter().enumerate().map(|(place, name)| (classes[name], place)).collect();
    samples.renumber_labels(|class| place.get(&class).copied());
    let source = csv.display().to_string();
    Some(finish(samples, class_names, problems, Vec::new(), source, label.is_some()))
}

/// [`read`] of a file that is large, with blocks of the usual size.
pub(super) fn read_if_large(csv: &Path, options: &SourceOptions) -> Option<Dataset> {
    let is_large = std::fs::metadata(csv).is_ok_and(|file| file.is_file() && file.len() >= LARGE);
    is_large.then(|| read(csv, options, BLOCK)).flatten()
}

/// A file in pieces that end with a line end outside of quotes.
struct Blocks {
    file: File,
    size: usize,
    /// What was read and is not given yet.
    rest: Vec<u8>,
    is_at_end: bool,
}

impl Blocks {
    fn open(path: &Path, size: usize) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, size, rest: Vec::new(), is_at_end: false })
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if !self.is_at_end {
                let wanted = self.size as u64;
                self.is_at_end = (&mut self.file).take(wanted).read_to_end(&mut self.rest)? as u64 != wanted;
            }
            let end = if self.is_at_end { self.rest.len() } else { last_end(&self.rest) };
            if end > 0 {
                let rest = self.rest.split_off(end);
                return Ok(Some(std::mem::replace(&mut self.rest, rest)));
            }
            if self.is_at_end {
                return Ok(None);
            }
        }
    }
}

/// The place after the last line end before which quotes come in pairs; 0 if there is none.
fn last_end(bytes: &[u8]) -> usize {
    let (mut end, mut in_quotes) = (0, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'\n' if !in_quotes => end = at + 1,
            _ => {}
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What the other way gives, where both are asked.
    fn both(csv: &Path, options: &SourceOptions, block: usize) -> (Option<Dataset>, Option<Dataset>) {
        (read(csv, options, block), Dataset::from_manifest(csv, options).ok())
    }

    #[test]
    fn blocks_of_any_size_give_the_set_of_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.jpg", "a.jpg", "d, e.jpg", "c\"c.jpg"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let csv = folder.path().join("list.csv");
        let text = "\u{feff}path;label\r\nb.jpg;zebra\r\n\"a.jpg\";ant\r\n\r\n\"d, e.jpg\";zebra\r\n\"c\"\"c.jpg\";\r\nnone.jpg;ant";
        fs::write(&csv, text).unwrap();
        let options = SourceOptions::default();
        for block in 1..text.len() + 2 {
            let (lean, whole) = both(&csv, &options, block);
            let (lean, whole) = (lean.unwrap(), whole.unwrap());
            assert_eq!(format!("{lean:?}"), format!("{whole:?}"), "blocks of {block}");
            assert_eq!((lean.samples.len(), lean.problems.len()), (4, 1));
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_other_way() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), "a").unwrap();
        let csv = folder.path().join("list.csv");
        for text in [
            "path\na.jpg\na.jpg\n",
            "path,label\na.jpg\n",
            "path\n\"a.jpg\n",
            "path,note\na.jpg,\"two\nlines\"\n",
            "path\nnone.jpg\n",
            "title\na.jpg\n",
            "path\na\0.jpg\n",
        ] {
            fs::write(&csv, text).unwrap();
            assert!(read(&csv, &SourceOptions::default(), 8).is_none(), "{text}");
        }
        let utf16: Vec<u8> = [0xFF, 0xFE]
            .into_iter()
            .chain("path\na.jpg\n".encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        fs::write(&csv, utf16).unwrap();
        assert!(read(&csv, &SourceOptions::default(), 8).is_none());
    }
}
