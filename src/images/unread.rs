//! What is not read, by name, and what to do about it: image formats, and files that only are called images.

use super::decode::CONVERT;
use super::sniff::ImageFormat;

impl ImageFormat {
    /// What to do with an image of a format that is not read.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::CameraRaw => {
                "develop it to JPEG or TIFF, with the camera's own software, darktable or RawTherapee"
            }
            Self::Svg => "it is a drawing without pixels: render it to PNG, for example with rsvg-convert",
            Self::Psd | Self::Xcf => "export it to PNG from the program that made it",
            Self::Dicom => "choose a window of grey levels, and convert it to PNG, for example with dcm2img",
            Self::OpenExr | Self::RadianceHdr => {
                "its brightness has no upper limit: map it to 8 bits, and save it as PNG"
            }
            _ => CONVERT,
        }
    }
}

/// A file that is no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OtherFile {
    /// What it is, for a sentence that begins with "not an image:".
    pub(super) looks_like: &'static str,
    /// What to do.
    pub(super) remedy: &'static str,
}

const UNPACK: &str = "unpack it, and name its content";
const TAKE_PICTURES: &str = "extract its pictures, and save them as JPEG or PNG";
const COPY_AGAIN: &str = "copy it again from its source";
const READ_FORMATS: &str = "JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC, AVIF and JPEG XL are images";

/// First bytes that are enough.
const SIGNATURES: [(&[u8], &str, &str); 27] = [
    (
        b"version https://git-lfs.github.com/spec/",
        "it is a pointer to a file that Git LFS has not fetched",
        "run `git lfs pull` in its repository, and try again",
    ),
    (b"%PDF-", "it is a PDF document", TAKE_PICTURES),
    (b"%!PS", "it is a PostScript (EPS) drawing", "render it to PNG, for example with Ghostscript"),
    (
        b"\xc5\xd0\xd3\xc6",
        "it is a PostScript (EPS) drawing",
        "render it to PNG, for example with Ghostscript",
    ),
    (b"\xd7\xcd\xc6\x9a", "it is a Windows drawing (WMF)", "render it to PNG"),
    (b"PK\x03\x04", "it is a zip archive, or a document or array file made of one (docx, npz)", UNPACK),
    (b"PK\x05\x06", "it is an empty zip archive", UNPACK),
    (b"\x1f\x8b", "it is compressed with gzip", UNPACK),
    (b"BZh", "it is compressed with bzip2", UNPACK),
    (b"\xfd7zXZ\0", "it is compressed with xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "it is compressed with Zstandard", UNPACK),
    (b"\x04\x22\x4d\x18", "it is compressed with LZ4", UNPACK),
    (b"Rar!\x1a\x07", "it is a RAR archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive", UNPACK),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file", "name an array of images in it as FILE:/DATASET, by itself"),
    (
        b"MATLAB 7.3 MAT-file",
        "it is a MATLAB file (HDF5)",
        "name an array of images in it as FILE:/VARIABLE, by itself",
    ),
    (
        b"MATLAB 5.0 MAT-file",
        "it is a MATLAB file of version 5",
        "save it with -v7.3, and name an array of images in it as FILE:/VARIABLE",
    ),
    (
        b"\x93NUMPY",
        "it is a NumPy array",
        "save its pictures as PNG, or the array into an HDF5 file and name that as FILE:/DATASET",
    ),
    (b"SIMPLE  =", "it is a FITS file", "choose a range of levels, and convert it to PNG"),
    (
        b"\x1a\x45\xdf\xa3",
        "it is a video (Matroska or WebM)",
        "save frames of it as JPEG or PNG, for example with ffmpeg",
    ),
    (b"\0\0\x01\xba", "it is a video (MPEG)", "save frames of it as JPEG or PNG, for example with ffmpeg"),
    (b"\0\0\x01\xb3", "it is a video (MPEG)", "save frames of it as JPEG or PNG, for example with ffmpeg"),
    (b"FLV\x01", "it is a video (Flash)", "save frames of it as JPEG or PNG, for example with ffmpeg"),
    (b"OggS", "it is a sound or video file (Ogg)", "leave it out"),
    (b"ID3", "it is a sound file (MP3)", "leave it out"),
    (b"\0\x05\x16\x07", "it holds macOS metadata of a file (AppleDouble), not the file", "leave it out"),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "it is an Office document, or Windows' list of thumbnails",
        "leave it out",
    ),
];

