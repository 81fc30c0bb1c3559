//! The parts of a head file that say how features are prepared. Lengths and components are absent from files of version 1.

use serde::{Deserialize, Serialize};

use super::{HeadFileError, HeadReader, HeadWriter, hdf5};
use crate::head::{Pca, Preparation, Standardizer};

const MEAN: &str = "mean";
const SCALE: &str = "scale";
const CONSTANT: &str = "constant";
const COMPONENTS: &str = "components";
const PREPARATION: &str = "preparation";

/// The attribute `preparation`.
#[derive(Serialize, Deserialize)]
struct PreparationAttribute {
    l2_normalize: bool,
    pca: Option<PcaAttribute>,
}

#[derive(Serialize, Deserialize)]
struct PcaAttribute {
    variances: Vec<f64>,
    total_variance: f64,
}

impl HeadWriter<'_> {
    pub(super) fn preparation(&self, preparation: &Preparation) -> hdf5::Result<()> {
        let (standardizer, columns) = (preparation.standardizer(), preparation.columns());
        self.numbers(MEAN, &[columns], standardizer.mean())?;
        self.numbers(SCALE, &[columns], standardizer.scale())?;
        let constant: Vec<u8> = standardizer.constant().iter().map(|&c| u8::from(c)).collect();
        self.numbers(CONSTANT, &[columns], &constant)?;
        let pca = preparation.pca();
        if let Some(pca) = pca {
            let values: Vec<f32> = pca.components().iter().copied().collect();
            self.numbers(COMPONENTS, &[pca.components().nrows(), columns], &values)?;
        }
        if preparation.l2_normalize() || pca.is_some() {
            let pca = pca.map(|pca| PcaAttribute {
                variances: pca.variances().to_vec(),
                total_variance: pca.total_variance(),
            });
            self.json(PREPARATION, &PreparationAttribute { l2_normalize: preparation.l2_normalize(), pca })?;
        }
        Ok(())
    }
}

impl HeadReader<'_> {
    /// How features become the `prepared` values that the classifier takes.
    pub(super) fn preparation(&self, prepared: usize) -> Result<Preparation, HeadFileError> {
        let written = if self.has_attribute(PREPARATION) {
            self.json(PREPARATION)?
        } else {
            PreparationAttribute { l2_normalize: false, pca: None }
        };
        let pca = match written.pca {
            None => None,
            Some(PcaAttribute { variances, total_variance }) => {
                let pca = Pca::from_parts(self.matrix(COMPONENTS)?, variances, total_variance);
                Some(pca.ok_or_else(|| self.unsound("its principal components hold values that cannot be"))?)
            }
        };
        if pca.as_ref().is_some_and(|pca| pca.components().nrows() != prepared) {
            return Err(self.unsound("`components` and the weights are not of the same number"));
        }
        let columns = pca.as_ref().map_or(prepared, |pca| pca.components().ncols());
        let constant = self.vector::<u8>(CONSTANT, columns)?.iter().map(|&c| c != 0).collect();
        let (mean, scale) = (self.vector(MEAN, columns)?, self.vector(SCALE, columns)?);
        let standardizer = Standardizer::from_parts(mean, scale, constant)
            .ok_or_else(|| self.unsound("mean or scale hold values that cannot be"))?;
        Preparation::from_parts(written.l2_normalize, standardizer, pca)
            .ok_or_else(|| self.unsound("its components are of another number of features"))
    }
}
