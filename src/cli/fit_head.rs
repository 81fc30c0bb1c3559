//! `cnncodes fit-head`: a classifier on a file of codes.

mod args;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::bail;

pub use self::args::Args;
use super::choose::{self, Kind};
use super::labelled::Labelled;
use super::report::Fitting;
use super::show::Listing;
use super::small_classes::LeftOut;
use super::splits::{self, Divided};
use super::{Status, interrupt, show};
use crate::backbone::ModelsFolder;
use crate::codes::CodesFile;
use crate::evaluate::{Duplicates, Evaluation, Note, TestSet};
use crate::head::{
    FileRows, FittedHead, Head, HeadError, HeadModel, HeadProvenance, Novelty, StreamedData, fit_head,
    fit_head_streamed,
};
use crate::printable::printable;

/// A head that was fitted and written.
pub(super) struct Written {
    head: Head,
    path: PathBuf,
    kind: &'static str,
    /// What the reader should know beside the evaluation's own notes.
    notes: Vec<String>,
    report: Option<PathBuf>,
}

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let written = fit(args, models)?;
    match args.format {
        Listing::Json => println!("{}", serde_json::to_string_pretty(&written.head.evaluation)?),
        Listing::Text => written.print(args),
    }
    written.notes.iter().for_each(|note| show::warning(note));
    Ok(Status::Done)
}

impl Written {
    /// The evaluation, the copies, and where the head is.
    pub(super) fn print(&self, args: &Args) {
        let Head { evaluation, provenance, model, .. } = &self.head;
        show::report(&evaluation.to_text());
        println!();
        print_duplicates(evaluation, args.list_duplicates);
        println!(
            "{}: {} head of {} on {} features of {} ({})",
            self.path.display(),
            self.kind,
            show::count_of(model.class_names.len(), "class", "classes"),
            model.columns(),
            provenance.spec.layer,
            provenance.spec.model_name,
        );
        if let Some(report) = &self.report {
            println!("{}: report", report.display());
        }
    }
}

/// Fits and writes the head that the arguments ask for.
pub(super) fn fit(args: &Args, models: &ModelsFolder) -> anyhow::Result<Written> {
    let (_, kind_name) = args.kind();
    let features = match &args.features {
        Some(features) => features.clone(),
        None => choose::only(
            Path::new("features"),
            &Kind {
                what: "features file",
                suffix: ".h5",
                remedy: "run `cnncodes extract` first",
                how: ": cnncodes fit-head --svm|--logistic FEATURES",
            },
        )?,
    };
    let report = args.report.file()?;
    let file = CodesFile::open(&features)?;
    let layer = args.layer.as_deref();
    let max_memory = args.max_memory.unwrap_or_default();
    // What cannot be streamed is refused only where the bound was asked for.
    let streamed = in_memory_bytes(&file, layer)? > max_memory.bytes()
        && (args.is_streamable() || args.max_memory.is_some());
    if streamed && args.split.is_some() {
        bail!(
            "--split needs the features in memory, and they take more than {max_memory}; raise --max-memory"
        );
    }
    if let Some(report) = report
        && streamed
    {
        bail!(
            "the report {} needs the features in memory, which take more than {max_memory}; raise \
             --max-memory, or fit without --report",
            report.display()
        );
    }
    let mut read = Labelled::without_codes(&file, &features)?;
    let mut notes = Vec::new();
    if args.split.is_none() {
        read = args.small_classes.apply(read, &mut notes)?;
    }
    if !streamed {
        read.read_codes(&file, layer)?;
    }
    let Parts { labelled, copies, test } = Parts::of(read, args, &mut notes)?;
    let settings = args.settings(&labelled.class_names)?;
    let output = args.output.clone().unwrap_or_else(|| default_output(models, &features, kind_name));
    if let Some(folder) = output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            anyhow::Error::new(error).context(format!("cannot create the folder {}", folder.display()))
        })?;
    }
    let apart: Vec<usize> = (0..labelled.labels.len()).collect();
    let rows = FileRows::new(&file, layer, &labelled.rows)?;
    let fit = |groups: &[usize]| {
        if streamed {
            let data = StreamedData {
                source: &rows,
                labels: &labelled.labels,
                class_names: &labelled.class_names,
                groups,
                row_names: &labelled.names,
                max_memory: max_memory.bytes(),
            };
            return fit_head_streamed(&data, &settings);
        }
        fit_head(&labelled.training_data(groups), &settings)
    };
    let busy = show::busy(format!("fitting: {} folds, then all images", args.folds));
    let mut fitted = fit(&copies.groups)?;
    if !copies.sets.is_empty() {
        if args.leaky_accuracy {
            fitted.evaluation.leaky_accuracy = Some(fit(&apart)?.evaluation.accuracy);
        }
        fitted.evaluation.duplicates = copies.named(&labelled.names);
    }
    fitted.evaluation.notes.extend(notes);
    fitted.evaluation.test = test.map(|test| test.measure(&fitted.model)).transpose()?;
    if streamed {
        fitted.evaluation.notes.push(Note::info(format!(
            "the features were streamed from their file, to stay within {max_memory} of memory \
             (--max-memory)"
        )));
    } else {
        fitted.model.novelty = Novelty::fit(labelled.codes.view(), &copies.groups, args.seed);
    }
    drop(busy);
    let out_of_fold = fitted.out_of_fold.clone();
    let head = head(&file, args.layer.as_deref(), &features, fitted, &labelled)?;
    head.save(&output)?;
    interrupt::says("the head was written");
    if let Some(report) = report {
        let fitting = Fitting {
            file: &file,
            labelled: &labelled,
            copies: &copies,
            head: &head,
            output: Some(&output),
            out_of_fold: &out_of_fold,
            layers: None,
        };
        fitting.write(report, models)?;
    }
    Ok(Written {
        head,
        path: output,
        kind: kind_name,
        notes: labelled.notes,
        report: report.map(Path::to_owned),
    })
}

