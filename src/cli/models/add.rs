//! `cnncodes models add`: the manifest of a network, and which preprocessing stands in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::super::{Status, show};
use super::{check, preset, write_manifest};
use crate::images::{ChannelOrder, Interpolation, Preprocess, PreprocessOverrides, Preset, TensorLayout};
use crate::network::manifest::layout_name;
use crate::network::network_folder::network_at;
use crate::network::register::{
    ConfiguredPreprocessing, normalised_twice, preprocessing_beside, preprocessing_of,
};
use crate::network::{Graph, Model, ModelMetadata, ModelsFolder};
use crate::preprocess_check::{CheckVerdict, StartingRecipe};

/// Write the manifest of a network, so that it can be used
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A network's file does not say how it wants its input, so name the preprocessing that it was trained with, and change \
what differs with the options. If the graph fixes the size, that size is used.
  auto          what preprocessor_config.json (Hugging Face) or config.json
                (timm) say, beside the network or in the folder above; without
                such a file what the network is surest with on --images
  torchvision   shorter side to 256 (antialiased bilinear), centre crop 224,
                x/255, ImageNet mean and deviation, RGB
  keras-caffe   stretched to 224 x 224 (nearest neighbour), BGR, ImageNet mean
                subtracted, as Keras wants it for VGG and ResNet
  tf            shorter side to 256 (antialiased bilinear), centre crop 224,
                x/127.5 - 1, RGB

Examples:
  cnncodes models add dinov2-small/ --preprocess auto
  cnncodes models add net.onnx --preprocess auto --images data/
  cnncodes models add ~/Downloads/vgg16.onnx --preprocess torchvision --name vgg16
  cnncodes models add squeezenet.onnx --preprocess keras-caffe --crop --interpolation bilinear
  cnncodes models add net.onnx --preprocess torchvision --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5")]
pub struct Args {
    /// Network: an ONNX file, or a folder that holds one, in it or in its folder onnx
    #[arg(value_name = "FILE|DIR")]
    file: PathBuf,
    /// Preprocessing that the network was trained with: auto, torchvision, keras-caffe or tf
    #[arg(long, value_name = "PRESET", value_parser = choice)]
    preprocess: PreprocessChoice,
    /// Images to try preprocessings on, if --preprocess auto finds no file that says it
    #[arg(long, value_name = "PATH")]
    images: Option<PathBuf>,
    /// Name of the model [default: the name of the file or the folder]
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
    #[arg(long, value_name = "LAYOUT", value_parser = |text: &str| text.parse::<TensorLayout>())]
    layout: Option<TensorLayout>,
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
    /// What the channels hold: rgb, bgr, or grey in all of them [default: grey for a network of one channel]
    #[arg(long, value_name = "ORDER", value_parser = |text: &str| text.parse::<ChannelOrder>())]
    channel_order: Option<ChannelOrder>,
    /// Divisor of the pixel values (0 to 255), before the mean is subtracted
    #[arg(long, value_name = "X")]
    divisor: Option<f64>,
    /// Mean that is subtracted from each channel, in the network's channel order; one number stands for all
    #[arg(long, value_name = "A[,B,C]", value_parser = triple)]
    mean: Option<ChannelTriple>,
    /// Deviation by which each channel is divided at the end, in the network's channel order; one number stands for all
    #[arg(long, value_name = "A[,B,C]", value_parser = triple)]
    std: Option<ChannelTriple>,
    /// Note for people, such as the network's origin and licence
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Three numbers, one a channel; one number stands for all three.
#[derive(Debug, Clone, Copy)]
struct ChannelTriple([f64; 3]);

/// Where the preprocessing comes from.
#[derive(Debug, Clone, Copy)]
enum PreprocessChoice {
    /// A file beside the network, or what the network is surest with.
    Auto,
    Preset(Preset),
}

fn choice(text: &str) -> Result<PreprocessChoice, String> {
    match text {
        "auto" => Ok(PreprocessChoice::Auto),
        _ => preset(text).map(PreprocessChoice::Preset),
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

fn triple(text: &str) -> Result<ChannelTriple, String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse::<f64>()).collect();
    match numbers.as_deref() {
        Ok(&[a, b, c]) => Ok(ChannelTriple([a, b, c])),
        Ok(&[all]) => Ok(ChannelTriple([all; 3])),
        _ => Err("expected one number, or three separated by commas, such as 0.485,0.456,0.406".to_owned()),
    }
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let file = network_at(&args.file)?;
    if file != args.file {
        println!("network: {}", file.display());
    }
    let graph = open(args, &file)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.file)?,
    };
    let manifest_path = models.manifest_path(&name, args.force)?;
    let metadata = ModelMetadata {
        preprocess: preprocess(args, &graph)?,
        layer: args.layer.clone(),
        note: args.note.clone(),
        aliases: args.aliases.iter().cloned().collect(),
        name,
    };
    let mut model = Model::describe(&graph, file.clone(), manifest_path, metadata)?;
    model.manifest.file = place(args, &file, &graph, models, &model.name)?;
    write_manifest(&model)?;
    if let Some(error) = graph.training_mode() {
        show::warning(&format!("layers above it are refused: {error}"));
    }
    Ok(Status::Done)
}

