//! Working memory of layers, kept from run to run.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use super::aligned_vec::AlignedVec;

/// Working memory of layers, kept from run to run so that no run allocates.
#[derive(Debug, Default)]
pub struct Scratch(Mutex<Vec<AlignedVec>>);

/// A piece of a [`Scratch`], which goes back when dropped.
pub(crate) struct ScratchGuard<'a> {
    values: AlignedVec,
    from: &'a Scratch,
}

impl Scratch {
    /// At least `len` values. What they are is unspecified.
    pub(crate) fn take(&self, len: usize) -> ScratchGuard<'_> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, or else the largest, which grows.
        let fits = |values: &&(usize, usize)| values.1 >= len;
        let sizes: Vec<(usize, usize)> = free.iter().map(|values| values.len()).enumerate().collect();
        let best = sizes.iter().filter(fits).min_by_key(|(_, len)| *len);
        let chosen = best.or_else(|| sizes.iter().max_by_key(|(_, len)| *len));
        let mut values = chosen.map(|&(index, _)| free.swap_remove(index)).unwrap_or_default();
        drop(free);
        values.reserve(len);
        ScratchGuard { values, from: self }
    }
}

impl Deref for ScratchGuard<'_> {
    type Target = AlignedVec;

    fn deref(&self) -> &AlignedVec {
        &self.values
    }
}

impl DerefMut for ScratchGuard<'_> {
    fn deref_mut(&mut self) -> &mut AlignedVec {
        &mut self.values
    }
}

impl Drop for ScratchGuard<'_> {
    fn drop(&mut self) {
        let mut free = self.from.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(std::mem::take(&mut self.values));
    }
}
