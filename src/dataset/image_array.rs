//! Images that lie as an array in an HDF5 file: how data sets such as CIFAR are kept.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use image::RgbImage;

use super::array_axes::{ArrayAxes, ArrayGeometry, AxesReading};
use crate::hdf5::{ElementType, Hdf5, Hdf5Dataset, Hdf5Error, describe};

/// Largest image, in pixels, that is read.
const MAX_PIXELS: usize = 250_000_000;
/// Largest array that is held in memory, in bytes, where its images do not lie in one piece each.
const MAX_SCATTERED: u64 = 4 << 30;
/// What the datasets of a program have as an attribute that counts columns first, so that HDF5's dimensions are the reverse
/// of its own: MATLAB, and R's rhdf5.
const COLUMNS_FIRST: [&str; 2] = ["MATLAB_class", "rhdf5-NA.OK"];

/// What can be wrong with an array of images.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum ArrayError {
    /// The file is no HDF5 file, or not readable.
    #[error("cannot open {} as an HDF5 file", path.display())]
    Open { path: PathBuf, source: Hdf5Error },
    /// A file that MATLAB wrote in its own format.
    #[error("{} is a MATLAB file that is not HDF5; save it in MATLAB with the option '-v7.3'", path.display())]
    OldMatlab { path: PathBuf },
    /// No dataset of that name.
    #[error("{} has no dataset {dataset}; it holds {}", path.display(), listing(found))]
    NoDataset { path: PathBuf, dataset: String, found: Vec<String> },
    /// No dataset was named, and there is not exactly one that could be meant.
    #[error(
        "{} holds {} arrays of images ({}); name one as {}:/DATASET", path.display(), found.len(), listing(found),
        path.display()
    )]
    NotOne { path: PathBuf, found: Vec<String> },
    /// The dataset does not hold images.
    #[error(
        "{}: {dataset} is {found}, not an array of images: uint8 of the shape images x height x width x 3, images x 3 \
         x height x width, images x height x width, or height x width x 3; --axes names any other order of the dimensions",
        path.display()
    )]
    NotImages { path: PathBuf, dataset: String, found: String },
    /// The shape can be several things.
    #[error(
        "{}: {dataset} is {found}, whose dimensions can be read as {}; name their order with --axes, for \
         example --axes {} (N images, H height, W width, C colours)", path.display(), readings.join(" or "),
         readings.first().map_or("NHWC", String::as_str)
    )]
    Unclear { path: PathBuf, dataset: String, found: String, readings: Vec<String> },
    /// The axes that were named are not those of the array.
    #[error(
        "{}: {dataset} is {found}, which does not fit --axes {axes}: {why}; name its dimensions in the \
         order shown here", path.display()
    )]
    OtherAxes { path: PathBuf, dataset: String, found: String, axes: String, why: String },
    /// The images lie scattered, and are too many to be held in memory.
    #[error(
        "{}: each image of {dataset} is stored in several pieces ({axes}), and its {bytes} bytes are too \
         many to reorder in memory; store it with the images first, for example as NHWC", path.display()
    )]
    Scattered { path: PathBuf, dataset: String, axes: String, bytes: u64 },
    /// The labels do not go with the images.
    #[error(
        "{}: the labels in {dataset} are {found}, expected one whole number or text for each of the {rows} images",
        path.display()
    )]
    NotLabels { path: PathBuf, dataset: String, found: String, rows: usize },
    /// A label that is a number with a fraction, or too large.
    #[error(
        "{}: the label of row {row} in {dataset} is not a whole number that can number a class; store \
         classes as whole numbers or names", path.display()
    )]
    NotWhole { path: PathBuf, dataset: String, row: usize },
    /// HDF5 could not read.
    #[error("{}: cannot read {dataset}", path.display())]
    Read { path: PathBuf, dataset: String, source: Hdf5Error },
}

fn listing(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A dataset of images, open.
#[derive(Debug)]
pub struct ImageArray {
    dataset: Hdf5Dataset,
    path: PathBuf,
    name: String,
    axes: ArrayAxes,
    /// Whether the bytes of an image are taken for it as they are stored, whatever the order within it.
    as_stored: bool,
    geometry: ArrayGeometry,
    /// All bytes, where images do not lie in one piece each; read when the first image is.
    scattered: Mutex<Option<Arc<Vec<u8>>>>,
}

/// The classes of an array's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrayLabels {
    /// By number; `None` where that is not a number (NaN).
    Numbers(Vec<Option<i64>>),
    /// By name.
    Names(Vec<String>),
}

