//! Commands on a deployment that is on another machine: they run there, by the same program.

use anyhow::{bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::{DomainSpec, Name, Spec};

use super::Command;
use super::context::{Context, block_on, cancelled_by_signals};
use super::run::reported;
use super::sending::{Way, foreign_code, own_words, parcel, prepare, record, words};
use super::spread;
use crate::cancelled::Cancelled;
use crate::remote::{self, PLANNED, Ssh, TOPOLOGY, Words};
use crate::report::Style;

/// How the command reaches the machines of its deployment.
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
        | Command::Room { .. }
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
    let Ok(mut spec) = spec else {
        return Ok(None);
    };
    if matches!(way, Way::Sends { .. }) {
        spec = spread::scheduled(context, spec)?;
        refuse_elsewhere(context, &spec)?;
    }
    let Some((name, host)) = spec.hosts.first_key_value() else {
        return Ok(None);
    };
    if spec.is_spread() {
        return spread::run(context, &spec, command, &way).map(Some);
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
