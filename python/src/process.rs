//! Which process this is: threads do not survive a fork, and work that waits for them would wait forever.

use std::process;
use std::sync::OnceLock;

use pyo3::prelude::*;

use crate::errors::Error;

/// The process that used the library first, of this one and those that it was forked from.
static FIRST: OnceLock<u32> = OnceLock::new();

/// Refuses to work in a process that was forked from one that had begun to.
pub fn check() -> PyResult<()> {
    if *FIRST.get_or_init(process::id) == process::id() {
        return Ok(());
    }
    Err(Error::new_err(
        "this process was forked from one that had used cnncodes already, whose threads it lacks; start worker processes \
         by spawn or forkserver (multiprocessing.set_start_method), or by joblib's loky",
    ))
}
