//! End-to-end tests: real domains in labs, or real servers on loopback, one scenario after the other.
//!
//! Usage: `e2e [WORD ...]` runs the scenarios whose name has one of the words; all without one.

mod archive;
mod boots;
mod commands;
mod faults;
mod interruptions;
mod ordinary_user;
mod postgres;
mod power_cut;
mod reference;
mod third_party;
mod uri;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// A scenario's name and story.
type Scenario = (&'static str, fn() -> anyhow::Result<()>);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let groups = [
        reference::SCENARIOS,
        archive::SCENARIOS,
        boots::SCENARIOS,
        commands::SCENARIOS,
        faults::SCENARIOS,
        interruptions::SCENARIOS,
        ordinary_user::SCENARIOS,
        postgres::SCENARIOS,
        power_cut::SCENARIOS,
        third_party::SCENARIOS,
        uri::SCENARIOS,
    ];
    let chosen: Vec<&Scenario> = groups
        .into_iter()
        .flatten()
        .filter(|(name, _)| {
            words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
        })
        .collect();
    let mut failed = 0;
    for (name, story) in &chosen {
        say(&format!("running {name}"));
        let started = Instant::now();
        let result = std::panic::catch_unwind(story);
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(Ok(())) => say(&format!("ok      {name} ({seconds:.1} s)")),
            Ok(Err(error)) => {
                failed += 1;
                say(&format!("FAILED  {name} ({seconds:.1} s)\n{error:#}"));
            }
            Err(_) => {
                failed += 1;
                say(&format!("FAILED  {name} ({seconds:.1} s): it panicked"));
            }
        }
    }
    say(&format!(
        "{} passed, {failed} failed",
        chosen.len() - failed
    ));
    if failed == 0 && !chosen.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // A closed stdout ends the run by the exit code alone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
