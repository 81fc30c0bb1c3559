//! Which image format the first bytes of a file are of.
//!
//! A name tells nothing: browsers save JPEGs as `.jfif`, phones and cloud drives rename, crawlers leave extensions out. So
//! the first bytes decide which files of a folder are images, and what a format that is not read is called. They do not
//! tell whether the file is whole.

/// As many first bytes as [`sniff`] makes use of.
pub const HEAD: usize = 4096;

/// A format of images that first bytes tell, read by this program or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// Baseline, progressive, lossless and JPEG-LS alike.
    Jpeg,
    /// PNG.
    Png,
    /// GIF.
    Gif,
    /// WebP.
    WebP,
    /// BMP.
    Bmp,
    /// TIFF.
    Tiff,
    /// BigTIFF.
    BigTiff,
    /// HEIC and the other kinds of HEIF but AVIF.
    Heif,
    /// AVIF.
    Avif,
    /// JPEG 2000.
    Jpeg2000,
    /// JPEG XL.
    JpegXl,
    /// JPEG XR.
    JpegXr,
    /// SVG.
    Svg,
    /// DNG and what cameras of many makers write.
    CameraRaw,
    /// Photoshop's PSD.
    Psd,
    /// GIMP's XCF.
    Xcf,
    /// OpenEXR.
    OpenExr,
    /// Radiance HDR.
    RadianceHdr,
    /// PBM, PGM, PPM, PAM and PFM.
    Netpbm,
    /// Windows icon.
    Ico,
    /// DirectDraw surface.
    Dds,
    /// QOI.
    Qoi,
    /// FLIF.
    Flif,
    /// BPG.
    Bpg,
    /// MNG and JNG.
    Mng,
    /// DICOM.
    Dicom,
}

impl ImageFormat {
    /// The format's name as people know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::BigTiff => "BigTIFF",
            Self::Heif => "HEIC/HEIF",
            Self::Avif => "AVIF",
            Self::Jpeg2000 => "JPEG 2000",
            Self::JpegXl => "JPEG XL",
            Self::JpegXr => "JPEG XR",
            Self::Svg => "SVG",
            Self::CameraRaw => "camera raw",
            Self::Psd => "Photoshop",
            Self::Xcf => "GIMP",
            Self::OpenExr => "OpenEXR",
            Self::RadianceHdr => "Radiance HDR",
            Self::Netpbm => "Netpbm",
            Self::Ico => "ICO",
            Self::Dds => "DDS",
            Self::Qoi => "QOI",
            Self::Flif => "FLIF",
            Self::Bpg => "BPG",
            Self::Mng => "MNG",
            Self::Dicom => "DICOM",
        }
    }
}

/// First bytes that are enough to tell a format.
const SIGNATURES: [(&[u8], ImageFormat); 32] = [
    (b"\xff\xd8\xff", ImageFormat::Jpeg),
    // Without the line ends that follow, so that a PNG that was copied as text is a damaged PNG.
    (b"\x89PNG", ImageFormat::Png),
    (b"GIF87a", ImageFormat::Gif),
    (b"GIF89a", ImageFormat::Gif),
    (b"II\x2b\0", ImageFormat::BigTiff),
    (b"MM\0\x2b", ImageFormat::BigTiff),
    (b"\0\0\0\x0cjP  ", ImageFormat::Jpeg2000),
    (b"\xff\x4f\xff\x51", ImageFormat::Jpeg2000),
    (b"\0\0\0\x0cJXL ", ImageFormat::JpegXl),
    (b"\xff\x0a", ImageFormat::JpegXl),
    (b"II\xbc\x01", ImageFormat::JpegXr),
    (b"FUJIFILMCCD-RAW", ImageFormat::CameraRaw),
    (b"IIRO", ImageFormat::CameraRaw),
    (b"IIRS", ImageFormat::CameraRaw),
    (b"MMOR", ImageFormat::CameraRaw),
    (b"IIU\0", ImageFormat::CameraRaw),
    (b"FOVb", ImageFormat::CameraRaw),
    (b"\0MRM", ImageFormat::CameraRaw),
    (b"II\x1a\0\0\0HEAPCCDR", ImageFormat::CameraRaw),
    (b"8BPS", ImageFormat::Psd),
    (b"gimp xcf", ImageFormat::Xcf),
    (b"\x76\x2f\x31\x01", ImageFormat::OpenExr),
    (b"#?RADIANCE", ImageFormat::RadianceHdr),
    (b"#?RGBE", ImageFormat::RadianceHdr),
    (b"PF\n", ImageFormat::Netpbm),
    (b"Pf\n", ImageFormat::Netpbm),
    (b"DDS ", ImageFormat::Dds),
    (b"qoif", ImageFormat::Qoi),
    (b"FLIF", ImageFormat::Flif),
    (b"BPG\xfb", ImageFormat::Bpg),
    (b"\x8aMNG", ImageFormat::Mng),
    (b"\x8bJNG", ImageFormat::Mng),
];

