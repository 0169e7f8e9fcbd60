//! Benchmarks: each figure beside what it is compared with, measured in turn within one run.
//!
//! Usage: `bench [WORD ...]` runs the sections whose name has one of the words; all without one.

mod ai;
mod archive;
mod boot;
mod builds;
mod commands;
mod compare;
mod database;
mod generator;
mod hosts;
mod languages;
mod load;
mod memory;
mod protocols;
mod quality;
mod queries;
mod scale;
mod up;
mod warm;
mod wire;

use std::io::Write as _;
use std::time::Duration;

use pspd_tests::loopback;

/// The services' own, so that the engine is measured as a service runs it.
#[global_allocator]
static ALLOCATOR: serving::Allocator = serving::Allocator;

/// A section's name, and what it measures.
type Section = (&'static str, fn() -> anyhow::Result<()>);

const SECTIONS: &[Section] = &[
    ("boot", boot::measure),
    ("up", up::measure),
    ("commands", commands::measure),
    ("warm", warm::measure),
    ("ai", ai::measure),
    ("quality", quality::measure),
    ("database", database::measure),
    ("engine", database::against_engine),
    ("memory", memory::measure),
    ("queries", queries::measure),
    ("archive", archive::measure),
    ("hosts", hosts::measure),
    ("scale-domains", scale::by_domains),
    ("scale-hosts", scale::by_hosts),
    ("load", generator::measure),
    ("protocols", protocols::measure),
    ("languages", languages::measure),
    ("builds", builds::measure),
];

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    for (name, measure) in SECTIONS {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            say(&format!("## {name}"));
            measure()?;
        }
    }
    Ok(())
}

fn say(line: &str) {
    // A closed stdout is the reader's own choice.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One row: the runs in seconds, and their median.
fn row(what: &str, runs: &[Duration]) -> f64 {
    let seconds: Vec<String> = runs
        .iter()
        .map(|run| format!("{:.2}", run.as_secs_f64()))
        .collect();
    let middle = median(runs);
    say(&format!(
        "{what}: median {middle:.2} s of [{}]",
        seconds.join(", ")
    ));
    middle
}

fn median(runs: &[Duration]) -> f64 {
    let mut sorted: Vec<f64> = runs.iter().map(Duration::as_secs_f64).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
