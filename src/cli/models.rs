//! `cnncodes models`: what is in `models/`, and how a network gets there.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use comfy_table::{ContentArrangement, Table, presets};

use super::show::Listing;
use super::{Status, pull, show};
use crate::images::{ChannelOrder, Interpolation, Layout, Preprocess, PreprocessOverrides, Preset};
use crate::messages::with_causes;
use crate::network::manifest::layout_name;
use crate::network::register::preprocessing_of;
use crate::network::{Graph, Model, ModelMetadata, ModelsFolder};

/// List the models of the models folder, add one, or download one
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  cnncodes models           what is there, and whether it is intact
  cnncodes models add vgg16.onnx --preprocess torchvision
  cnncodes models add resnet50.onnx --preprocess keras-caffe --copy
  cnncodes models add net.onnx --preprocess tf --size 299 --interpolation bicubic
  cnncodes models pull      which published networks can be downloaded
  cnncodes models pull vgg16-7"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Listing,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Add(AddArgs),
    Pull(pull::Args),
}

/// Write the manifest of a network, so that it can be used
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A network's file does not say how it wants its input, so name the preprocessing that it was trained with, and change \
what differs with the options. If the graph fixes the size, that size is used.
  torchvision   shorter side to 256 (antialiased bilinear), centre crop 224,
                x/255, ImageNet mean and deviation, RGB
  keras-caffe   stretched to 224 x 224 (nearest neighbour), BGR, ImageNet mean
                subtracted, as Keras wants it for VGG and ResNet
  tf            shorter side to 256 (antialiased bilinear), centre crop 224,
                x/127.5 - 1, RGB

Examples:
  cnncodes models add ~/Downloads/vgg16.onnx --preprocess torchvision --name vgg16
  cnncodes models add squeezenet.onnx --preprocess keras-caffe --crop --interpolation bilinear
  cnncodes models add net.onnx --preprocess torchvision --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5")]
struct AddArgs {
    /// Network, an ONNX file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Preprocessing that the network was trained with: torchvision, keras-caffe or tf
    #[arg(long, value_name = "PRESET", value_parser = preset)]
    preprocess: Preset,
    /// Name of the model [default: the file's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Copy the network into the models folder instead of referring to its present place
    #[arg(long)]
    copy: bool,
    /// Replace a manifest of the same name
    #[arg(long)]
    force: bool,
    /// Layer to extract by default [default: the penultimate]
    #[arg(long, value_name = "LAYER")]
    layer: Option<String>,
    /// Your own name for a layer, as NAME=LAYER; may be given several times
    #[arg(long = "alias", value_name = "NAME=LAYER", value_parser = alias)]
    aliases: Vec<(String, String)>,
    /// Input size of the network in pixels: SIDE or WIDTHxHEIGHT
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<(u32, u32)>,
    /// Where the channels of the input are, if the network does not say it: nchw (N x 3 x H x W) or nhwc (N x H x W x 3)
    #[arg(long, value_name = "LAYOUT", value_parser = |text: &str| text.parse::<Layout>())]
    layout: Option<Layout>,
    /// Stretch images to the input size
    #[arg(long, conflicts_with_all = ["crop", "shorter_side"])]
    stretch: bool,
    /// Scale the shorter side, then crop the centre
    #[arg(long)]
    crop: bool,
    /// The shorter side before the crop, in pixels
    #[arg(long, value_name = "N")]
    shorter_side: Option<u32>,
    /// Interpolation: nearest, bilinear, bicubic or lanczos
    #[arg(long, value_name = "FILTER", value_parser = |text: &str| text.parse::<Interpolation>())]
    interpolation: Option<Interpolation>,
    /// Order of the channels: rgb or bgr
    #[arg(long, value_name = "ORDER", value_parser = |text: &str| text.parse::<ChannelOrder>())]
    channel_order: Option<ChannelOrder>,
    /// Divisor of the pixel values (0 to 255), before the mean is subtracted
    #[arg(long, value_name = "X")]
    divisor: Option<f64>,
    /// Mean that is subtracted from each channel, in the network's channel order
    #[arg(long, value_name = "A,B,C", value_parser = triple)]
    mean: Option<Triple>,
    /// Deviation by which each channel is divided at the end, in the network's channel order
    #[arg(long, value_name = "A,B,C", value_parser = triple)]
    std: Option<Triple>,
    /// Note for people, such as the network's origin and licence
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Three numbers, one a channel.
#[derive(Debug, Clone, Copy)]
struct Triple([f64; 3]);

pub(super) fn preset(text: &str) -> Result<Preset, String> {
    match text.parse::<Preset>() {
        Ok(Preset::Custom) => {
            Err("start from torchvision, keras-caffe or tf and change it with the options".into())
        }
        Ok(preset) => Ok(preset),
        Err(error) => Err(error.to_string()),
    }
}

fn alias(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, layer)) if !name.is_empty() && !layer.is_empty() => {
            Ok((name.to_owned(), layer.to_owned()))
        }
        _ => Err("an alias is NAME=LAYER".to_owned()),
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let parse =
        |side: &str| side.parse::<u32>().map_err(|_| "a size is SIDE or WIDTHxHEIGHT in pixels".to_owned());
    match text.split_once('x') {
        Some((width, height)) => Ok((parse(width)?, parse(height)?)),
        None => parse(text).map(|side| (side, side)),
    }
}

