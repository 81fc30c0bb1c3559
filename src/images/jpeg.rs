//! JPEG through libjpeg (mozjpeg), bit for bit as libjpeg-turbo and so Pillow decode it: accurate integer DCT,
//! smooth chroma upsampling.
//!
//! libjpeg repairs what it can: it fills the missing half of a photo with grey and only counts a warning. Here a
//! warning about the picture's data is an error, because features of half a photo are wrong and look right. Forgiven is only
//! what leaves all pixels as they were: bytes between or behind the data, and a scan that comes twice.

use std::any::Any;
use std::borrow::Cow;
use std::ffi::{c_int, c_ulong};
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use image::RgbImage;
use image::metadata::Orientation;
use mozjpeg_sys as ffi;
use mozjpeg_sys::J_COLOR_SPACE::{JCS_CMYK, JCS_GRAYSCALE, JCS_RGB, JCS_YCCK, JCS_YCbCr};

use super::decode::{DecodeError, DecodeOptions, check_pixels};
use super::orientation::OrientationMetadata;
use super::perceptual_hash::Luma;
use super::resample::PADDING;
use luma::LumaGatherer;

mod luma;

const EXIF_PREFIX: &[u8] = b"Exif\0\0";
const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// The marker of the segments that hold EXIF and XMP.
const APP1: c_int = ffi::jpeg_marker::APP0 as c_int + 1;

/// Rows that libjpeg is asked for at a time: its own unit, so that those of a large photo are still in a core's cache when
/// they are read.
const ROWS: usize = 2;

/// Bytes of libjpeg's widest vectors.
const ALIGNMENT: usize = 32;

/// JWRN_ARITH_BAD_CODE of a libjpeg that decodes arithmetic coding. The crate that binds it numbers the messages as without
/// it, which differs from JERR_BAD_PARAM on.
const ARITHMETIC_BAD_CODE: c_int = 126;

/// What libjpeg says about the data, by its number; the payload that unwinds from its callbacks to [`guarded`].
struct LibjpegError(c_int);

/// Decodes a JPEG to RGB; orientation is returned, not applied.
///
/// CMYK and YCCK become RGB as Pillow's `convert("RGB")` does it, taking the file for inverted as Adobe writes it.
pub(super) fn decode_jpeg(
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    guarded(bytes, || {
        let jpeg = Jpeg::open(bytes, options)?;
        let orientation = jpeg.orientation();
        Ok((jpeg.whole()?, orientation))
    })
}

/// What the numbers in a JPEG without a header of its own mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JpegColours {
    Grey,
    Rgb,
    YCbCr,
}

/// Decodes a JPEG that is a part of another file, which says what its colours are.
pub(super) fn decode_chunk(
    bytes: &[u8],
    colours: JpegColours,
    options: &DecodeOptions,
) -> Result<RgbImage, DecodeError> {
    guarded(bytes, || {
        let mut jpeg = Jpeg::open(bytes, options)?;
        let (space, components) = match colours {
            JpegColours::Grey => (JCS_GRAYSCALE, 1),
            JpegColours::Rgb => (JCS_RGB, 3),
            JpegColours::YCbCr => (JCS_YCbCr, 3),
        };
        if jpeg.info.num_components != components {
            return Err(DecodeError::Jpeg { reason: "another number of colours than its file says" });
        }
        jpeg.info.jpeg_color_space = space;
        jpeg.whole()
    })
}

fn too_few_rows() -> DecodeError {
    DecodeError::Jpeg { reason: "fewer rows than its header says" }
}

/// Runs `work` on the JPEG `bytes`, in which libjpeg may complain.
pub(super) fn guarded<T, E: From<DecodeError>>(
    bytes: &[u8],
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    // Errors leave libjpeg by unwinding; every object that it holds is freed by its owner's Drop on the way, and
    // nothing of it is used afterwards.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => Err(complaint(bytes, payload).into()),
    }
}

