//! Integration tests: the library's rooms together, and the program as its users run it.

mod codes_h5py;
mod common;
mod exporters;
mod graphs;
