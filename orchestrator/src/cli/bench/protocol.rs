//! `pspd bench protocol`: compares gRPC, REST, SOAP and WebSocket.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use pspd_builtin::Program;

use super::{buildable_image, followed, make_writable, temporary, write_results};
use crate::bench::protocol::{self, Guests, Loopback, Plan, Results};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::fault::duration;
use crate::cli::up::positive;
use crate::terminal;

/// More than a guest has memory for.
const MOST_CALLERS: usize = 1000;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    pspd bench protocol --out results\n  \
    pspd bench protocol --loopback --rounds 5 --callers 1,16")]
pub(super) struct Args {
    /// Run both sides on this host instead of in two guests
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
    /// Also write protocol.json and protocol.html, with charts, to this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the results as JSON on stdout instead of tables
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<Exit> {
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
    let (program, folder) = (&folder.path().join("protocol-bench"), folder.path());
    Program::ProtocolBench
        .write(program)
        .with_context(|| format!("failed to write `{}`", program.display()))?;
    let results = match args.loopback {
        true => {
            let loopback = Loopback { program, folder };
            followed(async |events, cancel| loopback.measure(&plan, events, cancel).await)
        }
        false => {
            let guests = Guests {
                program,
                folder,
                cache: &context.paths.cache,
                image: &buildable_image(context)?,
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
    fn numbers_of_callers_have_bounds() {
        assert!(callers("0").is_err() && callers("1001").is_err() && callers("x").is_err());
        assert_eq!(callers("128"), Ok(128));
    }
}
