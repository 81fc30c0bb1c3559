//! The `cnncodes` program.

fn main() {}
