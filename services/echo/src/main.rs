//! The demo service's process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: serving::Allocator = serving::Allocator;

fn main() -> ExitCode {
    serving::run(echo_server::configure, echo_server::run)
}
