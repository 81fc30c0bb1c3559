//! Samples as a plan writes them down, and the samples that come of such records on another machine.
//!
//! A record holds all that is needed to read an image without listing the others, and what its file was when it was listed: an
//! image that is another one by then is a problem of its own, never a silent mixture.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sample_list::{SampleList, SampleLocation, place_below};
use super::shards::Shard;
use super::{ArrayError, Dataset, ImageArray, InputProblem, PassedOver, SampleContent};
use crate::digest::Sha256Digest;
use crate::files::Stamp;
use crate::remote::is_url;

/// A tar shard or an HDF5 file with an array of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Where it lies: relative to the root of the set, or absolute.
    pub path: String,
    /// The dataset of the array in an HDF5 file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The order of the array's dimensions, where it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<String>,
    /// Bytes of the file.
    pub size: u64,
    /// Nanoseconds from 1970 to the last modification of the file; 0 in an object store.
    pub modified: i64,
    /// What an object store calls its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Its name in the set.
    pub name: String,
    /// The number of its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<usize>,
    /// The path of its file, relative to the root of the set or absolute, where that is not its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The number of the container that it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<u32>,
    /// Where it begins in a tar shard, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Its row in an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// Bytes of the image file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Nanoseconds from 1970 to the last modification of the image file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
    /// What an object store calls its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// SHA-256 of its bytes as they are stored, in lower-case hexadecimal, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What an image has to be still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExpectedImage {
    size: Option<u64>,
    modified: Option<i64>,
    sha256: Option<Sha256Digest>,
}

impl ExpectedImage {
    /// Why the image is another one now, whose bytes are `bytes` and whose own file, if it has one, is as `stamp` says.
    pub(super) fn change(&self, stamp: Option<Stamp>, bytes: &[u8]) -> Option<&'static str> {
        let changed = match (self.sha256, stamp) {
            // The bytes decide, wherever they were copied to.
            (Some(sha256), _) => sha256 != Sha256Digest::of(bytes),
            (None, Some(stamp)) => {
                self.size.is_some_and(|size| size != stamp.len)
                    || self.modified.is_some_and(|modified| modified != stamp.modified())
            }
            (None, None) => false,
        };
        changed.then_some("it changed after the plan was made; restore it, or make a new plan")
    }
}

/// Why records do not give samples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A record contradicts itself or the list of containers.
    #[error("the record of {name} is not valid: {why}")]
    Invalid {
        /// The image.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The HDF5 file with an array is another one.
    #[error("{} changed after the plan was made; restore it, or make a new plan", path.display())]
    ArrayChanged {
        /// The file.
        path: PathBuf,
    },
    /// The HDF5 file with an array cannot be looked at.
    #[error("cannot read {}; check that it exists here and may be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The array cannot be used.
    #[error(transparent)]
    Array(#[from] ArrayError),
}

impl SampleList {
    /// The tar shards and arrays, in the order in which [`record`](Self::record) numbers them.
    ///
    /// # Errors
    /// The file of an array cannot be looked at.
    pub fn containers(&self) -> io::Result<Vec<ContainerRecord>> {
        let path = |path: &Path| {
            let below = path.strip_prefix(self.root()).unwrap_or(path);
            below.to_str().map(str::to_owned).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidFilename, format!("{} is not UTF-8", path.display()))
            })
        };
        let shards = self.shards().iter().map(|shard| {
            let (size, modified) = shard.state();
            let (path, etag) = (path(shard.path())?, shard.etag().map(str::to_owned));
            Ok(ContainerRecord { path, dataset: None, axes: None, size, modified, etag })
        });
        let arrays = self.arrays().iter().map(|array| {
            let stamp = Stamp::of(&fs::metadata(array.path())?);
            Ok(ContainerRecord {
                path: path(array.path())?,
                dataset: Some(array.name().to_owned()),
                axes: array.unusual_axes().map(ToString::to_string),
                size: stamp.len,
                modified: stamp.modified(),
                etag: None,
            })
        });
        shards.chain(arrays).collect()
    }

    /// The sample at `index` as a plan writes it down; with `hash`, its bytes are read and their SHA-256 is part of it.
    ///
    /// # Errors
    /// Its file cannot be looked at or read.
    ///
    /// # Panics
    /// `index` is not below [`len`](Self::len), or the sample lies in memory, as no sample that can be named does.
    pub fn record(&self, index: usize, hash: bool) -> Result<SampleRecord, InputProblem> {
        self.record_of(index, hash.then(|| self.get(index).read()))
    }

    /// As [`record`](Self::record), where `content` is what was read of the sample if its SHA-256 is wanted.
    pub(crate) fn record_of(
        &self,
        index: usize,
        content: Option<io::Result<SampleContent<'_>>>,
    ) -> Result<SampleRecord, InputProblem> {
        let sample = self.get(index);
        let problem = |error: io::Error| InputProblem::from_error(sample.name, &error);
        let stamp = sample.stamp().map_err(problem)?;
        let sha256 = match content {
            Some(content) => Some(Sha256Digest::of(content.map_err(problem)?.bytes()).to_string()),
            None => None,
        };
        let mut record = SampleRecord {
            name: sample.name.to_owned(),
            label: sample.label,
            path: None,
            container: None,
            offset: None,
            row: None,
            size: stamp.map(|stamp| stamp.len),
            modified: stamp.filter(|_| !sample.is_remote()).map(|stamp| stamp.modified()),
            etag: sample.version().etag,
            sha256,
        };
        match self.location(index) {
            SampleLocation::Named | SampleLocation::Object(_) => {}
            SampleLocation::At(path) => record.path = Some(self.text(path).to_owned()),
            SampleLocation::Member { shard, offset, size } => {
                (record.container, record.offset, record.size) =
                    (Some(shard), Some(offset), Some(u64::from(size)));
            }
            SampleLocation::Row { array, row } => {
                // As many containers as fit into the numbers of both.
                record.container = Some(self.shards().len() as u32 + array);
                record.row = Some(row);
            }
            SampleLocation::Memory(_) => {
                unreachable!("images in memory have no place that can be written down")
            }
        }
        Ok(record)
    }
}

