//! What can go wrong with a plan. Each variant names the file and, where there is one, the remedy.

use std::io;
use std::path::PathBuf;

use crate::dataset::{Outage, RecordError};
use crate::extract::ExtractError;
use crate::feature_spec::NetworkError;
use crate::features::{ConvertError, FeatureFileError};

/// Why a plan cannot be made, worked on or merged.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum PlanError {
    #[error("{} holds no plan; `cnncodes plan IMAGES -o {}` makes one", path.display(), path.display())]
    Missing { path: PathBuf },
    #[error("cannot read {}; check that it exists and may be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}; check the room on its disk and the permissions, and run the same command again", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not a plan of this program: {why}; make a new plan", path.display())]
    NotAPlan { path: PathBuf, why: String },
    #[error(
        "{} was edited or damaged after it was written ({what} is not what the plan's id says); restore it, or make a new \
         plan in another folder", path.display()
    )]
    Changed { path: PathBuf, what: String },
    #[error(
        "{} holds another plan ({found}); name another folder, or remove it with the parts in it", path.display()
    )]
    Exists { path: PathBuf, found: String },
    #[error("the plan has {parts} parts, numbered from 0; there is no part {part}")]
    NoSuchPart { part: u64, parts: u64 },
    #[error(
        "a plan needs images that it can find again; images in memory and a list without files cannot be planned"
    )]
    NoPlace,
    #[error("no image is left to plan: {first}")]
    NoImages { first: String },
    #[error("cannot use the images of part {part}")]
    Records { part: u64, source: Box<RecordError> },
    #[error(
        "the folder of the images, {}, does not exist on this machine; mount it, or say with --root where the images are here",
        root.display()
    )]
    NoRoot { root: PathBuf },
    #[error(
        "the network gives {found} here and the plan expects {expected}; use the network that the plan was made with"
    )]
    OtherLayers { found: String, expected: String },
    #[error("no plan was made; run the same command again when the images can be read")]
    Unreachable(#[source] Outage),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error("interrupted; {done} of {total} parts are done, and the same command resumes")]
    Interrupted { done: u64, total: u64 },
    #[error("{}", gaps(missing, *parts))]
    Gaps { missing: Vec<u64>, parts: u64 },
    #[error("{}: {why}; remove it and run `cnncodes extract --plan` again", path.display())]
    InvalidPart { path: PathBuf, why: String },
    #[error(
        "{} belongs to another plan ({found}); move it out of the folder, and compute the part with this plan if it is missing",
        path.display()
    )]
    ForeignPart { path: PathBuf, found: String },
    #[error(
        "{} and {} are both part {part}, and their contents differ; remove the wrong one",
        first.display(), second.display()
    )]
    Conflict { part: u64, first: PathBuf, second: PathBuf },
    #[error(
        "{} was computed by {here} and {} by {there}, so that their features may differ in the last digits; compute the parts \
         of one of them again, or accept both with --allow-mixed", first.display(), second.display()
    )]
    Mixed { first: PathBuf, here: String, second: PathBuf, there: String },
    #[error(
        "the parts of {} lie in an object store, and a virtual file refers to files on a disk; merge without --virtual",
        path.display()
    )]
    NoFiles { path: PathBuf },
    #[error("none of the {images} images of the plan has features; the first: {first}")]
    NothingReadable { images: u64, first: String },
    #[error(transparent)]
    Features(#[from] FeatureFileError),
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

/// `3 of 20 parts are missing: 4, 7 and 9`.
fn gaps(missing: &[u64], parts: u64) -> String {
    const NAMED: usize = 10;
    let named: Vec<String> = missing.iter().take(NAMED).map(u64::to_string).collect();
    let more = match missing.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let are = if missing.len() == 1 { "is" } else { "are" };
    format!(
        "{} of {parts} parts {are} missing ({}{more}); run `cnncodes extract --plan` for them, and `cnncodes extract --status` \
         tells what is done",
        missing.len(),
        named.join(", ")
    )
}
