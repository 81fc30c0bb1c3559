//! The blocked layout of activations, and the registers that it is made for.

use pulp::{Arch, Simd, WithSimd};

/// The vector registers of this processor.
#[derive(Debug, Clone, Copy)]
pub struct Vectors {
    arch: Arch,
    lanes: usize,
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        if S::IS_SCALAR { 1 } else { S::F32_LANES }
    }
}

impl Vectors {
    /// Those of this processor; none where it has none that are worth it.
    pub fn detect() -> Option<Vectors> {
        Self::of(Arch::new())
    }

    /// Those of `arch`.
    fn of(arch: Arch) -> Option<Vectors> {
        let lanes = arch.dispatch(Lanes);
        (lanes > 1).then_some(Vectors { arch, lanes })
    }

    /// Every kind that this processor has.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Vectors> {
        #[allow(unused_mut, reason = "other processors have one kind")]
        let mut archs = vec![Arch::new()];
        #[cfg(target_arch = "x86_64")]
        if let (Arch::V4(_), Some(avx2)) = (archs[0], pulp::x86::V3::try_new()) {
            archs.push(Arch::V3(avx2));
        }
        archs.into_iter().filter_map(Self::of).collect()
    }

    /// Numbers in a register, and channels in a block.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Blocks that hold so many channels.
    pub fn blocks(&self, channels: usize) -> usize {
        channels.div_ceil(self.lanes)
    }

    /// Runs `op` with instructions for these registers.
    pub(super) fn run<Op: WithSimd>(&self, op: Op) -> Op::Output {
        self.arch.dispatch(op)
    }
}

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
