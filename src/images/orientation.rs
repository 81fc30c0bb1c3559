//! How a file says that its picture is to be turned, read as Pillow's `ImageOps.exif_transpose` reads it.
//!
//! EXIF's tag counts first, of whatever type its number is; where EXIF lacks it, XMP's `tiff:Orientation` counts. A value
//! beyond 1 to 8 turns nothing, and hides XMP's. HEIC, AVIF and JPEG XL turn by their own means, and their EXIF is not asked.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;
use image::metadata::Orientation;

use super::ifd::Directory;

/// The tag of EXIF and TIFF.
const ORIENTATION: u16 = 274;

/// TIFF's tag for XMP.
const XMP: u16 = 700;

/// Compressed texts in a PNG beyond this are left alone; EXIF and XMP are far smaller.
const MAX_TEXT: u64 = 1 << 20;

/// What a file knows of itself.
#[derive(Default)]
pub(super) struct OrientationMetadata<'a> {
    /// A small TIFF, perhaps behind `Exif\0\0`.
    pub(super) exif: Option<Cow<'a, [u8]>>,
    /// An XML text.
    pub(super) xmp: Option<Cow<'a, [u8]>>,
}

impl OrientationMetadata<'_> {
    /// How the picture is to be turned.
    pub(super) fn orientation(&self) -> Orientation {
        let from_xmp = || self.xmp.as_deref().map_or(Orientation::NoTransforms, of_xmp);
        let Some(mut exif) = self.exif.as_deref() else { return from_xmp() };
        // Some programs write the prefix twice.
        for _ in 0..2 {
            exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
        }
        if exif.is_empty() {
            return from_xmp();
        }
        // What is there and cannot be read hides XMP, too.
        Directory::read(exif).map_or(Orientation::NoTransforms, |exif| of_tag(&exif).unwrap_or_else(from_xmp))
    }
}

/// As the tags of a TIFF say.
pub(super) fn of_tiff(tiff: &Directory) -> Orientation {
    of_tag(tiff).or_else(|| tiff.data(XMP).map(of_xmp)).unwrap_or(Orientation::NoTransforms)
}

/// `None` where the tag is absent.
fn of_tag(directory: &Directory) -> Option<Orientation> {
    let value = directory.any_number(ORIENTATION)?;
    let whole = value.filter(|value| value.fract() == 0.0 && (0.0..=8.0).contains(value));
    Some(whole.and_then(|value| Orientation::from_exif(value as u8)).unwrap_or(Orientation::NoTransforms))
}

/// The first digit behind `tiff:Orientation="` or `tiff:Orientation>`.
fn of_xmp(xmp: &[u8]) -> Orientation {
    const NAME: &[u8] = b"tiff:Orientation";
    xmp.windows(NAME.len())
        .enumerate()
        .filter(|(_, window)| *window == NAME)
        .find_map(|(at, _)| {
            let rest = &xmp[at + NAME.len()..];
            let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
            value.first().filter(|digit| digit.is_ascii_digit())
        })
        .and_then(|digit| Orientation::from_exif(digit - b'0'))
        .unwrap_or(Orientation::NoTransforms)
}

/// Metadata of a PNG: the chunk eXIf, or the hexadecimal text that ImageMagick writes, and XMP. Of two, the later counts.
pub(super) fn of_png(bytes: &[u8]) -> OrientationMetadata<'_> {
    let mut metadata = OrientationMetadata::default();
    let mut profile = None;
    let mut rest = bytes.get(8..).unwrap_or_default();
    // A chunk: length (big-endian), kind, body, checksum.
    while let Some((&[a, b, c, d, ref kind @ ..], after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(body) = after.get(..length) else { break };
        match kind {
            b"eXIf" => metadata.exif = Some(Cow::Borrowed(body)),
            b"tEXt" | b"zTXt" | b"iTXt" => match png_text(kind, body) {
                Some((b"Raw profile type exif", text)) => profile = from_hexadecimal(&text),
                Some((b"XML:com.adobe.xmp", text)) => metadata.xmp = Some(text),
                _ => {}
            },
            b"IEND" => break,
            _ => {}
        }
        rest = after.get(length.saturating_add(4)..).unwrap_or_default();
    }
    metadata.exif = metadata.exif.or(profile.map(Cow::Owned));
    metadata
}

/// Keyword and text of one of PNG's three chunks for them.
fn png_text<'a>(kind: &[u8; 4], body: &'a [u8]) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
    let split = |bytes: &'a [u8]| {
        let end = bytes.iter().position(|&byte| byte == 0)?;
        Some((&bytes[..end], &bytes[end + 1..]))
    };
    let (keyword, rest) = split(body)?;
    let text = match (kind, rest) {
        (b"tEXt", text) => Cow::Borrowed(text),
        (b"zTXt", [0, packed @ ..]) => Cow::Owned(unpacked(packed)?),
        // Whether and how it is compressed, a language, the keyword in that language, the text.
        (b"iTXt", [is_packed, 0, rest @ ..]) => {
            let (_, text) = split(split(rest)?.1)?;
            if *is_packed == 0 { Cow::Borrowed(text) } else { Cow::Owned(unpacked(text)?) }
        }
        _ => return None,
    };
    Some((keyword, text))
}

fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(packed).take(MAX_TEXT + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MAX_TEXT).then_some(text)
}

/// The bytes of ImageMagick's raw profile: an empty line, the name, the length, then hexadecimal digits in lines.
fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .split(|&byte| byte == b'\n')
        .skip(3)
        .flatten()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|&byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    digits
        .len()
        .is_multiple_of(2)
        .then(|| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Metadata of a WebP, where its extended header says that there are some.
pub(super) fn of_webp(bytes: &[u8]) -> OrientationMetadata<'_> {
    const HAS_EXIF: u8 = 8;
    const HAS_XMP: u8 = 4;

    let mut metadata = OrientationMetadata::default();
    let mut flags = 0;
    let mut rest = bytes.get(12..).unwrap_or_default();
    // A chunk: kind, length (little-endian), body, a byte to make it even.
    while let Some((&[ref kind @ .., a, b, c, d], after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some(body) = after.get(..length) else { break };
        match kind {
            b"VP8X" => flags = body.first().copied().unwrap_or_default(),
            b"EXIF" if flags & HAS_EXIF != 0 => {
                metadata.exif.get_or_insert(Cow::Borrowed(body));
            }
            b"XMP " if flags & HAS_XMP != 0 => {
                metadata.xmp.get_or_insert(Cow::Borrowed(body));
            }
            _ => {}
        }
        rest = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    metadata
}
