//! `pspd receive`: takes a topology that another machine sends, with the files that it names.

use super::context::Context;
use super::exit::Exit;
use crate::remote;

pub(super) fn run(context: &Context) -> anyhow::Result<Exit> {
    remote::receive(
        &context.paths,
        std::io::stdin().lock(),
        crate::terminal::raw(),
    )?;
    Ok(Exit::Done)
}
