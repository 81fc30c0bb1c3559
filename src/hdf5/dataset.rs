//! Datasets: their shapes and types, and their values.

use std::ops::Range;
use std::sync::Arc;

use hdf5_reader::Hdf5File;
use hdf5_reader::messages::HdfMessage;
use hdf5_reader::messages::dataspace::DataspaceType;
use hdf5_reader::messages::layout::DataLayout;

use super::chunked::Chunked;
use super::chunks::ChunkGrid;
use super::filters::FilterChain;
use super::source::{Hdf5Source, guarded};
use super::virtual_rows::VirtualRows;
use super::{Attribute, ElementType, Hdf5Error, Number, RowPlaces, strings};

/// Bytes of an element at most.
const MAX_ELEMENT: usize = 64 << 20;
/// How much larger than the file all values may be: deflate's best ratio.
const MAX_RATIO: u64 = 1032;

/// An array in the file. Any thread may read from it, at the same time as others.
pub struct Hdf5Dataset {
    kind: ElementType,
    shape: Vec<u64>,
    /// Bytes of an element.
    element: usize,
    layout: StorageLayout,
    attributes: Vec<Attribute>,
    place: DatasetStorage,
}

/// Where a dataset's values come from.
pub(super) struct DatasetStorage {
    /// The name that it was opened by.
    pub(super) path: String,
    pub(super) source: Arc<Hdf5Source>,
    /// What stands for an element that was never written.
    fill: Vec<u8>,
}

impl DatasetStorage {
    /// Fills `out` with what stands for elements that were never written.
    pub(super) fn fill(&self, out: &mut [u8]) {
        if self.fill.iter().all(|&byte| byte == 0) {
            out.fill(0);
        } else {
            out.chunks_exact_mut(self.fill.len()).for_each(|element| element.copy_from_slice(&self.fill));
        }
    }
}

enum StorageLayout {
    /// In the header itself.
    Compact(Vec<u8>),
    /// In one piece.
    Contiguous(u64),
    /// In chunks.
    Chunked(Box<Chunked>),
    /// In other files.
    Virtual(Box<VirtualRows>),
    /// Nothing was written.
    Nowhere,
}

