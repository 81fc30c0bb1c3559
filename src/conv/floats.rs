//! Numbers that start where a cache line does, so that no register is loaded from two lines.

use std::ops::{Deref, DerefMut};

/// A cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read as part of a slice of numbers")] [f32; LINE]);

/// Numbers in it.
pub(super) const LINE: usize = 16;

/// A vector of float32 that starts at a multiple of 64 bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Floats {
    lines: Vec<Line>,
    len: usize,
}

impl Floats {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)], len }
    }

    /// Makes it at least `len` long. What it holds is any numbers.
    pub(super) fn reserve(&mut self, len: usize) {
        if len > self.len {
            *self = Self::zeros(len);
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: lines are arrays of float32 without padding, of which `len` is no more than there are.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
