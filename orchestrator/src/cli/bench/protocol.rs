//! `pspd bench protocol`: compares gRPC, REST, SOAP and WebSocket.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;

use super::{buildable_image, followed, make_writable, temporary, write_results};
use crate::bench::protocol::{self, Guests, Loopback, Plan, Results};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::fault::duration;
use crate::cli::up::positive;
use crate::terminal;

/// Where `make protocols` puts the program, beside the topology.
const PROGRAM: &str = "target/services/protocol-bench";
/// More than a guest has memory for.
const MOST_CALLERS: usize = 1000;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    pspd bench protocol --out results\n  \
    pspd bench protocol --loopback --rounds 5 --callers 1,16")]
pub(super) struct Args {
    /// Run both sides on this host, in place of two guests
    #[arg(long)]
    loopback: bool,
    /// How often each case is measured
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = positive)]
    rounds: usize,
    /// The time of each case in each round; calls that begin in it are completed
    #[arg(long = "for", value_name = "DURATION", default_value = "1s", value_parser = duration)]
    time: Duration,
    /// Numbers of concurrent callers, each of which calls again when its last call is answered
    #[arg(long, value_name = "COUNT,...", value_delimiter = ',', default_value = "1,16,128", value_parser = callers)]
    callers: Vec<usize>,
    /// The program of both sides; by default, target/services/protocol-bench beside the topology, which `make protocols` builds
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Also write protocol.json and protocol.html, with charts, to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the results as JSON on stdout instead of tables
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    let program = program(args.program.as_deref(), &context.file)?;
    if let Some(folder) = &args.out {
        make_writable(folder)?;
    }
    let mut callers = args.callers.clone();
    callers.sort_unstable();
    callers.dedup();
    let plan = Plan {
        rounds: args.rounds,
        time: args.time,
        callers,
    };
    let folder = temporary()?;
    let (program, folder) = (&*program, folder.path());
    let results = match args.loopback {
        true => {
            let loopback = Loopback { program, folder };
            followed(async |events, cancel| loopback.measure(&plan, events, cancel).await)
        }
        false => {
            let spec = context.spec_before_build()?;
            let guests = Guests {
                program,
                folder,
                cache: &context.paths.cache,
                image: buildable_image(&spec)?,
            };
            followed(async |events, cancel| guests.measure(&plan, events, cancel).await)
        }
    };
    match results? {
        Some(results) => show(&results, args),
        None => Ok(Exit::Interrupted),
    }
}

fn show(results: &Results, args: &Args) -> anyhow::Result<Exit> {
    let json = serde_json::to_string_pretty(results)?;
    if let Some(folder) = &args.out {
        let page = protocol::page(results);
        write_results(
            folder,
            &[("protocol.json", &json), ("protocol.html", &page)],
        )?;
    }
    match args.json {
        true => writeln!(terminal::out(), "{json}")?,
        false => write!(terminal::out(), "{}", protocol::table(results))?,
    }
    Ok(Exit::Done)
}

fn program(given: Option<&Path>, topology: &Path) -> anyhow::Result<PathBuf> {
    let beside = topology.parent().unwrap_or(Path::new("")).join(PROGRAM);
    let path = std::path::absolute(given.unwrap_or(&beside))?;
    ensure!(
        path.is_file(),
        "there is no program `{}`. Run `make protocols` in pspd's source, or pass the program with `--program`",
        path.display()
    );
    Ok(path)
}

fn callers(text: &str) -> Result<usize, String> {
    match positive(text)? {
        count if count > MOST_CALLERS => Err(format!("must be at most {MOST_CALLERS}")),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_beside_the_topology_or_given() {
        let folder = tempfile::tempdir().unwrap();
        let topology = folder.path().join("topology.yaml");
        let error = program(None, &topology).unwrap_err().to_string();
        assert!(error.contains("Run `make protocols`"), "{error}");
        let built = folder.path().join(PROGRAM);
        std::fs::create_dir_all(built.parent().unwrap()).unwrap();
        std::fs::write(&built, "").unwrap();
        assert_eq!(program(None, &topology).unwrap(), built);
        let other = folder.path().join("other");
        assert!(program(Some(&other), &topology).is_err());
        std::fs::write(&other, "").unwrap();
        assert_eq!(program(Some(&other), &topology).unwrap(), other);
    }

    #[test]
    fn numbers_of_callers_have_bounds() {
        assert!(callers("0").is_err() && callers("1001").is_err() && callers("x").is_err());
        assert_eq!(callers("128"), Ok(128));
    }
}
