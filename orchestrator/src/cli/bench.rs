//! `pspd bench`: runs benchmarks.

pub(super) mod load;
mod protocol;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::{Builtin, ImageSpec};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::context::{Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::run::reported;
use super::up::positive;
use crate::bench::{firmware, page, tables};
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::report::Style;
use crate::state::write_atomically;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd bench firmware --runs 5\n  pspd bench load --target web-server --http / --rate 50/s"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: BenchCommand,
}

impl Args {
    /// Whether it needs a running deployment.
    pub(super) fn loads(&self) -> bool {
        matches!(self.command, BenchCommand::Load(_))
    }
}

#[derive(clap::Subcommand)]
enum BenchCommand {
    /// Boot the topology's image with each firmware and boot path in turn, in a separate lab
    Firmware(FirmwareArgs),
    /// Send calls to a service of the running deployment, and measure latencies, throughput and errors
    ///
    /// Latency counts from the time for which a call was intended, so a service that stalls shows in the percentiles. The
    /// load goes to a domain of the deployment and nowhere else.
    Load(Box<load::Args>),
    /// Compare gRPC, REST, SOAP and WebSocket: the same operations between two guests of a separate lab, or on loopback
    ///
    /// Every protocol has the same handler and the same mutual TLS, and they are measured in turn: latencies, throughput, bytes
    /// on the wire, and the processor time of both sides.
    Protocol(protocol::Args),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pspd bench firmware --runs 5 --out bench")]
struct FirmwareArgs {
    /// The number of boots of each case
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = positive)]
    runs: usize,
    /// The directory for firmware.json and firmware.html; existing files are overwritten
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    match args.command {
        BenchCommand::Firmware(args) => firmware(context, &args),
        BenchCommand::Load(args) => load::run(context, &args),
        BenchCommand::Protocol(args) => protocol::run(context, &args),
    }
}

fn firmware(context: &Context, args: &FirmwareArgs) -> anyhow::Result<Exit> {
    let image = buildable_image(context)?;
    make_writable(&args.out)?;
    let folder = temporary()?;
    let cache = &context.paths.cache;
    let results = followed(async |events, cancel| {
        firmware::measure(folder.path(), cache, &image, args.runs, events, cancel).await
    })?;
    let Some(results) = results else {
        return Ok(Exit::Interrupted);
    };
    let json = serde_json::to_string_pretty(&results)?;
    let page = page(&results);
    write_results(
        &args.out,
        &[("firmware.json", &json), ("firmware.html", &page)],
    )?;
    write!(crate::terminal::out(), "{}", tables(&results))?;
    let complete = results
        .cases
        .iter()
        .all(|case| case.runs.iter().all(|run| run.error.is_none()));
    Ok(if complete { Exit::Done } else { Exit::Failed })
}

/// An image that pspd builds: of the topology, or the built-in one where there is no topology.
fn buildable_image(context: &Context) -> anyhow::Result<ImageSpec> {
    if !context.has_spec() {
        return Ok(ImageSpec::builtin(Builtin::Debian));
    }
    let spec = context.spec_before_build()?;
    let mut images = spec.images.into_values();
    let image = images.find(|image| image.source.is_built());
    Ok(image.ok_or_else(|| {
        Hinted::new(
            "the topology has no image that pspd builds, and this benchmark boots no other images",
            "Use the image `debian`",
        )
    })?)
}

/// A directory for a lab of its own.
fn temporary() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("pspd-bench-")
        .tempdir()
        .context("failed to create a temporary directory for the lab")
}

/// Measures with progress on stderr; `None` after Ctrl-C.
fn followed<T>(
    measure: impl AsyncFnOnce(&Events, &CancellationToken) -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    let results = block_on(async {
        let cancel = cancelled_by_signals()?;
        reported(Style::for_stderr(), async |events| {
            measure(events, &cancel).await
        })
        .await
    });
    match results {
        Err(error) if Cancelled::is_cause_of(&error) => {
            let line = "interrupted; no results were written";
            writeln!(crate::terminal::err(), "{line}")?;
            Ok(None)
        }
        results => results.map(Some),
    }
}

/// Writes files of results to `--out`.
fn write_results(folder: &Path, files: &[(&str, &str)]) -> anyhow::Result<()> {
    for (name, content) in files {
        let path = folder.join(name);
        write_atomically(&path, content.as_bytes(), 0o644)?;
        writeln!(crate::terminal::err(), "wrote {}", path.display())?;
    }
    Ok(())
}

/// Checks that `--out` is writable, before measuring for minutes.
pub(super) fn make_writable(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    ensure!(
        !folder.exists() || folder.is_dir(),
        Hinted::new(
            format!("`{shown}` is not a directory"),
            "Pass a directory with `--out`; it is created if missing",
        )
    );
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to create directory `{shown}`"))?;
    tempfile::tempfile_in(folder)
        .map(drop)
        .with_context(|| format!("failed to write to directory `{shown}` (`--out`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_directory_is_created_or_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        make_writable(&deep).unwrap();
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = make_writable(&file).unwrap_err().to_string();
        assert!(error.contains("is not a directory"), "{error}");
        assert!(make_writable(&file.join("a")).is_err());
        assert!(make_writable(Path::new("/proc")).is_err());
    }
}
