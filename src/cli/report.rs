//! `--report`: what the commands know about a head, as one HTML file.

mod overlays;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use ndarray::ArrayView2;

use super::show;
use crate::evaluate::{Assessment, CalibrationMetrics, Evidence, Judged, Suspects};
use crate::features::FeatureFile;
use crate::files;
use crate::head::{Head, HeadKind, Novelty};
use crate::network::ModelsFolder;
use crate::report::{CodesMap, Fact, Figures, Layers, LearningCurve, Photos, Report};
use crate::training::Trained;

/// Suspects of each kind that are ranked.
const SUSPECTS: usize = 20;

/// Where the report goes.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Write a report: one HTML file for the browser, with confusions, mistakes and suspects as pictures
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

impl ReportArgs {
    /// The file, where one was asked for; told before the slow work if it cannot be written.
    pub fn file(&self) -> anyhow::Result<Option<&Path>> {
        let Some(file) = self.report.as_deref() else { return Ok(None) };
        let folder = files::folder_of(file);
        ensure!(
            folder.is_dir(),
            "cannot write the report {}: {} is not a folder; create it first",
            file.display(),
            folder.display()
        );
        ensure!(!file.is_dir(), "cannot write the report {}: it is a folder; name a file", file.display());
        Ok(Some(file))
    }
}

/// What `fit-head` knows when it is done.
pub struct Fitting<'a> {
    pub file: &'a FeatureFile,
    pub trained: &'a Trained,
    /// Where the head was written, if it was.
    pub output: Option<&'a Path>,
    /// How other layers and heads do, where they were compared.
    pub layers: Option<Layers>,
}

impl Fitting<'_> {
    /// Writes the report to `path`.
    pub fn write(self, path: &Path, models: &ModelsFolder) -> anyhow::Result<()> {
        let Self { file, trained, output, layers } = self;
        let Trained { head, labelled, copies, out_of_fold, .. } = trained;
        let (probabilities, predicted) = (out_of_fold.probabilities.view(), out_of_fold.answers());
        let seed = head.model.settings.seed;
        let bar = show::steps("report: learning curve");
        let data = labelled.training_data(&copies.groups);
        let learning = LearningCurve::measure(&data, &head.model.settings, out_of_fold, told(&bar));
        bar.set_message("report: map of the features");
        let map = CodesMap::draw(labelled.codes.view(), &labelled.labels, labelled.class_names.len());
        let evidence = Evidence {
            class_names: &labelled.class_names,
            names: &labelled.names,
            labels: &labelled.labels,
            probabilities,
            predicted: &predicted,
            distances: &Novelty::held_out_distances(labelled.codes.view(), &copies.groups, seed),
            copies,
        };
        let calibration = match &head.evaluation.calibration {
            Some(calibration) => calibration.clone(),
            None => CalibrationMetrics::new(probabilities, &predicted, &labelled.labels),
        };
        let mut provenance = provenance(head, output);
        provenance.insert(0, Fact::code("codes", file.path().display().to_string()));
        let mut report = Report {
            title: format!(
                "{} head on {} of {}",
                kind(head),
                head.provenance.spec.layer,
                head.provenance.spec.model_name
            ),
            subtitle: described(labelled.names.len(), &labelled.class_names, &file.header().source),
            class_names: &labelled.class_names,
            names: &labelled.names,
            labels: &labelled.labels,
            probabilities,
            predicted: &predicted,
            photos: Photos::of_codes(&file.header().source, file.path()),
            overlays: None,
            layers,
            figures: Figures::of_evaluation(&head.evaluation, calibration),
            learning,
            suspects: Some(Suspects::rank(&evidence, SUSPECTS)),
            duplicates: &copies.sets,
            map,
            provenance,
        };
        report.overlays = overlays::draw(&report, head, models, &bar)?;
        write(&report, path, &bar)
    }
}

