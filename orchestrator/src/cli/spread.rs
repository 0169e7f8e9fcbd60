//! Commands on a deployment over several hosts. Each host does its part, at the same time; their results are told as one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::join_all;
use pspd_model::hint::Hinted;
use pspd_model::spec::{Name, Spec};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::Command;
use super::context::{Context, block_on, cancelled_by_signals, domain};
use super::exit::Exit;
use super::run::{reported, take_lock};
use super::sending::{Way, foreign_code, own_words, parcel, prepare, record, words};
use crate::cancelled::Cancelled;
use crate::event::{Event, Events};
use crate::hint::told;
use crate::observe::status::{HostStatus, Status};
use crate::remote::{self, Printed, Program, Ssh, Words, links};
use crate::report::{self, Style, Summary};

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
        Command::Down(args) if !args.save => {
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
        Command::Plan(args) => (Part::Prints { json: args.json }, Vec::new()),
        Command::Status(args) => (Part::Status(args), Vec::new()),
        Command::Set(args) => (Part::Passes, vec![&args.name]),
        Command::Ssh(args) => (Part::Passes, vec![&args.name]),
        Command::Call(args) => (Part::Passes, vec![&args.name]),
        Command::Console(args) => (Part::Passes, vec![&args.name]),
        Command::Logs(args) => (Part::Passes, args.names.iter().collect()),
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
    };
    match part {
        Part::Changes {
            command: name,
            json,
        } => {
            let forgets = matches!(command, Command::Down(args) if args.forgets());
            spread.change(name, json, forgets)
        }
        Part::Prints { json } => spread.print(json),
        Part::Status(args) if args.boot => spread.print(args.json),
        Part::Status(args) => {
            let hosts = spread.hosts.into_iter().map(Ssh::impatient).collect();
            Spread { hosts, ..spread }.status(args)
        }
        Part::Passes => spread.pass(command),
        Part::Refused => bail!(Hinted::new(
            format!(
                "`{}` is on {}, and this command works on one host",
                spec.name,
                spread.names()
            ),
            format!("Run it on one of them, with `--deployment {}`", spec.name),
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
}

impl Spread<'_> {
    /// The hosts for people.
    fn names(&self) -> String {
        let names: Vec<&str> = self.hosts.iter().map(|ssh| ssh.name.as_str()).collect();
        names.join(", ")
    }

    /// The words for one host: domains of the others are theirs.
    fn words(&self, host: &Name, json: bool) -> Words {
        let others = |word: &String| {
            let mut domains = self.spec.domains.values();
            let domain = domains.find(|domain| domain.name.as_str() == word);
            domain.is_some_and(|domain| domain.host.as_ref() != Some(host))
        };
        let own = self.words.iter().filter(|word| !others(word));
        let mut words: Vec<String> = own.cloned().collect();
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

    /// Runs a command that changes the hosts, and prints one summary.
    fn change(&self, command: &'static str, json: bool, forgets: bool) -> anyhow::Result<i32> {
        let style = Style::chosen(json);
        block_on(async {
            let cancel = cancelled_by_signals()?;
            let changed = reported(style, async |events| {
                self.change_all(command, forgets, events, &cancel).await
            });
            let (summary, code) = match changed.await {
                Err(error) if Cancelled::is_cause_of(&error) => {
                    report::say("interrupted; nothing was changed\n");
                    return Ok(Exit::Interrupted as i32);
                }
                changed => changed?,
            };
            report::summary(&summary, self.spec, style);
            Ok(code)
        })
    }

    async fn change_all(
        &self,
        command: &'static str,
        forgets: bool,
        events: &Events,
        cancel: &CancellationToken,
    ) -> anyhow::Result<(Summary, i32)> {
        let home = self.context.paths.deployment(&self.spec.name);
        let no_wait = self.words.iter().any(|word| word == "--no-wait");
        let _lock = match self.way.brings_up() || home.exists() {
            true => Some(take_lock(&home.lock_file(), no_wait, cancel, events).await?),
            false => None,
        };
        let mut summary = Summary::new(command);
        let mut reached = Vec::new();
        for (ssh, program) in self.hosts.iter().zip(self.prepare(events, cancel).await?) {
            match program {
                Ok(program) => reached.push((ssh, program)),
                // Only `up` needs all of them.
                Err(error) if self.way.brings_up() || Cancelled::is_cause_of(&error) => {
                    return Err(error);
                }
                Err(error) => summary.add_failure(&ssh.name, &told(&error)),
            }
        }
        let mut connects = false;
        if self.way.brings_up() {
            self.leave(&mut summary, events, cancel).await?;
            if !summary.success {
                return Ok((summary, Exit::Failed as i32));
            }
            record(self.context, self.spec)?;
            connects = links::start(&self.context.paths, self.spec)?;
        }
        let code = self
            .follow_all(&reached, &mut summary, events, cancel)
            .await;
        if summary.cancelled && connects {
            links::stop(&home)?;
        }
        if summary.success && command == "up" {
            for (host, why) in links::connected(&home, &self.spec.hosts, CONNECTED).await? {
                let why = format!("its lab is not connected to the others: {why}");
                summary.add_failure(&host, &why);
            }
        }
        if summary.success && command == "down" {
            links::stop(&home)?;
            if forgets {
                home.remove()?;
            }
        }
        let code = match (code, summary.success) {
            (0, false) => Exit::Failed as i32,
            (code, _) => code,
        };
        Ok((summary, code))
    }

    /// Takes down what is on hosts that are no longer in the topology.
    async fn leave(
        &self,
        summary: &mut Summary,
        events: &Events,
        cancel: &CancellationToken,
    ) -> anyhow::Result<()> {
        let home = self.context.paths.deployment(&self.spec.name);
        let before = home
            .recorded_spec()?
            .map_or_else(BTreeMap::new, |spec| spec.hosts);
        let left = before
            .iter()
            .filter(|(name, _)| !self.spec.hosts.contains_key(*name));
        let left = Spread {
            hosts: left.map(|(name, host)| Ssh::to(name, host)).collect(),
            words: vec!["down".to_owned()],
            way: &Way::Runs { reads: false },
            ..*self
        };
        let programs = left.prepare(events, cancel).await?;
        let programs = programs.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let reached: Vec<_> = left.hosts.iter().zip(programs).collect();
        left.follow_all(&reached, summary, events, cancel).await;
        Ok(())
    }

    /// Follows the steps of hosts, adds their results, and returns the exit code.
    async fn follow_all(
        &self,
        reached: &[(&Ssh, Program)],
        all: &mut Summary,
        events: &Events,
        cancel: &CancellationToken,
    ) -> i32 {
        let planned = RefCell::new(Planned::default());
        let (failed, _) = broadcast::channel(reached.len().max(1));
        let runs = reached.iter().map(|(ssh, program)| {
            let (planned, failed) = (&planned, &failed);
            async move {
                let mut summary = None;
                let words = self.words(&ssh.name, true);
                let line = |line: String| {
                    let value: Value = serde_json::from_str(&line)
                        .with_context(|| format!("host `{}` printed `{line}`", ssh.name))?;
                    if value["event"] == "summary" {
                        summary = Some(serde_json::from_value(value)?);
                        return Ok(());
                    }
                    match serde_json::from_value(value)? {
                        Event::Planned { steps } => {
                            planned.borrow_mut().add(steps, reached.len(), events)
                        }
                        event => events.emit(event.on(&ssh.name)),
                    }
                    Ok(())
                };
                let heard = failed.subscribe();
                let printed = remote::follow(ssh, program, &words, heard, cancel, line).await;
                if printed.as_ref().is_ok_and(|printed| printed.code == 0) {
                    return (printed, summary);
                }
                // Without another run, nobody hears it.
                let _unheard = failed.send(ssh.name.clone());
                (printed, summary)
            }
        });
        let mut code = Exit::Done as i32;
        for ((ssh, _), (printed, summary)) in reached.iter().zip(join_all(runs).await) {
            match (printed, summary) {
                (Ok(printed), Some(summary)) => {
                    all.add(&ssh.name, summary);
                    code = code.max(printed.code);
                }
                (Ok(Printed { code: 0, .. }), None) => {}
                (Ok(printed), None) => {
                    all.add_failure(&ssh.name, &printed.errors);
                    code = code.max(printed.code);
                }
                (Err(error), _) => {
                    all.add_failure(&ssh.name, &told(&error));
                    code = code.max(Exit::Failed as i32);
                }
            }
        }
        code
    }

    /// Prints what a command prints on each host.
    fn print(&self, json: bool) -> anyhow::Result<i32> {
        let printed = block_on(async {
            let cancel = cancelled_by_signals()?;
            self.collect(json, &cancel).await
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

    /// Runs a command on each host, and returns what it printed.
    async fn collect(
        &self,
        json: bool,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Vec<anyhow::Result<(String, Printed)>>> {
        let programs = self.prepare(&Events::ignored(), cancel).await?;
        // None of them waits for another.
        let (failed, _) = broadcast::channel(1);
        let runs = self.hosts.iter().zip(programs).map(|(ssh, program)| {
            let heard = failed.subscribe();
            async move {
                let mut text = String::new();
                let (program, words) = (program?, self.words(&ssh.name, json));
                let line = |line: String| {
                    text.push_str(&line);
                    text.push('\n');
                    Ok(())
                };
                let printed = remote::follow(ssh, &program, &words, heard, cancel, line).await?;
                Ok((text, printed))
            }
        });
        Ok(join_all(runs).await)
    }

    fn status(&self, args: &super::status::Args) -> anyhow::Result<i32> {
        block_on(async {
            let cancel = cancelled_by_signals()?;
            loop {
                let status = self.read_status(&cancel).await?;
                if cancel.is_cancelled() {
                    return Ok(match args.watch {
                        true => Exit::Done,
                        false => Exit::Interrupted,
                    } as i32);
                }
                if !args.watch {
                    super::status::show(&status, args.json)?;
                    return Ok(match status.healthy {
                        true => Exit::Done,
                        false => Exit::Differs,
                    } as i32);
                }
                super::status::show_again(&status, args.json)?;
                tokio::select! {
                    () = cancel.cancelled() => return Ok(Exit::Done as i32),
                    () = tokio::time::sleep(super::status::INTERVAL) => {}
                }
            }
        })
    }

    /// The state of all hosts, of which some may not answer.
    async fn read_status(&self, cancel: &CancellationToken) -> anyhow::Result<Status> {
        let home = self.context.paths.deployment(&self.spec.name);
        let linked = links::state(&home, &self.spec.hosts)?.unwrap_or_default();
        let mut status = Status::of_several(&self.spec.name, self.names());
        for (ssh, printed) in self.hosts.iter().zip(self.collect(true, cancel).await?) {
            let own = printed.and_then(|(text, printed)| {
                let own = serde_json::from_str::<Status>(&text);
                own.with_context(|| match printed.errors.trim() {
                    "" => format!("host `{}` printed `{text}`", ssh.name),
                    errors => errors.trim_start_matches("error: ").to_owned(),
                })
            });
            let (own, unreached) = match own {
                Ok(own) => (Some(own), None),
                Err(error) => (None, Some(told(&error))),
            };
            let link = linked.get(&ssh.name);
            let detail = match link {
                None => Some("run `pspd up` to connect them".to_owned()),
                Some(link) => link.fault.clone(),
            };
            let host = HostStatus {
                name: ssh.name.clone(),
                unreached,
                linked: link.is_some_and(|link| link.fault.is_none()),
                detail,
                network: None,
            };
            status.add(host, own, &self.spec.clone().on(&ssh.name));
        }
        Ok(status)
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
/// For the labs of all hosts to be connected, once all are up.
const CONNECTED: Duration = Duration::from_secs(60);

/// How many steps the hosts planned; told once all did.
#[derive(Default)]
struct Planned {
    hosts: usize,
    steps: usize,
}

impl Planned {
    fn add(&mut self, steps: usize, of: usize, events: &Events) {
        self.hosts += 1;
        self.steps += steps;
        if self.hosts == of {
            events.emit(Event::Planned { steps: self.steps });
        }
    }
}
