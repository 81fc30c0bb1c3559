//! TIFF and BigTIFF, as Pillow has them: the first page, of greys, colours, palettes, inks and YCbCr, of whole numbers up to
//! 16 bits and of floating point.
//!
//! The crate `tiff` unpacks strips and tiles. What it does not know it is told of in the directory of a copy of the file: a
//! palette's indices are greys to it, YCbCr is RGB. JPEG in TIFF goes through libjpeg, which is what libtiff does.

use std::borrow::Cow;
use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use super::decode::{DecodeError, DecodeOptions, check_pixels};
use super::ifd::Directory;
use super::jpeg::cmyk_to_rgb;
use super::orientation;
use super::sniff::ImageFormat;

mod colour;
mod jpeg_chunks;
mod layout;

use colour::{YCbCr, float_levels, unassociated};
use layout::{PageLayout, Photometric};

/// Decodes the first page to RGB; orientation is returned, not applied.
pub(super) fn decode_tiff(
    bytes: &[u8],
    name: &'static str,
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    let damaged = || DecodeError::Damaged { format: name };
    let directory = Directory::read(bytes).ok_or_else(damaged)?;
    let layout = PageLayout::of(&directory, name)?;
    check_pixels(layout.width, layout.height, options.max_pixels)?;
    if hides_the_photo(bytes, &directory, layout.width) {
        let format = ImageFormat::CameraRaw;
        return Err(DecodeError::UnsupportedFormat { format: format.name(), remedy: format.remedy() });
    }
    let image = if layout.compression == layout::JPEG {
        jpeg_chunks::decode(bytes, &directory, &layout, name, options)?
    } else {
        let (samples, a_pixel) = unpack(bytes, &directory, &layout, name)?;
        let rgb = to_rgb(samples, a_pixel, &directory, &layout, name)?;
        RgbImage::from_raw(layout.width, layout.height, rgb).ok_or_else(damaged)?
    };
    Ok((image, orientation::of_tiff(&directory)))
}

/// Whether the first page is a small copy of a picture elsewhere in the file, as cameras write their raw files.
fn hides_the_photo(bytes: &[u8], first: &Directory, width: u32) -> bool {
    const NEW_SUBFILE_TYPE: u16 = 254;
    const IMAGE_WIDTH: u16 = 256;
    const SUB_DIRECTORIES: u16 = 330;
    let is_larger = |offset: u64| {
        Directory::read_at(bytes, offset)
            .and_then(|directory| directory.first(IMAGE_WIDTH))
            .is_some_and(|other| other > u64::from(width))
    };
    let is_reduced = first.first(NEW_SUBFILE_TYPE).is_some_and(|kind| kind & 1 == 1);
    first.numbers(SUB_DIRECTORIES).unwrap_or_default().into_iter().take(16).any(is_larger)
        || is_reduced && first.next().is_some_and(is_larger)
}

/// The samples of the page, pixel by pixel, and how many a pixel has.
fn unpack(
    bytes: &[u8],
    directory: &Directory,
    layout: &PageLayout,
    name: &'static str,
) -> Result<(PageSamples, usize), DecodeError> {
    let refused = |error: TiffError| match error {
        TiffError::UnsupportedError(_) => DecodeError::unsupported(format!("this kind of {name}")),
        _ => DecodeError::Damaged { format: name },
    };
    let damaged = || DecodeError::Damaged { format: name };
    let mut decoder =
        Decoder::new(Cursor::new(layout.as_known_to_the_crate(bytes, directory))).map_err(refused)?;
    let (width, height) = (layout.width as usize, layout.height as usize);
    let row_bits = width * layout.samples * layout.bits;
    let mut limits = Limits::default();
    // Planes end at a byte each.
    limits.decoding_buffer_size = (row_bits.div_ceil(8) + layout.samples) * height;
    limits.intermediate_buffer_size = bytes.len().max(limits.decoding_buffer_size);
    limits.ifd_value_size = bytes.len();
    decoder = decoder.with_limits(limits);
    let mut result = DecodingResult::U8(Vec::new());
    let planes = decoder.read_image_to_buffer(&mut result).map_err(refused)?;
    if result.as_buffer(0).as_bytes().len() < planes.complete_len {
        return Err(damaged());
    }
    let n_planes = planes.planes.max(1);
    let samples = match result {
        DecodingResult::U8(packed) if layout.bits < 8 => {
            PageSamples::U8(colour::unpack_bits(&packed, layout, width))
        }
        DecodingResult::U8(samples) => PageSamples::U8(interleaved(samples, n_planes)),
        DecodingResult::U16(samples) => PageSamples::U16(interleaved(samples, n_planes)),
        DecodingResult::F16(samples) => PageSamples::Float(
            interleaved(samples, n_planes).into_iter().map(|value| f64::from(value.to_f32())).collect(),
        ),
        DecodingResult::F32(samples) => {
            PageSamples::Float(interleaved(samples, n_planes).into_iter().map(f64::from).collect())
        }
        DecodingResult::F64(samples) => PageSamples::Float(interleaved(samples, n_planes)),
        _ => return Err(DecodeError::unsupported(format!("this kind of {name}"))),
    };
    let found = match &samples {
        PageSamples::U8(samples) => samples.len(),
        PageSamples::U16(samples) => samples.len(),
        PageSamples::Float(samples) => samples.len(),
    };
    // The crate leaves out what is beyond the colours and is not alpha.
    let a_pixel = found / (width * height);
    if found % (width * height) != 0 || !(layout.colours()..=layout.samples).contains(&a_pixel) {
        return Err(damaged());
    }
    Ok((samples, a_pixel))
}