impl Hdf5Dataset {
    pub(super) fn of(
        tree: &Hdf5File,
        source: &Arc<Hdf5Source>,
        found: &hdf5_reader::Dataset,
        path: &str,
    ) -> Result<Self, Hdf5Error> {
        let object = path;
        let damaged = |why: &str| Hdf5Error::damaged(object, why);
        let header = guarded(object, || tree.get_or_parse_header(found.address()))?;
        let stored = guarded(object, || found.raw_datatype())?;
        let reference = reference_size(source);
        let kind = ElementType::of(found.dtype(), &stored, reference);
        let element = kind.size(reference);
        if !(1..=MAX_ELEMENT).contains(&element) {
            return Err(damaged("the size of its elements is impossible"));
        }
        let (mut layout, mut fill, mut filters) = (None, None, Vec::new());
        for message in &header.messages {
            match message {
                HdfMessage::DataLayout(message) => layout = Some(message.layout.clone()),
                HdfMessage::FillValue(message) => fill = message.value.clone().or(fill),
                HdfMessage::FilterPipeline(message) => filters = message.filters.clone(),
                HdfMessage::ExternalFiles(_) => {
                    let why =
                        "its values are in other files; copy them into one file, for example by `h5repack`";
                    return Err(Hdf5Error::Unsupported(why.to_owned()));
                }
                _ => {}
            }
        }
        let fill = fill.filter(|fill| fill.len() == element && !matches!(kind, ElementType::Text { .. }));
        let fill = fill.unwrap_or_else(|| vec![0; element]);
        let null = header.messages.iter().any(|message| {
            matches!(message, HdfMessage::Dataspace(space) if space.dataspace_type == DataspaceType::Null)
        });
        let shape = if null { vec![0] } else { found.shape().to_vec() };
        let total = bytes_of(&shape, element).ok_or_else(|| damaged("its shape is impossible"))?;
        let layout = match source.virtual_layout(found.address()) {
            Some(layout) => {
                let row = bytes_of(shape.get(1..).unwrap_or_default(), element).unwrap_or(total);
                let rows = VirtualRows::new(layout, source, (&kind, &shape, row), object)?;
                StorageLayout::Virtual(Box::new(rows))
            }
            None => match layout.ok_or_else(|| damaged("the place of its values is missing"))? {
                DataLayout::Compact { data } if data.len() as u64 == total => StorageLayout::Compact(data),
                DataLayout::Compact { .. } => return Err(damaged("it has another size than its shape says")),
                DataLayout::Contiguous { address, .. } if source.is_undefined(address) => {
                    StorageLayout::Nowhere
                }
                DataLayout::Contiguous { address, .. } if source.holds(address, total) => {
                    StorageLayout::Contiguous(address)
                }
                DataLayout::Contiguous { .. } => {
                    return Err(damaged("it reaches beyond the end of the file"));
                }
                DataLayout::Chunked { address, .. } if source.is_undefined(address) => StorageLayout::Nowhere,
                DataLayout::Chunked { address, dims, chunk_indexing, .. } => {
                    let chunk: Vec<u64> = dims.iter().take(shape.len()).map(|&n| u64::from(n)).collect();
                    let bytes = bytes_of(&chunk, element).and_then(|bytes| usize::try_from(bytes).ok());
                    let bytes =
                        bytes.filter(|&bytes| bytes > 0 && chunk.len() == shape.len() && !shape.is_empty());
                    let bytes = bytes.ok_or_else(|| damaged("the shape of its chunks is impossible"))?;
                    let pipeline =
                        (!filters.is_empty()).then(|| FilterChain::of(filters, object)).transpose()?;
                    let max_shape = found.max_dims().map(<[u64]>::to_vec);
                    let grid = ChunkGrid {
                        address,
                        indexing: chunk_indexing,
                        shape: shape.clone(),
                        max_shape,
                        chunk,
                        element,
                    };
                    StorageLayout::Chunked(Box::new(Chunked::new(grid, bytes, pipeline)))
                }
            },
        };
        let attributes = guarded(object, || found.raw_attributes())?;
        let attributes = attributes.into_iter().map(|attribute| Attribute::of(attribute, source));
        let attributes = attributes.collect::<Result<_, _>>()?;
        let place = DatasetStorage { path: path.to_owned(), source: Arc::clone(source), fill };
        Ok(Self { kind, shape, element, layout, attributes, place })
    }

    /// The name that it was opened by.
    pub fn path(&self) -> &str {
        &self.place.path
    }

    /// What its elements are.
    pub fn kind(&self) -> &ElementType {
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
        self.place.source.len()
    }

    /// Whether its values can be in the file: as they are, or compressed as well as they may be.
    ///
    /// The values of a virtual dataset are in other files, which [`Self::locate`] looks at.
    pub fn fits_file(&self) -> bool {
        let times = match &self.layout {
            StorageLayout::Virtual(_) => return true,
            StorageLayout::Chunked(chunked) if chunked.pipeline.is_some() => MAX_RATIO,
            _ => 1,
        };
        self.bytes() <= self.place.source.len().saturating_mul(times)
    }

    /// Whether its values are in other files.
    pub(super) fn is_virtual(&self) -> bool {
        matches!(self.layout, StorageLayout::Virtual(_))
    }

    /// The rows of a chunk where chunks hold whole rows, so that ranges between their multiples are the fastest to read.
    pub fn rows_of_chunk(&self) -> Option<u64> {
        match &self.layout {
            StorageLayout::Chunked(chunked) if chunked.holds_whole_rows() => {
                chunked.grid.chunk.first().copied()
            }
            _ => None,
        }
    }

