//! Where a plan and its parts lie: a folder that all workers see, or a prefix in an object store.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::bucket_store::BucketStore;
use crate::files::{sync_folder, write_atomically};
use crate::messages::with_causes;
use crate::remote::is_url;

/// The folder of the parts in that of the plan.
pub(super) const PARTS: &str = "parts";

/// Half-made parts that nobody has written to for so long were left by a worker that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Where a plan lies.
#[derive(Debug)]
pub(super) enum PlanStore {
    Folder(FolderStore),
    Bucket(BucketStore),
}

/// A plan's folder.
#[derive(Debug)]
pub(super) struct FolderStore {
    folder: PathBuf,
}

/// A file of the plan, on this machine.
pub(super) struct LocalFile {
    pub path: PathBuf,
    /// Removes what was transferred for the purpose.
    pub transferred: Option<tempfile::TempPath>,
}

/// The name of a part's file in the plan.
pub(super) fn part_name(part: u64) -> String {
    format!("{PARTS}/{part:06}.h5")
}

/// Calls the same method of the store that there is.
macro_rules! of_store {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match $self {
            PlanStore::Folder(store) => store.$method($($argument),*),
            PlanStore::Bucket(store) => store.$method($($argument),*),
        }
    };
}

impl PlanStore {
    pub(super) fn at(location: &Path) -> Self {
        match location.to_str().filter(|location| is_url(location)) {
            None => Self::Folder(FolderStore { folder: location.to_owned() }),
            Some(url) => Self::Bucket(BucketStore::at(url)),
        }
    }

    pub(super) fn location(&self) -> &Path {
        of_store!(self, location())
    }

    /// Where a file lies, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        of_store!(self, path(name))
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        of_store!(self, read(name))
    }

    /// `len` bytes from `offset` on.
    pub(super) fn read_range(&self, name: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        of_store!(self, read_range(name, offset, len))
    }

    /// An empty file on this machine, to be handed to [`replace`](Self::replace).
    pub(super) fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        of_store!(self, temporary())
    }

    /// Stores a file, in place of one that may be there.
    pub(super) fn replace(&self, name: &str, file: tempfile::NamedTempFile) -> io::Result<()> {
        of_store!(self, replace(name, file))
    }

    /// Stores bytes: in a folder in place of a file that may be there, in a bucket where there is none.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        of_store!(self, write(name, bytes))
    }

    /// Names of the files of parts, sorted.
    pub(super) fn part_files(&self) -> io::Result<Vec<String>> {
        of_store!(self, part_files())
    }

    /// A file of the plan, to be opened by its path.
    pub(super) fn local(&self, name: &str) -> io::Result<LocalFile> {
        of_store!(self, local(name))
    }

    /// What is wrong with a file of the plan that `local` stands for.
    pub(super) fn in_words(&self, local: &LocalFile, name: &str, error: &dyn Error) -> String {
        let text = with_causes(error);
        match local.transferred {
            None => text,
            // Nobody has seen the copy.
            Some(_) => text.replace(&*local.path.to_string_lossy(), &self.path(name).display().to_string()),
        }
    }

    /// A folder on this machine for a part that is being made, which nobody else uses.
    pub(super) fn workspace(&self, part: u64) -> io::Result<tempfile::TempDir> {
        of_store!(self, workspace(part))
    }

    /// Gives a finished file its name, unless a file has it already; whether it got it.
    pub(super) fn publish(&self, file: &Path, name: &str) -> io::Result<bool> {
        of_store!(self, publish(file, name))
    }

    /// Removes a part that is not valid.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        of_store!(self, remove(name))
    }
}

impl FolderStore {
    pub(super) fn location(&self) -> &Path {
        &self.folder
    }

    /// Where a file lies, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(name))
    }

    /// `len` bytes from `offset` on.
    pub(super) fn read_range(&self, name: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path(name))?;
        let end = offset.checked_add(len).filter(|&end| file.metadata().is_ok_and(|file| end <= file.len()));
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; len as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// An empty file on this machine, to be handed to [`replace`](Self::replace).
    pub(super) fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        fs::create_dir_all(&self.folder)?;
        crate::files::temporary_beside(&self.path("manifest"))
    }

    /// Stores a file, in place of one that may be there.
    pub(super) fn replace(&self, name: &str, file: tempfile::NamedTempFile) -> io::Result<()> {
        file.as_file().sync_all()?;
        file.persist(self.path(name)).map_err(|error| error.error)?;
        sync_folder(&self.folder)
    }

    /// Stores bytes, in place of a file that may be there.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_atomically(&self.path(name), bytes)?;
        sync_folder(&self.folder)
    }

    /// Names of the files of parts, sorted.
    pub(super) fn part_files(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.folder.join(PARTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().filter(|name| name.ends_with(".h5") && !name.starts_with('.')) {
                names.push(format!("{PARTS}/{name}"));
            }
        }
        names.sort();
        Ok(names)
    }

    /// A file of the plan, to be opened by its path.
    pub(super) fn local(&self, name: &str) -> io::Result<LocalFile> {
        let path = self.path(name);
        fs::metadata(&path)?;
        Ok(LocalFile { path, transferred: None })
    }

    /// A folder for a part that is being made, which nobody else uses. What killed workers left of the same part is removed.
    pub(super) fn workspace(&self, part: u64) -> io::Result<tempfile::TempDir> {
        let parts = self.folder.join(PARTS);
        fs::create_dir_all(&parts)?;
        let prefix = format!(".{part:06}-");
        remove_abandoned(&parts, &prefix);
        tempfile::Builder::new().prefix(&prefix).tempdir_in(parts)
    }

    /// Gives a finished file its name, unless a file has it already; whether it got it.
    pub(super) fn publish(&self, file: &Path, name: &str) -> io::Result<bool> {
        match tempfile::TempPath::try_from_path(file)?.persist_noclobber(self.path(name)) {
            Ok(()) => {
                sync_folder(&self.folder.join(PARTS))?;
                Ok(true)
            }
            Err(error) => {
                // Dropping it would remove the file, which may be published yet.
                let _ = error.path.keep();
                match error.error.kind() {
                    io::ErrorKind::AlreadyExists => Ok(false),
                    _ => Err(error.error),
                }
            }
        }
    }

    /// Removes a part that is not valid.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            // Another worker was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// Removes folders of half-made parts that nobody works on any more. What cannot be removed stays.
fn remove_abandoned(parts: &Path, prefix: &str) {
    let latest = |folder: &Path| {
        let inside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let times =
            inside.chain([folder.to_owned()]).filter_map(|path| fs::metadata(path).ok()?.modified().ok());
        times.max()
    };
    for entry in fs::read_dir(parts).into_iter().flatten().flatten() {
        let is_of_part = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        let path = entry.path();
        let is_old = || {
            let age = latest(&path).and_then(|time| SystemTime::now().duration_since(time).ok());
            age.is_some_and(|age| age > ABANDONED)
        };
        if is_of_part && is_old() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
