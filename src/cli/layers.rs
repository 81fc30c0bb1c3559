//! `cnncodes layers`: what can be tapped in a network.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::show::ReportFormat;
use super::{Status, show};
use crate::network::{Catalogue, LayerEntry, LayerList, ModelsFolder, PENULTIMATE};

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

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let model = models.find(args.model.as_deref())?;
    let graph = model.open()?;
    let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
    let list = LayerList::of(&graph, &catalogue, model.manifest.preprocess.size(), args.all)?;
    match args.format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&list.layers)?),
        ReportFormat::Text => {
            let architecture =
                catalogue.architecture.as_deref().unwrap_or("unknown architecture, so ONNX names");
            println!(
                "{}: {architecture}, {} million multiply-adds for an image",
                model.name,
                list.multiply_adds / 1_000_000
            );
            show::table(&table(&list.layers));
            let hidden = catalogue.unlisted().count();
            if !args.all && hidden > 0 {
                println!("{hidden} more activations can be extracted by their ONNX names; --all lists them");
            }
        }
    }
    Ok(Status::Done)
}

fn table(entries: &[LayerEntry]) -> Table {
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
