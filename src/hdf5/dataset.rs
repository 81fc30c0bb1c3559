//! Datasets and attributes: their shapes and types, and their values.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use hdf5_reader::messages::HdfMessage;
use hdf5_reader::messages::dataspace::DataspaceType;
use hdf5_reader::messages::layout::DataLayout;
use hdf5_reader::{Hdf5File, RawAttribute};

use super::chunks::{Chunk, Grid};
use super::filters::Pipeline;
use super::source::{Source, guarded};
use super::{Hdf5Error, Kind, Number, strings};

/// Room for decoded chunks, so that the rows of one chunk are decoded once.
const CACHE_BYTES: usize = 64 << 20;
/// How much larger than the file all values may be: deflate's best ratio.
const MAX_RATIO: u64 = 1032;

/// A small value that belongs to the file or to a dataset.
#[derive(Debug)]
pub struct Attribute {
    name: String,
    kind: Kind,
    shape: Vec<u64>,
    bytes: Vec<u8>,
    source: Arc<Source>,
}

impl Attribute {
    pub(super) fn of(attribute: RawAttribute, source: &Arc<Source>) -> Result<Self, Hdf5Error> {
        let (message, stored) = attribute.into_parts();
        let kind = Kind::of(&message.datatype, &stored, reference_size(source));
        let elements = message.dataspace.num_elements().ok().and_then(|n| usize::try_from(n).ok());
        let fits = elements.and_then(|n| n.checked_mul(kind.size(reference_size(source))));
        if fits != Some(message.raw_data.len()) {
            let object = format!("the attribute {}", message.name);
            return Err(Hdf5Error::damaged(object, "its size is not that of its values"));
        }
        let shape = match message.dataspace.dataspace_type {
            DataspaceType::Null => vec![0],
            _ => message.dataspace.dims,
        };
        Ok(Self { name: message.name, kind, shape, bytes: message.raw_data, source: Arc::clone(source) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its elements are.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Its sizes; empty for a single value.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Its one text.
    ///
    /// # Errors
    /// It is something else, or damaged.
    pub fn text(&self) -> Result<String, Hdf5Error> {
        let single = matches!(self.shape[..], [] | [1]);
        let texts =
            strings::read(&self.kind, &self.bytes, &self.source, &format!("the attribute {}", self.name))?;
        texts.into_iter().next().filter(|_| single).ok_or_else(|| self.wrong("one text"))
    }

    /// Its numbers, which are exactly of the type `T`.
    ///
    /// # Errors
    /// They are not.
    pub fn numbers<T: Number>(&self) -> Result<Vec<T>, Hdf5Error> {
        self.kind.numbers(&self.bytes).ok_or_else(|| self.wrong(T::NAME))
    }

    /// Its one number.
    ///
    /// # Errors
    /// It is not one number of the type `T`.
    pub fn number<T: Number>(&self) -> Result<T, Hdf5Error> {
        match self.numbers()?[..] {
            [number] if self.shape.is_empty() => Ok(number),
            _ => Err(self.wrong(&format!("one {}", T::NAME))),
        }
    }

    fn wrong(&self, expected: &str) -> Hdf5Error {
        Hdf5Error::WrongType { found: describe(&self.kind, &self.shape), expected: expected.to_owned() }
    }
}

/// An array in the file. Any thread may read from it, at the same time as others.
pub struct Dataset {
    path: String,
    kind: Kind,
    shape: Vec<u64>,
    /// Bytes of an element.
    element: usize,
    layout: Layout,
    /// What stands for elements that were never written.
    fill: Vec<u8>,
    attributes: Vec<Attribute>,
    source: Arc<Source>,
}

enum Layout {
    /// In the header itself.
    Compact(Vec<u8>),
    /// In one piece.
    Contiguous(u64),
    /// In chunks.
    Chunked(Box<Chunked>),
    /// Nothing was written.
    Nowhere,
}

struct Chunked {
    grid: Grid,
    /// Bytes of a chunk.
    bytes: usize,
    /// Where the chunks went through filters.
    pipeline: Option<Pipeline>,
    /// Where the chunks lie, once that was asked.
    chunks: OnceLock<Vec<Chunk>>,
    decoded: Mutex<VecDeque<(u64, Slot)>>,
}

/// A chunk that is decoded by the first who needs it, while the others wait.
type Slot = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

impl Dataset {
    pub(super) fn of(
        tree: &Hdf5File,
        source: &Arc<Source>,
        found: &hdf5_reader::Dataset,
        path: &str,
    ) -> Result<Self, Hdf5Error> {
        let object = path;
        let damaged = |why: &str| Hdf5Error::damaged(object, why);
        let header = guarded(object, || tree.get_or_parse_header(found.address()))?;
        let stored = guarded(object, || found.raw_datatype())?;
        let reference = reference_size(source);
        let kind = Kind::of(found.dtype(), &stored, reference);
        let element = kind.size(reference);
        if element == 0 {
            return Err(damaged("the size of its elements is not known"));
        }
        let (mut layout, mut fill, mut filters) = (None, None, Vec::new());
        for message in &header.messages {
            match message {
                HdfMessage::DataLayout(message) => layout = Some(message.layout.clone()),
                HdfMessage::FillValue(message) => fill = message.value.clone().or(fill),
                HdfMessage::FilterPipeline(message) => filters = message.filters.clone(),
                HdfMessage::ExternalFiles(_) => {
                    let why =
                        "its values lie in other files; copy them into one file, for example by `h5repack`";
                    return Err(Hdf5Error::Unsupported(why.to_owned()));
                }
                _ => {}
            }
        }
        let fill = fill.filter(|fill| fill.len() == element && !matches!(kind, Kind::Text { .. }));
        let fill = fill.unwrap_or_else(|| vec![0; element]);
        let null = header.messages.iter().any(|message| {
            matches!(message, HdfMessage::Dataspace(space) if space.dataspace_type == DataspaceType::Null)
        });
        let shape = if null { vec![0] } else { found.shape().to_vec() };
        let total = bytes_of(&shape, element).ok_or_else(|| damaged("its shape cannot be"))?;
        let layout = match layout.ok_or_else(|| damaged("where its values lie is missing"))? {
            DataLayout::Compact { data } if data.len() as u64 == total => Layout::Compact(data),
            DataLayout::Compact { .. } => return Err(damaged("it has another size than its shape says")),
            DataLayout::Contiguous { address, .. } if source.is_undefined(address) => Layout::Nowhere,
            DataLayout::Contiguous { address, .. } if source.holds(address, total) => {
                Layout::Contiguous(address)
            }
            DataLayout::Contiguous { .. } => return Err(damaged("it reaches beyond the end of the file")),
            DataLayout::Chunked { address, .. } if source.is_undefined(address) => Layout::Nowhere,
            DataLayout::Chunked { address, dims, chunk_indexing, .. } => {
                let chunk: Vec<u64> = dims.iter().take(shape.len()).map(|&n| u64::from(n)).collect();
                let bytes = bytes_of(&chunk, element).and_then(|bytes| usize::try_from(bytes).ok());
                let bytes =
                    bytes.filter(|&bytes| bytes > 0 && chunk.len() == shape.len() && !shape.is_empty());
                let bytes = bytes.ok_or_else(|| damaged("the shape of its chunks cannot be"))?;
                let pipeline = (!filters.is_empty()).then(|| Pipeline::of(filters, object)).transpose()?;
                let max_shape = found.max_dims().map(<[u64]>::to_vec);
                let grid = Grid {
                    address,
                    indexing: chunk_indexing,
                    shape: shape.clone(),
                    max_shape,
                    chunk,
                    element,
                };
                Layout::Chunked(Box::new(Chunked {
                    grid,
                    bytes,
                    pipeline,
                    chunks: OnceLock::new(),
                    decoded: Mutex::default(),
                }))
            }
        };
        let attributes = guarded(object, || found.raw_attributes())?;
        let attributes = attributes.into_iter().map(|attribute| Attribute::of(attribute, source));
        let attributes = attributes.collect::<Result<_, _>>()?;
        let (path, source) = (path.to_owned(), Arc::clone(source));
        Ok(Self { path, kind, shape, element, layout, fill, attributes, source })
    }

    /// The name that it was opened by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What its elements are.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Its sizes; empty for a single value.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Its attributes.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Bytes of all its values.
    pub fn bytes(&self) -> u64 {
        // Checked when it was opened.
        bytes_of(&self.shape, self.element).unwrap_or(u64::MAX)
    }

    /// Size of the file that it lies in.
    pub fn file_len(&self) -> u64 {
        self.source.len()
    }

    /// Whether its values can be in the file: as they are, or compressed as well as they may be.
    pub fn fits_file(&self) -> bool {
        let times = match &self.layout {
            Layout::Chunked(chunked) if chunked.pipeline.is_some() => MAX_RATIO,
            _ => 1,
        };
        self.bytes() <= self.source.len().saturating_mul(times)
    }

    /// The rows of a chunk where chunks hold whole rows, so that ranges between their multiples are the fastest to read.
    pub fn rows_of_chunk(&self) -> Option<u64> {
        match &self.layout {
            Layout::Chunked(chunked) if chunked.holds_whole_rows() => chunked.grid.chunk.first().copied(),
            _ => None,
        }
    }

    /// Finds out where its values lie, which reading does otherwise.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`].
    pub fn locate(&self) -> Result<(), Hdf5Error> {
        match &self.layout {
            Layout::Chunked(chunked) => chunked.chunks(&self.source, &self.path).map(drop),
            _ => Ok(()),
        }
    }

    /// All its numbers, which are exactly of the type `T`.
    ///
    /// # Errors
    /// [`Hdf5Error::WrongType`], [`Hdf5Error::Damaged`], [`Hdf5Error::Io`].
    pub fn numbers<T: Number>(&self) -> Result<Vec<T>, Hdf5Error> {
        if !self.kind.is::<T>() {
            return Err(self.wrong(T::NAME));
        }
        let mut numbers: Vec<T> = vec![bytemuck::Zeroable::zeroed(); self.checked_len(size_of::<T>())?];
        self.read_elements(bytemuck::cast_slice_mut(&mut numbers))?;
        self.kind.to_native::<T>(bytemuck::cast_slice_mut(&mut numbers));
        Ok(numbers)
    }

    /// All its numbers as whole numbers: integers, enumerations, and floats. `None` stands for a number that is not whole,
    /// not a number at all, or too large.
    ///
    /// # Errors
    /// [`Hdf5Error::WrongType`], [`Hdf5Error::Damaged`], [`Hdf5Error::Io`].
    pub fn whole_numbers(&self) -> Result<Vec<Option<i64>>, Hdf5Error> {
        self.kind.whole_numbers(&self.read_all()?).ok_or_else(|| self.wrong("whole numbers"))
    }

    /// For each number whether it stands for none: a NaN.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`], [`Hdf5Error::Io`].
    pub fn missing(&self) -> Result<Vec<bool>, Hdf5Error> {
        let bytes = self.read_all()?;
        let floats = self.kind.floats(&bytes);
        Ok(floats.map_or_else(
            || vec![false; bytes.len() / self.element],
            |floats| floats.into_iter().map(f64::is_nan).collect(),
        ))
    }

    /// All its texts.
    ///
    /// # Errors
    /// [`Hdf5Error::WrongType`], [`Hdf5Error::Damaged`], [`Hdf5Error::Io`].
    pub fn texts(&self) -> Result<Vec<String>, Hdf5Error> {
        if self.bytes() / self.element as u64 > self.source.len() {
            return Err(Hdf5Error::damaged(&self.path, "it claims to be larger than the file"));
        }
        strings::read(&self.kind, &self.read_all()?, &self.source, &self.path)
    }

    /// The rows `range` (along the first dimension) of float32 values into `out`, which has exactly their size.
    ///
    /// # Errors
    /// [`Hdf5Error::WrongType`], [`Hdf5Error::Damaged`], [`Hdf5Error::Io`].
    pub fn read_rows_f32(&self, range: Range<u64>, out: &mut [f32]) -> Result<(), Hdf5Error> {
        if !self.kind.is::<f32>() {
            return Err(self.wrong("float32"));
        }
        self.read_rows(range, bytemuck::cast_slice_mut(out))?;
        self.kind.to_native::<f32>(bytemuck::cast_slice_mut(out));
        Ok(())
    }

    /// The bytes of the rows `range` along the first dimension as they are stored, into `out`, which has exactly their
    /// size.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`] also where the rows or the size are not those of the dataset; [`Hdf5Error::Io`].
    pub fn read_rows(&self, range: Range<u64>, out: &mut [u8]) -> Result<(), Hdf5Error> {
        let damaged = |why: &str| Hdf5Error::damaged(&self.path, why);
        let (Some(&rows), Some(row)) =
            (self.shape.first(), bytes_of(self.shape.get(1..).unwrap_or(&[]), self.element))
        else {
            return Err(damaged("it has no rows"));
        };
        let wanted = range.end.checked_sub(range.start).and_then(|rows| rows.checked_mul(row));
        if range.end > rows || wanted != Some(out.len() as u64) {
            return Err(damaged("it has other rows"));
        }
        if out.is_empty() {
            return Ok(());
        }
        // Within what was checked when the dataset was opened.
        let start = range.start * row;
        match &self.layout {
            Layout::Compact(bytes) => {
                let start = start as usize;
                out.copy_from_slice(&bytes[start..start + out.len()]);
                Ok(())
            }
            Layout::Contiguous(address) => self.source.read(address + start, out),
            Layout::Nowhere => {
                self.fill(out);
                Ok(())
            }
            Layout::Chunked(chunked) if chunked.holds_whole_rows() && chunked.pipeline.is_none() => {
                self.read_whole_rows(chunked, range, row, out)
            }
            Layout::Chunked(chunked) => self.read_parts(chunked, range, row, out),
        }
    }

    /// Rows that lie in the file one after the other within each chunk: one read a chunk, straight into the caller's memory.
    fn read_whole_rows(
        &self,
        chunked: &Chunked,
        range: Range<u64>,
        row: u64,
        out: &mut [u8],
    ) -> Result<(), Hdf5Error> {
        let chunks = chunked.chunks(&self.source, &self.path)?;
        let per_chunk = chunked.grid.chunk[0];
        let (mut at, mut rest) = (range.start, out);
        while at < range.end {
            let (number, within) = (at / per_chunk, at % per_chunk);
            let rows = (per_chunk - within).min(range.end - at);
            // At most as much as is left of `out`.
            let (part, after) = rest.split_at_mut((rows * row) as usize);
            match chunks.binary_search_by_key(&number, |chunk| chunk.number) {
                Ok(index) => self.source.read(chunks[index].address.saturating_add(within * row), part)?,
                Err(_) => self.fill(part),
            }
            (at, rest) = (at + rows, after);
        }
        Ok(())
    }

    /// Rows that chunks cut into parts, or that went through filters.
    fn read_parts(
        &self,
        chunked: &Chunked,
        range: Range<u64>,
        row: u64,
        out: &mut [u8],
    ) -> Result<(), Hdf5Error> {
        self.fill(out);
        let (grid, chunks) = (&chunked.grid, chunked.chunks(&self.source, &self.path)?);
        // The number of chunks was counted when they were located.
        let across = grid.chunks_across().unwrap_or(1);
        let first = (range.start / grid.chunk[0]).saturating_mul(across);
        let end = range.end.div_ceil(grid.chunk[0]).saturating_mul(across);
        let from = chunks.partition_point(|chunk| chunk.number < first);
        for chunk in chunks[from..].iter().take_while(|chunk| chunk.number < end) {
            let bytes = self.decoded(chunked, chunk)?;
            copy_overlap(grid, &grid.origin(chunk.number), &bytes, &range, row, out);
        }
        Ok(())
    }

    /// The bytes of a chunk, decoded at most once while it is remembered.
    fn decoded(&self, chunked: &Chunked, chunk: &Chunk) -> Result<Arc<Vec<u8>>, Hdf5Error> {
        let slot = {
            let mut decoded = lock(&chunked.decoded);
            match decoded.iter().find(|(number, _)| *number == chunk.number) {
                Some((_, slot)) => Arc::clone(slot),
                None => {
                    while decoded.len() >= (CACHE_BYTES / chunked.bytes).max(1) {
                        decoded.pop_front();
                    }
                    let slot = Slot::default();
                    decoded.push_back((chunk.number, Arc::clone(&slot)));
                    slot
                }
            }
        };
        let mut slot = lock(&slot);
        if let Some(bytes) = &*slot {
            return Ok(Arc::clone(bytes));
        }
        let bytes = Arc::new(self.decode(chunked, chunk)?);
        *slot = Some(Arc::clone(&bytes));
        Ok(bytes)
    }

    fn decode(&self, chunked: &Chunked, chunk: &Chunk) -> Result<Vec<u8>, Hdf5Error> {
        let damaged = |why: &str| Hdf5Error::damaged(&self.path, why);
        let pipeline =
            chunked.pipeline.as_ref().filter(|pipeline| !pipeline.is_left_out(chunk.skipped_filters));
        let size = match pipeline {
            // Some indices state no size for chunks as they are.
            None => chunked.bytes,
            Some(_) => usize::try_from(chunk.size).unwrap_or(usize::MAX),
        };
        if !self.source.holds(chunk.address, size as u64) {
            return Err(damaged("a chunk reaches beyond the end of the file"));
        }
        let mut bytes = vec![0; size];
        self.source.read(chunk.address, &mut bytes)?;
        match pipeline {
            None => Ok(bytes),
            Some(pipeline) => {
                pipeline.decode(&bytes, chunk.skipped_filters, self.element, chunked.bytes, &self.path)
            }
        }
    }

    fn fill(&self, out: &mut [u8]) {
        if self.fill.iter().all(|&byte| byte == 0) {
            out.fill(0);
        } else {
            out.chunks_exact_mut(self.element).for_each(|element| element.copy_from_slice(&self.fill));
        }
    }

    /// How many elements of `size` bytes it has, where that can be.
    fn checked_len(&self, size: usize) -> Result<usize, Hdf5Error> {
        let largest = self.source.len().saturating_mul(MAX_RATIO);
        let bytes = usize::try_from(self.bytes()).ok().filter(|&bytes| bytes as u64 <= largest);
        bytes
            .map(|bytes| bytes / size)
            .ok_or_else(|| Hdf5Error::damaged(&self.path, "it claims to be larger than the file"))
    }

    fn read_all(&self) -> Result<Vec<u8>, Hdf5Error> {
        let mut bytes = vec![0; self.checked_len(1)?];
        self.read_elements(&mut bytes)?;
        Ok(bytes)
    }

    /// All values, also of a dataset without dimensions.
    fn read_elements(&self, out: &mut [u8]) -> Result<(), Hdf5Error> {
        match (self.shape.first(), &self.layout) {
            (Some(&rows), _) => self.read_rows(0..rows, out),
            (None, Layout::Compact(bytes)) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            (None, Layout::Contiguous(address)) => self.source.read(*address, out),
            (None, _) => {
                self.fill(out);
                Ok(())
            }
        }
    }

    fn wrong(&self, expected: &str) -> Hdf5Error {
        Hdf5Error::WrongType { found: describe(&self.kind, &self.shape), expected: expected.to_owned() }
    }
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, describe(&self.kind, &self.shape))
    }
}

impl Chunked {
    /// Whether a chunk is as wide as a row, so that its rows follow each other without gaps.
    fn holds_whole_rows(&self) -> bool {
        self.grid.shape.iter().zip(&self.grid.chunk).skip(1).all(|(size, chunk)| size == chunk)
    }

