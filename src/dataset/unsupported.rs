//! Kinds of files that people name as images and that are not taken: what they are, by their first bytes, and what to do
//! with them.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes that are looked at: the name of a zip file's first member lies within.
const HEAD: u64 = 512;

/// A file of a kind that is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsupported {
    /// What it is, with its article.
    pub what: &'static str,
    /// What to do with it.
    pub remedy: String,
}

/// How tar files and lists are compressed: the first bytes, what it is, and the command that undoes it.
const COMPRESSED: [(&[u8], &str, &str); 7] = [
    (b"\x1f\x8b", "a file compressed with gzip", "gunzip -c"),
    (b"\x1f\x9d", "a file compressed with compress", "gunzip -c"),
    (b"BZh", "a file compressed with bzip2", "bunzip2 -c"),
    (b"\xfd7zXZ\0", "a file compressed with xz", "unxz -c"),
    (b"\x28\xb5\x2f\xfd", "a file compressed with zstd", "unzstd -c"),
    (b"\x04\x22\x4d\x18", "a file compressed with lz4", "unlz4 -c"),
    (b"LZIP", "a file compressed with lzip", "lzip -dc"),
];

const UNPACK: &str = "unpack it into a folder with one folder for each class, and name the folder";
const TO_CSV: &str = "save its table as CSV (UTF-8) with the columns path,label, and name that file";
const WRITE_IMAGES: &str = "write its images to files, with one folder for each class, and name the folder";

/// What it is and what to do with it.
impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, which is not read; {}", self.what, self.remedy)
    }
}

/// The kind of the file, if it is one of those that are not taken; `None` as well where it cannot be read.
pub(super) fn unsupported(path: &Path) -> Option<Unsupported> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    kind_of(&head, path)
}

/// The kind of a file with these first bytes.
pub(super) fn kind_of(head: &[u8], path: &Path) -> Option<Unsupported> {
    let shown = path.display();
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let is = |what, remedy: &str| Some(Unsupported { what, remedy: remedy.to_owned() });
    if let Some((_, what, command)) = COMPRESSED.iter().find(|(signature, ..)| head.starts_with(signature)) {
        let whole = decompressed(path, &extension);
        let whole = whole.display();
        return is(what, &format!("decompress it, `{command} {shown} > {whole}`, and name {whole}"));
    }
    match head {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => match extension.as_str() {
            _ if first_in_zip(head).is_some_and(|name| name.ends_with(b".npy")) => is(
                "a file of NumPy arrays (npz)",
                &format!(
                    "write the array of images to HDF5 in Python, `h5py.File('images.h5', 'w')['images'] = numpy.load('{shown}')['NAME']`, and name images.h5:/images"
                ),
            ),
            "xlsx" | "ods" | "numbers" => is("a spreadsheet", TO_CSV),
            "pt" | "pth" => is("a PyTorch file", WRITE_IMAGES),
            _ => is("a zip file", UNPACK),
        },
        [b'\x93', b'N', b'U', b'M', b'P', b'Y', ..] => is(
            "a NumPy array (npy)",
            &format!(
                "write it to HDF5 in Python, `h5py.File('images.h5', 'w')['images'] = numpy.load('{shown}')`, and name images.h5:/images"
            ),
        ),
        // Version 7.3 is HDF5, which says so behind these bytes.
        _ if head.starts_with(b"MATLAB 5.0 MAT-file") => is(
            "a MATLAB file before version 7.3",
            "load it in MATLAB and save it with '-v7.3', or write its array to HDF5 in Python with scipy.io.loadmat and h5py, and name FILE.h5:/DATASET",
        ),
        _ if head.starts_with(b"7z\xbc\xaf\x27\x1c") => is("a 7-Zip file", UNPACK),
        _ if head.starts_with(b"Rar!\x1a\x07") => is("a RAR file", UNPACK),
        _ if head.starts_with(b"PAR1") => is("a Parquet file", WRITE_IMAGES),
        _ if head.starts_with(b"ARROW1") => is("an Arrow file", WRITE_IMAGES),
        _ if head.starts_with(b"SQLite format 3\0") => is("an SQLite database", WRITE_IMAGES),
        _ if head.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") => {
            is("a file of an old Office program", TO_CSV)
        }
        _ if head.starts_with(b"%PDF-") => is("a PDF document", WRITE_IMAGES),
        _ if matches!(extension.as_str(), "tfrecord" | "tfrecords") => is("a TFRecord file", WRITE_IMAGES),
        _ if extension == "mdb" => is("a database (LMDB)", WRITE_IMAGES),
        [0x80, 2..=5, ..] => is("a Python pickle", WRITE_IMAGES),
        _ => None,
    }
}

