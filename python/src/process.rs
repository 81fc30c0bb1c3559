//! One process: threads do not survive a fork, so a child that goes on with them would wait for ever.

use std::sync::OnceLock;

use pyo3::prelude::*;

use crate::errors::Error;

static FIRST: OnceLock<u32> = OnceLock::new();

/// Every function that starts threads or uses a network calls this first.
///
/// # Errors
/// The process is a fork of one that called it.
pub fn not_forked() -> PyResult<()> {
    let here = std::process::id();
    let first = *FIRST.get_or_init(|| here);
    if first == here {
        return Ok(());
    }
    Err(Error::new_err(
        "cnncodes was used before this process was forked, and its threads did not survive that; start worker processes with \
         multiprocessing's spawn or forkserver, or with joblib's loky, or use cnncodes in the workers alone",
    ))
}