/// What `evaluate` knows when it is done.
pub struct Assessed<'a> {
    pub head: &'a Head,
    pub head_path: &'a Path,
    pub judged: &'a Judged<'a>,
    pub assessment: &'a Assessment,
    /// What the photos or codes were named as.
    pub source: &'a str,
    pub codes: ArrayView2<'a, f32>,
    pub photos: &'a Photos,
}

impl Assessed<'_> {
    /// Writes the report to `path`.
    pub fn write(&self, path: &Path, models: &ModelsFolder) -> anyhow::Result<()> {
        let Self { head, judged, .. } = *self;
        let bar = show::steps("report: map of the features");
        let mut provenance = provenance(head, Some(self.head_path));
        provenance.insert(0, Fact::code("assessed on", self.source));
        let mut report = Report {
            title: format!("{} head on other photos", kind(head)),
            subtitle: described(judged.names.len(), judged.class_names, self.source),
            class_names: judged.class_names,
            names: judged.names,
            labels: judged.labels,
            probabilities: judged.probabilities,
            predicted: judged.predicted,
            photos: self.photos.clone(),
            overlays: None,
            layers: None,
            figures: Figures::from(self.assessment),
            learning: None,
            suspects: None,
            duplicates: &[],
            map: CodesMap::draw(self.codes, judged.labels, judged.class_names.len()),
            provenance,
        };
        report.overlays = overlays::draw(&report, head, models, &bar)?;
        write(&report, path, &bar)
    }
}

fn told(bar: &ProgressBar) -> impl FnMut(usize, usize) {
    |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    }
}

fn write(report: &Report<'_>, path: &Path, bar: &ProgressBar) -> anyhow::Result<()> {
    bar.set_message("report: thumbnails");
    let html = report.html(files::folder_of(path), &jiff::Timestamp::now(), told(bar))?;
    bar.finish_and_clear();
    files::write_atomically(path, html.as_bytes())
        .with_context(|| format!("cannot write the report {}", path.display()))
}

fn kind(head: &Head) -> &'static str {
    match head.model.settings.kind {
        HeadKind::Svm => "SVM",
        HeadKind::Logistic => "Logistic",
        HeadKind::Ridge => "Ridge",
    }
}

/// `808 photos of 4 classes in data`.
fn described(photos: usize, classes: &[String], source: &str) -> String {
    let classes = show::count_of(classes.len(), "class", "classes");
    format!("{} of {classes} in {source}", show::count(photos, "photo"))
}

/// Where the head comes from, and what wrote this.
fn provenance(head: &Head, head_path: Option<&Path>) -> Vec<Fact> {
    let from = &head.provenance.spec;
    let settings = &head.model.settings;
    let command = std::iter::once("cnncodes".into()).chain(std::env::args_os().skip(1));
    let words: Vec<String> =
        command.map(|word: std::ffi::OsString| word.to_string_lossy().into_owned()).collect();
    let mut facts = vec![
        Fact::new("network", &from.model_name),
        Fact::code("SHA-256 of the network", &from.model_sha256),
        Fact::new("layer", format!("{} (tensor {})", from.layer, from.tensor)),
        Fact::new("pooling", from.pooling.to_string()),
        Fact::new("features of a photo", head.model.columns().to_string()),
        Fact::code("preprocessing", serde_json::to_string(&from.preprocess).unwrap_or_default()),
        Fact::code("precision", from.precision.to_string()),
        Fact::new("cross-validation", format!("{} folds, seed {}", settings.folds, settings.seed)),
        Fact::code("command", shell_words::join(words)),
        Fact::new("program", format!("cnncodes {}", env!("CARGO_PKG_VERSION"))),
    ];
    if settings.kind != HeadKind::Ridge {
        facts.insert(0, Fact::new("C", settings.c().to_string()));
    }
    if let Some(path) = head_path {
        facts.insert(0, Fact::code("head", path.display().to_string()));
    }
    facts
}
