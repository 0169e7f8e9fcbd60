//! The web service's process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: serving::Allocator = serving::Allocator;

fn main() -> ExitCode {
    serving::run(web_server::Config::from_settings, web_server::run)
}
