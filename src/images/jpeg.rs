//! JPEG through libjpeg (mozjpeg), bit for bit as libjpeg-turbo and so Pillow decode it: accurate integer DCT,
//! smooth chroma upsampling.
//!
//! libjpeg repairs what it can: it fills the missing half of a photo with grey and only counts a warning. Here a
//! warning about the picture's data is an error, because codes of half a photo are wrong and look right.

use std::any::Any;
use std::ffi::{c_int, c_ulong};
use std::marker::PhantomData;
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use image::RgbImage;
use image::metadata::Orientation;
use mozjpeg_sys as ffi;
use mozjpeg_sys::J_COLOR_SPACE::{JCS_CMYK, JCS_RGB, JCS_YCCK};

use super::decode::{DecodeError, DecodeOptions, check_pixels};
use super::perceptual_hash::Luma;
use super::resample::PADDING;
use luma::Gatherer;

mod luma;

const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// The marker of the segment that holds EXIF.
const APP1: c_int = ffi::jpeg_marker::APP0 as c_int + 1;

/// Rows that libjpeg is asked for at a time: its own unit, so that those of a large photo are still in a core's cache when
/// they are read.
const ROWS: usize = 2;

/// Bytes of libjpeg's widest vectors.
const ALIGNMENT: usize = 32;

/// What libjpeg says about the data; the payload that unwinds from its callbacks to [`guarded`].
struct Complaint(String);

/// Decodes a JPEG to RGB; orientation is returned, not applied.
///
/// CMYK and YCCK become RGB as Pillow's `convert("RGB")` does it, taking the file for inverted as Adobe writes it.
pub(super) fn decode_jpeg(
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<(RgbImage, Orientation), DecodeError> {
    guarded(|| {
        let mut jpeg = Jpeg::open(bytes, options)?;
        let orientation = jpeg.orientation();
        let (width, height) = jpeg.start(Reduction::NONE)?;
        let length = 3 * width as usize;
        let mut samples = Vec::with_capacity(length * height as usize);
        jpeg.read(0..width as usize, 0..height as usize, |_, row| {
            samples.extend_from_slice(&row[..length]);
        })?;
        let image = RgbImage::from_raw(width, height, samples).ok_or_else(too_few_rows)?;
        Ok((image, orientation))
    })
}

fn too_few_rows() -> DecodeError {
    DecodeError::Jpeg { message: "it holds fewer rows than its header says".to_owned() }
}

/// Runs `work`, in which libjpeg may complain.
pub(super) fn guarded<T, E: From<DecodeError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // Errors leave libjpeg by unwinding; every object that it holds is freed by its owner's Drop on the way, and
    // nothing of it is used afterwards.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => Err(DecodeError::Jpeg { message: complaint_of(payload) }.into()),
    }
}

fn complaint_of(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<Complaint>() {
        Ok(complaint) => complaint.0,
        Err(_) => "the decoder failed on it".to_owned(),
    }
}

/// How many eighths of a photo's side are decoded: a block of 8 x 8 pixels becomes one of this side, in the transform that
/// decodes it anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reduction(u32);

impl Reduction {
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
    gatherer: Option<Box<Gatherer>>,
    /// `info` reads them.
    _bytes: PhantomData<&'a [u8]>,
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
            .map_err(|_| DecodeError::Jpeg { message: "it is too long for the decoder".to_owned() })?;
        let mut manager = Box::new(strict_error_manager());
        // SAFETY: plain C data (numbers, nullable pointers, enums with a variant 0), for which all zeros is valid.
        let mut info: Box<ffi::jpeg_decompress_struct> = Box::new(unsafe { mem::zeroed() });
        info.common.err = ptr::from_mut(&mut *manager);
        // SAFETY: `info` has its error manager, as libjpeg wants it before anything else, and both stay where they are.
        unsafe { ffi::jpeg_create_decompress(&mut *info) };
        let mut jpeg = Self { info, _manager: manager, gatherer: None, _bytes: PhantomData };
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

    /// How EXIF says that it is to be turned.
    pub(super) fn orientation(&self) -> Orientation {
        let mut next = self.info.marker_list;
        // SAFETY: a list of nodes that live as long as `info`, each with as many bytes of data as it says.
        while let Some(marker) = unsafe { next.as_ref() } {
            // SAFETY: as above.
            let data = unsafe { std::slice::from_raw_parts(marker.data, marker.data_length as usize) };
            if let Some(exif) = data.strip_prefix(EXIF_PREFIX)
                && let Some(orientation) = Orientation::from_exif_chunk(exif)
            {
                return orientation;
            }
            next = marker.next;
        }
        Orientation::NoTransforms
    }

    /// Starts decoding; gives the width and height of what will be read.
    pub(super) fn start(&mut self, reduction: Reduction) -> Result<(u32, u32), DecodeError> {
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
        self.gatherer = Gatherer::attach(&mut self.info)?;
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
        // Reads on to the end-of-image marker; that it is missing is noticed only here.
        // SAFETY: all rows were read.
        unsafe { ffi::jpeg_finish_decompress(&mut self.info) };
        Ok(self.gatherer.take().map(|gatherer| gatherer.finish()))
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

/// Turns a row of inverted CMYK (Adobe's convention in JPEG) into one of RGB, three quarters as long, with Pillow's
/// rounding: R = K' - C K' / 255 for each ink, where K' = 255 - K, and the division rounds to nearest.
fn adobe_cmyk_to_rgb(row: &mut [u8]) {
    for pixel in 0..row.len() / 4 {
        // The file stores 255 - ink, so the stored K is K' already.
        let [c, m, y, not_k] = [row[4 * pixel], row[4 * pixel + 1], row[4 * pixel + 2], row[4 * pixel + 3]];
        for (channel, stored) in [c, m, y].into_iter().enumerate() {
            row[3 * pixel + channel] = not_k.saturating_sub(multiply_255(255 - stored, not_k));
        }
    }
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
    resume_unwind(Box::new(Complaint(message_of(info))));
}

/// Warnings (level -1) and traces (level 0 and above).
extern "C-unwind" fn on_message(info: &mut ffi::jpeg_common_struct, level: c_int) {
    if level >= 0 {
        return;
    }
    // SAFETY: libjpeg's callbacks get the error manager that was set before decompression was created.
    let code = unsafe { (*info.err).msg_code };
    let harmless = matches!(
        code,
        // About metadata, about bytes between segments, or about header fields that baseline decoding ignores:
        // the picture itself is whole.
        ffi::JWRN_ADOBE_XFORM
            | ffi::JWRN_BOGUS_ICC
            | ffi::JWRN_EXTRANEOUS_DATA
            | ffi::JWRN_JFIF_MAJOR
            | ffi::JWRN_NOT_SEQUENTIAL
    );
    if !harmless {
        on_error(info);
    }
}

fn message_of(info: &mut ffi::jpeg_common_struct) -> String {
    /// As the C header has it; the crate's own declaration has a read-only buffer that is too short.
    type FormatMessage = unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, *mut u8);
    const JMSG_LENGTH_MAX: usize = 200;
    let mut buffer = [0u8; JMSG_LENGTH_MAX];
    // SAFETY: as in on_message. The two function types differ only in how they spell the pointer to the buffer,
    // and the C function writes at most JMSG_LENGTH_MAX bytes, the last of them 0.
    unsafe {
        let Some(format) = (*info.err).format_message else {
            return format!("libjpeg message {}", (*info.err).msg_code);
        };
        let format: FormatMessage = mem::transmute(format);
        format(info, buffer.as_mut_ptr());
    }
    let text = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