impl ImageArray {
    /// Opens the array at `dataset` in the file, or the only one that there is.
    ///
    /// `axes` says what its dimensions are. Without them a uint8 array of images x height x width x 3 (or 1), images x 3
    /// (or 1) x height x width, images x height x width, or height x width x 3 is read as that, and the reverse where
    /// MATLAB wrote it.
    ///
    /// # Errors
    /// The file is no HDF5 file, the dataset is missing or no such array, its shape can be several things, or none was
    /// named and there is not one.
    pub fn open(
        path: &Path,
        dataset: Option<&str>,
        axes: Option<&ArrayAxes>,
    ) -> Result<ImageArray, ArrayError> {
        let file = open(path)?;
        if let Some(name) = dataset {
            return of(find(&file, path, name)?, path, axes, file.is_matlab());
        }
        let found = file.datasets().map_err(|source| ArrayError::Open { path: path.to_owned(), source })?;
        let (mut arrays, mut others) = (Vec::new(), Vec::new());
        for name in found {
            let array =
                find(&file, path, &name).and_then(|dataset| of(dataset, path, axes, file.is_matlab()));
            match array {
                Ok(array) => arrays.push(array),
                Err(ArrayError::NotImages { .. } | ArrayError::OtherAxes { .. }) => {}
                // Images that cannot be read, as it seems: their error says more than that there are none.
                Err(error) => others.push(error),
            }
        }
        match (arrays.pop(), others.pop()) {
            (Some(only), _) if arrays.is_empty() => Ok(only),
            (None, Some(error)) if others.is_empty() => Err(error),
            (last, _) => Err(ArrayError::NotOne {
                path: path.to_owned(),
                found: arrays.into_iter().chain(last).map(|array| array.name).collect(),
            }),
        }
    }

    /// The HDF5 file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The dataset's full name, with a leading '/'.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of images.
    pub fn rows(&self) -> usize {
        self.geometry.images
    }

    /// The order of its dimensions, where it is not the usual one: what it is read as beyond its shape.
    pub fn unusual_axes(&self) -> Option<&ArrayAxes> {
        (!self.axes.is_usual()).then_some(&self.axes)
    }

    /// One image: the bytes that it is known by, and its pixels. Any thread may ask, at the same time as others.
    ///
    /// The bytes are those that are stored where the array is of a usual order, else row by row from the top, so that an
    /// image that is read in another order is another image.
    ///
    /// # Errors
    /// There is no such row, or it cannot be read.
    pub fn read(&self, row: usize) -> Result<(Vec<u8>, RgbImage), ArrayError> {
        let geometry = &self.geometry;
        let (bytes, start) = if geometry.first {
            let mut bytes = vec![0; geometry.height * geometry.width * geometry.colours];
            let rows = match self.axes.is_single() {
                // The first dimension is not that of images.
                true => 0..self.dataset.shape()[0],
                false => row as u64..row as u64 + 1,
            };
            self.dataset.read_rows(rows, &mut bytes).map_err(|source| self.cannot_read(source))?;
            (Arc::new(bytes), 0)
        } else {
            (self.all_bytes()?, row * geometry.image_stride)
        };
        let upright = geometry.upright(&bytes, start).ok_or_else(|| self.is_smaller())?;
        let rgb = match geometry.colours {
            3 => upright.clone(),
            _ => upright.iter().flat_map(|&grey| [grey; 3]).collect(),
        };
        let stored = if self.as_stored { Arc::unwrap_or_clone(bytes) } else { upright };
        // Both were checked against MAX_PIXELS.
        match RgbImage::from_raw(geometry.width as u32, geometry.height as u32, rgb) {
            Some(image) => Ok((stored, image)),
            None => Err(self.is_smaller()),
        }
    }

    /// The labels in another dataset of the file, or of `file`, one a row: whole numbers of any type, or texts.
    ///
    /// # Errors
    /// The dataset is missing, of another type or of another length.
    pub fn labels(&self, file: Option<&Path>, dataset: &str) -> Result<ArrayLabels, ArrayError> {
        let path = file.unwrap_or(&self.path);
        let labels = find(&open(path)?, path, dataset)?;
        let rows = self.rows();
        let (owned, name) = (|| path.to_owned(), labels.path().to_owned());
        let read = |source| ArrayError::Read { path: owned(), dataset: name.clone(), source };
        // One label a row, whatever dimensions of size 1 there are beside.
        let long: Vec<u64> = labels.shape().iter().copied().filter(|&n| n != 1).collect();
        let column = match long[..] {
            [] => rows == 1,
            [length] => length == rows as u64,
            _ => false,
        };
        match labels.kind() {
            ElementType::Text { .. } | ElementType::FixedText { .. } if column => {
                labels.texts().map(ArrayLabels::Names).map_err(read)
            }
            // What NumPy calls bool.
            ElementType::Enumeration { members, .. } if column && !is_boolean(members) => {
                let numbers = labels.whole_numbers().map_err(read)?;
                let name_of = |(row, number): (usize, Option<i64>)| {
                    let member = members.iter().find(|(_, known)| Some(*known) == number);
                    member.map(|(name, _)| name.clone()).ok_or_else(|| ArrayError::NotWhole {
                        path: owned(),
                        dataset: name.clone(),
                        row,
                    })
                };
                numbers.into_iter().enumerate().map(name_of).collect::<Result<_, _>>().map(ArrayLabels::Names)
            }
            ElementType::Integer(_) | ElementType::Float { .. } | ElementType::Enumeration { .. }
                if column =>
            {
                let numbers = labels.whole_numbers().map_err(read)?;
                let missing = labels.missing().map_err(read)?;
                match numbers.iter().zip(&missing).position(|(number, missing)| number.is_none() && !missing)
                {
                    Some(row) => Err(ArrayError::NotWhole { path: owned(), dataset: name, row }),
                    None => Ok(ArrayLabels::Numbers(numbers)),
                }
            }
            kind => Err(ArrayError::NotLabels {
                path: owned(),
                found: describe(kind, labels.shape()),
                dataset: name,
                rows,
            }),
        }
    }

