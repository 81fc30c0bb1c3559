//! `cnncodes neighbors`: the nearest images of a features file.

use std::io;
use std::path::PathBuf;

use super::apply;
use super::compute_args::ComputeArgs;
use super::show::AnswerFormat;
use super::{Status, show};
use crate::classifier::HeadNetwork;
use crate::features::FeatureFile;
use crate::images::DEFAULT_MAX_PIXELS;
use crate::messages::printable;
use crate::network::ModelsFolder;
use crate::similarity::{Metric, NearImage, Queries, QueryAnswer};

/// Find the images with the nearest features
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A QUERY is the name of an image in FEATURES, an image file, a folder of images, or another features file of the same \
network, layer and preprocessing. If it is both a name in FEATURES and a file, it counts as the name. An image of \
FEATURES is left out of its own answer.

The search is exact: every row is compared. The file is read once for all queries, and memory does not grow with it. \
Of equally near images the first one in the file comes first.

Examples:
  cnncodes neighbors features/vgg16-fc7.h5 cats/1.jpg       by its name in the file
  cnncodes neighbors features/vgg16-fc7.h5 new.jpg other-photos/ -k 10
  cnncodes neighbors features/train.h5 features/test.h5 -k 1 --format csv > nearest.csv
  cnncodes neighbors features/train.h5 features/train.h5 -k 1     of every image")]
pub struct Args {
    /// Features file to search
    #[arg(value_name = "FEATURES")]
    features: PathBuf,
    /// Names of images in FEATURES, images, folders of images, or features files
    #[arg(value_name = "QUERY", required = true)]
    queries: Vec<PathBuf>,
    /// Number of neighbours for each query
    #[arg(short, long = "count", value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    k: u32,
    /// Distance between features: cosine (1 - cosine of their angle) or euclidean
    #[arg(long, value_name = "METRIC", default_value_t = Metric::Cosine)]
    metric: Metric,
    /// Layer, if the file holds several [default: the first]
    #[arg(short, long, value_name = "LAYER")]
    layer: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: AnswerFormat,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    max_pixels: u64,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let file = FeatureFile::open(&args.features)?;
    let mut queries = Queries::find(&file, args.layer.as_deref(), &args.queries)?;
    extract(&mut queries, args, &file, models)?;
    if queries.is_empty() {
        show::problems(queries.problems(), usize::MAX);
        return Ok(Status::Failed);
    }
    let bar = show::progress_of("comparing", "images");
    bar.set_length(file.rows() as u64);
    let answers = queries.nearest(args.k as usize, args.metric, |rows| bar.set_position(rows as u64));
    bar.finish_and_clear();
    let answers = answers?;
    match args.format {
        AnswerFormat::Text => print_text(&answers),
        AnswerFormat::Json => println!("{}", serde_json::to_string_pretty(&answers)?),
        AnswerFormat::Csv => print_csv(&answers)?,
    }
    show::problems(queries.problems(), usize::MAX);
    Ok(if queries.problems().is_empty() { Status::Done } else { Status::Skipped })
}

/// Computes the features of the images among the queries, if there are any.
fn extract(
    queries: &mut Queries<'_>,
    args: &Args,
    file: &FeatureFile,
    models: &ModelsFolder,
) -> anyhow::Result<()> {
    let Some(images) = queries.images() else { return Ok(()) };
    show::passed_over(&images.passed_over);
    let (spec, holder) = (file.spec(args.layer.as_deref())?, file.path().display().to_string());
    let (network, count) = (HeadNetwork::Models(models.clone()), images.samples.len());
    let mut extractor = apply::open_extractor(spec, &holder, network, &args.compute, args.max_pixels, count)?;
    let bar = show::progress_bar("looking");
    bar.set_length(count as u64);
    queries.extract(&mut extractor, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    Ok(())
}

/// Each query with a line a neighbour: distance, class, name.
fn print_text(answers: &[QueryAnswer<'_>]) {
    let classes = answers.iter().flat_map(|answer| &answer.neighbors).filter_map(|near| near.class);
    let width = classes.map(|class| class.chars().count()).max();
    let largest =
        answers.iter().flat_map(|answer| &answer.neighbors).map(|near| near.distance).fold(0.0, f64::max);
    // Room for the digits before the point.
    let digits = format!("{largest:.4}").len();
    for QueryAnswer { query, neighbors } in answers {
        println!("{}", printable(query));
        for NearImage { image, class, distance, .. } in neighbors {
            let class =
                width.map_or(String::new(), |width| format!("{:width$}  ", printable(class.unwrap_or("-"))));
            println!("  {distance:digits$.4}  {class}{}", printable(image));
        }
    }
}

/// One line a neighbour.
fn print_csv(answers: &[QueryAnswer<'_>]) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(io::stdout());
    out.write_record(["query", "rank", "image", "class", "row", "distance"])?;
    for QueryAnswer { query, neighbors } in answers {
        for (rank, NearImage { image, class, row, distance }) in neighbors.iter().enumerate() {
            let rank = (rank + 1).to_string();
            let class = class.unwrap_or("");
            out.write_record([*query, &rank, *image, class, &row.to_string(), &distance.to_string()])?;
        }
    }
    out.flush()?;
    Ok(())
}