/// What to call the file once it is decompressed.
fn decompressed(path: &Path, extension: &str) -> PathBuf {
    match extension {
        "tgz" | "taz" | "tbz" | "tbz2" | "txz" | "tzst" | "tlz" => path.with_extension("tar"),
        "gz" | "z" | "bz2" | "xz" | "zst" | "lz4" | "lz" => path.with_extension(""),
        _ => path.with_extension(format!("decompressed.{extension}")),
    }
}

/// The name of the first member of a zip file.
fn first_in_zip(head: &[u8]) -> Option<&[u8]> {
    let len = head.get(26..28)?;
    head.get(30..30 + usize::from(u16::from_le_bytes([len[0], len[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes_and_their_remedies_name_the_file() {
        let npz = b"PK\x03\x04-\0\0\0\0\0\0\0!\0\x01\x02\x03\x04\xff\xff\xff\xff\xff\xff\xff\xff\x05\0\x14\0x.npy\x01\0";
        for (head, name, what, remedy) in [
            (
                &b"\x1f\x8b\x08"[..],
                "a.tar.gz",
                "a file compressed with gzip",
                "`gunzip -c a.tar.gz > a.tar`, and name a.tar",
            ),
            (
                b"\x1f\x8b\x08",
                "a.tar",
                "a file compressed with gzip",
                "`gunzip -c a.tar > a.decompressed.tar`",
            ),
            (b"BZh91AY", "a.tbz2", "a file compressed with bzip2", "`bunzip2 -c a.tbz2 > a.tar`"),
            (b"\xfd7zXZ\0\0", "a.tar.xz", "a file compressed with xz", "`unxz -c a.tar.xz > a.tar`"),
            (
                b"\x28\xb5\x2f\xfd\x04",
                "a.tar.zst",
                "a file compressed with zstd",
                "`unzstd -c a.tar.zst > a.tar`",
            ),
            (b"PK\x03\x04", "a.zip", "a zip file", "into a folder"),
            (b"PK\x05\x06", "empty.zip", "a zip file", "into a folder"),
            (npz, "a.npz", "a file of NumPy arrays (npz)", "numpy.load('a.npz')['NAME']"),
            (b"PK\x03\x04", "a.XLSX", "a spreadsheet", "as CSV"),
            (b"\x93NUMPY\x01\0", "a.npy", "a NumPy array (npy)", "numpy.load('a.npy')"),
            (b"MATLAB 5.0 MAT-file, Platform", "a.mat", "a MATLAB file before version 7.3", "'-v7.3'"),
            (b"PAR1\x15", "a.parquet", "a Parquet file", "to files"),
            (b"\x80\x04\x95", "a.pkl", "a Python pickle", "to files"),
        ] {
            let found = kind_of(head, Path::new(name)).unwrap();
            assert_eq!(found.what, what, "{name}");
            assert!(found.remedy.contains(remedy), "{name}: {}", found.remedy);
        }
        for head in [
            &b"path,label\n"[..],
            b"",
            b"PK",
            b"MATLAB 7.3 MAT-file, Platform",
            b"\x89HDF\r\n\x1a\n",
            b"BZ,path\n",
        ] {
            assert_eq!(kind_of(head, Path::new("a.csv")), None, "{head:?}");
        }
        (0..npz.len()).for_each(|len| drop(kind_of(&npz[..len], Path::new("a"))));
    }
}
