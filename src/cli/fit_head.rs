//! x
pub fn run(_: &Args, _: &crate::backbone::ModelsFolder) -> anyhow::Result<super::Status> { unimplemented!() }
#[derive(Debug, clap::Args)]
pub struct Args {}
