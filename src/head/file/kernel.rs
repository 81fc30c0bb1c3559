//! The parts of a head file that only an SVM with a kernel has: files of version 3.

use super::{HeadFileError, HeadReader, HeadWriter, hdf5};
use crate::head::{Kernel, KernelMap};

const KERNEL: &str = "kernel";
const VECTORS: &str = "support_vectors";

impl HeadWriter<'_> {
    pub(super) fn kernel(&self, map: &KernelMap) -> hdf5::Result<()> {
        let (rows, columns) = map.vectors().dim();
        self.numbers(VECTORS, &[rows, columns], &map.vectors().iter().copied().collect::<Vec<f32>>())?;
        self.json(KERNEL, &map.kernel())
    }
}

impl HeadReader<'_> {
    /// The kernel, where the head has one: of as many support vectors as there are `weights` a class.
    pub(super) fn kernel(&self, weights: usize) -> Result<Option<KernelMap>, HeadFileError> {
        if !self.has_attribute(KERNEL) && !self.has(VECTORS)? {
            return Ok(None);
        }
        let vectors = self.matrix(VECTORS)?;
        if vectors.nrows() != weights {
            return Err(self.unsound("`support_vectors` and the weights are not of the same number"));
        }
        let kernel: Kernel = self.json(KERNEL)?;
        match KernelMap::from_parts(kernel, vectors) {
            None => Err(self.unsound("its kernel or support vectors hold values that cannot be")),
            sound => Ok(sound),
        }
    }
}
