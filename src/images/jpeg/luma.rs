//! The luma of a whole JPEG at a fraction of its size, gathered while the photo is decoded.
//!
//! A block's first coefficient is the mean of its 8 x 8 pixels, its first few are the block in small. libjpeg decodes the
//! coefficients of every block, in the order of the file, even of those that no pixel is made of because the crop leaves
//! them out. [`LumaGatherer`] looks on as it does so. What it gathers therefore depends on the file alone: not on the crop, not on
//! how far the photo is reduced, not on the network. It costs next to nothing, where a second decoding would cost as much as
//! the first one's most expensive part.

use std::ffi::c_int;

use mozjpeg_sys as ffi;
use mozjpeg_sys::J_COLOR_SPACE::{JCS_GRAYSCALE, JCS_YCbCr};

use super::too_few_rows;
use crate::images::decode::DecodeError;
use crate::images::perceptual_hash::Luma;

/// Blocks along the shorter side from which on a block's mean is enough; with half as many, 2 x 2 samples of each are
/// taken, and so on.
const ENOUGH_BLOCKS: usize = 32;

/// Blocks in a minimum coded unit at most.
const MOST_BLOCKS: usize = 10;

type DecodeMcu =
    unsafe extern "C-unwind" fn(info: &mut ffi::jpeg_decompress_struct, blocks: *mut ffi::JBLOCKROW) -> c_int;

unsafe extern "C" {
    fn cnncodes_jpeg_decode_mcu(info: *mut ffi::jpeg_decompress_struct) -> *mut DecodeMcu;
    fn cnncodes_jpeg_coefficients(
        info: *mut ffi::jpeg_decompress_struct,
    ) -> *mut *mut ffi::jvirt_barray_control;
}

/// Gathers the luma of the photo that is being decoded.
pub(super) struct LumaGatherer {
    blocks: BlockSampler,
    /// Blocks of luma in a minimum coded unit: across, down.
    unit: (usize, usize),
    /// Units across.
    units: usize,
    /// Units that were decoded.
    done: usize,
    decode: DecodeMcu,
    /// Where blocks go that libjpeg does not want to keep.
    spare: [ffi::JBLOCK; MOST_BLOCKS],
}

impl LumaGatherer {
    /// Looks on from now on, or takes what is there already; `None` where the photo's first component is no luma, and where
    /// more than the means of its blocks is wanted but libjpeg decodes no more, which is so for small photos that are reduced
    /// to an eighth. Decoding has started, and no row was read. The result must stay where it is as long as `info` is
    /// decoded.
    pub(super) fn attach(
        info: &mut ffi::jpeg_decompress_struct,
    ) -> Result<Option<Box<LumaGatherer>>, DecodeError> {
        if !matches!(info.jpeg_color_space, JCS_GRAYSCALE | JCS_YCbCr) {
            return Ok(None);
        }
        // SAFETY: the header was read, so there is a first component, and it lives as long as `info`.
        let component = unsafe { &*info.comp_info };
        let sampling = (component.h_samp_factor as usize, component.v_samp_factor as usize);
        let most = (info.max_h_samp_factor as usize, info.max_v_samp_factor as usize);
        // SAFETY: decoding has started, by which each component gets its own table.
        let Some(table) = (unsafe { component.quant_table.as_ref() }) else { return Err(too_few_rows()) };
        let size = (component.width_in_blocks as usize, component.height_in_blocks as usize);
        let extent =
            |pixels: u32, factor: usize, most: usize| f64::from(pixels) * factor as f64 / most as f64;
        let extent =
            (extent(info.image_width, sampling.0, most.0), extent(info.image_height, sampling.1, most.1));
        let blocks = BlockSampler::new(size, extent, &table.quantval);
        if blocks.side > 1 && info.scale_num == 1 {
            return Ok(None);
        }
        let is_alone = info.num_components == 1;
        // SAFETY: `info` is a decoder that has started.
        let slot = unsafe { cnncodes_jpeg_decode_mcu(info) };
        let mut gatherer = Box::new(LumaGatherer {
            blocks,
            // The blocks of a lone component come one by one.
            unit: if is_alone { (1, 1) } else { sampling },
            units: if is_alone { size.0 } else { (info.image_width as usize).div_ceil(8 * most.0) },
            done: 0,
            // SAFETY: libjpeg has put a function there.
            decode: unsafe { *slot },
            spare: [[0; 64]; MOST_BLOCKS],
        });
        // SAFETY: the header was read.
        if unsafe { ffi::jpeg_has_multiple_scans(info) } != 0 {
            gatherer.take_all(info);
        } else {
            info.common.client_data = std::ptr::from_mut(&mut *gatherer).cast();
            // SAFETY: as above; libjpeg calls what stands there, with `info`, whose `client_data` was just set.
            unsafe { *slot = decode_mcu };
        }
        Ok(Some(gatherer))
    }

    pub(super) fn finish(self) -> Luma {
        self.blocks.luma
    }

