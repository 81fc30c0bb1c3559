//! The blocked layout of activations (NCHWc): conversion from and to planes.

/// One image from channels x pixels to blocks x pixels x lanes.
pub(super) fn pack(planes: &[f32], channels: usize, lanes: usize, blocked: &mut [f32]) {
    let pixels = planes.len() / channels.max(1);
    for (block, of_block) in blocked.chunks_exact_mut(pixels * lanes).enumerate() {
        let first = block * lanes;
        let there = (channels - first).min(lanes);
        let planes = &planes[first * pixels..][..there * pixels];
        for (pixel, lanes) in of_block.chunks_exact_mut(lanes).enumerate() {
            for (lane, value) in lanes.iter_mut().enumerate() {
                *value = if lane < there { planes[lane * pixels + pixel] } else { 0.0 };
            }
        }
    }
}

/// One image from blocks x pixels x lanes to channels x pixels.
pub(super) fn unpack(blocked: &[f32], channels: usize, lanes: usize, planes: &mut [f32]) {
    let pixels = planes.len() / channels.max(1);
    for (channel, plane) in planes.chunks_exact_mut(pixels.max(1)).enumerate() {
        let of_block = &blocked[channel / lanes * pixels * lanes..];
        for (pixel, value) in plane.iter_mut().enumerate() {
            *value = of_block[pixel * lanes + channel % lanes];
        }
    }
}