/// Samples of a page in one of the forms that are read.
enum PageSamples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    Float(Vec<f64>),
}

/// Planes that follow one another, sample by sample.
fn interleaved<T: Copy>(samples: Vec<T>, n_planes: usize) -> Vec<T> {
    if n_planes == 1 {
        return samples;
    }
    let length = samples.len() / n_planes;
    (0..length)
        .flat_map(|pixel| (0..n_planes).map(move |plane| plane * length + pixel))
        .map(|at| samples[at])
        .collect()
}

/// What the samples look like.
fn to_rgb(
    samples: PageSamples,
    n: usize,
    directory: &Directory,
    layout: &PageLayout,
    name: &'static str,
) -> Result<Vec<u8>, DecodeError> {
    let mut levels = match samples {
        PageSamples::U8(samples) => samples,
        PageSamples::U16(samples) if layout.photometric == Photometric::Palette => {
            return palette_colours(
                samples.iter().step_by(n).map(|&index| usize::from(index)),
                directory,
                layout,
                name,
            );
        }
        PageSamples::U16(samples) => samples.into_iter().map(|sample| (sample >> 8) as u8).collect(),
        PageSamples::Float(samples) => float_levels(&samples, name)?,
    };
    match layout.photometric {
        Photometric::WhiteIsZero => levels.iter_mut().step_by(n).for_each(|level| *level = !*level),
        Photometric::Palette => {
            return palette_colours(
                levels.iter().step_by(n).map(|&index| usize::from(index)),
                directory,
                layout,
                name,
            );
        }
        _ => {}
    }
    if layout.is_alpha_associated() && n > layout.colours() {
        levels.chunks_exact_mut(n).for_each(|pixel| unassociated(pixel, layout.colours()));
    }
    Ok(match layout.photometric {
        Photometric::WhiteIsZero | Photometric::BlackIsZero | Photometric::Palette => {
            levels.iter().step_by(n).flat_map(|&grey| [grey; 3]).collect()
        }
        Photometric::Rgb if n == 3 => levels,
        Photometric::Rgb => levels.chunks_exact(n).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        Photometric::Inks => levels
            .chunks_exact(n)
            .flat_map(|pixel| cmyk_to_rgb([pixel[0], pixel[1], pixel[2], pixel[3]]))
            .collect(),
        Photometric::YCbCr => {
            let conversion = YCbCr::of(directory);
            levels
                .chunks_exact(n)
                .flat_map(|pixel| conversion.to_rgb([pixel[0], pixel[1], pixel[2]]))
                .collect()
        }
    })
}

/// The colours of a palette: the upper bytes of its map, all reds first.
fn palette_colours(
    indices: impl Iterator<Item = usize>,
    directory: &Directory,
    layout: &PageLayout,
    name: &'static str,
) -> Result<Vec<u8>, DecodeError> {
    const COLOR_MAP: u16 = 320;
    let damaged = DecodeError::Damaged { format: name };
    let Some(map) = directory.numbers(COLOR_MAP) else { return Err(damaged) };
    let n_colours = 1_usize << layout.bits;
    if map.len() != 3 * n_colours {
        return Err(damaged);
    }
    Ok(indices
        .flat_map(|index| [0, 1, 2].map(|channel| (map[channel * n_colours + index] >> 8) as u8))
        .collect())
}

impl PageLayout {
    /// The file, altered where the crate would refuse what it can unpack.
    fn as_known_to_the_crate<'a>(&self, bytes: &'a [u8], directory: &Directory) -> Cow<'a, [u8]> {
        let photometric = match self.photometric {
            // An inversion is done here, and only for the greys.
            Photometric::Palette | Photometric::WhiteIsZero => 1,
            Photometric::YCbCr => 2,
            _ if self.reverses_bits => 0,
            _ => return Cow::Borrowed(bytes),
        };
        let mut copy = bytes.to_vec();
        if photometric != 0 {
            directory.set(&mut copy, layout::PHOTOMETRIC, photometric);
        }
        if self.reverses_bits {
            for (start, length) in layout::chunks(directory) {
                let end = start.saturating_add(length).min(copy.len());
                if let Some(chunk) = copy.get_mut(start..end) {
                    chunk.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
                }
            }
        }
        Cow::Owned(copy)
    }
}
