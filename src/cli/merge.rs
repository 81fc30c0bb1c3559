//! `cnncodes merge`: one features file of the parts of a plan.

use std::path::PathBuf;

use super::{Status, show};
use crate::plan::{MergeOutput, MergeSettings, Plan};

/// Merge the parts of a plan into one features file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The merged file is the one that a single machine would have written, byte for byte. It appears only when every part has been \
checked: merge refuses if a part is missing or unusable, if a file is part of another plan, if two files claim the same part \
with different contents, and if parts were computed on different devices or versions of ONNX Runtime (--allow-mixed accepts \
that). The parts stay; remove the plan when you no longer need them.

Examples:
  cnncodes merge run1 -o features/photos.h5
  cnncodes merge run1 -o run1/photos.h5 --virtual              no copy: the file refers to the parts
  cnncodes merge run1 -o features/photos --format parquet      a folder of Parquet files, for data engines")]
pub struct Args {
    /// Folder of the plan
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// File to write, or folder for --format parquet
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,
    /// Format: one features file (hdf5), or a folder of Parquet files
    #[arg(long, value_name = "FORMAT", default_value = "hdf5")]
    format: MergeFormat,
    /// Copy no features: write a file that refers to the parts (HDF5 virtual datasets). The parts must stay, in the folder of OUTPUT
    /// or below, so OUTPUT is in PLAN or beside it
    #[arg(long = "virtual", conflicts_with = "format")]
    is_virtual: bool,
    /// Accept parts of different devices or versions of ONNX Runtime, whose features may differ in the last digits
    #[arg(long)]
    allow_mixed: bool,
    /// Replace OUTPUT if it exists
    #[arg(long)]
    force: bool,
}

/// The value of --format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MergeFormat {
    Hdf5,
    Parquet,
}

pub fn run(args: &Args) -> anyhow::Result<Status> {
    let plan = Plan::open(&args.plan)?;
    let settings = MergeSettings {
        output: match args.format {
            MergeFormat::Hdf5 if args.is_virtual => MergeOutput::Virtual,
            MergeFormat::Hdf5 => MergeOutput::File,
            MergeFormat::Parquet => MergeOutput::Parquet,
        },
        allow_mixed: args.allow_mixed,
        overwrite: args.force,
    };
    let bar = show::progress_of("merging", "images");
    let merged = plan.merge(&args.output, settings, &mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    let merged = merged?;
    println!(
        "{}: {} images of {} parts, {} without features",
        merged.path.display(),
        merged.rows,
        merged.parts,
        merged.errors
    );
    Ok(if merged.errors == 0 { Status::Done } else { Status::Skipped })
}
