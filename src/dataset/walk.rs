//! Walking a folder: which files below it are images, which are passed over, and what is wrong with what cannot be walked.
//!
//! What is an image is decided by a file's first bytes. A name that ends as images' names do spares opening the file, so
//! that a million photos are listed as fast as their folder can be read.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use walkdir::WalkDir;

use super::passed_over::{PassedOver, PassedOverReason};
use super::system_files::is_system_name;
use super::{IMAGE_EXTENSIONS, InputProblem};
use crate::images::{HEAD, sniff};

/// Files that are sniffed at a time: many, since on network drives each takes a while; few enough to be held.
const SNIFFED_AT_ONCE: usize = 4096;

/// Files that are counted in one hidden or system folder. Snapshots may hold the whole drive many times over.
const COUNTED: usize = 10_000;

/// What a walk finds beside images.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// What went wrong on the way, sorted by name.
    pub(super) problems: Vec<InputProblem>,
    /// What is no image.
    pub(super) passed_over: PassedOver,
    /// The folders directly below the root that were walked, sorted.
    pub(super) folders: Vec<String>,
}

/// Gives the name of every image file below `root`, in no order.
///
/// A name is the file's path below `root`, '/'-separated. One entry of a folder is held at a time, and a bounded number of
/// files that have to be opened.
pub(super) fn walk(root: &Path, mut found: impl FnMut(&str)) -> Walked {
    let mut walked = Walked::default();
    let mut to_sniff: Vec<PathBuf> = Vec::new();
    let mut entries = WalkDir::new(root).min_depth(1).follow_links(true).into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                walked.add_error(root, &error);
                continue;
            }
        };
        let path = entry.path();
        let relative = path.strip_prefix(root).unwrap_or(path);
        if entry.file_type().is_dir() {
            if let Some(reason) = reason_to_pass_over(entry.file_name()) {
                entries.skip_current_dir();
                walked.pass_over_folder(root, path, reason);
                continue;
            }
            match slashed(relative) {
                // One problem for the folder, not one for each photo in it.
                None => {
                    entries.skip_current_dir();
                    walked.problems.push(not_utf8(relative));
                }
                Some(name) if entry.depth() == 1 => walked.folders.push(name),
                Some(_) => {}
            }
        } else if is_hidden(entry.file_name()) {
            let reason = reason_to_pass_over(entry.file_name()).unwrap_or(PassedOverReason::Hidden);
            walked.pass_over(relative, reason);
        } else if has_image_extension(path) {
            match slashed(relative) {
                None => walked.problems.push(not_utf8(relative)),
                Some(name) if entry.file_type().is_file() => found(&name),
                // Opening a named pipe would wait for ever.
                Some(name) => walked.problems.push(not_a_file(name)),
            }
        } else if is_system_name(entry.file_name()) {
            walked.pass_over(relative, PassedOverReason::System);
        } else if entry.file_type().is_file() {
            to_sniff.push(entry.into_path());
            if to_sniff.len() == SNIFFED_AT_ONCE {
                walked.sniff(root, &mut to_sniff, &mut found);
            }
        } else {
            walked.pass_over(relative, PassedOverReason::NotAnImage);
        }
    }
    walked.sniff(root, &mut to_sniff, &mut found);
    walked.problems.sort_by(|a, b| a.name.cmp(&b.name));
    walked.folders.sort();
    walked
}

impl Walked {
    fn pass_over(&mut self, relative: &Path, reason: PassedOverReason) {
        self.passed_over.add(reason, &lossy(relative));
    }

    /// Counts the files in a folder that is not walked. Links in it are not followed; one that cannot be read counts as one.
    fn pass_over_folder(&mut self, root: &Path, folder: &Path, reason: PassedOverReason) {
        let mut counted = 0;
        for entry in WalkDir::new(folder).follow_links(false).follow_root_links(false) {
            if entry.as_ref().is_ok_and(|entry| entry.file_type().is_dir()) {
                continue;
            }
            if counted == COUNTED {
                return self.passed_over.add_uncounted(reason);
            }
            counted += 1;
            let path = match &entry {
                Ok(entry) => entry.path(),
                Err(error) => error.path().unwrap_or(folder),
            };
            self.pass_over(path.strip_prefix(root).unwrap_or(path), reason);
        }
    }

    /// Looks at the first bytes of files whose names tell nothing.
    fn sniff(&mut self, root: &Path, files: &mut Vec<PathBuf>, found: &mut impl FnMut(&str)) {
        let verdicts: Vec<io::Result<bool>> = files.par_iter().map(|path| is_image(path)).collect();
        for (path, verdict) in files.drain(..).zip(verdicts) {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            match (verdict, slashed(relative)) {
                (Ok(true), Some(name)) => found(&name),
                (Ok(true), None) => self.problems.push(not_utf8(relative)),
                (Ok(false), _) => self.pass_over(relative, PassedOverReason::NotAnImage),
                (Err(error), _) => {
                    self.problems
                        .push(InputProblem { name: lossy(relative), reason: reason_of(&path, &error) });
                }
            }
        }
    }

    fn add_error(&mut self, root: &Path, error: &walkdir::Error) {
        let path = error.path().unwrap_or(root);
        let relative = path.strip_prefix(root).unwrap_or(path);
        if path != root
            && let Some(reason) = path.file_name().and_then(reason_to_pass_over)
        {
            return self.pass_over(relative, reason);
        }
        let reason = match (error.loop_ancestor(), error.io_error()) {
            (Some(ancestor), _) => {
                format!(
                    "a link that leads back to {}, which contains it; it was not followed",
                    ancestor.display()
                )
            }
            (None, Some(io_error)) => reason_of(path, io_error),
            (None, None) => error.to_string(),
        };
        self.problems.push(InputProblem { name: lossy(relative), reason });
    }
}

/// Why a file or a folder of that name is not looked at, if it is not.
fn reason_to_pass_over(name: &OsStr) -> Option<PassedOverReason> {
    if is_system_name(name) {
        Some(PassedOverReason::System)
    } else {
        is_hidden(name).then_some(PassedOverReason::Hidden)
    }
}

/// Whether the file's first bytes are of an image format, one that is read or not.
fn is_image(path: &Path) -> io::Result<bool> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(sniff(&head).is_some())
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// A name for messages, whatever it is made of.
fn lossy(relative: &Path) -> String {
    slashed(relative).unwrap_or_else(|| relative.to_string_lossy().replace('\\', "/"))
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

pub(super) fn not_utf8(path: &Path) -> InputProblem {
    InputProblem {
        name: path.to_string_lossy().into_owned(),
        reason: "the name is not valid UTF-8, so it cannot be recorded; rename it".to_owned(),
    }
}

pub(super) fn not_a_file(name: String) -> InputProblem {
    InputProblem { name, reason: "not a regular file".to_owned() }
}

/// Whether the name alone says that the file is an image.
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
