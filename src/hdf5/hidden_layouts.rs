//! Virtual datasets as the crate hdf5-reader is shown them.
//!
//! The crate refuses the whole header of a dataset whose values lie in other files ("virtual storage layout"), and with it the
//! group that lists the dataset. So where it begins to read an object's header, the header is looked through first: a layout
//! message of that class is kept aside, by the header's address, and the crate sees an empty compact layout in its place.
//! Nothing else of the header changes. Formats: HDF5 File Format Specification version 3.0, "Data Object Headers" and "Data
//! Layout Message".

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::ops::Range;

use hdf5_reader::checksum::jenkins_lookup3;

use super::strings::little_endian;

/// Bytes of the pieces of one header at most.
const MAX_HEADER: usize = 8 << 20;
/// Pieces of one header at most.
const MAX_PIECES: usize = 64;
/// Virtual datasets of a file at most.
const MAX_VIRTUAL: usize = 10_000;

const LAYOUT: u16 = 0x0008;
const CONTINUATION: u16 = 0x0010;
/// Class of a virtual dataset's layout.
const VIRTUAL: u8 = 3;
/// The flag of a message that lies elsewhere.
const SHARED: u8 = 0x02;

/// Where a virtual dataset's mapping lies in the file's global heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VirtualLayout {
    pub(super) collection: u64,
    pub(super) index: u32,
}

/// The layouts of a file that were kept aside.
#[derive(Debug, Default)]
pub(super) struct HiddenLayouts {
    /// By the address of the dataset's header.
    layouts: HashMap<u64, VirtualLayout>,
    patches: Patches,
}

/// Bytes that stand at positions of the file instead of its own.
type Patches = Vec<(u64, Vec<u8>)>;

/// How a file writes addresses, and where its HDF5 part begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addressing {
    pub(super) base: u64,
    pub(super) offset_size: usize,
    pub(super) length_size: usize,
}

/// Reads bytes at a position.
pub(super) type ReadAt<'a> = dyn Fn(u64, usize) -> io::Result<Vec<u8>> + 'a;

impl HiddenLayouts {
    /// The layout of the dataset with that header.
    pub(super) fn get(&self, header: u64) -> Option<VirtualLayout> {
        self.layouts.get(&header).copied()
    }

    /// Puts what is shown in place of layouts into bytes that were read at `position`.
    pub(super) fn cover(&self, position: u64, bytes: &mut [u8]) {
        let end = position.saturating_add(bytes.len() as u64);
        for (start, patch) in &self.patches {
            let from = position.max(*start);
            let to = end.min(start.saturating_add(patch.len() as u64));
            if from < to {
                // Both differences are at most as large as the slices.
                let (here, there) = ((from - position) as usize, (from - start) as usize);
                let len = (to - from) as usize;
                bytes[here..here + len].copy_from_slice(&patch[there..there + len]);
            }
        }
    }

    /// Looks through the header at `position`. What cannot be understood is left to the crate, which says what is wrong.
    pub(super) fn look_through(&mut self, position: u64, at: Addressing, read: &ReadAt<'_>) {
        let Some(address) = position.checked_sub(at.base) else { return };
        if self.layouts.contains_key(&address) || self.layouts.len() >= MAX_VIRTUAL {
            return;
        }
        let header = HeaderPieces { at, read };
        if let Some((layout, patches)) = header.virtual_layout(position) {
            self.layouts.insert(address, layout);
            self.patches.extend(patches);
        }
    }
}

/// A header that is being looked through.
struct HeaderPieces<'a> {
    at: Addressing,
    read: &'a ReadAt<'a>,
}

/// Part of a header.
struct Piece {
    position: u64,
    bytes: Vec<u8>,
    /// Where the messages lie in it.
    messages: Range<usize>,
}

/// A message of a header.
struct Message<'a> {
    kind: u16,
    shared: bool,
    /// Where its data begin in the piece.
    start: usize,
    data: &'a [u8],
}

