//! `cnncodes models pull`: a network from the ONNX Model Zoo, from Hugging Face's hub, or from any address.

use std::path::Path;

use anyhow::bail;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{DecimalBytes, ProgressBar};

use super::models::{report_found, say_manifest};
use super::{Status, interrupt, models, show};
use crate::download::{Hub, HubPull, HubReference, PullEvent, ZooPull, ZooPullEvent};
use crate::images::Preset;
use crate::messages::with_causes;
use crate::network::ModelsFolder;
use crate::network::zoo::{LICENCE, ON_HUB, OnHub, PUBLISHED};

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
    let pull = ZooPull {
        network,
        url: args.url.as_deref(),
        sha256: args.sha256.as_deref(),
        name: args.model.as_deref(),
        preprocess: args.preprocess,
        replace: args.force,
    };
    let mut bar: Option<ProgressBar> = None;
    let pulled = pull.run(models, &mut |event| match event {
        ZooPullEvent::Begins(url) => bar = Some(show::download_bar(url)),
        ZooPullEvent::Progress(here, total) => {
            bar.iter().for_each(|bar| show::bytes(bar, here, total));
        }
        ZooPullEvent::Failed(error) => {
            bar.take().iter().for_each(ProgressBar::finish_and_clear);
            show::warning(&with_causes(error));
            anstream::eprintln!("trying another place");
        }
    });
    bar.iter().for_each(ProgressBar::finish_and_clear);
    say_manifest(&pulled?);
    Ok(Status::Done)
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
