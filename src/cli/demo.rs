//! x
pub fn run(_: &Args) -> anyhow::Result<super::Status> { unimplemented!() }
#[derive(Debug, clap::Args)]
pub struct Args {}
