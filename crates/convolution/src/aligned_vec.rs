//! Numbers that start where a cache line does, so that no register is loaded from two lines.

use std::ops::{Deref, DerefMut};

/// Numbers in a cache line.
pub(super) const LINE: usize = 16;

/// A vector of float32 that starts at a multiple of 64 bytes.
#[derive(Debug, Default)]
pub(super) struct AlignedVec {
    numbers: Vec<f32>,
    /// Where a line starts.
    start: usize,
    len: usize,
}

impl AlignedVec {
    /// `len` zeros. They take memory when they are first written, which threads can do side by side.
    pub(super) fn zeros(len: usize) -> Self {
        let most_before = LINE - 1;
        let numbers = vec![0.0; len + most_before];
        let start = numbers.as_ptr().align_offset(LINE * size_of::<f32>()).min(most_before);
        Self { numbers, start, len }
    }

    /// Makes it at least `len` long. What it holds is any numbers.
    pub(super) fn reserve(&mut self, len: usize) {
        if len > self.len {
            *self = Self::zeros(len);
        }
    }
}

impl Deref for AlignedVec {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[self.start..][..self.len]
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.start..][..self.len]
    }
}