impl Dataset {
    /// The samples of `records`, whose paths are relative to `root` and whose containers are among `containers`. Where they are
    /// no longer what they were, reading them is an error.
    ///
    /// # Errors
    /// A record is not valid, or an array cannot be opened or has changed.
    pub fn from_records(
        root: &Path,
        containers: &[ContainerRecord],
        records: &[SampleRecord],
        class_names: Vec<String>,
        source: String,
    ) -> Result<Self, RecordError> {
        let mut samples = SampleList::below(root);
        let hashed = records.iter().all(|record| record.sha256.is_some());
        // The number in the list of samples of each container that was used so far.
        let mut known = vec![None; containers.len()];
        for record in records {
            let invalid = |why| RecordError::Invalid { name: record.name.clone(), why };
            if record.label.is_some_and(|label| label >= class_names.len()) {
                return Err(invalid("there is no such class"));
            }
            let sha256 = match &record.sha256 {
                Some(text) => {
                    Some(Sha256Digest::parse(text).ok_or_else(|| invalid("its SHA-256 is malformed"))?)
                }
                None => None,
            };
            match record.container {
                None => {
                    let path = record.path.as_deref().unwrap_or(&record.name);
                    let size = record.size.and_then(|size| u32::try_from(size).ok());
                    match size.filter(|_| is_url(root) && record.path.is_none()) {
                        Some(size) => {
                            // Where their hashes say what images are, copies will do.
                            let etag = record.etag.as_deref().filter(|_| !hashed);
                            samples.push_object(&record.name, size, etag, record.label);
                        }
                        None => samples.push_file(&record.name, path, record.label),
                    }
                }
                Some(number) => {
                    let number = number as usize;
                    let container =
                        containers.get(number).ok_or_else(|| invalid("there is no such container"))?;
                    match (&container.dataset, record.offset, record.size, record.row) {
                        (None, Some(offset), Some(size), None) => {
                            let size = u32::try_from(size).map_err(|_| invalid("it is too large"))?;
                            let end = offset.checked_add(u64::from(size));
                            if end.is_none_or(|end| end > container.size) {
                                return Err(invalid("it lies behind the end of its tar file"));
                            }
                            let shard = *known[number].get_or_insert_with(|| {
                                let state = (!hashed).then_some((container.size, container.modified));
                                let etag = container.etag.clone().filter(|_| !hashed);
                                let path = place_below(root, &container.path);
                                samples.add_shard(Shard::planned(path, state, etag))
                            });
                            samples.push_member(&record.name, shard, offset, size, record.label);
                        }
                        (Some(dataset), None, _, Some(row)) => {
                            let array = match known[number] {
                                Some(array) => array,
                                None => samples.add_array(&open_array(root, container, dataset, hashed)?),
                            };
                            known[number] = Some(array);
                            if !samples.push_row(&record.name, array, row, record.label) {
                                return Err(invalid("its array has no such row"));
                            }
                        }
                        _ => return Err(invalid("its place does not fit its container")),
                    }
                }
            }
            samples.expect(ExpectedImage {
                size: record.size.filter(|_| record.container.is_none()),
                modified: record.modified,
                sha256,
            });
        }
        samples.shrink();
        let (problems, notes) = Default::default();
        Ok(Self { samples, class_names, problems, source, notes, passed_over: PassedOver::default() })
    }
}

fn open_array(
    root: &Path,
    container: &ContainerRecord,
    dataset: &str,
    hashed: bool,
) -> Result<Arc<ImageArray>, RecordError> {
    let path = root.join(&container.path);
    let stamp = fs::metadata(&path).map(|metadata| Stamp::of(&metadata));
    let stamp = stamp.map_err(|source| RecordError::Unreadable { path: path.clone(), source })?;
    if !hashed && (stamp.len, stamp.modified()) != (container.size, container.modified) {
        return Err(RecordError::ArrayChanged { path });
    }
    let axes = match &container.axes {
        Some(axes) => Some(axes.parse().map_err(|_| RecordError::Invalid {
            name: container.path.clone(),
            why: "the order of its dimensions is malformed",
        })?),
        None => None,
    };
    Ok(Arc::new(ImageArray::open(&path, Some(dataset), axes.as_ref())?))
}
