//! How a virtual dataset is put together: which of its rows are which rows of which dataset of which file.
//!
//! The mapping is an object in the file's global heap (HDF5 File Format Specification version 3.0, "Virtual Dataset Storage
//! Layout", with "Dataspace Selection"; version 1 of the block as HDF5 2.0 writes it: each entry begins with flags, and may
//! refer to the names of an earlier one). Of all selections that HDF5 knows only those of whole, consecutive rows are read.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use hdf5_reader::checksum::jenkins_lookup3;

use super::Hdf5Error;
use super::strings::little_endian;

/// Dimensions of a dataset at most, as HDF5 has it.
const MAX_RANK: usize = 32;

/// Some rows of a virtual dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MappedRows {
    /// The rows of the virtual dataset.
    pub(super) rows: Range<u64>,
    /// The file that holds them, below the folder of the file with the mapping; `None` is that file itself.
    pub(super) file: Option<PathBuf>,
    /// The dataset in that file.
    pub(super) dataset: String,
    /// The first of the rows in that dataset; `None` where all of its rows are meant.
    pub(super) first: Option<u64>,
}

/// Reads the mapping of a dataset of that shape, sorted by its rows: each row occurs once.
pub(super) fn read(block: &[u8], shape: &[u64], length_size: usize) -> Result<Vec<MappedRows>, MappingError> {
    let (&all_rows, of_row) =
        shape.split_first().ok_or_else(|| MappingError::Unsupported("it has no rows".to_owned()))?;
    let body = block.len().checked_sub(4).and_then(|end| block.split_at_checked(end));
    let (body, checksum) = body.ok_or(MappingError::Damaged("it is too short"))?;
    if u64::from(jenkins_lookup3(body)) != little_endian(checksum) {
        return Err(MappingError::Damaged("its checksum is another one"));
    }
    let mut bytes = Bytes(body);
    let version = bytes.number(1)?;
    if version > 1 {
        return Err(MappingError::Unsupported(format!("its mapping has version {version}")));
    }
    let count = bytes.number(length_size)?;
    let mut entries: Vec<NamedEntry> = Vec::new();
    let mut mapped = Vec::new();
    // Each entry takes bytes, so that their number is bounded by those that there are.
    for _ in 0..count {
        let entry = NamedEntry::read(&mut bytes, version, &entries, length_size)?;
        let from = Selection::read(&mut bytes)?.whole_rows(&entry.dataset)?;
        let to = Selection::read(&mut bytes)?.whole_rows("the virtual dataset itself")?;
        let rows = match to {
            Some(rows) => rows,
            None => RowBox { rows: 0..all_rows, of_row: of_row.to_vec() },
        };
        if rows.rows.end > all_rows || rows.of_row != of_row {
            return Err(MappingError::Unsupported("it maps parts of rows".to_owned()));
        }
        if let Some(from) = &from
            && (from.rows.end - from.rows.start != rows.rows.end - rows.rows.start
                || from.of_row != rows.of_row)
        {
            return Err(MappingError::Unsupported("it maps rows to rows of another shape".to_owned()));
        }
        mapped.push(MappedRows {
            rows: rows.rows,
            file: entry.file.as_deref().map(part_path).transpose()?,
            dataset: unescaped(&entry.dataset)?,
            first: from.map(|from| from.rows.start),
        });
        entries.push(entry);
    }
    mapped.sort_by_key(|part| part.rows.start);
    let mut next = 0;
    for part in &mapped {
        if part.rows.start != next {
            let why = if part.rows.start > next { "come from no file" } else { "come from several places" };
            let row = next.min(part.rows.start);
            return Err(MappingError::Unsupported(format!("its rows from {row} on {why}")));
        }
        next = part.rows.end;
    }
    if all_rows > next {
        return Err(MappingError::Unsupported(format!("its rows from {next} on come from no file")));
    }
    Ok(mapped)
}

/// Why a mapping cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MappingError {
    Damaged(&'static str),
    Unsupported(String),
}

