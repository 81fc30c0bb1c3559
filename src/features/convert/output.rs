//! [`OutputFiles`]: files that appear together when they are complete. They are written in a folder of their own beside the place
//! where they belong, and renamed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::ConvertError;
use super::csv::beside;
use crate::files::{TemporaryFolder, folder_of, sync_folder};

/// A file that is being written, with those that stand beside it.
pub(super) struct OutputFiles {
    folder: TemporaryFolder,
    name: OsString,
    to: PathBuf,
    endings: &'static [&'static str],
}

impl OutputFiles {
    /// Prepares the file `to`, and its name with each of the `endings`.
    pub(super) fn new(
        to: &Path,
        endings: &'static [&'static str],
        overwrite: bool,
    ) -> Result<Self, ConvertError> {
        let files = std::iter::once(to.to_owned()).chain(endings.iter().map(|ending| beside(to, ending)));
        if let Some(path) = files.into_iter().find(|file| !overwrite && file.exists()) {
            return Err(ConvertError::Exists { path });
        }
        let name = to.file_name().filter(|_| !to.is_dir());
        let name = name.ok_or_else(|| ConvertError::Ending { path: to.to_owned() })?.to_owned();
        let parent = folder_of(to);
        fs::create_dir_all(parent).map_err(ConvertError::write(to))?;
        let folder = TemporaryFolder::beside(to).map_err(ConvertError::write(to))?;
        Ok(Self { folder, name, to: to.to_owned(), endings })
    }

    /// Where to write the file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Brings the files to the disk and gives them their names; the file that was asked for is the last.
    pub(super) fn publish(self) -> Result<Vec<PathBuf>, ConvertError> {
        let mut files = Vec::new();
        for ending in self.endings.iter().copied().chain([""]) {
            let (written, to) = (beside(&self.path(), ending), beside(&self.to, ending));
            fs::File::open(&written)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&written, &to))
                .map_err(ConvertError::write(&to))?;
            files.insert(0, to);
        }
        sync_folder(folder_of(&self.to)).map_err(ConvertError::write(&self.to))?;
        Ok(files)
    }
}
