//! Model manifests: `models/NAME.toml` says which file holds a network, what its hash is and how it wants its input.
//!
//! Preprocessing is part of the model, recorded and never guessed from a file's name. A manifest may lie beside its
//! network or refer to one elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::graph::{Graph, GraphError};
use super::inference::is_float;
use super::layers::NoSuchLayer;
use crate::files::write_atomically;
use crate::images::ChannelOrder;
use crate::images::preprocess_config::PreprocessConfigError;
use crate::images::{Preprocess, PreprocessError, Preset, TensorLayout};
use crate::messages::Cause;

/// Version of the manifest format that this program writes.
pub const FORMAT: u32 = 1;

/// Why a model could not be found or used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum ModelError {
    #[error("cannot read the models folder {}; make it, and add a network with `cnncodes models add FILE --preprocess PRESET`", path.display())]
    ReadFolder { path: PathBuf, source: std::io::Error },
    #[error("there is no model in {}; add one with `cnncodes models add FILE --preprocess torchvision|keras-caffe|tf`, or download one with `cnncodes models pull`", path.display())]
    NoModels { path: PathBuf },
    #[error(
        "there is no model in {}, only networks without a manifest ({}); add them with `cnncodes models add {} --preprocess torchvision|keras-caffe|tf`",
        path.display(), files.join(", "), path.join(&files[0]).display()
    )]
    NoManifests { path: PathBuf, files: Vec<String> },
    #[error("{} holds several models ({}); say which with --model NAME", path.display(), names.join(", "))]
    SeveralModels { path: PathBuf, names: Vec<String> },
    #[error("there is no model {name:?} in {}{}", path.display(), known(names))]
    NoSuchModel { path: PathBuf, name: String, names: Vec<String> },
    #[error("cannot read the manifest {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write the manifest {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the manifest {} is not valid; correct it, or write it again with `cnncodes models add`", path.display())]
    Parse { path: PathBuf, source: Cause },
    #[error("the manifest {} is of format {found}, this program knows format {FORMAT}; a newer cnncodes wrote it", path.display())]
    Format { path: PathBuf, found: u32 },
    #[error("the manifest {}: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
    #[error("{name:?} cannot be a model's name; choose one without slashes with --name")]
    Name { name: String },
    #[error("{} is there already; give --force to replace it, or another --name", path.display())]
    Taken { path: PathBuf },
    #[error("cannot make the models folder {}", path.display())]
    MakeFolder { path: PathBuf, source: std::io::Error },
    #[error("cannot read the folder {}", path.display())]
    ReadNetworkFolder { path: PathBuf, source: std::io::Error },
    #[error("{} holds no ONNX file, and neither does its folder onnx; name the network's file", path.display())]
    NoNetwork { path: PathBuf },
    #[error("{} holds several networks ({}); name the file of one of them", path.display(), names_of(files))]
    SeveralNetworks { path: PathBuf, files: Vec<PathBuf> },
    #[error(
        "{} says that the network wants {wanted}, but the graph itself computes {done}; say with --divisor, --mean and \
         --std what is to be done before it (--divisor 1 --mean 0,0,0 --std 1,1,1 leaves everything to the graph)",
        config.display()
    )]
    NormalisedInside { config: PathBuf, wanted: String, done: String },
    #[error(transparent)]
    Config(#[from] PreprocessConfigError),
    #[error(
        "no file beside {} says how the network wants its images (preprocessor_config.json or config.json); name the \
         preprocessing that it was trained with: torchvision, keras-caffe or tf",
        path.display()
    )]
    NoPreprocessing { path: PathBuf },
    #[error("the preset {preset} has no preprocessing of its own")]
    NoRecipe { preset: Preset },
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    #[error(transparent)]
    Layer(#[from] NoSuchLayer),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(
        "{} is not the network that {} describes: its SHA-256 is {found}, the manifest says {expected}; put the right file there, or write the manifest again with `cnncodes models add --force`",
        file.display(), manifest.display()
    )]
    Hash { manifest: PathBuf, file: PathBuf, expected: String, found: String },
}

