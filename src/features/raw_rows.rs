//! The rows of layers, written past HDF5 at the places that it has given them.
//!
//! Space for all rows is reserved before the first one comes, so a row is so many bytes at a known place: HDF5 need not hold them in
//! its cache, and several threads copy rows of another file. HDF5 itself never has a row in memory while a file is
//! written, so that nothing of it can be older than the file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use crc32fast::Hasher as Crc32;
use hdf5_metno::Dataset;
use rayon::prelude::*;

use crate::hdf5::{Hdf5, Hdf5Error, RowPlaces};
use crate::positional::{drop_cached, read_exact_at, write_all_at};

/// Bytes that a thread copies at a time: few enough to stay in its processor's cache.
const COPIED_AT_A_TIME: usize = 1 << 20;

/// The values of consecutive rows of a layer.
pub(super) enum RowValues<'a> {
    /// Row by row.
    Memory(Vec<f32>),
    /// All rows of a layer of another file.
    File { file: &'a File, path: &'a Path, places: RowPlaces },
}

/// Where the rows of `layers`, which a file that is on the disk has, lie in it.
pub(super) fn places_of(path: &Path, layers: &[Dataset]) -> Result<Vec<RowPlaces>, Hdf5Error> {
    let file = Hdf5::open(path)?;
    let places = |layer: &Dataset| {
        let name = layer.name();
        let places = file.dataset(&name)?.places_of_f32_rows()?;
        places.ok_or_else(|| Hdf5Error::damaged(&name, "its space is not reserved"))
    };
    layers.iter().map(places).collect()
}

/// Writes `values` into the rows `rows`, which lie at `places` of the file `to`, and gives the CRC-32 of their bytes. Rows of another
/// file are copied by several threads at once.
pub(super) fn write_rows(
    to: &File,
    places: &RowPlaces,
    rows: &Range<usize>,
    values: &RowValues<'_>,
) -> io::Result<Crc32> {
    let (file, path, from) = match values {
        RowValues::Memory(values) => {
            let bytes = bytemuck::cast_slice(values);
            write(to, places, rows.start, bytes)?;
            return Ok(crc32_of(bytes));
        }
        RowValues::File { file, path, places } => (*file, *path, places),
    };
    let row_bytes = places.row_bytes() as usize;
    let block = (COPIED_AT_A_TIME / row_bytes.max(1)).max(1);
    let blocks = (0..rows.len()).into_par_iter().step_by(block);
    let copied = blocks.map_init(Vec::new, |buffer: &mut Vec<u8>, start| {
        buffer.resize(block.min(rows.len() - start) * row_bytes, 0);
        read(file, from, start, buffer)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        write(to, places, rows.start + start, buffer)?;
        Ok(crc32_of(buffer))
    });
    let checksums: Vec<Crc32> = copied.collect::<io::Result<_>>()?;
    Ok(checksums.iter().fold(Crc32::new(), |mut all, block| {
        all.combine(block);
        all
    }))
}

fn crc32_of(bytes: &[u8]) -> Crc32 {
    let mut checksum = Crc32::new();
    checksum.update(bytes);
    checksum
}

/// Reads the rows from `row` on that fill `bytes`. They are read this once: were they to stay in the system's memory, the rows that are
/// written would need memory that is new to it, which costs more than the copy.
fn read(file: &File, places: &RowPlaces, mut row: usize, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let (position, rows, len) = run(places, row, bytes.len())?;
        let (here, rest) = bytes.split_at_mut(len);
        read_exact_at(file, here, position)?;
        drop_cached(file, position, len);
        (row, bytes) = (row + rows, rest);
    }
    Ok(())
}

/// Writes `bytes` into the rows from `row` on.
fn write(file: &File, places: &RowPlaces, mut row: usize, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let (position, rows, len) = run(places, row, bytes.len())?;
        let (here, rest) = bytes.split_at(len);
        write_all_at(file, here, position)?;
        (row, bytes) = (row + rows, rest);
    }
    Ok(())
}

/// Where a row begins, and how many rows and bytes, up to `limit` bytes, follow there without a gap.
fn run(places: &RowPlaces, row: usize, limit: usize) -> io::Result<(u64, usize, usize)> {
    let (position, rows) = places.at(row as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
    let row_bytes = places.row_bytes().max(1);
    let rows = rows.min(limit as u64 / row_bytes);
    if rows == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a row has another width than its layer"));
    }
    // Within `limit`.
    Ok((position, rows as usize, (rows * row_bytes) as usize))
}
