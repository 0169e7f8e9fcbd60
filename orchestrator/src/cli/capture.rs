//! `pspd capture`: captures packets of the deployment's network.

mod keys;

use std::fs::{File, Permissions};
use std::io::{ErrorKind, IsTerminal as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::{Name, Spec};

use self::keys::Keys;
use super::completions;
use super::context::{self, Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::fault::duration;
use crate::capture::{Capture, Captured, End, Wanted};
use crate::{report, terminal};

/// The permission bits of a file with keys.
const SECRET: u32 = 0o600;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd capture -o all.pcapng\n  pspd capture web-server --filter 'tcp port 8080' --for 10s -o web.pcapng\n  pspd capture --keys --for 1m -o decrypted.pcapng\n  pspd capture -o - | wireshark -k -i -"
)]
pub(super) struct Args {
    /// Only what these domains send or receive
    #[arg(add = completions::domains())]
    names: Vec<String>,
    /// Only packets that this expression of pcap-filter(7) selects, such as `tcp port 50051`
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Stop after this time, such as `10s`; without it, at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    limit: Option<Duration>,
    /// Also write the TLS keys of these domains, or of all with `tls_key_log: true`, so that readers decrypt the packets.
    /// The packets are written when the capture ends
    #[arg(long)]
    keys: bool,
    /// The pcapng file to write; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let names = args.names.iter().map(|name| context::domain(&spec, name));
    let names: Vec<Name> = names.collect::<Result<_, _>>()?;
    let wanted = wanted(context, &spec, &names, args.filter.clone())?;
    let bridge = wanted.bridge.clone();
    block_on(async {
        let cancel = cancelled_by_signals()?;
        let reach = context.reach(&spec)?;
        let keys = args
            .keys
            .then(|| Keys::of(context, &spec, &names))
            .transpose()?;
        let captured = tokio::task::spawn_blocking(move || -> anyhow::Result<Captured> {
            if let Some(keys) = &keys {
                keys.check(&cancel)?;
            }
            let to = output(&args)?;
            let spool = keys.as_ref().map(|_| spool(&args.output)).transpose()?;
            let capture = Capture::start(&reach, wanted)?;
            let began = || report::say(format!("capturing on {bridge}; {}\n", until(args.limit)));
            let end = End {
                limit: args.limit,
                cancel: &cancel,
            };
            let captured = match keys.zip(spool) {
                Some((keys, spool)) => {
                    capture.write_with_keys(to, spool, end, began, || keys.gather())
                }
                None => capture.write(to, end, began),
            };
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

fn wanted(
    context: &Context,
    spec: &Spec,
    names: &[Name],
    filter: Option<String>,
) -> anyhow::Result<Wanted> {
    let network = context
        .connection(spec)?
        .network(&spec.name, &spec.network.name)?;
    let live = network.map(|network| network.live()).transpose()?.flatten();
    let bridge = live.and_then(|live| live.bridge).ok_or_else(|| {
        let message = format!("the network of `{}` is not active", spec.name);
        Hinted::new(message, "Run `pspd up`")
    })?;
    let domains = spec.domains.values();
    Ok(Wanted {
        bridge,
        macs: names.iter().map(|name| spec.domains[name].mac).collect(),
        filter,
        names: domains
            .map(|domain| (domain.address, domain.name.to_string()))
            .collect(),
    })
}

fn is_file(path: &Path) -> bool {
    path != Path::new("-")
}

/// With keys, only the user can read the file.
fn output(args: &Args) -> anyhow::Result<Box<dyn Write + Send>> {
    let path = &args.output;
    if !is_file(path) {
        let out = terminal::raw();
        ensure!(
            !out.is_terminal(),
            Hinted::new(
                "refusing to write binary data to a terminal",
                "Pipe it to a program, such as `| wireshark -k -i -`",
            )
        );
        return Ok(Box::new(out));
    }
    let mut options = File::options();
    options.write(true);
    if args.keys {
        options.mode(SECRET);
    }
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(Hinted::new(
                format!("`{}` exists", path.display()),
                "Pass `--force` to overwrite it",
            ))
        }
        file => {
            let failed = || format!("failed to create `{}`", path.display());
            let file = file.with_context(failed)?;
            if args.keys {
                // It may have existed.
                file.set_permissions(Permissions::from_mode(SECRET))
                    .with_context(failed)?;
            }
            Ok(Box::new(file))
        }
    }
}

/// An unnamed file where the output will be, or in the folder for temporary files.
fn spool(output: &Path) -> anyhow::Result<File> {
    let folder = match output.parent().filter(|_| is_file(output)) {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_owned(),
        None => std::env::temp_dir(),
    };
    tempfile::tempfile_in(&folder).with_context(|| {
        format!(
            "failed to create a temporary file in `{}`",
            folder.display()
        )
    })
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
        text += &format!("; the host dropped {dropped} more, which arrived too fast");
    }
    text
}
