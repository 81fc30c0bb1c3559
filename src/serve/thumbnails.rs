//! Small pictures of photos, made when they are asked for, and kept in memory as long as there is room.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;

use super::api_error::ApiError;
use crate::files::Stamp;
use crate::images::{DecodeOptions, decode, encode_jpeg};
use crate::messages::with_causes;
use crate::report::shrunk;

/// Bytes of pictures that are kept.
const KEPT_BYTES: usize = 32 << 20;
/// JPEG quality, on libjpeg's scale of 0 to 100.
const QUALITY: f32 = 80.0;

/// The pictures that are kept.
#[derive(Debug, Default)]
pub(super) struct Thumbnails(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    pictures: HashMap<(PathBuf, u32), KeptPicture>,
    bytes: usize,
    /// Counts the uses.
    clock: u64,
}

#[derive(Debug)]
struct KeptPicture {
    /// Of the photo that it was made of.
    stamp: Stamp,
    jpeg: Bytes,
    used: u64,
}

impl Thumbnails {
    /// The photo at `path` as a JPEG, upright, with at most `side` pixels a side. It keeps a processor busy.
    ///
    /// # Errors
    /// There is no such photo, or it cannot be decoded.
    pub fn of_file(&self, path: &Path, side: u32, max_pixels: u64) -> Result<Bytes, ApiError> {
        let gone = || ApiError::not_found("the photo is not there; it was moved or removed meanwhile");
        let stamp = Stamp::of(&fs::metadata(path).map_err(|_| gone())?);
        if let Some(jpeg) = self.kept(path, side, stamp) {
            return Ok(jpeg);
        }
        let bytes = fs::read(path).map_err(|_| gone())?;
        let options = DecodeOptions { max_pixels, ..DecodeOptions::default() };
        let picture = decode(&bytes, &options).map_err(|error| ApiError::unreadable(with_causes(&error)))?;
        let jpeg =
            encode_jpeg(&shrunk(&picture, side), QUALITY).map_err(|error| ApiError::internal(&error))?;
        let jpeg = Bytes::from(jpeg);
        self.keep(path, side, stamp, jpeg.clone());
        Ok(jpeg)
    }

    fn kept(&self, path: &Path, side: u32, stamp: Stamp) -> Option<Bytes> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let clock = kept.clock;
        let picture =
            kept.pictures.get_mut(&(path.to_owned(), side)).filter(|picture| picture.stamp == stamp)?;
        picture.used = clock;
        Some(picture.jpeg.clone())
    }

    fn keep(&self, path: &Path, side: u32, stamp: Stamp, jpeg: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += jpeg.len();
        let used = kept.clock;
        if let Some(before) = kept.pictures.insert((path.to_owned(), side), KeptPicture { stamp, jpeg, used })
        {
            kept.bytes -= before.jpeg.len();
        }
        if kept.bytes > KEPT_BYTES {
            // The half that was used last stays.
            let mut uses: Vec<u64> = kept.pictures.values().map(|picture| picture.used).collect();
            uses.sort_unstable();
            let middle = uses[uses.len() / 2];
            kept.pictures.retain(|_, picture| picture.used >= middle);
            kept.bytes = kept.pictures.values().map(|picture| picture.jpeg.len()).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    #[test]
    fn a_thumbnail_is_small_kept_and_made_anew_when_its_photo_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        RgbImage::from_pixel(400, 100, image::Rgb([200, 10, 10])).save(&path).unwrap();
        let thumbnails = Thumbnails::default();
        let first = thumbnails.of_file(&path, 80, 1_000_000).unwrap();
        let picture = decode(&first, &DecodeOptions::default()).unwrap();
        assert_eq!(picture.dimensions(), (80, 20));
        assert_eq!(thumbnails.of_file(&path, 80, 1_000_000).unwrap().as_ptr(), first.as_ptr());
        RgbImage::from_pixel(40, 100, image::Rgb([10, 10, 200])).save(&path).unwrap();
        let other = thumbnails.of_file(&path, 80, 1_000_000).unwrap();
        assert_eq!(decode(&other, &DecodeOptions::default()).unwrap().dimensions(), (32, 80));
        assert_eq!(thumbnails.of_file(&path, 81, 10).unwrap_err().status, 422);
        assert_eq!(thumbnails.of_file(&folder.path().join("b.png"), 80, 10).unwrap_err().status, 404);
    }
}
