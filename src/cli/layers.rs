//! `cnncodes layers`: what can be tapped in a network.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::show::ReportFormat;
use super::{Status, show};
use crate::network::profile::Profile;
use crate::network::{Catalogue, Layer, ModelsFolder, PENULTIMATE};

/// List the layers of a network whose features can be extracted
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Any name in the listing works with `extract --layer`: the canonical name, an alias, the ONNX tensor or node. \
`penultimate` is the input of the last dense layer of any network. Activations are taken after their ReLU. \"cost\" \
is the share of the network's multiply-adds up to and including a layer.

Examples:
  cnncodes layers                 of the only model in models/
  cnncodes layers vgg16
  cnncodes layers vgg16 --all     every activation, also those without a canonical name
  cnncodes layers --format json")]
pub struct Args {
    /// Model [default: the only one]
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// Also list activations that have no canonical name
    #[arg(long)]
    all: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,
}

/// One line of the listing.
#[derive(Debug, serde::Serialize)]
struct ListedLayer {
    name: String,
    aliases: Vec<String>,
    tensor: String,
    what: String,
    shape: Vec<usize>,
    multiply_adds: u64,
    share: f64,
    penultimate: bool,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let model = models.find(args.model.as_deref())?;
    let graph = model.open()?;
    let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
    let mut layers: Vec<Layer> = catalogue.layers.clone();
    if args.all {
        layers.extend(catalogue.unlisted().cloned());
    }
    let profile = Profile::measure(&graph, &layers, model.manifest.preprocess.size())?;
    let penultimate = catalogue.penultimate().map(|layer| layer.tensor.clone());
    let entries: Vec<ListedLayer> = layers
        .iter()
        .filter_map(|layer| {
            let multiply_adds = profile.below(layer);
            Some(ListedLayer {
                name: layer.name.clone(),
                aliases: layer.aliases.clone(),
                tensor: layer.tensor.clone(),
                what: match layer.tokens {
                    Some(tokens) if !tokens.is_map => {
                        format!("{} ({} by default)", layer.what, layer.default_pooling())
                    }
                    _ => layer.what.clone(),
                },
                shape: profile.shape(layer)?.to_vec(),
                multiply_adds,
                share: multiply_adds as f64 / profile.total().max(1) as f64,
                penultimate: penultimate.as_deref() == Some(layer.tensor.as_str()),
            })
        })
        .collect();
    match args.format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&entries)?),
        ReportFormat::Text => {
            let architecture =
                catalogue.architecture.as_deref().unwrap_or("unknown architecture, so ONNX names");
            println!(
                "{}: {architecture}, {} million multiply-adds for an image",
                model.name,
                profile.total() / 1_000_000
            );
            show::table(&table(&entries));
            let hidden = catalogue.unlisted().count();
            if !args.all && hidden > 0 {
                println!("{hidden} more activations can be extracted by their ONNX names; --all lists them");
            }
        }
    }
    Ok(Status::Done)
}

fn table(entries: &[ListedLayer]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["layer", "also", "shape", "cost", "what", "ONNX tensor"]);
    for entry in entries {
        let mut aliases = entry.aliases.clone();
        // The network may call another layer so.
        if entry.penultimate && entries.iter().all(|entry| entry.name != PENULTIMATE) {
            aliases.push(PENULTIMATE.to_owned());
        }
        let shape: Vec<String> = entry.shape.iter().map(ToString::to_string).collect();
        table.add_row([
            entry.name.clone(),
            aliases.join(", "),
            shape.join("x"),
            format!("{:.1} %", entry.share * 100.0),
            entry.what.clone(),
            if entry.tensor == entry.name { String::new() } else { entry.tensor.clone() },
        ]);
    }
    for column in [2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
