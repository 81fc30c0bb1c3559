//! `cnncodes sweep`: which layer and which head suit the images, measured.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, bail};

use super::compute::{BatchSize, ComputeArgs, arranged, warn_of_fallback};
use super::extract::default_output;
use super::inputs::InputArgs;
use super::labelled::{CopyArgs, Labelled};
use super::memory::Memory;
use super::report::{Fitting, ReportArgs};
use super::show::Format;
use super::{Status, fit_head, interrupt, show};
use crate::backbone::{Arrangement, Backbone, Catalogue, Demand, Graph, Layer, Model, ModelsFolder, Pooling};
use crate::codes::{CodesError, CodesFile, CodesWriter, Header, LayerSpec, Row, WriteOptions};
use crate::evaluate::{Duplicates, Note, Severity};
use crate::extract::{Event, ExtractSettings, Recipe, Request, extract};
use crate::head::{HeadKind, Tuning, fit_head};
use crate::images::{DEFAULT_MAX_PIXELS, DecodeOptions, PreprocessOverrides, Problem, SampleSet};
use crate::report::Layers;
use crate::sweep::{
    Candidate, GRID, Ladder, Network, NextStep, POOLINGS, RUNGS, Rung, Stored, SweepResult, Trial, Trying,
    Wanted, advise, kind_name, milliseconds, try_heads,
};

/// Compare layers and heads on labelled images, and advise which to take
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One pass over the images takes the codes of several layers, from an early one to the top. On each, heads of every kind \
are cross-validated, C chosen without the images that they are judged on, copies of an image kept on one side of each \
split. From the table follows which of cs231n's scenarios the images fall into (few or many, like the network's own \
images or not), which layer and head are best, and which cheaper layer is as good. docs/sweep.md says how.

The codes are kept in features/MODEL-sweep.h5: the same sweep once more does not compute them again, and one that was \
interrupted goes on where it was.

Examples:
  cnncodes sweep                                   of data/, with the only model in models/
  cnncodes sweep photos/ --model vgg16 --layers pool3,pool4,pool5,fc6,fc7
  cnncodes sweep --layers all --pool avg
  cnncodes sweep --model resnet50 --model vgg16    which network
  cnncodes sweep --fit                             and fit the best head at once
  cnncodes sweep --report sweep.html               the same as pictures, with the mistakes of the best head
  cnncodes sweep --format csv > sweep.csv")]
pub struct Args {
    /// The images, with their classes: a folder, a CSV file, - for a list on standard input, tar shards, or
    /// FILE.h5:/DATASET, as `extract` takes them
    #[arg(value_name = "IMAGES", default_value = "data")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    inputs: InputArgs,
    /// The model, by its name in models/; several to compare them [default: the only one there]
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    model: Vec<String>,
    /// The layers with commas between them, or `all` that the whole network passes through [default: 6 of these, spread
    /// over the depth, the top among them]
    #[arg(short, long, value_name = "LAYERS", value_delimiter = ',')]
    layers: Vec<String>,
    /// How maps become codes, each of several tried: avg, max, gem, a grid such as 2x2, flatten
    #[arg(long, value_name = "POOLINGS", value_delimiter = ',', default_values_t = POOLINGS)]
    pool: Vec<Pooling>,
    /// The kinds of head to try
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',', default_values_t = [KindChoice::Svm, KindChoice::Logistic, KindChoice::Ridge])]
    heads: Vec<KindChoice>,
    /// Folds of the cross-validation
    #[arg(long, value_name = "N", default_value_t = FOLDS, value_parser = clap::value_parser!(u16).range(2..))]
    folds: u16,
    /// Seed of the folds
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Fit a head at once: the best, or the best of the cheapest layer that is as good
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, default_missing_value = "best", require_equals = true)]
    fit: Option<Which>,
    #[command(flatten)]
    copies: CopyArgs,
    /// Do not measure how long the network takes up to each layer
    #[arg(long)]
    no_timing: bool,
    /// Images a run of the network, or auto: what suits the network, the threads and the memory
    #[arg(long, value_name = "N", default_value_t = BatchSize::Auto)]
    batch_size: BatchSize,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Refuse images of more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    max_pixels: u64,
    /// Take the pixels as they are stored, whatever orientation EXIF says
    #[arg(long)]
    ignore_orientation: bool,
    /// Compute the codes of every image, whatever an earlier or an interrupted sweep has left
    #[arg(long)]
    force: bool,
    /// How to print; CSV is the table alone, one line a layer, pooling and head
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    report: ReportArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KindChoice {
    /// Linear support vector machine
    Svm,
    /// Multinomial logistic regression
    Logistic,
    /// Ridge regression
    Ridge,
}

