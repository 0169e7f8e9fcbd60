//! Commands on a deployment that is on another machine: they run there, by the same program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{anyhow, bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::{DomainSpec, Name, Spec};
use tokio_util::sync::CancellationToken;

use super::Command;
use super::context::{Context, block_on, cancelled_by_signals};
use super::run::reported;
use crate::cancelled::Cancelled;
use crate::event::Events;
use crate::identity;
use crate::remote::{self, PLANNED, Parcel, Program, Ssh, TOPOLOGY, Words};
use crate::report::Style;

/// How a command reaches the machine of a deployment.
pub(super) enum Way {
    /// It is about this machine.
    Here,
    /// It sends the topology, under this name, and runs there.
    Sends { file: &'static str, adopt: bool },
    /// It runs there. `reads`: it takes what is on this standard input.
    Runs { reads: bool },
    /// It reads or writes files of this machine, and of the lab.
    Both,
}

fn way(command: &Command) -> Way {
    match command {
        Command::Up(args) => Way::Sends {
            file: TOPOLOGY,
            adopt: args.adopts(),
        },
        Command::Plan(_) => Way::Sends {
            file: PLANNED,
            adopt: false,
        },
        Command::Down(_)
        | Command::Start(_)
        | Command::Stop(_)
        | Command::Restart(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Set(_)
        | Command::Save(_)
        | Command::Restore(_)
        | Command::Snapshot(_)
        | Command::Status(_)
        | Command::Top(_)
        | Command::Fault(_)
        | Command::Heal(_)
        | Command::Logs(_)
        | Command::Volume(_) => Way::Runs { reads: false },
        Command::Ssh(args) => Way::Runs {
            reads: args.reads(),
        },
        Command::Call(args) => Way::Runs {
            reads: args.reads(),
        },
        Command::Console(_) | Command::Lab(_) => Way::Runs { reads: true },
        Command::Experiment(args) if !args.runs() => Way::Here,
        Command::Bench(args) if !args.loads() => Way::Here,
        Command::Clone(_)
        | Command::Service(_)
        | Command::Export(_)
        | Command::Experiment(_)
        | Command::Capture(_)
        | Command::Cp(_)
        | Command::Bench(_)
        | Command::Credentials(_) => Way::Both,
        Command::Import(_)
        | Command::Ls(_)
        | Command::Doctor(_)
        | Command::Init(_)
        | Command::Schema
        | Command::Image(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Receive
        | Command::Links
        | Command::Uplink
        | Command::LabSupervisor { .. } => Way::Here,
    }
}

/// Runs a command where its deployment is, if that is another machine, and returns its exit code.
pub(super) fn run(context: &Context, command: &Command) -> anyhow::Result<Option<i32>> {
    let way = way(command);
    let spec = match way {
        Way::Here => return Ok(None),
        Way::Sends { .. } => context.spec(),
        Way::Runs { .. } | Way::Both => context.deployed_spec(),
    };
    // What is wrong with the topology, the command itself says.
    let Ok(spec) = spec else {
        return Ok(None);
    };
    if matches!(way, Way::Sends { .. }) {
        refuse_elsewhere(context, &spec)?;
    }
    let Some((name, host)) = spec.hosts.first_key_value() else {
        return Ok(None);
    };
    if spec.is_spread() {
        return super::spread::run(context, &spec, command, &way).map(Some);
    }
    let ssh = Ssh::to(name, host);
    let words = Words {
        deployment: spec.name.clone(),
        file: way.file(),
        site: None,
        words: own_words(words()?.into_iter()),
        reads: way.reads(),
        foreign_code: foreign_code(command),
    };
    if matches!(way, Way::Both) {
        bail!(Hinted::new(
            format!(
                "`{}` is on host `{name}`, which this command does not reach",
                spec.name
            ),
            format!("Run it on `{name}`, with `--deployment {}`", spec.name),
        ));
    }
    let code = block_on(async {
        let cancel = cancelled_by_signals()?;
        let parcel = parcel(context, &spec, &way)?;
        let prepared = reported(Style::for_stderr(), async |events| {
            prepare(&ssh, parcel, events, &cancel).await
        });
        let program = match prepared.await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                crate::report::say("interrupted; nothing was changed\n");
                return Ok(super::exit::Exit::Interrupted as i32);
            }
            program => program?,
        };
        if way.brings_up() {
            record(context, &spec)?;
        }
        remote::run(&ssh, &program, &words, &cancel).await
    })?;
    if matches!(command, Command::Down(args) if args.forgets()) && code == 0 {
        context.paths.deployment(&spec.name).remove()?;
    }
    Ok(Some(code))
}

impl Way {
    /// What the topology's file is called there.
    pub(super) fn file(&self) -> &'static str {
        match self {
            Way::Sends { file, .. } => file,
            _ => TOPOLOGY,
        }
    }

    pub(super) fn reads(&self) -> bool {
        matches!(self, Way::Runs { reads: true })
    }

    pub(super) fn brings_up(&self) -> bool {
        matches!(self, Way::Sends { file: TOPOLOGY, .. })
    }
}

/// Whether the command's exit code is that of another program, in a guest or in the lab.
pub(super) fn foreign_code(command: &Command) -> bool {
    matches!(command, Command::Ssh(_) | Command::Lab(_))
}

