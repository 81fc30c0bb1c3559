//! The photos of a report: where each lies, the link to it, and its thumbnail.

use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
use image::imageops::thumbnail;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rayon::prelude::*;

use crate::images::{DecodeOptions, decode, encode_jpeg};

/// Longer side, in pixels, of thumbnails that are looked at one by one.
const LARGE: u32 = 176;
/// Longer side, in pixels, of the others.
const SMALL: u32 = 80;
/// JPEG quality, on libjpeg's scale of 0 to 100.
const QUALITY: f32 = 68.0;
/// Thumbnails made at once, between two looks at what they take.
const BATCH: usize = 64;
/// What stays as it is in a link's path.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where the photos of a set lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photos {
    root: PathBuf,
}

impl Photos {
    /// Photos whose names are relative to `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Photos of a features file: `source` is the folder, or the CSV file in a folder, that they were extracted from. A
    /// relative one is looked for in the current folder and, if it is not there, in those above the features file.
    pub fn of_features(source: &str, features: &Path) -> Self {
        let mut found = PathBuf::from(source);
        if found.is_relative() && !found.exists() {
            let above = features.ancestors().skip(1).map(|folder| folder.join(source));
            found = above.take(3).find(|candidate| candidate.exists()).unwrap_or(found);
        }
        if found.is_file() {
            found.pop();
        }
        Self { root: found }
    }

    /// Where names start.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of the photo `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A relative link from a page in `folder` to the photo `name`; `None` where there is no relative way.
    pub fn link(&self, name: &str, folder: &Path) -> Option<String> {
        let to = std::path::absolute(self.path(name)).ok()?;
        let way = pathdiff::diff_paths(to, std::path::absolute(folder).ok()?)?;
        // Begun with `./` or `../`, no name can be taken for a scheme or a host.
        let mut link = String::from(".");
        for component in way.components() {
            match component {
                Component::Normal(name) => {
                    link.push('/');
                    link.extend(utf8_percent_encode(name.to_str()?, &PLAIN));
                }
                Component::ParentDir if link == "." => link.push('.'),
                Component::ParentDir => link.push_str("/.."),
                _ => return None,
            }
        }
        Some(link)
    }
}

/// Small JPEG pictures of some photos.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Thumbnails {
    /// A thumbnail for each photo that was asked for, in Base64.
    pub jpegs: Vec<Option<String>>,
    /// Photos that could not be read.
    pub unreadable: usize,
    /// Photos that were left out to keep within the limit.
    pub left_out: usize,
}

impl Thumbnails {
    /// Thumbnails of `names`, of which the first `large` are larger; no more than `most` bytes altogether, counted in
    /// Base64. `progress` is told the number of photos looked at.
    pub fn make(
        photos: &Photos,
        names: &[&str],
        large: usize,
        most: usize,
        mut progress: impl FnMut(usize),
    ) -> Self {
        let mut made = Self::default();
        let mut bytes = 0;
        for batch in names.chunks(BATCH) {
            if made.left_out > 0 {
                made.left_out += batch.len();
                made.jpegs.extend(batch.iter().map(|_| None));
                continue;
            }
            let start = made.jpegs.len();
            let jpegs: Vec<Option<String>> = batch
                .par_iter()
                .enumerate()
                .map(|(index, name)| {
                    let side = if start + index < large { LARGE } else { SMALL };
                    let picture = shrink(&photos.path(name), side)?;
                    Some(BASE64_STANDARD.encode(encode_jpeg(&picture, QUALITY).ok()?))
                })
                .collect();
            for jpeg in jpegs {
                made.unreadable += usize::from(jpeg.is_none());
                let size = jpeg.as_ref().map_or(0, String::len);
                let fits = bytes + size <= most;
                made.left_out += usize::from(!fits);
                bytes += if fits { size } else { 0 };
                made.jpegs.push(jpeg.filter(|_| fits));
            }
            progress(made.jpegs.len());
        }
        made
    }
}

/// A picture that is looked at by itself, as a small JPEG in Base64; `None` where it cannot be encoded.
pub(super) fn small_jpeg(picture: &RgbImage) -> Option<String> {
    Some(BASE64_STANDARD.encode(encode_jpeg(&shrunk(picture, LARGE), QUALITY).ok()?))
}

/// The photo, upright, with at most `side` pixels a side; `None` where it cannot be read.
fn shrink(path: &Path, side: u32) -> Option<RgbImage> {
    let picture = decode(&std::fs::read(path).ok()?, &DecodeOptions::default()).ok()?;
    Some(shrunk(&picture, side))
}

/// The picture with at most `side` pixels a side.
pub(crate) fn shrunk(picture: &RgbImage, side: u32) -> RgbImage {
    let scale = f64::from(side) / f64::from(picture.width().max(picture.height()));
    if scale >= 1.0 {
        return picture.clone();
    }
    let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    thumbnail(picture, scaled(picture.width()), scaled(picture.height()))
}
