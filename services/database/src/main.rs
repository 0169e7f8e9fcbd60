//! The database service's process, and its maintenance commands: `database-server backup FILE`, `checkpoint`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serving::{ConfigError, Settings};

#[global_allocator]
static ALLOCATOR: serving::Allocator = serving::Allocator;

/// `EX_USAGE` of sysexits.h.
const EX_USAGE: u8 = 64;
const USAGE: &str = "usage: database-server                 serves, configured by its environment
       database-server backup FILE     copies the store of DATABASE_STORE, which may be in use, to FILE
       database-server checkpoint      brings the log of DATABASE_STORE into its file";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [] => serving::run(database_server::Config::from_settings, database_server::run),
        [command, file] if command == "backup" => backup(file.into()),
        [command] if command == "checkpoint" => checkpoint(),
        _ => {
            // Where stderr is closed, the error cannot be reported.
            let _closed = writeln!(std::io::stderr(), "{USAGE}");
            ExitCode::from(EX_USAGE)
        }
    }
}

/// Where the store is: all that a maintenance command needs to know.
fn location(mut settings: Settings) -> Result<database_server::Location, ConfigError> {
    let location = database_server::location(&mut settings);
    settings.finish(|| location)
}

fn checkpoint() -> ExitCode {
    serving::run(location, |location, _shutdown| async move {
        database_server::checkpoint(&location).await?;
        tracing::info!("the log is in the file");
        Ok(())
    })
}

fn backup(file: PathBuf) -> ExitCode {
    serving::run(location, |location, _shutdown| async move {
        let documents = database_server::backup(&location, &file).await?;
        tracing::info!(documents, file = %file.display(), "copied");
        Ok(())
    })
}
