//! The explanation laid over the photo: viridis where a place speaks for the class, the photo in grey beneath.

use std::io;
use std::path::Path;

use image::RgbImage;
use image::imageops::{self, FilterType};
use ndarray::Array2;

use crate::files::write_atomically;

/// Longest side of an overlay in pixels; larger photos are made smaller.
const LONGEST_SIDE: u32 = 1024;
/// How much of the colour covers the photo.
const OPACITY: f64 = 0.55;
/// Brightness of what the network does not see.
const OUTSIDE: f64 = 0.35;

/// The photo with `map` (rows x columns) over its `window`: left, top, width, height in the photo's pixels, as
/// [`Preprocess::window`](crate::images::Preprocess::window) gives them.
///
/// Colours go from 0, dark violet, to the map's largest value, yellow; what speaks against the class, below 0, is dark
/// violet as well. Outside the window the photo is darkened. A photo with a side of more than 1024 pixels is made
/// smaller.
pub fn overlay(photo: &RgbImage, window: [f64; 4], map: &Array2<f64>) -> RgbImage {
    let (width, height) = photo.dimensions();
    let shrink = f64::from(LONGEST_SIDE) / f64::from(width.max(height));
    let mut picture = if shrink < 1.0 {
        let side = |length: u32| ((f64::from(length) * shrink).round() as u32).max(1);
        imageops::resize(photo, side(width), side(height), FilterType::Triangle)
    } else {
        photo.clone()
    };
    let across = f64::from(width) / f64::from(picture.width());
    let down = f64::from(height) / f64::from(picture.height());
    let [left, top, window_width, window_height] = window;
    let largest = map.iter().copied().fold(0.0, f64::max);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let [r, g, b] = pixel.0.map(f64::from);
        // Rec. 601 luma.
        let grey = 0.299 * r + 0.587 * g + 0.114 * b;
        let u = ((f64::from(x) + 0.5) * across - left) / window_width;
        let v = ((f64::from(y) + 0.5) * down - top) / window_height;
        pixel.0 = if (0.0..=1.0).contains(&u) && (0.0..=1.0).contains(&v) {
            let value = if largest > 0.0 { sample(map, u, v) / largest } else { 0.0 };
            let colour = colorous::VIRIDIS.eval_continuous(value.clamp(0.0, 1.0));
            [colour.r, colour.g, colour.b]
                .map(|level| level_of(f64::from(level) * OPACITY + grey * (1.0 - OPACITY)))
        } else {
            [level_of(grey * OUTSIDE); 3]
        };
    }
    picture
}

fn level_of(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// The map at a point of the unit square, interpolated between the middles of its places.
fn sample(map: &Array2<f64>, u: f64, v: f64) -> f64 {
    let (rows, columns) = map.dim();
    let along = |share: f64, count: usize| {
        let position = (share * count as f64 - 0.5).clamp(0.0, (count - 1) as f64);
        let low = position.floor() as usize;
        (low, (low + 1).min(count - 1), position - low as f64)
    };
    let (left, right, x) = along(u, columns);
    let (top, bottom, y) = along(v, rows);
    let mix = |a: f64, b: f64, share: f64| a + (b - a) * share;
    mix(mix(map[[top, left]], map[[top, right]], x), mix(map[[bottom, left]], map[[bottom, right]], x), y)
}

/// Writes a picture as PNG with `texts`, keyword and text, in its metadata; whole, or not at all.
///
/// # Errors
/// The folder is missing or read-only, or the disk is full.
pub fn write_png(path: &Path, picture: &RgbImage, texts: &[(&str, String)]) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        encoder.add_itxt_chunk((*keyword).to_owned(), text.clone()).map_err(io::Error::other)?;
    }
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(picture.as_raw()).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)?;
    write_atomically(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_stretched_over_the_window_and_what_lies_outside_is_darkened() {
        let photo = RgbImage::from_pixel(40, 20, image::Rgb([200, 200, 200]));
        let map = ndarray::array![[1.0, -5.0], [0.0, 0.5]];
        let found = overlay(&photo, [10.0, 0.0, 20.0, 20.0], &map);
        assert_eq!(found.dimensions(), (40, 20));
        assert_eq!(found[(0, 0)].0, [70; 3], "0.35 of 200");
        assert_eq!(found[(39, 19)].0, [70; 3]);
        // The ends of viridis are (68, 1, 84) and (253, 231, 37), of which 0.55 is taken, with 0.45 of 200.
        assert_eq!(found[(10, 0)].0, [229, 217, 110]);
        assert_eq!(found[(29, 0)].0, [127, 91, 136]);
        assert_eq!(found[(10, 19)].0, [127, 91, 136]);
        // The middle of the map: (1 - 5 + 0 + 0.5) / 4 is below zero.
        assert_eq!(found[(20, 10)].0, [127, 91, 136]);
    }

    #[test]
    fn large_photos_are_made_smaller() {
        let photo = RgbImage::from_pixel(3000, 30, image::Rgb([0, 0, 0]));
        let found = overlay(&photo, [0.0, 0.0, 3000.0, 30.0], &ndarray::array![[0.0]]);
        assert_eq!(found.dimensions(), (1024, 10));
    }

    #[test]
    fn a_png_holds_the_picture_and_says_what_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("why.png");
        let picture = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 7]));
        write_png(&path, &picture, &[("Title", "Köter".to_owned())]).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), picture);
        let reader =
            png::Decoder::new(io::BufReader::new(std::fs::File::open(&path).unwrap())).read_info().unwrap();
        let text = &reader.info().utf8_text[0];
        assert_eq!((text.keyword.as_str(), text.get_text().unwrap()), ("Title", "Köter".to_owned()));
    }
}
