//! Tar shards in the form of WebDataset: `KEY.jpg` beside `KEY.cls` or `KEY.json`, thousands of them in a `.tar`.
//!
//! A shard is gone through once, header by header, without reading the images; each image is then read by its place,
//! so that any worker can read any of them. <https://github.com/webdataset/webdataset> has the form: a key ends at the
//! first dot of the file's name, and what has the same key belongs together.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::classes::{ClassLabel, ClassNames};
use super::{Problem, Samples, SamplesError, has_image_extension, slashed};

/// Longest class name or number in a `.cls`.
const MAX_CLS: u64 = 4 << 10;
/// Longest `.json`.
const MAX_JSON: u64 = 16 << 20;
/// The fields of a `.json` that may name the class, or have its number.
const JSON_FIELDS: [&str; 3] = ["label", "cls", "class"];
/// Longest name of a member: more than any file system has.
const MAX_NAME: usize = 64 << 10;
/// Bytes of a header, and what members are padded to.
const BLOCK: u64 = 512;

/// A tar file that was gone through.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    path: PathBuf,
    /// What tells whether it is still the same file.
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    len: u64,
    modified: Option<SystemTime>,
}

impl State {
    fn of(file: &File) -> io::Result<State> {
        let metadata = file.metadata()?;
        Ok(State { len: metadata.len(), modified: metadata.modified().ok() })
    }
}

