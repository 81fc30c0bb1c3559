//! Tar shards in the form of WebDataset: `KEY.jpg` beside `KEY.cls` or `KEY.json`, thousands of them in a `.tar`.
//!
//! A shard is gone through once, header by header, without reading the images; each image is then read by its place,
//! so that any worker can read any of them. Which label is whose is told by names (`pairing`).
//! <https://github.com/webdataset/webdataset> has the form.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

mod folders;
mod index;
mod pairing;
mod remarks;
mod remote_index;

use super::classes::ClassNames;
use super::passed_over::{PassedOver, PassedOverReason};
use super::places::is_there;
use super::sources::common_folder;
use super::unsupported::unsupported;
use super::{Dataset, DatasetError, InputProblem, SampleList, SourceOptions, not_utf8, slashed};
use crate::files::Stamp;
use crate::remote::{Version, Wanted, is_url};
use index::{ShardMember, WantedMembers, index};
use pairing::{ImageVerdict, LabelMember};
use remarks::ShardRemarks;
use remote_index::{IndexedShard, RemoteIndexes};

/// A tar file that was gone through.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    path: PathBuf,
    /// What tells whether it is still the same file; `None` if its images' hashes do.
    state: Option<ShardState>,
    /// The store's name for its content, of one in an object store.
    etag: Option<String>,
    /// What to do if it is not.
    remedy: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShardState {
    len: u64,
    /// Nanoseconds from 1970.
    modified: i64,
}

impl ShardState {
    fn of(file: &File) -> io::Result<ShardState> {
        let stamp = Stamp::of(&file.metadata()?);
        Ok(ShardState { len: stamp.len, modified: stamp.modified() })
    }
}

impl Shard {
    /// A tar file that was listed elsewhere, with its size, the time of its last modification, and the store's name for its
    /// content.
    pub(super) fn planned(path: PathBuf, state: Option<(u64, i64)>, etag: Option<String>) -> Self {
        let state = state.map(|(len, modified)| ShardState { len, modified });
        Self { path, state, etag, remedy: "restore it, or make a new plan" }
    }

    /// Its size in bytes and the time of its last modification in nanoseconds from 1970, when it was gone through.
    pub(super) fn state(&self) -> (u64, i64) {
        self.state.map_or_else(Default::default, |state| (state.len, state.modified))
    }

    /// The store's name for its content.
    pub(super) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the shard lies in an object store or on the web.
    pub(super) fn is_remote(&self) -> bool {
        is_url(&self.path)
    }

    /// What has to be asked for to get a member of a shard in an object store or on the web.
    pub(super) fn wanted(&self, offset: u64, size: u32) -> Option<Wanted> {
        let url = self.path.to_str().filter(|path| is_url(path))?.to_owned();
        let version = Version { size: self.state.map(|state| state.len), etag: self.etag.clone() };
        Some(Wanted { url, range: Some(offset..offset + u64::from(size)), version })
    }

    /// What stands for a member of a shard in an object store.
    pub(super) fn stamp(&self, offset: u64, size: u32) -> Option<Stamp> {
        let etag = self.etag()?;
        Some(Stamp::of_content(u64::from(size), &format!("{offset} of {etag}")))
    }

