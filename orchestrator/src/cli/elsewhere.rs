//! Commands on a deployment that is on another machine: they run there, by the same program.

use anyhow::{anyhow, bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::Spec;
use tokio_util::sync::CancellationToken;

use super::Command;
use super::context::{Context, block_on, cancelled_by_signals};
use super::run::reported;
use crate::cancelled::Cancelled;
use crate::remote::{self, PLANNED, Parcel, Program, Ssh, TOPOLOGY, Words};
use crate::report::Style;

/// How a command reaches the machine of a deployment.
enum Way {
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
    let ssh = Ssh {
        name: name.clone(),
        host: host.clone(),
    };
    let (file, reads) = match way {
        Way::Sends { file, .. } => (file, false),
        Way::Runs { reads } => (TOPOLOGY, reads),
        Way::Both | Way::Here => bail!(Hinted::new(
            format!(
                "`{}` is on host `{name}`, which this command does not reach",
                spec.name
            ),
            format!("Run it on `{name}`, with `--deployment {}`", spec.name),
        )),
    };
    let words = Words {
        deployment: spec.name.clone(),
        file,
        words: own_words(words()?.into_iter()),
        reads,
        foreign_code: matches!(command, Command::Ssh(_) | Command::Lab(_)),
    };
    let code = block_on(async {
        let cancel = cancelled_by_signals()?;
        let program = match prepare(context, &spec, &ssh, &way, &cancel).await {
            Err(error) if Cancelled::is_cause_of(&error) => {
                crate::report::say("interrupted; nothing was changed\n");
                return Ok(super::exit::Exit::Interrupted as i32);
            }
            program => program?,
        };
        remote::run(&ssh, &program, &words, &cancel).await
    })?;
    if matches!(command, Command::Down(args) if args.forgets()) && code == 0 {
        context.paths.deployment(&spec.name).remove()?;
    }
    Ok(Some(code))
}

/// A deployment is on one machine at a time.
fn refuse_elsewhere(context: &Context, spec: &Spec) -> anyhow::Result<()> {
    let Ok(Some(before)) = context.paths.deployment(&spec.name).recorded_spec() else {
        return Ok(());
    };
    let place = |spec: &Spec| match spec.hosts.keys().next() {
        Some(host) => format!("host `{host}`"),
        None => "this machine".to_owned(),
    };
    ensure!(
        before.hosts == spec.hosts,
        Hinted::new(
            format!(
                "`{}` is on {}, and the topology says {}",
                spec.name,
                place(&before),
                place(spec)
            ),
            format!(
                "Run `pspd --deployment {} down --volumes` first, or change its `name`",
                spec.name
            ),
        )
    );
    Ok(())
}

/// Connects to the host, and brings there what the command needs: this program, and the topology.
async fn prepare(
    context: &Context,
    spec: &Spec,
    ssh: &Ssh,
    way: &Way,
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
    let home = context.paths.deployment(&spec.name);
    let recorded = home.origin().ok().flatten();
    let origin = context.origin().or(recorded).unwrap_or_default();
    let parcel = match way {
        Way::Sends { file, adopt } => Some(Parcel {
            spec: spec.clone(),
            file,
            origin: origin.clone(),
            adopt: *adopt,
        }),
        _ => None,
    };
    let (ssh, cancel) = (ssh.clone(), cancel.clone());
    let program = reported(Style::for_stderr(), async move |events| {
        let events = events.clone();
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
    })
    .await?;
    if let Way::Sends { file: TOPOLOGY, .. } = way {
        home.create()?;
        home.record_spec(spec)?;
        home.record_origin(&origin)?;
    }
    Ok(program)
}

/// The options that choose a topology and directories here.
const OF_THIS_MACHINE: [&str; 4] = ["--file", "--deployment", "--state-dir", "--cache-dir"];

fn words() -> anyhow::Result<Vec<String>> {
    let words = std::env::args_os()
        .skip(1)
        .map(std::ffi::OsString::into_string);
    let words = words.collect::<Result<_, _>>();
    words.map_err(|word| anyhow!("the argument `{}` is not UTF-8", word.display()))
}

/// The words of the command line without the options that are about this machine.
fn own_words(words: impl Iterator<Item = String>) -> Vec<String> {
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
