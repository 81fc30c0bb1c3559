//! `cnncodes models pull`: a network from the ONNX Model Zoo, from Hugging Face's hub, or from a place of one's own.

use std::path::{Path, PathBuf};

use anyhow::bail;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::DecimalBytes;

use super::models::{report_found, say_manifest, write_manifest};
use super::{Status, interrupt, models, show};
use crate::download::{
    self, Download, FetchError, Fetched, Hub, HubPull, HubReference, PullEvent, RetryPolicy,
};
use crate::images::{PreprocessOverrides, Preset};
use crate::network::register::preprocessing_of;
use crate::network::zoo::{CHECKSUMS_FROM, LICENCE, ON_HUB, OnHub, PUBLISHED, ZooNetwork};
use crate::network::{Graph, Model, ModelMetadata, ModelsFolder};

/// Download a published network and write its manifest; without a NAME, list the published networks
#[derive(Debug, clap::Args)]
#[command(after_help = "\
hf:OWNER/REPOSITORY is a repository of Hugging Face's hub that holds an ONNX file: model.onnx, onnx/model.onnx, or the \
one that :FILE names, with its preprocessor_config.json or config.json. HF_TOKEN is the token for gated and private \
repositories, HF_ENDPOINT another hub.

An interrupted download resumes when you run the same command again. Only a file of the right length and SHA-256 is \
put into place; until then nothing changes. HTTPS_PROXY and NO_PROXY set a proxy.

With --url the file comes from your own mirror; the published SHA-256 of NAME still applies, unless --sha256 names \
another. A NAME that is not in the list needs --url and --preprocess; without --sha256 the checksum of the \
downloaded file is recorded, and the manifest says so.

Examples:
  cnncodes models pull                  what can be pulled
  cnncodes models pull vgg16-7 --name vgg16
  cnncodes models pull dinov2-small
  cnncodes models pull hf:Xenova/dinov2-small --name dinov2
  cnncodes models pull resnet50-v1-12 --url https://mirror.example/resnet50-v1-12.onnx
  cnncodes models pull mynet --url https://mirror.example/net.onnx --preprocess tf")]
pub struct Args {
    /// Name of the network in the list, or hf:OWNER/REPOSITORY[@REVISION][:FILE]
    #[arg(value_name = "NAME")]
    network: Option<String>,
    /// Address to download from instead of the published one
    #[arg(long, value_name = "URL", requires = "network")]
    url: Option<String>,
    /// SHA-256 that the file must have [default: the published one]
    #[arg(long, value_name = "HEX", value_parser = sha256, requires = "network")]
    sha256: Option<String>,
    /// Name of the model here [default: NAME]
    #[arg(long = "name", value_name = "NAME", requires = "network")]
    model: Option<String>,
    /// Preprocessing that the network was trained with: torchvision, keras-caffe or tf [default: as published]
    #[arg(long, value_name = "PRESET", value_parser = models::preset, requires = "network")]
    preprocess: Option<Preset>,
    /// Replace a model of the same name
    #[arg(long, requires = "network")]
    force: bool,
}

fn sha256(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        Ok(text.to_lowercase())
    } else {
        Err("a SHA-256 is 64 hexadecimal digits, as sha256sum prints it".to_owned())
    }
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    match &args.network {
        Some(network) => {
            interrupt::says("what was downloaded is kept, and the same command resumes");
            pull(args, network, models)
        }
        None => {
            println!("ONNX Model Zoo:");
            show::table(&table());
            println!("\nHugging Face's hub (hf:OWNER/REPOSITORY pulls any other):");
            show::table(&hub_table());
            Ok(Status::Done)
        }
    }
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["name", "network", "size", "sha256", "preprocessing", "licence"]);
    for published in PUBLISHED {
        table.add_row([
            published.name,
            published.network,
            &DecimalBytes(published.size).to_string(),
            &published.sha256[..12],
            published.preprocess.as_str(),
            LICENCE,
        ]);
    }
    table
}

/// The networks of the hub.
fn hub_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["name", "network", "size", "licence", "good for"]);
    for known in ON_HUB {
        let size = format!("{} MB", known.megabytes);
        table.add_row([known.name, known.network, &size, known.licence, known.good_for]);
    }
    table
}

/// Pulls a network of the hub.
fn pull_from_hub(args: &Args, reference: &str, models: &ModelsFolder) -> anyhow::Result<Status> {
    if args.url.is_some() || args.sha256.is_some() {
        bail!(
            "{reference} is on the hub, which says itself where its files are and what their SHA-256 is; leave out --url and --sha256"
        );
    }
    let reference: HubReference = reference.parse()?;
    let bar = show::download_bar(&reference.to_string());
    let pull = HubPull {
        reference: &reference,
        name: args
            .model
            .as_deref()
            .or(OnHub::find(args.network.as_deref().unwrap_or_default()).map(|known| known.name)),
        preprocess: args.preprocess,
        replace: args.force,
    };
    let pulled = pull.run(&Hub::from_environment(), models, &mut |event| match event {
        PullEvent::Found(repository, files) => {
            let names = files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(", ");
            bar.suspend(|| {
                println!(
                    "{} at {}: {names}",
                    repository.name,
                    repository.commit.get(..12).unwrap_or(&repository.commit)
                )
            });
        }
        PullEvent::Progress(file, here, total) => {
            bar.set_message(file.name().to_owned());
            show::bytes(&bar, here, total);
        }
        PullEvent::Preprocessing(found) => {
            // Its folder is not where it stays.
            let file = found.config.path.file_name().map_or(found.config.path.as_path(), Path::new);
            bar.suspend(|| report_found(found, file));
        }
    });
    bar.finish_and_clear();
    say_manifest(&pulled?);
    Ok(Status::Done)
}

