//! Runs scenarios with the options, output and exit codes of `cargo test`, by `libtest-mimic`.
//!
//! A scenario runs on a thread of its own:
//!
//! ```text
//! story ── ends ───────────────────────────────────────────────► passed or failed
//!   └── deadline: its current wait fails ── cleanup ends ──────► failed
//!                                             └── CLEANUP over ► failed; its processes are killed, nothing else runs
//! ```

use std::cmp::Reverse;
use std::io::Write as _;
use std::num::NonZero;
use std::panic::{catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Parser;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::process::Children;
use crate::scenario::{Scenario, SkipInCi, say_of};
use crate::wait;

/// What a scenario may take after its deadline: longer than one `pspd down`, which removes its deployment.
const CLEANUP: Duration = Duration::from_secs(600);

/// End-to-end scenarios, three at once for two cores, because each waits now and then; without a filter, all.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    harness: Arguments,

    /// Further filters: a scenario runs if its name contains one of them.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// The program: runs those of the scenarios that the command line selects.
pub fn main(groups: &[&[Scenario]]) -> ExitCode {
    let options = Options::parse();
    let run = Arc::new(Run {
        in_ci: std::env::var("CI").is_ok_and(|value| value == "true"),
        cleanup: CLEANUP,
        room: Room::default(),
        stuck: OnceLock::new(),
    });
    let mut scenarios: Vec<Scenario> = groups.iter().copied().flatten().copied().collect();
    // Those that take longest first, so that none of them is still running when all others are done; a large one and an
    // ordinary one in turn, as they run side by side.
    scenarios.sort_by_key(|scenario| Reverse(scenario.deadline));
    let (large, others): (Vec<_>, Vec<_>) = scenarios.into_iter().partition(|one| one.large);
    let (mut others, mut scenarios) = (others.into_iter(), Vec::new());
    for one in large {
        scenarios.push(one);
        scenarios.extend(others.next());
    }
    scenarios.extend(others);
    let trials: Vec<Trial> = scenarios.into_iter().map(|one| run.trial(one)).collect();
    let mut arguments = options.arguments(&trials);
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(cores + cores / 2);
    let selected = trials.iter().any(|trial| !arguments.is_filtered_out(trial));
    if arguments.include_ignored && !selected {
        let error = "error: no scenario has such a name; `--list` shows all";
        let _ = writeln!(std::io::stderr(), "{error}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

impl Options {
    /// libtest-mimic takes one filter: with more, what none of them selects is skipped by its name.
    fn arguments(mut self, trials: &[Trial]) -> Arguments {
        if self.filters.is_empty() {
            return self.harness;
        }
        self.filters.extend(self.harness.filter.take());
        let selected = |trial: &&Trial| {
            self.filters.iter().any(|filter| {
                let filter = Some(filter.clone());
                let arguments = Arguments {
                    filter,
                    ..self.harness.clone()
                };
                !arguments.is_filtered_out(trial)
            })
        };
        let others = trials.iter().filter(|trial| !selected(trial));
        self.harness.skip = others.map(|trial| trial.name().to_owned()).collect();
        self.harness.exact = true;
        self.harness
    }
}

/// What the scenarios of one run share.
struct Run {
    in_ci: bool,
    cleanup: Duration,
    room: Room,
    /// The name of a scenario that did not end.
    stuck: OnceLock<&'static str>,
}

impl Run {
    fn trial(self: &Arc<Run>, scenario: Scenario) -> Trial {
        let run = self.clone();
        let trial = Trial::ignorable_test(scenario.name, move || {
            run.result(&scenario)
                .map_err(|error| Failed::from(format!("{error:#}")))
        });
        // Only on request: scenarios start virtual machines and take minutes.
        trial.with_ignored_flag(true)
    }

    fn result(&self, scenario: &Scenario) -> anyhow::Result<Completion> {
        let _entered = self.room.enter(scenario.large);
        if let Some(stuck) = self.stuck.get() {
            return Ok(Completion::ignored_with(format!(
                "not run: `{stuck}` did not end"
            )));
        }
        if let Some(Err(reason)) = scenario.need.map(|need| need()) {
            if self.in_ci && scenario.skip_in_ci == SkipInCi::Fails {
                bail!("CI requires this scenario, which would be skipped: {reason}");
            }
            return Ok(Completion::ignored_with(reason));
        }
        let started = Instant::now();
        let result = self.story(scenario);
        if let Err(error) = &result {
            // Shown now as well: the list of failures may be an hour away.
            say_of(scenario.name, &format!("{error:#}"));
        }
        let took = format!("{:.1} s", started.elapsed().as_secs_f64());
        say_of(scenario.name, &took);
        result.map(|()| Completion::Completed)
    }

    fn story(&self, scenario: &Scenario) -> anyhow::Result<()> {
        let Scenario {
            name,
            deadline,
            story,
            ..
        } = *scenario;
        let end = Instant::now() + deadline;
        let (sender, receiver) = mpsc::channel();
        let children = Children::default();
        let own = children.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                own.adopt_this_thread();
                wait::set_deadline(end);
                // Nobody receives what a scenario returns after the run gave it up.
                let _ = sender.send(catch_unwind(story));
            })?;

        let passed = format!("the deadline of {:.0} s passed", deadline.as_secs_f64());
        let mut ended = receiver.recv_timeout(deadline);
        if ended.is_err() {
            say_of(name, &format!("{passed}; stopping"));
            ended = receiver.recv_timeout(self.cleanup);
        }
        let Ok(result) = ended else {
            self.stuck.get_or_init(|| name);
            if let Err(error) = children.kill() {
                say_of(name, &format!("{error:#}"));
            }
            bail!(
                "{passed}, and cleanup did not end within {:.0} s; to remove its deployment, run \
                 `pspd --state-dir state down --volumes` in its folder, `{}/pspd-test-*`",
                self.cleanup.as_secs_f64(),
                std::env::temp_dir().display()
            );
        };
        let result = result.unwrap_or_else(|panic| resume_unwind(panic));
        if Instant::now() < end {
            return result;
        }
        Err(match result {
            Ok(()) => anyhow!(passed),
            Err(error) => error.context(passed),
        })
    }
}

/// What runs on the machine: at most one large scenario, and beside it at most one other.
#[derive(Default)]
struct Room {
    now: Mutex<Now>,
    left: Condvar,
}

#[derive(Default)]
struct Now {
    others: usize,
    large: bool,
    large_waiting: usize,
}

impl Now {
    fn is_full_for(&self, large: bool) -> bool {
        match (large, self.large) {
            (true, runs) => runs || self.others > 1,
            (false, true) => self.others > 0,
            // A large one has its turn.
            (false, false) => self.large_waiting > 0,
        }
    }
}

impl Room {
    /// Waits until there is room, which is free again once the result is dropped.
    fn enter(&self, large: bool) -> Entered<'_> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.large_waiting += usize::from(large);
        let full = |now: &mut Now| now.is_full_for(large);
        let waited = self.left.wait_while(now, full);
        let mut now = waited.unwrap_or_else(PoisonError::into_inner);
        if large {
            now.large_waiting -= 1;
            now.large = true;
        } else {
            now.others += 1;
        }
        Entered { room: self, large }
    }
}

struct Entered<'a> {
    room: &'a Room,
    large: bool,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut now = self.room.now.lock().unwrap_or_else(PoisonError::into_inner);
        if self.large {
            now.large = false;
        } else {
            now.others -= 1;
        }
        self.room.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use anyhow::{anyhow, ensure};

    use super::*;
    use crate::process::Running;
    use crate::wait::eventually;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(200);

    fn run(in_ci: bool) -> Arc<Run> {
        Arc::new(Run {
            in_ci,
            cleanup: SHORT,
            room: Room::default(),
            stuck: OnceLock::new(),
        })
    }

    /// "passed", "skipped: REASON" or "failed: REASON".
    fn outcome(run: &Run, scenario: Scenario) -> String {
        match run.result(&scenario) {
            Ok(Completion::Completed) => "passed".to_owned(),
            Ok(Completion::Ignored { reason }) => format!("skipped: {}", reason.unwrap()),
            Err(error) => format!("failed: {error:#}"),
        }
    }

    #[test]
    fn a_story_passes_or_fails_with_its_whole_error() {
        let passes = Scenario::new("passes", LONG, || Ok(()));
        let fails = Scenario::new("fails", LONG, || {
            Err(anyhow!("no route").context("failed to dial"))
        });
        assert_eq!(outcome(&run(true), passes), "passed");
        assert_eq!(
            outcome(&run(true), fails),
            "failed: failed to dial: no route"
        );
    }

    #[test]
    #[should_panic(expected = "one of two")]
    fn a_panic_reaches_the_harness() {
        let scenario = Scenario::new("panics", LONG, || panic!("one of two"));
        outcome(&run(false), scenario);
    }

    #[test]
    fn a_missing_need_skips_with_its_reason_and_fails_ci_unless_optional() {
        let needs = Scenario::new("needs", LONG, || panic!("it ran"))
            .needs(|| Err("no browser is installed".to_owned()));
        assert_eq!(
            outcome(&run(false), needs),
            "skipped: no browser is installed"
        );
        assert_eq!(
            outcome(&run(true), needs),
            "failed: CI requires this scenario, which would be skipped: no browser is installed"
        );
        assert_eq!(
            outcome(&run(true), needs.optional()),
            "skipped: no browser is installed"
        );
    }

    #[test]
    fn the_deadline_ends_a_wait_and_the_story_cleans_up() {
        static CLEANED: AtomicBool = AtomicBool::new(false);
        let scenario = Scenario::new("waits", SHORT, || {
            let result = eventually("a sign", LONG, || Ok(false));
            eventually("the cleanup", LONG, || {
                Ok(CLEANED.swap(true, Ordering::Relaxed))
            })?;
            result
        });
        assert_eq!(
            outcome(&run(false), scenario),
            "failed: the deadline of 0 s passed: timed out after 0 s waiting for a sign"
        );
        assert!(CLEANED.load(Ordering::Relaxed));
    }

    #[test]
    fn one_scenario_at_most_runs_beside_a_large_one() {
        static LARGE_ONES: AtomicU32 = AtomicU32::new(0);
        static OTHERS: AtomicU32 = AtomicU32::new(0);
        let large = Scenario::new("large", LONG, || {
            let before = LARGE_ONES.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            let others = OTHERS.load(Ordering::SeqCst);
            LARGE_ONES.fetch_sub(1, Ordering::SeqCst);
            ensure!(before == 0, "two large ones run");
            ensure!(others <= 1, "{others} run beside a large one");
            Ok(())
        })
        .large();
        let other = Scenario::new("other", LONG, || {
            OTHERS.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            OTHERS.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        });
        let run = &run(false);
        thread::scope(|scope| {
            for scenario in [large, other, other, other].repeat(8) {
                scope.spawn(move || assert_eq!(outcome(run, scenario), "passed"));
            }
        });
    }

    #[test]
    fn three_others_run_at_once() {
        static THREE: Barrier = Barrier::new(3);
        let other = Scenario::new("other", LONG, || {
            THREE.wait();
            Ok(())
        });
        let run = &run(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(move || assert_eq!(outcome(run, other), "passed"));
            }
        });
    }

    #[test]
    fn a_story_that_succeeds_too_late_fails() {
        let scenario = Scenario::new("slow", Duration::ZERO, || Ok(()));
        assert_eq!(
            outcome(&run(false), scenario),
            "failed: the deadline of 0 s passed"
        );
    }

    #[test]
    fn a_story_that_never_ends_loses_its_processes_and_nothing_runs_after_it() {
        static CHILD: AtomicU32 = AtomicU32::new(0);
        let run = run(false);
        let stuck = Scenario::new("stuck", SHORT, || {
            let sleep = &mut Command::new("sleep");
            let running = Running::start(sleep.arg("600"), "sleep".to_owned(), LONG)?;
            CHILD.store(running.id(), Ordering::Relaxed);
            loop {
                thread::park();
            }
        });
        let seen = outcome(&run, stuck);
        assert!(
            seen.starts_with(
                "failed: the deadline of 0 s passed, and cleanup did not end within 0 s"
            ),
            "{seen}"
        );
        eventually("the child's end", LONG, || {
            let stat =
                std::fs::read_to_string(format!("/proc/{}/stat", CHILD.load(Ordering::Relaxed)));
            Ok(stat.is_ok_and(|stat| stat.contains(") Z ")))
        })
        .unwrap();
        let next = Scenario::new("next", LONG, || panic!("it ran"));
        assert_eq!(outcome(&run, next), "skipped: not run: `stuck` did not end");
    }

    fn selected(words: &[&str]) -> Vec<String> {
        let run = run(false);
        let trials: Vec<Trial> = ["a full disk", "a port in use", "two ups at once"]
            .map(|name| run.trial(Scenario::new(name, LONG, || Ok(()))))
            .into();
        let options = Options::parse_from(["e2e"].iter().chain(words));
        let arguments = options.arguments(&trials);
        let selected = trials
            .iter()
            .filter(|trial| !arguments.is_filtered_out(trial));
        selected.map(|trial| trial.name().to_owned()).collect()
    }

    #[test]
    fn scenarios_are_selected_by_any_of_the_words() {
        let all = ["a full disk", "a port in use", "two ups at once"];
        assert_eq!(selected(&[]), all);
        assert_eq!(selected(&["disk"]), all[..1]);
        assert_eq!(selected(&["disk", "port"]), all[..2]);
        assert_eq!(selected(&["--skip", "two"]), all[..2]);
        assert_eq!(selected(&["--skip", "disk", "in use", "ups"]), all[1..]);
        assert_eq!(selected(&["--exact", "a full disk", "port"]), all[..1]);
        assert_eq!(selected(&["typo", "other"]), [""; 0]);
    }
}