impl MappingError {
    pub(super) fn of(self, object: &str) -> Hdf5Error {
        match self {
            Self::Damaged(why) => Hdf5Error::damaged(format!("the mapping of {object}"), why),
            Self::Unsupported(why) => Hdf5Error::Unsupported(format!(
                "it is a virtual dataset, whose values are in other files, and {why}; copy it into one file, for example \
                 with h5py"
            )),
        }
    }
}

/// The names of an entry, as they are written.
struct NamedEntry {
    /// `None` is the file itself.
    file: Option<String>,
    dataset: String,
}

impl NamedEntry {
    fn read(
        bytes: &mut Bytes<'_>,
        version: u64,
        earlier: &[Self],
        length_size: usize,
    ) -> Result<Self, MappingError> {
        const SHARED_FILE: u64 = 1;
        const SHARED_DATASET: u64 = 2;
        const SAME_FILE: u64 = 4;
        let flags = if version == 0 { 0 } else { bytes.number(1)? };
        if flags > 7 {
            return Err(MappingError::Damaged("it has flags that HDF5 does not know"));
        }
        let file = match flags {
            flags if flags & SAME_FILE != 0 => None,
            flags if flags & SHARED_FILE != 0 => Self::referred(bytes, earlier, length_size)?.file.clone(),
            _ => Some(bytes.text()?).filter(|file| file != "."),
        };
        let dataset = match flags & SHARED_DATASET {
            0 => bytes.text()?,
            _ => Self::referred(bytes, earlier, length_size)?.dataset.clone(),
        };
        Ok(Self { file, dataset })
    }

    /// The earlier entry whose name is meant.
    fn referred<'a>(
        bytes: &mut Bytes<'_>,
        earlier: &'a [Self],
        length_size: usize,
    ) -> Result<&'a Self, MappingError> {
        let index = usize::try_from(bytes.number(length_size)?).ok();
        index.and_then(|index| earlier.get(index)).ok_or(MappingError::Damaged("a name refers to nowhere"))
    }
}

/// The place of a source file below the folder of the file that maps it.
///
/// A file from a stranger shall not reach for other files of the reader's machine: no absolute path, and no `..`.
fn part_path(name: &str) -> Result<PathBuf, MappingError> {
    let name = unescaped(name)?;
    let below = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    let path = Path::new(&name);
    if name.is_empty() || !path.components().all(below) {
        return Err(MappingError::Unsupported(format!(
            "one of them is {name:?}; only files in the folder of the virtual file, and below it, are read"
        )));
    }
    Ok(path.to_owned())
}

/// A name without what `%` means in it: `%%` is a `%`, and `%b` the number of a block, which only mappings without an end have.
fn unescaped(name: &str) -> Result<String, MappingError> {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name.chars();
    while let Some(c) = rest.next() {
        if c == '%' && rest.next() != Some('%') {
            return Err(MappingError::Unsupported(format!("{name:?} stands for a series of names")));
        }
        plain.push(c);
    }
    Ok(plain)
}

/// The part of a dataset that a mapping names.
enum Selection {
    All,
    /// A box: in each dimension the first index, and the one after the last.
    Box(Vec<Range<u64>>),
}

/// Rows, and the shape of each.
struct RowBox {
    rows: Range<u64>,
    of_row: Vec<u64>,
}

impl Selection {
    fn read(bytes: &mut Bytes<'_>) -> Result<Self, MappingError> {
        const HYPERSLAB: u64 = 2;
        const ALL: u64 = 3;
        let (kind, version) = (bytes.number(4)?, bytes.number(4)?);
        match (kind, version) {
            (ALL, 1) => {
                bytes.take(8)?;
                Ok(Self::All)
            }
            (HYPERSLAB, 1) => {
                bytes.take(8)?;
                Self::blocks(bytes, 4)
            }
            (HYPERSLAB, 2) => {
                let regular = bytes.number(1)? & 1 != 0;
                bytes.take(4)?;
                if regular { Self::regular(bytes, 8) } else { Err(irregular()) }
            }
            (HYPERSLAB, 3) => {
                let (regular, width) = (bytes.number(1)? & 1 != 0, bytes.number(1)? as usize);
                match (regular, width) {
                    (true, 2 | 4 | 8) => Self::regular(bytes, width),
                    (false, 2 | 4 | 8) => Self::blocks(bytes, width),
                    _ => Err(MappingError::Damaged("its numbers have an impossible width")),
                }
            }
            _ => Err(irregular()),
        }
    }

