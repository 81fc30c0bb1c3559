//! Networks on a hub of models that speaks Hugging Face's protocol: what a repository holds, which of it makes a network, and
//! where each file is.
//!
//! The hub itself says how long a file is and, of those in its large-file store, which SHA-256 they have.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use ureq::http::header;

use super::{FetchError, RetryPolicy, agent};
use crate::messages::Cause;

/// The hub that is asked unless another is named.
const ENDPOINT: &str = "https://huggingface.co";
/// Networks that an error names where several could be meant.
const MOST_NAMED: usize = 12;
/// The longest answer about a repository that is read: 16 MiB.
const LONGEST_ANSWER: u64 = 16 << 20;
/// Files that say how images become a network's input, fetched along.
const CONFIGS: [&str; 2] = ["preprocessor_config.json", "config.json"];

/// A repository of the hub, and a network in it: `hf:OWNER/REPOSITORY[@REVISION][:FILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubReference {
    /// `OWNER/REPOSITORY`.
    pub repository: String,
    /// A branch, tag or commit; the main branch if none is given.
    pub revision: Option<String>,
    /// The ONNX file, by its path in the repository.
    pub file: Option<String>,
}

impl HubReference {
    /// How references begin.
    pub const PREFIX: &str = "hf:";
}

impl fmt::Display for HubReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.repository)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

impl FromStr for HubReference {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let bad = || HubError::Reference { text: text.to_owned() };
        let rest = text.strip_prefix(Self::PREFIX).ok_or_else(bad)?;
        let (rest, file) = match rest.split_once(':') {
            Some((rest, file)) => (rest, Some(file)),
            None => (rest, None),
        };
        let (repository, revision) = match rest.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (rest, None),
        };
        let is_name = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        let is_path =
            |path: &str| path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        let named = repository.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name));
        if !named || !revision.is_none_or(is_path) || !file.is_none_or(is_path) {
            return Err(bad());
        }
        let owned = |part: Option<&str>| part.map(str::to_owned);
        Ok(Self { repository: repository.to_owned(), revision: owned(revision), file: owned(file) })
    }
}

/// Why a network of the hub cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum HubError {
    #[error(
        "{text} is no network of the hub; write hf:OWNER/REPOSITORY, and after it @REVISION and :FILE if you like"
    )]
    Reference { text: String },
    #[error(
        "the hub has no {reference}, or hides it; check the name at {url}, and for a private repository set HF_TOKEN to a \
         token that may read it"
    )]
    NoRepository { reference: String, url: String },
    #[error(
        "{repository} is gated: accept its terms at {url}, make a token there, and set HF_TOKEN to it{}",
        if *with_token { " (the token that HF_TOKEN has now is not let in)" } else { "" }
    )]
    Gated { repository: String, url: String, with_token: bool },
    #[error(
        "the hub does not accept the token of HF_TOKEN; make a new one, or unset HF_TOKEN for public networks"
    )]
    Token,
    #[error(
        "cannot reach the hub {endpoint}; check the network and the proxy (HTTPS_PROXY), name a mirror of the hub with \
         HF_ENDPOINT, or bring the files yourself: `cnncodes models add DIR --preprocess auto`"
    )]
    Unreachable { endpoint: String, source: Cause },
    #[error("the answer of {url} about the repository cannot be read; check HF_ENDPOINT")]
    Answer { url: String },
    #[error("{repository} holds no ONNX file; export the network to ONNX, for example with optimum")]
    NoNetwork { repository: String },
    #[error("{repository} has no file {file}; its ONNX files are {}", list(.found))]
    NoFile { repository: String, file: String, found: Vec<String> },
    #[error("{repository} holds several ONNX files: {}; name one, as in hf:{repository}:{}", list(.found), .found[0])]
    Several { repository: String, found: Vec<String> },
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

fn list(names: &[String]) -> String {
    let more = names.len().saturating_sub(MOST_NAMED);
    let named = names.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// A hub, and who asks.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: String,
    token: Option<String>,
    retry: RetryPolicy,
}

/// What a repository of the hub holds at one commit.
#[derive(Debug, Clone)]
pub struct HubRepository {
    /// `OWNER/REPOSITORY`.
    pub name: String,
    /// The commit that the revision stands for.
    pub commit: String,
    /// The licence that its card names.
    pub licence: Option<String>,
    files: Vec<HubFile>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its SHA-256, where the hub tells it.
    pub sha256: Option<String>,
}

