//! JPEG in TIFF: every strip or tile is a JPEG, with tables that all of them share.

use image::RgbImage;

use super::super::decode::{DecodeError, DecodeOptions, check_pixels};
use super::super::ifd::Directory;
use super::super::jpeg::{JpegColours, decode_chunk};
use super::layout::{PageLayout, Photometric, chunks};

/// The page, put together from its strips or tiles.
pub(super) fn decode(
    bytes: &[u8],
    directory: &Directory,
    layout: &PageLayout,
    name: &'static str,
    options: &DecodeOptions,
) -> Result<RgbImage, DecodeError> {
    const PLANAR: u16 = 284;
    const JPEG_TABLES: u16 = 347;
    let damaged = || DecodeError::Damaged { format: name };
    let colours = match (layout.photometric, layout.samples) {
        (Photometric::BlackIsZero, 1) => JpegColours::Grey,
        (Photometric::Rgb, 3) => JpegColours::Rgb,
        (Photometric::YCbCr, 3) => JpegColours::YCbCr,
        _ => return Err(DecodeError::unsupported(format!("{name} with JPEG of {} bands", layout.samples))),
    };
    if layout.samples > 1 && directory.first(PLANAR) == Some(2) {
        return Err(DecodeError::unsupported(format!("{name} with a JPEG for each colour")));
    }
    // All but their end mark; a chunk's start mark is left out for it.
    let tables = directory.data(JPEG_TABLES).and_then(|tables| tables.strip_suffix(b"\xff\xd9"));
    let size = |tag| {
        directory.first(tag).and_then(|length| usize::try_from(length).ok()).filter(|&length| length > 0)
    };
    let (width, height) = (layout.width as usize, layout.height as usize);
    let (chunk_width, chunk_height) = match (size(322), size(323)) {
        (Some(width), Some(height)) => (width, height),
        _ => (width, size(278).unwrap_or(height).min(height)),
    };
    let across = width.div_ceil(chunk_width);
    let chunks = chunks(directory);
    if chunks.len() < across * height.div_ceil(chunk_height) {
        return Err(damaged());
    }
    let mut image = RgbImage::new(layout.width, layout.height);
    for (index, (start, length)) in
        chunks.into_iter().take(across * height.div_ceil(chunk_height)).enumerate()
    {
        let (left, top) = (index % across * chunk_width, index / across * chunk_height);
        let chunk = start.checked_add(length).and_then(|end| bytes.get(start..end)).ok_or_else(damaged)?;
        let stream = match (tables, chunk.strip_prefix(b"\xff\xd8")) {
            (Some(tables), Some(rest)) => [tables, rest].concat(),
            (_, Some(_)) => chunk.to_vec(),
            (_, None) => return Err(damaged()),
        };
        let part = decode_chunk(&stream, colours, options)?;
        let (columns, rows) = (chunk_width.min(width - left), chunk_height.min(height - top));
        if (part.width() as usize) < columns || (part.height() as usize) < rows {
            return Err(damaged());
        }
        check_pixels(part.width(), part.height(), options.max_pixels)?;
        for row in 0..rows {
            let from = 3 * row * part.width() as usize;
            let to = 3 * ((top + row) * width + left);
            image.as_flat_samples_mut().samples[to..to + 3 * columns]
                .copy_from_slice(&part.as_raw()[from..from + 3 * columns]);
        }
    }
    Ok(image)
}