/// The image format of a file that begins with `head`: all of it, or its first [`HEAD`] bytes.
///
/// ```
/// use cnncodes::images::{ImageFormat, sniff};
///
/// assert_eq!(sniff(b"\xff\xd8\xff\xe0\0\x10JFIF"), Some(ImageFormat::Jpeg));
/// assert_eq!(sniff(b"dear reader"), None);
/// ```
pub fn sniff(head: &[u8]) -> Option<ImageFormat> {
    if let Some((_, format)) = SIGNATURES.iter().find(|(signature, _)| head.starts_with(signature)) {
        return Some(*format);
    }
    match head {
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] if is_raw_tiff(head) => {
            Some(ImageFormat::CameraRaw)
        }
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => Some(ImageFormat::Tiff),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::WebP),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => sniff_ftyp(head),
        // Two letters are few, and texts begin with them: the size of the header that follows has to be one of BMP's.
        [b'B', b'M', ..] => {
            let size =
                head.get(14..18).and_then(|size| <[u8; 4]>::try_from(size).ok()).map(u32::from_le_bytes);
            matches!(size, Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124)).then_some(ImageFormat::Bmp)
        }
        // A width follows, or a comment.
        [b'P', b'1'..=b'7', b'\n' | b'\r' | b' ' | b'\t', b'0'..=b'9' | b'#' | b'W', ..] => {
            Some(ImageFormat::Netpbm)
        }
        // Up to 255 pictures, and a reserved byte in the first one's entry.
        [0, 0, 1, 0, 1..=255, 0, _, _, _, 0, ..] => Some(ImageFormat::Ico),
        _ if head.get(128..132) == Some(b"DICM") => Some(ImageFormat::Dicom),
        _ => is_svg(head).then_some(ImageFormat::Svg),
    }
}

/// Which of the formats that begin with the box `ftyp` it is, by the brands that it names; videos are none.
fn sniff_ftyp(head: &[u8]) -> Option<ImageFormat> {
    let len = head[..4].iter().fold(0_usize, |len, &byte| len << 8 | usize::from(byte));
    let brands = &head[8..len.clamp(8, head.len())];
    let (major, compatible) = (brands.get(..4)?, brands.get(8..).unwrap_or_default());
    if major == b"crx " {
        return Some(ImageFormat::CameraRaw);
    }
    let has = |known: &[&[u8; 4]]| {
        std::iter::once(major)
            .chain(compatible.chunks_exact(4))
            .any(|brand| known.iter().any(|k| brand == *k))
    };
    if has(&[b"avif", b"avis"]) {
        return Some(ImageFormat::Avif);
    }
    // The brands of ISO/IEC 23008-12: still images and sequences coded as HEVC, AVC, VVC, JPEG and JPEG 2000, or any.
    let heif = has(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"avci", b"avcs", b"vvic",
        b"vvis", b"jpeg", b"jpgs", b"j2ki", b"j2is", b"mif1", b"mif2", b"mif3", b"msf1", b"miaf",
    ]);
    heif.then_some(ImageFormat::Heif)
}

