//! [`FeatureFileHeader`]: what a features file says about itself and its layers, and how that is written and read.

use std::collections::HashSet;
use std::path::Path;

use hdf5_metno::types::VarLenUnicode;
use hdf5_metno::{File, Location};
use serde::{Deserialize, Serialize};

use super::FeatureFileError;
use super::checked_read::{column_length, open_dataset, read_number, read_text};
use super::schema::{CLASS_NAMES, FORMAT, FORMAT_VERSION, LAYERS, escape_layer_name};
use super::strings::{read_strings, to_hdf5};
use crate::feature_spec::{FeatureSpec, SpecDifference};
use crate::hdf5::{Attribute, Hdf5, Hdf5Dataset, Hdf5Error};
use crate::network::Pooling;

/// What a features file says about itself as a whole: where the features come from and how they were computed.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureFileHeader {
    /// Version of cnncodes that wrote the file.
    pub program_version: String,
    /// What the user named as the source of the images.
    pub source: String,
    /// The inference library and its version.
    pub runtime: String,
    /// What the network ran on, e.g. `cpu` or `cuda:0`.
    pub device: String,
    /// Names of the classes; a label is an index into them.
    pub class_names: Vec<String>,
    /// The stored layers, the primary one first; never empty. All are of one network, preprocessing and precision.
    pub layers: Vec<StoredLayer>,
}

/// One stored layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredLayer {
    /// What decides its values. The layer's name may hold `/`.
    pub spec: FeatureSpec,
    /// Shape of one image's features, e.g. `[512, 7, 7]` (channels, height, width) or `[4096]`.
    pub shape: Vec<usize>,
}

impl StoredLayer {
    /// Values in one row: the product of `shape`; `None` if that is not a possible size.
    pub fn width(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n))
    }
}
impl FeatureFileHeader {
    /// Whether this header can be stored; the reason if not.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.layers.is_empty() {
            return Err("no layer was named".to_owned());
        }
        let mut names = HashSet::new();
        for layer in &self.layers {
            let name = &layer.spec.layer;
            if name.is_empty() || name.contains('\0') {
                return Err(format!("{name:?} cannot be the name of a layer"));
            }
            if !names.insert(name) {
                return Err(format!("the layer {name:?} is named twice"));
            }
            if layer.shape.is_empty() || layer.width().is_none_or(|width| width == 0) {
                return Err(format!("the layer {name:?} has the impossible shape {:?}", layer.shape));
            }
            if let Some(SpecDifference { what, .. }) = self.spec().network_difference(&layer.spec) {
                return Err(format!("{what} of the layer {name:?} is not that of the first layer"));
            }
        }
        let mut classes = HashSet::new();
        if let Some(name) = self.class_names.iter().find(|name| !classes.insert(*name)) {
            return Err(format!("the class {name:?} is named twice"));
        }
        Ok(())
    }

    /// The spec of the primary layer; of all but the layer itself and its pooling it holds for every layer.
    ///
    /// # Panics
    /// The header has no layer.
    pub fn spec(&self) -> &FeatureSpec {
        &self.layers[0].spec
    }

    /// The first thing in which features under `other` would not be comparable with features under `self`.
    /// The program's version, the runtime and the device are provenance and may differ.
    pub(super) fn difference(&self, other: &FeatureFileHeader) -> Option<&'static str> {
        self.row_difference(other).or_else(|| (self.source != other.source).then_some("the source"))
    }

    /// As [`FeatureFileHeader::difference`], but for rows alone: what the user named as the source is no matter of theirs.
    pub(super) fn row_difference(&self, other: &FeatureFileHeader) -> Option<&'static str> {
        if let Some(SpecDifference { what, .. }) = self.spec().network_difference(other.spec()) {
            return Some(what);
        }
        let same = |(here, there): (&StoredLayer, &StoredLayer)| {
            here.spec.layer == there.spec.layer
                && here.shape == there.shape
                && here.spec.difference(&there.spec).is_none()
        };
        let same_layers =
            self.layers.len() == other.layers.len() && self.layers.iter().zip(&other.layers).all(same);
        [("the layers", same_layers), ("the class names", self.class_names == other.class_names)]
            .into_iter()
            .find_map(|(what, same)| (!same).then_some(what))
    }

    /// Writes the root attributes and the class names; the layers are written with their datasets.
    pub(super) fn write(&self, file: &File) -> hdf5_metno::Result<()> {
        write_text(file, "format", FORMAT)?;
        file.new_attr::<i64>().create("format_version")?.write_scalar(&FORMAT_VERSION)?;
        let spec = self.spec();
        let preprocess = serde_json::to_string(&spec.preprocess)
            .map_err(|error| hdf5_metno::Error::Internal(error.to_string()))?;
        for (name, text) in [
            ("program_version", self.program_version.as_str()),
            ("model_name", &spec.model_name),
            ("model_sha256", &spec.model_sha256),
            ("preprocess", &preprocess),
            ("source", &self.source),
            ("runtime", &self.runtime),
            ("device", &self.device),
            ("precision", &spec.precision.to_string()),
        ] {
            write_text(file, name, text)?;
        }
        let dataset = file
            .new_dataset_builder()
            .obj_track_times(false)
            .empty::<VarLenUnicode>()
            .shape(self.class_names.len())
            .create(CLASS_NAMES)?;
        let names: Vec<_> = self.class_names.iter().map(|name| hdf5_text(name)).collect::<Result<_, _>>()?;
        if names.is_empty() { Ok(()) } else { dataset.write(&names) }
    }
}