fn names_of(files: &[PathBuf]) -> String {
    let names = files.iter().filter_map(|file| file.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ")
}

fn known(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; it holds {}", names.join(", ")) }
}

/// What `models/NAME.toml` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The ONNX file, relative to the manifest's folder or absolute.
    pub file: PathBuf,
    /// SHA-256 of the graph's file followed by its files of external weights.
    pub sha256: String,
    /// The architecture as recognised, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The layer to take when none is named; `penultimate` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Where the network comes from and what its licence is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The image input.
    pub input: InputManifest,
    /// From pixels to the input tensor.
    pub preprocess: Preprocess,
    /// The user's own names for layers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
}

/// The `[input]` table of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputManifest {
    /// Name of the graph's input.
    pub name: String,
    /// Where it has its channels.
    pub layout: TensorLayout,
}

/// A model: its name, its manifest, and where its network lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The manifest's file name without `.toml`.
    pub name: String,
    /// What the manifest says.
    pub manifest: Manifest,
    /// Where the manifest lies.
    pub manifest_path: PathBuf,
}

impl Model {
    /// Reads `models/NAME.toml`.
    ///
    /// # Errors
    /// The manifest cannot be read, is not valid TOML, has unknown or missing keys, or is of a newer format.
    pub fn read(manifest_path: &Path) -> Result<Model, ModelError> {
        let path = || manifest_path.to_path_buf();
        let text = std::fs::read_to_string(manifest_path)
            .map_err(|source| ModelError::Read { path: path(), source })?;
        if let Ok(FormatProbe { format }) = toml::from_str::<FormatProbe>(&text)
            && format > FORMAT
        {
            return Err(ModelError::Format { path: path(), found: format });
        }
        let manifest: Manifest = toml::from_str(&text)
            .map_err(|source| ModelError::Parse { path: path(), source: source.into() })?;
        let name = manifest_path
            .file_stem()
            .and_then(OsStr::to_str)
            .ok_or_else(|| ModelError::Invalid {
                path: path(),
                reason: "its file name is not UTF-8; rename it".to_owned(),
            })?
            .to_owned();
        Ok(Model { name, manifest, manifest_path: path() })
    }

    /// Where the ONNX file lies.
    pub fn network_path(&self) -> PathBuf {
        let folder = self.manifest_path.parent().unwrap_or(Path::new("."));
        folder.join(&self.manifest.file)
    }

    /// Opens the network and makes sure that it is the one that the manifest describes.
    ///
    /// # Errors
    /// The file is missing or no ONNX graph, its hash differs, or its input contradicts the manifest.
    pub fn open(&self) -> Result<Graph, ModelError> {
        let graph = Graph::open_as(&self.network_path(), Some(self.manifest.input.layout))?;
        if !graph.sha256().eq_ignore_ascii_case(&self.manifest.sha256) {
            return Err(ModelError::Hash {
                manifest: self.manifest_path.clone(),
                file: self.network_path(),
                expected: self.manifest.sha256.clone(),
                found: graph.sha256().to_owned(),
            });
        }
        check_input(&self.manifest, &graph, &self.manifest_path)?;
        Ok(graph.with_alpha(self.manifest.preprocess.opaque_alpha()))
    }

    /// Writes the manifest, complete or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> Result<(), ModelError> {
        let text = toml::to_string(&self.manifest).map_err(|error| ModelError::Invalid {
            path: self.manifest_path.clone(),
            reason: error.to_string(),
        })?;
        write_atomically(&self.manifest_path, text.as_bytes())
            .map_err(|source| ModelError::Write { path: self.manifest_path.clone(), source })
    }
}

/// The one key that every format of the manifest has.
#[derive(Deserialize)]
struct FormatProbe {
    format: u32,
}

