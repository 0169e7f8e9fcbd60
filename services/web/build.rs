//! Checks that the client was built: its files are embedded in the program.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let client = Path::new("client/dist/client/browser");
    println!("cargo::rerun-if-changed={}", client.display());
    if client.join("index.html").is_file() {
        return ExitCode::SUCCESS;
    }
    println!(
        "cargo::error=`services/web/{}` does not contain the built client: run `make client` first",
        client.display()
    );
    ExitCode::FAILURE
}
