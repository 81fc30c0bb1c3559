//! From the ONNX Model Zoo, or an address of the user's own, to the models folder: one file is downloaded, checked, and
//! registered.

use std::path::{Path, PathBuf};

use super::{Download, FetchError, Fetched, PullError, RetryPolicy, download};
use crate::images::{Preprocess, PreprocessOverrides, Preset};
use crate::network::register::preprocessing_of;
use crate::network::zoo::{CHECKSUMS_FROM, LICENCE, ON_HUB, PUBLISHED, ZooNetwork};
use crate::network::{Graph, Model, ModelError, ModelMetadata, ModelsFolder};

/// What to pull, and what it becomes.
#[derive(Debug, Clone)]
pub struct ZooPull<'a> {
    /// Name of the network in the zoo; any name if `url` says where it is.
    pub network: &'a str,
    /// Where the file is, if not where the zoo has it.
    pub url: Option<&'a str>,
    /// SHA-256 that the file must have, in hexadecimal digits; that of the zoo if none is given.
    pub sha256: Option<&'a str>,
    /// Name of the model here; the network's if none is given.
    pub name: Option<&'a str>,
    /// The preprocessing, if not that of the zoo's network.
    pub preprocess: Option<Preset>,
    /// Replace a model of the same name.
    pub replace: bool,
}

