//! Reading the rows of a virtual dataset from the files that hold them.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hdf5_reader::global_heap::GlobalHeapCollection;

use super::hidden_layouts::VirtualLayout;
use super::source::{Hdf5Source, guarded};
use super::virtual_mapping::{self, MappedRows};
use super::{ElementType, Hdf5, Hdf5Dataset, Hdf5Error};

/// Files that are kept open.
const MOST_OPEN: usize = 32;

/// The rows of a virtual dataset, in order.
pub(super) struct VirtualRows {
    parts: Vec<MappedRows>,
    /// The file with the mapping.
    path: PathBuf,
    kind: ElementType,
    of_row: Vec<u64>,
    /// Bytes of a row.
    row: u64,
    /// The datasets that were read from last, by their part.
    open: Mutex<VecDeque<(usize, Arc<Hdf5Dataset>)>>,
    located: OnceLock<()>,
}

impl VirtualRows {
    /// The rows of a dataset of that type and shape, whose rows have `row` bytes.
    pub(super) fn new(
        layout: VirtualLayout,
        source: &Hdf5Source,
        (kind, shape, row): (&ElementType, &[u64], u64),
        object: &str,
    ) -> Result<Self, Hdf5Error> {
        if matches!(kind, ElementType::Text { .. }) {
            let why = "it is a virtual dataset of texts, which lie in other files; copy it into one file";
            return Err(Hdf5Error::Unsupported(why.to_owned()));
        }
        let parts = if source.is_undefined(layout.collection) {
            Vec::new()
        } else {
            let (offsets, lengths) = (source.offset_size(), source.length_size());
            let heap = guarded(object, || {
                let structure = source.structure();
                GlobalHeapCollection::parse_at_storage(&structure, layout.collection, offsets, lengths)
            })?;
            let block = u16::try_from(layout.index).ok().and_then(|index| heap.get_object(index));
            let block = block.ok_or_else(|| Hdf5Error::damaged(object, "its mapping is missing"))?;
            virtual_mapping::read(&block.data, shape, usize::from(lengths))
                .map_err(|error| error.of(object))?
        };
        if parts.is_empty() && shape.first().is_some_and(|&rows| rows > 0) {
            return Err(Hdf5Error::Unsupported(
                "it is a virtual dataset that no file has values of".to_owned(),
            ));
        }
        Ok(Self {
            parts,
            path: source.path().to_owned(),
            kind: kind.clone(),
            of_row: shape.get(1..).unwrap_or_default().to_vec(),
            row,
            open: Mutex::default(),
            located: OnceLock::new(),
        })
    }

    /// Opens every file once, and makes sure that it has the rows.
    pub(super) fn locate(&self) -> Result<(), Hdf5Error> {
        if self.located.get().is_some() {
            return Ok(());
        }
        // Values that many rows share would make a small file a large one.
        let mut there: HashMap<(&Option<PathBuf>, &str), u64> = HashMap::new();
        let mut wanted = 0_u64;
        for (index, part) in self.parts.iter().enumerate() {
            let dataset = self.dataset(index)?;
            dataset.locate().map_err(|error| self.part_error(index, error))?;
            if !dataset.fits_file() {
                let error = Hdf5Error::damaged(&part.dataset, "it claims to be larger than its file");
                return Err(self.part_error(index, error));
            }
            there.insert((&part.file, &part.dataset), dataset.bytes());
            wanted = wanted.saturating_add((part.rows.end - part.rows.start).saturating_mul(self.row));
        }
        if there.values().fold(0, |sum: u64, &bytes| sum.saturating_add(bytes)) < wanted {
            return Err(Hdf5Error::Unsupported(
                "it is a virtual dataset that has the same values many times; copy it into one file"
                    .to_owned(),
            ));
        }
        let _ = self.located.set(());
        Ok(())
    }

    /// The rows `range` as they are stored, into `out`, which has exactly their size.
    pub(super) fn read(&self, range: &Range<u64>, out: &mut [u8]) -> Result<(), Hdf5Error> {
        let first = self.parts.partition_point(|part| part.rows.end <= range.start);
        let (mut at, mut rest) = (range.start, out);
        for (index, part) in self.parts.iter().enumerate().skip(first) {
            if at >= range.end {
                break;
            }
            let end = part.rows.end.min(range.end);
            // At most as much as is left of `out`.
            let (values, after) = rest.split_at_mut(((end - at) * self.row) as usize);
            let start = part.first.unwrap_or(0) + (at - part.rows.start);
            let dataset = self.dataset(index)?;
            let read = dataset.read_rows(start..start + (end - at), values);
            read.map_err(|error| self.part_error(index, error))?;
            (at, rest) = (end, after);
        }
        Ok(())
    }

    /// The dataset that holds a part, which has its rows.
    fn dataset(&self, index: usize) -> Result<Arc<Hdf5Dataset>, Hdf5Error> {
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, dataset)) = open().iter().find(|(part, _)| *part == index) {
            return Ok(Arc::clone(dataset));
        }
        let dataset = Arc::new(self.opened(index).map_err(|error| self.part_error(index, error))?);
        let mut open = open();
        while open.len() >= MOST_OPEN {
            open.pop_front();
        }
        open.push_back((index, Arc::clone(&dataset)));
        Ok(dataset)
    }

    fn opened(&self, index: usize) -> Result<Hdf5Dataset, Hdf5Error> {
        let part = &self.parts[index];
        let dataset = Hdf5::open(&self.place(index))?.dataset(&part.dataset)?;
        let unsupported = |why: &str| Err(Hdf5Error::Unsupported(format!("{}: {why}", part.dataset)));
        if dataset.is_virtual() {
            return unsupported("it is a virtual dataset itself, whose values are in yet other files");
        }
        if *dataset.kind() != self.kind {
            return unsupported("its values are of another type than those of the virtual dataset");
        }
        let count = part.rows.end - part.rows.start;
        let fits = dataset.shape().split_first().is_some_and(|(&rows, of_row)| {
            let enough = match part.first {
                None => rows == count,
                Some(first) => first.checked_add(count).is_some_and(|end| end <= rows),
            };
            enough && of_row == self.of_row
        });
        if fits { Ok(dataset) } else { unsupported("it has another shape than the virtual dataset says") }
    }

    /// Where the file of a part lies.
    fn place(&self, index: usize) -> PathBuf {
        match &self.parts[index].file {
            None => self.path.clone(),
            Some(file) => self.path.parent().unwrap_or(Path::new("")).join(file),
        }
    }

    fn part_error(&self, index: usize, source: Hdf5Error) -> Hdf5Error {
        match source {
            Hdf5Error::Part { .. } => source,
            source => {
                let rows = self.parts[index].rows.clone();
                Hdf5Error::Part { part: self.place(index), rows, source: Box::new(source) }
            }
        }
    }
}
