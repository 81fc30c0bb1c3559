//! The samples of a set, held so that a million of them fit: all names in one text, and a small record each.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;

use super::object_state::{ObjectState, PackedEtag, md5_of};
use super::record::ExpectedImage;
use super::shards::Shard;
use crate::dataset::ImageArray;
pub(super) use sample::place_below;

mod sample;

/// The samples of a set. One takes 40 bytes and the length of its name, and where it is a file whose path is not
/// simply its name below the set's root, the length of that path; an object that was listed in a bucket 24 bytes more.
#[derive(Clone)]
pub struct SampleList {
    root: PathBuf,
    /// Names, and the paths that differ from them, one after another, in blocks that never move.
    text: Vec<String>,
    entries: Vec<SampleEntry>,
    objects: Vec<ObjectState>,
    shards: Vec<Shard>,
    arrays: Vec<Arc<ImageArray>>,
    memory: Vec<Arc<MemoryImage>>,
    /// What each image has to be still; empty where nothing is expected of any.
    expected: Vec<ExpectedImage>,
}

/// An image that lies in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryImage {
    /// The bytes of an image file.
    Encoded(Vec<u8>),
    /// Decoded pixels.
    Pixels(RgbImage),
}

/// One image.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    /// Relative to the set's root, '/'-separated.
    pub name: &'a str,
    /// Index into [`Dataset::class_names`](super::Dataset::class_names); `None` where the class is unknown.
    pub label: Option<usize>,
    list: &'a SampleList,
    place: SampleLocation,
    expected: Option<&'a ExpectedImage>,
}

/// A stretch of [`SampleList::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TextSpan {
    block: u32,
    start: u32,
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct SampleEntry {
    name: TextSpan,
    /// [`NO_LABEL`] where the class is unknown.
    label: u32,
    place: SampleLocation,
}

// What the documentation of [`SampleList`] promises.
const _: () = assert!(size_of::<SampleEntry>() <= 40);

const NO_LABEL: u32 = u32::MAX;

/// Bytes of a block of [`SampleList::text`].
const BLOCK: usize = 1 << 20;

/// Where an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SampleLocation {
    /// In the file that has the sample's name, below the root.
    Named,
    /// In the file at this path, which is relative to the root, absolute or an address.
    At(TextSpan),
    /// In the object of the sample's name below the root, which is an address; it was listed.
    Object(u32),
    /// In a tar shard, so many bytes from its beginning.
    Member { shard: u32, offset: u64, size: u32 },
    /// A row of an array.
    Row { array: u32, row: u64 },
    /// One of the images in memory.
    Memory(u32),
}

/// What a sample holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleContent<'a> {
    /// The bytes of an image file.
    Encoded(Cow<'a, [u8]>),
    /// A row of an array, or pixels in memory.
    Pixels {
        /// The bytes as they are stored.
        stored: Cow<'a, [u8]>,
        /// The same as 8-bit RGB.
        image: Cow<'a, RgbImage>,
    },
}

impl SampleContent<'_> {
    /// The bytes whose SHA-256 stands for the image.
    pub fn bytes(&self) -> &[u8] {
        match self {
            SampleContent::Encoded(bytes) => bytes,
            SampleContent::Pixels { stored, .. } => stored,
        }
    }
}