impl From<KindChoice> for HeadKind {
    fn from(choice: KindChoice) -> Self {
        match choice {
            KindChoice::Svm => Self::Svm,
            KindChoice::Logistic => Self::Logistic,
            KindChoice::Ridge => Self::Ridge,
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Which {
    /// The most accurate
    Best,
    /// The most accurate on the cheapest layer within one standard error of the best
    Cheapest,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let report = args.report.file()?;
    let samples = args.inputs.open(&args.images)?;
    if samples.class_names.len() < 2 {
        bail!(
            "{} has no classes to tell apart; a sweep needs a folder with one folder a class, or a CSV file with the \
             columns path,label",
            samples.source
        );
    }
    let swept = extract_all(args, models, &samples)?;
    let images = Images::of(args, &swept[0])?;
    let mut result = compare(args, &swept, &images)?;
    let step = |at: usize| Step::new(models, &swept, &result.candidates[at]);
    let (best, cheapest) = (step(result.advice.best)?, step(result.advice.cheapest)?);
    let mut next = Vec::new();
    let fitting = args.fit.map(|which| match which {
        Which::Best => &best,
        Which::Cheapest => &cheapest,
    });
    let fitted = match fitting {
        Some(step) => Some(step.fit_now(args, models)?),
        None => None,
    };
    match fitting {
        Some(step) => next.push(step.classify(models)),
        None => {
            next.extend([best.extract(args, models), best.fit(args, models)]);
            if cheapest.codes != best.codes {
                next.extend([cheapest.extract(args, models), cheapest.fit(args, models)]);
            }
        }
    }
    result.next = next;
    print(&result, args.format)?;
    if let (Some((arguments, written)), Format::Text) = (fitted, args.format) {
        println!();
        written.print(&arguments);
    }
    if let Some(report) = report {
        write_report(args, models, &swept, &images, &result, report)?;
        if matches!(args.format, Format::Text) {
            println!("\n{}: report", report.display());
        }
    }
    let problems = &swept[0].problems;
    show::problems(problems, 20);
    Ok(if problems.is_empty() { Status::Done } else { Status::Skipped })
}

/// A network with the codes of its ladder.
struct Swept {
    model: Model,
    ladder: Ladder,
    /// The codes under each pooling, in the order of the file.
    stored: Vec<Stored>,
    file: CodesFile,
    problems: Vec<Problem>,
    seconds: f64,
}

impl Swept {
    fn layer(&self, stored: &Stored) -> &Layer {
        let rung = self.ladder.rungs.iter().find(|rung| rung.layer.tensor == stored.tensor);
        &rung.expect("what is stored is of a rung").layer
    }

    fn summary(&self) -> Network {
        Network {
            name: self.model.name.clone(),
            sha256: self.model.manifest.sha256.clone(),
            multiply_adds: self.ladder.total,
            codes_file: self.file.path().display().to_string(),
            layers: self.ladder.rungs.len(),
            top: self.ladder.top().layer.name.clone(),
            seconds: self.seconds,
        }
    }
}

/// Runs the images through every network that was named.
fn extract_all(args: &Args, models: &ModelsFolder, samples: &SampleSet) -> anyhow::Result<Vec<Swept>> {
    let named: Vec<Option<&str>> = match &args.model[..] {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let mut swept: Vec<Swept> = Vec::with_capacity(named.len());
    for (network, name) in named.into_iter().enumerate() {
        let model = models.find(name)?;
        if swept.iter().any(|other| other.model.name == model.name) {
            bail!("the model {} is named twice; name it once", model.name);
        }
        swept.push(extract_ladder(args, model, samples, network)?);
    }
    Ok(swept)
}

/// One pass over the images, for the codes of all layers under all poolings.
fn extract_ladder(args: &Args, model: Model, samples: &SampleSet, network: usize) -> anyhow::Result<Swept> {
    let start = Instant::now();
    let graph = model.open()?;
    let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
    let preprocess = model.manifest.preprocess.with(&PreprocessOverrides {
        exif_orientation: args.ignore_orientation.then_some(false),
        ..Default::default()
    })?;
    let wanted = match &args.layers[..] {
        [] => Wanted::Spread(RUNGS),
        [all] if all == "all" => Wanted::All,
        names => Wanted::Named(names.to_vec()),
    };
    let ladder = Ladder::new(&model.name, &graph, &catalogue, preprocess.size(), &wanted, &args.pool)?;
    // The deepest first: a file's first layer is what other commands take unless they are told.
    let taps: Vec<(&Rung, Pooling)> = ladder
        .rungs
        .iter()
        .rev()
        .flat_map(|rung| rung.poolings.iter().rev().map(move |&pooling| (rung, pooling)))
        .collect();
    // Codes of one layer under two poolings need two names in the file.
    let named = |&(rung, pooling): &(&Rung, Pooling)| match pooling {
        Pooling::None => rung.layer.clone(),
        pooling => Layer { name: format!("{}@{pooling}", rung.layer.name), ..rung.layer.clone() },
    };
    let layers: Vec<Layer> = taps.iter().map(named).collect();
    let poolings: Vec<Pooling> = taps.iter().map(|&(_, pooling)| pooling).collect();
    let describe = |(&(rung, pooling), named): (&(&Rung, Pooling), &Layer)| {
        let shape = pooling.shape(&rung.shape);
        Stored {
            network,
            layer: rung.layer.name.clone(),
            tensor: rung.layer.tensor.clone(),
            pooling: pooling.to_string(),
            name: named.name.clone(),
            codes: shape.iter().product(),
            shape,
            multiply_adds: rung.multiply_adds,
            share: rung.multiply_adds as f64 / ladder.total.max(1) as f64,
            milliseconds: None,
            top: rung.top,
        }
    };
    let mut stored: Vec<Stored> = taps.iter().zip(&layers).map(describe).collect();
    let output = Path::new("features").join(format!("{}-sweep.h5", model.name));
    let session = args.compute.settings();
    let settings = ExtractSettings {
        batch_size: args.batch_size.images(),
        decode: DecodeOptions {
            apply_orientation: preprocess.exif_orientation(),
            max_pixels: args.max_pixels,
        },
        threads: args.compute.threads(),
        memory: Memory::default().bytes() as u64,
        strict: false,
        force: args.force,
        rehash: false,
    };
    let request = Request {
        samples,
        recipe: Recipe {
            model_name: &model.name,
            model_sha256: &model.manifest.sha256,
            layers: &layers,
            poolings: &poolings,
            preprocess: &preprocess,
            layout: graph.input().layout,
            session: &session,
            demand: Demand::of(&graph, &layers, preprocess.size()),
        },
        output: &output,
        settings: &settings,
    };
    let mut open = |arrangement: &Arrangement| {
        let session = arranged(&session, arrangement);
        let backbone = Backbone::open_pooled(&graph, &layers, &poolings, preprocess.size(), &session)?;
        warn_of_fallback(&backbone);
        Ok(backbone)
    };
    interrupt::says("the images that are done are kept, and the same command goes on from there");
    let bar = show::progress_bar("extracting");
    let mut told = Vec::new();
    // Ctrl-C ends the process here.
    let extracted = extract(&request, &mut open, &AtomicBool::new(false), &mut |event| match event {
        Event::Progress(progress) => {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        }
        Event::Note(note) => told.push(note.to_owned()),
        Event::Planned(_) | Event::Arranged(_) | Event::Problem(_) => {}
    });
    bar.finish_and_clear();
    told.iter().for_each(|note| show::warning(note));
    let summary = extracted?;
    let seconds = start.elapsed().as_secs_f64();
    if !args.no_timing {
        time(&mut stored, &ladder, &graph, preprocess.size(), &args.compute)?;
    }
    let file = CodesFile::open(&output)?;
    Ok(Swept { model, ladder, stored, file, problems: summary.problems, seconds })
}

/// Measures how long the network takes up to each layer.
fn time(
    stored: &mut [Stored],
    ladder: &Ladder,
    graph: &Graph,
    size: (u32, u32),
    compute: &ComputeArgs,
) -> anyhow::Result<()> {
    let bar = show::steps("timing");
    bar.set_length(ladder.rungs.len() as u64);
    for rung in &ladder.rungs {
        let measured = milliseconds(graph, &rung.layer, size, &compute.settings())?;
        stored
            .iter_mut()
            .filter(|stored| stored.tensor == rung.layer.tensor)
            .for_each(|stored| stored.milliseconds = Some(measured));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// The images, with the first network's top codes, which tell what is a copy of what.
struct Images {
    top: Labelled,
    copies: Duplicates,
    notes: Vec<Note>,
}

impl Images {
    fn of(args: &Args, first: &Swept) -> anyhow::Result<Images> {
        let top = Labelled::read(&first.file, Some(&first.stored[0].name), first.file.path())?;
        let (copies, mut notes) = top.copies(&args.copies, usize::from(args.folds))?;
        notes.extend(top.notes.iter().map(Note::info));
        Ok(Images { top, copies, notes })
    }
}

impl Args {
    /// The heads to try.
    fn trying(&self) -> Trying {
        Trying {
            kinds: self.heads.iter().map(|&kind| kind.into()).collect(),
            tuning: Tuning::new(GRID.to_vec()),
            folds: usize::from(self.folds),
            seed: self.seed,
        }
    }
}

/// Writes a report of the comparison, and of the best head, which is fitted once more for it.
fn write_report(
    args: &Args,
    models: &ModelsFolder,
    swept: &[Swept],
    images: &Images,
    result: &SweepResult,
    path: &Path,
) -> anyhow::Result<()> {
    let Candidate { stored, kind, .. } = &result.candidates[result.advice.best];
    let file = &swept[stored.network].file;
    let labelled = Labelled::read(file, Some(&stored.name), file.path())?;
    let data = labelled.training_data(&images.copies.groups);
    let mut fitted = fit_head(&data, &args.trying().settings(*kind))?;
    fitted.evaluation.duplicates.clone_from(&result.duplicates);
    let out_of_fold = fitted.out_of_fold.clone();
    let mut head = fit_head::head(file, Some(&stored.name), file.path(), fitted, &labelled)?;
    head.provenance.layer.clone_from(&stored.layer);
    let fitting = Fitting {
        file,
        labelled: &labelled,
        copies: &images.copies,
        head: &head,
        output: None,
        out_of_fold: &out_of_fold,
        layers: Some(Layers::from(result)),
    };
    fitting.write(path, models)
}

/// Cross-validates heads on all codes of all networks, on the same folds, and draws the conclusions.
fn compare(args: &Args, swept: &[Swept], images: &Images) -> anyhow::Result<SweepResult> {
    let trying = args.trying();
    let Images { top, copies, notes } = images;
    let mut notes = notes.clone();
    interrupt::says("the codes of all layers are kept, and the same command goes on from there");
    let bar = show::steps("fitting heads");
    bar.set_length(swept.iter().map(|swept| swept.stored.len() as u64).sum());
    let mut trials: Vec<Trial> = Vec::new();
    for swept in swept {
        // The earliest layer first, as the table has it.
        for stored in swept.stored.iter().rev() {
            let path = swept.file.path();
            let labelled = Labelled::read(&swept.file, Some(&stored.name), path)?;
            if labelled.names != top.names {
                bail!(
                    "{} holds other images than the first network's file; sweep with --force",
                    path.display()
                );
            }
            let data = labelled.training_data(&copies.groups);
            let tried = try_heads(&data, stored, &trying).with_context(|| {
                format!("no head could be fitted to {} of {}", stored.name, swept.model.name)
            })?;
            trials.extend(tried);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    notes.extend(warnings(&trials));
    let mut class_sizes = vec![0; top.class_names.len()];
    top.labels.iter().for_each(|&label| class_sizes[label] += 1);
    let rows = top.labels.len();
    let groups = copies.groups.iter().max().map_or(0, |&last| last + 1);
    let chance = class_sizes.iter().max().map_or(0.0, |&largest| largest as f64 / rows as f64);
    Ok(SweepResult {
        source: swept[0].file.header().source.clone(),
        advice: advise(&trials, groups, class_sizes.len(), chance),
        rows,
        groups,
        folds: trials[0].candidate.fold_accuracies.len(),
        seed: args.seed,
        chance,
        networks: swept.iter().map(Swept::summary).collect(),
        candidates: trials.into_iter().map(|trial| trial.candidate).collect(),
        next: Vec::new(),
        duplicates: copies.named(&top.names),
        class_names: top.class_names.clone(),
        class_sizes,
        notes,
    })
}

/// The heads' warnings, each once, with whom it concerns. That a head is not above chance, the table shows.
fn warnings(trials: &[Trial]) -> Vec<Note> {
    let mut told: Vec<(&str, Vec<&Candidate>)> = Vec::new();
    for trial in trials {
        for note in trial.notes.iter().filter(|note| note.severity == Severity::Warning) {
            match told.iter_mut().find(|(text, _)| *text == note.text) {
                Some((_, concerned)) => concerned.push(&trial.candidate),
                None => told.push((&note.text, vec![&trial.candidate])),
            }
        }
    }
    told.retain(|(text, _)| !text.starts_with("the accuracy is not above chance"));
    let note = |(text, concerned): (&str, Vec<&Candidate>)| {
        if concerned.len() == trials.len() {
            return Note::warning(text);
        }
        let (name, kind) = (&concerned[0].stored.name, kind_name(concerned[0].kind));
        let others = match concerned.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        Note::warning(format!("{name} with {kind}{others}: {text}"))
    };
    told.into_iter().map(note).collect()
}

/// The way from a candidate to a head: its codes in a file of their own, and the head fitted to them.
struct Step<'a> {
    swept: &'a Swept,
    candidate: &'a Candidate,
    /// `features/MODEL-LAYER-POOLING.h5`.
    codes: PathBuf,
    head: PathBuf,
}

impl<'a> Step<'a> {
    fn new(models: &ModelsFolder, swept: &'a [Swept], candidate: &'a Candidate) -> anyhow::Result<Step<'a>> {
        let stored = &candidate.stored;
        let swept = &swept[stored.network];
        let codes = default_output(&swept.model, &[swept.layer(stored).clone()], stored.pooling.parse()?);
        let head = fit_head::default_output(models, &codes, kind_name(candidate.kind));
        Ok(Step { swept, candidate, codes, head })
    }

    /// `cnncodes extract …`.
    fn extract(&self, args: &Args, models: &ModelsFolder) -> NextStep {
        let stored = &self.candidate.stored;
        let mut arguments = vec!["extract".to_owned()];
        arguments.extend(args.images.iter().map(|images| images.display().to_string()));
        arguments.extend(args.inputs.arguments());
        arguments.extend(["--model", &self.swept.model.name, "--layer", &stored.layer].map(str::to_owned));
        if stored.pooling != Pooling::None.to_string() {
            arguments.extend(["--pool".to_owned(), stored.pooling.clone()]);
        }
        if args.ignore_orientation {
            arguments.push("--ignore-orientation".to_owned());
        }
        arguments.extend(models_folder(models));
        NextStep { what: format!("the codes of {} alone", stored.layer), arguments }
    }

    /// `cnncodes fit-head …`.
    fn fit(&self, args: &Args, models: &ModelsFolder) -> NextStep {
        let mut arguments = vec!["fit-head".to_owned()];
        arguments.extend(self.fit_arguments(args));
        arguments.extend(models_folder(models));
        let chosen = match self.candidate.c {
            Some(c) => format!(" (C is chosen as here, where it was {c})"),
            None => String::new(),
        };
        NextStep { what: format!("the head{chosen}"), arguments }
    }

    fn fit_arguments(&self, args: &Args) -> Vec<String> {
        let kind = self.candidate.kind;
        let mut arguments = vec![format!("--{}", kind_name(kind))];
        if kind != HeadKind::Ridge {
            arguments.extend(["--c".to_owned(), GRID.map(|c| c.to_string()).join(",")]);
        }
        arguments.push(self.codes.display().to_string());
        if args.folds != FOLDS {
            arguments.extend(["--folds".to_owned(), args.folds.to_string()]);
        }
        if args.seed != 0 {
            arguments.extend(["--seed".to_owned(), args.seed.to_string()]);
        }
        if let Some(threshold) = args.copies.duplicate_threshold {
            arguments.extend(["--duplicate-threshold".to_owned(), threshold.to_string()]);
        }
        if let Some(groups) = &args.copies.groups {
            arguments.extend(["--groups".to_owned(), groups.display().to_string()]);
        }
        arguments
    }

    /// Does both: writes the codes, taken from the sweep's file, and fits the head to them.
    fn fit_now(
        &self,
        args: &Args,
        models: &ModelsFolder,
    ) -> anyhow::Result<(fit_head::Args, fit_head::Written)> {
        let stored = &self.candidate.stored;
        let layer = LayerSpec {
            name: stored.layer.clone(),
            tensor: stored.tensor.clone(),
            shape: stored.shape.clone(),
            pooling: stored.pooling.clone(),
        };
        copy_layer(&self.swept.file, &stored.name, layer, &self.codes)?;
        let arguments = fit_head::Args::parse(&self.fit_arguments(args))
            .context("the arguments of fit-head do not hold together")?;
        let written = fit_head::fit(&arguments, models)?;
        Ok((arguments, written))
    }

    /// `cnncodes classify …`.
    fn classify(&self, models: &ModelsFolder) -> NextStep {
        let mut arguments = ["classify", "image.jpg", "--head"].map(str::to_owned).to_vec();
        arguments.push(self.head.display().to_string());
        arguments.extend(models_folder(models));
        NextStep { what: "what is in a picture".to_owned(), arguments }
    }
}

/// Writes the codes `name` of `file` to a file of their own, as those of `layer`.
fn copy_layer(file: &CodesFile, name: &str, layer: LayerSpec, output: &Path) -> Result<(), CodesError> {
    let header = Header { layers: vec![layer], ..file.header().clone() };
    let options = WriteOptions { overwrite: true, expected_rows: file.rows() };
    let mut writer = CodesWriter::create(output, &header, options)?;
    let codes = file.read_layer(Some(name))?;
    let rows: Vec<[&[f32]; 1]> = codes
        .rows()
        .into_iter()
        .map(|row| [row.to_slice().expect("codes are read in standard layout")])
        .collect();
    let rows: Vec<Row<'_>> = rows
        .iter()
        .enumerate()
        .map(|(at, codes)| Row {
            name: &file.image_names()[at],
            label: file.labels()[at],
            sha256: &file.sha256()[at],
            codes,
        })
        .collect();
    writer.append(&rows, file.errors())?;
    writer.finish()
}

/// Folds unless others are asked for; what `fit-head` takes as well.
const FOLDS: u16 = 5;

/// `--models DIR`, where it is not the usual one.
fn models_folder(models: &ModelsFolder) -> Vec<String> {
    if models.path == Path::new("models") {
        return Vec::new();
    }
    vec!["--models".to_owned(), models.path.display().to_string()]
}

fn print(result: &SweepResult, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Text => show::report(&result.to_text()),
        Format::Json => println!("{}", serde_json::to_string_pretty(result)?),
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(std::io::stdout());
            writer.write_record([
                "model",
                "layer",
                "pooling",
                "codes",
                "multiply_adds",
                "share",
                "milliseconds",
                "head",
                "c",
                "right",
                "images",
                "accuracy",
                "low",
                "high",
                "log_loss",
                "best",
                "cheapest",
            ])?;
            for (at, Candidate { stored, kind, c, accuracy, log_loss, .. }) in
                result.candidates.iter().enumerate()
            {
                let optional =
                    |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
                writer.write_record([
                    &result.networks[stored.network].name,
                    &stored.layer,
                    &stored.pooling,
                    &stored.codes.to_string(),
                    &stored.multiply_adds.to_string(),
                    &stored.share.to_string(),
                    &optional(stored.milliseconds),
                    kind_name(*kind),
                    &optional(*c),
                    &accuracy.successes.to_string(),
                    &accuracy.trials.to_string(),
                    &accuracy.value.to_string(),
                    &accuracy.low.to_string(),
                    &accuracy.high.to_string(),
                    &log_loss.to_string(),
                    &(at == result.advice.best).to_string(),
                    &(at == result.advice.cheapest).to_string(),
                ])?;
            }
            writer.flush()?;
        }
    }
    Ok(())
}
