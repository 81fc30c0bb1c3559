//! `cnncodes evaluate`: how well a head does on images whose classes are known.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use ndarray::{Array2, Axis};

use super::apply;
use super::compute_args::ComputeArgs;
use super::input_args::InputArgs;
use super::report::{Assessed, ReportArgs};
use super::show::Format;
use super::{Status, show};
use crate::dataset::{Problem, Sample};
use crate::evaluate::{Assessment, Judged, Note};
use crate::features::FeatureFile;
use crate::head::{Head, answers};
use crate::images::DEFAULT_MAX_PIXELS;
use crate::network::ModelsFolder;
use crate::report::Photos;

/// Measure a head on images whose classes are known
#[derive(Debug, clap::Args)]
#[command(after_help = "\
IMAGES is a folder with one folder for each class, a CSV file with the columns path,label (- for standard input), \
tar shards or an HDF5 array FILE.h5:/DATASET, all as in `cnncodes extract`. FEATURES is a features file from \
`cnncodes extract`, made with the head's network, layer and preprocessing. Use images that the head was not fitted \
to; training images are recognised by their bytes and reported.

CSV has one line for each image; text and JSON have the figures and the most confident mistakes.

Examples:
  cnncodes evaluate test-photos/                 with the only head in models/
  cnncodes evaluate test.csv --head models/pets.head.h5 --format json
  cnncodes evaluate 'shards/test-*.tar' --classes names.txt
  cnncodes evaluate features/test-fc7.h5 --format csv > answers.csv
  cnncodes evaluate test-photos/ --report report.html")]
pub struct Args {
    /// Images or features with known classes
    #[arg(value_name = "IMAGES|FEATURES", required = true)]
    input: Vec<PathBuf>,
    #[command(flatten)]
    inputs: InputArgs,
    /// The head [default: the only one in the models folder]
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Number of most confident mistakes to list
    #[arg(long, value_name = "N", default_value_t = 10)]
    mistakes: usize,
    /// Coverage of the prediction sets to check
    #[arg(long, value_name = "SHARE", default_value = "0.95", value_parser = super::classify::share)]
    coverage: f64,
    #[command(flatten)]
    report: ReportArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    max_pixels: u64,
}

/// Images of the head's classes, as codes.
struct Labelled {
    names: Vec<String>,
    labels: Vec<usize>,
    sha256: Vec<String>,
    codes: Array2<f32>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
    photos: Photos,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let report = args.report.file()?;
    let (head, head_path) = apply::open_head(args.head.as_deref(), models)?;
    let labelled = match &args.input[..] {
        [codes] if codes.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("h5")) => {
            from_codes(codes, &head, &head_path)?
        }
        _ => from_images(args, &head, &head_path, models)?,
    };
    let model = &head.model;
    let scores = model.scores(labelled.codes.view())?;
    let probabilities = model.calibration.probabilities(scores.view());
    let predicted = answers(probabilities.view(), scores.view());
    let unknown = model.novelty.as_ref().map(|novelty| -> Vec<bool> {
        let distances = novelty.distances(labelled.codes.view());
        distances.into_iter().map(|distance| novelty.is_unknown(distance)).collect()
    });
    let covered = model.conformal.as_ref().map(|conformal| -> Vec<bool> {
        let rows = probabilities.rows().into_iter().zip(&labelled.labels);
        rows.map(|(row, label)| conformal.set(&row.to_vec(), args.coverage).contains(label)).collect()
    });
    let trained_on: Vec<bool> = labelled.sha256.iter().map(|hash| head.was_trained_on(hash)).collect();
    let judged = Judged {
        class_names: &model.class_names,
        names: &labelled.names,
        labels: &labelled.labels,
        probabilities: probabilities.view(),
        predicted: &predicted,
        unknown: unknown.as_deref(),
        covered: covered.as_deref().map(|covered| (args.coverage, covered)),
        trained_on: &trained_on,
    };
    let mut assessment = Assessment::new(&judged, args.mistakes);
    assessment.notes.extend(labelled.notes);
    if head.trained_on.is_empty() {
        assessment.notes.push(Note::info("the head does not record which images it was fitted to"));
    }
    match args.format {
        Format::Text => show::report(&assessment.to_text()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&assessment)?),
        Format::Csv => {
            print_csv(&judged)?;
            assessment.notes.iter().for_each(|note| show::warning(&note.text));
        }
    }
    if let Some(report) = report {
        let inputs: Vec<String> = args.input.iter().map(|path| path.display().to_string()).collect();
        let source = inputs.join(", ");
        let assessed = Assessed {
            head: &head,
            head_path: &head_path,
            judged: &judged,
            assessment: &assessment,
            source: &source,
            codes: labelled.codes.view(),
            photos: &labelled.photos,
        };
        assessed.write(report, models)?;
    }
    show::problems(&labelled.problems, 20);
    Ok(if labelled.problems.is_empty() { Status::Done } else { Status::Skipped })
}

