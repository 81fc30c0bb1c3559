//! The samples of a set, held so that a million of them fit: all names in one text, and a small record each.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The samples of a set. One takes 40 bytes and the length of its name, and where its path is not simply its name
/// below the set's root, the length of that path.
#[derive(Clone, PartialEq, Eq)]
pub struct Samples {
    root: PathBuf,
    /// Names, and the paths that differ from them, one after another.
    text: String,
    entries: Vec<Entry>,
}

/// One image.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    /// Relative to the set's root, '/'-separated.
    pub name: &'a str,
    /// Index into [`SampleSet::class_names`](super::SampleSet::class_names); `None` where the class is unknown.
    pub label: Option<usize>,
    list: &'a Samples,
    place: Place,
}

/// A stretch of [`Samples::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Text {
    start: usize,
    len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    name_start: usize,
    name_len: u32,
    /// [`NO_LABEL`] where the class is unknown.
    label: u32,
    place: Place,
}

// What the documentation of [`Samples`] promises.
const _: () = assert!(size_of::<Entry>() <= 40);

const NO_LABEL: u32 = u32::MAX;

/// Where an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the file that has the sample's name, below the root.
    Named,
    /// In the file at this path, which is relative to the root or absolute.
    At(Text),
}

/// What a sample holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The bytes of an image file.
    Encoded(Vec<u8>),
}

impl Content {
    /// The bytes whose SHA-256 stands for the image.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Encoded(bytes) => bytes,
        }
    }
}

impl Samples {
    /// No samples yet; paths will be relative to `root`.
    pub(super) fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), text: String::new(), entries: Vec::new() }
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
        Sample { name: entry.name(&self.text), label, list: self, place: entry.place }
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

    /// Adds an image file at `path`, which is relative to the root or absolute.
    pub(super) fn push_file(&mut self, name: &str, path: &str, label: Option<usize>) {
        let name_text = self.add_text(name);
        let place = if path == name { Place::Named } else { Place::At(self.add_text(path)) };
        self.push(name_text, label, place);
    }

    /// Sorts the samples from `start` on by name, bytewise.
    pub(super) fn sort_from(&mut self, start: usize) {
        let text = &self.text;
        self.entries[start..].sort_unstable_by(|a, b| a.name(text).cmp(b.name(text)));
    }

    /// Gives back the memory that further samples would have used.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    /// Labels every sample by its name.
    pub(super) fn label_by_name(&mut self, label_of: impl Fn(&str) -> Option<usize>) {
        for entry in &mut self.entries {
            entry.label = stored(label_of(entry.name(&self.text)));
        }
    }

    fn push(&mut self, name: Text, label: Option<usize>, place: Place) {
        let Text { start: name_start, len: name_len } = name;
        self.entries.push(Entry { name_start, name_len, label: stored(label), place });
    }

    fn add_text(&mut self, text: &str) -> Text {
        let start = self.text.len();
        let len = u32::try_from(text.len()).expect("no file system has names of 4 GiB");
        self.text.push_str(text);
        Text { start, len }
    }

    fn text(&self, Text { start, len }: Text) -> &str {
        &self.text[start..][..len as usize]
    }
}

impl Entry {
    fn name<'a>(&self, text: &'a str) -> &'a str {
        &text[self.name_start..][..self.name_len as usize]
    }
}

fn stored(label: Option<usize>) -> u32 {
    label.and_then(|label| u32::try_from(label).ok()).unwrap_or(NO_LABEL)
}

impl Sample<'_> {
    /// The file that holds the image.
    pub fn file(&self) -> PathBuf {
        let path = match self.place {
            Place::Named => self.name,
            Place::At(path) => self.list.text(path),
        };
        if self.list.root == Path::new(".") { PathBuf::from(path) } else { self.list.root.join(path) }
    }

    /// Reads the image as it is stored.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> io::Result<Content> {
        match self.place {
            Place::Named | Place::At(_) => fs::read(self.file()).map(Content::Encoded),
        }
    }
}

impl fmt::Debug for Sample<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample").field("name", &self.name).field("label", &self.label).finish_non_exhaustive()
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