/// What a fit in memory would take: the codes as they are, the codes as the solver sees them, and a good third of their size
/// for the solver.
fn in_memory_bytes(file: &CodesFile, layer: Option<&str>) -> anyhow::Result<usize> {
    let columns = file.layer(layer)?.width().unwrap_or(1);
    Ok((file.rows() * columns).saturating_mul(4 * 5 / 2))
}

/// What a head is fitted to, and what it is tested on.
struct Parts {
    labelled: Labelled,
    copies: Duplicates,
    test: Option<SetApart>,
}

/// Images for testing, and which of them are copies of training images.
struct SetApart {
    images: Labelled,
    straddles: Vec<bool>,
}

impl Parts {
    /// `notes` is told what the reader of the results should know.
    fn of(mut labelled: Labelled, args: &Args, notes: &mut Vec<Note>) -> anyhow::Result<Parts> {
        let Some(source) = &args.split else {
            labelled.notes.extend(splits::warning_of_classes(&labelled.class_names));
            let (copies, found) = labelled.copies(&args.copies, args.folds)?;
            notes.extend(found);
            let all = 0..labelled.labels.len();
            return Ok(match args.small_classes.left_out_of_copies(&labelled, &copies, all)? {
                None => Parts { labelled, copies, test: None },
                Some(LeftOut { keep, note }) => {
                    notes.push(note);
                    let (labelled, rows) = labelled.keep_classes(&keep);
                    Parts { labelled, copies: copies.select(&rows), test: None }
                }
            });
        };
        let mut divided = splits::divide(labelled, source)?;
        let mut images = vec![0; divided.whole.class_names.len()];
        divided.training.iter().for_each(|&row| images[divided.whole.labels[row]] += 1);
        if let Some(LeftOut { keep, note }) =
            args.small_classes.left_out(&divided.whole.class_names, &images)?
        {
            notes.push(note);
            divided = divided.keep_classes(&keep).0;
        }
        let (mut copies, found) = divided.whole.copies(&args.copies, args.folds)?;
        notes.extend(found);
        let training = divided.training.iter().copied();
        if let Some(LeftOut { keep, note }) =
            args.small_classes.left_out_of_copies(&divided.whole, &copies, training)?
        {
            notes.push(note);
            let (kept, rows) = divided.keep_classes(&keep);
            (divided, copies) = (kept, copies.select(&rows));
        }
        let Divided { whole, training, test } = divided;
        let trained: HashSet<usize> = training.iter().map(|&row| copies.groups[row]).collect();
        let straddles = test.iter().map(|&row| trained.contains(&copies.groups[row])).collect();
        let test = SetApart { images: whole.select(&test), straddles };
        let labelled = Labelled { notes: whole.notes.clone(), ..whole.select(&training) };
        Ok(Parts { labelled, copies: copies.select(&training), test: Some(test) })
    }
}

impl SetApart {
    fn measure(&self, model: &HeadModel) -> Result<TestSet, HeadError> {
        let Labelled { codes, labels, class_names, names, .. } = &self.images;
        Ok(TestSet::new(class_names, names, labels, &model.predict(codes.view())?, &self.straddles))
    }
}

/// `models/FEATURES-KIND.head.h5`.
pub(super) fn default_output(models: &ModelsFolder, features: &Path, kind: &str) -> PathBuf {
    let stem = features.file_stem().unwrap_or_default().to_string_lossy();
    models.path.join(format!("{stem}-{kind}.head.h5"))
}

/// How many images were taken for copies, and which where that was asked.
fn print_duplicates(evaluation: &Evaluation, list: bool) {
    let sets = &evaluation.duplicates;
    if sets.is_empty() {
        if list {
            println!("no duplicates were found\n");
        }
        return;
    }
    let images = sets.iter().map(|set| set.images.len()).sum();
    let hint = if list { ":" } else { "; --list-duplicates lists them" };
    println!(
        "{} are duplicates of one another, in {}, and were kept on one side of each split{hint}",
        show::count(images, "image"),
        show::count(sets.len(), "set"),
    );
    if list {
        println!("likeness  images");
        for set in sets {
            println!("   {:.3}  {}", set.similarity, printable(&set.images.join("  ")));
        }
    }
    println!();
}

/// The fitted head with where its codes come from.
pub(super) fn head(
    file: &CodesFile,
    layer: Option<&str>,
    path: &Path,
    fitted: FittedHead,
    labelled: &Labelled,
) -> anyhow::Result<Head> {
    let provenance = HeadProvenance {
        spec: file.spec(layer)?,
        row_shape: file.layer(layer)?.shape.clone(),
        codes_file: path.display().to_string(),
        codes_rows: file.rows(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(Head::new(fitted, provenance, &labelled.sha256))
}