/// The name of a file without its extension, or of a folder.
fn name_of(path: &Path) -> anyhow::Result<String> {
    // A folder may be called ".".
    let whole = if path.is_dir() { path.canonicalize().ok() } else { None };
    let path = whole.as_deref().unwrap_or(path);
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    match name.and_then(|name| name.to_str()) {
        Some(name) => Ok(name.to_owned()),
        None => bail!("{} has no name in UTF-8; give the model one with --name", path.display()),
    }
}

/// Opens the network, with `--layout` if it does not say itself where its channels are.
fn open(args: &Args, file: &Path) -> anyhow::Result<Graph> {
    let graph = Graph::open_as(file, args.layout)?;
    let known = graph.input().layout;
    if args.layout.is_some_and(|stated| stated != known) {
        bail!(
            "{}: the graph says that its input is {}; leave out --layout",
            file.display(),
            layout_name(known)
        );
    }
    Ok(graph)
}

/// The preprocessing that was asked for, with the changes that the options make.
fn preprocess(args: &Args, graph: &Graph) -> anyhow::Result<Preprocess> {
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
        mean: args.mean.map(|ChannelTriple(mean)| mean),
        std: args.std.map(|ChannelTriple(std)| std),
        ..PreprocessOverrides::default()
    };
    match args.preprocess {
        PreprocessChoice::Auto => found(args, changes, graph),
        PreprocessChoice::Preset(_) if args.images.is_some() => bail!(
            "--images goes with --preprocess auto; whether a preset fits, `cnncodes models check NAME --images PATH` says"
        ),
        PreprocessChoice::Preset(preset) => {
            let preprocess = preprocessing_of(preset, changes, graph)?;
            if let Some(text) = normalised_twice(&preprocess, graph) {
                show::warning(&text);
            }
            Ok(preprocess)
        }
    }
}

/// Says which preprocessing was found, and where.
pub(in crate::cli) fn report_found(found: &ConfiguredPreprocessing, file: &Path) {
    println!("preprocessing: {}, from {}", found.config.origin, file.display());
    if let Some(inside) = &found.inside {
        println!("the graph itself computes {}, so that is not done before it", inside.describe());
    }
    if let Some(note) = &found.config.note {
        show::warning(note);
    }
}

/// `--preprocess auto`: says what it finds, and where.
fn found(args: &Args, changes: PreprocessOverrides, graph: &Graph) -> anyhow::Result<Preprocess> {
    if let Some(found) = preprocessing_beside(&changes, graph)? {
        report_found(&found, &found.config.path);
        return Ok(found.preprocess);
    }
    let Some(images) = &args.images else {
        bail!(
            "no preprocessor_config.json of Hugging Face and no config.json of timm lies beside {} or in the folder above; \
             name the preprocessing with --preprocess torchvision, keras-caffe or tf, or let the network's confidence \
             choose it with --images data/",
            graph.path().display()
        );
    };
    let start = preprocessing_of(Preset::Torchvision, changes.clone(), graph)?;
    let checked = check::check(graph, StartingRecipe::Unchosen(&start), images, &check::Sampling::default())?;
    match (&checked.verdict, checked.ranking.first()) {
        (CheckVerdict::Surest { .. }, Some(first)) => {
            println!("{}", checked.summary("preprocessing"));
            // What the user says goes before what the network is surest with.
            Ok(first.preprocess.with(&changes)?)
        }
        _ => bail!(
            "{}; name the preprocessing with --preprocess torchvision, keras-caffe or tf",
            checked.summary(&graph.path().display().to_string())
        ),
    }
}

/// Puts the network into place and gives its path as the manifest is to have it.
fn place(
    args: &Args,
    file: &Path,
    graph: &Graph,
    models: &ModelsFolder,
    name: &str,
) -> anyhow::Result<PathBuf> {
    let source = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
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
    let beside = file.parent().unwrap_or(Path::new(""));
    for weights in graph.external_files() {
        // The graph finds its weights by their place relative to itself.
        let Ok(relative) = weights.strip_prefix(beside) else {
            bail!(
                "{} keeps weights outside its own folder, in {}; add it without --copy",
                file.display(),
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
    fn one_number_or_three_make_a_triple() {
        assert_eq!(triple("0.5, 1,-2").map(|triple| triple.0), Ok([0.5, 1.0, -2.0]));
        assert_eq!(triple("0.5").map(|triple| triple.0), Ok([0.5; 3]));
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
