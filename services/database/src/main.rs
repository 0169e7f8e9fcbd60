//! The database service's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    serving::run(database_server::Config::from_settings, database_server::run)
}
