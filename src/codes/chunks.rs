//! Reading the chunks of a layer as they lie in the file.
//!
//! HDF5's own reading copies every chunk once more, through a cache. Where chunks hold whole rows of this machine's
//! float32 without filters, as ours do, each is one read of the system straight into the caller's memory, and the
//! library, which does one thing at a time, is locked no longer than that takes.

use std::ops::Range;

use hdf5_metno::{Dataset, Dataspace, Datatype};
use hdf5_metno_sys::h5::{herr_t, hsize_t};
use hdf5_metno_sys::h5d::{H5Dread, H5Dread_chunk1};
use hdf5_metno_sys::h5i::hid_t;
use hdf5_metno_sys::h5p::H5P_DEFAULT;

// Public since HDF5 1.10.2, as `H5Dread_chunk` is since 1.10.3, but not among the crate's declarations.
unsafe extern "C" {
    fn H5Dget_chunk_storage_size(dataset: hid_t, offset: *const hsize_t, bytes: *mut hsize_t) -> herr_t;
}

/// The rows of a chunk of `dataset`, where a chunk can be read as it lies in the file.
pub(super) fn rows_of_chunk(dataset: &Dataset) -> Option<usize> {
    let chunk = dataset.chunk()?;
    let &[rows, width] = &chunk[..] else { return None };
    let as_in_memory = dataset.dtype().ok()? == Datatype::from_type::<f32>().ok()?;
    let whole_rows = rows > 0 && dataset.shape().get(1) == Some(&width);
    let unfiltered = dataset.dcpl().ok()?.filters().is_empty();
    (as_in_memory && whole_rows && unfiltered).then_some(rows)
}

/// Reads the rows `range` of a two-dimensional dataset of float32 straight into `out`, which has exactly their size.
/// `chunk` is what [`rows_of_chunk`] says.
pub(super) fn read_rows(
    dataset: &Dataset,
    chunk: Option<usize>,
    range: Range<usize>,
    out: &mut [f32],
) -> hdf5_metno::Result<()> {
    let width = out.len() / range.len().max(1);
    let whole = match chunk {
        Some(rows) => range.start.next_multiple_of(rows)..range.end / rows * rows,
        None => range.end..range.end,
    };
    let (Some(rows), false) = (chunk, whole.is_empty()) else { return read_selected(dataset, range, out) };
    let (head, out) = out.split_at_mut((whole.start - range.start) * width);
    let (chunks, tail) = out.split_at_mut(whole.len() * width);
    read_selected(dataset, range.start..whole.start, head)?;
    for (start, values) in whole.clone().step_by(rows).zip(chunks.chunks_exact_mut(rows * width)) {
        if !read_chunk(dataset, start, values) {
            read_selected(dataset, start..start + rows, values)?;
        }
    }
    read_selected(dataset, whole.end..range.end, tail)
}

/// Reads the chunk that begins with the row `start`, of exactly the size of `out`. False where it cannot be read so: it
/// was never written, or the file is damaged, which the library's usual way of reading will tell.
fn read_chunk(dataset: &Dataset, start: usize, out: &mut [f32]) -> bool {
    let offset = [start as u64, 0];
    let mut size = 0;
    let mut filters = 0;
    let _library = hdf5_metno_sys::LOCK.lock();
    // SAFETY: the library is locked and the id is that of an open dataset of two dimensions, as many as `offset` has. The
    // chunk is read only if it is in the file as large as `out` is: the size is the file's word, and reading goes by it.
    unsafe {
        H5Dget_chunk_storage_size(dataset.id(), offset.as_ptr(), &raw mut size) >= 0
            && size == size_of_val(out) as u64
            && H5Dread_chunk1(
                dataset.id(),
                H5P_DEFAULT,
                offset.as_ptr(),
                &raw mut filters,
                out.as_mut_ptr().cast(),
            ) >= 0
    }
}

/// Reads rows by the library's usual way. (The crate's own reading of a part allocates, and the pages of a fresh
/// allocation cost as much as the reading itself.)
fn read_selected(dataset: &Dataset, range: Range<usize>, out: &mut [f32]) -> hdf5_metno::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let shape = [range.len(), out.len() / range.len()];
    let selected = dataset.space()?.select((range, ..))?;
    let memory = Dataspace::try_new(shape)?;
    if selected.selection_size() != out.len() {
        return Err("the dataset has another width".into());
    }
    let float32 = Datatype::from_type::<f32>()?;
    let _library = hdf5_metno_sys::LOCK.lock();
    // SAFETY: the library is locked, all ids are those of open objects, and `out` holds as many float32 values as are
    // selected.
    let status = unsafe {
        let (to, ids) = (out.as_mut_ptr().cast(), (float32.id(), memory.id(), selected.id()));
        H5Dread(dataset.id(), ids.0, ids.1, ids.2, H5P_DEFAULT, to)
    };
    if status < 0 { Err(hdf5_metno::Error::query()?) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use hdf5_metno::File;
    use ndarray17::Array2;

    use super::*;

    const WIDTH: usize = 6;

    /// Every range of rows, as read.
    fn check(dataset: &Dataset, chunk: Option<usize>, values: &Array2<f32>) {
        for start in 0..values.nrows() {
            for end in start..=values.nrows() {
                let mut out = vec![-1.0; (end - start) * WIDTH];
                read_rows(dataset, chunk, start..end, &mut out).unwrap();
                assert_eq!(out, values.as_slice().unwrap()[start * WIDTH..end * WIDTH], "{start}..{end}");
            }
        }
    }

    #[test]
    fn rows_are_the_same_however_the_file_lays_them_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("layouts.h5")).unwrap();
        let values = Array2::from_shape_fn((11, WIDTH), |(row, column)| (row * 100 + column) as f32);
        let new = || file.new_dataset_builder().with_data(&values);
        for (name, dataset, expected) in [
            ("chunks of four rows", new().chunk((4, WIDTH)).create("rows").unwrap(), Some(4)),
            ("larger than the dataset", new().chunk((11, WIDTH)).create("one").unwrap(), Some(11)),
            ("filtered", new().chunk((4, WIDTH)).shuffle().create("filtered").unwrap(), None),
            ("parts of rows", new().chunk((4, 3)).create("parts").unwrap(), None),
            ("contiguous", new().no_chunk().create("contiguous").unwrap(), None),
        ] {
            assert_eq!(rows_of_chunk(&dataset), expected, "{name}");
            check(&dataset, expected, &values);
        }
        let doubles = values.mapv(f64::from);
        let wide = file.new_dataset_builder().with_data(&doubles);
        let wide = wide.chunk((4, WIDTH)).create("float64").unwrap();
        assert_eq!(rows_of_chunk(&wide), None);
        check(&wide, None, &values);
    }

    #[test]
    fn chunks_that_were_never_written_hold_the_fill_value() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("empty.h5")).unwrap();
        let dataset = file.new_dataset::<f32>().shape((8, WIDTH)).chunk((4, WIDTH)).create("x").unwrap();
        let values = Array2::from_shape_fn((8, WIDTH), |(row, _)| if row < 4 { 0.0 } else { 1.0 });
        dataset.write_slice(&Array2::<f32>::ones((4, WIDTH)), (4..8, ..)).unwrap();
        check(&dataset, rows_of_chunk(&dataset), &values);
    }
}
