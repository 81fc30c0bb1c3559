//! What commands that apply a head share: finding the head, and opening its network as the arguments say.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::compute_args::{ComputeArgs, warn_of_fallback};
use super::find_unique::{FileKind, find_unique};
use super::show;
use crate::classifier::HeadNetwork;
use crate::extract::{Extractor, ExtractorSettings};
use crate::feature_spec::FeatureSpec;
use crate::head::Head;
use crate::network::{ModelsFolder, SessionSettings};

/// The head that was named, be it a head file or an exported classifier, and where its network is.
pub fn open_head_with_network(
    named: Option<&Path>,
    models: &ModelsFolder,
) -> anyhow::Result<(Head, PathBuf, HeadNetwork)> {
    let path = head_path(named, models)?;
    let (head, network) = HeadNetwork::of_file(&path, models)?;
    Ok((head, path, network))
}

/// The head that was named, or the only one in the models folder.
pub fn open_head(named: Option<&Path>, models: &ModelsFolder) -> anyhow::Result<(Head, PathBuf)> {
    let path = head_path(named, models)?;
    Ok((Head::load(&path)?, path))
}

fn head_path(named: Option<&Path>, models: &ModelsFolder) -> anyhow::Result<PathBuf> {
    if let Some(head) = named {
        return Ok(head.to_owned());
    }
    let kind = FileKind {
        what: "head",
        suffix: ".head.h5",
        remedy: "run `cnncodes fit-head --svm` or `cnncodes fit-head --logistic` first",
        how: " with --head FILE",
    };
    Ok(find_unique(&models.path, &kind)?)
}

/// The head at `path`, or the features file, for messages.
pub fn head_at(path: &Path) -> String {
    format!("the head {}", path.display())
}

/// Opens `network`, which makes features of `spec`, for so many images. `holder` has the spec: a head or a features file.
pub fn open_extractor(
    spec: &FeatureSpec,
    holder: &str,
    network: HeadNetwork,
    compute: &ComputeArgs,
    max_pixels: u64,
    images: usize,
) -> anyhow::Result<Extractor> {
    let session = session_settings(spec, holder, compute);
    let session = SessionSettings { device: session.device.for_images(images), ..session };
    let (graph, layer) = network.open(spec).with_context(|| holder.to_owned())?;
    let settings = ExtractorSettings { session, max_pixels, ..ExtractorSettings::default() };
    let extractor =
        Extractor::of_network(spec.clone(), graph, layer, settings).with_context(|| holder.to_owned())?;
    warn_of_fallback(extractor.backbone());
    Ok(extractor)
}

/// What a session is to be opened with for more features of `spec`. The user is warned of another precision.
pub fn session_settings(spec: &FeatureSpec, holder: &str, compute: &ComputeArgs) -> SessionSettings {
    let settings = compute.settings_in(spec.precision);
    if settings.precision != spec.precision {
        show::warning(&format!(
            "{holder} was made with features in {}, and these are computed in {}",
            spec.precision, settings.precision
        ));
    }
    settings
}
