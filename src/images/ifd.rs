//! The directory of tags that a TIFF begins with. EXIF is one as well.
//!
//! Only the first directory is read, of the classic form or of BigTIFF's, with the values that lie in the file. What a tag
//! means is its reader's business.

/// The tags of the first directory.
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    little_endian: bool,
    big: bool,
    entries: Vec<IfdEntry<'a>>,
    next: Option<u64>,
}

/// A tag with its values, undecoded.
struct IfdEntry<'a> {
    tag: u16,
    kind: u16,
    data: &'a [u8],
    /// Where the entry itself lies.
    at: usize,
}

impl<'a> Directory<'a> {
    /// The first directory of a TIFF, a BigTIFF or the body of EXIF; `None` where the bytes begin otherwise.
    ///
    /// As Pillow has it: the first of two entries of a tag counts, a type that is not known or values that do not fit into
    /// the file are passed over, and values behind the file's end are the end of the directory.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut directory = Self::empty(bytes)?;
        let width = if directory.big { 8 } else { 4 };
        if let Some(start) = directory.unsigned(if directory.big { 8 } else { 4 }, width) {
            directory.fill(start);
        }
        Some(directory)
    }

    /// The directory of a TIFF that begins at `offset`.
    pub(super) fn read_at(bytes: &'a [u8], offset: u64) -> Option<Self> {
        let mut directory = Self::empty(bytes)?;
        directory.fill(offset)?;
        Some(directory)
    }

    fn empty(bytes: &'a [u8]) -> Option<Self> {
        let (little_endian, big) = match bytes.get(..4)? {
            // The last two have the other half's order, and some cameras write them.
            b"II*\0" | b"II\0*" => (true, false),
            b"MM\0*" | b"MM*\0" => (false, false),
            b"II+\0" => (true, true),
            b"MM\0+" => (false, true),
            _ => return None,
        };
        Some(Self { bytes, little_endian, big, entries: Vec::new(), next: None })
    }

    /// Reads entries until there are no more, or the file ends.
    fn fill(&mut self, start: u64) -> Option<()> {
        let width = if self.big { 8 } else { 4 };
        let start = usize::try_from(start).ok()?;
        let (count_width, entry_width) = if self.big { (8, 20) } else { (2, 12) };
        let count = self.offset(start, count_width)?;
        let first = start.checked_add(count_width)?;
        let mut outside = 0_usize;
        for index in 0..count {
            let at = index.checked_mul(entry_width).and_then(|skipped| first.checked_add(skipped))?;
            self.bytes.get(at..at.checked_add(entry_width)?)?;
            let (tag, kind) = (self.unsigned(at, 2)? as u16, self.unsigned(at + 2, 2)? as u16);
            let Some(unit) = width_of(kind) else { continue };
            if self.entries.iter().any(|entry| entry.tag == tag) {
                continue;
            }
            let value = at + 4 + width;
            let Some(length) = self.offset(at + 4, width)?.checked_mul(unit) else { continue };
            let start = if length <= width {
                value
            } else {
                // More than there is in all: a damaged entry, or one that was made to take memory.
                outside = outside.saturating_add(length);
                if outside > self.bytes.len() {
                    continue;
                }
                self.offset(value, width)?
            };
            let data = self.bytes.get(start..start.checked_add(length)?)?;
            if !data.is_empty() {
                self.entries.push(IfdEntry { tag, kind, data, at });
            }
        }
        let end = count.checked_mul(entry_width).and_then(|length| first.checked_add(length))?;
        self.next = self.unsigned(end, width).filter(|&next| next != 0);
        Some(())
    }

    /// Where the next directory begins.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// Makes one number of a tag's values, in a copy of the file.
    pub(super) fn set(&self, copy: &mut [u8], tag: u16, value: u16) {
        let Some(at) = self.find(tag).map(|entry| entry.at) else { return };
        let width = if self.big { 8 } else { 4 };
        let two = |number: u16| if self.little_endian { number.to_le_bytes() } else { number.to_be_bytes() };
        let mut entry = vec![0; 2 + 2 * width];
        entry[..2].copy_from_slice(&two(SHORT));
        // The count, of `width` bytes.
        let low = if self.little_endian { 2 } else { width };
        entry[low..low + 2].copy_from_slice(&two(1));
        // A short stands at the beginning of its place.
        entry[2 + width..4 + width].copy_from_slice(&two(value));
        if let Some(place) = copy.get_mut(at + 2..at + 4 + 2 * width) {
            place.copy_from_slice(&entry);
        }
    }

    /// The bytes of a tag's values.
    pub(super) fn data(&self, tag: u16) -> Option<&'a [u8]> {
        self.find(tag).map(|entry| entry.data)
    }

    /// A tag's values, where they are whole numbers without sign.
    pub(super) fn numbers(&self, tag: u16) -> Option<Vec<u64>> {
        let entry = self.find(tag)?;
        let width = match entry.kind {
            BYTE | UNDEFINED => 1,
            SHORT => 2,
            LONG | IFD => 4,
            LONG8 => 8,
            _ => return None,
        };
        Some(entry.data.chunks_exact(width).map(|data| self.number(data)).collect())
    }

    /// The first of [`numbers`](Self::numbers).
    pub(super) fn first(&self, tag: u16) -> Option<u64> {
        self.numbers(tag)?.first().copied()
    }

    /// A tag's values, where they are fractions without sign.
    pub(super) fn rationals(&self, tag: u16) -> Option<Vec<f64>> {
        let entry = self.find(tag).filter(|entry| entry.kind == RATIONAL)?;
        let value = |data: &[u8]| self.number(&data[..4]) as f64 / self.number(&data[4..]) as f64;
        Some(entry.data.chunks_exact(8).map(value).collect())
    }

    /// The first value of a tag of any type that is a number; `Some(None)` where it is there, but none.
    pub(super) fn any_number(&self, tag: u16) -> Option<Option<f64>> {
        let entry = self.find(tag)?;
        let width = width_of(entry.kind)?;
        let data = entry.data.get(..width)?;
        let signed = |data: &[u8]| {
            let unused = 64 - 8 * data.len();
            ((self.number(data) << unused) as i64 >> unused) as f64
        };
        Some(match entry.kind {
            SHORT | LONG | IFD | LONG8 => Some(self.number(data) as f64),
            SIGNED_BYTE | SIGNED_SHORT | SIGNED_LONG => Some(signed(data)),
            RATIONAL => Some(self.number(&data[..4]) as f64 / self.number(&data[4..]) as f64),
            SIGNED_RATIONAL => Some(signed(&data[..4]) / signed(&data[4..])),
            FLOAT => Some(f64::from(f32::from_bits(self.number(data) as u32))),
            DOUBLE => Some(f64::from_bits(self.number(data))),
            _ => None,
        })
    }

    fn find(&self, tag: u16) -> Option<&IfdEntry<'a>> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    fn number(&self, data: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.little_endian { data.iter().rev().fold(0, add) } else { data.iter().fold(0, add) }
    }

    fn unsigned(&self, at: usize, width: usize) -> Option<u64> {
        self.bytes.get(at..at.checked_add(width)?).map(|data| self.number(data))
    }

    fn offset(&self, at: usize, width: usize) -> Option<usize> {
        usize::try_from(self.unsigned(at, width)?).ok()
    }
}

const BYTE: u16 = 1;
const ASCII: u16 = 2;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
const SIGNED_BYTE: u16 = 6;
const UNDEFINED: u16 = 7;
const SIGNED_SHORT: u16 = 8;
const SIGNED_LONG: u16 = 9;
const SIGNED_RATIONAL: u16 = 10;
const FLOAT: u16 = 11;
const DOUBLE: u16 = 12;
const IFD: u16 = 13;
const LONG8: u16 = 16;

/// Bytes of a value of a type.
fn width_of(kind: u16) -> Option<usize> {
    Some(match kind {
        BYTE | ASCII | SIGNED_BYTE | UNDEFINED => 1,
        SHORT | SIGNED_SHORT => 2,
        LONG | SIGNED_LONG | FLOAT | IFD => 4,
        RATIONAL | SIGNED_RATIONAL | DOUBLE | LONG8 => 8,
        _ => return None,
    })
}
