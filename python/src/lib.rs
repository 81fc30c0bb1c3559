//! The extension module `cnncodes._cnncodes`: what Python needs of the library, and the program's own `main`.
//!
//! The package around it (python/cnncodes) is what users see; it has the docstrings, scikit-learn's protocols and the checks
//! of arguments. This module takes and gives plain values: text, numbers, bytes, arrays.

mod arrays;
mod errors;
mod explain;
mod extractor;
mod features;
mod heads;
mod images;
mod plan;
mod process;
mod progress;
mod solvers;
mod sweep;

use std::ffi::OsString;
use std::path::PathBuf;

use cnncodes::cli::{self, Invocation};
use cnncodes::network::runtime;
use pyo3::prelude::*;

/// Runs the program and returns its exit status. `program` is what starts it once more.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>, program: Vec<OsString>) -> u8 {
    py.detach(|| cli::main(Invocation { arguments, program }).code())
}

/// Says where ONNX Runtime lies, and what the user can do where it does not, or lacks a provider.
#[pyfunction]
fn set_runtime(
    description: String,
    folders: Vec<PathBuf>,
    remedy: String,
    provider_remedies: Vec<(String, String)>,
) {
    runtime::set_host(runtime::Host { description, folders, remedy, provider_remedies });
}

#[pymodule]
fn _cnncodes(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(set_runtime, module)?)?;
    errors::register(module)?;
    explain::register(module)?;
    extractor::register(module)?;
    features::register(module)?;
    heads::register(module)?;
    plan::register(module)?;
    solvers::register(module)?;
    sweep::register(module)
}
