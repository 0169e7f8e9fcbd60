//! Phases one after the other, and in each its steps. A fault with a time is healed when that is over, in whatever phase.

use std::path::Path;
use std::time::{Duration, Instant};

use pspd_model::experiment::{Action, Phase, Step};
use pspd_model::spec::Name;
use tokio_util::sync::CancellationToken;

use crate::hint::told;

/// What the caller does to the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed<'a> {
    /// The words of `pspd fault`. Returns the fault's id, if something of it is left to heal.
    Fault {
        words: &'a str,
        /// After this time it is healed, also if this process is killed.
        lasts: Option<Duration>,
    },
    Heal(Vec<Name>),
    /// The words of a power command.
    Power(&'a str),
    Up(&'a Path),
}

/// What happened. Times are from the start of the load.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Timeline {
    pub phases: Vec<Span>,
    pub events: Vec<Event>,
    pub faults: Vec<FaultSpan>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub name: String,
    pub from: Duration,
    pub to: Duration,
    /// Whether steps were due in it.
    pub acts: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub what: String,
    pub from: Duration,
    pub to: Duration,
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct FaultSpan {
    pub words: String,
    pub from: Duration,
    /// When its heal began; for one without anything to heal, when it was injected.
    pub ended: Duration,
    /// When its heal ended.
    pub to: Duration,
}

struct Active {
    words: String,
    id: Name,
    from: Duration,
    /// When it is to be healed.
    until: Option<Duration>,
}

struct Player<'a, A> {
    begin: Instant,
    cancel: &'a CancellationToken,
    act: A,
    timeline: Timeline,
    active: Vec<Active>,
}

