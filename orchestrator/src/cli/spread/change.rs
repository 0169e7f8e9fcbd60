//! Commands that change several hosts: each does its steps, and their results become one summary.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use serde_json::Value;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::Spread;
use crate::cancelled::Cancelled;
use crate::cli::context::{block_on, cancelled_by_signals};
use crate::cli::exit::Exit;
use crate::cli::run::{reported, take_lock};
use crate::cli::sending::{Way, record};
use crate::event::{Event, Events};
use crate::hint::told;
use crate::other_hosts::Said;
use crate::remote::{self, Printed, Program, Ssh, cuts, links};
use crate::report::{self, Style, Summary};

/// More than there is to say of other hosts before one of them listens.
const SAID: usize = 256;
/// For the labs of all hosts to be connected, once all are up.
const CONNECTED: Duration = Duration::from_secs(60);

/// What changes on all hosts.
pub(super) struct Change {
    pub(super) command: &'static str,
    pub(super) json: bool,
    /// Whether nothing is left of the deployment afterwards.
    pub(super) forgets: bool,
    /// Whether nothing is done where a host does not answer.
    pub(super) needs_all: bool,
}

impl Spread<'_> {
    /// Runs a command that changes the hosts, and prints one summary.
    pub(super) fn change(&self, change: &Change) -> anyhow::Result<i32> {
        self.summarize(change.json, async |events, cancel| {
            self.change_all(change, events, cancel).await
        })
    }

    /// Draws the events of what changes the hosts, prints its summary, and returns its exit code.
    pub(super) fn summarize(
        &self,
        json: bool,
        work: impl AsyncFnOnce(&Events, &CancellationToken) -> anyhow::Result<(Summary, i32)>,
    ) -> anyhow::Result<i32> {
        let style = Style::chosen(json);
        block_on(async {
            let cancel = cancelled_by_signals()?;
            let worked = reported(style, async |events| work(events, &cancel).await);
            let (summary, code) = match worked.await {
                Err(error) if Cancelled::is_cause_of(&error) => {
                    report::say("interrupted; nothing was changed\n");
                    return Ok(Exit::Interrupted as i32);
                }
                worked => worked?,
            };
            report::summary(&summary, self.spec, style);
            Ok(code)
        })
    }

    async fn change_all(
        &self,
        change: &Change,
        events: &Events,
        cancel: &CancellationToken,
    ) -> anyhow::Result<(Summary, i32)> {
        let home = self.context.paths.deployment(&self.spec.name);
        let no_wait = self.words.iter().any(|word| word == "--no-wait");
        let _lock = match self.way.brings_up() || home.exists() {
            true => Some(take_lock(&home.lock_file(), no_wait, cancel, events).await?),
            false => None,
        };
        let mut summary = Summary::new(change.command);
        let mut reached = Vec::new();
        for (ssh, program) in self.hosts.iter().zip(self.prepare(events, cancel).await?) {
            match program {
                Ok(program) => reached.push((ssh, program)),
                Err(error) if change.needs_all || Cancelled::is_cause_of(&error) => {
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
        let followed = self.follow_all(&reached, &mut summary, events, cancel);
        let code = followed.await.code;
        if summary.cancelled && connects {
            links::stop(&home)?;
        }
        if summary.success && change.command == "up" {
            for (host, why) in links::connected(&home, &self.spec.hosts, CONNECTED).await? {
                let why = format!("its lab is not connected to the others: {why}");
                summary.add_failure(&host, &why);
            }
        }
        if summary.success && change.command == "down" {
            links::stop(&home)?;
            cuts::heal(&home, self.spec.hosts.keys())?;
            if change.forgets {
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

    /// Follows the steps of hosts, and adds their results.
    pub(super) async fn follow_all(
        &self,
        reached: &[(&Ssh, Program)],
        all: &mut Summary,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Followed {
        let planned = RefCell::new(Planned::default());
        let met = RefCell::new(BTreeMap::new());
        let faults = RefCell::new(Vec::new());
        let (say, _) = broadcast::channel(SAID);
        let runs = reached.iter().map(|(ssh, program)| {
            let (planned, met, faults, say) = (&planned, &met, &faults, &say);
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
                        Event::Met { when } => {
                            let mut met = met.borrow_mut();
                            let hosts = met.entry(when).or_insert(0);
                            *hosts += 1;
                            if *hosts == reached.len() {
                                let _unheard = say.send(Said::Met(when));
                            }
                        }
                        event => {
                            if let Event::Injected { fault } = &event {
                                faults.borrow_mut().push(fault.clone());
                            }
                            events.emit(event.on(&ssh.name));
                        }
                    }
                    Ok(())
                };
                let heard = say.subscribe();
                let printed = remote::follow(ssh, program, &words, heard, cancel, line).await;
                if printed.as_ref().is_ok_and(|printed| printed.code == 0) {
                    return (printed, summary);
                }
                // Without another run, nobody hears it.
                let _unheard = say.send(Said::Failed(ssh.name.clone()));
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
        Followed {
            code,
            faults: faults.into_inner(),
        }
    }
}

/// What became of the parts of the hosts.
pub(super) struct Followed {
    /// The highest exit code.
    pub(super) code: i32,
    /// The ids of faults that were injected.
    pub(super) faults: Vec<String>,
}

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
