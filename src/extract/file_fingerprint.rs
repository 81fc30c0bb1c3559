//! What the image files were when they were last read, so that a run over an unchanged folder reads none of them.
//!
//! It stands beside the features file, as `.NAME.seen`, and can be removed at any time: the next run then reads the
//! images to learn what they are. Nothing in it reaches the features. As git's index does, it takes a file for unchanged
//! whose size, times and inode are the same, unless these are so young that a later change might not show in them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::digest::Sha256Digest;
use crate::files::{Stamp, folder_of, temporary_beside};

/// The version of the format, which is the file's first line.
const FORMAT: &str = "cnncodes seen 1";

/// File systems tell times to two seconds at the coarsest (FAT): a file that was changed within so much of a run's
/// start may change again without its stamp changing.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// An image file as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileFingerprint {
    pub digest: Sha256Digest,
    /// `None` for what is no file of its own.
    pub stamp: Option<Stamp>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct FingerprintLine(String, Stamp, String);

/// Where it stands for the features in `output`.
fn path_for(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    folder_of(output).join(format!(".{name}.seen"))
}

/// What was seen when the features in `output` were written, by the images' names; nothing where the file is missing, damaged or of another version.
pub(super) fn read(output: &Path) -> HashMap<String, FileFingerprint> {
    let read = || -> io::Result<HashMap<String, FileFingerprint>> {
        let mut lines = BufReader::new(File::open(path_for(output))?).lines();
        if lines.next().transpose()?.as_deref() != Some(FORMAT) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        lines
            .map(|line| {
                let FingerprintLine(name, stamp, digest) = serde_json::from_str(&line?)?;
                let digest = Sha256Digest::parse(&digest).ok_or(io::ErrorKind::InvalidData)?;
                Ok((name, FileFingerprint { digest, stamp: Some(stamp) }))
            })
            .collect()
    };
    // Whatever is wrong with it, the images themselves tell what they are.
    read().unwrap_or_default()
}

/// Writes down for the next run what was seen of each of `samples` by one that began at `start`.
pub(super) fn write(output: &Path, samples: &Dataset, seen: &[Option<FileFingerprint>], start: SystemTime) {
    // If it fails, the next run reads the images; what an earlier run wrote there stays true of the files it names.
    let _ = try_write(&path_for(output), samples, seen, start);
}

fn try_write(
    path: &Path,
    samples: &Dataset,
    seen: &[Option<FileFingerprint>],
    start: SystemTime,
) -> io::Result<()> {
    let latest = start.checked_sub(COARSEST_CLOCK).unwrap_or(SystemTime::UNIX_EPOCH);
    let file = temporary_beside(path)?;
    let mut out = BufWriter::new(file.as_file());
    writeln!(out, "{FORMAT}")?;
    for (sample, seen) in samples.samples.iter().zip(seen) {
        if let Some(FileFingerprint { digest, stamp: Some(stamp) }) = seen
            && stamp.is_older_than(latest)
        {
            serde_json::to_writer(
                &mut out,
                &FingerprintLine(sample.name.to_owned(), *stamp, digest.to_string()),
            )?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    drop(out);
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(folder: &Path) -> (Dataset, Vec<Option<FileFingerprint>>) {
        for name in ["a.jpg", "b \"ü\"\n.jpg"] {
            std::fs::write(folder.join(name), name).unwrap();
        }
        let samples = Dataset::from_folder(folder).unwrap();
        let see = |path: PathBuf| FileFingerprint {
            digest: Sha256Digest::of(&std::fs::read(&path).unwrap()),
            stamp: Some(Stamp::of(&std::fs::metadata(&path).unwrap())),
        };
        let seen = samples.samples.iter().map(|sample| Some(see(sample.file()))).collect();
        (samples, seen)
    }

    #[test]
    fn what_was_seen_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (samples, seen) = example(folder.path());
        let output = folder.path().join("features.h5");
        assert_eq!(path_for(&output), folder.path().join(".features.h5.seen"));
        assert!(read(&output).is_empty());
        write(&output, &samples, &seen, SystemTime::now() + Duration::from_secs(60));
        let back = read(&output);
        assert_eq!(back.len(), 2);
        for (sample, seen) in samples.samples.iter().zip(seen) {
            assert_eq!(back.get(sample.name).copied(), seen);
        }
    }

    #[test]
    fn files_that_are_too_young_are_not_relied_on() {
        let folder = tempfile::tempdir().unwrap();
        let (samples, seen) = example(folder.path());
        let output = folder.path().join("features.h5");
        write(&output, &samples, &seen, SystemTime::now());
        assert_eq!(read(&output), HashMap::new());
    }

    #[test]
    fn a_damaged_file_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (samples, seen) = example(folder.path());
        let output = folder.path().join("features.h5");
        write(&output, &samples, &seen, SystemTime::now() + Duration::from_secs(60));
        let path = path_for(&output);
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in [&text[..text.len() - 10], &text.replace("seen 1", "seen 2"), "", "\u{0}\n"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(read(&output), HashMap::new());
        }
    }
}