    fn rank(bytes: &mut Bytes<'_>) -> Result<usize, MappingError> {
        let rank = bytes.number(4)? as usize;
        if (1..=MAX_RANK).contains(&rank) {
            Ok(rank)
        } else {
            Err(MappingError::Damaged("it has an impossible number of dimensions"))
        }
    }

    /// A list of boxes, of which only one is read.
    fn blocks(bytes: &mut Bytes<'_>, width: usize) -> Result<Self, MappingError> {
        let rank = Self::rank(bytes)?;
        if bytes.number(width)? != 1 {
            return Err(irregular());
        }
        let starts: Vec<u64> = (0..rank).map(|_| bytes.number(width)).collect::<Result<_, _>>()?;
        let ends: Vec<u64> = (0..rank).map(|_| bytes.number(width)).collect::<Result<_, _>>()?;
        let range = |(start, end): (u64, u64)| {
            let end = end.checked_add(1).filter(|&end| end > start);
            end.map(|end| start..end).ok_or(MappingError::Damaged("a part of it ends before it begins"))
        };
        starts.into_iter().zip(ends).map(range).collect::<Result<_, _>>().map(Self::Box)
    }

    /// Boxes at equal distances, of which only those without gaps are read.
    fn regular(bytes: &mut Bytes<'_>, width: usize) -> Result<Self, MappingError> {
        let rank = Self::rank(bytes)?;
        let unlimited = u64::MAX >> (64 - 8 * width);
        let mut ranges = Vec::with_capacity(rank);
        for _ in 0..rank {
            let mut numbers = [0; 4];
            for number in &mut numbers {
                *number = bytes.number(width)?;
            }
            let [start, stride, count, block] = numbers;
            if count == unlimited || block == unlimited {
                return Err(MappingError::Unsupported("it has no end".to_owned()));
            }
            if count != 1 && stride != block {
                return Err(irregular());
            }
            let end = count.checked_mul(block).and_then(|size| start.checked_add(size));
            ranges.push(start..end.ok_or(MappingError::Damaged("a part of it has no end"))?);
        }
        Ok(Self::Box(ranges))
    }

    /// The rows of a box of whole rows; `None` for all rows.
    fn whole_rows(self, of: &str) -> Result<Option<RowBox>, MappingError> {
        let Self::Box(ranges) = self else { return Ok(None) };
        let mut ranges = ranges.into_iter();
        let rows = ranges.next().unwrap_or(0..0);
        let of_row: Vec<Range<u64>> = ranges.collect();
        if of_row.iter().any(|range| range.start != 0) {
            return Err(MappingError::Unsupported(format!("it maps parts of the rows of {of}")));
        }
        Ok(Some(RowBox { rows, of_row: of_row.into_iter().map(|range| range.end).collect() }))
    }
}

fn irregular() -> MappingError {
    MappingError::Unsupported("it maps other parts than whole, consecutive rows".to_owned())
}

/// What is left of a block.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MappingError> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(MappingError::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of up to eight bytes.
    fn number(&mut self, width: usize) -> Result<u64, MappingError> {
        self.take(width).map(little_endian)
    }

    /// A text up to its NUL.
    fn text(&mut self) -> Result<String, MappingError> {
        let end = self.0.iter().position(|&byte| byte == 0);
        let text = self.take(end.ok_or(MappingError::Damaged("a name has no end"))?)?;
        self.take(1)?;
        let text = std::str::from_utf8(text).map_err(|_| MappingError::Damaged("a name is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests;