    /// Where its rows lie in the file, if each lies there in one piece and they are float32 as this machine has them: the file's
    /// bytes are the values.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`].
    pub fn places_of_f32_rows(&self) -> Result<Option<RowPlaces>, Hdf5Error> {
        let (Some(&rows), Some(row), true) = (
            self.shape.first(),
            bytes_of(self.shape.get(1..).unwrap_or_default(), self.element),
            self.kind.is_native::<f32>(),
        ) else {
            return Ok(None);
        };
        let source = &self.place.source;
        let absolute = |(first, address)| (first, address + source.base());
        Ok(match &self.layout {
            _ if rows == 0 => Some(RowPlaces::new(std::iter::empty(), 0, row)),
            // It was checked against the file's size when the dataset was opened.
            StorageLayout::Contiguous(address) => {
                Some(RowPlaces::new(std::iter::once(absolute((0, *address))), rows, row))
            }
            StorageLayout::Chunked(chunked) => {
                chunked.whole_rows(&self.place)?.map(|pieces| RowPlaces::new(pieces.map(absolute), rows, row))
            }
            StorageLayout::Compact(_) | StorageLayout::Virtual(_) | StorageLayout::Nowhere => None,
        })
    }

    /// Finds out where its values lie, which reading does otherwise, and opens the files of a virtual dataset.
    ///
    /// # Errors
    /// [`Hdf5Error::Damaged`], [`Hdf5Error::Part`].
    pub fn locate(&self) -> Result<(), Hdf5Error> {
        match &self.layout {
            StorageLayout::Chunked(chunked) => chunked.chunks(&self.place).map(drop),
            StorageLayout::Virtual(rows) => rows.locate(),
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
        if self.bytes() / self.element as u64 > self.place.source.len() {
            return Err(Hdf5Error::damaged(&self.place.path, "it claims to be larger than the file"));
        }
        strings::read(&self.kind, &self.read_all()?, &self.place.source, &self.place.path)
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
        let damaged = |why: &str| Hdf5Error::damaged(&self.place.path, why);
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
            StorageLayout::Compact(bytes) => {
                let start = start as usize;
                out.copy_from_slice(&bytes[start..start + out.len()]);
                Ok(())
            }
            StorageLayout::Contiguous(address) => self.place.source.read(address + start, out),
            StorageLayout::Virtual(rows) => rows.read(&range, out),
            StorageLayout::Nowhere => {
                self.place.fill(out);
                Ok(())
            }
            StorageLayout::Chunked(chunked) if chunked.holds_whole_rows() && chunked.pipeline.is_none() => {
                chunked.read_whole_rows(&self.place, &range, row, out)
            }
            StorageLayout::Chunked(chunked) => chunked.read_parts(&self.place, &range, out),
        }
    }

    /// How many elements of `size` bytes it has, where that can be.
    fn checked_len(&self, size: usize) -> Result<usize, Hdf5Error> {
        let largest = match &self.layout {
            StorageLayout::Virtual(rows) => {
                rows.locate()?;
                self.bytes()
            }
            _ => self.place.source.len().saturating_mul(MAX_RATIO),
        };
        let bytes = usize::try_from(self.bytes()).ok().filter(|&bytes| bytes as u64 <= largest);
        bytes
            .map(|bytes| bytes / size)
            .ok_or_else(|| Hdf5Error::damaged(&self.place.path, "it claims to be larger than the file"))
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
            (None, StorageLayout::Compact(bytes)) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            (None, StorageLayout::Contiguous(address)) => self.place.source.read(*address, out),
            (None, _) => {
                self.place.fill(out);
                Ok(())
            }
        }
    }

    fn wrong(&self, expected: &str) -> Hdf5Error {
        Hdf5Error::WrongType { found: describe(&self.kind, &self.shape), expected: expected.to_owned() }
    }
}

impl std::fmt::Debug for Hdf5Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place.path, describe(&self.kind, &self.shape))
    }
}

/// Bytes of a reference to a text in the heap: its length, and where it lies.
pub(super) fn reference_size(source: &Hdf5Source) -> usize {
    8 + usize::from(source.offset_size())
}

fn bytes_of(shape: &[u64], element: usize) -> Option<u64> {
    shape.iter().try_fold(element as u64, |bytes, &n| bytes.checked_mul(n))
}

/// `float32 of the shape 100 x 10`.
pub fn describe(kind: &ElementType, shape: &[u64]) -> String {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    if sizes.is_empty() {
        format!("a single {kind}")
    } else {
        format!("{kind} of the shape {}", sizes.join(" x "))
    }
}