/// What a complaint means for whoever has the file.
fn complaint(bytes: &[u8], payload: Box<dyn Any + Send>) -> DecodeError {
    if let Some(kind) = unread_kind(bytes) {
        return DecodeError::unsupported(kind);
    }
    let reason = match payload.downcast::<LibjpegError>().map(|complaint| complaint.0) {
        Ok(ffi::JWRN_JPEG_EOF | ffi::JERR_INPUT_EOF) => "it ends too soon",
        Ok(ffi::JWRN_HIT_MARKER) => "a part of its data is missing",
        Ok(ffi::JWRN_HUFF_BAD_CODE | ARITHMETIC_BAD_CODE | ffi::JWRN_MUST_RESYNC) => "its data is damaged",
        Ok(ffi::JERR_NO_IMAGE | ffi::JERR_NO_SOI) => "there is no picture in it",
        Ok(ffi::JERR_EMPTY_IMAGE) => "its header gives no size",
        Ok(_) => "its headers are damaged",
        Err(_) => "the decoder failed on it",
    };
    DecodeError::Jpeg { reason }
}

/// The name of a JPEG that is whole for all that is known, but of a kind that libjpeg does not read.
fn unread_kind(bytes: &[u8]) -> Option<&'static str> {
    let mut rest = bytes.get(2..)?;
    // Segments: 0xFF, perhaps more of it, a marker, a length that counts itself, a body.
    loop {
        let start = rest.iter().position(|&byte| byte != 0xff).filter(|&fill| fill > 0)?;
        let (&marker, after) = rest[start..].split_first()?;
        let length = usize::from(u16::from_be_bytes([*after.first()?, *after.get(1)?]));
        let precision = after.get(2).copied();
        match (marker, precision) {
            (0xc0..=0xc2 | 0xc9 | 0xca, Some(precision)) if precision != 8 => {
                return Some(if precision == 12 {
                    "JPEG with 12 bits a sample"
                } else {
                    "JPEG with other than 8 bits a sample"
                });
            }
            (0xc0..=0xc2 | 0xc9 | 0xca, _) | (0xda, _) => return None,
            (0xc3, _) => return Some("lossless JPEG"),
            (0xcb, _) => return Some("lossless JPEG with arithmetic coding"),
            (0xf7, _) => return Some("JPEG-LS"),
            (0xc5..=0xc7 | 0xcd..=0xcf | 0xde, _) => return Some("hierarchical JPEG"),
            _ => rest = after.get(length..)?,
        }
    }
}

/// How many eighths of a photo's side are decoded: a block of 8 x 8 pixels becomes one of this side, in the transform that
/// decodes it anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JpegReduction(u32);

impl JpegReduction {
    pub(super) const NONE: Self = Self(8);

    /// The most reduced first; these are the ones that libjpeg has fast transforms for.
    pub(super) const ALL: [Self; 4] = [Self(1), Self(2), Self(4), Self::NONE];

    /// What a side's length is multiplied by.
    pub(super) fn factor(self) -> f64 {
        f64::from(self.0) / 8.0
    }
}

/// A JPEG in memory whose header has been read. Its functions unwind with libjpeg's complaints: call them in [`guarded`].
pub(super) struct Jpeg<'a> {
    info: Box<ffi::jpeg_decompress_struct>,
    /// `info` points to it.
    _manager: Box<ffi::jpeg_error_mgr>,
    /// `info` points to it once it is there.
    gatherer: Option<Box<LumaGatherer>>,
    /// `info` reads them.
    bytes: &'a [u8],
}

impl Drop for Jpeg<'_> {
    fn drop(&mut self) {
        // SAFETY: `info` was created in `open`; destroying it frees what it allocated and touches nothing else.
        unsafe { ffi::jpeg_destroy_decompress(&mut self.info) }
    }
}

impl<'a> Jpeg<'a> {
    /// Reads the header.
    pub(super) fn open(bytes: &'a [u8], options: &DecodeOptions) -> Result<Self, DecodeError> {
        let length = c_ulong::try_from(bytes.len())
            .map_err(|_| DecodeError::Jpeg { reason: "it is too long for the decoder" })?;
        let mut manager = Box::new(strict_error_manager());
        // SAFETY: plain C data (numbers, nullable pointers, enums with a variant 0), for which all zeros is valid.
        let mut info: Box<ffi::jpeg_decompress_struct> = Box::new(unsafe { mem::zeroed() });
        info.common.err = ptr::from_mut(&mut *manager);
        // SAFETY: `info` has its error manager, as libjpeg wants it before anything else, and both stay where they are.
        unsafe { ffi::jpeg_create_decompress(&mut *info) };
        let mut jpeg = Self { info, _manager: manager, gatherer: None, bytes };
        // SAFETY: `info` was created; the bytes outlive it.
        unsafe {
            ffi::jpeg_save_markers(&mut jpeg.info, APP1, 0xffff);
            ffi::jpeg_mem_src(&mut jpeg.info, bytes.as_ptr(), length);
            ffi::jpeg_read_header(&mut jpeg.info, 1);
        }
        check_pixels(jpeg.info.image_width, jpeg.info.image_height, options.max_pixels)?;
        Ok(jpeg)
    }