/// Whether a TIFF is a camera's: its first directory says DNG, or raw sensor data, or that it is a small copy of what lies
/// in a directory below. Taken for an ordinary TIFF, its thumbnail would pass for the photo.
fn is_raw_tiff(head: &[u8]) -> bool {
    const NEW_SUBFILE_TYPE: u32 = 254;
    const PHOTOMETRIC: u32 = 262;
    const SUB_DIRECTORIES: u32 = 330;
    const DNG_VERSION: u32 = 50706;
    const COLOR_FILTER_ARRAY: u32 = 32803;
    const LINEAR_RAW: u32 = 34892;

    if head.get(8..10) == Some(b"CR") {
        return true;
    }
    let number = |at: usize, len: usize| -> Option<u32> {
        let bytes = head.get(at..at.checked_add(len)?)?;
        let add = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        Some(if head[0] == b'I' { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    };
    let entries = || {
        let directory = usize::try_from(number(4, 4)?).ok()?;
        let count = usize::try_from(number(directory, 2)?).ok()?;
        // The tag, and its value where that is one number: of two bytes in type 3, of four else.
        Some((0..count).map_while(move |index| {
            let at = directory.checked_add(2 + 12 * index)?;
            let len = if number(at + 2, 2)? == 3 { 2 } else { 4 };
            Some((number(at, 2)?, number(at + 8, len)?))
        }))
    };
    let (mut reduced, mut below) = (false, false);
    for (tag, value) in entries().into_iter().flatten() {
        match (tag, value) {
            (DNG_VERSION, _) | (PHOTOMETRIC, COLOR_FILTER_ARRAY | LINEAR_RAW) => return true,
            (NEW_SUBFILE_TYPE, value) => reduced = value & 1 == 1,
            (SUB_DIRECTORIES, _) => below = true,
            _ => {}
        }
    }
    reduced && below
}

/// Whether the first element of an XML text is `svg`.
fn is_svg(head: &[u8]) -> bool {
    let mut rest = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let after = |rest: &[u8], end: &[u8]| {
        rest.windows(end.len()).position(|window| window == end).map(|at| at + end.len())
    };
    loop {
        let skipped = if rest.starts_with(b"<?") {
            after(rest, b"?>")
        } else if rest.starts_with(b"<!--") {
            after(rest, b"-->")
        } else if rest.starts_with(b"<!DOCTYPE") {
            return rest[9..].trim_ascii_start().starts_with(b"svg");
        } else {
            let name_ends =
                |after: &[u8]| after.first().is_none_or(|&byte| byte == b'>' || byte.is_ascii_whitespace());
            let named = |name: &[u8]| rest.strip_prefix(name).is_some_and(name_ends);
            return named(b"<svg") || named(b"<svg:svg");
        };
        match skipped {
            Some(at) => rest = rest[at..].trim_ascii_start(),
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF that begins with one directory of the entries (tag, type, value).
    fn tiff(big_endian: bool, entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let two = |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let four = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut bytes = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        bytes.extend(four(8));
        bytes.extend(two(entries.len() as u16));
        for &(tag, kind, value) in entries {
            bytes.extend(two(tag));
            bytes.extend(two(kind));
            bytes.extend(four(1));
            // A short stands in the first two of the four bytes.
            if kind == 3 {
                bytes.extend(two(value as u16).into_iter().chain([0, 0]))
            } else {
                bytes.extend(four(value))
            }
        }
        bytes
    }

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let bmp = [b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".as_slice(), &[0; 36]].concat();
        let dicom = [&[0; 128][..], b"DICM"].concat();
        for (head, format) in [
            (&b"\xff\xd8\xff\xdb"[..], ImageFormat::Jpeg),
            (b"\x89PNG\r\n\x1a\n", ImageFormat::Png),
            (b"\x89PNG\n\x1a\n", ImageFormat::Png),
            (b"GIF89a", ImageFormat::Gif),
            (b"RIFF\x10\0\0\0WEBPVP8 ", ImageFormat::WebP),
            (&bmp, ImageFormat::Bmp),
            (b"II*\0\x08\0\0\0", ImageFormat::Tiff),
            (b"MM\0*\0\0\0\x08", ImageFormat::Tiff),
            (b"MM\0\x2b\0\x08\0\0", ImageFormat::BigTiff),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", ImageFormat::Heif),
            (b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc", ImageFormat::Heif),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", ImageFormat::Heif),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", ImageFormat::Avif),
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B", ImageFormat::Avif),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", ImageFormat::CameraRaw),
            (b"\0\0\0\x0cjP  \r\n\x87\n", ImageFormat::Jpeg2000),
            (b"\0\0\0\x0cJXL \r\n\x87\n", ImageFormat::JpegXl),
            (b"\xff\x0a\xfa\x7f", ImageFormat::JpegXl),
            (b"II*\0\x10\0\0\0CR\x02\0", ImageFormat::CameraRaw),
            (b"P6\n640 480\n255\n", ImageFormat::Netpbm),
            (b"P5 # made by hand\n", ImageFormat::Netpbm),
            (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0", ImageFormat::Ico),
            (&dicom, ImageFormat::Dicom),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", ImageFormat::Svg),
            (b"\xef\xbb\xbf<?xml version=\"1.0\"?>\n<!-- a drawing -->\n<svg>", ImageFormat::Svg),
            (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" [", ImageFormat::Svg),
        ] {
            assert_eq!(sniff(head), Some(format), "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn what_is_no_image_is_told_as_well() {
        for head in [
            &b""[..],
            b"BMW is a maker of cars and motorcycles.",
            b"P5 is the fifth point.",
            b"<!DOCTYPE html><html><body><svg></svg>",
            b"<?xml version=\"1.0\"?><annotation><svg/></annotation>",
            b"<svgfoo>",
            b"<?xml",
            b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
            b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            b"RIFF\x10\0\0\0WAVEfmt ",
            b"%PDF-1.7",
            b"version https://git-lfs.github.com/spec/v1\n",
            b"\0\0\0\0ftyp",
            &[0; 200],
        ] {
            assert_eq!(sniff(head), None, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn a_cameras_tiff_is_not_taken_for_its_thumbnail() {
        for big_endian in [false, true] {
            let raw: [&[(u16, u16, u32)]; 3] = [
                &[(254, 4, 1), (256, 4, 160), (330, 4, 1000)],
                &[(256, 4, 4000), (50706, 1, 1)],
                &[(254, 4, 0), (262, 3, 32803)],
            ];
            for entries in raw {
                assert_eq!(sniff(&tiff(big_endian, entries)), Some(ImageFormat::CameraRaw), "{entries:?}");
            }
            let plain = tiff(big_endian, &[(254, 4, 0), (256, 4, 160), (262, 3, 2), (330, 4, 1000)]);
            assert_eq!(sniff(&plain), Some(ImageFormat::Tiff));
        }
    }

    #[test]
    fn any_cut_of_a_head_is_safe() {
        let raw = tiff(false, &[(254, 4, 1), (330, 4, 1000)]);
        let heads = [
            &raw[..],
            b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf",
            b"II*\0\xff\xff\xff\xff",
            b"\xff\xff\xff\xffftypheic",
        ];
        for head in heads {
            (0..=head.len()).for_each(|len| assert_ne!(sniff(&head[..len]), Some(ImageFormat::Svg)));
        }
        assert_eq!(sniff(b"\xff\xff\xff\xffftypheic"), Some(ImageFormat::Heif));
    }
}
