//! Giving a network its manifest: what `models add` and `models pull` have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::backbone::manifest::{FORMAT, InputManifest, check_input, layout_name};
use crate::backbone::{Catalogue, Graph, Manifest, Model, ModelsFolder};
use crate::images::{Preprocess, PreprocessOverrides, Preset};

/// What people say about a network.
pub struct Particulars {
    pub name: String,
    pub preprocess: Preprocess,
    pub layer: Option<String>,
    pub note: Option<String>,
    pub aliases: BTreeMap<String, String>,
}

/// Where the manifest of `name` is to be, in a folder that exists then; refuses names that are taken or cannot be
/// used.
pub fn manifest_path(models: &ModelsFolder, name: &str, replace: bool) -> anyhow::Result<PathBuf> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
        bail!("{name:?} cannot be a model's name; choose one without slashes with --name");
    }
    std::fs::create_dir_all(&models.path)
        .with_context(|| format!("cannot make the models folder {}", models.path.display()))?;
    let path = models.path.join(format!("{name}.toml"));
    if path.exists() && !replace {
        bail!("{} is there already; give --force to replace it, or another --name", path.display());
    }
    Ok(path)
}

/// The preset with the user's changes, at the graph's own size where it has one.
pub fn recipe(preset: Preset, changes: PreprocessOverrides, graph: &Graph) -> anyhow::Result<Preprocess> {
    let Some(recipe) = Preprocess::preset(preset) else {
        bail!("the preset {preset} has no recipe of its own");
    };
    let input = graph.input();
    let own_size = match (input.width, input.height) {
        (Some(width), Some(height)) => Some((u32::try_from(width)?, u32::try_from(height)?)),
        _ => None,
    };
    let size = changes.size.or(own_size).filter(|&size| size != recipe.size());
    Ok(recipe.with(&PreprocessOverrides { size, ..changes })?)
}

/// The model of a network that will be at `file`, as manifests name it; makes sure that the two agree.
pub fn model(
    graph: &Graph,
    file: PathBuf,
    manifest_path: PathBuf,
    said: Particulars,
) -> anyhow::Result<Model> {
    let catalogue = Catalogue::of(graph, &Default::default());
    for layer in said.layer.iter().chain(said.aliases.values()) {
        catalogue.find(&said.name, layer)?;
    }
    let model = Model {
        name: said.name,
        manifest: Manifest {
            format: FORMAT,
            file,
            sha256: graph.sha256().to_owned(),
            architecture: catalogue.architecture.clone(),
            layer: said.layer,
            note: said.note,
            input: InputManifest { name: graph.input().name.clone(), layout: graph.input().layout },
            preprocess: said.preprocess,
            aliases: said.aliases,
        },
        manifest_path,
    };
    check_input(&model.manifest, graph, &model.manifest_path)?;
    Ok(model)
}

/// Writes the manifest and says so.
pub fn write(model: &Model) -> anyhow::Result<()> {
    model.write()?;
    println!(
        "{}: {}, input {}, {}",
        model.manifest_path.display(),
        model.manifest.architecture.as_deref().unwrap_or("unknown architecture"),
        layout_name(model.manifest.input.layout),
        model.manifest.preprocess.describe()
    );
    Ok(())
}