/// Which of the rows with the given labels take part: those of the head's classes. Gives rows and the head's labels.
fn of_the_heads_classes(
    labels: &[Option<usize>],
    class_names: &[String],
    head: &Head,
    input: &str,
) -> anyhow::Result<(Vec<usize>, Vec<usize>, Vec<Note>)> {
    let known = &head.model.class_names;
    let position = |name: &String| known.iter().position(|class| class == name);
    let renumbered: Vec<Option<usize>> = class_names.iter().map(position).collect();
    let (mut rows, mut renamed, mut unlabelled) = (Vec::new(), Vec::new(), 0);
    let mut strangers: BTreeMap<&str, usize> = BTreeMap::new();
    for (row, label) in labels.iter().enumerate() {
        match label.map(|label| (label, renumbered[label])) {
            None => unlabelled += 1,
            Some((label, None)) => *strangers.entry(class_names[label].as_str()).or_default() += 1,
            Some((_, Some(class))) => {
                rows.push(row);
                renamed.push(class);
            }
        }
    }
    ensure!(
        !rows.is_empty(),
        "no image of {} belongs to a class of the head ({}); expected a folder with CLASS/*.jpg or a CSV file with the columns path,label",
        input,
        known.join(", ")
    );
    let mut notes = Vec::new();
    if unlabelled > 0 {
        let unlabelled = show::count(unlabelled, "image");
        notes.push(Note::info(format!("left out {unlabelled} without a label")));
    }
    for (class, count) in strangers {
        let images = show::count(count, "image");
        notes.push(Note::warning(format!("left out {images} of {class:?}: the head has no such class")));
    }
    Ok((rows, renamed, notes))
}

fn from_codes(path: &Path, head: &Head, head_path: &Path) -> anyhow::Result<Labelled> {
    let file = FeatureFile::open(path)?;
    let wanted = &head.provenance.spec;
    apply::check_same(wanted, &apply::head_at(head_path), file.spec(Some(&wanted.layer))?, path)?;
    let labels: Vec<Option<usize>> = file.labels().iter().map(|&label| usize::try_from(label).ok()).collect();
    let (rows, labels, notes) =
        of_the_heads_classes(&labels, file.class_names(), head, &path.display().to_string())?;
    let text = |column: &[String]| rows.iter().map(|&row| column[row].clone()).collect();
    Ok(Labelled {
        names: text(file.image_names()),
        labels,
        sha256: text(file.sha256()),
        codes: file.read_layer(Some(&wanted.layer))?.select(Axis(0), &rows),
        problems: Vec::new(),
        notes,
        photos: Photos::of_codes(&file.header().source, path),
    })
}

fn from_images(
    args: &Args,
    head: &Head,
    head_path: &Path,
    models: &ModelsFolder,
) -> anyhow::Result<Labelled> {
    let set = args.inputs.open(&args.input)?;
    let labels: Vec<Option<usize>> = set.samples.iter().map(|sample| sample.label).collect();
    let (rows, labels, notes) = of_the_heads_classes(&labels, &set.class_names, head, &set.source)?;
    let samples: Vec<Sample<'_>> = rows.iter().map(|&row| set.samples.get(row)).collect();
    let (holder, images) = (apply::head_at(head_path), samples.len());
    let (spec, compute) = (&head.provenance.spec, &args.compute);
    let mut extractor = apply::open_extractor(spec, &holder, models, compute, args.max_pixels, images)?;
    let bar = show::progress_bar("looking");
    bar.set_length(images as u64);
    let batch = extractor.extract_all(samples.iter().copied(), |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let mut problems = set.problems;
    problems.extend(batch.problems);
    if batch.indices.is_empty() {
        show::problems(&problems, 20);
        bail!("none of the images of {} could be read", set.source);
    }
    Ok(Labelled {
        names: batch.indices.iter().map(|&index| samples[index].name.to_owned()).collect(),
        labels: batch.indices.iter().map(|&index| labels[index]).collect(),
        sha256: batch.sha256,
        codes: batch.features,
        problems,
        notes,
        photos: Photos::below(set.samples.root()),
    })
}

/// One line an image.
fn print_csv(judged: &Judged<'_>) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(io::stdout());
    let header = ["image", "class", "predicted", "probability", "probability_of_class"];
    out.write_record(header.into_iter().chain(["right", "unknown", "in_set", "trained_on"]))?;
    let flag = |flags: Option<&[bool]>, row: usize| flags.map_or(String::new(), |f| f[row].to_string());
    for (row, (name, &label)) in judged.names.iter().zip(judged.labels).enumerate() {
        let predicted = judged.predicted[row];
        out.write_record([
            name,
            &judged.class_names[label],
            &judged.class_names[predicted],
            &format!("{:.6}", judged.probabilities[[row, predicted]]),
            &format!("{:.6}", judged.probabilities[[row, label]]),
            &(predicted == label).to_string(),
            &flag(judged.unknown, row),
            &flag(judged.covered.map(|(_, covered)| covered), row),
            &judged.trained_on[row].to_string(),
        ])?;
    }
    out.flush()?;
    Ok(())
}