    /// The member's bytes. The shard is opened each time: thousands of shards are more than may be open at once.
    pub(super) fn read(&self, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let now = ShardState::of(&file)?;
        if self.state.is_some_and(|then| then != now) {
            let path = self.path.display();
            return Err(io::Error::other(format!("{path} has changed since it was listed; {}", self.remedy)));
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; size as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Whether the path names a tar file.
pub(super) fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"))
}

impl Dataset {
    /// The images of tar shards in the form of WebDataset: `KEY.jpg` with `KEY.cls`, which holds a class's name or
    /// number, or `KEY.json` with one of the fields `label`, `cls` or `class`. Where no shard holds a label and all images
    /// lie in folders, the folders are the classes.
    ///
    /// Names are `SHARD/KEY.jpg`, the shard without `.tar` and relative to the folder that holds all shards. Names of
    /// classes that are numbers come from `options.classes`, or else from `classes.txt` in that folder, where there is one.
    /// With `options.label_column`, labels are in that field of `KEY.json` and nowhere else.
    /// The memory is that of [`SampleList`], and while a shard is gone through, that of its names.
    ///
    /// # Errors
    /// A shard or the list of classes cannot be read, labels cannot be told apart or none is found where
    /// there are `.json`, or there is no usable image at all.
    pub fn from_shards(shards: &[PathBuf], options: &SourceOptions) -> Result<Self, DatasetError> {
        let mut shards = shards.to_vec();
        shards.sort();
        shards.dedup();
        let root = common_folder(&shards);
        let beside = root.join("classes.txt");
        let mut classes = match &options.classes {
            Some(classes) => ClassNames::read(classes)?,
            None if is_there(&beside)? => ClassNames::read(&beside)?,
            None => ClassNames::default(),
        };
        let mut samples = SampleList::below(&root);
        let (mut problems, mut passed_over) = (Vec::new(), PassedOver::default());
        let mut remarks = ShardRemarks::default();
        let field = options.label_column.as_deref();
        // Where the images of each shard begin, and bytes of their names that are the shard's.
        let mut parts = Vec::with_capacity(shards.len());
        let wanted = WantedMembers::of(options.no_labels, field);
        let mut indexes = RemoteIndexes::begin(&shards, wanted);
        for shard in &shards {
            let relative = shard.strip_prefix(&root).unwrap_or(shard).with_extension("");
            let Some(prefix) = slashed(&relative) else {
                problems.push(not_utf8(shard));
                continue;
            };
            let start = samples.len();
            parts.push((start, prefix.len() + 1));
            if options.no_labels {
                let shard = OpenShard { path: shard, prefix: &prefix, indexed: indexes.next(shard)? };
                list(&mut samples, &mut problems, &mut passed_over, shard, None)?;
                continue;
            }
            let mut found = LabelSink { field, members: Vec::new(), remarks: &mut remarks };
            let opened = OpenShard { path: shard, prefix: &prefix, indexed: indexes.next(shard)? };
            list(&mut samples, &mut problems, &mut passed_over, opened, Some(&mut found))?;
            let labels = found.members;
            label(&mut samples, start, &labels, &mut classes, &mut problems, &mut passed_over, &mut remarks)
                .map_err(|why| DatasetError::ShardLabels { path: shard.clone(), why })?;
        }
        if samples.is_empty() {
            return Err(DatasetError::EmptyShards { shards, problems });
        }
        if let Some(why) = remarks.why_no_labels(field) {
            return Err(DatasetError::NoShardLabels { shards, why });
        }
        if !options.no_labels && !remarks.has_labels() {
            match folders::label(&mut samples, &parts, &mut classes, &mut problems) {
                Ok(folders) => remarks.folders = Some(folders),
                Err(outside) => remarks.outside_of_folders = outside,
            }
        }
        samples.sort_from(0);
        samples.shrink();
        let notes = remarks.notes(&classes);
        let set = Self::with_classes(samples, classes, problems, String::new());
        Ok(Self { notes: notes.into_iter().chain(set.notes).collect(), passed_over, ..set })
    }
}

/// Adds the images of the shard at `path`, without labels, under names that start with `prefix/`.
pub(super) fn add(
    samples: &mut SampleList,
    problems: &mut Vec<InputProblem>,
    passed_over: &mut PassedOver,
    path: &Path,
    prefix: &str,
) -> Result<(), DatasetError> {
    let indexed = match path.to_str().filter(|path| is_url(path)) {
        Some(url) => Some(remote_index::index_remote(url, WantedMembers::Images)?),
        None => None,
    };
    list(samples, problems, passed_over, OpenShard { path, prefix, indexed }, None)
}

/// A shard that is to be gone through.
struct OpenShard<'a> {
    path: &'a Path,
    /// What the names of its images begin with.
    prefix: &'a str,
    /// What was found in it, if it lies in an object store or on the web.
    indexed: Option<IndexedShard>,
}

/// Where the labels of a shard go.
struct LabelSink<'a> {
    /// The field of `.json` that they are in, if it was named.
    field: Option<&'a str>,
    members: Vec<LabelMember>,
    remarks: &'a mut ShardRemarks,
}

