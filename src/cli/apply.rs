//! What commands that apply a head share: finding the head, and opening its network as the arguments say.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::compute_args::{ComputeArgs, warn_of_fallback};
use super::find_unique::{FileKind, find_unique};
use super::show;
use crate::export::SealedClassifier;
use crate::extract::{Extractor, ExtractorSettings};
use crate::feature_spec::FeatureSpec;
use crate::head::Head;
use crate::network::{Graph, Layer, ModelsFolder, SessionSettings};

/// Where the network of a head is.
pub enum HeadNetwork<'a> {
    /// In the models folder.
    Models(&'a ModelsFolder),
    /// In the head's own file, which `cnncodes export` made.
    Sealed(Box<(Graph, Layer)>),
}

impl HeadNetwork<'_> {
    /// The network of `spec`, which `holder` has, and its layer.
    pub fn open(self, spec: &FeatureSpec, holder: &str) -> anyhow::Result<(Graph, Layer)> {
        match self {
            Self::Models(models) => spec.network(models).with_context(|| holder.to_owned()),
            Self::Sealed(network) => Ok(*network),
        }
    }
}

/// The head that was named, be it a head file or an exported classifier, and where its network is.
pub fn open_head_with_network<'a>(
    named: Option<&Path>,
    models: &'a ModelsFolder,
) -> anyhow::Result<(Head, PathBuf, HeadNetwork<'a>)> {
    if let Some(path) = named.filter(|path| path.extension() == Some(OsStr::new("onnx"))) {
        let sealed = SealedClassifier::open(path)?;
        let network = HeadNetwork::Sealed(Box::new(sealed.network()?));
        return Ok((sealed.head, path.to_owned(), network));
    }
    let (head, path) = open_head(named, models)?;
    Ok((head, path, HeadNetwork::Models(models)))
}

/// The head that was named, or the only one in the models folder.
pub fn open_head(named: Option<&Path>, models: &ModelsFolder) -> anyhow::Result<(Head, PathBuf)> {
    let path = match named {
        Some(head) => head.to_owned(),
        None => find_unique(
            &models.path,
            &FileKind {
                what: "head",
                suffix: ".head.h5",
                remedy: "run `cnncodes fit-head --svm` or `cnncodes fit-head --logistic` first",
                how: " with --head FILE",
            },
        )?,
    };
    Ok((Head::load(&path)?, path))
}

/// The head at `path`, or the features file, for messages.
pub fn head_at(path: &Path) -> String {
    format!("the head {}", path.display())
}

/// Opens `network`, which makes features of `spec`, for so many images. `holder` has the spec: a head or a features file.
pub fn open_extractor(
    spec: &FeatureSpec,
    holder: &str,
    network: HeadNetwork<'_>,
    compute: &ComputeArgs,
    max_pixels: u64,
    images: usize,
) -> anyhow::Result<Extractor> {
    let session = session_settings(spec, holder, compute);
    let session = SessionSettings { device: session.device.for_images(images), ..session };
    let (graph, layer) = network.open(spec, holder)?;
    let settings = ExtractorSettings { session, max_pixels };
    let extractor =
        Extractor::of_network(spec.clone(), &graph, layer, &settings).with_context(|| holder.to_owned())?;
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
