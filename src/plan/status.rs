//! How far a plan is. Nothing is written, locked or removed.

use rayon::prelude::*;
use serde::Serialize;

use super::part::{PartState, file_name};
use super::store::part_name;
use super::{Plan, PlanError};
use crate::features::SkippedImage;

/// How far a plan is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanStatus {
    /// The plan's id.
    pub id: String,
    /// Images of the plan.
    pub images: u64,
    /// Number of parts.
    pub parts: u64,
    /// Parts that are done.
    pub done: u64,
    /// Images that have features.
    pub rows: u64,
    /// Numbers of the parts that are not there.
    pub missing: Vec<u64>,
    /// Parts whose file cannot be used.
    pub invalid: Vec<PartStatus>,
    /// Images of finished parts that could not be read.
    pub errors: Vec<ErrorStatus>,
    /// Files among the parts that are none of this plan.
    pub strangers: Vec<String>,
}

/// A part whose file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartStatus {
    /// Its number.
    pub part: u64,
    /// Why.
    pub why: String,
}

/// An image that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorStatus {
    /// The number of its part.
    pub part: u64,
    /// The image's name.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl PlanStatus {
    /// Whether the plan can be merged.
    pub fn is_complete(&self) -> bool {
        self.done == self.parts
    }
}

impl Plan {
    /// How far the plan is.
    ///
    /// # Errors
    /// The plan or the folder of its parts cannot be read.
    pub fn status(&self) -> Result<PlanStatus, PlanError> {
        let files = self
            .store
            .part_files()
            .map_err(|source| PlanError::Read { path: self.store.path("parts"), source })?;
        let states: Vec<(u64, PartState)> = (0..self.parts())
            .into_par_iter()
            .map(|part| match files.binary_search(&part_name(part)) {
                Ok(_) => Ok((part, self.part_state(part)?)),
                Err(_) => Ok((part, PartState::Missing)),
            })
            .collect::<Result<_, PlanError>>()?;
        let expected: std::collections::HashSet<String> = (0..self.parts()).map(part_name).collect();
        let mut status = PlanStatus {
            id: self.id().to_owned(),
            images: self.images(),
            parts: self.parts(),
            done: 0,
            rows: 0,
            missing: Vec::new(),
            invalid: Vec::new(),
            errors: Vec::new(),
            strangers: files
                .iter()
                .filter(|name| !expected.contains(*name))
                .map(|name| file_name(name.as_ref()))
                .collect(),
        };
        for (part, state) in states {
            match state {
                PartState::Done { rows, errors } => {
                    status.done += 1;
                    status.rows += rows;
                    let of_part = |SkippedImage { name, reason }| ErrorStatus { part, name, reason };
                    status.errors.extend(errors.into_iter().map(of_part));
                }
                PartState::Missing => status.missing.push(part),
                PartState::Invalid(why) => status.invalid.push(PartStatus { part, why }),
            }
        }
        Ok(status)
    }
}
