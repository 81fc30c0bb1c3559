//! `cnncodes neighbors`: the nearest images of a features file.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use ndarray::{Array2, ArrayView2, Axis, concatenate};

use super::apply;
use super::compute_args::ComputeArgs;
use super::show::AnswerFormat;
use super::{Status, show};
use crate::dataset::{Dataset, InputProblem};
use crate::features::FeatureFile;
use crate::images::DEFAULT_MAX_PIXELS;
use crate::messages::printable;
use crate::network::ModelsFolder;
use crate::similarity::{Metric, Neighbor, NeighborSearch};

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

/// What is looked for, with what could not be.
#[derive(Default)]
struct Queries {
    names: Vec<String>,
    /// The row of the searched file that a query is itself.
    rows: Vec<Option<usize>>,
    features: Vec<Array2<f32>>,
    problems: Vec<InputProblem>,
}

/// The answer to one query.
#[derive(Debug, serde::Serialize)]
struct Answer<'a> {
    query: &'a str,
    neighbors: Vec<Near<'a>>,
}

#[derive(Debug, serde::Serialize)]
struct Near<'a> {
    image: &'a str,
    /// Absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    row: usize,
    distance: f64,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let file = FeatureFile::open(&args.features)?;
    let layer = file.layer(args.layer.as_deref())?.spec.layer.clone();
    let queries = Queries::find(args, &file, &layer, models)?;
    if queries.names.is_empty() {
        show::problems(&queries.problems, usize::MAX);
        return Ok(Status::Failed);
    }
    let views: Vec<ArrayView2<'_, f32>> = queries.features.iter().map(Array2::view).collect();
    let features = concatenate(Axis(0), &views).context("the queries have different numbers of features")?;
    let bar = show::progress_of("comparing", "images");
    bar.set_length(file.rows() as u64);
    let search = NeighborSearch {
        queries: features.view(),
        k: args.k as usize,
        metric: args.metric,
        left_out: &|query, row| queries.rows[query] == Some(row),
    };
    let found = search.run(&file, Some(&layer), |rows| bar.set_position(rows as u64));
    bar.finish_and_clear();
    let near = |neighbor: &Neighbor| Near {
        image: &file.image_names()[neighbor.row],
        class: usize::try_from(file.labels()[neighbor.row])
            .ok()
            .map(|label| file.class_names()[label].as_str()),
        row: neighbor.row,
        distance: neighbor.distance,
    };
    let answers: Vec<Answer<'_>> = queries
        .names
        .iter()
        .zip(found?)
        .map(|(query, neighbors)| Answer { query, neighbors: neighbors.iter().map(near).collect() })
        .collect();
    match args.format {
        AnswerFormat::Text => print_text(&answers),
        AnswerFormat::Json => println!("{}", serde_json::to_string_pretty(&answers)?),
        AnswerFormat::Csv => print_csv(&answers)?,
    }
    show::problems(&queries.problems, usize::MAX);
    Ok(if queries.problems.is_empty() { Status::Done } else { Status::Skipped })
}

