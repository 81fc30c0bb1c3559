//! [`NpyRows`]: the rows of an array of features, in blocks, in whichever order they lie.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::NpyHeader;
use crate::features::convert::ConvertError;
use crate::features::convert::feature_table::{BLOCK_VALUES, RowBlocks, TakeBlock, rows_of_block};

/// Hands on the rows of an array in C order.
pub(in crate::features::convert) fn each_block_c(
    reader: &mut dyn Read,
    header: &NpyHeader,
    path: &Path,
    take: &mut TakeBlock<'_>,
) -> Result<(), ConvertError> {
    let (width, row_bytes) = header.row();
    let (rows, step) = (header.shape[0], rows_of_block(width));
    let mut bytes = vec![0; step.min(rows) * row_bytes];
    let mut values = Vec::with_capacity(step.min(rows) * width);
    for start in (0..rows).step_by(step) {
        let bytes = &mut bytes[..step.min(rows - start) * row_bytes];
        reader
            .read_exact(bytes)
            .map_err(ConvertError::cut(path, format!("it ends after some {start} of {rows} rows")))?;
        values.clear();
        header.dtype.decode(bytes, &mut values);
        take(&values)?;
    }
    Ok(())
}

/// Hands on the rows of an array in Fortran order, whose columns lie one after the other.
fn each_block_fortran(
    file: &mut File,
    header: &NpyHeader,
    path: &Path,
    take: &mut TakeBlock<'_>,
) -> Result<(), ConvertError> {
    let (width, _) = header.row();
    // Larger blocks: each costs a seek for every column.
    let (rows, step) = (header.shape[0], (4 * BLOCK_VALUES / width).max(1));
    let size = header.dtype.size;
    let (mut bytes, mut column) = (vec![0; step.min(rows) * size], Vec::new());
    let mut values = vec![0.0; step.min(rows) * width];
    for start in (0..rows).step_by(step) {
        let count = step.min(rows - start);
        for stored in 0..width {
            let offset = header.length + ((stored * rows + start) * size) as u64;
            let read =
                file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes[..count * size]));
            read.map_err(ConvertError::cut(path, format!("it ends within column {stored}")))?;
            column.clear();
            header.dtype.decode(&bytes[..count * size], &mut column);
            let at = row_major(stored, &header.shape[1..]);
            for (row, &value) in column.iter().enumerate() {
                values[row * width + at] = value;
            }
        }
        take(&values[..count * width])?;
    }
    Ok(())
}

/// The place in row-major order of what stands at `index` in column-major order.
fn row_major(mut index: usize, shape: &[usize]) -> usize {
    let mut places = Vec::with_capacity(shape.len());
    for &n in shape {
        places.push(index % n);
        index /= n;
    }
    places.iter().zip(shape).fold(0, |at, (&place, &n)| at * n + place)
}

/// The rows of a `.npy` file.
pub(in crate::features::convert) struct NpyRows {
    pub(in crate::features::convert) file: File,
    pub(in crate::features::convert) header: NpyHeader,
    pub(in crate::features::convert) path: PathBuf,
}

impl NpyRows {
    /// Opens an array of features.
    pub(in crate::features::convert) fn open(path: &Path) -> Result<Self, ConvertError> {
        let file = File::open(path).map_err(ConvertError::read(path))?;
        Self::of(file, path, "the array")
    }

    /// An array of features that begins with the file.
    pub(in crate::features::convert) fn of(
        mut file: File,
        path: &Path,
        what: &str,
    ) -> Result<Self, ConvertError> {
        file.rewind().map_err(ConvertError::read(path))?;
        let header = NpyHeader::read(&mut io::BufReader::new(&mut file), path, what)?;
        header.check_features(path, what)?;
        let stored = file.metadata().map_err(ConvertError::read(path))?.len();
        if header.bytes().and_then(|bytes| bytes.checked_add(header.length)).is_none_or(|end| end > stored) {
            let shape: Vec<String> = header.shape.iter().map(usize::to_string).collect();
            let shape = shape.join(" x ");
            let why = format!("its header says {shape} values of {}, and it holds less", header.dtype.name());
            return Err(ConvertError::damaged(path, why));
        }
        Ok(Self { file, header, path: path.to_owned() })
    }
}

impl RowBlocks for NpyRows {
    fn each(&mut self, take: &mut TakeBlock<'_>) -> Result<(), ConvertError> {
        let Self { file, header, path } = self;
        if header.fortran {
            return each_block_fortran(file, header, path, take);
        }
        file.seek(SeekFrom::Start(header.length)).map_err(ConvertError::read(path))?;
        each_block_c(file, header, path, take)
    }
}

/// Writes features as float32 in little-endian order of bytes.
pub(in crate::features::convert) fn write_values(out: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return out.write_all(bytemuck::cast_slice(values));
    }
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_fortran_order_are_put_into_row_major_order() {
        // (C, H) = (2, 3): column-major goes through C first.
        let places: Vec<usize> = (0..6).map(|index| row_major(index, &[2, 3])).collect();
        assert_eq!(places, [0, 3, 1, 4, 2, 5]);
        assert_eq!(row_major(4, &[5]), 4);
    }
}