/// Plays all phases, or until a step fails or `cancel` ends it, and heals what is left.
pub(super) async fn play<A>(
    phases: &[Phase],
    begin: Instant,
    cancel: &CancellationToken,
    act: A,
) -> Timeline
where
    A: AsyncFnMut(Deed<'_>) -> anyhow::Result<Option<Name>>,
{
    let mut player = Player {
        begin,
        cancel,
        act,
        timeline: Timeline::default(),
        active: Vec::new(),
    };
    for phase in phases {
        let from = player.begin.elapsed();
        let whole = player.phase(phase, from).await;
        let to = player.begin.elapsed();
        player.timeline.phases.push(Span {
            name: phase.name.clone(),
            from,
            to,
            acts: !phase.steps.is_empty(),
        });
        if !whole {
            break;
        }
    }
    player.heal(|_| true).await;
    player.timeline
}

impl<A> Player<'_, A>
where
    A: AsyncFnMut(Deed<'_>) -> anyhow::Result<Option<Name>>,
{
    /// Returns whether the next phase follows.
    async fn phase(&mut self, phase: &Phase, from: Duration) -> bool {
        let end = from + phase.lasts;
        let mut steps = phase.steps.iter().peekable();
        loop {
            let step = steps.peek().map(|step| from + step.at);
            let heal = self.active.iter().filter_map(|fault| fault.until).min();
            let heal = heal.filter(|at| *at <= end || step.is_some());
            let healing = heal.is_some_and(|heal| step.is_none_or(|step| heal <= step));
            let due = if healing { heal } else { step };
            if !self.wait(due.unwrap_or(end)).await {
                return false;
            }
            let done = match (healing, due) {
                (_, None) => return true,
                (true, Some(due)) => {
                    self.heal(|fault| fault.until.is_some_and(|until| until <= due))
                        .await
                }
                (false, Some(_)) => match steps.next() {
                    Some(step) => self.step(step).await,
                    None => true,
                },
            };
            if !done {
                return false;
            }
        }
    }

    async fn wait(&self, until: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = tokio::time::sleep_until((self.begin + until).into()) => true,
        }
    }

    async fn step(&mut self, step: &Step) -> bool {
        let deed = match &step.action {
            Action::Fault { words, lasts } => Deed::Fault {
                words,
                lasts: *lasts,
            },
            Action::Power { words } => Deed::Power(words),
            Action::Up { file } => Deed::Up(file),
            Action::Heal => return self.heal(|_| true).await,
        };
        let from = self.begin.elapsed();
        let done = (self.act)(deed).await;
        let to = self.begin.elapsed();
        if let (Action::Fault { words, lasts }, Ok(id)) = (&step.action, &done) {
            let (words, ended) = (words.clone(), to);
            match id.clone() {
                Some(id) => self.active.push(Active {
                    words,
                    id,
                    from,
                    until: lasts.map(|lasts| to + lasts),
                }),
                None => self.timeline.faults.push(FaultSpan {
                    words,
                    from,
                    ended,
                    to,
                }),
            }
        }
        self.event(step.action.to_string(), from, done.map(drop))
    }

    /// Heals the chosen faults, and returns whether they are.
    async fn heal(&mut self, chosen: impl Fn(&Active) -> bool) -> bool {
        let (healed, left) = self.active.drain(..).partition(chosen);
        self.active = left;
        let healed: Vec<Active> = healed;
        if healed.is_empty() {
            return true;
        }
        let from = self.begin.elapsed();
        let ids = healed.iter().map(|fault| fault.id.clone()).collect();
        let done = (self.act)(Deed::Heal(ids)).await;
        let to = self.begin.elapsed();
        let words: Vec<&str> = healed.iter().map(|fault| fault.words.as_str()).collect();
        let what = format!("heal {}", words.join("; "));
        self.timeline
            .faults
            .extend(healed.iter().map(|fault| FaultSpan {
                words: fault.words.clone(),
                from: fault.from,
                ended: from,
                to,
            }));
        self.event(what, from, done.map(drop))
    }

    fn event(&mut self, what: String, from: Duration, done: anyhow::Result<()>) -> bool {
        let to = self.begin.elapsed();
        let error = done.err().map(|error| told(&error));
        let whole = error.is_none();
        self.timeline.events.push(Event {
            what,
            from,
            to,
            error,
        });
        whole
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pspd_model::experiment::Bounds;

    use super::*;

    /// Of time. Long enough that a machine that is busy changes no order.
    fn units(count: u64) -> Duration {
        Duration::from_millis(200 * count)
    }

    fn phase(name: &str, lasts: u64, steps: Vec<(u64, Action)>) -> Phase {
        let steps = steps.into_iter().map(|(at, action)| Step {
            at: units(at),
            action,
        });
        Phase {
            name: name.to_owned(),
            lasts: units(lasts),
            steps: steps.collect(),
            bounds: Bounds::default(),
        }
    }

    fn fault(words: &str, lasts: Option<u64>) -> Action {
        let lasts = lasts.map(units);
        Action::Fault {
            words: words.to_owned(),
            lasts,
        }
    }

    /// `boil` fails, and `kick` leaves nothing to heal.
    fn played(phases: &[Phase]) -> (Timeline, Vec<String>) {
        let done = Mutex::new(Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let timeline = runtime.block_on(async {
            let act = async |deed: Deed<'_>| {
                let text = match &deed {
                    Deed::Heal(ids) => format!("heal {}", ids.len()),
                    Deed::Fault { words, .. } | Deed::Power(words) => (*words).to_owned(),
                    Deed::Up(file) => file.display().to_string(),
                };
                done.lock().unwrap().push(text.clone());
                anyhow::ensure!(text != "boil", "it does not boil");
                Ok((text != "kick").then(|| Name::new("kill-1").unwrap()))
            };
            play(phases, Instant::now(), &CancellationToken::new(), act).await
        });
        (timeline, done.into_inner().unwrap())
    }

    #[test]
    fn steps_follow_each_other_and_faults_are_healed_in_time() {
        let power = Action::Power {
            words: "stop b".into(),
        };
        let (timeline, done) = played(&[
            phase("before", 1, vec![]),
            phase(
                "bad",
                8,
                vec![
                    (1, fault("kill a", Some(3))),
                    (1, power),
                    (7, fault("pause b", Some(50))),
                ],
            ),
            phase("after", 2, vec![(0, fault("kick", None))]),
        ]);
        // The heal of the last fault is due after the end.
        assert_eq!(
            done,
            ["kill a", "stop b", "heal 1", "pause b", "kick", "heal 1"]
        );
        let lasts = |index: usize| timeline.phases[index].to - timeline.phases[index].from;
        assert!(lasts(0) >= units(1) && lasts(1) >= units(8) && lasts(2) >= units(2));
        let acts: Vec<_> = timeline.phases.iter().map(|span| span.acts).collect();
        assert_eq!(acts, [false, true, true]);
        let faults: Vec<_> = timeline
            .faults
            .iter()
            .map(|one| one.words.as_str())
            .collect();
        assert_eq!(faults, ["kill a", "kick", "pause b"]);
        let kill = &timeline.faults[0];
        assert!(
            kill.from >= units(2) && kill.ended >= kill.from + units(3) && kill.to >= kill.ended
        );
        let kick = &timeline.faults[1];
        assert_eq!(kick.ended, kick.to);
    }

    #[test]
    fn a_step_that_fails_ends_the_experiment_and_faults_are_healed() {
        let boil = Action::Power {
            words: "boil".into(),
        };
        let (timeline, done) = played(&[
            phase(
                "bad",
                2,
                vec![(0, fault("kill a", None)), (0, boil), (1, Action::Heal)],
            ),
            phase("after", 2, vec![]),
        ]);
        assert_eq!(done, ["kill a", "boil", "heal 1"]);
        assert_eq!(timeline.phases.len(), 1);
        assert_eq!(
            timeline.events[1].error.as_deref(),
            Some("it does not boil")
        );
    }
}
