//! Integration tests: the library's rooms together, and the program as its users run it.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod codes_h5py;
mod common;
mod convolve;
mod devices;
mod duplicates;
mod explain;
mod exporters;
mod extract_again;
mod fetch;
mod fuzz;
mod graphs;
mod head_options;
mod inputs;
mod interrupted;
mod main_job;
mod neighbors;
mod out_of_core;
mod parity;
mod pull;
mod real_photos;
mod report;
mod server;
mod sweep;
mod terminal;
mod trust;
