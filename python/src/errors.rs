//! The library's errors as Python's exceptions, with their causes in the message.

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;

create_exception!(
    cnncodes,
    Error,
    PyException,
    "Something that cnncodes was asked for cannot be done; the message says why."
);
create_exception!(
    cnncodes,
    ImageError,
    Error,
    "An image cannot be read, or has no finite features. `name` and `reason` are attributes."
);

/// The error and its chain of causes, separated by ": ".
pub fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent error has its cause's message.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// An error of the library.
pub fn failed(error: impl std::error::Error) -> PyErr {
    Error::new_err(message(&error))
}

/// An argument that means nothing.
pub fn invalid(error: impl std::error::Error) -> PyErr {
    PyValueError::new_err(message(&error))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Error", module.py().get_type::<Error>())?;
    module.add("ImageError", module.py().get_type::<ImageError>())
}
