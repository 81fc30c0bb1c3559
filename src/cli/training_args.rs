//! Arguments of the commands that make heads: duplicates and small classes.

use std::path::PathBuf;

use crate::training::{DuplicateSettings, RowValues, SmallClassPolicy};

/// Which images belong together.
#[derive(Debug, Default, clap::Args)]
pub struct DuplicateArgs {
    /// Largest number of bits, of 256, in which the perceptual hashes of two duplicates differ, 0 to 128 [default:
    /// 31]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(0..=128))]
    pub duplicate_distance: Option<u32>,
    /// Find duplicates by their features instead of perceptual hashes: two images are duplicates if the cosine of
    /// their centred features is above this, such as 0.95. It depends on the layer; 1 means byte-identical files only
    #[arg(long, value_name = "COSINE", value_parser = cosine, conflicts_with = "duplicate_distance")]
    pub duplicate_threshold: Option<f64>,
    /// CSV file with the columns path,group: images of one group stay on one side of each split, like duplicates
    #[arg(long, value_name = "FILE.csv")]
    pub groups: Option<PathBuf>,
}

impl DuplicateArgs {
    pub fn settings(&self) -> DuplicateSettings {
        DuplicateSettings {
            distance: self.duplicate_distance,
            cosine: self.duplicate_threshold,
            groups: self.groups.clone().map(RowValues::File),
        }
    }
}

fn cosine(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a cosine above 0 and up to 1, such as 0.95".to_owned()),
    }
}

/// What to do about small classes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct SmallClassArgs {
    /// Leave out classes with fewer than N different images, and list them. Duplicates count once, as soon as they
    /// are known [default: a class of one image is an error]
    #[arg(long, value_name = "N", value_parser = at_least_two)]
    pub min_per_class: Option<usize>,
}

impl SmallClassArgs {
    pub fn policy(&self) -> SmallClassPolicy {
        SmallClassPolicy { min_per_class: self.min_per_class }
    }
}

fn at_least_two(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number >= 2 => Ok(number),
        _ => Err("expected a whole number of at least 2, such as 5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_needs_two_images() {
        assert!(at_least_two("1").is_err() && at_least_two("two").is_err());
        assert_eq!(at_least_two("2"), Ok(2));
    }
}