impl HeaderPieces<'_> {
    /// The virtual layout of a header, and what is to stand in its place.
    fn virtual_layout(&self, position: u64) -> Option<(VirtualLayout, Patches)> {
        let (first, version) = self.first(position)?;
        let (mut waiting, mut seen, mut size) = (VecDeque::new(), HashSet::new(), 0);
        let mut next = Some(first);
        while let Some(piece) = next {
            size += piece.bytes.len();
            let mut found = None;
            for message in messages(&piece, version).filter(|message| !message.shared) {
                match message.kind {
                    CONTINUATION => {
                        let place = self.continuation(message.data)?;
                        if seen.len() < MAX_PIECES && seen.insert(place) {
                            waiting.push_back(place);
                        }
                    }
                    LAYOUT => found = found.or(self.layout(&message)),
                    _ => {}
                }
            }
            if let Some((layout, start, shown)) = found {
                return Some((layout, patches(piece, version, start, shown)));
            }
            let (position, len) = waiting.pop_front()?;
            if size + len > MAX_HEADER {
                return None;
            }
            next = self.continued(position, len, version);
        }
        None
    }

    /// The first piece, and the version of the header: 1, or 2 with the flags.
    fn first(&self, position: u64) -> Option<(Piece, Version)> {
        let prefix = (self.read)(position, 16).ok()?;
        if prefix.starts_with(b"OHDR") {
            let flags = prefix[5];
            let width = 1_usize << (flags & 3);
            let start = 6 + if flags & 0x20 != 0 { 16 } else { 0 } + if flags & 0x10 != 0 { 4 } else { 0 };
            let sizes = (self.read)(position, start + width).ok()?;
            let size =
                usize::try_from(little_endian(&sizes[start..])).ok().filter(|&size| size <= MAX_HEADER)?;
            let messages = start + width..start + width + size;
            let bytes = (self.read)(position, messages.end + 4).ok()?;
            let piece = checked(Piece { position, bytes, messages })?;
            return Some((piece, Version::Two { with_order: flags & 4 != 0 }));
        }
        let size = little_endian(&prefix[8..12]) as usize;
        if prefix[0] != 1 || size > MAX_HEADER {
            return None;
        }
        let bytes = (self.read)(position, 16 + size).ok()?;
        Some((Piece { position, bytes, messages: 16..16 + size }, Version::One))
    }

    /// Where a header continues, and how many bytes there are.
    fn continuation(&self, data: &[u8]) -> Option<(u64, usize)> {
        let (address, rest) = data.split_at_checked(self.at.offset_size)?;
        let position = little_endian(address).checked_add(self.at.base)?;
        Some((position, usize::try_from(little_endian(rest.get(..self.at.length_size)?)).ok()?))
    }

    fn continued(&self, position: u64, size: usize, version: Version) -> Option<Piece> {
        let bytes = (self.read)(position, size).ok()?;
        match version {
            Version::One => Some(Piece { position, bytes, messages: 0..size }),
            Version::Two { .. } => checked(Piece { position, messages: 4..size.checked_sub(4)?, bytes }),
        }
    }

    /// A virtual layout, where it begins in its piece, and what is shown instead.
    fn layout(&self, message: &Message<'_>) -> Option<(VirtualLayout, usize, Vec<u8>)> {
        let data = message.data;
        let (&[version, VIRTUAL], rest) = (data.get(..2)?, data.get(2..)?) else { return None };
        if !(4..=5).contains(&version) {
            return None;
        }
        let (collection, rest) = rest.split_at_checked(self.at.offset_size)?;
        let index = little_endian(rest.get(..4)?) as u32;
        // Version 4, compact: the size of the data in two bytes, and the data.
        let size = u16::try_from(data.len().checked_sub(4)?).ok()?.to_le_bytes();
        let mut shown = vec![0; data.len()];
        shown[..4].copy_from_slice(&[4, 0, size[0], size[1]]);
        Some((VirtualLayout { collection: little_endian(collection), index }, message.start, shown))
    }
}

/// How a header is written.
#[derive(Clone, Copy)]
enum Version {
    One,
    Two {
        /// Whether messages say in which order they were made.
        with_order: bool,
    },
}

/// Makes sure that a piece of a header of version 2 is what was written.
fn checked(piece: Piece) -> Option<Piece> {
    let stored = piece.bytes.get(piece.messages.end..)?.first_chunk::<4>()?;
    let sound = jenkins_lookup3(piece.bytes.get(..piece.messages.end)?) == u32::from_le_bytes(*stored);
    sound.then_some(piece)
}

/// The messages of a piece, as far as they can be told apart.
fn messages(piece: &Piece, version: Version) -> impl Iterator<Item = Message<'_>> {
    let prefix = match version {
        Version::One => 8,
        Version::Two { with_order } => 4 + if with_order { 2 } else { 0 },
    };
    let bytes = piece.bytes.get(..piece.messages.end).unwrap_or_default();
    let mut at = piece.messages.start;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at + prefix)?;
        let (kind, size, flags) = match version {
            Version::One => (little_endian(&head[..2]) as u16, little_endian(&head[2..4]) as usize, head[4]),
            Version::Two { .. } => (u16::from(head[0]), little_endian(&head[1..3]) as usize, head[3]),
        };
        let start = at + prefix;
        let data = bytes.get(start..start + size)?;
        at = start + size;
        Some(Message { kind, shared: flags & SHARED != 0, start, data })
    })
}

/// What stands in place of a layout: the message, and the checksum of its piece.
fn patches(mut piece: Piece, version: Version, start: usize, shown: Vec<u8>) -> Patches {
    piece.bytes[start..start + shown.len()].copy_from_slice(&shown);
    let mut patches = vec![(piece.position + start as u64, shown)];
    if let Version::Two { .. } = version {
        let end = piece.messages.end;
        let checksum = jenkins_lookup3(&piece.bytes[..end]).to_le_bytes().to_vec();
        patches.push((piece.position + end as u64, checksum));
    }
    patches
}
