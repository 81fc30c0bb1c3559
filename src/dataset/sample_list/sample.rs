//! One image of a list: where its bytes lie, what they were when it was listed, and reading them.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::object_state::{ObjectState, PackedEtag, etag_of};
use super::{MemoryImage, Sample, SampleContent, SampleLocation};
use crate::files::Stamp;
use crate::remote::{self, Version, Wanted, is_url};

impl<'a> Sample<'a> {
    /// The file that holds the image: an image file, a tar shard or an HDF5 file; of one in memory a file that would have its
    /// name.
    pub fn file(&self) -> PathBuf {
        let path = match self.place {
            SampleLocation::Named | SampleLocation::Memory(_) | SampleLocation::Object(_) => self.name,
            SampleLocation::At(path) => self.list.text(path),
            SampleLocation::Member { shard, .. } => {
                return self.list.shards[shard as usize].path().to_owned();
            }
            SampleLocation::Row { array, .. } => return self.list.arrays[array as usize].path().to_owned(),
        };
        place_below(&self.list.root, path)
    }

    /// Whether the image's bytes come from an object store or from the web.
    pub(crate) fn is_remote(&self) -> bool {
        match self.place {
            SampleLocation::Object(_) => true,
            SampleLocation::Named | SampleLocation::At(_) => is_url(self.file()),
            SampleLocation::Member { shard, .. } => self.list.shards[shard as usize].is_remote(),
            SampleLocation::Row { .. } | SampleLocation::Memory(_) => false,
        }
    }

    /// What has to be asked for to get the image's bytes from an object store or from the web, where that is where they are.
    pub(in crate::dataset) fn wanted(&self) -> Option<Wanted> {
        match self.place {
            SampleLocation::Member { shard, offset, size } => {
                self.list.shards[shard as usize].wanted(offset, size)
            }
            SampleLocation::Row { .. } | SampleLocation::Memory(_) => None,
            SampleLocation::Named | SampleLocation::At(_) | SampleLocation::Object(_) => {
                let url = self.file().to_str().filter(|path| is_url(path))?.to_owned();
                Some(Wanted { url, range: None, version: self.version() })
            }
        }
    }

    /// What is known of the object that is the image.
    pub(in crate::dataset) fn version(&self) -> Version {
        let SampleLocation::Object(object) = self.place else { return Version::default() };
        let ObjectState { size, etag } = self.list.objects[object as usize];
        let etag = match etag {
            PackedEtag::Absent => None,
            PackedEtag::Md5(md5) => Some(etag_of(md5)),
            PackedEtag::Text(text) => Some(self.list.text(text).to_owned()),
        };
        Version { size: Some(u64::from(size)), etag }
    }

    /// What the image's file looks like from outside, `None` for what is no file of its own. Of an object that was listed, and
    /// of a member of a shard in an object store, it is what the listing said.
    ///
    /// # Errors
    /// The file is gone or may not be looked at.
    pub fn stamp(&self) -> io::Result<Option<Stamp>> {
        match self.place {
            SampleLocation::Named | SampleLocation::At(_) => match self.file() {
                path if is_url(&path) => Ok(None),
                path => Ok(Some(Stamp::of(&fs::metadata(path)?))),
            },
            SampleLocation::Object(_) => Ok(match self.version() {
                Version { size: Some(size), etag: Some(etag) } => Some(Stamp::of_content(size, &etag)),
                _ => None,
            }),
            SampleLocation::Member { shard, offset, size } => {
                Ok(self.list.shards[shard as usize].stamp(offset, size))
            }
            SampleLocation::Row { .. } | SampleLocation::Memory(_) => Ok(None),
        }
    }

    /// Why the image is not the one that was planned, whose bytes are `bytes` and whose own file is as `stamp` says.
    pub(crate) fn change(&self, stamp: Option<Stamp>, bytes: &[u8]) -> Option<&'static str> {
        self.expected?.change(stamp, bytes)
    }

    /// Reads the image as it is stored. Members of shards and rows of arrays are read by themselves, at random.
    ///
    /// # Errors
    /// The file cannot be read, or a shard or an object is not what it was when it was listed.
    pub fn read(&self) -> io::Result<SampleContent<'a>> {
        if let Some(wanted) = self.wanted() {
            return Ok(SampleContent::Encoded(Vec::from(remote::get(&wanted)?.bytes).into()));
        }
        match self.place {
            SampleLocation::Named | SampleLocation::At(_) | SampleLocation::Object(_) => {
                fs::read(self.file()).map(|bytes| SampleContent::Encoded(bytes.into()))
            }
            SampleLocation::Member { shard, offset, size } => {
                let bytes = self.list.shards[shard as usize].read(offset, size)?;
                Ok(SampleContent::Encoded(bytes.into()))
            }
            SampleLocation::Row { array, row } => {
                // A row's number is below the array's length, which is a usize.
                let (stored, image) =
                    self.list.arrays[array as usize].read(row as usize).map_err(io::Error::other)?;
                Ok(SampleContent::Pixels { stored: stored.into(), image: Cow::Owned(image) })
            }
            SampleLocation::Memory(image) => Ok(match &*self.list.memory[image as usize] {
                MemoryImage::Encoded(bytes) => SampleContent::Encoded(Cow::Borrowed(bytes)),
                MemoryImage::Pixels(image) => SampleContent::Pixels {
                    stored: Cow::Borrowed(image.as_raw()),
                    image: Cow::Borrowed(image),
                },
            }),
        }
    }
}

impl fmt::Debug for Sample<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample").field("name", &self.name).field("label", &self.label).finish_non_exhaustive()
    }
}

/// The place of a path that is relative to `root`, absolute or an address.
pub(in crate::dataset) fn place_below(root: &Path, path: &str) -> PathBuf {
    if root == Path::new(".") || is_url(path) {
        PathBuf::from(path)
    } else if is_url(root) && !Path::new(path).is_absolute() {
        PathBuf::from(format!("{}/{path}", root.display()))
    } else {
        root.join(path)
    }
}