impl SampleList {
    /// No samples yet; paths will be relative to `root`.
    pub(super) fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            text: Vec::new(),
            entries: Vec::new(),
            objects: Vec::new(),
            shards: Vec::new(),
            arrays: Vec::new(),
            memory: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// What paths are relative to: the folder, the manifest's folder, or "." for paths given one by one.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sample at `index`.
    ///
    /// # Panics
    /// `index` is not below [`len`](Self::len), as with a slice.
    pub fn get(&self, index: usize) -> Sample<'_> {
        let entry = &self.entries[index];
        let label = (entry.label != NO_LABEL).then_some(entry.label as usize);
        let expected = self.expected.get(index);
        Sample { name: self.text(entry.name), label, list: self, place: entry.place, expected }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Sample<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All of them, in order, `size` at a time.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = Vec<Sample<'_>>> {
        let start_of_each = (0..self.len()).step_by(size);
        start_of_each.map(move |start| (start..self.len().min(start + size)).map(|at| self.get(at)).collect())
    }

    /// Takes every sample's class for unknown.
    pub fn forget_labels(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.label = NO_LABEL);
    }

    /// Drops the samples of the classes that are not to be kept, and numbers the others anew. Samples without a class stay.
    pub(super) fn keep_classes(&mut self, keep: &[bool]) {
        let mut renumbered = Vec::with_capacity(keep.len());
        let mut next = 0;
        for &keep in keep {
            renumbered.push(keep.then_some(next));
            next += u32::from(keep);
        }
        self.entries.retain_mut(|entry| {
            if entry.label == NO_LABEL {
                return true;
            }
            let new = renumbered[entry.label as usize];
            entry.label = new.unwrap_or(entry.label);
            new.is_some()
        });
    }

    /// Adds an image file at `path`, which is relative to the root, absolute or an address.
    pub(super) fn push_file(&mut self, name: &str, path: &str, label: Option<usize>) {
        let name_text = self.add_text(name);
        let place =
            if path == name { SampleLocation::Named } else { SampleLocation::At(self.add_text(path)) };
        self.push(name_text, label, place);
    }

    /// Adds the object of this name below the root, which is an address, as it was listed.
    pub(super) fn push_object(&mut self, name: &str, size: u32, etag: Option<&str>, label: Option<usize>) {
        let name = self.add_text(name);
        let etag = match etag.map(|etag| (etag, md5_of(etag))) {
            None => PackedEtag::Absent,
            Some((_, Some(md5))) => PackedEtag::Md5(md5),
            Some((etag, None)) => PackedEtag::Text(self.add_text(etag)),
        };
        self.objects.push(ObjectState { size, etag });
        let object = stored(Some(self.objects.len() - 1));
        self.push(name, label, SampleLocation::Object(object));
    }

    /// Makes a tar shard known; gives its number.
    pub(super) fn add_shard(&mut self, shard: Shard) -> u32 {
        self.shards.push(shard);
        stored(Some(self.shards.len() - 1))
    }

    /// Adds the member of a shard that begins at `offset`.
    pub(super) fn push_member(
        &mut self,
        name: &str,
        shard: u32,
        offset: u64,
        size: u32,
        label: Option<usize>,
    ) {
        let name = self.add_text(name);
        self.push(name, label, SampleLocation::Member { shard, offset, size });
    }

    /// Makes an array known; gives its number.
    pub(super) fn add_array(&mut self, array: &Arc<ImageArray>) -> u32 {
        self.arrays.push(Arc::clone(array));
        stored(Some(self.arrays.len() - 1))
    }

    /// Adds a row of an array; `false` if there is no such row.
    pub(super) fn push_row(&mut self, name: &str, array: u32, row: u64, label: Option<usize>) -> bool {
        if row >= self.arrays[array as usize].rows() as u64 {
            return false;
        }
        let name = self.add_text(name);
        self.push(name, label, SampleLocation::Row { array, row });
        true
    }

    /// Says what the image that was added last has to be still. It is said of every image or of none.
    pub(super) fn expect(&mut self, image: ExpectedImage) {
        self.expected.push(image);
    }

    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub(super) fn arrays(&self) -> &[Arc<ImageArray>] {
        &self.arrays
    }

    pub(super) fn location(&self, index: usize) -> SampleLocation {
        self.entries[index].place
    }

    /// Adds all rows of an array, named by `name` and labelled by `label`.
    pub(super) fn push_rows(
        &mut self,
        array: &Arc<ImageArray>,
        name: impl Fn(usize) -> String,
        label: impl Fn(usize) -> Option<usize>,
    ) {
        let rows = array.rows();
        let array = self.add_array(array);
        for row in 0..rows {
            let name = self.add_text(&name(row));
            self.push(name, label(row), SampleLocation::Row { array, row: row as u64 });
        }
    }

    /// Adds an image that lies in memory.
    pub(super) fn push_memory(&mut self, name: &str, image: MemoryImage) {
        self.memory.push(Arc::new(image));
        let (name, image) = (self.add_text(name), stored(Some(self.memory.len() - 1)));
        self.push(name, None, SampleLocation::Memory(image));
    }

    /// Sorts the samples from `start` on by name, bytewise; those of one name by their place.
    pub(super) fn sort_from(&mut self, start: usize) {
        let text = &self.text;
        self.entries[start..].sort_unstable_by(|a, b| {
            a.name.of(text).cmp(b.name.of(text)).then_with(|| a.place.cmp(&b.place))
        });
    }

    /// Keeps the samples from `start` on that `keep` says so of; it sees each with the one that was kept before it.
    pub(super) fn retain_from(
        &mut self,
        start: usize,
        mut keep: impl FnMut(Option<Sample<'_>>, Sample<'_>) -> bool,
    ) {
        let mut kept = start;
        for index in start..self.len() {
            let before = (kept > start).then(|| self.get(kept - 1));
            if keep(before, self.get(index)) {
                self.entries.swap(kept, index);
                kept += 1;
            }
        }
        self.entries.truncate(kept);
    }

    /// Gives back the memory that further samples would have used.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Labels every sample by its name.
    pub(super) fn label_by_name(&mut self, label_of: impl Fn(&str) -> Option<usize>) {
        for entry in &mut self.entries {
            entry.label = stored(label_of(entry.name.of(&self.text)));
        }
    }

    /// Labels the samples from `start` on.
    pub(super) fn label_from(&mut self, start: usize, labels: &[Option<usize>]) {
        for (entry, &label) in self.entries[start..].iter_mut().zip(labels) {
            entry.label = stored(label);
        }
    }

    /// Gives labels other numbers.
    pub(super) fn renumber_labels(&mut self, new: impl Fn(usize) -> Option<usize>) {
        for entry in self.entries.iter_mut().filter(|entry| entry.label != NO_LABEL) {
            entry.label = stored(new(entry.label as usize));
        }
    }

    fn push(&mut self, name: TextSpan, label: Option<usize>, place: SampleLocation) {
        self.entries.push(SampleEntry { name, label: stored(label), place });
    }

    fn add_text(&mut self, text: &str) -> TextSpan {
        let has_room = |block: &String| block.capacity() - block.len() >= text.len();
        if !self.text.last().is_some_and(has_room) {
            self.text.push(String::with_capacity(BLOCK.max(text.len())));
        }
        let number = self.text.len() - 1;
        let block = &mut self.text[number];
        let start = block.len();
        block.push_str(text);
        let small = |size: usize| u32::try_from(size).expect("names are limited to a few kilobytes");
        TextSpan { block: small(number), start: small(start), len: small(text.len()) }
    }

    pub(super) fn text(&self, text: TextSpan) -> &str {
        text.of(&self.text)
    }
}

impl TextSpan {
    fn of(self, blocks: &[String]) -> &str {
        &blocks[self.block as usize][self.start as usize..][..self.len as usize]
    }
}

fn stored(label: Option<usize>) -> u32 {
    label.and_then(|label| u32::try_from(label).ok()).unwrap_or(NO_LABEL)
}

impl fmt::Debug for SampleList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