    /// All bytes of an array whose images do not lie in one piece each.
    fn all_bytes(&self) -> Result<Arc<Vec<u8>>, ArrayError> {
        let mut held = self.scattered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = &*held {
            return Ok(Arc::clone(bytes));
        }
        let bytes = self.dataset.numbers::<u8>().map_err(|source| self.cannot_read(source))?;
        Ok(Arc::clone(held.insert(Arc::new(bytes))))
    }

    fn cannot_read(&self, source: Hdf5Error) -> ArrayError {
        ArrayError::Read { path: self.path.clone(), dataset: self.name.clone(), source }
    }

    fn is_smaller(&self) -> ArrayError {
        let why = "an image is not as large as its shape says".to_owned();
        self.cannot_read(Hdf5Error::Damaged { object: self.name.clone(), why })
    }
}

fn open(path: &Path) -> Result<Hdf5, ArrayError> {
    Hdf5::open(path).map_err(|source| {
        let path = path.to_owned();
        match source {
            Hdf5Error::NotHdf5 if is_old_matlab(&path) => ArrayError::OldMatlab { path },
            source => ArrayError::Open { path, source },
        }
    })
}

/// Whether the file begins as those of MATLAB's versions 5 to 7.
fn is_old_matlab(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    let file = std::fs::File::open(path);
    file.is_ok_and(|file| file.take(10).read_to_end(&mut start).is_ok()) && start == b"MATLAB 5.0"
}

fn find(file: &Hdf5, path: &Path, dataset: &str) -> Result<Hdf5Dataset, ArrayError> {
    let name = format!("/{}", dataset.trim_matches('/'));
    file.dataset(&name).map_err(|source| match source {
        Hdf5Error::Missing => {
            let found = file.datasets().unwrap_or_default();
            ArrayError::NoDataset { path: path.to_owned(), dataset: name, found }
        }
        source => ArrayError::Read { path: path.to_owned(), dataset: name, source },
    })
}

fn of(
    dataset: Hdf5Dataset,
    path: &Path,
    axes: Option<&ArrayAxes>,
    matlab: bool,
) -> Result<ImageArray, ArrayError> {
    let (owned, name, shape) = (|| path.to_owned(), dataset.path().to_owned(), dataset.shape());
    let found = || describe(dataset.kind(), shape);
    let not_images = || ArrayError::NotImages { path: owned(), dataset: name.clone(), found: found() };
    if !dataset.kind().is::<u8>() {
        return Err(not_images());
    }
    let marked = |attribute: &crate::hdf5::Attribute| COLUMNS_FIRST.contains(&attribute.name());
    let reversed = matlab || dataset.attributes().iter().any(marked);
    let (axes, named) = match (axes, ArrayAxes::of(shape, reversed)) {
        (Some(axes), _) => (axes.clone(), true),
        (None, AxesReading::Clear(axes)) => (axes, false),
        (None, AxesReading::Nothing) => return Err(not_images()),
        (None, AxesReading::Unclear(readings)) => {
            let readings = readings.iter().map(ArrayAxes::to_string).collect();
            return Err(ArrayError::Unclear { path: owned(), dataset: name, found: found(), readings });
        }
    };
    let geometry = axes.geometry(shape).map_err(|why| ArrayError::OtherAxes {
        path: owned(),
        dataset: name.clone(),
        found: found(),
        axes: axes.to_string(),
        why,
    })?;
    let pixels = geometry.height.saturating_mul(geometry.width);
    if geometry.images == 0 || !(1..=MAX_PIXELS).contains(&pixels) {
        return Err(not_images());
    }
    // Each image takes a byte of the file at the very least.
    if !dataset.fits_file() || geometry.images as u64 > dataset.file_len() {
        let why = "it claims to be larger than the file".to_owned();
        let source = Hdf5Error::Damaged { object: name.clone(), why };
        return Err(ArrayError::Read { path: owned(), dataset: name, source });
    }
    if !geometry.first && dataset.bytes() > MAX_SCATTERED {
        let (axes, bytes) = (axes.to_string(), dataset.bytes());
        return Err(ArrayError::Scattered { path: owned(), dataset: name, axes, bytes });
    }
    // Where somebody named the axes, the same bytes may have been read otherwise before.
    let as_stored = axes.is_usual() && !named;
    let path = owned();
    Ok(ImageArray { dataset, path, name, axes, as_stored, geometry, scattered: Mutex::default() })
}

fn is_boolean(members: &[(String, i64)]) -> bool {
    members.len() == 2
        && members.iter().any(|(name, value)| name == "FALSE" && *value == 0)
        && members.iter().any(|(name, value)| name == "TRUE" && *value == 1)
}
