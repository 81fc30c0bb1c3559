//! The images below a prefix of a bucket, as if it were a folder, and the keys that match a pattern.
//!
//! A bucket is listed, and nothing in it is opened: what is an image is told by its name alone, because a look at each
//! object's first bytes would cost a request for each.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::passed_over::{PassedOver, PassedOverReason};
use super::shards::{self, is_shard};
use super::system_files::is_system_name;
use super::walk::Walked;
use super::{Dataset, DatasetError, InputProblem, SampleList, has_image_extension, passed};
use crate::remote::{self, Listed, RemoteError, RemoteUrl, Scheme};

/// What lies below a prefix.
pub(super) enum Below {
    Images(Box<Dataset>),
    /// No image, but these tar files, directly below it.
    Shards(Vec<PathBuf>),
}

/// Names that end so are of lists.
const LISTS: [&str; 3] = ["csv", "tsv", "txt"];

/// Whether the address is that of a prefix, not of a list.
///
/// # Errors
/// It is that of an image.
pub(super) fn is_prefix(url: &str) -> Result<bool, DatasetError> {
    let place = RemoteUrl::parse(url);
    let is_web = place.is_some_and(|place| place.scheme == Scheme::Web);
    let path = Path::new(url);
    if url.ends_with('/') {
        return Ok(true);
    }
    if has_image_extension(path) {
        let why = "it is a single image; name the prefix that holds it, with a / at the end, or a list of \
                   addresses";
        return Err(RemoteError::Address { url: RemoteError::shown(url), why: why.to_owned() }.into());
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    Ok(!is_web && !LISTS.contains(&&*extension))
}

impl Dataset {
    /// The images whose keys begin with that of `url`, as [`Dataset::from_folder`] has those below a folder.
    ///
    /// # Errors
    /// The bucket cannot be listed, or neither an image nor a tar file is there.
    pub(super) fn from_prefix(url: &str) -> Result<Below, DatasetError> {
        let root = url.trim_end_matches('/');
        let mut samples = SampleList::below(Path::new(root));
        let (walked, shards) = walk(root, |name, size, etag| samples.push_object(name, size, etag, None))?;
        if samples.is_empty() && !shards.is_empty() {
            return Ok(Below::Shards(shards));
        }
        Self::labelled_by_folders(Path::new(root), samples, walked).map(|set| Below::Images(Box::new(set)))
    }
}

/// Adds what an address names: a shard, what lies below a prefix that ends with a /, or an image.
pub(super) fn add(
    samples: &mut SampleList,
    problems: &mut Vec<InputProblem>,
    passed_over: &mut PassedOver,
    url: &str,
) -> Result<(), DatasetError> {
    let path = Path::new(url);
    if is_shard(path) {
        let name = path.with_extension("").display().to_string();
        return shards::add(samples, problems, passed_over, path, &name);
    }
    if !url.ends_with('/') {
        samples.push_file(url, url, None);
        return Ok(());
    }
    let (root, start) = (url.trim_end_matches('/'), samples.len());
    let below = |inner: &str| format!("{root}/{inner}");
    let (walked, _) = walk(root, |name, _, _| {
        let url = below(name);
        samples.push_file(&url, &url, None);
    })?;
    samples.sort_from(start);
    if samples.len() == start && walked.problems.is_empty() {
        let reason = format!("no images below this prefix{}", passed(&walked.passed_over));
        problems.push(InputProblem { name: url.to_owned(), reason });
    }
    problems.extend(
        walked
            .problems
            .into_iter()
            .map(|InputProblem { name, reason }| InputProblem { name: below(&name), reason }),
    );
    passed_over.merge(walked.passed_over, below);
    Ok(())
}

/// Gives name, size and entity tag of every image below `root`, in no order; and the tar files directly below it.
fn walk(
    root: &str,
    mut found: impl FnMut(&str, u32, Option<&str>),
) -> Result<(Walked, Vec<PathBuf>), RemoteError> {
    let mut walked = Walked::default();
    let (mut shards, mut folders) = (Vec::new(), BTreeSet::new());
    let key = RemoteUrl::parse(root).map_or("", |place| place.key);
    remote::list(root, &mut |Listed { key: full, version }| {
        let name = full.strip_prefix(key).unwrap_or(&full).trim_start_matches('/');
        let mut parts = name.split('/').map(OsStr::new);
        // Consoles make an object for a folder, with a key that ends with a /.
        if name.is_empty() {
        } else if parts.clone().any(is_system_name) {
            walked.passed_over.add(PassedOverReason::System, name);
        } else if parts.any(|part| part.as_encoded_bytes().starts_with(b".")) {
            walked.passed_over.add(PassedOverReason::Hidden, name);
        } else {
            if let Some((folder, _)) = name.split_once('/').filter(|(folder, _)| !folders.contains(*folder)) {
                folders.insert(folder.to_owned());
            }
            let size = version.size.map_or(Ok(0), u32::try_from);
            match size {
                Ok(size) if has_image_extension(Path::new(name)) => {
                    found(name, size, version.etag.as_deref());
                }
                Err(_) if has_image_extension(Path::new(name)) => {
                    let reason = format!("{} bytes are too many for an image", version.size.unwrap_or(0));
                    walked.problems.push(InputProblem { name: name.to_owned(), reason });
                }
                _ => {
                    if is_shard(Path::new(name)) && !name.contains('/') {
                        shards.push(PathBuf::from(format!("{root}/{name}")));
                    }
                    walked.passed_over.add(PassedOverReason::NotAnImage, name);
                }
            }
        }
    })?;
    walked.folders = folders.into_iter().collect();
    walked.problems.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((walked, shards))
}

/// The objects whose addresses match `pattern`, in which `*`, `?` and `[…]` do not reach over a `/`.
///
/// # Errors
/// It is no pattern, or the bucket cannot be listed.
pub(super) fn matching(pattern: &str) -> Result<Vec<PathBuf>, DatasetError> {
    let not_a_pattern = |source: glob::PatternError| DatasetError::Pattern {
        pattern: pattern.to_owned(),
        source: source.into(),
    };
    let compiled = glob::Pattern::new(pattern).map_err(not_a_pattern)?;
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let fixed = &pattern[..pattern.find(['*', '?', '[']).unwrap_or(pattern.len())];
    let folder = fixed.rfind('/').map_or(fixed, |slash| &fixed[..slash]);
    let Some(place) = RemoteUrl::parse(folder) else {
        let why = "the bucket itself cannot be a pattern".to_owned();
        return Err(RemoteError::Address { url: pattern.to_owned(), why }.into());
    };
    let mut paths = Vec::new();
    remote::list(folder, &mut |Listed { key, .. }| {
        let url = place.sibling(&key);
        if compiled.matches_with(&url, options) {
            paths.push(PathBuf::from(url));
        }
    })?;
    paths.sort();
    Ok(paths)
}
