//! Registering a network: giving it the manifest with which every command finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::manifest::{FORMAT, InputManifest, check_input};
use super::network_folder::network_at;
use super::{Catalogue, Graph, InputNormalisation, Manifest, Model, ModelError, ModelsFolder};
use crate::images::preprocess_config::{self, PreprocessConfig};
use crate::images::{ChannelOrder, Preprocess, PreprocessOverrides, Preset};

/// What a graph does not say about itself.
#[derive(Debug, Clone)]
pub struct ModelMetadata {
    /// Name of the manifest.
    pub name: String,
    /// From pixels to the input tensor.
    pub preprocess: Preprocess,
    /// The layer to take when none is named.
    pub layer: Option<String>,
    /// Where the network comes from, for people.
    pub note: Option<String>,
    /// The user's own names for layers.
    pub aliases: BTreeMap<String, String>,
}

impl ModelMetadata {
    /// A name and a preprocessing, and nothing else.
    pub fn new(name: impl Into<String>, preprocess: Preprocess) -> Self {
        Self { name: name.into(), preprocess, layer: None, note: None, aliases: BTreeMap::new() }
    }
}

impl ModelsFolder {
    /// Registers the network in `file`, which stays where it is. A manifest of that name is replaced.
    ///
    /// # Errors
    /// The file is no network that can be used, the metadata contradict it, or the manifest cannot be written.
    pub fn register(&self, file: &Path, metadata: ModelMetadata) -> Result<Model, ModelError> {
        let manifest_path = self.manifest_path(&metadata.name, true)?;
        let absolute = std::path::absolute(file)
            .map_err(|source| ModelError::Read { path: file.to_path_buf(), source })?;
        let model = Model::describe(&Graph::open(file)?, absolute, manifest_path, metadata)?;
        model.write()?;
        Ok(model)
    }

    /// Where the manifest of `name` is to be. The folder exists then.
    ///
    /// # Errors
    /// The name cannot be used, is taken and not to be replaced, or the folder cannot be made.
    pub fn manifest_path(&self, name: &str, replace: bool) -> Result<PathBuf, ModelError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
            return Err(ModelError::Name { name: name.to_owned() });
        }
        std::fs::create_dir_all(&self.path)
            .map_err(|source| ModelError::MakeFolder { path: self.path.clone(), source })?;
        let path = self.path.join(format!("{name}.toml"));
        if path.exists() && !replace {
            return Err(ModelError::Taken { path });
        }
        Ok(path)
    }
}

impl Model {
    /// The network in `file`, an ONNX file or a folder that holds one, without a manifest. Its preprocessing is `preset`, or else
    /// what the files beside it say, with `changes`.
    ///
    /// # Errors
    /// The file is no network that can be used, nothing says its preprocessing, or the changes contradict it.
    pub fn of_file(
        file: &Path,
        preset: Option<Preset>,
        changes: &PreprocessOverrides,
    ) -> Result<Model, ModelError> {
        let file = network_at(file)?;
        let graph = Graph::open(&file)?;
        let preprocess = match preset {
            Some(preset) => preprocessing_of(preset, changes.clone(), &graph)?,
            None => match preprocessing_beside(changes, &graph)? {
                Some(configured) => configured.preprocess,
                None => return Err(ModelError::NoPreprocessing { path: file }),
            },
        };
        let absolute =
            std::path::absolute(&file).map_err(|source| ModelError::Read { path: file.clone(), source })?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let manifest_path = absolute.with_extension("toml");
        Model::describe(&graph, absolute, manifest_path, ModelMetadata::new(name, preprocess))
    }

    /// The model of `graph`, which will be at `file`, as manifests name it. Writes nothing.
    ///
    /// # Errors
    /// The graph lacks a layer that `metadata` name, or wants another input than their preprocessing makes.
    pub fn describe(
        graph: &Graph,
        file: PathBuf,
        manifest_path: PathBuf,
        metadata: ModelMetadata,
    ) -> Result<Model, ModelError> {
        let catalogue = Catalogue::of(graph, &BTreeMap::new());
        for layer in metadata.layer.iter().chain(metadata.aliases.values()) {
            catalogue.find(&metadata.name, layer)?;
        }
        let model = Model {
            name: metadata.name,
            manifest: Manifest {
                format: FORMAT,
                file,
                sha256: graph.sha256().to_owned(),
                architecture: catalogue.architecture.clone(),
                layer: metadata.layer,
                note: metadata.note,
                input: InputManifest { name: graph.input().name.clone(), layout: graph.input().layout },
                preprocess: metadata.preprocess,
                aliases: metadata.aliases,
            },
            manifest_path,
        };
        check_input(&model.manifest, graph, &model.manifest_path)?;
        Ok(model)
    }
}

