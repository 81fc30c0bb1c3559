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

/// A text of the library with options as Python has them: `min_per_class` in place of `--min-per-class`. Those within
/// backquotes belong to commands and stay.
pub fn in_python(text: &str) -> String {
    let mut found = String::with_capacity(text.len());
    for (index, part) in text.split('`').enumerate() {
        if index > 0 {
            found.push('`');
        }
        if index % 2 == 1 {
            found.push_str(part);
            continue;
        }
        let mut rest = part;
        while let Some(at) = rest.find("--") {
            let (before, after) = rest.split_at(at);
            let name = &after[2..];
            let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(name.len());
            let starts_word = before.ends_with([' ', '(']) || (before.is_empty() && index == 0);
            found.push_str(before);
            match &name[..end] {
                option if !starts_word || option.is_empty() => found.push_str(&after[..2 + end]),
                "c" => found.push('C'),
                option => found.push_str(&option.replace('-', "_")),
            }
            rest = &name[end..];
        }
        found.push_str(rest);
    }
    found
}

/// An error of the library.
pub fn failed(error: impl std::error::Error) -> PyErr {
    Error::new_err(in_python(&message(&error)))
}

/// An argument that means nothing.
pub fn invalid(error: impl std::error::Error) -> PyErr {
    PyValueError::new_err(in_python(&message(&error)))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Error", module.py().get_type::<Error>())?;
    module.add("ImageError", module.py().get_type::<ImageError>())
}
