//! `pspd capture`: captures packets of the deployment's network.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pspd_model::spec::Spec;

use super::context::{self, Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::fault::duration;
use crate::capture::{Capture, Captured, Wanted};
use crate::{report, terminal};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd capture -o all.pcapng\n  pspd capture web-server --filter 'tcp port 8080' --for 10s -o web.pcapng\n  pspd capture -o - | wireshark -k -i -"
)]
pub(super) struct Args {
    /// Only what these domains send or receive
    names: Vec<String>,
    /// Only packets that this expression of pcap-filter(7) selects, such as `tcp port 50051`
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Stop after this time, such as `10s`; without it, at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    limit: Option<Duration>,
    /// The pcapng file to write; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let wanted = wanted(context, &spec, &args)?;
    let bridge = wanted.bridge.clone();
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let reach = context.reach(&spec)?;
        let captured = tokio::task::spawn_blocking(move || -> anyhow::Result<Captured> {
            let to = output(&args.output, args.force)?;
            let capture = Capture::start(&reach, wanted)?;
            let began = || report::say(format!("capturing on {bridge}; {}\n", until(args.limit)));
            let captured = capture.write(to, args.limit, &cancel, began);
            if captured.is_err() && is_file(&args.output) {
                // Nothing is in it.
                let _ = std::fs::remove_file(&args.output);
            }
            let captured = captured?;
            report::say(format!("{}\n", summary(captured, &args.output)));
            Ok(captured)
        });
        captured.await??;
        Ok(Exit::Done)
    })
}

fn wanted(context: &Context, spec: &Spec, args: &Args) -> anyhow::Result<Wanted> {
    let mut macs = Vec::new();
    for name in &args.names {
        macs.push(spec.domains[&context::domain(spec, name)?].mac);
    }
    let network = context
        .connection(spec)?
        .network(&spec.name, &spec.network.name)?;
    let live = network.map(|network| network.live()).transpose()?.flatten();
    let bridge = live.and_then(|live| live.bridge).with_context(|| {
        format!(
            "the network of `{}` is not active. Run `pspd up`",
            spec.name
        )
    })?;
    let domains = spec.domains.values();
    Ok(Wanted {
        bridge,
        macs,
        filter: args.filter.clone(),
        names: domains
            .map(|domain| (domain.address, domain.name.to_string()))
            .collect(),
    })
}

fn is_file(path: &Path) -> bool {
    path != Path::new("-")
}

fn output(path: &Path, force: bool) -> anyhow::Result<Box<dyn Write + Send>> {
    if !is_file(path) {
        let out = terminal::raw();
        ensure!(
            !out.is_terminal(),
            "a capture is no text for a terminal; send it to a program, such as `| wireshark -k -i -`"
        );
        return Ok(Box::new(out));
    }
    let mut options = File::options();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(
                "`{}` exists; pass `--force` to overwrite it",
                path.display()
            )
        }
        file => {
            let file = file.with_context(|| format!("failed to create `{}`", path.display()))?;
            Ok(Box::new(file))
        }
    }
}

fn until(limit: Option<Duration>) -> String {
    match limit {
        Some(limit) => format!("stops after {} s, or at Ctrl-C", limit.as_secs_f64()),
        None => "Ctrl-C stops it".to_owned(),
    }
}

fn summary(captured: Captured, output: &Path) -> String {
    let Captured { packets, dropped } = captured;
    let noun = if packets == 1 { "packet" } else { "packets" };
    let place = match is_file(output) {
        true => format!("`{}`", output.display()),
        false => "stdout".to_owned(),
    };
    let mut text = format!("{packets} {noun} in {place}");
    if dropped > 0 {
        text += &format!("; the host dropped {dropped} more, which came too fast");
    }
    text
}
