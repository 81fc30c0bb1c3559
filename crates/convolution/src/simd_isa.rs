//! The SIMD instruction set of this processor, and how many channels one of its registers holds.

use pulp::{Arch, Simd, WithSimd};

/// A SIMD instruction set of this processor: AVX-512, AVX2 with FMA, or NEON.
#[derive(Debug, Clone, Copy)]
pub struct SimdIsa {
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

impl SimdIsa {
    /// The widest instruction set of this processor; `None` where it has no vector instructions that pay.
    pub fn detect() -> Option<SimdIsa> {
        Self::of(Arch::new())
    }

    fn of(arch: Arch) -> Option<SimdIsa> {
        let lanes = arch.dispatch(Lanes);
        (lanes > 1).then_some(SimdIsa { arch, lanes })
    }

    /// Every instruction set of this processor.
    #[cfg(test)]
    pub(super) fn all() -> Vec<SimdIsa> {
        #[allow(unused_mut, reason = "other processors have one instruction set")]
        let mut archs = vec![Arch::new()];
        #[cfg(target_arch = "x86_64")]
        if let (Arch::V4(_), Some(avx2)) = (archs[0], pulp::x86::V3::try_new()) {
            archs.push(Arch::V3(avx2));
        }
        archs.into_iter().filter_map(Self::of).collect()
    }

    /// float32 values in a register, which is also the number of channels in a block.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Blocks that are needed for `channels` channels.
    pub fn blocks(&self, channels: usize) -> usize {
        channels.div_ceil(self.lanes)
    }

    /// Runs `op` compiled for this instruction set.
    pub(super) fn run<Op: WithSimd>(&self, op: Op) -> Op::Output {
        self.arch.dispatch(op)
    }
}
