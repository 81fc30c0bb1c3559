//! Extracts the features of a folder of images and prints them as CSV: a row an image, its name first.
//!
//! ```text
//! cargo run --release --example extract_features -- MODEL LAYER IMAGES >features.csv
//! ```
//!
//! MODEL is a network in models/, as `cnncodes models add` or `cnncodes models pull` registered it. LAYER is a name such as
//! `fc7`, `avgpool` or `penultimate`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cnncodes::dataset::Dataset;
use cnncodes::extract::{Extractor, ExtractorSettings};
use cnncodes::feature_spec::FeatureSpec;
use cnncodes::network::{ModelsFolder, Pooling};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, layer, images] = &arguments[..] else {
        bail!("usage: extract_features MODEL LAYER IMAGES");
    };
    let models = ModelsFolder { path: PathBuf::from("models") };
    let spec = FeatureSpec::new(&models.find(Some(model))?, layer, Pooling::None)?;
    let mut extractor = Extractor::open(spec, &models, &ExtractorSettings::default())?;

    let images = Dataset::from_folder(Path::new(images))?;
    // A batch at a time, so that memory does not grow with the number of images.
    extractor.extract_each(images.samples.iter(), |samples, batch| -> Result<()> {
        for (&index, features) in batch.indices.iter().zip(batch.features.rows()) {
            let values: Vec<String> = features.iter().map(f32::to_string).collect();
            println!("{},{}", samples[index].name, values.join(","));
        }
        for problem in &batch.problems {
            eprintln!("skipped {}: {}", problem.name, problem.reason);
        }
        Ok(())
    })
}
