//! What a sweep advises to do next: as commands, and done at once.

use std::path::{Path, PathBuf};

use super::Swept;
use super::args::{Args, FOLDS};
use crate::cli::extract::default_output;
use crate::cli::fit_head;
use crate::features::{FeatureFile, FeatureFileError, FeatureWriter, Header, LayerSpec, Row, WriteOptions};
use crate::head::{Head, HeadKind};
use crate::network::ModelsFolder;
use crate::sweep::{Candidate, GRID, NextStep, kind_name};
use crate::training::TrainingSettings;

/// The way from a candidate to a head: its codes in a file of their own, and the head fitted to them.
pub(super) struct Step<'a> {
    swept: &'a Swept,
    candidate: &'a Candidate,
    /// `features/MODEL-LAYER-POOLING.h5`.
    pub(super) codes: PathBuf,
    pub(super) head: PathBuf,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        models: &ModelsFolder,
        swept: &'a [Swept],
        candidate: &'a Candidate,
    ) -> anyhow::Result<Step<'a>> {
        let stored = &candidate.stored;
        let swept = &swept[stored.network];
        let codes =
            default_output(&swept.model, &[swept.layer(stored).clone()], Some(stored.pooling.parse()?));
        let head = fit_head::default_output(models, &codes, kind_name(candidate.kind));
        Ok(Step { swept, candidate, codes, head })
    }

    /// `cnncodes extract …`.
    pub(super) fn extract(&self, args: &Args, models: &ModelsFolder) -> NextStep {
        let stored = &self.candidate.stored;
        let mut arguments = vec!["extract".to_owned()];
        arguments.extend(args.images.iter().map(|images| images.display().to_string()));
        arguments.extend(args.inputs.arguments());
        arguments.extend(["--model", &self.swept.model.name, "--layer", &stored.layer].map(str::to_owned));
        if stored.pooling != self.swept.layer(stored).default_pooling().to_string() {
            arguments.extend(["--pool".to_owned(), stored.pooling.clone()]);
        }
        if args.ignore_orientation {
            arguments.push("--ignore-orientation".to_owned());
        }
        arguments.extend(models_folder(models));
        NextStep { what: format!("the features of {} alone", stored.layer), arguments }
    }

    /// `cnncodes fit-head …`.
    pub(super) fn fit(&self, args: &Args, models: &ModelsFolder) -> NextStep {
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
        if let Some(least) = args.small_classes.min_per_class {
            arguments.extend(["--min-per-class".to_owned(), least.to_string()]);
        }
        if let Some(distance) = args.copies.duplicate_distance {
            arguments.extend(["--duplicate-distance".to_owned(), distance.to_string()]);
        }
        if let Some(threshold) = args.copies.duplicate_threshold {
            arguments.extend(["--duplicate-threshold".to_owned(), threshold.to_string()]);
        }
        if let Some(groups) = &args.copies.groups {
            arguments.extend(["--groups".to_owned(), groups.display().to_string()]);
        }
        arguments
    }

    /// What `fit-head` calls this kind of head.
    pub(super) fn kind(&self) -> &'static str {
        kind_name(self.candidate.kind)
    }

    /// Does both: writes the codes, taken from the sweep's file, and fits the head to them.
    pub(super) fn fit_now(&self, args: &Args) -> anyhow::Result<Head> {
        let stored = &self.candidate.stored;
        let layer = LayerSpec {
            name: stored.layer.clone(),
            tensor: stored.tensor.clone(),
            shape: stored.shape.clone(),
            pooling: stored.pooling.clone(),
        };
        copy_layer(&self.swept.file, &stored.name, layer, &self.codes)?;
        let settings = TrainingSettings {
            duplicates: args.copies.settings(),
            small_classes: args.small_classes.policy(),
            ..TrainingSettings::new(args.trying().settings(self.candidate.kind))
        };
        let trained = fit_head::train_and_save(&FeatureFile::open(&self.codes)?, &settings, &self.head)?;
        Ok(trained.head)
    }

    /// `cnncodes classify …`.
    pub(super) fn classify(&self, models: &ModelsFolder) -> NextStep {
        let mut arguments = ["classify", "image.jpg", "--head"].map(str::to_owned).to_vec();
        arguments.push(self.head.display().to_string());
        arguments.extend(models_folder(models));
        NextStep { what: "what a picture shows".to_owned(), arguments }
    }
}

/// Writes the codes `name` of `file` to a file of their own, as those of `layer`.
fn copy_layer(
    file: &FeatureFile,
    name: &str,
    layer: LayerSpec,
    output: &Path,
) -> Result<(), FeatureFileError> {
    let header = Header { layers: vec![layer], ..file.header().clone() };
    let options = WriteOptions { overwrite: true, expected_rows: file.rows() };
    let mut writer = FeatureWriter::create(output, &header, options)?;
    let codes = file.read_layer(Some(name))?;
    let rows: Vec<[&[f32]; 1]> = codes
        .rows()
        .into_iter()
        .map(|row| [row.to_slice().expect("features are read in standard layout")])
        .collect();
    let rows: Vec<Row<'_>> = rows
        .iter()
        .enumerate()
        .map(|(at, codes)| Row {
            name: &file.image_names()[at],
            label: file.labels()[at],
            sha256: &file.sha256()[at],
            perceptual_hash: file.perceptual_hash(at),
            codes,
        })
        .collect();
    writer.append(&rows, file.errors())?;
    writer.finish()
}

/// `--models DIR`, where it is not the usual one.
fn models_folder(models: &ModelsFolder) -> Vec<String> {
    if models.path == Path::new("models") {
        return Vec::new();
    }
    vec!["--models".to_owned(), models.path.display().to_string()]
}