impl Shard {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The member's bytes. The shard is opened each time: thousands of shards are more than may be open at once.
    pub(super) fn read(&self, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        if State::of(&file)? != self.state {
            let path = self.path.display();
            return Err(io::Error::other(format!(
                "{path} was changed since it was listed; run the command again"
            )));
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; size as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// What is of interest in a shard.
#[derive(Debug, PartialEq, Eq)]
enum Member {
    /// An image of `size` bytes that begin at `offset`.
    Image { offset: u64, size: u32 },
    /// What a `.cls` or `.json` says of the class, or what is wrong with it.
    Label(Result<Option<ClassLabel>, String>),
    /// An image that cannot be taken, and why.
    Bad(String),
}

/// Whether the path names a tar file.
pub(super) fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"))
}

/// Adds the images of the shard at `path` under names that start with `prefix/`, and the classes that it names.
pub(super) fn add(
    samples: &mut Samples,
    problems: &mut Vec<Problem>,
    classes: &mut ClassNames,
    path: &Path,
    prefix: &str,
) -> Result<(), SamplesError> {
    let unreadable = |source| SamplesError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let state = State::of(&file).map_err(unreadable)?;
    let len = state.len;
    let shard = samples.add_shard(Shard { path: path.to_owned(), state });

    let start = samples.len();
    let mut labels: HashMap<String, (String, Result<Option<ClassLabel>, String>)> = HashMap::new();
    let end = index(file, len, |name, member| {
        let full = format!("{prefix}/{name}");
        match member {
            Member::Image { offset, size } => samples.push_member(&full, shard, offset, size, None),
            Member::Bad(reason) => problems.push(Problem { name: full, reason }),
            Member::Label(label) => {
                let key = key_of(&full).to_owned();
                // Of a .cls and a .json, the .cls counts.
                if name.ends_with(".cls") || !labels.contains_key(&key) {
                    labels.insert(key, (full, label));
                }
            }
        }
    });
    if let Err(reason) = end {
        problems.push(Problem { name: path.display().to_string(), reason });
    }
    samples.sort_from(start);

    let mut numbers = Vec::with_capacity(samples.len() - start);
    let mut used = HashSet::new();
    samples.retain_from(start, |before, sample| {
        if before.is_some_and(|before| before.name == sample.name) {
            let reason = "the shard holds it a second time; the first was taken".to_owned();
            problems.push(Problem { name: sample.name.to_owned(), reason });
            return false;
        }
        let key = key_of(sample.name);
        let label = match labels.get_key_value(key) {
            None => Ok(None),
            Some((key, (_, label))) => {
                used.insert(key.as_str());
                label.clone().and_then(|label| label.map(|label| classes.number(label)).transpose())
            }
        };
        match label {
            Ok(label) => {
                numbers.push(label);
                true
            }
            Err(reason) => {
                problems.push(Problem { name: sample.name.to_owned(), reason });
                false
            }
        }
    });
    samples.label_from(start, &numbers);
    // A .json without a class need not be about an image.
    let orphans =
        labels.iter().filter(|(key, (_, label))| !used.contains(key.as_str()) && *label != Ok(None));
    let mut orphans: Vec<&String> = orphans.map(|(_, (name, _))| name).collect();
    orphans.sort();
    problems.extend(orphans.into_iter().map(|name| Problem {
        name: name.clone(),
        reason: "no image of this key is in the shard".to_owned(),
    }));
    Ok(())
}

/// A member's name up to the first dot of its last component.
fn key_of(name: &str) -> &str {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    name[file..].find('.').map_or(name, |dot| &name[..file + dot])
}

/// Goes through a tar file of `len` bytes and gives its members of interest, in order.
///
/// # Errors
/// Why it could not be gone through to its end, and what became of the rest.
fn index(reader: impl Read + Seek, len: u64, mut found: impl FnMut(&str, Member)) -> Result<(), String> {
    let mut archive = tar::Archive::new(reader);
    let mut end = 0;
    let mut members = 0_usize;
    let damaged = |error: io::Error, members: usize, end: u64| {
        if members == 0 {
            format!(
                "not a tar file, or damaged at its beginning ({error}); compressed tar files are not read"
            )
        } else {
            format!("damaged after {members} members, at byte {end} ({error}); what follows is lost")
        }
    };
    let entries = archive.entries_with_seek().map_err(|error| damaged(error, 0, 0))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| damaged(error, members, end))?;
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let Some(member_end) = offset.checked_add(size).filter(|&end| end <= len) else {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(format!("cut short: it ends within {name}; what was to follow is lost"));
        };
        end = member_end.next_multiple_of(BLOCK);
        members += 1;
        let name_len = entry.path_bytes().len();
        if name_len > MAX_NAME {
            return Err(format!(
                "damaged after {members} members: a name of {name_len} bytes; what follows is lost"
            ));
        }
        let name = match std::str::from_utf8(&entry.path_bytes()) {
            Ok(name) => slashed(Path::new(name)).unwrap_or_else(|| name.to_owned()),
            Err(_) => {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                if has_image_extension(Path::new(&name)) {
                    found(
                        &name,
                        Member::Bad("the name is not valid UTF-8, so it cannot be recorded".to_owned()),
                    );
                }
                continue;
            }
        };
        if name.split('/').any(|part| part.starts_with('.')) {
            continue;
        }
        let kind = entry.header().entry_type();
        if has_image_extension(Path::new(&name)) {
            let member = match u32::try_from(size) {
                _ if kind.is_dir() => continue,
                _ if !kind.is_file() && !kind.is_contiguous() => {
                    Member::Bad("a link or another special member of the tar file, not an image".to_owned())
                }
                Err(_) => Member::Bad(format!("{size} bytes are too many for an image")),
                Ok(size) => Member::Image { offset, size },
            };
            found(&name, member);
        } else if kind.is_file() && name.ends_with(".cls") {
            let label = text_of(&mut entry, size, MAX_CLS).and_then(|text| ClassLabel::parse(&text));
            found(&name, Member::Label(label.map_err(|reason| format!("its class in {name}: {reason}"))));
        } else if kind.is_file() && name.ends_with(".json") {
            let label = text_of(&mut entry, size, MAX_JSON).and_then(|text| label_in_json(&text));
            found(&name, Member::Label(label.map_err(|reason| format!("its class in {name}: {reason}"))));
        }
    }
    // Two blocks of zeros end a tar file; without them, nobody can tell whether more was to come.
    if members > 0 && end >= len {
        return Err(format!(
            "its end is missing: cut short after {members} members, or never closed by its writer; what is there was taken"
        ));
    }
    Ok(())
}

fn text_of(entry: &mut impl Read, size: u64, limit: u64) -> Result<String, String> {
    if size > limit {
        return Err(format!("{size} bytes are too many"));
    }
    let mut text = String::new();
    match entry.read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("it cannot be read as text ({error})")),
    }
}

/// The first of the known fields that is a text, else the first that is a number.
fn label_in_json(text: &str) -> Result<Option<ClassLabel>, String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("not well-formed JSON ({error})"))?;
    let fields = || JSON_FIELDS.iter().filter_map(|field| value.get(field));
    let label = fields().find_map(|value| value.as_str().map(str::to_owned));
    match label.or_else(|| fields().find_map(|value| value.as_i64().map(|number| number.to_string()))) {
        Some(label) => ClassLabel::parse(&label),
        None => Ok(None),
    }
}

/// Goes through the bytes of a tar file as through a shard; gives how many images it holds. For the fuzzer.
#[doc(hidden)]
pub fn count_images(bytes: &[u8]) -> (usize, Option<String>) {
    let mut images = 0;
    let end = index(io::Cursor::new(bytes), bytes.len() as u64, |_, member| {
        if let Member::Image { offset, size } = member {
            // What `Shard::read` relies on.
            assert!(offset + u64::from(size) <= bytes.len() as u64);
            images += 1;
        }
    });
    (images, end.err())
}
