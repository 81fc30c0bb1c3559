//! Images that lie as an array in an HDF5 file, one a row: how data sets such as CIFAR are kept.

use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::hdf5::{Dataset, Hdf5, Hdf5Error, Kind, describe};

/// Largest row, in pixels, that is read.
const MAX_PIXELS: usize = 250_000_000;

/// What can be wrong with an array of images.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    /// The file is no HDF5 file, or not readable.
    #[error("cannot open {} as an HDF5 file", path.display())]
    Open { path: PathBuf, source: Hdf5Error },
    /// No dataset of that name.
    #[error("{} has no dataset {dataset}; it holds {}", path.display(), listing(found))]
    NoDataset { path: PathBuf, dataset: String, found: Vec<String> },
    /// No dataset was named, and there is not exactly one that could be meant.
    #[error(
        "{} holds {} arrays of images ({}); say which with {}:/DATASET", path.display(), found.len(), listing(found),
        path.display()
    )]
    NotOne { path: PathBuf, found: Vec<String> },
    /// The dataset does not hold images.
    #[error(
        "{}: {dataset} is {found}, not an array of images: uint8 of the shape images x height x width x 3, images x 3 \
         x height x width, or images x height x width", path.display()
    )]
    NotImages { path: PathBuf, dataset: String, found: String },
    /// The labels do not go with the images.
    #[error("{}: the labels in {dataset} are {found}, expected one integer or string for each of the {rows} images", path.display())]
    NotLabels { path: PathBuf, dataset: String, found: String, rows: usize },
    /// HDF5 could not read.
    #[error("{}: cannot read {dataset}", path.display())]
    Read { path: PathBuf, dataset: String, source: Hdf5Error },
}

fn listing(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// How a row's bytes are to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planes {
    /// Height x width x 3.
    Interleaved,
    /// 3 x height x width.
    Planar,
    /// Height x width.
    Grey,
}

/// A dataset of images, open.
#[derive(Debug)]
pub struct ImageArray {
    dataset: Dataset,
    path: PathBuf,
    name: String,
    rows: usize,
    height: usize,
    width: usize,
    planes: Planes,
}

/// The classes of an array's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrayLabels {
    /// By number; a negative one means that the class is unknown.
    Numbers(Vec<i64>),
    /// By name.
    Names(Vec<String>),
}

