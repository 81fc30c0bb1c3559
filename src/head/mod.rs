//! head.
