//! What Python hears of long work: a function that is called with how far it is, and Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;

/// Tells Python how far work is, and stops the work once Python has raised.
pub struct Progress {
    callback: Option<Py<PyAny>>,
    stop: Arc<AtomicBool>,
    raised: Mutex<Option<PyErr>>,
}

impl Progress {
    /// For work that `callback` hears of.
    pub fn new(callback: Option<Py<PyAny>>) -> Self {
        Self { callback, stop: Arc::default(), raised: Mutex::default() }
    }

    /// Whether the work is to stop.
    pub fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Lets Python's signal handlers run, and tells that `done` of `total` are done.
    pub fn tell(&self, done: usize, total: usize) {
        self.call((done, total));
    }

    /// As [`Progress::tell`], for one of several phases.
    pub fn tell_phase(&self, phase: &str, done: usize, total: usize) {
        self.call((phase, done, total));
    }

    fn call(&self, arguments: impl for<'py> PyCallArgs<'py>) {
        let heard = Python::attach(|py| {
            py.check_signals()?;
            match &self.callback {
                Some(callback) => callback.call1(py, arguments).map(drop),
                None => Ok(()),
            }
        });
        if let Err(error) = heard {
            self.raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// What the callback or a signal handler has raised, which says more than that the work was stopped; else `result`.
    pub fn result<T>(self, result: PyResult<T>) -> PyResult<T> {
        match self.raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => result,
        }
    }
}
