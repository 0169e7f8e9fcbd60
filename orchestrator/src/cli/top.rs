//! `pspd top`: what each domain uses of the host, over intervals.

mod rates;

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pspd_model::spec::{Name, Spec};
use serde_json::json;

use super::completions;
use super::context::{self, Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::fault::duration;
use crate::libvirt::{self, Connection};
use crate::report::columns;
use crate::terminal;
pub(super) use rates::Row;
use rates::{Sample, rows};

const HEAD: [&str; 10] = [
    "domain",
    "state",
    "CPU",
    "memory",
    "on the host",
    "read",
    "written",
    "received",
    "sent",
    "host",
];

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd top\n  pspd top web-server --interval 10s --json >usage.jsonl\n\nCPU is of one processor of the host: a domain with two vCPUs can use 200%. \"memory\" is what the guest has, and \"on the host\" what its process takes. Disks and network are per second, as the guest sees them."
)]
pub(super) struct Args {
    /// The domains [default: all]
    #[arg(value_name = "NAME", add = completions::domains())]
    pub(super) names: Vec<String>,
    /// The time over which rates are measured, and after which they are shown again
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub(super) interval: Duration,
    /// Show one interval, then end [default off a terminal, without --json]
    #[arg(long)]
    once: bool,
    /// Print a line of JSON for each interval
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The words for one of several hosts, whose rows are shown here.
    pub(super) fn words(&self, names: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut words = vec!["top".to_owned(), "--json".to_owned()];
        words.push(format!("--interval={}s", self.interval.as_secs()));
        words.extend(self.is_once().then(|| "--once".to_owned()));
        words.extend(names);
        words
    }

    /// Whether one interval is shown in the place of the last.
    fn is_redrawn(&self) -> bool {
        std::io::stdout().is_terminal() && !self.json && !self.once
    }

    pub(super) fn is_once(&self) -> bool {
        self.once || (!self.is_redrawn() && !self.json)
    }

    /// Shows the rows of one interval.
    pub(super) fn show(&self, rows: &[Row], interval: Duration) -> anyhow::Result<()> {
        if self.is_redrawn() {
            // Cursor home, then clear to the end of the screen.
            write!(terminal::raw(), "\x1b[H\x1b[J")?;
        }
        match self.json {
            true => writeln!(terminal::out(), "{}", line(rows, interval)?)?,
            false => write!(terminal::out(), "{}", table(rows))?,
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let names: Vec<Name> = match args.names.is_empty() {
        true => spec.domains.keys().cloned().collect(),
        false => {
            let names = args.names.iter();
            names
                .map(|name| context::domain(&spec, name))
                .collect::<anyhow::Result<_>>()?
        }
    };
    let connection = context.connection(&spec)?;
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let mut before = sample(&connection, &spec, &names).await?;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(Exit::Done),
                () = tokio::time::sleep(args.interval) => {}
            }
            let now = sample(&connection, &spec, &names).await?;
            args.show(&rows(&before, &now), now.at - before.at)?;
            if args.is_once() {
                return Ok(Exit::Done);
            }
            before = now;
        }
    })
}

async fn sample(connection: &Connection, spec: &Spec, names: &[Name]) -> anyhow::Result<Sample> {
    let (connection, deployment, names) = (connection.clone(), spec.name.clone(), names.to_vec());
    tokio::task::spawn_blocking(move || {
        let mut powers = Vec::new();
        let mut defined = Vec::new();
        for name in names {
            let domain = connection.domain(&deployment, name.as_str())?;
            let power = domain.as_ref().map(libvirt::Domain::power).transpose()?;
            powers.push((name, power));
            defined.extend(domain);
        }
        let at = Instant::now();
        let mut usage = libvirt::usage(&defined)?;
        let domains = powers.into_iter().map(|(name, power)| {
            let usage = usage.remove(name.as_str());
            // A domain without a process has the statistics of its last one.
            let usage = usage.filter(|_| power.is_some_and(|power| power.has_process()));
            (name, (power, usage))
        });
        let domains = domains.collect();
        Ok(Sample { at, domains })
    })
    .await?
}

fn line(rows: &[Row], interval: Duration) -> serde_json::Result<String> {
    serde_json::to_string(&json!({
        "time": Timestamp::now().to_string(),
        "interval": interval.as_secs_f64(),
        "domains": rows,
    }))
}

fn table(rows: &[Row]) -> String {
    let has_hosts = rows.iter().any(|row| row.host.is_some());
    let head = &HEAD[..HEAD.len() - usize::from(!has_hosts)];
    let rows: Vec<_> = rows.iter().map(Row::cells).collect();
    columns(head, &rows, terminal::out_width())
}
