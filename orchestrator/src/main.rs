//! The `pspd` binary: hands the command line to the library and its exit code to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    pspd::cli::main()
}
