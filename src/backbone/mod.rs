//! backbone.

pub mod runtime;
