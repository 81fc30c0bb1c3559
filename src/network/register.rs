//! Registering a network: giving it the manifest with which every command finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::manifest::{FORMAT, InputManifest, check_input};
use super::{Catalogue, Graph, Manifest, Model, ModelError, ModelsFolder};
use crate::images::{Preprocess, PreprocessOverrides, Preset};

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
    let input = graph.input();
    let own_size = input
        .width
        .zip(input.height)
        .and_then(|(width, height)| Some((u32::try_from(width).ok()?, u32::try_from(height).ok()?)));
    let size = changes.size.or(own_size).filter(|&size| size != recipe.size());
    Ok(recipe.with(&PreprocessOverrides { size, ..changes })?)
}
