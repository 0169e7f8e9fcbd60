//! End-to-end tests: real domains in labs, or real servers on loopback, as many scenarios at once as there are cores.
//!
//! `tests/run` starts them, with the options of `cargo test`. They are ignored tests, so that `cargo test --workspace`
//! starts no virtual machine.

mod archive;
mod boots;
mod builds;
mod clock;
mod clones;
mod commands;
mod daily;
mod directories;
mod examples;
mod experiment;
mod faults;
mod gone;
mod guest_states;
mod injected;
mod interruptions;
mod ordinary_user;
mod other_host;
mod package;
mod polyglot;
mod postgres;
mod postgres_ha;
mod power;
mod power_cut;
mod protocols;
mod published;
mod reading;
mod reference;
mod several_hosts;
mod snapshots;
mod third_party;
mod tutorial;
mod uri;
mod walk;

use std::process::ExitCode;

fn main() -> ExitCode {
    pspd_tests::runner::main(&[
        reference::SCENARIOS,
        archive::SCENARIOS,
        boots::SCENARIOS,
        builds::SCENARIOS,
        commands::SCENARIOS,
        directories::SCENARIOS,
        examples::SCENARIOS,
        experiment::SCENARIOS,
        faults::SCENARIOS,
        gone::SCENARIOS,
        guest_states::SCENARIOS,
        injected::SCENARIOS,
        interruptions::SCENARIOS,
        ordinary_user::SCENARIOS,
        other_host::SCENARIOS,
        several_hosts::SCENARIOS,
        package::SCENARIOS,
        polyglot::SCENARIOS,
        postgres::SCENARIOS,
        postgres_ha::SCENARIOS,
        power::SCENARIOS,
        power_cut::SCENARIOS,
        protocols::SCENARIOS,
        snapshots::SCENARIOS,
        third_party::SCENARIOS,
        tutorial::SCENARIOS,
        uri::SCENARIOS,
        walk::SCENARIOS,
    ])
}