/// No domain moves from one machine to another, with its data.
fn refuse_elsewhere(context: &Context, spec: &Spec) -> anyhow::Result<()> {
    let Ok(Some(before)) = context.paths.deployment(&spec.name).recorded_spec() else {
        return Ok(());
    };
    let again = || {
        format!(
            "Run `pspd --deployment {} down --volumes` first, or change its `name`",
            spec.name
        )
    };
    let several = |spec: &Spec| match spec.is_spread() {
        true => "several hosts",
        false => "one machine",
    };
    ensure!(
        before.is_spread() == spec.is_spread(),
        Hinted::new(
            format!(
                "`{}` is on {}, and the topology says {}",
                spec.name,
                several(&before),
                several(spec)
            ),
            again(),
        )
    );
    let place = |spec: &Spec, domain: &DomainSpec| {
        let host = domain
            .host
            .as_ref()
            .and_then(|name| Some((name, spec.hosts.get(name)?)));
        host.map(|(name, host)| (name.clone(), host.ssh.clone(), host.port))
    };
    let shown = |place: &Option<(Name, String, Option<u16>)>| match place {
        Some((name, ..)) => format!("host `{name}`"),
        None => "this machine".to_owned(),
    };
    for domain in before.domains.values() {
        let Some(now) = spec.domains.get(&domain.name) else {
            continue;
        };
        let (was, is) = (place(&before, domain), place(spec, now));
        ensure!(
            was == is,
            Hinted::new(
                format!(
                    "`{}` is on {}, and the topology says {}",
                    domain.name,
                    shown(&was),
                    shown(&is)
                ),
                again(),
            )
        );
    }
    Ok(())
}

/// The topology's file here.
fn origin(context: &Context, spec: &Spec) -> PathBuf {
    let recorded = context.paths.deployment(&spec.name).origin();
    let origin = context.origin().or(recorded.ok().flatten());
    origin.unwrap_or_default()
}

/// What a command sends to each host; `None` if it sends nothing.
pub(super) fn parcel(context: &Context, spec: &Spec, way: &Way) -> anyhow::Result<Option<Parcel>> {
    let Way::Sends { file, adopt } = *way else {
        return Ok(None);
    };
    let keys = context.paths.deployment(&spec.name).keys();
    Ok(Some(Parcel {
        spec: spec.clone(),
        file,
        origin: origin(context, spec),
        adopt,
        keys: match spec.is_spread() && way.brings_up() {
            true => identity::shared(&keys, &spec.name)?,
            false => BTreeMap::new(),
        },
    }))
}

/// Records that the deployment is on other machines.
pub(super) fn record(context: &Context, spec: &Spec) -> anyhow::Result<()> {
    let home = context.paths.deployment(&spec.name);
    home.create()?;
    home.record_spec(spec)?;
    home.record_origin(&origin(context, spec))
}

/// Connects to the host, and brings there what the command needs: this program, and the topology.
pub(super) async fn prepare(
    ssh: &Ssh,
    parcel: Option<Parcel>,
    events: &Events,
    cancel: &CancellationToken,
) -> anyhow::Result<Program> {
    let found = {
        let ssh = ssh.clone();
        tokio::task::spawn_blocking(move || remote::find(&ssh))
    };
    let program = tokio::select! {
        program = found => program??,
        () = cancel.cancelled() => bail!(Cancelled::during("connecting to the host")),
    };
    let (ssh, events, cancel) = (ssh.clone(), events.clone(), cancel.clone());
    let send = move || -> anyhow::Result<Program> {
        if !program.there {
            let scope = events.begin("host/pspd", "copy pspd to the host");
            program.send(&ssh, &scope, &cancel)?;
        }
        if let Some(parcel) = parcel {
            remote::send(&ssh, &program, &parcel, &events, &cancel)?;
        }
        Ok(program)
    };
    tokio::task::spawn_blocking(send).await?
}

/// The options that choose a topology and directories here.
const OF_THIS_MACHINE: [&str; 4] = ["--file", "--deployment", "--state-dir", "--cache-dir"];

pub(super) fn words() -> anyhow::Result<Vec<String>> {
    let words = std::env::args_os()
        .skip(1)
        .map(std::ffi::OsString::into_string);
    let words = words.collect::<Result<_, _>>();
    words.map_err(|word| anyhow!("the argument `{}` is not UTF-8", word.display()))
}

/// The words of the command line without the options that are about this machine.
pub(super) fn own_words(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut own = Vec::new();
    let mut words = words;
    while let Some(word) = words.next() {
        if word == "--" {
            own.push(word);
            break;
        }
        let option = word
            .split_once('=')
            .map_or(word.as_str(), |(option, _)| option);
        if !OF_THIS_MACHINE.contains(&option) {
            own.push(word);
        } else if option == word {
            words.next();
        }
    }
    own.extend(words);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_about_this_machine_stay_here() {
        for (line, expected) in [
            ("up --json", "up --json"),
            ("--file a.yaml up --state-dir=b --jobs 3", "up --jobs 3"),
            (
                "ssh web --deployment demo -- ls --file x",
                "ssh web -- ls --file x",
            ),
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert_eq!(own_words(words).join(" "), expected);
        }
    }
}