impl Queries {
    fn find(args: &Args, file: &FeatureFile, layer: &str, models: &ModelsFolder) -> anyhow::Result<Queries> {
        let mut queries = Queries::default();
        let mut images = Vec::new();
        for query in &args.queries {
            let named = query.to_str().map(|name| name.replace('\\', "/"));
            let row = named.and_then(|name| file.image_names().iter().position(|image| *image == name));
            if let Some(row) = row {
                let mut features = vec![0.0; file.layer(Some(layer))?.width().unwrap_or(0)];
                file.read_rows(Some(layer), row..row + 1, &mut features)?;
                queries.add(file.image_names()[row].clone(), Some(row), features)?;
            } else if query.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("h5")) {
                queries.add_features(query, file, layer)?;
            } else if query.exists() {
                images.push(query.clone());
            } else {
                bail!(
                    "{} is neither a file nor the name of an image in {}, whose names are such as {}",
                    query.display(),
                    file.path().display(),
                    file.image_names().first().map_or("cats/1.jpg", String::as_str)
                );
            }
        }
        if !images.is_empty() {
            queries.add_images(&images, args, file, layer, models)?;
        }
        Ok(queries)
    }

    fn add(&mut self, name: String, row: Option<usize>, features: Vec<f32>) -> anyhow::Result<()> {
        self.names.push(name);
        self.rows.push(row);
        self.features.push(Array2::from_shape_vec((1, features.len()), features)?);
        Ok(())
    }

    /// Every row of another features file; those of the searched file itself are rows of it.
    fn add_features(&mut self, path: &Path, file: &FeatureFile, layer: &str) -> anyhow::Result<()> {
        let other = FeatureFile::open(path)?;
        let holder = file.path().display().to_string();
        file.spec(Some(layer))?.check(&holder, other.spec(Some(layer))?, path)?;
        let same_file = path.canonicalize().ok() == file.path().canonicalize().ok();
        self.names.extend_from_slice(other.image_names());
        self.rows.extend((0..other.rows()).map(|row| same_file.then_some(row)));
        self.features.push(other.read_layer(Some(layer))?);
        Ok(())
    }

    fn add_images(
        &mut self,
        paths: &[PathBuf],
        args: &Args,
        file: &FeatureFile,
        layer: &str,
        models: &ModelsFolder,
    ) -> anyhow::Result<()> {
        let set = Dataset::from_paths(paths, false, None)?;
        show::passed_over(&set.passed_over);
        self.problems.extend(set.problems);
        let (spec, holder) = (file.spec(Some(layer))?.clone(), file.path().display().to_string());
        let (compute, images) = (&args.compute, set.samples.len());
        let network = apply::HeadNetwork::Models(models);
        let mut extractor = apply::open_extractor(&spec, &holder, network, compute, args.max_pixels, images)?;
        let width = file.layer(Some(layer))?.width().unwrap_or(0);
        ensure!(
            extractor.width() == width,
            "the network gives {} features of {layer}, and {holder} holds {width}; extract it again",
            extractor.width()
        );
        let bar = show::progress_bar("looking");
        bar.set_length(images as u64);
        let batch = extractor.extract_all(set.samples.iter(), |done| bar.set_position(done as u64))?;
        self.names.extend(batch.indices.iter().map(|&index| set.samples.get(index).name.to_owned()));
        self.rows.extend(batch.indices.iter().map(|_| None));
        self.problems.extend(batch.problems);
        if !batch.indices.is_empty() {
            self.features.push(batch.features);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// Each query with a line a neighbour: distance, class, name.
fn print_text(answers: &[Answer<'_>]) {
    let classes = answers.iter().flat_map(|answer| &answer.neighbors).filter_map(|near| near.class);
    let width = classes.map(|class| class.chars().count()).max();
    let largest =
        answers.iter().flat_map(|answer| &answer.neighbors).map(|near| near.distance).fold(0.0, f64::max);
    // Room for the digits before the point.
    let digits = format!("{largest:.4}").len();
    for Answer { query, neighbors } in answers {
        println!("{}", printable(query));
        for Near { image, class, distance, .. } in neighbors {
            let class =
                width.map_or(String::new(), |width| format!("{:width$}  ", printable(class.unwrap_or("-"))));
            println!("  {distance:digits$.4}  {class}{}", printable(image));
        }
    }
}

/// One line a neighbour.
fn print_csv(answers: &[Answer<'_>]) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(io::stdout());
    out.write_record(["query", "rank", "image", "class", "row", "distance"])?;
    for Answer { query, neighbors } in answers {
        for (rank, Near { image, class, row, distance }) in neighbors.iter().enumerate() {
            let rank = (rank + 1).to_string();
            let class = class.unwrap_or("");
            out.write_record([*query, &rank, *image, class, &row.to_string(), &distance.to_string()])?;
        }
    }
    out.flush()?;
    Ok(())
}