    /// Width and height of the photo as it is stored.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.info.image_width, self.info.image_height)
    }

    /// How EXIF or XMP says that it is to be turned.
    pub(super) fn orientation(&self) -> Orientation {
        let mut metadata = OrientationMetadata::default();
        let mut next = self.info.marker_list;
        // SAFETY: a list of nodes that live as long as `info`, each with as many bytes of data as it says.
        while let Some(marker) = unsafe { next.as_ref() } {
            // SAFETY: as above.
            let data = unsafe { std::slice::from_raw_parts(marker.data, marker.data_length as usize) };
            if let Some(part) = data.strip_prefix(EXIF_PREFIX) {
                // What does not fit into one segment goes on in the next.
                match &mut metadata.exif {
                    None => metadata.exif = Some(Cow::Borrowed(data)),
                    Some(exif) => exif.to_mut().extend_from_slice(part),
                }
            } else if let Some(xmp) = data.strip_prefix(XMP_PREFIX) {
                metadata.xmp = Some(Cow::Borrowed(xmp));
            }
            next = marker.next;
        }
        metadata.orientation()
    }

    /// All pixels.
    fn whole(mut self) -> Result<RgbImage, DecodeError> {
        let (width, height) = self.start(JpegReduction::NONE)?;
        let length = 3 * width as usize;
        let mut samples = Vec::with_capacity(length * height as usize);
        self.read(0..width as usize, 0..height as usize, |_, row| {
            samples.extend_from_slice(&row[..length]);
        })?;
        RgbImage::from_raw(width, height, samples).ok_or_else(too_few_rows)
    }

    /// Starts decoding; gives the width and height of what will be read.
    pub(super) fn start(&mut self, reduction: JpegReduction) -> Result<(u32, u32), DecodeError> {
        self.info.out_color_space = match self.info.jpeg_color_space {
            JCS_CMYK | JCS_YCCK => JCS_CMYK,
            _ => JCS_RGB,
        };
        (self.info.scale_num, self.info.scale_denom) = (reduction.0, 8);
        // SAFETY: the header was read.
        if unsafe { ffi::jpeg_start_decompress(&mut self.info) } == 0 {
            return Err(too_few_rows());
        }
        Ok((self.info.output_width, self.info.output_height))
    }

    /// Has [`read`](Self::read) give the luma of the whole photo, where it is stored as such; call it after
    /// [`start`](Self::start).
    pub(super) fn gather_luma(&mut self) -> Result<(), DecodeError> {
        self.gatherer = LumaGatherer::attach(&mut self.info)?;
        Ok(())
    }

    /// Hands out the `columns` of the `rows`, RGB, with the number of each row; whatever lies in the decoder's buffer may
    /// follow the columns. The pixels are those of a whole decode. All
    /// of the file is read, to the marker at its end, so that damage anywhere is noticed.
    ///
    /// The ranges lie in the size that [`start`](Self::start) gave, and are not empty.
    pub(super) fn read(
        mut self,
        columns: Range<usize>,
        rows: Range<usize>,
        mut take: impl FnMut(usize, &[u8]),
    ) -> Result<Option<Luma>, DecodeError> {
        let (width, height) = (self.info.output_width as usize, self.info.output_height as usize);
        let is_cmyk = self.info.out_color_space == JCS_CMYK;
        let components = if is_cmyk { 4 } else { 3 };
        // Progressive photos may have their blocks smoothed by their neighbours, so there all are transformed.
        // SAFETY: the header was read.
        let is_sequential = unsafe { ffi::jpeg_has_multiple_scans(&self.info) } == 0;
        let crops = is_sequential && !is_cmyk;
        let first = if crops { self.crop(&columns, width) } else { 0 };
        if crops && rows.start > 0 {
            // SAFETY: decoding has started; there are this many rows.
            unsafe { ffi::jpeg_skip_scanlines(&mut self.info, rows.start as u32) };
        }
        let length = components * self.info.output_width as usize;
        let stride = length.next_multiple_of(ALIGNMENT);
        let mut buffer = vec![0u8; ROWS * stride + PADDING + 2 * ALIGNMENT];
        // To aligned rows libjpeg writes past the caches, and they are about to be read.
        let unaligned = ALIGNMENT + ALIGNMENT / 2 - buffer.as_ptr().addr() % ALIGNMENT;
        let buffer = &mut buffer[unaligned..];
        let start_of_kept = 3 * (columns.start - first);
        while (self.info.output_scanline as usize) < height {
            let start = self.info.output_scanline as usize;
            if crops && start >= rows.end && start + 1 < height {
                // All but the last, whose reading makes libjpeg come to the end of the data.
                // SAFETY: decoding has started; there are this many rows.
                unsafe { ffi::jpeg_skip_scanlines(&mut self.info, (height - 1 - start) as u32) };
                continue;
            }
            let wanted = if start < rows.end { (rows.end - start).min(ROWS) } else { ROWS };
            let mut pointers: [*mut u8; ROWS] = [ptr::null_mut(); ROWS];
            for (pointer, row) in pointers.iter_mut().zip(buffer.chunks_exact_mut(stride)) {
                *pointer = row.as_mut_ptr();
            }
            // SAFETY: decoding has started; each of `wanted` pointers has room for a row of the output.
            let read =
                unsafe { ffi::jpeg_read_scanlines(&mut self.info, pointers.as_mut_ptr(), wanted as u32) };
            if read == 0 {
                return Err(too_few_rows());
            }
            for (row, index) in (start..start + read as usize).enumerate() {
                if !rows.contains(&index) {
                    continue;
                }
                let row = &mut buffer[row * stride..];
                if is_cmyk {
                    adobe_cmyk_to_rgb(&mut row[..length]);
                }
                take(index, &row[start_of_kept..]);
            }
        }
        if is_sequential {
            self.check_end()?;
        } else {
            // Reads on to the end-of-image marker; that it is missing is noticed only here.
            // SAFETY: all rows were read.
            unsafe { ffi::jpeg_finish_decompress(&mut self.info) };
        }
        Ok(self.gatherer.take().map(|gatherer| gatherer.finish()))
    }

    /// Looks for the end-of-image marker behind the only scan, all rows of which were read: its data may have been cut in
    /// its last block. What lies behind the data does not matter.
    fn check_end(&self) -> Result<(), DecodeError> {
        /// As many bytes as libjpeg may have taken beyond the data.
        const AHEAD: usize = 8;
        /// Zeros at the end of the data that no picture has.
        const HOLE: usize = 32;

        // SAFETY: decoding has started, so that there is a source, which was made of `bytes`.
        let left = unsafe { (*self.info.src).bytes_in_buffer };
        let ends_too_soon = DecodeError::Jpeg { reason: "it ends too soon" };
        let Some(at) = self.bytes.len().checked_sub(left) else { return Err(ends_too_soon) };
        let (before, behind) = self.bytes.split_at(at);
        if before.ends_with(b"\xff\xd9") || behind.starts_with(b"\xff\xd9") {
            return Ok(());
        }
        // The data goes on where it should have ended: perhaps it is not the picture's. Where a download reserved the
        // room and stopped, zeros follow, and they decode.
        let data = &before[..before.len().saturating_sub(AHEAD)];
        if data.len() >= HOLE && data[data.len() - HOLE..].iter().all(|&byte| byte == 0) {
            return Err(DecodeError::Jpeg { reason: "a part of its data is zeros" });
        }
        let has_met_marker =
            matches!(before, [.., 0xff, marker] if !matches!(marker, 0 | 0xd0..=0xd7 | 0xff));
        // A trailer, such as phones write; a file that was cut has none.
        if has_met_marker || behind.len() > 1 { Ok(()) } else { Err(ends_too_soon) }
    }

    /// Has only the blocks around `columns` transformed; gives the first column of the rows that will be read.
    fn crop(&mut self, columns: &Range<usize>, width: usize) -> usize {
        /// At the edge of what is transformed, chroma lacks a neighbour to be interpolated with: keep off it.
        const MARGIN: usize = 16;
        let (start, end) = (columns.start.saturating_sub(MARGIN), (columns.end + MARGIN).min(width));
        if (start, end) == (0, width) {
            return 0;
        }
        let (mut first, mut length) = (start as u32, (end - start) as u32);
        // SAFETY: decoding has started and no row was read; the columns lie in the output. libjpeg moves `first` to the
        // left, to where a block begins.
        unsafe { ffi::jpeg_crop_scanline(&mut self.info, &mut first, &mut length) };
        first as usize
    }
}