impl StoredLayer {
    /// Writes the attributes of the layer's dataset; `index` is its place in the header.
    pub(super) fn write(&self, dataset: &hdf5_metno::Dataset, index: usize) -> hdf5_metno::Result<()> {
        write_text(dataset, "name", &self.spec.layer)?;
        write_text(dataset, "tensor", &self.spec.tensor)?;
        write_text(dataset, "pooling", &self.spec.pooling.to_string())?;
        dataset.new_attr::<i64>().create("index")?.write_scalar(&(index as i64))?;
        let shape: Vec<i64> = self.shape.iter().map(|&n| n as i64).collect();
        dataset.new_attr_builder().with_data(&shape).create("shape")?;
        Ok(())
    }
}

/// The attributes of the file itself.
pub(super) fn read_attributes(file: &Hdf5, path: &Path) -> Result<Vec<Attribute>, FeatureFileError> {
    file.attributes().map_err(FeatureFileError::damaged(path, "its attributes"))
}

/// Checks that the file is one of ours and of a version that is known.
pub(super) fn check_format(attributes: &[Attribute], path: &Path) -> Result<(), FeatureFileError> {
    let format = read_text(attributes, "format", path);
    if !format.is_ok_and(|format| format == FORMAT) {
        return Err(FeatureFileError::NotFeatures { path: path.to_owned() });
    }
    match read_number::<i64>(attributes, "format_version", path)? {
        1..=FORMAT_VERSION => Ok(()),
        found if found > FORMAT_VERSION => {
            Err(FeatureFileError::NewerFormat { path: path.to_owned(), found, known: FORMAT_VERSION })
        }
        found => Err(FeatureFileError::bad_value(path, "the attribute format_version", found.to_string())),
    }
}

/// Reads the header of a file that [`check_format`] has passed, and the layers' datasets in its order.
pub(super) fn read_header(
    file: &Hdf5,
    attributes: &[Attribute],
    path: &Path,
) -> Result<(FeatureFileHeader, Vec<Hdf5Dataset>), FeatureFileError> {
    let text = |name: &str| read_text(attributes, name, path);
    let shared = FeatureSpec {
        model_name: text("model_name")?,
        model_sha256: text("model_sha256")?,
        layer: String::new(),
        tensor: String::new(),
        pooling: Pooling::None,
        preprocess: parse("the attribute preprocess", path, serde_json::from_str(&text("preprocess")?))?,
        precision: parse("the attribute precision", path, text("precision")?.parse())?,
    };
    let (layers, datasets) = read_layers(file, &shared, path)?;
    let header = FeatureFileHeader {
        program_version: text("program_version")?,
        source: text("source")?,
        runtime: text("runtime")?,
        device: text("device")?,
        class_names: read_class_names(file, path)?,
        layers,
    };
    Ok((header, datasets))
}

/// A typed value that was stored as text; a later version may know more of them.
fn parse<T, E: std::error::Error>(
    object: impl Into<String>,
    path: &Path,
    parsed: Result<T, E>,
) -> Result<T, FeatureFileError> {
    parsed.map_err(|error| FeatureFileError::bad_value(path, object, error.to_string()))
}

/// The layers' datasets of a file that is written to, which [`read_header`] has passed, in the header's order.
pub(super) fn layer_datasets(file: &File) -> hdf5_metno::Result<Vec<hdf5_metno::Dataset>> {
    let mut found = file
        .group(LAYERS)?
        .datasets()?
        .into_iter()
        .map(|dataset| Ok((dataset.attr("index")?.read_scalar::<i64>()?, dataset)))
        .collect::<hdf5_metno::Result<Vec<_>>>()?;
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, dataset)| dataset).collect())
}