    fn chunks(&self, source: &Source, object: &str) -> Result<&[Chunk], Hdf5Error> {
        if let Some(chunks) = self.chunks.get() {
            return Ok(chunks);
        }
        let chunks = self.grid.chunks(source, object)?;
        // Where chunks lie as they are, each has its whole size.
        let beyond = |chunk: &Chunk| !source.holds(chunk.address, self.bytes as u64);
        let odd = |chunk: &Chunk| chunk.size != 0 && chunk.size != self.bytes as u64;
        if self.pipeline.is_none() && chunks.iter().any(|chunk| beyond(chunk) || odd(chunk)) {
            return Err(Hdf5Error::damaged(
                object,
                "a chunk has another size than it should, or lies beyond the end of the file",
            ));
        }
        Ok(self.chunks.get_or_init(|| chunks))
    }
}

/// Copies what a chunk that begins at `origin` holds of the rows `range` to `out`.
fn copy_overlap(grid: &Grid, origin: &[u64], chunk: &[u8], range: &Range<u64>, row: u64, out: &mut [u8]) {
    let rank = origin.len();
    // The overlap in coordinates of the dataset.
    let mut low: Vec<u64> = origin.to_vec();
    let mut high: Vec<u64> =
        (0..rank).map(|d| origin[d].saturating_add(grid.chunk[d]).min(grid.shape[d])).collect();
    low[0] = low[0].max(range.start);
    high[0] = high[0].min(range.end);
    if low.iter().zip(&high).any(|(low, high)| low >= high) {
        return;
    }
    let last = rank - 1;
    let element = grid.element as u64;
    let run = ((high[last] - low[last]) * element) as usize;
    let mut at = low.clone();
    loop {
        let (mut from, mut to) = (0, 0);
        for d in 0..rank {
            from = from * grid.chunk[d] + (at[d] - origin[d]);
            to = if d == 0 { at[0] - range.start } else { to * grid.shape[d] + at[d] };
        }
        debug_assert!(row % element == 0);
        let (from, to) = ((from * element) as usize, (to * element) as usize);
        out[to..to + run].copy_from_slice(&chunk[from..from + run]);
        // The next run: all dimensions but the last count on.
        let Some(d) = (0..last).rev().find(|&d| at[d] + 1 < high[d]) else { return };
        at[d] += 1;
        at[d + 1..last].copy_from_slice(&low[d + 1..last]);
    }
}

/// What a panic left behind is a cache, which any content suits.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Bytes of a reference to a text in the heap: its length, and where it lies.
fn reference_size(source: &Source) -> usize {
    8 + usize::from(source.offset_size())
}

fn bytes_of(shape: &[u64], element: usize) -> Option<u64> {
    shape.iter().try_fold(element as u64, |bytes, &n| bytes.checked_mul(n))
}

/// `float32 of the shape 100 x 10`.
pub fn describe(kind: &Kind, shape: &[u64]) -> String {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    if sizes.is_empty() {
        format!("a single {kind}")
    } else {
        format!("{kind} of the shape {}", sizes.join(" x "))
    }
}
