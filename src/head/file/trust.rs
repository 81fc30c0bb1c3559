//! The parts of a head file that say how far its answers can be trusted. All are optional: earlier versions of the
//! program wrote none.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::{HeadFileError, HeadReader, HeadWriter, hdf5};
use crate::head::{Conformal, Novelty, NoveltyLimits};

/// Data sets and attributes.
const CONFORMAL: &str = "conformal";
const CONFORMAL_SCORES: &str = "conformal_scores";
const NOVELTY: &str = "novelty";
const NOVELTY_FEATURES: &str = "novelty_codes";
const TRAINED_ON: &str = "trained_on";

/// The attribute beside the scores of prediction sets.
#[derive(Serialize, Deserialize)]
struct ConformalAttribute {
    rows: usize,
}

impl HeadWriter<'_> {
    pub(super) fn conformal(&self, conformal: &Conformal) -> hdf5::Result<()> {
        self.numbers(CONFORMAL_SCORES, &[conformal.scores().len()], conformal.scores())?;
        self.json(CONFORMAL, &ConformalAttribute { rows: conformal.rows() })
    }

    pub(super) fn novelty(&self, novelty: &Novelty) -> hdf5::Result<()> {
        let (rows, columns) = novelty.features().dim();
        let features: Vec<i8> = novelty.features().iter().copied().collect();
        self.numbers(NOVELTY_FEATURES, &[rows, columns], &features)?;
        self.json(NOVELTY, novelty.limits())
    }

    pub(super) fn trained_on(&self, fingerprints: &[u64]) -> hdf5::Result<()> {
        self.numbers(TRAINED_ON, &[fingerprints.len()], fingerprints)
    }
}

impl HeadReader<'_> {
    pub(super) fn conformal(&self) -> Result<Option<Conformal>, HeadFileError> {
        if !self.has(CONFORMAL_SCORES)? {
            return Ok(None);
        }
        let scores = self.values(CONFORMAL_SCORES, 1)?.1;
        let ConformalAttribute { rows } = self.json(CONFORMAL)?;
        match Conformal::from_parts(scores, rows) {
            None => Err(self.unsound("the scores of its prediction sets hold values that cannot be")),
            sound => Ok(sound),
        }
    }

    pub(super) fn novelty(&self, columns: usize) -> Result<Option<Novelty>, HeadFileError> {
        if !self.has(NOVELTY_FEATURES)? {
            return Ok(None);
        }
        let (shape, features) = self.values::<i8>(NOVELTY_FEATURES, 2)?;
        if shape[1] != columns {
            return Err(self.unsound("`novelty_codes` and the weights have different numbers of columns"));
        }
        let features = Array2::from_shape_vec((shape[0], shape[1]), features)
            .map_err(|_| self.unsound("`novelty_codes` has fewer values than its shape says"))?;
        let limits: NoveltyLimits = self.json(NOVELTY)?;
        match Novelty::from_parts(features, limits) {
            None => Err(self.unsound("its training features or their limits hold values that cannot be")),
            sound => Ok(sound),
        }
    }

    pub(super) fn trained_on(&self) -> Result<Vec<u64>, HeadFileError> {
        if !self.has(TRAINED_ON)? {
            return Ok(Vec::new());
        }
        let mut fingerprints = self.values::<u64>(TRAINED_ON, 1)?.1;
        // Looked up by halving, so the order of a foreign file is not relied on.
        fingerprints.sort_unstable();
        Ok(fingerprints)
    }
}
