//! Walking a folder, and what is wrong with what cannot be walked.

use std::fs;
use std::io;
use std::path::{Component, Path};

use walkdir::WalkDir;

use super::{IMAGE_EXTENSIONS, Problem};

/// Gives the name of every image file below `root`, in no order, and then what went wrong on the way, sorted by name.
///
/// A name is the file's path below `root`, '/'-separated. One entry of a folder is held at a time.
pub(super) fn walk(root: &Path, mut found: impl FnMut(&str)) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut entries = WalkDir::new(root).min_depth(1).follow_links(true).into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                problems.extend(walk_problem(root, &error));
                continue;
            }
        };
        let is_dir = entry.file_type().is_dir();
        if is_hidden(entry.path()) {
            if is_dir {
                entries.skip_current_dir();
            }
            continue;
        }
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let Some(name) = slashed(relative) else {
            if is_dir {
                // One problem for the folder, not one for each photo in it.
                entries.skip_current_dir();
                problems.push(not_utf8(relative));
            } else if has_image_extension(entry.path()) {
                problems.push(not_utf8(relative));
            }
            continue;
        };
        if is_dir || !has_image_extension(entry.path()) {
            continue;
        }
        if entry.file_type().is_file() {
            found(&name);
        } else {
            // Opening a named pipe would wait for ever.
            problems.push(not_a_file(name));
        }
    }
    problems.sort_by(|a, b| a.name.cmp(&b.name));
    problems
}

fn walk_problem(root: &Path, error: &walkdir::Error) -> Option<Problem> {
    let path = error.path().unwrap_or(root);
    if is_hidden(path) {
        return None;
    }
    let relative = path.strip_prefix(root).unwrap_or(path);
    let name = relative.to_string_lossy().replace('\\', "/");
    let reason = match (error.loop_ancestor(), error.io_error()) {
        (Some(ancestor), _) => {
            format!("a link that leads back to {}, which holds it; it was not followed", ancestor.display())
        }
        (None, Some(io_error)) => reason_of(path, io_error),
        (None, None) => error.to_string(),
    };
    Some(Problem { name, reason })
}

/// What an I/O error means for whoever named `path`.
pub(super) fn reason_of(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => format!("a dangling link: its target {} does not exist", target.display()),
            Err(_) => "no such file or folder".to_owned(),
        },
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        // ELOOP: a link to itself, or links in a ring.
        _ if fs::read_link(path).is_ok() => format!("a link that cannot be followed ({error})"),
        _ => format!("cannot be read ({error})"),
    }
}

pub(super) fn not_utf8(path: &Path) -> Problem {
    Problem {
        name: path.to_string_lossy().into_owned(),
        reason: "the name is not valid UTF-8, so it cannot be recorded; rename it".to_owned(),
    }
}

pub(super) fn not_a_file(name: String) -> Problem {
    Problem { name, reason: "not a regular file".to_owned() }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether a folder walk would take the file for an image.
pub(super) fn has_image_extension(path: &Path) -> bool {
    let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else { return false };
    IMAGE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// `path` as '/'-separated text without "." components, and without ".." wherever the component before it can be
/// dropped in exchange; `None` when it is not UTF-8.
pub(super) fn slashed(path: &Path) -> Option<String> {
    let mut absolute = String::new();
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(prefix) => absolute.push_str(prefix.as_os_str().to_str()?),
            Component::RootDir => absolute.push('/'),
            Component::CurDir => {}
            Component::ParentDir if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            Component::ParentDir if parts.is_empty() && !absolute.is_empty() => {}
            Component::ParentDir => parts.push(".."),
            Component::Normal(part) => parts.push(part.to_str()?),
        }
    }
    let name = absolute + &parts.join("/");
    Some(if name.is_empty() { ".".to_owned() } else { name })
}