/// Turns a row of inverted CMYK (Adobe's convention in JPEG) into one of RGB, three quarters as long.
fn adobe_cmyk_to_rgb(row: &mut [u8]) {
    for pixel in 0..row.len() / 4 {
        // The file stores 255 - ink.
        let inks = [0, 1, 2, 3].map(|ink| 255 - row[4 * pixel + ink]);
        row[3 * pixel..3 * pixel + 3].copy_from_slice(&cmyk_to_rgb(inks));
    }
}

/// RGB of four inks with Pillow's rounding: R = K' - C K' / 255 for each ink, where K' = 255 - K, and the division rounds to
/// nearest.
pub(super) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| (255 - k).saturating_sub(multiply_255(ink, 255 - k)))
}

/// a b / 255, rounded to nearest (Pillow's MULDIV255).
fn multiply_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

fn strict_error_manager() -> ffi::jpeg_error_mgr {
    // SAFETY: the struct is plain C data (numbers, nullable pointers), for which all zeros is a valid value;
    // jpeg_std_error then fills it in and keeps no pointer to it.
    unsafe {
        let mut manager: ffi::jpeg_error_mgr = mem::zeroed();
        ffi::jpeg_std_error(&mut manager);
        manager.error_exit = Some(on_error);
        manager.emit_message = Some(on_message);
        manager
    }
}

