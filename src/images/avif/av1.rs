//! A picture of AV1, through re_rav1d, dav1d's port to Rust, which keeps dav1d's functions in C's manner.

use std::ffi::c_uint;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use re_rav1d::include::dav1d::data::Dav1dData;
use re_rav1d::include::dav1d::dav1d::{Dav1dContext, Dav1dSettings};
use re_rav1d::include::dav1d::headers::{
    DAV1D_PIXEL_LAYOUT_I400, DAV1D_PIXEL_LAYOUT_I420, DAV1D_PIXEL_LAYOUT_I422, DAV1D_PIXEL_LAYOUT_I444,
};
use re_rav1d::include::dav1d::picture::Dav1dPicture;
use re_rav1d::src::lib::{
    dav1d_close, dav1d_data_create, dav1d_data_unref, dav1d_default_settings, dav1d_get_picture, dav1d_open,
    dav1d_picture_unref, dav1d_send_data,
};

/// Planes as decoded, without padding.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) depth: u32,
    pub(super) luma: Vec<u16>,
    /// Cb, Cr, their width and their height.
    pub(super) chroma: Option<(Vec<u16>, Vec<u16>, usize, usize)>,
    /// As ITU-T H.273 numbers them.
    pub(super) matrix: u8,
    pub(super) is_full_range: bool,
}

/// An open decoder.
struct Decoder(Option<Dav1dContext>);

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the context is of `dav1d_open`, and is closed once.
        unsafe { dav1d_close(Some(NonNull::from(&mut self.0))) }
    }
}

/// Data on their way to the decoder.
struct CodedData(Dav1dData);

impl Drop for CodedData {
    fn drop(&mut self) {
        // SAFETY: made by `dav1d_data_create`; what the decoder took is gone from it.
        unsafe { dav1d_data_unref(Some(NonNull::from(&mut self.0))) }
    }
}

/// A decoded picture, or an empty one.
struct DecodedPicture(Dav1dPicture);

impl Drop for DecodedPicture {
    fn drop(&mut self) {
        // SAFETY: empty, or filled by the decoder.
        unsafe { dav1d_picture_unref(Some(NonNull::from(&mut self.0))) }
    }
}

/// The first frame of `bytes`; `None` where they are damaged, or it has more than `max_pixels`.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Option<Frame> {
    /// Calls without a picture, after which there will be none.
    const PATIENCE: usize = 64;

    if bytes.is_empty() {
        return None;
    }
    let mut settings = MaybeUninit::<Dav1dSettings>::uninit();
    // SAFETY: the function fills all of the settings.
    let mut settings = unsafe {
        dav1d_default_settings(NonNull::from(&mut settings).cast());
        settings.assume_init()
    };
    // One thread: images are decoded side by side.
    (settings.n_threads, settings.max_frame_delay) = (1, 1);
    settings.frame_size_limit = c_uint::try_from(max_pixels).unwrap_or(c_uint::MAX);
    // The only layer that is shown.
    settings.all_layers = 0;
    let mut decoder = Decoder(None);
    // SAFETY: places for the context and the settings, which live through the call.
    let opened =
        unsafe { dav1d_open(Some(NonNull::from(&mut decoder.0)), Some(NonNull::from(&mut settings))) };
    if opened.0 != 0 {
        return None;
    }
    let mut data = CodedData(Dav1dData::default());
    // SAFETY: the function gives room for so many bytes, or none.
    unsafe {
        let room = dav1d_data_create(Some(NonNull::from(&mut data.0)), bytes.len());
        let room = NonNull::new(room)?;
        room.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
    let again = -libc::EAGAIN;
    for _ in 0..PATIENCE {
        if data.0.sz > 0 {
            // SAFETY: an open context, and data of `dav1d_data_create`.
            let sent = unsafe { dav1d_send_data(decoder.0, Some(NonNull::from(&mut data.0))) };
            if sent.0 != 0 && sent.0 != again {
                return None;
            }
        }
        let mut picture = DecodedPicture(Dav1dPicture::default());
        // SAFETY: an open context, and a place for a picture.
        let got = unsafe { dav1d_get_picture(decoder.0, Some(NonNull::from(&mut picture.0))) };
        match got.0 {
            0 => return frame_of(&picture.0),
            code if code == again => {}
            _ => return None,
        }
    }
    None
}

fn frame_of(picture: &Dav1dPicture) -> Option<Frame> {
    let (width, height) = (usize::try_from(picture.p.w).ok()?, usize::try_from(picture.p.h).ok()?);
    let halves = match picture.p.layout {
        DAV1D_PIXEL_LAYOUT_I400 => None,
        DAV1D_PIXEL_LAYOUT_I420 => Some((width.div_ceil(2), height.div_ceil(2))),
        DAV1D_PIXEL_LAYOUT_I422 => Some((width.div_ceil(2), height)),
        DAV1D_PIXEL_LAYOUT_I444 => Some((width, height)),
        _ => return None,
    };
    let depth = u32::try_from(picture.p.bpc).ok()?;
    let plane = |index: usize, width: usize, height: usize| -> Option<Vec<u16>> {
        let stride = picture.stride[index.min(1)];
        let start = picture.data[index]?.cast::<u8>();
        let mut samples = Vec::with_capacity(width * height);
        for y in 0..height {
            // SAFETY: a decoded plane has `height` rows, `stride` bytes apart, of at least `width` samples of one byte, or
            // of two (and then aligned to them) where they have more than 8 bits.
            unsafe {
                let row = start.as_ptr().offset(stride * isize::try_from(y).ok()?);
                if depth == 8 {
                    samples.extend(
                        std::slice::from_raw_parts(row, width).iter().map(|&sample| u16::from(sample)),
                    );
                } else {
                    samples.extend_from_slice(std::slice::from_raw_parts(row.cast::<u16>(), width));
                }
            }
        }
        Some(samples)
    };
    let chroma = match halves {
        None => None,
        Some((columns, rows)) => Some((plane(1, columns, rows)?, plane(2, columns, rows)?, columns, rows)),
    };
    // SAFETY: a decoded picture has the header of its sequence, which lives as long as it does.
    let header = unsafe { picture.seq_hdr?.as_ref() };
    Some(Frame {
        width,
        height,
        depth,
        luma: plane(0, width, height)?,
        chroma,
        matrix: u8::try_from(header.mtrx).ok()?,
        is_full_range: header.color_range != 0,
    })
}
