//! A slice that threads write at once, without locks: each thread promises to write elements of its own.

use std::marker::PhantomData;

use pulp::Simd;

/// A mutable slice that several threads write at once, each its own elements.
pub(crate) struct DisjointSliceMut<'a> {
    values: *mut f32,
    len: usize,
    lives: PhantomData<&'a mut [f32]>,
}

// SAFETY: all that threads do with it is unsafe, and they promise to write different values.
unsafe impl Sync for DisjointSliceMut<'_> {}

impl<'a> DisjointSliceMut<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { values: values.as_mut_ptr(), len: values.len(), lives: PhantomData }
    }

    /// # Safety
    /// A register's values from `at` on are among these, and no other thread has them.
    #[inline(always)]
    pub(crate) unsafe fn write<S: Simd>(&self, at: usize, value: S::f32s) {
        debug_assert!(at + S::F32_LANES <= self.len, "among the shared values");
        // SAFETY: promised by the caller.
        unsafe { self.values.add(at).cast::<S::f32s>().write_unaligned(value) };
    }

    /// # Safety
    /// No other thread has the `len` values from `start` on, and this one has them once.
    #[allow(clippy::mut_from_ref, reason = "what is borrowed is one thread's, as the caller promises")]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "among the shared values");
        // SAFETY: in bounds, and promised by the caller to be this thread's.
        unsafe { std::slice::from_raw_parts_mut(self.values.add(start), len) }
    }
}