impl OtherFile {
    /// What the bytes of a file are that begins as no image does.
    pub(super) fn sniff(bytes: &[u8]) -> Self {
        let found = |looks_like, remedy| Self { looks_like, remedy };
        if let Some(&(_, looks_like, remedy)) =
            SIGNATURES.iter().find(|(signature, ..)| bytes.starts_with(signature))
        {
            return found(looks_like, remedy);
        }
        const FRAMES: &str = "save frames of it as JPEG or PNG, for example with ffmpeg";
        match bytes {
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => {
                return found("it is a video (MP4 or QuickTime)", FRAMES);
            }
            [_, _, _, _, b'm', b'o', b'o', b'v', ..] | [_, _, _, _, b'm', b'd', b'a', b't', ..] => {
                return found("it is a video (QuickTime)", FRAMES);
            }
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => {
                return found("it is a video (AVI)", FRAMES);
            }
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => {
                return found("it is a sound file (WAV)", "leave it out");
            }
            _ => {}
        }
        if bytes.get(257..262) == Some(b"ustar") {
            return found("it is a tar archive", "name it by itself, with the ending .tar");
        }
        if bytes.get(512..520) == Some(b"\x89HDF\r\n\x1a\n") {
            return found("it is an HDF5 file", "name an array of images in it as FILE:/DATASET, by itself");
        }
        if bytes.get(344..347) == Some(b"n+1") || bytes.get(344..347) == Some(b"ni1") {
            return found("it is a NIfTI volume", "save its slices as PNG");
        }
        if bytes.ends_with(b"TRUEVISION-XFILE.\0") || is_targa(bytes) {
            return found("it is a Targa (TGA) image, which is not read", CONVERT);
        }
        let start = &bytes[..bytes.len().min(512)];
        if start.iter().all(|&byte| byte == 0) {
            return found("it starts with zeros, as an unfinished download does", COPY_AGAIN);
        }
        if !start.iter().all(|&byte| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c)) {
            return found("its first bytes belong to no image format", READ_FORMATS);
        }
        let text =
            start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
        if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") || text.starts_with(b"<head") {
            return found(
                "it is a web page (HTML), perhaps what a server answered instead of the image",
                "download the image itself",
            );
        }
        if text.starts_with(b"<?xml") || text.starts_with(b"<") {
            return found("it looks like text (XML)", READ_FORMATS);
        }
        if text.starts_with(b"data:image/") {
            return found("it looks like text: a data URL", "decode the part after the comma as Base64");
        }
        found("it looks like text", READ_FORMATS)
    }
}

/// A Targa without the footer of its second version, by a header in which nothing is out of range.
fn is_targa(bytes: &[u8]) -> bool {
    let Some(&[_, has_map, kind, _, _, _, _, map_bits, _, _, _, _, w0, w1, h0, h1, bits, flags]) =
        bytes.first_chunk::<18>()
    else {
        return false;
    };
    let fits = match kind {
        1 | 9 => has_map == 1 && matches!(map_bits, 15 | 16 | 24 | 32) && bits == 8,
        2 | 10 => has_map == 0 && map_bits == 0 && matches!(bits, 15 | 16 | 24 | 32),
        3 | 11 => has_map == 0 && map_bits == 0 && bits == 8,
        _ => false,
    };
    fits && flags & 0xc0 == 0 && (w0, w1) != (0, 0) && (h0, h1) != (0, 0)
}