/// Adds the images of a shard, sorted by name; its labels as well, where they are wanted.
fn list(
    samples: &mut SampleList,
    problems: &mut Vec<InputProblem>,
    passed_over: &mut PassedOver,
    OpenShard { path, prefix, indexed }: OpenShard<'_>,
    mut labels: Option<&mut LabelSink<'_>>,
) -> Result<(), DatasetError> {
    let unreadable = |source| DatasetError::Unreadable { path: path.to_owned(), source };
    let (file, state, etag) = match &indexed {
        Some(IndexedShard { len, etag, .. }) => (None, ShardState { len: *len, modified: 0 }, etag.clone()),
        None => {
            let file = File::open(path).map_err(unreadable)?;
            let state = ShardState::of(&file).map_err(unreadable)?;
            (Some(file), state, None)
        }
    };
    let len = state.len;
    let shard = samples.add_shard(Shard {
        path: path.to_owned(),
        state: Some(state),
        etag,
        remedy: "run the command again",
    });

    let start = samples.len();
    let wanted = match &labels {
        None => WantedMembers::of(true, None),
        Some(LabelSink { field, .. }) => WantedMembers::of(false, *field),
    };
    let mut found = |name: &str, member: ShardMember| {
        let full = format!("{prefix}/{name}");
        match (member, &mut labels) {
            (ShardMember::Image { offset, size }, _) => samples.push_member(&full, shard, offset, size, None),
            (ShardMember::Bad(reason), _) => problems.push(InputProblem { name: full, reason }),
            (ShardMember::PassedOver(reason), labels) => {
                passed_over.add(reason, &full);
                if let Some(labels) = labels.as_mut().filter(|_| reason == PassedOverReason::NotAnImage) {
                    labels.remarks.add_other(name);
                }
            }
            (ShardMember::Label(class), Some(labels)) => {
                labels.members.push(LabelMember { name: full, class, is_silent: false });
            }
            (ShardMember::Fields(fields), Some(labels)) => {
                labels.remarks.add_fields(fields);
                labels.members.push(LabelMember { name: full, class: Ok(None), is_silent: true });
            }
            (ShardMember::Label(_) | ShardMember::Fields(_), None) => {}
        }
    };
    let end = match (indexed, file) {
        (Some(IndexedShard { members, end, .. }), _) => {
            members.into_iter().for_each(|(name, member)| found(&name, member));
            end
        }
        (None, Some(file)) => index(file, len, wanted, found),
        (None, None) => Ok(()),
    };
    if let Err(reason) = end {
        let reason = match unsupported(path) {
            Some(kind) if samples.len() == start => kind.to_string(),
            _ => reason,
        };
        problems.push(InputProblem { name: path.display().to_string(), reason });
    }
    samples.sort_from(start);
    samples.retain_from(start, |before, sample| {
        let is_again = before.is_some_and(|before| before.name == sample.name);
        if is_again {
            let reason = "the shard holds it twice; the first one was used".to_owned();
            problems.push(InputProblem { name: sample.name.to_owned(), reason });
        }
        !is_again
    });
    if let Some(labels) = labels {
        labels.members.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(())
}

/// Labels the samples from `start` on by `labels`, both sorted by name; those that cannot be labelled become problems.
///
/// # Errors
/// Labels cannot be told apart, and which.
fn label(
    samples: &mut SampleList,
    start: usize,
    labels: &[LabelMember],
    classes: &mut ClassNames,
    problems: &mut Vec<InputProblem>,
    passed_over: &mut PassedOver,
    remarks: &mut ShardRemarks,
) -> Result<(), String> {
    let images: Vec<&str> = (start..samples.len()).map(|index| samples.get(index).name).collect();
    let pairing = pairing::pair(&images, labels)?;
    let mut verdicts = pairing.verdicts.into_iter();
    let mut numbers = Vec::with_capacity(samples.len() - start);
    samples.retain_from(start, |_, sample| {
        let number = match verdicts.next() {
            Some(ImageVerdict::Class(class)) => class.map(|class| classes.number(class.clone())).transpose(),
            Some(ImageVerdict::Bad(why)) => Err(why),
            Some(ImageVerdict::Further) => {
                passed_over.add(PassedOverReason::Further, sample.name);
                return false;
            }
            None => Ok(None),
        };
        number
            .map(|number| numbers.push(number))
            .map_err(|reason| problems.push(InputProblem { name: sample.name.to_owned(), reason }))
            .is_ok()
    });
    samples.label_from(start, &numbers);
    let silent =
        |labels: &mut dyn Iterator<Item = &LabelMember>| labels.filter(|label| label.is_silent).count();
    remarks.labels += labels.len() - silent(&mut labels.iter());
    remarks.without_class += silent(&mut labels.iter()) - silent(&mut pairing.orphans.iter().copied());
    // A .json without a class need not be about an image.
    problems.extend(pairing.orphans.iter().filter(|label| !label.is_silent).map(|label| InputProblem {
        name: label.name.clone(),
        reason: match &label.class {
            Err(why) => format!("no image of its name or key is in the shard; {why}"),
            Ok(_) => "no image of its name or key is in the shard".to_owned(),
        },
    }));
    Ok(())
}

/// Goes through the bytes of a tar file as through a shard; gives how many images it holds. For the fuzzer.
#[doc(hidden)]
pub fn count_images(bytes: &[u8]) -> (usize, Option<String>) {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let end =
        index(
            io::Cursor::new(bytes),
            bytes.len() as u64,
            WantedMembers::Labels,
            |name, member| match member {
                ShardMember::Image { offset, size } => {
                    // What `Shard::read` relies on.
                    assert!(offset + u64::from(size) <= bytes.len() as u64);
                    images.push(name.to_owned());
                }
                ShardMember::Label(class) => {
                    labels.push(LabelMember { name: name.to_owned(), class, is_silent: false });
                }
                _ => {}
            },
        );
    images.sort();
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = images.iter().map(String::as_str).collect();
    if let Ok(pairing) = pairing::pair(&names, &labels) {
        assert_eq!(pairing.verdicts.len(), names.len());
    }
    (images.len(), end.err())
}
