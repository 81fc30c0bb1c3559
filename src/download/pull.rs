//! From a hub of models to the models folder: a network is downloaded with what describes it, checked, and registered.
//!
//! Files gather in a folder of their own beside the models, which takes its place by a rename when all of it is here and the
//! network was found usable. So a partial download is never a model, and the same command resumes after an interruption.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::zoo_pull::published_names;
use super::{
    Download, FetchError, Hub, HubError, HubFile, HubReference, HubRepository, RetryPolicy, download,
};
use crate::images::{PreprocessOverrides, Preset};
use crate::network::register::{ConfiguredPreprocessing, preprocessing_beside, preprocessing_of};
use crate::network::{Graph, Model, ModelError, ModelMetadata, ModelsFolder};

/// Why a network is not in the models folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum PullError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "{network:?} is not among the published networks ({}); give its address with --url, or \
         hf:OWNER/REPOSITORY for one of Hugging Face's hub",
        published_names()
    )]
    NotPublished { network: String },
    #[error(
        "the preprocessing that {network:?} was trained with is not known; give it with --preprocess \
         torchvision|keras-caffe|tf"
    )]
    UnknownPreprocessing { network: String },
    #[error("the file from {url} is not usable and was removed")]
    NotUsable { url: String, source: ModelError },
    #[error("{} exists already; give --force to replace it, or another --name", path.display())]
    Exists { path: PathBuf },
    #[error(
        "{reference} does not say how images become its input: no preprocessor_config.json of transformers and no \
         config.json of timm describes it; name the preprocessing with --preprocess (what was downloaded is kept)"
    )]
    NoPreprocessing { reference: String },
    #[error(
        "{reference} cannot be used as a network; name another of its ONNX files, as in {reference}:FILE"
    )]
    Unusable { reference: String, source: ModelError },
    #[error("cannot write {}; check the space and the rights there", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// What to pull, and what it becomes.
#[derive(Debug, Clone)]
pub struct HubPull<'a> {
    /// The network.
    pub reference: &'a HubReference,
    /// Name of the model here; the repository's if none is given.
    pub name: Option<&'a str>,
    /// The preprocessing, where not what the repository's files say.
    pub preprocess: Option<Preset>,
    /// Replace a model of the same name.
    pub replace: bool,
}

/// What a pull tells while it goes on.
#[derive(Debug)]
pub enum PullEvent<'a> {
    /// The hub was asked, and these files will be there.
    Found(&'a HubRepository, &'a [&'a HubFile]),
    /// So many bytes of a file are here, of so many where that is known.
    Progress(&'a HubFile, u64, Option<u64>),
    /// The preprocessing was found in a file.
    Preprocessing(&'a ConfiguredPreprocessing),
}

impl HubPull<'_> {
    /// Downloads the network with its weights and the descriptions of its preprocessing into `models/NAME/`, and registers it.
    /// The manifest notes the repository, the commit and the licence.
    ///
    /// # Errors
    /// The hub does not have it or does not let the token in, a download fails, the file is no network that can be used, or
    /// nothing says how images become its input. What was downloaded stays for the next attempt.
    pub fn run(
        &self,
        hub: &Hub,
        models: &ModelsFolder,
        tell: &mut dyn FnMut(PullEvent<'_>),
    ) -> Result<Model, PullError> {
        let reference = self.reference;
        let name = match (self.name, reference.repository.split_once('/')) {
            (Some(name), _) | (None, Some((_, name))) => name,
            (None, None) => &reference.repository,
        };
        let manifest_path = models.manifest_path(name, self.replace)?;
        let place = models.path.join(name);
        if place.exists() && !self.replace {
            return Err(PullError::Exists { path: place });
        }
        let repository = hub.repository(reference)?;
        let files = repository.network(reference.file.as_deref())?;
        tell(PullEvent::Found(&repository, &files));
        let gathering = models.path.join(format!(".{name}.pull"));
        fs::create_dir_all(&gathering)
            .map_err(|source| PullError::Write { path: gathering.clone(), source })?;
        for file in &files {
            fetch(hub, &repository, file, &gathering, tell)?;
        }
        // The first is the network.
        let network = files.first().map_or("model.onnx", |file| file.name());
        let unusable = |source| PullError::Unusable { reference: reference.to_string(), source };
        let graph = Graph::open(&gathering.join(network)).map_err(|error| unusable(error.into()))?;
        let preprocess = match self.preprocess {
            Some(preset) => preprocessing_of(preset, PreprocessOverrides::default(), &graph)?,
            None => {
                let found = preprocessing_beside(&PreprocessOverrides::default(), &graph)?;
                let found =
                    found.ok_or_else(|| PullError::NoPreprocessing { reference: reference.to_string() })?;
                tell(PullEvent::Preprocessing(&found));
                found.preprocess
            }
        };
        let metadata = ModelMetadata {
            note: Some(note(hub, &repository, &files)),
            ..ModelMetadata::new(name, preprocess)
        };
        let file = Path::new(name).join(network);
        let model = Model::describe(&graph, file, manifest_path, metadata).map_err(unusable)?;
        // Its file is mapped into memory, and about to move.
        drop(graph);
        put_in_place(&gathering, &place)
            .map_err(|source| PullError::Write { path: place.clone(), source })?;
        model.write()?;
        Ok(model)
    }
}

/// Brings one file into `folder`, unless it is there already.
fn fetch(
    hub: &Hub,
    repository: &HubRepository,
    file: &HubFile,
    folder: &Path,
    tell: &mut dyn FnMut(PullEvent<'_>),
) -> Result<(), PullError> {
    let target = folder.join(file.name());
    if is_complete(&target, file) {
        return Ok(());
    }
    let url = hub.url(repository, file);
    let wanted = Download {
        url: &url,
        target: &target,
        size: file.size,
        sha256: file.sha256.as_deref(),
        retry: RetryPolicy::default(),
        token: hub.token(),
    };
    let explain = |error: FetchError| hub.explain(repository, error);
    let fetched = download(&wanted, &mut |here, total| tell(PullEvent::Progress(file, here, total)));
    Ok(fetched.map_err(explain)?.place().map_err(explain)?)
}

/// Whether what lies at `path` is the hub's file, as far as the hub tells: its length and SHA-256. A small file, of which it
/// does not tell the latter, is fetched again.
fn is_complete(path: &Path, file: &HubFile) -> bool {
    let (Some(size), Some(expected)) = (file.size, &file.sha256) else { return false };
    let digest = || -> std::io::Result<String> {
        let mut digest = Sha256::new();
        std::io::copy(&mut fs::File::open(path)?, &mut digest)?;
        Ok(format!("{:x}", digest.finalize()))
    };
    fs::metadata(path).is_ok_and(|found| found.len() == size)
        && digest().is_ok_and(|found| found.eq_ignore_ascii_case(expected))
}

/// Renames the folder `from` to `to`, in the stead of what is there.
fn put_in_place(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::rename(from, to)
}

/// Where the network comes from, for people.
fn note(hub: &Hub, repository: &HubRepository, files: &[&HubFile]) -> String {
    let HubRepository { name, commit, licence, .. } = repository;
    let licence = licence.as_deref().unwrap_or("a licence that its card does not name");
    let known = match files.first().is_some_and(|network| network.sha256.is_some()) {
        true => "its SHA-256 was known beforehand, as the hub tells it",
        false => "its SHA-256 was not known beforehand, the one seen is recorded",
    };
    format!("{name} at commit {commit}, {licence}, downloaded from {}; {known}", hub.page(name))
}
