//! `cnncodes convert`: features to and from the files of other programs.

use std::path::PathBuf;

use super::{Status, show};
use crate::features::{ColumnNames, ConvertSettings, convert};

/// Convert features to and from the files of other programs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The endings of the names say what the files are: .h5 (the features file of this program), .npz and .npy (NumPy), .parquet \
and .arrow (pandas, polars, DuckDB), .csv, and .safetensors. Names, labels, classes and what is known about the features \
travel along, and every float32 stays as it is. Beside FILE.npy and FILE.csv stands what they cannot hold, in \
FILE.npy.csv, FILE.npy.json and FILE.csv.json.

FROM may come from another program: an array of images x values, a table with a column of vectors or with columns of \
numbers, the folder that thingsvision (features.npy, file_names.txt) or clip-retrieval (img_emb/, metadata/) wrote. A head \
on such features predicts features, not images: `cnncodes classify --features FILE`.

Labels come from --labels, else from a column with a usual name, else from the folders in the names (cats/1.jpg).

Examples:
  cnncodes convert features/vgg16-fc7.h5 vgg16-fc7.parquet
  cnncodes convert features/vgg16.h5 fc6.npz --layer fc6
  cnncodes convert embeddings.parquet features/clip.h5 --name-column file --label-column species
  cnncodes convert thingsvision/ features/things.h5 --labels labels.csv
  cnncodes convert clip-retrieval-output/ features/clip.h5 --label-column category")]
pub struct Args {
    /// Features to read
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// File to write
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Layer, if FROM is a features file that holds several [default: the first]
    #[arg(short, long, value_name = "LAYER")]
    layer: Option<String>,
    /// Column or array with the names of the rows [default: name, path, or another usual name]
    #[arg(long, value_name = "NAME")]
    name_column: Option<String>,
    /// Column or array with the labels [default: label, or another usual name]
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Column of vectors, or array, with the features [default: the only one, or one with a usual name]
    #[arg(long, value_name = "NAME")]
    features_column: Option<String>,
    /// Text file with the name of a row on each line [default: file_names.txt beside a .npy file]
    #[arg(long, value_name = "FILE", conflicts_with = "name_column")]
    names: Option<PathBuf>,
    /// CSV file with the columns path,label, whose paths are the names of the rows
    #[arg(long, value_name = "CSV", conflicts_with = "label_column")]
    labels: Option<PathBuf>,
    /// Write no labels
    #[arg(long, conflicts_with_all = ["labels", "label_column"])]
    no_labels: bool,
    /// Replace TO if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args) -> anyhow::Result<Status> {
    let columns = ColumnNames {
        name: args.name_column.clone(),
        label: args.label_column.clone(),
        features: args.features_column.clone(),
    };
    let settings = ConvertSettings {
        layer: args.layer.clone(),
        columns,
        names: args.names.clone(),
        labels: args.labels.clone(),
        no_labels: args.no_labels,
        overwrite: args.force,
    };
    let bar = show::progress_of("converting", "rows");
    let converted = convert(&args.from, &args.to, &settings, &mut |done, rows| {
        bar.set_length(rows as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let converted = converted?;
    converted.notes.iter().for_each(|note| show::note(note));
    let classes = match converted.classes {
        0 => "no labels".to_owned(),
        classes => {
            let labelled = show::count(converted.labelled, "label");
            format!("{labelled} of {}", show::count_of(classes, "class", "classes"))
        }
    };
    let rows = show::count(converted.rows, "row");
    println!("{}: {rows} of {} features, {classes}", args.to.display(), converted.width);
    let beside: Vec<String> = converted.files[1..].iter().map(|file| file.display().to_string()).collect();
    if !beside.is_empty() {
        println!("{}: what {} cannot hold; keep them together", beside.join(", "), args.to.display());
    }
    Ok(Status::Done)
}
