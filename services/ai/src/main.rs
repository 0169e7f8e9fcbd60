//! The AI service's process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: serving::Allocator = serving::Allocator;

fn main() -> ExitCode {
    serving::run(ai_server::Config::from_settings, ai_server::run)
}
