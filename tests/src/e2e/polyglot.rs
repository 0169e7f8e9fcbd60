//! The example with services in other languages: the same client passes against them, and each of them can be replaced by the
//! one in Rust.

use std::process::Command;
use std::time::Duration;

use pspd_tests::deployment::Deployment;
use pspd_tests::process::output;
use pspd_tests::scenario::{Scenario, minutes, say};
use pspd_tests::wait::eventually;

use super::third_party;

pub(crate) const SCENARIOS: &[Scenario] =
    &[
        Scenario::new("services in other languages", minutes(60), polyglot)
            .needs(third_party::python_client)
            .large(),
    ];

const SOON: Duration = Duration::from_secs(60);
const DATABASE: (&str, u16) = ("database-server", 50051);
const AI: (&str, u16) = ("ai-server", 50052);
const WEB: (&str, u16) = ("web-server", 50053);

/// The line of the topology for each service, and the one that puts Rust in its place.
const LINES: [(&str, &str); 3] = [
    ("command: [node, dist/server.js]", "database-server"),
    ("command: [python3, main.py]", "ai-server"),
    ("binary: web-server/web-server", "web-server"),
];

fn polyglot() -> anyhow::Result<()> {
    let deployment = Deployment::example_with("polyglot", Some(8090), |folder| {
        say("building the services");
        output(&mut Command::new(folder.join("build"))).map(drop)
    })?;
    deployment.run(&["up"])?.expect(0)?;
    deployment.run(&["plan"])?.expect(0)?;
    say("a client of all contracts");
    third_party::inside(&deployment, &[DATABASE, AI, WEB])?;
    for (line, service) in LINES {
        say(&format!("{service} in Rust"));
        deployment.edit(line, &format!("binary: services/{service}"))?;
        deployment.run(&["up"])?.expect(0)?;
        // Those that depend on it notice that it was away.
        eventually("all services", SOON, || {
            Ok(deployment.status()?["healthy"] == true)
        })?;
        third_party::inside(&deployment, &[DATABASE, WEB])?;
    }
    deployment.remove()
}
