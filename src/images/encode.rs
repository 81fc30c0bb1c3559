//! From pixels to a JPEG file: the demo's pictures, the report's thumbnails.

use std::io;

use image::RgbImage;

/// A JPEG of the picture; `quality` is on libjpeg's scale of 0 to 100.
///
/// # Errors
/// libjpeg's own, for a picture without pixels.
pub(crate) fn encode_jpeg(picture: &RgbImage, quality: f32) -> io::Result<Vec<u8>> {
    let mut compress = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    compress.set_size(picture.width() as usize, picture.height() as usize);
    compress.set_quality(quality);
    let mut started = compress.start_compress(Vec::new())?;
    started.write_scanlines(picture.as_raw())?;
    started.finish()
}
