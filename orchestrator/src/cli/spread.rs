//! Commands on a deployment over several hosts. Each host does its part, at the same time; their results are told as one.

mod change;
mod faults;
mod logs;
mod schedule;
mod snapshot;
mod status;
mod top;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use anyhow::bail;
use futures::future::join_all;
use pspd_model::hint::Hinted;
use pspd_model::spec::{Name, Spec};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::Command;
use super::context::{Context, block_on, cancelled_by_signals, domain};
use super::exit::Exit;
use super::run::reported;
use super::sending::{Way, foreign_code, own_words, parcel, prepare, words};
use crate::event::Events;
use crate::remote::{self, Printed, Program, Ssh, Words};
use crate::report::{self, Style};

use change::Change;
pub(super) use schedule::scheduled;

/// What a command does with several hosts.
enum Part<'a> {
    /// It changes them, and says so step by step.
    Changes {
        command: &'static str,
        json: bool,
    },
    /// It prints something of each.
    Prints {
        json: bool,
    },
    Status(&'a super::status::Args),
    Snapshot(&'a super::snapshot::SnapshotCommand),
    Logs(&'a super::logs::Args),
    Top(&'a super::top::Args),
    CutsHost(&'a super::fault::HostArgs),
    Injects(&'a super::fault::Args),
    Heals(&'a super::heal::Args),
    /// It is about domains of one host.
    Passes,
    /// It does not reach them.
    Refused,
}

/// What a command does, and the domains that it names.
fn part(command: &Command) -> (Part<'_>, Vec<&String>) {
    let power = |command, args: &'_ super::power::Args| {
        let json = args.options.json;
        match args.options.dry_run {
            true => Part::Prints { json },
            false => Part::Changes { command, json },
        }
    };
    match command {
        Command::Up(args) => {
            let (command, json) = ("up", args.json);
            (Part::Changes { command, json }, Vec::new())
        }
        Command::Down(args) => {
            let (command, json) = ("down", args.json);
            (Part::Changes { command, json }, Vec::new())
        }
        Command::Start(args) => (power("start", args), args.names.iter().collect()),
        Command::Stop(args) => (power("stop", &args.args), args.args.names.iter().collect()),
        Command::Restart(args) => {
            let args = &args.args;
            (power("restart", args), args.names.iter().collect())
        }
        Command::Pause(args) => (power("pause", args), args.names.iter().collect()),
        Command::Resume(args) => (power("resume", args), args.names.iter().collect()),
        Command::Save(args) => (power("save", args), args.names.iter().collect()),
        Command::Restore(args) => (power("restore", args), args.names.iter().collect()),
        Command::Snapshot(args) => (Part::Snapshot(&args.command), Vec::new()),
        Command::Plan(args) => (Part::Prints { json: args.json }, Vec::new()),
        Command::Status(args) => (Part::Status(args), Vec::new()),
        Command::Fault(args) => match args.host() {
            Some(args) => (Part::CutsHost(args), Vec::new()),
            None => (Part::Injects(args), Vec::new()),
        },
        Command::Heal(args) => (Part::Heals(args), Vec::new()),
        Command::Set(args) => (Part::Passes, vec![&args.name]),
        Command::Ssh(args) => (Part::Passes, vec![&args.name]),
        Command::Call(args) => (Part::Passes, vec![&args.name]),
        Command::Console(args) => (Part::Passes, vec![&args.name]),
        Command::Top(args) => (Part::Top(args), args.names.iter().collect()),
        Command::Logs(args) => {
            let part = match args.are_of_services() {
                true => Part::Logs(args),
                false => Part::Passes,
            };
            (part, args.names.iter().collect())
        }
        _ => (Part::Refused, Vec::new()),
    }
}

/// Runs a command on the hosts that it is about, and returns its exit code.
pub(super) fn run(
    context: &Context,
    spec: &Spec,
    command: &Command,
    way: &Way,
) -> anyhow::Result<i32> {
    let (part, named) = part(command);
    let named = named.into_iter().map(|name| domain(spec, name));
    let named: BTreeSet<Name> = named.collect::<anyhow::Result<_>>()?;
    let hosts = hosts_of(spec, &named);
    let words = own_words(words()?.into_iter());
    let spread = Spread {
        context,
        spec,
        way,
        hosts,
        words,
        named: true,
    };
    match part {
        Part::Changes {
            command: name,
            json,
        } => {
            let forgets = matches!(command, Command::Down(args) if args.forgets());
            spread.change(&Change {
                command: name,
                json,
                forgets,
                needs_all: way.brings_up(),
            })
        }
        Part::Prints { json } => spread.print(json),
        Part::Status(args) if args.boot => spread.print(args.json),
        Part::Status(args) => spread.status(args),
        Part::Top(args) => spread.top(args, &named),
        Part::Logs(args) => spread.logs(args, &named),
        Part::Snapshot(command) => spread.snapshot(command),
        Part::CutsHost(args) => spread.cut(args),
        Part::Injects(args) => {
            let (effect, options) = args.described(spec)?;
            let hosts = effect.hosts(spec).into_iter();
            let spread = Spread {
                hosts: hosts.map(|name| Ssh::to(name, &spec.hosts[name])).collect(),
                // All that take a part of it know the whole fault.
                named: false,
                ..spread
            };
            match &spread.hosts[..] {
                [_] => spread.pass(command),
                _ => spread.inject(&options),
            }
        }
        Part::Heals(args) => spread.heal(args),
        Part::Passes => spread.pass(command),
        Part::Refused => bail!(Hinted::new(
            format!(
                "`{}` is on {}, and this command works on one host",
                spec.name,
                spread.names()
            ),
            match command {
                Command::Export(_) | Command::Clone(_) => {
                    "Put all domains on one host for it".to_owned()
                }
                _ => format!("Run it on one of them, with `--deployment {}`", spec.name),
            },
        )),
    }
}

/// The hosts of these domains; all if none is named.
fn hosts_of(spec: &Spec, named: &BTreeSet<Name>) -> Vec<Ssh> {
    let wanted: BTreeSet<&Name> = match named.is_empty() {
        true => spec.hosts.keys().collect(),
        false => {
            let hosts = named.iter().map(|name| spec.domains[name].host.as_ref());
            hosts.flatten().collect()
        }
    };
    let hosts = wanted.into_iter();
    hosts.map(|name| Ssh::to(name, &spec.hosts[name])).collect()
}

struct Spread<'a> {
    context: &'a Context,
    spec: &'a Spec,
    way: &'a Way,
    /// Those that the command is about.
    hosts: Vec<Ssh>,
    words: Vec<String>,
    /// Whether the words name domains and faults, of which each host gets its own.
    named: bool,
}

impl Spread<'_> {
    /// The hosts for people.
    fn names(&self) -> String {
        let names: Vec<&str> = self.hosts.iter().map(|ssh| ssh.name.as_str()).collect();
        names.join(", ")
    }

    /// The words for one host: domains and faults of the others are theirs.
    fn words(&self, host: &Name, json: bool) -> Words {
        let others = |word: &&String| {
            if !self.named {
                return false;
            }
            let fault_of = word.split_once(':').map(|(of, _)| of);
            let mut hosts = self.spec.hosts.keys();
            if hosts.any(|other| other != host && fault_of == Some(other.as_str())) {
                return true;
            }
            let mut domains = self.spec.domains.values();
            let domain = domains.find(|domain| domain.name.as_str() == *word);
            domain.is_some_and(|domain| domain.host.as_ref() != Some(host))
        };
        let own = self.words.iter().filter(|word| !others(word));
        let own = own.map(|word| match word.split_once(':') {
            Some((of, id)) if self.named && of == host.as_str() => id.to_owned(),
            _ => word.clone(),
        });
        let mut words: Vec<String> = own.collect();
        if json && !words.contains(&JSON.to_owned()) {
            words.push(JSON.to_owned());
        }
        Words {
            deployment: self.spec.name.clone(),
            file: self.way.file(),
            site: Some(host.clone()),
            words,
            reads: false,
            foreign_code: false,
        }
    }

    /// Brings to each host what the command needs.
    async fn prepare(
        &self,
        events: &Events,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Vec<anyhow::Result<Program>>> {
        let parcel = parcel(self.context, self.spec, self.way)?;
        let all = self.hosts.iter().map(|ssh| {
            let (parcel, events) = (parcel.clone(), events.on(&ssh.name));
            async move { prepare(ssh, parcel, &events, cancel).await }
        });
        Ok(join_all(all).await)
    }

    /// Prints what a command prints on each host.
    fn print(&self, json: bool) -> anyhow::Result<i32> {
        let printed = block_on(async {
            let cancel = cancelled_by_signals()?;
            Ok(join_all(self.asked(json, &cancel)?).await)
        })?;
        let mut out = crate::terminal::out();
        let mut code = Exit::Done as i32;
        let mut values = BTreeMap::new();
        for (ssh, printed) in self.hosts.iter().zip(printed) {
            let (text, Printed { code: own, errors }) = printed?;
            // What is not a result of the command counts more than one that is.
            if own != Exit::Done as i32 && (own != Exit::Differs as i32 || code == 0) {
                code = own;
            }
            if !errors.is_empty() {
                report::say(format_args!("{}:\n{errors}", ssh.name));
            }
            if json {
                let value: Value = serde_json::from_str(&text).unwrap_or_default();
                values.insert(&ssh.name, value);
            } else if !text.is_empty() {
                writeln!(out, "{}:\n{}", ssh.name, text.trim_end())?;
            }
        }
        if json {
            writeln!(out, "{}", json!({"hosts": values}))?;
        }
        Ok(code)
    }

    /// What the command prints on each host, in their order.
    fn asked<'a>(
        &'a self,
        json: bool,
        cancel: &'a CancellationToken,
    ) -> anyhow::Result<Vec<impl Future<Output = anyhow::Result<(String, Printed)>> + use<'a>>>
    {
        let parcel = parcel(self.context, self.spec, self.way)?;
        let asked = self.hosts.iter().map(|ssh| {
            let (parcel, events) = (parcel.clone(), Events::ignored());
            async move {
                let program = prepare(ssh, parcel, &events, cancel).await?;
                let words = self.words(&ssh.name, json);
                // None of them waits for another.
                let (_, said) = broadcast::channel(1);
                let mut text = String::new();
                let line = |line: String| {
                    text.push_str(&line);
                    text.push('\n');
                    Ok(())
                };
                let printed = remote::follow(ssh, &program, &words, said, cancel, line).await?;
                Ok((text, printed))
            }
        });
        Ok(asked.collect())
    }

    /// Runs a command on the one host that it is about.
    fn pass(&self, command: &Command) -> anyhow::Result<i32> {
        let [ssh] = &self.hosts[..] else {
            bail!(Hinted::new(
                format!(
                    "`{}` is on {}, and this command works on one host",
                    self.spec.name,
                    self.names()
                ),
                "Name domains of one of them",
            ));
        };
        let words = Words {
            words: self.words.clone(),
            reads: self.way.reads(),
            foreign_code: foreign_code(command),
            ..self.words(&ssh.name, false)
        };
        block_on(async {
            let cancel = cancelled_by_signals()?;
            let program = reported(Style::for_stderr(), async |events| {
                prepare(ssh, None, events, &cancel).await
            });
            remote::run(ssh, &program.await?, &words, &cancel).await
        })
    }
}

const JSON: &str = "--json";