/// libjpeg's fatal errors; must not return.
#[cold]
extern "C-unwind" fn on_error(info: &mut ffi::jpeg_common_struct) {
    // SAFETY: libjpeg's callbacks get the error manager that was set before decompression was created.
    let code = unsafe { (*info.err).msg_code };
    resume_unwind(Box::new(LibjpegError(code)));
}

/// Warnings (level -1) and traces (level 0 and above).
extern "C-unwind" fn on_message(info: &mut ffi::jpeg_common_struct, level: c_int) {
    if level >= 0 {
        return;
    }
    // SAFETY: libjpeg's callbacks get the error manager that was set before decompression was created.
    let code = unsafe { (*info.err).msg_code };
    if code == ffi::JWRN_BOGUS_PROGRESSION && is_repeated_scan(info) {
        return;
    }
    let harmless = matches!(
        code,
        // About metadata, about bytes between segments, or about header fields that baseline decoding ignores:
        // the picture itself is whole.
        ffi::JWRN_ADOBE_XFORM | ffi::JWRN_EXTRANEOUS_DATA | ffi::JWRN_JFIF_MAJOR | ffi::JWRN_NOT_SEQUENTIAL
    );
    if !harmless {
        on_error(info);
    }
}

/// Whether the scan that libjpeg wonders about is one that came before, and gives again what it gave. A refinement of what
/// is not the average of a block is none: its bits count for what was zero, and that has changed.
fn is_repeated_scan(info: &mut ffi::jpeg_common_struct) -> bool {
    let info = ptr::from_mut(info).cast::<ffi::jpeg_decompress_struct>();
    // SAFETY: the warning is one of decompression, whose struct begins with the common one. It comes when a scan begins:
    // its parameters name a component and a coefficient, whose state is not yet the scan's, and its header, which ends with
    // three bytes of its own, was the last that was read, from one piece of memory.
    unsafe {
        let [component, coefficient, ..] = *(*(*info).common.err).msg_parm.i();
        let known = (*info).coef_bits.cast::<c_int>();
        if known.is_null() {
            return false;
        }
        let known = *known.offset((64 * component + coefficient) as isize);
        let [_first, _last, precision] = *(*(*info).src).next_input_byte.sub(3).cast::<[u8; 3]>();
        let (before, after) = (c_int::from(precision >> 4), c_int::from(precision & 15));
        known == after && (before == 0 || coefficient == 0)
    }
}
