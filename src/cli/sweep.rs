//! `cnncodes sweep`: which layer and which head suit the images, measured.

mod args;
mod print;
mod step;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, bail};

pub use self::args::Args;
use self::args::Which;
use self::print::print;
use self::step::Step;
use super::compute::{ComputeArgs, arranged, warn_of_fallback};
use super::report::Fitting;
use super::show::Format;
use super::{Status, fit_head, interrupt, show};
use crate::dataset::{Dataset, Problem};
use crate::evaluate::{Duplicates, Note, Severity};
use crate::extract::{Event, ExtractSettings, Recipe, Request, extract};
use crate::features::FeatureFile;
use crate::head::{NOT_ABOVE_CHANCE, fit_head};
use crate::images::PreprocessOverrides;
use crate::memory::Memory;
use crate::network::{
    Backbone, Catalogue, Device, ExecutionPlan, Graph, Layer, Model, ModelFootprint, ModelsFolder, Pooling,
    SessionSettings,
};
use crate::report::Layers;
use crate::sweep::{
    Candidate, CandidateLayer, CandidateLayers, Network, SPREAD_LAYERS, Stored, SweepResult, Trial, Wanted,
    advise, kind_name, milliseconds, try_heads,
};
use crate::training::{LabelledFeatures, LeftOut, Trained, head_of};

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let report = args.report.file()?;
    let mut samples = args.inputs.open(&args.images)?;
    if samples.class_names.len() < 2 {
        bail!(
            "{} has fewer than two classes; a sweep needs a folder with one folder for each class, or a CSV \
             file with the columns path,label",
            samples.source
        );
    }
    if let Some(note) = args.small_classes.policy().apply_to_samples(&mut samples)? {
        show::warning(&note.text);
    }
    let swept = extract_all(args, models, &samples)?;
    let images = Images::of(args, &swept)?;
    let mut result = compare(args, &swept, &images)?;
    let step = |at: usize| Step::new(models, &swept, &result.candidates[at]);
    let (best, cheapest) = (step(result.advice.best)?, step(result.advice.cheapest)?);
    let mut next = Vec::new();
    let fitting = args.fit.map(|which| match which {
        Which::Best => &best,
        Which::Cheapest => &cheapest,
    });
    let fitted = match fitting {
        Some(step) => Some(step.fit_now(args)?),
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
    if let (Some((step, head)), Format::Text) = (fitting.zip(fitted), args.format) {
        println!();
        fit_head::print(&head, step.kind(), &step.head, false);
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
    ladder: CandidateLayers,
    /// The codes under each pooling, in the order of the file.
    stored: Vec<Stored>,
    file: FeatureFile,
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
fn extract_all(args: &Args, models: &ModelsFolder, samples: &Dataset) -> anyhow::Result<Vec<Swept>> {
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
fn extract_ladder(args: &Args, model: Model, samples: &Dataset, network: usize) -> anyhow::Result<Swept> {
    let start = Instant::now();
    let graph = model.open()?;
    let catalogue = Catalogue::of(&graph, &model.manifest.aliases);
    let preprocess = model.manifest.preprocess.with(&PreprocessOverrides {
        exif_orientation: args.ignore_orientation.then_some(false),
        ..Default::default()
    })?;
    let wanted = match &args.layers[..] {
        [] => Wanted::Spread(SPREAD_LAYERS),
        [all] if all == "all" => Wanted::All,
        names => Wanted::Named(names.to_vec()),
    };
    let ladder =
        CandidateLayers::new(&model.name, &graph, &catalogue, preprocess.size(), &wanted, &args.pool)?;
    // The deepest first: a file's first layer is what other commands take unless they are told.
    let taps: Vec<(&CandidateLayer, Pooling)> = ladder
        .rungs
        .iter()
        .rev()
        .flat_map(|rung| rung.poolings.iter().rev().map(move |&pooling| (rung, pooling)))
        .collect();
    // Codes of one layer under two poolings need two names in the file.
    let named = |&(rung, pooling): &(&CandidateLayer, Pooling)| match pooling {
        Pooling::None => rung.layer.clone(),
        pooling => Layer { name: format!("{}@{pooling}", rung.layer.name), ..rung.layer.clone() },
    };
    let layers: Vec<Layer> = taps.iter().map(named).collect();
    let poolings: Vec<Pooling> = taps.iter().map(|&(_, pooling)| pooling).collect();
    let describe = |(&(rung, pooling), named): (&(&CandidateLayer, Pooling), &Layer)| {
        let shape = rung.activations.pooled_shape(pooling);
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
    let session = SessionSettings { shared_cores: true, ..args.compute.settings() };
    let settings = ExtractSettings {
        batch_size: args.batch_size.images(),
        max_pixels: args.max_pixels,
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
            demand: ModelFootprint::of(&graph, &layers, preprocess.size()),
        },
        output: &output,
        settings: &settings,
    };
    let mut open = |arrangement: &ExecutionPlan, device: Device| {
        let session = arranged(&session, arrangement, device);
        let backbone = Backbone::open_pooled(&graph, &layers, &poolings, preprocess.size(), &session)?;
        warn_of_fallback(&backbone);
        Ok(backbone)
    };
    interrupt::says("finished images are kept, and the same command resumes");
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
    let file = FeatureFile::open(&output)?;
    Ok(Swept { model, ladder, stored, file, problems: summary.problems, seconds })
}

/// Measures how long the network takes up to each layer.
fn time(
    stored: &mut [Stored],
    ladder: &CandidateLayers,
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

/// The images, with the first network's top codes, and what is a copy of what.
struct Images {
    top: LabelledFeatures,
    copies: Duplicates,
    notes: Vec<Note>,
    /// Classes that turned out too small when images could not be read, and when copies were counted once.
    left_out: Vec<LeftOut>,
}

impl Images {
    fn of(args: &Args, swept: &[Swept]) -> anyhow::Result<Images> {
        let first = &swept[0];
        let mut left_out = Vec::new();
        let mut top = LabelledFeatures::read(&first.file, Some(&first.stored[0].name))?;
        // Hashes are of the images, so any network's file will do for those that an earlier version left out.
        for Swept { file, .. } in &swept[1..] {
            if top.without_hash() == 0 {
                break;
            }
            let other = LabelledFeatures::without_codes(file)?;
            if (&other.names, &other.sha256) == (&top.names, &top.sha256) && other.without_hash() == 0 {
                top.hashes = other.hashes;
            }
        }
        let mut sizes = vec![0; top.class_names.len()];
        top.labels.iter().for_each(|&label| sizes[label] += 1);
        if let Some(small) = args.small_classes.policy().left_out(&top.class_names, &sizes)? {
            top = top.keep_classes(&small.keep).0;
            left_out.push(small);
        }
        let (mut copies, mut notes) = top.copies(&args.copies.settings(), usize::from(args.folds))?;
        let all = 0..top.labels.len();
        if let Some(small) = args.small_classes.policy().left_out_of_copies(&top, &copies, all)? {
            let (kept, rows) = top.keep_classes(&small.keep);
            (top, copies) = (kept, copies.select(&rows));
            left_out.push(small);
        }
        notes.extend(top.notes.iter().map(Note::info));
        notes.extend(left_out.iter().map(|small| small.note.clone()));
        Ok(Images { top, copies, notes, left_out })
    }

    /// The codes of a layer for these images.
    fn read(&self, file: &FeatureFile, layer: &str) -> anyhow::Result<LabelledFeatures> {
        let labelled = LabelledFeatures::read(file, Some(layer))?;
        let keep = |labelled: LabelledFeatures, small: &LeftOut| labelled.keep_classes(&small.keep).0;
        Ok(self.left_out.iter().fold(labelled, keep))
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
    let labelled = images.read(file, &stored.name)?;
    let data = labelled.training_data(&images.copies.groups);
    let mut fitted = fit_head(&data, &args.trying().settings(*kind))?;
    fitted.evaluation.duplicates.clone_from(&result.duplicates);
    let out_of_fold = fitted.out_of_fold.clone();
    let mut head = head_of(file, Some(&stored.name), fitted, &labelled)?;
    head.provenance.spec.layer.clone_from(&stored.layer);
    let trained = Trained { head, labelled, copies: images.copies.clone(), out_of_fold };
    let fitting = Fitting { file, trained: &trained, output: None, layers: Some(Layers::from(result)) };
    fitting.write(path, models)
}

/// Cross-validates heads on all codes of all networks, on the same folds, and draws the conclusions.
fn compare(args: &Args, swept: &[Swept], images: &Images) -> anyhow::Result<SweepResult> {
    let trying = args.trying();
    let Images { top, copies, notes, .. } = images;
    let mut notes = notes.clone();
    interrupt::says("the features of all layers are kept, and the same command resumes");
    let bar = show::steps("fitting heads");
    bar.set_length(swept.iter().map(|swept| swept.stored.len() as u64).sum());
    let mut trials: Vec<Trial> = Vec::new();
    for swept in swept {
        // The earliest layer first, as the table has it.
        for stored in swept.stored.iter().rev() {
            let path = swept.file.path();
            let labelled = images.read(&swept.file, &stored.name)?;
            if labelled.names != top.names {
                bail!(
                    "{} holds other images than the first network's file; run the sweep with --force",
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

/// The heads' warnings, each once, with whom it concerns. That a head is not shown to be above chance, the table shows.
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
    told.retain(|(text, _)| !text.starts_with(NOT_ABOVE_CHANCE));
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
