//! Making a plan: what it is asked for, and how it is written.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::document::{self, PlanContent, PlanDocument};
use super::store::PlanStore;
use super::{Plan, PlanError, manifest};
use crate::dataset::{Dataset, InputProblem, Outage};
use crate::extract::passed_over;
use crate::features::{SkippedImage, StoredLayer};
use crate::remote::is_url;

/// A plan that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct PlanRequest<'a> {
    /// The images.
    pub samples: &'a Dataset,
    /// The layers as features files describe them ([`ExtractRequest::new_layers`](crate::extract::ExtractRequest::new_layers)).
    pub layers: &'a [StoredLayer],
    /// Images of more pixels are refused.
    pub max_pixels: u64,
    /// Rows of each part but the last one.
    pub rows_per_part: u64,
    /// Whether every image is read for its SHA-256, which then says whether it is the same one, wherever it was copied to. Without,
    /// the size and the time of the last modification of its file do.
    pub hash: bool,
}

/// A plan that was made.
#[derive(Debug)]
pub struct Created {
    /// The plan.
    pub plan: Plan,
    /// Whether the very same plan was there already.
    pub up_to_date: bool,
    /// What could not become an image of it.
    pub problems: Vec<InputProblem>,
}

impl PlanRequest<'_> {
    /// Writes the plan into the folder, or to the address, `location`, which may hold the same plan already, but no other. `advance` hears how many
    /// images are written.
    ///
    /// # Errors
    /// The folder holds another plan or cannot be written, or no image is left.
    pub fn write(&self, location: &Path, advance: &mut dyn FnMut(u64)) -> Result<Created, PlanError> {
        let store = PlanStore::at(location);
        let writing = |name: &str| {
            let path = store.path(name);
            move |source: std::io::Error| PlanError::Write { path, source }
        };
        let mut file = store.temporary().map_err(writing(manifest::NAME))?;
        let mut out = BufWriter::new(file.as_file_mut());
        let list = &self.samples.samples;
        let written = manifest::write(&mut out, list, self.rows_per_part, self.hash, advance)
            .and_then(|written| out.flush().map(|()| written));
        drop(out);
        let written = written.map_err(|error| match error.downcast::<Outage>() {
            Ok(outage) => PlanError::Unreachable(outage),
            Err(error) => writing(manifest::NAME)(error),
        })?;
        let mut problems = written.problems;
        problems.extend(self.samples.problems.iter().cloned());
        if written.images == 0 {
            let first = problems.first().map(|problem| format!("{}: {}", problem.name, problem.reason));
            return Err(PlanError::NoImages { first: first.unwrap_or_default() });
        }
        let root = match is_url(list.root()) {
            true => list.root().to_owned(),
            false => std::path::absolute(list.root())
                .map_err(|source| PlanError::Read { path: list.root().to_owned(), source })?,
        };
        let content = PlanContent {
            source: self.samples.source.clone(),
            root,
            layers: self.layers.to_vec(),
            max_pixels: self.max_pixels,
            class_names: self.samples.class_names.clone(),
            containers: list
                .containers()
                .map_err(|source| PlanError::Read { path: list.root().to_owned(), source })?,
            images: written.images,
            rows_per_part: self.rows_per_part,
            parts: written.parts,
            problems: problems
                .iter()
                .map(|InputProblem { name, reason }| SkippedImage {
                    name: name.clone(),
                    reason: reason.clone(),
                })
                .collect(),
            passed_over: passed_over(self.samples),
        };
        let json = |error: serde_json::Error| writing(document::NAME)(error.into());
        let document = PlanDocument::new(content, written.places).map_err(json)?;
        match Plan::open(location) {
            Ok(plan) if plan.id() == document.id => return Ok(Created { plan, up_to_date: true, problems }),
            Ok(plan) => {
                let (path, found) = (location.to_owned(), short(plan.id()).to_owned());
                return Err(PlanError::Exists { path, found });
            }
            Err(PlanError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        store.replace(manifest::NAME, file).map_err(writing(manifest::NAME))?;
        // Last: a plan without it is none.
        let bytes = document.to_bytes().map_err(json)?;
        store.write(document::NAME, &bytes).map_err(writing(document::NAME))?;
        Ok(Created { plan: Plan { document, store }, up_to_date: false, problems })
    }
}

/// The beginning of an id, for messages.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
