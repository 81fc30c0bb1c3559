//! Texts: of fixed length where they stand, or in the file's global heap, which references point into.

use hdf5_reader::global_heap::GlobalHeapCollection;

use super::element_type::Padding;
use super::source::{Hdf5Source, guarded};
use super::{ElementType, Hdf5Error};

/// Where a text lies in the heap.
struct HeapReference {
    length: usize,
    collection: u64,
    index: u32,
}

/// The texts whose elements `bytes` are.
pub(super) fn read(
    kind: &ElementType,
    bytes: &[u8],
    source: &Hdf5Source,
    object: &str,
) -> Result<Vec<String>, Hdf5Error> {
    match kind {
        ElementType::FixedText { size, padding, .. } => {
            bytes.chunks_exact((*size).max(1)).map(|text| checked(unpadded(text, *padding), object)).collect()
        }
        ElementType::Text { .. } => from_heap(bytes, source, object),
        other => Err(Hdf5Error::WrongType { found: other.to_string(), expected: "texts".to_owned() }),
    }
}

fn from_heap(bytes: &[u8], source: &Hdf5Source, object: &str) -> Result<Vec<String>, Hdf5Error> {
    let width = usize::from(source.offset_size());
    let references: Vec<HeapReference> = bytes
        .chunks_exact(width + 8)
        .map(|reference| {
            let (length, rest) = reference.split_at(4);
            let (collection, index) = rest.split_at(width);
            HeapReference {
                length: little_endian(length) as usize,
                collection: little_endian(collection),
                index: little_endian(index) as u32,
            }
        })
        .collect();
    // Each collection is read once, whatever the order of the texts; writers mostly put them in order.
    let by_collection = |&row: &usize| references[row].collection;
    let mut rows: Vec<usize> = (0..references.len()).collect();
    if !rows.is_sorted_by_key(by_collection) {
        rows.sort_by_key(by_collection);
    }
    let mut texts = vec![String::new(); references.len()];
    // Texts that share their bytes would make a small file need much memory.
    let mut room = source.len();
    let mut open: Option<(u64, GlobalHeapCollection)> = None;
    for row in rows {
        let HeapReference { length, collection, index } = references[row];
        if length == 0 || index == 0 || source.is_undefined(collection) {
            continue;
        }
        if open.as_ref().is_none_or(|(address, _)| *address != collection) {
            let (offsets, lengths) = (source.offset_size(), source.length_size());
            let read =
                || GlobalHeapCollection::parse_at_storage(&source.structure(), collection, offsets, lengths);
            open = Some((collection, guarded(object, read)?));
        }
        let heap = open.as_ref().map(|(_, heap)| heap);
        let object_of = |index| heap?.get_object(u16::try_from(index).ok()?)?.data.get(..length);
        let text = object_of(index).ok_or_else(|| Hdf5Error::damaged(object, "a text points to nowhere"))?;
        room = room
            .checked_sub(length as u64)
            .ok_or_else(|| Hdf5Error::damaged(object, "its texts are larger than the file"))?;
        texts[row] = checked(unpadded(text, Padding::Null), object)?;
    }
    Ok(texts)
}

/// A text without what fills its room.
fn unpadded(text: &[u8], padding: Padding) -> &[u8] {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    match padding {
        Padding::Null => &text[..end],
        Padding::Space => text[..end].trim_ascii_end(),
    }
}

/// HDF5 does not promise that text is UTF-8, whatever its type says.
fn checked(text: &[u8], object: &str) -> Result<String, Hdf5Error> {
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| Hdf5Error::NotUtf8 { object: object.to_owned() })
}

/// A number of up to eight bytes.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