/// The preset with the user's changes, at the graph's own size where it has one.
///
/// # Errors
/// The preset says nothing by itself, or the changes contradict each other.
pub fn preprocessing_of(
    preset: Preset,
    changes: PreprocessOverrides,
    graph: &Graph,
) -> Result<Preprocess, ModelError> {
    let recipe = Preprocess::preset(preset).ok_or(ModelError::NoRecipe { preset })?;
    let size = changes.size.or(graph.input_size()).filter(|&size| size != recipe.size());
    let grey = (graph.input().channels == 1).then_some(ChannelOrder::Grey);
    let channel_order = changes.channel_order.or(grey);
    Ok(recipe.with(&PreprocessOverrides { size, channel_order, ..changes })?)
}

impl Graph {
    /// Width and height of its images that the graph fixes, if it fixes both.
    pub fn input_size(&self) -> Option<(u32, u32)> {
        let input = self.input();
        Some((u32::try_from(input.width?).ok()?, u32::try_from(input.height?).ok()?))
    }
}

/// A recipe that was written down beside a network, as this network wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfiguredPreprocessing {
    /// What the file says.
    pub config: PreprocessConfig,
    /// The same with the user's changes, and without what the graph does itself.
    pub preprocess: Preprocess,
    /// What the graph does itself, if anything.
    pub inside: Option<InputNormalisation>,
}

/// The preprocessing that the files beside the graph describe, with the user's changes; `None` where there is no such
/// file.
///
/// # Errors
/// A file is not understood, the changes contradict it, or the graph normalises its input in another way than the file says.
pub fn preprocessing_beside(
    changes: &PreprocessOverrides,
    graph: &Graph,
) -> Result<Option<ConfiguredPreprocessing>, ModelError> {
    let Some(config) = preprocess_config::find(graph.path())? else { return Ok(None) };
    let inside = graph.input_normalisation();
    let said = changes.divisor.is_some() || changes.mean.is_some() || changes.std.is_some();
    let mut preprocess = config.preprocess.clone();
    if let Some(inside) = inside.filter(|_| !said) {
        let rest = without(&preprocess, &inside).ok_or_else(|| ModelError::NormalisedInside {
            config: config.path.clone(),
            wanted: preprocess.describe(),
            done: inside.describe(),
        })?;
        preprocess = preprocess.with(&rest)?;
    }
    Ok(Some(ConfiguredPreprocessing { preprocess: preprocess.with(changes)?, config, inside }))
}

/// The part of a recipe's normalisation that is left if the graph does `inside`; `None` if the two are not the same
/// normalisation.
fn without(recipe: &Preprocess, inside: &InputNormalisation) -> Option<PreprocessOverrides> {
    let wanted = recipe.scale_and_offset();
    // Compares the results for the levels 0 and 255, within a hundredth of their distance.
    let is_same = |unit: f64| {
        (0..3).all(|channel| {
            let (scale, offset) = wanted[channel];
            let found = (inside.scale[channel] / unit, inside.offset[channel]);
            let close = |a: f64, b: f64| (a - b).abs() <= 0.01 * (255.0 * scale).abs();
            close(offset, found.1) && close(255.0 * scale + offset, 255.0 * found.0 + found.1)
        })
    };
    let divisor = [1.0, 255.0].into_iter().find(|&unit| is_same(unit))?;
    let (mean, std) = (Some([0.0; 3]), Some([1.0; 3]));
    Some(PreprocessOverrides { divisor: Some(divisor), mean, std, ..PreprocessOverrides::default() })
}

/// A warning if `preprocess` normalises and the graph does so itself.
pub fn normalised_twice(preprocess: &Preprocess, graph: &Graph) -> Option<String> {
    let inside = graph.input_normalisation()?;
    let unit = if inside.wants_levels() { 1.0 } else { 255.0 };
    let is_left_to_the_graph = preprocess
        .scale_and_offset()
        .iter()
        .all(|&(scale, offset)| (scale * unit - 1.0).abs() < 0.01 && offset == 0.0);
    (!is_left_to_the_graph).then(|| {
        format!(
            "the graph itself computes {}, so this preprocessing would normalise twice; add --divisor {unit} \
             --mean 0,0,0 --std 1,1,1 to leave it to the graph",
            inside.describe()
        )
    })
}