    /// Takes the coefficients of a photo of several scans, which have all been read.
    fn take_all(&mut self, info: &mut ffi::jpeg_decompress_struct) {
        // SAFETY: `info` is a decoder that has started, and has several scans: it keeps an array of blocks for each component,
        // of which the first is the luma's.
        let array = unsafe { *cnncodes_jpeg_coefficients(info) };
        // SAFETY: a decoder has its memory manager.
        let access = unsafe { (*info.common.mem).access_virt_barray };
        let access = access.expect("libjpeg's memory manager is complete");
        for row in 0..self.blocks.size.1 {
            // SAFETY: the array has this row; libjpeg lets one row be looked at at a time, and it holds as many blocks as the
            // component is wide.
            let blocks = unsafe {
                let rows = access(&mut info.common, array, row as u32, 1, 0);
                std::slice::from_raw_parts(*rows, self.blocks.size.0)
            };
            for (column, block) in blocks.iter().enumerate() {
                self.blocks.take((column, row), block);
            }
        }
    }
}

/// Has libjpeg decode a minimum coded unit, and takes its luma.
unsafe extern "C-unwind" fn decode_mcu(
    info: &mut ffi::jpeg_decompress_struct,
    wanted: *mut ffi::JBLOCKROW,
) -> c_int {
    // SAFETY: `attach` has set it to the gatherer, which nothing else uses while libjpeg decodes.
    let gatherer = unsafe { &mut *info.common.client_data.cast::<LumaGatherer>() };
    let mut pointers: [ffi::JBLOCKROW; MOST_BLOCKS];
    let blocks = if wanted.is_null() {
        // libjpeg writes only what is not zero.
        gatherer.spare.fill([0; 64]);
        pointers = gatherer.spare.each_mut().map(std::ptr::from_mut);
        pointers.as_mut_ptr()
    } else {
        wanted
    };
    // SAFETY: the function that stood there, called as libjpeg calls it: with a block for each of the unit's.
    let decoded = unsafe { (gatherer.decode)(info, blocks) };
    if decoded == 0 {
        return decoded;
    }
    let (column, row) = (gatherer.done % gatherer.units, gatherer.done / gatherer.units);
    let (across, down) = gatherer.unit;
    for (index, place) in (0..down).flat_map(|y| (0..across).map(move |x| (x, y))).enumerate() {
        // SAFETY: luma is the first component, and its blocks are the first of the unit, row by row.
        let block = unsafe { &**blocks.add(index) };
        gatherer.blocks.take((column * across + place.0, row * down + place.1), block);
    }
    gatherer.done += 1;
    decoded
}

/// Makes samples of blocks.
struct BlockSampler {
    /// Across, down.
    size: (usize, usize),
    /// Samples along the side of a block.
    side: usize,
    /// What a sample is made of, for each of a block's in turn: its share of each of the first `side` x `side` coefficients.
    shares: Vec<f32>,
    luma: Luma,
}

impl BlockSampler {
    /// For `size` blocks, of which `extent` pixels are of the photo.
    fn new(size: (usize, usize), extent: (f64, f64), quantisation: &[u16; 64]) -> Self {
        let shorter = size.0.min(size.1);
        let side = [1, 2, 4].into_iter().find(|side| side * shorter >= ENOUGH_BLOCKS).unwrap_or(8);
        let scale = side as f64 / 8.0;
        let luma = Luma::new((size.0 * side, size.1 * side), (extent.0 * scale, extent.1 * scale));
        Self { size, side, shares: shares(side, quantisation), luma }
    }

    /// Takes the block at `place`; those beyond the photo, which fill a unit up, are left out.
    fn take(&mut self, place: (usize, usize), coefficients: &ffi::JBLOCK) {
        if place.0 >= self.size.0 || place.1 >= self.size.1 {
            return;
        }
        let side = self.side;
        if side == 1 {
            let value = 128.0 + f32::from(coefficients[0]) * self.shares[0];
            return self.luma.set(place.0, place.1, value);
        }
        if side == 2 {
            let [a, b, c, d] = [0, 1, 8, 9].map(|at| f32::from(coefficients[at]));
            for (index, [of_a, of_b, of_c, of_d]) in self.shares.as_chunks().0.iter().enumerate() {
                let value = 128.0 + a * of_a + b * of_b + c * of_c + d * of_d;
                self.luma.set(2 * place.0 + index % 2, 2 * place.1 + index / 2, value);
            }
            return;
        }
        for (index, shares) in self.shares.chunks_exact(side * side).enumerate() {
            let mut value = 128.0;
            for (row, shares) in shares.chunks_exact(side).enumerate() {
                for (&coefficient, share) in coefficients[8 * row..].iter().zip(shares) {
                    value += f32::from(coefficient) * share;
                }
            }
            self.luma.set(place.0 * side + index % side, place.1 * side + index / side, value);
        }
    }
}

/// The inverse cosine transform of `side` points, of coefficients that were made with eight, with the quantisation undone.
fn shares(side: usize, quantisation: &[u16; 64]) -> Vec<f32> {
    let basis = |sample: usize, frequency: usize| {
        let norm = if frequency == 0 { 1.0 } else { 2.0 };
        let angle = (2 * sample + 1) as f64 * frequency as f64 * std::f64::consts::PI / (2 * side) as f64;
        (norm / side as f64).sqrt() * angle.cos()
    };
    let mut shares = Vec::with_capacity(side.pow(4));
    for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
        for (v, u) in (0..side).flat_map(|v| (0..side).map(move |u| (v, u))) {
            let step = f64::from(quantisation[8 * v + u]);
            shares.push((step * side as f64 / 8.0 * basis(y, v) * basis(x, u)) as f32);
        }
    }
    shares
}