impl HubFile {
    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// The hub's answer about a repository, as far as it matters here.
#[derive(Deserialize)]
struct RepositoryInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// The hub of `HF_ENDPOINT`, or Hugging Face's own, asked with the token of `HF_TOKEN` where there is one.
    pub fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim().trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN").map(|token| token.trim().to_owned()),
            retry: RetryPolicy::default(),
        }
    }

    /// The token that downloads from the hub go with.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Where people look at a repository.
    pub fn page(&self, repository: &str) -> String {
        format!("{}/{repository}", self.endpoint)
    }

    /// Where a file of a repository is downloaded from.
    pub fn url(&self, repository: &HubRepository, file: &HubFile) -> String {
        let HubRepository { name, commit, .. } = repository;
        format!("{}/{name}/resolve/{commit}/{}", self.endpoint, encoded(&file.path))
    }

    /// Asks the hub what the repository of `reference` holds.
    ///
    /// # Errors
    /// The hub cannot be reached, does not have the repository, or does not let the token in.
    pub fn repository(&self, reference: &HubReference) -> Result<HubRepository, HubError> {
        let name = &reference.repository;
        let revision = encoded(reference.revision.as_deref().unwrap_or("main")).replace('/', "%2F");
        let url = format!("{}/api/models/{name}/revision/{revision}?blobs=true", self.endpoint);
        let mut request = agent(&url, &self.retry)?.get(&url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut response = request.call().map_err(|source| self.unreachable(source.into()))?;
        let said = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        let (gated, status) = (said == Some("GatedRepo"), response.status().as_u16());
        match status {
            200 => {}
            401 | 403 if gated => return Err(self.gated(name)),
            401 if self.token.is_some() && said.is_none() => return Err(HubError::Token),
            401 | 403 | 404 => {
                return Err(HubError::NoRepository {
                    reference: reference.to_string(),
                    url: self.page(name),
                });
            }
            status => return Err(FetchError::Status { url, status }.into()),
        }
        let text = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string();
        let answer: Option<RepositoryInfo> = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        let Some(answer) = answer else { return Err(HubError::Answer { url }) };
        let file = |Sibling { rfilename, size, lfs }: Sibling| HubFile {
            path: rfilename,
            size: lfs.as_ref().and_then(|lfs| lfs.size).or(size),
            sha256: lfs.and_then(|lfs| lfs.sha256),
        };
        Ok(HubRepository {
            name: name.clone(),
            commit: answer.sha,
            licence: answer.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned),
            files: answer.siblings.into_iter().map(file).collect(),
        })
    }

    /// What it means that a download was refused.
    pub fn explain(&self, repository: &HubRepository, error: FetchError) -> HubError {
        match error {
            FetchError::Status { status: 401 | 403, .. } => self.gated(&repository.name),
            FetchError::Unreachable { source, .. } => self.unreachable(source),
            error => error.into(),
        }
    }

    fn unreachable(&self, source: Cause) -> HubError {
        HubError::Unreachable { endpoint: self.endpoint.clone(), source }
    }

    fn gated(&self, repository: &str) -> HubError {
        HubError::Gated {
            repository: repository.to_owned(),
            url: self.page(repository),
            with_token: self.token.is_some(),
        }
    }
}

impl HubRepository {
    /// The files that make the network `wanted`, or the only one there is: the ONNX file first, then its weights and the
    /// descriptions of its preprocessing.
    ///
    /// Exporters write a network to `model.onnx` or `onnx/model.onnx`, and quantised copies beside it; so that is the one
    /// which is meant.
    ///
    /// # Errors
    /// There is no such file, no ONNX file at all, or there are several.
    pub fn network(&self, wanted: Option<&str>) -> Result<Vec<&HubFile>, HubError> {
        let repository = || self.name.clone();
        let networks: Vec<&HubFile> = self.files.iter().filter(|file| file.path.ends_with(".onnx")).collect();
        let paths = || networks.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
        let find = |path: &str| self.files.iter().find(|file| file.path == path);
        let network = match (wanted, &networks[..]) {
            (Some(file), _) => find(file).ok_or_else(|| HubError::NoFile {
                repository: repository(),
                file: file.to_owned(),
                found: paths(),
            })?,
            (None, []) => return Err(HubError::NoNetwork { repository: repository() }),
            (None, [only]) => only,
            (None, _) => ["model.onnx", "onnx/model.onnx"]
                .into_iter()
                .find_map(find)
                .ok_or_else(|| HubError::Several { repository: repository(), found: paths() })?,
        };
        let is_weights = |file: &&HubFile| {
            let rest = file.path.strip_prefix(network.path.as_str());
            rest.is_some_and(|rest| rest.starts_with("_data") || rest.starts_with(".data"))
        };
        let folder = network.path.strip_suffix(network.name()).unwrap_or_default();
        let config = |name: &&str| find(&format!("{folder}{name}")).or_else(|| find(name));
        let mut files = vec![network];
        files.extend(self.files.iter().filter(is_weights));
        files.extend(CONFIGS.iter().filter_map(config));
        Ok(files)
    }
}