fn triple(text: &str) -> Result<Triple, String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse::<f64>()).collect();
    match numbers.as_deref() {
        Ok(&[a, b, c]) => Ok(Triple([a, b, c])),
        _ => Err("expected three numbers separated by commas, such as 0.485,0.456,0.406".to_owned()),
    }
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    match &args.command {
        Some(Command::Add(add_args)) => add(add_args, models),
        Some(Command::Pull(pull_args)) => pull::run(pull_args, models),
        None => list(args.format, models),
    }
}

/// One model of the listing.
#[derive(Debug, serde::Serialize)]
struct Entry {
    name: String,
    file: PathBuf,
    architecture: Option<String>,
    sha256: String,
    input: String,
    preprocess: String,
    intact: bool,
    /// Why the model cannot be used.
    problem: Option<String>,
}

fn list(format: Listing, models: &ModelsFolder) -> anyhow::Result<Status> {
    let mut entries = Vec::new();
    let mut unreadable = Vec::new();
    for model in models.manifests()? {
        match model {
            Ok(model) => entries.push(entry(&model)),
            Err(error) => unreadable.push(error),
        }
    }
    let orphans = models.without_manifest()?;
    match format {
        Listing::Json => println!("{}", serde_json::to_string_pretty(&entries)?),
        Listing::Text if entries.is_empty() && orphans.is_empty() && unreadable.is_empty() => {
            // The same words as when another command looks for a model.
            models.find(None)?;
        }
        Listing::Text if !entries.is_empty() => show::table(&table(&entries)),
        Listing::Text => {}
    }
    for orphan in &orphans {
        show::warning(&format!(
            "{} has no manifest; write one with `cnncodes models add {} --preprocess torchvision|keras-caffe|tf`",
            orphan.display(),
            orphan.display()
        ));
    }
    for entry in entries.iter().filter(|entry| !entry.intact) {
        show::warning(entry.problem.as_deref().unwrap_or("not intact"));
    }
    let broken = !unreadable.is_empty() || entries.iter().any(|entry| !entry.intact);
    for error in unreadable {
        show::error(&error.into());
    }
    Ok(if broken { Status::Skipped } else { Status::Done })
}

fn entry(model: &Model) -> Entry {
    let opened = model.open();
    Entry {
        name: model.name.clone(),
        file: model.network_path(),
        architecture: model.manifest.architecture.clone(),
        sha256: model.manifest.sha256.clone(),
        input: format!("{} {}", model.manifest.input.name, layout_name(model.manifest.input.layout)),
        preprocess: model.manifest.preprocess.describe(),
        intact: opened.is_ok(),
        problem: opened.err().map(|error| with_causes(&error)),
    }
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["model", "architecture", "input", "preprocessing", "sha256", "state"]);
    for entry in entries {
        table.add_row([
            entry.name.as_str(),
            entry.architecture.as_deref().unwrap_or("-"),
            entry.input.as_str(),
            entry.preprocess.as_str(),
            entry.sha256.get(..12).unwrap_or(&entry.sha256),
            if entry.intact { "intact" } else { "NOT INTACT" },
        ]);
    }
    table
}

