//! Integration tests: the library's rooms together, and the program as its users run it.

#![allow(clippy::unwrap_used)]

mod arrays;
mod bad_input;
mod common;
mod convert;
mod devices;
mod duplicates;
mod explain;
mod export;
mod exporters;
mod extract_again;
mod features_h5py;
mod fetch;
mod few_images;
mod fusion;
mod fuzz;
mod graphs;
mod head_options;
mod hub;
mod inputs;
mod interrupted;
mod listing;
mod main_job;
mod neighbors;
mod network_inputs;
#[cfg(feature = "object-store")]
mod object_stores;
mod out_of_core;
mod parity;
mod pixels;
mod plan;
mod preprocessing;
mod pretrained;
mod pull;
mod real_photos;
mod repaired;
mod report;
#[cfg(feature = "serve")]
mod serve;
mod server;
mod shards;
mod small_classes;
mod sweep;
mod terminal;
mod transformers;
mod trust;
mod types;