fn pull(args: &Args, network: &str, models: &ModelsFolder) -> anyhow::Result<Status> {
    let on_hub = OnHub::find(network).map(|known| known.reference);
    if let Some(reference) = on_hub.or(network.starts_with(HubReference::PREFIX).then_some(network)) {
        return pull_from_hub(args, reference, models);
    }
    let published = ZooNetwork::find(network);
    let urls = match (&args.url, published) {
        (Some(url), _) => vec![url.clone()],
        (None, Some(published)) => published.urls().to_vec(),
        (None, None) => {
            let on_hub = ON_HUB.iter().map(|known| known.name);
            let names: Vec<&str> = PUBLISHED.iter().map(|published| published.name).chain(on_hub).collect();
            bail!(
                "{network:?} is not among the published networks ({}); give its address with --url, or \
                 hf:OWNER/REPOSITORY for one of Hugging Face's hub",
                names.join(", ")
            );
        }
    };
    let Some(preset) = args.preprocess.or(published.map(|published| published.preprocess)) else {
        bail!(
            "the preprocessing that {network:?} was trained with is not known; give it with --preprocess \
             torchvision|keras-caffe|tf"
        );
    };
    let name = args.model.clone().unwrap_or_else(|| network.to_owned());
    let manifest_path = models.manifest_path(&name, args.force)?;
    let file = PathBuf::from(format!("{name}.onnx"));
    let target = models.path.join(&file);
    if target.exists() && !args.force {
        bail!("{} exists already; give --force to replace it, or another --name", target.display());
    }

    // A checksum of the user's own may be that of another version, whose size nobody has published.
    let published = if args.sha256.is_none() { published } else { None };
    let due = args.sha256.as_deref().or(published.map(|published| published.sha256));
    let (url, fetched) = fetch_from_any(&urls, &target, published.map(|published| published.size), due)?;
    let said = note(network, url, published, args.sha256.is_some());
    let model = match describe(fetched.path(), file, manifest_path, name, preset, said) {
        Ok(model) => model,
        Err(error) => {
            fetched.discard();
            return Err(error.context(format!("the file from {url} is not usable and was removed")));
        }
    };
    fetched.place()?;
    write_manifest(&model)?;
    Ok(Status::Done)
}

/// The manifest of the network that lies in `here` and is to be `file` in the models folder.
fn describe(
    here: &Path,
    file: PathBuf,
    manifest_path: PathBuf,
    name: String,
    preset: Preset,
    note: String,
) -> anyhow::Result<Model> {
    let graph = Graph::open(here)?;
    let preprocess = preprocessing_of(preset, PreprocessOverrides::default(), &graph)?;
    let metadata = ModelMetadata { note: Some(note), ..ModelMetadata::new(name, preprocess) };
    Ok(Model::describe(&graph, file, manifest_path, metadata)?)
}

/// Downloads from the first place that serves the file.
fn fetch_from_any<'a>(
    urls: &'a [String],
    target: &Path,
    size: Option<u64>,
    sha256: Option<&str>,
) -> Result<(&'a str, Fetched), FetchError> {
    let mut left = urls.iter();
    loop {
        // The list of places is never empty: it has the user's own, or the published ones.
        let url = left.next().map(String::as_str).unwrap_or_default();
        let bar = show::download_bar(url);
        let wanted = Download { url, target, size, sha256, retry: RetryPolicy::default(), token: None };
        let fetched = download::download(&wanted, &mut |here, total| show::bytes(&bar, here, total));
        bar.finish_and_clear();
        match fetched {
            Ok(fetched) => return Ok((url, fetched)),
            Err(error) if error.is_remote() && left.len() > 0 => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                show::warning(&format!("{error}{}", cause.unwrap_or_default()));
                anstream::eprintln!("trying another place");
            }
            Err(error) => return Err(error),
        }
    }
}

/// Where the network comes from, and what its checksum is worth.
fn note(network: &str, url: &str, published: Option<&ZooNetwork>, given: bool) -> String {
    match published {
        Some(published) => format!(
            "{network} of the ONNX Model Zoo ({}, {LICENCE}), downloaded from {url}; its SHA-256 was known beforehand, as published in ONNX_HUB_MANIFEST.json of github.com/onnx/models at {CHECKSUMS_FROM}",
            published.network
        ),
        None if given => {
            format!("downloaded from {url}; its SHA-256 was known beforehand, given with --sha256")
        }
        None => {
            format!("downloaded from {url}; its SHA-256 was not known beforehand, the one seen is recorded")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sha256;

    #[test]
    fn a_checksum_is_64_hexadecimal_digits() {
        assert_eq!(sha256(&"aB".repeat(32)), Ok("ab".repeat(32)));
        assert!(sha256(&"ab".repeat(31)).is_err());
        assert!(sha256(&"xy".repeat(32)).is_err());
    }
}