fn add(args: &AddArgs, models: &ModelsFolder) -> anyhow::Result<Status> {
    let graph = open(args)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => match args.file.file_stem().and_then(|stem| stem.to_str()) {
            Some(stem) => stem.to_owned(),
            None => bail!("the name of {} is not UTF-8; give the model one with --name", args.file.display()),
        },
    };
    let manifest_path = models.manifest_path(&name, args.force)?;
    let metadata = ModelMetadata {
        preprocess: preprocess(args, &graph)?,
        layer: args.layer.clone(),
        note: args.note.clone(),
        aliases: args.aliases.iter().cloned().collect(),
        name,
    };
    let mut model = Model::describe(&graph, args.file.clone(), manifest_path, metadata)?;
    model.manifest.file = place(args, &graph, models, &model.name)?;
    write_manifest(&model)?;
    Ok(Status::Done)
}

/// Opens the network, with `--layout` if it does not say itself where its channels are.
fn open(args: &AddArgs) -> anyhow::Result<Graph> {
    let graph = Graph::open_as(&args.file, args.layout)?;
    let known = graph.input().layout;
    if args.layout.is_some_and(|stated| stated != known) {
        bail!(
            "{}: the graph says that its input is {}; leave out --layout",
            args.file.display(),
            layout_name(known)
        );
    }
    Ok(graph)
}

/// The preset with the changes that the options make.
fn preprocess(args: &AddArgs, graph: &Graph) -> anyhow::Result<Preprocess> {
    let stretch = match (args.stretch, args.crop || args.shorter_side.is_some()) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let changes = PreprocessOverrides {
        size: args.size,
        stretch,
        shorter_side: args.shorter_side,
        interpolation: args.interpolation,
        channel_order: args.channel_order,
        divisor: args.divisor,
        mean: args.mean.map(|Triple(mean)| mean),
        std: args.std.map(|Triple(std)| std),
        exif_orientation: None,
        dct_scaling: None,
    };
    Ok(preprocessing_of(args.preprocess, changes, graph)?)
}

/// Puts the network into place and gives its path as the manifest is to have it.
fn place(args: &AddArgs, graph: &Graph, models: &ModelsFolder, name: &str) -> anyhow::Result<PathBuf> {
    let source = args.file.canonicalize().with_context(|| format!("cannot find {}", args.file.display()))?;
    let folder =
        models.path.canonicalize().with_context(|| format!("cannot find {}", models.path.display()))?;
    if source.parent() == Some(&folder) {
        return Ok(source.file_name().map(PathBuf::from).unwrap_or(source));
    }
    if !args.copy {
        return Ok(source);
    }
    let target = PathBuf::from(format!("{name}.onnx"));
    copy(&source, &folder.join(&target), args.force)?;
    let beside = args.file.parent().unwrap_or(Path::new(""));
    for weights in graph.external_files() {
        // The graph finds its weights by their place relative to itself.
        let Ok(relative) = weights.strip_prefix(beside) else {
            bail!(
                "{} keeps weights outside its own folder, in {}; add it without --copy",
                args.file.display(),
                weights.display()
            );
        };
        copy(&weights, &folder.join(relative), args.force)?;
    }
    Ok(target)
}

/// Copies through a temporary sibling, so that a full disk leaves no half network behind.
fn copy(from: &Path, to: &Path, replace: bool) -> anyhow::Result<()> {
    let doing = || format!("cannot copy {} to {}", from.display(), to.display());
    if to.exists() && !replace {
        bail!("{} exists already; give --force to replace it, or another --name", to.display());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(doing)?;
    }
    let partial = to.with_extension("copying");
    let copied = std::fs::copy(from, &partial).and_then(|_| std::fs::rename(&partial, to));
    if copied.is_err() {
        // Nothing to do about a leftover that cannot be removed; the copy's own error matters.
        let _ = std::fs::remove_file(&partial);
    }
    copied.with_context(doing)
}

/// Writes the manifest and says so.
pub(super) fn write_manifest(model: &Model) -> anyhow::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::{alias, size, triple};

    #[test]
    fn sizes_are_a_side_or_width_by_height() {
        assert_eq!(size("224"), Ok((224, 224)));
        assert_eq!(size("320x240"), Ok((320, 240)));
        assert!(size("big").is_err());
        assert!(size("3x").is_err());
    }

    #[test]
    fn three_numbers_make_a_triple() {
        assert_eq!(triple("0.5, 1,-2").map(|triple| triple.0), Ok([0.5, 1.0, -2.0]));
        assert!(triple("1,2").is_err());
        assert!(triple("a,b,c").is_err());
    }

    #[test]
    fn an_alias_needs_both_sides() {
        assert_eq!(alias("top=fc7"), Ok(("top".to_owned(), "fc7".to_owned())));
        assert!(alias("top").is_err());
        assert!(alias("=fc7").is_err());
    }
}