/// What a pull from the zoo tells while it goes on.
#[derive(Debug)]
pub enum ZooPullEvent<'a> {
    /// The download from this address begins.
    Begins(&'a str),
    /// So many bytes are here, of so many if that is known.
    Progress(u64, Option<u64>),
    /// This address does not serve the file; the next one is tried.
    Failed(&'a FetchError),
}

impl ZooPull<'_> {
    /// Downloads the network into `models` as `NAME.onnx`, from the first address that serves it, and registers it. The manifest
    /// notes where it comes from and what its checksum is worth.
    ///
    /// # Errors
    /// The zoo has no such network and no address is given, its preprocessing is not known, a model of the name is there, the
    /// download fails, or the file is no network that can be used, and is removed.
    pub fn run(
        &self,
        models: &ModelsFolder,
        tell: &mut dyn FnMut(ZooPullEvent<'_>),
    ) -> Result<Model, PullError> {
        let network = self.network;
        let published = ZooNetwork::find(network);
        let urls = match (self.url, published) {
            (Some(url), _) => vec![url.to_owned()],
            (None, Some(published)) => published.urls().to_vec(),
            (None, None) => return Err(PullError::NotPublished { network: network.to_owned() }),
        };
        let preset = self.preprocess.or(published.map(|published| published.preprocess));
        let preset = preset.ok_or_else(|| PullError::UnknownPreprocessing { network: network.to_owned() })?;
        let name = self.name.unwrap_or(network);
        let manifest_path = models.manifest_path(name, self.replace)?;
        let file = PathBuf::from(format!("{name}.onnx"));
        let target = models.path.join(&file);
        if target.exists() && !self.replace {
            return Err(PullError::Exists { path: target });
        }
        // A checksum of the user's own may be that of another version, whose size nobody has published.
        let published = if self.sha256.is_none() { published } else { None };
        let due = self.sha256.or(published.map(|published| published.sha256));
        let (url, fetched) =
            fetch_from_any(&urls, &target, published.map(|published| published.size), due, tell)?;
        let metadata = |preprocess| ModelMetadata {
            note: Some(self.note(url, published)),
            ..ModelMetadata::new(name, preprocess)
        };
        let described = describe(fetched.path(), preset, metadata, file, manifest_path);
        let model = match described {
            Ok(model) => model,
            Err(source) => {
                fetched.discard();
                return Err(PullError::NotUsable { url: url.to_owned(), source });
            }
        };
        fetched.place()?;
        model.write()?;
        Ok(model)
    }

    /// Where the network comes from, and what its checksum is worth. `published` is the zoo's network if its checksum was due.
    fn note(&self, url: &str, published: Option<&ZooNetwork>) -> String {
        match published {
            Some(published) => format!(
                "{} of the ONNX Model Zoo ({}, {LICENCE}), downloaded from {url}; its SHA-256 was known beforehand, as published in ONNX_HUB_MANIFEST.json of github.com/onnx/models at {CHECKSUMS_FROM}",
                self.network, published.network
            ),
            None if self.sha256.is_some() => {
                format!("downloaded from {url}; its SHA-256 was known beforehand, given with --sha256")
            }
            None => {
                format!(
                    "downloaded from {url}; its SHA-256 was not known beforehand, the one seen is recorded"
                )
            }
        }
    }
}

/// The model of the network that lies in `here` and is to be `file` in the models folder.
fn describe(
    here: &Path,
    preset: Preset,
    metadata: impl FnOnce(Preprocess) -> ModelMetadata,
    file: PathBuf,
    manifest_path: PathBuf,
) -> Result<Model, ModelError> {
    let graph = Graph::open(here)?;
    let preprocess = preprocessing_of(preset, PreprocessOverrides::default(), &graph)?;
    Model::describe(&graph, file, manifest_path, metadata(preprocess))
}

/// Downloads from the first address that serves the file.
fn fetch_from_any<'u>(
    urls: &'u [String],
    target: &Path,
    size: Option<u64>,
    sha256: Option<&str>,
    tell: &mut dyn FnMut(ZooPullEvent<'_>),
) -> Result<(&'u str, Fetched), FetchError> {
    let mut left = urls.iter();
    loop {
        // There is an address: the user's own, or those of the zoo.
        let url = left.next().map(String::as_str).unwrap_or_default();
        tell(ZooPullEvent::Begins(url));
        let wanted = Download { url, target, size, sha256, retry: RetryPolicy::default(), token: None };
        match download(&wanted, &mut |here, total| tell(ZooPullEvent::Progress(here, total))) {
            Ok(fetched) => return Ok((url, fetched)),
            Err(error) if error.is_remote() && left.len() > 0 => tell(ZooPullEvent::Failed(&error)),
            Err(error) => return Err(error),
        }
    }
}

/// The names of all networks that can be pulled by name.
pub(super) fn published_names() -> String {
    let on_hub = ON_HUB.iter().map(|known| known.name);
    PUBLISHED.iter().map(|published| published.name).chain(on_hub).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// The demo's network.
    const GRAPH: &[u8] = include_bytes!("../../models/demo-vgg.onnx");
    /// `tf` at the size that the graph fixes: 64, of which 256/224 is 73.
    const DESCRIBED: &str = "custom: shorter side to 73 (bilinear), centre crop 64 x 64, RGB, / 127.5, - mean 1 1 1, EXIF orientation applied";
    const GRAPH_SHA256: &str = "094c509d95422c9db056eeedc1b877bec96c9baa5593fcdbcfaadb2289843400";

    /// The address of a server that answers one request: with `body`, or with 404.
    fn serve_once(body: Option<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        });
        format!("http://{address}/net.onnx")
    }

    fn pull(url: &str) -> ZooPull<'_> {
        ZooPull {
            network: "mine",
            url: Some(url),
            sha256: None,
            name: None,
            preprocess: Some(Preset::Tf),
            replace: false,
        }
    }

    #[test]
    fn a_network_of_any_address_becomes_a_model_that_notes_where_it_is_from() {
        let folder = tempfile::tempdir().unwrap();
        let models = ModelsFolder { path: folder.path().join("models") };
        let url = serve_once(Some(GRAPH));
        let mut told = Vec::new();
        let model = pull(&url).run(&models, &mut |event| told.push(format!("{event:?}"))).unwrap();
        assert_eq!((model.name.as_str(), model.network_path()), ("mine", models.path.join("mine.onnx")));
        assert_eq!(model.manifest.sha256, GRAPH_SHA256);
        assert_eq!(model.manifest.preprocess.describe(), DESCRIBED);
        let note =
            format!("downloaded from {url}; its SHA-256 was not known beforehand, the one seen is recorded");
        assert_eq!(model.manifest.note, Some(note));
        assert_eq!(std::fs::read(model.network_path()).unwrap(), GRAPH);
        assert_eq!(models.find(Some("mine")).unwrap(), model);
        assert_eq!(told[0], format!("Begins({url:?})"));
        let (all, length) = (told.last().unwrap(), GRAPH.len());
        assert_eq!(*all, format!("Progress({length}, Some({length}))"));

        let taken = pull(&url).run(&models, &mut |_| ()).unwrap_err().to_string();
        assert!(taken.contains("mine.toml"), "{taken}");
    }

    #[test]
    fn what_cannot_be_pulled_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let models = ModelsFolder { path: folder.path().join("models") };
        let refusal = |pull: ZooPull<'_>| pull.run(&models, &mut |_| ()).unwrap_err();
        let unknown = refusal(ZooPull { url: None, ..pull("") }).to_string();
        assert!(unknown.starts_with("\"mine\" is not among the published networks (vgg16-7, "), "{unknown}");
        let unprepared = refusal(ZooPull { preprocess: None, ..pull("http://localhost/net.onnx") });
        assert!(matches!(&unprepared, PullError::UnknownPreprocessing { network } if network == "mine"));
        let url = serve_once(Some(b"<html>Sign in, please</html>"));
        let unusable = refusal(pull(&url));
        assert_eq!(unusable.to_string(), format!("the file from {url} is not usable and was removed"));
        let url = serve_once(None);
        let gone = refusal(pull(&url));
        assert!(matches!(gone, PullError::Fetch(FetchError::NotFound { status: 404, .. })), "{gone:?}");
        assert_eq!(std::fs::read_dir(&models.path).unwrap().count(), 0);
    }

    #[test]
    fn the_next_address_is_tried_if_one_does_not_serve_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let urls = [serve_once(None), serve_once(Some(GRAPH))];
        let mut failed = Vec::new();
        let (url, fetched) =
            fetch_from_any(&urls, &folder.path().join("net.onnx"), None, Some(GRAPH_SHA256), &mut |event| {
                if let ZooPullEvent::Failed(error) = event {
                    failed.push(error.to_string());
                }
            })
            .unwrap();
        assert_eq!((url, fetched.sha256.as_str()), (urls[1].as_str(), GRAPH_SHA256));
        assert_eq!(failed.len(), 1);
        assert!(failed[0].starts_with(&format!("there is no file at {}", urls[0])), "{}", failed[0]);
    }
}