/// A path as an address has it.
fn encoded(path: &str) -> String {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(path, &KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_a_repository_and_if_they_like_a_revision_and_a_file() {
        let reference = |revision: Option<&str>, file: Option<&str>| HubReference {
            repository: "owner/net-1.0".to_owned(),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
        };
        for (text, expected) in [
            ("hf:owner/net-1.0", reference(None, None)),
            ("hf:owner/net-1.0@v2", reference(Some("v2"), None)),
            ("hf:owner/net-1.0:onnx/model.onnx", reference(None, Some("onnx/model.onnx"))),
            ("hf:owner/net-1.0@refs/pr/3:a b.onnx", reference(Some("refs/pr/3"), Some("a b.onnx"))),
        ] {
            let found: HubReference = text.parse().unwrap();
            assert_eq!(found, expected);
            assert_eq!(found.to_string(), text);
        }
        for bad in [
            "hf:",
            "hf:net",
            "hf:owner/",
            "hf:/net",
            "hf:a/b/c",
            "owner/net",
            "hf:owner/..",
            "hf:owner/net@",
            "hf:owner/net:",
            "hf:owner/net:../model.onnx",
            "hf:owner/net:/model.onnx",
            "hf:ow ner/net",
        ] {
            let refused = bad.parse::<HubReference>().unwrap_err().to_string();
            assert!(refused.contains("hf:OWNER/REPOSITORY"), "{bad}: {refused}");
        }
    }

    fn holding(paths: &[&str]) -> HubRepository {
        let file = |path: &&str| HubFile { path: (*path).to_owned(), size: None, sha256: None };
        HubRepository {
            name: "owner/net".to_owned(),
            commit: "c0ffee".to_owned(),
            licence: None,
            files: paths.iter().map(file).collect(),
        }
    }

    fn network(paths: &[&str], wanted: Option<&str>) -> Result<Vec<String>, String> {
        let found = holding(paths);
        let files = found.network(wanted).map_err(|error| error.to_string())?;
        Ok(files.into_iter().map(|file| file.path.clone()).collect())
    }

    #[test]
    fn a_network_comes_with_its_weights_and_configs() {
        let optimum = [
            "config.json",
            "onnx/model.onnx",
            "onnx/model.onnx_data",
            "onnx/model_fp16.onnx",
            "onnx/model_fp16.onnx_data",
            "preprocessor_config.json",
        ];
        assert_eq!(
            network(&optimum, None).unwrap(),
            ["onnx/model.onnx", "onnx/model.onnx_data", "preprocessor_config.json", "config.json"]
        );
        assert_eq!(
            network(&optimum, Some("onnx/model_fp16.onnx")).unwrap(),
            ["onnx/model_fp16.onnx", "onnx/model_fp16.onnx_data", "preprocessor_config.json", "config.json"]
        );
        assert_eq!(network(&["a.onnx", "a.onnx.data", "b.bin"], None).unwrap(), ["a.onnx", "a.onnx.data"]);
        // The config beside the network is the network's.
        assert_eq!(
            network(&["a/model.onnx", "a/config.json", "config.json"], None).unwrap(),
            ["a/model.onnx", "a/config.json"]
        );
    }

    #[test]
    fn what_cannot_be_chosen_is_named() {
        assert_eq!(
            network(&["model.safetensors"], None).unwrap_err(),
            "owner/net holds no ONNX file; export the network to ONNX, for example with optimum"
        );
        assert_eq!(
            network(&["a.onnx", "b.onnx"], None).unwrap_err(),
            "owner/net holds several ONNX files: a.onnx, b.onnx; name one, as in hf:owner/net:a.onnx"
        );
        assert_eq!(
            network(&["a.onnx"], Some("c.onnx")).unwrap_err(),
            "owner/net has no file c.onnx; its ONNX files are a.onnx"
        );
    }

    #[test]
    fn addresses_escape_what_paths_may_hold() {
        let hub =
            Hub { endpoint: "https://hub.example".to_owned(), token: None, retry: RetryPolicy::default() };
        let file = HubFile { path: "on nx/mödel#1.onnx".to_owned(), size: None, sha256: None };
        assert_eq!(
            hub.url(&holding(&[]), &file),
            "https://hub.example/owner/net/resolve/c0ffee/on%20nx/m%C3%B6del%231.onnx"
        );
    }
}
