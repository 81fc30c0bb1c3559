//! Finds ONNX Runtime, checks that this program can use it, and opens it once for the whole process.
//!
//! The library is loaded at run time, so that one binary serves the CPU build and the CUDA build of it. It is looked for in the
//! order that [`SEARCH_ORDER`] tells the user; the first usable one is taken. A library that an environment variable names is
//! used or refused, never passed over. The error lists the libraries that the search found and could not use, if it finds no
//! better one.
//!
//! ONNX Runtime's own messages below the level of an error are not shown; the variable `ORT_LOG` (`verbose`, `info`, `warning`,
//! `error`, `fatal`) changes that.

mod library;
mod search;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::environment::Environment;
use thiserror::Error;

pub use library::LibraryError;
use library::{Library, OLDEST_MINOR};
pub use search::Host;
use search::{SearchEnvironment, VARIABLES, library_in, shared_by_all};

/// The order of the search, as the program's help tells it.
pub const SEARCH_ORDER: &str = "\
ONNX Runtime (version 1.24 or a later 1.x) is loaded when it is first needed, from the first of these:
  1. the file or folder that the variable CNNCODES_ONNXRUNTIME names, else ORT_DYLIB_PATH
  2. the Python package onnxruntime, if this program was installed with pip
  3. beside the program: its own folder, lib/ in it, ../lib
  4. the project's folder: .cnncodes/onnxruntime/lib in the current folder or one above it,
     then in the program's folder or one above it
  5. the user's data folder: cnncodes/onnxruntime/lib in it (Linux: ~/.local/share)
  6. the system's libraries
`pip install onnxruntime` brings it for a program that was installed with pip; `scripts/setup` fetches it into the
project's folder.";

/// ONNX Runtime, loaded and started.
#[derive(Debug)]
pub struct Runtime {
    /// The library's file.
    pub path: PathBuf,
    /// Its version, as `1.24.4`.
    pub version: String,
    /// What sessions are created in. There is one to a process.
    pub environment: Environment,
}

/// Why there is no ONNX Runtime to work with.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The environment names a library that cannot be used.
    #[error(
        "{variable} names an ONNX Runtime that cannot be used; name another one, or unset {variable} and run \
         `scripts/setup`, which fetches one"
    )]
    Named {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with what it names.
        #[source]
        source: LibraryError,
    },
    /// Nothing was found, or nothing usable.
    #[error(
        "no usable ONNX Runtime was found; {remedy}, or set {} to a library of version 1.{OLDEST_MINOR} or a later 1.x\n\
         looked at:\n{searched}",
        VARIABLES[0]
    )]
    NotFound {
        /// What the user can do.
        remedy: String,
        /// Every place, with what was wrong there.
        searched: FailedSearch,
    },
    /// The library passed every check, but did not start.
    #[error(
        "ONNX Runtime {version} from {} did not start; run `scripts/setup` for a fresh one, or name another with {}",
        path.display(),
        VARIABLES[0]
    )]
    Start {
        /// The library's file.
        path: PathBuf,
        /// Its version.
        version: String,
        /// What it said.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// The places of a search that found nothing usable, in their order, each with the libraries refused there.
#[derive(Debug, Clone, Default)]
pub struct FailedSearch {
    places: Vec<(String, Vec<LibraryError>)>,
}

impl fmt::Display for FailedSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There is a search only if no variable is set.
        write!(f, "  the variables {}: not set", VARIABLES.join(", "))?;
        for (place, refused) in &self.places {
            write!(f, "\n  {place}")?;
            if refused.is_empty() {
                write!(f, ": nothing there")?;
            }
            for error in refused {
                write!(f, "\n    {error}")?;
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
            }
        }
        Ok(())
    }
}

/// What [`load`] is told by the program that this library is part of.
static HOST: OnceLock<Host> = OnceLock::new();

/// Lets [`load`] look where `host` says before it looks elsewhere. The first call counts, and it has to come before the first
/// [`load`].
pub fn set_host(host: Host) {
    // Whoever comes first knows as much as whoever comes later.
    let _ = HOST.set(host);
}

/// What the user can do where the library lacks a provider, `cuda` or `openvino`.
pub(super) fn provider_remedy(provider: &str) -> String {
    let known = HOST.get().and_then(|host| host.provider_remedies.iter().find(|(name, _)| name == provider));
    match known {
        Some((_, remedy)) => remedy.clone(),
        None => format!("`scripts/setup --{provider}` brings one that has it"),
    }
}

/// Finds, checks and starts ONNX Runtime; every later call returns the first one's outcome.
///
/// # Errors
/// [`RuntimeError`] says where it was looked for, what is wrong there, and what to run.
pub fn load() -> Result<&'static Runtime, RuntimeError> {
    static RUNTIME: OnceLock<Result<Runtime, RuntimeError>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| start(find(&SearchEnvironment::of_this_process(HOST.get().cloned()))?))
        .as_ref()
        .map_err(Clone::clone)
}

/// The first usable library of the search that starts from `surroundings`.
fn find(surroundings: &SearchEnvironment) -> Result<Library, RuntimeError> {
    if let Some((variable, path)) = &surroundings.named {
        return open_named(path).map_err(|source| RuntimeError::Named { variable, source });
    }
    let mut searched = FailedSearch::default();
    let mut opened = Vec::new();
    for place in surroundings.places() {
        let mut refused = Vec::new();
        for folder in &place.folders {
            let Some(path) = library_in(folder).filter(|path| !opened.contains(path)) else { continue };
            if let Some(folder) = shared_by_all(folder).filter(|_| place.only_private) {
                refused.push(LibraryError::SharedFolder { path, folder });
                continue;
            }
            match Library::open(&path) {
                Ok(library) => return Ok(library),
                Err(error) => refused.push(error),
            }
            opened.push(path);
        }
        searched.places.push((place.description, refused));
    }
    let mut refused = Vec::new();
    for name in surroundings.system {
        match Library::open_by_loader(Path::new(name)) {
            Ok(library) => return Ok(library),
            Err(error) => refused.push(error),
        }
    }
    searched.places.push(("the system's libraries".to_owned(), refused));
    let remedy = match &surroundings.host {
        Some(host) => host.remedy.clone(),
        None => "run `scripts/setup` in the project's folder, which fetches one".to_owned(),
    };
    Err(RuntimeError::NotFound { remedy, searched })
}

/// What an environment variable names: the library itself, or a folder that holds it.
fn open_named(path: &Path) -> Result<Library, LibraryError> {
    if path.is_dir() {
        let folder = path.to_path_buf();
        return Library::open(&library_in(path).ok_or(LibraryError::NoneInFolder { folder })?);
    }
    if !path.exists() {
        return Err(LibraryError::Missing { path: path.to_path_buf() });
    }
    // The dynamic loader searches the system for a bare name, and `ort` takes a relative path as one beside
    // the program; an absolute one means the same file to everybody.
    let unreadable = |source| LibraryError::Unreadable { path: path.to_path_buf(), source: Arc::new(source) };
    Library::open(&std::path::absolute(path).map_err(unreadable)?)
}

fn start(library: Library) -> Result<Runtime, RuntimeError> {
    let failed =
        |source| RuntimeError::Start { path: library.path.clone(), version: library.version.clone(), source };
    let builder = ort::init_from(&library.path).map_err(|error| failed(Arc::new(error)))?;
    let environment = builder
        .with_name("cnncodes")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(Arc::new(error)))?;
    Ok(Runtime { path: library.path, version: library.version, environment })
}

#[cfg(test)]
mod tests;
