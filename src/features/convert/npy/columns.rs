//! Arrays with one value a row: texts and whole numbers.

use std::io::{self, Read, Write};
use std::path::Path;

use super::{DType, NpyHeader};
use crate::features::convert::ConvertError;

/// All texts of an array.
pub(in crate::features::convert) fn read_texts(
    reader: &mut dyn Read,
    header: &NpyHeader,
    path: &Path,
    what: &str,
) -> Result<Vec<String>, ConvertError> {
    let mut texts = Vec::new();
    each_value(reader, header, path, what, &mut |bytes| {
        let text = header.dtype.text_of(bytes);
        texts.push(
            text.ok_or_else(|| ConvertError::unusable(path, format!("a text of {what} is not Unicode")))?,
        );
        Ok(())
    })?;
    Ok(texts)
}

/// All whole numbers of an array.
pub(in crate::features::convert) fn read_integers(
    reader: &mut dyn Read,
    header: &NpyHeader,
    path: &Path,
    what: &str,
) -> Result<Vec<i64>, ConvertError> {
    let mut numbers = Vec::new();
    each_value(reader, header, path, what, &mut |bytes| {
        let number = header.dtype.integer(bytes);
        numbers.push(
            number.ok_or_else(|| ConvertError::unusable(path, format!("{what} holds too large a number")))?,
        );
        Ok(())
    })?;
    Ok(numbers)
}

/// All numbers of an array.
pub(in crate::features::convert) fn read_floats(
    reader: &mut dyn Read,
    header: &NpyHeader,
    path: &Path,
    what: &str,
) -> Result<Vec<f32>, ConvertError> {
    let mut numbers = Vec::new();
    each_value(reader, header, path, what, &mut |bytes| {
        header.dtype.decode(bytes, &mut numbers);
        Ok(())
    })?;
    Ok(numbers)
}

/// Memory grows with what is read, not with what the header claims.
fn each_value(
    reader: &mut dyn Read,
    header: &NpyHeader,
    path: &Path,
    what: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let size = header.dtype.size;
    let impossible = || ConvertError::damaged(path, format!("{what} claims an impossible size"));
    let mut left = header.bytes().ok_or_else(impossible)?;
    let mut buffer = vec![0; ((1 << 16) / size.max(1)).max(1) * size];
    while left > 0 {
        let bytes = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let part = &mut buffer[..bytes];
        reader.read_exact(part).map_err(ConvertError::cut(path, format!("{what} ends too early")))?;
        part.chunks_exact(size).try_for_each(&mut *take)?;
        left -= bytes as u64;
    }
    Ok(())
}

/// Writes texts as an array of as many Unicode characters as the longest has.
pub(in crate::features::convert) fn write_texts<'t>(
    out: &mut dyn Write,
    mut texts: impl Iterator<Item = &'t str> + Clone,
) -> io::Result<()> {
    let longest = texts.clone().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    NpyHeader::write(out, DType::text(longest), &[texts.clone().count()])?;
    texts.try_for_each(|text| write_text(out, text, longest))
}

/// Writes one text as an array of no dimension.
pub(in crate::features::convert) fn write_one_text(out: &mut dyn Write, text: &str) -> io::Result<()> {
    let length = text.chars().count().max(1);
    NpyHeader::write(out, DType::text(length), &[])?;
    write_text(out, text, length)
}

fn write_text(out: &mut dyn Write, text: &str, characters: usize) -> io::Result<()> {
    let units = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(characters);
    let bytes: Vec<u8> = units.flat_map(u32::to_le_bytes).collect();
    out.write_all(&bytes)
}
