//! The web service's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    serving::run(web_server::Config::from_settings, web_server::run)
}
