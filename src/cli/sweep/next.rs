//! The commands that a sweep advises to run next, and the files that they write.

use std::path::{Path, PathBuf};

use super::args::{Args, FOLDS};
use crate::cli::extract::default_output;
use crate::cli::fit_head;
use crate::head::HeadKind;
use crate::network::{ModelsFolder, Pooling};
use crate::sweep::{CandidateHead, GRID, NextStep, SweepResult, kind_name};

/// The way from a candidate to a head: its features in a file of their own, and the head fitted to them.
pub(super) struct NextCommands<'a> {
    pub(super) args: &'a Args,
    pub(super) models: &'a ModelsFolder,
    pub(super) sweep: &'a SweepResult,
}

/// The pooling of the features, where it is another than the layer's own.
fn own_pooling(candidate: &CandidateHead) -> Option<Pooling> {
    let features = &candidate.features;
    Some(features.pooling).filter(|&pooling| pooling != features.default_pooling)
}

impl NextCommands<'_> {
    fn model_name(&self, candidate: &CandidateHead) -> &str {
        &self.sweep.networks[candidate.features.network].name
    }

    /// `features/MODEL-LAYER-POOLING.h5`.
    pub(super) fn features(&self, candidate: &CandidateHead) -> PathBuf {
        let features = &candidate.features;
        default_output(self.model_name(candidate), [features.layer.as_str()], own_pooling(candidate))
    }

    /// The head's file.
    pub(super) fn head(&self, candidate: &CandidateHead) -> PathBuf {
        fit_head::default_output(self.models, &self.features(candidate), kind_name(candidate.kind))
    }

    /// `cnncodes extract …`.
    pub(super) fn extract(&self, candidate: &CandidateHead) -> NextStep {
        let (args, features) = (self.args, &candidate.features);
        let mut arguments = vec!["extract".to_owned()];
        arguments.extend(args.images.iter().map(|images| images.display().to_string()));
        arguments.extend(args.inputs.arguments());
        arguments
            .extend(["--model", self.model_name(candidate), "--layer", &features.layer].map(str::to_owned));
        arguments.extend(
            own_pooling(candidate).iter().flat_map(|pooling| ["--pool".to_owned(), pooling.to_string()]),
        );
        if args.ignore_orientation {
            arguments.push("--ignore-orientation".to_owned());
        }
        arguments.extend(self.models_folder());
        NextStep { what: format!("the features of {} alone", features.layer), arguments }
    }

    /// `cnncodes fit-head …`.
    pub(super) fn fit(&self, candidate: &CandidateHead) -> NextStep {
        let (args, kind) = (self.args, candidate.kind);
        let mut arguments = vec!["fit-head".to_owned(), format!("--{}", kind_name(kind))];
        if kind != HeadKind::Ridge {
            arguments.extend(["--c".to_owned(), GRID.map(|c| c.to_string()).join(",")]);
        }
        arguments.push(self.features(candidate).display().to_string());
        if args.folds != FOLDS {
            arguments.extend(["--folds".to_owned(), args.folds.to_string()]);
        }
        if args.seed != 0 {
            arguments.extend(["--seed".to_owned(), args.seed.to_string()]);
        }
        if let Some(least) = args.small_classes.min_per_class {
            arguments.extend(["--min-per-class".to_owned(), least.to_string()]);
        }
        if let Some(distance) = args.duplicates.duplicate_distance {
            arguments.extend(["--duplicate-distance".to_owned(), distance.to_string()]);
        }
        if let Some(threshold) = args.duplicates.duplicate_threshold {
            arguments.extend(["--duplicate-threshold".to_owned(), threshold.to_string()]);
        }
        if let Some(groups) = &args.duplicates.groups {
            arguments.extend(["--groups".to_owned(), groups.display().to_string()]);
        }
        arguments.extend(self.models_folder());
        let chosen = match candidate.c {
            Some(c) => format!(" (C is chosen as here, where it was {c})"),
            None => String::new(),
        };
        NextStep { what: format!("the head{chosen}"), arguments }
    }

    /// `cnncodes classify …`.
    pub(super) fn classify(&self, candidate: &CandidateHead) -> NextStep {
        let mut arguments = ["classify", "image.jpg", "--head"].map(str::to_owned).to_vec();
        arguments.push(self.head(candidate).display().to_string());
        arguments.extend(self.models_folder());
        NextStep { what: "what a picture shows".to_owned(), arguments }
    }

    /// `--models DIR`, where it is not the usual one.
    fn models_folder(&self) -> Vec<String> {
        if self.models.path == Path::new("models") {
            return Vec::new();
        }
        vec!["--models".to_owned(), self.models.path.display().to_string()]
    }
}