fn read_class_names(file: &Hdf5, path: &Path) -> Result<Vec<String>, FeatureFileError> {
    let dataset = open_dataset(file, CLASS_NAMES, path)?;
    column_length(&dataset, CLASS_NAMES, path)?;
    let names = read_strings(&dataset, path, CLASS_NAMES)?;
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(FeatureFileError::DuplicateClass { path: path.to_owned(), name: name.clone() }),
        None => Ok(names),
    }
}

/// Reads the layers, all made as `shared` says, and their datasets.
fn read_layers(
    file: &Hdf5,
    shared: &FeatureSpec,
    path: &Path,
) -> Result<(Vec<StoredLayer>, Vec<Hdf5Dataset>), FeatureFileError> {
    let links = match file.members(LAYERS) {
        Ok(links) => links,
        Err(Hdf5Error::Missing) => return Err(FeatureFileError::missing(path, "the group /layers")),
        Err(error) => return Err(FeatureFileError::damaged(path, "the group /layers")(error)),
    };
    let mut found = Vec::with_capacity(links.len());
    for link in links {
        let object = format!("{LAYERS}/{link}");
        let dataset = open_dataset(file, &object, path)?;
        let layer = read_layer(&dataset, shared, &object, path)?;
        let name = &layer.spec.layer;
        if escape_layer_name(name) != link {
            let why = format!("its attribute name is {name:?}");
            return Err(FeatureFileError::bad_value(path, object, why));
        }
        found.push((read_number::<i64>(dataset.attributes(), "index", path)?, layer, dataset));
    }
    found.sort_by_key(|(index, ..)| *index);
    if found.is_empty() {
        return Err(FeatureFileError::missing(path, "a layer in /layers"));
    }
    if !(0..).zip(&found).all(|(expected, (index, ..))| expected == *index) {
        return Err(FeatureFileError::missing(path, "one of its layers (their attributes index have a gap)"));
    }
    Ok(found.into_iter().map(|(_, layer, dataset)| (layer, dataset)).unzip())
}

fn read_layer(
    dataset: &Hdf5Dataset,
    shared: &FeatureSpec,
    object: &str,
    path: &Path,
) -> Result<StoredLayer, FeatureFileError> {
    let &[_, found] = dataset.shape() else {
        return Err(FeatureFileError::wrong_type(path, object, "a two-dimensional dataset of float32"));
    };
    if !dataset.kind().is::<f32>() {
        return Err(FeatureFileError::wrong_type(path, object, "a two-dimensional dataset of float32"));
    }
    let attributes = dataset.attributes();
    let attribute = format!("the attribute shape of {object}");
    let shape = attributes.iter().find(|attribute| attribute.name() == "shape");
    let shape = shape.ok_or_else(|| FeatureFileError::missing(path, attribute.as_str()))?;
    if !shape.kind().is::<i64>() || shape.shape().len() != 1 {
        return Err(FeatureFileError::wrong_type(path, attribute, "a list of int64"));
    }
    let shape = shape.numbers::<i64>().map_err(FeatureFileError::damaged(path, attribute.as_str()))?;
    let shape: Option<Vec<usize>> = shape.iter().map(|&n| usize::try_from(n).ok()).collect();
    let pooling = read_text(attributes, "pooling", path)?;
    let layer = StoredLayer {
        spec: FeatureSpec {
            layer: read_text(attributes, "name", path)?,
            tensor: read_text(attributes, "tensor", path)?,
            pooling: parse(format!("the attribute pooling of {object}"), path, pooling.parse())?,
            ..shared.clone()
        },
        shape: shape.ok_or_else(|| FeatureFileError::bad_value(path, attribute, "a negative size"))?,
    };
    let expected = layer.width().unwrap_or(0) as u64;
    if found != expected || found == 0 {
        let (path, object) = (path.to_owned(), object.to_owned());
        return Err(FeatureFileError::WrongLength { path, object, unit: "values a row", found, expected });
    }
    Ok(layer)
}
pub(super) fn write_text(at: &Location, name: &str, text: &str) -> hdf5_metno::Result<()> {
    at.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&hdf5_text(text)?)
}

fn hdf5_text(text: &str) -> hdf5_metno::Result<VarLenUnicode> {
    to_hdf5(text).ok_or_else(|| format!("the text {text:?} holds a NUL").into())
}
