//! `cnncodes demo`: the main job on something that the program carries.

use std::path::{Path, PathBuf};

use anstyle::Style;
use anyhow::{Context, bail};

use super::{Invocation, Status, invocation};
use crate::demo::{CLASSES, MODEL, UNSEEN, write_folder};

/// Run the whole job on an embedded network and drawn pictures
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes a folder with drawn pictures of four kinds of things and a small network that has never seen any of them, and \
runs the commands there that you would type. The folder stays, so you can try more.

Examples:
  cnncodes demo
  cnncodes demo --dir /tmp/demo --per-class 100")]
pub struct Args {
    /// Folder to create
    #[arg(long, value_name = "DIR", default_value = "cnncodes-demo")]
    dir: PathBuf,
    /// Pictures of each class
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u16).range(5..=2000))]
    per_class: u16,
    /// Random seed of the pictures
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// The network's file in the demo's folder; it marks the folder as ours.
const NETWORK: &str = "models/demo-vgg.onnx";

pub fn run(args: &Args) -> anyhow::Result<Status> {
    let folder = args.dir.as_path();
    prepare(args)?;
    println!(
        "{}: {} drawn pictures ({}), one unseen picture of a {}, and a network of 0.9 MB\n\
         that was trained on other shapes.\n",
        folder.display(),
        usize::from(args.per_class) * CLASSES.len(),
        CLASSES.join(", "),
        UNSEEN.name(),
    );
    anstream::println!("{COMMAND}$ cd {}{COMMAND:#}", folder.display());
    let mut status = Status::Done;
    for arguments in [
        &["models", "add", NETWORK, "--preprocess", "tf", "--stretch", "--force"][..],
        &["extract", "--layer", "fc7"],
        &["fit-head", "--svm"],
        &["classify", "image.jpg"],
    ] {
        status = step(folder, arguments)?;
    }
    println!(
        "\nThe same three commands work on your own photos: data/CLASS/*.jpg, and a network that\n`cnncodes \
         models add FILE.onnx --preprocess torchvision|keras-caffe|tf` puts into models/."
    );
    Ok(status)
}

const COMMAND: Style = Style::new().bold();

/// Draws the pictures and writes the network.
fn prepare(args: &Args) -> anyhow::Result<()> {
    let folder = args.dir.as_path();
    let network = folder.join(NETWORK);
    let occupied = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !network.exists() {
        bail!("{} is not a demo folder and is not empty; choose another folder with --dir", folder.display());
    }
    write_folder(folder, usize::from(args.per_class), args.seed)?;
    let models = folder.join("models");
    std::fs::create_dir_all(&models).with_context(|| format!("cannot make {}", models.display()))?;
    crate::files::write_atomically(&network, MODEL)
        .with_context(|| format!("cannot write {}", network.display()))
}

/// Shows a command and runs it in `folder`, as the user would.
fn step(folder: &Path, arguments: &[&str]) -> anyhow::Result<Status> {
    anstream::println!("\n{COMMAND}$ cnncodes {}{COMMAND:#}", arguments.join(" "));
    let mut program =
        invocation().and_then(Invocation::again).context("cannot find this program's own file")?;
    let ended =
        program.args(arguments).current_dir(folder).status().context("cannot run this program again")?;
    match ended.code() {
        Some(0) => Ok(Status::Done),
        Some(1) => Ok(Status::Skipped),
        _ => bail!("`cnncodes {}` failed", arguments.join(" ")),
    }
}
