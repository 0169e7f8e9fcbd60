use super::context::Context;
use super::exit::Exit;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_context: &Context, _args: Args) -> anyhow::Result<Exit> {
    unimplemented!()
}
