//! Files that a command finds by itself: the only one of its kind, never a guess among several.

use std::path::{Path, PathBuf};

/// Why no file was chosen.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindUniqueError {
    #[error("there is no {what} in {}; {remedy}", folder.display())]
    None { what: &'static str, folder: PathBuf, remedy: &'static str },
    #[error("{} holds more than one {what} ({}); say which{how}", folder.display(), list(files))]
    Several { what: &'static str, folder: PathBuf, files: Vec<PathBuf>, how: &'static str },
    #[error("cannot read the folder {}", folder.display())]
    Read { folder: PathBuf, source: std::io::Error },
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A kind of file that a folder may hold one of.
pub(super) struct FileKind {
    /// What it is called, in the singular.
    pub(super) what: &'static str,
    /// What its file's name ends in.
    pub(super) suffix: &'static str,
    /// How to get one.
    pub(super) remedy: &'static str,
    /// How to name one of several, as the end of a sentence.
    pub(super) how: &'static str,
}

/// The only file of `kind` in `folder`.
///
/// # Errors
/// There is none, there are several (the message lists them), or the folder cannot be read.
pub(super) fn find_unique(folder: &Path, kind: &FileKind) -> Result<PathBuf, FindUniqueError> {
    let FileKind { what, suffix, remedy, how } = *kind;
    let none = || FindUniqueError::None { what, folder: folder.to_path_buf(), remedy };
    let unreadable = |source| FindUniqueError::Read { folder: folder.to_path_buf(), source };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(none()),
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let named = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.ends_with(suffix) && !name.starts_with('.'));
        if named && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    match files.len() {
        0 => Err(none()),
        1 => Ok(files.remove(0)),
        _ => Err(FindUniqueError::Several { what, folder: folder.to_path_buf(), files, how }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FileKind, FindUniqueError, find_unique};

    const HEAD: FileKind =
        FileKind { what: "head", suffix: ".head.h5", remedy: "fit one", how: " with --head FILE" };

    #[test]
    fn the_only_file_is_found_and_none_is_guessed_among_several() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(find_unique(folder.path(), &HEAD), Err(FindUniqueError::None { .. })));
        assert!(matches!(
            find_unique(&folder.path().join("absent"), &HEAD),
            Err(FindUniqueError::None { .. })
        ));
        fs::write(folder.path().join("a.head.h5"), "").unwrap();
        fs::write(folder.path().join("a.h5"), "").unwrap();
        fs::write(folder.path().join(".b.head.h5"), "").unwrap();
        assert_eq!(find_unique(folder.path(), &HEAD).unwrap(), folder.path().join("a.head.h5"));
        fs::write(folder.path().join("b.head.h5"), "").unwrap();
        let message = find_unique(folder.path(), &HEAD).unwrap_err().to_string();
        assert!(message.contains("holds more than one head ("), "{message}");
        assert!(message.contains("a.head.h5") && message.contains("b.head.h5"), "{message}");
        assert!(message.contains("--head FILE"), "{message}");
    }
}