/// Refuses a manifest whose input is not the graph's.
///
/// # Errors
/// The name, the layout or a fixed height or width differs.
pub fn check_input(manifest: &Manifest, graph: &Graph, path: &Path) -> Result<(), ModelError> {
    let input = graph.input();
    let invalid = |reason: String| Err(ModelError::Invalid { path: path.to_path_buf(), reason });
    if manifest.input.name != input.name || manifest.input.layout != input.layout {
        return invalid(format!(
            "it says that the input is {:?} ({}), the graph says {:?} ({})",
            manifest.input.name,
            layout_name(manifest.input.layout),
            input.name,
            layout_name(input.layout)
        ));
    }
    if !is_float(input.element) && !manifest.preprocess.keeps_levels() {
        return invalid(format!(
            "the graph takes whole numbers ({}), and its preprocessing makes others of the pixels; leave them at 0 to 255 \
             with --divisor 1 --mean 0,0,0 --std 1,1,1",
            input.element.as_str_name()
        ));
    }
    if input.channels == 1 && manifest.preprocess.channel_order() != ChannelOrder::Grey {
        return invalid(
            "the graph reads one channel, and its preprocessing makes colours; set --channel-order grey"
                .to_owned(),
        );
    }
    let (width, height) = manifest.preprocess.size();
    for (what, made, wanted) in [("height", height, input.height), ("width", width, input.width)] {
        if wanted.is_some_and(|wanted| wanted != made as usize) {
            return invalid(format!(
                "its preprocessing makes images of {what} {made}, the graph wants {}; set it with --size",
                wanted.unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// The layout's name as manifests and people have it.
pub fn layout_name(layout: TensorLayout) -> &'static str {
    match layout {
        TensorLayout::Nchw => "N x 3 x H x W",
        TensorLayout::Nhwc => "N x H x W x 3",
    }
}

/// The folder of models.
#[derive(Debug, Clone)]
pub struct ModelsFolder {
    /// Where the folder lies.
    pub path: PathBuf,
}

impl ModelsFolder {
    /// Every manifest of the folder, by name; each read or the reason why not, which names the file.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn manifests(&self) -> Result<Vec<Result<Model, ModelError>>, ModelError> {
        Ok(self.files("toml")?.iter().map(|path| Model::read(path)).collect())
    }

    /// ONNX files of the folder that no manifest refers to.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn without_manifest(&self) -> Result<Vec<PathBuf>, ModelError> {
        let used: Vec<PathBuf> = self
            .manifests()?
            .into_iter()
            .filter_map(|model| model.ok()?.network_path().canonicalize().ok())
            .collect();
        let mut files = self.files("onnx")?;
        files.retain(|file| file.canonicalize().is_ok_and(|file| !used.contains(&file)));
        Ok(files)
    }

    /// The model `name`, or the only one when no name is given.
    ///
    /// # Errors
    /// There is no such model, none at all, or several to choose from; the message lists them.
    pub fn find(&self, name: Option<&str>) -> Result<Model, ModelError> {
        let manifests = self.files("toml")?;
        let names: Vec<String> =
            manifests.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        let path = self.path.clone();
        match name {
            Some(name) => match names.iter().position(|known| known == name) {
                Some(index) => Model::read(&manifests[index]),
                None => Err(ModelError::NoSuchModel { path, name: name.to_owned(), names }),
            },
            None => match &manifests[..] {
                [only] => Model::read(only),
                [] => {
                    let files: Vec<String> = self
                        .files("onnx")?
                        .iter()
                        .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
                        .collect();
                    if files.is_empty() {
                        Err(ModelError::NoModels { path })
                    } else {
                        Err(ModelError::NoManifests { path, files })
                    }
                }
                _ => Err(ModelError::SeveralModels { path, names }),
            },
        }
    }

    /// The files of the folder with this extension, sorted.
    fn files(&self, extension: &str) -> Result<Vec<PathBuf>, ModelError> {
        let error = |source| ModelError::ReadFolder { path: self.path.clone(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !hidden && path.extension() == Some(OsStr::new(extension)) && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}
