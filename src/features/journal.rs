//! The journal of an unfinished features file: image names, skipped images, and how many rows are safe.
//!
//! HDF5 keeps variable-length strings in a heap that it rewrites in place; a kill in the middle of such a
//! write can leave a file on which the library itself hangs or crashes. So strings wait in this append-only
//! text file beside the partial file, one JSON value a line, and go into HDF5 when the run ends. What comes
//! after the last commit line was not safe yet and is dropped when a run is resumed; a line cut in half by a
//! kill can only be there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::SkippedImage;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JournalEntry {
    /// The name of the next row's image.
    Image(String),
    /// An image without a row.
    Skipped { name: String, reason: String },
    /// As many rows and skipped images are safe.
    Commit { rows: usize, skipped: usize },
}

/// The committed contents of a journal.
#[derive(Debug, Default)]
pub(super) struct JournalContents {
    /// Name of each row's image.
    pub(super) names: Vec<String>,
    pub(super) skipped: Vec<SkippedImage>,
    /// Bytes up to the end of the last commit.
    length: u64,
}

/// A journal that is written to.
#[derive(Debug)]
pub(super) struct Journal {
    file: BufWriter<File>,
}

impl Journal {
    /// Makes the journal anew.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(File::create(path)?) })
    }

    /// Goes on after the last commit of a journal that [`JournalContents::read`] has read.
    pub(super) fn resume(path: &Path, record: &JournalContents) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(record.length)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file: BufWriter::new(file) })
    }

    pub(super) fn add_image(&mut self, name: &str) -> io::Result<()> {
        self.write(&JournalEntry::Image(name.to_owned()))
    }

    pub(super) fn add_skipped(&mut self, image: &SkippedImage) -> io::Result<()> {
        self.write(&JournalEntry::Skipped { name: image.name.clone(), reason: image.reason.clone() })
    }

    /// States, on the disk, that all that was added is safe.
    pub(super) fn commit(&mut self, rows: usize, skipped: usize) -> io::Result<()> {
        self.write(&JournalEntry::Commit { rows, skipped })?;
        self.file.flush()?;
        self.file.get_ref().sync_data()
    }

    fn write(&mut self, line: &JournalEntry) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, line)?;
        self.file.write_all(b"\n")
    }
}

/// The entries of a journal that ends with a commit.
pub(super) fn entries(path: &Path) -> io::Result<impl Iterator<Item = io::Result<JournalEntry>>> {
    let lines = BufReader::new(File::open(path)?).lines();
    Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
}

impl JournalContents {
    /// Reads a journal up to its last commit.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if a commit does not count what stands before it.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut reader = BufReader::new(File::open(path)?);
        let (mut record, mut pending) = (Self::default(), Self::default());
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            pending.length += reader.read_until(b'\n', &mut bytes)? as u64;
            let line = if bytes.ends_with(b"\n") { serde_json::from_slice(&bytes).ok() } else { None };
            match line {
                Some(JournalEntry::Image(name)) => pending.names.push(name),
                Some(JournalEntry::Skipped { name, reason }) => {
                    pending.skipped.push(SkippedImage { name, reason })
                }
                Some(JournalEntry::Commit { rows, skipped }) => {
                    record.names.append(&mut pending.names);
                    record.skipped.append(&mut pending.skipped);
                    record.length = pending.length;
                    if (record.names.len(), record.skipped.len()) != (rows, skipped) {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "its counts contradict it"));
                    }
                }
                None => return Ok(record),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_example(path: &Path) {
        let mut journal = Journal::create(path).unwrap();
        journal.commit(0, 0).unwrap();
        journal.add_image("a\nb ü.jpg").unwrap();
        journal.add_skipped(&SkippedImage { name: "c".into(), reason: "\"quoted\"".into() }).unwrap();
        journal.commit(1, 1).unwrap();
        journal.add_image("d").unwrap();
        journal.commit(2, 1).unwrap();
    }

    #[test]
    fn every_cut_gives_the_last_whole_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        write_example(&path);
        let bytes = std::fs::read(&path).unwrap();
        let mut last = (0, 0);
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let record = JournalContents::read(&path).unwrap();
            let found = (record.names.len(), record.skipped.len());
            assert!([(0, 0), (1, 1), (2, 1)].contains(&found) && found >= last);
            assert!(record.length <= cut as u64);
            last = found;
        }
        assert_eq!(last, (2, 1));
        let record = JournalContents::read(&path).unwrap();
        assert_eq!(record.names, ["a\nb ü.jpg", "d"]);
        assert_eq!(record.skipped[0].reason, "\"quoted\"");
    }

    #[test]
    fn what_was_not_committed_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        write_example(&path);
        let torn = b"{\"image\":\"e\"}\n{\"ima";
        OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
        let record = JournalContents::read(&path).unwrap();
        let mut journal = Journal::resume(&path, &record).unwrap();
        journal.add_image("f").unwrap();
        journal.commit(3, 1).unwrap();
        assert_eq!(JournalContents::read(&path).unwrap().names, ["a\nb ü.jpg", "d", "f"]);
    }

    #[test]
    fn a_commit_that_miscounts_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, "{\"image\":\"a\"}\n{\"commit\":{\"rows\":2,\"skipped\":0}}\n").unwrap();
        assert_eq!(JournalContents::read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
