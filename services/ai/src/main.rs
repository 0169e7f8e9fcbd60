//! The AI service's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    serving::run(ai_server::Config::from_settings, ai_server::run)
}
