//! Files that appear complete or not at all, names that suit every file system, and whether a file is still what it was.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Writes `bytes` to `path` through a temporary sibling and a rename, so that no reader sees half a file.
///
/// # Errors
/// The folder is missing or read-only, or the disk is full; the file that was there before is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary_beside(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The folder that `path` stands in; `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// `text` as a part of a file's name, with `_` for every character that some file systems or shells dislike.
pub(crate) fn safe_name(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).collect()
}

/// An empty file beside `path`, with the permissions that a plainly created file would get.
pub(crate) fn temporary_beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What `File::create` asks for; the umask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.prefix(".cnncodes-").suffix(".partial").tempfile_in(folder_of(path))
}

/// The folders that [`TemporaryFolder`]s stand for.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder for outputs that are not finished. It is removed with all that is left in it when this is dropped, or by
/// [`remove_unfinished`].
#[derive(Debug)]
pub(crate) struct TemporaryFolder(tempfile::TempDir);

impl TemporaryFolder {
    /// An empty folder beside `path`.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        // No folder is there that an interruption does not know of.
        let mut unfinished = unfinished();
        let folder =
            tempfile::Builder::new().prefix(".cnncodes-").suffix(".partial").tempdir_in(folder_of(path))?;
        unfinished.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        unfinished().retain(|folder| folder != self.0.path());
    }
}

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often an interruption tries to remove a folder.
#[cfg(feature = "cli")]
const REMOVALS: usize = 100;

/// Removes the folders of outputs that are not finished, for a program that ends at once.
#[cfg(feature = "cli")]
pub(crate) fn remove_unfinished() {
    for folder in unfinished().drain(..) {
        // The thread that writes may make a file meanwhile. Nothing can be done about a folder that stays.
        let _ = (0..REMOVALS).find(|_| match std::fs::remove_dir_all(&folder) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        });
    }
}

/// Makes a rename in the folder durable.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems cannot; their rename is as durable as it gets.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// What tells one state of a file from another without reading it: its size, its times and its inode.
///
/// The time of the last change of the inode (ctime) gives away what a restored modification time would hide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub len: u64,
    /// Nanoseconds from 1970 to the last modification.
    modified: i64,
    /// Nanoseconds from 1970 to the last change of the inode; 0 where there is no such time.
    changed: i64,
    /// 0 where there are no inodes. In an object store, a number that stands for the content.
    inode: u64,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(metadata: &Metadata) -> Self {
        let modified =
            metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
        #[cfg(unix)]
        let (changed, inode) = {
            use std::os::unix::fs::MetadataExt;
            let seconds = metadata.ctime().saturating_mul(1_000_000_000);
            (seconds.saturating_add(metadata.ctime_nsec()), metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed, inode) = (0, 0);
        Self { len: metadata.len(), modified, changed, inode }
    }

    /// The stamp of `len` bytes in an object store, which names their content with `tag`.
    pub(crate) fn of_content(len: u64, tag: &str) -> Self {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(tag.as_bytes());
        let inode = digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte));
        Self { len, modified: 0, changed: 0, inode }
    }

    /// Nanoseconds from 1970 to the last modification; 0 where it is not known.
    pub fn modified(&self) -> i64 {
        self.modified
    }

    /// Whether both its times are before `time`.
    pub(crate) fn is_older_than(&self, time: SystemTime) -> bool {
        let latest = u64::try_from(self.modified.max(self.changed)).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_nanos(latest) < time
    }
}

/// Whether `path` still names the open file; a lock on a file without a name excludes nobody.
///
/// # Errors
/// The file system does not tell.
#[cfg(unix)]
pub(crate) fn is_still_named(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether `path` still names the open file.
#[cfg(not(unix))]
pub(crate) fn is_still_named(_file: &File, _path: &Path) -> io::Result<bool> {
    // An open file cannot be removed here.
    Ok(true)
}
