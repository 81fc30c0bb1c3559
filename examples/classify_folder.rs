//! Fits a classifier to a folder of labelled photos, then sorts another folder with it.
//!
//! ```text
//! cargo run --release --example classify_folder -- MODEL LAYER PHOTOS UNSORTED
//! ```
//!
//! MODEL is a network in models/, as `cnncodes models add` or `cnncodes models pull` registered it. PHOTOS holds one folder of
//! photos a class. Prints the cross-validated accuracy, then a line for each image of UNSORTED.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cnncodes::classifier::{AnswerOptions, Classifier};
use cnncodes::dataset::Dataset;
use cnncodes::extract::{Extractor, ExtractorSettings};
use cnncodes::feature_spec::FeatureSpec;
use cnncodes::head::{FitSettings, HeadKind};
use cnncodes::network::{ModelsFolder, Pooling};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, layer, photos, unsorted] = &arguments[..] else {
        bail!("usage: classify_folder MODEL LAYER PHOTOS UNSORTED");
    };
    let models = ModelsFolder { path: PathBuf::from("models") };
    let spec = FeatureSpec::new(&models.find(Some(model))?, layer, Pooling::None)?;
    let extractor = Extractor::open(spec, &models, &ExtractorSettings::default())?;

    let photos = Dataset::from_folder(Path::new(photos))?;
    let mut classifier = Classifier::fit(extractor, &photos, &FitSettings::new(HeadKind::Logistic))?;
    eprintln!("{}", classifier.head().evaluation.to_text());

    let classes = classifier.head().model.class_names.clone();
    let unsorted = Dataset::from_folder(Path::new(unsorted))?;
    classifier.classify_each(unsorted.samples.iter(), AnswerOptions::default(), |answer| -> Result<()> {
        match answer {
            Ok((image, answer)) if answer.unknown == Some(true) => println!("{}\tunknown", image.name),
            Ok((image, answer)) => {
                let (class, probability) = answer.ranked[0];
                println!("{}\t{}\t{:.1} %", image.name, classes[class], 100.0 * probability);
            }
            Err(problem) => eprintln!("skipped {}: {}", problem.name, problem.reason),
        }
        Ok(())
    })
}
