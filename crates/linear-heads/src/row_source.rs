//! Rows of features, in memory or in a file, that are looked through block by block.

use std::{
    ops::Range,
    sync::mpsc::{channel, sync_channel},
    thread,
};

use ndarray::ArrayView2;

use super::{BoxedError, SolverError};

/// Rows of features that can be read again and again.
pub trait RowSource: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Number of features of a row.
    fn columns(&self) -> usize;

    /// Features of the rows `range`, row after row, into `out`, which is exactly their size.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), BoxedError>;
}

impl RowSource for ArrayView2<'_, f32> {
    fn rows(&self) -> usize {
        self.nrows()
    }

    fn columns(&self) -> usize {
        self.ncols()
    }

    fn read(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), BoxedError> {
        let columns = self.ncols().max(1);
        for (row, out) in range.zip(out.chunks_exact_mut(columns)) {
            out.iter_mut().zip(self.row(row)).for_each(|(to, from)| *to = *from);
        }
        Ok(())
    }
}

/// Calls `visit` with each block of at most `block` rows in turn: the number of its first row, and its features row after row.
/// The next block is read meanwhile, so two are in memory.
///
/// # Errors
/// When a block cannot be read; `visit` may end the scan with an error of its own.
pub(super) fn scan(
    source: &dyn RowSource,
    block: usize,
    mut visit: impl FnMut(usize, &mut [f32]) -> Result<(), SolverError>,
) -> Result<(), SolverError> {
    let (rows, columns) = (source.rows(), source.columns());
    let (give_back, empty) = channel::<Vec<f32>>();
    let (fill, filled) = sync_channel(1);
    // The receiver is alive, so these cannot fail.
    let _ = give_back.send(Vec::new());
    let _ = give_back.send(Vec::new());
    // Moves the channels' ends in, so that an early return lets the reader go.
    thread::scope(move |scope| {
        scope.spawn(move || {
            for start in (0..rows).step_by(block) {
                let Ok(mut buffer) = empty.recv() else { return };
                let end = rows.min(start + block);
                buffer.resize((end - start) * columns, 0.0);
                let read = source.read(start..end, &mut buffer).map(|()| (start, buffer));
                if fill.send(read).is_err() {
                    return;
                }
            }
        });
        for read in filled {
            let (start, mut buffer) = read.map_err(SolverError::Read)?;
            visit(start, &mut buffer)?;
            // The reader may have finished.
            let _ = give_back.send(buffer);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn every_row_is_visited_once_and_in_order() {
        let features = Array2::from_shape_fn((23, 3), |(i, j)| (3 * i + j) as f32);
        let mut seen = Vec::new();
        scan(&features.view(), 5, |first, block| {
            assert_eq!((seen.len(), block[0]), (3 * first, 3.0 * first as f32));
            seen.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, features.into_raw_vec_and_offset().0);
    }

    #[test]
    fn a_visit_that_fails_ends_the_scan() {
        let features = Array2::zeros((23, 3));
        let mut visits = 0;
        let error = scan(&features.view(), 5, |_, _| {
            visits += 1;
            Err(SolverError::NoRows)
        });
        assert!(matches!(error, Err(SolverError::NoRows)));
        assert_eq!(visits, 1);
    }
}
