//! Compiles the programs that pspd carries, for guests: static, and packed.
//!
//! All builds of the workspace share one folder for them, also `make services`, so that what they have in common is compiled
//! once.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROGRAMS: [&str; 3] = ["guest-init", "echo-server", "protocol-bench"];
/// What they are compiled from, in the workspace.
const SOURCES: [&str; 7] = [
    "Cargo.lock",
    "Cargo.toml",
    "images/debian/init",
    "proto",
    "services/echo",
    "services/protocols",
    "services/serving",
];
/// The same as of the services in the Makefile.
const FLAGS: &str =
    "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs --cfg tokio_unstable";
/// The slowest level that unpacks with little memory.
const LEVEL: i32 = 19;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let workspace = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..");
    for source in SOURCES {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let target = shared_folder(&out).join("guests");
    compile(&workspace, &target)?;
    for program in PROGRAMS {
        let built = target.join(TARGET).join("guest").join(program);
        let packed = File::create(out.join(format!("{program}.zst")))?;
        let mut packer = zstd::Encoder::new(packed, LEVEL)?;
        packer.include_checksum(true)?;
        io::copy(&mut File::open(built)?, &mut packer)?;
        packer.finish()?;
    }
    Ok(())
}

/// The folder of all builds of the workspace, which cargo marks for backup programs.
fn shared_folder(out: &Path) -> &Path {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .unwrap_or(out)
}

fn compile(workspace: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(target)?;
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--quiet", "--locked", "--profile", "guest"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target);
    for program in PROGRAMS {
        cargo.args(["-p", program]);
    }
    // A build script of a dependency that reads one of these would run again in each build, and all that follows from it.
    for (variable, _) in env::vars_os() {
        if variable.to_str().is_some_and(is_of_this_build) {
            cargo.env_remove(variable);
        }
    }
    let status = cargo.env("RUSTFLAGS", FLAGS).status()?;
    if !status.success() {
        return Err(format!("the programs for guests were not compiled ({status})").into());
    }
    Ok(())
}

/// Whether cargo or a wrapper of it has set the variable for this build script.
fn is_of_this_build(variable: &str) -> bool {
    const NAMES: [&str; 17] = [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_PRIMARY_PACKAGE",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "DEBUG",
        "HOST",
        "LD_LIBRARY_PATH",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "TARGET",
    ];
    const KINDS: [&str; 5] = [
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "DEP_",
    ];
    NAMES.contains(&variable) || KINDS.iter().any(|kind| variable.starts_with(kind))
}
