//! The `pspd` binary. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pspd::cli::main()
}