impl ImageArray {
    /// Opens the array at `dataset` in the file, or the only one that there is.
    ///
    /// uint8 of images x height x width x 3 (or 1), images x 3 (or 1) x height x width, or images x height x width; a
    /// shape that could be both of the first two is taken for the first.
    ///
    /// # Errors
    /// The file is no HDF5 file, the dataset is missing or no such array, or none was named and there is not one.
    pub fn open(path: &Path, dataset: Option<&str>) -> Result<ImageArray, ArrayError> {
        let open = |source| ArrayError::Open { path: path.to_owned(), source };
        let file = FileBuilder::new()
            .with_fapl(|access| access.chunk_cache(CHUNK_CACHE_SLOTS, CHUNK_CACHE_BYTES, 0.75))
            .open(path)
            .map_err(open)?;
        let found = datasets(&file, "").map_err(open)?;
        let Some(name) = dataset else {
            let mut arrays: Vec<ImageArray> =
                found.into_iter().filter_map(|(name, dataset)| of(dataset, path, &name).ok()).collect();
            return match arrays.pop() {
                Some(only) if arrays.is_empty() => Ok(only),
                last => Err(ArrayError::NotOne {
                    path: path.to_owned(),
                    found: arrays.into_iter().chain(last).map(|array| array.name).collect(),
                }),
            };
        };
        let name = format!("/{}", name.trim_matches('/'));
        match file.dataset(&name) {
            Ok(dataset) => of(dataset, path, &name),
            Err(_) => {
                let found = found.into_iter().map(|(name, _)| name).collect();
                Err(ArrayError::NoDataset { path: path.to_owned(), dataset: name, found })
            }
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
        self.rows
    }

    /// One image: its bytes as they are stored, and the same as RGB. Any thread may ask; HDF5 serves one at a time.
    ///
    /// # Errors
    /// There is no such row, or HDF5 cannot read it.
    pub fn read(&self, row: usize) -> Result<(Vec<u8>, RgbImage), ArrayError> {
        let mut selection = vec![SliceOrIndex::from(row)];
        selection.resize(self.dataset.ndim(), SliceOrIndex::from(..));
        let read = self.dataset.read_slice::<u8, _, IxDyn>(Selection::from(Hyperslab::from(selection)));
        let stored = read.map_err(|source| self.cannot_read(source))?.into_raw_vec_and_offset().0;
        let rgb = match self.planes {
            Planes::Interleaved => stored.clone(),
            Planes::Grey => stored.iter().flat_map(|&grey| [grey; 3]).collect(),
            Planes::Planar => {
                let (red, rest) = stored.split_at(stored.len() / 3);
                let (green, blue) = rest.split_at(rest.len() / 2);
                let pixels = red.iter().zip(green).zip(blue);
                pixels.flat_map(|((&red, &green), &blue)| [red, green, blue]).collect()
            }
        };
        // Both were checked against MAX_PIXELS.
        let image = RgbImage::from_raw(self.width as u32, self.height as u32, rgb);
        match image {
            Some(image) => Ok((stored, image)),
            None => Err(self.cannot_read("a row is not as large as the dataset's shape says".into())),
        }
    }

    /// The labels in another dataset of the file, one a row: integers, or strings of variable length.
    ///
    /// # Errors
    /// The dataset is missing, of another type or of another length.
    pub fn labels(&self, dataset: &str) -> Result<ArrayLabels, ArrayError> {
        let name = format!("/{}", dataset.trim_matches('/'));
        let read = |source| ArrayError::Read { path: self.path.clone(), dataset: name.clone(), source };
        let file = self.dataset.file().map_err(read)?;
        let Ok(labels) = file.dataset(&name) else {
            let found = datasets(&file, "").map_err(read)?.into_iter().map(|(name, _)| name).collect();
            return Err(ArrayError::NoDataset { path: self.path.clone(), dataset: name, found });
        };
        let kind = labels.dtype().and_then(|kind| kind.to_descriptor()).map_err(read)?;
        let shape = labels.shape();
        let column = matches!(shape[..], [rows] | [rows, 1] if rows == self.rows);
        match kind {
            TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) if column => {
                labels.read_raw::<i64>().map(ArrayLabels::Numbers).map_err(read)
            }
            TypeDescriptor::VarLenUnicode if shape.len() == 1 && column => {
                let rows: Range<usize> = 0..self.rows;
                let names = read_strings(&labels, rows, &self.path, &name);
                names.map(ArrayLabels::Names).map_err(|error| read(error.to_string().into()))
            }
            _ => Err(ArrayError::NotLabels {
                path: self.path.clone(),
                dataset: name.clone(),
                found: describe(&kind, &shape),
                rows: self.rows,
            }),
        }
    }

    fn cannot_read(&self, source: Hdf5Error) -> ArrayError {
        ArrayError::Read { path: self.path.clone(), dataset: self.name.clone(), source }
    }
}

/// All datasets below the group, with their full names.
fn datasets(group: &hdf5_metno::Group, name: &str) -> hdf5_metno::Result<Vec<(String, Dataset)>> {
    let mut found = Vec::new();
    for member in group.member_names()? {
        let name = format!("{name}/{member}");
        if let Ok(dataset) = group.dataset(&member) {
            found.push((name, dataset));
        } else if let Ok(inner) = group.group(&member)
            // Deeper groups are left alone, since links may lead in circles.
            && name.matches('/').count() < 8
        {
            found.extend(datasets(&inner, &name)?);
        }
    }
    Ok(found)
}

fn of(dataset: Dataset, path: &Path, name: &str) -> Result<ImageArray, ArrayError> {
    let read = |source| ArrayError::Read { path: path.to_owned(), dataset: name.to_owned(), source };
    let kind = dataset.dtype().and_then(|kind| kind.to_descriptor()).map_err(read)?;
    let shape = dataset.shape();
    let (rows, height, width, planes) = match shape[..] {
        [rows, height, width, 3] => (rows, height, width, Planes::Interleaved),
        [rows, 3, height, width] => (rows, height, width, Planes::Planar),
        [rows, height, width] | [rows, height, width, 1] | [rows, 1, height, width] => {
            (rows, height, width, Planes::Grey)
        }
        _ => (0, 0, 0, Planes::Grey),
    };
    let pixels = height.saturating_mul(width);
    if kind != u8::type_descriptor() || rows == 0 || !(1..=MAX_PIXELS).contains(&pixels) {
        let (path, dataset) = (path.to_owned(), name.to_owned());
        return Err(ArrayError::NotImages { path, dataset, found: describe(&kind, &shape) });
    }
    Ok(ImageArray { dataset, path: path.to_owned(), name: name.to_owned(), rows, height, width, planes })
}

/// `float32 of the shape 100 x 10`.
fn describe(kind: &TypeDescriptor, shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("{kind} of the shape {}", sizes.join(" x "))
}
