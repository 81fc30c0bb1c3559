//! Integration tests: the library's rooms together, and the program as its users run it.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod codes_h5py;
mod common;
mod graphs;
mod main_job;
mod parity;
mod real_photos;
mod trust;
